//! Sessions that are held back: nothing is made for them meanwhile, and they end up where the
//! others are.

use proptest::prelude::*;

use super::*;

#[test]
fn a_held_session_is_sent_nothing_and_then_only_what_it_came_to() {
    let mut lab = Lab::new();
    let [source, slow, other] = [4, 5, 6].map(|host| lab.nva(host));
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.announce(source, "10.251.0.0/16", attributes(&[65004], 4));
    lab.settle();
    lab.rib.hold(lab.peers[slow].index);

    for med in 0..100 {
        let changed = PathAttributes {
            med: Some(med),
            ..attributes(&[65004], 4)
        };
        lab.announce(source, "10.250.0.0/16", changed);
        lab.settle();
    }
    lab.withdraw(source, "10.251.0.0/16");
    lab.announce(source, "10.252.0.0/16", attributes(&[65004], 4));
    lab.withdraw(source, "10.252.0.0/16");
    lab.announce(source, "10.253.0.0/16", attributes(&[65004], 4));
    lab.settle();
    assert!(!lab.rib.is_dumping(), "nothing to do while it is held");
    assert_eq!(
        (lab.peers[slow].announced, lab.peers[slow].withdrawn),
        (2, 0)
    );
    assert_eq!(lab.peers[other].announced, 103);

    lab.rib.resume(lab.peers[slow].index);
    assert!(lab.rib.is_dumping());
    lab.settle();
    assert_eq!(
        (lab.peers[slow].announced, lab.peers[slow].withdrawn),
        (4, 1)
    );
    assert_eq!(lab.peers[slow].holds, lab.peers[other].holds);
    // It is back in its group: one piece for both.
    lab.announce(source, "10.254.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let last = |peer: usize| lab.peers[peer].pieces.last().map(|piece| piece.as_ptr());
    assert_eq!(last(slow), last(other));
}

#[test]
fn a_session_that_is_held_during_its_first_dump_gets_the_rest_and_end_of_rib_later() {
    let mut lab = Lab::new();
    let source = lab.nva(4);
    let count = CHUNK + 100;
    for number in 0..count {
        let net = format!("20.{}.{}.0/24", number / 256, number % 256);
        lab.announce(source, &net, attributes(&[65004], 4));
    }
    lab.settle();
    let slow = lab.source(info(5));
    let index = lab.peers[slow].index;
    lab.rib.join(index, view());
    lab.rib.step();
    lab.rib.hold(index);
    lab.deliver();
    assert_eq!(lab.peers[slow].holds.len(), CHUNK);
    // Another one of the same view is not held up.
    let other = lab.nva(6);
    assert_eq!(lab.peers[other].holds.len(), count);
    lab.withdraw(source, "20.0.0.0/24");
    lab.withdraw(source, "20.64.1.0/24");
    // Its slot was never told to the slow session: it may not be another prefix's yet.
    lab.settle();
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.settle();
    assert_eq!(lab.peers[slow].ended, []);
    assert_eq!(
        lab.rib.totals(index).advertised.iter().sum::<usize>(),
        CHUNK
    );
    assert_eq!(lab.rib.advertised(index, None).count(), CHUNK - 1);

    lab.rib.resume(index);
    lab.settle();
    assert_eq!(lab.peers[slow].ended, Family::ALL);
    assert_eq!(lab.peers[slow].holds, lab.peers[other].holds);
    assert_eq!(
        lab.rib.totals(index).advertised.iter().sum::<usize>(),
        count - 1
    );
}

#[test]
fn what_a_held_session_has_not_been_sent_is_not_shown_as_advertised() {
    let mut lab = Lab::new();
    let [source, slow] = [4, 5].map(|host| lab.nva(host));
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let index = lab.peers[slow].index;
    lab.rib.hold(index);
    lab.announce(source, "10.250.0.0/16", attributes(&[65004, 65005], 4));
    lab.announce(source, "10.251.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let shown = |lab: &Lab| -> Vec<IpNet> {
        let routes = lab.rib.advertised(index, None);
        routes.map(|route| route.prefix).collect()
    };
    assert_eq!(shown(&lab), [prefix("10.250.0.0/16")]);
    lab.rib.resume(index);
    lab.settle();
    assert_eq!(shown(&lab), ["10.250.0.0/16", "10.251.0.0/16"].map(prefix));
}

#[test]
fn a_refresh_waits_until_a_held_session_takes_more() {
    let mut lab = Lab::new();
    let [source, slow] = [4, 5].map(|host| lab.nva(host));
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let index = lab.peers[slow].index;
    lab.rib.hold(index);
    lab.rib.refresh(index, Family::Ipv4Unicast, false);
    lab.settle();
    assert_eq!(lab.peers[slow].announced, 1);
    lab.rib.resume(index);
    lab.settle();
    assert_eq!(lab.peers[slow].announced, 2);
}

#[test]
fn prefixes_that_come_and_go_while_a_session_is_held_take_no_room() {
    let mut lab = Lab::new();
    let [source, slow, other] = [4, 5, 6].map(|host| lab.nva(host));
    lab.announce(source, "10.250.0.0/16", attributes(&[65004], 4));
    lab.announce(source, "10.251.0.0/16", attributes(&[65004], 4));
    lab.settle();
    let index = lab.peers[slow].index;
    lab.rib.hold(index);
    // The slot of one that it was sent stays until it is told.
    lab.withdraw(source, "10.251.0.0/16");
    for round in 0..100 {
        let nets: Vec<String> = (0..1000)
            .map(|number| format!("20.{round}.{}.{}/30", number / 64, number % 64 * 4))
            .collect();
        for net in &nets {
            lab.announce(source, net, attributes(&[65004], 4));
        }
        lab.rib.flush();
        for net in &nets {
            lab.withdraw(source, net);
        }
        lab.rib.flush();
        assert!(lab.rib.tables.v4.len() <= 1002, "round {round}");
    }
    lab.announce(source, "10.252.0.0/16", attributes(&[65004], 4));
    lab.settle();
    assert_eq!(lab.peers[slow].holds.len(), 2);

    lab.rib.resume(index);
    lab.settle();
    assert_eq!(lab.peers[slow].holds, lab.peers[other].holds);
    assert_eq!(
        (lab.peers[slow].announced, lab.peers[slow].withdrawn),
        (3, 1)
    );
}

/// What happens to four peers.
#[derive(Clone, Debug)]
enum Step {
    Announce(usize, u8, u8),
    Withdraw(usize, u8),
    Hold(usize),
    Resume(usize),
    Reconfigure(usize, bool),
    Limit(usize, bool),
    Refresh(usize),
    Work,
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0_usize..4;
    prop_oneof![
        6 => (peer.clone(), 0_u8..12, 0_u8..4).prop_map(|(peer, net, path)| Step::Announce(peer, net, path)),
        4 => (peer.clone(), 0_u8..12).prop_map(|(peer, net)| Step::Withdraw(peer, net)),
        3 => peer.clone().prop_map(Step::Hold),
        2 => peer.clone().prop_map(Step::Resume),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, all)| Step::Reconfigure(peer, all)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, limited)| Step::Limit(peer, limited)),
        1 => peer.clone().prop_map(Step::Refresh),
        3 => Just(Step::Work),
        1 => peer.prop_map(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn whoever_is_held_and_when_all_end_up_with_what_the_rib_gives_them(
        chunk in chunk(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        MOVED_AT_ONCE.set(chunk);
        let mut lab = Lab::new();
        let peers: Vec<usize> = (0..4).map(|peer| joined(&mut lab, peer)).collect();
        for step in steps {
            match step {
                Step::Announce(peer, net, path) => {
                    let path = &[65000 + path as Asn, 65100, 65200][..1 + usize::from(path % 3)];
                    lab.announce(peers[peer], &numbered(net), attributes(path, peer as u8 + 4));
                }
                Step::Withdraw(peer, net) => lab.withdraw(peers[peer], &numbered(net)),
                Step::Hold(peer) => lab.rib.hold(lab.peers[peers[peer]].index),
                Step::Resume(peer) => lab.rib.resume(lab.peers[peers[peer]].index),
                Step::Reconfigure(peer, all) => {
                    let sources = match all {
                        true => view().sources,
                        false => SourceKinds::default(),
                    };
                    let view = View { sources, ..view_of(peer) };
                    lab.rib.set_views(vec![(lab.peers[peers[peer]].index, view)]);
                }
                Step::Limit(peer, limited) => {
                    lab.rib.set_limited(lab.peers[peers[peer]].index, limited);
                }
                Step::Refresh(peer) => {
                    lab.rib.refresh(lab.peers[peers[peer]].index, Family::Ipv4Unicast, false);
                }
                Step::Work => lab.rib.step(),
                Step::Restart(peer) => {
                    lab.deliver();
                    let index = lab.peers[peers[peer]].index;
                    lab.rib.remove_session(index);
                    lab.deliver();
                    joined(&mut lab, peer);
                    let new = lab.peers.pop().expect("just made");
                    lab.peers[peer] = new;
                }
            }
            lab.deliver();
        }
        for peer in &peers {
            lab.rib.resume(lab.peers[*peer].index);
        }
        lab.settle();
        for peer in peers {
            let Peer { index, holds, .. } = &lab.peers[peer];
            let given: BTreeMap<Nlri, PathAttributes> = lab
                .rib
                .advertised(*index, None)
                .map(|route| {
                    let path_id = route.path_id.unwrap_or(0);
                    (Nlri { prefix: route.prefix, path_id }, route.attributes)
                })
                .collect();
            prop_assert_eq!(holds, &given);
            prop_assert_eq!(lab.rib.totals(*index).advertised.iter().sum::<usize>(), given.len());
        }
        prop_assert!(!lab.rib.is_dumping());
    }
}

fn numbered(net: u8) -> String {
    format!("10.{net}.0.0/16")
}

/// The first two peers are sent one path a prefix, the others several.
fn view_of(peer: usize) -> View {
    if peer < 2 {
        return view();
    }
    View {
        context: Context {
            add_path_send: Family::ALL.into_iter().collect(),
            ..context()
        },
        max_paths: peer as u8,
        ..view()
    }
}

/// A session of this peer that comes up; the table is on its way.
fn joined(lab: &mut Lab, peer: usize) -> usize {
    let place = lab.source(info(peer as u8 + 4));
    let view = view_of(peer);
    lab.peers[place].context.add_path_receive = view.context.add_path_send;
    lab.rib.join(lab.peers[place].index, view);
    place
}

#[test]
fn a_session_held_during_its_dump_outlasts_a_table_that_empties_meanwhile() {
    let (mut lab, source, slow) = held_during_its_dump_of_a_table_that_emptied();
    lab.settle();
    assert_eq!(lab.peers[slow].ended.len(), 2);
    lab.announce(source, "10.2.0.0/16", attributes(&[65010], 4));
    lab.settle();
    assert_eq!(lab.peers[slow].holds.len(), 1);
}

#[test]
fn a_session_held_during_its_dump_may_leave_once_the_table_is_empty() {
    let (mut lab, source, slow) = held_during_its_dump_of_a_table_that_emptied();
    lab.rib.step();
    lab.rib.leave(lab.peers[slow].index);
    lab.join(slow);
    lab.announce(source, "10.2.0.0/16", attributes(&[65010], 4));
    lab.settle();
    assert_eq!(lab.peers[slow].holds.len(), 1);
}

/// A source and a session that takes more again, after a table of more than a chunk emptied.
fn held_during_its_dump_of_a_table_that_emptied() -> (Lab, usize, usize) {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let slow = lab.source(info(5));
    let index = lab.peers[source].index;
    let nets: Vec<IpNet> = (0..20_000u32)
        .map(|number| IpNet::new(Ipv4Addr::from((20 << 24) + (number << 8)).into(), 24).unwrap())
        .collect();
    let path = lab.intern(attributes(&[65010], 4));
    for net in &nets {
        let eligible = Judgement::Eligible(Zone(0));
        lab.rib.announce(index, (*net).into(), &path, &eligible);
    }
    lab.rib.release(path);
    // Their slots are free, and lie beyond the first chunk.
    for net in &nets[16_000..] {
        lab.rib.withdraw(index, (*net).into());
    }
    lab.rib.join(lab.peers[slow].index, view());
    lab.rib.hold(lab.peers[slow].index);
    for net in &nets[..16_000] {
        lab.rib.withdraw(index, (*net).into());
    }
    lab.rib.flush();
    lab.rib.resume(lab.peers[slow].index);
    (lab, source, slow)
}
