//! Adj-RIB-Out: who has been sent what.
//!
//! Nothing is stored per route. What a session was sent is a function of the paths and of its
//! view, so a change is the difference of that function before and after a batch, and a route
//! that was never sent is never withdrawn. A session that comes up is sent the table in chunks;
//! until then it is sent changes only of the part that it already has. One that does not keep up is
//! held: it leaves its group until it has been told what it missed ([`Laggard`]). One whose view becomes
//! another one is told what differs in chunks as well ([`Move`]).

mod dump;
mod moves;

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    net::Ipv6Addr,
    ops::Range,
};

use dump::{Dump, Position, Refresh, end_of_rib};
use moves::{Move, Stretch};

use super::{
    aggregates::Audience,
    decision::{Decision, DecisionOptions},
    lag::Laggard,
    limited::Holding,
    pack::{Outbox, Packer},
    path::{Session, SessionIndex, Sessions},
    table::{Address, Changed, Table},
    view::{FamilyView, Members, View},
};
use crate::bgp::wire::Family;

#[cfg(test)]
pub(crate) use moves::MOVED_AT_ONCE;
pub(super) use moves::chunk;

/// Slots that one step of a dump covers at the most; fewer if they come to many bytes
/// ([`Packer::is_full`]).
pub(super) const CHUNK: usize = 16 * 1024;

/// The tables of both families.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) v4: Table<Ipv4Addr>,
    pub(super) v6: Table<Ipv6Addr>,
}

impl Tables {
    fn len(&self, family: Family) -> usize {
        match family {
            Family::Ipv4Unicast => self.v4.len(),
            Family::Ipv6Unicast => self.v6.len(),
        }
    }
}

/// Sessions with one view that have the whole table.
#[derive(Clone)]
struct Group {
    view: View,
    members: Members,
}

/// Update groups, dumps under way, and messages to send.
#[derive(Clone, Default)]
pub(super) struct AdjRibOut {
    groups: Vec<Option<Group>>,
    dumps: VecDeque<Dump>,
    refreshes: VecDeque<Refresh>,
    /// In turns.
    moves: VecDeque<Move>,
    /// In turns.
    laggards: VecDeque<Laggard>,
    pub(super) outbox: Outbox,
}

impl AdjRibOut {
    /// A session is sent routes from now on, first the whole table.
    pub(super) fn join(&mut self, sessions: &mut Sessions, session: SessionIndex, view: View) {
        let group = self.group(view);
        sessions.get_mut(session).group = Some(group);
        let starting = self
            .dumps
            .iter_mut()
            .find(|dump| dump.group == group && dump.position == Position::START);
        match starting {
            Some(dump) => dump.members.insert(sessions, session),
            None => self.dumps.push_back(Dump {
                group,
                members: Members::new(sessions, &[session]),
                position: Position::START,
            }),
        }
    }

    /// A session is sent nothing any more.
    pub(super) fn leave(
        &mut self,
        sessions: &mut Sessions,
        tables: &mut Tables,
        session: SessionIndex,
    ) {
        // It may have asked before it was to be sent anything.
        self.refreshes.retain(|refresh| refresh.session != session);
        if sessions.get_mut(session).group.take().is_none() {
            return;
        }
        self.take_member(sessions, session);
        let place = self.laggards.iter().position(|one| one.session == session);
        if let Some(mut gone) = place.and_then(|place| self.laggards.remove(place)) {
            let mut due = |family| {
                let due = std::iter::from_fn(|| gone.take(family));
                due.map(|(slot, _)| slot).collect()
            };
            let [v4, v6]: [Vec<_>; 2] = Family::ALL.map(&mut due);
            self.free_told(&mut tables.v4, v4);
            self.free_told(&mut tables.v6, v6);
        }
        self.outbox.forget(session);
        self.drop_unused_groups();
        let Session {
            totals, holding, ..
        } = sessions.get_mut(session);
        totals.advertised = [0; 2];
        if let Some(holding) = holding {
            *holding = Holding::default();
        }
    }

    /// Sends what a batch changed.
    pub(super) fn update<A: Address>(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        table: &Table<A>,
        changed: &[Changed],
    ) {
        let Self {
            groups,
            dumps,
            moves,
            laggards,
            outbox,
            ..
        } = self;
        let given = groups.iter().map(Option::as_ref);
        let views = given.map(|group| group.map(|group| FamilyView::new(&group.view, A::FAMILY)));
        let views: Vec<Option<FamilyView<'_>>> = views.collect();
        let view_of = |group: usize| {
            let view = views[group].as_ref();
            view.expect("a group stays while it has members")
        };
        let synchronised = groups.iter().zip(&views);
        let synchronised = synchronised
            .filter_map(|(group, view)| Some((view.as_ref()?, &group.as_ref()?.members)))
            .map(|(view, members)| (view, members, 0..usize::MAX));
        let dumping = dumps.iter().map(|dump| {
            let covered = dump.position.covers(A::FAMILY);
            (view_of(dump.group), &dump.members, 0..covered)
        });
        let mut send = |view: &FamilyView<'_>, members: &Members, slots: Range<usize>| {
            if members.is_empty() || !view.is_exchanged() {
                return;
            }
            let mut packer = Packer::new(view, view, members);
            let decision = Decision { sessions, options };
            for change in changed.iter().filter(|change| slots.contains(&change.slot)) {
                let slot = table.slot(change.slot);
                packer.add(&decision, slot.prefix(), &change.before, slot.paths());
            }
            packer.finish(sessions, outbox);
        };
        for (view, members, slots) in synchronised.chain(dumping) {
            send(view, members, slots);
        }
        for one in moves {
            for Stretch {
                group,
                options,
                slots,
            } in one.stretches(A::FAMILY)
            {
                let view = FamilyView::new(view_of(group).view, A::FAMILY);
                match options {
                    Some(options) => send(&view.decided_by(options), &one.members, slots),
                    None => send(&view, &one.members, slots),
                }
            }
        }
        let decision = Decision { sessions, options };
        for laggard in laggards {
            let view = view_of(laggard.group);
            if view.is_exchanged() {
                laggard.note(&decision, view, table, changed);
            }
        }
    }

    /// A session does not take more for now: it leaves its group or its dump.
    pub(super) fn hold(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        session: SessionIndex,
    ) {
        let Some(group) = sessions[session].group else {
            return;
        };
        if let Some(laggard) = self.laggard_mut(session) {
            laggard.held = true;
            return;
        }
        let mut laggard = Laggard::new(session, group);
        let end = self.lag_behind(sessions, options, tables, &mut laggard);
        let end = end.filter(|end| *end != Position::END);
        if let Some(position) = end.or(self.position(session)) {
            for family in self.view(group).context.families.iter() {
                let covered = position.covers(family);
                match family {
                    Family::Ipv4Unicast => laggard.owe(&tables.v4, covered),
                    Family::Ipv6Unicast => laggard.owe(&tables.v6, covered),
                }
                if family >= position.family {
                    laggard.unended = laggard.unended.with(family);
                }
            }
        }
        self.take_member(sessions, session);
        self.laggards.push_back(laggard);
    }

    /// A session that was held takes more.
    pub(super) fn resume(&mut self, session: SessionIndex) {
        if let Some(laggard) = self.laggard_mut(session) {
            laggard.held = false;
        }
    }

    /// One chunk for one session of those that were held; it is back in its group once it has been
    /// told everything.
    pub(super) fn catch_up(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &mut Tables,
    ) {
        let next = self.laggards.iter().position(|laggard| !laggard.held);
        let Some(mut laggard) = next.and_then(|place| self.laggards.remove(place)) else {
            return;
        };
        let view = self.view(laggard.group).clone();
        let mut budget = CHUNK;
        let Tables { v4, v6 } = tables;
        self.catch_up_family(sessions, options, v4, &view, &mut laggard, &mut budget);
        self.catch_up_family(sessions, options, v6, &view, &mut laggard, &mut budget);
        if !laggard.has_caught_up() {
            return self.laggards.push_back(laggard);
        }
        let group = self.groups[laggard.group].as_mut();
        let group = group.expect("a laggard keeps its group");
        group.members.insert(sessions, laggard.session);
    }

    fn catch_up_family<A: Address>(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        table: &mut Table<A>,
        view: &View,
        laggard: &mut Laggard,
        budget: &mut usize,
    ) {
        let members = Members::new(sessions, &[laggard.session]);
        let view = FamilyView::new(view, A::FAMILY);
        let mut packer = Packer::new(&view, &view, &members);
        let decision = Decision { sessions, options };
        let mut told = Vec::new();
        while *budget > 0
            && !packer.is_full()
            && let Some((number, had)) = laggard.take(A::FAMILY)
        {
            let slot = table.slot(number);
            packer.renew(
                &decision,
                slot.prefix(),
                laggard.session,
                &had,
                slot.paths(),
            );
            told.push(number);
            *budget -= 1;
        }
        packer.finish(sessions, &mut self.outbox);
        self.free_told(table, told);
        if laggard.is_level(A::FAMILY) && laggard.unended.contains(A::FAMILY) {
            laggard.unended = laggard.unended.without(A::FAMILY);
            self.push_end(sessions, laggard.session, end_of_rib(A::FAMILY));
        }
    }

    /// Frees the slots that stood only because a session was to be told of them.
    fn free_told<A: Address>(&self, table: &mut Table<A>, told: Vec<usize>) {
        let told = told.into_iter();
        table.free_empty(told.filter(|slot| !self.is_due(A::FAMILY, *slot)));
    }

    /// Whether a session is still to be told of a slot.
    pub(super) fn is_due(&self, family: Family, slot: usize) -> bool {
        let mut laggards = self.laggards.iter();
        laggards.any(|laggard| laggard.is_due(family, slot))
    }

    /// Those of all groups.
    pub(super) fn audiences(&self) -> BTreeSet<Audience> {
        let groups = self.groups.iter().flatten();
        groups.map(|group| group.view.audience).collect()
    }

    /// A session that has not been told everything, if this is one.
    pub(super) fn laggard(&self, session: SessionIndex) -> Option<&Laggard> {
        let mut laggards = self.laggards.iter();
        laggards.find(|laggard| laggard.session == session)
    }

    /// The same, to be changed.
    pub(super) fn laggard_mut(&mut self, session: SessionIndex) -> Option<&mut Laggard> {
        let mut laggards = self.laggards.iter_mut();
        laggards.find(|laggard| laggard.session == session)
    }

    /// The view of a group.
    pub(super) fn view(&self, group: usize) -> &View {
        let group = self.groups[group].as_ref();
        &group.expect("a group stays while it has members").view
    }

    /// A session has another view, by which it has been sent what it has.
    pub(super) fn put_in_group(
        &mut self,
        sessions: &mut Sessions,
        session: SessionIndex,
        view: View,
    ) {
        let to = self.group(view);
        if sessions.get_mut(session).group.replace(to) == Some(to) {
            return;
        }
        if let Some(laggard) = self.laggard_mut(session) {
            laggard.group = to;
        } else {
            let position = self.position(session);
            self.take_member(sessions, session);
            let members = Members::new(sessions, &[session]);
            match position {
                Some(position) => self.dumps.push_back(Dump {
                    group: to,
                    members,
                    position,
                }),
                None => {
                    let group = self.groups[to].as_mut().expect("looked up above");
                    group.members.insert(sessions, session);
                }
            }
        }
        self.drop_unused_groups();
    }

    /// The group with this view, made if there is none.
    fn group(&mut self, view: View) -> usize {
        let same = |group: &Option<Group>| group.as_ref().is_some_and(|group| group.view == view);
        if let Some(group) = self.groups.iter().position(same) {
            return group;
        }
        let free = self.groups.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        self.groups[place] = Some(Group {
            view,
            members: Members::default(),
        });
        place
    }

    fn take_member(&mut self, sessions: &Sessions, session: SessionIndex) {
        for group in self.groups.iter_mut().flatten() {
            group.members.remove(sessions, session);
        }
        for dump in &mut self.dumps {
            dump.members.remove(sessions, session);
        }
        self.dumps.retain(|dump| !dump.members.is_empty());
        for one in &mut self.moves {
            one.members.remove(sessions, session);
        }
        self.moves.retain(|one| !one.members.is_empty());
    }

    fn drop_unused_groups(&mut self) {
        let Self {
            groups,
            dumps,
            moves,
            laggards,
            ..
        } = self;
        for (number, place) in groups.iter_mut().enumerate() {
            let needed = dumps.iter().any(|dump| dump.group == number)
                || moves.iter().any(|one| one.needs(number))
                || laggards.iter().any(|laggard| laggard.group == number);
            if !needed && place.as_ref().is_some_and(|group| group.members.is_empty()) {
                *place = None;
            }
        }
    }
}
