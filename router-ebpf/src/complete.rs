//! Partial checksums: completes what a local sender left to its network card.
//!
//! Such a TCP or UDP checksum field holds the folded sum of the pseudo header. A whole checksum
//! that happens to look so is computed again to the same value.

use router_common::{
    checksum,
    header::protocol::{TCP, UDP},
};

use crate::{
    frame::{ETHERNET, Frame},
    ip::Ip,
    sum,
};

/// Where the checksum lies in a TCP header.
const TCP_FIELD: u32 = 16;
/// Where it lies in a UDP header.
const UDP_FIELD: u32 = 6;

/// Completes the packet's transport checksum if it is partial.
#[inline(always)]
pub fn complete<P: Ip>(frame: &Frame, packet: &P) {
    let transport = packet.transport();
    let place = match transport.protocol {
        TCP => TCP_FIELD,
        UDP => UDP_FIELD,
        _ => return,
    };
    let end = ETHERNET + packet.length();
    if transport.fragment || transport.offset + place + 2 > end {
        return;
    }
    let Some(field) = frame.window::<2>(transport.offset + place) else {
        return;
    };
    let length = end - transport.offset;
    let partial = field.load16::<0>();
    // Zero: UDP without a checksum.
    if partial == 0 || partial != packet.pseudo_sum(transport.protocol, length) {
        return;
    }
    // The field holds the pseudo header's sum, so that summing it in adds that too.
    if let Some(sum) = sum::of(frame.context(), transport.offset, length) {
        let whole = checksum::complement(sum);
        field.store16::<0>(if whole == 0 && transport.protocol == UDP {
            0xffff
        } else {
            whole
        });
    }
}
