//! Gateways, their kinds, and who learns what from whom.

use super::*;
use crate::config::{Gateway, GatewayMembers, Membership, PeerKind, RoutingPreference};

const SITE: &str = "10.250.0.0/16";
const CLOUD: &str = "10.240.0.0/16";
const BRANCH: &str = "10.230.0.0/16";
const SDWAN: &str = "10.1.10.4";
const FW: &str = "10.1.20.4";
const ER: &str = "10.1.3.4";
const VPN: &str = "10.1.4.4";
const VPN2: &str = "10.1.4.5";

#[test]
fn gateways_are_always_sent_the_networks_prefixes_by_ibgp_with_an_empty_path() {
    let mut lab = Lab::new(&with_gateways());
    lab.originate(&["10.1.0.0/16", "10.2.0.0/16"]);
    lab.both_up("er1-10.1.3.4");
    lab.settle();
    for net in ["10.1.0.0/16", "10.2.0.0/16"] {
        let expected = PathAttributes {
            local_pref: Some(100),
            ..route(&[], "10.1.255.4")
        };
        assert_eq!(lab.holds("er1-10.1.3.4", 1, net), Some(&expected));
    }
}

#[test]
fn nothing_passes_between_nvas_and_gateways_unless_branch_to_branch_is_on() {
    let mut lab = branches(false);
    for (peer, net) in [
        ("sdwan", CLOUD),
        ("sdwan", BRANCH),
        ("er1-10.1.3.4", SITE),
        ("er1-10.1.3.4", BRANCH),
        ("vpn1-10.1.4.4", SITE),
        ("vpn1-10.1.4.4", CLOUD),
    ] {
        assert_eq!(lab.holds(peer, 1, net), None, "{peer} {net}");
    }
    for net in [SITE, CLOUD, BRANCH] {
        assert!(lab.members(net).is_some(), "subnets learn it: {net}");
    }
    lab.toggle(true);
    for (peer, net, next_hop, path) in [
        ("sdwan", CLOUD, ER, &[65515, 64900][..]),
        ("sdwan", BRANCH, VPN, &[65515, 64901]),
        ("er1-10.1.3.4", SITE, SDWAN, &[65010]),
        ("er1-10.1.3.4", BRANCH, VPN, &[64901]),
        ("vpn1-10.1.4.4", SITE, SDWAN, &[65010]),
        ("vpn1-10.1.4.4", CLOUD, ER, &[64900]),
    ] {
        let held = lab.holds(peer, 1, net).expect("it passes now");
        assert_eq!(held.next_hop, route(&[], next_hop).next_hop, "{peer} {net}");
        assert_eq!(held.as_path, route(path, next_hop).as_path, "{peer} {net}");
    }
    assert_eq!(
        lab.far("sdwan", 1).ended.len(),
        2,
        "the session is the same"
    );
    lab.toggle(false);
    assert_eq!(lab.holds("sdwan", 1, CLOUD), None);
    assert_eq!(lab.holds("er1-10.1.3.4", 1, SITE), None);
    assert_eq!(lab.far("sdwan", 1).ended.len(), 2);
}

#[test]
fn nothing_ever_passes_between_gateways_of_a_kind_or_members_of_one() {
    let mut config = with_gateways();
    config.branch_to_branch = true;
    config
        .peers
        .push(member("er2", PeerKind::ExpressRoute, "10.1.5.4"));
    config.peers.push(member("vpn2", PeerKind::Vpn, "10.1.6.4"));
    let mut lab = Lab::new(&config);
    let gateways = [
        "er1-10.1.3.4",
        "er2-10.1.5.4",
        "vpn1-10.1.4.4",
        "vpn1-10.1.4.5",
        "vpn2-10.1.6.4",
    ];
    for peer in gateways {
        lab.both_up(peer);
    }
    lab.announce_to_both("er1-10.1.3.4", &[CLOUD], &route(&[64900], ER));
    lab.announce_to_both("vpn1-10.1.4.4", &[BRANCH], &route(&[64901], VPN));
    lab.settle();
    let holders = |net: &str| -> Vec<&str> {
        let holders = gateways
            .iter()
            .filter(|peer| lab.holds(peer, 1, net).is_some());
        holders.copied().collect()
    };
    assert_eq!(
        holders(CLOUD),
        ["vpn1-10.1.4.4", "vpn1-10.1.4.5", "vpn2-10.1.6.4"]
    );
    assert_eq!(holders(BRANCH), ["er1-10.1.3.4", "er2-10.1.5.4"]);
}

#[test]
fn rfc4456_8_between_gateways_of_its_own_as_it_is_a_route_reflector() {
    let mut lab = branches(true);
    let held = lab.holds("vpn1-10.1.4.4", 1, CLOUD).unwrap();
    assert_eq!(held.originator_id, Some(Ipv4Addr::new(10, 1, 3, 4)));
    assert_eq!(held.cluster_list, [Ipv4Addr::new(10, 1, 255, 4)]);
    let told = lab.holds("sdwan", 1, CLOUD).unwrap();
    assert_eq!((told.originator_id, told.cluster_list.len()), (None, 0));
    // What comes back is a loop.
    let back = PathAttributes {
        originator_id: Some([10, 1, 3, 4].into()),
        cluster_list: vec![[10, 1, 255, 4].into()],
        ..route(&[64900], VPN)
    };
    lab.announce("vpn1-10.1.4.4", 1, &["10.99.0.0/16"], &back);
    lab.settle();
    let (state, reason) = lab.state("vpn1-10.1.4.4", 1, "10.99.0.0/16");
    assert_eq!(state, "rejected");
    assert!(
        reason.contains("CLUSTER_LIST (RFC 4456, cluster_id)"),
        "{reason}"
    );
    // A change of the cluster id is sent, and holds, without a reset.
    let mut config = lab.server.config.clone();
    config.cluster_id = [10, 7, 7, 7].into();
    lab.reload(&config);
    let held = lab.holds("vpn1-10.1.4.4", 1, CLOUD).unwrap();
    assert_eq!(held.cluster_list, [Ipv4Addr::new(10, 7, 7, 7)]);
    assert_eq!(lab.state("vpn1-10.1.4.4", 1, "10.99.0.0/16").0, "best");
}

#[test]
fn local_pref_of_a_gateway_in_the_own_as_counts_and_is_passed_on_there() {
    let mut lab = branches(true);
    let mut high = route(&[64901, 64902, 64903], VPN2);
    high.local_pref = Some(200);
    lab.announce_to_both("vpn1-10.1.4.5", &[BRANCH], &high);
    lab.settle();
    assert_eq!(lab.members(BRANCH), Some(vec![VPN2.parse().unwrap()]));
    let held = lab.holds("er1-10.1.3.4", 1, BRANCH).unwrap();
    assert_eq!(held.local_pref, Some(200));
    assert_eq!(lab.holds("sdwan", 1, BRANCH).unwrap().local_pref, None);
}

#[test]
fn routing_preference_decides_between_kinds_and_changes_on_live_sessions() {
    let mut lab = branches(false);
    lab.announce_to_both("er1-10.1.3.4", &[SITE], &route(&[64900, 64999], ER));
    lab.announce_to_both("vpn1-10.1.4.4", &[SITE], &route(&[65011], VPN));
    lab.settle();
    let sets = |lab: &Lab| -> Vec<String> {
        let members = lab.members(SITE).unwrap();
        members.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        sets(&lab),
        [ER],
        "ExpressRoute before the others, by default"
    );
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(
        (state.as_str(), reason.as_str()),
        ("lost", "less preferred kind of source")
    );
    let mut config = lab.server.config.clone();
    config.routing_preference = RoutingPreference::VpnGateway;
    lab.reload(&config);
    assert_eq!(sets(&lab), [VPN, SDWAN], "VPN and NVA are equals");
    config.routing_preference = RoutingPreference::AsPath;
    lab.reload(&config);
    assert_eq!(sets(&lab), [VPN, SDWAN], "the AS path decides");
    lab.announce_to_both("er1-10.1.3.4", &[SITE], &route(&[64900], ER));
    lab.settle();
    assert_eq!(sets(&lab), [ER, VPN, SDWAN], "nobody is preferred");
    assert_eq!(lab.far("sdwan", 1).ended.len(), 2, "no session was reset");
}

#[test]
fn a_peer_is_sent_the_best_of_what_it_may_receive_though_subnets_use_another() {
    let mut lab = branches(false);
    lab.both_up("fw");
    for (peer, path, next_hop) in [
        ("er1-10.1.3.4", &[64900][..], ER),
        ("sdwan", &[65010, 65011, 65012], SDWAN),
    ] {
        lab.announce_to_both(peer, &[SITE], &route(path, next_hop));
    }
    lab.settle();
    assert_eq!(lab.members(SITE), Some(vec![ER.parse().unwrap()]));
    let held = lab.holds("fw", 1, SITE).expect("no path hiding");
    assert_eq!(held.next_hop, route(&[], SDWAN).next_hop);
    lab.toggle(true);
    let held = lab.holds("fw", 1, SITE).unwrap();
    assert_eq!(held.next_hop, route(&[], ER).next_hop);
    let held = lab.holds("er1-10.1.3.4", 1, SITE).unwrap();
    assert_eq!(
        held.next_hop,
        route(&[], SDWAN).next_hop,
        "not its own back"
    );
}

#[test]
fn no_export_keeps_a_route_from_other_ases_and_not_from_gateways_of_the_own() {
    let mut lab = branches(true);
    lab.both_up("fw");
    announce_for_few(&mut lab);
    lab.settle();
    assert!(lab.holds("er1-10.1.3.4", 1, NOT_EXPORTED).is_some());
    assert!(lab.holds("fw", 1, NOT_EXPORTED).is_none());
    assert!(lab.holds("er1-10.1.3.4", 1, NOT_ADVERTISED).is_none());
    assert!(lab.members(NOT_ADVERTISED).is_some(), "subnets use it");
}

#[test]
fn meds_of_different_neighbours_are_compared_as_soon_as_that_is_switched_on() {
    let mut lab = Lab::new(&config());
    for (peer, asn, address, med) in [("sdwan", 65010, SDWAN, 10), ("fw", 65020, FW, 20)] {
        lab.both_up(peer);
        let sent = PathAttributes {
            med: Some(med),
            ..route(&[asn], address)
        };
        lab.announce_to_both(peer, &[SITE], &sent);
    }
    lab.settle();
    assert_eq!(lab.members(SITE).unwrap().len(), 2);
    lab.reload(&config::RouteServer {
        always_compare_med: true,
        ..config()
    });
    assert_eq!(lab.members(SITE), Some(vec![SDWAN.parse().unwrap()]));
}

#[test]
fn a_gateways_port_learns_exactly_what_its_gateway_is_sent() {
    let mut lab = branches(false);
    let port = |kind| LearnedUse {
        gateway: Some(kind),
        ..of_hub()
    };
    let uses = PeerKind::ALL[1..].iter().map(|kind| port(*kind));
    let uses = uses.chain([of_hub()]).collect();
    lab.server.set_uses(uses, lab.now);
    announce_for_few(&mut lab);
    lab.settle();
    for branch_to_branch in [false, true] {
        lab.toggle(branch_to_branch);
        for (kind, peer) in [
            (PeerKind::ExpressRoute, "er1-10.1.3.4"),
            (PeerKind::Vpn, "vpn1-10.1.4.4"),
        ] {
            let learned = lab.learned_by(&port(kind)).unwrap().keys();
            let sent = lab.far(peer, 1).holds.keys().map(|nlri| &nlri.prefix);
            assert!(
                learned.eq(sent),
                "{kind:?}, branch to branch {branch_to_branch}"
            );
        }
    }
    let learned = lab.learned_by(&port(PeerKind::Vpn)).unwrap();
    assert!(learned.contains_key(&prefix(NOT_EXPORTED)), "within the AS");
    assert_eq!(learned.len(), 3);
    assert_eq!(lab.members(BRANCH), Some(vec![VPN.parse().unwrap()]));
}

#[test]
fn the_port_of_a_gateway_of_another_as_learns_nothing_that_is_not_exported() {
    let mut config = with_gateways();
    config.branch_to_branch = true;
    for peer in &mut config.peers {
        if peer.membership.is_some() {
            peer.asn = 64555;
        }
    }
    config.gateways = vec![Gateway {
        name: "vpn1".into(),
        kind: PeerKind::Vpn,
        members: GatewayMembers::Addresses(vec![VPN.parse().unwrap(), VPN2.parse().unwrap()]),
        template: config.peers.last().unwrap().clone(),
    }];
    let mut lab = Lab::new(&config);
    let port = LearnedUse {
        gateway: Some(PeerKind::Vpn),
        ..of_hub()
    };
    lab.server
        .set_uses([port.clone(), of_hub()].into(), lab.now);
    lab.both_up("sdwan");
    lab.both_up("vpn1-10.1.4.4");
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    announce_for_few(&mut lab);
    lab.settle();
    let learned = lab.learned_by(&port).unwrap().keys();
    assert!(learned.eq([&prefix(SITE)]));
    let held = lab.far("vpn1-10.1.4.4", 1).holds.keys();
    assert!(held.map(|nlri| &nlri.prefix).eq([&prefix(SITE)]));
    for net in [NOT_EXPORTED, NOT_ADVERTISED] {
        assert!(lab.members(net).is_some(), "subnets use it");
        let only = Filter {
            prefix: Some(prefix(net)),
            ..Filter::default()
        };
        let rows = lab.server.learned_rows_for(&port, &only, lab.now);
        let why = rows[0].reason.clone().unwrap();
        assert!(why.contains("communities"), "{why}");
    }
}

const NOT_EXPORTED: &str = "10.5.0.0/16";
const NOT_ADVERTISED: &str = "10.6.0.0/16";

/// Routes with communities that keep them from peers.
fn announce_for_few(lab: &mut Lab) {
    for (net, community) in [
        (NOT_EXPORTED, crate::bgp::wire::community::NO_EXPORT),
        (NOT_ADVERTISED, crate::bgp::wire::community::NO_ADVERTISE),
    ] {
        let sent = PathAttributes {
            communities: vec![community],
            ..route(&[65010], SDWAN)
        };
        lab.announce_to_both("sdwan", &[net], &sent);
    }
}

#[test]
fn what_a_gateway_s_port_does_not_take_says_which_setting_keeps_it_out() {
    let mut lab = branches(false);
    let port = |kind| LearnedUse {
        gateway: Some(kind),
        propagate: Propagate::NONE,
        ..of_hub()
    };
    let reason = |lab: &Lab, kind, net: &str| {
        let only = Filter {
            prefix: Some(prefix(net)),
            ..Filter::default()
        };
        let rows = lab.server.learned_rows_for(&port(kind), &only, lab.now);
        (rows[0].state.clone(), rows[0].reason.clone().unwrap())
    };
    for branch_to_branch in [false, true] {
        lab.toggle(branch_to_branch);
        let (state, why) = reason(&lab, PeerKind::Vpn, BRANCH);
        assert_eq!(state, "excluded");
        assert!(
            why.ends_with("routes of VPN gateways, its own included (kind)"),
            "{why}"
        );
        let (state, why) = reason(&lab, PeerKind::ExpressRoute, BRANCH);
        assert_eq!(state == "excluded", !branch_to_branch, "{why}");
        assert_eq!(
            why.ends_with("nothing learned (branch_to_branch)"),
            !branch_to_branch
        );
    }
}

#[test]
fn a_vpn_gateway_with_a_single_live_member_is_flagged() {
    let mut lab = Lab::new(&with_gateways());
    lab.both_up("vpn1-10.1.4.4");
    assert!(
        lab.warnings("vpn1-10.1.4.4", 1)
            .contains("vpn1 has a single live member")
    );
    assert!(
        lab.warnings("vpn1-10.1.4.5", 1)
            .contains("single live member")
    );
    lab.up("vpn1-10.1.4.5", 1);
    assert!(
        !lab.warnings("vpn1-10.1.4.4", 1)
            .contains("single live member")
    );
    lab.both_up("er1-10.1.3.4");
    assert!(
        !lab.warnings("er1-10.1.3.4", 1).contains("single"),
        "one is enough there"
    );
    let rows = lab.server.peer_rows(lab.now);
    let row = rows.iter().find(|row| row.peer.as_str() == "vpn1-10.1.4.5");
    let row = row.unwrap();
    assert_eq!(
        (row.kind.as_str(), row.gateway.as_ref().unwrap().as_str()),
        ("vpn", "vpn1")
    );
}

#[test]
fn an_nva_with_the_asn_of_a_gateway_is_flagged_if_it_is_sent_its_routes() {
    let mut config = with_gateways();
    for peer in config.peers.iter_mut().skip(4) {
        peer.asn = 65030;
    }
    let mut lab = Lab::new(&config);
    assert!(!lab.warnings("vpn", 1).contains("shares ASN"));
    lab.toggle(true);
    let shares = "shares ASN 65030 with er1-10.1.3.4, vpn1-10.1.4.4, vpn1-10.1.4.5";
    assert!(lab.warnings("vpn", 1).contains(shares));
    let shares = "shares ASN 65030 with vpn, er1-10.1.3.4:";
    let warnings = lab.warnings("vpn1-10.1.4.4", 1);
    assert!(
        warnings.contains(shares),
        "not its own gateway's: {warnings}"
    );
}

#[test]
fn members_of_a_gateway_may_announce_different_things_and_one_member_may_not() {
    let mut lab = branches(false);
    lab.announce_to_both("vpn1-10.1.4.5", &["10.99.0.0/16"], &route(&[64901], VPN2));
    lab.settle();
    for member in ["vpn1-10.1.4.4", "vpn1-10.1.4.5"] {
        assert!(!lab.warnings(member, 1).contains("announces other routes"));
    }
    lab.announce(
        "vpn1-10.1.4.5",
        1,
        &["10.98.0.0/16"],
        &route(&[64901], VPN2),
    );
    assert!(
        lab.warnings("vpn1-10.1.4.5", 1)
            .contains("announces other routes")
    );
    assert!(
        !lab.warnings("vpn1-10.1.4.4", 1)
            .contains("announces other routes")
    );
}

#[test]
fn the_live_members_of_a_list_or_a_range_are_told_to_the_networks() {
    let mut config = with_gateways();
    config.gateways = vec![Gateway {
        name: "vpn1".into(),
        kind: PeerKind::Vpn,
        members: GatewayMembers::Range {
            prefix: prefix("10.1.4.0/27"),
            max_members: 16,
        },
        template: member("vpn1", PeerKind::Vpn, VPN),
    }];
    let mut lab = Lab::new(&config);
    lab.settle();
    let told = |lab: &Lab| -> Vec<String> {
        let members = &lab.members[&GatewayName::from("vpn1")];
        members.iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(&lab), NOBODY);
    lab.both_up("vpn1-10.1.4.4");
    lab.settle();
    assert_eq!(told(&lab), [VPN]);
    lab.up("vpn1-10.1.4.5", 1);
    lab.down("vpn1-10.1.4.4", 1);
    lab.settle();
    assert_eq!(told(&lab), [VPN, VPN2], "its other session is up");
    lab.down("vpn1-10.1.4.4", 2);
    lab.settle();
    assert_eq!(told(&lab), [VPN2]);

    // A list for a while, during which the last one leaves.
    lab.up("vpn1-10.1.4.4", 1);
    let range = lab.server.config.clone();
    let mut list = range.clone();
    list.gateways[0].members = GatewayMembers::Addresses(vec![VPN.parse().unwrap()]);
    lab.reload(&list);
    lab.down("vpn1-10.1.4.5", 1);
    lab.settle();
    assert_eq!(told(&lab), [VPN]);
    lab.down("vpn1-10.1.4.4", 1);
    lab.settle();
    assert_eq!(told(&lab), NOBODY);
    lab.reload(&range);
    assert_eq!(told(&lab), NOBODY);
}

const NOBODY: [&str; 0] = [];

#[test]
fn a_peer_that_becomes_a_gateways_member_is_closed_and_starts_anew() {
    let mut lab = Lab::new(&config());
    lab.both_up("vpn");
    lab.announce_to_both("vpn", &[SITE], &route(&[65030], "10.1.30.4"));
    lab.settle();
    assert!(lab.members(SITE).is_some());
    let mut changed = config();
    changed.peers[3].membership = Some(Membership {
        gateway: "vpn1".into(),
        kind: PeerKind::Vpn,
    });
    lab.reload(&changed);
    assert_eq!(lab.members(SITE), None);
    assert_eq!(lab.shutdowns.len(), 2);
    let (_, notification, idle) = &lab.shutdowns[0];
    assert_eq!((notification.code, notification.subcode), (6, 6));
    assert_eq!(*idle, Some(Duration::ZERO), "it may come back at once");
}

#[test]
fn a_blackhole_route_drops_packets_only_if_its_peer_may_say_so() {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    let hole = PathAttributes {
        communities: vec![crate::bgp::wire::community::BLACKHOLE],
        ..route(&[65010], SDWAN)
    };
    lab.announce_to_both("sdwan", &["10.250.0.1/32"], &hole);
    lab.settle();
    assert_eq!(
        lab.members("10.250.0.1/32"),
        Some(vec![SDWAN.parse().unwrap()])
    );
    let mut allowed = config();
    allowed.peers[0].policy.allow_blackhole = true;
    lab.reload(&allowed);
    let learned = &lab.learned[&prefix("10.250.0.1/32")];
    assert!(learned.blackhole && learned.members.is_empty());
    lab.reload(&config());
    assert!(!lab.learned[&prefix("10.250.0.1/32")].blackhole);
}

#[test]
fn private_asns_are_taken_out_of_what_a_peer_is_sent_if_it_is_to_be_so() {
    let mut config = config();
    config.peers[1].policy.remove_private_as = true;
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "fw", "vpn"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010, 3320], SDWAN));
    lab.settle();
    let path = |peer: &str| lab.holds(peer, 1, SITE).unwrap().as_path.clone();
    assert_eq!(path("fw"), AsPath::sequence([65515, 3320]));
    assert_eq!(path("vpn"), AsPath::sequence([65515, 65010, 3320]));
}

impl Lab {
    pub(super) fn reload(&mut self, config: &config::RouteServer) {
        self.server.reconfigure(config, &around(), self.now);
        self.settle();
    }

    fn toggle(&mut self, branch_to_branch: bool) {
        let config = config::RouteServer {
            branch_to_branch,
            ..self.server.config.clone()
        };
        self.reload(&config);
    }
}

/// An NVA, an ExpressRoute and a VPN gateway, each with a route of its own.
fn branches(branch_to_branch: bool) -> Lab {
    let mut lab = Lab::new(&config::RouteServer {
        branch_to_branch,
        ..with_gateways()
    });
    for peer in ["sdwan", "er1-10.1.3.4", "vpn1-10.1.4.4", "vpn1-10.1.4.5"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.announce_to_both("er1-10.1.3.4", &[CLOUD], &route(&[64900], ER));
    lab.announce_to_both("vpn1-10.1.4.4", &[BRANCH], &route(&[64901], VPN));
    lab.settle();
    lab
}

/// The NVAs, and gateways in the route server's own AS as `complete` makes peers of their members.
pub(super) fn with_gateways() -> config::RouteServer {
    let mut config = config();
    config.peers.extend([
        member("er1", PeerKind::ExpressRoute, ER),
        member("vpn1", PeerKind::Vpn, VPN),
        member("vpn1", PeerKind::Vpn, VPN2),
    ]);
    config
}

pub(super) fn member(gateway: &str, kind: PeerKind, address: &str) -> config::Peer {
    let name = format!("{gateway}-{address}");
    config::Peer {
        membership: Some(Membership {
            gateway: gateway.into(),
            kind,
        }),
        ..config::Peer::new(name.into(), address.parse().unwrap(), 65515)
    }
}
