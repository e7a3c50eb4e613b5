//! ADD-PATH members: several paths a prefix, each under an identifier of its own (RFC 7911).

use std::collections::BTreeSet;

use super::*;
use crate::bgp::wire::NextHop;

const NET: &str = "10.250.0.0/16";

#[test]
fn the_best_paths_are_sent_best_first_whoever_came_first() {
    // By rank: 4, then 6 and 5 (equal; 6 has the lower router id), then 7.
    let sources = [(7, 4, 1), (5, 2, 9), (4, 1, 9), (6, 2, 2)];
    for count in 1..=5 {
        let mut lab = Lab::new();
        for (host, length, router_id) in sources {
            let source = lab.source(SessionInfo {
                router_id: Ipv4Addr::new(192, 0, 2, router_id),
                ..info(host)
            });
            lab.announce(source, NET, attributes(&vec![65010; length], host));
        }
        let receiver = lab.add_path_nva(20, count);
        let expected = [4, 6, 5, 7];
        let expected = &expected[..expected.len().min(count.into())];
        assert_eq!(shown(&lab, receiver), expected);
        let held: BTreeSet<u8> = expected.iter().copied().collect();
        assert_eq!(held_hosts(&lab, receiver), held);
        assert_eq!(lab.peers[receiver].ended, Family::ALL);
    }
}

#[test]
fn what_elimination_leaves_comes_before_what_it_removed() {
    // 4 beats 5 by MED; 6 loses to 4 by its router id, but was never eliminated.
    let mut lab = Lab::new();
    for (host, asn, med, router_id) in [(5, 65010, 5, 2), (6, 65020, 9, 3), (4, 65010, 0, 1)] {
        let source = lab.source(SessionInfo {
            router_id: Ipv4Addr::new(192, 0, 2, router_id),
            ..info(host)
        });
        let attributes = PathAttributes {
            med: Some(med),
            ..attributes(&[asn], host)
        };
        lab.announce(source, NET, attributes);
    }
    let receiver = lab.add_path_nva(20, 3);
    assert_eq!(shown(&lab, receiver), [4, 6, 5]);
}

#[test]
fn every_family_ends_with_end_of_rib_also_where_there_is_nothing_to_send() {
    let mut lab = Lab::new();
    let [plain, several] = [lab.nva(4), lab.add_path_nva(5, 4)];
    for peer in [plain, several] {
        assert_eq!(lab.peers[peer].ended, Family::ALL);
        assert_eq!(lab.peers[peer].announced, 0);
    }
}

#[test]
fn identifiers_stay_when_the_ranking_changes_and_only_what_changed_is_sent() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.source(info(host)));
    lab.announce(a, NET, attributes(&[65010], 4));
    lab.announce(b, NET, attributes(&[65010, 65011], 5));
    lab.announce(c, NET, attributes(&[65010, 65011, 65012], 6));
    let receiver = lab.add_path_nva(20, 2);
    let before = ids(&lab, receiver);
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [4, 5]);
    let traffic = |lab: &Lab| (lab.peers[receiver].announced, lab.peers[receiver].withdrawn);

    // The worst becomes the best: it comes, the second goes, the first stays as it is.
    let count = traffic(&lab);
    lab.announce(c, NET, attributes(&[], 6));
    lab.settle();
    let after = ids(&lab, receiver);
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [4, 6]);
    assert_eq!(after[&4], before[&4]);
    assert_eq!(traffic(&lab), (count.0 + 1, count.1 + 1));

    // A path replaced keeps its identifier.
    lab.announce(c, NET, attributes(&[65099], 6));
    lab.settle();
    assert_eq!(ids(&lab, receiver), after);
    assert_eq!(traffic(&lab), (count.0 + 2, count.1 + 1));

    // What comes back has the identifier that it had.
    lab.withdraw(c, NET);
    lab.settle();
    assert_eq!(ids(&lab, receiver), before);
    assert_eq!(
        lab.rib
            .totals(lab.peers[receiver].index)
            .advertised
            .iter()
            .sum::<usize>(),
        2
    );
}

#[test]
fn what_comes_is_sent_before_what_goes() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    lab.announce(a, NET, attributes(&[65010], 4));
    let receiver = lab.add_path_nva(20, 1);
    lab.announce(b, NET, attributes(&[], 5));
    lab.rib.flush();
    let said: Vec<RouteChange> = lab
        .rib
        .take_messages()
        .iter()
        .flat_map(|(_, piece)| changes(piece, &lab.peers[receiver].context, &mut 0))
        .collect();
    assert!(
        matches!(
            said[..],
            [RouteChange::Announce { .. }, RouteChange::Withdraw { .. }]
        ),
        "never without a path: {said:?}"
    );
}

#[test]
fn nobody_is_sent_its_own_paths_nor_those_that_name_it_and_the_next_ones_take_their_place() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.add_path_nva(host, 2));
    let plain = lab.nva(7);
    lab.announce(a, NET, attributes(&[65010], 4));
    lab.announce(b, NET, attributes(&[65010, 65011], 6));
    lab.announce(c, NET, attributes(&[65010, 65011, 65012], 60));
    lab.announce(plain, NET, attributes(&[65010; 4], 7));
    lab.settle();
    let held = |lab: &Lab, peer| held_hosts(lab, peer).into_iter().collect::<Vec<_>>();
    assert_eq!(held(&lab, a), [6, 60], "all but its own");
    assert_eq!(held(&lab, b), [4, 60]);
    assert_eq!(
        held(&lab, c),
        [4, 7],
        "b's path names it, the last is its own"
    );
    assert_eq!(held(&lab, plain), [4], "one, and without an identifier");
    assert!(lab.peers[plain].holds.keys().all(|nlri| nlri.path_id == 0));
    let shared = [b, c].map(|peer| lab.peers[peer].holds.len());
    assert_eq!(shared, [2, 2]);
}

#[test]
fn a_path_that_lost_to_one_that_a_peer_may_not_have_is_among_those_for_that_peer() {
    // 5's path is not among the two that the others are sent, but its MED eliminates 4's. For 5, its
    // own path does not count: 4's path stays, and is the best by its router id.
    let mut lab = Lab::new();
    let sources = [
        (4, 65010, 10, 1),
        (5, 65010, 5, 9),
        (6, 65020, 0, 5),
        (7, 65030, 0, 6),
    ];
    let peers = sources.map(|(host, .., router_id)| {
        let info = SessionInfo {
            router_id: Ipv4Addr::new(192, 0, 2, router_id),
            ..info(host)
        };
        lab.add_path_peer(info, 2)
    });
    for (peer, (host, asn, med, _)) in peers.into_iter().zip(sources) {
        let attributes = PathAttributes {
            med: Some(med),
            ..attributes(&[asn], host)
        };
        lab.announce(peer, NET, attributes);
    }
    lab.settle();
    let held = |place: usize| held_hosts(&lab, peers[place]);
    assert_eq!(held(0), [6, 7].into());
    assert_eq!(held(1), [4, 6].into());
    assert_eq!(held(2), [5, 7].into());
}

#[test]
fn a_route_announced_to_both_instances_is_one_path() {
    let mut lab = Lab::new();
    let [one, two] = [1, 2].map(|instance| {
        lab.source(SessionInfo {
            id: session_id(instance, 4),
            ..info(4)
        })
    });
    let other = lab.source(info(5));
    for source in [one, two] {
        lab.announce(source, NET, attributes(&[65010], 4));
    }
    lab.announce(other, NET, attributes(&[65010, 65011], 5));
    let receiver = lab.add_path_nva(20, 2);
    assert_eq!(shown(&lab, receiver), [4, 5]);
    lab.withdraw(one, NET);
    lab.settle();
    assert_eq!(shown(&lab, receiver), [4, 5], "the other instance's path");
    assert_eq!(lab.peers[receiver].holds.len(), 2);
}

#[test]
fn paths_of_one_session_are_replaced_and_withdrawn_each_by_its_identifier() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let receiver = lab.add_path_nva(20, 8);
    let nlri = |path_id| Nlri {
        path_id,
        ..prefix(NET).into()
    };
    // Small ones, large ones, and the largest.
    let all = [0, 1, 77, 40_000, u32::MAX];
    for (place, path_id) in all.into_iter().enumerate() {
        lab.announce_path(
            source,
            nlri(path_id),
            attributes(&[65010], 40 + place as u8),
        );
    }
    lab.settle();
    assert_eq!(held_hosts(&lab, receiver), (40..45).collect());
    let before = ids(&lab, receiver);
    lab.announce_path(source, nlri(77), attributes(&[65010], 50));
    lab.rib.withdraw(lab.peers[source].index, nlri(40_000));
    lab.settle();
    let after = ids(&lab, receiver);
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [40, 41, 44, 50]);
    assert_eq!(after[&50], before[&42], "replaced, not another one");
    let peer = &lab.peers[receiver];
    assert_eq!((peer.announced, peer.withdrawn), (6, 1));
}

#[test]
fn a_prefix_that_is_originated_here_has_one_path_for_all() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    lab.announce(source, NET, attributes(&[65010], 4));
    let receiver = lab.add_path_nva(20, 4);
    assert_eq!(held_hosts(&lab, receiver), [4].into());
    lab.rib
        .originate(LocalSource::NETWORKS, prefix(NET), Arc::default());
    lab.settle();
    let held: Vec<_> = lab.peers[receiver].holds.values().collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].next_hop, view().next_hop_v4);
    lab.rib
        .cease_originating(LocalSource::NETWORKS, prefix(NET));
    lab.settle();
    assert_eq!(held_hosts(&lab, receiver), [4].into());
}

#[test]
fn another_number_of_paths_is_sent_as_the_difference() {
    let mut lab = Lab::new();
    for host in 4..8 {
        let source = lab.source(info(host));
        lab.announce(source, NET, attributes(&[65010], host));
    }
    let receiver = lab.add_path_nva(20, 4);
    let index = lab.peers[receiver].index;
    let view = |max_paths| View {
        context: Context {
            add_path_send: Family::ALL.into_iter().collect(),
            ..context()
        },
        max_paths,
        ..view()
    };
    lab.rib.set_views(vec![(index, view(1))]);
    lab.settle();
    assert_eq!(held_hosts(&lab, receiver), [4].into());
    assert_eq!(lab.peers[receiver].withdrawn, 3);
    lab.rib.set_views(vec![(index, view(3))]);
    lab.settle();
    assert_eq!(held_hosts(&lab, receiver), [4, 5, 6].into());
    assert_eq!(
        lab.peers[receiver].announced, 6,
        "the first was not sent again"
    );
}

#[test]
fn who_cannot_take_an_ipv6_next_hop_is_sent_the_next_best_paths() {
    let mut lab = Lab::new();
    for (host, length) in [(4, 2), (5, 3)] {
        let source = lab.source(info(host));
        lab.announce(source, NET, attributes(&vec![65010; length], host));
    }
    let source = lab.source(info(6));
    let best = PathAttributes {
        next_hop: Some("fd00:1:0:a::6".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65010], 6)
    };
    lab.announce(source, NET, best);
    let receiver = lab.add_path_nva(20, 2);
    assert_eq!(shown(&lab, receiver), [4, 5]);
    assert_eq!(lab.peers[receiver].holds.len(), 2);
}

/// The paths that a session was sent, best first, by the last byte of their next hops.
fn shown(lab: &Lab, peer: usize) -> Vec<u8> {
    let sent = lab.rib.advertised(lab.peers[peer].index, Some(prefix(NET)));
    sent.map(|sent| host(&sent.attributes)).collect()
}

fn held_hosts(lab: &Lab, peer: usize) -> BTreeSet<u8> {
    lab.peers[peer].holds.values().map(host).collect()
}

/// The identifiers of what a session holds, by the last byte of the next hop.
fn ids(lab: &Lab, peer: usize) -> BTreeMap<u8, u32> {
    let holds = lab.peers[peer].holds.iter();
    holds
        .map(|(nlri, attributes)| (host(attributes), nlri.path_id))
        .collect()
}

fn host(attributes: &PathAttributes) -> u8 {
    match attributes.next_hop {
        Some(NextHop::V4(address)) => address.octets()[3],
        other => panic!("these tests use IPv4, not {other:?}"),
    }
}
