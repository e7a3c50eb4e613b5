//! Between the model's types and the product's: a state as a configuration, routes as attributes, and
//! back.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use router_user::{
    bgp::{
        InstanceId, SessionId,
        wire::{AsPath, NextHop, Origin, PathAttributes},
    },
    config,
    fib::{self, Group},
    names::VnetName,
};

use super::model::{
    Forward, Hop, Kind, Network, Peer, Preference, Prefix, Route, Server, SessionKey, State, Table,
    Way,
};

// -- To the product ----------------------------------------------------------------------------

pub(super) fn config(state: &State) -> config::Config {
    let networks = state.networks.iter().enumerate();
    let tables = state.tables.iter().enumerate();
    let servers = state.servers.iter().enumerate();
    config::Config {
        daemon: config::DaemonConfig {
            socket: PathBuf::new(),
            bgp_port: 179,
            stale_time: Duration::from_secs(120),
        },
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
        route_servers: servers.map(|(place, this)| server(place, this)).collect(),
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

fn server(place: usize, server: &Server) -> config::RouteServer {
    let [first, second] = &server.instances;
    let instance = |id, instance: &super::model::Instance| config::Instance {
        id: InstanceId(id),
        router_id: instance.router_id.into(),
        addresses: instance.addresses.clone(),
    };
    let instances = [instance(1, first), instance(2, second)];
    let mut gateways: Vec<config::Gateway> = Vec::new();
    for peer in &server.peers {
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
                template: product_peer(0, peer),
            }),
        }
    }
    let peers = server.peers.iter().enumerate();
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
        cluster_id: server.cluster_id.into(),
        peers: peers
            .map(|(number, peer)| product_peer(number, peer))
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
    let kind = match peer.kind {
        Kind::Nva => return None,
        Kind::ExpressRoute => config::PeerKind::ExpressRoute,
        Kind::Vpn => config::PeerKind::Vpn,
    };
    Some(config::Membership {
        gateway: format!("gateway{}", peer.gateway).as_str().into(),
        kind,
    })
}

fn product_peer(number: usize, peer: &Peer) -> config::Peer {
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
            ..config::PeerPolicy::default()
        },
        ..config::Peer::new(
            format!("peer{number}").as_str().into(),
            peer.address,
            peer.asn,
        )
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
    Arc::new(PathAttributes {
        origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][usize::from(route.origin)],
        as_path: AsPath::sequence(route.as_path.iter().copied()),
        next_hop: Some(next_hop),
        med: route.med,
        local_pref: route.local_pref,
        communities: route.communities.iter().copied().collect(),
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
        communities: attributes.communities.iter().copied().collect(),
        originator: attributes.originator_id.map(u32::from),
        clusters: attributes
            .cluster_list
            .iter()
            .map(|id| u32::from(*id))
            .collect(),
    }
}

pub(super) fn forward(group: &Group) -> Forward {
    let hops = |members: &[fib::Member]| -> Option<_> {
        let hop = |member: &fib::Member| -> Option<Hop> {
            assert_eq!(member.weight, 1, "nobody gave it a weight");
            match &member.next_hop {
                fib::NextHop::Via { vnet, address } => Some((place(vnet), *address)),
                _ => None,
            }
        };
        members.iter().map(hop).collect()
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
