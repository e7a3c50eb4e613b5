//! Paths that are kept for long after their session was lost (RFC 9494), and who is sent them.

use super::*;
use crate::{
    bgp::wire::{Peering, community},
    rib::outbound::Provenance,
};

const V4: Family = Family::Ipv4Unicast;

#[test]
fn rfc9494_4_2_what_is_marked_carries_llgr_stale_and_what_must_not_be_kept_goes() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let index = lab.peers[a].index;
    let mut not_for_long = attributes(&[65010], 4);
    not_for_long.add_community(community::NO_LLGR);
    for net in ["10.2.0.0/16", "10.3.0.0/16"] {
        lab.announce(a, net, attributes(&[65010], 4));
    }
    lab.announce(a, "10.4.0.0/16", not_for_long);
    lab.rib.leave(index);
    lab.rib.mark_stale(index, V4);
    lab.announce(a, "10.5.0.0/16", attributes(&[65010], 4));
    lab.settle();
    let fingerprint = lab.rib.totals(index).fingerprint;

    lab.rib.make_long_lived(index, V4);
    lab.settle();
    let carries = |net| {
        let held = lab.holds(b, net).map(|held| &held.communities[..]);
        held.map(<[u32]>::to_vec)
    };
    assert_eq!(carries("10.2.0.0/16"), Some(vec![community::LLGR_STALE]));
    assert_eq!(carries("10.3.0.0/16"), Some(vec![community::LLGR_STALE]));
    assert_eq!(carries("10.4.0.0/16"), None);
    assert_eq!(carries("10.5.0.0/16"), Some(vec![]), "it was not marked");
    assert_eq!(lab.rib.stale(index), [2, 0]);
    let totals = lab.rib.totals(index);
    assert_eq!((totals.received, totals.accepted), ([3, 0], 3));
    assert_ne!(totals.fingerprint, fingerprint);
    lab.rib.flush();
    assert_eq!(
        lab.rib.attribute_sets(),
        2,
        "both share one set, the third has its own"
    );

    assert_eq!(lab.rib.sweep_stale(index, V4), 2);
    lab.settle();
    assert_eq!(lab.rib.totals(index).received, [1, 0]);
    lab.rib.remove_session(index);
    lab.settle();
    assert!(lab.peers[b].holds.is_empty());
    assert_eq!(lab.rib.attribute_sets(), 0);
}

#[test]
fn rfc9494_4_4_what_is_kept_for_long_loses_to_any_other_path_and_wins_again_once_announced_again() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let index = lab.peers[a].index;
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    lab.announce(b, "10.2.0.0/16", attributes(&[65020, 65021], 5));
    let best = |lab: &Lab| {
        let view = lab.rib.prefixes(None, None).next().unwrap();
        let best = view.paths.iter().find(|path| path.verdict == Verdict::Best);
        best.unwrap().session.peer
    };
    assert_eq!(best(&lab), address(4));
    lab.rib.mark_stale(index, V4);
    assert_eq!(best(&lab), address(4), "stale alone decides nothing");
    lab.rib.make_long_lived(index, V4);
    assert_eq!(best(&lab), address(5));
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    assert_eq!(best(&lab), address(4));
    assert_eq!(lab.rib.stale(index), [0, 0]);
}

#[test]
fn rfc9494_4_2_what_is_kept_for_long_stays_the_last_choice_whatever_another_import_makes_of_it() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let index = lab.peers[a].index;
    for net in ["10.2.0.0/16", "10.3.0.0/16"] {
        lab.announce(a, net, attributes(&[65010], 4));
    }
    lab.rib.mark_stale(index, V4);
    lab.rib.make_long_lived(index, V4);
    lab.announce(a, "10.3.0.0/16", attributes(&[65010], 4));
    for communities in [vec![], vec![7]] {
        lab.rib.reimport(index, |_, received| {
            let mut changed = PathAttributes::clone(received);
            changed.communities.clone_from(&communities);
            Imported {
                judgement: Judgement::Eligible(Zone(0)),
                attributes: Arc::new(changed),
                weight: None,
            }
        });
        lab.settle();
        let communities_of = |net| &lab.holds(b, net).unwrap().communities;
        let stale = communities_of("10.2.0.0/16");
        assert!(stale.contains(&community::LLGR_STALE), "{stale:?}");
        assert_eq!(stale.len(), communities.len() + 1);
        assert_eq!(communities_of("10.3.0.0/16"), &communities, "it is fresh");
    }
    assert_eq!(lab.rib.stale(index), [1, 0]);
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    lab.settle();
    let held = lab.holds(b, "10.2.0.0/16").expect("a route");
    assert!(held.communities.is_empty());
}

#[test]
fn a_session_that_left_keeps_its_paths_and_may_join_again() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let index = lab.peers[a].index;
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    lab.announce(b, "10.3.0.0/16", attributes(&[65020], 5));
    lab.settle();
    lab.rib.leave(index);
    lab.announce(b, "10.4.0.0/16", attributes(&[65020], 5));
    lab.settle();
    assert!(lab.holds(b, "10.2.0.0/16").is_some());
    assert!(lab.holds(a, "10.4.0.0/16").is_none(), "it is sent nothing");
    assert_eq!(lab.rib.totals(index).advertised.iter().sum::<usize>(), 0);
    lab.peers[a].holds.clear();
    lab.join(a);
    assert_eq!(lab.peers[a].holds.len(), 2);
    assert_eq!(lab.rib.totals(index).advertised.iter().sum::<usize>(), 2);
}

#[test]
fn rfc9494_4_6_an_ibgp_peer_that_does_not_speak_it_is_sent_it_as_last_choice_and_no_further() {
    let internal = |long_lived| View {
        context: Context {
            peering: Peering::Internal,
            ..context()
        },
        long_lived,
        ..view()
    };
    let mut stale = attributes(&[65010], 4);
    stale.local_pref = Some(200);
    stale.add_community(community::LLGR_STALE);
    let sent = internal(false).outbound(V4, &stale, Provenance::Learned);
    assert_eq!(sent.local_pref, Some(0));
    assert!(sent.has_community(community::NO_EXPORT) && sent.has_community(community::LLGR_STALE));
    let sent = internal(true).outbound(V4, &stale, Provenance::Learned);
    assert_eq!(
        (sent.local_pref, sent.communities),
        (Some(200), stale.communities)
    );
}
