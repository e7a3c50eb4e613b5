//! What subnets are told of what is learned, and what they are not where nobody forwards by it.

use super::*;
use crate::rib::learned::DECIDED;

#[test]
fn where_nobody_forwards_only_defaults_and_unresolvable_prefixes_are_told() {
    let mut lab = Lab::new();
    let peer = lab.nva(4);
    forward(&mut lab, false);
    lab.announce(peer, "10.250.0.0/16", attributes(&[65004], 4));
    lab.announce(peer, "0.0.0.0/0", attributes(&[65004], 4));
    judge(&mut lab, peer, "10.9.0.0/16", &unresolvable());
    assert_eq!(told(&mut lab), ["+0.0.0.0/0", "?10.9.0.0/16"]);

    judge(&mut lab, peer, "10.9.0.0/16", &Judgement::Eligible(Zone(0)));
    lab.withdraw(peer, "0.0.0.0/0");
    lab.withdraw(peer, "10.250.0.0/16");
    assert_eq!(told(&mut lab), ["+10.9.0.0/16", "-0.0.0.0/0"]);
}

#[test]
fn where_nobody_forwards_prefixes_whose_packets_peers_have_dropped_are_told() {
    let mut lab = Lab::new();
    let peer = lab.nva(4);
    let index = lab.peers[peer].index;
    forward(&mut lab, false);
    let dropped = || PathAttributes {
        communities: vec![community::BLACKHOLE],
        ..attributes(&[65004], 4)
    };
    lab.announce(peer, "10.8.0.0/16", dropped());
    assert_eq!(told(&mut lab), [""; 0], "the peer may not");
    lab.rib.set_may_blackhole(index, true);
    assert_eq!(told(&mut lab), ["?10.8.0.0/16"]);

    lab.announce(peer, "10.9.0.0/16", dropped());
    lab.announce(peer, "10.8.0.0/16", attributes(&[65004], 4));
    assert_eq!(told(&mut lab), ["?10.9.0.0/16", "+10.8.0.0/16"]);
    lab.rib.set_may_blackhole(index, false);
    assert_eq!(told(&mut lab), ["+10.9.0.0/16"]);
}

#[test]
fn everything_that_stands_is_told_once_somebody_forwards_while_more_comes() {
    let mut lab = Lab::new();
    let peer = lab.nva(4);
    forward(&mut lab, false);
    let numbered = |number: usize| format!("20.{}.{}.0/24", number / 256, number % 256);
    let count = 2 * CHUNK + 7;
    for number in 0..count {
        lab.announce(peer, &numbered(number), attributes(&[65004], 4));
    }
    lab.announce(peer, "fd00:250::/32", attributes(&[65004], 4));
    assert_eq!(told(&mut lab), [""; 0]);

    forward(&mut lab, true);
    assert!(lab.rib.is_telling() && lab.rib.is_dumping());
    let mut stands = std::collections::BTreeSet::new();
    let mut steps = 0;
    while lab.rib.is_dumping() {
        // Changes on both sides of where it has come to.
        lab.withdraw(peer, &numbered(steps));
        lab.withdraw(peer, &numbered(count - 1 - steps));
        lab.announce(peer, &numbered(count + steps), attributes(&[65004], 4));
        lab.rib.step();
        steps += 1;
        let changes = lab.rib.take_learned();
        assert!(changes.len() <= 2 * CHUNK, "a chunk at a time");
        for change in changes {
            match change.route {
                Some(_) => stands.insert(change.prefix),
                None => stands.remove(&change.prefix),
            };
        }
    }
    assert!(steps > 1);
    let in_rib: std::collections::BTreeSet<IpNet> = lab
        .rib
        .prefixes(None, None)
        .map(|view| view.prefix)
        .collect();
    assert_eq!(stands, in_rib);
    assert!(!lab.rib.is_telling());
}

/// What was told since last asked: + learned, ? not resolvable, - gone.
fn told(lab: &mut Lab) -> Vec<String> {
    let changes = lab.rib.take_learned().into_iter();
    let signed = changes.map(|change| {
        let sign = match change.route {
            Some(route) if route.members.is_empty() => '?',
            Some(_) => '+',
            None => '-',
        };
        format!("{sign}{}", change.prefix)
    });
    signed.collect()
}

#[test]
fn views_in_which_paths_count_the_same_share_the_work_however_many_paths_there_are() {
    let mut lab = Lab::new();
    let far = LearnedView {
        reach: ZoneSet::from([Zone(1)]),
        ..learned_view()
    };
    lab.rib.set_learned_view(LearnedViewId(1), learned_view());
    lab.rib.set_learned_view(LearnedViewId(2), far);
    let peers: Vec<usize> = (1..=100).map(|host| lab.source(info(host))).collect();
    for (peer, host) in peers.iter().zip(1..=100) {
        let zone = Zone(u16::from(host == 80));
        let path = lab.intern(attributes(&[65000, host.into()], host));
        let nlri = prefix("10.250.0.0/16").into();
        let index = lab.peers[*peer].index;
        lab.rib
            .announce(index, nlri, &path, &Judgement::Eligible(zone));
        lab.rib.release(path);
    }
    lab.rib.take_learned();
    let before = DECIDED.get();
    lab.announce(peers[99], "10.250.0.0/16", attributes(&[65000], 100));
    let changes = lab.rib.take_learned();
    assert_eq!(DECIDED.get() - before, 2);
    let told = changes.iter().map(|change| change.view.0);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [0, 1],
        "the third one is as it was"
    );
    lab.withdraw(peers[79], "10.250.0.0/16");
    let changes = lab.rib.take_learned();
    let [change] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(change.view, LearnedViewId(2));
}

fn forward(lab: &mut Lab, forwards: bool) {
    let view = LearnedView {
        marks_only: !forwards,
        ..learned_view()
    };
    lab.rib.set_learned_view(LearnedViewId(0), view);
}

fn judge(lab: &mut Lab, peer: usize, net: &str, judgement: &Judgement) {
    let interned = lab.intern(attributes(&[65004], 4));
    let index = lab.peers[peer].index;
    lab.rib
        .announce(index, prefix(net).into(), &interned, judgement);
    lab.rib.release(interned);
}

fn unresolvable() -> Judgement {
    Judgement::Unresolvable("its next hop leads nowhere".into())
}
