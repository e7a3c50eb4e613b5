//! Paths that are to be announced again: marked, unmarked, swept.

use super::*;

const V4: Family = Family::Ipv4Unicast;
const V6: Family = Family::Ipv6Unicast;

#[test]
fn a_path_still_takes_24_bytes() {
    assert_eq!(size_of::<Path>(), 24);
}

#[test]
fn a_mark_changes_nothing_until_the_sweep_takes_what_was_not_announced_again() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    for net in ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"] {
        lab.announce(a, net, attributes(&[65010], 4));
    }
    lab.announce(b, "10.2.0.0/16", attributes(&[65020, 65021], 5));
    lab.settle();
    lab.rib.take_learned();
    let [from_a, from_b] = [a, b].map(|peer| lab.peers[peer].index);
    let before = (lab.peers[b].announced, lab.peers[b].withdrawn);
    lab.rib.mark_stale(from_a, V4);
    lab.settle();
    assert_eq!(lab.rib.stale(from_a), [3, 0]);
    assert_eq!(lab.rib.stale(from_b), [0, 0]);

    lab.announce(a, "10.3.0.0/16", attributes(&[65010], 4));
    lab.announce(a, "10.4.0.0/16", attributes(&[65010, 65011], 4));
    assert_eq!(lab.rib.stale(from_a), [1, 0], "the same again, and another");
    lab.settle();
    let after = (lab.peers[b].announced, lab.peers[b].withdrawn);
    assert_eq!(after, (before.0 + 1, before.1), "only what changed is sent");
    assert_eq!(lab.rib.take_learned(), []);

    assert_eq!(lab.rib.sweep_stale(from_a, V4), 1);
    assert_eq!(lab.rib.sweep_stale(from_a, V4), 0);
    lab.settle();
    assert_eq!(lab.rib.totals(from_a).received, [2, 0]);
    assert_eq!(lab.peers[b].withdrawn, before.1 + 1);
    assert_eq!(lab.rib.take_learned().len(), 1, "b's path takes over");
    assert_eq!(lab.rib.totals(from_b).received, [1, 0]);
}

#[test]
fn families_are_marked_each_by_itself_and_a_second_mark_begins_anew() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    let index = lab.peers[a].index;
    let v6 = PathAttributes {
        next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65010], 4)
    };
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    lab.announce(a, "2001:db8::/32", v6);
    lab.rib.mark_stale(index, V4);
    assert_eq!(lab.rib.stale(index), [1, 0]);
    assert_eq!(lab.rib.sweep_stale(index, V6), 0);
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    assert_eq!(lab.rib.stale(index), [0, 0]);
    lab.rib.mark_stale(index, V4);
    lab.rib.mark_stale(index, V4);
    assert_eq!(lab.rib.stale(index), [1, 0]);
    lab.withdraw(a, "10.2.0.0/16");
    assert_eq!(lab.rib.stale(index), [0, 0]);
    assert_eq!(lab.rib.totals(index).received, [0, 1]);
}

#[test]
fn paths_of_one_prefix_are_marked_each_by_itself() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    let index = lab.peers[a].index;
    let nlri = |path_id| Nlri {
        path_id,
        ..prefix("10.2.0.0/16").into()
    };
    for path_id in 1..=3 {
        lab.announce_path(a, nlri(path_id), attributes(&[65010], 40));
    }
    lab.rib.mark_stale(index, V4);
    lab.announce_path(a, nlri(2), attributes(&[65010], 40));
    assert_eq!(lab.rib.sweep_stale(index, V4), 2);
    let left = lab.rib.prefixes(None, None).next().unwrap().paths;
    let left: Vec<u32> = left.iter().map(|path| path.path_id).collect();
    assert_eq!(left, [2]);
}

#[test]
fn the_mark_stays_when_a_path_is_judged_again_and_a_refused_one_is_swept_too() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    let index = lab.peers[a].index;
    lab.announce(a, "10.2.0.0/16", attributes(&[65010], 4));
    lab.rib.mark_stale(index, V4);
    let refused = Judgement::Rejected("loop".into());
    lab.rib.reimport(index, |_, received| Imported {
        judgement: refused.clone(),
        attributes: received.clone(),
        weight: None,
    });
    assert_eq!(lab.rib.stale(index), [1, 0]);
    let shown = lab.rib.prefixes(None, None).next().unwrap().paths.remove(0);
    assert_eq!(shown.verdict, Verdict::Rejected("loop".into()));
    assert_eq!(lab.rib.sweep_stale(index, V4), 1);
    assert_eq!(lab.rib.prefixes(None, None).count(), 0);
}
