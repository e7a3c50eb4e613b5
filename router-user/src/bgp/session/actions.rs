//! What the state machine decides, carried out, and what others are told of it.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use tracing::{debug, info};

use super::{MAX_CLOSING, Pending, Session, SessionHandle, find};
use crate::bgp::{
    DownReason, SessionEvent,
    fsm::{Action, ConnectionId, Event, Outgoing, Restarted},
    wire::{self, Negotiated},
};

impl Session {
    pub(super) fn event(&mut self, event: Event) {
        let before = self.fsm.state();
        for action in self.fsm.handle(event, Instant::now()) {
            self.act(action);
        }
        let state = self.fsm.state();
        if state != before {
            debug!(session = %self.config.id, "{before:?} → {state:?}");
            self.report_status();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => self.attempt = Some(self.new_attempt()),
            Action::CancelConnect => self.attempt = None,
            Action::Send {
                connection,
                message,
            } => {
                if let Some(link) = find(&mut self.links, Some(connection)) {
                    link.send(|out| encode(&message, out));
                }
            }
            Action::Close { connection } => self.close(connection),
            Action::Established {
                connection,
                negotiated,
            } => self.up(connection, negotiated),
            Action::Down(reason) => self.down(reason),
            Action::Report(text) => self.status.error(text),
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some(index) = self.links.iter().position(|link| link.id == connection) else {
            return;
        };
        let link = self.links.swap_remove(index);
        if self.closing.len() < MAX_CLOSING {
            self.closing.spawn(link.close());
        }
    }

    fn up(&mut self, connection: ConnectionId, negotiated: Arc<Negotiated>) {
        let Some(link) = find(&mut self.links, Some(connection)) else {
            return;
        };
        link.context = negotiated.context();
        self.established = Some(connection);
        self.restarted = Restarted::running();
        let (handle, commands) = SessionHandle::new();
        self.commands = Some(commands);
        self.backlog = handle.backlog.clone();
        self.waiting = 0;
        info!(session = %self.config.id, "Established");
        self.status.established(negotiated.clone());
        self.emit(SessionEvent::Up {
            id: self.config.id.clone(),
            negotiated,
            commands: handle,
        });
    }

    fn down(&mut self, reason: DownReason) {
        self.flush();
        info!(session = %self.config.id, "down: {reason}");
        self.established = None;
        self.commands = None;
        self.refreshes.forget();
        self.status.down();
        self.emit(SessionEvent::Down {
            id: self.config.id.clone(),
            reason,
        });
    }

    // -- What others are told ------------------------------------------------------------------

    /// Hands on the changes that have gathered.
    pub(super) fn flush(&mut self) {
        let Pending { changes, bytes } = std::mem::take(&mut self.pending);
        if !changes.is_empty() {
            self.emit(SessionEvent::Routes {
                id: self.config.id.clone(),
                changes,
                credit: self.credits.take(bytes),
            });
        }
    }

    /// Hands on what the peer has asked for again, after the changes that it sent before.
    pub(super) fn hand_on_refreshes(&mut self) {
        for family in self.refreshes.take(Instant::now()).iter() {
            self.emit(SessionEvent::RefreshRequested {
                id: self.config.id.clone(),
                family,
            });
        }
    }

    pub(super) fn report_status(&mut self) {
        let status = self.status.report(self.fsm.state(), Instant::now());
        self.emit(SessionEvent::Status {
            id: self.config.id.clone(),
            status,
        });
    }

    pub(super) fn emit(&self, event: SessionEvent) {
        // The owner of the RIB is gone only while the daemon ends.
        let _ = self.events.send(event);
    }
}

fn encode(message: &Outgoing, out: &mut BytesMut) {
    match message {
        Outgoing::Open(open) => open.encode(out),
        Outgoing::Keepalive => wire::encode_keepalive(out),
        Outgoing::Notification(notification) => notification.encode(out),
    }
}
