//! Route tables: user-defined routes, and which learned ones reach a subnet.

use super::{apps, ip, lab::Lab, learned, net, path, peerings::hub_and_spokes, reason, row, vnets};
use crate::{
    bgp::wire::Asn,
    config::{
        Config, Gateway, GatewayMembers, Peer, PeerKind, Propagate, RouteTable, UserDefinedNextHop,
        UserDefinedRoute,
    },
    fib::{Change, Precedence},
    route_server::Report,
    vnet::{ACTIVE, INVALID},
};

/// Hub and spokes; `apps` of the hub has a table with these routes.
fn with_routes(routes: &[(&str, UserDefinedNextHop)]) -> Config {
    let mut config = hub_and_spokes();
    config.route_tables.push(RouteTable {
        name: "t".into(),
        propagate: Propagate::ALL,
        routes: routes
            .iter()
            .map(|(prefix, next_hop)| UserDefinedRoute {
                prefix: net(prefix),
                next_hop: *next_hop,
            })
            .collect(),
    });
    config.vnets[0].subnets[0].route_table = Some("t".into());
    config
}

fn appliance(address: &str) -> UserDefinedNextHop {
    UserDefinedNextHop::VirtualAppliance(ip(address))
}

fn gateway(name: &str, kind: PeerKind, members: GatewayMembers) -> Gateway {
    Gateway {
        name: name.into(),
        kind,
        members,
        template: Peer::new(name.into(), ip("10.1.0.0"), 65515 as Asn),
    }
}

#[test]
fn a_user_defined_route_leads_to_an_appliance_here_or_in_a_peered_network() {
    let mut lab = Lab::new(&with_routes(&[
        ("0.0.0.0/0", appliance("10.1.10.4")),
        ("10.250.0.0/16", appliance("10.101.1.4")),
    ]));
    lab.learn(vec![
        learned("0.0.0.0/0", &["10.1.10.9"]),
        learned("10.250.0.0/16", &["10.1.10.9"]),
        learned("10.250.7.0/24", &["10.1.10.9"]),
    ]);
    assert_eq!(lab.answer("vm1", "192.0.2.1"), "via hub 10.1.10.4");
    assert_eq!(lab.answer("vm1", "10.250.1.1"), "via spoke1 10.101.1.4");
    assert_eq!(
        lab.answer("vm1", "10.250.7.1"),
        "via hub 10.1.10.9",
        "a longer learned prefix wins"
    );
    assert_eq!(lab.answer("vm2", "192.0.2.1"), "via hub 10.1.10.9");
}

#[test]
fn an_appliance_in_a_network_that_is_not_peered_makes_the_row_invalid_and_nothing_else() {
    let mut config = with_routes(&[("0.0.0.0/0", appliance("10.101.1.4"))]);
    config.vnets[0].peerings.remove(0);
    let vnets = vnets(&config);
    let rows = apps(&vnets, &[]);
    let invalid = row(&rows, "0.0.0.0/0", "user_defined");
    assert_eq!(
        (invalid.next_hop_type.as_str(), invalid.state.as_str()),
        ("VirtualAppliance", INVALID)
    );
    assert_eq!(
        reason(invalid),
        "next hop 10.101.1.4 lies neither in network \"hub\" nor in one that is peered with it both \
         ways (next_hop of route table \"t\", or vnet.peering)"
    );
    assert_eq!(row(&rows, "0.0.0.0/0", "system").state, ACTIVE);
    assert_eq!(row(&rows, "10.0.0.0/8", "system").state, ACTIVE);
    assert_eq!(Lab::new(&config).answer("vm1", "192.0.2.1"), "no uplink");
}

#[test]
fn a_user_defined_route_of_exactly_the_own_space_or_a_peers_beats_longer_learned_ones() {
    let mut lab = Lab::new(&with_routes(&[
        ("10.1.0.0/16", appliance("10.1.10.4")),
        ("10.101.0.0/16", appliance("10.1.10.4")),
        ("10.101.7.0/24", UserDefinedNextHop::None),
    ]));
    lab.learn(vec![
        learned("10.1.2.0/24", &["10.1.10.9"]),
        learned("10.101.1.0/24", &["10.1.10.9"]),
        learned("10.101.7.128/25", &["10.1.10.9"]),
    ]);
    assert_eq!(lab.answer("vm1", "10.1.2.4"), "via hub 10.1.10.4");
    assert_eq!(lab.answer("vm1", "10.101.1.4"), "via hub 10.1.10.4");
    assert_eq!(lab.answer("vm1", "10.101.7.200"), "discard");
    assert!(lab.own_route("vm1", "10.1.0.0/16").local);
    assert!(!lab.own_route("vm1", "10.101.0.0/16").local);
}

#[test]
fn the_gateway_host_keeps_its_addresses_where_a_user_defined_route_leads_elsewhere() {
    let lab = Lab::new(&with_routes(&[("10.1.0.0/16", appliance("10.1.10.4"))]));
    assert_eq!(lab.answer("vm1", "10.1.1.1"), "host");
    assert_eq!(lab.answer("vm1", "10.1.255.4"), "host");
    assert_eq!(
        lab.answer("vm2", "10.1.1.1"),
        "attached hub",
        "the data plane knows it as a host of the network"
    );
}

#[test]
fn the_other_next_hops_are_what_they_say() {
    let mut config = with_routes(&[
        ("10.77.0.0/16", UserDefinedNextHop::Internet),
        ("10.78.0.0/16", UserDefinedNextHop::None),
        ("10.79.0.0/16", UserDefinedNextHop::VirtualNetwork),
        ("10.102.9.0/24", UserDefinedNextHop::VirtualNetwork),
    ]);
    config.vnets[0].uplink = vec![ip("10.1.10.1")];
    let lab = Lab::new(&config);
    assert_eq!(lab.answer("vm1", "10.77.0.1"), "via hub 10.1.10.1");
    assert_eq!(lab.answer("vm1", "10.78.0.1"), "discard");
    assert_eq!(lab.answer("vm1", "10.79.0.1"), "attached hub");
    assert_eq!(lab.answer("vm1", "10.102.9.1"), "attached spoke2");
    let route = lab.own_route("vm1", "10.77.0.0/16");
    assert_eq!(route.precedence, Precedence::UserDefined);
    assert!(!route.overriding && !route.local);
}

#[test]
fn the_virtual_network_gateway_is_the_live_members_of_the_vpn_gateways_in_use() {
    let mut config = with_routes(&[("10.77.0.0/16", UserDefinedNextHop::VirtualNetworkGateway)]);
    let rows = apps(&vnets(&config), &[]);
    let nowhere = row(&rows, "10.77.0.0/16", "user_defined");
    assert_eq!(
        (nowhere.next_hop_type.as_str(), nowhere.state.as_str()),
        ("VirtualNetworkGateway", ACTIVE)
    );
    assert!(reason(nowhere).contains("no VPN gateway"));
    assert_eq!(Lab::new(&config).answer("vm1", "10.77.0.1"), "discard");

    let members = |addresses: &[&str]| {
        GatewayMembers::Addresses(addresses.iter().map(|address| ip(address)).collect())
    };
    config.route_servers[0].gateways = vec![
        gateway("er", PeerKind::ExpressRoute, members(&["10.1.3.9"])),
        gateway(
            "vpn",
            PeerKind::Vpn,
            members(&["10.1.3.4", "10.1.3.5", "192.0.2.1"]),
        ),
    ];
    let mut lab = Lab::new(&config);
    assert_eq!(
        lab.answer("vm1", "10.77.0.1"),
        "discard",
        "nobody is connected"
    );
    let mut live = |gateway: &str, addresses: &[&str]| {
        let members = addresses.iter().map(|address| ip(address)).collect();
        let report = Report::Members(gateway.into(), members);
        lab.vnets.report(&"rs1".into(), vec![report]);
        lab.apply();
        lab.answer("vm1", "10.77.0.1")
    };
    assert_eq!(live("er", &["10.1.3.9"]), "discard");
    assert_eq!(live("vpn", &["10.1.3.5"]), "via hub 10.1.3.5");
    assert_eq!(
        live("vpn", &["10.1.3.4", "10.1.3.5", "192.0.2.1"]),
        "via hub 10.1.3.4, via hub 10.1.3.5"
    );
    let rows = apps(&lab.vnets, &[]);
    let shown = rows.iter().filter(|row| row.source == "user_defined");
    let addresses: Vec<_> = shown.map(|row| row.next_hop.unwrap()).collect();
    assert_eq!(addresses, [ip("10.1.3.4"), ip("10.1.3.5")]);
}

#[test]
fn members_of_a_range_count_while_their_session_is_up() {
    let mut config = with_routes(&[("10.77.0.0/16", UserDefinedNextHop::VirtualNetworkGateway)]);
    let range = GatewayMembers::Range {
        prefix: net("10.1.3.0/27"),
        max_members: 16,
    };
    config.route_servers[0].gateways = vec![gateway("vpn", PeerKind::Vpn, range)];
    let mut lab = Lab::new(&config);
    assert_eq!(lab.answer("vm1", "10.77.0.1"), "discard");
    let mut members = |addresses: &[&str]| {
        let members = addresses.iter().map(|address| ip(address)).collect();
        let report = Report::Members("vpn".into(), members);
        lab.vnets.report(&"rs1".into(), vec![report]);
        let changes = lab.apply();
        let moved = changes.iter().filter_map(|change| match change {
            Change::PutPort(port) => Some(port.interface.to_string()),
            _ => None,
        });
        (moved.collect::<Vec<_>>(), lab.answer("vm1", "10.77.0.1"))
    };
    let (moved, answer) = members(&["10.1.3.4", "10.1.3.6"]);
    assert_eq!(answer, "via hub 10.1.3.4, via hub 10.1.3.6");
    assert_eq!(moved, ["vm1"], "no other subnet depends on it");
    assert_eq!(members(&["10.1.3.6"]).1, "via hub 10.1.3.6");
    assert_eq!(members(&[]).1, "discard");
}

#[test]
fn a_member_that_left_the_list_is_not_used_whoever_said_that_it_lives() {
    let mut config = with_routes(&[("10.77.0.0/16", UserDefinedNextHop::VirtualNetworkGateway)]);
    let list = |addresses: &[&str]| {
        let members = addresses.iter().map(|address| ip(address)).collect();
        vec![gateway(
            "vpn",
            PeerKind::Vpn,
            GatewayMembers::Addresses(members),
        )]
    };
    config.route_servers[0].gateways = list(&["10.1.3.4", "10.1.3.5"]);
    let mut lab = Lab::new(&config);
    let report = Report::Members("vpn".into(), [ip("10.1.3.4"), ip("10.1.3.5")].into());
    lab.vnets.report(&"rs1".into(), vec![report]);
    lab.apply();
    config.route_servers[0].gateways = list(&["10.1.3.5"]);
    lab.reconfigure(&config);
    assert_eq!(lab.answer("vm1", "10.77.0.1"), "via hub 10.1.3.5");
}

#[test]
fn members_of_a_gateway_that_is_not_configured_are_forgotten() {
    let mut config = with_routes(&[("10.77.0.0/16", UserDefinedNextHop::VirtualNetworkGateway)]);
    let range = GatewayMembers::Range {
        prefix: net("10.1.3.0/27"),
        max_members: 16,
    };
    let with = vec![gateway("vpn", PeerKind::Vpn, range)];
    config.route_servers[0].gateways.clone_from(&with);
    let mut lab = Lab::new(&config);
    let report = Report::Members("vpn".into(), [ip("10.1.3.6")].into());
    lab.vnets.report(&"rs1".into(), vec![report]);
    lab.apply();
    assert_eq!(lab.answer("vm1", "10.77.0.1"), "via hub 10.1.3.6");
    for gateways in [vec![], with] {
        config.route_servers[0].gateways = gateways;
        lab.reconfigure(&config);
        assert_eq!(lab.answer("vm1", "10.77.0.1"), "discard");
    }
}

#[test]
fn a_table_keeps_nothing_out_where_all_ports_are_a_gateway_s() {
    let mut config = with_routes(&[]);
    let members = GatewayMembers::Addresses(vec![ip("10.1.1.4")]);
    config.route_servers[0].gateways = vec![gateway("vpn", PeerKind::Vpn, members)];
    for propagate in [
        Propagate::NONE,
        Propagate {
            nva: false,
            ..Propagate::ALL
        },
    ] {
        config.route_tables[0].propagate = propagate;
        let vnets = vnets(&config);
        let paths = [
            path("10.250.0.0/16", "10.1.10.4", "best"),
            path("10.251.0.0/16", "10.1.10.4", "excluded"),
        ];
        let rows = apps(&vnets, &paths);
        assert_ne!(row(&rows, "10.250.0.0/16", "learned").state, INVALID);
        let excluded = row(&rows, "10.251.0.0/16", "learned");
        assert!(!reason(excluded).contains("propagate_routes"));
    }
}

#[test]
fn a_table_that_keeps_learned_routes_out_is_named() {
    let mut config = with_routes(&[]);
    config.route_tables[0].propagate = Propagate::NONE;
    let vnets = vnets(&config);
    let rows = apps(&vnets, &[path("10.250.0.0/16", "10.1.10.4", "best")]);
    let kept_out = row(&rows, "10.250.0.0/16", "learned");
    assert_eq!(kept_out.state, INVALID);
    assert_eq!(
        reason(kept_out),
        "route table \"t\" keeps learned routes out (propagate_routes)"
    );

    config.route_tables[0].propagate = Propagate {
        nva: false,
        ..Propagate::ALL
    };
    let vnets = super::vnets(&config);
    let rows = apps(&vnets, &[path("10.250.0.0/16", "10.1.10.4", "excluded")]);
    assert_eq!(
        reason(row(&rows, "10.250.0.0/16", "learned")),
        "route table \"t\" lets in only what comes from express_route, vpn (propagate_routes)"
    );
}

#[test]
fn a_table_that_changes_moves_the_subnets_that_name_it_and_no_other() {
    let mut config = with_routes(&[("10.77.0.0/16", UserDefinedNextHop::None)]);
    let mut lab = Lab::new(&config);
    config.route_tables[0].routes[0].prefix = net("10.78.0.0/16");
    let changes = lab.reconfigure(&config);
    let ports = changes.iter().filter_map(|change| match change {
        Change::PutPort(port) => Some(port.interface.to_string()),
        _ => None,
    });
    assert_eq!(ports.collect::<Vec<_>>(), ["vm1"]);
}
