//! Multiprotocol extensions (RFC 4760 §8): AFI, a reserved octet, SAFI.

use bytes::{BufMut, BytesMut};

use super::Capability;

pub(super) fn encode(afi: u16, safi: u8, out: &mut BytesMut) {
    out.put_u16(afi);
    out.put_u8(0);
    out.put_u8(safi);
}

pub(super) fn decode(value: &[u8]) -> Option<Capability> {
    let [afi0, afi1, _reserved, safi] = *<&[u8; 4]>::try_from(value).ok()?;
    Some(Capability::Multiprotocol {
        afi: u16::from_be_bytes([afi0, afi1]),
        safi,
    })
}
