//! Graceful restart (RFC 4724 §3, RFC 8538 §2): flags in four bits, restart time in twelve, then
//! AFI, SAFI, flags for each family.

use bytes::{BufMut, BytesMut};

use super::{Capability, MAX_VALUE, entries};

/// The largest restart time in seconds.
const MAX_TIME: u16 = 0x0fff;

pub(super) fn encode(flags: u8, restart_time: u16, families: &[(u16, u8, u8)], out: &mut BytesMut) {
    out.put_u16(u16::from(flags) << 12 | restart_time.min(MAX_TIME));
    for (afi, safi, flags) in families.iter().take((MAX_VALUE - 2) / 4) {
        out.put_u16(*afi);
        out.put_u8(*safi);
        out.put_u8(*flags);
    }
}

pub(super) fn decode(value: &[u8]) -> Option<Capability> {
    let (head, families) = value.split_first_chunk()?;
    let head = u16::from_be_bytes(*head);
    Some(Capability::GracefulRestart {
        flags: (head >> 12) as u8,
        restart_time: head & MAX_TIME,
        families: entries(families)?
            .iter()
            .map(|[a0, a1, safi, flags]| (u16::from_be_bytes([*a0, *a1]), *safi, *flags))
            .collect(),
    })
}
