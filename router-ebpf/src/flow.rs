//! The flow hash of a packet. `router_common::flow` says what of it counts.

use router_common::{
    flow::ADDRESSES_ONLY,
    header::{has_ports, protocol},
};

use crate::{frame::Frame, ip::Ip, maps::SETTINGS};

/// The hash of the flow that the packet belongs to.
#[inline(always)]
pub fn hash<P: Ip>(frame: &Frame, packet: &P) -> u32 {
    let seed = SETTINGS.get(0).map_or(0, |settings| settings.flow_seed);
    let transport = packet.transport();
    if transport.fragment {
        return packet.hash(ADDRESSES_ONLY, 0, seed);
    }
    if has_ports(transport.protocol) {
        let ports = frame
            .window::<4>(transport.offset)
            .map_or(0, |ports| u32::from_le(ports.load32::<0>()));
        return packet.hash(transport.protocol, ports, seed);
    }
    if matches!(transport.protocol, protocol::ICMP | protocol::ICMP_V6)
        && let Some(hash) = packet.quoted_hash(frame, seed)
    {
        return hash;
    }
    packet.hash(transport.protocol, 0, seed)
}
