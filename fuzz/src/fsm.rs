//! Any sequence of events at the state machine.

use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use router_user::bgp::{
    State,
    fsm::{ConnectionId, Event, Fsm, Received, Restarted, Settings, monitor::Monitor},
    settings::{AddPath, Restart, RoleSettings},
    wire::{Capability, Family, Notification, Open, Role},
};

use crate::pick;

/// Most events of one sequence.
const EVENTS: usize = 400;

/// Events from the bytes, one after the other; after each the machine's rules hold.
pub fn run(input: &[u8]) {
    // An error: a choice was not possible, and the sequence ends there.
    let _ = sequence(&mut Unstructured::new(input));
}

fn sequence(bytes: &mut Unstructured<'_>) -> Result<()> {
    let settings = settings(bytes)?;
    let passive = settings.passive;
    let mut fsm = Fsm::new(settings);
    let mut monitor = Monitor::default();
    let mut now = Instant::now();
    for number in 0..EVENTS {
        // Without this, what is missing would be read as zeros, event after event.
        if bytes.is_empty() {
            break;
        }
        let millis = match bytes.arbitrary::<u8>()? {
            long @ 200.. => u64::from(long - 199) * 10_000,
            short => u64::from(short) * 20,
        };
        now += Duration::from_millis(millis);
        let Some(event) = event(bytes, number as u64, &monitor)? else {
            continue;
        };
        let stopped = matches!(event, Event::Stop { idle: None, .. });
        monitor.event(&event);
        monitor.check(&fsm.handle(event, now));
        if stopped {
            assert_eq!(fsm.state(), State::Idle);
            assert_eq!(monitor.open().count(), 0, "open though stopped");
        }
        monitor.check(&fsm.handle(Event::Timer, now));
        let next = fsm.next_timeout();
        assert!(next.is_none_or(|next| next > now), "a timer stays due");
        assert!(monitor.open().count() <= 2, "more than two connections");
        assert_eq!(
            fsm.state() == State::Established,
            monitor.is_established(),
            "the state is not what was told"
        );
        if fsm.state() == State::Active && !passive {
            assert!(next.is_some(), "it would never connect again");
        }
    }
    Ok(())
}

fn settings(bytes: &mut Unstructured<'_>) -> Result<Settings> {
    let flags: u8 = bytes.arbitrary()?;
    Ok(Settings {
        local_asn: 65515,
        peer_asn: if flags & 1 == 0 { 65010 } else { 65515 },
        router_id: [10, 0, 0, 5].into(),
        peer: ([10, 0, 0, 9], 179).into(),
        passive: flags & 2 != 0,
        hold_time: pick(bytes, &[180, 0, 3, 65535])?,
        connect_retry: Duration::from_secs(pick(bytes, &[5, 1, 3600])?),
        families: if flags & 4 == 0 {
            Family::ALL.to_vec()
        } else {
            vec![Family::Ipv6Unicast]
        },
        restart: Restart {
            enabled: flags & 128 != 0,
            ..Restart::default()
        },
        restarted: Restarted::default(),
        add_path: AddPath {
            receive: flags & 8 != 0,
            send: flags >> 6,
        },
        extended_next_hop: flags & 8 != 0,
        replace_established: flags & 16 != 0,
        role: (flags & 32 != 0).then_some(RoleSettings {
            role: Role::RouteServer,
            strict: flags & 64 != 0,
        }),
        send_hold_time: Duration::from_secs(pick(bytes, &[480, 1, 65535])?),
        authenticated: flags & 128 != 0,
        seed: bytes.arbitrary()?,
    })
}

/// `None`: nothing that can happen now.
fn event(bytes: &mut Unstructured<'_>, number: u64, monitor: &Monitor) -> Result<Option<Event>> {
    let local_address = [10, 0, 0, 5].into();
    let reason = String::from("lost");
    let kind = bytes.arbitrary::<u8>()? % 18;
    Ok(Some(match kind {
        0 => Event::Start,
        1 => Event::Stop {
            notification: Notification::cease_with_text(bytes.arbitrary()?, "bye"),
            idle: bytes
                .arbitrary::<Option<u8>>()?
                .map(|seconds| Duration::from_secs(seconds.into())),
        },
        2 | 3 if monitor.is_connecting() => Event::Connected {
            connection: ConnectionId(number),
            local_address,
        },
        4 if monitor.is_connecting() => Event::ConnectFailed { reason },
        2..=4 => return Ok(None),
        5 | 6 => Event::Accepted {
            connection: ConnectionId(number),
            local_address,
        },
        7 => Event::Closed {
            connection: connection(bytes, monitor)?,
            reason,
        },
        8 => Event::Fault {
            connection: connection(bytes, monitor)?,
            notification: Notification::connection_not_synchronized(),
            reason,
        },
        9 => Event::Written {
            connection: connection(bytes, monitor)?,
            drained: bytes.arbitrary()?,
        },
        10 => Event::Busy {
            connection: connection(bytes, monitor)?,
        },
        11 => Event::Timer,
        12 => Event::Leave,
        13 => Event::Reset {
            notification: Notification::administrative_reset("bye"),
        },
        14 => Event::Rekeyed,
        _ => Event::Received {
            connection: connection(bytes, monitor)?,
            message: message(bytes)?,
        },
    }))
}

/// One that is open, or one that never was.
fn connection(bytes: &mut Unstructured<'_>, monitor: &Monitor) -> Result<ConnectionId> {
    let mut open: Vec<_> = monitor.open().collect();
    open.sort();
    open.push(ConnectionId(u64::MAX));
    pick(bytes, &open)
}

fn message(bytes: &mut Unstructured<'_>) -> Result<Received> {
    Ok(match bytes.arbitrary::<u8>()? % 10 {
        0..=2 => Received::Open(open(bytes)?),
        3..=5 => Received::Keepalive,
        6 | 7 => Received::Update,
        8 => Received::RouteRefresh,
        _ => Received::Notification(Notification::new(
            bytes.arbitrary()?,
            bytes.arbitrary()?,
            *b"\x03bye",
        )),
    })
}

fn open(bytes: &mut Unstructured<'_>) -> Result<Open> {
    let flags: u8 = bytes.arbitrary()?;
    let asn = pick(bytes, &[65010, 65515, 65099, 0, 23456])?;
    let mut capabilities = vec![Capability::multiprotocol(pick(bytes, &Family::ALL)?)];
    if flags & 1 == 0 {
        capabilities.push(Capability::FourOctetAsn(asn));
    }
    if flags & 2 == 0 {
        capabilities.push(Capability::RouteRefresh);
    }
    if flags & 8 != 0 {
        capabilities.push(Capability::Role(flags & 7));
    }
    if flags & 4 != 0 {
        capabilities.push(Capability::GracefulRestart {
            flags: flags >> 4,
            restart_time: u16::from(flags) << 4,
            families: vec![(1, 1, flags & 0x80)],
        });
    }
    Ok(Open {
        asn,
        hold_time: pick(bytes, &[180, 0, 1, 3])?,
        router_id: pick(
            bytes,
            &[[2, 2, 2, 2], [10, 0, 0, 5], [0; 4], [250, 0, 0, 1]],
        )?
        .into(),
        capabilities,
    })
}
