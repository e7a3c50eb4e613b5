//! Sessions whose view becomes another one are sent what differs in chunks, and whatever happens
//! meanwhile they end up with what a session of that view is sent that has just come up.

use super::*;

const NETS: u8 = 20;
const OTHERS: SourceKind = SourceKind(1);

#[test]
fn another_view_of_a_large_table_is_handed_out_a_chunk_a_step() {
    let mut lab = Lab::new();
    let [source, peer] = [4, 5].map(|host| lab.nva(host));
    let count = 2 * CHUNK + 100;
    for number in 0..count {
        let net = format!("20.{}.{}.0/24", number / 256, number % 256);
        lab.announce(source, &net, attributes(&[65004], 4));
    }
    lab.settle();
    toggle(&mut lab, peer, &none());
    lab.deliver();
    assert_eq!(lab.peers[peer].withdrawn, 0);
    for chunk in 1..=2 {
        lab.rib.step();
        lab.deliver();
        assert_eq!(lab.peers[peer].withdrawn, chunk * CHUNK);
        assert_is_shown_as_sent(&lab, peer);
    }
    lab.settle();
    assert_eq!(lab.peers[peer].withdrawn, count);
    // What comes now goes to those of its new view alone.
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.settle();
    assert_eq!(lab.peers[peer].holds, BTreeMap::new());
}

#[test]
fn sessions_that_move_together_share_the_messages() {
    let mut lab = table_in_chunks_of(8);
    let [one, other] = [5, 6].map(|host| lab.nva(host));
    let views = [one, other].map(|peer| (lab.peers[peer].index, all()));
    lab.rib.set_views(views.to_vec());
    lab.settle();
    let last = |peer: usize| lab.peers[peer].pieces.last().map(|piece| piece.as_ptr());
    assert_eq!(last(one), last(other));
    assert_as_fresh(&mut lab, one, &all());
}

#[test]
fn a_small_table_is_gone_through_at_once() {
    let mut lab = table_in_chunks_of(2 * usize::from(NETS));
    let peer = lab.nva(5);
    toggle(&mut lab, peer, &none());
    assert!(!lab.rib.is_dumping());
    lab.deliver();
    assert_eq!(lab.peers[peer].holds, BTreeMap::new());
}

/// Each of these happens when the move has come to the second chunk.
#[test]
fn changes_that_arrive_midway_are_sent_by_the_view_of_their_part() {
    midway(|lab, _| {
        for net in [1, 12, 19] {
            lab.withdraw(0, &numbered(net));
            lab.announce(1, &numbered(net + 100), attributes(&[65001, 65002], 3));
        }
        for net in [2, 13, 18] {
            lab.announce(0, &numbered(net), attributes(&[65000, 65002], 2));
            lab.withdraw(1, &numbered(net));
        }
    });
}

#[test]
fn a_session_that_is_held_midway_is_told_the_rest_once_it_takes_more() {
    midway(|lab, peer| {
        let index = lab.peers[peer].index;
        lab.rib.hold(index);
        lab.withdraw(0, &numbered(19));
        lab.announce(1, &numbered(1), attributes(&[65001, 65002], 3));
        lab.settle();
        assert_eq!(lab.peers[peer].holds.len(), usize::from(NETS) + 2);
        lab.rib.resume(index);
    });
}

#[test]
fn a_session_that_leaves_midway_and_comes_back_is_sent_the_table() {
    midway(|lab, peer| {
        lab.rib.leave(lab.peers[peer].index);
        lab.peers[peer].holds.clear();
        lab.settle();
        lab.rib.join(lab.peers[peer].index, all());
    });
}

#[test]
fn a_view_that_changes_again_midway_holds_for_the_whole_table_in_the_end() {
    for last in [all(), none(), view()] {
        for steps in 0..4 {
            midway_to(&last, |lab, peer| {
                toggle(lab, peer, &none());
                for _ in 0..steps {
                    lab.rib.step();
                    lab.deliver();
                    assert_is_shown_as_sent(lab, peer);
                }
                lab.withdraw(0, &numbered(9));
                toggle(lab, peer, &last);
            });
        }
    }
}

#[test]
fn a_refresh_waits_until_the_move_is_over() {
    midway(|lab, peer| {
        let before = lab.peers[peer].announced;
        lab.rib
            .refresh(lab.peers[peer].index, Family::Ipv4Unicast, false);
        lab.settle();
        // All but one chunk of the table, and all of it again.
        let all = usize::from(NETS) + 4;
        assert_eq!(lab.peers[peer].announced - before, all - 4 + all);
    });
}

#[test]
fn a_session_whose_first_dump_is_under_way_is_sent_the_rest_by_its_new_view() {
    let mut lab = table_in_chunks_of(CHUNK);
    let count = CHUNK + 100;
    for number in 0..count {
        let net = format!("20.{}.{}.0/24", number / 256, number % 256);
        lab.announce(0, &net, attributes(&[65000], 2));
    }
    let peer = lab.source(info(5));
    lab.rib.join(lab.peers[peer].index, view());
    lab.rib.step();
    lab.deliver();
    assert_eq!(
        lab.peers[peer].holds.len(),
        CHUNK - 4,
        "of one source alone"
    );
    MOVED_AT_ONCE.set(1000);
    toggle(&mut lab, peer, &all());
    lab.rib.step();
    lab.deliver();
    assert_is_shown_as_sent(&lab, peer);
    assert_eq!(lab.peers[peer].ended, []);
    toggle(&mut lab, peer, &none());
    lab.settle();
    assert_eq!(lab.peers[peer].ended, Family::ALL);
    assert_eq!(lab.peers[peer].holds, BTreeMap::new());
    toggle(&mut lab, peer, &all());
    lab.settle();
    assert_as_fresh(&mut lab, peer, &all());
}

#[test]
fn another_rule_for_meds_is_applied_a_chunk_a_step() {
    let mut lab = table_in_chunks_of(8);
    for net in 0..NETS {
        for (peer, med) in [(0, 10), (1, 20)] {
            let path = PathAttributes {
                med: Some(med),
                ..attributes(&[65000 + peer as Asn], 2 + peer as u8)
            };
            // The one with the lower router id has the higher MED where nets are odd.
            let peer = (peer + usize::from(net) % 2) % 2;
            lab.announce(peer, &numbered(net), path);
        }
    }
    let peer = lab.source(info(5));
    lab.rib.join(lab.peers[peer].index, all());
    lab.settle();
    let updated = lab.peers[peer].announced;
    for always_compare_med in [true, false, true] {
        lab.rib.set_options(DecisionOptions {
            always_compare_med,
            ..DecisionOptions::default()
        });
        lab.deliver();
        lab.rib.step();
        lab.deliver();
        // What has not become another one need not become what it is.
        let is_moving = lab.rib.is_moving(lab.peers[peer].index);
        assert_eq!(is_moving, always_compare_med);
        assert_is_shown_as_sent(&lab, peer);
    }
    lab.announce(0, &numbered(19), attributes(&[65000], 2));
    lab.settle();
    assert!(lab.peers[peer].announced > updated);
    assert_as_fresh(&mut lab, peer, &all());
}

#[test]
fn a_session_that_gets_a_limit_midway_is_told_the_rest_at_once() {
    let mut lab = table_in_chunks_of(4);
    let peer = lab.nva(5);
    toggle(&mut lab, peer, &all());
    lab.rib.step();
    assert!(lab.rib.is_moving(lab.peers[peer].index));
    lab.rib.set_limited(lab.peers[peer].index, true);
    assert!(!lab.rib.is_moving(lab.peers[peer].index));
    toggle(&mut lab, peer, &none());
    lab.deliver();
    assert_eq!(lab.peers[peer].holds, BTreeMap::new());
}

#[test]
fn another_class_is_given_to_paths_a_chunk_a_step_and_may_change_again_meanwhile() {
    let mut lab = table_in_chunks_of(4);
    lab.rib.take_learned();
    let prefer = |lab: &mut Lab, kind: SourceKind| {
        lab.rib.reclassify(|session| u8::from(session.kind != kind));
    };
    // All are in class 1: one kind is preferred to the other from now on.
    prefer(&mut lab, SourceKind(0));
    assert_eq!(lab.rib.take_learned().len(), 4);
    assert!(lab.rib.is_dumping());
    lab.rib.step();
    assert_eq!(lab.rib.take_learned().len(), 4);
    prefer(&mut lab, OTHERS);
    lab.announce(0, "10.250.0.0/16", attributes(&[65000], 2));
    lab.announce(1, "10.250.0.0/16", attributes(&[65001], 3));
    lab.settle();
    assert!(!lab.rib.is_dumping());
    for net in (0..NETS)
        .map(|net| prefix(&numbered(net)))
        .chain([prefix("10.250.0.0/16")])
    {
        let view = lab.rib.prefixes(Some(net), None).next().unwrap();
        let verdicts: Vec<&Verdict> = view.paths.iter().map(|path| &path.verdict).collect();
        assert_eq!(
            verdicts,
            [&Verdict::Lost(Step::Class), &Verdict::Best],
            "{net}"
        );
    }
}

/// A session moves from [`view`] to [`all`] in chunks of four prefixes; this happens after the first
/// one.
fn midway(happens: impl Fn(&mut Lab, usize)) {
    midway_to(&all(), happens);
}

/// The same, and `last` is the view of the session in the end.
fn midway_to(last: &View, happens: impl Fn(&mut Lab, usize)) {
    let mut lab = table_in_chunks_of(4);
    let peer = lab.nva(5);
    toggle(&mut lab, peer, &all());
    assert_eq!(lab.peers[peer].holds.len(), usize::from(NETS));
    lab.rib.step();
    lab.deliver();
    assert!(lab.rib.is_moving(lab.peers[peer].index));
    assert_is_shown_as_sent(&lab, peer);
    happens(&mut lab, peer);
    lab.deliver();
    while lab.rib.is_dumping() {
        lab.rib.step();
        lab.deliver();
        assert_is_shown_as_sent(&lab, peer);
    }
    assert_as_fresh(&mut lab, peer, last);
}

/// Two sources of different kinds that announce the same prefixes, the second one better, and some of
/// its own.
fn table_in_chunks_of(slots: usize) -> Lab {
    MOVED_AT_ONCE.set(slots);
    let mut lab = Lab::new();
    let sources = [(2, SourceKind(0)), (3, OTHERS)];
    let [one, other] = sources.map(|(host, kind)| lab.source(SessionInfo { kind, ..info(host) }));
    for net in 0..NETS {
        lab.announce(one, &numbered(net), attributes(&[65000, 65002], 2));
        lab.announce(other, &numbered(net), attributes(&[65001], 3));
        if net < 4 {
            lab.announce(other, &numbered(net + 100), attributes(&[65001], 3));
        }
    }
    lab.settle();
    lab
}

fn numbered(net: u8) -> String {
    format!("10.{net}.0.0/16")
}

/// Routes of both sources, in the place of one alone.
fn all() -> View {
    View {
        sources: view().sources.with(OTHERS),
        ..view()
    }
}

fn none() -> View {
    View {
        sources: SourceKinds::default(),
        ..view()
    }
}

fn toggle(lab: &mut Lab, peer: usize, view: &View) {
    let index = lab.peers[peer].index;
    lab.rib.set_views(vec![(index, view.clone())]);
}

/// What is shown as advertised is what the peer holds.
fn assert_is_shown_as_sent(lab: &Lab, peer: usize) {
    let Peer { index, holds, .. } = &lab.peers[peer];
    let shown = lab.rib.advertised(*index, None);
    let shown = shown.map(|route| (route.prefix.into(), route.attributes));
    assert_eq!(*holds, shown.collect::<BTreeMap<Nlri, PathAttributes>>());
    let totals = lab.rib.totals(*index);
    assert_eq!(totals.advertised.iter().sum::<usize>(), holds.len());
}

/// The peer holds what one of this view does that has just come up.
fn assert_as_fresh(lab: &mut Lab, peer: usize, view: &View) {
    let fresh = lab.source(info(99));
    lab.rib.join(lab.peers[fresh].index, view.clone());
    lab.settle();
    assert_eq!(lab.peers[peer].holds, lab.peers[fresh].holds);
    assert_is_shown_as_sent(lab, peer);
}
