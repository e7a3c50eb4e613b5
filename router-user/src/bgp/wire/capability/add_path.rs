//! ADD-PATH (RFC 7911 §4): AFI, SAFI, send/receive for each family.

use bytes::{BufMut, BytesMut};

use super::{Capability, MAX_VALUE, entries};

pub(super) fn encode(list: &[(u16, u8, u8)], out: &mut BytesMut) {
    for (afi, safi, send_receive) in list.iter().take(MAX_VALUE / 4) {
        out.put_u16(*afi);
        out.put_u8(*safi);
        out.put_u8(*send_receive);
    }
}

pub(super) fn decode(value: &[u8]) -> Option<Capability> {
    let list = entries(value)?
        .iter()
        .map(|[a0, a1, safi, send_receive]| (u16::from_be_bytes([*a0, *a1]), *safi, *send_receive))
        .collect();
    Some(Capability::AddPath(list))
}
