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
//! A prefix is decided twice. Subnets learn the best of the *learned* paths, also of a prefix that
//! the route server originates: whether it overlaps a network's own space is judged per network,
//! in `vnet`. Peers are sent the best of all paths that they may receive; there what is originated
//! here wins (step 0), so a learned path of the same prefix is never advertised.
//!
//! - `attributes`: equal attribute sets are one allocation; `additions`: what import adds to them.
//! - `table`: prefixes and their paths, in slots; `adj_rib_in`: how sessions change them.
//! - `decision`: which path wins, and why the others lose.
//! - `learned`: what subnets learn.
//! - `view`, `export`, `pack`, `path_id`, `adj_rib_out`: what peers are sent; `lag`: those that do
//!   not keep up.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Deref,
    sync::Arc,
};

use bytes::Bytes;
use ipnet::IpNet;

use crate::bgp::wire::{Family, Nlri, PathAttributes};

mod additions;
mod adj_rib_in;
mod adj_rib_out;
mod attributes;
mod decision;
mod export;
mod lag;
mod learned;
mod pack;
mod path;
mod path_id;
mod table;
mod types;
mod view;

#[cfg(test)]
mod tests;

use additions::Added;
use adj_rib_in::Core;
use adj_rib_out::{AdjRibOut, CHUNK, Tables};
use decision::{Decision, Rank};
use learned::LearnedRoutes;
use path::{Path, Standing};
use table::{Address, Table};
use view::FamilyView;

pub use additions::Additions;
pub use decision::DecisionOptions;
pub use export::Export;
pub use path::{Imported, Judgement, SessionIndex, SessionInfo, SessionTotals, SourceKind};
pub use types::{
    AdvertisedView, LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId, PathView,
    PrefixView, Step, Verdict,
};
pub use view::{SourceKinds, View};

/// The RIB of one route server.
#[derive(Default)]
pub struct Rib {
    tables: Tables,
    core: Core,
    learned: LearnedRoutes,
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
        self.clear(session);
        self.flush();
        self.core.sessions.remove(session);
        self.core.attributes.sweep();
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

    /// The one allocation for these attributes and what import adds to them, to be given to
    /// [`Rib::announce`].
    pub fn intern(&mut self, received: Arc<PathAttributes>, additions: Additions) -> Interned {
        let (attributes, added) = additions.apply(received);
        Interned {
            attributes: self.core.attributes.intern(attributes),
            added,
        }
    }

    /// Gives attributes back that [`Rib::intern`] gave out.
    pub fn release(&mut self, attributes: Interned) {
        self.core.attributes.release(attributes.attributes);
    }

    /// A path, new or replacing the session's path with the same id; `true`: new.
    pub fn announce(
        &mut self,
        session: SessionIndex,
        nlri: Nlri,
        attributes: &Interned,
        judgement: &Judgement,
    ) -> bool {
        let Self { tables, core, .. } = self;
        let standing = core.reasons.standing(judgement).with(attributes.added);
        let rank = Rank::learned(attributes, core.sessions.info(session).class);
        let path = Path {
            attributes: attributes.attributes.clone(),
            rank,
            path_id: nlri.path_id,
            session,
            standing,
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
    /// import makes something else now change.
    pub fn reimport(
        &mut self,
        session: SessionIndex,
        mut import: impl FnMut(Family, &PathAttributes) -> Imported,
    ) {
        let Self { tables, core, .. } = self;
        core.reimport(&mut tables.v4, session, &mut import);
        core.reimport(&mut tables.v6, session, &mut import);
    }

    /// The route server originates a prefix from now on (origin IGP, next hop by view).
    pub fn originate(&mut self, prefix: IpNet) {
        let attributes = self.intern(Arc::default(), Additions::default());
        let Self { tables, core, .. } = self;
        let path = Path {
            attributes: attributes.attributes,
            rank: Rank::ORIGINATED,
            path_id: 0,
            session: SessionIndex::LOCAL,
            standing: Standing::ELIGIBLE,
        };
        match prefix {
            IpNet::V4(net) => core.announce(&mut tables.v4, net.addr(), net.prefix_len(), path),
            IpNet::V6(net) => core.announce(&mut tables.v6, net.addr(), net.prefix_len(), path),
        };
    }

    /// The route server no longer originates a prefix.
    pub fn cease_originating(&mut self, prefix: IpNet) {
        self.withdraw(SessionIndex::LOCAL, prefix.into());
    }

    /// A session is sent routes from now on: first the table, in [steps](Rib::step), each family
    /// followed by End-of-RIB, then every change.
    pub fn join(&mut self, session: SessionIndex, view: View) {
        self.flush();
        self.out.join(&mut self.core.sessions, session, view);
    }

    /// A session is sent nothing any more, while its paths stay; it may [join](Rib::join) again.
    pub fn leave(&mut self, session: SessionIndex) {
        self.flush();
        self.out
            .leave(&mut self.core.sessions, &mut self.tables, session);
    }

    /// Gives joined sessions another view and sends them the difference.
    pub fn set_views(&mut self, views: Vec<(SessionIndex, View)>) {
        self.flush();
        let Core {
            sessions, options, ..
        } = &mut self.core;
        self.out.set_views(sessions, *options, &self.tables, views);
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
        self.out
            .hold(&mut self.core.sessions, &self.tables, session);
    }

    /// A session that was held takes more: it is sent what it missed as it stands then, in
    /// [steps](Rib::step).
    pub fn resume(&mut self, session: SessionIndex) {
        self.out.resume(session);
    }

    /// Changes the decision process.
    pub fn set_max_paths(&mut self, max_paths: usize) {
        if self.core.options.max_paths == max_paths {
            return;
        }
        self.flush();
        let before = self.core.options;
        self.core.options.max_paths = max_paths;
        let Self {
            tables,
            core,
            learned,
            ..
        } = self;
        let [before, after] = [before, core.options].map(|options| Decision {
            sessions: &core.sessions,
            options,
        });
        learned.redecide(&before, &after, &core.reasons, &tables.v4);
        learned.redecide(&before, &after, &core.reasons, &tables.v6);
    }

    /// Whether subnets forward by what is learned. If not, [`Rib::take_learned`] tells only which
    /// default routes there are and which prefixes cannot be resolved; as soon as they do, it tells
    /// everything, in [steps](Rib::step). It does from the start.
    pub fn set_forwarding(&mut self, forwarding: bool) {
        self.flush();
        self.learned.tell_all(forwarding);
    }

    /// Whether routes that stand are still to be told since [`Rib::set_forwarding`].
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.learned.is_telling()
    }

    /// Whether [`Rib::step`] has something to do.
    #[must_use]
    pub fn is_dumping(&self) -> bool {
        self.out.is_dumping() || self.is_telling()
    }

    /// Sends one more chunk of the table to sessions and subnets that wait for it.
    pub fn step(&mut self) {
        self.flush();
        let Self {
            tables,
            core,
            learned,
            out,
        } = self;
        let decision = Decision {
            sessions: &core.sessions,
            options: core.options,
        };
        learned.tell(&decision, &core.reasons, &tables.v4, CHUNK);
        learned.tell(&decision, &core.reasons, &tables.v6, CHUNK);
        out.step(&mut core.sessions, core.options, tables);
        out.catch_up(&mut core.sessions, core.options, tables);
    }

    /// Works out what the changes since the last flush come to.
    pub fn flush(&mut self) {
        let Self {
            tables,
            core,
            learned,
            out,
        } = self;
        flush(&mut tables.v4, core, learned, out);
        flush(&mut tables.v6, core, learned, out);
    }

    /// What subnets learn, since last asked.
    pub fn take_learned(&mut self) -> Vec<LearnedChange> {
        self.flush();
        self.learned.take()
    }

    /// Whole BGP messages for sessions, in order, since last asked.
    pub fn take_messages(&mut self) -> Vec<(SessionIndex, Bytes)> {
        self.flush();
        self.out.outbox.take()
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

    /// The learned paths of all prefixes, or of `only`.
    pub fn prefixes(&self, only: Option<IpNet>) -> impl Iterator<Item = PrefixView> {
        let Tables { v4, v6 } = &self.tables;
        let v4 = slots(v4, v4_slots(v4, only)).map(|(_, prefix, paths)| (prefix, paths));
        let v6 = slots(v6, v6_slots(v6, only)).map(|(_, prefix, paths)| (prefix, paths));
        v4.chain(v6)
            .map(|(prefix, paths)| self.core.view(prefix, paths))
    }

    /// What a session has been sent as of the last flush: all prefixes, or `only`.
    pub fn advertised(
        &self,
        session: SessionIndex,
        only: Option<IpNet>,
    ) -> impl Iterator<Item = AdvertisedView> {
        let Tables { v4, v6 } = &self.tables;
        let view = self.core.sessions[session].group;
        let view = view.map(|group| self.out.view(group));
        let views = view.map(|view| Family::ALL.map(|family| FamilyView::new(view, family)));
        let position = self.out.position(session);
        let laggard = self.out.laggard(session);
        let sent = move |slot: usize, prefix: &IpNet| {
            let family = Family::of(prefix);
            position.is_none_or(|position| slot < position.covers(family))
                && laggard.and_then(|laggard| laggard.was_sent(family, slot)) != Some(false)
        };
        let v4 = slots(v4, v4_slots(v4, only));
        let v6 = slots(v6, v6_slots(v6, only));
        v4.chain(v6)
            .filter(move |(slot, prefix, _)| sent(*slot, prefix))
            .flat_map(move |(_, prefix, paths)| {
                let family = Family::of(&prefix) as usize;
                let view = views.as_ref().map(|views| &views[family]);
                let sent = view.map(|view| self.core.advertised(view, session, prefix, paths));
                sent.unwrap_or_default()
            })
    }
}

/// Attributes that are shared by all paths that carry them.
pub struct Interned {
    attributes: Arc<PathAttributes>,
    added: Added,
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
    out: &mut AdjRibOut,
) {
    if !table.has_changes() {
        return;
    }
    let changed = table.take_changed();
    let decision = Decision {
        sessions: &core.sessions,
        options: core.options,
    };
    learned.update(&decision, &core.reasons, table, &changed);
    out.update(&mut core.sessions, core.options, table, &changed);
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
