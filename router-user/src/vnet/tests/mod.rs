//! The rules of virtual networks, sentence by sentence; then against a naive model.

mod effective;
mod lab;
mod model;
mod peerings;
mod placing;
mod random;
mod scale;
mod selection;
mod user_defined;
mod views;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{PortGroup, Vnets};
use crate::{
    api::types::{EffectiveRow, LearnedRow},
    bgp::InstanceId,
    config::{Config, DaemonConfig, DataplaneConfig, Instance, Port, RouteServer, Subnet, Vnet},
    fib::{Change, tests::kernel::Kernel},
    rib::{LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId},
    route_server::{Report, ViewPlan},
};

/// Topology 1: a hub with two subnets of virtual machines and one of appliances.
fn hub() -> Config {
    config(
        vec![Vnet {
            name: "hub".into(),
            prefixes: vec![net("10.1.0.0/16"), net("fd00:1::/48")],
            uplink: vec![],
            subnets: vec![
                subnet("apps", "10.1.1", "vm1", false),
                subnet("data", "10.1.2", "vm2", false),
                subnet("nva", "10.1.10", "sdwan", true),
            ],
            peerings: vec![],
        }],
        vec![route_server("rs1", "hub", "10.1.255")],
    )
}

fn config(vnets: Vec<Vnet>, route_servers: Vec<RouteServer>) -> Config {
    Config {
        daemon: DaemonConfig {
            socket: PathBuf::from("/run/waypost/waypost.sock"),
            bgp_port: 179,
            stale_time: Duration::from_secs(120),
            ..DaemonConfig::default()
        },
        dataplane: DataplaneConfig {
            instance: "default".into(),
            bpffs: PathBuf::from("/sys/fs/bpf"),
            require_native: false,
            max_routes_v4: 1024,
            max_routes_v6: 1024,
            flow_seed: 0,
            icmp_rate: 100,
        },
        vnets,
        route_tables: vec![],
        route_servers,
    }
}

/// A /24 with its gateway at .1 and one machine at .4.
fn subnet(name: &str, network: &str, interface: &str, ip_forwarding: bool) -> Subnet {
    Subnet {
        name: name.into(),
        prefixes: vec![net(&format!("{network}.0/24"))],
        gateways: vec![ip(&format!("{network}.1"))],
        ports: vec![Port {
            interface: interface.into(),
            addresses: vec![ip(&format!("{network}.4"))],
            mac: None,
            ip_forwarding,
        }],
        route_table: None,
    }
}

fn route_server(name: &str, vnet: &str, network: &str) -> RouteServer {
    let instance = |n: u8| Instance {
        id: InstanceId(n),
        router_id: format!("{network}.{}", 3 + n).parse().unwrap(),
        addresses: vec![ip(&format!("{network}.{}", 3 + n))],
    };
    RouteServer::new(name.into(), vnet.into(), [instance(1), instance(2)])
}

/// The networks of a configuration, whose route servers have one view for all.
fn vnets(config: &Config) -> Vnets {
    let mut vnets = Vnets::new(config);
    assign(&mut vnets, config);
    vnets
}

/// What every route server says that has one view for all: it takes over what the networks want.
fn assign(vnets: &mut Vnets, config: &Config) {
    for server in &config.route_servers {
        let uses = vnets.uses(&server.name);
        let view = LearnedViewId::default();
        let plan = ViewPlan {
            label: "".into(),
            forwarding: uses.iter().any(|of| of.forwarding),
        };
        let mut reports = vec![Report::View(view, plan)];
        reports.extend(uses.into_iter().map(|of| Report::Assign(of, view)));
        vnets.report(&server.name, reports);
    }
}

/// `rs1` has learned this.
fn learn(vnets: &mut Vnets, changes: Vec<LearnedChange>) {
    vnets.report(&"rs1".into(), vec![Report::Changes(changes)]);
}

/// A prefix with these ECMP members; without any, no candidate's next hop is resolvable.
fn learned(prefix: &str, members: &[&str]) -> LearnedChange {
    LearnedChange {
        view: LearnedViewId::default(),
        prefix: net(prefix),
        route: Some(LearnedRoute {
            members: members
                .iter()
                .map(|address| LearnedNextHop {
                    address: ip(address),
                    weight: 1,
                })
                .collect(),
            backups: Arc::new([]),
            blackhole: false,
        }),
    }
}

fn withdrawn(prefix: &str) -> LearnedChange {
    LearnedChange {
        view: LearnedViewId::default(),
        prefix: net(prefix),
        route: None,
    }
}

/// A path of the RIB of `rs1`.
fn path(prefix: &str, next_hop: &str, state: &str) -> LearnedRow {
    LearnedRow {
        route_server: "rs1".into(),
        prefix: net(prefix),
        path_id: None,
        peer: format!("peer-{next_hop}").as_str().into(),
        instance: 1,
        aggregate: false,
        next_hop: ip(next_hop),
        as_path: "65010 65011".into(),
        origin: "igp".into(),
        med: None,
        local_pref: None,
        only_to_customer: None,
        communities: vec![],
        stale: None,
        state: state.into(),
        reason: None,
    }
}

/// No change after a port's touches the table that the port names, and all its routes stand before.
fn assert_filled_before_use(changes: &[Change], end: &Kernel) {
    let is_port = |change: &&Change| matches!(change, Change::PutPort(_));
    for change in changes.iter().skip_while(|change| !is_port(change)) {
        if let Change::PutRoute { table, .. } | Change::RemoveRoute { table, .. } = change {
            assert!(
                end.ports.values().all(|port| port.own_table != *table),
                "{table} was in use when {change:?} came"
            );
        }
    }
}

/// The rows of `hub/apps`.
fn apps(vnets: &Vnets, learned: &[LearnedRow]) -> Vec<EffectiveRow> {
    vnets.effective_routes(&first_of(vnets, "hub", "apps"), learned)
}

/// The first group of a subnet's ports; where there is no such subnet, what would be it.
fn first_of(vnets: &Vnets, vnet: &str, subnet: &str) -> PortGroup {
    let (vnet, subnet) = (vnet.into(), subnet.into());
    let groups = vnets.port_groups(&vnet, &subnet).into_iter();
    groups.take(1).next().unwrap_or(PortGroup {
        vnet,
        subnet,
        gateway: None,
    })
}

/// `prefix type state` of every row, for comparison.
fn brief(rows: &[EffectiveRow]) -> Vec<String> {
    rows.iter()
        .map(|row| format!("{} {} {}", row.prefix, row.next_hop_type, row.state))
        .collect()
}

/// The only row of this prefix and source.
fn row<'a>(rows: &'a [EffectiveRow], prefix: &str, source: &str) -> &'a EffectiveRow {
    let mut matching = rows
        .iter()
        .filter(|row| row.prefix == net(prefix) && row.source == source);
    let row = matching.next().expect("there is such a row");
    assert!(matching.next().is_none(), "it is the only one");
    row
}

fn reason(row: &EffectiveRow) -> &str {
    row.reason.as_deref().unwrap_or_default()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
