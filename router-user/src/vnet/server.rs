//! What a route server has told the networks: its views, and who takes which.
//!
//! In: [`Report`]s. Out: the learned tables, the view that each use takes, and the networks whose
//! routes have to be looked at again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    learned::{LearnedTable, Reach},
    network::{LiveMembers, Network},
};
use crate::{
    config::Gateway,
    fib::Fib,
    names::{RouteServerName, TableName, VnetName},
    rib::{LearnedChange, LearnedViewId},
    route_server::{LearnedUse, Report, ViewPlan},
};

#[derive(Clone)]
pub(super) struct Server {
    name: RouteServerName,
    reach: Reach,
    views: BTreeMap<LearnedViewId, LearnedTable>,
    /// By what is used, whether a port does or not.
    uses: BTreeMap<LearnedUse, Use>,
    members: LiveMembers,
    /// Views that tell nothing any more. Each stays while ports take it that have not been assigned
    /// another one.
    dropped: BTreeSet<LearnedViewId>,
}

/// Whose routes may be others now.
pub(super) enum Concerned {
    Nobody,
    Networks(BTreeSet<VnetName>),
    /// Networks with ports that take one of these views.
    TakersOf(BTreeSet<LearnedViewId>),
    /// Networks with a route to the members of the gateways.
    ByMembers,
}

/// A use by some networks.
#[derive(Clone, Default)]
pub(super) struct Use {
    /// A port forwards by it.
    forwarding: bool,
    networks: BTreeSet<VnetName>,
    assigned: Option<Assigned>,
}

#[derive(Clone, Copy)]
struct Assigned {
    view: LearnedViewId,
    /// All its routes have been told, not only what others depend on.
    forwarding: bool,
}

impl Server {
    pub(super) fn new(name: &RouteServerName, reach: Reach) -> Self {
        Self {
            name: name.clone(),
            reach,
            views: BTreeMap::new(),
            uses: BTreeMap::new(),
            members: LiveMembers::new(),
            dropped: BTreeSet::new(),
        }
    }

    /// Takes over another configuration; `users`: the networks that use it. What it has told stays.
    pub(super) fn reconfigure(&mut self, reach: Reach, users: &[&Network]) {
        for table in self.views.values_mut() {
            table.set_reach(&reach);
        }
        self.reach = reach;
        let mut former = std::mem::take(&mut self.uses);
        for network in users {
            for subnet in &network.subnets {
                for slot in network.slots(subnet) {
                    let of = network.learned_use(subnet, slot.gateway);
                    let assigned = former.remove(&of).and_then(|former| former.assigned);
                    let entry = self.uses.entry(of).or_insert_with(|| Use {
                        assigned,
                        ..Use::default()
                    });
                    entry.forwarding |= !slot.ports.is_empty();
                    entry.networks.insert(network.name().clone());
                }
            }
        }
    }

    /// Forgets the members of gateways that are not configured any more.
    pub(super) fn retain_members(&mut self, gateways: &[Gateway]) {
        self.members
            .retain(|name, _| gateways.iter().any(|gateway| gateway.name == *name));
    }

    /// Takes over what it tells, and says whose routes that may change.
    pub(super) fn report(&mut self, report: Report) -> Concerned {
        match report {
            Report::View(id, plan) => return self.plan(id, &plan),
            Report::Changes(changes) => return self.learned(changes),
            Report::Assign(of, view) => return self.assign(of, view),
            Report::Drop(id) => return self.drop_view(id),
            Report::Members(gateway, members) => {
                let former = self.members.insert(gateway, members.clone());
                if former.unwrap_or_default() != members {
                    return Concerned::ByMembers;
                }
            }
        }
        Concerned::Nobody
    }

    pub(super) fn apply_to(&mut self, fib: &mut Fib) {
        for table in self.views.values_mut() {
            table.apply_to(fib);
        }
    }

    /// Removes what nobody takes any more; once all ports are placed.
    pub(super) fn remove_outdated(&mut self, fib: &mut Fib) {
        for table in self.views.values_mut() {
            table.remove_outdated(fib);
        }
    }

    /// Whether a view waits for its last users to leave it.
    pub(super) fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Clears the dropped views that no port takes any more. What stands in a table that another view
    /// has is that one's.
    pub(super) fn retire(&mut self, taken: &BTreeSet<LearnedViewId>, fib: &mut Fib) {
        let gone: Vec<_> = self.dropped.difference(taken).copied().collect();
        for id in gone {
            self.dropped.remove(&id);
            if let Some(table) = self.views.remove(&id)
                && self.view_of_table(table.name()).is_none()
            {
                fib.clear_table(table.name());
            }
        }
    }

    /// Its tables, once it is configured no more.
    pub(super) fn into_tables(self) -> impl Iterator<Item = TableName> {
        let views = self.views.into_values();
        views.map(|table| table.name().clone())
    }

    pub(super) fn view(&self, id: LearnedViewId) -> Option<&LearnedTable> {
        self.views.get(&id)
    }

    /// The view whose routes stand in a table.
    pub(super) fn view_of_table(&self, name: &TableName) -> Option<LearnedViewId> {
        let mut views = self.views.iter();
        let (id, _) = views.find(|(_, table)| table.name() == name)?;
        Some(*id)
    }

    /// The view that a use takes, once all has been told that its ports need.
    pub(super) fn complete(&self, of: &LearnedUse) -> Option<LearnedViewId> {
        let used = self.uses.get(of)?;
        let assigned = used.assigned?;
        (assigned.forwarding || !used.forwarding).then_some(assigned.view)
    }

    /// The view that a use takes.
    pub(super) fn assigned(&self, of: &LearnedUse) -> Option<LearnedViewId> {
        Some(self.uses.get(of)?.assigned?.view)
    }

    /// Whether a port forwards by a use.
    pub(super) fn forwards_by(&self, of: &LearnedUse) -> bool {
        self.uses.get(of).is_some_and(|used| used.forwarding)
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(super) fn members(&self) -> &LiveMembers {
        &self.members
    }

    pub(super) fn uses(&self) -> impl Iterator<Item = LearnedUse> {
        self.uses.iter().map(|(of, used)| LearnedUse {
            forwarding: used.forwarding,
            ..of.clone()
        })
    }

    /// A new view under the name of one that was dropped takes over its table: ports may take it
    /// that have not been assigned another one.
    fn plan(&mut self, id: LearnedViewId, plan: &ViewPlan) -> Concerned {
        let mut concerned = Concerned::Nobody;
        if !self.views.contains_key(&id) {
            let mut table = LearnedTable::new(&self.name, &plan.label, self.reach.clone());
            let same_name = self.view_of_table(table.name());
            if let Some(former) = same_name.filter(|id| self.dropped.remove(id))
                && let Some(taken_over) = self.views.remove(&former)
            {
                table = taken_over;
                table.begin_anew();
                concerned = Concerned::TakersOf(BTreeSet::from([former]));
            }
            self.views.insert(id, table);
        }
        if let Some(table) = self.views.get_mut(&id) {
            table.set_forwarding(plan.forwarding);
        }
        concerned
    }

    /// Takes over routes, at O(1) each. Those of a view that was not planned are passed over.
    fn learned(&mut self, changes: Vec<LearnedChange>) -> Concerned {
        let mut redirected = BTreeSet::new();
        for change in changes {
            let id = change.view;
            let Some(table) = self.views.get_mut(&id) else {
                continue;
            };
            let before = table.defaults();
            table.learn(change);
            if table.defaults() != before {
                redirected.insert(id);
            }
        }
        if redirected.is_empty() {
            return Concerned::Nobody;
        }
        Concerned::TakersOf(redirected)
    }

    fn assign(&mut self, of: LearnedUse, view: LearnedViewId) -> Concerned {
        let forwarding = of.forwarding;
        let of = LearnedUse {
            forwarding: false,
            ..of
        };
        let Some(used) = self.uses.get_mut(&of) else {
            return Concerned::Nobody;
        };
        used.assigned = Some(Assigned { view, forwarding });
        if let Some(table) = self.views.get_mut(&view) {
            match forwarding {
                true => table.complete(),
                false => table.complete_marks(),
            }
        }
        Concerned::Networks(used.networks.clone())
    }

    fn drop_view(&mut self, id: LearnedViewId) -> Concerned {
        if !self.views.contains_key(&id) {
            return Concerned::Nobody;
        }
        self.dropped.insert(id);
        for used in self.uses.values_mut() {
            used.assigned = used.assigned.filter(|assigned| assigned.view != id);
        }
        Concerned::TakersOf(BTreeSet::from([id]))
    }
}
