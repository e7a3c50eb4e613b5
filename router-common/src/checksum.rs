//! Internet checksums: RFC 1071 sums, RFC 1624 differences, partial checksums.
//!
//! A ones' complement sum does not depend on byte order (RFC 1071 §2 (B)), so everything here
//! adds words as they lie in memory ("raw") and nothing is swapped on the way of a packet.

/// Folds a sum of raw words into 16 bits by end-around carry.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The raw checksum field for data whose words, the field itself left out, add up to `sum`.
#[inline(always)]
#[must_use]
pub const fn complement(sum: u64) -> u16 {
    !fold(sum)
}

/// The sum of `bytes` (RFC 1071), not folded. An odd last byte is padded with zero.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let sum = pairs
        .iter()
        .map(|pair| u64::from(u16::from_ne_bytes(*pair)))
        .sum::<u64>();
    match last {
        [byte] => sum + u64::from(u16::from_ne_bytes([*byte, 0])),
        _ => sum,
    }
}

/// The raw checksum of an IPv4 header after its TTL was lowered by one (RFC 1624, RFC 1141).
#[inline(always)]
#[must_use]
pub const fn after_hop(raw: u16) -> u16 {
    // The TTL is the upper byte of its word: a smaller TTL is a larger complement.
    let sum = raw as u32 + 0x0100_u16.to_be() as u32;
    (sum + (sum >= 0xffff) as u32) as u16
}

/// The folded sum of the pseudo header of TCP or UDP over IPv4 (RFC 9293 §3.1). Addresses raw,
/// `length` that of the transport header and payload.
///
/// A sender that leaves the checksum to its network card writes this value into the field.
#[inline(always)]
#[must_use]
pub const fn pseudo_v4(source: u32, destination: u32, protocol: u8, length: u16) -> u16 {
    fold(
        source as u64
            + destination as u64
            + (protocol as u16).to_be() as u64
            + length.to_be() as u64,
    )
}

/// The folded sum of the pseudo header over IPv6 (RFC 8200 §8.1). Addresses raw.
#[inline(always)]
#[must_use]
pub const fn pseudo_v6(source: [u64; 2], destination: [u64; 2], protocol: u8, length: u32) -> u16 {
    fold(
        halves(source[0])
            + halves(source[1])
            + halves(destination[0])
            + halves(destination[1])
            + (protocol as u16).to_be() as u64
            + length.to_be() as u64,
    )
}

#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word >> 32) + (word & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::{after_hop, complement, fold, pseudo_v4, pseudo_v6, sum};

    /// RFC 1071 §3: the example of the standard.
    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn an_odd_last_byte_counts_as_if_a_zero_followed() {
        assert_eq!(sum(&[1, 2, 3]), sum(&[1, 2, 3, 0]));
    }

    #[test]
    fn a_header_with_its_checksum_adds_up_to_all_ones() {
        let mut header = ipv4_header(64, 0xbeef);
        let check = complement(sum(&header));
        header[10..12].copy_from_slice(&check.to_ne_bytes());
        assert_eq!(fold(sum(&header)), 0xffff);
    }

    #[test]
    fn lowering_the_ttl_by_difference_equals_summing_again() {
        for ttl in 1..=255 {
            for id in (0..=0xffff).step_by(7) {
                let before = complement(sum(&ipv4_header(ttl, id)));
                let after = complement(sum(&ipv4_header(ttl - 1, id)));
                assert_eq!(after_hop(before), after, "ttl {ttl} id {id:#x}");
            }
        }
    }

    #[test]
    fn pseudo_headers_add_up_like_their_bytes() {
        let (source, destination) = ([10, 1, 1, 4], [198, 51, 100, 10]);
        let mut bytes = [source, destination].concat();
        bytes.extend([0, 17]);
        bytes.extend(1234_u16.to_be_bytes());
        assert_eq!(
            pseudo_v4(
                u32::from_ne_bytes(source),
                u32::from_ne_bytes(destination),
                17,
                1234
            ),
            fold(sum(&bytes))
        );

        let source: [u8; 16] = core::array::from_fn(|n| 0xf0 | n as u8);
        let destination: [u8; 16] = core::array::from_fn(|n| 0xff - 3 * n as u8);
        let mut bytes = [source, destination].concat();
        bytes.extend(70_000_u32.to_be_bytes());
        bytes.extend([0, 0, 0, 6]);
        assert_eq!(
            pseudo_v6(words(source), words(destination), 6, 70_000),
            fold(sum(&bytes))
        );
    }

    fn ipv4_header(ttl: u8, id: u16) -> [u8; 20] {
        let [high, low] = id.to_be_bytes();
        [
            0x45, 0, 0, 84, high, low, 0x40, 0, ttl, 6, 0, 0, 10, 1, 1, 4, 198, 51, 100, 10,
        ]
    }

    fn words(address: [u8; 16]) -> [u64; 2] {
        let (words, _) = address.as_chunks::<8>();
        [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
    }
}
