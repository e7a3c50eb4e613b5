//! Prefixes on the wire (RFC 4271 §4.3): a length in bits and as many octets as that takes, with
//! a path identifier in front where ADD-PATH was negotiated (RFC 7911 §3).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Family;

/// A route's key within a session: prefix and path identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Nlri {
    /// The prefix, host bits zero.
    pub prefix: IpNet,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
}

impl From<Ipv4Net> for Nlri {
    fn from(prefix: Ipv4Net) -> Self {
        IpNet::from(prefix).into()
    }
}

impl From<Ipv6Net> for Nlri {
    fn from(prefix: Ipv6Net) -> Self {
        IpNet::from(prefix).into()
    }
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, path_id: 0 }
    }
}

impl Nlri {
    /// Appends the prefix, with its path identifier if `add_path`.
    pub(super) fn encode(&self, add_path: bool, out: &mut BytesMut) {
        if add_path {
            out.put_u32(self.path_id);
        }
        let bits = self.prefix.prefix_len();
        out.put_u8(bits);
        let octets = usize::from(bits.div_ceil(8));
        match self.prefix {
            IpNet::V4(prefix) => out.put_slice(&prefix.trunc().network().octets()[..octets]),
            IpNet::V6(prefix) => out.put_slice(&prefix.trunc().network().octets()[..octets]),
        }
    }

    /// How many bytes `encode` appends.
    pub(super) fn encoded_len(&self, add_path: bool) -> usize {
        let path_id = if add_path { 4 } else { 0 };
        path_id + 1 + usize::from(self.prefix.prefix_len().div_ceil(8))
    }
}

/// A field of prefixes that is known to be well-formed: iterating cannot fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefixes<'a> {
    bytes: &'a [u8],
    family: Family,
    add_path: bool,
    count: usize,
}

impl<'a> Prefixes<'a> {
    /// No prefixes.
    pub(super) const fn empty(family: Family) -> Self {
        Self {
            bytes: &[],
            family,
            add_path: false,
            count: 0,
        }
    }

    /// Walks over the lengths once (RFC 7606 §5.3). Bits after the prefix's length are without
    /// meaning (RFC 4271 §4.3) and may be set.
    pub(super) fn parse(
        bytes: &'a [u8],
        family: Family,
        add_path: bool,
    ) -> Result<Self, PrefixFault> {
        let path_id = if add_path { 4 } else { 0 };
        let mut rest = bytes;
        let mut count = 0;
        while !rest.is_empty() {
            let bits = *rest.get(path_id).ok_or(PrefixFault::Overrun)?;
            if bits > family.max_prefix_len() {
                return Err(PrefixFault::Length(bits));
            }
            rest = rest
                .get(path_id + 1 + usize::from(bits.div_ceil(8))..)
                .ok_or(PrefixFault::Overrun)?;
            count += 1;
        }
        Ok(Self {
            bytes,
            family,
            add_path,
            count,
        })
    }

    /// The family of all of them.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Iterator for Prefixes<'_> {
    type Item = Nlri;

    fn next(&mut self) -> Option<Nlri> {
        let mut path_id = 0;
        if self.add_path {
            let (octets, rest) = self.bytes.split_first_chunk()?;
            path_id = u32::from_be_bytes(*octets);
            self.bytes = rest;
        }
        let (bits, rest) = self.bytes.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(bits.div_ceil(8)))?;
        self.bytes = rest;
        self.count -= 1;
        let prefix = match self.family {
            Family::Ipv4Unicast => {
                let address = ipv4_bits(octets)?;
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                Ipv4Net::new(Ipv4Addr::from_bits(address & mask), *bits).map(IpNet::from)
            }
            Family::Ipv6Unicast => {
                let address = ipv6_bits(octets)?;
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                Ipv6Net::new(Ipv6Addr::from_bits(address & mask), *bits).map(IpNet::from)
            }
        };
        let prefix = prefix.ok()?;
        Some(Nlri { prefix, path_id })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Prefixes<'_> {}

/// The address that begins with `octets`; `None`: they are too many. The lengths are spelt out as
/// copying a handful of bytes by `memcpy` would cost more than all the rest.
fn ipv4_bits(octets: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(match *octets {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        [a, b, c, d] => [a, b, c, d],
        _ => return None,
    }))
}

/// The address that begins with `octets`; `None`: they are too many.
fn ipv6_bits(octets: &[u8]) -> Option<u128> {
    let mut address = [0; 16];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(u128::from_be_bytes(address))
}

/// What is wrong with a field of prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PrefixFault {
    /// More bits than an address of the family has.
    #[error("a prefix of {0} bits")]
    Length(u8),
    /// The field ends within a prefix.
    #[error("the last prefix is cut off")]
    Overrun,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4271_4_3_a_prefix_takes_as_many_octets_as_its_length_needs() {
        for (bytes, prefix) in [
            (&[0][..], "0.0.0.0/0"),
            (&[1, 0x80], "128.0.0.0/1"),
            (&[8, 10], "10.0.0.0/8"),
            (&[9, 10, 128], "10.128.0.0/9"),
            (&[24, 10, 1, 2], "10.1.2.0/24"),
            (&[32, 10, 1, 2, 3], "10.1.2.3/32"),
        ] {
            check(bytes, Family::Ipv4Unicast, prefix);
        }
        for (bytes, prefix) in [
            (&[0][..], "::/0"),
            (&[48, 0xfd, 0, 0, 1, 0, 2], "fd00:1:2::/48"),
            (
                &[128, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                "fd00::1/128",
            ),
        ] {
            check(bytes, Family::Ipv6Unicast, prefix);
        }
    }

    fn check(bytes: &[u8], family: Family, prefix: &str) {
        let expected = Nlri::from(prefix.parse::<IpNet>().unwrap());
        let prefixes = Prefixes::parse(bytes, family, false).unwrap();
        assert_eq!(prefixes.len(), 1);
        assert_eq!(prefixes.collect::<Vec<_>>(), [expected]);
        let mut out = BytesMut::new();
        expected.encode(false, &mut out);
        assert_eq!(out, bytes);
        assert_eq!(expected.encoded_len(false), bytes.len());
    }

    #[test]
    fn what_is_left_of_a_field_is_counted_exactly() {
        let bytes = [8, 10, 16, 172, 16, 0];
        let mut prefixes = Prefixes::parse(&bytes, Family::Ipv4Unicast, false).unwrap();
        for left in [3, 2, 1, 0] {
            assert_eq!((prefixes.len(), prefixes.is_empty()), (left, left == 0));
            assert_eq!(prefixes.next().is_some(), left > 0);
        }
    }

    #[test]
    fn rfc4271_4_3_bits_behind_the_prefix_are_without_meaning() {
        let prefixes = Prefixes::parse(&[9, 10, 0xff], Family::Ipv4Unicast, false).unwrap();
        let expected: IpNet = "10.128.0.0/9".parse().unwrap();
        assert_eq!(prefixes.collect::<Vec<_>>(), [expected.into()]);
    }

    #[test]
    fn rfc7911_3_the_path_identifier_stands_in_front() {
        let bytes = [0, 0, 0, 7, 8, 10, 0xff, 0xff, 0xff, 0xff, 0];
        let prefixes = Prefixes::parse(&bytes, Family::Ipv4Unicast, true).unwrap();
        let expected = [("10.0.0.0/8", 7), ("0.0.0.0/0", u32::MAX)].map(|(prefix, path_id)| Nlri {
            prefix: prefix.parse().unwrap(),
            path_id,
        });
        assert_eq!(prefixes.collect::<Vec<_>>(), expected);
        let mut out = BytesMut::new();
        for nlri in expected {
            nlri.encode(true, &mut out);
        }
        assert_eq!(out[..], bytes);
    }

    #[test]
    fn rfc7606_5_3_too_long_or_cut_off_prefixes_are_refused() {
        let parse = |bytes, family, add_path| Prefixes::parse(bytes, family, add_path).unwrap_err();
        let v4 = Family::Ipv4Unicast;
        assert_eq!(
            parse(&[8, 10, 33, 1, 2, 3, 4, 5], v4, false),
            PrefixFault::Length(33)
        );
        assert_eq!(
            parse(&[129; 18], Family::Ipv6Unicast, false),
            PrefixFault::Length(129)
        );
        assert_eq!(parse(&[8, 10, 24, 10, 1], v4, false), PrefixFault::Overrun);
        assert_eq!(parse(&[8], v4, false), PrefixFault::Overrun);
        assert_eq!(parse(&[0, 0, 0, 1], v4, true), PrefixFault::Overrun);
        assert_eq!(parse(&[0, 0, 0], v4, true), PrefixFault::Overrun);
    }
}
