//! A kernel for unit tests. It records every write, lives on while reconcilers come and go, and
//! panics where a packet could meet half a change: a place written while a packet may read it, a
//! route to a group that is not there, a next hop cleared while a bucket names it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    rc::Rc,
};

use ipnet::IpNet;
use router_common::{
    maps::{
        Bucket, Group, HostKey, Name, Neighbor, NextHop, NextHopCounters, Port, RestrictedKey,
        RouteEntry, Settings,
    },
    reason::PortCounters,
};

use super::kernel::{
    Attached, Host, Interrupted, KernelError, Losses, Maps, RouteDump, RouteKey, Sizes,
};
use crate::names::InterfaceName;

/// What stands in the kernel.
#[derive(Default)]
pub(super) struct World {
    pub(super) log: Vec<String>,
    pub(super) routes: BTreeMap<RouteKey, RouteEntry>,
    pub(super) max_routes: usize,
    pub(super) groups: BTreeMap<u32, Group>,
    pub(super) buckets: BTreeMap<u32, Bucket>,
    pub(super) next_hops: BTreeMap<u32, NextHop>,
    pub(super) neighbors: BTreeMap<u32, Neighbor>,
    pub(super) ports: BTreeMap<u32, Port>,
    pub(super) published: BTreeMap<u32, u32>,
    pub(super) hosts: Vec<(HostKey, u32)>,
    pub(super) restricted: BTreeSet<(u32, u32)>,
    /// No more of them than this.
    pub(super) max_restricted: Option<usize>,
    pub(super) devices: BTreeMap<u32, u32>,
    pub(super) names: Vec<(Name, u32)>,
    pub(super) attached: BTreeMap<InterfaceName, u32>,
    pub(super) probed: Vec<(u32, IpAddr)>,
    pub(super) forgotten: Vec<(u32, IpAddr)>,
    pub(super) port_counters: BTreeMap<u32, PortCounters>,
    /// The host's own routes.
    pub(super) towards: BTreeMap<IpAddr, u32>,
    /// Places that packets on their way may still read: map and place.
    pub(super) cooling: HashSet<(&'static str, u32)>,
}

impl World {
    /// Every packet on its way has arrived.
    pub(super) fn grace(&mut self) {
        self.cooling.clear();
    }

    fn record(&mut self, write: String) {
        self.log.push(write);
    }

    fn fresh(&self, map: &'static str, place: u32, in_use: bool) {
        assert!(!in_use, "{map}[{place}] is written while it is published");
        assert!(
            !self.cooling.contains(&(map, place)),
            "{map}[{place}] is written before a grace period"
        );
    }

    fn neighbor_in_use(&self, place: u32) -> bool {
        self.next_hops
            .values()
            .any(|word| word.kind == 1 && word.neighbor == place)
            || self.hosts.iter().any(|(_, it)| *it == place)
    }

    fn range(group: Group) -> std::ops::RangeInclusive<u32> {
        group.first_bucket..=group.first_bucket + group.mask
    }

    /// Whether a packet may ask for a set of restricted networks.
    fn restricts(&self, set: u32) -> bool {
        let published = self.published.values().copied();
        let cooling = self.cooling.iter().filter(|(map, _)| *map == "ports");
        published
            .chain(cooling.map(|(_, place)| *place))
            .any(|place| self.ports[&place].restricted == set)
    }

    fn number_in_buckets(&self, number: u32) -> bool {
        self.groups
            .values()
            .filter(|group| group.first_bucket != 0)
            .flat_map(|group| Self::range(*group))
            .any(|place| {
                let bucket = self.buckets[&place];
                bucket.primary == number || bucket.backup == number
            })
    }
}

/// The maps of a [`World`].
#[derive(Clone)]
pub(super) struct FakeMaps(pub(super) Rc<RefCell<World>>);

/// The host of a [`World`].
#[derive(Clone)]
pub(super) struct FakeHost(pub(super) Rc<RefCell<World>>);

impl Maps for FakeMaps {
    fn sizes(&self) -> Sizes {
        Sizes {
            groups: 16,
            buckets: 1 + 64,
            next_hops: 16,
            neighbors: 16,
            ports: 8,
            devices: 8,
        }
    }

    fn put_settings(&mut self, _settings: Settings) -> Result<(), KernelError> {
        Ok(())
    }

    fn put_routes(&mut self, routes: &[(RouteKey, RouteEntry)]) -> Result<(), Interrupted> {
        let mut world = self.0.borrow_mut();
        for (written, (key, entry)) in routes.iter().enumerate() {
            assert_ne!(
                world.groups.get(&entry.group).copied().unwrap_or_default(),
                Group::default(),
                "{} is routed to a group that is not there",
                key.prefix
            );
            if !world.routes.contains_key(key) && world.routes.len() == world.max_routes {
                let error = KernelError::Full { map: key.map() };
                return Err(Interrupted { written, error });
            }
            world.record(format!("route {}", key.prefix));
            world.routes.insert(*key, *entry);
        }
        Ok(())
    }

    fn remove_route(&mut self, key: &RouteKey) -> Result<bool, KernelError> {
        let mut world = self.0.borrow_mut();
        let removed = world.routes.remove(key).is_some();
        if removed {
            world.record(format!("no route {}", key.prefix));
        }
        Ok(removed)
    }

    fn route(&self, table: u32, prefix: IpNet) -> Result<Option<RouteEntry>, KernelError> {
        let world = self.0.borrow();
        Ok(world
            .routes
            .iter()
            .filter(|(key, _)| key.table == table && key.prefix.contains(&prefix))
            .max_by_key(|(key, _)| key.prefix.prefix_len())
            .map(|(_, entry)| *entry))
    }

    fn dump_routes(&self) -> RouteDump {
        let world = self.0.borrow();
        let routes = world.routes.iter().map(|(key, entry)| (*key, *entry));
        let routes: Vec<_> = routes.collect();
        Box::new(|| Ok(routes))
    }

    fn group(&self, number: u32) -> Group {
        let world = self.0.borrow();
        world.groups.get(&number).copied().unwrap_or_default()
    }

    fn set_group(&mut self, number: u32, group: Group) {
        let mut world = self.0.borrow_mut();
        let before = world.groups.insert(number, group).unwrap_or_default();
        if group == Group::default() {
            assert!(
                world.routes.values().all(|entry| entry.group != number),
                "group {number} is cleared while a route names it"
            );
            world.record(format!("no group {number}"));
        } else {
            for place in World::range(group) {
                let bucket = world.buckets[&place];
                assert_ne!(world.next_hops[&bucket.primary].kind, 0, "no next hop");
            }
            if before.first_bucket != 0 && before.first_bucket != group.first_bucket {
                let old = World::range(before).map(|place| ("buckets", place));
                world.cooling.extend(old);
            }
            world.record(format!("group {number}"));
        }
    }

    fn bucket(&self, place: u32) -> Bucket {
        let world = self.0.borrow();
        world.buckets.get(&place).copied().unwrap_or_default()
    }

    fn set_bucket(&mut self, place: u32, bucket: Bucket) {
        let mut world = self.0.borrow_mut();
        // In place is allowed: a bucket is one word.
        world.fresh("buckets", place, false);
        assert_ne!(world.next_hops[&bucket.primary].kind, 0, "no next hop");
        world.record(format!("bucket {place}"));
        world.buckets.insert(place, bucket);
    }

    fn next_hop(&self, number: u32) -> NextHop {
        let world = self.0.borrow();
        world.next_hops.get(&number).copied().unwrap_or_default()
    }

    fn set_next_hop_kind(&mut self, number: u32, kind: u32) {
        let mut world = self.0.borrow_mut();
        assert!(
            kind != 0 || !world.number_in_buckets(number),
            "next hop {number} is cleared while a bucket names it"
        );
        world.record(format!("next hop {number} kind {kind}"));
        world.next_hops.entry(number).or_default().kind = kind;
    }

    fn set_next_hop_neighbor(&mut self, number: u32, place: u32) {
        let mut world = self.0.borrow_mut();
        let word = world.next_hops.entry(number).or_default();
        let (kind, before) = (word.kind, word.neighbor);
        word.neighbor = place;
        assert!(
            kind != 1 || place == 0 || world.neighbors.contains_key(&place),
            "an empty place is published"
        );
        if kind == 1 && before != 0 && place != 0 {
            world.cooling.insert(("neighbors", before));
        }
        world.record(format!("next hop {number} neighbor {place}"));
    }

    fn set_next_hop_down(&mut self, number: u32, down: bool) {
        let mut world = self.0.borrow_mut();
        world.next_hops.entry(number).or_default().down = u32::from(down);
        world.record(format!("next hop {number} down {down}"));
    }

    fn neighbor(&self, place: u32) -> Result<Neighbor, KernelError> {
        Ok(self.0.borrow().neighbors[&place])
    }

    fn write_neighbor(&mut self, place: u32, neighbor: Neighbor) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        world.fresh("neighbors", place, world.neighbor_in_use(place));
        world.record(format!("neighbor {place}"));
        world.neighbors.insert(place, neighbor);
        Ok(())
    }

    fn port(&self, place: u32) -> Result<Port, KernelError> {
        Ok(self.0.borrow().ports[&place])
    }

    fn write_port(&mut self, place: u32, port: Port) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        let in_use = world.published.values().any(|it| *it == place);
        world.fresh("ports", place, in_use);
        world.record(format!("port {place}"));
        world.ports.insert(place, port);
        Ok(())
    }

    fn published_ports(&self) -> Result<Vec<(u32, u32)>, KernelError> {
        let world = self.0.borrow();
        Ok(world.published.iter().map(|(a, b)| (*a, *b)).collect())
    }

    fn publish_port(&mut self, ifindex: u32, place: u32) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        let id = world.ports[&place].id;
        assert!(world.devices.contains_key(&id), "a port without a device");
        if let Some(before) = world.published.insert(ifindex, place) {
            world.cooling.insert(("ports", before));
        }
        world.record(format!("ifindex {ifindex} port {place}"));
        Ok(())
    }

    fn unpublish_port(&mut self, ifindex: u32) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        if let Some(before) = world.published.remove(&ifindex) {
            world.cooling.insert(("ports", before));
        }
        world.record(format!("ifindex {ifindex} no port"));
        Ok(())
    }

    fn published_hosts(&self) -> Result<Vec<(HostKey, u32)>, KernelError> {
        Ok(self.0.borrow().hosts.clone())
    }

    fn publish_host(&mut self, key: HostKey, place: u32) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        world.unpublish(key);
        world.hosts.push((key, place));
        world.record(format!("host {place}"));
        Ok(())
    }

    fn unpublish_host(&mut self, key: HostKey) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        world.unpublish(key);
        world.record("no host".into());
        Ok(())
    }

    fn restricted(&self) -> Result<Vec<RestrictedKey>, KernelError> {
        let world = self.0.borrow();
        let keys = world.restricted.iter();
        Ok(keys
            .map(|(set, vnet)| RestrictedKey {
                set: *set,
                vnet: *vnet,
            })
            .collect())
    }

    fn put_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        assert!(
            !world.restricts(key.set),
            "set {} grows while a port names it",
            key.set
        );
        let standing = world.restricted.len();
        if world.max_restricted.is_some_and(|most| standing >= most) {
            return Err(KernelError::Full { map: "restricted" });
        }
        world.restricted.insert((key.set, key.vnet));
        world.record(format!("restricted {} {}", key.set, key.vnet));
        Ok(())
    }

    fn remove_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        assert!(
            !world.restricts(key.set),
            "set {} shrinks while a port names it",
            key.set
        );
        world.restricted.remove(&(key.set, key.vnet));
        world.record(format!("not restricted {} {}", key.set, key.vnet));
        Ok(())
    }

    fn set_device(&mut self, port: u32, ifindex: Option<u32>) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        match ifindex {
            Some(ifindex) => world.devices.insert(port, ifindex),
            None => world.devices.remove(&port),
        };
        world.record(format!("device {port}"));
        Ok(())
    }

    fn names(&self) -> Result<Vec<(Name, u32)>, KernelError> {
        Ok(self.0.borrow().names.clone())
    }

    fn put_name(&mut self, name: Name, number: u32) -> Result<(), KernelError> {
        self.0.borrow_mut().names.push((name, number));
        Ok(())
    }

    fn remove_name(&mut self, name: Name) -> Result<(), KernelError> {
        self.0.borrow_mut().names.retain(|(it, _)| *it != name);
        Ok(())
    }

    fn port_counters(&self, port: u32) -> Result<PortCounters, KernelError> {
        let world = self.0.borrow();
        Ok(world.port_counters.get(&port).copied().unwrap_or_default())
    }

    fn reset_port_counters(&mut self, _port: u32) -> Result<(), KernelError> {
        Ok(())
    }

    fn next_hop_counters(&self, _number: u32) -> Result<NextHopCounters, KernelError> {
        Ok(NextHopCounters::default())
    }

    fn reset_next_hop_counters(&mut self, _number: u32) -> Result<(), KernelError> {
        Ok(())
    }
}

impl World {
    fn unpublish(&mut self, key: HostKey) {
        if let Some(at) = self.hosts.iter().position(|(it, _)| *it == key) {
            let (_, place) = self.hosts.remove(at);
            self.cooling.insert(("neighbors", place));
        }
    }
}

impl Host for FakeHost {
    fn prepare(&mut self, _name: &InterfaceName, _ifindex: u32) -> Result<(), KernelError> {
        Ok(())
    }

    fn attach(&mut self, name: &InterfaceName, ifindex: u32) -> Result<Attached, KernelError> {
        let mut world = self.0.borrow_mut();
        assert!(world.published.contains_key(&ifindex), "attached too early");
        world.attached.insert(name.clone(), ifindex);
        world.record(format!("attach {name}"));
        Ok(Attached::Native)
    }

    fn detach(&mut self, name: &InterfaceName) -> Result<(), KernelError> {
        let mut world = self.0.borrow_mut();
        world.attached.remove(name);
        world.record(format!("detach {name}"));
        Ok(())
    }

    fn attached(&self) -> Vec<InterfaceName> {
        self.0.borrow().attached.keys().cloned().collect()
    }

    fn finish_adoption(&mut self) -> Vec<(InterfaceName, Result<Attached, KernelError>)> {
        Vec::new()
    }

    fn probe(&mut self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        self.0.borrow_mut().probed.push((ifindex, address));
        Ok(())
    }

    fn forget_neighbour(&mut self, ifindex: u32, address: IpAddr) {
        self.0.borrow_mut().forgotten.push((ifindex, address));
    }

    fn interface_towards(&mut self, address: IpAddr) -> Option<u32> {
        self.0.borrow().towards.get(&address).copied()
    }

    fn losses(&self) -> Losses {
        Box::new(|ports| vec![0; ports.len()])
    }
}
