//! Timers and stops.

use super::*;

#[test]
fn a_cut_network_expires_the_hold_timer_and_the_session_comes_back() {
    let mut world = established();
    world.cut = true;
    world.run(Duration::from_secs(181));
    assert!(world.nodes[A].notifications().contains(&(4, 0)));
    let reports = world.nodes[A].reports();
    assert!(
        reports.iter().any(|text| text.contains("for 180 s")),
        "{reports:?}"
    );
    world.run(HOUR);
    assert_ne!(world.states(), [State::Established; 2]);
    world.cut = false;
    world.run_until_established(3 * MINUTE);
}

#[test]
fn a_peer_that_says_nothing_is_let_go_and_blocks_nobody() {
    let (mut fsm, now) = started(ours());
    let local_address = [10, 0, 0, 1].into();
    fsm.handle(
        Event::Accepted {
            connection: INCOMING,
            local_address,
        },
        now,
    );
    assert_eq!(fsm.state(), State::OpenSent);
    fsm.handle(
        Event::Connected {
            connection: OUTGOING,
            local_address,
        },
        now,
    );
    fsm.handle(open_received(OUTGOING, 65010, [2, 2, 2, 2]), now);
    let keepalive = Received::Keepalive;
    fsm.handle(
        Event::Received {
            connection: OUTGOING,
            message: keepalive,
        },
        now,
    );
    assert_eq!(fsm.state(), State::Established);

    let (mut fsm, now) = started(Settings {
        passive: true,
        ..ours()
    });
    fsm.handle(
        Event::Accepted {
            connection: INCOMING,
            local_address,
        },
        now,
    );
    let actions = fsm.handle(Event::Timer, now + OPEN_TIMEOUT);
    assert!(notifies(&actions, 4, 0), "{actions:?}");
    let said = |action: &Action| matches!(action, Action::Report(t) if t.contains("sent no OPEN"));
    assert!(actions.iter().any(said), "{actions:?}");
}

#[test]
fn a_peer_that_vanishes_after_its_open_is_let_go_even_if_no_keepalives_are_agreed_on() {
    let (mut fsm, now) = started(Settings {
        hold_time: 0,
        ..ours()
    });
    let local_address = [10, 0, 0, 1].into();
    fsm.handle(
        Event::Connected {
            connection: OUTGOING,
            local_address,
        },
        now,
    );
    fsm.handle(open_received(OUTGOING, 65010, [2, 2, 2, 2]), now);
    assert_eq!(fsm.state(), State::OpenConfirm);
    assert_eq!(fsm.next_timeout(), Some(now + OPEN_TIMEOUT));
    let actions = fsm.handle(Event::Timer, now + OPEN_TIMEOUT);
    assert!(notifies(&actions, 4, 0), "{actions:?}");
    let said = |action: &Action| matches!(action, Action::Report(t) if t.contains("no KEEPALIVE"));
    assert!(actions.iter().any(said), "{actions:?}");
}

#[test]
fn a_peer_that_stops_reading_is_let_go() {
    let (mut fsm, start) = in_state(State::Established);
    let mut now = start;
    while fsm.state() == State::Established {
        now = fsm.next_timeout().expect("a timer");
        // It still sends, but our socket takes nothing.
        fsm.handle(received(OUTGOING, Received::Keepalive), now);
        let actions = fsm.handle(Event::Timer, now);
        assert!(now - start <= Duration::from_secs(480));
        if fsm.state() != State::Established {
            assert!(notifies(&actions, 8, 0), "{actions:?}");
        }
    }
    assert_eq!(now - start, Duration::from_secs(480));
}

#[test]
fn the_send_hold_timer_runs_without_keepalives_too_and_only_while_something_waits() {
    let settings = Settings {
        hold_time: 0,
        send_hold_time: Duration::from_secs(10),
        ..ours()
    };
    let (mut fsm, mut now) = in_state_with(State::Established, settings);
    let connection = OUTGOING;
    let drained = true;
    fsm.handle(
        Event::Written {
            connection,
            drained,
        },
        now,
    );
    assert_eq!(fsm.next_timeout(), None, "nothing waits");

    now += HOUR;
    fsm.handle(Event::Queued { connection }, now);
    let drained = false;
    now += Duration::from_secs(9);
    fsm.handle(
        Event::Written {
            connection,
            drained,
        },
        now,
    );
    assert_eq!(fsm.next_timeout(), Some(now + Duration::from_secs(10)));
    fsm.handle(Event::Queued { connection }, now + Duration::from_secs(9));
    let actions = fsm.handle(Event::Timer, now + Duration::from_secs(10));
    assert!(notifies(&actions, 8, 0), "{actions:?}");
}

#[test]
fn the_send_hold_time_is_longer_than_the_hold_time() {
    // The peer offers 180 s.
    for (hold_time, configured, expected) in [
        (180, 480, 480),
        (180, 200, 200),
        (180, 180, 360),
        (180, 5, 360),
        (9, 10, 10),
    ] {
        let settings = Settings {
            hold_time,
            send_hold_time: Duration::from_secs(configured),
            ..ours()
        };
        let (mut fsm, start) = in_state_with(State::Established, settings);
        let mut now = start;
        while fsm.state() == State::Established {
            now = fsm.next_timeout().expect("a timer");
            fsm.handle(received(OUTGOING, Received::Keepalive), now);
            fsm.handle(Event::Timer, now);
        }
        assert_eq!(now - start, Duration::from_secs(expected));
    }
}

#[test]
fn a_speaker_that_does_not_read_does_not_blame_the_peer() {
    let (mut fsm, mut now) = in_state(State::Established);
    for _ in 0..100 {
        now += MINUTE;
        fsm.handle(
            Event::Busy {
                connection: OUTGOING,
            },
            now,
        );
        fsm.handle(
            Event::Written {
                connection: OUTGOING,
                drained: true,
            },
            now,
        );
        fsm.handle(Event::Timer, now);
    }
    assert_eq!(fsm.state(), State::Established);
}

#[test]
fn errors_hold_the_session_idle_for_longer_each_time() {
    let (mut fsm, mut now) = started(ours());
    let mut holds = vec![];
    for number in 0..10 {
        let connection = ConnectionId(100 + number);
        fsm.handle(
            Event::Connected {
                connection,
                local_address: [10, 0, 0, 1].into(),
            },
            now,
        );
        fsm.handle(open_received(connection, 65099, [2, 2, 2, 2]), now);
        assert_eq!(fsm.state(), State::Idle);
        let until = fsm.next_timeout().expect("the end of idle hold");
        holds.push(until - now);
        now = until;
        assert_eq!(fsm.handle(Event::Timer, now), [Action::Connect]);
    }
    assert!(
        holds[..6].is_sorted() && holds.iter().all(|hold| *hold <= MINUTE),
        "{holds:?}"
    );

    fsm.handle(
        Event::Stop {
            notification: Notification::administrative_shutdown(""),
            idle: None,
        },
        now,
    );
    assert_eq!(fsm.handle(Event::Start, now), [Action::Connect]);
}

#[test]
fn a_stop_says_why_and_holds_until_started() {
    let mut world = established();
    world.input(
        A,
        Event::Stop {
            notification: Notification::administrative_shutdown("maintenance"),
            idle: None,
        },
    );
    world.run(HOUR);
    assert_eq!(world.states()[A], State::Idle);
    let reports = world.nodes[B].reports();
    assert!(
        reports
            .iter()
            .any(|text| text.contains(": \"maintenance\"")),
        "{reports:?}"
    );
    world.input(A, Event::Start);
    world.run_until_established(2 * MINUTE);
}

#[test]
fn a_stop_for_a_time_ends_by_itself() {
    let mut world = established();
    let idle = Some(15 * MINUTE);
    world.input(
        A,
        Event::Stop {
            notification: Notification::max_prefixes_reached(Family::Ipv4Unicast, 1000),
            idle,
        },
    );
    world.run(14 * MINUTE);
    assert_eq!(world.states()[A], State::Idle);
    world.run(3 * MINUTE);
    assert_eq!(world.states(), [State::Established; 2]);
}

#[test]
fn rfc9687_the_send_hold_timer_begins_when_the_session_is_established() {
    let settings = Settings {
        send_hold_time: Duration::from_secs(1),
        hold_time: 0,
        ..settings(1, 2, [1, 1, 1, 1])
    };
    let (mut fsm, start) = in_state_with(State::OpenConfirm, settings);
    let now = start + 100 * Duration::from_secs(1);
    fsm.handle(received(OUTGOING, Received::Keepalive), now);
    assert_eq!(fsm.state(), State::Established);
    fsm.handle(Event::Timer, now);
    assert_eq!(fsm.state(), State::Established);
    assert_eq!(fsm.next_timeout(), Some(now + Duration::from_secs(1)));
}
