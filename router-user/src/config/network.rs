//! `[[vnet]]` with its subnets and ports.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Port, Subnet, Vnet,
    claims::Claims,
    fault::Report,
    places::Places,
    schema,
    section::{Located, Section},
    values::{Address, Interface, Name, Prefix},
};
use crate::names::{InterfaceName, MacAddr, VnetName};

/// Name of a network whose name could not be read.
pub(super) const NAMELESS: &str = "?";

/// A network that was read, and which of its addresses are taken.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) vnet: Vnet,
    pub(super) addresses: Claims<IpAddr>,
    /// Those of them that are the gateway host's: no peer can have them.
    pub(super) own: Claims<IpAddr>,
    /// Its uplinks, with their places.
    uplinks: Vec<Located<IpAddr>>,
    /// Read without a fault in its prefixes: what lies outside them is a fault of its own.
    pub(super) complete: bool,
}

impl Network {
    /// Claims an address for the gateway host.
    pub(super) fn claim_own(
        &mut self,
        address: IpAddr,
        owner: &str,
        at: usize,
        report: &mut Report,
    ) {
        let before = report.faults();
        self.addresses.claim(address, owner, at, report);
        if report.faults() == before {
            self.own.claim(address, owner, at, report);
        }
    }

    /// The Internet does not lie behind the gateway host's own addresses. Asked once all of them are
    /// claimed.
    pub(super) fn refuse_own_uplinks(&self, report: &mut Report) {
        for Located { value, at } in &self.uplinks {
            if let Some((owner, place)) = self.own.owner(value) {
                let line = report.line_of(place);
                report.fault(
                    *at,
                    format!("uplink {value} is that of {owner} (line {line})"),
                    "give the address of a machine in one of the network's subnets",
                );
            }
        }
    }
}

/// Reads all networks. Networks may use the same prefixes: packets of one never meet the other.
pub(super) fn read_all(
    root: &Section<'_, '_>,
    places: &mut Places,
    report: &mut Report,
) -> Vec<Network> {
    let sections = root.subsections("vnet", &schema::VNET, report);
    if sections.is_empty() {
        report.fault(
            root.at,
            "no [[vnet]]: there is nothing to route",
            "add a virtual network; docs/example.toml shows one",
        );
    }
    let mut names = Claims::of("name");
    let mut interfaces = Claims::of("interface");
    sections
        .iter()
        .map(|section| read(section, &mut names, &mut interfaces, places, report))
        .collect()
}

fn read(
    section: &Section<'_, '_>,
    names: &mut Claims<VnetName>,
    interfaces: &mut Claims<InterfaceName>,
    places: &mut Places,
    report: &mut Report,
) -> Network {
    let name = section.required_text::<Name>("name", report);
    let before = report.faults();
    let prefixes = section.required_list::<Prefix>("prefixes", report);
    let complete = report.faults() == before;
    refuse_overlaps(&prefixes, report);
    let mut network = Network {
        vnet: Vnet {
            name: name.as_ref().map_or(NAMELESS, |name| &name.value.0).into(),
            prefixes: prefixes.iter().map(|prefix| prefix.value.0).collect(),
            uplink: Vec::new(),
            subnets: Vec::new(),
            peerings: Vec::new(),
        },
        addresses: Claims::of("address"),
        own: Claims::of("address"),
        uplinks: Vec::new(),
        complete,
    };
    network.vnet.prefixes.sort();

    let mut subnet_names = Claims::of("name");
    let mut taken = Vec::new();
    for section in section.subsections("subnet", &schema::SUBNET, report) {
        let mut reader = SubnetReader {
            network: &mut network,
            taken: &mut taken,
            interfaces,
            places,
        };
        let Some(subnet) = reader.read(&section, report) else {
            continue;
        };
        subnet_names.claim(
            subnet.name.clone(),
            format!("a subnet of {}", network.vnet.name),
            section.at,
            report,
        );
        network.vnet.subnets.push(subnet);
    }
    read_uplink(section, &mut network, report);

    if let Some(name) = name {
        let key = network.vnet.name.clone();
        names.claim(key, "a virtual network", name.at, report);
    }
    network
}

fn read_uplink(section: &Section<'_, '_>, network: &mut Network, report: &mut Report) {
    for uplink in section.list::<Address>("uplink", report) {
        let Located {
            value: Address(address),
            at,
        } = uplink;
        if let Some(other) = network
            .vnet
            .uplink
            .iter()
            .find(|other| other.is_ipv4() == address.is_ipv4())
        {
            report.fault(
                at,
                format!("uplink has {other} and {address}, two addresses of one family"),
                "keep one IPv4 and one IPv6 address at the most",
            );
            continue;
        }
        if network.complete && !network.vnet.contains(address) {
            report.fault(
                at,
                format!(
                    "uplink {address} lies outside network {}",
                    network.vnet.name
                ),
                "give the address of a machine in one of its subnets",
            );
        }
        network.vnet.uplink.push(address);
        network.uplinks.push(Located { value: address, at });
    }
}

/// Reads the subnets of one network.
struct SubnetReader<'r> {
    network: &'r mut Network,
    /// Prefixes of the subnets read so far, with the subnet's name.
    taken: &'r mut Vec<(IpNet, String, usize)>,
    interfaces: &'r mut Claims<InterfaceName>,
    places: &'r mut Places,
}

impl SubnetReader<'_> {
    fn read(&mut self, section: &Section<'_, '_>, report: &mut Report) -> Option<Subnet> {
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
            route_table: None,
        };
        for section in section.subsections("port", &schema::PORT, report) {
            if let Some(port) = self.read_port(&section, &subnet, complete, report) {
                subnet.ports.push(port);
            }
        }
        name.map(|_| subnet)
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
        self.interfaces.claim(
            name.clone(),
            format!("a port of subnet {}", subnet.name),
            interface.at,
            report,
        );
        self.places
            .interfaces
            .insert(name.clone(), report.line_of(interface.at));
        Some(Port {
            interface: name,
            addresses,
            mac: mac.map(|mac| mac.value),
            ip_forwarding,
        })
    }
}

fn refuse_overlaps(prefixes: &[Located<Prefix>], report: &mut Report) {
    for (n, later) in prefixes.iter().enumerate() {
        let Prefix(prefix) = later.value;
        if let Some(earlier) = prefixes[..n]
            .iter()
            .find(|earlier| overlap(earlier.value.0, prefix))
        {
            report.fault(
                later.at,
                format!(
                    "prefixes {} and {prefix} of the network overlap",
                    earlier.value.0
                ),
                "keep the larger one",
            );
        }
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

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
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
