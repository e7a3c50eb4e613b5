//! Random worlds for [`model`](super::model): networks that nest and meet, peerings, route tables,
//! gateways, and what route servers are told.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{config, ip, net, route_server, subnet};
use crate::{
    bgp::wire::Asn,
    config::{
        Config, Gateway, GatewayMembers, Peer, PeerKind, Peering, Propagate, RouteTable,
        UserDefinedNextHop, UserDefinedRoute, Vnet,
    },
};

/// Where a path comes from and which next hop it names.
pub(super) type Announced = (PeerKind, IpAddr);

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The paths of a prefix at a route server; without any it is withdrawn.
    Announce(usize, IpNet, BTreeSet<Announced>),
    /// Members of the VPN gateway that live.
    Members(BTreeSet<IpAddr>),
    Reconfigure(Box<Config>),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(PeerKind::ALL.to_vec());
    let paths = prop::collection::btree_set((kind, next_hop()), 0..3);
    prop_oneof![
        10 => (0..2usize, prefix(), paths)
            .prop_map(|(server, prefix, paths)| Step::Announce(server, prefix, paths)),
        1 => prop::collection::btree_set(next_hop(), 0..3).prop_map(Step::Members),
        2 => any_config().prop_map(|config| Step::Reconfigure(config.into())),
    ]
}

/// In one of the networks, or in none.
pub(super) fn next_hop() -> impl Strategy<Value = IpAddr> {
    (1..5u8, 4..7u8).prop_map(|(network, host)| Ipv4Addr::new(10, network, 10, host).into())
}

const NETWORKS: [&str; 3] = ["hub", "a", "b"];

pub(super) fn any_config() -> impl Strategy<Value = Config> {
    let networks = (0..NETWORKS.len()).map(any_network).collect::<Vec<_>>();
    let gateways = prop::collection::vec(any_gateway(), 0..2);
    (
        networks,
        [any_table("t0"), any_table("t1")],
        any::<bool>(),
        gateways,
    )
        .prop_map(|(vnets, tables, second, gateways)| {
            let mut first = route_server("rs1", "hub", "10.1.255");
            first.gateways = gateways;
            let mut servers = vec![first];
            servers.extend(second.then(|| route_server("rs2", "b", "10.3.255")));
            Config {
                route_tables: tables.into(),
                ..config(vnets, servers)
            }
        })
}

fn any_network(n: usize) -> impl Strategy<Value = Vnet> {
    let prefixes = [
        vec!["10.1.0.0/16", "192.168.0.0/16", "fd00:1::/48"],
        vec!["10.2.0.0/16", "100.64.0.0/9", "fd00:2::/48"],
        vec!["10.3.0.0/16", "10.0.0.0/16"],
    ];
    let uplinks = vec![
        format!("10.{}.10.9", n + 1),
        format!("fd00:{}:0:a::9", n + 1),
    ];
    let others = NETWORKS
        .into_iter()
        .filter(move |name| *name != NETWORKS[n]);
    let peerings = others.map(any_peering).collect::<Vec<_>>();
    let table = || prop::option::of(prop::sample::select(vec!["t0", "t1"]));
    (
        prop::sample::subsequence(prefixes[n].clone(), 0..=prefixes[n].len()),
        prop::sample::subsequence(uplinks, 0..=2),
        peerings,
        [table(), table()],
        any::<[bool; 2]>(),
    )
        .prop_map(move |(prefixes, uplink, peerings, tables, with_port)| {
            let subnets = [1, 10].into_iter().zip(tables).zip(with_port);
            let subnets = subnets.map(|((third, table), with_port)| {
                let network = format!("10.{}.{third}", n + 1);
                let port = format!("{}-{third}", NETWORKS[n]);
                let mut subnet = subnet(&format!("s{third}"), &network, &port, third == 10);
                subnet.route_table = table.map(Into::into);
                if !with_port {
                    subnet.ports.clear();
                }
                subnet
            });
            Vnet {
                name: NETWORKS[n].into(),
                prefixes: prefixes.into_iter().map(net).collect(),
                uplink: uplink.iter().map(|uplink| ip(uplink)).collect(),
                subnets: subnets.collect(),
                peerings: peerings.into_iter().flatten().collect(),
            }
        })
}

fn any_peering(remote: &'static str) -> impl Strategy<Value = Option<Peering>> {
    let peering = any::<[bool; 3]>().prop_map(move |[using, transit, forwarded]| Peering {
        use_remote_route_server: using,
        allow_gateway_transit: transit,
        allow_forwarded_traffic: forwarded,
        ..Peering::new(remote.into())
    });
    prop::option::weighted(0.8, peering)
}

fn any_gateway() -> impl Strategy<Value = Gateway> {
    let kind = prop::sample::select(vec![PeerKind::ExpressRoute, PeerKind::Vpn]);
    let members = prop_oneof![
        prop::collection::vec(next_hop(), 1..3).prop_map(GatewayMembers::Addresses),
        Just(GatewayMembers::Range {
            prefix: net("10.2.10.0/28"),
            max_members: 16
        }),
    ];
    (kind, members).prop_map(|(kind, members)| Gateway {
        name: "vpn".into(),
        kind,
        members,
        template: Peer::new("vpn".into(), ip("10.1.10.4"), 65515 as Asn),
    })
}

fn any_table(name: &'static str) -> impl Strategy<Value = RouteTable> {
    let next_hop = prop_oneof![
        4 => next_hop().prop_map(UserDefinedNextHop::VirtualAppliance),
        1 => Just(UserDefinedNextHop::VirtualNetworkGateway),
        1 => Just(UserDefinedNextHop::VirtualNetwork),
        1 => Just(UserDefinedNextHop::Internet),
        1 => Just(UserDefinedNextHop::None),
    ];
    let routes = prop::collection::btree_map(prefix(), next_hop, 0..5);
    (routes, any::<[bool; 3]>()).prop_map(move |(routes, [nva, express_route, vpn])| {
        let routes = routes.into_iter();
        let routes = routes.map(|(prefix, next_hop)| UserDefinedRoute { prefix, next_hop });
        RouteTable {
            name: name.into(),
            propagate: Propagate {
                nva,
                express_route,
                vpn,
            },
            routes: routes.collect(),
        }
    })
}

/// Few bits that vary, so that prefixes nest and meet.
pub(super) fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (
        prop::sample::select(vec![10u8, 10, 100, 192, 8]),
        0..4u8,
        prop::sample::select(vec![0u8, 1, 2, 10]),
        0..5u8,
    )
        .prop_map(|(a, b, c, d)| {
            let b = match a {
                100 => b + 64,
                192 => b + 167,
                _ => b,
            };
            IpAddr::from(Ipv4Addr::new(a, b, c, d))
        });
    let v6 = (
        prop::sample::select(vec![0xfd00u16, 0x2001]),
        0..3u16,
        0..3u16,
        0..3u16,
    )
        .prop_map(|(a, b, c, d)| IpAddr::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, d)));
    prop_oneof![3 => v4, 1 => v6]
}

pub(super) fn prefix() -> impl Strategy<Value = IpNet> {
    let v4 = prop::sample::select(vec![0u8, 8, 10, 15, 16, 23, 24, 31, 32]);
    let v6 = prop::sample::select(vec![0u8, 7, 16, 32, 47, 48, 128]);
    (address(), v4, v6).prop_map(|(address, v4, v6)| {
        let length = if address.is_ipv4() { v4 } else { v6 };
        IpNet::new(address, length).expect("a valid length").trunc()
    })
}
