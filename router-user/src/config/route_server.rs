//! `[[route_server]]`: its settings, and what stands in the sections below it.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Peer, RouteServer, RoutingPreference, Vnet,
    claims::Claims,
    custom,
    fault::Report,
    networks::Networks,
    peer::Common,
    peering::Served,
    peers::{PeerReader, Placed},
    places::Places,
    route_map::{self, RouteMapsRead},
    schema,
    section::{Located, Section},
    values::{Name, RouterId},
};
use crate::{
    bgp::wire::Asn,
    names::{GatewayName, PeerName, RouteServerName, VnetName},
};

/// ASN of a route server that names none.
pub(super) const DEFAULT_ASN: Asn = 65515;

/// Most ECMP members.
const MAX_PATHS: u8 = 64;

/// The words of `routing_preference`.
const PREFERENCES: [(&str, RoutingPreference); 3] = [
    (
        RoutingPreference::ExpressRoute.word(),
        RoutingPreference::ExpressRoute,
    ),
    (
        RoutingPreference::VpnGateway.word(),
        RoutingPreference::VpnGateway,
    ),
    (RoutingPreference::AsPath.word(), RoutingPreference::AsPath),
];

/// Reads all route servers.
pub(super) struct Reader<'r> {
    pub(super) networks: &'r mut Networks,
    names: Claims<RouteServerName>,
    /// A network has one route server.
    served: Claims<VnetName>,
    /// Of each route server the network is known.
    all_attached: bool,
    /// Instances listen on the host: their addresses are unique over all networks.
    pub(super) listening: Claims<IpAddr>,
    pub(super) places: &'r mut Places,
    /// The first peer of each address.
    placed: HashMap<IpAddr, Placed>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(networks: &'r mut Networks, places: &'r mut Places) -> Self {
        Self {
            networks,
            names: Claims::of("name"),
            served: Claims::of("network"),
            all_attached: true,
            listening: Claims::of("address"),
            places,
            placed: HashMap::new(),
        }
    }

    pub(super) fn read_all(
        &mut self,
        root: &Section<'_, '_>,
        report: &mut Report,
    ) -> Vec<RouteServer> {
        root.subsections("route_server", &schema::ROUTE_SERVER, report)
            .iter()
            .filter_map(|section| self.read(section, report))
            .collect()
    }

    /// Which networks have route servers, and the networks.
    pub(super) fn served(&self) -> (Served<'_>, &Networks) {
        let served = Served {
            claims: &self.served,
            complete: self.all_attached,
        };
        (served, &*self.networks)
    }

    fn read(&mut self, section: &Section<'_, '_>, report: &mut Report) -> Option<RouteServer> {
        let name = section.required_text::<Name>("name", report);
        if let Some(name) = &name {
            let key = RouteServerName::from(name.value.0.as_str());
            self.names.claim(key, "a route server", name.at, report);
        }
        let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
        let vnet = section.required_text::<Name>("vnet", report);
        let network = vnet.and_then(|vnet| self.network(&vnet, &label, report));
        self.all_attached &= network.is_some();
        let asn = section
            .integer("asn", 0..=Asn::MAX, report)
            .and_then(|asn| usable_asn(&asn, "the route server", report))
            .unwrap_or(DEFAULT_ASN);
        let instances = self.instances(section, &label, network, report);
        let restart_time = section.number("restart_time", 0..=4095, 120, report);
        let common = Common {
            local_asn: asn,
            restart_time,
        };
        let mut reader = PeerReader::new(self.networks, common, instances.as_ref(), network);
        let peers = reader.peers(section, report);
        let dynamic_peers = reader.dynamic_peers(section, report);
        let gateways = reader.gateways(section, report);
        reader.check(report);
        let PeerReader {
            recipients,
            map_uses: mut uses,
            placed,
            ..
        } = reader;
        self.warn_of_twins(placed, report);
        let route_maps_of_kind = route_map::read_of_kinds(section, &mut uses, report);
        let route_maps = RouteMapsRead::read(section, &recipients, report);
        let route_maps = route_maps.finish(&uses, report);
        let learned = custom::read_learned(section, self.networks, network, report);
        let advertised = custom::read_advertised(
            section,
            &recipients,
            &gateways,
            &custom::default_originators(&peers, &dynamic_peers, &gateways),
            self.networks,
            network,
            report,
        );
        if name.is_some() {
            let configured = peers.iter().map(|(at, peer)| (peer.name.clone(), *at));
            let dynamic = dynamic_peers.iter();
            let dynamic = dynamic.map(|(at, peers)| (peers.name.clone(), *at));
            let members = gateways.iter();
            let members = members.map(|(at, gateway)| (as_peer(&gateway.name), *at));
            for (peer, at) in configured.chain(dynamic).chain(members) {
                let place = (label.as_str().into(), peer);
                self.places.peers.insert(place, report.line_of(at));
            }
        }
        let vnet = network.map(|network| self.networks.at(network).vnet.name.clone());
        let preference = section.choice("routing_preference", &PREFERENCES, report);
        let cluster_id = section.text::<RouterId>("cluster_id", report);
        let soft_max_peers = section.number("soft_max_peers", 0..=u16::MAX, 8, report);
        warn_of_many(section, &label, &peers, soft_max_peers, report);
        let server = RouteServer {
            asn,
            reflect_between_nvas: section.boolean("reflect_between_nvas", true, report),
            max_paths: section.number("max_paths", 1..=MAX_PATHS, 8, report),
            restart_time,
            refresh_time: section.number("refresh_time", 1..=3600, 600, report),
            require_policy: section.boolean("require_policy", false, report),
            connection_rate: section.number("connection_rate", 1..=1000, 10, report),
            branch_to_branch: section.boolean("branch_to_branch", false, report),
            routing_preference: preference.map_or_else(Default::default, |found| found.value),
            always_compare_med: section.boolean("always_compare_med", false, report),
            soft_max_peers,
            peers: values(peers),
            dynamic_peers: values(dynamic_peers),
            gateways: values(gateways),
            route_maps,
            route_maps_of_kind,
            learned,
            advertised,
            ..RouteServer::new(name?.value.0.as_str().into(), vnet?, instances?)
        };
        Some(RouteServer {
            cluster_id: cluster_id.map_or(server.cluster_id, |id| id.value.0),
            ..server
        })
    }

    /// Networks that are not peered may use the same addresses, but the host sends what is for one of
    /// two such peers by one route.
    fn warn_of_twins(&mut self, placed: Vec<Placed>, report: &mut Report) {
        for peer in placed {
            let Some(first) = self.placed.get(&peer.address) else {
                self.placed.insert(peer.address, peer);
                continue;
            };
            if first.network == peer.network {
                continue;
            }
            let name = |placed: &Placed| self.networks.at(placed.network).vnet.name.clone();
            let line = report.line_of(first.at);
            report.warning(
                peer.at,
                format!(
                    "address {} of {} in network {} is also that of {} in network {} (line {line}): \
                     the host connects to both by the same route",
                    peer.address,
                    peer.owner,
                    name(&peer),
                    first.owner,
                    name(first)
                ),
                "give one of them another address, or have the host choose the way by source address",
            );
        }
    }

    /// Index of the network that a route server is attached to.
    fn network(&mut self, name: &Located<Name>, label: &str, report: &mut Report) -> Option<usize> {
        let wanted = VnetName::from(name.value.0.as_str());
        let owner = format!("route server {label}");
        let found = self.networks.find(&wanted);
        if found.is_none() {
            self.networks
                .refuse_unknown(&wanted, &owner, name.at, report);
        }
        found?;
        self.served.claim(wanted, owner, name.at, report);
        found
    }
}

/// A gateway stands among the peers under its name.
fn as_peer(gateway: &GatewayName) -> PeerName {
    gateway.as_str().into()
}

/// So many sections are allowed, but a reader may want to hear of them. What limits peers is how many
/// there may be at a time ([`PeerReader::check`]).
fn warn_of_many(
    section: &Section<'_, '_>,
    server: &str,
    peers: &[(usize, Peer)],
    most: u16,
    report: &mut Report,
) {
    if peers.len() > usize::from(most) {
        report.warning(
            section.place("soft_max_peers"),
            format!(
                "route server {server} has {} peers, more than soft_max_peers = {most}",
                peers.len()
            ),
            "raise soft_max_peers if so many are meant",
        );
    }
}

fn values<T>(located: Vec<(usize, T)>) -> Vec<T> {
    located.into_iter().map(|(_, value)| value).collect()
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

impl Vnet {
    /// Whether an address lies within the network's space.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}
