//! Which announced paths a route server takes (import checks), and what it makes of them.
//!
//! In: the attributes of a path and the rules of the peer that sent it. Out: what becomes of it
//! ([`Imported`]). A refused path stays visible with the reason, which names the setting where there
//! is one; the texts are few and fixed, since the RIB keeps one copy of each.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{
    maps::Inbound,
    policy::Outcome,
    space::{OWN, Place, Space},
};
use crate::{
    bgp::wire::{AsPath, Asn, Family, NextHop, PathAttributes, Role, community},
    config::{PeerKind, PeerPolicy},
    rib::{Imported, Judgement},
};

/// The rules of one route server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ImportRules {
    /// The route server's ASN.
    pub(super) asn: Asn,
    /// The addresses of its instances.
    pub(super) own_addresses: Vec<IpAddr>,
    /// Their router ids.
    pub(super) router_ids: BTreeSet<Ipv4Addr>,
    /// Its cluster, as route reflector (RFC 4456).
    pub(super) cluster_id: Ipv4Addr,
    /// Where next hops can be resolved: its network and those peered with it.
    pub(super) space: Space,
    /// Without a policy nothing is taken (RFC 8212).
    pub(super) require_policy: bool,
}

/// What the rules depend on beside: the peer's session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PeerRules {
    /// The peer's ASN.
    pub(super) asn: Asn,
    /// What it is.
    pub(super) kind: PeerKind,
    /// What is configured for its paths.
    pub(super) policy: PeerPolicy,
    /// Our role towards it (RFC 9234).
    pub(super) role: Option<Role>,
    /// The operator drains the session: its routes are last choice (RFC 8326).
    pub(super) drained: bool,
    /// Its inbound route map.
    pub(super) map: Option<Inbound>,
}

/// What the rules know of a prefix: those of one kin are treated alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kin {
    family: Family,
    /// In the peer's route map.
    class: u32,
}

/// A path whose ONLY_TO_CUSTOMER shows that it took a wrong turn.
const LEAK: &str = "route leak: ONLY_TO_CUSTOMER from a customer or route-server client (RFC 9234)";

/// The same from a lateral peer.
const PEER_LEAK: &str = "route leak: ONLY_TO_CUSTOMER of another AS than the peer's own (RFC 9234)";

impl ImportRules {
    /// What becomes of a path of a peer to a prefix of this kin: the loop checks apply to what was
    /// received, then comes the peer's route map, and where that leaves the next hop is what counts.
    pub(super) fn import(
        &self,
        peer: &PeerRules,
        kin: Kin,
        received: &Arc<PathAttributes>,
    ) -> Imported {
        let plain = |judgement| Imported {
            judgement,
            attributes: peer.change(received),
            weight: None,
        };
        if let Some(reason) = self.path_fault(peer, received) {
            return plain(Judgement::Rejected(reason.into()));
        }
        let judge = |attributes: &PathAttributes| self.judge(kin.family, attributes.next_hop);
        let Some(map) = &peer.map else {
            let fault = self.policy_fault();
            return plain(match judge(received) {
                Judgement::Rejected(reason) => Judgement::Rejected(reason),
                judgement => fault.map_or(judgement, Judgement::Rejected),
            });
        };
        match map.evaluate(kin.class, peer.kind, received) {
            Outcome::Keep => plain(judge(received)),
            Outcome::Drop(reason) => plain(Judgement::Rejected(reason)),
            Outcome::Change { attributes, weight } => Imported {
                judgement: judge(&attributes),
                attributes: peer.change(&Arc::new(*attributes)),
                weight,
            },
            Outcome::Aggregate { prefix, reason } => plain(match judge(received) {
                Judgement::Eligible(zone) => Judgement::Aggregated {
                    prefix,
                    zone,
                    reason,
                },
                other => other,
            }),
        }
    }

    /// How a route is judged by its next hop alone, as those learned by hand are.
    pub(super) fn judge(&self, family: Family, next_hop: Option<NextHop>) -> Judgement {
        match (self.next_hop_fault(family, next_hop), next_hop) {
            (Some(reason), _) => Judgement::Rejected(reason.into()),
            (None, Some(next_hop)) => self.resolve(next_hop.address()),
            (None, None) => Judgement::Rejected("it has no next hop".into()),
        }
    }

    fn resolve(&self, next_hop: IpAddr) -> Judgement {
        match self.space.place(next_hop) {
            Place::Within(zone) => Judgement::Eligible(zone),
            Place::Beyond(_) if planted!(AnyNextHopIsReached) => Judgement::Eligible(OWN),
            Place::Beyond(reason) => Judgement::Unresolvable(reason),
        }
    }

    /// What is wrong with a path as received, its next hop aside.
    fn path_fault(&self, peer: &PeerRules, received: &PathAttributes) -> Option<String> {
        let internal = peer.asn == self.asn;
        self.as_path_fault(peer, &received.as_path)
            .or_else(|| internal.then(|| self.reflection_fault(received))?)
            .or_else(|| Some(peer.leak(received.only_to_customer)?.to_owned()))
    }

    fn as_path_fault(&self, peer: &PeerRules, path: &AsPath) -> Option<String> {
        let PeerPolicy {
            allow_own_as,
            allow_as_set,
            enforce_first_as,
            max_as_path_length,
            ..
        } = peer.policy;
        if path.contains(0) {
            return Some("treated as withdrawn: AS 0 in the AS path (RFC 7607)".into());
        }
        // It means nothing outside its confederation: other peers would drop the route or the session.
        if path.has_confederation() {
            return Some(
                "treated as withdrawn: confederation segment in the AS path (RFC 5065)".into(),
            );
        }
        if !allow_as_set && path.has_sets() {
            return Some(
                "treated as withdrawn: AS_SET in the AS path (RFC 9774, allow_as_set)".into(),
            );
        }
        let own = path.count(self.asn);
        if own > usize::from(allow_own_as) && !planted!(OwnAsnIsTaken) {
            let asn = self.asn;
            return Some(match allow_own_as {
                0 => format!(
                    "loop: the route server's own ASN {asn} is in the AS path (as-override on the \
                     NVA's side avoids it, allow_own_as accepts it)"
                ),
                most => format!(
                    "loop: the route server's own ASN {asn} is in the AS path more than {most} \
                     times (allow_own_as)"
                ),
            });
        }
        let external = peer.asn != self.asn;
        let enforce_first_as = enforce_first_as && !planted!(AnyFirstAsIsTaken);
        if external && enforce_first_as && path.first_as() != Some(peer.asn) {
            return Some(
                "the AS path does not begin with the peer's own ASN (enforce_first_as)".into(),
            );
        }
        if path.asns().count() > usize::from(max_as_path_length) {
            return Some(format!(
                "the AS path has more than {max_as_path_length} ASNs (max_as_path_length)"
            ));
        }
        None
    }

    /// RFC 4456 §8: what was reflected here before has come back.
    fn reflection_fault(&self, attributes: &PathAttributes) -> Option<String> {
        let originator = attributes.originator_id;
        let own = originator.filter(|originator| self.router_ids.contains(originator));
        let cluster_id = self.cluster_id;
        if let Some(originator) = own {
            return Some(format!(
                "loop: ORIGINATOR_ID {originator} is the route server's own router id (RFC 4456)"
            ));
        }
        let looped = attributes.cluster_list.contains(&cluster_id);
        (looped && !planted!(OwnClusterIsTaken)).then(|| {
            format!(
                "loop: the route server's own cluster {cluster_id} is in CLUSTER_LIST (RFC 4456, \
                 cluster_id)"
            )
        })
    }

    /// RFC 8212 §2, of a peer without a route map.
    fn policy_fault(&self) -> Option<Arc<str>> {
        self.require_policy.then(|| {
            "no import policy is configured for the peer (RFC 8212, require_policy)".into()
        })
    }

    fn next_hop_fault(&self, family: Family, next_hop: Option<NextHop>) -> Option<String> {
        let fault = match (family, next_hop?) {
            (Family::Ipv6Unicast, NextHop::V4(_)) => "next hop of an IPv6 route is an IPv4 address",
            (_, next_hop) => self.address_fault(next_hop.address())?,
        };
        Some(fault.into())
    }

    fn address_fault(&self, address: IpAddr) -> Option<&'static str> {
        if self.own_addresses.contains(&address) && !planted!(OwnNextHopIsTaken) {
            Some("next hop is the route server's own address")
        } else if self.space.is_gateway(address) {
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

impl PeerRules {
    /// What its rules know of a prefix.
    pub(super) fn kin(&self, prefix: IpNet) -> Kin {
        Kin {
            family: Family::of(&prefix),
            class: self.map.as_ref().map_or(0, |map| map.class(prefix)),
        }
    }

    /// RFC 9234 §5, ingress rules 1 and 2.
    fn leak(&self, only_to_customer: Option<Asn>) -> Option<&'static str> {
        let marked = only_to_customer?;
        match self.role? {
            Role::Provider | Role::RouteServer => Some(LEAK),
            Role::Peer => (marked != self.asn).then_some(PEER_LEAK),
            Role::Customer | Role::RouteServerClient => None,
        }
    }

    /// The attributes of its paths after import; the same allocation if nothing changes.
    pub(super) fn change(&self, received: &Arc<PathAttributes>) -> Arc<PathAttributes> {
        // RFC 9234 §5, ingress rule 3.
        let from_above = matches!(
            self.role,
            Some(Role::Customer | Role::Peer | Role::RouteServerClient)
        );
        let marks = from_above && received.only_to_customer.is_none();
        let tags = self.drained && !received.has_community(community::GRACEFUL_SHUTDOWN);
        if !marks && !tags {
            return received.clone();
        }
        let mut changed = PathAttributes::clone(received);
        if marks {
            changed.only_to_customer = Some(self.asn);
        }
        if tags {
            changed.add_community(community::GRACEFUL_SHUTDOWN);
        }
        Arc::new(changed)
    }
}

/// What import has made of paths one after the other: thousands share their attributes, and many
/// prefixes are of one kin.
#[derive(Default)]
pub(super) struct Known(FxHashMap<(*const PathAttributes, Kin), (Arc<PathAttributes>, Imported)>);

impl Known {
    /// More are not remembered.
    const MOST: usize = 4096;

    /// What becomes of a path of a peer, always the same one.
    pub(super) fn import(
        &mut self,
        rules: &ImportRules,
        peer: &PeerRules,
        prefix: IpNet,
        received: &Arc<PathAttributes>,
    ) -> Imported {
        let kin = peer.kin(prefix);
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        // What is held here stays where it is.
        let (_, imported) = self
            .0
            .entry((Arc::as_ptr(received), kin))
            .or_insert_with(|| {
                let imported = rules.import(peer, kin, received);
                (received.clone(), imported)
            });
        imported.clone()
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::{
        bgp::wire::{AsSegment, AsSegmentKind},
        rib::Zone,
        route_server::space::{Surroundings, Zones},
    };

    const ELIGIBLE: Judgement = Judgement::Eligible(OWN);
    const V4: Family = Family::Ipv4Unicast;
    const V6: Family = Family::Ipv6Unicast;

    #[test]
    fn a_path_from_its_peer_with_a_next_hop_in_the_network_is_eligible() {
        assert_eq!(judge(&[65010, 65011], "10.1.10.4"), ELIGIBLE);
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
        let mut peer = nva();
        assert_rejected(judged(&rules(), &peer, V4, &attributes), "AS_SET");
        peer.policy.allow_as_set = true;
        assert_eq!(judged(&rules(), &peer, V4, &attributes), ELIGIBLE);
    }

    #[test]
    fn a_confederation_segment_is_treated_as_withdrawn_even_if_sets_are_allowed() {
        let mut peer = nva();
        peer.policy.allow_as_set = true;
        for kind in [AsSegmentKind::ConfedSequence, AsSegmentKind::ConfedSet] {
            let mut attributes = attributes(&[65010], "10.1.10.4");
            attributes.as_path.segments.push(AsSegment {
                kind,
                asns: smallvec![64512],
            });
            assert_rejected(judged(&rules(), &peer, V4, &attributes), "confederation");
        }
    }

    #[test]
    fn a_path_must_begin_with_its_peers_asn() {
        assert_rejected(judge(&[65011, 65010], "10.1.10.4"), "does not begin");
        assert_rejected(judge(&[], "10.1.10.4"), "does not begin");
        let mut lenient = nva();
        lenient.policy.enforce_first_as = false;
        for path in [&[65011, 65010][..], &[]] {
            let attributes = attributes(path, "10.1.10.4");
            let judgement = judged(&rules(), &lenient, V4, &attributes);
            assert_eq!(judgement, ELIGIBLE);
        }
    }

    #[test]
    fn the_route_servers_own_asn_may_stand_in_a_path_as_often_as_allowed() {
        let mut peer = nva();
        peer.policy.allow_own_as = 2;
        let judge = |path: &[Asn]| judged(&rules(), &peer, V4, &attributes(path, "10.1.10.4"));
        assert_eq!(judge(&[65010, 65515, 65011, 65515]), ELIGIBLE);
        assert_rejected(judge(&[65010, 65515, 65515, 65515]), "more than 2 times");
    }

    #[test]
    fn a_path_is_as_long_as_its_asns_counted_one_by_one() {
        let mut peer = nva();
        peer.policy.max_as_path_length = 3;
        peer.policy.allow_as_set = true;
        let mut path = attributes(&[65010, 65011], "10.1.10.4");
        path.as_path.segments.push(AsSegment {
            kind: AsSegmentKind::Set,
            asns: smallvec![65030],
        });
        let judge = |path: &PathAttributes| judged(&rules(), &peer, V4, path);
        assert_eq!(judge(&path), ELIGIBLE);
        path.as_path.segments[1].asns.push(65031);
        assert_rejected(judge(&path), "more than 3 ASNs (max_as_path_length)");
    }

    #[test]
    fn rfc8212_2_without_a_policy_nothing_is_taken() {
        let strict = ImportRules {
            require_policy: true,
            ..rules()
        };
        let attributes = attributes(&[65010], "10.1.10.4");
        assert_rejected(judged(&strict, &nva(), V4, &attributes), "RFC 8212");
    }

    /// For each role of ours: what becomes of a path without ONLY_TO_CUSTOMER, with the peer's ASN
    /// in it, and with another one.
    #[test]
    fn rfc9234_5_ingress_rules_for_each_pair_of_roles() {
        let leak = Some("route leak");
        for (role, adds, from_peer, from_other) in [
            (None, false, None, None),
            (Some(Role::Provider), false, leak, leak),
            (Some(Role::RouteServer), false, leak, leak),
            (Some(Role::Peer), true, None, leak),
            (Some(Role::Customer), true, None, None),
            (Some(Role::RouteServerClient), true, None, None),
        ] {
            let peer = PeerRules { role, ..nva() };
            for (marked, fault) in [
                (None, None),
                (Some(65010), from_peer),
                (Some(1), from_other),
            ] {
                let mut attributes = attributes(&[65010], "10.1.10.4");
                attributes.only_to_customer = marked;
                let imported = import(&peer, &attributes);
                let expected = marked.or(adds.then_some(65010));
                assert_eq!(imported.attributes.only_to_customer, expected, "{role:?}");
                match fault {
                    Some(fault) => assert_rejected(imported.judgement, fault),
                    None => assert_eq!(imported.judgement, ELIGIBLE, "{role:?}"),
                }
            }
        }
    }

    #[test]
    fn rfc8326_4_2_paths_of_a_drained_peer_are_tagged() {
        let peer = PeerRules {
            drained: true,
            ..nva()
        };
        let attributes = attributes(&[65010], "10.1.10.4");
        let imported = import(&peer, &attributes);
        assert_eq!(imported.judgement, ELIGIBLE);
        assert_eq!(
            imported.attributes.communities,
            [community::GRACEFUL_SHUTDOWN]
        );
        let received = imported.attributes;
        let again = peer.change(&received);
        assert!(
            Arc::ptr_eq(&again, &received),
            "a second time changes nothing"
        );
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
            assert_rejected(judged(&rules(), &nva(), V6, &attributes), reason);
        }
    }

    #[test]
    fn a_next_hop_is_resolved_in_the_network_that_it_lies_in() {
        let third_party = judge(&[65010], "10.1.10.200");
        assert_eq!(
            third_party, ELIGIBLE,
            "within the network, any address will do"
        );
        let peered = judge(&[65010], "10.2.0.4");
        assert_eq!(peered, Judgement::Eligible(Zone(1)));
        for (next_hop, reason) in [
            (
                "10.3.0.4",
                "network \"spoke2\", which is not peered with \"hub\"",
            ),
            ("192.0.2.1", "outside the virtual network"),
        ] {
            let Judgement::Unresolvable(told) = judge(&[65010], next_hop) else {
                panic!("{next_hop} leads nowhere, but is no fault");
            };
            assert!(told.contains(reason), "{told}");
        }
    }

    #[test]
    fn a_gateways_address_in_a_peered_network_is_no_next_hop_either() {
        assert_rejected(judge(&[65010], "10.2.0.1"), "gateway of a subnet");
    }

    #[test]
    fn a_gateway_of_the_own_as_needs_no_asn_in_its_paths() {
        let judge =
            |path: &[Asn]| judged(&rules(), &internal(), V4, &attributes(path, "10.1.10.4"));
        assert_eq!(judge(&[]), ELIGIBLE);
        assert_eq!(judge(&[64999]), ELIGIBLE);
        assert_rejected(judge(&[64999, 65515]), "loop");
    }

    #[test]
    fn rfc4456_8_what_was_reflected_here_is_a_loop_when_it_comes_back() {
        let mut path = attributes(&[64999], "10.1.10.4");
        path.originator_id = Some([10, 1, 255, 5].into());
        assert_rejected(
            judged(&rules(), &internal(), V4, &path),
            "ORIGINATOR_ID 10.1.255.5",
        );
        path.originator_id = Some([10, 1, 3, 4].into());
        assert_eq!(judged(&rules(), &internal(), V4, &path), ELIGIBLE);
        path.cluster_list = vec![[10, 9, 9, 9].into(), [10, 1, 255, 4].into()];
        assert_rejected(judged(&rules(), &internal(), V4, &path), "CLUSTER_LIST");
    }

    #[test]
    fn a_static_route_is_judged_by_its_next_hop_alone() {
        let judge =
            |next_hop: &str| rules().judge(V4, Some(next_hop.parse::<IpAddr>().unwrap().into()));
        assert_eq!(judge("10.1.10.4"), ELIGIBLE);
        assert_rejected(judge("10.1.255.4"), "own address");
        assert!(matches!(judge("192.0.2.1"), Judgement::Unresolvable(_)));
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_next_hop_but_not_the_other_way_round() {
        let v6 = attributes(&[65010], "fd00:1:0:a::4");
        assert_eq!(judged(&rules(), &nva(), V4, &v6), ELIGIBLE);
        let v4 = attributes(&[65010], "10.1.10.4");
        assert_rejected(judged(&rules(), &nva(), V6, &v4), "IPv4 address");
    }

    fn judged(
        rules: &ImportRules,
        peer: &PeerRules,
        family: Family,
        attributes: &PathAttributes,
    ) -> Judgement {
        let kin = Kin { family, class: 0 };
        rules
            .import(peer, kin, &Arc::new(attributes.clone()))
            .judgement
    }

    fn judge(path: &[Asn], next_hop: &str) -> Judgement {
        judged(&rules(), &nva(), V4, &attributes(path, next_hop))
    }

    fn assert_rejected(judgement: Judgement, part: &str) {
        let Judgement::Rejected(reason) = judgement else {
            panic!("{judgement:?} should be a rejection because of \"{part}\"");
        };
        assert!(reason.contains(part), "\"{reason}\" should name \"{part}\"");
    }

    fn import(peer: &PeerRules, attributes: &PathAttributes) -> Imported {
        let kin = peer.kin("10.250.0.0/16".parse().unwrap());
        rules().import(peer, kin, &Arc::new(attributes.clone()))
    }

    fn rules() -> ImportRules {
        let network = |name: &str, prefixes: &[&str]| {
            let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap());
            (name.into(), prefixes.collect())
        };
        let surroundings = Surroundings {
            spaces: vec![
                network("hub", &["10.1.0.0/16", "fd00:1::/48"]),
                network("spoke1", &["10.2.0.0/16"]),
            ],
            beyond: vec![network("spoke2", &["10.3.0.0/16"])],
            gateways: ["10.1.10.1", "10.2.0.1"]
                .map(|address| address.parse().unwrap())
                .into(),
        };
        ImportRules {
            asn: 65515,
            own_addresses: ["10.1.255.4", "10.1.255.5", "fd00:1:0:ff::4"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            router_ids: [[10, 1, 255, 4].into(), [10, 1, 255, 5].into()].into(),
            cluster_id: [10, 1, 255, 4].into(),
            space: Zones::default().number(&surroundings),
            require_policy: false,
        }
    }

    fn nva() -> PeerRules {
        PeerRules {
            asn: 65010,
            kind: PeerKind::Nva,
            policy: PeerPolicy::default(),
            role: None,
            drained: false,
            map: None,
        }
    }

    /// A gateway's member in the route server's own AS.
    fn internal() -> PeerRules {
        PeerRules {
            asn: 65515,
            kind: PeerKind::Vpn,
            ..nva()
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
