//! What reaches the FIB: tables, ports, and nothing that did not change.

use super::{
    assert_filled_before_use, assign, first_of, hub, ip, lab::Lab, learned, net, route_server,
    subnet, withdrawn,
};
use crate::{
    fib::{Change, NextHop, Precedence, tests::kernel::Kernel},
    names::{InterfaceName, TableName},
};

#[test]
fn subnets_with_equal_contents_share_an_own_table_and_all_share_the_learned_one() {
    let lab = Lab::new(&hub());
    assert_eq!(lab.own("vm1"), lab.own("vm2"));
    assert!(lab.own("vm1").as_str().starts_with("own/"));
    assert_eq!(lab.kernel.tables.len(), 2);
    for port in lab.kernel.ports.values() {
        assert_eq!(port.learned_table, Some("learned/rs1".into()));
    }
    let told = lab.vnets.tables(&first_of(&lab.vnets, "hub", "apps"));
    assert_eq!(told, Some((lab.own("vm1"), Some("learned/rs1".into()))));
}

#[test]
fn an_own_table_has_the_same_name_on_every_host() {
    let mut config = hub();
    let name = Lab::new(&config).own("vm1");
    config.vnets[0].subnets.reverse();
    config.vnets[0].prefixes.reverse();
    assert_eq!(Lab::new(&config).own("vm1"), name);
    config.vnets[0].prefixes.pop();
    assert_ne!(Lab::new(&config).own("vm1"), name);
}

#[test]
fn own_space_and_host_addresses_override_and_nothing_else_does() {
    let lab = Lab::new(&hub());
    let own = lab.own("vm1");
    let overriding: Vec<String> = lab
        .kernel
        .routes
        .iter()
        .filter(|((table, _), route)| *table == own && route.overriding)
        .map(|((_, prefix), _)| prefix.to_string())
        .collect();
    assert_eq!(
        overriding,
        [
            "10.1.0.0/16",
            "10.1.255.4/32",
            "10.1.255.5/32",
            "fd00:1::/48",
        ]
    );
    let hub = || "hub".into();
    assert_eq!(
        lab.next_hop(&own, "10.1.0.0/16"),
        NextHop::Attached { vnet: hub() }
    );
    assert_eq!(lab.next_hop(&own, "10.1.255.4/32"), NextHop::Host);
    assert_eq!(lab.next_hop(&own, "192.168.0.0/16"), NextHop::Discard);
    assert_eq!(lab.next_hop(&own, "0.0.0.0/0"), NextHop::NoUplink);
}

#[test]
fn an_address_of_the_gateway_host_that_no_port_has_is_a_route_of_its_own() {
    let mut config = super::peerings::hub_and_spokes();
    let gateway = |config: &crate::config::Config, vnet: usize| {
        let address = config.vnets[vnet].subnets[0].gateways[0];
        format!("{address}/32")
    };
    let gateways = [gateway(&config, 0), gateway(&config, 1)];
    let lab = Lab::new(&config);
    let own = lab.own("sp2");
    assert!(!gateways.iter().any(|gateway| lab.has(&own, gateway)));

    for vnet in [0, 1] {
        config.vnets[vnet].subnets[0].ports.clear();
    }
    let lab = Lab::new(&config);
    let own = lab.own("sp2");
    assert_eq!(lab.next_hop(&own, &gateways[0]), NextHop::Host);
    assert!(
        !lab.has(&own, &gateways[1]),
        "it is not peered with this one"
    );
    let own = lab.own("sdwan");
    for gateway in &gateways {
        assert_eq!(lab.next_hop(&own, gateway), NextHop::Host);
    }
}

#[test]
fn a_port_carries_what_the_configuration_says() {
    let mut config = hub();
    config.vnets[0].subnets[2].ports[0].mac = Some("02:00:00:00:00:01".parse().unwrap());
    let lab = Lab::new(&config);
    let port = &lab.kernel.ports[&InterfaceName::from("sdwan")];
    assert_eq!(port.vnet, "hub".into());
    assert_eq!(port.addresses, [ip("10.1.10.4")]);
    assert_eq!(port.gateways, [ip("10.1.10.1")]);
    assert_eq!(port.mac, Some("02:00:00:00:00:01".parse().unwrap()));
    assert!(port.ip_forwarding);
}

#[test]
fn a_learned_route_stands_once_however_many_subnets_use_it() {
    let mut lab = Lab::new(&hub());
    let changes = lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4", "10.1.10.5"])]);
    let routes = |changes: &[Change]| {
        changes
            .iter()
            .filter(|change| matches!(change, Change::PutRoute { .. }))
            .count()
    };
    assert_eq!(routes(&changes), 1);
    let route = lab.kernel.routes[&("learned/rs1".into(), net("10.250.0.0/16"))];
    assert_eq!(route.precedence, Precedence::Learned);
    assert!(!route.overriding);
    assert_eq!(
        lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4", "10.1.10.5"])]),
        []
    );
}

#[test]
fn a_learned_route_without_resolvable_next_hop_discards() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![learned("10.250.0.0/16", &[])]);
    assert_eq!(
        lab.next_hop(&"learned/rs1".into(), "10.250.0.0/16"),
        NextHop::Discard
    );
}

#[test]
fn a_learned_default_moves_the_subnets_to_a_table_without_private_ranges_and_back() {
    let mut lab = Lab::new(&hub());
    let before = lab.own("vm1");
    let changes = lab.learn(vec![learned("0.0.0.0/0", &["10.1.20.4"])]);
    let after = lab.own("vm1");
    assert_ne!(before, after);
    assert!(!lab.has(&after, "10.0.0.0/8"));
    assert!(lab.has(&after, "fc00::/7"), "::/0 is not learned");
    assert!(
        lab.has(&after, "0.0.0.0/0"),
        "XDP weighs it against the learned one"
    );
    assert_filled_before_use(&changes, &lab.kernel);
    assert!(changes.contains(&Change::RemoveTable(before.clone())));

    lab.learn(vec![withdrawn("0.0.0.0/0")]);
    assert_eq!(lab.own("vm1"), before);
}

#[test]
fn what_is_learned_within_the_own_space_is_programmed_and_beaten_there() {
    let mut config = hub();
    let mut lab = Lab::new(&config);
    let table: TableName = "learned/rs1".into();
    let prefixes = ["10.1.0.0/16", "10.1.128.0/17", "10.0.0.0/14"];
    lab.learn(
        prefixes
            .map(|prefix| learned(prefix, &["10.1.10.4"]))
            .into(),
    );
    assert!(prefixes.iter().all(|prefix| lab.has(&table, prefix)));
    assert_eq!(lab.answer("vm1", "10.1.200.9"), "attached hub");
    assert_eq!(lab.answer("vm1", "10.2.0.9"), "via hub 10.1.10.4");

    config.vnets[0].prefixes = vec![net("10.1.0.0/17"), net("fd00:1::/48")];
    let changes = lab.reconfigure(&config);
    assert_eq!(lab.answer("vm1", "10.1.200.9"), "via hub 10.1.10.4");
    assert_eq!(lab.answer("vm1", "10.1.1.9"), "attached hub");
    let touched = changes.iter().any(|change| {
        matches!(change, Change::PutRoute { table: of, .. } | Change::RemoveRoute { table: of, .. }
            if *of == table)
    });
    assert!(!touched, "the learned table stays as it is");
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    assert_eq!(lab.reconfigure(&hub()), []);
}

#[test]
fn a_port_that_is_added_touches_nothing_but_itself() {
    let mut config = hub();
    let mut lab = Lab::new(&config);
    let mut port = config.vnets[0].subnets[0].ports[0].clone();
    port.interface = "vm3".into();
    port.addresses = vec![ip("10.1.1.5")];
    config.vnets[0].subnets[0].ports.push(port);
    let changes = lab.reconfigure(&config);
    assert!(matches!(&changes[..], [Change::PutPort(port)] if port.interface == "vm3".into()));
}

#[test]
fn a_prefix_that_is_added_to_a_network_touches_no_other_network() {
    let mut config = hub();
    let mut spoke = config.vnets[0].clone();
    spoke.name = "spoke".into();
    spoke.prefixes = vec![net("10.2.0.0/16")];
    spoke.subnets = vec![subnet("apps", "10.2.1", "vm9", false)];
    config.vnets.push(spoke);
    let mut lab = Lab::new(&config);
    let own = lab.own("vm9");
    assert_eq!(
        lab.kernel.ports[&InterfaceName::from("vm9")].learned_table,
        None
    );

    config.vnets[0].prefixes.push(net("10.3.0.0/16"));
    let changes = lab.reconfigure(&config);
    assert_filled_before_use(&changes, &lab.kernel);
    for change in &changes {
        match change {
            Change::PutPort(port) => assert_ne!(port.interface, "vm9".into()),
            Change::PutRoute { table, .. } | Change::RemoveRoute { table, .. } => {
                assert_ne!(*table, own);
            }
            _ => {}
        }
    }
}

#[test]
fn a_table_that_two_networks_share_stays_until_the_last_has_left_it() {
    let mut config = hub();
    config.route_servers.clear();
    // Without space, gateways and uplink nothing in the contents tells the networks apart.
    config.vnets[0].prefixes.clear();
    config.vnets[0].subnets.truncate(1);
    config.vnets[0].subnets[0].gateways.clear();
    let mut spoke = config.vnets[0].clone();
    spoke.name = "spoke".into();
    spoke.subnets[0].ports[0].interface = "vm9".into();
    config.vnets.push(spoke);
    let mut lab = Lab::new(&config);
    let shared = lab.own("vm1");
    assert_eq!(lab.own("vm9"), shared);

    config.vnets.remove(0);
    assert_eq!(lab.reconfigure(&config), [Change::RemovePort("vm1".into())]);
    assert!(lab.has(&shared, "0.0.0.0/0"));
    config.vnets.clear();
    lab.reconfigure(&config);
    assert_eq!(lab.kernel, Kernel::default());
}

#[test]
fn a_subnet_that_is_removed_takes_its_ports_with_it() {
    let mut config = hub();
    let mut lab = Lab::new(&config);
    config.vnets[0].subnets.remove(1);
    let changes = lab.reconfigure(&config);
    assert!(changes.contains(&Change::RemovePort("vm2".into())));
    let shown = lab
        .vnets
        .all_routes(&first_of(&lab.vnets, "hub", "apps"), &[]);
    assert!(
        shown.iter().all(|row| row.prefix != net("10.1.2.1/32")),
        "its gateway is gone"
    );
}

#[test]
fn a_network_that_is_removed_leaves_nothing() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![
        learned("10.250.0.0/16", &["10.1.10.4"]),
        learned("0.0.0.0/0", &["10.1.20.4"]),
    ]);
    let mut config = hub();
    config.vnets.clear();
    config.route_servers.clear();
    lab.reconfigure(&config);
    assert_eq!(lab.kernel, Kernel::default());
}

#[test]
fn a_port_that_moves_to_another_network_is_one_write() {
    let mut config = hub();
    let mut spoke = config.vnets[0].clone();
    spoke.name = "spoke".into();
    spoke.subnets = vec![subnet("apps", "10.2.1", "vm9", false)];
    config.vnets.insert(0, spoke);
    for (from, to) in [(0, 1), (1, 0)] {
        let mut lab = Lab::new(&config);
        let port = config.vnets[from].subnets[0].ports.remove(0);
        let interface = port.interface.clone();
        config.vnets[to].subnets[0].ports.push(port);
        let changes = lab.reconfigure(&config);
        assert!(
            matches!(&changes[..], [Change::PutPort(port)] if port.interface == interface),
            "{changes:?}"
        );
    }
}

#[test]
fn a_route_server_is_added_to_and_removed_from_a_live_network() {
    let mut config = hub();
    config.route_servers.clear();
    let mut lab = Lab::new(&config);
    assert_eq!(
        lab.kernel.ports[&InterfaceName::from("vm1")].learned_table,
        None
    );

    lab.reconfigure(&hub());
    lab.learn(vec![learned("0.0.0.0/0", &["10.1.20.4"])]);
    assert!(lab.has(&"learned/rs1".into(), "0.0.0.0/0"));

    let changes = lab.reconfigure(&config);
    assert_filled_before_use(&changes, &lab.kernel);
    assert_eq!(
        lab.kernel.ports[&InterfaceName::from("vm1")].learned_table,
        None
    );
    assert!(
        lab.has(&lab.own("vm1"), "10.0.0.0/8"),
        "its default route went with it"
    );
    assert!(!lab.kernel.tables.contains("learned/rs1"));

    lab.learn(vec![learned("0.0.0.0/0", &["10.1.20.4"])]);
    assert!(
        !lab.kernel.tables.contains("learned/rs1"),
        "it speaks no more"
    );
}

#[test]
fn the_routes_of_a_route_server_that_moves_lead_into_its_new_network() {
    let mut config = hub();
    let mut spoke = config.vnets[0].clone();
    spoke.name = "spoke".into();
    spoke.prefixes = vec![net("10.2.0.0/16")];
    spoke.subnets = vec![subnet("apps", "10.2.1", "vm9", false)];
    config.vnets.push(spoke);
    let mut lab = Lab::new(&config);
    lab.learn(vec![
        learned("10.250.0.0/16", &["10.9.0.4"]),
        learned("10.1.7.0/24", &["10.9.0.4"]),
        learned("10.2.7.0/24", &["10.9.0.4"]),
    ]);
    config.route_servers = vec![route_server("rs1", "spoke", "10.2.255")];
    lab.reconfigure(&config);
    let in_spoke = NextHop::Via {
        vnet: "spoke".into(),
        address: ip("10.9.0.4"),
    };
    let table: TableName = "learned/rs1".into();
    assert_eq!(lab.next_hop(&table, "10.250.0.0/16"), in_spoke);
    assert_eq!(lab.next_hop(&table, "10.1.7.0/24"), in_spoke);
    assert_eq!(lab.next_hop(&table, "10.2.7.0/24"), in_spoke);
    lab.learn(vec![learned("10.251.0.0/16", &["10.9.0.4"])]);
    assert_eq!(lab.next_hop(&table, "10.251.0.0/16"), in_spoke);
}

#[test]
fn what_is_learned_is_kept_only_where_a_port_forwards_by_it() {
    let with_ports = hub();
    let mut without = hub();
    for subnet in &mut without.vnets[0].subnets {
        subnet.ports.clear();
    }
    let table: TableName = "learned/rs1".into();
    let routes = || {
        vec![
            learned("10.250.0.0/16", &["10.1.10.4"]),
            learned("10.1.7.0/24", &["10.1.10.4"]),
            learned("0.0.0.0/0", &["10.1.10.4"]),
        ]
    };
    let forwards = |lab: &Lab| {
        let uses = lab.vnets.uses(&"rs1".into());
        assert_eq!(uses.len(), 1, "all subnets take the same");
        uses.iter().any(|of| of.forwarding)
    };
    let mut lab = Lab::new(&without);
    assert!(!forwards(&lab));
    lab.learn(routes());
    assert_eq!(lab.fib.routes(&table).count(), 0);
    let shown = lab
        .vnets
        .effective_routes(&first_of(&lab.vnets, "hub", "apps"), &[]);
    let private = shown.iter().find(|row| row.prefix == net("10.0.0.0/8"));
    assert_eq!(
        private.map(|row| row.state.as_str()),
        Some("Invalid"),
        "the default route is known to be learned"
    );

    lab.reconfigure(&with_ports);
    assert!(forwards(&lab));
    assert_eq!(lab.fib.routes(&table).count(), 0, "nothing was kept");
    lab.learn(routes());
    assert_eq!(lab.fib.routes(&table).count(), 3);

    // None, and again some, before anything is handed on: what comes after that stands.
    for config in [&without, &with_ports] {
        lab.vnets.reconfigure(config);
        assign(&mut lab.vnets, config);
    }
    lab.learn(vec![learned("10.251.0.0/16", &["10.1.10.4"])]);
    assert_eq!(lab.fib.routes(&table).count(), 1);
    assert!(lab.has(&table, "10.251.0.0/16"));

    lab.reconfigure(&without);
    assert_eq!(lab.fib.routes(&table).count(), 0);
    assert!(lab.kernel.groups.len() <= 4, "{:?}", lab.kernel.groups);
}
