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
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::{
    bgp::{
        RouteChange, SessionCommand, SessionEvent, SessionId, SessionStatus,
        wire::{Family, FamilySet, Negotiated, Nlri, Notification},
    },
    config::{self, LimitAction, PeerPolicy},
    rib::{
        Export, LearnedChange, LearnedRoute, LearnedView, LearnedViewId, LocalSet, LocalSource,
        Rib, SessionIndex, SessionInfo, SourceKind, SourceKinds, View, Zone, ZoneSet,
    },
};

mod additions;
mod detail;
mod import;
mod learned_use;
mod limit;
mod operator;
mod received;
mod reconfigure;
mod refresh;
mod restart;
mod rows;
mod text;

#[cfg(test)]
mod tests;

use import::{ImportRules, Memo, PeerRules};
use limit::{Refused, Rests};
use refresh::Allowance;
use restart::Kept;

pub use learned_use::{LearnedUse, Report};
pub use operator::Operator;
pub use refresh::RefreshError;
pub use rows::Filter;

/// The kind of source that an NVA is.
const NVA: SourceKind = SourceKind(0);

/// Class of NVAs in the decision process: with them alone there is nothing to prefer.
const NVA_CLASS: u8 = 1;

/// One route server with its two instances.
pub struct RouteServer {
    config: config::RouteServer,
    rules: ImportRules,
    originated: BTreeSet<IpNet>,
    /// Who uses what is learned.
    uses: BTreeSet<LearnedUse>,
    /// They have not been told which view they take.
    unassigned: bool,
    rib: Rib,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions that are up, or whose routes are kept, by their place in the RIB.
    up: FxHashMap<SessionIndex, SessionId>,
    /// A number for each peer; both of its sessions have the same.
    identities: BTreeMap<IpAddr, u32>,
    shutdowns: Vec<(SessionId, SessionCommand)>,
    /// Sessions whose rest ends early.
    woken: Vec<SessionId>,
    /// Requests for routes, to go out in front of what is advertised.
    requests: Vec<(SessionId, SessionCommand)>,
    /// When the next chunk of a dump is due.
    step_at: Option<Instant>,
    /// When something is due for a peer that restarts.
    restart_at: Option<Instant>,
    /// We have restarted ourselves: nothing is selected or sent until then (RFC 4724 §4.1).
    deferred_until: Option<Instant>,
    /// What subnets learn as soon as that is over.
    withheld: foldhash::HashMap<IpNet, LearnedRoute>,
}

/// A configured session.
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
}

/// A session that is up.
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
    /// Prefixes treated as withdrawn since the session came up, and what was wrong last.
    malformed: Option<(usize, Arc<str>)>,
}

impl RouteServer {
    /// A route server as configured, no session up yet. `vnet_space`: the address space of its
    /// network and of those peered with it, in which next hops can be resolved; `gateways`: the
    /// gateway host's addresses in it, which are no next hops.
    #[must_use]
    pub fn new(config: &config::RouteServer, vnet_space: &[IpNet], gateways: &[IpAddr]) -> Self {
        let options = reconfigure::decision_options(config);
        let mut this = Self {
            config: config.clone(),
            rules: reconfigure::import_rules(config, vnet_space, gateways),
            originated: BTreeSet::new(),
            uses: BTreeSet::new(),
            unassigned: false,
            rib: Rib::new(options),
            sessions: BTreeMap::new(),
            up: FxHashMap::default(),
            identities: BTreeMap::new(),
            shutdowns: Vec::new(),
            woken: Vec::new(),
            requests: Vec::new(),
            step_at: None,
            restart_at: None,
            deferred_until: None,
            withheld: foldhash::HashMap::default(),
        };
        this.rib
            .set_learned_view(LearnedViewId(0), learned_view(true));
        this.configure_sessions();
        this
    }

    /// The prefixes that the route server originates: the network's own and, later, those of
    /// networks that use it. They go out to all peers; only what changed is sent.
    pub fn set_originated(&mut self, prefixes: BTreeSet<IpNet>) {
        for prefix in self.originated.difference(&prefixes) {
            self.rib.cease_originating(LocalSource::NETWORKS, *prefix);
        }
        for prefix in prefixes.difference(&self.originated) {
            let attributes = Arc::default();
            self.rib
                .originate(LocalSource::NETWORKS, *prefix, attributes);
        }
        self.originated = prefixes;
    }

    /// Who uses what is learned; without any, little of it is told ([`LearnedView::marks_only`]).
    pub fn set_uses(&mut self, uses: BTreeSet<LearnedUse>, now: Instant) {
        let view = learned_view(!uses.is_empty());
        self.rib.set_learned_view(LearnedViewId(0), view);
        self.uses = uses;
        self.unassigned = true;
        self.schedule(now);
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
        let due = [self.step_at, self.next_follow_up()].into_iter();
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

    /// What the networks are to know, since last asked.
    pub fn take_reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        let changes = self.take_learned();
        if !changes.is_empty() {
            reports.push(Report::Changes(changes));
        }
        if self.unassigned && self.deferred_until.is_none() {
            self.unassigned = false;
            let uses = self.uses.iter().cloned();
            reports.extend(uses.map(|of| Report::Assign(of, LearnedViewId::default())));
        }
        reports
    }

    fn take_learned(&mut self) -> Vec<LearnedChange> {
        let changes = self.rib.take_learned();
        if self.deferred_until.is_some() {
            // Nobody knows of any route yet: what counts is what stands in the end, however often it
            // changes until then.
            for LearnedChange { prefix, route, .. } in changes {
                match route {
                    Some(route) => self.withheld.insert(prefix, route),
                    None => self.withheld.remove(&prefix),
                };
            }
            return Vec::new();
        }
        let withheld = std::mem::take(&mut self.withheld).into_iter();
        let withheld = withheld.map(|(prefix, route)| {
            let route = Some(route);
            LearnedChange {
                view: LearnedViewId::default(),
                prefix,
                route,
            }
        });
        withheld.chain(changes).collect()
    }

    /// What sessions are to do, since last asked; in order for each session.
    pub fn take_commands(&mut self) -> Vec<(SessionId, SessionCommand)> {
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
        self.deferred_until.is_none() && !self.rib.is_telling() && sessions.all(Session::has_told)
    }

    fn session_up(&mut self, id: &SessionId, negotiated: Arc<Negotiated>, now: Instant) {
        self.shutdowns.retain(|(other, _)| other != id);
        if !self.sessions.contains_key(id) {
            return;
        }
        let index = match self.session_is_back(id, &negotiated, now) {
            Some(index) => index,
            None => self.rib.add_session(SessionInfo {
                id: id.clone(),
                router_id: negotiated.peer_router_id,
                kind: NVA,
                identity: self.identities[&id.peer],
                class: NVA_CLASS,
                ebgp: negotiated.local_asn != negotiated.peer_asn,
                gateway: false,
                may_blackhole: false,
            }),
        };
        let session = self.sessions.get_mut(id).expect("looked up above");
        session.resting = false;
        session.up = Some(Up {
            index,
            rules: session.rules(),
            negotiated: negotiated.clone(),
            since: now,
            ended: FamilySet::EMPTY,
            refused: Default::default(),
            asked: [None; 2],
            ask_at: [None; 2],
            refreshing: [None; 2],
            allowance: Allowance::new(now),
            warned: FamilySet::EMPTY,
            malformed: None,
        });
        self.up.insert(index, id.clone());
        self.plan_restarts();
        if self.deferred_until.is_none() {
            let view = self.view(id, &negotiated);
            self.rib.join(index, view);
        }
    }

    /// A session is gone for good, with all its routes.
    fn session_down(&mut self, id: &SessionId) {
        self.requests.retain(|(other, _)| other != id);
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
                    let mut memo = Memo::default();
                    let mut interned = [None, None];
                    for nlri in nlri {
                        let prefix = nlri.prefix;
                        let imported = self.rules.import(&up.rules, prefix, &attributes, &mut memo);
                        let family = Family::of(&prefix) as usize;
                        let interned = interned[family].get_or_insert_with(|| {
                            let made = imported.attributes.clone();
                            self.rib.intern(attributes.clone(), made, imported.weight)
                        });
                        let judgement = &imported.judgement;
                        let new = self.rib.announce(up.index, nlri, interned, judgement);
                        if new && noted {
                            added.push(nlri);
                        }
                    }
                    drop((memo, attributes));
                    for interned in interned.into_iter().flatten() {
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

impl RouteServer {
    /// What a session is sent.
    fn view(&self, id: &SessionId, negotiated: &Negotiated) -> View {
        let session = self.sessions.get(id);
        let (max_paths, export) = session
            .map(|session| (session.peer.add_path.send, session.export(&self.config)))
            .unwrap_or_default();
        view(&self.config, id, negotiated, max_paths, export)
    }
}

impl Session {
    /// Nothing more is to be learned of what the peer announced before the start.
    fn has_told(&self) -> bool {
        self.synchronised || self.operator.shutdown.is_some()
    }

    /// By which its paths are to be imported.
    fn rules(&self) -> PeerRules {
        PeerRules {
            asn: self.peer.asn,
            policy: self.peer.policy,
            role: self.peer.role.map(|settings| settings.role),
            drained: self.operator.drained,
        }
    }

    /// What is special about the routes that it is sent.
    fn export(&self, config: &config::RouteServer) -> Export {
        let PeerPolicy {
            as_override,
            transparent,
            remove_private_as,
            ..
        } = self.peer.policy;
        Export {
            // There is no export policy to be configured yet, so that none is (RFC 8212 §2).
            closed: config.require_policy,
            transparent,
            replaced_asn: as_override.then_some(self.peer.asn),
            remove_private_as,
            role: self.peer.role.map(|settings| settings.role),
            graceful_shutdown: self.operator.drained,
        }
    }
}

/// All that is learned.
fn learned_view(forwarding: bool) -> LearnedView {
    LearnedView {
        sources: SourceKinds::ALL,
        reach: ZoneSet::from([Zone(0)]),
        marks_only: !forwarding,
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

/// What a session of this route server is sent. Its instance's addresses are the next hops of
/// what the route server originates. `max_paths`: of a prefix, with ADD-PATH.
fn view(
    config: &config::RouteServer,
    id: &SessionId,
    negotiated: &Negotiated,
    max_paths: u8,
    export: Export,
) -> View {
    let instance = config
        .instances
        .iter()
        .find(|instance| instance.id == id.instance);
    let addresses = instance.map_or(&[][..], |instance| &instance.addresses);
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 = addresses.iter().find(|address| address.is_ipv6());
    // RFC 8950: an instance without an IPv4 address can still be reached for IPv4.
    let v4 = v4.or(v6.filter(|_| negotiated.extended_next_hop));
    let mut sources = SourceKinds::default();
    if config.reflect_between_nvas {
        sources = sources.with(NVA);
    }
    View {
        context: negotiated.context(),
        asn: config.asn,
        max_paths,
        sources,
        long_lived: negotiated.peer.knows_long_lived(),
        export,
        next_hop_v4: v4.map(|address| (*address).into()),
        next_hop_v6: v6.map(|address| (*address).into()),
        locals: LocalSet::NETWORKS,
        cluster_id: None,
        until: [None; 2],
        policy: None,
    }
}
