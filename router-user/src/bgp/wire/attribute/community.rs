//! COMMUNITIES (RFC 1997), EXTENDED COMMUNITIES (RFC 4360) and LARGE_COMMUNITY (RFC 8092): lists
//! kept sorted and without duplicates, and how people write their members.

use std::fmt;

use super::{super::FaultKind, PathAttributes};

/// RFC 1997.
pub const NO_EXPORT: u32 = 0xFFFF_FF01;
/// RFC 1997.
pub const NO_ADVERTISE: u32 = 0xFFFF_FF02;
/// RFC 1997.
pub const NO_EXPORT_SUBCONFED: u32 = 0xFFFF_FF03;
/// RFC 8326.
pub const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;
/// RFC 7999.
pub const BLACKHOLE: u32 = 0xFFFF_029A;
/// RFC 9494.
pub const LLGR_STALE: u32 = 0xFFFF_0006;
/// RFC 9494.
pub const NO_LLGR: u32 = 0xFFFF_0007;

impl PathAttributes {
    /// Whether COMMUNITIES holds it.
    #[must_use]
    pub fn has_community(&self, community: u32) -> bool {
        self.communities.binary_search(&community).is_ok()
    }

    /// Adds it to COMMUNITIES.
    pub fn add_community(&mut self, community: u32) {
        if let Err(place) = self.communities.binary_search(&community) {
            self.communities.insert(place, community);
        }
    }
}

/// A community as people write it: `65010:100`, or the name of a well-known one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Community(pub u32);

/// A large community as people write it: `65010:1:2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargeCommunity(pub [u32; 3]);

/// An extended community as people write it: `rt 65010:100`, or its bytes in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            NO_EXPORT => "no-export",
            NO_ADVERTISE => "no-advertise",
            NO_EXPORT_SUBCONFED => "no-export-subconfed",
            GRACEFUL_SHUTDOWN => "graceful-shutdown",
            BLACKHOLE => "blackhole",
            LLGR_STALE => "llgr-stale",
            NO_LLGR => "no-llgr",
            other => return write!(f, "{}:{}", other >> 16, other & 0xffff),
        };
        f.pad(name)
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [administrator, first, second] = self.0;
        write!(f, "{administrator}:{first}:{second}")
    }
}

impl ExtendedCommunity {
    /// The AS and the bytes per second of a link bandwidth community
    /// (draft-ietf-idr-link-bandwidth).
    #[must_use]
    pub const fn link_bandwidth(self) -> Option<(u16, f32)> {
        match self.0 {
            [0x00 | 0x40, 0x04, a0, a1, b0, b1, b2, b3] => Some((
                u16::from_be_bytes([a0, a1]),
                f32::from_be_bytes([b0, b1, b2, b3]),
            )),
            _ => None,
        }
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((asn, bytes_per_second)) = self.link_bandwidth() {
            return write!(f, "bandwidth {asn}:{bytes_per_second}");
        }
        let [kind, subtype, a, b, c, d, x, y] = self.0;
        let name = match subtype {
            0x02 => "rt",
            0x03 => "soo",
            _ => return write!(f, "{:#018x}", u64::from_be_bytes(self.0)),
        };
        match kind {
            0x00 => {
                let asn = u16::from_be_bytes([a, b]);
                let local = u32::from_be_bytes([c, d, x, y]);
                write!(f, "{name} {asn}:{local}")
            }
            0x01 => {
                let local = u16::from_be_bytes([x, y]);
                write!(f, "{name} {a}.{b}.{c}.{d}:{local}")
            }
            0x02 => {
                let asn = u32::from_be_bytes([a, b, c, d]);
                let local = u16::from_be_bytes([x, y]);
                write!(f, "{name} {asn}:{local}")
            }
            _ => write!(f, "{:#018x}", u64::from_be_bytes(self.0)),
        }
    }
}

pub(super) fn parse(value: &[u8]) -> Result<Vec<u32>, FaultKind> {
    list(value, "a multiple of 4 above 0", u32::from_be_bytes)
}

pub(super) fn parse_extended(value: &[u8]) -> Result<Vec<[u8; 8]>, FaultKind> {
    list(value, "a multiple of 8 above 0", |octets| octets)
}

pub(super) fn parse_large(value: &[u8]) -> Result<Vec<[u32; 3]>, FaultKind> {
    list(value, "a multiple of 12 above 0", |octets: [u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
        [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes)
    })
}

fn list<T: Ord, const N: usize>(
    value: &[u8],
    expected: &'static str,
    member: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FaultKind> {
    let (members, rest) = value.as_chunks();
    if members.is_empty() || !rest.is_empty() {
        return Err(FaultKind::Length {
            found: value.len(),
            expected,
        });
    }
    let mut list: Vec<T> = members.iter().map(|octets| member(*octets)).collect();
    if !list.is_sorted_by(|a, b| a < b) {
        list.sort_unstable();
        list.dedup();
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_as_operators_write_them() {
        assert_eq!(Community(0xfdf2_0064).to_string(), "65010:100");
        assert_eq!(Community(NO_EXPORT).to_string(), "no-export");
        assert_eq!(Community(BLACKHOLE).to_string(), "blackhole");
        assert_eq!(
            LargeCommunity([4_200_000_000, 1, 2]).to_string(),
            "4200000000:1:2"
        );
        for (bytes, text) in [
            ([0, 2, 0xfd, 0xf2, 0, 0, 0, 100], "rt 65010:100"),
            ([1, 3, 10, 0, 0, 1, 0, 7], "soo 10.0.0.1:7"),
            ([2, 2, 0, 1, 0, 0, 0, 7], "rt 65536:7"),
            (
                [0x40, 4, 0xfd, 0xf2, 0x4a, 0, 0, 0],
                "bandwidth 65010:2097152",
            ),
            ([0x43, 0, 0, 0, 0, 0, 0, 2], "0x4300000000000002"),
        ] {
            assert_eq!(ExtendedCommunity(bytes).to_string(), text);
        }
    }

    #[test]
    fn lists_are_sorted_and_without_duplicates() {
        assert_eq!(parse(&[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]), Ok(vec![1, 2]));
        let mut twice = [0; 24];
        twice[11] = 1;
        twice[23] = 1;
        assert_eq!(parse_large(&twice), Ok(vec![[0, 0, 1]]));
        assert_eq!(parse_extended(&[9; 16]), Ok(vec![[9; 8]]));
    }
}
