//! Sessions whose view became another one: what differs goes out in chunks.
//!
//! In: what members have been sent, by which view in which part of the table, and their view from now
//! on. Out: the difference, a chunk a step. Until that has come to a slot, members are sent what
//! changes there as they were before. A view that becomes another one meanwhile begins anew, and the
//! parts by which members were sent what they have are one more. A small table is gone through at
//! once, and any table for sessions with a limit, whose messages wait for each other.

use std::ops::Range;

use super::{AdjRibOut, Dump, Position, Tables};
use crate::{
    bgp::wire::Family,
    rib::{
        decision::{Decision, DecisionOptions},
        lag::Laggard,
        path::{SessionIndex, Sessions},
        shape::Shape,
        view::{FamilyView, Members, View},
    },
};

/// Sessions on their way from one view to another one.
#[derive(Clone)]
pub(super) struct Move {
    pub(super) members: Members,
    /// The group that they will belong to.
    to: usize,
    /// What lies before it is sent as that group has it.
    position: Position,
    /// What they have from there on, one part after the other.
    parts: Vec<Part>,
    /// They have been sent nothing from there on: a dump goes on there.
    end: Position,
}

/// What was sent up to `end`: by the view of this group, and this configuration of the decision
/// process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    end: Position,
    group: usize,
    options: DecisionOptions,
}

/// Slots of one family that were sent by the view of a group and a configuration of the decision
/// process; `None`: today's.
pub(super) struct Stretch {
    pub(super) group: usize,
    pub(super) options: Option<DecisionOptions>,
    pub(super) slots: Range<usize>,
}

impl Move {
    /// By what which part of a family's table was sent.
    pub(super) fn stretches(&self, family: Family) -> impl Iterator<Item = Stretch> {
        let mut start = self.position.covers(family);
        let done = Stretch {
            group: self.to,
            options: None,
            slots: 0..start,
        };
        let parts = self.parts.iter().map(move |part| {
            let slots = start..part.end.covers(family).max(start);
            start = slots.end;
            Stretch {
                group: part.group,
                options: Some(part.options),
                slots,
            }
        });
        std::iter::once(done).chain(parts)
    }

    pub(super) fn needs(&self, group: usize) -> bool {
        self.to == group || self.parts.iter().any(|part| part.group == group)
    }
}

/// Sessions that are to have another view, and have the same so far.
struct Turn {
    to: usize,
    parts: Vec<Part>,
    end: Position,
    limited: bool,
    members: Vec<SessionIndex>,
}

impl AdjRibOut {
    /// Gives sessions another view and sends them the difference.
    pub(in crate::rib) fn set_views(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        changes: Vec<(SessionIndex, View)>,
    ) {
        let mut moved = Vec::new();
        for (session, view) in changes {
            let Some(from) = sessions[session].group else {
                continue;
            };
            if self.view(from) == &view {
                continue;
            }
            let to = self.group(view);
            sessions.get_mut(session).group = Some(to);
            let place = self.laggards.iter().position(|one| one.session == session);
            let Some(mut laggard) = place.and_then(|place| self.laggards.remove(place)) else {
                moved.push((session, from));
                continue;
            };
            let decision = Decision { sessions, options };
            let (before, after) = (self.view(from), self.view(to));
            laggard.change_view(&decision, tables, (before, options), after);
            laggard.group = to;
            self.laggards.push_back(laggard);
        }
        self.turn(sessions, (options, options), tables, moved);
    }

    /// Sends what another configuration of the decision process changes.
    pub(in crate::rib) fn redecide(
        &mut self,
        sessions: &mut Sessions,
        before: DecisionOptions,
        options: DecisionOptions,
        tables: &Tables,
    ) {
        let mut laggards = std::mem::take(&mut self.laggards);
        let decision = Decision { sessions, options };
        for laggard in &mut laggards {
            let view = self.view(laggard.group);
            laggard.change_view(&decision, tables, (view, before), view);
        }
        self.laggards = laggards;
        let groups = self.groups.iter().flatten().map(|group| &group.members);
        let dumps = self.dumps.iter().map(|dump| &dump.members);
        let moves = self.moves.iter().map(|one| &one.members);
        let all = groups.chain(dumps).chain(moves).flat_map(Members::all);
        let moved = all.filter_map(|session| Some((*session, sessions[*session].group?)));
        let moved = moved.collect();
        self.turn(sessions, (before, options), tables, moved);
    }

    /// Sets sessions in motion to the group that they are to belong to, each from the one by which it
    /// was sent what it has, and from one configuration of the decision process to another one.
    fn turn(
        &mut self,
        sessions: &mut Sessions,
        (before, options): (DecisionOptions, DecisionOptions),
        tables: &Tables,
        moved: Vec<(SessionIndex, usize)>,
    ) {
        let mut turns: Vec<Turn> = Vec::new();
        for (session, from) in moved {
            let Some(to) = sessions[session].group else {
                continue;
            };
            let (parts, end) = self.parts(session, from, before);
            let limited = sessions[session].holding.is_some();
            let same = |other: &&mut Turn| {
                (other.to, other.end, other.limited) == (to, end, limited) && other.parts == parts
            };
            match turns.iter_mut().find(same) {
                Some(same) => same.members.push(session),
                None => turns.push(Turn {
                    to,
                    parts,
                    end,
                    limited,
                    members: vec![session],
                }),
            }
        }
        let small = Family::ALL
            .map(|family| tables.len(family))
            .iter()
            .sum::<usize>()
            <= chunk();
        for turn in turns {
            for member in &turn.members {
                self.take_member(sessions, *member);
            }
            let next = Move {
                members: Members::new(sessions, &turn.members),
                to: turn.to,
                position: Position::START,
                parts: turn.parts,
                end: turn.end,
            };
            match small || turn.limited {
                true => self.complete(sessions, options, tables, next),
                false => self.moves.push_back(next),
            }
        }
        self.drop_unused_groups();
    }

    /// By what a session of this group that is no laggard was sent what it has, and where that ends.
    fn parts(
        &self,
        session: SessionIndex,
        group: usize,
        options: DecisionOptions,
    ) -> (Vec<Part>, Position) {
        let Some(moving) = self.moving(session) else {
            let end = self.position(session).unwrap_or(Position::END);
            let part = Part {
                end,
                group,
                options,
            };
            return (vec![part], end);
        };
        let done = Part {
            end: moving.position,
            group: moving.to,
            options,
        };
        let left = moving.parts.iter().copied();
        (std::iter::once(done).chain(left).collect(), moving.end)
    }

    /// The move of a session, if it is in one.
    fn moving(&self, session: SessionIndex) -> Option<&Move> {
        let mut moves = self.moves.iter();
        moves.find(|one| one.members.all().contains(&session))
    }

    /// Whether any session is on its way from one view to another one.
    pub(in crate::rib) fn is_any_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// Whether a session is.
    pub(in crate::rib) fn is_moving(&self, session: SessionIndex) -> bool {
        self.moving(session).is_some()
    }

    /// The views by which parts of a family's table were sent to a session of this group.
    pub(in crate::rib) fn sent_by(
        &self,
        session: SessionIndex,
        group: usize,
        family: Family,
    ) -> Vec<(Range<usize>, FamilyView<'_>)> {
        let Some(moving) = self.moving(session) else {
            let covered = self.position(session);
            let covered = covered.map_or(usize::MAX, |position| position.covers(family));
            return vec![(0..covered, FamilyView::new(self.view(group), family))];
        };
        let parts = moving.stretches(family).map(|stretch| {
            let view = FamilyView::new(self.view(stretch.group), family);
            let view = match stretch.options {
                Some(options) => view.decided_by(options),
                None => view,
            };
            (stretch.slots, view)
        });
        parts.collect()
    }

    /// What a session in a move is to be told, and where a dump goes on for it.
    pub(super) fn lag_behind(
        &self,
        sessions: &Sessions,
        options: DecisionOptions,
        tables: &Tables,
        laggard: &mut Laggard,
    ) -> Option<Position> {
        let moving = self.moving(laggard.session)?;
        let decision = Decision { sessions, options };
        let after = self.view(moving.to);
        for family in Family::ALL {
            for stretch in moving.stretches(family) {
                let Some(options) = stretch.options else {
                    continue;
                };
                let before = (self.view(stretch.group), options);
                laggard.change_part(&decision, tables, family, stretch.slots, before, after);
            }
        }
        Some(moving.end)
    }

    /// Sends a session what is left of its move at once.
    pub(in crate::rib) fn complete_move(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        session: SessionIndex,
    ) {
        let Some(moving) = self.moving(session) else {
            return;
        };
        let own = Move {
            members: Members::new(sessions, &[session]),
            ..moving.clone()
        };
        self.take_member(sessions, session);
        self.complete(sessions, options, tables, own);
        self.drop_unused_groups();
    }

    fn complete(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        mut next: Move,
    ) {
        while !self.advance(sessions, options, tables, &mut next) {}
        self.arrive(sessions, next);
    }

    /// One chunk of the next move.
    pub(super) fn step_move(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
    ) {
        let Some(mut next) = self.moves.pop_front() else {
            return;
        };
        if !self.advance(sessions, options, tables, &mut next) {
            return self.moves.push_back(next);
        }
        self.arrive(sessions, next);
        self.drop_unused_groups();
    }

    /// Sends members the next chunk of what differs; whether that was all.
    fn advance(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        next: &mut Move,
    ) -> bool {
        let mut budget = chunk();
        let after = self.view(next.to).clone();
        while let Some(part) = next.parts.first().copied() {
            if next.position >= part.end {
                next.parts.remove(0);
                continue;
            }
            let Position { family, slot } = next.position;
            let end = tables.len(family).min(part.end.covers(family));
            let differs = (part.group, part.options) != (next.to, options);
            if differs && slot < end && after.context.families.contains(family) {
                let before = self.view(part.group).clone();
                let shape = Shape {
                    before: Some((&before, part.options)),
                    after: &after,
                    members: &next.members,
                };
                let slots = slot..end.min(slot + budget);
                let sent = shape.send(sessions, options, tables, family, slots, &mut self.outbox);
                budget -= sent - slot;
                next.position.slot = sent;
                if sent < end {
                    return false;
                }
            }
            next.position = match family {
                Family::Ipv4Unicast if part.end.family != family => Position {
                    family: Family::Ipv6Unicast,
                    slot: 0,
                },
                _ => part.end,
            };
        }
        true
    }

    /// Members of a move that have been told everything belong to their group, or go on with its dump.
    fn arrive(&mut self, sessions: &Sessions, next: Move) {
        let Move {
            members, to, end, ..
        } = next;
        if end != Position::END {
            return self.dumps.push_back(Dump {
                group: to,
                members,
                position: end,
            });
        }
        let group = self.groups[to].as_mut();
        let group = group.expect("a move keeps its group");
        for &member in members.all() {
            group.members.insert(sessions, member);
        }
    }
}

/// Slots that one step covers at the most; a table of no more is gone through at once.
#[cfg(not(test))]
pub(in crate::rib) fn chunk() -> usize {
    super::CHUNK
}

#[cfg(test)]
pub(in crate::rib) fn chunk() -> usize {
    MOVED_AT_ONCE.get()
}

#[cfg(test)]
thread_local! {
    /// Slots that one step of a move covers.
    pub(crate) static MOVED_AT_ONCE: std::cell::Cell<usize> = const { std::cell::Cell::new(super::CHUNK) };
}
