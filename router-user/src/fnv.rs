//! FNV-1a, 64 bits: the hash behind names that must be equal on every host and in every release
//! (groups, own tables, rendezvous). What is fed is made unambiguous by tags and lengths; integers
//! are fed in network byte order.

use std::net::IpAddr;

use ipnet::IpNet;

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash in the making.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// Starts a hash of things of one kind; `domain` keeps kinds apart.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hash = Self(OFFSET_BASIS);
        hash.text(domain);
        hash
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    /// Length, then UTF-8.
    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// 4 or 6, then the octets.
    pub(crate) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.bytes(&[4]);
                self.bytes(&address.octets());
            }
            IpAddr::V6(address) => {
                self.bytes(&[6]);
                self.bytes(&address.octets());
            }
        }
    }

    /// Network address, then length.
    pub(crate) fn prefix(&mut self, prefix: IpNet) {
        self.address(prefix.network());
        self.bytes(&[prefix.prefix_len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Fnv, OFFSET_BASIS};

    #[test]
    fn it_is_fnv_1a_as_published() {
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hash = Fnv(OFFSET_BASIS);
            hash.bytes(text.as_bytes());
            assert_eq!(hash.finish(), expected, "{text}");
        }
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let hash = |parts: [&str; 2]| {
            let mut hash = Fnv::new("test");
            for part in parts {
                hash.text(part);
            }
            hash.finish()
        };
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
