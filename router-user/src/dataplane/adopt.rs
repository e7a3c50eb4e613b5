//! What an earlier run left in the pinned maps, and how it is taken over.
//!
//! Everything adopted keeps its number and goes on forwarding. Routes are stale until
//! [`Change::Synchronised`](crate::fib::Change::Synchronised): those that are relearned unchanged
//! are not written again, the rest is removed then, in order.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashSet};
use router_common::maps::{self, HostKey, RouteEntry, next_hop_kind};
use rustc_hash::{FxHashMap, FxHashSet};
use tracing::{info, warn};

use super::{
    Inherited,
    index::{Index, Links, Neighbours},
    kernel::{Host, KernelError, Maps, RouteKey, Sizes},
    next_hops::HostState,
    numbers::{Kind, Numbers, Ranges, Retired, Slots, decode},
    ports::{Attachment, Bound},
    reconciler::{Reconciler, Waiting},
    restricted::Sets,
    tables::Readers,
};

/// Routes removed between two looks at what else is to be done.
const SWEEP: usize = 4096;

/// What has been adopted and not claimed yet.
#[derive(Debug)]
pub(super) struct Adopted {
    /// Keyed, as is all whose names peers may choose.
    pub(super) routes: HashMap<RouteKey, RouteEntry>,
    /// Published ports by number.
    pub(super) ports: FxHashMap<u32, Bound>,
    pub(super) hosts: HashSet<HostKey>,
    /// Keys still to be looked at, once all has been relearned.
    sweep: Option<Vec<RouteKey>>,
}

impl Adopted {
    /// Takes a route off the stale ones; whether it stands in the trie as it should be.
    pub(super) fn relearned(&mut self, key: &RouteKey, entry: &RouteEntry) -> bool {
        self.routes.remove(key).as_ref() == Some(entry)
    }
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    /// Takes over what the maps hold.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub(super) fn adopt(mut maps: M, host: H) -> Result<Self, KernelError> {
        let sizes = maps.sizes();
        let names = Names::read(&mut maps)?;
        let routes: HashMap<_, _> = (maps.dump_routes())()?.into_iter().collect();
        clear_unnamed(&mut maps, &names, sizes);

        let ranges: Vec<_> = names
            .of(Kind::Group)
            .map(|number| maps.group(number))
            .filter(|group| group.first_bucket != maps::NONE)
            .map(|group| (group.first_bucket, group.mask + 1))
            .collect();
        let mut neighbor_places: FxHashSet<u32> = names
            .of(Kind::NextHop)
            .map(|number| maps.next_hop(number))
            .filter(|word| word.kind == next_hop_kind::VIA && word.neighbor != maps::NONE)
            .map(|word| word.neighbor)
            .collect();
        let mut hosts = HashMap::default();
        for (key, place) in maps.published_hosts()? {
            neighbor_places.insert(place);
            let neighbor = maps.neighbor(place)?;
            hosts.insert(key, HostState { place, neighbor });
        }
        let mut ports = FxHashMap::default();
        let mut port_places = FxHashSet::default();
        let mut readers = Readers::default();
        for (ifindex, place) in maps.published_ports()? {
            port_places.insert(place);
            let value = maps.port(place)?;
            readers.hold(&value);
            let bound = Bound {
                ifindex,
                place,
                value,
            };
            ports.insert(value.id, bound);
        }
        if !names.0.is_empty() {
            info!(
                routes = routes.len(),
                ports = ports.len(),
                "adopted the forwarding state of an earlier run"
            );
        }
        Ok(Self {
            numbers: Kind::ALL.map(|kind| {
                let size = match kind {
                    Kind::Group => sizes.groups,
                    Kind::NextHop => sizes.next_hops,
                    Kind::Port => sizes.devices,
                    Kind::Table | Kind::Vnet | Kind::Restricted => u32::MAX,
                };
                Numbers::new(kind, size, names.0.get(&kind).map_or(&[], Vec::as_slice))
            }),
            buckets: Ranges::new(sizes.buckets, &ranges),
            neighbor_places: Slots::new(sizes.neighbors, &neighbor_places),
            port_places: Slots::new(sizes.ports, &port_places),
            groups: HashMap::default(),
            tables: HashMap::default(),
            next_hops: HashMap::default(),
            in_vnet: Index::default(),
            with_address: Index::default(),
            on_interface: Index::default(),
            machines: Index::default(),
            gateways: Index::default(),
            sets: Sets::adopt(
                &mut maps,
                &names.of(Kind::Restricted).collect(),
                ports.values().map(|bound: &Bound| bound.value.restricted),
            )?,
            readers,
            adopted: Some(Adopted {
                routes,
                ports,
                hosts: hosts.keys().copied().collect(),
                sweep: None,
            }),
            hosts,
            ports: BTreeMap::new(),
            links: Links::default(),
            neighbours: Neighbours::default(),
            unsettled: HashSet::default(),
            asked_last: None,
            waiting: Waiting::default(),
            retired: Vec::new(),
            liveness: Vec::new(),
            ticks: 0,
            room: false,
            maps,
            host,
        })
    }

    /// What was adopted and not relearned yet.
    pub(super) fn inherited(&self) -> Inherited {
        let routes = || {
            self.adopted
                .iter()
                .flat_map(|adopted| adopted.routes.keys())
        };
        Inherited {
            ipv4: routes().any(|key| key.prefix.addr().is_ipv4()),
            ipv6: routes().any(|key| key.prefix.addr().is_ipv6()),
        }
    }

    /// Whether adopted routes wait to be relearned.
    pub(super) fn stale(&self) -> bool {
        self.adopted
            .as_ref()
            .is_some_and(|adopted| !adopted.routes.is_empty())
    }

    pub(super) fn begin_sweep(&mut self) {
        if let Some(adopted) = &mut self.adopted {
            adopted.sweep = Some(adopted.routes.keys().copied().collect());
        }
        self.leave_kept_tables();
    }

    /// Whether [`sweep`](Self::sweep) has something to do.
    pub(super) fn sweeping(&self) -> bool {
        self.adopted
            .as_ref()
            .is_some_and(|adopted| adopted.sweep.is_some())
    }

    /// Removes a part of what was adopted and is not desired: routes first, then what they named
    /// (invariant 5).
    pub(super) fn sweep(&mut self) {
        let Some(keys) = self.adopted.as_mut().and_then(|it| it.sweep.as_mut()) else {
            return;
        };
        let part = keys.split_off(keys.len().saturating_sub(SWEEP));
        let finished = keys.is_empty();
        for key in part {
            // What was relearned since is not stale any more.
            let stale = self
                .adopted
                .as_ref()
                .is_some_and(|adopted| adopted.routes.contains_key(&key));
            if stale {
                self.erase(key);
            }
        }
        if finished {
            self.finish_sweep();
        }
    }

    fn finish_sweep(&mut self) {
        let Some(adopted) = self.adopted.take() else {
            return;
        };
        for (key, number) in self.numbers[Kind::Port as usize].unclaimed() {
            if let Some((_, interface)) = decode(&key)
                && let Err(error) = self.host.detach(&interface.as_str().into())
            {
                warn!(port = interface, "the program is not detached: {error}");
            }
            self.forget(&key, Kind::Port);
            self.withdraw(number, adopted.ports.get(&number).copied());
        }
        for interface in self.host.attached() {
            if !self.ports.contains_key(&interface)
                && let Err(error) = self.host.detach(&interface)
            {
                warn!(port = %interface, "the program is not detached: {error}");
            }
        }
        for key in adopted.hosts {
            let port = self.hosts.get(&key).map(|state| state.neighbor.port);
            self.remove_host(key, port.unwrap_or_default());
        }
        for (key, number) in self.numbers[Kind::Group as usize].unclaimed() {
            self.forget(&key, Kind::Group);
            self.retire_group(number);
        }
        for (key, number) in self.numbers[Kind::NextHop as usize].unclaimed() {
            self.forget(&key, Kind::NextHop);
            let word = self.maps.next_hop(number);
            self.retired.push(Retired::NextHop(number));
            if word.kind == next_hop_kind::VIA && word.neighbor != maps::NONE {
                self.retired.push(Retired::Neighbor(word.neighbor));
            }
        }
        for (key, number) in self.numbers[Kind::Restricted as usize].unclaimed() {
            self.forget(&key, Kind::Restricted);
            self.retired.push(Retired::Restricted(number));
        }
        for (_, number) in self.numbers[Kind::Table as usize].unclaimed() {
            self.retire_table(number);
        }
        for (key, number) in self.numbers[Kind::Vnet as usize].unclaimed() {
            self.forget(&key, Kind::Vnet);
            self.retired.push(Retired::Number(Kind::Vnet, number));
        }
        for (interface, result) in self.host.finish_adoption() {
            if let Some(state) = self.ports.get_mut(&interface) {
                state.attachment = match result {
                    Ok(attached) => Attachment::Attached(attached),
                    Err(error) => Attachment::Refused(error.to_string()),
                };
            }
        }
        self.unsettled.extend(self.next_hops.keys().cloned());
    }
}

/// The adopted names by kind.
struct Names(FxHashMap<Kind, Vec<(String, u32)>>);

impl Names {
    fn read(maps: &mut impl Maps) -> Result<Self, KernelError> {
        let mut names: FxHashMap<Kind, Vec<(String, u32)>> = FxHashMap::default();
        for (key, number) in maps.names()? {
            match decode(&key) {
                Some((kind, name)) if number != maps::NONE => {
                    names.entry(kind).or_default().push((name, number));
                }
                _ => maps.remove_name(key)?,
            }
        }
        Ok(Self(names))
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = u32> {
        self.0
            .get(&kind)
            .into_iter()
            .flatten()
            .map(|(_, number)| *number)
    }
}

/// An earlier run that was killed may have forgotten a name and not cleared its words yet.
fn clear_unnamed(maps: &mut impl Maps, names: &Names, sizes: Sizes) {
    let named: FxHashSet<u32> = names.of(Kind::Group).collect();
    for number in (1..sizes.groups).filter(|number| !named.contains(number)) {
        if maps.group(number) != maps::Group::default() {
            maps.set_group(number, maps::Group::default());
        }
    }
    let named: FxHashSet<u32> = names.of(Kind::NextHop).collect();
    for number in (1..sizes.next_hops).filter(|number| !named.contains(number)) {
        if maps.next_hop(number) != maps::NextHop::default() {
            maps.set_next_hop_kind(number, next_hop_kind::UNUSED);
            maps.set_next_hop_neighbor(number, maps::NONE);
            maps.set_next_hop_down(number, false);
        }
    }
}
