//! Interned path attributes: equal sets share one allocation, so that comparing two routes is
//! comparing two pointers.
//!
//! In: attributes as decoded. Out: the one allocation that stands for them. A set that no path
//! holds any longer is freed when its last holder gives it back through [`Interner::release`].

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};

use crate::bgp::wire::PathAttributes;

/// All attribute sets in use. Each keeps its hash, so that growing does not read the sets again. The
/// hash has a key: peers choose what is hashed, and must not be able to make it collide.
#[derive(Default)]
pub(super) struct Interner {
    key: RandomState,
    sets: HashTable<(u64, Arc<PathAttributes>)>,
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

    /// Gives one reference back; frees the set if it was the last.
    pub(super) fn release(&mut self, attributes: Arc<PathAttributes>) {
        const TABLE_AND_CALLER: usize = 2;
        if Arc::strong_count(&attributes) > TABLE_AND_CALLER {
            return;
        }
        let hash = self.key.hash_one(&*attributes);
        if let Ok(entry) = self
            .sets
            .find_entry(hash, |(_, other)| Arc::ptr_eq(other, &attributes))
        {
            entry.remove();
        }
    }

    /// Frees sets that were still held from outside when the last path gave them back.
    pub(super) fn sweep(&mut self) {
        self.sets.retain(|(_, set)| Arc::strong_count(set) > 1);
        self.sets.shrink_to(self.sets.len() * 2, |(hash, _)| *hash);
    }

    /// Number of distinct sets.
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }
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

    fn with_med(med: u32) -> Arc<PathAttributes> {
        Arc::new(PathAttributes {
            med: Some(med),
            ..PathAttributes::default()
        })
    }
}
