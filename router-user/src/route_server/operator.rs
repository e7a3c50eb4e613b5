//! What the operator wants of sessions beside the configuration: shut down, drained, sent again.
//!
//! It outlives reloads and the session's own end; only a peer that is taken out of the configuration
//! takes it with it.

use std::time::Instant;

use super::{RefreshError, RouteServer};
use crate::{
    bgp::{InstanceId, SessionId},
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
    /// The sessions of a peer, or of all members of a gateway, or those with one instance; by
    /// instance.
    #[must_use]
    pub fn sessions_of(&self, peer: &PeerName, instance: Option<InstanceId>) -> Vec<SessionId> {
        let sessions = self.sessions.iter().filter(|(id, session)| {
            session.is_called(peer) && instance.is_none_or(|wanted| wanted == id.instance)
        });
        sessions.map(|(id, _)| id.clone()).collect()
    }

    /// What the operator wants of a session; `None`: there is no such session.
    #[must_use]
    pub fn operator(&self, id: &SessionId) -> Option<&Operator> {
        Some(&self.sessions.get(id)?.operator)
    }

    /// Notes that sessions are shut down with this text, or (`None`) no longer. Whoever holds the
    /// sockets closes and opens them. What is kept of one that is down already goes at once.
    pub fn set_shutdown(&mut self, ids: &[SessionId], text: Option<&str>) {
        for id in ids {
            if let Some(session) = self.sessions.get_mut(id) {
                session.operator.shutdown = text.map(str::to_owned);
            }
            if text.is_some() {
                self.end_keeping(id);
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
        self.apply_rules(self.rules.clone(), false);
        self.apply_views();
        self.schedule(now);
    }

    /// The session is closed by whoever holds the socket, and loses its routes with that; one that is
    /// down already loses now what was kept of it. Whether it was up.
    pub fn clear_hard(&mut self, id: &SessionId) -> bool {
        self.end_keeping(id);
        let session = self.sessions.get(id);
        session.is_some_and(|session| session.up.is_some())
    }

    /// Asks the peer for all its routes again and sends it all of ours again, of all families of the
    /// session, which goes on meanwhile (soft reset).
    ///
    /// # Errors
    ///
    /// The session is not up, or the peer takes no such requests: nothing was asked or sent.
    pub fn clear_soft(&mut self, id: &SessionId, now: Instant) -> Result<(), RefreshError> {
        let session = self.sessions.get(id);
        let up = session.and_then(|session| session.up.as_ref());
        let families = up.ok_or(RefreshError::Down)?.negotiated.families.clone();
        // What makes one of these requests fail makes all of them fail.
        for family in &families {
            self.request_refresh(id, *family)?;
        }
        for family in families {
            self.refresh(id, family);
        }
        self.schedule(now);
        Ok(())
    }
}
