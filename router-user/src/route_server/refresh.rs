//! Routes that are announced again: what peers ask of us, what we ask of them, and what is gone
//! afterwards (RFC 2918, RFC 7313).
//!
//! In: requests and markers of peers, what the operator wants, room under a limit. Out: refreshes of
//! the RIB, requests to sessions, paths swept.

use std::time::{Duration, Instant};

use super::{LimitAction, RouteServer, SessionId, Up};
use crate::bgp::{SessionCommand, wire::Family};

/// A peer is asked for the routes that it was refused at most this often.
const ASKED_AGAIN: Duration = Duration::from_secs(60);

/// How often a peer may begin to announce its routes again: each time costs it 23 bytes, and us a
/// walk over the table.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    left: u64,
    since: Instant,
}

impl Allowance {
    /// Beginnings in a row; one more is allowed each second.
    const MOST: u64 = 10;

    pub(super) const fn new(now: Instant) -> Self {
        Self {
            left: Self::MOST,
            since: now,
        }
    }

    /// Takes one; `false`: none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_secs();
        self.since += Duration::from_secs(earned);
        self.left = Self::MOST.min(self.left + earned);
        let taken = self.left > 0;
        self.left -= u64::from(taken);
        taken
    }
}

/// Why a peer cannot be asked for its routes again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// No such session, or it is not Established.
    #[error("the session is not up: it will be sent all routes when it comes up")]
    Down,
    /// The family is not exchanged on the session.
    #[error("{0} is not exchanged on this session")]
    Family(Family),
    /// The peer did not announce route refresh.
    #[error(
        "the peer does not take requests for its routes (no route refresh, RFC 2918): clear the \
         session hard instead"
    )]
    NotAnnounced,
}

impl RouteServer {
    /// Asks a peer for all its routes of a family again (RFC 2918).
    ///
    /// # Errors
    ///
    /// Nothing was asked. See [`RefreshError`].
    pub fn request_refresh(&mut self, id: &SessionId, family: Family) -> Result<(), RefreshError> {
        let session = self.sessions.get(id);
        let up = session.and_then(|session| session.up.as_ref());
        let up = up.ok_or(RefreshError::Down)?;
        if !up.negotiated.families.contains(&family) {
            return Err(RefreshError::Family(family));
        }
        if !up.negotiated.route_refresh {
            return Err(RefreshError::NotAnnounced);
        }
        tracing::info!(session = %id, %family, "asking for all routes again");
        self.requests
            .push((id.clone(), SessionCommand::RequestRefresh(family)));
        Ok(())
    }

    /// The peer asked for all routes of a family again.
    pub(super) fn refresh(&mut self, id: &SessionId, family: Family) {
        let session = self.sessions.get(id);
        let up = session.and_then(|session| session.up.as_ref());
        if let Some(up) = up.filter(|up| up.negotiated.families.contains(&family)) {
            let marked = up.negotiated.enhanced_route_refresh;
            self.rib.refresh(up.index, family, marked);
        }
    }

    /// The peer announces all its routes of a family again, from here on.
    pub(super) fn refresh_begins(&mut self, id: &SessionId, family: Family, now: Instant) {
        let time = Duration::from_secs(self.config.refresh_time.into());
        let Some(up) = self.up_mut(id, family) else {
            return;
        };
        // RFC 7313 §4: it has not announced them for the first time yet.
        let restarts = up.negotiated.peer.graceful_restart.is_some();
        if restarts && !up.ended.contains(family) {
            tracing::debug!(session = %id, %family, "begins a refresh before its End-of-RIB: ignored");
            return;
        }
        if !up.allowance.take(now) {
            tracing::debug!(session = %id, %family, "begins its refreshes too often: ignored");
            return;
        }
        let index = up.index;
        up.refreshing[family as usize] = Some(now + time);
        // What is refused again is counted again.
        up.refused[family as usize].clear();
        self.rib.mark_stale(index, family);
    }

    /// It has announced all of them. Without a beginning this is no end.
    pub(super) fn refresh_ends(&mut self, id: &SessionId, family: Family, now: Instant) {
        let Some(up) = self.up_mut(id, family) else {
            return;
        };
        let index = up.index;
        if up.refreshing[family as usize].take().is_some() {
            let gone = self.rib.sweep_stale(index, family);
            tracing::info!(session = %id, %family, gone, "announced all routes again");
            self.ask_for_refused(id, now);
        }
    }

    /// A session that is up and exchanges this family.
    fn up_mut(&mut self, id: &SessionId, family: Family) -> Option<&mut Up> {
        let up = self.sessions.get_mut(id)?.up.as_mut()?;
        up.negotiated.families.contains(&family).then_some(up)
    }

    /// When [`RouteServer::follow_up`] has something to do.
    pub(super) fn next_follow_up(&self) -> Option<Instant> {
        let up = self
            .sessions
            .values()
            .filter_map(|session| session.up.as_ref());
        up.flat_map(|up| up.refreshing.iter().chain(&up.ask_at))
            .flatten()
            .min()
            .copied()
    }

    /// Ends refreshes that the peer has not ended in time, and asks for refused routes.
    pub(super) fn follow_up(&mut self, now: Instant) {
        let due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        let mut asking = Vec::new();
        for (id, session) in &mut self.sessions {
            let Some(up) = &mut session.up else { continue };
            for family in Family::ALL {
                let place = family as usize;
                if due(&up.refreshing[place]) {
                    up.refreshing[place] = None;
                    let gone = self.rib.sweep_stale(up.index, family);
                    tracing::warn!(session = %id, %family, gone, "no end of its refresh (EoRR) came in time");
                    asking.push(id.clone());
                }
                if due(&up.ask_at[place]) {
                    asking.push(id.clone());
                }
            }
        }
        for id in asking {
            self.ask_for_refused(&id, now);
        }
    }

    /// Asks a peer for the routes that it was refused, once there is room for some of them.
    pub(super) fn ask_for_refused(&mut self, id: &SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(up) = &mut session.up else { return };
        let received = self.rib.totals(up.index).received;
        let max = session.peer.max_prefixes as usize;
        let unlimited = session.peer.limit_action == LimitAction::Warn;
        let mut asking = Vec::new();
        for family in Family::ALL {
            let place = family as usize;
            let room = unlimited || received[place] < max;
            up.ask_at[place] = None;
            if up.refused[place].is_empty() || !room || !up.negotiated.route_refresh {
                continue;
            }
            match up.asked[place].map(|asked| asked + ASKED_AGAIN) {
                Some(at) if at > now => up.ask_at[place] = Some(at),
                _ => {
                    up.asked[place] = Some(now);
                    up.refused[place].asked_again();
                    asking.push(family);
                }
            }
        }
        for family in asking {
            // It has been checked that the session can.
            let _ = self.request_refresh(id, family);
        }
    }
}
