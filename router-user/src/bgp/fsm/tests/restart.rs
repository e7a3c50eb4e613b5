//! Graceful restart: what our OPEN says of it, and how sessions end because of it.

use super::*;
use crate::bgp::{
    fsm::Restarted,
    settings::Restart,
    wire::{FamilySet, GracefulRestart, Negotiated, Offer},
};

const OFFERED: Restart = Restart {
    enabled: true,
    time: 120,
    long_lived_stale_time: 0,
};

fn restarting(settings: Settings) -> Settings {
    Settings {
        restart: OFFERED,
        ..settings
    }
}

fn both_established() -> World {
    let mut world = World::new(restarting(ours()), restarting(theirs()));
    world.start_both();
    world.run_until_established(MINUTE);
    world.run(Duration::from_secs(5));
    forget_opening(&mut world);
    world
}

/// Connections that collided while the session came up are nobody's business here.
fn forget_opening(world: &mut World) {
    for node in &mut world.nodes {
        node.log.clear();
    }
}

/// What an OPEN says of graceful restart.
fn said(open: &Open) -> GracefulRestart {
    Offer::of(open).graceful_restart.expect("always announced")
}

fn forwarding(said: &GracefulRestart) -> FamilySet {
    let families = said.families.iter().filter(|entry| entry.forwarding);
    families.map(|entry| entry.family).collect()
}

/// The OPENs that a machine sends.
fn opens(actions: &[Action]) -> Vec<&Open> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send {
            message: Outgoing::Open(open),
            ..
        } => Some(open),
        _ => None,
    });
    sent.collect()
}

fn connect(fsm: &mut Fsm, connection: u64, now: Instant) -> Vec<Action> {
    let connected = Event::Connected {
        connection: ConnectionId(connection),
        local_address: [10, 0, 0, 1].into(),
    };
    fsm.handle(connected, now)
}

#[test]
fn rfc4724_3_a_fresh_speaker_offers_restart_but_has_kept_no_forwarding() {
    let (mut fsm, now) = started(restarting(ours()));
    let actions = connect(&mut fsm, 1, now);
    let said = said(opens(&actions)[0]);
    assert!(!said.restarted && said.notification);
    assert_eq!(said.restart_time, 120);
    assert_eq!(said.families.len(), 2);
    assert_eq!(forwarding(&said), FamilySet::EMPTY);
    assert_eq!(Offer::of(opens(&actions)[0]).long_lived, []);
}

#[test]
fn rfc4724_4_1_a_restarted_speaker_says_so_until_its_first_session_or_the_end_of_its_time() {
    let now = Instant::now();
    let preserved = FamilySet::EMPTY.with(Family::Ipv4Unicast);
    let settings = Settings {
        restarted: Restarted {
            until: Some(now + MINUTE),
            preserved,
        },
        ..restarting(ours())
    };
    let mut fsm = Fsm::new(settings.clone());
    fsm.handle(Event::Start, now);
    let first = said(opens(&connect(&mut fsm, 1, now))[0]);
    assert!(first.restarted);
    assert_eq!(forwarding(&first), preserved);

    // The session comes up and is lost: since then everything forwards, and nothing restarts.
    let connection = ConnectionId(1);
    fsm.handle(open_received(connection, 65010, [2, 2, 2, 2]), now);
    fsm.handle(received(connection, Received::Keepalive), now);
    assert_eq!(fsm.state(), State::Established);
    let reason = "reset".to_owned();
    fsm.handle(Event::Closed { connection, reason }, now);
    fsm.handle(Event::Timer, fsm.next_timeout().unwrap());
    let second = said(opens(&connect(&mut fsm, 2, now))[0]);
    assert!(!second.restarted);
    assert_eq!(forwarding(&second), Family::ALL.into_iter().collect());

    // A peer that comes too late is not told that it need not wait for us.
    let mut fsm = Fsm::new(settings);
    fsm.handle(Event::Start, now);
    let late = said(opens(&connect(&mut fsm, 1, now + MINUTE))[0]);
    assert!(!late.restarted);
    assert_eq!(forwarding(&late), preserved);
}

#[test]
fn rfc9494_3_1_long_lived_restart_is_offered_with_its_time_for_the_same_families() {
    let settings = Settings {
        restart: Restart {
            long_lived_stale_time: 86_400,
            ..OFFERED
        },
        restarted: Restarted::running(),
        ..ours()
    };
    let offer = Offer::of(&rules::ours(&settings, Instant::now()));
    let times: Vec<_> = offer
        .long_lived
        .iter()
        .map(|entry| (entry.family, entry.forwarding, entry.stale_time))
        .collect();
    assert_eq!(times, Family::ALL.map(|family| (family, true, 86_400)));
}

#[test]
fn rfc4724_3_switched_off_only_end_of_rib_is_promised() {
    let said = said(&rules::ours(&ours(), Instant::now()));
    assert_eq!(said, GracefulRestart::default());
    let terms = Negotiated::new(
        &rules::ours(&ours(), Instant::now()),
        &rules::ours(&restarting(theirs()), Instant::now()),
        [10, 0, 0, 1].into(),
    );
    assert!(!terms.peer_keeps_our_routes() && !terms.restarts_after_notification());
}

#[test]
fn rfc8538_3_1_what_ends_a_session_for_good_is_a_hard_reset() {
    for (subcode, hard) in [
        (cease::MAX_PREFIXES, true),
        (cease::ADMINISTRATIVE_SHUTDOWN, true),
        (cease::PEER_DECONFIGURED, true),
        (cease::ADMINISTRATIVE_RESET, true),
        (cease::CONFIGURATION_CHANGE, false),
        (cease::OUT_OF_RESOURCES, false),
    ] {
        let mut world = both_established();
        let plain = Notification::cease_with_text(subcode, "text");
        let notification = plain.clone();
        let idle = None;
        world.input(A, Event::Stop { notification, idle });
        world.run(Duration::from_millis(10));
        let [Action::Down(DownReason::NotificationReceived(told))] = &downs(&world, B)[..] else {
            panic!("{:?}", world.nodes[B].log);
        };
        assert_eq!(told.within_hard_reset(), hard.then_some(plain.clone()));
        let sent = DownReason::NotificationSent(told.clone());
        assert_eq!(
            downs(&world, A),
            [Action::Down(sent)],
            "both sides judge alike"
        );
    }
}

#[test]
fn rfc8538_3_1_without_the_n_bit_on_both_sides_there_are_no_hard_resets() {
    let mut world = World::new(restarting(ours()), theirs());
    world.start_both();
    world.run_until_established(MINUTE);
    let notification = Notification::administrative_shutdown("");
    let idle = None;
    world.input(A, Event::Stop { notification, idle });
    assert_eq!(world.nodes[A].notifications().last(), Some(&(6, 2)));
}

#[test]
fn rfc8538_4_faults_and_the_hold_timer_are_no_hard_resets() {
    let mut world = both_established();
    world.cut = true;
    world.run(Duration::from_secs(181));
    assert_eq!(world.nodes[A].notifications(), [(4, 0)]);

    let (mut fsm, now) = in_state_with(State::Established, restarting(ours()));
    let fault = Event::Fault {
        connection: OUTGOING,
        notification: Notification::new(3, 1, []),
        reason: "malformed".into(),
    };
    assert!(notifies(&fsm.handle(fault, now), 3, 1));
}

#[test]
fn a_planned_restart_leaves_without_a_word_where_one_would_cost_our_routes() {
    // With the N bit on both sides a Cease that is no hard reset; the peer keeps our routes.
    let mut world = both_established();
    world.input(A, Event::Leave);
    assert_eq!(world.nodes[A].notifications(), [(6, 4)]);
    assert_eq!(world.nodes[A].fsm.state(), State::Idle);
    world.run(Duration::from_millis(10));
    let reason = downs(&world, B);
    assert!(
        matches!(&reason[..], [Action::Down(DownReason::NotificationReceived(n))] if n.subcode == 4)
    );

    // Without it nothing but the end of the connection.
    let mut world = World::new(restarting(ours()), theirs());
    world.start_both();
    world.run_until_established(MINUTE);
    forget_opening(&mut world);
    world.input(A, Event::Leave);
    assert_eq!(world.nodes[A].notifications(), []);
    world.run(Duration::from_millis(10));
    let reason = downs(&world, B);
    assert!(
        matches!(&reason[..], [Action::Down(DownReason::Connection(_))]),
        "{reason:?}"
    );

    // A peer that keeps nothing is told as ever.
    let mut world = established();
    forget_opening(&mut world);
    world.input(A, Event::Leave);
    assert_eq!(world.nodes[A].notifications(), [(6, 2)]);
}

#[test]
fn a_session_that_is_not_up_is_left_with_a_cease() {
    let (mut fsm, now) = in_state_with(State::OpenConfirm, restarting(ours()));
    let actions = fsm.handle(Event::Leave, now);
    assert!(notifies(&actions, 6, 2), "{actions:?}");
    assert_eq!(fsm.state(), State::Idle);
    assert_eq!(fsm.next_timeout(), None);
}

fn downs(world: &World, node: usize) -> Vec<Action> {
    let log = world.nodes[node].log.iter();
    log.filter(|action| matches!(action, Action::Down(_)))
        .cloned()
        .collect()
}
