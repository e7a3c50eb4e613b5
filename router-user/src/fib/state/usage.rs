//! How much the desired state holds, and what depends on a next hop.

use super::Fib;
use crate::fib::NextHop;

/// How much is desired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Tables.
    pub tables: usize,
    /// Routes of all tables.
    pub routes: usize,
    /// Groups that routes name.
    pub groups: usize,
    /// Next hops that groups name.
    pub next_hops: usize,
    /// Of them, those where packets can be sent, as far as is known.
    pub alive: usize,
}

/// What depends on a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Groups that name it.
    pub groups: usize,
    /// Routes that name these groups.
    pub routes: usize,
    /// Of these groups, those in which no other next hop is alive.
    pub without_other: usize,
}

impl Fib {
    /// How much is desired. Costs O(tables, groups, next hops).
    #[must_use]
    pub fn totals(&self) -> Totals {
        let used = |routes: &usize| *routes > 0;
        let groups = self.groups.values().map(|state| state.routes);
        let next_hops = self.next_hops.values();
        let named = next_hops.filter(|state| !state.groups.is_empty());
        let (next_hops, alive) = named.fold((0, 0), |(all, alive), state| {
            (all + 1, alive + usize::from(state.alive))
        });
        Totals {
            tables: self.tables.len(),
            routes: groups.clone().sum(),
            groups: groups.filter(used).count(),
            next_hops,
            alive,
        }
    }

    /// What depends on a next hop. Costs O(groups that name it).
    #[must_use]
    pub fn usage(&self, next_hop: &NextHop) -> Usage {
        let Some(state) = self.next_hops.get(next_hop) else {
            return Usage::default();
        };
        let mut usage = Usage::default();
        for group in state.groups.iter().filter_map(|id| self.groups.get(id)) {
            let mut others = group.group.next_hops().filter(|other| *other != next_hop);
            usage.groups += 1;
            usage.routes += group.routes;
            usage.without_other += usize::from(!others.any(|other| self.is_alive(other)));
        }
        usage
    }
}
