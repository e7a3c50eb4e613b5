//! The peers of one route server, whatever section they stand in: who and where they are.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    DynamicPeers, Instance, Peer,
    claims::Claims,
    fault::Report,
    networks::Networks,
    peer::{self, Common},
    route_map::MapUse,
    schema,
    section::{Located, Section},
    space::Space,
    values::{Address, Name, Prefix},
};
use crate::{bgp::settings::Security, names::PeerName};

/// Reads the peers of one route server.
pub(super) struct PeerReader<'r> {
    pub(super) networks: &'r mut Networks,
    pub(super) common: Common,
    pub(super) instances: Option<&'r [Instance; 2]>,
    /// The network of the route server.
    pub(super) network: Option<usize>,
    names: Claims<PeerName>,
    addresses: Claims<IpAddr>,
    /// Peers and gateways by name, those with faults included: whom routes may be from or for.
    pub(super) recipients: HashSet<PeerName>,
    /// Which route maps peers name.
    pub(super) map_uses: Vec<MapUse>,
    /// Each peer with an address of its own.
    configured: Vec<Configured>,
    ranges: Vec<Range>,
    /// Names of peers that have one each, and their places.
    single: Vec<(String, usize)>,
    several: Vec<Several>,
    /// Where the peers are that are known by their address.
    pub(super) placed: Vec<Placed>,
}

/// A peer, and the network that its address lies in.
pub(super) struct Placed {
    pub(super) address: IpAddr,
    /// Index of the network.
    pub(super) network: usize,
    /// For messages: `peer sdwan`.
    pub(super) owner: String,
    pub(super) at: usize,
}

/// Dynamic peers, or the members of a gateway: called by this name and their address.
struct Several {
    name: String,
    /// For messages: `gateway er1`.
    owner: String,
    /// Where they are.
    prefixes: Vec<IpNet>,
    at: usize,
}

/// A peer, or a member of a gateway, that is known by its address.
struct Configured {
    address: IpAddr,
    /// For messages: `peer sdwan`.
    owner: String,
    at: usize,
    has_key: bool,
}

/// Where peers connect from that are not known by address.
struct Range {
    prefix: IpNet,
    /// For messages: `dynamic peers branch`.
    owner: String,
    at: usize,
    /// The gateway has it for itself: no configured peer lies within.
    exclusive: bool,
    has_key: bool,
    max_peers: u16,
}

impl<'r> PeerReader<'r> {
    pub(super) fn new(
        networks: &'r mut Networks,
        common: Common,
        instances: Option<&'r [Instance; 2]>,
        network: Option<usize>,
    ) -> Self {
        Self {
            networks,
            common,
            instances,
            network,
            names: Claims::of("name"),
            addresses: Claims::of("address"),
            recipients: HashSet::new(),
            map_uses: Vec::new(),
            configured: Vec::new(),
            ranges: Vec::new(),
            single: Vec::new(),
            several: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// `[[route_server.peer]]`, each with its place.
    pub(super) fn peers(
        &mut self,
        section: &Section<'_, '_>,
        report: &mut Report,
    ) -> Vec<(usize, Peer)> {
        let mut peers = Vec::new();
        for section in section.subsections("peer", &schema::PEER, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let owner = format!("peer {label}");
            if let Some(name) = &name {
                self.claim_name(name, "a peer", report);
                self.recipients.insert(label.as_str().into());
                self.single.push((label.clone(), name.at));
            }
            let address = section.required_text::<Address>("address", report);
            if let Some(address) = &address {
                self.place_peer(address, &owner, report);
            }
            let passive = section.boolean("passive", false, report);
            let connect_retry = section.number("connect_retry", 1..=3600, 5, report);
            let settings = self.settings(&section, &owner, peer::Asns::External, report);
            if let (Some(_), Some(address), Some(settings)) = (name, address, settings) {
                self.note_configured(&address, &owner, &settings);
                let peer = Peer {
                    name: label.into(),
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

    /// `[[route_server.dynamic_peer]]`, each with its place.
    pub(super) fn dynamic_peers(
        &mut self,
        section: &Section<'_, '_>,
        report: &mut Report,
    ) -> Vec<(usize, DynamicPeers)> {
        let mut all = Vec::new();
        for section in section.subsections("dynamic_peer", &schema::DYNAMIC_PEER, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let owner = format!("dynamic peers {label}");
            if let Some(name) = &name {
                self.claim_name(name, "dynamic peers", report);
            }
            let prefix = section.required_text::<Prefix>("prefix", report);
            if let Some((network, prefix)) = self.network.zip(prefix.as_ref()) {
                let Located { value, at } = prefix;
                let what = format!("prefix {} of {owner}", value.0);
                let remedy =
                    "give a range that the appliances' addresses come from within the network";
                let networks = &mut self.networks;
                if let Some(place) = networks.locate(network, value.0, &what, remedy, *at, report) {
                    networks.at_mut(place).note_forwarders(value.0);
                }
            }
            let prefixes = prefix.iter().map(|prefix| prefix.value.0).collect();
            self.note_several(name.as_ref(), &owner, prefixes);
            let max_peers = section.number("max_peers", 1..=u16::MAX, 100, report);
            let template = self.settings(&section, &owner, peer::Asns::External, report);
            if let (Some(_), Some(prefix), Some(template)) = (name, prefix, template) {
                self.note_range(&prefix, &owner, &template, max_peers, false);
                let peers = DynamicPeers {
                    name: label.into(),
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

    /// What a section says beside who and where.
    pub(super) fn settings(
        &mut self,
        section: &Section<'_, '_>,
        owner: &str,
        asns: peer::Asns,
        report: &mut Report,
    ) -> Option<Peer> {
        let maps = MapUse::read(section, ["route_map_in", "route_map_out"], owner, report);
        let route_maps = MapUse::maps(&maps);
        self.map_uses.extend(maps);
        let settings = peer::read_settings(section, self.common, asns, owner, report)?;
        Some(Peer {
            route_maps,
            ..settings
        })
    }

    /// Claims the name of a peer, or of several: in commands and answers it means nobody else.
    pub(super) fn claim_name(&mut self, name: &Located<Name>, owner: &str, report: &mut Report) {
        let text = name.value.0.as_str();
        let meaning = match text {
            "static" => Some("what routes given by hand are called"),
            "originated" => Some("what the route server's own routes are called"),
            _ if text.parse::<IpAddr>().is_ok() => Some("an address"),
            _ => None,
        };
        if let Some(meaning) = meaning {
            report.fault(
                name.at,
                format!("name \"{text}\" of {owner} is {meaning}"),
                "choose another name",
            );
        }
        self.names.claim(text.into(), owner, name.at, report);
    }

    /// Refuses names of peers that dynamic peers and members of gateways have as well, who are called
    /// by the name of their section and their address.
    fn refuse_derived_names(&self, report: &mut Report) {
        let several: HashMap<&str, &Several> = self
            .several
            .iter()
            .map(|several| (several.name.as_str(), several))
            .collect();
        for (name, at) in &self.single {
            let parts = name.match_indices('-').map(|(dash, _)| name.split_at(dash));
            let mut namesakes = parts.filter_map(|(section, rest)| {
                let several = several.get(section)?;
                let address: IpAddr = rest[1..].parse().ok()?;
                let has = |prefix: &IpNet| prefix.contains(&address);
                several.prefixes.iter().any(has).then_some(several)
            });
            if let Some(several) = namesakes.next() {
                let line = report.line_of(several.at);
                report.fault(
                    *at,
                    format!(
                        "name \"{name}\" of a peer is what one of {} (line {line}) is called",
                        several.owner
                    ),
                    "choose another name",
                );
            }
        }
    }

    /// Notes how those of a section are called who have no names of their own, and where they are.
    pub(super) fn note_several(
        &mut self,
        name: Option<&Located<Name>>,
        owner: &str,
        prefixes: Vec<IpNet>,
    ) {
        if let Some(name) = name {
            self.several.push(Several {
                name: name.value.0.clone(),
                owner: owner.to_owned(),
                prefixes,
                at: name.at,
            });
        }
    }

    /// Checks the address of a peer, which lies in the route server's network or in one that is peered
    /// with it, and is a machine's.
    fn place_peer(&mut self, address: &Located<Address>, owner: &str, report: &mut Report) {
        let Located {
            value: Address(value),
            at,
        } = *address;
        self.claim_address(address, owner, report);
        let Some(network) = self.network else { return };
        let what = format!("address {value} of {owner}");
        let remedy = "give the address that the appliance has within the network";
        let place = self
            .networks
            .locate(network, value.into(), &what, remedy, at, report);
        if let Some(place) = place {
            let network = self.networks.at_mut(place);
            network.note_forwarder(value);
            network.note_machine(value, what, "give the address of the appliance", at);
            self.note_placed(value, place, owner, at);
        }
    }

    pub(super) fn note_placed(&mut self, address: IpAddr, network: usize, owner: &str, at: usize) {
        self.placed.push(Placed {
            address,
            network,
            owner: owner.to_owned(),
            at,
        });
    }

    /// Claims an address for a peer; the instances must speak its family.
    pub(super) fn claim_address(
        &mut self,
        address: &Located<Address>,
        owner: &str,
        report: &mut Report,
    ) {
        let Located {
            value: Address(value),
            at,
        } = *address;
        self.addresses.claim(value, owner, at, report);
        self.refuse_mute_instances(value, owner, at, report);
    }

    /// Both instances speak to a peer from an address of its family.
    pub(super) fn refuse_mute_instances(
        &self,
        peer: IpAddr,
        owner: &str,
        at: usize,
        report: &mut Report,
    ) {
        let mute = |instance: &&Instance| {
            let mut addresses = instance.addresses.iter();
            !addresses.any(|own| own.is_ipv4() == peer.is_ipv4())
        };
        for instance in self.instances.into_iter().flatten().filter(mute) {
            let family = if peer.is_ipv4() { "IPv4" } else { "IPv6" };
            report.fault(
                at,
                format!(
                    "{owner} has the {family} address {peer}, but instance {} has none",
                    instance.id
                ),
                format!("add an {family} address to the instance, or peer over the other family"),
            );
        }
    }

    pub(super) fn note_configured(
        &mut self,
        address: &Located<Address>,
        owner: &str,
        settings: &Peer,
    ) {
        self.configured.push(Configured {
            address: address.value.0,
            owner: owner.to_owned(),
            at: address.at,
            has_key: has_key(settings),
        });
    }

    pub(super) fn note_range(
        &mut self,
        prefix: &Located<Prefix>,
        owner: &str,
        template: &Peer,
        max_peers: u16,
        exclusive: bool,
    ) {
        self.ranges.push(Range {
            prefix: prefix.value.0,
            owner: owner.to_owned(),
            at: prefix.at,
            exclusive,
            has_key: has_key(template),
            max_peers,
        });
    }

    /// Checks peers against ranges, and the number of all of them. Asked once all are read.
    pub(super) fn check(&self, report: &mut Report) {
        let ranges = self.ranges.iter().enumerate();
        let (space, overlaps) = Space::of(ranges.map(|(place, range)| (range.prefix, place)));
        for overlap in overlaps {
            let (a, b) = (overlap.outer.1, overlap.inner.1);
            self.refuse_overlap(&self.ranges[a.max(b)], &self.ranges[a.min(b)], report);
        }
        for peer in &self.configured {
            if let Some((_, place)) = space.of_address(peer.address) {
                check_within(peer, &self.ranges[*place], report);
            }
        }
        self.check_number(report);
        self.refuse_derived_names(report);
    }

    fn refuse_overlap(&self, later: &Range, earlier: &Range, report: &mut Report) {
        report.fault(
            later.at,
            format!(
                "prefix {} of {} overlaps {} of {}",
                later.prefix, later.owner, earlier.prefix, earlier.owner
            ),
            "give each dynamic_peer and each gateway a range of its own",
        );
    }

    fn check_number(&self, report: &mut Report) {
        let ranges = self.ranges.iter();
        let at_a_time = ranges.map(|range| (range.at, usize::from(range.max_peers)));
        let mut all = 0;
        for (at, number) in self
            .configured
            .iter()
            .map(|peer| (peer.at, 1))
            .chain(at_a_time)
        {
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
}

/// The most peers of a route server: each has a session with both instances, and the RIB numbers
/// sessions in 16 bits.
const MAX_PEERS: usize = 32_000;

fn check_within(peer: &Configured, range: &Range, report: &mut Report) {
    let Configured { address, owner, .. } = peer;
    if range.exclusive {
        report.fault(
            range.at,
            format!(
                "prefix {} of {} has the address {address} of {owner} (line {})",
                range.prefix,
                range.owner,
                report.line_of(peer.at)
            ),
            "give the gateway a range of its own, best its subnet, or name its members",
        );
    } else if range.has_key && !peer.has_key {
        // The kernel asks a configured peer for the key of the range around it, unless it has its own.
        report.fault(
            peer.at,
            format!(
                "{owner} has no key, but its address {address} lies within {} of {}, \
                 which have one: the kernel would ask it for theirs",
                range.prefix, range.owner
            ),
            "give the peer a key of its own, or the range another prefix",
        );
    }
}

fn has_key(peer: &Peer) -> bool {
    let Security {
        md5_password,
        tcp_ao,
        ..
    } = &peer.security;
    md5_password.is_some() || !tcp_ao.is_empty()
}
