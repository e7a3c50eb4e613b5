//! `[[vnet.subnet]]` with its ports.

use std::net::IpAddr;

use ipnet::IpNet;
use router_common::maps;

use super::{
    Port, Subnet,
    claims::Claims,
    fault::Report,
    network::{Network, overlap},
    places::Places,
    route_table::RouteTables,
    schema,
    section::{Located, Section},
    values::{Address, Interface, Name, Prefix},
};
use crate::names::{InterfaceName, MacAddr};

/// Most ports of a gateway host: place 0 of the maps counts what arrives at none.
const MOST_PORTS: usize = maps::MAX_PORTS as usize - 1;

/// Reads the subnets of one network.
pub(super) struct SubnetReader<'r, 's> {
    pub(super) network: &'r mut Network,
    /// Prefixes of the subnets read so far, with the subnet's name.
    pub(super) taken: &'r mut Vec<(IpNet, String, usize)>,
    pub(super) shared: &'r mut Shared<'s>,
}

/// What all networks have in common while they are read.
pub(super) struct Shared<'r> {
    pub(super) interfaces: Claims<InterfaceName>,
    pub(super) tables: &'r mut RouteTables,
    pub(super) places: &'r mut Places,
}

impl SubnetReader<'_, '_> {
    /// `None` if it has no usable name.
    pub(super) fn read(
        &mut self,
        section: &Section<'_, '_>,
        report: &mut Report,
    ) -> Option<Subnet> {
        let name = section.required_text::<Name>("name", report);
        let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
        let before = report.faults();
        let prefixes = section.required_list::<Prefix>("prefixes", report);
        let complete = report.faults() == before;
        for prefix in &prefixes {
            self.place_prefix(prefix, &label, report);
        }
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.value.0).collect();
        let mut subnet = Subnet {
            name: label.as_str().into(),
            gateways: self.gateways(section, &label, &prefixes, complete, report),
            prefixes,
            ports: Vec::new(),
            route_table: self.shared.tables.of_subnet(section, &label, report),
        };
        let mut undecided = Vec::new();
        for section in section.subsections("port", &schema::PORT, report) {
            if let Some(port) = self.read_port(&section, &subnet, complete, report) {
                if !section.has("ip_forwarding") {
                    undecided.push((self.network.vnet.subnets.len(), subnet.ports.len()));
                } else if !port.ip_forwarding {
                    let at = section.place("ip_forwarding");
                    self.network
                        .note_silent(&port.interface, &port.addresses, at);
                }
                subnet.ports.push(port);
            }
        }
        name?;
        self.network.undecided.extend(undecided);
        Some(subnet)
    }

    fn place_prefix(&mut self, prefix: &Located<Prefix>, subnet: &str, report: &mut Report) {
        let Located {
            value: Prefix(prefix),
            at,
        } = *prefix;
        let vnet = &self.network.vnet;
        if self.network.complete && !vnet.prefixes.iter().any(|space| space.contains(&prefix)) {
            report.fault(
                at,
                format!(
                    "subnet {subnet}: {prefix} lies outside network {}",
                    vnet.name
                ),
                "move it into one of the network's prefixes, or add its prefix to the network",
            );
        }
        if let Some((other, owner, place)) = self
            .taken
            .iter()
            .find(|(other, ..)| overlap(*other, prefix))
        {
            let line = report.line_of(*place);
            report.fault(
                at,
                format!(
                    "subnet {subnet}: {prefix} overlaps {other} of subnet {owner} (line {line})"
                ),
                "give each subnet prefixes of its own",
            );
        }
        self.taken.push((prefix, subnet.to_owned(), at));
    }

    /// One gateway for each prefix: the configured one, else the first usable address.
    fn gateways(
        &mut self,
        section: &Section<'_, '_>,
        subnet: &str,
        prefixes: &[IpNet],
        complete: bool,
        report: &mut Report,
    ) -> Vec<IpAddr> {
        let mut given: Vec<(IpNet, IpAddr, usize)> = Vec::new();
        for gateway in section.list::<Address>("gateways", report) {
            let Located {
                value: Address(address),
                at,
            } = gateway;
            let Some(prefix) = prefixes.iter().find(|prefix| prefix.contains(&address)) else {
                if complete {
                    report.fault(
                        at,
                        format!("gateway {address} lies outside subnet {subnet}"),
                        "give an address within one of the subnet's prefixes",
                    );
                }
                continue;
            };
            if let Some((_, other, _)) = given.iter().find(|(of, ..)| of == prefix) {
                report.fault(
                    at,
                    format!("subnet {subnet} has two gateways in {prefix}, {other} and {address}"),
                    "keep one for each prefix",
                );
                continue;
            }
            given.push((*prefix, address, at));
        }
        let owner = format!("the gateway of subnet {subnet}");
        prefixes
            .iter()
            .map(|prefix| {
                let (address, at) = given
                    .iter()
                    .find(|(of, ..)| of == prefix)
                    .map_or((first_usable(prefix), section.at), |(_, address, at)| {
                        (*address, *at)
                    });
                refuse_edges(prefix, address, &owner, at, report);
                self.network.claim_own(address, &owner, at, report);
                address
            })
            .collect()
    }

    fn read_port(
        &mut self,
        section: &Section<'_, '_>,
        subnet: &Subnet,
        complete: bool,
        report: &mut Report,
    ) -> Option<Port> {
        let interface = section.required_text::<Interface>("interface", report);
        let label = interface.as_ref().map_or("?", |name| &name.value.0);
        let owner = format!("port {label}");
        let mut addresses = Vec::new();
        for address in section.required_list::<Address>("addresses", report) {
            let Located {
                value: Address(address),
                at,
            } = address;
            match subnet
                .prefixes
                .iter()
                .find(|prefix| prefix.contains(&address))
            {
                Some(prefix) => refuse_edges(prefix, address, &owner, at, report),
                None if complete => report.fault(
                    at,
                    format!(
                        "address {address} of {owner} lies outside subnet {}",
                        subnet.name
                    ),
                    format!("give an address within {}", join(&subnet.prefixes)),
                ),
                None => {}
            }
            self.network.addresses.claim(address, &owner, at, report);
            addresses.push(address);
        }
        let mac = section.text::<MacAddr>("mac", report);
        let ip_forwarding = section.boolean("ip_forwarding", false, report);
        if let Some(mac) = &mac
            && (mac.value.0[0] & 1 == 1 || mac.value.0 == [0; 6])
        {
            report.fault(
                mac.at,
                format!(
                    "mac {} of {owner} is not the address of one station",
                    mac.value
                ),
                "give the machine's own, as \"ip link\" shows it",
            );
        }
        let interface = interface?;
        let name = InterfaceName::from(interface.value.0.as_str());
        self.shared.interfaces.claim(
            name.clone(),
            format!("a port of subnet {}", subnet.name),
            interface.at,
            report,
        );
        let interfaces = &mut self.shared.places.interfaces;
        let line = report.line_of(interface.at);
        if interfaces.insert(name.clone(), line).is_none() && interfaces.len() == MOST_PORTS + 1 {
            report.fault(
                interface.at,
                format!("{owner} is one port too many"),
                format!("a gateway host has at most {MOST_PORTS}: move networks to another one"),
            );
        }
        Some(Port {
            interface: name,
            addresses,
            mac: mac.map(|mac| mac.value),
            ip_forwarding,
        })
    }
}

/// The network and broadcast addresses of an IPv4 prefix belong to nobody.
fn refuse_edges(prefix: &IpNet, address: IpAddr, owner: &str, at: usize, report: &mut Report) {
    let IpNet::V4(prefix) = prefix else { return };
    let edge = match address {
        _ if prefix.prefix_len() > 30 => return,
        IpAddr::V4(address) if address == prefix.network() => "network",
        IpAddr::V4(address) if address == prefix.broadcast() => "broadcast",
        _ => return,
    };
    report.fault(
        at,
        format!("address {address} of {owner} is the {edge} address of {prefix}"),
        "choose one between them",
    );
}

/// Network address plus one, or the network address where the prefix holds no more than two.
fn first_usable(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) if net.prefix_len() >= 31 => net.network().into(),
        IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) + 1).into()),
        IpNet::V6(net) if net.prefix_len() >= 127 => net.network().into(),
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + 1).into()),
    }
}

fn join(prefixes: &[IpNet]) -> String {
    let texts: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
    texts.join(" or ")
}
