//! Bytes received become messages, and messages become events of the state machine and changes
//! of routes.

use std::time::Instant;

use tracing::debug;

use super::{Session, find};
use crate::bgp::{
    SessionEvent,
    fsm::{ConnectionId, Event, Received},
    wire::{
        self, Message, MessageType, Notification, RefreshKind, RouteRefresh, notification::error,
    },
};

impl Session {
    /// Takes all whole messages out of a connection's buffer. Their routes leave as one event.
    pub(super) fn receive(&mut self, connection: ConnectionId) {
        let Some(link) = find(&mut self.links, Some(connection)) else {
            return;
        };
        let mut buffer = std::mem::take(&mut link.received);
        let mut consumed = 0;
        while let Some(len) = self.receive_one(connection, &buffer[consumed..]) {
            consumed += len;
        }
        bytes::Buf::advance(&mut buffer, consumed);
        if let Some(link) = find(&mut self.links, Some(connection)) {
            link.received = buffer;
            link.let_go();
        }
        self.flush();
    }

    /// Takes the first message; its length. `None`: there is none, or the connection is closed.
    fn receive_one(&mut self, connection: ConnectionId, buffer: &[u8]) -> Option<usize> {
        let mut context = find(&mut self.links, Some(connection))?.context;
        // Once OPENs are exchanged the peer may be Established, and send long messages, before we are.
        let max_len = match self.established == Some(connection) {
            true => context.max_message_len(),
            false => self.fsm.max_message_len(connection),
        };
        let len = match wire::frame(buffer, max_len) {
            Ok(len) => len?,
            Err(notification) => {
                self.malformed(connection, buffer, notification);
                return None;
            }
        };
        self.status.received();
        let message = &buffer[..len];
        let is_established = |this: &Self| this.established == Some(connection);
        // What an UPDATE says matters only once there is something to compare it with. It may be what
        // makes the session Established.
        if message[18] == MessageType::Update as u8 && !is_established(self) {
            self.message(connection, Received::Update);
            if !is_established(self) {
                return Some(len);
            }
            context = find(&mut self.links, Some(connection))?.context;
        }
        match wire::decode(message, &context) {
            Ok(Message::Open(open)) => self.message(connection, Received::Open(open)),
            Ok(Message::Notification(notification)) => {
                self.message(connection, Received::Notification(notification));
            }
            Ok(Message::Keepalive) => self.message(connection, Received::Keepalive),
            Ok(Message::Update(update)) => {
                self.message(connection, Received::Update);
                self.update(update, message);
            }
            Ok(Message::RouteRefresh(refresh)) => {
                self.message(connection, Received::RouteRefresh);
                // Elsewhere it is a fault, and none of the Established connection's business.
                if is_established(self) {
                    self.refresh(&refresh);
                }
            }
            Err(notification) => self.malformed(connection, message, notification),
        }
        Some(len)
    }

    fn message(&mut self, connection: ConnectionId, message: Received) {
        self.event(Event::Received {
            connection,
            message,
        });
    }

    fn update(&mut self, update: wire::Update<'_>, message: &[u8]) {
        self.status.update();
        if let Some(fault) = update.malformed().or(update.faults().first()) {
            let id = &self.config.id;
            let text = format!("UPDATE from {}: {fault}", id.peer);
            self.status.malformed(text, Instant::now());
            // RFC 7606 §6: all of the message, and its prefixes.
            debug!(session = %id, prefixes = %prefixes(&update), "{}", hex(message));
        }
        self.pending.bytes += message.len();
        self.pending.changes.extend(update.into_changes());
    }

    /// RFC 2918 §4: for a family that was not agreed on, and RFC 7313 §5: of an unknown kind, it is
    /// ignored. Markers are handed on in order with the routes.
    fn refresh(&mut self, refresh: &RouteRefresh) {
        let agreed = self.status.families();
        let family = refresh.family().filter(|family| agreed.contains(family));
        let marked = self.status.has_enhanced_refresh();
        match (family, refresh.kind) {
            (Some(family), RefreshKind::Request) => self.refreshes.ask(family),
            (Some(family), RefreshKind::Begin)
                if marked && self.refreshes.begins(family, Instant::now()) =>
            {
                let id = self.config.id.clone();
                self.flush();
                self.emit(SessionEvent::RefreshBegins { id, family });
            }
            (Some(family), RefreshKind::End) if marked && self.refreshes.ends(family) => {
                let id = self.config.id.clone();
                self.flush();
                self.emit(SessionEvent::RefreshEnds { id, family });
            }
            _ => debug!(session = %self.config.id, "ignored {refresh:?}"),
        }
    }

    fn malformed(&mut self, connection: ConnectionId, bytes: &[u8], notification: Notification) {
        let shown = hex(&bytes[..bytes.len().min(24)]);
        let what = match notification.code {
            error::MESSAGE_HEADER => "what is no BGP message",
            error::OPEN if notification.subcode == 0 => "a malformed OPEN",
            error::OPEN => "an OPEN that cannot be accepted",
            error::UPDATE => "a malformed UPDATE",
            error::ROUTE_REFRESH => "a malformed ROUTE-REFRESH",
            _ => "a malformed message",
        };
        let more = if bytes.len() > 24 { "…" } else { "" };
        let reason = format!(
            "{peer} sent {what} ({shown}{more}); answered with NOTIFICATION {code}/{subcode} \
             ({notification}): check what runs on {peer}",
            peer = self.config.id.peer,
            code = notification.code,
            subcode = notification.subcode,
        );
        self.event(Event::Fault {
            connection,
            notification,
            reason,
        });
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the UPDATE withdraws and announces.
fn prefixes(update: &wire::Update<'_>) -> String {
    let announced = update.announced().flat_map(|routes| routes.prefixes);
    let all = update.withdrawn().chain(announced);
    all.map(|nlri| format!("{} ", nlri.prefix)).collect()
}
