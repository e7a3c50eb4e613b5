//! `[[vnet]]` with its subnets, ports and peerings.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;

use super::{
    Vnet,
    claims::Claims,
    fault::Report,
    peering::{self, PeeringPlaces},
    places::Places,
    route_table::RouteTables,
    schema,
    section::{Located, Section},
    space::Space,
    special::special_within,
    subnet::{Shared, SubnetReader},
    values::{Address, Name, Prefix},
};
use crate::names::{InterfaceName, VnetName};

/// Name of a network whose name could not be read.
pub(super) const NAMELESS: &str = "?";

/// A network that was read, and which of its addresses are taken.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) vnet: Vnet,
    pub(super) addresses: Claims<IpAddr>,
    /// Those of them that are the gateway host's: no machine can have them.
    pub(super) own: Claims<IpAddr>,
    /// Read without a fault in its prefixes: what lies outside them is a fault of its own.
    pub(super) complete: bool,
    /// Places of its peerings, in their order.
    pub(super) peering_places: Vec<PeeringPlaces>,
    /// Addresses of machines that the file names elsewhere.
    machines: Vec<Machine>,
    /// Ports of which the file says that they do not forward.
    silent: Vec<Silent>,
    /// Ports for which the file does not say whether they forward: place of the subnet, of the port.
    pub(super) undecided: Vec<(usize, usize)>,
    /// Where those are who forward: peers, and the ranges that they connect from.
    forwarders: HashSet<IpAddr>,
    forwarding_ranges: Vec<IpNet>,
}

/// An address that has to be a machine's.
#[derive(Debug)]
struct Machine {
    address: IpAddr,
    /// What it is, for messages: `uplink 10.1.1.1`.
    what: String,
    at: usize,
    remedy: &'static str,
}

/// A port that is not to forward.
#[derive(Debug)]
struct Silent {
    interface: InterfaceName,
    addresses: Vec<IpAddr>,
    at: usize,
}

impl Network {
    fn new(vnet: Vnet, complete: bool) -> Self {
        Self {
            vnet,
            addresses: Claims::of("address"),
            own: Claims::of("address"),
            complete,
            peering_places: Vec::new(),
            machines: Vec::new(),
            silent: Vec::new(),
            undecided: Vec::new(),
            forwarders: HashSet::new(),
            forwarding_ranges: Vec::new(),
        }
    }

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

    /// Notes that an address is to be a machine's; `what` names it.
    pub(super) fn note_machine(
        &mut self,
        address: IpAddr,
        what: String,
        remedy: &'static str,
        at: usize,
    ) {
        self.machines.push(Machine {
            address,
            what,
            at,
            remedy,
        });
    }

    /// Notes that the port with this address forwards other machines' packets.
    pub(super) fn note_forwarder(&mut self, address: IpAddr) {
        self.forwarders.insert(address);
    }

    /// Notes that ports with addresses from this range forward other machines' packets.
    pub(super) fn note_forwarders(&mut self, range: IpNet) {
        self.forwarding_ranges.push(range);
    }

    /// Notes that the file says that the port with these addresses does not forward.
    pub(super) fn note_silent(
        &mut self,
        interface: &InterfaceName,
        addresses: &[IpAddr],
        at: usize,
    ) {
        self.silent.push(Silent {
            interface: interface.clone(),
            addresses: addresses.to_vec(),
            at,
        });
    }

    /// Whether an address is that of a machine at one of the network's ports.
    pub(super) fn has_port(&self, address: IpAddr) -> bool {
        self.addresses.owner(&address).is_some() && self.own.owner(&address).is_none()
    }

    /// No machine has the gateway host's own addresses, each has a port if there are any
    /// (`forwards`), and those that forward may. Asked once all addresses are claimed and all
    /// forwarders are noted.
    pub(super) fn check_machines(&self, forwards: bool, report: &mut Report) {
        let mut told = HashSet::new();
        for machine in &self.machines {
            if let Some((owner, place)) = self.own.owner(&machine.address) {
                let line = report.line_of(place);
                report.fault(
                    machine.at,
                    format!("{} is that of {owner} (line {line})", machine.what),
                    machine.remedy,
                );
            } else if forwards && !self.has_port(machine.address) && told.insert(machine.address) {
                self.warn_without_port(&machine.what, machine.at, report);
            }
        }
        for port in &self.silent {
            let mut forwarders = port.addresses.iter();
            if let Some(address) = forwarders.find(|address| self.forwarders.contains(*address)) {
                report.warning(
                    port.at,
                    format!(
                        "port {} has ip_forwarding = false, and {address} is that of a peer: what \
                         it forwards is dropped as source_check",
                        port.interface
                    ),
                    "leave ip_forwarding out",
                );
            }
        }
    }

    /// `what` names the address of a machine that is at no port.
    pub(super) fn warn_without_port(&self, what: &str, at: usize, report: &mut Report) {
        report.warning(
            at,
            format!(
                "{what} is that of no port: packets reach it only where the host has a route to it \
                 by one of the ports of network {}",
                self.vnet.name
            ),
            "add a [[vnet.subnet.port]] with the address, or see that there is such a route",
        );
    }

    /// The network, with what its ports do by default. Asked once all forwarders are noted.
    pub(super) fn into_vnet(mut self) -> Vnet {
        let ranges = std::mem::take(&mut self.forwarding_ranges);
        let (ranges, _) = Space::of(ranges.into_iter().map(|range| (range, ())));
        for (subnet, port) in self.undecided {
            let port = &mut self.vnet.subnets[subnet].ports[port];
            port.ip_forwarding = port.addresses.iter().any(|address| {
                self.forwarders.contains(address) || ranges.of_address(*address).is_some()
            });
        }
        self.vnet
    }
}

/// Reads all networks. Networks may use the same prefixes, unless they are peered: packets of one
/// never meet the other.
pub(super) fn read_all(
    root: &Section<'_, '_>,
    tables: &mut RouteTables,
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
    let mut shared = Shared {
        interfaces: Claims::of("interface"),
        tables,
        places,
    };
    sections
        .iter()
        .map(|section| read(section, &mut names, &mut shared, report))
        .collect()
}

fn read(
    section: &Section<'_, '_>,
    names: &mut Claims<VnetName>,
    shared: &mut Shared<'_>,
    report: &mut Report,
) -> Network {
    let name = section.required_text::<Name>("name", report);
    let before = report.faults();
    let prefixes = section.required_list::<Prefix>("prefixes", report);
    refuse_overlaps(&prefixes, report);
    refuse_special(&prefixes, report);
    let complete = report.faults() == before;
    let vnet = Vnet {
        name: name.as_ref().map_or(NAMELESS, |name| &name.value.0).into(),
        prefixes: prefixes.iter().map(|prefix| prefix.value.0).collect(),
        uplink: Vec::new(),
        subnets: Vec::new(),
        peerings: Vec::new(),
    };
    let mut network = Network::new(vnet, complete);
    network.vnet.prefixes.sort();

    let mut subnet_names = Claims::of("name");
    let mut taken = Vec::new();
    for section in section.subsections("subnet", &schema::SUBNET, report) {
        let mut reader = SubnetReader {
            network: &mut network,
            taken: &mut taken,
            shared,
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
    peering::read_all(section, &mut network, report);

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
        network.note_machine(
            address,
            format!("uplink {address}"),
            "give the address of a machine in one of the network's subnets",
            at,
        );
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

/// A network's space consists of addresses that machines can have.
fn refuse_special(prefixes: &[Located<Prefix>], report: &mut Report) {
    for Located { value, at } in prefixes {
        let Prefix(prefix) = value;
        let what = if prefix.prefix_len() == 0 {
            format!("prefix {prefix} of the network is the whole address space")
        } else if let Some(special) = special_within(prefix) {
            format!("prefix {prefix} of the network has {special} addresses")
        } else {
            continue;
        };
        report.fault(
            *at,
            what,
            "give addresses that machines can have, for example from 10.0.0.0/8 or fd00::/8",
        );
    }
}

pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
