//! Changes of routes: written one by one as long as they are few, else summed up.
//!
//! In: what route servers tell the networks, with what caused it, and the time. Out: events. A table of
//! a million routes writes a few lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use foldhash::HashMap;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{
    Events, What,
    event::{RouteChange, RouteEvent, RouteSummary},
};
use crate::{
    names::{PeerName, RouteServerName},
    rib::{LearnedChange, LearnedRoute, LearnedViewId},
    route_server::Report,
};

/// Changes written one by one, a second.
pub const CHANGES_A_SECOND: usize = 200;

/// Causes told apart in the summaries of one second.
const CAUSES: usize = 64;

/// How long changes are counted before they are summed up.
const PERIOD: Duration = Duration::from_secs(1);

/// Why routes changed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Cause {
    /// For people.
    pub text: String,
    /// The peers whose messages or sessions it was.
    pub peers: Vec<PeerName>,
}

/// Where packets to a prefix go by a learned route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Sorted, so that the same ones are equal. Empty: packets are dropped.
    next_hops: Vec<IpAddr>,
    /// They are dropped because the best path carries BLACKHOLE (RFC 7999).
    blackhole: bool,
}

impl Way {
    /// To these next hops, in any order.
    #[must_use]
    pub fn to(next_hops: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut next_hops: Vec<_> = next_hops.into_iter().collect();
        next_hops.sort();
        Self {
            next_hops,
            blackhole: false,
        }
    }

    /// Nowhere, as BLACKHOLE asks for.
    #[must_use]
    pub fn blackhole() -> Self {
        Self {
            next_hops: Vec::new(),
            blackhole: true,
        }
    }

    fn of(route: &LearnedRoute) -> Self {
        match route.blackhole {
            true => Self::blackhole(),
            false => Self::to(route.members.iter().map(|member| member.address)),
        }
    }
}

/// What is told of changed routes.
pub struct RouteEvents {
    events: Events,
    /// The views of each route server that stand.
    views: BTreeMap<RouteServerName, Vec<LearnedViewId>>,
    /// Those of them that were assigned to somebody.
    assigned: BTreeMap<RouteServerName, BTreeSet<LearnedViewId>>,
    /// The way to prefixes that changed since the FIB was last told.
    recent: FxHashMap<Key, Option<Way>>,
    /// Since the period began.
    written: usize,
    summed: BTreeMap<(RouteServerName, Cause), Sum>,
    ends: Option<Instant>,
}

type Key = (RouteServerName, LearnedViewId, IpNet);

#[derive(Default)]
struct Sum {
    learned: u64,
    withdrawn: u64,
}

impl RouteEvents {
    /// Nothing has changed yet.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self {
            events,
            views: BTreeMap::new(),
            assigned: BTreeMap::new(),
            recent: FxHashMap::default(),
            written: 0,
            summed: BTreeMap::new(),
            ends: None,
        }
    }

    /// How many learned views of a route server stand.
    #[must_use]
    pub fn views(&self, route_server: &RouteServerName) -> usize {
        self.views.get(route_server).map_or(0, Vec::len)
    }

    /// Forgets route servers that are gone.
    pub fn retain(&mut self, route_servers: &BTreeSet<RouteServerName>) {
        self.views.retain(|name, _| route_servers.contains(name));
        self.assigned.retain(|name, _| route_servers.contains(name));
    }

    /// Notes what a route server tells, each prefix once: of the first view that names it. What a new
    /// view is told until it is assigned stood in others before, unless it is the oldest.
    /// `before`: the way to a prefix in a view as the FIB was last told; `None`: no route.
    pub fn note(
        &mut self,
        route_server: &RouteServerName,
        reports: &[Report],
        cause: &Cause,
        before: impl Fn(LearnedViewId, &IpNet) -> Option<Way>,
        now: Instant,
    ) {
        for report in reports {
            match report {
                Report::Changes(changes) => {
                    self.note_views(route_server, changes);
                    if self.events.is_kept() {
                        self.note_changes(route_server, changes, cause, &before, now);
                    }
                }
                Report::View(..) | Report::Members(..) => {}
                Report::Assign(_, view) => {
                    let assigned = self.assigned.entry(route_server.clone());
                    assigned.or_default().insert(*view);
                }
                Report::Drop(view) => {
                    if let Some(views) = self.views.get_mut(route_server) {
                        views.retain(|known| known != view);
                    }
                    if let Some(assigned) = self.assigned.get_mut(route_server) {
                        assigned.remove(view);
                    }
                }
            }
        }
    }

    /// The FIB has been told what was noted.
    pub fn settled(&mut self) {
        self.recent.clear();
    }

    /// When [`RouteEvents::end_period`] is due.
    #[must_use]
    pub fn period_ends(&self) -> Option<Instant> {
        self.ends
    }

    /// Sums up what was not written one by one, if it is time.
    pub fn end_period(&mut self, now: Instant) {
        if self.ends.is_none_or(|ends| now < ends) {
            return;
        }
        self.ends = None;
        self.written = 0;
        for ((route_server, cause), sum) in std::mem::take(&mut self.summed) {
            let summary = RouteSummary {
                route_server,
                learned: sum.learned,
                withdrawn: sum.withdrawn,
                peers: cause.peers,
            };
            let what = What::Route(RouteEvent::Summary(summary));
            let effect = "subnets follow; too many to be written one by one";
            self.events.tell(what, cause.text, effect);
        }
    }

    fn note_views(&mut self, route_server: &RouteServerName, changes: &[LearnedChange]) {
        let mut last = None;
        for change in changes {
            if last.replace(change.view) == Some(change.view) {
                continue;
            }
            let views = match self.views.get_mut(route_server) {
                Some(views) => views,
                None => self.views.entry(route_server.clone()).or_default(),
            };
            if let Err(place) = views.binary_search(&change.view) {
                views.insert(place, change.view);
            }
        }
    }

    fn note_changes(
        &mut self,
        route_server: &RouteServerName,
        changes: &[LearnedChange],
        cause: &Cause,
        before: &impl Fn(LearnedViewId, &IpNet) -> Option<Way>,
        now: Instant,
    ) {
        let oldest = self.views.get(route_server).and_then(|views| views.first());
        let Some(oldest) = oldest.copied() else {
            return;
        };
        self.end_period(now);
        let mut sum = Sum::default();
        let mut told = self.assigned.get(route_server).cloned();
        let told = told.get_or_insert_default();
        told.insert(oldest);
        // With a keyed hash: peers choose prefixes.
        let mut named: HashMap<IpNet, LearnedViewId> = HashMap::default();
        for change in changes.iter().filter(|change| told.contains(&change.view)) {
            let view = change.view;
            if told.len() > 1 && *named.entry(change.prefix).or_insert(view) != view {
                continue;
            }
            self.ends.get_or_insert(now + PERIOD);
            if self.written >= CHANGES_A_SECOND {
                match change.route {
                    Some(_) => sum.learned += 1,
                    None => sum.withdrawn += 1,
                }
                continue;
            }
            let key = (route_server.clone(), view, change.prefix);
            let was = match self.recent.get(&key) {
                Some(recent) => recent.clone(),
                None => before(view, &change.prefix),
            };
            self.write(key, was, change, cause);
        }
        if sum.learned + sum.withdrawn > 0 {
            let mut key = (route_server.clone(), cause.clone());
            if self.summed.len() >= CAUSES && !self.summed.contains_key(&key) {
                key.1 = Cause {
                    text: "other causes".to_owned(),
                    peers: Vec::new(),
                };
            }
            let total = self.summed.entry(key).or_default();
            total.learned += sum.learned;
            total.withdrawn += sum.withdrawn;
        }
    }

    fn write(&mut self, key: Key, was: Option<Way>, change: &LearnedChange, cause: &Cause) {
        let is = change.route.as_ref().map(Way::of);
        if is.is_some() && was == is {
            // Its weights changed, or its backups.
            return;
        }
        let next_hops = |way: &Option<Way>| -> Vec<IpAddr> {
            let way = way.as_ref();
            way.map(|way| way.next_hops.clone()).unwrap_or_default()
        };
        let (route_server, _, prefix) = key.clone();
        let told = RouteChange {
            route_server,
            prefix,
            before: next_hops(&was),
            after: next_hops(&is),
            peers: cause.peers.clone(),
        };
        let effect = match &is {
            Some(way) if way.blackhole => "packets are dropped: its best path carries BLACKHOLE",
            Some(way) if way.next_hops.is_empty() => {
                "packets are dropped: no next hop of it can be resolved"
            }
            Some(_) => "subnets send packets there",
            None => "packets take a shorter prefix, or none",
        };
        let event = match (&was, &is) {
            (_, None) => RouteEvent::Withdrawn(told),
            (None, Some(_)) => RouteEvent::Learned(told),
            (Some(_), Some(_)) => RouteEvent::Changed(told),
        };
        self.written += 1;
        self.events
            .tell(What::Route(event), cause.text.clone(), effect);
        self.recent.insert(key, is);
    }
}
