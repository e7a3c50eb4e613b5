//! From a connection attempt to Established: connections made and accepted, OPENs, collisions.

use std::{net::IpAddr, sync::Arc, time::Instant};

use super::{
    Action, Activity, Connection, ConnectionId, Fsm, Negotiated, Notification, Open, Outgoing,
    PROBE_TIMEOUT, Received, Restarted, State, connection::Phase, open, text,
};

impl Fsm {
    // -- Connecting ----------------------------------------------------------------------------

    pub(super) fn connect(&mut self, now: Instant) {
        self.activity = Activity::Connecting(now + self.backoff.attempt());
        self.actions.push(Action::Connect);
    }

    pub(super) fn cancel_attempt(&mut self) {
        if matches!(self.activity, Activity::Connecting(_)) {
            self.actions.push(Action::CancelConnect);
        }
        if !self.activity.is_idle() {
            self.activity = Activity::Waiting;
        }
    }

    pub(super) fn connected(&mut self, id: ConnectionId, local_address: IpAddr, now: Instant) {
        if !matches!(self.activity, Activity::Connecting(_)) {
            self.actions.push(Action::Close { connection: id });
            return;
        }
        self.activity = Activity::Waiting;
        // The peer has made one itself meanwhile.
        if self.find(State::Established).is_some() && self.connections.len() > 1 {
            self.actions.push(Action::Close { connection: id });
            return;
        }
        let send_hold_time = self.settings.send_hold_time;
        self.open(
            Connection::outgoing(id, local_address, send_hold_time, now),
            now,
        );
    }

    pub(super) fn connect_failed(&mut self, reason: String, now: Instant) {
        if matches!(self.activity, Activity::Connecting(_)) {
            self.activity = Activity::ConnectAt(now + self.backoff.retry());
            self.actions.push(Action::Report(reason));
        }
    }

    pub(super) fn accepted(&mut self, id: ConnectionId, local_address: IpAddr, now: Instant) {
        let send_hold_time = self.settings.send_hold_time;
        let connection = Connection::incoming(id, local_address, send_hold_time, now);
        match self.activity {
            // RFC 4486 §4: the peer is known, but not wanted now.
            Activity::Stopped | Activity::Resting(_) => {
                self.dismiss(&connection, Notification::connection_rejected());
                return;
            }
            // That is over soon. Told of it, speakers like BIRD would wait for a minute or more, and
            // refuse us meanwhile.
            Activity::IdleHold(_) => {
                self.actions.push(Action::Close { connection: id });
                return;
            }
            Activity::Waiting | Activity::ConnectAt(_) | Activity::Connecting(_) => {}
        }
        // A peer has one connection of its own: a second one means that it has forgotten the first. Beside
        // an Established one there is no need of another than its own.
        let established = self.find(State::Established).is_some();
        let forgotten = self.connections.iter().position(|other| {
            (!other.outgoing || established) && other.state() != State::Established
        });
        if let Some(index) = forgotten {
            let old = self.connections.swap_remove(index);
            self.dismiss(&old, Notification::connection_collision());
        }
        // If the peer has restarted, its kernel answers this with a reset.
        if let Some(established) = self.find(State::Established)
            && self.connections[established].may_be_probed(now)
        {
            self.send(established, Outgoing::Keepalive);
        }
        if let Activity::ConnectAt(at) = self.activity {
            self.activity = Activity::ConnectAt(at.max(now + self.backoff.base()));
        }
        self.open(connection, now);
    }

    fn open(&mut self, connection: Connection, now: Instant) {
        self.actions.push(Action::Send {
            connection: connection.id,
            message: Outgoing::Open(open::ours(&self.settings, now)),
        });
        self.connections.push(connection);
    }

    // -- Messages ------------------------------------------------------------------------------

    pub(super) fn received(&mut self, id: ConnectionId, message: Received, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        let established = self.find(State::Established);
        let connection = &mut self.connections[index];
        match (&mut connection.phase, message) {
            (_, Received::Notification(notification)) => {
                self.notified(index, notification, now);
            }
            (Phase::OpenSent, Received::Open(theirs)) => self.opened(index, &theirs, now),
            (Phase::Held { confirmed, .. }, Received::Keepalive) => *confirmed = true,
            (Phase::OpenConfirm(_), Received::Keepalive) => self.confirmed(index, now),
            // Only who is Established sends these: the peer has no winner in mind.
            (
                Phase::Held {
                    negotiated,
                    confirmed: true,
                    ..
                },
                Received::Update | Received::RouteRefresh,
            ) if established.is_none() => {
                let negotiated = Arc::clone(negotiated);
                connection.phase = Phase::OpenConfirm(negotiated);
                connection.heard(now);
                self.establish(index, now);
            }
            (
                Phase::Established(_),
                Received::Update | Received::Keepalive | Received::RouteRefresh,
            ) => {
                connection.heard(now);
                self.proven(index);
            }
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
        let negotiated = match open::negotiate(&self.settings, theirs, local_address, now) {
            Ok(negotiated) => Arc::new(negotiated),
            Err(refusal) => {
                self.fail(index, refusal.notification, refusal.reason, now);
                return;
            }
        };
        if let Some(established) = self.find(State::Established) {
            if !self.settings.replace_established {
                self.connections[index].hold_back(negotiated, false, now + PROBE_TIMEOUT);
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

    pub(super) fn confirm(&mut self, id: ConnectionId, negotiated: Arc<Negotiated>, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        self.cancel_attempt();
        let jitter = self.backoff.jitter();
        self.connections[index].confirm(negotiated, jitter, now);
        self.send(index, Outgoing::Keepalive);
    }

    /// Both sides agree on this connection. Where another one is under way that would win the
    /// collision, it may have won it on the peer's side already: to become Established on the
    /// loser would be to lose the session in a moment. So the winner gets a moment to show up.
    fn confirmed(&mut self, index: usize, now: Instant) {
        let connection = &self.connections[index];
        let Phase::OpenConfirm(negotiated) = &connection.phase else {
            return;
        };
        let negotiated = Arc::clone(negotiated);
        let keep_outgoing = open::ours_wins(&negotiated);
        let mut others = self.connections.iter();
        let rival = |other: &Connection| {
            other.outgoing == keep_outgoing && matches!(other.phase, Phase::OpenSent)
        };
        if connection.outgoing != keep_outgoing && others.any(rival) {
            self.connections[index].hold_back(negotiated, true, now + PROBE_TIMEOUT);
        } else {
            self.establish(index, now);
        }
    }

    pub(super) fn establish(&mut self, index: usize, now: Instant) {
        let mut survivor = self.connections.swap_remove(index);
        for other in std::mem::take(&mut self.connections) {
            self.dismiss(&other, Notification::connection_collision());
        }
        self.cancel_attempt();
        let Some(negotiated) = survivor.establish(now) else {
            return;
        };
        self.settings.restarted = Restarted::running();
        self.actions.push(Action::Established {
            connection: survivor.id,
            negotiated,
        });
        self.connections.push(survivor);
        self.backoff.established(now);
    }
}
