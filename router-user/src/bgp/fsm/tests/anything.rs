//! Any sequence of events.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_the_invariants(
        steps in prop::collection::vec((any_step(), 0_u64..200_000), 1..120),
        passive: bool,
        replace_established: bool,
        seed: u64,
    ) {
        let mut fsm = Fsm::new(Settings { passive, replace_established, seed, ..ours() });
        let mut monitor = Monitor::default();
        let mut now = Instant::now();
        for (number, (step, millis)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(millis);
            let Some(event) = step.event(number as u64, &monitor) else {
                continue;
            };
            monitor.event(&event);
            let stopped = matches!(event, Event::Stop { idle: None, .. });
            monitor.check(&fsm.handle(event, now));
            if stopped {
                prop_assert_eq!(fsm.state(), State::Idle);
                prop_assert_eq!(monitor.open().count(), 0);
            }
            monitor.check(&fsm.handle(Event::Timer, now));
            prop_assert!(fsm.next_timeout().is_none_or(|next| next > now), "a timer stays due");
            prop_assert!(monitor.open().count() <= 2);
            prop_assert_eq!(fsm.state() == State::Established, monitor.is_established());
            if fsm.state() == State::Connect {
                prop_assert!(monitor.is_connecting());
            }
            if fsm.state() == State::Active && !passive {
                prop_assert!(fsm.next_timeout().is_some(), "it would never connect again");
            }
        }
    }

    #[test]
    fn two_speakers_always_find_each_other_again(
        latency in 0_u64..2_000,
        jitter in 0_u64..500,
        ids: [u8; 2],
        seeds: [u64; 2],
        passive in 0_usize..3,
        mishaps in prop::collection::vec((0_u8..6, 0_u64..400), 0..8),
    ) {
        let mut a = settings(65515, 65010, [10, 0, 0, ids[0].max(1)]);
        let mut b = settings(65010, 65515, [10, 0, 0, ids[1].max(1)]);
        (a.seed, b.seed) = (seeds[0], seeds[1]);
        (a.passive, b.passive) = (passive == 1, passive == 2);
        let mut world = World::new(a.clone(), b.clone());
        world.latency = Duration::from_millis(latency);
        world.jitter = Duration::from_millis(jitter);
        world.random = seeds[0] | 1;
        world.start_both();
        for (mishap, seconds) in mishaps {
            world.run(Duration::from_secs(seconds));
            match mishap {
                0 => world.cut = true,
                1 => world.cut = false,
                2 => world.forget_connections(),
                3 => {
                    world.crash(A, a.clone());
                    world.input(A, Event::Start);
                }
                4 => world.input(B, Event::Stop {
                    notification: Notification::cease_with_text(4, ""),
                    idle: Some(Duration::from_secs(30)),
                }),
                _ => world.input(A, Event::Stop { notification: Notification::configuration_change(), idle: None }),
            }
        }
        world.cut = false;
        world.start_both();
        world.run_until_established(20 * MINUTE);
        world.run(HOUR);
        prop_assert_eq!(world.states(), [State::Established; 2]);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    Stop(bool),
    Connected,
    ConnectFailed,
    Accepted,
    Closed(u8),
    Received(u8, Received),
    Fault(u8),
    Written(u8),
    Busy(u8),
    Rekeyed,
    Timer,
}

fn any_step() -> impl Strategy<Value = Step> {
    let good = Received::Open(open(65010, [2, 2, 2, 2]));
    let bad = Received::Open(open(65099, [2, 2, 2, 2]));
    let cease = Received::Notification(Notification::connection_collision());
    let shutdown = Received::Notification(Notification::administrative_shutdown(""));
    let message = prop_oneof![
        6 => Just(good),
        1 => Just(bad),
        8 => Just(Received::Keepalive),
        3 => Just(Received::Update),
        1 => Just(Received::RouteRefresh),
        1 => Just(cease),
        1 => Just(shutdown),
    ];
    prop_oneof![
        3 => Just(Step::Start),
        1 => any::<bool>().prop_map(Step::Stop),
        6 => Just(Step::Connected),
        2 => Just(Step::ConnectFailed),
        6 => Just(Step::Accepted),
        2 => any::<u8>().prop_map(Step::Closed),
        20 => (any::<u8>(), message).prop_map(|(which, message)| Step::Received(which, message)),
        1 => any::<u8>().prop_map(Step::Fault),
        2 => any::<u8>().prop_map(Step::Written),
        2 => any::<u8>().prop_map(Step::Busy),
        2 => Just(Step::Rekeyed),
        4 => Just(Step::Timer),
    ]
}

impl Step {
    fn event(self, number: u64, monitor: &Monitor) -> Option<Event> {
        let mut open: Vec<_> = monitor.open().collect();
        open.sort();
        let pick = |which: u8| {
            let index = usize::from(which) % open.len().max(1);
            open.get(index).copied().unwrap_or(ConnectionId(9999))
        };
        let local_address = [10, 0, 0, 1].into();
        let reason = String::from("lost");
        Some(match self {
            Self::Start => Event::Start,
            Self::Stop(again) => Event::Stop {
                notification: Notification::administrative_shutdown("bye"),
                idle: again.then_some(MINUTE),
            },
            Self::Connected if !monitor.is_connecting() => return None,
            Self::Connected => Event::Connected {
                connection: ConnectionId(number),
                local_address,
            },
            Self::ConnectFailed if !monitor.is_connecting() => return None,
            Self::ConnectFailed => Event::ConnectFailed { reason },
            Self::Accepted => Event::Accepted {
                connection: ConnectionId(number),
                local_address,
            },
            Self::Closed(which) => Event::Closed {
                connection: pick(which),
                reason,
            },
            Self::Received(which, message) => received(pick(which), message),
            Self::Fault(which) => Event::Fault {
                connection: pick(which),
                notification: Notification::connection_not_synchronized(),
                reason,
            },
            Self::Written(which) => Event::Written {
                connection: pick(which),
                drained: true,
            },
            Self::Busy(which) => Event::Busy {
                connection: pick(which),
            },
            Self::Rekeyed => Event::Rekeyed,
            Self::Timer => Event::Timer,
        })
    }
}
