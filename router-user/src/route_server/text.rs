//! Attributes as text for people.

use std::net::Ipv4Addr;

use crate::bgp::wire::{Aggregator, Family, Origin, PathAttributes, UnknownAttribute};

/// `igp`, `egp` or `incomplete`.
pub(super) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "IPv4",
        Family::Ipv6Unicast => "IPv6",
    }
}

/// `65535:65282`, `large:1:2:3`, `ext:0x0002fde800000064`.
pub(super) fn communities(attributes: &PathAttributes) -> Vec<String> {
    let standard = attributes.communities.iter();
    let standard = standard.map(|value| format!("{}:{}", value >> 16, value & 0xffff));
    let extended = attributes.extended_communities.iter();
    let extended = extended.map(|value| format!("ext:0x{:016x}", u64::from_be_bytes(*value)));
    let large = attributes.large_communities.iter();
    let large = large.map(|[global, first, second]| format!("large:{global}:{first}:{second}"));
    standard.chain(large).chain(extended).collect()
}

/// `65010 192.0.2.1`.
pub(super) fn aggregator(aggregator: Aggregator) -> String {
    format!("{} {}", aggregator.asn, aggregator.id)
}

/// The identifiers of CLUSTER_LIST, first one first.
pub(super) fn clusters(attributes: &PathAttributes) -> Vec<String> {
    let clusters = attributes.cluster_list.iter();
    clusters.map(Ipv4Addr::to_string).collect()
}

/// `attribute 99, flags 0xe0: 0x01020304`.
pub(super) fn unknown(attribute: &UnknownAttribute) -> String {
    let bytes = attribute.value.iter();
    let value: String = bytes.map(|byte| format!("{byte:02x}")).collect();
    let UnknownAttribute { flags, code, .. } = attribute;
    format!("attribute {code}, flags 0x{flags:02x}: 0x{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_as_operators_write_them() {
        let attributes = PathAttributes {
            communities: vec![0xffff_ff02],
            extended_communities: vec![[0, 2, 0xfd, 0xe8, 0, 0, 0, 100]],
            large_communities: vec![[1, 2, 3]],
            ..PathAttributes::default()
        };
        let expected = ["65535:65282", "large:1:2:3", "ext:0x0002fde800000064"];
        assert_eq!(communities(&attributes), expected);
    }
}
