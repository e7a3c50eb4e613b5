//! Makes the maps equal to the desired forwarding state, one change after the other.
//!
//! In: [`Change`]s in order, and what happens on the host. Out: map writes in an order in which no
//! packet meets half a change (invariant 5), and the liveness of next hops. It keeps no copy of
//! the routes: the tries are the truth (invariant 4).
//!
//! Its parts: routes and groups here, next hops and hosts in [`super::next_hops`], ports in
//! [`super::ports`], what an earlier run left in [`super::adopt`].

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    ops::Bound,
};

use foldhash::{HashMap, HashSet};
use ipnet::IpNet;
use router_common::maps::{self, HostKey, RouteEntry, precedence, route_flags};
use tracing::{info, warn};

use super::{
    adopt::Adopted,
    index::{Index, Links, Neighbours},
    kernel::{Host, Interrupted, KernelError, Maps, RouteKey},
    next_hops::{HostState, NextHopState},
    numbers::{Claim, Kind, Numbers, Ranges, Retired, Slots, encode},
    ports::PortState,
    restricted::Sets,
    tables::Readers,
};
use crate::{
    fib::{self, Buckets, Change, GroupId, Liveness, NextHop, Precedence, Route},
    names::{InterfaceName, TableName, VnetName},
};

/// Most routes that are written by one call.
const RUN: usize = 4096;

/// The reconciler: what it has given out and what waits.
pub(super) struct Reconciler<M, H> {
    pub(super) maps: M,
    pub(super) host: H,
    /// By [`Kind`].
    pub(super) numbers: [Numbers; Kind::ALL.len()],
    pub(super) buckets: Ranges,
    pub(super) neighbor_places: Slots,
    pub(super) port_places: Slots,
    /// Numbers of the groups that stand and of the tables in use.
    pub(super) groups: HashMap<GroupId, u32>,
    pub(super) tables: HashMap<TableName, u32>,
    pub(super) next_hops: HashMap<NextHop, NextHopState>,
    /// Next hops with an address: those of a network, of an address, watched on an interface.
    pub(super) in_vnet: Index<VnetName, NextHop>,
    pub(super) with_address: Index<IpAddr, NextHop>,
    pub(super) on_interface: Index<u32, NextHop>,
    pub(super) hosts: HashMap<HostKey, HostState>,
    pub(super) ports: BTreeMap<InterfaceName, PortState>,
    /// Ports by network and address of the machine behind them.
    pub(super) machines: Index<(VnetName, IpAddr), InterfaceName>,
    /// Ports by network and own address of the gateway host.
    pub(super) gateways: Index<(VnetName, IpAddr), InterfaceName>,
    pub(super) sets: Sets,
    pub(super) readers: Readers,
    pub(super) links: Links,
    pub(super) neighbours: Neighbours,
    /// Next hops whose resolution is looked at once no change waits.
    pub(super) unsettled: HashSet<NextHop>,
    /// The last port whose hosts were asked, if not all ports' were.
    pub(super) asked_last: Option<InterfaceName>,
    /// `None` once all has been relearned and the rest removed.
    pub(super) adopted: Option<Adopted>,
    pub(super) waiting: Waiting,
    pub(super) retired: Vec<Retired>,
    pub(super) liveness: Vec<Liveness>,
    pub(super) ticks: u64,
    /// Something was freed: what waits is tried again.
    pub(super) room: bool,
}

/// What could not be written, to be tried again when there is room.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) next_hops: BTreeMap<NextHop, String>,
    pub(super) groups: BTreeMap<GroupId, (std::sync::Arc<Buckets>, String)>,
    pub(super) ports: BTreeMap<InterfaceName, (fib::Port, String)>,
    /// IPv4, IPv6.
    pub(super) routes: [BTreeMap<(TableName, IpNet), Route>; 2],
    /// Last error of the routes, IPv4, IPv6.
    pub(super) route_errors: [Option<String>; 2],
    /// The last route that was tried again, where not all were, IPv4, IPv6.
    tried_last: [Option<(TableName, IpNet)>; 2],
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    /// Applies changes in order. What the kernel refuses waits; the rest stands.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        let mut run = Run::default();
        for change in changes {
            if let Change::PutRoute {
                table,
                prefix,
                route,
            } = change
            {
                self.stage_route(table, prefix.trunc(), *route, &mut run);
                continue;
            }
            self.write(&mut run);
            self.apply_one(change);
        }
        self.write(&mut run);
        self.retry();
    }

    /// To be called when no change waits: next hops are resolved by the ports as they now are.
    pub(super) fn settle(&mut self) {
        for next_hop in mem::take(&mut self.unsettled) {
            self.resolve(&next_hop);
        }
    }

    /// What was freed since the last call. It is to be handed to
    /// [`grace_passed`](Self::grace_passed) after a grace period of all XDP programs.
    pub(super) fn take_retired(&mut self) -> Vec<Retired> {
        mem::take(&mut self.retired)
    }

    /// No packet uses these any more.
    pub(super) fn grace_passed(&mut self, retired: Vec<Retired>) {
        self.room |= !retired.is_empty();
        for item in retired {
            match item {
                Retired::Group {
                    number,
                    first,
                    count,
                } => {
                    self.maps.set_group(number, maps::Group::default());
                    self.buckets.release(first, count);
                    self.numbers[Kind::Group as usize].release(number);
                }
                Retired::Buckets { first, count } => self.buckets.release(first, count),
                Retired::NextHop(number) => {
                    self.maps
                        .set_next_hop_kind(number, maps::next_hop_kind::UNUSED);
                    self.maps.set_next_hop_neighbor(number, maps::NONE);
                    self.maps.set_next_hop_down(number, false);
                    self.numbers[Kind::NextHop as usize].release(number);
                }
                Retired::Neighbor(place) => self.neighbor_places.release(place),
                Retired::PortPlace(place) => self.port_places.release(place),
                Retired::Restricted(set) => self.erase_restricted(set),
                Retired::Number(kind, number) => self.numbers[kind as usize].release(number),
            }
        }
        self.retry();
    }

    /// Liveness that changed since the last call.
    pub(super) fn take_liveness(&mut self) -> Vec<Liveness> {
        mem::take(&mut self.liveness)
    }

    /// The number of a name. A new one is kept in `names` before it is used anywhere.
    pub(super) fn claim(&mut self, kind: Kind, name: &str) -> Result<Claim, KernelError> {
        let numbers = &mut self.numbers[kind as usize];
        let Some(claim) = numbers.claim(kind, name) else {
            return Err(KernelError::Full {
                map: match kind {
                    Kind::Group => "groups",
                    Kind::NextHop => "next_hops",
                    Kind::Port => "dev_map",
                    Kind::Table | Kind::Vnet | Kind::Restricted => "names",
                },
            });
        };
        if let Claim::Fresh(number) = claim
            && let Err(error) = self.maps.put_name(encode(kind, name), number)
        {
            let numbers = &mut self.numbers[kind as usize];
            numbers.forget(&encode(kind, name));
            numbers.release(number);
            return Err(error);
        }
        if kind == Kind::Table {
            self.readers.keep(claim.number());
        }
        Ok(claim)
    }

    /// Forgets a name; the caller retires its number.
    pub(super) fn forget(&mut self, key: &maps::Name, kind: Kind) -> Option<u32> {
        let number = self.numbers[kind as usize].forget(key)?;
        if let Err(error) = self.maps.remove_name(*key) {
            warn!(number, "a name stays in the map names: {error}");
        }
        Some(number)
    }

    /// Until all has been relearned, what was adopted may name what `fib` does not want any more:
    /// then it goes with the sweep, after the routes (invariant 5).
    pub(super) fn leave_to_sweep(&mut self, kind: Kind, name: &str) -> bool {
        if self.adopted.is_some() {
            self.numbers[kind as usize].disown(&encode(kind, name));
        }
        self.adopted.is_some()
    }

    pub(super) fn retire_group(&mut self, number: u32) {
        let group = self.maps.group(number);
        self.retired.push(if group.first_bucket == maps::NONE {
            Retired::Number(Kind::Group, number)
        } else {
            Retired::Group {
                number,
                first: group.first_bucket,
                count: group.mask + 1,
            }
        });
    }

    fn apply_one(&mut self, change: &Change) {
        match change {
            Change::PutNextHop(next_hop) => {
                self.waiting.next_hops.remove(next_hop);
                if let Err(error) = self.put_next_hop(next_hop) {
                    warn!(%next_hop, "next hop is not programmed: {error}");
                    self.waiting
                        .next_hops
                        .insert(next_hop.clone(), error.to_string());
                }
            }
            Change::PutGroup { id, buckets } => {
                self.waiting.groups.remove(id);
                if let Err(error) = self.put_group(*id, buckets) {
                    warn!(group = %id, "next-hop group is not programmed: {error}");
                    self.waiting
                        .groups
                        .insert(*id, (buckets.clone(), error.to_string()));
                }
            }
            Change::PutRoute { .. } => unreachable!("routes are staged by `apply`"),
            Change::PutPort(port) => {
                self.waiting.ports.remove(&port.interface);
                if let Err(error) = self.put_port(port) {
                    self.put_off_port(port, &error);
                }
            }
            Change::RemovePort(interface) => {
                self.waiting.ports.remove(interface);
                self.remove_port(interface);
            }
            Change::RemoveRoute { table, prefix } => self.remove_route(table, prefix.trunc()),
            Change::RemoveTable(table) => {
                self.tables.remove(table);
                if self.leave_to_sweep(Kind::Table, table.as_str()) {
                    return;
                }
                if let Some(number) = self.table(table) {
                    self.retire_table(number);
                }
            }
            Change::RemoveGroup(id) => {
                self.waiting.groups.remove(id);
                self.groups.remove(id);
                let name = id.to_string();
                if self.leave_to_sweep(Kind::Group, &name) {
                    return;
                }
                if let Some(number) = self.forget(&encode(Kind::Group, &name), Kind::Group) {
                    self.retire_group(number);
                }
            }
            Change::RemoveNextHop(next_hop) => {
                self.waiting.next_hops.remove(next_hop);
                self.remove_next_hop(next_hop);
            }
            Change::Synchronised => self.begin_sweep(),
        }
    }

    fn stage_route(&mut self, table: &TableName, prefix: IpNet, route: Route, run: &mut Run) {
        let waiting = &mut self.waiting.routes[family(prefix)];
        if !waiting.is_empty() {
            waiting.remove(&(table.clone(), prefix));
        }
        match self.route_entry(table, prefix, route) {
            Ok((key, entry)) => {
                if self
                    .adopted
                    .as_mut()
                    .is_some_and(|adopted| adopted.relearned(&key, &entry))
                {
                    return;
                }
                run.entries.push((key, entry));
                run.routes.push(route);
                if run.entries.len() == RUN {
                    self.write(run);
                }
            }
            Err(error) => {
                // Invariant 5: an older route of this prefix may name a group that goes next.
                if let Some(table) = self.table(table) {
                    self.erase(RouteKey { table, prefix });
                }
                self.park(table.clone(), prefix, route, &error);
            }
        }
    }

    fn route_entry(
        &mut self,
        table: &TableName,
        prefix: IpNet,
        route: Route,
    ) -> Result<(RouteKey, RouteEntry), KernelError> {
        let group = *self.groups.get(&route.group).ok_or_else(|| {
            KernelError::Refused(format!("its group {} is not programmed", route.group))
        })?;
        let table = match self.tables.get(table) {
            Some(number) => *number,
            None => {
                let number = self.claim(Kind::Table, table.as_str())?.number();
                self.tables.insert(table.clone(), number);
                number
            }
        };
        let entry = RouteEntry {
            group,
            prefix_len: prefix.prefix_len(),
            precedence: match route.precedence {
                Precedence::System => precedence::SYSTEM,
                Precedence::Learned => precedence::LEARNED,
                Precedence::UserDefined => precedence::USER_DEFINED,
            },
            flags: flag(route.overriding, route_flags::OVERRIDING)
                | flag(route.local, route_flags::LOCAL),
            reserved: 0,
        };
        Ok((RouteKey { table, prefix }, entry))
    }

    fn write(&mut self, run: &mut Run) {
        let mut done = 0;
        while done < run.entries.len() {
            match self.maps.put_routes(&run.entries[done..]) {
                Ok(()) => break,
                Err(Interrupted { written, error }) => {
                    done += written;
                    self.refused(run.entries[done], run.routes[done], error);
                    done += 1;
                }
            }
        }
        run.entries.clear();
        run.routes.clear();
    }

    /// The old route of the prefix, if there is one, may name a group that goes next: better none
    /// than that one. A kernel that refuses to replace while the trie is full then has room.
    fn refused(&mut self, (key, entry): (RouteKey, RouteEntry), route: Route, error: KernelError) {
        let mut error = error;
        if self.erase(key) {
            match self.maps.put_routes(&[(key, entry)]) {
                Ok(()) => return,
                Err(interrupted) => error = interrupted.error,
            }
        }
        let Some(table) = self.numbers[Kind::Table as usize]
            .name(key.table)
            .map(TableName::from)
        else {
            return;
        };
        self.park(table, key.prefix, route, &error);
    }

    fn park(&mut self, table: TableName, prefix: IpNet, route: Route, error: &KernelError) {
        let family = family(prefix);
        let text = describe(error, family);
        if self.waiting.route_errors[family].as_deref() != Some(&text) {
            warn!(%table, %prefix, "routes are not programmed, the others stand: {text}");
            self.waiting.route_errors[family] = Some(text);
        }
        self.waiting.routes[family].insert((table, prefix), route);
    }

    fn remove_route(&mut self, table: &TableName, prefix: IpNet) {
        self.waiting.routes[family(prefix)].remove(&(table.clone(), prefix));
        if let Some(table) = self.table(table) {
            self.erase(RouteKey { table, prefix });
        }
    }

    /// Removes a route from its trie; whether there was one.
    pub(super) fn erase(&mut self, key: RouteKey) -> bool {
        if let Some(adopted) = &mut self.adopted {
            adopted.routes.remove(&key);
        }
        match self.maps.remove_route(&key) {
            Ok(removed) => {
                self.room |= removed;
                removed
            }
            Err(error) => {
                warn!(prefix = %key.prefix, table = key.table, "a route is not removed: {error}");
                false
            }
        }
    }

    fn table(&self, name: &TableName) -> Option<u32> {
        self.numbers[Kind::Table as usize].number(Kind::Table, name.as_str())
    }

    fn put_group(&mut self, id: GroupId, buckets: &Buckets) -> Result<(), KernelError> {
        let words = buckets
            .buckets
            .iter()
            .map(|bucket| {
                Ok(maps::Bucket {
                    primary: self.next_hop_number(&bucket.primary)?,
                    backup: match &bucket.backup {
                        Some(backup) => self.next_hop_number(backup)?,
                        None => maps::NONE,
                    },
                })
            })
            .collect::<Result<Vec<_>, KernelError>>()?;
        let count = u32::try_from(words.len()).unwrap_or(0);
        if !count.is_power_of_two() {
            return Err(KernelError::Refused(format!(
                "{count} buckets are no power of two"
            )));
        }
        let name = id.to_string();
        let old = self.numbers[Kind::Group as usize]
            .number(Kind::Group, &name)
            .map(|number| self.maps.group(number))
            .filter(|group| group.first_bucket != maps::NONE);
        // Each bucket is right by itself before and after, so those of a group of the same size
        // are replaced one by one.
        if let Some(old) = old
            && old.mask + 1 == count
        {
            let number = self.claim(Kind::Group, &name)?.number();
            self.groups.insert(id, number);
            for (place, word) in (old.first_bucket..).zip(words) {
                if self.maps.bucket(place) != word {
                    self.maps.set_bucket(place, word);
                }
            }
        } else {
            let first = self
                .buckets
                .take(count)
                .ok_or(KernelError::Full { map: "buckets" })?;
            let number = match self.claim(Kind::Group, &name) {
                Ok(claim) => claim.number(),
                Err(error) => {
                    self.buckets.release(first, count);
                    return Err(error);
                }
            };
            for (place, word) in (first..).zip(words) {
                self.maps.set_bucket(place, word);
            }
            self.maps.set_group(
                number,
                maps::Group {
                    first_bucket: first,
                    mask: count - 1,
                },
            );
            self.groups.insert(id, number);
            if let Some(old) = old {
                self.retired.push(Retired::Buckets {
                    first: old.first_bucket,
                    count: old.mask + 1,
                });
            }
        }
        Ok(())
    }

    fn next_hop_number(&self, next_hop: &NextHop) -> Result<u32, KernelError> {
        self.next_hops
            .get(next_hop)
            .map(|state| state.number)
            .ok_or_else(|| {
                KernelError::Refused(format!("its next hop {next_hop} is not programmed"))
            })
    }

    /// Tries what waits once more, in the order of invariant 5.
    pub(super) fn retry(&mut self) {
        if !mem::take(&mut self.room) {
            return;
        }
        for (next_hop, _) in mem::take(&mut self.waiting.next_hops) {
            self.apply_one(&Change::PutNextHop(next_hop));
        }
        for (id, (buckets, _)) in mem::take(&mut self.waiting.groups) {
            self.apply_one(&Change::PutGroup { id, buckets });
        }
        let all_tried = [0, 1].map(|family| self.retry_routes(family));
        if all_tried != [true, true] {
            self.room = true;
            return;
        }
        for (_, (port, _)) in mem::take(&mut self.waiting.ports) {
            self.apply_one(&Change::PutPort(port));
        }
    }

    /// Whether [`retry`](Self::retry) has something to do.
    pub(super) fn has_room(&self) -> bool {
        self.room
    }

    /// Tries a part of the waiting routes again; whether that was the last part. One that is refused
    /// does not hold up the others, unless no route has room.
    fn retry_routes(&mut self, family: usize) -> bool {
        let from = match self.waiting.tried_last[family].take() {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let waiting = &self.waiting.routes[family];
        let part: Vec<_> = waiting
            .range((from, Bound::Unbounded))
            .take(RUN)
            .map(|(key, route)| (key.clone(), *route))
            .collect();
        let more = part.len() == RUN;
        let last = part.last().map(|(key, _)| key.clone());
        for ((table, prefix), route) in part {
            let error = match self.route_entry(&table, prefix, route) {
                Err(error) => error,
                Ok(entry) => match self.maps.put_routes(&[entry]) {
                    Ok(()) => {
                        self.waiting.routes[family].remove(&(table, prefix));
                        continue;
                    }
                    Err(interrupted) => {
                        self.park(table, prefix, route, &interrupted.error);
                        return true;
                    }
                },
            };
            self.park(table, prefix, route, &error);
        }
        if more {
            self.waiting.tried_last[family] = last;
            return false;
        }
        if self.waiting.routes[family].is_empty()
            && self.waiting.route_errors[family].take().is_some()
        {
            info!("all routes are programmed again");
        }
        true
    }

    /// The number of a network.
    pub(super) fn vnet(&mut self, vnet: &VnetName) -> Result<u32, KernelError> {
        Ok(self.claim(Kind::Vnet, vnet.as_str())?.number())
    }

    /// What could not be written, and why, with the remedy.
    pub(super) fn errors(&self) -> Vec<String> {
        let mut errors = BTreeSet::new();
        for (next_hop, error) in &self.waiting.next_hops {
            errors.insert(format!("next hop {next_hop}: {error}"));
        }
        for (id, (_, error)) in &self.waiting.groups {
            errors.insert(format!("group {id}: {error}"));
        }
        for (interface, (_, error)) in &self.waiting.ports {
            errors.insert(format!("port {interface}: {error}"));
        }
        for (interface, state) in &self.ports {
            if let Some(error) = state.error() {
                errors.insert(format!("port {interface}: {error}"));
            }
        }
        for (routes, error) in self.waiting.routes.iter().zip(&self.waiting.route_errors) {
            if let (false, Some(error)) = (routes.is_empty(), error) {
                errors.insert(format!(
                    "{} routes are not programmed: {error}",
                    routes.len()
                ));
            }
        }
        errors.into_iter().collect()
    }
}

/// Routes on their way into the tries.
#[derive(Default)]
struct Run {
    entries: Vec<(RouteKey, RouteEntry)>,
    /// What each entry was made of.
    routes: Vec<Route>,
}

const fn flag(holds: bool, bit: u8) -> u8 {
    if holds { bit } else { 0 }
}

pub(super) const fn family(prefix: IpNet) -> usize {
    match prefix {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => 1,
    }
}

fn describe(error: &KernelError, family: usize) -> String {
    match error {
        KernelError::Full { map: "names" } => error.to_string(),
        KernelError::Full { map } => {
            let key = ["max_routes_v4", "max_routes_v6"][family];
            format!("{map} is full: raise `{key}` in [dataplane]")
        }
        other => other.to_string(),
    }
}
