//! Which path wins: a test for each step that fails if the step is left out, for in each the
//! loser is better in all later steps.

use super::*;
use crate::bgp::wire::{Origin, community};

const NET: &str = "10.250.0.0/16";

/// The steps in which learned paths are compared, in order.
const STEPS: [Step; 8] = [
    Step::LlgrStale,
    Step::GracefulShutdown,
    Step::Class,
    Step::LocalPref,
    Step::AsPathLength,
    Step::Origin,
    Step::Med,
    Step::EbgpOverIbgp,
];

#[test]
fn a_stale_path_loses() {
    assert_decides(Step::LlgrStale);
}

#[test]
fn a_path_that_is_being_shut_down_loses() {
    assert_decides(Step::GracefulShutdown);
}

#[test]
fn the_preferred_class_of_source_wins() {
    assert_decides(Step::Class);
}

#[test]
fn the_highest_local_pref_wins_and_100_is_meant_where_there_is_none() {
    assert_decides(Step::LocalPref);
    let with = |local_pref| PathAttributes {
        local_pref,
        ..attributes(&[65010], 4)
    };
    assert_eq!(
        verdict_of_second([with(Some(101)), with(None)]),
        Verdict::Lost(Step::LocalPref)
    );
    assert_eq!(
        verdict_of_second([with(None), with(Some(99))]),
        Verdict::Lost(Step::LocalPref)
    );
    assert!(matches!(
        verdict_of_second([with(None), with(Some(100))]),
        Verdict::NotNeeded(_)
    ));
}

#[test]
fn the_shortest_as_path_wins() {
    assert_decides(Step::AsPathLength);
}

#[test]
fn the_lowest_origin_wins() {
    assert_decides(Step::Origin);
}

#[test]
fn the_lowest_med_wins_and_0_is_meant_where_there_is_none() {
    assert_decides(Step::Med);
    let with = |med| PathAttributes {
        med,
        ..attributes(&[65010], 4)
    };
    assert_eq!(
        verdict_of_second([with(None), with(Some(1))]),
        Verdict::Lost(Step::Med)
    );
    assert!(matches!(
        verdict_of_second([with(None), with(Some(0))]),
        Verdict::NotNeeded(_)
    ));
}

#[test]
fn med_is_compared_within_a_neighbour_as_only() {
    let mut lab = Lab::new();
    let paths = [(4, 65010, 9), (5, 65020, 1), (6, 65010, 5)];
    for (host, neighbour, med) in paths {
        let source = lab.source(info(host));
        let attributes = PathAttributes {
            med: Some(med),
            ..attributes(&[neighbour], host)
        };
        lab.announce(source, NET, attributes);
    }
    let expected = [Verdict::Lost(Step::Med), Verdict::Best, Verdict::Multipath];
    assert_eq!(lab.verdicts(), expected);
}

#[test]
fn ebgp_beats_ibgp() {
    assert_decides(Step::EbgpOverIbgp);
}

#[test]
fn a_gateway_on_ibgp_does_not_lose_for_it() {
    let mut lab = Lab::new();
    let gateway = SessionInfo {
        ebgp: false,
        gateway: true,
        ..info(4)
    };
    for (host, info) in [(4, gateway), (5, info(5))] {
        let source = lab.source(info);
        lab.announce(source, NET, attributes(&[65010], host));
    }
    assert_eq!(lab.verdicts(), [Verdict::Best, Verdict::Multipath]);
}

#[test]
fn among_equals_the_lowest_router_id_is_advertised_whoever_came_first() {
    for order in [[4, 5, 6], [6, 5, 4], [5, 6, 4]] {
        let mut lab = Lab::new();
        for host in order {
            let router_id = Ipv4Addr::new(192, 0, 2, 100 - host);
            let source = lab.source(SessionInfo {
                router_id,
                ..info(host)
            });
            lab.announce(source, NET, attributes(&[65010], host));
        }
        assert_eq!(lab.best().session.peer, address(6));
    }
}

#[test]
fn the_originator_id_stands_for_the_router_id() {
    let mut lab = Lab::new();
    for (host, originator) in [(4, 9), (5, 1)] {
        let source = lab.source(info(host));
        let attributes = PathAttributes {
            originator_id: Some(Ipv4Addr::new(192, 0, 2, originator)),
            ..attributes(&[65010], host)
        };
        lab.announce(source, NET, attributes);
    }
    assert_eq!(lab.best().session.peer, address(5));
}

#[test]
fn then_the_shorter_cluster_list_then_the_lowest_peer_address_is_advertised() {
    let router_id = Ipv4Addr::new(192, 0, 2, 1);
    let mut lab = Lab::new();
    for (host, clusters) in [(4, 2), (6, 1), (5, 1)] {
        let source = lab.source(SessionInfo {
            router_id,
            ..info(host)
        });
        let attributes = PathAttributes {
            cluster_list: vec![router_id; clusters],
            ..attributes(&[65010], host)
        };
        lab.announce(source, NET, attributes);
    }
    assert_eq!(lab.best().session.peer, address(5));
}

#[test]
fn the_ecmp_set_has_one_member_a_next_hop_and_at_most_max_paths() {
    let mut lab = Lab::new();
    lab.rib.set_options(at_most(2));
    for (host, next_hop) in [(4, 40), (5, 40), (6, 60), (7, 70)] {
        let source = lab.source(info(host));
        lab.announce(source, NET, attributes(&[65010], next_hop));
    }
    let expected = [
        Verdict::Best,
        Verdict::NotNeeded("a better path has the same next hop"),
        Verdict::Multipath,
        Verdict::NotNeeded("the ECMP set is full"),
    ];
    assert_eq!(lab.verdicts(), expected);
    let route = lab.learned();
    assert_eq!(hosts(&route.members), [40, 60]);
    assert_eq!(hosts(&route.backups), [70]);

    lab.rib.set_options(at_most(3));
    let route = lab.learned();
    assert_eq!(hosts(&route.members), [40, 60, 70]);
    assert_eq!(hosts(&route.backups), [0_u8; 0]);
}

#[test]
fn backups_are_the_best_paths_without_the_members_next_hops() {
    let mut lab = Lab::new();
    let paths = [(4, 1, 40), (5, 2, 40), (6, 2, 60), (7, 2, 70), (8, 3, 80)];
    for (host, length, next_hop) in paths {
        let source = lab.source(info(host));
        lab.announce(source, NET, attributes(&vec![65010; length], next_hop));
    }
    let route = lab.learned();
    assert_eq!(hosts(&route.members), [40]);
    assert_eq!(hosts(&route.backups), [60, 70]);
}

#[test]
fn without_a_resolvable_next_hop_the_learned_route_has_no_members() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let path = lab.intern(attributes(&[65010], 4));
    let index = lab.peers[source].index;
    let announce = |lab: &mut Lab, judgement| {
        lab.rib
            .announce(index, prefix(NET).into(), &path, &judgement);
        lab.rib.take_learned().pop().map(|change| change.route)
    };
    let nowhere = announce(&mut lab, Judgement::Unresolvable("outside".into()));
    let nowhere = nowhere.flatten().expect("a route to nowhere");
    assert!(nowhere.members.is_empty() && nowhere.backups.is_empty());

    let gone = announce(&mut lab, Judgement::Rejected("loop".into()));
    assert_eq!(gone, Some(None), "a rejected path is no candidate");

    let there = announce(&mut lab, Judgement::Eligible(Zone(0))).flatten();
    assert_eq!(hosts(&there.expect("a route").members), [4]);
}

/// Two paths that are equal before `step`, the first better in `step`, the second in all later
/// ones: the first wins, and the second knows why it lost.
fn assert_decides(step: Step) {
    let mut lab = Lab::new();
    for (host, is_winner) in [(5, false), (4, true)] {
        let bad = |other: Step| match other.cmp(&step) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !is_winner,
            std::cmp::Ordering::Greater => is_winner,
        };
        let mut attributes = attributes(&[65010], host);
        let mut info = info(host);
        for bad in STEPS.into_iter().filter(|step| bad(*step)) {
            make_worse(&mut attributes, &mut info, bad);
        }
        attributes.communities.sort_unstable();
        let source = lab.source(info);
        lab.announce(source, NET, attributes);
    }
    assert_eq!(lab.verdicts(), [Verdict::Best, Verdict::Lost(step)]);
    let route = lab.learned();
    assert_eq!(hosts(&route.members), [4]);
    assert_eq!(hosts(&route.backups), [5]);
}

fn make_worse(attributes: &mut PathAttributes, info: &mut SessionInfo, step: Step) {
    match step {
        Step::Originated => unreachable!("learned paths are not originated here"),
        Step::LlgrStale => attributes.communities.push(community::LLGR_STALE),
        Step::GracefulShutdown => attributes.communities.push(community::GRACEFUL_SHUTDOWN),
        Step::Class => info.class += 1,
        Step::LocalPref => attributes.local_pref = Some(99),
        Step::AsPathLength => attributes.as_path.prepend(65010, 1),
        Step::Origin => attributes.origin = Origin::Egp,
        Step::Med => attributes.med = Some(1),
        Step::EbgpOverIbgp => info.ebgp = false,
    }
}

fn at_most(max_paths: usize) -> DecisionOptions {
    DecisionOptions {
        max_paths,
        ..DecisionOptions::default()
    }
}

fn verdict_of_second(paths: [PathAttributes; 2]) -> Verdict {
    let mut lab = Lab::new();
    for (host, attributes) in [4, 5].into_iter().zip(paths) {
        let source = lab.source(info(host));
        lab.announce(source, NET, attributes);
    }
    lab.verdicts().remove(1)
}

impl Lab {
    /// The verdicts on the paths to `NET`, by peer address.
    fn verdicts(&self) -> Vec<Verdict> {
        self.sorted().into_iter().map(|path| path.verdict).collect()
    }

    fn best(&self) -> PathView {
        let mut best = self
            .sorted()
            .into_iter()
            .filter(|path| path.verdict == Verdict::Best);
        let first = best.next().expect("a best path");
        assert!(best.next().is_none(), "a single one");
        first
    }

    fn sorted(&self) -> Vec<PathView> {
        let view = self.rib.prefixes(Some(prefix(NET)), None).next();
        let mut paths = view.expect("the prefix is known").paths;
        paths.sort_by_key(|path| path.session.peer);
        paths
    }

    /// The last change of what subnets learn.
    fn learned(&mut self) -> LearnedRoute {
        let change = self.rib.take_learned().pop().expect("a change");
        change.route.expect("a route")
    }
}

fn hosts(next_hops: &[LearnedNextHop]) -> Vec<u8> {
    let hosts = next_hops.iter().map(|next_hop| match next_hop.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => unreachable!("these tests use IPv4"),
    });
    hosts.collect()
}
