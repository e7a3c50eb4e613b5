//! What the kernel's maps hold: everything, or whether facts that are known beforehand hold.

use std::{
    collections::HashMap as StdHashMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, lpm_trie};
use ipnet::Ipv4Net;
use router_common::maps::{
    Bucket, Group, NONE, Neighbor, NextHop, Port, RouteEntry, RouteKeyV4, RouteKeyV6, TABLE_BITS,
    next_hop_kind,
};
use tests::waypost;

use crate::bed::Bed;

/// Where everything is pinned.
const PINS: &str = "/sys/fs/bpf/waypost";

/// The maps.
pub struct Kernel {
    routes_v4: LpmTrie<MapData, RouteKeyV4, RouteEntry>,
    routes_v6: LpmTrie<MapData, RouteKeyV6, RouteEntry>,
    port_by_ifindex: HashMap<MapData, u32, u32>,
    ports: Array<MapData, Port>,
    groups: Array<MapData, Group>,
    buckets: Array<MapData, Bucket>,
    next_hops: Array<MapData, NextHop>,
    neighbors: Array<MapData, Neighbor>,
    /// Interfaces by name.
    interfaces: StdHashMap<String, u32>,
}

/// Which facts have been seen to hold, one after another.
#[derive(Debug, Default)]
pub struct Watch(usize);

/// Something that the maps are to say.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The learned table of an interface's port leads this prefix to this address.
    Learned(String, Ipv4Net, Ipv4Addr),
    /// The port has no learned route of this prefix.
    Unlearned(String, Ipv4Net),
    /// The own table of the port has, or has not, a route of this prefix.
    Own(String, Ipv4Net, bool),
}

/// What one pass over facts has read already: it holds for the pass alone.
#[derive(Default)]
struct Pass {
    /// By group: the address that it leads to.
    leads_to: StdHashMap<u32, Option<Ipv4Addr>>,
    /// By interface.
    ports: StdHashMap<String, Port>,
}

/// Everything in the tries, IPv4 and IPv6.
pub struct Tries {
    pub v4: Vec<(u32, RouteKeyV4, RouteEntry)>,
    pub v6: Vec<(u32, RouteKeyV6, RouteEntry)>,
}

impl Kernel {
    pub fn open(bed: &Bed) -> Result<Self> {
        let mut interfaces = StdHashMap::new();
        for line in bed.gateway.run("ip -oneline link show")?.lines() {
            // `12: p1-0@if3: <BROADCAST,…`
            let mut words = line.split([':', '@', ' ']).filter(|word| !word.is_empty());
            if let (Some(index), Some(name)) = (words.next(), words.next()) {
                interfaces.insert(name.to_owned(), index.parse()?);
            }
        }
        Ok(Self {
            routes_v4: Map::LpmTrie(pinned("routes_v4")?).try_into()?,
            routes_v6: Map::LpmTrie(pinned("routes_v6")?).try_into()?,
            port_by_ifindex: Map::HashMap(pinned("port_by_ifindex")?).try_into()?,
            ports: Map::Array(pinned("ports")?).try_into()?,
            groups: Map::Array(pinned("groups")?).try_into()?,
            buckets: Map::Array(pinned("buckets")?).try_into()?,
            next_hops: Map::Array(pinned("next_hops")?).try_into()?,
            neighbors: Map::Array(pinned("neighbors")?).try_into()?,
            interfaces,
        })
    }

    /// When the last of the facts was seen to hold, if each of them has been by now. A pass goes on at
    /// the fact that the one before stopped at.
    pub fn poll(&self, watch: &mut Watch, facts: &[Fact]) -> Result<Option<Instant>> {
        let mut pass = Pass::default();
        while let Some(fact) = facts.get(watch.0) {
            if !self.holds(fact, &mut pass)? {
                return Ok(None);
            }
            watch.0 += 1;
        }
        Ok(Some(Instant::now()))
    }

    /// Whether all of the facts hold at once by now.
    pub fn holds_all(&self, facts: &[Fact]) -> Result<bool> {
        Ok(self.first_that_fails(facts)?.is_none())
    }

    /// Everything in the tries.
    pub fn dump(&self) -> Result<Tries> {
        let v4 = self.routes_v4.iter().map(|item| {
            let (key, entry) = item?;
            Ok((key.prefix_len(), key.data(), entry))
        });
        let v6 = self.routes_v6.iter().map(|item| {
            let (key, entry) = item?;
            Ok((key.prefix_len(), key.data(), entry))
        });
        Ok(Tries {
            v4: v4.collect::<Result<_>>()?,
            v6: v6.collect::<Result<_>>()?,
        })
    }

    /// What is published of an interface's port.
    pub fn port(&self, interface: &str) -> Result<Port> {
        let index = self.interfaces.get(interface);
        let index = index.with_context(|| format!("no interface {interface}"))?;
        let place = self.port_by_ifindex.get(index, 0)?;
        Ok(self.ports.get(&place, 0)?)
    }

    /// The route of exactly this prefix.
    pub fn route(&self, table: u32, prefix: Ipv4Net) -> Option<RouteEntry> {
        let key = RouteKeyV4 {
            table,
            address: prefix.network().octets(),
        };
        let length = u32::from(prefix.prefix_len());
        let key = lpm_trie::Key::new(TABLE_BITS + length, key);
        let entry = self.routes_v4.get(&key, 0).ok()?;
        (entry.prefix_len == prefix.prefix_len()).then_some(entry)
    }

    /// The address that the route of exactly this prefix leads to, if there is one.
    pub fn leads(&self, table: u32, prefix: Ipv4Net) -> Result<Option<Ipv4Addr>> {
        match self.route(table, prefix) {
            Some(entry) => self.leads_to(entry.group, &mut Pass::default()),
            None => Ok(None),
        }
    }

    fn first_that_fails<'a>(&self, facts: &'a [Fact]) -> Result<Option<&'a Fact>> {
        let mut pass = Pass::default();
        for fact in facts {
            if !self.holds(fact, &mut pass)? {
                return Ok(Some(fact));
            }
        }
        Ok(None)
    }

    fn holds(&self, fact: &Fact, pass: &mut Pass) -> Result<bool> {
        Ok(match fact {
            Fact::Learned(interface, prefix, to) => {
                match self.route(self.port_in(interface, pass)?.learned_table, *prefix) {
                    Some(entry) => self.leads_to(entry.group, pass)? == Some(*to),
                    None => false,
                }
            }
            Fact::Unlearned(interface, prefix) => {
                let table = self.port_in(interface, pass)?.learned_table;
                self.route(table, *prefix).is_none()
            }
            Fact::Own(interface, prefix, there) => {
                let table = self.port_in(interface, pass)?.own_table;
                self.route(table, *prefix).is_some() == *there
            }
        })
    }

    /// As [`Kernel::port`], asked once a pass.
    fn port_in(&self, interface: &str, pass: &mut Pass) -> Result<Port> {
        if let Some(port) = pass.ports.get(interface) {
            return Ok(*port);
        }
        let port = self.port(interface)?;
        pass.ports.insert(interface.to_owned(), port);
        Ok(port)
    }

    /// The address of the neighbour that a group of one next hop leads to.
    fn leads_to(&self, group: u32, pass: &mut Pass) -> Result<Option<Ipv4Addr>> {
        if let Some(address) = pass.leads_to.get(&group) {
            return Ok(*address);
        }
        let Group { first_bucket, .. } = self.groups.get(&group, 0)?;
        let Bucket { primary, .. } = self.buckets.get(&first_bucket, 0)?;
        let next_hop = self.next_hops.get(&primary, 0)?;
        let address = if next_hop.kind == next_hop_kind::VIA && next_hop.neighbor != NONE {
            let neighbor = self.neighbors.get(&next_hop.neighbor, 0)?;
            Ipv6Addr::from(neighbor.address).to_ipv4_mapped()
        } else {
            None
        };
        pass.leads_to.insert(group, address);
        Ok(address)
    }
}

/// A map by its name, as it is pinned.
pub fn pinned(name: &str) -> Result<MapData> {
    let pins = waypost::pins(Path::new(PINS))?;
    let pin = pins.iter().find(|pin| pin.ends_with(name));
    let pin = pin.with_context(|| format!("no {name} among {pins:?}"))?;
    Ok(MapData::from_pin(pin)?)
}

/// Ports whose program is attached.
pub fn attached() -> Result<usize> {
    Ok(waypost::pins(Path::new(PINS))?
        .iter()
        .filter(|pin| is_link(pin))
        .count())
}

fn is_link(pin: &Path) -> bool {
    pin.parent().is_some_and(|folder| folder.ends_with("links"))
}

/// Kernel memory of a map, bytes: of a trie in proportion to its entries.
pub fn size(map: &MapData) -> Result<u64> {
    let fd = map.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("no memlock in fdinfo")?.trim().parse()?)
}

/// Kernel memory of all maps together, bytes.
pub fn size_of_all() -> Result<u64> {
    let mut sum = 0;
    for pin in waypost::pins(Path::new(PINS))? {
        if !is_link(&pin) {
            let map = MapData::from_pin(&pin);
            sum += size(&map.with_context(|| format!("opening {}", pin.display()))?)?;
        }
    }
    Ok(sum)
}
