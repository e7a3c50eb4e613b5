//! What the route server originates: several sources, views that carry some of them, attributes.

use super::*;
use crate::bgp::wire::{Peering, community};

const NET: &str = "10.99.0.0/16";
const FIRST: LocalSource = LocalSource(3);
const SECOND: LocalSource = LocalSource(200);

#[test]
fn of_several_sources_the_lowest_number_that_a_view_carries_is_sent() {
    let mut lab = Lab::new();
    let both = peer(&mut lab, 4, &[FIRST, SECOND]);
    let second = peer(&mut lab, 5, &[SECOND]);
    let neither = peer(&mut lab, 6, &[]);
    let learned = lab.source(info(7));
    lab.announce(learned, NET, attributes(&[65010], 7));
    lab.settle();
    let learned_path = attributes(&[ASN, 65010], 7);
    // The higher number has the better attributes: they do not decide.
    originate(&mut lab, SECOND, with_med(1));
    originate(&mut lab, FIRST, with_med(2));
    lab.settle();
    let own = |med| PathAttributes {
        next_hop: view().next_hop_v4,
        med: Some(med),
        ..attributes(&[ASN], 0)
    };
    assert_eq!(lab.holds(both, NET), Some(&own(2)));
    assert_eq!(lab.holds(second, NET), Some(&own(1)));
    assert_eq!(lab.holds(neither, NET), Some(&learned_path));
    let seen = lab.rib.prefixes(Some(prefix(NET)), None).next().unwrap();
    assert!(!seen.originated, "a learned path of it may be advertised");

    originate(&mut lab, FIRST, with_med(5));
    lab.settle();
    assert_eq!(lab.holds(both, NET), Some(&own(5)), "other attributes");
    lab.rib.cease_originating(FIRST, prefix(NET));
    lab.settle();
    assert_eq!(lab.holds(both, NET), Some(&own(1)));
    lab.rib.cease_originating(SECOND, prefix(NET));
    lab.settle();
    for peer in [both, second, neither] {
        assert_eq!(lab.holds(peer, NET), Some(&learned_path));
    }
    assert_eq!(lab.rib.attribute_sets(), 1, "what was learned");
}

#[test]
fn with_add_path_an_own_route_goes_alone_only_where_the_view_carries_it() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    lab.announce(a, NET, attributes(&[65010], 4));
    lab.announce(b, NET, attributes(&[65020], 5));
    let receiver = lab.add_path_nva(6, 4);
    originate(&mut lab, FIRST, Arc::default());
    lab.settle();
    assert_eq!(lab.peers[receiver].holds.len(), 2);
    let view = lab.rib.out.view(0).clone();
    let carrying = View {
        locals: LocalSet::default().with(FIRST),
        ..view
    };
    lab.rib
        .set_views(vec![(lab.peers[receiver].index, carrying)]);
    lab.settle();
    assert_eq!(lab.peers[receiver].holds.len(), 1);
}

#[test]
fn an_own_route_keeps_the_next_hop_that_it_was_given_and_does_not_go_there() {
    let mut lab = Lab::new();
    let [named, other] = [4, 5].map(|host| peer(&mut lab, host, &[FIRST]));
    let given = PathAttributes {
        communities: vec![community::NO_EXPORT],
        ..attributes(&[], 4)
    };
    originate(&mut lab, FIRST, Arc::new(given));
    lab.settle();
    let held = lab.holds(other, NET).expect("a route");
    assert_eq!(held.next_hop, Some(address(4).into()));
    assert_eq!(held.as_path, AsPath::sequence([ASN]));
    assert_eq!(held.communities, [community::NO_EXPORT], "for the peer");
    assert_eq!(lab.holds(named, NET), None);
    assert_eq!(lab.rib.totals(lab.peers[other].index).advertised, [1, 0]);
    let transparent = View {
        export: Export {
            transparent: true,
            ..Export::default()
        },
        locals: LocalSet::default().with(FIRST),
        ..view()
    };
    lab.rib
        .set_views(vec![(lab.peers[other].index, transparent)]);
    lab.settle();
    let held = lab.holds(other, NET).expect("a route");
    assert_eq!(held.as_path, AsPath::sequence([ASN]), "it is its own");
}

#[test]
fn an_own_route_goes_to_ibgp_peers_with_an_empty_path_and_a_local_pref() {
    let mut lab = Lab::new();
    let gateway = lab.source(SessionInfo {
        ebgp: false,
        gateway: true,
        ..info(4)
    });
    let internal = Context {
        peering: Peering::Internal,
        ..context()
    };
    lab.peers[gateway].context = internal;
    let view = View {
        context: internal,
        cluster_id: Some(Ipv4Addr::new(10, 1, 255, 4)),
        ..view()
    };
    lab.rib.join(lab.peers[gateway].index, view);
    lab.rib
        .originate(LocalSource::NETWORKS, prefix(NET), Arc::default());
    lab.settle();
    let expected = PathAttributes {
        next_hop: self::view().next_hop_v4,
        local_pref: Some(100),
        ..PathAttributes::default()
    };
    assert_eq!(lab.holds(gateway, NET), Some(&expected));
}

/// A peer whose view carries these sources.
fn peer(lab: &mut Lab, host: u8, locals: &[LocalSource]) -> usize {
    let peer = lab.source(info(host));
    let locals = locals.iter().copied();
    let view = View {
        locals: locals.fold(LocalSet::default(), LocalSet::with),
        ..view()
    };
    lab.rib.join(lab.peers[peer].index, view);
    lab.settle();
    peer
}

fn originate(lab: &mut Lab, source: LocalSource, attributes: Arc<PathAttributes>) {
    lab.rib.originate(source, prefix(NET), attributes);
}

fn with_med(med: u32) -> Arc<PathAttributes> {
    Arc::new(PathAttributes {
        med: Some(med),
        ..PathAttributes::default()
    })
}
