//! Destinations in the prefixes that are looked up in.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tests::internet::{Random, is_routable};

/// As many as the generator holds, each in a random one of the prefixes.
pub fn destinations(prefixes: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    let mut random = Random::new(9);
    let mut destinations = Vec::with_capacity(1 << 16);
    while destinations.len() < 1 << 16 {
        let prefix = prefixes[random.next() as usize % prefixes.len()];
        let host = random.next() as u32 & u32::from(prefix.hostmask());
        let address = u32::from(prefix.network()) | host;
        if is_routable(address) {
            destinations.push(Ipv4Addr::from(address));
        }
    }
    destinations
}
