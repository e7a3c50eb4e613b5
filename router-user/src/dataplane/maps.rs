//! The maps of the XDP program, opened.

use std::{
    io,
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, Pod,
    maps::{
        Array, DevMap, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie,
    },
    util::nr_cpus,
};
use ipnet::IpNet;
use router_common::{
    maps::{
        Bucket, Group, HostKey, Name, Neighbor, NextHop, NextHopCounters, Port, RestrictedKey,
        RouteEntry, RouteKeyV4, RouteKeyV6, Settings, TABLE_BITS,
    },
    reason::PortCounters,
};

use super::{
    bpf,
    kernel::{Interrupted, KernelError, Maps, RouteDump, RouteKey, Sizes},
    words::Words,
};

/// All maps, opened and mapped.
pub(super) struct MapSet {
    routes_v4: LpmTrie<MapData, RouteKeyV4, RouteEntry>,
    routes_v6: LpmTrie<MapData, RouteKeyV6, RouteEntry>,
    routes_v4_fd: OwnedFd,
    routes_v6_fd: OwnedFd,
    groups: Words,
    buckets: Words,
    next_hops: Words,
    neighbors: Array<MapData, Neighbor>,
    ports: Array<MapData, Port>,
    port_by_ifindex: HashMap<MapData, u32, u32>,
    hosts: HashMap<MapData, HostKey, u32>,
    restricted: HashMap<MapData, RestrictedKey, u32>,
    dev_map: DevMap<MapData>,
    dev_map_fd: OwnedFd,
    names: HashMap<MapData, Name, u32>,
    settings: Array<MapData, Settings>,
    port_counters: PerCpuArray<MapData, PortCounters>,
    nh_counters: PerCpuArray<MapData, NextHopCounters>,
}

impl MapSet {
    /// Takes the maps out of the loaded object.
    ///
    /// # Errors
    /// One is missing or of another type.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        let routes_v4 = take(object, "routes_v4")?;
        let routes_v6 = take(object, "routes_v6")?;
        let dev_map = take(object, "dev_map")?;
        Ok(Self {
            routes_v4_fd: duplicate(&routes_v4)?,
            routes_v6_fd: duplicate(&routes_v6)?,
            routes_v4: routes_v4.try_into()?,
            routes_v6: routes_v6.try_into()?,
            groups: words::<Group>(object, "groups")?,
            buckets: words::<Bucket>(object, "buckets")?,
            next_hops: words::<NextHop>(object, "next_hops")?,
            neighbors: take(object, "neighbors")?.try_into()?,
            ports: take(object, "ports")?.try_into()?,
            port_by_ifindex: take(object, "port_by_ifindex")?.try_into()?,
            hosts: take(object, "hosts")?.try_into()?,
            restricted: take(object, "restricted")?.try_into()?,
            dev_map_fd: duplicate(&dev_map)?,
            dev_map: dev_map.try_into()?,
            names: take(object, "names")?.try_into()?,
            settings: take(object, "settings")?.try_into()?,
            port_counters: take(object, "port_counters")?.try_into()?,
            nh_counters: take(object, "nh_counters")?.try_into()?,
        })
    }
}

impl Maps for MapSet {
    fn sizes(&self) -> Sizes {
        Sizes {
            groups: self.groups.len(),
            buckets: self.buckets.len(),
            next_hops: self.next_hops.len(),
            neighbors: self.neighbors.len(),
            ports: self.ports.len(),
            devices: self.dev_map.len(),
        }
    }

    fn put_settings(&mut self, settings: Settings) -> Result<(), KernelError> {
        self.settings
            .set(0, settings, 0)
            .map_err(|error| refusal("settings", error))
    }

    fn put_routes(&mut self, routes: &[(RouteKey, RouteEntry)]) -> Result<(), Interrupted> {
        let mut written = 0;
        for run in routes.chunk_by(|(a, _), (b, _)| a.map() == b.map()) {
            let values: Vec<RouteEntry> = run.iter().map(|(_, entry)| *entry).collect();
            let result = match run[0].0.prefix {
                IpNet::V4(_) => {
                    let keys: Vec<TrieKeyV4> = run.iter().map(|(key, _)| key.into()).collect();
                    bpf::write_all(self.routes_v4_fd.as_fd(), &keys, &values)
                }
                IpNet::V6(_) => {
                    let keys: Vec<TrieKeyV6> = run.iter().map(|(key, _)| key.into()).collect();
                    bpf::write_all(self.routes_v6_fd.as_fd(), &keys, &values)
                }
            };
            if let Err((done, error)) = result {
                return Err(Interrupted {
                    written: written + done,
                    error: refusal_of_call(run[0].0.map(), error),
                });
            }
            written += run.len();
        }
        Ok(())
    }

    fn remove_route(&mut self, key: &RouteKey) -> Result<bool, KernelError> {
        let result = match key.prefix {
            IpNet::V4(_) => bpf::delete(self.routes_v4_fd.as_fd(), &TrieKeyV4::from(key)),
            IpNet::V6(_) => bpf::delete(self.routes_v6_fd.as_fd(), &TrieKeyV6::from(key)),
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(KernelError::call(key.map(), error)),
        }
    }

    fn route(&self, table: u32, prefix: IpNet) -> Result<Option<RouteEntry>, KernelError> {
        let length = TABLE_BITS + u32::from(prefix.prefix_len());
        let (map, result) = match prefix.addr() {
            IpAddr::V4(address) => {
                let address = address.octets();
                let key = lpm_trie::Key::new(length, RouteKeyV4 { table, address });
                ("routes_v4", self.routes_v4.get(&key, 0))
            }
            IpAddr::V6(address) => {
                let address = address.octets();
                let key = lpm_trie::Key::new(length, RouteKeyV6 { table, address });
                ("routes_v6", self.routes_v6.get(&key, 0))
            }
        };
        match result {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(refusal(map, error)),
        }
    }

    fn dump_routes(&self) -> RouteDump {
        let fds = self
            .routes_v4_fd
            .try_clone()
            .and_then(|v4| Ok((v4, self.routes_v6_fd.try_clone()?)));
        Box::new(move || {
            let (v4, v6) = fds.map_err(|error| KernelError::call("routes", error))?;
            let v4 = bpf::read_all::<TrieKeyV4, RouteEntry>(v4.as_fd())
                .map_err(|error| KernelError::call("routes_v4", error))?;
            let v6 = bpf::read_all::<TrieKeyV6, RouteEntry>(v6.as_fd())
                .map_err(|error| KernelError::call("routes_v6", error))?;
            let v4 = v4
                .iter()
                .filter_map(|(key, entry)| Some((key.key()?, *entry)));
            let v6 = v6
                .iter()
                .filter_map(|(key, entry)| Some((key.key()?, *entry)));
            Ok(v4.chain(v6).collect())
        })
    }

    fn group(&self, number: u32) -> Group {
        Group::from_word(self.groups.load(number))
    }

    fn set_group(&mut self, number: u32, group: Group) {
        self.groups.store(number, group.to_word());
    }

    fn bucket(&self, place: u32) -> Bucket {
        Bucket::from_word(self.buckets.load(place))
    }

    fn set_bucket(&mut self, place: u32, bucket: Bucket) {
        self.buckets.store(place, bucket.to_word());
    }

    fn next_hop(&self, number: u32) -> NextHop {
        NextHop {
            kind: self.next_hops.load32(number, offset_of!(NextHop, kind)),
            neighbor: self.next_hops.load32(number, offset_of!(NextHop, neighbor)),
            down: self.next_hops.load32(number, offset_of!(NextHop, down)),
            reserved: self.next_hops.load32(number, offset_of!(NextHop, reserved)),
        }
    }

    fn set_next_hop_kind(&mut self, number: u32, kind: u32) {
        self.next_hops
            .store32(number, offset_of!(NextHop, kind), kind);
    }

    fn set_next_hop_neighbor(&mut self, number: u32, place: u32) {
        self.next_hops
            .store32(number, offset_of!(NextHop, neighbor), place);
    }

    fn set_next_hop_down(&mut self, number: u32, down: bool) {
        self.next_hops
            .store32(number, offset_of!(NextHop, down), u32::from(down));
    }

    fn neighbor(&self, place: u32) -> Result<Neighbor, KernelError> {
        self.neighbors
            .get(&place, 0)
            .map_err(|error| refusal("neighbors", error))
    }

    fn write_neighbor(&mut self, place: u32, neighbor: Neighbor) -> Result<(), KernelError> {
        self.neighbors
            .set(place, neighbor, 0)
            .map_err(|error| refusal("neighbors", error))
    }

    fn port(&self, place: u32) -> Result<Port, KernelError> {
        self.ports
            .get(&place, 0)
            .map_err(|error| refusal("ports", error))
    }

    fn write_port(&mut self, place: u32, port: Port) -> Result<(), KernelError> {
        self.ports
            .set(place, port, 0)
            .map_err(|error| refusal("ports", error))
    }

    fn published_ports(&self) -> Result<Vec<(u32, u32)>, KernelError> {
        self.port_by_ifindex
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| refusal("port_by_ifindex", error))
    }

    fn publish_port(&mut self, ifindex: u32, place: u32) -> Result<(), KernelError> {
        self.port_by_ifindex
            .insert(ifindex, place, 0)
            .map_err(|error| refusal("port_by_ifindex", error))
    }

    fn unpublish_port(&mut self, ifindex: u32) -> Result<(), KernelError> {
        gone("port_by_ifindex", self.port_by_ifindex.remove(&ifindex))
    }

    fn published_hosts(&self) -> Result<Vec<(HostKey, u32)>, KernelError> {
        self.hosts
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| refusal("hosts", error))
    }

    fn publish_host(&mut self, key: HostKey, place: u32) -> Result<(), KernelError> {
        self.hosts
            .insert(key, place, 0)
            .map_err(|error| refusal("hosts", error))
    }

    fn unpublish_host(&mut self, key: HostKey) -> Result<(), KernelError> {
        gone("hosts", self.hosts.remove(&key))
    }

    fn restricted(&self) -> Result<Vec<RestrictedKey>, KernelError> {
        self.restricted
            .keys()
            .collect::<Result<_, _>>()
            .map_err(|error| refusal("restricted", error))
    }

    fn put_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError> {
        self.restricted
            .insert(key, 1, 0)
            .map_err(|error| refusal("restricted", error))
    }

    fn remove_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError> {
        gone("restricted", self.restricted.remove(&key))
    }

    fn set_device(&mut self, port: u32, ifindex: Option<u32>) -> Result<(), KernelError> {
        match ifindex {
            Some(ifindex) => self
                .dev_map
                .set(port, ifindex, None, 0)
                .map_err(|error| KernelError::call("dev_map", io::Error::other(error))),
            None => match bpf::delete(self.dev_map_fd.as_fd(), &port) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    Err(KernelError::call("dev_map", error))
                }
                _ => Ok(()),
            },
        }
    }

    fn names(&self) -> Result<Vec<(Name, u32)>, KernelError> {
        self.names
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| refusal("names", error))
    }

    fn put_name(&mut self, name: Name, number: u32) -> Result<(), KernelError> {
        self.names
            .insert(name, number, 0)
            .map_err(|error| refusal("names", error))
    }

    fn remove_name(&mut self, name: Name) -> Result<(), KernelError> {
        gone("names", self.names.remove(&name))
    }

    fn port_counters(&self, port: u32) -> Result<PortCounters, KernelError> {
        let by_cpu = self
            .port_counters
            .get(&port, 0)
            .map_err(|error| refusal("port_counters", error))?;
        let mut sum = PortCounters::default();
        for one in by_cpu.iter() {
            sum.add(one);
        }
        Ok(sum)
    }

    fn reset_port_counters(&mut self, port: u32) -> Result<(), KernelError> {
        let zeros = zeros("port_counters")?;
        self.port_counters
            .set(port, zeros, 0)
            .map_err(|error| refusal("port_counters", error))
    }

    fn next_hop_counters(&self, number: u32) -> Result<NextHopCounters, KernelError> {
        let by_cpu = self
            .nh_counters
            .get(&number, 0)
            .map_err(|error| refusal("nh_counters", error))?;
        let mut sum = NextHopCounters::default();
        for one in by_cpu.iter() {
            sum.packets += one.packets;
            sum.bytes += one.bytes;
        }
        Ok(sum)
    }

    fn reset_next_hop_counters(&mut self, number: u32) -> Result<(), KernelError> {
        let zeros = zeros("nh_counters")?;
        self.nh_counters
            .set(number, zeros, 0)
            .map_err(|error| refusal("nh_counters", error))
    }
}

/// A key of `routes_v4` as it lies in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct TrieKeyV4 {
    prefix_len: u32,
    key: RouteKeyV4,
}

/// A key of `routes_v6` as it lies in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct TrieKeyV6 {
    prefix_len: u32,
    key: RouteKeyV6,
}

// SAFETY: integers and arrays of them, without padding (12 and 24 bytes).
unsafe impl Pod for TrieKeyV4 {}
// SAFETY: as above.
unsafe impl Pod for TrieKeyV6 {}

impl From<&RouteKey> for TrieKeyV4 {
    fn from(key: &RouteKey) -> Self {
        let IpAddr::V4(address) = key.prefix.addr() else {
            unreachable!("{} is not IPv4", key.prefix)
        };
        Self {
            prefix_len: TABLE_BITS + u32::from(key.prefix.prefix_len()),
            key: RouteKeyV4 {
                table: key.table,
                address: address.octets(),
            },
        }
    }
}

impl From<&RouteKey> for TrieKeyV6 {
    fn from(key: &RouteKey) -> Self {
        let IpAddr::V6(address) = key.prefix.addr() else {
            unreachable!("{} is not IPv6", key.prefix)
        };
        Self {
            prefix_len: TABLE_BITS + u32::from(key.prefix.prefix_len()),
            key: RouteKeyV6 {
                table: key.table,
                address: address.octets(),
            },
        }
    }
}

impl TrieKeyV4 {
    fn key(&self) -> Option<RouteKey> {
        route_key(
            self.key.table,
            Ipv4Addr::from(self.key.address).into(),
            self.prefix_len,
        )
    }
}

impl TrieKeyV6 {
    fn key(&self) -> Option<RouteKey> {
        route_key(
            self.key.table,
            Ipv6Addr::from(self.key.address).into(),
            self.prefix_len,
        )
    }
}

fn route_key(table: u32, address: IpAddr, prefix_len: u32) -> Option<RouteKey> {
    let length = u8::try_from(prefix_len.checked_sub(TABLE_BITS)?).ok()?;
    let prefix = IpNet::new(address, length).ok()?;
    Some(RouteKey { table, prefix })
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object
        .take_map(name)
        .with_context(|| format!("the XDP object has no map {name}"))
}

fn words<T>(object: &mut Ebpf, name: &str) -> Result<Words> {
    let map = take(object, name)?;
    let Map::Array(data) = &map else {
        bail!("the map {name} is no array");
    };
    let elements = data.info()?.max_entries();
    Words::map(data.fd().as_fd(), elements, size_of::<T>())
        .with_context(|| format!("the map {name} cannot be mapped into memory"))
}

fn duplicate(map: &Map) -> Result<OwnedFd> {
    let (Map::LpmTrie(data) | Map::DevMap(data)) = map else {
        bail!("a map of the XDP object has another type");
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}

fn zeros<T: Pod + Default>(map: &'static str) -> Result<PerCpuValues<T>, KernelError> {
    let cpus = nr_cpus().map_err(|(what, error)| KernelError::call(what, error))?;
    PerCpuValues::try_from(vec![T::default(); cpus]).map_err(|error| KernelError::call(map, error))
}

/// Removing what is not there is no error.
fn gone(map: &'static str, result: Result<(), MapError>) -> Result<(), KernelError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other.map_err(|error| refusal(map, error)),
    }
}

fn refusal(map: &'static str, error: MapError) -> KernelError {
    match error {
        MapError::SyscallError(error) => refusal_of_call(map, error.io_error),
        other => KernelError::call(map, io::Error::other(other)),
    }
}

fn refusal_of_call(map: &'static str, error: io::Error) -> KernelError {
    match error.raw_os_error() {
        // Tries say ENOSPC, hash tables E2BIG.
        Some(libc::ENOSPC | libc::E2BIG) => KernelError::Full { map },
        _ => KernelError::call(map, error),
    }
}
