//! Whether the gateway host has what the configuration names: interfaces and addresses.
//!
//! A step of its own, since a file can be good on a machine that is not the gateway host.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use anyhow::Context as _;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::LinkAttribute,
};
use rtnetlink::packet_core::NLM_F_DUMP;

use super::{Config, Fault, Faults, Instance, Parsed, RouteServer, places::Places};
use crate::{
    bgp::protection,
    names::{InterfaceName, PeerName},
    netlink::{self, Netlink},
};

/// Interfaces of the host and their addresses.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Addresses by interface.
    pub interfaces: HashMap<String, HashSet<IpAddr>>,
    /// Why connections with TCP-AO (RFC 5925) cannot be made, if so.
    pub no_tcp_ao: Option<String>,
}

impl Host {
    /// Reads the interfaces of this network namespace through netlink.
    ///
    /// # Errors
    ///
    /// The kernel refuses netlink.
    pub async fn read() -> anyhow::Result<Self> {
        let read = tokio::task::spawn_blocking(Self::read_now).await;
        let host = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        host.context("cannot list the host's interfaces")
    }

    fn read_now() -> io::Result<Self> {
        let mut host = Self {
            no_tcp_ao: protection::tcp_ao().err().map(|error| error.to_string()),
            ..Self::default()
        };
        let mut kernel = Netlink::open()?;
        let links = kernel.request(netlink::all_links(), NLM_F_DUMP, named)?;
        let names: HashMap<u32, String> = links.into_iter().collect();
        for name in names.values() {
            host.interfaces.insert(name.clone(), HashSet::new());
        }
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for (index, address) in kernel.request(all, NLM_F_DUMP, own_address)? {
            let interface = names.get(&index);
            let addresses = interface.and_then(|name| host.interfaces.get_mut(name));
            if let Some(addresses) = addresses {
                addresses.insert(address);
            }
        }
        Ok(host)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.interfaces
            .values()
            .any(|addresses| addresses.contains(&address))
    }
}

/// An interface's index and name.
fn named(message: RouteNetlinkMessage) -> Option<(u32, String)> {
    let RouteNetlinkMessage::NewLink(link) = message else {
        return None;
    };
    let mut attributes = link.attributes.into_iter();
    let name = attributes.find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    Some((link.header.index, name?))
}

/// An interface's index and one of its addresses. IFA_LOCAL is the host's own; where it is missing
/// (IPv6 without a peer), IFA_ADDRESS is.
fn own_address(message: RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let attributes = &message.attributes;
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let own = local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    Some((message.header.index, own?))
}

/// Holds a configuration against the host.
///
/// Comes back with the warnings. An interface or an instance address that the `running` configuration
/// has already and that vanished since is a warning too: it must not keep an operator from changing
/// something else.
///
/// # Errors
///
/// Every interface and instance address that the host lacks.
pub fn check(parsed: &Parsed, host: &Host, running: Option<&Config>) -> Result<Vec<Fault>, Faults> {
    let Parsed { config, places, .. } = parsed;
    let known: HashSet<_> = running.into_iter().flat_map(interfaces).collect();
    let (mut warnings, mut faults) = (Vec::new(), Vec::new());
    for interface in interfaces(config) {
        if !host.interfaces.contains_key(interface.as_str()) {
            let vanished = known.contains(interface);
            let list = if vanished { &mut warnings } else { &mut faults };
            list.push(missing_interface(interface, places, host));
        }
    }
    let known: HashSet<_> = running
        .into_iter()
        .flat_map(instance_addresses)
        .map(|(.., address)| address)
        .collect();
    for (server, instance, address) in instance_addresses(config) {
        if !host.has(address) {
            let vanished = known.contains(&address);
            let list = if vanished { &mut warnings } else { &mut faults };
            list.push(missing_address(server, instance, address, places));
        }
    }
    if faults.is_empty() {
        warnings.extend(missing_gateways(config, places, host));
        warnings.extend(missing_tcp_ao(config, places, host));
        return Ok(warnings);
    }
    faults.sort_by_key(|fault| fault.line);
    Err(Faults(faults))
}

fn interfaces(config: &Config) -> impl Iterator<Item = &InterfaceName> {
    let subnets = config.vnets.iter().flat_map(|vnet| &vnet.subnets);
    subnets
        .flat_map(|subnet| &subnet.ports)
        .map(|port| &port.interface)
}

fn missing_interface(interface: &InterfaceName, places: &Places, host: &Host) -> Fault {
    Fault {
        file: places.file.clone(),
        line: places.interfaces.get(interface).copied().unwrap_or(1),
        what: format!("this host has no interface {interface}"),
        remedy: format!(
            "create it (\"ip link\" shows those there are) or correct the name{}",
            nearest(interface.as_str(), host)
        ),
    }
}

fn instance_addresses(config: &Config) -> impl Iterator<Item = (&RouteServer, &Instance, IpAddr)> {
    config.route_servers.iter().flat_map(|server| {
        let instances = server.instances.iter();
        instances.flat_map(move |instance| {
            let addresses = instance.addresses.iter();
            addresses.map(move |address| (server, instance, *address))
        })
    })
}

fn missing_address(
    server: &RouteServer,
    instance: &Instance,
    address: IpAddr,
    places: &Places,
) -> Fault {
    let line = places.instance_addresses.get(&address);
    Fault {
        file: places.file.clone(),
        line: line.copied().unwrap_or(1),
        what: format!(
            "address {address} of instance {} of route server {} is not on this host",
            instance.id, server.name
        ),
        remedy: format!("ip address add {} dev lo", host_prefix(address)),
    }
}

fn missing_gateways(config: &Config, places: &Places, host: &Host) -> Vec<Fault> {
    let mut warnings = Vec::new();
    for subnet in config.vnets.iter().flat_map(|vnet| &vnet.subnets) {
        for port in &subnet.ports {
            let Some(present) = host.interfaces.get(port.interface.as_str()) else {
                continue;
            };
            for gateway in subnet
                .gateways
                .iter()
                .filter(|address| !present.contains(address))
            {
                warnings.push(Fault {
                    file: places.file.clone(),
                    line: places.interfaces.get(&port.interface).copied().unwrap_or(1),
                    what: format!(
                        "gateway address {gateway} of subnet {} is not on interface {}, so nobody answers ARP/ND for it there",
                        subnet.name, port.interface
                    ),
                    remedy: format!(
                        "ip address add {} dev {}",
                        host_prefix(*gateway),
                        port.interface
                    ),
                });
            }
        }
    }
    warnings
}

/// Nobody else is to pay for it: a warning.
fn missing_tcp_ao(config: &Config, places: &Places, host: &Host) -> Vec<Fault> {
    let Some(reason) = &host.no_tcp_ao else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for server in &config.route_servers {
        let peers = server.peers.iter();
        let peers = peers.map(|peer| (peer.name.clone(), &peer.security));
        let dynamic = server.dynamic_peers.iter();
        let dynamic = dynamic.map(|peers| (peers.name.clone(), &peers.template.security));
        let gateways = server.gateways.iter().map(|gateway| {
            let name = PeerName::from(gateway.name.as_str());
            (name, &gateway.template.security)
        });
        for (name, security) in peers.chain(dynamic).chain(gateways) {
            if security.tcp_ao.is_empty() {
                continue;
            }
            let what = format!("peer {name} of route server {} stays down", server.name);
            let place = (server.name.clone(), name);
            warnings.push(Fault {
                file: places.file.clone(),
                line: places.peers.get(&place).copied().unwrap_or(1),
                what,
                remedy: reason.clone(),
            });
        }
    }
    warnings
}

fn nearest(name: &str, host: &Host) -> String {
    host.interfaces
        .keys()
        .map(|known| (strsim::normalized_damerau_levenshtein(known, name), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .map_or_else(String::new, |(_, known)| format!(": did you mean {known}?"))
}

fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
