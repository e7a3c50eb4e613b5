//! What the steps after parsing need of a packet, whichever its family.

use router_common::maps::{HostKey, Port, RouteEntry};

use crate::{
    counters,
    frame::{ETHERNET, Frame},
};

/// A parsed packet.
pub trait Ip: Copy {
    /// A table's answer for the destination.
    fn route(&self, table: u32) -> Option<RouteEntry>;

    /// Length from the first byte of the header to the last of the payload.
    fn length(&self) -> u32;

    /// TTL or hop limit.
    fn hop_limit(&self) -> u8;

    /// Where the transport header is, and of which protocol.
    fn transport(&self) -> Transport;

    /// Whether the source is the one address that the port names.
    fn source_is_of(&self, port: &Port) -> bool;

    /// The source as an attached host.
    fn source_key(&self, vnet: u32) -> HostKey;

    /// The destination as an attached host.
    fn destination_key(&self, vnet: u32) -> HostKey;

    /// The hash of these parts of the flow.
    fn hash(&self, protocol: u8, ports: u32, seed: u64) -> u32;

    /// The hash of the flow that an ICMP error is about.
    fn quoted_hash(&self, frame: &Frame, seed: u64) -> Option<u32>;

    /// The folded sum of the pseudo header.
    fn pseudo_sum(&self, protocol: u8, length: u32) -> u16;

    /// Whether the sender is to be told if the packet is too large.
    fn may_not_be_fragmented(&self) -> bool;

    /// Lowers the TTL or hop limit by one.
    fn hop(&self);
}

/// Where a packet's transport header is.
#[derive(Clone, Copy)]
pub struct Transport {
    /// From the start of the frame.
    pub offset: u32,
    /// Its protocol number.
    pub protocol: u8,
    /// Whether the packet is a fragment, the first one included.
    pub fragment: bool,
}

/// Whether the frame holds the packet that its header announces.
#[inline(always)]
pub fn is_whole(frame: &Frame, port: &Port, length: u32) -> bool {
    ETHERNET + length <= frame.linear_length() || reaches_beyond(frame, port, length)
}

#[inline(always)]
fn reaches_beyond(frame: &Frame, port: &Port, length: u32) -> bool {
    let all = frame.length();
    counters::received_beyond(port.id, all - frame.linear_length());
    ETHERNET + length <= all
}
