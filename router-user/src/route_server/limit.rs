//! How many routes a peer may announce, and what happens beyond.

use std::{net::IpAddr, time::Duration};

use foldhash::HashSet;
use ipnet::IpNet;

use super::RouteServer;
use crate::{
    api::types::RefusedRoute,
    bgp::wire::{Family, Nlri},
};

/// How long a session rests after it has passed its limit for the first time.
const FIRST_REST: Duration = Duration::from_secs(15 * 60);

/// Rests double up to this.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// The rests of a session that keeps passing its limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rests {
    last: Option<Duration>,
}

impl Rests {
    /// How long the session rests now. Doubles each time, unless the session was up, within its
    /// limit, for longer than its last rest.
    pub(super) fn next(&mut self, was_up: Duration) -> Duration {
        let rest = match self.last {
            Some(last) if was_up <= last => (2 * last).min(LONGEST_REST),
            _ => FIRST_REST,
        };
        self.last = Some(rest);
        rest
    }
}

/// The most routes that [`Refused`] tells apart.
const REMEMBERED: usize = 16 * 1024;

/// Routes of one family that were refused because there was no room for them, and that the peer has
/// neither withdrawn nor announced again when there was.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    /// With a keyed hash: peers choose what stands here.
    known: HashSet<Nlri>,
    /// There were more of them than are remembered.
    more: bool,
}

impl Refused {
    pub(super) fn insert(&mut self, nlri: Nlri) {
        if self.known.len() < REMEMBERED {
            self.known.insert(nlri);
        } else if !self.known.contains(&nlri) {
            self.more = true;
        }
    }

    pub(super) fn remove(&mut self, nlri: &Nlri) {
        self.known.remove(nlri);
    }

    /// Which prefixes that cover an address it has; `covering`: all that do. Without path identifiers
    /// these alone are looked up.
    fn covering(&self, address: IpAddr, covering: &[IpNet], has_ids: bool) -> Vec<IpNet> {
        if !has_ids {
            let refused = |prefix: &&IpNet| self.known.contains(&Nlri::from(**prefix));
            return covering.iter().filter(refused).copied().collect();
        }
        let covers = self.known.iter().map(|nlri| nlri.prefix);
        let mut covers: Vec<_> = covers.filter(|prefix| prefix.contains(&address)).collect();
        covers.sort_unstable_by_key(|prefix| std::cmp::Reverse(prefix.prefix_len()));
        covers.dedup();
        covers
    }

    /// All are announced again, or were taken.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The peer announces all its routes again: what is refused then is counted then.
    pub(super) fn asked_again(&mut self) {
        self.more = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.more
    }

    /// How many, as text; `None`: none.
    pub(super) fn count(&self) -> Option<String> {
        let count = self.known.len();
        match (count, self.more) {
            (0, false) => None,
            (_, false) => Some(count.to_string()),
            (_, true) => Some(format!("more than {count}")),
        }
    }
}

impl RouteServer {
    /// What peers were refused of the routes to an address; `covering`: all prefixes that cover it.
    #[must_use]
    pub fn refused_routes(&self, address: IpAddr, covering: &[IpNet]) -> Vec<RefusedRoute> {
        let family = match address {
            IpAddr::V4(_) => Family::Ipv4Unicast,
            IpAddr::V6(_) => Family::Ipv6Unicast,
        };
        let mut rows = Vec::new();
        for (id, session) in &self.sessions {
            let Some(up) = &session.up else {
                continue;
            };
            let refused = &up.refused[family as usize];
            if refused.is_empty() {
                continue;
            }
            let has_ids = up.negotiated.add_path_receive.contains(&family);
            let found = refused.covering(address, covering, has_ids).into_iter();
            let mut found: Vec<_> = found.map(Some).collect();
            if found.is_empty() && refused.more {
                found.push(None);
            }
            rows.extend(found.into_iter().map(|prefix| RefusedRoute {
                route_server: id.route_server.clone(),
                peer: session.peer.name.clone(),
                instance: id.instance.0,
                prefix,
                max_prefixes: session.peer.max_prefixes,
            }));
        }
        rows
    }
}

/// Whether `count` of at most `max` routes deserves a warning: 80 %.
pub(super) fn is_near(count: usize, max: usize) -> bool {
    count * 5 >= max * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_that_passes_its_limit_again_and_again_rests_twice_as_long_each_time() {
        let mut rests = Rests::default();
        let minutes = [15, 30, 60, 120, 240, 480, 960, 1440, 1440];
        for expected in minutes {
            assert_eq!(rests.next(MINUTE), expected * MINUTE);
        }
    }

    #[test]
    fn a_session_that_kept_its_limit_for_longer_than_its_rest_begins_anew() {
        let mut rests = Rests::default();
        assert_eq!(rests.next(MINUTE), 15 * MINUTE);
        assert_eq!(rests.next(MINUTE), 30 * MINUTE);
        assert_eq!(rests.next(31 * MINUTE), 15 * MINUTE);
    }

    #[test]
    fn refused_routes_are_counted_once_and_so_many_remembered() {
        let nlri = |path_id| Nlri {
            path_id,
            ..Nlri::from("10.0.0.0/8".parse::<IpNet>().unwrap())
        };
        let mut refused = Refused::default();
        assert!(refused.is_empty());
        assert_eq!(refused.count(), None);
        for _ in 0..3 {
            refused.insert(nlri(1));
        }
        refused.insert(nlri(2));
        assert_eq!(refused.count().as_deref(), Some("2"));
        refused.remove(&nlri(1));
        refused.remove(&nlri(1));
        assert_eq!(refused.count().as_deref(), Some("1"));
        for path_id in 0..REMEMBERED as u32 + 10 {
            refused.insert(nlri(path_id));
        }
        assert_eq!(refused.count().as_deref(), Some("more than 16384"));
        refused.asked_again();
        assert_eq!(refused.count().as_deref(), Some("16384"));
        refused.clear();
        assert!(refused.is_empty());
    }

    #[test]
    fn the_warning_comes_at_80_percent() {
        assert!(!is_near(799, 1000));
        assert!(is_near(800, 1000));
    }
}
