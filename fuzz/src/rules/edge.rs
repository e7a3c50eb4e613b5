//! Between the model's types and the product's: a state as a configuration, routes as attributes, and
//! back.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use ipnet::IpNet;
use router_user::{
    api::types::LearnedRow,
    bgp::{
        InstanceId, SessionId,
        wire::{AsPath, NextHop, Origin, PathAttributes},
    },
    config,
    fib::{self, Group},
    names::VnetName,
};

use super::model::{
    Advertised, AsPath as AsPattern, Changes, Fate, Forward, Hops, Kind, LARGE_COMMUNITY, Maps,
    Network, Peer, Preference, Prefix, Route, RouteMap, Rule, Server, SessionKey, Source, Standing,
    State, Step, Table, Way,
};

// -- To the product ----------------------------------------------------------------------------

/// Most routes that a session may announce, and be sent, of a family. Passed often. What the route
/// server originates is sent in any case.
pub(super) const MOST: usize = 2;

/// Which of the two limits is kept to; passing the others is only said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limits {
    None,
    Announced,
    Sent,
}

pub(super) fn config(state: &State, limits: Limits) -> config::Config {
    let networks = state.networks.iter().enumerate();
    let tables = state.tables.iter().enumerate();
    let servers = state.servers.iter().enumerate();
    config::Config {
        daemon: config::DaemonConfig::default(),
        dataplane: config::DataplaneConfig {
            instance: "default".to_owned(),
            bpffs: PathBuf::new(),
            require_native: false,
            max_routes_v4: 1 << 20,
            max_routes_v6: 1 << 20,
            flow_seed: 1,
            icmp_rate: 100,
        },
        vnets: networks.map(|(place, this)| network(place, this)).collect(),
        route_tables: tables.map(|(place, this)| table(place, this)).collect(),
        route_servers: servers
            .map(|(place, this)| server(place, this, limits))
            .collect(),
    }
}

fn network(place: usize, network: &Network) -> config::Vnet {
    let subnets = network.subnets.iter().enumerate().map(|(number, subnet)| {
        let ports = subnet
            .ports
            .iter()
            .enumerate()
            .map(|(port, this)| config::Port {
                interface: port_name(place, number, port).as_str().into(),
                addresses: this.addresses.clone(),
                mac: None,
                ip_forwarding: this.forwards,
            });
        config::Subnet {
            name: subnet_name(number).as_str().into(),
            prefixes: subnet.prefixes.iter().copied().map(ip_net).collect(),
            gateways: subnet.host.clone(),
            ports: ports.collect(),
            route_table: subnet.table.map(|table| table_name(table).as_str().into()),
        }
    });
    let peerings = network
        .peerings
        .iter()
        .map(|(remote, peering)| config::Peering {
            use_remote_route_server: peering.use_remote,
            allow_gateway_transit: peering.allow_transit,
            allow_forwarded_traffic: peering.allow_forwarded,
            ..config::Peering::new(vnet_name(*remote))
        });
    config::Vnet {
        name: vnet_name(place),
        prefixes: network.prefixes.iter().copied().map(ip_net).collect(),
        uplink: network.uplink.clone(),
        subnets: subnets.collect(),
        peerings: peerings.collect(),
    }
}

fn table(place: usize, table: &Table) -> config::RouteTable {
    let routes = table
        .routes
        .iter()
        .map(|(prefix, way)| config::UserDefinedRoute {
            prefix: ip_net(*prefix),
            next_hop: match way {
                Way::Appliance(address) => config::UserDefinedNextHop::VirtualAppliance(*address),
                Way::Gateway => config::UserDefinedNextHop::VirtualNetworkGateway,
                Way::Network => config::UserDefinedNextHop::VirtualNetwork,
                Way::Internet => config::UserDefinedNextHop::Internet,
                Way::Nowhere => config::UserDefinedNextHop::None,
            },
        });
    config::RouteTable {
        name: table_name(place).as_str().into(),
        propagate: config::Propagate {
            nva: table.propagate.contains(&Kind::Nva),
            express_route: table.propagate.contains(&Kind::ExpressRoute),
            vpn: table.propagate.contains(&Kind::Vpn),
        },
        routes: routes.collect(),
    }
}

fn server(place: usize, server: &Server, limits: Limits) -> config::RouteServer {
    let [first, second] = &server.instances;
    let instance = |id, instance: &super::model::Instance| config::Instance {
        id: InstanceId(id),
        router_id: instance.router_id.into(),
        addresses: instance.addresses.clone(),
    };
    let instances = [instance(1, first), instance(2, second)];
    let mut gateways: Vec<config::Gateway> = Vec::new();
    for peer in server.peers.iter().filter(|peer| peer.configured) {
        let Some(membership) = membership(peer) else {
            continue;
        };
        let name = membership.gateway.clone();
        match gateways.iter_mut().find(|gateway| gateway.name == name) {
            Some(gateway) => {
                if let config::GatewayMembers::Addresses(members) = &mut gateway.members {
                    members.push(peer.address);
                }
            }
            None => gateways.push(config::Gateway {
                name,
                kind: membership.kind,
                members: config::GatewayMembers::Addresses(vec![peer.address]),
                template: product_peer(0, peer, limits),
            }),
        }
    }
    let peers = server.peers.iter().enumerate();
    let statics = server.statics.iter();
    let statics = statics.map(|(prefix, next_hops)| config::CustomLearned {
        prefix: ip_net(*prefix),
        next_hops: next_hops.iter().copied().collect(),
    });
    let advertised = server.advertised.iter();
    let advertised = advertised.map(|(prefix, this)| config::CustomAdvertised {
        prefix: ip_net(*prefix),
        to: recipients(server, this),
        next_hop: this.next_hop,
        med: this.med,
        communities: communities(&this.communities),
    });
    config::RouteServer {
        asn: server.asn,
        reflect_between_nvas: server.reflect,
        max_paths: u8::try_from(server.max_paths).expect("at most 64"),
        branch_to_branch: server.branch_to_branch,
        routing_preference: match server.preference {
            Preference::ExpressRoute => config::RoutingPreference::ExpressRoute,
            Preference::VpnGateway => config::RoutingPreference::VpnGateway,
            Preference::AsPath => config::RoutingPreference::AsPath,
        },
        always_compare_med: server.always_compare_med,
        route_maps: route_maps(server),
        route_maps_of_kind: server
            .maps_of_kind
            .iter()
            .map(|(kind, maps)| (peer_kind(*kind), route_map_names(*maps)))
            .collect(),
        learned: statics.collect(),
        advertised: advertised.collect(),
        cluster_id: server.cluster_id.into(),
        peers: peers
            .filter(|(_, peer)| peer.configured)
            .map(|(number, peer)| product_peer(number, peer, limits))
            .collect(),
        gateways,
        ..config::RouteServer::new(
            server_name(place).as_str().into(),
            vnet_name(server.network),
            instances,
        )
    }
}

fn membership(peer: &Peer) -> Option<config::Membership> {
    (peer.kind != Kind::Nva).then(|| config::Membership {
        gateway: gateway_name(peer).as_str().into(),
        kind: peer_kind(peer.kind),
    })
}

fn peer_kind(kind: Kind) -> config::PeerKind {
    match kind {
        Kind::Nva => config::PeerKind::Nva,
        Kind::ExpressRoute => config::PeerKind::ExpressRoute,
        Kind::Vpn => config::PeerKind::Vpn,
    }
}

fn recipients(server: &Server, advertised: &Advertised) -> Vec<config::Recipient> {
    let kinds = advertised.to.iter();
    let kinds = kinds.map(|kind| config::Recipient::Kind(peer_kind(*kind)));
    let peers = advertised.to_peers.iter();
    let mut recipients: Vec<_> = peers
        .map(|place| config::Recipient::Peer(peer_or_gateway(server, *place).as_str().into()))
        .chain(kinds)
        .collect();
    // Several places of one gateway.
    recipients.dedup();
    recipients
}

fn communities<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> Vec<config::CommunityValue> {
    let value = |number: &u32| match large(*number) {
        Some(large) => config::CommunityValue::Large(large),
        None => config::CommunityValue::Standard(*number),
    };
    numbers.into_iter().map(value).collect()
}

/// The large community that a number stands for, if it is one.
fn large(number: u32) -> Option<[u32; 3]> {
    let low = number & 0xffff;
    (number & !0xffff == LARGE_COMMUNITY).then_some([LARGE_ADMINISTRATOR, 0, low])
}

const LARGE_ADMINISTRATOR: u32 = 65000;

fn route_map_names(maps: Maps) -> config::RouteMaps {
    let name = |place: usize| map_name(place).as_str().into();
    config::RouteMaps {
        inbound: maps.inbound.map(name),
        outbound: maps.outbound.map(name),
    }
}

fn route_maps(server: &Server) -> Vec<config::RouteMap> {
    let map = |(place, map): (usize, &RouteMap)| {
        let rules = map.0.iter().enumerate();
        config::RouteMap {
            name: map_name(place).as_str().into(),
            rules: rules
                .map(|(place, this)| rule(server, place, this))
                .collect(),
        }
    };
    server.route_maps.iter().enumerate().map(map).collect()
}

fn rule(server: &Server, place: usize, rule: &Rule) -> config::RouteMapRule {
    let prefix = |(prefix, shortest, longest): &(Prefix, u8, u8)| config::PrefixPattern {
        prefix: ip_net(*prefix),
        lengths: (*shortest, *longest),
    };
    let as_path = |pattern: &AsPattern| match pattern {
        AsPattern::Contains(asn) => config::AsPathPattern::Contains(*asn),
        AsPattern::Exact(asns) => config::AsPathPattern::Exact(asns.clone()),
    };
    let source = |source: &Source| match source {
        Source::Kind(kind) => config::SourcePattern::Kind(peer_kind(*kind)),
        Source::Static => config::SourcePattern::Static,
        Source::Originated => config::SourcePattern::Originated,
        Source::Peer(place) => {
            config::SourcePattern::Peer(peer_or_gateway(server, *place).as_str().into())
        }
    };
    let matches = &rule.matches;
    config::RouteMapRule {
        name: (place + 1).to_string(),
        matches: config::Match {
            prefixes: matches.prefixes.iter().map(prefix).collect(),
            communities: communities(&matches.communities),
            as_paths: matches.as_paths.iter().map(as_path).collect(),
            sources: matches.sources.iter().map(source).collect(),
        },
        action: match &rule.permit {
            None => config::RouteMapAction::Drop,
            Some(changes) => config::RouteMapAction::Permit(Box::new(route_changes(changes))),
        },
        continues: rule.continues,
    }
}

fn route_changes(changes: &Changes) -> config::RouteChanges {
    config::RouteChanges {
        as_path_replace: changes.as_path_replace.clone(),
        as_path_prepend: changes.as_path_prepend.clone(),
        community_replace: changes.community_replace.as_ref().map(communities),
        community_remove: communities(&changes.community_remove),
        community_add: communities(&changes.community_add),
        local_pref: changes.local_pref,
        med: changes.med,
        weight: changes.weight,
        next_hop: changes.next_hop,
    }
}

fn product_peer(number: usize, peer: &Peer, limits: Limits) -> config::Peer {
    let action = |of| match limits == of {
        true => config::LimitAction::Discard,
        false => config::LimitAction::Warn,
    };
    let most = u32::try_from(MOST).expect("few");
    config::Peer {
        membership: membership(peer),
        policy: config::PeerPolicy {
            allow_own_as: u8::try_from(peer.policy.allow_own_as).expect("at most 10"),
            enforce_first_as: peer.policy.enforce_first_as,
            max_as_path_length: u16::try_from(peer.policy.max_as_path_length).expect("16 bits"),
            as_override: peer.policy.as_override,
            transparent: peer.policy.transparent,
            remove_private_as: peer.policy.remove_private_as,
            allow_blackhole: peer.policy.allow_blackhole,
            default_originate: peer.policy.default_originate,
            ..config::PeerPolicy::default()
        },
        route_maps: route_map_names(peer.maps),
        max_prefixes: most,
        limit_action: action(Limits::Announced),
        max_advertised: Some(most),
        advertised_limit_action: action(Limits::Sent),
        ..config::Peer::new(peer_name(number).as_str().into(), peer.address, peer.asn)
    }
}

pub(super) fn attributes(route: &Route) -> Arc<PathAttributes> {
    let next_hop: NextHop = match route.next_hop {
        IpAddr::V4(address) => NextHop::V4(address),
        IpAddr::V6(global) => NextHop::V6 {
            global,
            link_local: None,
        },
    };
    let standard = route.communities.iter().copied();
    let standard = standard.filter(|number| large(*number).is_none());
    Arc::new(PathAttributes {
        origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][usize::from(route.origin)],
        as_path: AsPath::sequence(route.as_path.iter().copied()),
        next_hop: Some(next_hop),
        med: route.med,
        local_pref: route.local_pref,
        communities: standard.collect(),
        large_communities: route
            .communities
            .iter()
            .filter_map(|number| large(*number))
            .collect(),
        originator_id: route.originator.map(Into::into),
        cluster_list: route.clusters.iter().map(|id| (*id).into()).collect(),
        ..PathAttributes::default()
    })
}

pub(super) fn session(state: &State, key: SessionKey) -> SessionId {
    SessionId {
        route_server: server_name(key.server).as_str().into(),
        instance: InstanceId(key.instance as u8 + 1),
        peer: state.peer(key).address,
    }
}

pub(super) fn ip_net(prefix: Prefix) -> IpNet {
    IpNet::new(prefix.address, prefix.len).expect("a prefix")
}

pub(super) fn server_name(place: usize) -> String {
    format!("server{place}")
}

pub(super) fn vnet_name(place: usize) -> VnetName {
    format!("net{place}").as_str().into()
}

pub(super) fn subnet_name(number: usize) -> String {
    format!("subnet{number}")
}

pub(super) fn port_name(network: usize, subnet: usize, port: usize) -> String {
    format!("p{network}-{subnet}-{port}")
}

fn peer_name(place: usize) -> String {
    format!("peer{place}")
}

fn gateway_name(peer: &Peer) -> String {
    format!("gateway{}", peer.gateway)
}

/// What a peer is called by others: a member of a gateway by the gateway's name.
fn peer_or_gateway(server: &Server, place: usize) -> String {
    let peer = &server.peers[place];
    match peer.kind {
        Kind::Nva => peer_name(place),
        _ => gateway_name(peer),
    }
}

fn map_name(place: usize) -> String {
    format!("map{place}")
}

fn table_name(place: usize) -> String {
    format!("table{place}")
}

// -- From the product --------------------------------------------------------------------------

pub(super) fn prefix(net: IpNet) -> Prefix {
    Prefix {
        address: net.network(),
        len: net.prefix_len(),
    }
}

pub(super) fn route(attributes: &PathAttributes) -> Route {
    let next_hop = attributes.next_hop.expect("a route has a next hop");
    let others = PathAttributes {
        origin: attributes.origin,
        as_path: attributes.as_path.clone(),
        next_hop: attributes.next_hop,
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: attributes.communities.clone(),
        large_communities: attributes.large_communities.clone(),
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list.clone(),
        ..PathAttributes::default()
    };
    assert_eq!(*attributes, others, "attributes that nobody announced");
    Route {
        next_hop: next_hop.address(),
        as_path: attributes.as_path.asns().collect(),
        origin: match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        },
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: attributes
            .large_communities
            .iter()
            .map(|[.., low]| LARGE_COMMUNITY | low)
            .chain(attributes.communities.iter().copied())
            .collect(),
        originator: attributes.originator_id.map(u32::from),
        clusters: attributes
            .cluster_list
            .iter()
            .map(|id| u32::from(*id))
            .collect(),
    }
}

/// What a row says of a path, in its words for people.
pub(super) fn standing(row: &LearnedRow) -> Standing {
    let why = row.reason.as_deref().unwrap_or_default();
    match row.state.as_str() {
        "best" => Standing::Best,
        "multipath" => Standing::Multipath,
        "lost" => match why {
            "equal to the best path, but a better path has the same next hop" => {
                Standing::SameNextHop
            }
            "equal to the best path, but the ECMP set is full" => Standing::Full,
            _ => Standing::Lost(match why {
                "stale (LLGR_STALE)" => Step::Stale,
                "being shut down (GRACEFUL_SHUTDOWN)" => Step::Shutdown,
                "less preferred kind of source" => Step::Class,
                "lower LOCAL_PREF" => Step::LocalPref,
                "longer AS path" => Step::AsPath,
                "higher origin" => Step::Origin,
                "higher MED than a path that it is compared with" => Step::Med,
                "iBGP, the best path is eBGP" => Step::Internal,
                _ => panic!("a step without a name: {row:?}"),
            }),
        },
        "rejected" => {
            let names = |setting| why.contains(setting);
            Standing::Refused(if why.starts_with("loop: ") {
                Fate::Looped
            } else if names("(enforce_first_as)") {
                Fate::FirstAs
            } else if names("(max_as_path_length)") {
                Fate::TooLong
            } else if names("(vnet.peering)") {
                Fate::OutOfReach
            } else if why.starts_with("next hop is ") {
                Fate::BadNextHop
            } else if why.starts_with("dropped by rule ") {
                Fate::Dropped
            } else {
                panic!("a reason that nothing gives: {row:?}")
            })
        }
        _ => panic!("a state that no path has: {row:?}"),
    }
}

pub(super) fn forward(group: &Group) -> Forward {
    let hops = |members: &[fib::Member]| -> Option<Hops> {
        let mut hops = Hops::new();
        for member in members {
            let fib::NextHop::Via { vnet, address } = &member.next_hop else {
                return None;
            };
            // One that stands there twice has twice its share.
            *hops.entry((place(vnet), *address)).or_default() += member.weight;
        }
        Some(hops)
    };
    if let (Some(members), Some(backups)) = (hops(&group.members), hops(&group.backups)) {
        return Forward::To(members, backups);
    }
    let [only] = &group.members[..] else {
        panic!("a group of unlike next hops: {group:?}");
    };
    match &only.next_hop {
        fib::NextHop::Attached { vnet } => Forward::Attached(place(vnet)),
        fib::NextHop::Host => Forward::Host,
        fib::NextHop::Discard => Forward::Nowhere,
        fib::NextHop::NoUplink => Forward::NoUplink,
        fib::NextHop::Blackhole => Forward::Blackhole,
        fib::NextHop::Via { .. } => unreachable!("taken care of above"),
    }
}

pub(super) fn place(vnet: &VnetName) -> usize {
    let number = vnet.as_str().strip_prefix("net");
    number
        .and_then(|number| number.parse().ok())
        .expect("one of our networks")
}
