//! Connecting, and connections that collide.

use super::*;

#[test]
fn two_speakers_come_up_and_stay_up_for_a_day() {
    let mut world = World::new(ours(), theirs());
    world.start_both();
    world.run_until_established(MINUTE);
    world.run(24 * HOUR);
    assert_eq!(world.states(), [State::Established; 2]);
    assert_eq!(world.nodes[A].downs(), Vec::<&DownReason>::new());
    let keepalives = world.nodes[A].count(is_keepalive);
    assert!(
        (1440..=1930).contains(&keepalives),
        "{keepalives} keepalives in a day"
    );
}

#[test]
fn simultaneous_opens_leave_exactly_one_connection() {
    for latency in [0, 1, 5, 50, 700] {
        let mut world = World::new(ours(), theirs());
        world.latency = Duration::from_millis(latency);
        world.start_both();
        world.run_until_established(MINUTE);
        world.run(HOUR);
        assert_eq!(
            world.states(),
            [State::Established; 2],
            "latency {latency} ms"
        );
        assert!(world.nodes[A].downs().is_empty(), "latency {latency} ms");
    }
}

#[test]
fn of_two_connections_the_one_opened_by_the_higher_identifier_is_kept() {
    for (id_a, id_b) in [([1, 1, 1, 1], [2, 2, 2, 2]), ([9, 9, 9, 9], [2, 2, 2, 2])] {
        let (mut fsm, _) = with_open_collision(settings(1, 2, id_a), id_b);
        let now = Instant::now();
        let actions = fsm.handle(open_received(OUTGOING, 2, id_b), now);
        let loser = if id_a > id_b { INCOMING } else { OUTGOING };
        let notification = Outgoing::Notification(Notification::connection_collision());
        assert!(actions.contains(&Action::Send {
            connection: loser,
            message: notification
        }));
        assert!(actions.contains(&Action::Close { connection: loser }));
        assert_eq!(fsm.state(), State::OpenConfirm);
    }
}

#[test]
fn equal_identifiers_are_decided_by_the_higher_asn() {
    let (mut fsm, now) = with_open_collision(settings(5, 2, [1, 1, 1, 1]), [1, 1, 1, 1]);
    let actions = fsm.handle(open_received(OUTGOING, 2, [1, 1, 1, 1]), now);
    assert!(actions.contains(&Action::Close {
        connection: INCOMING
    }));
}

#[test]
fn a_passive_speaker_waits_and_is_reached() {
    let mut world = World::new(
        Settings {
            passive: true,
            ..ours()
        },
        theirs(),
    );
    world.input(A, Event::Start);
    world.run(HOUR);
    assert_eq!(world.states(), [State::Active, State::Idle]);
    world.input(B, Event::Start);
    world.run_until_established(MINUTE);
    assert_eq!(world.nodes[A].count(|action| *action == Action::Connect), 0);
}

#[test]
fn a_stopped_speaker_refuses_and_comes_up_when_started() {
    let mut world = World::new(ours(), theirs());
    world.input(A, Event::Start);
    world.run(HOUR);
    assert_eq!(world.states()[B], State::Idle);
    world.input(B, Event::Start);
    world.run_until_established(2 * MINUTE);
}

#[test]
fn attempts_to_connect_grow_rarer_but_never_stop() {
    let mut fsm = Fsm::new(ours());
    let start = Instant::now();
    let mut now = start;
    let mut attempts = vec![];
    let mut actions = fsm.handle(Event::Start, now);
    while now - start < HOUR {
        if actions.contains(&Action::Connect) {
            attempts.push(now);
            actions = fsm.handle(
                Event::ConnectFailed {
                    reason: "refused".into(),
                },
                now,
            );
            assert!(actions.contains(&Action::Report("refused".into())));
        }
        now = fsm.next_timeout().expect("another attempt");
        actions = fsm.handle(Event::Timer, now);
    }
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] <= Duration::from_secs(5));
    assert!(gaps.iter().all(|gap| *gap <= MINUTE));
    assert!(gaps[10..].iter().all(|gap| *gap >= Duration::from_secs(45)));
}

#[test]
fn a_timer_that_is_due_for_something_else_does_not_hasten_the_next_attempt() {
    let (mut fsm, now) = started(ours());
    let reason = "refused".to_owned();
    fsm.handle(Event::ConnectFailed { reason }, now);
    let again = fsm.next_timeout().expect("the next attempt");
    assert_eq!(
        fsm.handle(Event::Timer, again - Duration::from_millis(1)),
        []
    );
    assert_eq!(fsm.next_timeout(), Some(again));
    assert_eq!(fsm.handle(Event::Timer, again), [Action::Connect]);

    let given_up = fsm.next_timeout().expect("the end of the attempt");
    let early = given_up - Duration::from_millis(1);
    assert_eq!(fsm.handle(Event::Timer, early), []);

    let (mut fsm, now) = in_state(State::Established);
    let notification = Notification::administrative_shutdown("");
    let idle = Some(MINUTE);
    fsm.handle(Event::Stop { notification, idle }, now);
    assert_eq!(fsm.handle(Event::Timer, now + MINUTE / 2), []);
    assert_eq!(fsm.state(), State::Idle);
    assert_eq!(fsm.handle(Event::Timer, now + MINUTE), [Action::Connect]);
}

#[test]
fn an_attempt_without_answer_is_given_up_and_made_again() {
    let mut fsm = Fsm::new(ours());
    let now = Instant::now();
    fsm.handle(Event::Start, now);
    let deadline = fsm.next_timeout().expect("the attempt has an end");
    let actions = fsm.handle(Event::Timer, deadline);
    let [Action::Report(text), Action::CancelConnect, Action::Connect] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert!(text.contains("no answer from 10.0.0.9:179"), "{text}");
}

#[test]
fn a_second_connection_does_not_disturb_a_living_session() {
    let (mut fsm, now) = in_state(State::Established);
    let actions = second_connection(&mut fsm, now);
    assert!(actions.contains(&Action::Send {
        connection: OUTGOING,
        message: Outgoing::Keepalive
    }));
    let judged = now + Duration::from_secs(1);
    let actions = fsm.handle(Event::Timer, judged);
    assert!(notifies(&actions, 6, 7));
    assert!(actions.contains(&Action::Close {
        connection: INCOMING
    }));
    assert_eq!(fsm.state(), State::Established);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Down(_)))
    );
}

#[test]
fn a_connection_that_turns_out_dead_is_replaced_by_the_new_one() {
    let (mut fsm, now) = in_state(State::Established);
    second_connection(&mut fsm, now);
    fsm.handle(received(INCOMING, Received::Keepalive), now);
    let reason = "connection reset".to_owned();
    let actions = fsm.handle(
        Event::Closed {
            connection: OUTGOING,
            reason,
        },
        now,
    );
    let order: Vec<_> = actions
        .iter()
        .filter(|action| matches!(action, Action::Down(_) | Action::Established { .. }))
        .collect();
    assert!(
        matches!(
            order[..],
            [
                Action::Down(_),
                Action::Established {
                    connection: INCOMING,
                    ..
                }
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_connection_that_missed_its_keepalives_is_replaced_by_the_new_one() {
    let (mut fsm, mut now) = in_state(State::Established);
    now += Duration::from_secs(150);
    fsm.handle(
        Event::Written {
            connection: OUTGOING,
            drained: true,
        },
        now,
    );
    second_connection(&mut fsm, now);
    let actions = fsm.handle(Event::Timer, now + Duration::from_secs(1));
    assert!(
        actions.contains(&Action::Close {
            connection: OUTGOING
        }),
        "{actions:?}"
    );
    assert_eq!(fsm.state(), State::OpenConfirm);
}

#[test]
fn a_session_without_a_word_since_its_key_changed_gives_way_to_a_connection_that_the_peer_prefers()
{
    for (heard, preferred, replaced) in [
        (false, true, true),
        (true, true, false),
        (false, false, false),
    ] {
        let (mut fsm, now) = in_state(State::Established);
        let actions = fsm.handle(Event::Rekeyed, now);
        assert!(actions.iter().any(is_keepalive), "{actions:?}");
        if heard {
            fsm.handle(received(OUTGOING, Received::Keepalive), now);
        }
        second_connection(&mut fsm, now);
        if preferred {
            fsm.handle(received(INCOMING, Received::Keepalive), now);
        }
        fsm.handle(Event::Timer, now + Duration::from_secs(1));
        let closed = if replaced { OUTGOING } else { INCOMING };
        let left = if replaced { INCOMING } else { OUTGOING };
        assert_eq!(fsm.state(), State::Established);
        assert!(fsm.index(closed).is_none() && fsm.index(left).is_some());
    }
}

#[test]
fn after_its_key_changed_a_peer_is_called_until_it_is_heard_of() {
    for passive in [false, true] {
        let (mut fsm, mut now) = in_state(State::Established);
        fsm.settings.passive = passive;
        fsm.handle(Event::Rekeyed, now);
        let mut called = 0;
        for _ in 0..60 {
            now += Duration::from_secs(1);
            let actions = fsm.handle(Event::Timer, now);
            called += actions.iter().filter(|a| **a == Action::Connect).count();
        }
        assert_eq!(called > 1, !passive, "{called} times");
        fsm.handle(received(OUTGOING, Received::Keepalive), now);
        for _ in 0..60 {
            now += Duration::from_secs(1);
            let actions = fsm.handle(Event::Timer, now);
            assert!(!actions.contains(&Action::Connect));
        }
        assert_eq!(fsm.state(), State::Established);
    }
}

#[test]
fn the_new_connection_replaces_an_established_one_where_configured() {
    let (mut fsm, now) = in_state_with(
        State::Established,
        Settings {
            replace_established: true,
            ..ours()
        },
    );
    let actions = second_connection(&mut fsm, now);
    assert!(
        actions.contains(&Action::Close {
            connection: OUTGOING
        }),
        "{actions:?}"
    );
    assert_eq!(fsm.state(), State::OpenConfirm);
}

#[test]
fn a_crashed_peer_is_back_long_before_the_hold_timer_expires() {
    let mut world = established();
    world.crash(B, theirs());
    world.input(B, Event::Start);
    world.run_until_established(Duration::from_secs(10));
    assert_eq!(world.nodes[A].downs().len(), 1);
    assert!(world.elapsed() < MINUTE);
}

#[test]
fn a_flood_of_connections_leaves_one_waiting_and_the_session_up() {
    let (mut fsm, now) = in_state(State::Established);
    let local_address = [10, 0, 0, 1].into();
    let mut monitor = Monitor::default();
    for number in 1000..2000 {
        let event = Event::Accepted {
            connection: ConnectionId(number),
            local_address,
        };
        monitor.event(&event);
        for action in fsm.handle(event, now) {
            if !matches!(
                action,
                Action::Send {
                    connection: OUTGOING,
                    ..
                }
            ) {
                monitor.check(&[action]);
            }
        }
        assert_eq!(monitor.open().count(), 1);
    }
    assert_eq!(fsm.state(), State::Established);
}

#[test]
fn a_session_that_rests_tells_the_peer_so() {
    let (mut fsm, now) = in_state(State::Established);
    for idle in [None, Some(MINUTE)] {
        let notification = Notification::administrative_shutdown("");
        fsm.handle(Event::Stop { notification, idle }, now);
        let actions = fsm.handle(
            Event::Accepted {
                connection: INCOMING,
                local_address: [10, 0, 0, 1].into(),
            },
            now,
        );
        let reject = Outgoing::Notification(Notification::connection_rejected());
        let connection = INCOMING;
        let message = reject;
        assert_eq!(
            actions,
            [
                Action::Send {
                    connection,
                    message
                },
                Action::Close { connection }
            ]
        );
    }
}

#[test]
fn a_thousand_connections_beside_a_session_are_worth_one_probe_a_second() {
    let (mut fsm, start) = in_state(State::Established);
    let mut probes = 0;
    for number in 0..1000 {
        let now = start + Duration::from_millis(number * 2);
        let actions = fsm.handle(
            Event::Accepted {
                connection: ConnectionId(10_000 + number),
                local_address: [10, 0, 0, 1].into(),
            },
            now,
        );
        probes += actions.iter().filter(|action| is_keepalive(action)).count();
    }
    assert_eq!(probes, 2);
}

#[test]
fn two_speakers_that_start_at_about_the_same_time_never_lose_the_first_session() {
    for ids in [[1, 2], [2, 1]] {
        for latency in [1, 10, 40] {
            // B starts up to four latencies after A.
            for offset in 0..=4 * latency {
                let mut world = with_identifiers(ids);
                world.latency = Duration::from_millis(latency);
                let what = format!("{ids:?} {latency} {offset}");
                starts_and_loses_nothing(world, Duration::from_millis(offset), &what);
            }
        }
    }
}

/// What the two say on one connection overtakes what they say on the other.
#[test]
fn a_network_that_delays_packets_as_it_likes_costs_no_first_session() {
    for ids in [[1, 2], [2, 1]] {
        for jitter in [10, 20, 50, 200] {
            for seed in 1..=500_u64 {
                let mut world = with_identifiers(ids);
                world.latency = Duration::from_millis(10);
                world.jitter = Duration::from_millis(jitter);
                world.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let what = format!("{ids:?} {jitter} {seed}");
                starts_and_loses_nothing(world, Duration::ZERO, &what);
            }
        }
    }
}

fn with_identifiers(ids: [u8; 2]) -> World {
    let (mut a, mut b) = (ours(), theirs());
    a.router_id = [10, 0, 0, ids[0]].into();
    b.router_id = [10, 0, 0, ids[1]].into();
    World::new(a, b)
}

/// B starts some time after A; a minute later both have the first session still.
fn starts_and_loses_nothing(mut world: World, offset: Duration, what: &str) {
    world.input(A, Event::Start);
    world.run(offset);
    world.input(B, Event::Start);
    world.run(MINUTE);
    assert_eq!(world.states(), [State::Established; 2], "{what}");
    let downs: Vec<_> = world.nodes.iter().flat_map(|node| node.downs()).collect();
    assert!(downs.is_empty(), "{what}: {downs:?}");
}

#[test]
fn the_loser_of_a_collision_to_come_waits_for_the_winner_but_not_for_long() {
    // Ours is the higher identifier: the connection that we opened is kept.
    let start = || {
        let (mut fsm, now) =
            with_open_collision(settings(65515, 65010, [9, 9, 9, 9]), [2, 2, 2, 2]);
        let actions = fsm.handle(received(INCOMING, Received::Keepalive), now);
        assert_ne!(fsm.state(), State::Established, "{actions:?}");
        (fsm, now)
    };
    let established = |actions: &[Action]| {
        let mut found = actions.iter().filter_map(|action| match action {
            Action::Established { connection, .. } => Some(*connection),
            _ => None,
        });
        found.next()
    };

    let (mut fsm, now) = start();
    fsm.handle(open_received(OUTGOING, 65010, [2, 2, 2, 2]), now);
    let actions = fsm.handle(received(OUTGOING, Received::Keepalive), now);
    assert_eq!(established(&actions), Some(OUTGOING));
    assert!(notifies(&actions, 6, cease::CONNECTION_COLLISION));

    // The peer has given the winner up, or it comes to nothing.
    let (mut fsm, now) = start();
    let reason = "reset".into();
    let connection = OUTGOING;
    let actions = fsm.handle(Event::Closed { connection, reason }, now);
    assert_eq!(established(&actions), Some(INCOMING));
    let (mut fsm, now) = start();
    let actions = fsm.handle(Event::Timer, now + Duration::from_secs(1));
    assert_eq!(established(&actions), Some(INCOMING));

    // The peer is Established on the loser: for it there is no winner.
    for message in [Received::Update, Received::RouteRefresh] {
        let (mut fsm, now) = start();
        let actions = fsm.handle(received(INCOMING, message), now);
        assert_eq!(established(&actions), Some(INCOMING), "{actions:?}");
        assert_eq!(fsm.state(), State::Established);
    }
}

#[test]
fn rfc8654_4_long_messages_may_come_as_soon_as_both_opens_are_there() {
    let (mut fsm, now) = with_open_collision(settings(65515, 65010, [9, 9, 9, 9]), [2, 2, 2, 2]);
    let lengths = |fsm: &Fsm| [OUTGOING, INCOMING].map(|it| fsm.max_message_len(it));
    assert_eq!(lengths(&fsm), [4096, 65535]);
    // The loser of a collision to come: the peer may be Established on it.
    fsm.handle(received(INCOMING, Received::Keepalive), now);
    assert_eq!(lengths(&fsm), [4096, 65535]);
}

#[test]
fn after_a_reset_the_peer_may_connect_at_once_and_we_do_a_second_later() {
    let mut fsm = Fsm::new(settings(1, 2, [1, 1, 1, 1]));
    let now = Instant::now();
    fsm.handle(Event::Start, now);
    let connection = ConnectionId(1);
    let local_address = [10, 0, 0, 1].into();
    let connected = Event::Connected {
        connection,
        local_address,
    };
    fsm.handle(connected, now);
    let notification = Notification::administrative_reset("");
    let actions = fsm.handle(Event::Reset { notification }, now);
    assert!(
        actions.contains(&Action::Close { connection }),
        "{actions:?}"
    );
    assert!(!actions.contains(&Action::Connect), "{actions:?}");
    assert_eq!(fsm.state(), State::Active);
    let second = now + Duration::from_secs(1);
    assert_eq!(fsm.next_timeout(), Some(second));
    assert!(fsm.handle(Event::Timer, second).contains(&Action::Connect));
}
