//! Capabilities (RFC 5492): code, length, value. A value in the form its RFC demands becomes the
//! typed capability; one that is not, or whose code is not known, is kept as it came.

mod add_path;
mod extended_next_hop;
mod graceful_restart;
mod long_lived_graceful_restart;
mod multiprotocol;

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::{Asn, Family, Role, cursor::Cursor};

/// A capability of an OPEN (RFC 5492). Lists hold as many entries as 255 bytes take: 42 next
/// hops, 63 families, 36 long-lived ones; encoding leaves out what is beyond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Capability {
    /// RFC 4760: (AFI, SAFI).
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 8950: (NLRI AFI, NLRI SAFI, next hop AFI).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 9234: role value.
    Role(u8),
    /// RFC 4724.
    GracefulRestart {
        /// R and N bits, the top four bits of the first octet.
        flags: u8,
        /// Seconds, 12 bits.
        restart_time: u16,
        /// (AFI, SAFI, flags).
        families: Vec<(u16, u8, u8)>,
    },
    /// RFC 6793.
    FourOctetAsn(Asn),
    /// RFC 7911: (AFI, SAFI, 1 receive | 2 send).
    AddPath(Vec<(u16, u8, u8)>),
    /// RFC 7313.
    EnhancedRouteRefresh,
    /// RFC 9494: (AFI, SAFI, flags, seconds).
    LongLivedGracefulRestart(Vec<(u16, u8, u8, u32)>),
    /// Any other.
    Unknown {
        /// Code.
        code: u8,
        /// Value.
        value: Box<[u8]>,
    },
}

mod code {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const ROLE: u8 = 9;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_ASN: u8 = 65;
    pub(super) const ADD_PATH: u8 = 69;
    pub(super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
}

/// The longest value, in bytes.
const MAX_VALUE: usize = 255;

impl Capability {
    /// RFC 4760 for a family that Waypost routes.
    #[must_use]
    pub const fn multiprotocol(family: Family) -> Self {
        Self::Multiprotocol {
            afi: family.afi(),
            safi: family.safi(),
        }
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol { .. } => code::MULTIPROTOCOL,
            Self::RouteRefresh => code::ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => code::EXTENDED_MESSAGE,
            Self::Role(_) => code::ROLE,
            Self::GracefulRestart { .. } => code::GRACEFUL_RESTART,
            Self::FourOctetAsn(_) => code::FOUR_OCTET_ASN,
            Self::AddPath(_) => code::ADD_PATH,
            Self::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Self::LongLivedGracefulRestart(_) => code::LONG_LIVED_GRACEFUL_RESTART,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.code());
        let start = out.len();
        out.put_u8(0);
        match self {
            Self::Multiprotocol { afi, safi } => multiprotocol::encode(*afi, *safi, out),
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(entries) => extended_next_hop::encode(entries, out),
            Self::Role(role) => out.put_u8(*role),
            Self::GracefulRestart {
                flags,
                restart_time,
                families,
            } => graceful_restart::encode(*flags, *restart_time, families, out),
            Self::FourOctetAsn(asn) => out.put_u32(*asn),
            Self::AddPath(entries) => add_path::encode(entries, out),
            Self::LongLivedGracefulRestart(entries) => {
                long_lived_graceful_restart::encode(entries, out);
            }
            Self::Unknown { value, .. } => out.put_slice(&value[..value.len().min(MAX_VALUE)]),
        }
        out[start] = (out.len() - start - 1) as u8;
    }

    /// Appends the capabilities of one optional parameter to `into`; `None`: lengths do not add up.
    pub(super) fn decode_all(parameter: &[u8], into: &mut Vec<Self>) -> Option<()> {
        let mut cursor = Cursor::new(parameter);
        while let Some(code) = cursor.u8() {
            let len = cursor.u8()?;
            let value = cursor.bytes(len.into())?;
            into.push(Self::decode(code, value));
        }
        Some(())
    }

    fn decode(code: u8, value: &[u8]) -> Self {
        Self::decode_known(code, value).unwrap_or_else(|| Self::Unknown {
            code,
            value: value.into(),
        })
    }

    fn decode_known(code: u8, value: &[u8]) -> Option<Self> {
        let empty = || value.is_empty().then_some(());
        match code {
            code::MULTIPROTOCOL => multiprotocol::decode(value),
            code::ROUTE_REFRESH => empty().map(|()| Self::RouteRefresh),
            code::EXTENDED_NEXT_HOP => extended_next_hop::decode(value),
            code::EXTENDED_MESSAGE => empty().map(|()| Self::ExtendedMessage),
            code::ROLE => <[u8; 1]>::try_from(value)
                .ok()
                .map(|[role]| Self::Role(role)),
            code::GRACEFUL_RESTART => graceful_restart::decode(value),
            code::FOUR_OCTET_ASN => <[u8; 4]>::try_from(value)
                .ok()
                .map(|asn| Self::FourOctetAsn(Asn::from_be_bytes(asn))),
            code::ADD_PATH => add_path::decode(value),
            code::ENHANCED_ROUTE_REFRESH => empty().map(|()| Self::EnhancedRouteRefresh),
            code::LONG_LIVED_GRACEFUL_RESTART => long_lived_graceful_restart::decode(value),
            _ => None,
        }
    }
}

/// Splits a value into entries of `N` bytes; `None`: it is no multiple of them.
fn entries<const N: usize>(value: &[u8]) -> Option<&[[u8; N]]> {
    let (entries, rest) = value.as_chunks();
    rest.is_empty().then_some(entries)
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiprotocol { afi, safi } => match Family::from_identifiers(*afi, *safi) {
                Some(family) => write!(f, "multiprotocol {family}"),
                None => write!(f, "multiprotocol AFI {afi}, SAFI {safi}"),
            },
            Self::RouteRefresh => f.write_str("route refresh"),
            Self::ExtendedNextHop(_) => f.write_str("extended next hop"),
            Self::ExtendedMessage => f.write_str("extended message"),
            Self::Role(code) => match Role::from_code(*code) {
                Some(role) => write!(f, "role {role}"),
                None => write!(f, "role {code}"),
            },
            Self::GracefulRestart { restart_time, .. } => {
                write!(f, "graceful restart {restart_time} s")
            }
            Self::FourOctetAsn(asn) => write!(f, "4-octet ASN {asn}"),
            Self::AddPath(_) => f.write_str("ADD-PATH"),
            Self::EnhancedRouteRefresh => f.write_str("enhanced route refresh"),
            Self::LongLivedGracefulRestart(_) => f.write_str("long-lived graceful restart"),
            Self::Unknown { code, .. } => write!(f, "capability {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_has_the_bytes_of_its_rfc() {
        let cases: [(Capability, &[u8]); 11] = [
            (
                Capability::multiprotocol(Family::Ipv6Unicast),
                &[1, 4, 0, 2, 0, 1],
            ),
            (Capability::RouteRefresh, &[2, 0]),
            (
                Capability::ExtendedNextHop(vec![(1, 1, 2)]),
                &[5, 6, 0, 1, 0, 1, 0, 2],
            ),
            (Capability::ExtendedMessage, &[6, 0]),
            (Capability::Role(3), &[9, 1, 3]),
            (
                Capability::GracefulRestart {
                    flags: 0b1100,
                    restart_time: 0x178,
                    families: vec![(1, 1, 0x80), (2, 1, 0)],
                },
                &[64, 10, 0xc1, 0x78, 0, 1, 1, 0x80, 0, 2, 1, 0],
            ),
            (Capability::FourOctetAsn(65515), &[65, 4, 0, 0, 0xff, 0xeb]),
            (
                Capability::AddPath(vec![(1, 1, 3), (2, 1, 1)]),
                &[69, 8, 0, 1, 1, 3, 0, 2, 1, 1],
            ),
            (Capability::EnhancedRouteRefresh, &[70, 0]),
            (
                Capability::LongLivedGracefulRestart(vec![(1, 1, 0x80, 0x0001_5180)]),
                &[71, 7, 0, 1, 1, 0x80, 0x01, 0x51, 0x80],
            ),
            (
                Capability::Unknown {
                    code: 73,
                    value: [3, b'n', b'v', b'a'].into(),
                },
                &[73, 4, 3, b'n', b'v', b'a'],
            ),
        ];
        for (capability, bytes) in cases {
            let mut out = BytesMut::new();
            capability.encode(&mut out);
            assert_eq!(out, bytes, "{capability}");
            let mut decoded = Vec::new();
            assert_eq!(Capability::decode_all(bytes, &mut decoded), Some(()));
            assert_eq!(decoded, [capability]);
        }
    }

    #[test]
    fn rfc5492_4_a_capability_of_the_wrong_length_is_not_understood() {
        for (code, len) in [
            (1, 3),
            (1, 5),
            (2, 1),
            (5, 5),
            (6, 1),
            (9, 0),
            (9, 2),
            (64, 1),
            (64, 5),
            (65, 2),
            (69, 3),
            (70, 1),
            (71, 6),
        ] {
            let value = vec![0; len];
            assert_eq!(
                Capability::decode(code, &value),
                Capability::Unknown {
                    code,
                    value: value.into()
                },
                "code {code}, length {len}"
            );
        }
    }

    #[test]
    fn lists_longer_than_a_capability_end_at_its_last_whole_entry() {
        let families = vec![(1, 1, 1); 100];
        let mut out = BytesMut::new();
        Capability::AddPath(families.clone()).encode(&mut out);
        Capability::GracefulRestart {
            flags: 0,
            restart_time: 1,
            families,
        }
        .encode(&mut out);
        Capability::ExtendedNextHop(vec![(1, 1, 2); 100]).encode(&mut out);
        Capability::LongLivedGracefulRestart(vec![(1, 1, 0, 1); 100]).encode(&mut out);
        let mut decoded = Vec::new();
        assert_eq!(Capability::decode_all(&out, &mut decoded), Some(()));
        assert!(matches!(&decoded[..], [
            Capability::AddPath(add_path),
            Capability::GracefulRestart { families, .. },
            Capability::ExtendedNextHop(next_hops),
            Capability::LongLivedGracefulRestart(long_lived),
        ] if (add_path.len(), families.len(), next_hops.len(), long_lived.len())
            == (63, 63, 42, 36)));
    }
}
