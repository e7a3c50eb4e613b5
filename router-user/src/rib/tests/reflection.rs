//! Gateways in the route server's own AS: it is their route reflector (RFC 4456).

use super::*;
use crate::bgp::wire::Peering;

const NET: &str = "10.250.0.0/16";
const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 1, 255, 4);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

#[test]
fn rfc4456_8_a_reflected_route_names_its_originator_and_the_cluster_and_is_else_unchanged() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| gateway(&mut lab, host, Some(CLUSTER)));
    let own = PathAttributes {
        local_pref: Some(200),
        med: Some(7),
        extended_communities: vec![BANDWIDTH],
        ..attributes(&[65010], 4)
    };
    lab.announce(a, NET, own.clone());
    let reflected = PathAttributes {
        originator_id: Some(OTHER),
        cluster_list: vec![OTHER],
        ..attributes(&[], 44)
    };
    lab.announce(a, "10.251.0.0/16", reflected.clone());
    lab.settle();
    let expected = PathAttributes {
        originator_id: Some(Ipv4Addr::new(192, 0, 2, 4)),
        cluster_list: vec![CLUSTER],
        ..own
    };
    assert_eq!(lab.holds(b, NET), Some(&expected));
    let expected = PathAttributes {
        cluster_list: vec![CLUSTER, OTHER],
        local_pref: Some(100),
        ..reflected
    };
    assert_eq!(lab.holds(b, "10.251.0.0/16"), Some(&expected));
    assert!(lab.peers[a].holds.is_empty(), "not back to where it was");
}

#[test]
fn nothing_of_reflection_nor_what_is_not_transitive_reaches_an_ebgp_peer() {
    let mut lab = Lab::new();
    let a = gateway(&mut lab, 4, Some(CLUSTER));
    let nva = lab.nva(5);
    let target = [0x00, 0x02, 0xfd, 0xf2, 0, 0, 0, 100];
    let path = PathAttributes {
        local_pref: Some(200),
        originator_id: Some(OTHER),
        cluster_list: vec![OTHER],
        extended_communities: vec![target, BANDWIDTH],
        ..attributes(&[], 4)
    };
    lab.announce(a, NET, path);
    lab.settle();
    let expected = PathAttributes {
        extended_communities: vec![target],
        ..attributes(&[ASN], 4)
    };
    assert_eq!(lab.holds(nva, NET), Some(&expected));
}

#[test]
fn rfc8326_4_2_a_gateway_of_the_own_as_that_is_drained_is_told_so() {
    let mut lab = Lab::new();
    let nva = lab.source(info(4));
    let drained = gateway(&mut lab, 5, Some(CLUSTER));
    lab.announce(nva, NET, attributes(&[65010], 4));
    lab.settle();
    let view = internal_view(Some(CLUSTER));
    let export = Export {
        graceful_shutdown: true,
        ..view.export
    };
    let index = lab.peers[drained].index;
    lab.rib.set_views(vec![(index, View { export, ..view })]);
    lab.settle();
    let expected = PathAttributes {
        local_pref: Some(0),
        communities: vec![community::GRACEFUL_SHUTDOWN],
        ..attributes(&[65010], 4)
    };
    assert_eq!(lab.holds(drained, NET), Some(&expected));
}

#[test]
fn what_an_ebgp_peer_announced_is_passed_on_without_a_mark_of_reflection() {
    let mut lab = Lab::new();
    let nva = lab.source(info(4));
    let [with, without] =
        [(5, Some(CLUSTER)), (6, None)].map(|(host, cluster)| gateway(&mut lab, host, cluster));
    lab.announce(nva, NET, attributes(&[65010], 4));
    lab.settle();
    let expected = PathAttributes {
        local_pref: Some(100),
        ..attributes(&[65010], 4)
    };
    assert_eq!(lab.holds(with, NET), Some(&expected));
    assert_eq!(lab.holds(without, NET), Some(&expected));
}

#[test]
fn without_a_cluster_what_is_internal_is_not_passed_on_and_the_next_best_is() {
    let mut lab = Lab::new();
    let a = gateway(&mut lab, 4, Some(CLUSTER));
    let nva = lab.source(info(5));
    let without = gateway(&mut lab, 6, None);
    lab.announce(a, NET, attributes(&[], 4));
    lab.announce(nva, NET, attributes(&[65010, 65010], 5));
    lab.settle();
    let hop = |lab: &Lab| lab.holds(without, NET).unwrap().next_hop;
    assert_eq!(hop(&lab), Some(address(5).into()));
    let reflected = internal_view(Some(CLUSTER));
    lab.rib
        .set_views(vec![(lab.peers[without].index, reflected)]);
    lab.settle();
    assert_eq!(hop(&lab), Some(address(4).into()));
}

#[test]
fn the_same_attributes_from_another_gateway_are_another_route_by_ibgp_but_not_by_ebgp() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| gateway(&mut lab, host, Some(CLUSTER)));
    let nva = lab.nva(7);
    for peer in [a, b] {
        lab.announce(peer, NET, attributes(&[], 44));
    }
    lab.settle();
    let originator = |lab: &Lab| lab.holds(c, NET).unwrap().originator_id;
    assert_eq!(originator(&lab), Some(Ipv4Addr::new(192, 0, 2, 4)));
    lab.withdraw(a, NET);
    lab.settle();
    assert_eq!(originator(&lab), Some(Ipv4Addr::new(192, 0, 2, 5)));
    assert_eq!(lab.peers[nva].announced, 1, "told nothing new");
}

/// A bandwidth, for the AS alone.
const BANDWIDTH: [u8; 8] = [0x40, 0x04, 0xfd, 0xf2, 0x4a, 0, 0, 0];

/// A gateway in the route server's AS.
fn gateway(lab: &mut Lab, host: u8, cluster_id: Option<Ipv4Addr>) -> usize {
    let gateway = lab.source(SessionInfo {
        ebgp: false,
        gateway: true,
        ..info(host)
    });
    let view = internal_view(cluster_id);
    lab.peers[gateway].context = view.context;
    lab.rib.join(lab.peers[gateway].index, view);
    lab.settle();
    gateway
}

fn internal_view(cluster_id: Option<Ipv4Addr>) -> View {
    View {
        context: Context {
            peering: Peering::Internal,
            ..context()
        },
        cluster_id,
        ..view()
    }
}
