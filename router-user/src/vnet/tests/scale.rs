//! 500 networks of 4 subnets on one route server with 10,000 routes: how much stands, and how much a
//! change touches. Numbers, not times.

use std::collections::BTreeMap;

use super::{assign, config, ip, learn, learned, net, route_server, vnets, withdrawn};
use crate::{
    config::{
        Config, Peering, Port, Propagate, RouteTable, Subnet, UserDefinedNextHop, UserDefinedRoute,
        Vnet,
    },
    fib::{Change, Fib},
    names::{InterfaceName, TableName},
    vnet::Vnets,
};

const NETWORKS: usize = 500;
const SUBNETS: usize = 4;
const ROUTES: usize = 10_000;
/// Largest number of own routes of a spoke.
const OWN_ROUTES: usize = 20;

#[test]
fn what_stands_grows_with_distinct_routes_and_a_change_touches_what_depends_on_it() {
    let mut config = world();
    let mut state = State::new(&config);
    let routes: Vec<_> = (0..ROUTES)
        .map(|n| learned(&prefix(n), &["10.0.3.4"]))
        .collect();
    let emitted = state.learn(routes);
    assert_eq!(emitted.routes, ROUTES);
    assert_eq!(emitted.ports, 0);

    let own = state.own_tables();
    assert_eq!(own.len(), NETWORKS, "subnets of a network share one");
    let hub = state.ports["p0-0"].clone();
    for (table, routes) in &own {
        assert!(*table == hub || *routes <= OWN_ROUTES, "{table}: {routes}");
    }
    let standing: usize = state.routes.values().sum();
    assert!(standing <= ROUTES + OWN_ROUTES * own.len(), "{standing}");

    // One prefix.
    let one = state.learn(vec![learned(&prefix(7), &["10.0.3.5"])]);
    assert!(one.changes <= 3 && one.routes == 1, "{one:?}");

    // The default route: private ranges of all, and nothing of the learned table.
    let come = state.learn(vec![learned("0.0.0.0/0", &["10.0.3.4"])]);
    assert_eq!(come.ports, NETWORKS * SUBNETS);
    assert!(
        come.routes <= OWN_ROUTES * (NETWORKS - 1) + 2 * NETWORKS + OWN_ROUTES,
        "{come:?}"
    );
    let other = state.learn(vec![learned("0.0.0.0/0", &["10.0.3.5"])]);
    assert!(other.changes <= 3 && other.ports == 0, "{other:?}");
    state.learn(vec![withdrawn("0.0.0.0/0")]);
    assert_eq!(state.ports["p0-0"], hub);

    // A peering goes: the networks at its ends.
    let side = config.vnets[7].peerings.pop();
    let gone = state.reconfigure(&config);
    assert_eq!(gone.ports, 2 * SUBNETS);
    config.vnets[7].peerings.extend(side);
    let come = state.reconfigure(&config);
    assert_eq!(come.ports, 2 * SUBNETS);

    // A prefix of a spoke: the spoke and its only peer.
    config.vnets[9].prefixes.push(net("172.20.0.0/24"));
    assert_eq!(state.reconfigure(&config).ports, 2 * SUBNETS);

    assert_eq!(state.reconfigure(&config).changes, 0);
}

#[test]
fn a_route_table_that_all_subnets_share_costs_its_own_routes_only() {
    let mut config = world();
    config.route_tables.push(RouteTable {
        name: "firewall".into(),
        propagate: Propagate::ALL,
        routes: vec![UserDefinedRoute {
            prefix: net("0.0.0.0/0"),
            next_hop: UserDefinedNextHop::VirtualAppliance(ip("10.0.3.4")),
        }],
    });
    for subnet in config.vnets.iter_mut().flat_map(|vnet| &mut vnet.subnets) {
        subnet.route_table = Some("firewall".into());
    }
    let mut state = State::new(&config);
    let own = state.own_tables();
    assert_eq!(own.len(), NETWORKS);
    let hub = &state.ports["p0-0"];
    assert!(
        own.iter()
            .all(|(table, routes)| table == hub || *routes <= OWN_ROUTES)
    );
    // Private ranges have given way to the user-defined default already.
    let come = state.learn(vec![learned("0.0.0.0/0", &["10.0.3.4"])]);
    assert!(come.changes <= 3 && come.ports == 0, "{come:?}");
}

/// A hub with the route server, and spokes around it; IPv4 and IPv6.
fn world() -> Config {
    let vnets = (0..NETWORKS).map(|n| Vnet {
        name: name(n).as_str().into(),
        prefixes: vec![net(&space(n)), net(&format!("fd00:{n:x}::/48"))],
        uplink: vec![],
        subnets: (0..SUBNETS).map(|subnet| self::subnet(n, subnet)).collect(),
        peerings: match n {
            0 => (1..NETWORKS)
                .map(|spoke| Peering {
                    allow_gateway_transit: true,
                    ..Peering::new(name(spoke).as_str().into())
                })
                .collect(),
            _ => vec![Peering {
                use_remote_route_server: true,
                ..Peering::new(name(0).as_str().into())
            }],
        },
    });
    let mut server = route_server("rs1", &name(0), "10.0.3");
    for (n, instance) in server.instances.iter_mut().enumerate() {
        instance.addresses.push(ip(&format!("fd00:0:0:3::1{n}")));
    }
    config(vnets.collect(), vec![server])
}

fn name(n: usize) -> String {
    format!("n{n:03}")
}

/// `10.N.0.0/22`, four subnets of it.
fn space(n: usize) -> String {
    format!("10.{}.{}.0/22", n / 64, n % 64 * 4)
}

fn subnet(n: usize, subnet: usize) -> Subnet {
    let v4 = format!("10.{}.{}", n / 64, n % 64 * 4 + subnet);
    let v6 = format!("fd00:{n:x}:0:{subnet:x}:");
    Subnet {
        name: format!("s{subnet}").as_str().into(),
        prefixes: vec![net(&format!("{v4}.0/24")), net(&format!("{v6}:/64"))],
        gateways: vec![ip(&format!("{v4}.1")), ip(&format!("{v6}:1"))],
        ports: vec![Port {
            interface: format!("p{n}-{subnet}").as_str().into(),
            addresses: vec![ip(&format!("{v4}.9")), ip(&format!("{v6}:9"))],
            mac: None,
            ip_forwarding: false,
        }],
        route_table: None,
    }
}

fn prefix(n: usize) -> String {
    format!("172.{}.{}.0/24", 32 + n / 256, n % 256)
}

/// What a batch of changes consists of.
#[derive(Debug, Default)]
struct Emitted {
    changes: usize,
    /// Routes that are put or removed, counted once for each put.
    routes: usize,
    ports: usize,
}

/// What stands, by what was emitted.
struct State {
    vnets: Vnets,
    fib: Fib,
    /// How many routes each table has.
    routes: BTreeMap<TableName, usize>,
    /// Own table of each port.
    ports: BTreeMap<InterfaceName, TableName>,
}

impl State {
    fn new(config: &Config) -> Self {
        let mut state = Self {
            vnets: vnets(config),
            fib: Fib::new(),
            routes: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        assert_eq!(state.apply().ports, NETWORKS * SUBNETS);
        state
    }

    fn learn(&mut self, changes: Vec<crate::rib::LearnedChange>) -> Emitted {
        learn(&mut self.vnets, changes);
        self.apply()
    }

    fn reconfigure(&mut self, config: &Config) -> Emitted {
        self.vnets.reconfigure(config);
        assign(&mut self.vnets, config);
        self.apply()
    }

    fn apply(&mut self) -> Emitted {
        self.vnets.apply_to(&mut self.fib);
        let mut emitted = Emitted::default();
        for change in self.fib.take_changes() {
            emitted.changes += 1;
            match change {
                Change::PutRoute { .. } => emitted.routes += 1,
                Change::PutPort(port) => {
                    emitted.ports += 1;
                    self.ports.insert(port.interface, port.own_table);
                }
                _ => {}
            }
        }
        self.routes.clear();
        let learned = TableName::from("learned/rs1");
        for table in self.ports.values().chain([&learned]) {
            if !self.routes.contains_key(table) {
                let routes = self.fib.routes(table).count();
                self.routes.insert(table.clone(), routes);
            }
        }
        emitted
    }

    fn own_tables(&self) -> BTreeMap<TableName, usize> {
        let own = self.ports.values();
        own.map(|table| (table.clone(), self.routes[table]))
            .collect()
    }
}
