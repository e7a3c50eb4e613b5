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

use std::time::{Duration, Instant};

use super::{
    DownReason, State,
    wire::{Negotiated, Notification, Open},
};

mod backoff;
mod connection;
mod ending;
mod event;
pub mod monitor;
mod open;
mod opening;
mod text;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

pub use event::{Action, ConnectionId, Event, Outgoing, Received, Restarted, Settings};

use backoff::Backoff;
use connection::Connection;

/// How long a connection may wait for the peer's OPEN (RFC 4271 §8.2.2: "a large value").
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(240);

/// How long a new connection waits for the answer to a probe of the Established one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long after a reset we connect again.
const RESET_PAUSE: Duration = Duration::from_secs(1);

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
    /// Idle until then: it was told to rest.
    Resting(Instant),
    /// Idle until then, after an error.
    IdleHold(Instant),
    /// Accepts connections, does not connect.
    Waiting,
    /// Accepts connections, connects then.
    ConnectAt(Instant),
    /// Connects; gives up then.
    Connecting(Instant),
}

impl Activity {
    const fn is_idle(self) -> bool {
        matches!(self, Self::Stopped | Self::Resting(_) | Self::IdleHold(_))
    }
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
            Event::Stop { notification, idle } => {
                self.stop(&notification, idle.map(|idle| now + idle));
            }
            Event::Reset { notification } => self.reset(&notification, now),
            Event::Leave => self.leave(),
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
            Event::Queued { connection } => self.queued(connection, now),
            Event::Written {
                connection,
                drained,
            } => {
                if let Some(index) = self.index(connection) {
                    self.connections[index].written(drained, now);
                }
            }
            Event::Busy { connection } => {
                if let Some(index) = self.index(connection) {
                    self.connections[index].heard(now);
                }
            }
            Event::Rekeyed => self.rekeyed(now),
            Event::Timer => self.timer(now),
        }
        let actions = std::mem::take(&mut self.actions);
        for action in &actions {
            if let Action::Send { connection, .. } = action {
                self.queued(*connection, now);
            }
        }
        actions
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let activity = match self.activity {
            Activity::Stopped | Activity::Waiting => None,
            Activity::Resting(at)
            | Activity::IdleHold(at)
            | Activity::ConnectAt(at)
            | Activity::Connecting(at) => Some(at),
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
            Activity::Stopped | Activity::Resting(_) | Activity::IdleHold(_) => State::Idle,
            Activity::Connecting(_) => State::Connect,
            Activity::Waiting | Activity::ConnectAt(_) => State::Active,
        })
    }

    /// The longest message that the peer may send on a connection, bytes: more than 4,096 once both
    /// sides have agreed on it (RFC 8654 §4).
    #[must_use]
    pub fn max_message_len(&self, connection: ConnectionId) -> usize {
        let connection = self.index(connection).map(|index| &self.connections[index]);
        let negotiated = connection.and_then(Connection::agreed);
        let context = negotiated.map(Negotiated::context).unwrap_or_default();
        context.max_message_len()
    }

    /// Whether it was told to stay idle, for a time or until it is started: it has no connections.
    #[must_use]
    pub const fn rests(&self) -> bool {
        matches!(self.activity, Activity::Stopped | Activity::Resting(_))
    }

    /// A new machine that stays idle as long as another one that [rests](Self::rests).
    #[must_use]
    pub fn resting_like(self, other: &Self) -> Self {
        Self {
            activity: other.activity,
            ..self
        }
    }

    // -- Starting and stopping -----------------------------------------------------------------

    fn start(&mut self, now: Instant) {
        if self.activity.is_idle() {
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

    fn stop(&mut self, notification: &Notification, until: Option<Instant>) {
        for connection in std::mem::take(&mut self.connections) {
            self.dismiss(&connection, notification.clone());
        }
        self.cancel_attempt();
        self.activity = until.map_or(Activity::Stopped, Activity::Resting);
    }

    /// A peer that found our next connection before it has read why the last one ends would take
    /// that for our restart, and keep what it is to drop (RFC 4724 §4.2).
    fn reset(&mut self, notification: &Notification, now: Instant) {
        let was_connected = !self.connections.is_empty();
        self.stop(notification, None);
        self.backoff.forget();
        if was_connected && !self.settings.passive {
            self.activity = Activity::ConnectAt(now + RESET_PAUSE);
        } else {
            self.run(now);
        }
    }

    /// A peer that takes the new key live goes on with the Established connection. Another one closes
    /// it, but signs that with the old key, so that we do not hear of it, and waits for our connection
    /// or makes one: until the peer has been heard of, we try whether it takes one.
    fn rekeyed(&mut self, now: Instant) {
        let Some(established) = self.find(State::Established) else {
            return;
        };
        self.connections[established].rekeyed = true;
        if self.connections[established].may_be_probed(now) {
            self.send(established, Outgoing::Keepalive);
        }
        self.cancel_attempt();
        if !self.settings.passive {
            self.activity = Activity::ConnectAt(now + self.backoff.base());
        }
    }

    /// The Established connection lives under its new key.
    fn proven(&mut self, index: usize) {
        if std::mem::replace(&mut self.connections[index].rekeyed, false) {
            self.cancel_attempt();
        }
    }

    // -- Timers --------------------------------------------------------------------------------

    fn timer(&mut self, now: Instant) {
        for id in self.connections.iter().map(|c| c.id).collect::<Vec<_>>() {
            self.connection_timers(id, now);
        }
        match self.activity {
            Activity::Resting(at) | Activity::IdleHold(at) if at <= now => self.run(now),
            Activity::ConnectAt(at) if at <= now => self.connect(now),
            Activity::Connecting(at) if at <= now => {
                let reason = text::no_answer(&self.settings);
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
    /// the peer has missed its keepalives on it, or has not been heard of since the key changed and
    /// prefers the held one by its KEEPALIVE. If none is Established, the held one may be.
    fn judge(&mut self, held: usize, now: Instant) {
        let preferred = self.connections[held].is_confirmed();
        let gone = |established: &Connection| {
            established.missed_keepalives(now) || (established.rekeyed && preferred)
        };
        match self.find(State::Established) {
            Some(established) if gone(&self.connections[established]) => {
                self.collide(established, now);
            }
            Some(_) => self.collide(held, now),
            None => self.release(now),
        }
    }

    // -- Small helpers -------------------------------------------------------------------------

    fn send(&mut self, index: usize, message: Outgoing) {
        self.actions.push(Action::Send {
            connection: self.connections[index].id,
            message,
        });
    }

    fn queued(&mut self, id: ConnectionId, now: Instant) {
        if let Some(index) = self.index(id) {
            self.connections[index].queued(now);
        }
    }

    fn index(&self, id: ConnectionId) -> Option<usize> {
        self.connections.iter().position(|c| c.id == id)
    }

    fn find(&self, state: State) -> Option<usize> {
        self.connections.iter().position(|c| c.state() == state)
    }
}
