//! What people are to know of a session's number of routes, and who and what a session is to them.

use super::{RouteServer, Session};
use crate::{
    bgp::{SessionId, wire::Family},
    config::{LimitAction, Peer},
    names::PeerName,
};

/// A session's number of routes has come to another level of its limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitNotice {
    /// The session.
    pub id: SessionId,
    /// Its peer.
    pub peer: PeerName,
    /// Of which family.
    pub family: Family,
    /// They are routes that the peer is sent; else what it announces.
    pub advertised: bool,
    /// How near.
    pub level: LimitLevel,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub max: usize,
    /// What is done about it.
    pub effect: &'static str,
}

/// How near a limit is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LimitLevel {
    /// 80 % of it.
    Warned,
    /// As many as are allowed.
    Reached,
    /// More than are allowed.
    Over,
}

/// Which level has been told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LimitWatch(Option<LimitLevel>);

impl LimitWatch {
    /// The level that `count` of at most `max` routes has risen to. A level is told once, until the
    /// number has fallen below 70 %.
    pub(super) fn rises_to(&mut self, count: usize, max: usize) -> Option<LimitLevel> {
        let level = match count {
            0 => None,
            _ if count > max => Some(LimitLevel::Over),
            _ if count == max => Some(LimitLevel::Reached),
            _ if super::limit::is_near(count, max) => Some(LimitLevel::Warned),
            _ => None,
        };
        if level > self.0 {
            self.0 = level;
            return level;
        }
        if count * 10 < max * 7 {
            self.0 = None;
        }
        None
    }
}

/// What is done about a session at this level of what it announces.
pub(super) fn effect(level: LimitLevel, peer: &Peer) -> &'static str {
    match (level, peer.limit_action, peer.limit_restart) {
        (LimitLevel::Over, LimitAction::Teardown, true) => {
            "the session is closed, and tried again after a rest (limit_action)"
        }
        (LimitLevel::Over, LimitAction::Teardown, false) => {
            "the session is closed until it is started (limit_action, limit_restart)"
        }
        (LimitLevel::Over, LimitAction::Discard, _) => "what is beyond is refused (limit_action)",
        (LimitLevel::Over, LimitAction::Warn, _) => "none but this warning (limit_action)",
        (_, LimitAction::Teardown, _) => {
            "none yet; one beyond it closes the session (max_prefixes)"
        }
        (_, LimitAction::Discard, _) => "none yet; what is beyond it is refused (max_prefixes)",
        (_, LimitAction::Warn, _) => "none but this warning (max_prefixes)",
    }
}

/// The same of what it is sent.
pub(super) fn effect_on_advertised(level: LimitLevel, peer: &Peer) -> &'static str {
    match (level, peer.advertised_limit_action, peer.limit_restart) {
        (LimitLevel::Over, LimitAction::Teardown, true) => {
            "the session is closed, and tried again after a rest (advertised_limit_action)"
        }
        (LimitLevel::Over, LimitAction::Teardown, false) => {
            "the session is closed until it is started (advertised_limit_action, limit_restart)"
        }
        (LimitLevel::Over, LimitAction::Discard, _) => {
            "what is beyond is not sent (advertised_limit_action)"
        }
        (LimitLevel::Over, LimitAction::Warn, _) => {
            "none but this warning (advertised_limit_action)"
        }
        (_, LimitAction::Teardown, _) => {
            "none yet; one beyond it closes the session (max_advertised)"
        }
        (_, LimitAction::Discard, _) => "none yet; what is beyond it is not sent (max_advertised)",
        (_, LimitAction::Warn, _) => "none but this warning (max_advertised)",
    }
}

impl RouteServer {
    /// What is to be told of limits, since last asked.
    pub fn take_notices(&mut self) -> Vec<LimitNotice> {
        std::mem::take(&mut self.notices)
    }

    /// What people call the peer of a session.
    #[must_use]
    pub fn peer_name(&self, id: &SessionId) -> Option<&PeerName> {
        Some(&self.sessions.get(id)?.peer.name)
    }

    /// Number of prefixes with a path, those originated included.
    #[must_use]
    pub fn prefix_count(&self) -> usize {
        self.rib.prefix_count()
    }

    /// How many routes of a session there are, stale ones included.
    #[must_use]
    pub fn routes_of(&self, id: &SessionId) -> usize {
        let session = self.sessions.get(id);
        let place = session.and_then(Session::place);
        place.map_or(0, |index| self.rib.totals(index).received.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::{LimitLevel::*, LimitWatch};

    #[test]
    fn a_level_is_told_when_it_is_reached_and_again_only_after_the_number_has_fallen_well_below() {
        let mut watch = LimitWatch::default();
        let mut told = |count| watch.rises_to(count, 100);
        assert_eq!([0, 79].map(&mut told), [None, None]);
        assert_eq!([80, 99, 80].map(&mut told), [Some(Warned), None, None]);
        assert_eq!(
            [100, 101, 100, 150].map(&mut told),
            [Some(Reached), Some(Over), None, None]
        );
        assert_eq!([75, 101].map(&mut told), [None, None], "it comes and goes");
        assert_eq!([69, 101].map(&mut told), [None, Some(Over)]);
        let nothing_allowed = LimitWatch::default().rises_to(0, 0);
        assert_eq!(nothing_allowed, None);
    }
}
