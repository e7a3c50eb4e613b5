//! The state machine through virtual hours.

use std::time::{Duration, Instant};

mod add_path;
mod anything;
mod open_message;
mod opening;
mod reports;
mod restart;
mod timers;

use super::{
    Action, ConnectionId, Event, Fsm, OPEN_TIMEOUT, Outgoing, Received, Settings,
    harness::{A, B, World, settings},
    monitor::Monitor,
    open as rules,
};
use crate::bgp::{
    DownReason, State,
    wire::{Capability, Family, Notification, Open, notification::cease},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const OUTGOING: ConnectionId = ConnectionId(7001);
const INCOMING: ConnectionId = ConnectionId(7002);

fn ours() -> Settings {
    settings(65515, 65010, [10, 0, 0, 1])
}

fn theirs() -> Settings {
    settings(65010, 65515, [10, 0, 0, 2])
}

fn established() -> World {
    let mut world = World::new(ours(), theirs());
    world.start_both();
    world.run_until_established(MINUTE);
    world.run(Duration::from_secs(5));
    assert_eq!(world.states(), [State::Established; 2]);
    world
}

fn started(settings: Settings) -> (Fsm, Instant) {
    let mut fsm = Fsm::new(settings);
    let now = Instant::now();
    fsm.handle(Event::Start, now);
    (fsm, now)
}

fn in_open_sent(settings: Settings) -> (Fsm, Instant) {
    let (mut fsm, now) = started(settings);
    let local_address = [10, 0, 0, 1].into();
    fsm.handle(
        Event::Connected {
            connection: OUTGOING,
            local_address,
        },
        now,
    );
    assert_eq!(fsm.state(), State::OpenSent);
    (fsm, now)
}

fn in_state(state: State) -> (Fsm, Instant) {
    in_state_with(state, settings(1, 2, [1, 1, 1, 1]))
}

fn in_state_with(state: State, settings: Settings) -> (Fsm, Instant) {
    let peer_asn = settings.peer_asn;
    let (mut fsm, now) = in_open_sent(settings);
    if state != State::OpenSent {
        fsm.handle(open_received(OUTGOING, peer_asn, [2, 2, 2, 2]), now);
    }
    if state == State::Established {
        fsm.handle(received(OUTGOING, Received::Keepalive), now);
    }
    assert_eq!(fsm.state(), state);
    (fsm, now)
}

/// Both connections have sent our OPEN; the incoming one is in OpenConfirm.
fn with_open_collision(settings: Settings, peer_id: [u8; 4]) -> (Fsm, Instant) {
    let peer_asn = settings.peer_asn;
    let (mut fsm, now) = in_open_sent(settings);
    let local_address = [10, 0, 0, 1].into();
    fsm.handle(
        Event::Accepted {
            connection: INCOMING,
            local_address,
        },
        now,
    );
    fsm.handle(open_received(INCOMING, peer_asn, peer_id), now);
    assert_eq!(fsm.state(), State::OpenConfirm);
    (fsm, now)
}

/// While OUTGOING is Established, the peer connects once more and sends its OPEN.
fn second_connection(fsm: &mut Fsm, now: Instant) -> Vec<Action> {
    let local_address = [10, 0, 0, 1].into();
    let mut actions = fsm.handle(
        Event::Accepted {
            connection: INCOMING,
            local_address,
        },
        now,
    );
    let peer_asn = fsm.settings.peer_asn;
    actions.extend(fsm.handle(open_received(INCOMING, peer_asn, [2, 2, 2, 2]), now));
    actions
}

fn open(asn: u32, router_id: [u8; 4]) -> Open {
    rules::ours(&settings(asn, 0, router_id), Instant::now())
}

fn open_received(connection: ConnectionId, asn: u32, router_id: [u8; 4]) -> Event {
    received(connection, Received::Open(open(asn, router_id)))
}

fn received(connection: ConnectionId, message: Received) -> Event {
    Event::Received {
        connection,
        message,
    }
}

fn notifies(actions: &[Action], code: u8, subcode: u8) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Send { message: Outgoing::Notification(n), .. }
            if (n.code, n.subcode) == (code, subcode))
    })
}

fn is_keepalive(action: &Action) -> bool {
    matches!(
        action,
        Action::Send {
            message: Outgoing::Keepalive,
            ..
        }
    )
}
