//! Long-lived graceful restart (RFC 9494 §4.1): AFI, SAFI, flags, stale time in three octets for
//! each family.

use bytes::{BufMut, BytesMut};

use super::{Capability, MAX_VALUE, entries};

/// The largest stale time in seconds.
const MAX_TIME: u32 = 0x00ff_ffff;

pub(super) fn encode(list: &[(u16, u8, u8, u32)], out: &mut BytesMut) {
    for (afi, safi, flags, time) in list.iter().take(MAX_VALUE / 7) {
        out.put_u16(*afi);
        out.put_u8(*safi);
        out.put_u8(*flags);
        out.put_uint((*time).min(MAX_TIME).into(), 3);
    }
}

pub(super) fn decode(value: &[u8]) -> Option<Capability> {
    let list = entries(value)?
        .iter()
        .map(|[a0, a1, safi, flags, t0, t1, t2]| {
            (
                u16::from_be_bytes([*a0, *a1]),
                *safi,
                *flags,
                u32::from_be_bytes([0, *t0, *t1, *t2]),
            )
        })
        .collect();
    Some(Capability::LongLivedGracefulRestart(list))
}
