//! AGGREGATOR (RFC 4271 §5.1.7) and AS4_AGGREGATOR (RFC 6793): an AS of two or four octets and an
//! address.

use std::{fmt, net::Ipv4Addr};

use bytes::{BufMut, BytesMut};

use super::{
    super::{AS_TRANS, Asn, FaultKind, cursor::Cursor},
    AttributeCode, Header, flags,
};

/// AGGREGATOR (RFC 4271 §5.1.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its identifier.
    pub id: Ipv4Addr,
}

impl Aggregator {
    pub(super) fn parse(value: &[u8], four_octet_asn: bool) -> Result<Self, FaultKind> {
        let (len, expected) = if four_octet_asn { (8, "8") } else { (6, "6") };
        let mut cursor = Cursor::new(value);
        let asn = if four_octet_asn {
            cursor.u32()
        } else {
            cursor.u16().map(Asn::from)
        };
        let (Some(asn), Some(id), true) = (asn, cursor.array::<4>(), value.len() == len) else {
            return Err(FaultKind::Length {
                found: value.len(),
                expected,
            });
        };
        if asn == 0 {
            return Err(FaultKind::AsZero);
        }
        Ok(Self { asn, id: id.into() })
    }

    /// Appends AGGREGATOR, the AS replaced by AS_TRANS where it does not fit.
    pub(super) fn encode(&self, four_octet_asn: bool, out: &mut BytesMut) {
        let header = |len| Header {
            flags: flags::OPTIONAL | flags::TRANSITIVE,
            code: AttributeCode::AGGREGATOR,
            len,
        };
        if four_octet_asn {
            header(8).encode(out);
            out.put_u32(self.asn);
        } else {
            header(6).encode(out);
            out.put_u16(u16::try_from(self.asn).unwrap_or(AS_TRANS as u16));
        }
        out.put_slice(&self.id.octets());
    }
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{} {}", self.asn, self.id)
    }
}
