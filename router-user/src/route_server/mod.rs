//! The product's rules of a route server: who may learn what from whom.
//!
//! In: session events, the configuration, and the prefixes that the virtual network wants
//! advertised. Out: learned routes for `vnet`, commands for sessions, rows for people. Wire formats
//! and maps are not known here. Pure: no I/O, and time comes with each call (invariant 2). One task
//! owns a route server and its RIB (invariant 1).
//!
//! Both instances work on one RIB; a session is (instance, peer). A peer that announces the same to
//! both instances has two equal paths to each prefix, and whichever session is lost, the other one
//! keeps the route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    bgp::{
        RouteChange, SessionCommand, SessionEvent, SessionId, SessionStatus,
        wire::{Aggregator, Family, FamilySet, Negotiated, Nlri, Notification},
    },
    config::{self, LimitAction},
    rib::{
        DecisionOptions, Imported, Interned, Judgement, LearnedViewId, LocalSource, Rib,
        SessionIndex, SessionInfo,
    },
};

mod custom;
mod detail;
mod identity;
mod import;
mod kind;
mod known_zones;
mod learned_use;
mod limit;
mod maps;
mod members;
mod notice;
mod operator;
mod outbound;
mod pages;
pub mod policy;
mod received;
mod reconfigure;
mod refresh;
mod restart;
mod rows;
mod shadow;
mod space;
mod tell;
mod text;
mod views;
mod warnings;

#[cfg(test)]
mod tests;

use custom::{LocalSources, StaticRoutes};
use identity::Identities;
use import::{ImportRules, Kin, PeerRules};
use known_zones::KnownZones;
use limit::{Refused, Rests};
use maps::Maps;
use members::Members;
use notice::LimitWatch;
use outbound::{Fitted, Outbound, Overfed};
use refresh::Allowance;
use restart::Kept;

pub use custom::STATIC_PEER;
pub use learned_use::{LearnedUse, Report, ViewPlan};
pub use notice::{LimitLevel, LimitNotice};
pub use operator::Operator;
pub use pages::{Page, sort_advertised, sort_learned, sort_received};
pub use refresh::RefreshError;
pub use rows::Filter;
pub use shadow::{Recollection, Settled};
pub use space::Surroundings;

use space::Zones;
use views::Views;

/// One route server with its two instances. A clone can become a shadow, on which another configuration
/// is tried ([`RouteServer::become_shadow`]).
#[derive(Clone)]
pub struct RouteServer {
    config: config::RouteServer,
    zones: Zones,
    rules: ImportRules,
    originated: BTreeSet<IpNet>,
    local_sources: LocalSources,
    maps: Maps,
    static_routes: StaticRoutes,
    /// Who uses what is learned.
    uses: BTreeSet<LearnedUse>,
    /// What they come to.
    views: Views,
    /// Views of before, of which the networks are to be told that they are gone.
    forgotten_views: Vec<LearnedViewId>,
    /// They are to be grouped anew.
    regroup: bool,
    /// The networks that have held next hops since the configuration changed, or are to.
    known_zones: KnownZones,
    members: Members,
    /// What was last said of the number of peers.
    many_peers_told: Option<String>,
    rib: Rib,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions that are up, or whose routes are kept, by their place in the RIB.
    up: FxHashMap<SessionIndex, SessionId>,
    identities: Identities,
    shutdowns: Vec<(SessionId, SessionCommand)>,
    /// Sessions whose rest ends early.
    woken: Vec<SessionId>,
    /// To be told of limits.
    notices: Vec<LimitNotice>,
    /// Requests for routes, to go out in front of what is advertised.
    requests: Vec<(SessionId, SessionCommand)>,
    /// When the next chunk of a dump is due.
    step_at: Option<Instant>,
    /// When something is due for a peer that restarts.
    restart_at: Option<Instant>,
    /// We have restarted ourselves: nothing is selected or sent until then (RFC 4724 §4.1).
    deferred_until: Option<Instant>,
}

/// A configured session.
#[derive(Clone)]
struct Session {
    peer: config::Peer,
    operator: Operator,
    status: SessionStatus,
    /// What the peer said when it closed the session (RFC 9003).
    farewell: Option<String>,
    up: Option<Up>,
    /// Its routes of before, while it restarts.
    kept: Option<Kept>,
    /// Has sent End-of-RIB for all families since the route server was made.
    synchronised: bool,
    rests: Rests,
    /// Closed for its number of routes, and not up since.
    resting: bool,
    /// Closed for the number of routes that it was to be sent.
    overfed: Option<Overfed>,
}

/// A session that is up.
#[derive(Clone)]
struct Up {
    index: SessionIndex,
    negotiated: Arc<Negotiated>,
    /// By which its paths were imported.
    rules: PeerRules,
    since: Instant,
    ended: FamilySet,
    /// Routes refused because of the limit, by family.
    refused: [Refused; 2],
    /// When the peer was last asked for refused routes, and when it is to be asked, by family.
    asked: [Option<Instant>; 2],
    ask_at: [Option<Instant>; 2],
    /// The peer announces its routes of the family again; by when it must have ended that.
    refreshing: [Option<Instant>; 2],
    /// How often it may begin that.
    allowance: Allowance,
    /// Families for which the 80 % warning has been logged.
    warned: FamilySet,
    /// What the limit of what it is sent has led to, by family.
    outbound: [Outbound; 2],
    /// What it has last been applied to, if it keeps routes back.
    fitted: Option<Box<Fitted>>,
    /// How near the limit is that was told last, by family.
    limits: [LimitWatch; 2],
    /// Prefixes treated as withdrawn since the session came up, and what was wrong last.
    malformed: Option<(usize, Arc<str>)>,
}

impl RouteServer {
    /// A route server as configured, no session up yet.
    #[must_use]
    pub fn new(config: &config::RouteServer, surroundings: &Surroundings) -> Self {
        let mut zones = Zones::default();
        let space = zones.number(surroundings);
        let mut this = Self {
            config: config.clone(),
            zones,
            rules: reconfigure::import_rules(config, space),
            originated: BTreeSet::new(),
            local_sources: LocalSources::default(),
            maps: Maps::default(),
            static_routes: StaticRoutes::default(),
            uses: BTreeSet::new(),
            views: Views::default(),
            forgotten_views: Vec::new(),
            regroup: false,
            known_zones: KnownZones::default(),
            members: Members::default(),
            many_peers_told: None,
            rib: Rib::new(decision_options(config)),
            sessions: BTreeMap::new(),
            up: FxHashMap::default(),
            identities: Identities::default(),
            shutdowns: Vec::new(),
            woken: Vec::new(),
            notices: Vec::new(),
            requests: Vec::new(),
            step_at: None,
            restart_at: None,
            deferred_until: None,
        };
        this.maps.apply(config);
        this.configure_sessions();
        let expected = this.expected_zones(&this.rules.space);
        this.known_zones.configure(expected, None);
        this.apply_custom_routes();
        this.local_sources.warn_if_short(config);
        this
    }

    /// The prefixes that the route server originates for the networks that use it. They go out to all
    /// peers; only what changed is sent.
    pub fn set_originated(&mut self, prefixes: BTreeSet<IpNet>) {
        for prefix in self.originated.difference(&prefixes) {
            self.rib.cease_originating(LocalSource::NETWORKS, *prefix);
        }
        for prefix in prefixes.difference(&self.originated) {
            self.rib
                .originate(LocalSource::NETWORKS, *prefix, Arc::default());
        }
        self.originated = prefixes;
    }

    /// What a session tells. Events of sessions that are not configured (any longer), and routes of
    /// sessions that are not up (any longer), are ignored.
    pub fn handle(&mut self, event: SessionEvent, now: Instant) {
        self.note_farewell(&event);
        match event {
            SessionEvent::Up { id, negotiated, .. } => self.session_up(&id, negotiated, now),
            SessionEvent::Routes { id, changes, .. } => self.routes(&id, changes, now),
            SessionEvent::RefreshRequested { id, family } => self.refresh(&id, family),
            SessionEvent::RefreshBegins { id, family } => self.refresh_begins(&id, family, now),
            SessionEvent::RefreshEnds { id, family } => self.refresh_ends(&id, family, now),
            SessionEvent::Drained { id } => {
                if let Some(index) = self.index(&id) {
                    self.rib.resume(index);
                }
            }
            SessionEvent::Down { id, reason } => self.session_lost(&id, &reason, now),
            SessionEvent::Status { id, status } => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.status = status;
                }
            }
        }
        self.schedule(now);
    }

    /// When [`RouteServer::on_timeout`] is to be called; may lie in the past.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let restarts = [self.restart_at, self.deferred_until];
        let due = [self.step_at, self.next_follow_up(), self.next_fill()].into_iter();
        due.chain(restarts).flatten().min()
    }

    /// Goes on with what is due: the next chunk of the table for sessions that came up or asked
    /// for it, refreshes of peers, and what waits for peers that restart. Chunks are small so that
    /// events get their turn between them.
    pub fn on_timeout(&mut self, now: Instant) {
        self.follow_up(now);
        if self.restart_at.is_some_and(|at| at <= now) {
            self.end_waiting(now);
        }
        if self.step_at.is_some_and(|at| at <= now) {
            self.rib.step();
            self.step_at = None;
        }
        self.schedule(now);
    }

    /// What sessions are to do, since last asked; in order for each session.
    pub fn take_commands(&mut self, now: Instant) -> Vec<(SessionId, SessionCommand)> {
        self.limit_advertised(now);
        let messages = self.rib.take_messages().into_iter();
        let messages = messages.map(|(index, bytes)| {
            let id = self.up[&index].clone();
            (id, SessionCommand::Send(bytes))
        });
        let shutdowns = std::mem::take(&mut self.shutdowns);
        let requests = std::mem::take(&mut self.requests);
        let first = shutdowns.into_iter().chain(requests);
        first.chain(messages).collect()
    }

    /// A session takes no more for now: what changes is not sent to it until it has drained.
    pub fn hold(&mut self, id: &SessionId) {
        if let Some(index) = self.index(id) {
            self.rib.hold(index);
        }
    }

    fn index(&self, id: &SessionId) -> Option<SessionIndex> {
        Some(self.sessions.get(id)?.up.as_ref()?.index)
    }

    /// Sessions that were closed for their number of routes and need not rest any longer, since last
    /// asked: they are to be started.
    pub fn take_woken(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.woken)
    }

    /// Whether every configured session has come up and sent End-of-RIB since the start, or is shut
    /// down: what was not learned by then is gone.
    #[must_use]
    pub fn synchronised(&self) -> bool {
        let mut sessions = self.sessions.values();
        self.deferred_until.is_none()
            && !self.regroup
            && self.views.are_settled()
            && sessions.all(Session::has_told)
    }

    fn session_up(&mut self, id: &SessionId, negotiated: Arc<Negotiated>, now: Instant) {
        self.shutdowns.retain(|(other, _)| other != id);
        if !self.sessions.contains_key(id) {
            return;
        }
        let index = match self.session_is_back(id, &negotiated, now) {
            Some(index) => index,
            None => self.rib.add_session(self.info(id, &negotiated)),
        };
        let aggregator = Aggregator {
            asn: self.config.asn,
            id: negotiated.local_router_id,
        };
        self.rib.set_aggregator(index, aggregator);
        let session = self.sessions.get_mut(id).expect("looked up above");
        session.resting = false;
        session.overfed = None;
        session.up = Some(Up {
            index,
            rules: session.rules(&self.maps),
            negotiated: negotiated.clone(),
            since: now,
            ended: FamilySet::EMPTY,
            refused: Default::default(),
            asked: [None; 2],
            ask_at: [None; 2],
            refreshing: [None; 2],
            allowance: Allowance::new(now),
            warned: FamilySet::EMPTY,
            outbound: Default::default(),
            fitted: None,
            limits: Default::default(),
            malformed: None,
        });
        self.up.insert(index, id.clone());
        self.members.change();
        self.plan_restarts();
        if self.deferred_until.is_none() {
            self.join(id);
        }
    }

    /// What the RIB is to know of a session that came up.
    fn info(&self, id: &SessionId, negotiated: &Negotiated) -> SessionInfo {
        let peer = &self.sessions[id].peer;
        let source = kind::source(peer.kind());
        SessionInfo {
            id: id.clone(),
            router_id: negotiated.peer_router_id,
            kind: source,
            identity: self.identities.of(peer),
            class: kind::class(self.config.routing_preference, source),
            ebgp: negotiated.local_asn != negotiated.peer_asn,
            gateway: peer.membership.is_some(),
            may_blackhole: peer.policy.allow_blackhole,
        }
    }

    /// A session is gone for good, with all its routes.
    fn session_down(&mut self, id: &SessionId) {
        self.requests.retain(|(other, _)| other != id);
        self.members.change();
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let up = session.up.take().map(|up| up.index);
        let kept = session.kept.take().map(|kept| kept.index);
        if let Some(index) = up.or(kept) {
            self.rib.remove_session(index);
            self.up.remove(&index);
        }
    }

    fn routes(&mut self, id: &SessionId, changes: Vec<RouteChange>, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(up) = &mut session.up else {
            return;
        };
        let discards = session.peer.limit_action == LimitAction::Discard;
        let noted = discards || up.refused.iter().any(|refused| !refused.is_empty());
        let mut added: Vec<Nlri> = Vec::new();
        for change in changes {
            match change {
                RouteChange::Announce { attributes, nlri } => {
                    let received = &attributes;
                    // What the rules cannot tell apart is imported once.
                    let mut kins: SmallVec<[(Kin, Interned, Judgement); 2]> = SmallVec::new();
                    let mut places: FxHashMap<Kin, usize> = FxHashMap::default();
                    let mut place = 0;
                    for nlri in nlri {
                        let kin = up.rules.kin(nlri.prefix);
                        if kins.get(place).is_none_or(|(last, ..)| *last != kin) {
                            place = *places.entry(kin).or_insert_with(|| {
                                let Imported {
                                    judgement,
                                    attributes,
                                    weight,
                                } = self.rules.import(&up.rules, kin, received);
                                let judgement = self.known_zones.admit(judgement);
                                let received = received.clone();
                                let interned = self.rib.intern(received, attributes, weight);
                                kins.push((kin, interned, judgement));
                                kins.len() - 1
                            });
                        }
                        let (_, interned, judgement) = &kins[place];
                        let new = self.rib.announce(up.index, nlri, interned, judgement);
                        if new && noted {
                            added.push(nlri);
                        }
                    }
                    drop(attributes);
                    for (_, interned, _) in kins {
                        self.rib.release(interned);
                    }
                }
                RouteChange::Withdraw { nlri, malformed } => {
                    if let Some(what) = malformed {
                        let before = up.malformed.take().map_or(0, |(count, _)| count);
                        up.malformed = Some((before + nlri.len(), what));
                    }
                    for nlri in nlri {
                        if !self.rib.withdraw(up.index, nlri) {
                            let family = Family::of(&nlri.prefix);
                            up.refused[family as usize].remove(&nlri);
                        }
                    }
                }
                RouteChange::EndOfRib(family) => {
                    up.ended = up.ended.with(family);
                    if let Some(kept) = &mut session.kept
                        && kept.ended(family)
                    {
                        let swept = self.rib.sweep_stale(up.index, family);
                        tracing::info!(session = %id, %family, swept, "the peer is back; what it did not announce again is gone");
                    }
                    let mut families = up.negotiated.families.iter();
                    session.synchronised |= families.all(|family| up.ended.contains(*family));
                }
            }
        }
        self.enforce_limit(id, &added, now);
        self.ask_for_refused(id, now);
    }

    /// Applies the limit to what the session has announced so far. `added`: the routes that are
    /// new, in order, for [`LimitAction::Discard`].
    fn enforce_limit(&mut self, id: &SessionId, added: &[Nlri], now: Instant) {
        let session = self.sessions.get_mut(id).expect("the caller has found it");
        let Some(up) = &mut session.up else {
            return;
        };
        let max = session.peer.max_prefixes as usize;
        let action = session.peer.limit_action;
        for family in Family::ALL {
            // What it announced before its restart, or before it began to announce all again, does not
            // count beside what it announces now; but one that begins again and again piles up no more
            // than once the limit of it.
            let received = self.rib.totals(up.index).received[family as usize];
            if action != LimitAction::Warn && received > max.saturating_mul(2) {
                let swept = self.rib.sweep_stale(up.index, family);
                if swept > 0 {
                    tracing::warn!(session = %id, %family, swept, "stale routes beyond its prefix limit are gone");
                }
            }
            let totals = self.rib.totals(up.index);
            let count = totals.received[family as usize] - totals.stale[family as usize];
            if limit::is_near(count, max) && !up.warned.contains(family) {
                up.warned = up.warned.with(family);
                tracing::warn!(session = %id, %family, count, max, "near its prefix limit");
            }
            if let Some(level) = up.limits[family as usize].rises_to(count, max) {
                self.notices.push(LimitNotice {
                    id: id.clone(),
                    peer: session.peer.name.clone(),
                    family,
                    advertised: false,
                    level,
                    count,
                    max,
                    effect: notice::effect(level, &session.peer),
                });
            }
            let refused = &mut up.refused[family as usize];
            if !refused.is_empty() {
                added.iter().for_each(|nlri| refused.remove(nlri));
            }
            if count <= max {
                continue;
            }
            match action {
                LimitAction::Warn => {}
                LimitAction::Discard => {
                    let excess = count - max;
                    refuse(&mut self.rib, up, family, added, excess);
                }
                LimitAction::Teardown => {
                    let idle = session.rests.next(now.saturating_duration_since(up.since));
                    tracing::warn!(session = %id, %family, count, max, ?idle, "over its prefix limit");
                    let limit = session.peer.max_prefixes;
                    let restarts = session.peer.limit_restart;
                    session.resting = true;
                    self.shutdowns.push((
                        id.clone(),
                        SessionCommand::Shutdown {
                            notification: Notification::max_prefixes_reached(family, limit),
                            idle: restarts.then_some(idle),
                        },
                    ));
                    return self.session_down(id);
                }
            }
        }
    }

    fn schedule(&mut self, now: Instant) {
        self.end_deferral(now);
        if self.step_at.is_none() && self.rib.is_dumping() {
            self.step_at = Some(now);
        }
    }
}

impl Session {
    /// Nothing more is to be learned of what the peer announced before the start.
    fn has_told(&self) -> bool {
        self.synchronised || self.operator.shutdown.is_some()
    }

    /// By which its paths are to be imported.
    fn rules(&self, maps: &Maps) -> PeerRules {
        PeerRules {
            asn: self.peer.asn,
            kind: self.peer.kind(),
            policy: self.peer.policy,
            role: self.peer.role.map(|settings| settings.role),
            drained: self.operator.drained,
            map: maps.inbound(&self.peer),
        }
    }
}

/// Refuses `excess` routes of a session: those that came last, and beyond them (the limit was
/// lowered) the last ones by prefix and path identifier.
fn refuse(rib: &mut Rib, up: &mut Up, family: Family, added: &[Nlri], mut excess: usize) {
    let refused = &mut up.refused[family as usize];
    let of_family = |nlri: &&Nlri| Family::of(&nlri.prefix) == family;
    for nlri in added.iter().rev().filter(of_family) {
        if excess == 0 {
            return;
        }
        if rib.withdraw(up.index, *nlri) {
            refused.insert(*nlri);
            excess -= 1;
        }
    }
    if excess == 0 {
        // The whole table is not to be looked through for each route that is beyond the limit.
        return;
    }
    for nlri in rib.last_routes(up.index, family, excess) {
        rib.withdraw(up.index, nlri);
        refused.insert(nlri);
    }
}

/// How paths are chosen.
fn decision_options(config: &config::RouteServer) -> DecisionOptions {
    DecisionOptions {
        max_paths: config.max_paths.into(),
        always_compare_med: config.always_compare_med,
    }
}
