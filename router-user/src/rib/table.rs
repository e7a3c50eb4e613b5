//! The prefixes of one family with their paths: Adj-RIB-In of all sessions in one structure.
//!
//! Prefixes lie in numbered slots, found through an index of four bytes a prefix. A slot keeps its
//! number while its prefix has paths, so a walk over the table can stop, let changes happen, and
//! go on from the number where it stopped. The first change of a slot in a batch keeps the paths
//! as they were: what a batch changed is the difference between the two.

use std::{
    hash::{BuildHasher, Hash},
    net::{Ipv4Addr, Ipv6Addr},
};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::path::Paths;
use crate::bgp::wire::Family;

/// The address of a prefix in its most compact form.
pub(super) trait Address: Copy + Eq + Hash {
    const FAMILY: Family;

    /// The prefix with this address and length.
    fn prefix(self, length: u8) -> IpNet;
}

impl Address for Ipv4Addr {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn prefix(self, length: u8) -> IpNet {
        Ipv4Net::new_assert(self, length).into()
    }
}

impl Address for Ipv6Addr {
    const FAMILY: Family = Family::Ipv6Unicast;

    fn prefix(self, length: u8) -> IpNet {
        Ipv6Net::new_assert(self, length).into()
    }
}

/// A prefix and its paths; 40 bytes for IPv4.
#[derive(Clone)]
pub(super) struct Slot<A> {
    paths: Paths,
    address: A,
    length: u8,
    changed: bool,
}

impl<A: Address> Slot<A> {
    pub(super) fn prefix(&self) -> IpNet {
        self.address.prefix(self.length)
    }

    pub(super) fn key(&self) -> (A, u8) {
        (self.address, self.length)
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// A slot that a batch changed.
#[derive(Clone)]
pub(super) struct Changed {
    pub(super) slot: usize,
    /// Its paths before the batch.
    pub(super) before: Paths,
}

/// All prefixes of one family.
#[derive(Clone)]
pub(super) struct Table<A> {
    /// Of the hash: peers choose the prefixes, and must not be able to make them collide.
    key: RandomState,
    index: HashTable<u32>,
    slots: Vec<Slot<A>>,
    free: Vec<u32>,
    changed: Vec<Changed>,
}

impl<A> Default for Table<A> {
    fn default() -> Self {
        Self {
            key: RandomState::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
        }
    }
}

impl<A: Address> Table<A> {
    /// The slot of a prefix.
    pub(super) fn find(&self, address: A, length: u8) -> Option<usize> {
        let place = self.index.find(hash(&self.key, address, length), |slot| {
            let slot = &self.slots[*slot as usize];
            slot.address == address && slot.length == length
        });
        place.map(|slot| *slot as usize)
    }

    /// The slot of a prefix, new and empty if there was none.
    pub(super) fn find_or_add(&mut self, address: A, length: u8) -> usize {
        let Self {
            key,
            index,
            slots,
            free,
            ..
        } = self;
        let entry = index.entry(
            hash(key, address, length),
            |slot| {
                let slot = &slots[*slot as usize];
                slot.address == address && slot.length == length
            },
            |slot| {
                let slot = &slots[*slot as usize];
                hash(key, slot.address, slot.length)
            },
        );
        let vacant = match entry {
            Entry::Occupied(entry) => return *entry.get() as usize,
            Entry::Vacant(vacant) => vacant,
        };
        let slot = Slot {
            paths: Paths::new(),
            address,
            length,
            changed: false,
        };
        match free.pop() {
            Some(number) => {
                vacant.insert(number);
                slots[number as usize] = slot;
                number as usize
            }
            None => {
                let number = slots.len();
                vacant.insert(u32::try_from(number).expect("fewer than 2^32 prefixes"));
                slots.push(slot);
                number
            }
        }
    }

    /// The paths of a slot, to read.
    pub(super) fn paths(&self, slot: usize) -> &Paths {
        &self.slots[slot].paths
    }

    /// The paths of a slot, to change: the slot becomes part of the batch.
    pub(super) fn paths_mut(&mut self, slot: usize) -> &mut Paths {
        let Slot { paths, changed, .. } = &mut self.slots[slot];
        if !std::mem::replace(changed, true) {
            let before = paths.clone();
            self.changed.push(Changed { slot, before });
        }
        paths
    }

    /// Marks one path of a slot as stale, or takes the mark away. No decision depends on it, so the
    /// slot does not become part of the batch.
    pub(super) fn mark(&mut self, slot: usize, place: usize, stale: bool) {
        let standing = &mut self.slots[slot].paths[place].standing;
        *standing = standing.marked(stale);
    }

    /// The numbers of all slots, those without a prefix included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many prefixes there are.
    pub(super) fn prefixes(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A slot; one without paths stands for no prefix.
    pub(super) fn slot(&self, slot: usize) -> &Slot<A> {
        &self.slots[slot]
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Ends the batch: what it changed. Slots left without paths stay until
    /// [`Table::free_empty`].
    pub(super) fn take_changed(&mut self) -> Vec<Changed> {
        for change in &self.changed {
            self.slots[change.slot].changed = false;
        }
        std::mem::take(&mut self.changed)
    }

    /// Frees those of these slots that have no paths left and are not changed since.
    pub(super) fn free_empty(&mut self, slots: impl Iterator<Item = usize>) {
        for slot in slots {
            let Slot {
                paths,
                address,
                length,
                changed,
            } = &self.slots[slot];
            if !paths.is_empty() || *changed {
                continue;
            }
            let number = u32::try_from(slot).expect("fewer than 2^32 prefixes");
            let entry = self
                .index
                .find_entry(hash(&self.key, *address, *length), |slot| *slot == number);
            if let Ok(entry) = entry {
                entry.remove();
                self.free.push(number);
            }
        }
        if self.index.is_empty() {
            *self = Self::default();
        }
    }
}

fn hash<A: Address>(key: &RandomState, address: A, length: u8) -> u64 {
    key.hash_one((address, length))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rib::{
        LocalSource,
        decision::Rank,
        path::{Path, SessionIndex, Standing},
    };

    #[test]
    fn a_prefix_keeps_its_slot_while_it_has_paths_and_leaves_it_to_another_one_then() {
        let mut table = Table::default();
        let [a, b, c] = [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let slots = [a, b].map(|address| add(&mut table, address));
        end_batch(&mut table);
        assert_eq!(
            [a, b].map(|address| table.find(address, 32)),
            slots.map(Some)
        );
        assert_eq!(table.find(a, 31), None, "the length is part of the key");

        table.paths_mut(slots[0]).clear();
        assert_eq!(table.find(a, 32), Some(slots[0]), "until the batch ends");
        end_batch(&mut table);
        assert_eq!(table.find(a, 32), None);
        assert_eq!(add(&mut table, c), slots[0]);
        assert_eq!(table.slot(slots[0]).prefix().to_string(), "10.0.0.3/32");
    }

    #[test]
    fn an_empty_table_keeps_no_slots() {
        let mut table = Table::default();
        let slot = add(&mut table, Ipv6Addr::LOCALHOST);
        end_batch(&mut table);
        assert_eq!(table.len(), 1);
        table.paths_mut(slot).clear();
        end_batch(&mut table);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_batch_keeps_the_paths_as_they_were_before_its_first_change() {
        let mut table = Table::default();
        let slot = add(&mut table, Ipv4Addr::LOCALHOST);
        end_batch(&mut table);
        table.paths_mut(slot).push(path(1));
        table.paths_mut(slot).clear();
        let changed = table.take_changed();
        let before: Vec<usize> = changed.iter().map(|change| change.before.len()).collect();
        assert_eq!(before, [1], "changed twice, noted once");
        assert!(!table.has_changes());
    }

    #[test]
    fn prefixes_chosen_to_collide_in_a_hash_without_a_key_do_not() {
        // The multiplier of FxHash: under it all of these have one hash.
        const MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;
        let key = RandomState::default();
        let hashes: std::collections::BTreeSet<u64> = (1..=1000u64)
            .map(|high| {
                let low = high.wrapping_mul(MULTIPLIER).wrapping_neg();
                let address = u128::from(high) << 64 | u128::from(low);
                hash(&key, Ipv6Addr::from_bits(address), 128)
            })
            .collect();
        assert!(hashes.len() > 990, "{}", hashes.len());
    }

    fn add<A: Address>(table: &mut Table<A>, address: A) -> usize {
        let slot = table.find_or_add(address, 32);
        table.paths_mut(slot).push(path(0));
        slot
    }

    fn end_batch<A: Address>(table: &mut Table<A>) {
        let changed = table.take_changed();
        table.free_empty(changed.iter().map(|change| change.slot));
    }

    fn path(path_id: u32) -> Path {
        Path {
            attributes: Arc::default(),
            rank: Rank::originated(LocalSource::NETWORKS),
            path_id,
            session: SessionIndex::LOCAL,
            standing: Standing::LOCAL,
        }
    }
}
