//! The end of connections, and what the session does after it.

use std::time::Instant;

use super::{
    Action, Activity, Connection, ConnectionId, DownReason, Fsm, Notification, Outgoing, State,
    text,
};
use crate::bgp::wire::notification::{cease, error};

/// What a planned restart is called towards the peer.
const RESTARTING: &str = "the route server restarts";

impl Fsm {
    pub(super) fn notified(&mut self, index: usize, notification: Notification, now: Instant) {
        let cease = |subcode| (notification.code, notification.subcode) == (error::CEASE, subcode);
        let collision = cease(cease::CONNECTION_COLLISION);
        // It is not ready, as if it did not listen: two speakers that rest after an error must not
        // send each other to rest again and again.
        let rejected = cease(cease::CONNECTION_REJECTED);
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
            !collision && !rejected,
            now,
        );
    }

    pub(super) fn closed(&mut self, id: ConnectionId, reason: String, now: Instant) {
        let Some(index) = self.index(id) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        let reason = text::closed(&self.settings, &connection, &reason);
        self.actions.push(Action::Report(reason.clone()));
        self.lost(&connection, DownReason::Connection(reason), false, now);
    }

    /// An error: tells peer and operator, closes, and holds the session idle for a while.
    pub(super) fn fail(
        &mut self,
        index: usize,
        notification: Notification,
        reason: String,
        now: Instant,
    ) {
        let connection = self.connections.swap_remove(index);
        let notification = connection.last_word(notification);
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
    pub(super) fn collide(&mut self, index: usize, now: Instant) {
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
    pub(super) fn dismiss(&mut self, connection: &Connection, notification: Notification) {
        let notification = connection.last_word(notification);
        self.part(connection, notification.clone());
        if connection.state() == State::Established {
            let reason = DownReason::NotificationSent(notification);
            self.actions.push(Action::Down(reason));
        }
    }

    /// Closes all connections and stays idle. A peer that keeps our routes over a restart is sent no
    /// NOTIFICATION, or, if it keeps them after one as well (RFC 8538), one that is no hard reset.
    pub(super) fn leave(&mut self) {
        for connection in std::mem::take(&mut self.connections) {
            match connection.negotiated() {
                Some(negotiated) if negotiated.restarts_after_notification() => {
                    let notification = Notification::administrative_reset(RESTARTING);
                    self.part(&connection, notification.clone());
                    let reason = DownReason::NotificationSent(notification);
                    self.actions.push(Action::Down(reason));
                }
                Some(negotiated) if negotiated.peer_keeps_our_routes() => {
                    let id = connection.id;
                    self.actions.push(Action::Close { connection: id });
                    let reason = DownReason::Connection(RESTARTING.to_owned());
                    self.actions.push(Action::Down(reason));
                }
                _ => self.dismiss(&connection, Notification::administrative_shutdown("")),
            }
        }
        self.cancel_attempt();
        self.activity = Activity::Stopped;
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
        }
        if connection.rekeyed {
            self.cancel_attempt();
        }
        if self.find(State::Established).is_none() {
            self.release(now);
        }
        if self.connections.is_empty() && error {
            self.cancel_attempt();
            self.activity = Activity::IdleHold(now + self.backoff.idle_hold());
        }
        let connecting = self
            .connections
            .iter()
            .any(|other| !other.rekeyed && (other.outgoing || other.state() != State::OpenSent));
        if self.activity == Activity::Waiting && !self.settings.passive && !connecting {
            self.activity = Activity::ConnectAt(now + self.backoff.retry());
        }
    }

    /// The connection that waited for the Established one to prove itself, or for one that was under
    /// way, takes its place.
    pub(super) fn release(&mut self, now: Instant) {
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
}
