//! Interned path attributes: equal sets share one allocation, so that comparing two routes is
//! comparing two pointers.
//!
//! In: attributes as decoded, and what import made of them. Out: the one allocation that stands for
//! them. Where import changed nothing, that is the set as received; else one of its own, which
//! remembers what was received and what weight import gave it. A set that no path holds any longer is
//! freed when its last holder gives it back through [`Interner::release`].

use std::{hash::BuildHasher, num::NonZeroU8, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxHashMap;

use crate::bgp::wire::PathAttributes;

/// All attribute sets in use. Each keeps its hash, so that growing does not read the sets again. The
/// hash has a key: peers choose what is hashed, and must not be able to make it collide.
#[derive(Clone, Default)]
pub(super) struct Interner {
    key: RandomState,
    /// Sets as received.
    sets: HashTable<(u64, Arc<PathAttributes>)>,
    /// Sets that import made; none of them is in `sets` as well.
    changed: HashTable<(u64, Arc<PathAttributes>)>,
    /// What those in `changed` were made of, by their address.
    origins: FxHashMap<usize, Origin>,
}

/// What import made a set of.
#[derive(Clone)]
struct Origin {
    received: Arc<PathAttributes>,
    weight: Option<NonZeroU8>,
}

impl Interner {
    /// The shared allocation equal to `attributes`; theirs, if they are new.
    pub(super) fn intern(&mut self, attributes: Arc<PathAttributes>) -> Arc<PathAttributes> {
        let hash = self.key.hash_one(&*attributes);
        let equal = |(other_hash, other): &(u64, Arc<PathAttributes>)| {
            *other_hash == hash && (Arc::ptr_eq(other, &attributes) || *other == attributes)
        };
        match self.sets.entry(hash, equal, |(hash, _)| *hash) {
            Entry::Occupied(entry) => entry.get().1.clone(),
            Entry::Vacant(entry) => entry.insert((hash, attributes)).get().1.clone(),
        }
    }

    /// The shared allocation for what import made of `received`: these attributes, with this weight.
    pub(super) fn intern_changed(
        &mut self,
        received: Arc<PathAttributes>,
        imported: Arc<PathAttributes>,
        weight: Option<NonZeroU8>,
    ) -> Arc<PathAttributes> {
        let received = self.intern(received);
        let hash = self.hash_changed(&imported, &received, weight);
        let Self {
            changed, origins, ..
        } = self;
        let equal = |(other_hash, other): &(u64, Arc<PathAttributes>)| {
            let origin = &origins[&address(other)];
            *other_hash == hash
                && Arc::ptr_eq(&origin.received, &received)
                && origin.weight == weight
                && **other == *imported
        };
        match changed.entry(hash, equal, |(hash, _)| *hash) {
            Entry::Occupied(entry) => entry.get().1.clone(),
            Entry::Vacant(entry) => {
                // Its address stands for what it was made of too, so nobody else's will do.
                let own = Arc::new(Arc::unwrap_or_clone(imported));
                origins.insert(address(&own), Origin { received, weight });
                entry.insert((hash, own)).get().1.clone()
            }
        }
    }

    /// What was received where these attributes came of it.
    pub(super) fn received<'a>(
        &'a self,
        attributes: &'a Arc<PathAttributes>,
    ) -> &'a Arc<PathAttributes> {
        let origin = self.origins.get(&address(attributes));
        origin.map_or(attributes, |origin| &origin.received)
    }

    /// The weight that import gave.
    pub(super) fn weight(&self, attributes: &Arc<PathAttributes>) -> Option<NonZeroU8> {
        self.origins.get(&address(attributes))?.weight
    }

    /// Gives one reference back; frees the set if it was the last.
    pub(super) fn release(&mut self, attributes: Arc<PathAttributes>) {
        const TABLE_AND_CALLER: usize = 2;
        if Arc::strong_count(&attributes) > TABLE_AND_CALLER {
            return;
        }
        let is_it = |(_, other): &(u64, Arc<PathAttributes>)| Arc::ptr_eq(other, &attributes);
        if let Some(Origin { received, weight }) = self.origins.remove(&address(&attributes)) {
            let hash = self.hash_changed(&attributes, &received, weight);
            if let Ok(entry) = self.changed.find_entry(hash, is_it) {
                entry.remove();
            }
            return self.release(received);
        }
        let hash = self.key.hash_one(&*attributes);
        if let Ok(entry) = self.sets.find_entry(hash, is_it) {
            entry.remove();
        }
    }

    /// Frees sets that were still held from outside when the last path gave them back.
    pub(super) fn sweep(&mut self) {
        #[cfg(test)]
        SWEPT.set(SWEPT.get() + 1);
        let Self {
            sets,
            changed,
            origins,
            ..
        } = self;
        changed.retain(|(_, set)| {
            let held = Arc::strong_count(set) > 1;
            if !held {
                origins.remove(&address(set));
            }
            held
        });
        sets.retain(|(_, set)| Arc::strong_count(set) > 1);
        for sets in [sets, changed] {
            sets.shrink_to(sets.len() * 2, |(hash, _)| *hash);
        }
        origins.shrink_to(origins.len() * 2);
    }

    /// Number of distinct sets.
    pub(super) fn len(&self) -> usize {
        self.sets.len() + self.changed.len()
    }

    fn hash_changed(
        &self,
        imported: &PathAttributes,
        received: &Arc<PathAttributes>,
        weight: Option<NonZeroU8>,
    ) -> u64 {
        self.key.hash_one((imported, address(received), weight))
    }
}

#[cfg(test)]
thread_local! {
    /// How often all sets were looked at.
    pub(crate) static SWEPT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn address(set: &Arc<PathAttributes>) -> usize {
    Arc::as_ptr(set).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one_allocation_and_different_ones_are_not() {
        let mut interner = Interner::default();
        let first = interner.intern(with_med(1));
        let again = interner.intern(with_med(1));
        let other = interner.intern(with_med(2));
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(interner.len(), 2);
    }

    #[test]
    fn a_set_is_freed_with_its_last_holder_and_not_before() {
        let mut interner = Interner::default();
        let first = interner.intern(with_med(1));
        let second = interner.intern(with_med(1));
        interner.release(first);
        assert_eq!(interner.len(), 1);
        interner.release(second);
        assert_eq!(interner.len(), 0);
    }

    #[test]
    fn a_set_that_was_held_elsewhere_when_released_goes_with_the_next_sweep() {
        let mut interner = Interner::default();
        let path = interner.intern(with_med(1));
        let elsewhere = path.clone();
        interner.release(path);
        assert_eq!(interner.len(), 1);
        drop(elsewhere);
        interner.sweep();
        assert_eq!(interner.len(), 0);
    }

    #[test]
    fn a_changed_set_knows_what_was_received_and_differs_by_that_and_by_its_weight() {
        let mut interner = Interner::default();
        let heavy = NonZeroU8::new(3);
        let plain = interner.intern(with_med(9));
        let mut changed = |received, weight| {
            let set = interner.intern_changed(with_med(received), with_med(9), weight);
            assert_eq!(*set, *with_med(9));
            assert_eq!(*interner.received(&set), with_med(received));
            assert_eq!(interner.weight(&set), weight);
            set
        };
        let sets = [
            plain.clone(),
            changed(1, None),
            changed(2, None),
            changed(1, heavy),
            changed(9, heavy),
        ];
        assert!(Arc::ptr_eq(&changed(1, heavy), &sets[3]), "the same again");
        for (place, set) in sets.iter().enumerate() {
            let mut others = sets[place + 1..].iter();
            assert!(others.all(|other| !Arc::ptr_eq(set, other)));
        }
        assert!(Arc::ptr_eq(interner.received(&sets[4]), &plain));
        assert_eq!(interner.weight(&plain), None);
    }

    #[test]
    fn what_was_received_is_freed_with_what_was_made_of_it() {
        let mut interner = Interner::default();
        let set = interner.intern_changed(with_med(1), with_med(2), None);
        let again = interner.intern_changed(with_med(1), with_med(2), None);
        assert_eq!(interner.len(), 2);
        interner.release(again);
        assert_eq!(interner.len(), 2);
        interner.release(set);
        assert_eq!(interner.len(), 0);

        let set = interner.intern_changed(with_med(1), with_med(2), None);
        let elsewhere = set.clone();
        interner.release(set);
        drop(elsewhere);
        interner.sweep();
        assert_eq!((interner.len(), interner.origins.len()), (0, 0));
    }

    fn with_med(med: u32) -> Arc<PathAttributes> {
        Arc::new(PathAttributes {
            med: Some(med),
            ..PathAttributes::default()
        })
    }
}
