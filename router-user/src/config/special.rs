//! Addresses that no machine has: unspecified, loopback, link-local and multicast ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{fault::Report, section::Located, values::Address};

/// Addresses that are no single machine's anywhere in a network, and what they are.
const SPECIAL: [(IpNet, &str); 8] = [
    (v4(0, 0, 8), "unspecified"),
    (v4(127, 0, 8), "loopback"),
    (v4(169, 254, 16), "link-local"),
    (v4(224, 0, 4), "multicast"),
    (v6(0, 0, 128), "unspecified"),
    (v6(0, 1, 128), "loopback"),
    (v6(0xfe80, 0, 10), "link-local"),
    (v6(0xff00, 0, 8), "multicast"),
];

const fn v4(first: u8, second: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(
        Ipv4Addr::new(first, second, 0, 0),
        length,
    ))
}

const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last),
        length,
    ))
}

/// Which special addresses there are in a prefix.
pub(super) fn special_within(prefix: &IpNet) -> Option<&'static str> {
    let mut special = SPECIAL.iter();
    special
        .find(|(special, _)| special.contains(prefix) || prefix.contains(special))
        .map(|(_, what)| *what)
}

/// Which special addresses a prefix consists of.
pub(super) fn all_special(prefix: &IpNet) -> Option<&'static str> {
    let mut special = SPECIAL.iter();
    special
        .find(|(special, _)| special.contains(prefix))
        .map(|(_, what)| *what)
}

/// Reports an address that cannot be the next hop of anything, or not of this prefix: IPv4 routes may
/// have IPv6 next hops (RFC 8950), not the other way round.
pub(super) fn refuse_next_hop(
    next_hop: &Located<Address>,
    prefix: Option<&IpNet>,
    owner: &str,
    report: &mut Report,
) {
    let Located {
        value: Address(address),
        at,
    } = *next_hop;
    if let Some(special) = all_special(&address.into()) {
        report.fault(
            at,
            format!("next hop {address} of {owner} is {special}"),
            "give the address of a machine",
        );
    } else if matches!(prefix, Some(IpNet::V6(_))) && address.is_ipv4() {
        report.fault(
            at,
            format!("{owner} has the IPv4 next hop {address}"),
            "give the machine's IPv6 address",
        );
    }
}
