//! The state machine of a session (RFC 4271 §8): (event, now) → actions. No sockets, no clock, no
//! randomness but the seed it is given (invariant 2).
//!
//! In: [`Event`]s: what the operator wants, what became of TCP connections, what was received,
//! that a timer is due. Out: [`Action`]s: connect, send, close, and what the rest of the speaker
//! has to know.
//!
//! RFC 4271 describes one machine a connection and lets them collide; here one [`Fsm`] a session
//! owns them all: at most one connection attempt of ours and two connections, of which at most one
//! is Established.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    DownReason, State,
    wire::{
        Negotiated, Notification, Open,
        notification::{cease, error},
    },
};

mod backoff;
mod connection;
mod event;
mod open;
mod text;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

pub use event::{Action, ConnectionId, Event, Outgoing, Received, Settings};

use backoff::Backoff;
use connection::{Connection, Phase};

/// How long a connection may wait for the peer's OPEN (RFC 4271 §8.2.2: "a large value").
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(240);

/// How long a new connection waits for the answer to a probe of the Established one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state machine of one session.
#[derive(Debug)]
pub struct Fsm {
    settings: Settings,
    activity: Activity,
    connections: Vec<Connection>,
    backoff: Backoff,
    actions: Vec<Action>,
}

/// What the session does apart from its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Idle until started.
    Stopped,
    /// Idle until then.
    IdleHold(Instant),
    /// Accepts connections, does not connect.
    Waiting,
    /// Accepts connections, connects then.
    ConnectAt(Instant),
    /// Connects; gives up then.
    Connecting(Instant),
}

impl Fsm {
    /// A stopped machine.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.connect_retry, settings.seed),
            settings,
            activity: Activity::Stopped,
            connections: Vec::with_capacity(2),
            actions: Vec::new(),
        }
    }

    /// What an event leads to.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Start => self.start(now),
            Event::Stop {
                subcode,
                text,
                idle,
            } => self.stop(subcode, &text, idle.map(|idle| now + idle)),
            Event::Connected {
                connection,
                local_address,
            } => self.connected(connection, local_address, now),
            Event::ConnectFailed { reason } => self.connect_failed(reason, now),
            Event::Accepted {
                connection,
                local_address,
            } => self.accepted(connection, local_address, now),
            Event::Closed { connection, reason } => self.closed(connection, reason, now),
            Event::Received {
                connection,
                message,
            } => self.received(connection, message, now),
            Event::Fault {
                connection,
                notification,
                reason,
            } => {
                if let Some(index) = self.index(connection) {
                    self.fail(index, notification, reason, now);
                }
            }
            Event::Written { connection } => {
                if let Some(index) = self.index(connection) {
                    self.connections[index].written(now);
                }
            }
            Event::Busy { connection } => {
                if let Some(index) = self.index(connection) {
                    self.connections[index].heard(now);
                }
            }
            Event::Timer => self.timer(now),
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let activity = match self.activity {
            Activity::Stopped | Activity::Waiting => None,
            Activity::IdleHold(at) | Activity::ConnectAt(at) | Activity::Connecting(at) => Some(at),
        };
        let connections = self
            .connections
            .iter()
            .filter_map(Connection::next_timeout)
            .min();
        activity.into_iter().chain(connections).min()
    }

    /// The session's state: that of its connection which has come furthest.
    #[must_use]
    pub fn state(&self) -> State {
        let furthest = self
            .connections
            .iter()
            .map(Connection::state)
            .max_by_key(|state| *state as u8);
        furthest.unwrap_or(match self.activity {
            Activity::Stopped | Activity::IdleHold(_) => State::Idle,
            Activity::Connecting(_) => State::Connect,
            Activity::Waiting | Activity::ConnectAt(_) => State::Active,
        })
    }

    // -- Starting and stopping -----------------------------------------------------------------

    fn start(&mut self, now: Instant) {
        if matches!(self.activity, Activity::Stopped | Activity::IdleHold(_)) {
            self.backoff.forget();
            self.run(now);
        }
    }

    fn run(&mut self, now: Instant) {
        if self.settings.passive {
            self.activity = Activity::Waiting;
        } else {
            self.connect(now);
        }
    }

    fn stop(&mut self, subcode: u8, text: &str, until: Option<Instant>) {
        let notification = Notification::cease_with_text(subcode, text);
        for connection in std::mem::take(&mut self.connections) {
            self.dismiss(&connection, notification.clone());
        }
        self.cancel_attempt();
        self.activity = until.map_or(Activity::Stopped, Activity::IdleHold);
    }

    // -- Connecting ----------------------------------------------------------------------------

    fn connect(&mut self, now: Instant) {
        self.activity = Activity::Connecting(now + self.backoff.attempt());
        self.actions.push(Action::Connect);
    }

    fn cancel_attempt(&mut self) {
        if matches!(self.activity, Activity::Connecting(_)) {
            self.actions.push(Action::CancelConnect);
        }
        if !matches!(self.activity, Activity::Stopped | Activity::IdleHold(_)) {
            self.activity = Activity::Waiting;
        }
    }

    fn connected(&mut self, id: ConnectionId, local_address: IpAddr, now: Instant) {
        if !matches!(self.activity, Activity::Connecting(_)) {
            self.actions.push(Action::Close { connection: id });
            return;
        }
        self.activity = Activity::Waiting;
        self.open(Connection::outgoing(id, local_address, now));
    }

    fn connect_failed(&mut self, reason: String, now: Instant) {
        if matches!(self.activity, Activity::Connecting(_)) {
            self.activity = Activity::ConnectAt(now + self.backoff.retry());
            self.actions.push(Action::Report(reason));
        }
    }

    fn accepted(&mut self, id: ConnectionId, local_address: IpAddr, now: Instant) {
        if matches!(self.activity, Activity::Stopped | Activity::IdleHold(_)) {
            self.actions.push(Action::Close { connection: id });
            return;
        }
        // A peer has one connection of its own: a second one means that it has forgotten the first.
        let forgotten = self
            .connections
            .iter()
            .position(|other| !other.outgoing && other.state() != State::Established);
        if let Some(index) = forgotten {
            let old = self.connections.swap_remove(index);
            self.dismiss(&old, Notification::connection_collision());
        }
        // If the peer has restarted, its kernel answers this with a reset.
        if let Some(established) = self.find(State::Established) {
            self.send(established, Outgoing::Keepalive);
        }
        if let Activity::ConnectAt(at) = self.activity {
            self.activity = Activity::ConnectAt(at.max(now + self.backoff.base()));
        }
        self.open(Connection::incoming(id, local_address, now));
    }

    fn open(&mut self, connection: Connection) {
        self.actions.push(Action::Send {
            connection: connection.id,
            message: Outgoing::Open(open::ours(&self.settings)),
        });
        self.connections.push(connection);
    }

    // -- Messages ------------------------------------------------------------------------------

    fn received(&mut self, id: ConnectionId, message: Received, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        let connection = &mut self.connections[index];
        match (&mut connection.phase, message) {
            (_, Received::Notification(notification)) => {
                self.notified(index, notification, now);
            }
            (Phase::OpenSent, Received::Open(theirs)) => self.opened(index, &theirs, now),
            (Phase::Held { confirmed, .. }, Received::Keepalive) => *confirmed = true,
            (Phase::OpenConfirm(_), Received::Keepalive) => self.establish(index, now),
            (
                Phase::Established(_),
                Received::Update | Received::Keepalive | Received::RouteRefresh,
            ) => connection.heard(now),
            (_, message) => {
                let state = connection.state();
                let notification = Notification::unexpected_message(state, message.code());
                let reason = text::unexpected(state, message.code());
                self.fail(index, notification, reason, now);
            }
        }
    }

    fn opened(&mut self, index: usize, theirs: &Open, now: Instant) {
        let local_address = self.connections[index].local_address;
        let negotiated = match open::negotiate(&self.settings, theirs, local_address) {
            Ok(negotiated) => Arc::new(negotiated),
            Err(refusal) => {
                self.fail(index, refusal.notification, refusal.reason, now);
                return;
            }
        };
        if let Some(established) = self.find(State::Established) {
            if !self.settings.replace_established {
                self.connections[index].hold_back(negotiated, now + PROBE_TIMEOUT);
                return;
            }
            let id = self.connections[index].id;
            self.collide(established, now);
            self.confirm(id, negotiated, now);
        } else if let Some(other) = self.find(State::OpenConfirm) {
            let keep_outgoing = open::ours_wins(&negotiated);
            let id = self.connections[index].id;
            if self.connections[index].outgoing == keep_outgoing {
                self.collide(other, now);
                self.confirm(id, negotiated, now);
            } else {
                self.collide(index, now);
            }
        } else {
            let id = self.connections[index].id;
            self.confirm(id, negotiated, now);
        }
    }

    fn confirm(&mut self, id: ConnectionId, negotiated: Arc<Negotiated>, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        self.cancel_attempt();
        let jitter = self.backoff.jitter();
        self.connections[index].confirm(negotiated, jitter, now);
        self.send(index, Outgoing::Keepalive);
    }

    fn establish(&mut self, index: usize, now: Instant) {
        let mut survivor = self.connections.swap_remove(index);
        for other in std::mem::take(&mut self.connections) {
            self.dismiss(&other, Notification::connection_collision());
        }
        self.cancel_attempt();
        let Some(negotiated) = survivor.establish(now) else {
            return;
        };
        self.actions.push(Action::Established {
            connection: survivor.id,
            negotiated,
        });
        self.connections.push(survivor);
        self.backoff.established(now);
    }

    // -- The end of connections ----------------------------------------------------------------

    fn notified(&mut self, index: usize, notification: Notification, now: Instant) {
        let collision = (notification.code, notification.subcode)
            == (error::CEASE, cease::CONNECTION_COLLISION);
        let connection = self.connections.swap_remove(index);
        if !collision || connection.state() == State::Established {
            let reason = text::received(self.settings.peer.ip(), &notification);
            self.actions.push(Action::Report(reason));
        }
        self.actions.push(Action::Close {
            connection: connection.id,
        });
        self.lost(
            &connection,
            DownReason::NotificationReceived(notification),
            !collision,
            now,
        );
    }

    fn closed(&mut self, id: ConnectionId, reason: String, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        let reason = text::closed(&self.settings, &connection, &reason);
        self.actions.push(Action::Report(reason.clone()));
        self.lost(&connection, DownReason::Connection(reason), false, now);
    }

    /// An error: tells peer and operator, closes, and holds the session idle for a while.
    fn fail(&mut self, index: usize, notification: Notification, reason: String, now: Instant) {
        let connection = self.connections.swap_remove(index);
        self.actions.push(Action::Report(reason));
        self.part(&connection, notification.clone());
        self.lost(
            &connection,
            DownReason::NotificationSent(notification),
            true,
            now,
        );
    }

    /// The loser of a collision is closed; nobody is to blame.
    fn collide(&mut self, index: usize, now: Instant) {
        let connection = self.connections.swap_remove(index);
        let notification = Notification::connection_collision();
        self.part(&connection, notification.clone());
        self.lost(
            &connection,
            DownReason::NotificationSent(notification),
            false,
            now,
        );
    }

    /// Closes a connection whose loss does not change what the session does.
    fn dismiss(&mut self, connection: &Connection, notification: Notification) {
        self.part(connection, notification.clone());
        if connection.state() == State::Established {
            let reason = DownReason::NotificationSent(notification);
            self.actions.push(Action::Down(reason));
        }
    }

    fn part(&mut self, connection: &Connection, notification: Notification) {
        let id = connection.id;
        self.actions.push(Action::Send {
            connection: id,
            message: Outgoing::Notification(notification),
        });
        self.actions.push(Action::Close { connection: id });
    }

    /// What the session does after it lost a connection.
    fn lost(&mut self, connection: &Connection, reason: DownReason, error: bool, now: Instant) {
        if connection.state() == State::Established {
            self.actions.push(Action::Down(reason));
            self.backoff.lost(now);
            self.release(now);
        }
        if self.connections.is_empty() && error {
            self.cancel_attempt();
            self.activity = Activity::IdleHold(now + self.backoff.idle_hold());
        }
        let connecting = self
            .connections
            .iter()
            .any(|other| other.outgoing || other.state() != State::OpenSent);
        if self.activity == Activity::Waiting && !self.settings.passive && !connecting {
            self.activity = Activity::ConnectAt(now + self.backoff.retry());
        }
    }

    /// The connection that waited for the Established one to prove itself takes its place.
    fn release(&mut self, now: Instant) {
        let released = self
            .connections
            .iter_mut()
            .find_map(|other| Some((other.id, other.release()?)));
        let Some((id, (negotiated, confirmed))) = released else {
            return;
        };
        self.confirm(id, negotiated, now);
        if let Some(index) = self.index(id).filter(|_| confirmed) {
            self.establish(index, now);
        }
    }

    // -- Timers --------------------------------------------------------------------------------

    fn timer(&mut self, now: Instant) {
        for id in self.connections.iter().map(|c| c.id).collect::<Vec<_>>() {
            self.connection_timers(id, now);
        }
        match self.activity {
            Activity::IdleHold(at) if at <= now => self.run(now),
            Activity::ConnectAt(at) if at <= now => self.connect(now),
            Activity::Connecting(at) if at <= now => {
                let reason = text::no_answer(self.settings.peer);
                self.actions.push(Action::Report(reason));
                self.actions.push(Action::CancelConnect);
                self.backoff.retry();
                self.connect(now);
            }
            _ => {}
        }
    }

    fn connection_timers(&mut self, id: ConnectionId, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        let connection = &mut self.connections[index];
        if connection.is_silent(now) {
            let reason = text::silent(self.settings.peer.ip(), connection);
            self.fail(index, Notification::hold_timer_expired(), reason, now);
        } else if connection.is_stuck(now) {
            let reason = text::stuck(self.settings.peer.ip());
            self.fail(index, Notification::send_hold_timer_expired(), reason, now);
        } else if connection.is_held_until(now) {
            self.judge(index, now);
        } else if connection.keepalive_is_due(now) {
            let jitter = self.backoff.jitter();
            self.connections[index].next_keepalive(jitter, now);
            self.send(index, Outgoing::Keepalive);
        }
    }

    /// The Established connection had its time to prove itself. It stays (RFC 4271 §6.8), unless
    /// the peer has missed its keepalives on it.
    fn judge(&mut self, held: usize, now: Instant) {
        match self.find(State::Established) {
            Some(established) if self.connections[established].missed_keepalives(now) => {
                self.collide(established, now);
            }
            _ => self.collide(held, now),
        }
    }

    // -- Small helpers -------------------------------------------------------------------------

    fn send(&mut self, index: usize, message: Outgoing) {
        self.actions.push(Action::Send {
            connection: self.connections[index].id,
            message,
        });
    }

    fn index(&self, id: ConnectionId) -> Option<usize> {
        self.connections.iter().position(|c| c.id == id)
    }

    fn find(&self, state: State) -> Option<usize> {
        self.connections.iter().position(|c| c.state() == state)
    }
}
