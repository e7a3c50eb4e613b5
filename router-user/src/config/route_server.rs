//! `[[route_server]]` with its instances and peers.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    DynamicPeers, Instance, Peer, RouteServer, Vnet,
    claims::Claims,
    fault::Report,
    network::{NAMELESS, Network},
    peer::{self, Common},
    places::Places,
    schema,
    section::{Located, Section},
    values::{Address, Name, Prefix, RouterId},
};
use crate::{
    bgp::{InstanceId, settings::Security, wire::Asn},
    names::{RouteServerName, VnetName},
};

/// ASN of a route server that names none.
pub(super) const DEFAULT_ASN: Asn = 65515;

/// Most ECMP members.
const MAX_PATHS: u8 = 64;

/// Reads all route servers.
pub(super) fn read_all(
    root: &Section<'_, '_>,
    networks: &mut [Network],
    places: &mut Places,
    report: &mut Report,
) -> Vec<RouteServer> {
    let mut reader = Reader {
        networks,
        names: Claims::of("name"),
        served: Claims::of("network"),
        listening: Claims::of("address"),
        places,
    };
    root.subsections("route_server", &schema::ROUTE_SERVER, report)
        .iter()
        .filter_map(|section| reader.read(section, report))
        .collect()
}

struct Reader<'r> {
    networks: &'r mut [Network],
    names: Claims<RouteServerName>,
    /// A network has one route server.
    served: Claims<VnetName>,
    /// Instances listen on the host: their addresses are unique over all networks.
    listening: Claims<IpAddr>,
    places: &'r mut Places,
}

impl Reader<'_> {
    fn read(&mut self, section: &Section<'_, '_>, report: &mut Report) -> Option<RouteServer> {
        let name = section.required_text::<Name>("name", report);
        if let Some(name) = &name {
            let key = RouteServerName::from(name.value.0.as_str());
            self.names.claim(key, "a route server", name.at, report);
        }
        let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
        let vnet = section.required_text::<Name>("vnet", report);
        let network = vnet.and_then(|vnet| self.network(&vnet, &label, report));
        let asn = section
            .integer("asn", 0..=Asn::MAX, report)
            .and_then(|asn| usable_asn(&asn, "the route server", report))
            .unwrap_or(DEFAULT_ASN);
        let max_paths = section
            .integer("max_paths", 1..=MAX_PATHS, report)
            .map_or(8, |paths| paths.value);
        let reflect_between_nvas = section.boolean("reflect_between_nvas", true, report);
        let instances = self.instances(section, &label, network, report);
        let restart_time = section.number("restart_time", 0..=4095, 120, report);
        let common = Common {
            local_asn: asn,
            restart_time,
        };
        let mut names = Claims::of("name");
        let peers = self.peers(
            section,
            common,
            &mut names,
            instances.as_ref(),
            network,
            report,
        );
        let dynamic_peers = self.dynamic_peers(section, common, &mut names, network, report);
        check_keys(&peers, &dynamic_peers, report);
        check_number(&peers, &dynamic_peers, report);
        if let Some(server) = &name {
            let configured = peers.iter().map(|(at, peer)| (&peer.name, *at));
            let dynamic = dynamic_peers.iter().map(|(at, peers)| (&peers.name, *at));
            for (peer, at) in configured.chain(dynamic) {
                let server = server.value.0.as_str().into();
                let line = report.line_of(at);
                self.places.peers.insert((server, peer.clone()), line);
            }
        }
        let vnet = self.networks[network?].vnet.name.clone();
        Some(RouteServer {
            asn,
            reflect_between_nvas,
            max_paths,
            restart_time,
            refresh_time: section.number("refresh_time", 1..=3600, 600, report),
            require_policy: section.boolean("require_policy", false, report),
            connection_rate: section.number("connection_rate", 1..=1000, 10, report),
            peers: peers.into_iter().map(|(_, peer)| peer).collect(),
            dynamic_peers: dynamic_peers.into_iter().map(|(_, peers)| peers).collect(),
            ..RouteServer::new(name?.value.0.as_str().into(), vnet, instances?)
        })
    }

    /// Index of the network that a route server is attached to.
    fn network(&mut self, name: &Located<Name>, label: &str, report: &mut Report) -> Option<usize> {
        let wanted = name.value.0.as_str();
        let found = self
            .networks
            .iter()
            .position(|network| network.vnet.name.as_str() == wanted);
        let meant = |network: &Network| network.vnet.name.as_str() == NAMELESS;
        if found.is_none() && !self.networks.iter().any(meant) {
            let known: Vec<_> = self
                .networks
                .iter()
                .map(|network| network.vnet.name.as_str())
                .collect();
            report.fault(
                name.at,
                format!("route server {label}: there is no network \"{wanted}\""),
                format!("name one of: {}", known.join(", ")),
            );
        }
        found?;
        let owner = format!("route server {label}");
        self.served.claim(wanted.into(), owner, name.at, report);
        found
    }

    fn instances(
        &mut self,
        section: &Section<'_, '_>,
        label: &str,
        network: Option<usize>,
        report: &mut Report,
    ) -> Option<[Instance; 2]> {
        let sections = section.subsections("instance", &schema::INSTANCE, report);
        if sections.len() != 2 {
            report.fault(
                section.at,
                format!(
                    "route server {label} has {} [[route_server.instance]]",
                    sections.len()
                ),
                "give it exactly two, with id = 1 and id = 2",
            );
        }
        let mut ids = Claims::of("id");
        let mut router_ids = Claims::of("router id");
        let mut instances: Vec<Instance> = sections
            .iter()
            .filter_map(|section| {
                let before = report.faults();
                let (instance, at) = self.instance(section, label, network, report)?;
                let owner = format!("instance {} of {label}", instance.id);
                ids.claim(instance.id, &owner, at, report);
                if report.faults() == before {
                    router_ids.claim(instance.router_id, &owner, at, report);
                }
                Some(instance)
            })
            .collect();
        instances.sort_by_key(|instance| instance.id);
        instances.try_into().ok()
    }

    fn instance(
        &mut self,
        section: &Section<'_, '_>,
        label: &str,
        network: Option<usize>,
        report: &mut Report,
    ) -> Option<(Instance, usize)> {
        section.require("id", report);
        let id = section.integer("id", 1..=2_u8, report);
        let owner = match &id {
            Some(id) => format!("instance {} of {label}", id.value),
            None => format!("an instance of {label}"),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in section.required_list::<Address>("addresses", report) {
            let Located {
                value: Address(address),
                at,
            } = address;
            if let Some(other) = addresses
                .iter()
                .find(|other| other.is_ipv4() == address.is_ipv4())
            {
                report.fault(
                    at,
                    format!("{owner} has {other} and {address}, two addresses of one family"),
                    "keep one IPv4 and one IPv6 address at the most",
                );
                continue;
            }
            self.claim_instance_address(address, &owner, at, network, report);
            addresses.push(address);
        }
        let router_id = section.text::<RouterId>("router_id", report);
        let router_id = router_id
            .map(|id| id.value.0)
            .or_else(|| addresses.iter().find_map(ipv4));
        if router_id.is_none() && !addresses.is_empty() {
            report.fault(
                section.at,
                format!("{owner} has no IPv4 address to serve as its router id"),
                "add router_id = \"…\", an IPv4 address that no other speaker uses",
            );
        }
        let instance = Instance {
            id: InstanceId(id?.value),
            router_id: router_id?,
            addresses,
        };
        Some((instance, section.at))
    }

    fn claim_instance_address(
        &mut self,
        address: IpAddr,
        owner: &str,
        at: usize,
        network: Option<usize>,
        report: &mut Report,
    ) {
        self.places
            .instance_addresses
            .insert(address, report.line_of(at));
        let before = report.faults();
        self.listening.claim(address, owner, at, report);
        let Some(network) = network.map(|index| &mut self.networks[index]) else {
            return;
        };
        if report.faults() == before {
            network.claim_own(address, owner, at, report);
        }
        if network.complete && !network.vnet.contains(address) {
            report.fault(
                at,
                format!(
                    "address {address} of {owner} lies outside network {}",
                    network.vnet.name
                ),
                "give an address within the network, best in a subnet of the route server's own",
            );
        }
    }

    fn peers(
        &self,
        section: &Section<'_, '_>,
        common: Common,
        names: &mut Claims<String>,
        instances: Option<&[Instance; 2]>,
        network: Option<usize>,
        report: &mut Report,
    ) -> Vec<(usize, Peer)> {
        let mut addresses = Claims::of("address");
        let mut peers = Vec::new();
        for section in section.subsections("peer", &schema::PEER, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let owner = format!("peer {label}");
            if let Some(name) = &name {
                names.claim(name.value.0.clone(), "a peer", name.at, report);
            }
            let address = section.required_text::<Address>("address", report);
            if let Some(address) = &address {
                addresses.claim(address.value.0, &owner, address.at, report);
                self.check_peer_address(address, &owner, instances, network, report);
            }
            let passive = section.boolean("passive", false, report);
            let connect_retry = section.number("connect_retry", 1..=3600, 5, report);
            let settings = peer::read_settings(&section, common, &owner, report);
            if let (Some(name), Some(address), Some(settings)) = (name, address, settings) {
                let peer = Peer {
                    name: name.value.0.as_str().into(),
                    address: address.value.0,
                    passive,
                    connect_retry,
                    ..settings
                };
                peers.push((section.at, peer));
            }
        }
        peers
    }

    fn dynamic_peers(
        &self,
        section: &Section<'_, '_>,
        common: Common,
        names: &mut Claims<String>,
        network: Option<usize>,
        report: &mut Report,
    ) -> Vec<(usize, DynamicPeers)> {
        let mut all: Vec<(usize, DynamicPeers)> = Vec::new();
        for section in section.subsections("dynamic_peer", &schema::DYNAMIC_PEER, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let owner = format!("dynamic peers {label}");
            if let Some(name) = &name {
                names.claim(name.value.0.clone(), "dynamic peers", name.at, report);
            }
            let prefix = section.required_text::<Prefix>("prefix", report);
            if let Some(prefix) = &prefix {
                self.check_peer_prefix(prefix, &owner, network, &all, report);
            }
            let max_peers = section.number("max_peers", 1..=u16::MAX, 100, report);
            let template = peer::read_settings(&section, common, &owner, report);
            if let (Some(name), Some(prefix), Some(template)) = (name, prefix, template) {
                let peers = DynamicPeers {
                    name: name.value.0.as_str().into(),
                    prefix: prefix.value.0,
                    max_peers,
                    template: Peer {
                        passive: true,
                        ..template
                    },
                };
                all.push((section.at, peers));
            }
        }
        all
    }

    fn check_peer_prefix(
        &self,
        prefix: &Located<Prefix>,
        owner: &str,
        network: Option<usize>,
        others: &[(usize, DynamicPeers)],
        report: &mut Report,
    ) {
        let Located {
            value: Prefix(prefix),
            at,
        } = prefix;
        let mut others = others.iter().map(|(_, other)| other);
        if let Some(other) = others.find(|other| overlap(&other.prefix, prefix)) {
            report.fault(
                *at,
                format!(
                    "prefix {prefix} of {owner} overlaps {} of dynamic peers {}",
                    other.prefix, other.name
                ),
                "give each dynamic_peer a range of its own",
            );
        }
        let network = network.map(|index| &self.networks[index]);
        let outside = |network: &&Network| {
            let mut space = network.vnet.prefixes.iter();
            network.complete && !space.any(|own| own.contains(prefix))
        };
        if let Some(network) = network.filter(outside) {
            report.fault(
                *at,
                format!(
                    "prefix {prefix} of {owner} lies outside network {}",
                    network.vnet.name
                ),
                "give a range that the appliances' addresses come from within the network",
            );
        }
    }

    fn check_peer_address(
        &self,
        address: &Located<Address>,
        owner: &str,
        instances: Option<&[Instance; 2]>,
        network: Option<usize>,
        report: &mut Report,
    ) {
        let Located {
            value: Address(address),
            at,
        } = *address;
        if let Some(network) = network.map(|index| &self.networks[index]) {
            if network.complete && !network.vnet.contains(address) {
                report.fault(
                    at,
                    format!(
                        "address {address} of {owner} lies outside network {}",
                        network.vnet.name
                    ),
                    "give the address that the appliance has within the network",
                );
            }
            if let Some((other, place)) = network.own.owner(&address) {
                let line = report.line_of(place);
                report.fault(
                    at,
                    format!("address {address} of {owner} is that of {other} (line {line})"),
                    "give the address of the appliance",
                );
            }
        }
        for instance in instances.into_iter().flatten() {
            if !speaks(instance, address) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                report.fault(
                    at,
                    format!(
                        "{owner} has the {family} address {address}, but instance {} has none",
                        instance.id
                    ),
                    format!(
                        "add an {family} address to the instance, or peer over the other family"
                    ),
                );
            }
        }
    }
}

pub(super) fn usable_asn(asn: &Located<Asn>, owner: &str, report: &mut Report) -> Option<Asn> {
    let why = match asn.value {
        0 => "reserved (RFC 7607)",
        23456 => "AS_TRANS, reserved (RFC 6793)",
        65535 | Asn::MAX => "reserved (RFC 7300)",
        usable => return Some(usable),
    };
    report.fault(
        asn.at,
        format!("asn {} of {owner} is {why}", asn.value),
        "choose another one, for private use 64512 to 65534 or 4200000000 to 4294967294",
    );
    None
}

/// The most peers of a route server: each has a session with both instances, and the RIB numbers
/// sessions in 16 bits.
const MAX_PEERS: usize = 32_000;

fn check_number(peers: &[(usize, Peer)], dynamic: &[(usize, DynamicPeers)], report: &mut Report) {
    let ranges = dynamic.iter();
    let at_a_time = ranges.map(|(at, peers)| (*at, usize::from(peers.max_peers)));
    let mut all = 0;
    for (at, number) in peers.iter().map(|(at, _)| (*at, 1)).chain(at_a_time) {
        let before = all;
        all += number;
        if before <= MAX_PEERS && all > MAX_PEERS {
            report.fault(
                at,
                format!("from here on there may be {all} peers at a time"),
                format!("a route server has at most {MAX_PEERS}: lower max_peers"),
            );
        }
    }
}

/// The kernel asks a configured peer for the key of the range around it, unless it has its own.
fn check_keys(peers: &[(usize, Peer)], ranges: &[(usize, DynamicPeers)], report: &mut Report) {
    for (at, peer) in peers {
        let has_key = |peer: &Peer| {
            let Security {
                md5_password,
                tcp_ao,
                ..
            } = &peer.security;
            md5_password.is_some() || !tcp_ao.is_empty()
        };
        let mut around = ranges.iter().map(|(_, range)| range);
        let around = around.find(|range| range.prefix.contains(&peer.address));
        if let Some(range) = around.filter(|range| has_key(&range.template) && !has_key(peer)) {
            report.fault(
                *at,
                format!(
                    "peer {} has no key, but its address {} lies within {} of dynamic peers {}, \
                     which have one: the kernel would ask it for theirs",
                    peer.name, peer.address, range.prefix, range.name
                ),
                "give the peer a key of its own, or the range another prefix",
            );
        }
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn speaks(instance: &Instance, peer: IpAddr) -> bool {
    instance
        .addresses
        .iter()
        .any(|address| address.is_ipv4() == peer.is_ipv4())
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

impl Vnet {
    /// Whether an address lies within the network's space.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}
