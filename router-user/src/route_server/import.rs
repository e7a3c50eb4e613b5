//! Which announced paths a route server takes (import checks).
//!
//! In: the attributes of a path and the ASN of the peer that sent it. Out: a [`Judgement`]. A
//! refused path stays visible with the reason; the texts are few and fixed, since the RIB keeps
//! one copy of each.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::{
    bgp::wire::{AsPath, Asn, Family, NextHop, PathAttributes},
    rib::Judgement,
};

/// The rules of one route server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ImportRules {
    /// The route server's ASN.
    pub(super) asn: Asn,
    /// The addresses of its instances.
    pub(super) own_addresses: Vec<IpAddr>,
    /// The gateway host's addresses in the network's subnets.
    pub(super) gateways: Vec<IpAddr>,
    /// Where next hops can be resolved: its network and those peered with it.
    pub(super) space: Vec<IpNet>,
    /// AS_SETs are accepted (RFC 9774 forbids them).
    pub(super) allow_as_set: bool,
    /// A path must begin with the ASN of the peer that sent it.
    pub(super) enforce_first_as: bool,
}

impl ImportRules {
    /// What becomes of a path of this family from an eBGP peer with this ASN.
    pub(super) fn judge(
        &self,
        peer_asn: Asn,
        family: Family,
        attributes: &PathAttributes,
    ) -> Judgement {
        let fault = self
            .path_fault(peer_asn, &attributes.as_path)
            .or_else(|| self.next_hop_fault(family, attributes.next_hop));
        if let Some(reason) = fault {
            return Judgement::Rejected(reason.into());
        }
        let next_hop = attributes.next_hop.map(NextHop::address);
        if next_hop.is_some_and(|address| self.space.iter().any(|net| net.contains(&address))) {
            Judgement::Eligible
        } else {
            Judgement::Unresolvable(
                "next hop is outside the virtual network and those peered with it".into(),
            )
        }
    }

    fn path_fault(&self, peer_asn: Asn, path: &AsPath) -> Option<String> {
        if path.contains(0) {
            return Some("treated as withdrawn: AS 0 in the AS path (RFC 7607)".into());
        }
        // It means nothing outside its confederation: other peers would drop the route or the session.
        if path.has_confederation() {
            return Some(
                "treated as withdrawn: confederation segment in the AS path (RFC 5065)".into(),
            );
        }
        if !self.allow_as_set && path.has_sets() {
            return Some("treated as withdrawn: AS_SET in the AS path (RFC 9774)".into());
        }
        if path.contains(self.asn) {
            let asn = self.asn;
            return Some(format!(
                "loop: the route server's own ASN {asn} is in the AS path (as-override on the \
                 NVA's side avoids it)"
            ));
        }
        if self.enforce_first_as && path.first_as() != Some(peer_asn) {
            return Some("the AS path does not begin with the peer's own ASN".into());
        }
        None
    }

    fn next_hop_fault(&self, family: Family, next_hop: Option<NextHop>) -> Option<String> {
        let fault = match (family, next_hop?) {
            (Family::Ipv6Unicast, NextHop::V4(_)) => "next hop of an IPv6 route is an IPv4 address",
            (_, next_hop) => self.address_fault(next_hop.address())?,
        };
        Some(fault.into())
    }

    fn address_fault(&self, address: IpAddr) -> Option<&'static str> {
        if self.own_addresses.contains(&address) {
            Some("next hop is the route server's own address")
        } else if self.gateways.contains(&address) {
            Some("next hop is the gateway of a subnet, the gateway host's own address")
        } else if address.is_unspecified() {
            Some("next hop is the unspecified address")
        } else if address.is_loopback() {
            Some("next hop is a loopback address")
        } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            Some("next hop is a multicast or broadcast address")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::bgp::wire::{AsSegment, AsSegmentKind};

    const V4: Family = Family::Ipv4Unicast;
    const V6: Family = Family::Ipv6Unicast;

    #[test]
    fn a_path_from_its_peer_with_a_next_hop_in_the_network_is_eligible() {
        assert_eq!(judge(&[65010, 65011], "10.1.10.4"), Judgement::Eligible);
    }

    #[test]
    fn a_path_with_the_route_servers_own_asn_is_a_loop() {
        assert_rejected(judge(&[65010, 65515, 65011], "10.1.10.4"), "loop");
    }

    #[test]
    fn as_0_is_treated_as_withdrawn() {
        assert_rejected(judge(&[65010, 0], "10.1.10.4"), "AS 0");
    }

    #[test]
    fn an_as_set_is_treated_as_withdrawn_unless_allowed() {
        let mut attributes = attributes(&[65010], "10.1.10.4");
        attributes.as_path.segments.push(AsSegment {
            kind: AsSegmentKind::Set,
            asns: smallvec![65030, 65031],
        });
        let mut rules = rules();
        assert_rejected(rules.judge(65010, V4, &attributes), "AS_SET");
        rules.allow_as_set = true;
        assert_eq!(rules.judge(65010, V4, &attributes), Judgement::Eligible);
    }

    #[test]
    fn a_confederation_segment_is_treated_as_withdrawn_even_if_sets_are_allowed() {
        let rules = ImportRules {
            allow_as_set: true,
            ..rules()
        };
        for kind in [AsSegmentKind::ConfedSequence, AsSegmentKind::ConfedSet] {
            let mut attributes = attributes(&[65010], "10.1.10.4");
            attributes.as_path.segments.push(AsSegment {
                kind,
                asns: smallvec![64512],
            });
            assert_rejected(rules.judge(65010, V4, &attributes), "confederation");
        }
    }

    #[test]
    fn a_path_must_begin_with_its_peers_asn() {
        assert_rejected(judge(&[65011, 65010], "10.1.10.4"), "does not begin");
        assert_rejected(judge(&[], "10.1.10.4"), "does not begin");
    }

    #[test]
    fn own_unspecified_loopback_and_multicast_next_hops_are_refused() {
        for (next_hop, reason) in [
            ("10.1.255.4", "own address"),
            ("10.1.255.5", "own address"),
            ("10.1.10.1", "gateway of a subnet"),
            ("0.0.0.0", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("224.0.0.5", "multicast"),
            ("255.255.255.255", "broadcast"),
        ] {
            assert_rejected(judge(&[65010], next_hop), reason);
        }
        for (next_hop, reason) in [
            ("fd00:1:0:ff::4", "own address"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("ff02::1", "multicast"),
        ] {
            let attributes = attributes(&[65010], next_hop);
            assert_rejected(rules().judge(65010, V6, &attributes), reason);
        }
    }

    #[test]
    fn a_next_hop_outside_the_network_is_not_resolvable_but_no_fault() {
        let judgement = judge(&[65010], "192.0.2.1");
        assert!(
            matches!(judgement, Judgement::Unresolvable(_)),
            "{judgement:?}"
        );
        let third_party = judge(&[65010], "10.1.10.200");
        assert_eq!(
            third_party,
            Judgement::Eligible,
            "within the network, any address will do"
        );
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_next_hop_but_not_the_other_way_round() {
        let v6 = attributes(&[65010], "fd00:1:0:a::4");
        assert_eq!(rules().judge(65010, V4, &v6), Judgement::Eligible);
        let v4 = attributes(&[65010], "10.1.10.4");
        assert_rejected(rules().judge(65010, V6, &v4), "IPv4 address");
    }

    fn judge(path: &[Asn], next_hop: &str) -> Judgement {
        rules().judge(65010, V4, &attributes(path, next_hop))
    }

    fn assert_rejected(judgement: Judgement, part: &str) {
        let Judgement::Rejected(reason) = judgement else {
            panic!("{judgement:?} should be a rejection because of \"{part}\"");
        };
        assert!(reason.contains(part), "\"{reason}\" should name \"{part}\"");
    }

    fn rules() -> ImportRules {
        ImportRules {
            asn: 65515,
            own_addresses: ["10.1.255.4", "10.1.255.5", "fd00:1:0:ff::4"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            gateways: vec!["10.1.10.1".parse().unwrap()],
            space: vec![
                "10.1.0.0/16".parse().unwrap(),
                "fd00:1::/48".parse().unwrap(),
            ],
            allow_as_set: false,
            enforce_first_as: true,
        }
    }

    fn attributes(path: &[Asn], next_hop: &str) -> PathAttributes {
        PathAttributes {
            as_path: AsPath::sequence(path.iter().copied()),
            next_hop: Some(next_hop.parse::<IpAddr>().unwrap().into()),
            ..PathAttributes::default()
        }
    }
}
