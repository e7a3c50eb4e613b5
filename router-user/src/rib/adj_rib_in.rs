//! Adj-RIB-In: the paths that sessions announce, in one table for all of them.
//!
//! In: announcements, withdrawals, sessions that end. Out: changed slots of the table, and counts
//! for each session.

use std::{
    hash::{Hash, Hasher},
    num::NonZeroU8,
    sync::Arc,
};

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHasher};

use super::{
    AdvertisedView, Imported, Interned, LocalSource, PathView, PrefixView, SessionInfo, Zone,
    ZoneSet,
    adj_rib_out::Tables,
    attributes::Interner,
    decision::{Decision, DecisionOptions, Rank},
    learned::{Basis, Scope},
    outbound::{Outgoing, Provenance},
    path::{Path, Reasons, SessionIndex, Sessions},
    path_id,
    table::{Address, Table},
    view::{FamilyView, is_sent_only},
};
use crate::bgp::wire::{Family, Nlri, PathAttributes, community};

/// What paths refer to.
#[derive(Clone, Default)]
pub(super) struct Core {
    pub(super) options: DecisionOptions,
    pub(super) attributes: Interner,
    pub(super) reasons: Reasons,
    pub(super) sessions: Sessions,
    pub(super) zones: Zones,
    pub(super) reclassifying: Option<Reclassifying>,
}

/// Sessions whose class became another one, by index, and the slots from which on their paths may have
/// that of before: IPv4, IPv6.
#[derive(Clone)]
pub(super) struct Reclassifying {
    moved: Vec<bool>,
    next: [usize; 2],
}

/// How many eligible paths have their next hop in each zone.
#[derive(Clone, Default)]
pub(super) struct Zones(Vec<usize>);

impl Zones {
    fn add(&mut self, zone: Zone) {
        let place = usize::from(zone.0);
        if place >= self.0.len() {
            self.0.resize(place + 1, 0);
        }
        self.0[place] += 1;
    }

    fn remove(&mut self, zone: Zone) {
        self.0[usize::from(zone.0)] -= 1;
    }

    /// Those in which any has.
    pub(super) fn in_use(&self) -> ZoneSet {
        let zones = (0..).map(Zone).zip(&self.0);
        let used = zones.filter(|(_, paths)| **paths > 0);
        used.map(|(zone, _)| zone).collect()
    }
}

#[cfg(test)]
thread_local! {
    /// How many slots were looked at to import paths again.
    pub(crate) static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Core {
    pub(super) fn intern(
        &mut self,
        received: Arc<PathAttributes>,
        imported: Arc<PathAttributes>,
        weight: Option<NonZeroU8>,
    ) -> Interned {
        // Arcs of one allocation are equal at a glance.
        let changed = weight.is_some() || imported != received;
        let attributes = match changed {
            true => self.attributes.intern_changed(received, imported, weight),
            false => self.attributes.intern(received),
        };
        Interned {
            attributes,
            changed,
        }
    }

    /// `true`: it is new, or in the place of one that was marked as stale.
    pub(super) fn announce<A: Address>(
        &mut self,
        table: &mut Table<A>,
        address: A,
        length: u8,
        path: Path,
    ) -> bool {
        let slot = table.find_or_add(address, length);
        let mut paths = table.paths(slot).iter();
        let known =
            paths.position(|known| known.session == path.session && known.path_id == path.path_id);
        let Some(place) = known else {
            self.count(A::FAMILY, address, length, &path, Count::Add);
            table.paths_mut(slot).push(path);
            return true;
        };
        let known = &table.paths(slot)[place];
        let was_stale = known.is_stale();
        let same = known.standing.judged() == path.standing.judged() && known.rank == path.rank;
        if same && Arc::ptr_eq(&known.attributes, &path.attributes) {
            if was_stale {
                self.sessions.get_mut(path.session).totals.stale[A::FAMILY as usize] -= 1;
                table.mark(slot, place, false);
            }
            return was_stale;
        }
        self.count(A::FAMILY, address, length, known, Count::Remove);
        self.count(A::FAMILY, address, length, &path, Count::Add);
        let old = std::mem::replace(&mut table.paths_mut(slot)[place], path);
        self.attributes.release(old.attributes);
        was_stale
    }

    pub(super) fn withdraw<A: Address>(
        &mut self,
        table: &mut Table<A>,
        address: A,
        length: u8,
        session: SessionIndex,
        path_id: u32,
    ) -> bool {
        let Some(slot) = table.find(address, length) else {
            return false;
        };
        let mut paths = table.paths(slot).iter();
        let known = paths.position(|path| path.session == session && path.path_id == path_id);
        let Some(place) = known else {
            return false;
        };
        let path = table.paths_mut(slot).swap_remove(place);
        self.count(A::FAMILY, address, length, &path, Count::Remove);
        self.attributes.release(path.attributes);
        true
    }

    pub(super) fn clear<A: Address>(&mut self, table: &mut Table<A>, session: SessionIndex) {
        for slot in 0..table.len() {
            if self.sessions[session].totals.received[A::FAMILY as usize] == 0 {
                break;
            }
            let is_its = |path: &Path| path.session == session;
            while let Some(place) = table.paths(slot).iter().position(is_its) {
                let (address, length) = table.slot(slot).key();
                let path = table.paths_mut(slot).swap_remove(place);
                self.count(A::FAMILY, address, length, &path, Count::Remove);
                self.attributes.release(path.attributes);
            }
        }
    }

    /// Marks all paths of a session.
    pub(super) fn mark_stale<A: Address>(&mut self, table: &mut Table<A>, session: SessionIndex) {
        let totals = &mut self.sessions.get_mut(session).totals;
        let family = A::FAMILY as usize;
        for slot in 0..table.len() {
            if totals.stale[family] == totals.received[family] {
                break;
            }
            for place in 0..table.paths(slot).len() {
                let path = &table.paths(slot)[place];
                if path.session == session && !path.is_stale() {
                    table.mark(slot, place, true);
                    totals.stale[family] += 1;
                }
            }
        }
    }

    /// Removes those paths of a session that are still marked; how many.
    pub(super) fn sweep_stale<A: Address>(
        &mut self,
        table: &mut Table<A>,
        session: SessionIndex,
    ) -> usize {
        let count = self.sessions[session].totals.stale[A::FAMILY as usize];
        let mut left = count;
        let goes = |path: &Path| path.session == session && path.is_stale();
        let mut slots = 0..table.len();
        while left > 0
            && let Some(slot) = slots.next()
        {
            while let Some(place) = table.paths(slot).iter().position(goes) {
                let (address, length) = table.slot(slot).key();
                let path = table.paths_mut(slot).swap_remove(place);
                self.count(A::FAMILY, address, length, &path, Count::Remove);
                self.attributes.release(path.attributes);
                left -= 1;
            }
        }
        count
    }

    /// Long-lived graceful restart begins for what is marked (RFC 9494 §4.2): paths with NO_LLGR go,
    /// the others carry LLGR_STALE from now on.
    pub(super) fn make_long_lived<A: Address>(
        &mut self,
        table: &mut Table<A>,
        session: SessionIndex,
    ) {
        let class = self.sessions.info(session).class;
        let mut left = self.sessions[session].totals.stale[A::FAMILY as usize];
        let mut replaced: FxHashMap<*const PathAttributes, Arc<PathAttributes>> =
            FxHashMap::default();
        for slot in 0..table.len() {
            if left == 0 {
                break;
            }
            let mut place = 0;
            while place < table.paths(slot).len() {
                let path = &table.paths(slot)[place];
                if path.session != session || !path.is_stale() {
                    place += 1;
                    continue;
                }
                left -= 1;
                let (address, length) = table.slot(slot).key();
                self.count(A::FAMILY, address, length, path, Count::Remove);
                if path.attributes.has_community(community::NO_LLGR) {
                    let path = table.paths_mut(slot).swap_remove(place);
                    self.attributes.release(path.attributes);
                    continue;
                }
                let attributes = replaced
                    .entry(Arc::as_ptr(&path.attributes))
                    .or_insert_with(|| {
                        let imported = long_lived(&path.attributes);
                        if !path.standing.is_changed() {
                            return self.attributes.intern(imported);
                        }
                        let received = long_lived(self.attributes.received(&path.attributes));
                        let weight = self.attributes.weight(&path.attributes);
                        self.attributes.intern_changed(received, imported, weight)
                    })
                    .clone();
                let path = &mut table.paths_mut(slot)[place];
                path.rank = Rank::learned(&attributes, class);
                let old = std::mem::replace(&mut path.attributes, attributes);
                self.count(A::FAMILY, address, length, path, Count::Add);
                self.attributes.release(old);
                place += 1;
            }
        }
        for attributes in replaced.into_values() {
            self.attributes.release(attributes);
        }
    }

    pub(super) fn reimport<A: Address>(
        &mut self,
        table: &mut Table<A>,
        session: SessionIndex,
        import: &mut impl FnMut(IpNet, &Arc<PathAttributes>) -> Imported,
    ) {
        let class = self.sessions.info(session).class;
        let mut known = Reimported::default();
        let mut left = self.sessions[session].totals.received[A::FAMILY as usize];
        for slot in 0..table.len() {
            if left == 0 {
                break;
            }
            #[cfg(test)]
            WALKED.set(WALKED.get() + 1);
            for place in 0..table.paths(slot).len() {
                let path = &table.paths(slot)[place];
                if path.session != session {
                    continue;
                }
                left = left.saturating_sub(1);
                let received = match path.standing.is_changed() {
                    true => self.attributes.received(&path.attributes).clone(),
                    false => path.attributes.clone(),
                };
                let mut imported = import(table.slot(slot).prefix(), &received);
                if path.is_stale() && path.attributes.has_community(community::LLGR_STALE) {
                    imported.attributes = known.long_lived(imported.attributes);
                }
                let standing = self.reasons.standing(&imported.judgement);
                let (attributes, changed) = known.intern(self, received, imported);
                let standing = standing.with_changed(changed).marked(path.is_stale());
                if Arc::ptr_eq(&attributes, &path.attributes) && standing == path.standing {
                    continue;
                }
                let rank = Rank::learned(&attributes, class);
                let (address, length) = table.slot(slot).key();
                self.count(A::FAMILY, address, length, path, Count::Remove);
                let path = &mut table.paths_mut(slot)[place];
                path.attributes = attributes;
                path.rank = rank;
                path.standing = standing;
                self.count(A::FAMILY, address, length, path, Count::Add);
            }
        }
    }

    fn count<A: Hash>(
        &mut self,
        family: Family,
        address: A,
        length: u8,
        path: &Path,
        count: Count,
    ) {
        if path.is_local() {
            return;
        }
        let totals = &mut self.sessions.get_mut(path.session).totals;
        let received = &mut totals.received[family as usize];
        let stale = &mut totals.stale[family as usize];
        let zone = path.standing.zone();
        let (accepted, hash) = if zone.is_some() {
            // Path identifiers mean nothing beyond their session.
            let told = (address, length, Arc::as_ptr(&path.attributes));
            (1, fingerprint(&told))
        } else {
            (0, 0)
        };
        match count {
            Count::Add => {
                *received += 1;
                *stale += usize::from(path.is_stale());
                totals.accepted += accepted;
                totals.fingerprint = totals.fingerprint.wrapping_add(hash);
                zone.into_iter().for_each(|zone| self.zones.add(zone));
            }
            Count::Remove => {
                *received -= 1;
                *stale -= usize::from(path.is_stale());
                totals.accepted -= accepted;
                totals.fingerprint = totals.fingerprint.wrapping_sub(hash);
                zone.into_iter().for_each(|zone| self.zones.remove(zone));
            }
        }
    }

    /// Gives each session its class, and begins to give that to its paths.
    pub(super) fn reclassify(&mut self, class: impl Fn(&SessionInfo) -> u8) {
        let mut moved = self.sessions.reclassify(class);
        if !moved.contains(&true) {
            return;
        }
        // Paths that still have the class of before may have any.
        if let Some(before) = self.reclassifying.take() {
            moved.resize(moved.len().max(before.moved.len()), false);
            for (moved, before) in moved.iter_mut().zip(before.moved) {
                *moved |= before;
            }
        }
        self.reclassifying = Some(Reclassifying {
            moved,
            next: [0; 2],
        });
    }

    /// Goes on with that in so many slots that change.
    pub(super) fn go_on_reclassifying(&mut self, tables: &mut Tables, slots: usize) {
        let Some(Reclassifying {
            moved,
            next: [v4, v6],
        }) = self.reclassifying.take()
        else {
            return;
        };
        let next = [
            self.reclassify_some(&mut tables.v4, v4, &moved, slots),
            self.reclassify_some(&mut tables.v6, v6, &moved, slots),
        ];
        if next[0] < tables.v4.len() || next[1] < tables.v6.len() {
            self.reclassifying = Some(Reclassifying { moved, next });
        }
    }

    /// From this slot on, until so many slots have changed; the slot to go on from.
    fn reclassify_some<A: Address>(
        &self,
        table: &mut Table<A>,
        from: usize,
        moved: &[bool],
        mut most: usize,
    ) -> usize {
        let mut next = from;
        while next < table.len() && most > 0 {
            let moves = |path: &Path| {
                let moved = moved.get(usize::from(path.session.0));
                moved.is_some_and(|moved| *moved)
            };
            if table.paths(next).iter().any(moves) {
                for path in table.paths_mut(next).iter_mut().filter(|path| moves(path)) {
                    let class = self.sessions.info(path.session).class;
                    path.rank = path.rank.with_class(class);
                }
                most -= 1;
            }
            next += 1;
        }
        next
    }

    pub(super) fn decision(&self) -> Decision<'_> {
        Decision {
            sessions: &self.sessions,
            options: self.options,
        }
    }

    /// What is learned depends on this.
    pub(super) fn basis(&self) -> Basis<'_> {
        Basis {
            decision: self.decision(),
            reasons: &self.reasons,
            attributes: &self.attributes,
        }
    }

    pub(super) fn view(&self, prefix: IpNet, paths: &[Path], scope: Option<&Scope>) -> PrefixView {
        let verdicts = self.decision().verdicts(paths, &self.reasons, scope);
        let learned = paths
            .iter()
            .zip(verdicts)
            .filter(|(path, _)| !path.is_local() && !is_sent_only(&self.sessions, path));
        let learned = learned.map(|(path, verdict)| PathView {
            session: self.sessions.info(path.session).id.clone(),
            path_id: path.path_id,
            received: self.attributes.received(&path.attributes).clone(),
            attributes: path.attributes.clone(),
            stale: path.is_stale(),
            aggregate: self.sessions[path.session].is_shadow,
            verdict,
        });
        PrefixView {
            prefix,
            originated: paths
                .iter()
                .any(|path| path.local_source() == Some(LocalSource::NETWORKS)),
            paths: learned.collect(),
        }
    }

    pub(super) fn advertised(
        &self,
        to: &FamilyView<'_>,
        session: SessionIndex,
        prefix: IpNet,
        paths: &[Path],
    ) -> Vec<AdvertisedView> {
        let decision = self.decision();
        if !to.is_exchanged() {
            return Vec::new();
        }
        let info = self.sessions.info(session);
        let several = to.sends_several();
        let sent: Vec<&Path> = if several {
            let ranking = to.choose_several(&decision, prefix, paths, Some(info));
            ranking.paths.into_vec()
        } else {
            let choice = to.choose(&decision, prefix, paths, Some(info));
            choice.path.into_iter().collect()
        };
        let sent = sent.into_iter().filter_map(|path| {
            let Outgoing {
                attributes,
                provenance,
            } = to.outgoing(&self.sessions, prefix, path)?;
            Some(AdvertisedView {
                prefix,
                path_id: several.then(|| path_id::sent(paths, path)),
                attributes: to.view.outbound(to.family, &attributes, provenance),
                from: (provenance != Provenance::Own)
                    .then(|| self.sessions.info(path.session).id.clone()),
            })
        });
        sent.collect()
    }
}

/// The routes of a session that are not marked as stale, in no order.
pub(super) fn fresh_routes<A: Address>(table: &Table<A>, session: SessionIndex) -> Vec<Nlri> {
    let slots = (0..table.len()).map(|slot| table.slot(slot));
    let routes = slots.flat_map(|slot| {
        let paths = slot.paths().iter();
        let its = paths.filter(|path| path.session == session && !path.is_stale());
        its.map(|path| Nlri {
            prefix: slot.prefix(),
            path_id: path.path_id,
        })
    });
    routes.collect()
}

/// What import makes of paths one after the other: thousands share their attributes, and what import
/// makes of them.
#[derive(Default)]
struct Reimported {
    sets: FxHashMap<Remade, Kept>,
    /// What import makes of paths that are kept for long, and the same with LLGR_STALE.
    long_lived: FxHashMap<*const PathAttributes, [Arc<PathAttributes>; 2]>,
}

/// By the addresses of the attributes before and after import, and the weight.
type Remade = (
    *const PathAttributes,
    *const PathAttributes,
    Option<NonZeroU8>,
);

/// The interned attributes, and those that they stand for: as long as these live, no address is used
/// twice.
struct Kept {
    interned: Interned,
    _alive: [Arc<PathAttributes>; 2],
}

impl Reimported {
    /// More are not remembered: an import that gives out another allocation each time gains nothing.
    const MOST: usize = 4096;

    /// These attributes of a path that is kept for long: whatever import makes of them, LLGR_STALE
    /// stays (RFC 9494 §4.2).
    fn long_lived(&mut self, imported: Arc<PathAttributes>) -> Arc<PathAttributes> {
        if imported.has_community(community::LLGR_STALE) {
            return imported;
        }
        if self.long_lived.len() >= Self::MOST {
            self.long_lived.clear();
        }
        let entry = self.long_lived.entry(Arc::as_ptr(&imported));
        let [_, marked] = entry.or_insert_with(|| {
            let marked = long_lived(&imported);
            [imported, marked]
        });
        marked.clone()
    }

    /// The interned attributes, and whether import changed them.
    fn intern(
        &mut self,
        core: &mut Core,
        received: Arc<PathAttributes>,
        imported: Imported,
    ) -> (Arc<PathAttributes>, bool) {
        let Imported {
            attributes, weight, ..
        } = imported;
        if weight.is_none() && Arc::ptr_eq(&attributes, &received) {
            // What paths have received is interned already.
            return (received, false);
        }
        if self.sets.len() >= Self::MOST {
            self.sets.clear();
        }
        let key = (Arc::as_ptr(&received), Arc::as_ptr(&attributes), weight);
        let kept = self.sets.entry(key).or_insert_with(|| Kept {
            _alive: [received.clone(), attributes.clone()],
            interned: core.intern(received, attributes, weight),
        });
        (kept.interned.attributes.clone(), kept.interned.changed)
    }
}

/// These attributes with LLGR_STALE.
fn long_lived(attributes: &PathAttributes) -> Arc<PathAttributes> {
    let mut attributes = attributes.clone();
    attributes.add_community(community::LLGR_STALE);
    Arc::new(attributes)
}

#[derive(Clone, Copy)]
enum Count {
    Add,
    Remove,
}

/// A hash whose sums are worth comparing: FxHash alone is nearly linear.
pub(super) fn fingerprint(path: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    path.hash(&mut hasher);
    let mut hash = hasher.finish();
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_paths_have_different_fingerprints() {
        let paths = (0..50_000_u32).map(|path| (path << 8, 24_u8, 0x7f00_0000_1000_usize));
        let fingerprints: std::collections::HashSet<u64> =
            paths.map(|told| fingerprint(&told)).collect();
        assert_eq!(fingerprints.len(), 50_000);
    }

    #[test]
    fn every_bit_of_a_fingerprint_depends_on_every_bit_of_the_path() {
        const PATHS: u32 = 2048;
        let told = |address: u32| (address, 24_u8, 0x7f00_0000_1000_usize);
        for input in 0..32 {
            let mut flipped = [0; 64];
            for path in 0..PATHS {
                let address = path.wrapping_mul(0x9e37_79b1);
                let other = address ^ 1 << input;
                let difference = fingerprint(&told(address)) ^ fingerprint(&told(other));
                for (output, count) in flipped.iter_mut().enumerate() {
                    *count += difference >> output & 1;
                }
            }
            let half = u64::from(PATHS) / 2;
            for (output, count) in flipped.into_iter().enumerate() {
                let often = count.abs_diff(half) < half / 4;
                assert!(often, "bit {input} flips bit {output} {count} times");
            }
        }
    }
}
