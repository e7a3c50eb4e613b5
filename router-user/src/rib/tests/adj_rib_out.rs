//! What peers are sent: groups, exceptions, packing, dumps.

use super::*;
use crate::{
    bgp::wire::{NextHop, community},
    rib::outbound::Provenance,
};

#[test]
fn a_route_goes_to_all_but_whom_it_came_from_with_the_asn_prepended() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.nva(host));
    let sent = PathAttributes {
        med: Some(7),
        local_pref: Some(200),
        communities: vec![65010 << 16 | 1],
        ..attributes(&[65010, 65011], 4)
    };
    lab.announce(a, "10.250.0.0/16", sent);
    lab.settle();
    let expected = PathAttributes {
        med: Some(7),
        communities: vec![65010 << 16 | 1],
        ..attributes(&[ASN, 65010, 65011], 4)
    };
    assert_eq!(lab.holds(b, "10.250.0.0/16"), Some(&expected));
    assert_eq!(lab.holds(c, "10.250.0.0/16"), Some(&expected));
    assert_eq!(lab.holds(a, "10.250.0.0/16"), None);
    let [b, c] = [b, c].map(|peer| lab.peers[peer].pieces.last().unwrap().as_ptr());
    assert_eq!(b, c, "encoded once, shared by both");
}

#[test]
fn a_route_is_not_sent_to_the_address_that_it_names() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 5));
    lab.settle();
    assert!(lab.holds(c, "10.250.0.0/16").is_some());
    assert!(lab.holds(b, "10.250.0.0/16").is_none());
}

#[test]
fn the_source_of_the_best_path_is_sent_the_second_best() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.announce(b, "10.250.0.0/16", attributes(&[65020, 65021], 5));
    lab.settle();
    let best = attributes(&[ASN, 65010], 4);
    let second = attributes(&[ASN, 65020, 65021], 5);
    assert_eq!(lab.holds(a, "10.250.0.0/16"), Some(&second));
    assert_eq!(lab.holds(b, "10.250.0.0/16"), Some(&best));
    assert_eq!(lab.holds(c, "10.250.0.0/16"), Some(&best));

    lab.withdraw(a, "10.250.0.0/16");
    lab.settle();
    assert_eq!(lab.holds(a, "10.250.0.0/16"), Some(&second));
    assert_eq!(lab.holds(b, "10.250.0.0/16"), None);
    assert_eq!(lab.holds(c, "10.250.0.0/16"), Some(&second));
}

#[test]
fn a_path_that_lost_to_one_that_a_peer_may_not_have_is_sent_to_that_peer() {
    // 4 and 5 are in one AS; 5's lower MED eliminates 4's path, and 6 wins by its router id over
    // 5. For 5, its own path does not count: 4's path stays, and wins over 6 by its router id.
    let mut lab = Lab::new();
    let peers = [(4, 1), (5, 9), (6, 5)].map(|(host, router_id)| {
        let peer = lab.source(SessionInfo {
            router_id: Ipv4Addr::new(192, 0, 2, router_id),
            ..info(host)
        });
        lab.join(peer);
        peer
    });
    for (place, (asn, med)) in [(65010, 10), (65010, 5), (65020, 0)]
        .into_iter()
        .enumerate()
    {
        let attributes = PathAttributes {
            med: Some(med),
            ..attributes(&[asn], place as u8 + 4)
        };
        lab.announce(peers[place], "10.250.0.0/16", attributes);
    }
    lab.settle();
    let next_hop = |peer: usize| lab.holds(peers[peer], "10.250.0.0/16").unwrap().next_hop;
    let from = |host: u8| Some(NextHop::from(address(host)));
    assert_eq!(next_hop(0), from(6));
    assert_eq!(next_hop(1), from(4));
    assert_eq!(next_hop(2), from(5));
}

#[test]
fn no_advertise_and_no_export_keep_a_route_from_peers_but_not_from_subnets() {
    for community in [
        community::NO_ADVERTISE,
        community::NO_EXPORT,
        community::NO_EXPORT_SUBCONFED,
    ] {
        let mut lab = Lab::new();
        let [a, b] = [4, 5].map(|host| lab.nva(host));
        let path = PathAttributes {
            communities: vec![community],
            ..attributes(&[65010], 4)
        };
        lab.announce(a, "10.250.0.0/16", path);
        lab.settle();
        assert_eq!(lab.holds(b, "10.250.0.0/16"), None);
        assert_eq!(lab.rib.take_learned().len(), 1);
    }
}

#[test]
fn what_is_originated_wins_over_what_is_learned() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let path = PathAttributes {
        local_pref: Some(300),
        ..attributes(&[65010], 4)
    };
    lab.announce(a, "10.1.0.0/16", path);
    lab.settle();
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.1.0.0/16"), Arc::default());
    lab.settle();
    let own = PathAttributes {
        next_hop: view().next_hop_v4,
        ..attributes(&[ASN], 0)
    };
    assert_eq!(lab.holds(a, "10.1.0.0/16"), Some(&own));
    assert_eq!(lab.holds(b, "10.1.0.0/16"), Some(&own));
    let seen = lab
        .rib
        .prefixes(Some(prefix("10.1.0.0/16")), None)
        .next()
        .unwrap();
    assert!(seen.originated);
    assert_eq!(
        seen.paths[0].verdict,
        Verdict::Best,
        "subnets elsewhere may use it"
    );

    lab.rib
        .cease_originating(LocalSource::NETWORKS, prefix("10.1.0.0/16"));
    lab.settle();
    assert_eq!(lab.holds(a, "10.1.0.0/16"), None);
    assert_eq!(
        lab.holds(b, "10.1.0.0/16"),
        Some(&attributes(&[ASN, 65010], 4))
    );
}

#[test]
fn an_originated_prefix_without_a_next_hop_is_not_advertised_nor_is_a_learned_one_instead() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let path = PathAttributes {
        next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65010], 4)
    };
    lab.announce(a, "fd00:1::/48", path);
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("fd00:1::/48"), Arc::default());
    lab.settle();
    assert_eq!(lab.holds(a, "fd00:1::/48"), None);
    assert_eq!(lab.holds(b, "fd00:1::/48"), None);

    let with_next_hop = View {
        next_hop_v6: Some("fd00:1:0:ff::4".parse::<IpAddr>().unwrap().into()),
        ..view()
    };
    let views = lab
        .peers
        .iter()
        .map(|peer| (peer.index, with_next_hop.clone()));
    lab.rib.set_views(views.collect());
    lab.settle();
    assert!(
        lab.holds(a, "fd00:1::/48").is_some(),
        "once there is one, it is"
    );
}

#[test]
fn an_originated_prefix_is_sent_again_when_its_next_hop_changes_and_a_learned_one_is_not() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.1.0.0/16"), Arc::default());
    lab.settle();
    let moved = View {
        next_hop_v4: Some(IpAddr::from([10, 1, 255, 9]).into()),
        ..view()
    };
    let before = lab.peers[b].announced;
    lab.rib.set_views(vec![(lab.peers[b].index, moved.clone())]);
    lab.settle();
    assert_eq!(lab.peers[b].announced, before + 1);
    let next_hop = lab.holds(b, "10.1.0.0/16").unwrap().next_hop;
    assert_eq!(next_hop, moved.next_hop_v4);
    let next_hop = lab.holds(a, "10.1.0.0/16").unwrap().next_hop;
    assert_eq!(next_hop, view().next_hop_v4, "the other one keeps its own");
}

#[test]
fn a_batch_is_packed_by_attributes_into_full_updates() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let before = lab.peers[b].updates;
    for number in 0..1000_u32 {
        let net = format!("10.{}.{}.0/24", 2 + number / 256, number % 256);
        lab.announce(a, &net, attributes(&[65010, 65011 + number % 2], 4));
    }
    lab.settle();
    assert_eq!(lab.peers[b].holds.len(), 1000);
    assert_eq!(
        lab.peers[b].updates - before,
        2,
        "one UPDATE for each set of attributes"
    );

    for number in 0..1000_u32 {
        lab.withdraw(a, &format!("10.{}.{}.0/24", 2 + number / 256, number % 256));
    }
    lab.settle();
    assert_eq!(lab.peers[b].holds.len(), 0);
    assert_eq!(
        lab.peers[b].updates - before,
        3,
        "and one for all withdrawals"
    );
}

#[test]
fn what_comes_and_goes_within_a_batch_is_never_sent() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.withdraw(a, "10.250.0.0/16");
    lab.settle();
    assert_eq!((lab.peers[b].announced, lab.peers[b].withdrawn), (0, 0));
    assert_eq!(lab.rib.take_learned(), []);
    assert_eq!(lab.rib.attribute_sets(), 0);
}

#[test]
fn the_same_route_again_is_not_sent_again() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    for _ in 0..3 {
        lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
        lab.settle();
    }
    assert_eq!(lab.peers[b].announced, 1);
    assert_eq!(lab.rib.take_learned().len(), 1);
}

#[test]
fn a_session_that_comes_up_is_sent_the_table_then_end_of_rib() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.settle();
    let b = lab.nva(5);
    assert_eq!(lab.peers[b].holds.len(), 1);
    assert_eq!(lab.peers[b].ended, Family::ALL);
    assert_eq!(
        lab.rib
            .totals(lab.peers[b].index)
            .advertised
            .iter()
            .sum::<usize>(),
        1
    );
}

#[test]
fn changes_during_a_dump_reach_the_session_once_and_in_order() {
    let count = 40_000_u32;
    let net = |number: u32| format!("11.{}.{}.0/24", number / 256, number % 256);
    let mut lab = Lab::new();
    let a = lab.nva(4);
    for number in 0..count {
        lab.announce(a, &net(number), attributes(&[65010], 4));
    }
    let b = lab.source(info(5));
    lab.rib.join(lab.peers[b].index, view());
    lab.rib.step();
    lab.deliver();
    let first_chunk = lab.peers[b].holds.len();
    assert!(
        first_chunk > 0 && first_chunk < count as usize,
        "in chunks: {first_chunk}"
    );
    assert_eq!(lab.peers[b].ended, [], "End-of-RIB only after all of it");

    lab.withdraw(a, &net(0));
    lab.withdraw(a, &net(count - 1));
    lab.announce(a, &net(1), attributes(&[65010, 65011], 4));
    lab.announce(a, &net(count - 2), attributes(&[65010, 65011], 4));
    lab.settle();
    let peer = &lab.peers[b];
    assert_eq!(peer.holds.len(), count as usize - 2);
    assert_eq!(peer.withdrawn, 1, "the last one had not been sent yet");
    assert_eq!(
        peer.announced, count as usize,
        "all but the last, one of them twice"
    );
    assert_eq!(peer.ended, Family::ALL);
    let longer = Some(attributes(&[ASN, 65010, 65011], 4));
    assert_eq!(lab.holds(b, &net(1)), longer.as_ref());
    assert_eq!(lab.holds(b, &net(count - 2)), longer.as_ref());
    assert_eq!(
        lab.rib
            .totals(lab.peers[b].index)
            .advertised
            .iter()
            .sum::<usize>(),
        count as usize - 2
    );
}

#[test]
fn rfc4760_8_a_session_is_sent_nothing_of_a_family_that_it_does_not_exchange() {
    let mut lab = Lab::new();
    let source = lab.nva(4);
    let ipv4_alone = Context {
        families: FamilySet::EMPTY.with(Family::Ipv4Unicast),
        ..context()
    };
    let view = View {
        context: ipv4_alone,
        ..view()
    };
    let ipv6 = PathAttributes {
        next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65004], 4)
    };
    lab.announce(source, "fd00:250::/32", ipv6.clone());
    let peer = lab.source(info(5));
    let index = lab.peers[peer].index;
    lab.rib.join(index, view.clone());
    lab.settle();
    assert_eq!(lab.peers[peer].ended, [Family::Ipv4Unicast]);

    lab.announce(source, "fd00:251::/32", ipv6.clone());
    lab.settle();
    lab.rib.hold(index);
    lab.announce(source, "fd00:252::/32", ipv6);
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let asn = ASN + 1;
    lab.rib.set_views(vec![(index, View { asn, ..view })]);
    lab.rib.resume(index);
    lab.settle();
    lab.withdraw(source, "fd00:250::/32");
    lab.rib.refresh(index, Family::Ipv6Unicast, true);
    lab.settle();
    assert_eq!(lab.peers[peer].ended, [Family::Ipv4Unicast]);
    let held: Vec<&Nlri> = lab.peers[peer].holds.keys().collect();
    assert_eq!(held, [&prefix("10.250.0.0/16").into()]);
    assert_eq!(lab.rib.totals(index).advertised.iter().sum::<usize>(), 1);
    assert_eq!(lab.rib.advertised(index, None).count(), 1);
}

#[test]
fn a_refresh_sends_the_family_again_and_withdraws_nothing() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.announce(a, "10.251.0.0/16", attributes(&[65010], 4));
    lab.settle();
    lab.rib
        .refresh(lab.peers[b].index, Family::Ipv4Unicast, false);
    lab.withdraw(a, "10.251.0.0/16");
    lab.settle();
    assert_eq!((lab.peers[b].announced, lab.peers[b].withdrawn), (3, 1));
    assert_eq!(lab.peers[b].holds.len(), 1);
    assert_eq!(lab.peers[b].ended.len(), 2, "no End-of-RIB for a refresh");
    assert_eq!(
        lab.rib
            .totals(lab.peers[b].index)
            .advertised
            .iter()
            .sum::<usize>(),
        1
    );
}

#[test]
fn a_refresh_asked_for_again_halfway_starts_again_once() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    for number in 0..20_000_u32 {
        let net = format!("11.{}.{}.0/24", number / 256, number % 256);
        lab.announce(a, &net, attributes(&[65010], 4));
    }
    lab.settle();
    lab.rib
        .refresh(lab.peers[b].index, Family::Ipv4Unicast, false);
    lab.rib.step();
    lab.rib
        .refresh(lab.peers[b].index, Family::Ipv4Unicast, false);
    lab.rib
        .refresh(lab.peers[b].index, Family::Ipv4Unicast, false);
    lab.settle();
    assert_eq!(lab.peers[b].announced, 3 * 20_000);
}

#[test]
fn what_is_shown_as_advertised_during_a_dump_is_what_has_been_sent() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    for number in 0..20_000_u32 {
        let net = format!("11.{}.{}.0/24", number / 256, number % 256);
        lab.announce(a, &net, attributes(&[65010], 4));
    }
    let b = lab.source(info(5));
    lab.rib.join(lab.peers[b].index, view());
    lab.rib.step();
    lab.deliver();
    let shown = lab.rib.advertised(lab.peers[b].index, None).count();
    assert_eq!(shown, lab.peers[b].holds.len());
    assert!(shown < 20_000);
}

#[test]
fn an_ipv4_route_with_an_ipv6_next_hop_goes_to_those_who_can_take_it() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    let [plain, extended] = [false, true].map(|extended_next_hop| {
        let peer = lab.source(info(if extended_next_hop { 6 } else { 5 }));
        let context = Context {
            extended_next_hop,
            ..context()
        };
        lab.peers[peer].context = context;
        lab.rib
            .join(lab.peers[peer].index, View { context, ..view() });
        peer
    });
    let path = PathAttributes {
        next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65010], 4)
    };
    lab.announce(a, "10.250.0.0/16", path);
    lab.announce(a, "10.251.0.0/16", attributes(&[65010], 4));
    lab.settle();
    assert_eq!(lab.peers[plain].holds.len(), 1);
    assert_eq!(lab.peers[extended].holds.len(), 2);
}

#[test]
fn a_session_that_ends_takes_its_routes_and_its_messages_with_it() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes(&[65010], 4));
    lab.settle();
    lab.announce(b, "10.251.0.0/16", attributes(&[65020], 5));
    lab.rib.remove_session(lab.peers[a].index);
    let messages = lab.rib.take_messages();
    let to_b = messages
        .iter()
        .all(|(index, _)| *index == lab.peers[b].index);
    assert!(to_b, "nothing is left for the session that ended");
    for (_, piece) in messages {
        lab.peers[b].receive(piece);
    }
    assert_eq!(lab.peers[b].holds.len(), 0);
    assert_eq!(lab.rib.attribute_sets(), 1, "only b's own route is left");
}

#[test]
fn a_session_that_ends_takes_its_routes_of_either_family_with_it() {
    for net in ["10.250.0.0/16", "fd00:250::/32"] {
        let mut lab = Lab::new();
        let [a, b] = [4, 5].map(|host| lab.nva(host));
        let path = PathAttributes {
            next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
            ..attributes(&[65010], 4)
        };
        lab.announce(a, net, path);
        lab.settle();
        lab.rib.remove_session(lab.peers[a].index);
        lab.settle();
        assert_eq!(lab.rib.prefixes(None, None).count(), 0);
        assert_eq!(lab.rib.attribute_sets(), 0);
        assert_eq!(lab.peers[b].holds.len(), 0);
    }
}

#[test]
fn paths_with_their_own_ids_live_side_by_side() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let nlri = |path_id| Nlri {
        path_id,
        ..prefix("10.250.0.0/16").into()
    };
    lab.announce_path(a, nlri(1), attributes(&[65010], 40));
    lab.announce_path(a, nlri(2), attributes(&[65010], 41));
    lab.settle();
    let learned = lab.rib.take_learned().pop().unwrap().route.unwrap();
    assert_eq!(learned.members.len(), 2);
    lab.rib.withdraw(lab.peers[a].index, nlri(1));
    lab.settle();
    assert_eq!(
        lab.holds(b, "10.250.0.0/16"),
        Some(&attributes(&[ASN, 65010], 41))
    );
}

#[test]
fn an_ebgp_peer_gets_neither_what_is_internal_nor_a_link_local_next_hop() {
    let global = "fd00:1:0:a::4".parse().unwrap();
    let internal = PathAttributes {
        next_hop: Some(NextHop::V6 {
            global,
            link_local: Some("fe80::4".parse().unwrap()),
        }),
        local_pref: Some(200),
        originator_id: Some(Ipv4Addr::new(192, 0, 2, 1)),
        cluster_list: vec![Ipv4Addr::new(192, 0, 2, 2)],
        ..attributes(&[65010], 4)
    };
    let sent = view().outbound(Family::Ipv6Unicast, &internal, Provenance::Learned);
    let expected = PathAttributes {
        next_hop: Some(IpAddr::V6(global).into()),
        ..attributes(&[ASN, 65010], 4)
    };
    assert_eq!(sent, expected);
}

#[test]
fn an_ibgp_peer_gets_the_path_unchanged_and_a_local_pref() {
    let internal = View {
        context: Context {
            peering: Peering::Internal,
            ..context()
        },
        ..view()
    };
    let sent = internal.outbound(
        Family::Ipv4Unicast,
        &attributes(&[65010], 4),
        Provenance::Learned,
    );
    assert_eq!(sent.as_path, AsPath::sequence([65010]));
    assert_eq!(sent.local_pref, Some(100));
}
