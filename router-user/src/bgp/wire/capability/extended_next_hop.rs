//! Extended next hop encoding (RFC 8950 §4): NLRI AFI, NLRI SAFI in two octets, next hop AFI.

use bytes::{BufMut, BytesMut};

use super::{Capability, MAX_VALUE, entries};

pub(super) fn encode(list: &[(u16, u16, u16)], out: &mut BytesMut) {
    for (afi, safi, next_hop_afi) in list.iter().take(MAX_VALUE / 6) {
        out.put_u16(*afi);
        out.put_u16(*safi);
        out.put_u16(*next_hop_afi);
    }
}

pub(super) fn decode(value: &[u8]) -> Option<Capability> {
    let list = entries(value)?
        .iter()
        .map(|[a0, a1, s0, s1, n0, n1]| {
            (
                u16::from_be_bytes([*a0, *a1]),
                u16::from_be_bytes([*s0, *s1]),
                u16::from_be_bytes([*n0, *n1]),
            )
        })
        .collect();
    Some(Capability::ExtendedNextHop(list))
}
