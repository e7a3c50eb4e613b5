//! What the operator wants of sessions beside the configuration: shut down, drained, sent again.
//!
//! It outlives reloads and the session's own end; only a peer that is taken out of the configuration
//! takes it with it.

use std::time::Instant;

use super::RouteServer;
use crate::{
    bgp::{InstanceId, SessionId, wire::Family},
    names::PeerName,
};

/// What the operator wants of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Operator {
    /// Kept down, with this shutdown communication (RFC 9003), until started.
    pub shutdown: Option<String>,
    /// Its routes are last choice, here and at the peer (RFC 8326).
    pub drained: bool,
}

impl RouteServer {
    /// The sessions of a peer, or its session with one instance; by instance.
    #[must_use]
    pub fn sessions_of(&self, peer: &PeerName, instance: Option<InstanceId>) -> Vec<SessionId> {
        let sessions = self.sessions.iter().filter(|(id, session)| {
            session.peer.name == *peer && instance.is_none_or(|wanted| wanted == id.instance)
        });
        sessions.map(|(id, _)| id.clone()).collect()
    }

    /// What the operator wants of a session; `None`: there is no such session.
    #[must_use]
    pub fn operator(&self, id: &SessionId) -> Option<&Operator> {
        Some(&self.sessions.get(id)?.operator)
    }

    /// Notes that sessions are shut down with this text, or (`None`) no longer. Whoever holds the
    /// sockets closes and opens them.
    pub fn set_shutdown(&mut self, ids: &[SessionId], text: Option<&str>) {
        for id in ids {
            if let Some(session) = self.sessions.get_mut(id) {
                session.operator.shutdown = text.map(str::to_owned);
            }
        }
    }

    /// Drains sessions, or ends that: from now on their routes are last choice, here and, by the
    /// community GRACEFUL_SHUTDOWN, with all who are sent them; and so are the route server's routes
    /// with these peers (RFC 8326 §4.2). Live sessions are sent the difference.
    pub fn set_drained(&mut self, ids: &[SessionId], drained: bool, now: Instant) {
        for id in ids {
            if let Some(session) = self.sessions.get_mut(id) {
                session.operator.drained = drained;
            }
        }
        self.apply_rules(self.rules.clone());
        self.apply_views();
        self.schedule(now);
    }

    /// Sends a session all its routes again (soft reset, outbound); `false`: it is not up.
    pub fn send_again(&mut self, id: &SessionId, now: Instant) -> bool {
        let session = self.sessions.get(id);
        let Some(up) = session.and_then(|session| session.up.as_ref()) else {
            return false;
        };
        let families: Vec<Family> = up.negotiated.families.clone();
        for family in families {
            self.refresh(id, family);
        }
        self.schedule(now);
        true
    }
}
