//! The routing information base of one route server: interned attributes, Adj-RIB-In, the decision
//! process and Adj-RIB-Out with update groups (RFC 4271 §3.2, §9.1).
//!
//! In: routes per session, judged by `route_server`, and the prefixes that it originates. Out:
//! [`LearnedChange`]s (the ECMP set that subnets use, towards `vnet`) and encoded UPDATEs per
//! session. What a virtual network is, is not known here. One task owns it (invariant 1); no step
//! depends on time (invariant 2).
//!
//! Changes gather until [`Rib::flush`], which works out what they come to: for each changed prefix
//! the learned route before and after, and for each update group the advertised path before and
//! after. Neither is stored: both are functions of the paths, and a batch keeps the paths as they
//! were. Everything that changes those functions (sessions, views) flushes first.
//!
//! A prefix is decided twice. Subnets learn the best of the *learned* paths that count in their view,
//! also of a prefix that the route server originates: whether it overlaps a network's own space is
//! judged per network, in `vnet`. Peers are sent the best of all paths that they may receive; there
//! what is originated here for them wins (step 0), so no learned path of the same prefix is
//! advertised.
//!
//! - `attributes`: equal attribute sets are one allocation, which knows what import made it of.
//! - `table`: prefixes and their paths, in slots; `adj_rib_in`: how sessions change them.
//! - `decision`: which path wins, and why the others lose.
//! - `learned`: what subnets learn, in each of several views; `next_hops`: the route of one prefix.
//! - `aggregates`: prefixes in the place of routes that route maps take out.
//! - `view`, `local`, `policy`, `export`, `outbound`: which paths a group of peers is sent, and as
//!   what; `pack`, `path_id`, `shape`, `adj_rib_out`: how; `lag`: those that do not keep up; `fit`,
//!   `limited`: those that may be sent only so many.
//! - `walk`: the table a part at a time, for those who ask.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZeroU8,
    ops::Deref,
    sync::Arc,
};

use bytes::Bytes;
use ipnet::IpNet;

use crate::bgp::wire::{Aggregator, Family, Nlri, PathAttributes, community};

mod adj_rib_in;
mod adj_rib_out;
mod aggregates;
mod attributes;
mod decision;
mod export;
mod fit;
mod lag;
mod learned;
mod limited;
mod local;
mod next_hops;
mod outbound;
mod pack;
mod path;
mod path_id;
mod policy;
mod shape;
mod table;
mod types;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use adj_rib_in::Core;
use adj_rib_out::{AdjRibOut, CHUNK, Tables};
use aggregates::Aggregates;
use decision::{Decision, Rank};
use learned::{Basis, LearnedRoutes, Scope};
use path::{Path, Standing};
use table::{Address, Table};

pub use aggregates::Audience;
pub use decision::DecisionOptions;
pub use export::Export;
#[cfg(test)]
pub(crate) use fit::FITTED;
pub use local::{LocalSet, LocalSource};
pub use path::{
    Imported, Judgement, SessionIndex, SessionInfo, SessionTotals, SourceKind, Zone, ZoneSet,
};
pub use policy::{Evaluation, ExportPolicy, Source};
pub use types::{
    AdvertisedView, Exclusion, LearnedChange, LearnedNextHop, LearnedRoute, LearnedView,
    LearnedViewId, PathView, PrefixView, Step, Towards, Verdict,
};
pub use view::{SourceKinds, Until, View};
pub use walk::Place;
#[cfg(test)]
pub(crate) use {adj_rib_in::WALKED, adj_rib_out::MOVED_AT_ONCE, attributes::SWEPT};

/// The RIB of one route server. A clone shares the attributes, which the
/// original keeps until it [sweeps](Rib::sweep) after the clone is gone.
#[derive(Clone, Default)]
pub struct Rib {
    tables: Tables,
    core: Core,
    learned: LearnedRoutes,
    aggregates: Aggregates,
    out: AdjRibOut,
}

impl Rib {
    /// An empty RIB.
    #[must_use]
    pub fn new(options: DecisionOptions) -> Self {
        let core = Core {
            options,
            ..Core::default()
        };
        Self {
            core,
            ..Self::default()
        }
    }

    /// A session that came up: its routes can be announced, and it can be sent routes once it
    /// [joins](Rib::join).
    pub fn add_session(&mut self, info: SessionInfo) -> SessionIndex {
        self.core.sessions.insert(info)
    }

    /// A session that is gone, with all its paths. Its index is invalid from here on.
    pub fn remove_session(&mut self, session: SessionIndex) {
        self.leave(session);
        let had_paths = self.core.sessions[session].totals.received != [0; 2];
        self.clear(session);
        self.flush();
        if let Some(shadow) = self.aggregates.forget(session) {
            self.core.sessions.remove(shadow);
        }
        self.core.sessions.remove(session);
        if had_paths {
            self.core.attributes.sweep();
        }
    }

    /// Removes all paths of a session.
    fn clear(&mut self, session: SessionIndex) {
        let Self { tables, core, .. } = self;
        let [v4, v6] = core.sessions[session].totals.received;
        if v4 > 0 {
            core.clear(&mut tables.v4, session);
        }
        if v6 > 0 {
            core.clear(&mut tables.v6, session);
        }
    }

    /// The one allocation for what import made of these attributes, to be given to
    /// [`Rib::announce`]. `imported` is `received` itself where it changed nothing.
    pub fn intern(
        &mut self,
        received: Arc<PathAttributes>,
        imported: Arc<PathAttributes>,
        weight: Option<NonZeroU8>,
    ) -> Interned {
        self.core.intern(received, imported, weight)
    }

    /// Gives attributes back that [`Rib::intern`] gave out.
    pub fn release(&mut self, attributes: Interned) {
        self.core.attributes.release(attributes.attributes);
    }

    /// A path, new or replacing the session's path with the same id; `true`: new, or announced again
    /// after that one was [marked](Rib::mark_stale) as stale.
    pub fn announce(
        &mut self,
        session: SessionIndex,
        nlri: Nlri,
        attributes: &Interned,
        judgement: &Judgement,
    ) -> bool {
        let Self { tables, core, .. } = self;
        let standing = core.reasons.standing(judgement);
        let rank = Rank::learned(attributes, core.sessions.info(session).class);
        let path = Path {
            attributes: attributes.attributes.clone(),
            rank,
            path_id: nlri.path_id,
            session,
            standing: standing.with_changed(attributes.changed),
        };
        match nlri.prefix {
            IpNet::V4(net) => core.announce(&mut tables.v4, net.addr(), net.prefix_len(), path),
            IpNet::V6(net) => core.announce(&mut tables.v6, net.addr(), net.prefix_len(), path),
        }
    }

    /// A path that is gone; `false`: there was none.
    pub fn withdraw(&mut self, session: SessionIndex, nlri: Nlri) -> bool {
        let Self { tables, core, .. } = self;
        match nlri.prefix {
            IpNet::V4(net) => core.withdraw(
                &mut tables.v4,
                net.addr(),
                net.prefix_len(),
                session,
                nlri.path_id,
            ),
            IpNet::V6(net) => core.withdraw(
                &mut tables.v6,
                net.addr(),
                net.prefix_len(),
                session,
                nlri.path_id,
            ),
        }
    }

    /// Marks all paths of a session and family as stale: they are to be announced again, which takes
    /// the mark away, also where nothing else changes (RFC 4724 §4.2, RFC 7313 §4). The mark by
    /// itself changes no decision.
    pub fn mark_stale(&mut self, session: SessionIndex, family: Family) {
        let Self { tables, core, .. } = self;
        match family {
            Family::Ipv4Unicast => core.mark_stale(&mut tables.v4, session),
            Family::Ipv6Unicast => core.mark_stale(&mut tables.v6, session),
        }
    }

    /// Removes what is still marked of a session and family; how many paths that were.
    pub fn sweep_stale(&mut self, session: SessionIndex, family: Family) -> usize {
        let Self { tables, core, .. } = self;
        match family {
            Family::Ipv4Unicast => core.sweep_stale(&mut tables.v4, session),
            Family::Ipv6Unicast => core.sweep_stale(&mut tables.v6, session),
        }
    }

    /// What is marked of a session and family is kept for long (RFC 9494 §4.2): paths with NO_LLGR
    /// go, the others carry LLGR_STALE from now on, which makes them the last choice.
    pub fn make_long_lived(&mut self, session: SessionIndex, family: Family) {
        let Self { tables, core, .. } = self;
        match family {
            Family::Ipv4Unicast => core.make_long_lived(&mut tables.v4, session),
            Family::Ipv6Unicast => core.make_long_lived(&mut tables.v6, session),
        }
    }

    /// How many paths of a session are marked as stale: IPv4, IPv6.
    #[must_use]
    pub fn stale(&self, session: SessionIndex) -> [usize; 2] {
        self.core.sessions[session].totals.stale
    }

    /// The last `count` routes of a session and family that are not marked as stale, by prefix and
    /// path identifier.
    #[must_use]
    pub fn last_routes(&self, session: SessionIndex, family: Family, count: usize) -> Vec<Nlri> {
        let mut routes = match family {
            Family::Ipv4Unicast => adj_rib_in::fresh_routes(&self.tables.v4, session),
            Family::Ipv6Unicast => adj_rib_in::fresh_routes(&self.tables.v6, session),
        };
        routes.sort_unstable();
        routes.split_off(routes.len().saturating_sub(count))
    }

    /// Imports every path of a session again, from its attributes as received; only those of which
    /// import makes something else now change. Paths with the same attributes follow each other often:
    /// `import` does well to give out one allocation for all of them. What nobody carries any more goes
    /// with the next [`Rib::sweep`].
    pub fn reimport(
        &mut self,
        session: SessionIndex,
        mut import: impl FnMut(IpNet, &Arc<PathAttributes>) -> Imported,
    ) {
        let Self { tables, core, .. } = self;
        core.reimport(&mut tables.v4, session, &mut import);
        core.reimport(&mut tables.v6, session, &mut import);
    }

    /// The route server originates a prefix from now on, with these attributes, those that it had
    /// before notwithstanding; without NEXT_HOP, the next hop is the one of each view. Several of its
    /// sources may hold one prefix.
    pub fn originate(
        &mut self,
        source: LocalSource,
        prefix: IpNet,
        attributes: Arc<PathAttributes>,
    ) {
        let Self { tables, core, .. } = self;
        let path = Path {
            attributes: core.attributes.intern(attributes),
            rank: Rank::originated(source),
            path_id: source.0.into(),
            session: SessionIndex::LOCAL,
            standing: Standing::LOCAL,
        };
        match prefix {
            IpNet::V4(net) => core.announce(&mut tables.v4, net.addr(), net.prefix_len(), path),
            IpNet::V6(net) => core.announce(&mut tables.v6, net.addr(), net.prefix_len(), path),
        };
    }

    /// A source of the route server's own no longer holds a prefix.
    pub fn cease_originating(&mut self, source: LocalSource, prefix: IpNet) {
        let path_id = source.0.into();
        self.withdraw(SessionIndex::LOCAL, Nlri { prefix, path_id });
    }

    /// A session is sent routes from now on: first the table, in [steps](Rib::step), each family
    /// followed by End-of-RIB, then every change.
    pub fn join(&mut self, session: SessionIndex, mut view: View) {
        self.flush();
        self.find_audience(&mut view);
        self.out.join(&mut self.core.sessions, session, view);
    }

    /// Who aggregates a session's routes from now on.
    pub fn set_aggregator(&mut self, session: SessionIndex, aggregator: Aggregator) {
        self.core.sessions.get_mut(session).aggregator = Some(aggregator);
    }

    /// Sees to it that the aggregates that a view is to be sent stand.
    fn find_audience(&mut self, view: &mut View) {
        let Self {
            tables,
            core,
            aggregates,
            ..
        } = self;
        view.audience = aggregates.audience(core, tables, view);
        self.flush();
    }

    /// Takes away the aggregates that nobody is sent any longer.
    fn drop_unused_audiences(&mut self) {
        if self.aggregates.has_audiences() {
            self.aggregates.retain(&self.out.audiences());
            self.flush();
        }
    }

    /// A session is sent nothing any more, while its paths stay; it may [join](Rib::join) again.
    pub fn leave(&mut self, session: SessionIndex) {
        self.flush();
        self.out
            .leave(&mut self.core.sessions, &mut self.tables, session);
        self.drop_unused_audiences();
    }

    /// Gives joined sessions another view and sends them the difference; if there is more than a chunk
    /// to look at, in [steps](Rib::step).
    pub fn set_views(&mut self, mut views: Vec<(SessionIndex, View)>) {
        self.flush();
        for (session, view) in &mut views {
            if self.core.sessions[*session].group.is_some() {
                self.find_audience(view);
            }
        }
        let Core {
            sessions, options, ..
        } = &mut self.core;
        self.out.set_views(sessions, *options, &self.tables, views);
        self.drop_unused_audiences();
    }

    /// Whether a session is still to be sent what another view makes different: what it has is not what
    /// it comes to.
    #[must_use]
    pub fn is_moving(&self, session: SessionIndex) -> bool {
        self.out.is_moving(session)
    }

    /// A joined session asked for all routes of a family again (RFC 2918). `marked`: they go out
    /// between BoRR and EoRR (RFC 7313), changes that happen meanwhile among them. One that has not
    /// joined will be sent all routes when it does.
    pub fn refresh(&mut self, session: SessionIndex, family: Family, marked: bool) {
        if self.core.sessions[session].group.is_some() {
            self.out.refresh(session, family, marked);
        }
    }

    /// A joined session does not take more for now: what changes from here on is not sent to it but
    /// noted, at two bits a prefix, however long it takes.
    pub fn hold(&mut self, session: SessionIndex) {
        self.flush();
        let Self {
            tables, core, out, ..
        } = self;
        out.hold(&mut core.sessions, core.options, tables, session);
    }

    /// A session that was held takes more: it is sent what it missed as it stands then, in
    /// [steps](Rib::step).
    pub fn resume(&mut self, session: SessionIndex) {
        self.out.resume(session);
    }

    /// Changes the decision process.
    pub fn set_options(&mut self, options: DecisionOptions) {
        if self.core.options == options {
            return;
        }
        self.flush();
        let before = std::mem::replace(&mut self.core.options, options);
        let Self {
            tables,
            core,
            learned,
            out,
            ..
        } = self;
        let after = core.basis();
        let decision = Decision {
            options: before,
            ..after.decision
        };
        let basis = Basis { decision, ..after };
        learned.redecide(&basis, &after, &tables.v4);
        learned.redecide(&basis, &after, &tables.v6);
        if before.always_compare_med != options.always_compare_med {
            out.redecide(&mut core.sessions, before, options, tables);
        }
    }

    /// Gives each session the class in the decision process that its kind has from now on; beyond one
    /// chunk, its paths get it in [steps](Rib::step).
    pub fn reclassify(&mut self, class: impl Fn(&SessionInfo) -> u8) {
        self.core.reclassify(class);
        self.go_on_reclassifying();
    }

    fn go_on_reclassifying(&mut self) {
        let Self { tables, core, .. } = self;
        core.go_on_reclassifying(tables, adj_rib_out::chunk());
        self.flush();
    }

    /// Whether packets to a session's routes with the community BLACKHOLE are dropped from now on
    /// (RFC 7999).
    pub fn set_may_blackhole(&mut self, session: SessionIndex, may: bool) {
        if self.core.sessions.info(session).may_blackhole == may {
            return;
        }
        self.flush();
        let Self {
            tables,
            core,
            learned,
            ..
        } = self;
        let concerns = |path: &Path| {
            path.session == session && path.attributes.has_community(community::BLACKHOLE)
        };
        let v4 = learned.standing(&core.basis(), &tables.v4, concerns);
        let v6 = learned.standing(&core.basis(), &tables.v6, concerns);
        core.sessions.get_mut(session).info.may_blackhole = may;
        learned.compare_with(v4, &core.basis(), &tables.v4);
        learned.compare_with(v6, &core.basis(), &tables.v6);
    }

    /// A new view of what is learned: what stands is told in [steps](Rib::step), then every change. Of
    /// a known one, whether only the marks are told; once it is told everything, it is told what
    /// stands again.
    pub fn set_learned_view(&mut self, id: LearnedViewId, view: LearnedView) {
        self.flush();
        let Tables { v4, v6 } = &self.tables;
        self.learned.set(id, &view, v4.len() + v6.len() == 0);
    }

    /// Nothing more is told of a view.
    pub fn remove_learned_view(&mut self, id: LearnedViewId) {
        self.learned.remove(id);
    }

    /// The views of which everything that stands has been told by now, since last asked.
    pub fn take_told(&mut self) -> Vec<LearnedViewId> {
        self.learned.take_told()
    }

    /// Whether routes that stand are still to be told to a view.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.learned.is_telling()
    }

    /// Whether [`Rib::step`] has something to do.
    #[must_use]
    pub fn is_dumping(&self) -> bool {
        self.out.is_dumping() || self.is_telling() || self.core.reclassifying.is_some()
    }

    /// Sends one more chunk of the table to sessions and subnets that wait for it.
    pub fn step(&mut self) {
        self.go_on_reclassifying();
        let Self {
            tables,
            core,
            learned,
            out,
            ..
        } = self;
        let was_moving = out.is_any_moving();
        learned.tell(&core.basis(), &tables.v4, CHUNK);
        learned.tell(&core.basis(), &tables.v6, CHUNK);
        out.step(&mut core.sessions, core.options, tables);
        out.catch_up(&mut core.sessions, core.options, tables);
        if was_moving {
            self.drop_unused_audiences();
        }
    }

    /// Works out what the changes since the last flush come to.
    pub fn flush(&mut self) {
        let Self {
            tables,
            core,
            learned,
            aggregates,
            out,
        } = self;
        // Aggregates of what is learned may be part of those that peers are sent, and these of nothing.
        loop {
            flush(&mut tables.v4, core, learned, aggregates, out);
            flush(&mut tables.v6, core, learned, aggregates, out);
            if !aggregates.apply(core, tables) {
                break;
            }
        }
    }

    /// What subnets learn, in all views, since last asked.
    pub fn take_learned(&mut self) -> Vec<LearnedChange> {
        self.flush();
        self.learned.take()
    }

    /// Whole BGP messages for sessions, in order, since last asked.
    pub fn take_messages(&mut self) -> Vec<(SessionIndex, Bytes)> {
        self.flush();
        let Self {
            tables, core, out, ..
        } = self;
        out.hand_out_limited(&mut core.sessions, core.options, tables);
        out.outbox.take()
    }

    /// Frees attributes that were held from outside when their last path gave them back.
    pub fn sweep(&mut self) {
        self.core.attributes.sweep();
    }

    /// Counts of a session; what it was sent is as of the last flush.
    #[must_use]
    pub fn totals(&self, session: SessionIndex) -> SessionTotals {
        self.core.sessions[session].totals
    }

    /// Number of prefixes with a path, those originated included, as of the last flush.
    #[must_use]
    pub fn prefix_count(&self) -> usize {
        self.tables.v4.prefixes() + self.tables.v6.prefixes()
    }

    /// Number of distinct attribute sets held.
    #[must_use]
    pub fn attribute_sets(&self) -> usize {
        self.core.attributes.len()
    }

    /// The zones in which next hops of eligible paths lie.
    #[must_use]
    pub fn zones_in_use(&self) -> ZoneSet {
        self.core.zones.in_use()
    }

    /// The learned paths of all prefixes, or of `only`, and what becomes of them in a view (`None`: in
    /// one of all sources and zones).
    pub fn prefixes<'r>(
        &'r self,
        only: Option<IpNet>,
        view: Option<&LearnedView>,
    ) -> impl Iterator<Item = PrefixView> + use<'r> {
        let scope = view.map(Scope::new);
        let Tables { v4, v6 } = &self.tables;
        let v4 = slots(v4, v4_slots(v4, only)).map(|(_, prefix, paths)| (prefix, paths));
        let v6 = slots(v6, v6_slots(v6, only)).map(|(_, prefix, paths)| (prefix, paths));
        v4.chain(v6)
            .map(move |(prefix, paths)| self.core.view(prefix, paths, scope.as_ref()))
    }
}

/// Attributes that are shared by all paths that carry them.
pub struct Interned {
    attributes: Arc<PathAttributes>,
    /// They are not those received, or have a weight.
    changed: bool,
}

impl Deref for Interned {
    type Target = PathAttributes;

    fn deref(&self) -> &PathAttributes {
        &self.attributes
    }
}

/// Works out what the changes of one table come to, and ends its batch.
fn flush<A: Address>(
    table: &mut Table<A>,
    core: &mut Core,
    learned: &mut LearnedRoutes,
    aggregates: &mut Aggregates,
    out: &mut AdjRibOut,
) {
    if !table.has_changes() {
        return;
    }
    let changed = table.take_changed();
    learned.update(&core.basis(), table, &changed);
    out.update(&mut core.sessions, core.options, table, &changed);
    aggregates.note(core, table, &changed);
    let empty = changed.iter().map(|change| change.slot);
    table.free_empty(empty.filter(|slot| !out.is_due(A::FAMILY, *slot)));
    for path in changed.into_iter().flat_map(|change| change.before) {
        core.attributes.release(path.attributes);
    }
}

/// The prefixes and paths of these slots.
fn slots<A: Address>(
    table: &Table<A>,
    slots: std::ops::Range<usize>,
) -> impl Iterator<Item = (usize, IpNet, &[Path])> {
    let slots = slots.map(|number| (number, table.slot(number)));
    slots
        .filter(|(_, slot)| !slot.paths().is_empty())
        .map(|(number, slot)| (number, slot.prefix(), &slot.paths()[..]))
}

fn v4_slots(table: &Table<Ipv4Addr>, only: Option<IpNet>) -> std::ops::Range<usize> {
    match only {
        None => 0..table.len(),
        Some(IpNet::V4(net)) => one(table.find(net.addr(), net.prefix_len())),
        Some(IpNet::V6(_)) => 0..0,
    }
}

fn v6_slots(table: &Table<Ipv6Addr>, only: Option<IpNet>) -> std::ops::Range<usize> {
    match only {
        None => 0..table.len(),
        Some(IpNet::V6(net)) => one(table.find(net.addr(), net.prefix_len())),
        Some(IpNet::V4(_)) => 0..0,
    }
}

fn one(slot: Option<usize>) -> std::ops::Range<usize> {
    slot.map_or(0..0, |slot| slot..slot + 1)
}
