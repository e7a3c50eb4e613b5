//! Peered networks: where next hops lie, and who learns which routes.

use super::{known_zones::KnownZones, *};

const SITE: &str = "10.250.0.0/16";
const OTHER: &str = "10.251.0.0/16";
const SDWAN: &str = "10.1.10.4";
/// In spoke 1.
const FAR: &str = "10.2.10.4";

#[test]
fn a_next_hop_in_a_peered_network_is_one_for_those_who_reach_it() {
    let mut lab = with_spokes();
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
    lab.announce_to_both("sdwan", &[OTHER], &route(&[65010], SDWAN));
    lab.settle();
    let members = |lab: &Lab, of: &LearnedUse, net: &str| -> Vec<String> {
        let route = &lab.learned_by(of).unwrap()[&prefix(net)];
        let members = route.members.iter();
        members.map(|member| member.address.to_string()).collect()
    };
    assert_eq!(members(&lab, &by(&["hub", "spoke1"]), SITE), [FAR]);
    assert_eq!(members(&lab, &by(&["hub"]), SITE), [""; 0], "next hop none");
    for of in [by(&["hub", "spoke1"]), by(&["hub"])] {
        assert_eq!(members(&lab, &of, OTHER), [SDWAN]);
    }
    let (state, _) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "best");
    let rows = lab
        .server
        .learned_rows_for(&by(&["hub"]), &of_sdwan(SITE), lab.now);
    assert_eq!(rows[0].state, "excluded");
    let rows = lab
        .server
        .learned_rows_for(&by(&["hub", "spoke1"]), &of_sdwan(SITE), lab.now);
    assert_eq!(rows[0].state, "best");
}

#[test]
fn a_route_server_that_moves_takes_all_its_views_back_before_it_tells_of_new_ones() {
    let mut lab = with_spokes();
    let before: BTreeSet<LearnedViewId> = lab.assigned.values().copied().collect();
    let mut around = spokes();
    around.spaces.swap(0, 1);
    let config = config::RouteServer {
        vnet: around.spaces[0].0.clone(),
        ..config()
    };
    lab.server.reconfigure(&config, &around, lab.now);
    let reports = lab.server.settle(lab.now).reports;
    let mut dropped = BTreeSet::new();
    let mut assigned = 0;
    for report in &reports {
        match report {
            Report::View(view, _) | Report::Assign(_, view) => {
                assert_eq!(dropped, before);
                assert!(!dropped.contains(view), "it is a new one");
                assigned += usize::from(matches!(report, Report::Assign(..)));
            }
            Report::Drop(view) => {
                dropped.insert(*view);
            }
            Report::Changes(_) | Report::Members(..) => {}
        }
    }
    assert_eq!(assigned, lab.server.uses.len(), "{reports:?}");
}

#[test]
fn that_a_route_is_not_advertised_is_said_of_what_is_learned_and_not_to_those_who_take_it() {
    let mut lab = with_spokes();
    lab.originate(&[SITE]);
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    let reason = |rows: Vec<crate::api::types::LearnedRow>| {
        let best = rows.into_iter().find(|row| row.state == "best");
        best.unwrap().reason.unwrap()
    };
    let learned = lab.server.learned_rows(&of_sdwan(SITE), lab.now);
    let taken = lab
        .server
        .learned_rows_for(&by(&["hub"]), &of_sdwan(SITE), lab.now);
    let taken = reason(taken);
    assert_eq!(
        reason(learned),
        format!("{taken}; not advertised: the route server originates this prefix")
    );
    assert_eq!(taken, "the only usable path");
}

#[test]
fn uses_share_a_view_until_a_network_that_tells_them_apart_holds_a_next_hop() {
    let mut lab = with_spokes();
    let views = |lab: &Lab| -> BTreeSet<LearnedViewId> { lab.assigned.values().copied().collect() };
    assert_eq!(lab.assigned.len(), 3);
    assert_eq!(views(&lab).len(), 1);
    let label = |lab: &Lab, of: &LearnedUse| lab.plans[&lab.assigned[of]].label.clone();
    assert_eq!(&*label(&lab, &by(&["hub"])), "");
    lab.announce_to_both("sdwan", &[OTHER], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(views(&lab).len(), 1);
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
    lab.settle();
    assert_eq!(views(&lab).len(), 2);
    let shares = |a: &LearnedUse, b: &LearnedUse| lab.assigned[a] == lab.assigned[b];
    assert!(shares(&by(&["hub"]), &by(&["hub", "spoke2"])));
    assert!(!shares(&by(&["hub"]), &by(&["hub", "spoke1"])));
    let label = label(&lab, &by(&["hub", "spoke1"]));
    assert_eq!(
        &*label, "ac15284f18825e1e",
        "equal on every host and in every release"
    );
    assert_eq!(lab.plans.len(), 2, "those that nobody takes are gone");

    withdraw_from_both(&mut lab, SITE);
    lab.settle();
    assert_eq!(views(&lab).len(), 2, "until the configuration changes");
    lab.server.reconfigure(&config(), &spokes(), lab.now);
    lab.settle();
    assert_eq!(views(&lab).len(), 2, "which it did not");
    let config = config::RouteServer {
        max_paths: 2,
        ..config()
    };
    lab.server.reconfigure(&config, &spokes(), lab.now);
    lab.settle();
    assert_eq!(views(&lab).len(), 1);
    assert_eq!(lab.plans.len(), 1);
}

#[test]
fn a_route_that_comes_and_goes_in_a_peered_network_moves_nobody_between_tables() {
    let mut lab = with_spokes();
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
    lab.settle();
    for _ in 0..3 {
        for instance in [1, 2] {
            withdraw(&mut lab, instance, SITE);
            expect_changes_alone(&mut lab);
        }
        lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
        expect_changes_alone(&mut lab);
    }
    let learned = lab.learned_by(&by(&["hub", "spoke1"])).unwrap();
    assert!(learned.contains_key(&prefix(SITE)));
}

#[test]
fn networks_with_peers_members_or_next_hops_tell_users_apart_from_the_start() {
    let far: IpAddr = FAR.parse().unwrap();
    let with_peer = config::RouteServer {
        peers: vec![peer("far", [10, 2, 10, 4], 65050)],
        ..config()
    };
    let with_member = config::RouteServer {
        gateways: vec![config::Gateway {
            name: "vpn1".into(),
            kind: config::PeerKind::Vpn,
            members: config::GatewayMembers::Addresses(vec![far]),
            template: peer("vpn1", [10, 2, 10, 4], 65515),
        }],
        ..config()
    };
    let with_route = config::RouteServer {
        learned: vec![config::CustomLearned {
            prefix: prefix(SITE),
            next_hops: vec![far],
        }],
        ..config()
    };
    for config in [with_peer, with_member, with_route] {
        let mut lab = Lab::new(&config);
        lab.server.reconfigure(&config, &spokes(), lab.now);
        let uses = [by(&["hub"]), by(&["hub", "spoke1"]), by(&["hub", "spoke2"])];
        lab.server.set_uses(uses.into(), lab.now);
        lab.settle();
        let views: BTreeSet<LearnedViewId> = lab.assigned.values().copied().collect();
        assert_eq!(views.len(), 2, "spoke 1 is another one");
    }
}

#[test]
fn a_peering_that_comes_or_goes_changes_whose_next_hops_are_resolved_without_a_reset() {
    let mut lab = with_spokes();
    lab.both_up("fw");
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_some());
    let mut without = spokes();
    let spoke1 = without.spaces.remove(1);
    without.beyond.push(spoke1);
    lab.server.reconfigure(&config(), &without, lab.now);
    lab.settle();
    assert_eq!(lab.holds("fw", 1, SITE), None);
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "rejected");
    let expected = "next hop lies in network \"spoke1\", which is not peered with \"hub\"";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(lab.members(SITE), Some(vec![]), "next hop none");
    lab.server.reconfigure(&config(), &spokes(), lab.now);
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_some());
    assert_eq!(lab.far("fw", 1).ended.len(), 2, "the session is the same");
}

#[test]
fn propagation_by_source_keeps_routes_out_of_a_view() {
    let mut lab = Lab::new(&gateways::with_gateways());
    let sources = [
        ("sdwan", 65010, SDWAN, SITE),
        ("er1-10.1.3.4", 64900, "10.1.3.4", "10.252.0.0/16"),
        ("vpn1-10.1.4.4", 64901, "10.1.4.4", "10.253.0.0/16"),
    ];
    let uses = (0..8).map(|subset| {
        let [nva, express_route, vpn] = [1, 2, 4].map(|source| subset & source != 0);
        let propagate = Propagate {
            nva,
            express_route,
            vpn,
        };
        let of = LearnedUse {
            propagate,
            ..of_hub()
        };
        (of, [nva, express_route, vpn])
    });
    let uses: Vec<(LearnedUse, [bool; 3])> = uses.collect();
    let all = uses.iter().map(|(of, _)| of.clone());
    lab.server.set_uses(all.collect(), lab.now);
    for (peer, asn, next_hop, net) in sources {
        lab.both_up(peer);
        lab.announce_to_both(peer, &[net], &route(&[asn], next_hop));
    }
    lab.settle();
    for (of, takes) in &uses {
        for ((peer, _, _, net), takes) in sources.into_iter().zip(takes) {
            let learned = lab.learned_by(of).unwrap().contains_key(&prefix(net));
            assert_eq!(learned, *takes, "{peer} {of:?}");
            let its = Filter {
                peer: Some(peer.into()),
                prefix: Some(prefix(net)),
                ..Filter::default()
            };
            let row = &lab.server.learned_rows_for(of, &its, lab.now)[0];
            assert_eq!(row.state == "excluded", !takes, "{peer} {of:?}");
            assert_eq!(row.state == "best", *takes, "{peer} {of:?}");
        }
    }
    let (none, _) = &uses[0];
    let rows = lab.server.learned_rows_for(none, &of_sdwan(SITE), lab.now);
    assert!(rows[0].reason.is_some());
}

#[test]
fn a_use_by_no_port_is_told_of_default_routes_and_what_leads_nowhere() {
    let quiet = LearnedUse {
        forwarding: false,
        ..of_hub()
    };
    let mut lab = Lab::new(&config());
    lab.server.set_uses([quiet.clone()].into(), lab.now);
    lab.both_up("sdwan");
    lab.announce_to_both("sdwan", &[SITE, "0.0.0.0/0"], &route(&[65010], SDWAN));
    lab.announce_to_both("sdwan", &[OTHER], &route(&[65010], "192.0.2.1"));
    lab.settle();
    let told = |lab: &Lab, of: &LearnedUse| -> Vec<String> {
        let learned = lab.learned_by(of).unwrap().keys();
        learned.map(ToString::to_string).collect()
    };
    assert_eq!(told(&lab, &quiet), ["0.0.0.0/0", OTHER]);
    lab.server.set_uses([of_hub()].into(), lab.now);
    lab.settle();
    assert_eq!(told(&lab, &of_hub()), ["0.0.0.0/0", SITE, OTHER]);
}

/// A hub with two spokes, whose subnets are users as well.
fn with_spokes() -> Lab {
    let mut lab = Lab::new(&config());
    lab.server.reconfigure(&config(), &spokes(), lab.now);
    let uses = [by(&["hub"]), by(&["hub", "spoke1"]), by(&["hub", "spoke2"])];
    lab.server.set_uses(uses.into(), lab.now);
    lab.both_up("sdwan");
    lab.settle();
    lab
}

#[test]
fn a_table_that_ports_leave_stays_whole_until_their_new_one_is_and_then_tells_marks_only() {
    let mut lab = with_spokes();
    let quiet = LearnedUse {
        forwarding: false,
        ..by(&["hub"])
    };
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FAR));
    lab.announce_to_both("sdwan", &[OTHER], &route(&[65010], SDWAN));
    lab.settle();
    lab.server
        .set_uses([by(&["hub"]), quiet.clone()].into(), lab.now);
    lab.settle();
    let first = lab.assigned[&quiet];
    let uses = [by(&["hub", "spoke1"]), quiet.clone()];
    lab.server.set_uses(uses.clone().into(), lab.now);
    for report in lab.server.take_reports(lab.now) {
        let less =
            matches!(&report, Report::View(view, plan) if *view == first && !plan.forwarding);
        assert!(!less, "ports take it still");
        lab.note(report);
    }
    assert!(!lab.assigned.contains_key(&uses[0]), "nothing was told yet");
    lab.settle();
    assert_ne!(lab.assigned[&uses[0]], first);
    assert!(!lab.plans[&first].forwarding);
}

#[test]
fn a_network_elsewhere_is_looked_at_by_sessions_with_paths_that_do_not_count_alone() {
    let mut lab = with_spokes();
    lab.both_up("fw");
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.announce_to_both("fw", &[OTHER], &route(&[65020], "10.4.0.4"));
    lab.settle();
    let mut around = spokes();
    around
        .beyond
        .push(("elsewhere".into(), vec![prefix("10.4.0.0/16")]));
    let before = crate::rib::WALKED.get();
    lab.server.reconfigure(&config(), &around, lab.now);
    assert!(
        crate::rib::WALKED.get() - before <= 4,
        "two sessions of one peer"
    );
    let (_, reason) = lab.state("fw", 1, OTHER);
    assert!(reason.contains("network \"elsewhere\""), "{reason}");
    lab.server.reconfigure(&config(), &spokes(), lab.now);
    for instance in [1, 2] {
        lab.down("fw", instance);
    }
    lab.settle();
    let before = crate::rib::WALKED.get();
    lab.server.reconfigure(&config(), &around, lab.now);
    assert_eq!(crate::rib::WALKED.get(), before, "all paths count");
}

#[test]
fn announced_next_hops_tell_users_apart_by_so_many_networks_and_no_more() {
    let mut lab = with_many_spokes();
    for spoke in 0..499 {
        announce_next_hop_in(&mut lab, spoke);
    }
    lab.settle();
    let most = KnownZones::MOST_LEARNED;
    assert_eq!(most, 64, "as the reason says");
    // The hub's, those of these spokes, and the one of all others.
    assert_eq!(lab.plans.len(), 1 + most + 1);
    let members = |lab: &Lab, spoke| {
        let learned = lab.learned_by(&hub_of_many()).unwrap();
        let route = learned.get(&prefix(&site(spoke)));
        route.map(|route| route.members.len())
    };
    assert_eq!(members(&lab, 63), Some(1));
    assert_eq!(members(&lab, 64), Some(0));
    let (state, reason) = lab.state("sdwan", 1, &site(64));
    assert_eq!(state, "rejected");
    assert!(reason.contains("beyond the 64"), "{reason}");
    // One that the configuration names counts beyond that, a free place is given to another one.
    withdraw_from_both(&mut lab, &site(0));
    let config = config::RouteServer {
        learned: vec![config::CustomLearned {
            prefix: prefix(SITE),
            next_hops: vec![in_spoke(498)],
        }],
        ..config()
    };
    lab.server.reconfigure(&config, &many_spokes(), lab.now);
    lab.settle();
    let count: Vec<u16> = (0..499)
        .filter(|spoke| members(&lab, *spoke) == Some(1))
        .collect();
    assert_eq!(count, (1..65).chain([498]).collect::<Vec<_>>());
    assert_eq!(lab.plans.len(), 1 + most + 2);
}

#[test]
fn next_hops_in_one_network_after_the_other_leave_no_views_behind_that_nobody_took() {
    let mut lab = with_many_spokes();
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    for spoke in 0..200 {
        announce_next_hop_in(&mut lab, spoke);
        lab.deliver();
        let most = KnownZones::MOST_LEARNED;
        assert!(lab.plans.len() <= most + 3, "{}", lab.plans.len());
    }
}

#[test]
fn a_reload_looks_at_all_attributes_once_however_many_sessions_it_concerns() {
    let mut lab = with_spokes();
    for (peer, asn, net) in [("fw", 65020, OTHER), ("vpn", 65030, "10.252.0.0/16")] {
        lab.both_up(peer);
        lab.announce_to_both(peer, &[net], &route(&[asn], SDWAN));
    }
    lab.both_up("fw2");
    lab.settle();
    let before = crate::rib::SWEPT.get();
    let config = config::RouteServer {
        cluster_id: [10, 9, 9, 9].into(),
        ..config()
    };
    lab.server.reconfigure(&config, &spokes(), lab.now);
    assert_eq!(crate::rib::SWEPT.get() - before, 1);
    let before = crate::rib::SWEPT.get();
    lab.down("fw2", 1);
    assert_eq!(crate::rib::SWEPT.get(), before, "it had no path");
}

/// A hub with 499 spokes, whose subnets all are users.
fn with_many_spokes() -> Lab {
    let mut lab = Lab::new(&config());
    lab.server.reconfigure(&config(), &many_spokes(), lab.now);
    let of_spokes = (0..499).map(|spoke| by(&["hub", &format!("spoke{spoke}")]));
    let uses = of_spokes.chain([hub_of_many()]);
    lab.server.set_uses(uses.collect(), lab.now);
    lab.both_up("sdwan");
    lab.settle();
    lab
}

/// The use of a hub that reaches all of these spokes.
fn hub_of_many() -> LearnedUse {
    let spokes = many_spokes().spaces.into_iter();
    LearnedUse {
        reach: spokes.map(|(name, _)| name).collect(),
        ..of_hub()
    }
}

fn announce_next_hop_in(lab: &mut Lab, spoke: u16) {
    let path = route(&[65010], &in_spoke(spoke).to_string());
    lab.announce_to_both("sdwan", &[&site(spoke)], &path);
}

fn site(spoke: u16) -> String {
    format!("20.{}.{}.0/24", spoke / 256, spoke % 256)
}

fn in_spoke(spoke: u16) -> IpAddr {
    let [high, low] = spoke.to_be_bytes();
    [11, high, low, 4].into()
}

fn many_spokes() -> Surroundings {
    let mut around = around();
    around.spaces.extend((0..499).map(|spoke| {
        let space = IpNet::new(in_spoke(spoke), 24).unwrap();
        (format!("spoke{spoke}").into(), vec![space.trunc()])
    }));
    around
}

fn withdraw(lab: &mut Lab, instance: u8, net: &str) {
    let nlri = vec![prefix(net).into()];
    let malformed = None;
    lab.send(
        "sdwan",
        instance,
        vec![RouteChange::Withdraw { nlri, malformed }],
    );
}

fn withdraw_from_both(lab: &mut Lab, net: &str) {
    withdraw(lab, 1, net);
    withdraw(lab, 2, net);
}

/// The networks are told of routes, and of nothing else.
fn expect_changes_alone(lab: &mut Lab) {
    for report in lab.server.take_reports(lab.now) {
        assert!(matches!(report, Report::Changes(_)), "{report:?}");
        lab.note(report);
    }
    lab.settle();
}

fn spokes() -> Surroundings {
    let mut around = around();
    around.spaces.extend([
        ("spoke1".into(), vec![prefix("10.2.0.0/16")]),
        ("spoke2".into(), vec![prefix("10.3.0.0/16")]),
    ]);
    around
}

fn by(reach: &[&str]) -> LearnedUse {
    LearnedUse {
        reach: reach.iter().map(|name| (*name).into()).collect(),
        ..of_hub()
    }
}

fn of_sdwan(net: &str) -> Filter {
    Filter {
        peer: Some("sdwan".into()),
        instance: None,
        prefix: Some(prefix(net)),
        longer: false,
    }
}
