//! Next hops and attached hosts: from an address to a MAC address and a port, and whether packets
//! can be sent there.
//!
//! A resolved neighbour is written to a fresh place and published by one word; `down` is a word of
//! its own, so a failure is one write, however many prefixes use the next hop (invariant 8).

use std::{collections::BTreeSet, mem, net::IpAddr, ops::Bound};

use router_common::maps::{self, HostKey, Neighbor, next_hop_kind};
use tracing::{debug, warn};

use super::{
    kernel::{Host, KernelError, Link, Maps, Reachability},
    numbers::{Claim, Kind, Retired, encode},
    ports::PortState,
    reconciler::Reconciler,
};
use crate::{
    fib::{Liveness, NextHop},
    names::{InterfaceName, MacAddr, VnetName},
};

/// Hosts without a known MAC address that are asked at one time.
const HOSTS_AT_A_TIME: usize = 64;

/// A next hop in use.
#[derive(Debug)]
pub(super) struct NextHopState {
    pub(super) number: u32,
    /// Published place in `neighbors` and what stands there.
    pub(super) published: Option<(u32, Neighbor)>,
    pub(super) down: bool,
    /// What `fib` was told last; nothing yet in this life of the next hop.
    told: Option<bool>,
    /// Interface on which the kernel keeps it resolved.
    pub(super) watched: Option<u32>,
}

/// An attached host as published.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostState {
    pub(super) place: u32,
    pub(super) neighbor: Neighbor,
}

/// The way to a neighbour.
struct Way {
    link: Link,
    /// Number of the port.
    port: u32,
    /// Number of its network.
    vnet: u32,
    /// The port's configured MAC address, where the neighbour is the machine behind it.
    mac: Option<MacAddr>,
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    pub(super) fn put_next_hop(&mut self, next_hop: &NextHop) -> Result<(), KernelError> {
        if self.next_hops.contains_key(next_hop) {
            return Ok(());
        }
        let (kind, word) = match next_hop {
            NextHop::Via { .. } => (next_hop_kind::VIA, maps::NONE),
            NextHop::Attached { vnet } => (next_hop_kind::ATTACHED, self.vnet(vnet)?),
            NextHop::Host => (next_hop_kind::HOST, maps::NONE),
            NextHop::Discard => (next_hop_kind::DISCARD, maps::NONE),
            NextHop::NoUplink => (next_hop_kind::NO_UPLINK, maps::NONE),
            NextHop::Blackhole => (next_hop_kind::BLACKHOLE, maps::NONE),
        };
        let via = kind == next_hop_kind::VIA;
        let claim = self.claim(Kind::NextHop, &next_hop.to_string())?;
        let number = claim.number();
        let mut state = NextHopState {
            number,
            published: None,
            down: via,
            told: None,
            watched: None,
        };
        let held = self.maps.next_hop(number);
        if matches!(claim, Claim::Adopted(_)) && held.kind == kind {
            state.down = held.down != 0;
            if via && held.neighbor != maps::NONE {
                state.published = Some((held.neighbor, self.maps.neighbor(held.neighbor)?));
            } else if held.neighbor != word {
                self.maps.set_next_hop_neighbor(number, word);
            }
        } else {
            self.maps.reset_next_hop_counters(number)?;
            self.maps.set_next_hop_neighbor(number, word);
            self.maps.set_next_hop_down(number, via);
            self.maps.set_next_hop_kind(number, kind);
        }
        self.next_hops.insert(next_hop.clone(), state);
        if let NextHop::Via { vnet, address } = next_hop {
            self.in_vnet.insert(vnet.clone(), next_hop.clone());
            self.with_address.insert(*address, next_hop.clone());
            self.unsettled.insert(next_hop.clone());
            // No packet waits for the last of the changes where all is known already.
            if self.is_reachable(vnet, *address) {
                self.resolve(next_hop);
            }
        }
        Ok(())
    }

    /// Whether there is a way to an address, as the ports are now, and a neighbour that the kernel knows.
    fn is_reachable(&mut self, vnet: &VnetName, address: IpAddr) -> bool {
        let Some(way) = self.way_to(vnet, address).filter(|way| way.link.up) else {
            return false;
        };
        matches!(
            self.neighbours.get(way.link.ifindex, address),
            Reachability::Usable(_) | Reachability::Fixed(_)
        )
    }

    pub(super) fn remove_next_hop(&mut self, next_hop: &NextHop) {
        self.unsettled.remove(next_hop);
        let Some(state) = self.next_hops.remove(next_hop) else {
            return;
        };
        let name = next_hop.to_string();
        if !self.leave_to_sweep(Kind::NextHop, &name) {
            self.forget(&encode(Kind::NextHop, &name), Kind::NextHop);
            self.retired.push(Retired::NextHop(state.number));
            if let Some((place, _)) = state.published {
                self.retired.push(Retired::Neighbor(place));
            }
        }
        if let NextHop::Via { vnet, address } = next_hop {
            self.in_vnet.remove(vnet, next_hop);
            self.with_address.remove(address, next_hop);
            if let Some(ifindex) = state.watched {
                self.on_interface.remove(&ifindex, next_hop);
                self.unwatch(ifindex, *address);
            }
        }
    }

    /// Finds the way to a next hop anew and publishes what is known about it.
    pub(super) fn resolve(&mut self, next_hop: &NextHop) {
        let NextHop::Via { vnet, address } = next_hop else {
            return;
        };
        let Some(state) = self.next_hops.get(next_hop) else {
            return;
        };
        let (watched, resolved) = (state.watched, state.published.is_some());
        let Some(way) = self.way_to(vnet, *address) else {
            // The port of an adopted next hop may be about to be configured.
            if self.adopted.is_none() || !resolved {
                self.set_alive(next_hop, false);
            }
            self.watch(next_hop, *address, None);
            return;
        };
        let ifindex = way.link.ifindex;
        if watched != Some(ifindex) {
            self.watch(next_hop, *address, Some(ifindex));
            if way.link.up {
                self.probe(ifindex, *address);
            }
        }
        if !way.link.up {
            self.set_alive(next_hop, false);
            return;
        }
        match self.neighbours.get(ifindex, *address) {
            Reachability::Usable(mac) | Reachability::Fixed(mac) => {
                let neighbor = way.neighbor(way.mac.unwrap_or(mac), *address);
                match self.publish_next_hop(next_hop, neighbor) {
                    Ok(()) => self.set_alive(next_hop, true),
                    Err(error) => {
                        warn!(%next_hop, "next hop is not usable: {error}");
                        self.set_alive(next_hop, false);
                    }
                }
            }
            Reachability::Failed => self.set_alive(next_hop, false),
            // Until the kernel knows, what was true before still holds, where it used this port.
            Reachability::Unknown => {
                let moved = self.next_hops.get(next_hop).is_some_and(|state| {
                    state
                        .published
                        .is_some_and(|(_, held)| held.port != way.port)
                });
                if moved {
                    self.set_down(next_hop, true);
                } else if let Some((_, held)) = self
                    .next_hops
                    .get(next_hop)
                    .and_then(|state| state.published)
                {
                    let neighbor = way.neighbor(MacAddr(held.mac), *address);
                    if let Err(error) = self.publish_next_hop(next_hop, neighbor) {
                        warn!(%next_hop, "next hop is not renewed: {error}");
                    }
                }
            }
        }
    }

    fn publish_next_hop(
        &mut self,
        next_hop: &NextHop,
        neighbor: Neighbor,
    ) -> Result<(), KernelError> {
        let Some(state) = self.next_hops.get(next_hop) else {
            return Ok(());
        };
        let (number, before) = (state.number, state.published);
        if before.is_some_and(|(_, held)| held == neighbor) {
            return Ok(());
        }
        let place = self.write_neighbor(neighbor)?;
        self.maps.set_next_hop_neighbor(number, place);
        if let Some(state) = self.next_hops.get_mut(next_hop) {
            state.published = Some((place, neighbor));
        }
        if let Some((place, _)) = before {
            self.retired.push(Retired::Neighbor(place));
        }
        debug!(%next_hop, mac = %MacAddr(neighbor.mac), "next hop is resolved");
        Ok(())
    }

    fn write_neighbor(&mut self, neighbor: Neighbor) -> Result<u32, KernelError> {
        let place = self
            .neighbor_places
            .take()
            .ok_or(KernelError::Full { map: "neighbors" })?;
        if let Err(error) = self.maps.write_neighbor(place, neighbor) {
            self.neighbor_places.release(place);
            return Err(error);
        }
        Ok(place)
    }

    fn set_down(&mut self, next_hop: &NextHop, down: bool) {
        if let Some(state) = self.next_hops.get_mut(next_hop)
            && state.down != down
        {
            state.down = down;
            self.maps.set_next_hop_down(state.number, down);
        }
    }

    /// The word first, then the word to `fib`.
    fn set_alive(&mut self, next_hop: &NextHop, alive: bool) {
        self.set_down(next_hop, !alive);
        if let Some(state) = self.next_hops.get_mut(next_hop)
            && state.told != Some(alive)
        {
            state.told = Some(alive);
            self.liveness.push(Liveness {
                next_hop: next_hop.clone(),
                alive,
            });
        }
    }

    /// Takes the next hops on an interface out at once.
    pub(super) fn next_hops_down(&mut self, ifindex: u32) {
        let dead: Vec<NextHop> = self.next_hops_on(ifindex).cloned().collect();
        for next_hop in dead {
            self.set_alive(&next_hop, false);
        }
    }

    pub(super) fn next_hops_on(&self, ifindex: u32) -> impl Iterator<Item = &NextHop> {
        self.on_interface.of(&ifindex)
    }

    /// The kernel's neighbour table has changed.
    pub(super) fn neighbour(&mut self, ifindex: u32, address: IpAddr, reachability: Reachability) {
        let Some(interface) = self.links.get(ifindex).map(|link| link.name.clone()) else {
            return;
        };
        let before = self.neighbours.put(ifindex, address, reachability);
        let Some(port) = self.ports.get(&interface) else {
            return;
        };
        if before == reachability {
            return;
        }
        let attached = port.config.addresses.contains(&address);
        let concerned: Vec<NextHop> = self.with_address.of(&address).cloned().collect();
        for next_hop in concerned {
            self.resolve(&next_hop);
        }
        if attached {
            self.put_hosts(&interface);
        }
    }

    /// Publishes the machine's addresses behind a port, as far as its MAC address is known.
    pub(super) fn put_hosts(&mut self, interface: &InterfaceName) {
        let Some((config, way)) = self.ports.get(interface).and_then(|state| {
            let link = self.links.get(state.bound.as_ref()?.ifindex)?;
            let way = Way {
                link: link.clone(),
                port: state.number,
                vnet: state.vnet,
                mac: None,
            };
            Some((state.config.clone(), way))
        }) else {
            return;
        };
        for address in &config.addresses {
            let learned = match self.neighbours.get(way.link.ifindex, *address) {
                Reachability::Usable(mac) | Reachability::Fixed(mac) => Some(mac),
                _ => None,
            };
            let Some(mac) = config.mac.or(learned) else {
                continue;
            };
            let key = host_key(way.vnet, *address);
            let neighbor = way.neighbor(mac, *address);
            if let Err(error) = self.publish_host(key, neighbor) {
                warn!(port = %interface, %address, "attached host is not programmed: {error}");
            }
        }
    }

    pub(super) fn publish_host(
        &mut self,
        key: HostKey,
        neighbor: Neighbor,
    ) -> Result<(), KernelError> {
        if let Some(adopted) = &mut self.adopted {
            adopted.hosts.remove(&key);
        }
        let before = self.hosts.get(&key).copied();
        if before.is_some_and(|held| held.neighbor == neighbor) {
            return Ok(());
        }
        let place = self.write_neighbor(neighbor)?;
        if let Err(error) = self.maps.publish_host(key, place) {
            self.neighbor_places.release(place);
            return Err(error);
        }
        self.hosts.insert(key, HostState { place, neighbor });
        if let Some(before) = before {
            self.retired.push(Retired::Neighbor(before.place));
        }
        Ok(())
    }

    /// Removes the host, unless it has moved to another port meanwhile.
    pub(super) fn remove_host(&mut self, key: HostKey, port: u32) {
        let Some(state) = self.hosts.get(&key).copied() else {
            return;
        };
        if state.neighbor.port != port {
            return;
        }
        if let Err(error) = self.maps.unpublish_host(key) {
            warn!("an attached host is not removed: {error}");
            return;
        }
        self.hosts.remove(&key);
        self.retired.push(Retired::Neighbor(state.place));
    }

    /// Where the kernel keeps next hops resolved.
    pub(super) fn interfaces_of_next_hops(&self) -> impl Iterator<Item = (u32, &InterfaceName)> {
        let interfaces = self.on_interface.keys();
        interfaces.filter_map(|ifindex| Some((*ifindex, &self.links.get(*ifindex)?.name)))
    }

    /// Asks all next hops whether they still answer, and some of the hosts that are not resolved
    /// yet, the others next time: the kernel asks them too, and changes wait meanwhile.
    pub(super) fn probe_all(&mut self) {
        let mut asked: Vec<(u32, IpAddr)> = self
            .on_interface
            .iter()
            .filter_map(|(ifindex, next_hop)| match next_hop {
                NextHop::Via { address, .. } => Some((*ifindex, *address)),
                _ => None,
            })
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let most = asked.len() + HOSTS_AT_A_TIME;
        let from = match self.asked_last.take() {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        for (interface, state) in self.ports.range((from, Bound::Unbounded)) {
            asked.extend(self.unknown_hosts(state));
            if asked.len() >= most {
                self.asked_last = Some(interface.clone());
                break;
            }
        }
        for (ifindex, address) in asked {
            if self.links.is_up(ifindex) {
                self.probe(ifindex, address);
            }
        }
    }

    /// Asks the next hops on an interface and the hosts that are not resolved yet.
    pub(super) fn probe_on(&mut self, ifindex: u32) {
        if !self.links.is_up(ifindex) {
            return;
        }
        let next_hops = self
            .next_hops_on(ifindex)
            .filter_map(|next_hop| match next_hop {
                NextHop::Via { address, .. } => Some((ifindex, *address)),
                _ => None,
            });
        let hosts = self.port_on(ifindex).into_iter();
        let hosts = hosts.flat_map(|state| self.unknown_hosts(state));
        let asked: BTreeSet<(u32, IpAddr)> = next_hops.chain(hosts).collect();
        for (ifindex, address) in asked {
            self.probe(ifindex, address);
        }
    }

    /// Machines behind a port whose MAC addresses nobody has told yet.
    fn unknown_hosts<'a>(
        &'a self,
        state: &'a PortState,
    ) -> impl Iterator<Item = (u32, IpAddr)> + use<'a, M, H> {
        let bound = state.bound.filter(|_| state.config.mac.is_none());
        bound.into_iter().flat_map(move |bound| {
            let known = move |address: &IpAddr| {
                let reachability = self.neighbours.get(bound.ifindex, *address);
                matches!(reachability, Reachability::Usable(_))
            };
            let unknown = state.config.addresses.iter().copied();
            unknown
                .filter(move |address| !known(address))
                .map(move |address| (bound.ifindex, address))
        })
    }

    fn probe(&mut self, ifindex: u32, address: IpAddr) {
        if self.is_fixed(ifindex, address) {
            return;
        }
        if let Err(error) = self.host.probe(ifindex, address) {
            debug!(ifindex, %address, "neighbour is not probed: {error}");
        }
    }

    /// Says on which interface the kernel keeps a next hop resolved; on the one before it need not.
    fn watch(&mut self, next_hop: &NextHop, address: IpAddr, ifindex: Option<u32>) {
        let Some(state) = self.next_hops.get_mut(next_hop) else {
            return;
        };
        let before = mem::replace(&mut state.watched, ifindex);
        if before == ifindex {
            return;
        }
        if let Some(ifindex) = ifindex {
            self.on_interface.insert(ifindex, next_hop.clone());
        }
        if let Some(before) = before {
            self.on_interface.remove(&before, next_hop);
            self.unwatch(before, address);
        }
    }

    pub(super) fn unwatch(&mut self, ifindex: u32, address: IpAddr) {
        let needed = self.with_address.of(&address).any(|next_hop| {
            self.next_hops
                .get(next_hop)
                .is_some_and(|state| state.watched == Some(ifindex))
        }) || self.port_on(ifindex).is_some_and(|port| {
            port.config.mac.is_none() && port.config.addresses.contains(&address)
        });
        if !needed && !self.is_fixed(ifindex, address) {
            self.neighbours.put(ifindex, address, Reachability::Unknown);
            self.host.forget_neighbour(ifindex, address);
        }
    }

    /// Whether the operator gave the kernel the neighbour's MAC address.
    fn is_fixed(&self, ifindex: u32, address: IpAddr) -> bool {
        matches!(
            self.neighbours.get(ifindex, address),
            Reachability::Fixed(_)
        )
    }

    /// The port on an interface.
    pub(super) fn port_on(&self, ifindex: u32) -> Option<&PortState> {
        let state = self.ports.get(&self.links.get(ifindex)?.name)?;
        state
            .bound
            .is_some_and(|bound| bound.ifindex == ifindex)
            .then_some(state)
    }

    /// The port whose machine has the address, else the one that the host's own routes lead to.
    fn way_to(&mut self, vnet: &VnetName, address: IpAddr) -> Option<Way> {
        let configured = self.machines.of(&(vnet.clone(), address)).next();
        if let Some(state) = configured.and_then(|interface| self.ports.get(interface)) {
            let link = self.links.get(state.bound.as_ref()?.ifindex)?;
            return Some(Way {
                link: link.clone(),
                port: state.number,
                vnet: state.vnet,
                mac: state.config.mac,
            });
        }
        let ifindex = self.host.interface_towards(address)?;
        let state = self.port_on(ifindex)?;
        (state.config.vnet == *vnet).then_some(Way {
            link: self.links.get(ifindex)?.clone(),
            port: state.number,
            vnet: state.vnet,
            mac: None,
        })
    }
}

impl Way {
    fn neighbor(&self, mac: MacAddr, address: IpAddr) -> Neighbor {
        Neighbor {
            mac: mac.0,
            port_mac: self.link.mac.0,
            port: self.port,
            mtu: self.link.mtu,
            vnet: self.vnet,
            address: octets(address),
        }
    }
}

/// Key of `hosts`.
pub(super) fn host_key(vnet: u32, address: IpAddr) -> HostKey {
    HostKey {
        vnet,
        address: octets(address),
    }
}

/// An address as maps hold it: IPv4 as IPv4-mapped IPv6.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
