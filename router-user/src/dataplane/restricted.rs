//! Sets of networks that take from a port only what is at home in its network.
//!
//! A set is written whole before a port that names it is published, never changed while one does,
//! and removed only after a grace period. Ports with equal restrictions share one.

use std::collections::BTreeSet;

use router_common::maps::{NONE, RestrictedKey};
use rustc_hash::{FxHashMap, FxHashSet};
use tracing::warn;

use super::{
    kernel::{Host, KernelError, Maps},
    numbers::{Kind, Retired, encode},
    reconciler::Reconciler,
};
use crate::names::VnetName;

/// The sets, by number.
#[derive(Debug, Default)]
pub(super) struct Sets(FxHashMap<u32, Set>);

#[derive(Debug, Default)]
struct Set {
    /// Numbers of the networks that stand in the map.
    vnets: BTreeSet<u32>,
    /// How many ports name it, as configured and as published.
    holders: usize,
}

impl Sets {
    /// What an earlier run has left. One that was killed may have forgotten the name of a set and not
    /// removed it yet: whoever gets its number next must not inherit it.
    pub(super) fn adopt(
        maps: &mut impl Maps,
        named: &FxHashSet<u32>,
        published: impl Iterator<Item = u32>,
    ) -> Result<Self, KernelError> {
        let mut sets = Self::default();
        for key in maps.restricted()? {
            if named.contains(&key.set) {
                sets.0.entry(key.set).or_default().vnets.insert(key.vnet);
            } else {
                maps.remove_restricted(key)?;
            }
        }
        for set in published.filter(|set| *set != NONE) {
            sets.0.entry(set).or_default().holders += 1;
        }
        Ok(sets)
    }
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    /// The number of the set of these networks, which stands in the map from now on and is held once
    /// more.
    pub(super) fn claim_restricted(&mut self, vnets: &[VnetName]) -> Result<u32, KernelError> {
        if vnets.is_empty() {
            return Ok(NONE);
        }
        let wanted = vnets
            .iter()
            .map(|vnet| self.vnet(vnet))
            .collect::<Result<BTreeSet<_>, _>>()?;
        let set = self.claim(Kind::Restricted, &name(vnets))?.number();
        self.sets.0.entry(set).or_default();
        // All stand already, unless the set is new or an earlier run was killed on its way here.
        // What an earlier holder of the number could not remove.
        if self.sets.0[&set].holders == 0 {
            self.remove_from(set, |vnet| !wanted.contains(&vnet));
        }
        let standing = &mut self.sets.0.entry(set).or_default().vnets;
        let mut written = Ok(());
        for vnet in wanted {
            if !standing.contains(&vnet) {
                written = self.maps.put_restricted(RestrictedKey { set, vnet });
                if written.is_err() {
                    break;
                }
                standing.insert(vnet);
            }
        }
        self.hold_restricted(set);
        if let Err(error) = written {
            // Without a holder it would stay for ever.
            self.release_restricted(set);
            return Err(error);
        }
        Ok(set)
    }

    /// The networks of a set.
    pub(super) fn restricted_names(&self, set: u32) -> Vec<VnetName> {
        let name = self.numbers[Kind::Restricted as usize].name(set);
        let names = name.into_iter().flat_map(|name| name.split(' '));
        names.map(VnetName::from).collect()
    }

    /// The same for these networks and those of a set that stands.
    pub(super) fn claim_restricted_beside(
        &mut self,
        vnets: &[VnetName],
        beside: u32,
    ) -> Result<u32, KernelError> {
        let numbers = &self.numbers[Kind::Vnet as usize];
        let standing = self.sets.0.get(&beside).into_iter();
        let standing = standing.flat_map(|set| &set.vnets);
        let standing = standing.filter_map(|vnet| Some(VnetName::from(numbers.name(*vnet)?)));
        let all: BTreeSet<VnetName> = standing.chain(vnets.iter().cloned()).collect();
        let all: Vec<VnetName> = all.into_iter().collect();
        self.claim_restricted(&all)
    }

    pub(super) fn hold_restricted(&mut self, set: u32) {
        if let Some(set) = self.sets.0.get_mut(&set) {
            set.holders += 1;
        }
    }

    /// One holder fewer; the last one's set goes.
    pub(super) fn release_restricted(&mut self, set: u32) {
        let Some(state) = self.sets.0.get_mut(&set) else {
            return;
        };
        state.holders = state.holders.saturating_sub(1);
        if state.holders > 0 {
            return;
        }
        let Some(name) = self.numbers[Kind::Restricted as usize]
            .name(set)
            .map(str::to_owned)
        else {
            return;
        };
        if !self.leave_to_sweep(Kind::Restricted, &name) {
            self.forget(&encode(Kind::Restricted, &name), Kind::Restricted);
            self.retired.push(Retired::Restricted(set));
        }
    }

    /// No packet meets the set any more.
    pub(super) fn erase_restricted(&mut self, set: u32) {
        self.remove_from(set, |_| true);
        if self.sets.0.get(&set).is_some_and(|it| it.vnets.is_empty()) {
            self.sets.0.remove(&set);
        }
        self.numbers[Kind::Restricted as usize].release(set);
    }

    /// Removes networks from a set that no port names. What the kernel refuses to remove is left to
    /// the next holder of the number.
    fn remove_from(&mut self, set: u32, unwanted: impl Fn(u32) -> bool) {
        let Some(state) = self.sets.0.get_mut(&set) else {
            return;
        };
        state.vnets.retain(|vnet| {
            let key = RestrictedKey { set, vnet: *vnet };
            if !unwanted(*vnet) {
                return true;
            }
            let removed = self.maps.remove_restricted(key);
            if let Err(error) = &removed {
                warn!(set, "a restricted network is not removed: {error}");
            }
            removed.is_err()
        });
    }
}

/// What the set is called in `names`.
fn name(vnets: &[VnetName]) -> String {
    let vnets: Vec<&str> = vnets.iter().map(VnetName::as_str).collect();
    vnets.join(" ")
}
