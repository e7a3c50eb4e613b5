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
        wire::{Family, FamilySet, Negotiated, Nlri},
    },
    config::{self, LimitAction},
    rib::{
        DecisionOptions, LearnedChange, Rib, SessionIndex, SessionInfo, SourceKind, SourceKinds,
        View,
    },
};

mod import;
mod limit;
mod reconfigure;
mod rows;
mod text;

#[cfg(test)]
mod tests;

use import::ImportRules;
use limit::Rests;

pub use rows::Filter;

/// The kind of source that an NVA is.
const NVA: SourceKind = SourceKind(0);

/// Class of NVAs in the decision process: with them alone there is nothing to prefer.
const NVA_CLASS: u8 = 1;

/// Cease: maximum number of prefixes reached (RFC 4486 §3).
const MAXIMUM_PREFIXES: u8 = 1;

/// One route server with its two instances.
pub struct RouteServer {
    config: config::RouteServer,
    rules: ImportRules,
    originated: BTreeSet<IpNet>,
    rib: Rib,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions that are up, by their place in the RIB.
    up: FxHashMap<SessionIndex, SessionId>,
    /// A number for each peer; both of its sessions have the same.
    identities: BTreeMap<IpAddr, u32>,
    shutdowns: Vec<(SessionId, SessionCommand)>,
    /// When the next chunk of a dump is due.
    step_at: Option<Instant>,
}

/// A configured session.
struct Session {
    peer: config::Peer,
    status: SessionStatus,
    up: Option<Up>,
    /// Has sent End-of-RIB for all families since the route server was made.
    synchronised: bool,
    rests: Rests,
}

/// A session that is up.
struct Up {
    index: SessionIndex,
    negotiated: Arc<Negotiated>,
    since: Instant,
    ended: FamilySet,
    /// Routes refused because of the limit, by family.
    refused: [usize; 2],
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
        let options = DecisionOptions {
            max_paths: config.max_paths.into(),
            always_compare_med: false,
        };
        let mut this = Self {
            config: config.clone(),
            rules: reconfigure::import_rules(config, vnet_space, gateways),
            originated: BTreeSet::new(),
            rib: Rib::new(options),
            sessions: BTreeMap::new(),
            up: FxHashMap::default(),
            identities: BTreeMap::new(),
            shutdowns: Vec::new(),
            step_at: None,
        };
        this.configure_sessions();
        this
    }

    /// The prefixes that the route server originates: the network's own and, later, those of
    /// networks that use it. They go out to all peers; only what changed is sent.
    pub fn set_originated(&mut self, prefixes: BTreeSet<IpNet>) {
        for prefix in self.originated.difference(&prefixes) {
            self.rib.cease_originating(*prefix);
        }
        for prefix in prefixes.difference(&self.originated) {
            self.rib.originate(*prefix);
        }
        self.originated = prefixes;
    }

    /// Whether subnets forward by what is learned; if not, little of it is told
    /// ([`Rib::set_forwarding`]).
    pub fn set_forwarding(&mut self, forwarding: bool, now: Instant) {
        self.rib.set_forwarding(forwarding);
        self.schedule(now);
    }

    /// What a session tells. Events of sessions that are not configured (any longer), and routes of
    /// sessions that are not up (any longer), are ignored.
    pub fn handle(&mut self, event: SessionEvent, now: Instant) {
        match event {
            SessionEvent::Up { id, negotiated, .. } => self.session_up(&id, negotiated, now),
            SessionEvent::Routes { id, changes, .. } => self.routes(&id, changes, now),
            SessionEvent::RefreshRequested { id, family } => self.refresh(&id, family),
            SessionEvent::Drained { id } => {
                if let Some(index) = self.index(&id) {
                    self.rib.resume(index);
                }
            }
            SessionEvent::Down { id, .. } => self.session_down(&id),
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
        self.step_at
    }

    /// Goes on with what is due: the next chunk of the table for sessions that came up or asked
    /// for it. Chunks are small so that events get their turn between them.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.step_at.is_some_and(|at| at <= now) {
            self.rib.step();
            self.step_at = None;
            self.schedule(now);
        }
    }

    /// What subnets learn, since last asked.
    pub fn take_learned(&mut self) -> Vec<LearnedChange> {
        self.rib.take_learned()
    }

    /// What sessions are to do, since last asked; in order for each session.
    pub fn take_commands(&mut self) -> Vec<(SessionId, SessionCommand)> {
        let messages = self.rib.take_messages().into_iter();
        let messages = messages.map(|(index, bytes)| {
            let id = self.up[&index].clone();
            (id, SessionCommand::Send(bytes))
        });
        let shutdowns = std::mem::take(&mut self.shutdowns);
        shutdowns.into_iter().chain(messages).collect()
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

    /// Whether every configured session has come up and sent End-of-RIB since the start: what was
    /// not learned by then is gone.
    #[must_use]
    pub fn synchronised(&self) -> bool {
        let mut sessions = self.sessions.values();
        sessions.all(|session| session.synchronised) && !self.rib.is_telling()
    }

    fn session_up(&mut self, id: &SessionId, negotiated: Arc<Negotiated>, now: Instant) {
        self.session_down(id);
        self.shutdowns.retain(|(other, _)| other != id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let index = self.rib.add_session(SessionInfo {
            id: id.clone(),
            router_id: negotiated.peer_router_id,
            kind: NVA,
            identity: self.identities[&id.peer],
            class: NVA_CLASS,
            ebgp: negotiated.local_asn != negotiated.peer_asn,
            gateway: false,
        });
        let view = view(&self.config, id, &negotiated);
        session.up = Some(Up {
            index,
            negotiated,
            since: now,
            ended: FamilySet::EMPTY,
            refused: [0; 2],
            warned: FamilySet::EMPTY,
            malformed: None,
        });
        self.up.insert(index, id.clone());
        self.rib.join(index, view);
    }

    fn session_down(&mut self, id: &SessionId) {
        let up = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.up.take());
        if let Some(up) = up {
            self.rib.remove_session(up.index);
            self.up.remove(&up.index);
        }
    }

    fn refresh(&mut self, id: &SessionId, family: Family) {
        let up = self
            .sessions
            .get(id)
            .and_then(|session| session.up.as_ref());
        if let Some(up) = up.filter(|up| up.negotiated.families.contains(&family)) {
            self.rib.refresh(up.index, family);
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
        let mut added: Vec<Nlri> = Vec::new();
        for change in changes {
            match change {
                RouteChange::Announce { attributes, nlri } => {
                    let attributes = self.rib.intern(attributes);
                    let mut judgements = [None, None];
                    for nlri in nlri {
                        let family = Family::of(&nlri.prefix);
                        let judgement = judgements[family as usize].get_or_insert_with(|| {
                            self.rules.judge(session.peer.asn, family, &attributes)
                        });
                        let new = self.rib.announce(up.index, nlri, &attributes, judgement);
                        if new && discards {
                            added.push(nlri);
                        }
                    }
                    self.rib.release(attributes);
                }
                RouteChange::Withdraw { nlri, malformed } => {
                    if let Some(what) = malformed {
                        let before = up.malformed.take().map_or(0, |(count, _)| count);
                        up.malformed = Some((before + nlri.len(), what));
                    }
                    for nlri in nlri {
                        self.rib.withdraw(up.index, nlri);
                    }
                }
                RouteChange::EndOfRib(family) => {
                    up.ended = up.ended.with(family);
                    let mut families = up.negotiated.families.iter();
                    session.synchronised |= families.all(|family| up.ended.contains(*family));
                }
            }
        }
        self.enforce_limit(id, &added, now);
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
            let count = self.rib.totals(up.index).received[family as usize];
            if limit::is_near(count, max) && !up.warned.contains(family) {
                up.warned = up.warned.with(family);
                tracing::warn!(session = %id, %family, count, max, "near its prefix limit");
            }
            if count <= max {
                continue;
            }
            match action {
                LimitAction::Warn => {}
                LimitAction::Discard => {
                    let of_family = |nlri: &&Nlri| Family::of(&nlri.prefix) == family;
                    let mut excess = count - max;
                    for nlri in added.iter().rev().filter(of_family) {
                        if excess == 0 {
                            break;
                        }
                        let refused = usize::from(self.rib.withdraw(up.index, *nlri));
                        excess -= refused;
                        up.refused[family as usize] += refused;
                    }
                }
                LimitAction::Teardown => {
                    let idle = session.rests.next(now.saturating_duration_since(up.since));
                    tracing::warn!(session = %id, %family, count, max, ?idle, "over its prefix limit");
                    let text = format!("{count} routes of {family}, at most {max} are allowed");
                    self.shutdowns.push((
                        id.clone(),
                        SessionCommand::Shutdown {
                            subcode: MAXIMUM_PREFIXES,
                            text,
                            idle: Some(idle),
                        },
                    ));
                    return self.session_down(id);
                }
            }
        }
    }

    fn schedule(&mut self, now: Instant) {
        if self.step_at.is_none() && self.rib.is_dumping() {
            self.step_at = Some(now);
        }
    }
}

/// What a session of this route server is sent. Its instance's addresses are the next hops of
/// what the route server originates.
fn view(config: &config::RouteServer, id: &SessionId, negotiated: &Negotiated) -> View {
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
        sources,
        next_hop_v4: v4.map(|address| (*address).into()),
        next_hop_v6: v6.map(|address| (*address).into()),
    }
}
