//! The flow hash that picks the bucket of a group.
//!
//! In: addresses, protocol, ports and a seed. Out: 32 bits, of which a group takes as many of the
//! lowest as it has buckets. The daemon answers `explain` with the same function.
//!
//! What of a packet counts:
//!
//! - TCP, UDP, UDP-Lite, DCCP and SCTP: addresses, protocol and ports;
//! - other protocols: addresses and protocol;
//! - fragments, the first one too: addresses alone, so that all of a packet take one way;
//! - ICMP errors: the packet that they quote, turned round, so that an error takes the way that
//!   the flow's own packets take in its direction.
//!
//! Words are read from the wire as little-endian, on any machine, so that hosts agree.

use core::net::IpAddr;

/// What the protocol counts as where only addresses count.
pub const ADDRESSES_ONLY: u8 = 0;

/// The hash of a flow; `ports` are source and destination port where the protocol has them. For
/// fragments, [`ADDRESSES_ONLY`] and no ports. Addresses of two families have no flow: 0.
#[must_use]
pub fn hash(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
    seed: u64,
) -> u32 {
    let (from, to) = ports.unwrap_or_default();
    let ports = u32::from_le_bytes([
        from.to_be_bytes()[0],
        from.to_be_bytes()[1],
        to.to_be_bytes()[0],
        to.to_be_bytes()[1],
    ]);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => hash_v4(
            u32::from_le_bytes(source.octets()),
            u32::from_le_bytes(destination.octets()),
            protocol,
            ports,
            seed,
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => hash_v6(
            words(source.octets()),
            words(destination.octets()),
            protocol,
            ports,
            seed,
        ),
        _ => 0,
    }
}

/// The hash of an IPv4 flow, from words of the wire.
#[inline(always)]
#[must_use]
pub const fn hash_v4(source: u32, destination: u32, protocol: u8, ports: u32, seed: u64) -> u32 {
    let addresses = (source as u64) << 32 | destination as u64;
    finish(mix(seed, addresses), protocol, ports)
}

/// The hash of an IPv6 flow, from words of the wire.
#[inline(always)]
#[must_use]
pub const fn hash_v6(
    source: [u64; 2],
    destination: [u64; 2],
    protocol: u8,
    ports: u32,
    seed: u64,
) -> u32 {
    let hash = mix(mix(seed, source[0]), source[1]);
    let hash = mix(mix(hash, destination[0]), destination[1]);
    finish(hash, protocol, ports)
}

/// The ports of a flow turned round.
#[inline(always)]
#[must_use]
pub const fn turned(ports: u32) -> u32 {
    ports.rotate_left(16)
}

#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 32
}

#[inline(always)]
const fn finish(hash: u64, protocol: u8, ports: u32) -> u32 {
    let hash = mix(hash, (protocol as u64) << 32 | ports as u64);
    let hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (hash ^ hash >> 29) as u32 ^ (hash >> 32) as u32
}

fn words(address: [u8; 16]) -> [u64; 2] {
    let mut halves = [[0; 8]; 2];
    halves[0].copy_from_slice(&address[..8]);
    halves[1].copy_from_slice(&address[8..]);
    halves.map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{ADDRESSES_ONLY, hash, turned};

    const SEED: u64 = 0x5eed;

    #[test]
    fn each_part_of_a_flow_counts() {
        let base = hash(v4(1), v4(2), 6, Some((1000, 80)), SEED);
        for other in [
            hash(v4(3), v4(2), 6, Some((1000, 80)), SEED),
            hash(v4(1), v4(3), 6, Some((1000, 80)), SEED),
            hash(v4(1), v4(2), 17, Some((1000, 80)), SEED),
            hash(v4(1), v4(2), 6, Some((1001, 80)), SEED),
            hash(v4(1), v4(2), 6, Some((1000, 81)), SEED),
            hash(v4(1), v4(2), 6, Some((80, 1000)), SEED),
            hash(v4(1), v4(2), 6, Some((1000, 80)), SEED + 1),
            hash(v4(1), v4(2), ADDRESSES_ONLY, None, SEED),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(
            hash(v6(1), v6(2), 6, Some((1000, 80)), SEED),
            hash(v6(2), v6(1), 6, Some((1000, 80)), SEED)
        );
    }

    #[test]
    fn hosts_agree_on_a_flow_whatever_they_run() {
        assert_eq!(hash(v4(1), v4(2), 6, Some((1000, 80)), SEED), V4_KNOWN);
        assert_eq!(hash(v6(1), v6(2), 17, Some((53, 4000)), SEED), V6_KNOWN);
    }

    #[test]
    fn flows_spread_evenly_over_buckets_whichever_part_differs() {
        let by_port = |n: u16| hash(v4(1), v4(2), 6, Some((1024 + n, 443)), SEED);
        let by_source = |n: u16| hash(v4(u32::from(n)), v4(2), 6, Some((1024, 443)), SEED);
        let by_v6 = |n: u16| hash(v6(n), v6(2), 6, Some((1024, 443)), SEED);
        assert_even(by_port);
        assert_even(by_source);
        assert_even(by_v6);
    }

    #[test]
    fn ports_turn_round() {
        assert_eq!(turned(0x1111_2222), 0x2222_1111);
    }

    const V4_KNOWN: u32 = 3_894_572_016;
    const V6_KNOWN: u32 = 471_494_026;

    /// 12,800 flows over 128 buckets: 100 each, standard deviation 10.
    fn assert_even(hash_of: impl Fn(u16) -> u32) {
        let mut buckets = [0_u32; 128];
        for n in 0..12_800 {
            buckets[hash_of(n) as usize & 127] += 1;
        }
        assert!(
            buckets.iter().all(|count| (50..=150).contains(count)),
            "{buckets:?}"
        );
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a01_0000 + n).into()
    }

    fn v6(n: u16) -> IpAddr {
        Ipv6Addr::new(0xfd00, 1, 0, 1, 0, 0, 0, n).into()
    }
}
