//! Sessions that take what they are sent more slowly than it comes.
//!
//! In: slots that changed while a session is held back. Out: what it is to be told once it takes
//! more. Nothing is queued for it meanwhile: what is kept is two bits a slot, whether it is to be
//! told anything, and whether it was sent a route there before (with ADD-PATH, the identifiers of
//! those). So however long it is held and however often a prefix changes, it costs no more memory,
//! and it is told only how things stand when it can take them. A slot that it is to be told of is
//! not given to another prefix; an empty one stays only if it was sent a route there, so prefixes
//! that come and go meanwhile keep none.

use std::{collections::hash_map::Entry, ops::Range};

use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use super::{
    adj_rib_out::Tables,
    decision::{Decision, DecisionOptions},
    pack::routes,
    path::{Path, SessionIndex},
    table::{Address, Changed, Table},
    view::{FamilyView, View},
};
use crate::bgp::wire::{Family, FamilySet};

/// A session that was held back and has not been told everything since.
#[derive(Clone)]
pub(super) struct Laggard {
    pub(super) session: SessionIndex,
    pub(super) group: usize,
    /// It does not take more for now.
    pub(super) held: bool,
    /// Families of which it has not been sent End-of-RIB yet.
    pub(super) unended: FamilySet,
    /// In the order of [`Family::ALL`].
    behind: [Behind; 2],
}

/// What a session is to be told of one family.
#[derive(Clone, Default)]
struct Behind {
    /// Slots that it is to be told of.
    due: SlotSet,
    /// Those of them in which it was sent a route that was not withdrawn: the one without a path
    /// identifier, or those with these.
    sent: SlotSet,
    several: FxHashMap<usize, PathIds>,
}

/// The path identifiers of the routes that a session has of a prefix; 0 without ADD-PATH.
pub(super) type PathIds = SmallVec<[u32; 4]>;

impl Behind {
    /// A slot in which a session has these routes is to be told.
    fn owe(&mut self, slot: usize, had: PathIds) {
        self.due.insert(slot);
        match had[..] {
            [] => {}
            [0] => _ = self.sent.insert(slot),
            _ => _ = self.several.insert(slot, had),
        }
    }

    /// Whether it was sent a route of a slot that is due.
    fn was_sent(&self, slot: usize) -> bool {
        self.sent.contains(slot) || self.several.contains_key(&slot)
    }
}

impl Laggard {
    /// A session that has been told everything so far.
    pub(super) fn new(session: SessionIndex, group: usize) -> Self {
        Self {
            session,
            group,
            held: true,
            unended: FamilySet::default(),
            behind: Default::default(),
        }
    }

    /// It is to be told of the slots from this one on, in which it was sent nothing yet. Not of free
    /// ones: only a slot with paths, or one that stands because a session is to be told of it, may be
    /// due, for the table forgets the others.
    pub(super) fn owe<A: Address>(&mut self, table: &Table<A>, from: usize) {
        let due = &mut self.behind[A::FAMILY as usize].due;
        for slot in from..table.len() {
            if !table.paths(slot).is_empty() {
                due.insert(slot);
            }
        }
    }

    /// Notes what a batch changes for it. A slot that is left without paths, and in which it was sent
    /// nothing, is nothing to be told of.
    pub(super) fn note<A: Address>(
        &mut self,
        decision: &Decision<'_>,
        view: &FamilyView<'_>,
        table: &Table<A>,
        changed: &[Changed],
    ) {
        let behind = &mut self.behind[A::FAMILY as usize];
        for change in changed {
            if !behind.due.contains(change.slot) {
                let prefix = table.slot(change.slot).prefix();
                let before = routes(view, decision, prefix, &change.before, self.session);
                behind.owe(change.slot, path_ids(&before));
            }
            if table.paths(change.slot).is_empty() && !behind.was_sent(change.slot) {
                behind.due.remove(change.slot);
            }
        }
    }

    /// Its view, or the configuration of the decision process, becomes another one: it is to be told
    /// of every slot in which either gives it a route.
    pub(super) fn change_view(
        &mut self,
        decision: &Decision<'_>,
        tables: &Tables,
        before: (&View, DecisionOptions),
        after: &View,
    ) {
        for family in Family::ALL {
            let all = 0..usize::MAX;
            self.change_part(decision, tables, family, all, before, after);
        }
    }

    /// The same in these slots of a family alone.
    pub(super) fn change_part(
        &mut self,
        decision: &Decision<'_>,
        tables: &Tables,
        family: Family,
        slots: Range<usize>,
        before: (&View, DecisionOptions),
        after: &View,
    ) {
        let Tables { v4, v6 } = tables;
        match family {
            Family::Ipv4Unicast => self.change_slots(decision, v4, slots, before, after),
            Family::Ipv6Unicast => self.change_slots(decision, v6, slots, before, after),
        }
    }

    fn change_slots<A: Address>(
        &mut self,
        decision: &Decision<'_>,
        table: &Table<A>,
        slots: Range<usize>,
        (before, by): (&View, DecisionOptions),
        after: &View,
    ) {
        if !after.context.families.contains(A::FAMILY) {
            return;
        }
        let before = FamilyView::new(before, A::FAMILY).decided_by(by);
        let after = FamilyView::new(after, A::FAMILY);
        let behind = &mut self.behind[A::FAMILY as usize];
        for slot in slots.start..slots.end.min(table.len()) {
            let given = |view: &FamilyView<'_>| {
                let prefix = table.slot(slot).prefix();
                let given = routes(view, decision, prefix, table.paths(slot), self.session);
                path_ids(&given)
            };
            if behind.due.contains(slot) {
                continue;
            }
            let had = given(&before);
            if !had.is_empty() || !given(&after).is_empty() {
                behind.owe(slot, had);
            }
        }
    }

    /// The first slot that it is to be told of, and is from now on, and the routes that it has there.
    pub(super) fn take(&mut self, family: Family) -> Option<(usize, PathIds)> {
        let Behind { due, sent, several } = &mut self.behind[family as usize];
        let slot = due.take_first()?;
        let had = match sent.remove(slot) {
            true => smallvec![0],
            false => several.remove(&slot).unwrap_or_default(),
        };
        Some((slot, had))
    }

    /// Whether it is to be told of a slot.
    pub(super) fn is_due(&self, family: Family, slot: usize) -> bool {
        self.behind[family as usize].due.contains(slot)
    }

    /// Whether it was sent a route of a slot; `None`: what its view gives it.
    pub(super) fn was_sent(&self, family: Family, slot: usize) -> Option<bool> {
        let behind = &self.behind[family as usize];
        behind.due.contains(slot).then(|| behind.was_sent(slot))
    }

    /// The routes that it has of the slots that it is to be told of: slot and path identifier.
    pub(super) fn holds_of_due(&self, family: Family) -> impl Iterator<Item = (usize, u32)> {
        let Behind { sent, several, .. } = &self.behind[family as usize];
        let several = several.iter().flat_map(|(slot, path_ids)| {
            let path_ids = path_ids.iter();
            path_ids.map(|path_id| (*slot, *path_id))
        });
        sent.iter().map(|slot| (slot, 0)).chain(several)
    }

    /// A route is withdrawn from it before it is told of the slot.
    pub(super) fn note_withdrawn(&mut self, family: Family, slot: usize, path_id: u32) {
        let Behind { sent, several, .. } = &mut self.behind[family as usize];
        if let Entry::Occupied(mut had) = several.entry(slot) {
            had.get_mut().retain(|other| *other != path_id);
            if had.get().is_empty() {
                had.remove();
            }
        } else if path_id == 0 {
            sent.remove(slot);
        }
    }

    /// Whether it has been told everything of a family.
    pub(super) fn is_level(&self, family: Family) -> bool {
        self.behind[family as usize].due.is_empty()
    }

    /// Whether it has been told everything.
    pub(super) fn has_caught_up(&self) -> bool {
        let ended = self.unended == FamilySet::default();
        ended && Family::ALL.iter().all(|family| self.is_level(*family))
    }
}

fn path_ids(routes: &[(u32, &Path)]) -> PathIds {
    routes.iter().map(|(path_id, _)| *path_id).collect()
}

/// A set of slots, a bit each.
#[derive(Clone, Default)]
struct SlotSet {
    words: Vec<u64>,
    count: usize,
    /// No word before this one has a bit.
    first: usize,
}

const BITS: usize = u64::BITS as usize;

impl SlotSet {
    /// `false`: it was there already.
    fn insert(&mut self, slot: usize) -> bool {
        let (word, bit) = (slot / BITS, 1 << (slot % BITS));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit != 0 {
            return false;
        }
        self.words[word] |= bit;
        self.first = self.first.min(word);
        self.count += 1;
        true
    }

    /// `false`: it was not there.
    fn remove(&mut self, slot: usize) -> bool {
        let there = self.contains(slot);
        if there {
            self.words[slot / BITS] &= !(1 << (slot % BITS));
            self.count -= 1;
        }
        there
    }

    fn contains(&self, slot: usize) -> bool {
        let word = self.words.get(slot / BITS);
        word.is_some_and(|word| word & 1 << (slot % BITS) != 0)
    }

    fn take_first(&mut self) -> Option<usize> {
        if self.count == 0 {
            *self = Self::default();
            return None;
        }
        while self.words[self.first] == 0 {
            self.first += 1;
        }
        let slot = self.first * BITS + self.words[self.first].trailing_zeros() as usize;
        self.remove(slot);
        Some(slot)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(place, word)| {
            let bits = (0..BITS).filter(move |bit| word & 1 << bit != 0);
            bits.map(move |bit| place * BITS + bit)
        })
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::SlotSet;

    proptest! {
        #[test]
        fn a_slot_set_is_a_set_that_gives_its_first(
            operations in prop::collection::vec((0_u8..4, 0_usize..300), 0..300),
        ) {
            let mut set = SlotSet::default();
            let mut model = BTreeSet::new();
            for (operation, slot) in operations {
                match operation {
                    0 | 1 => prop_assert_eq!(set.insert(slot), model.insert(slot)),
                    2 => prop_assert_eq!(set.remove(slot), model.remove(&slot)),
                    _ => prop_assert_eq!(set.take_first(), model.pop_first()),
                }
                prop_assert_eq!(set.contains(slot), model.contains(&slot));
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!(set.iter().eq(model.iter().copied()));
            }
        }
    }
}
