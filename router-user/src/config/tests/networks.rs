//! Networks that are peered, and their route tables.

use std::{fmt::Write as _, time::Instant};

use super::{HUB, changed, each_is_told, faults, warnings};
use crate::config::{
    Config, Peering, Propagate, UserDefinedNextHop, UserDefinedRoute, parse, parse_with_warnings,
};

#[test]
fn peerings_and_route_tables_are_read() {
    let parsed = parse_with_warnings(HUB, "hub.toml").unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let config = parsed.config;
    assert_eq!(
        config.vnets[0].peerings[1],
        Peering {
            allow_gateway_transit: true,
            allow_forwarded_traffic: true,
            ..Peering::new("spoke2".into())
        }
    );
    assert_eq!(
        config.vnets[1].peerings,
        [Peering {
            use_remote_route_server: true,
            ..Peering::new("hub".into())
        }]
    );
    let apps = &config.vnets[1].subnets[0];
    assert_eq!(apps.route_table, Some("spoke-routes".into()));
    assert_eq!(config.vnets[0].subnets[0].route_table, None);
    let table = &config.route_tables[0];
    let some = Propagate {
        express_route: false,
        ..Propagate::ALL
    };
    assert_eq!(
        (table.name.as_str(), table.propagate),
        ("spoke-routes", some)
    );
    let appliance = UserDefinedNextHop::VirtualAppliance("10.1.10.4".parse().unwrap());
    assert_eq!(
        table.routes,
        [
            ("0.0.0.0/0", UserDefinedNextHop::Internet),
            ("10.3.0.0/16", appliance)
        ]
        .map(|(prefix, next_hop)| UserDefinedRoute {
            prefix: prefix.parse().unwrap(),
            next_hop
        })
    );
    assert_eq!(config.route_tables[1].propagate, Propagate::ALL);
}

#[test]
fn each_type_of_next_hop_and_each_propagation_is_read() {
    for (word, next_hop) in [
        (
            "virtual_network_gateway",
            UserDefinedNextHop::VirtualNetworkGateway,
        ),
        ("virtual_network", UserDefinedNextHop::VirtualNetwork),
        ("none", UserDefinedNextHop::None),
    ] {
        let config = parse(&HUB.replace("internet", word), "x.toml").unwrap();
        assert_eq!(config.route_tables[0].routes[0].next_hop, next_hop);
    }
    for (word, propagate) in [
        ("true", Propagate::ALL),
        ("false", Propagate::NONE),
        ("[]", Propagate::NONE),
        (
            "[\"express_route\"]",
            Propagate {
                express_route: true,
                ..Propagate::NONE
            },
        ),
    ] {
        let config = parse(
            &HUB.replace(
                "[\"nva\", \"vpn\"]\n\n[[route_table.route]]",
                &format!("{word}\n\n[[route_table.route]]"),
            ),
            "x.toml",
        )
        .unwrap();
        assert_eq!(config.route_tables[0].propagate, propagate, "{word}");
    }
}

#[test]
fn ports_of_peers_and_gateways_forward_unless_the_file_says_otherwise() {
    let forwarding = |config: &Config| -> Vec<String> {
        let subnets = config.vnets.iter().flat_map(|vnet| &vnet.subnets);
        let ports = subnets.flat_map(|subnet| &subnet.ports);
        ports
            .filter(|port| port.ip_forwarding)
            .map(|port| port.interface.to_string())
            .collect()
    };
    let config = parse(HUB, "hub.toml").unwrap();
    assert_eq!(
        forwarding(&config),
        ["sdwan", "er-a", "er-b", "vpn-a", "spoke-nva"],
        "peer, member, within a gateway's range, peer in a peered network"
    );
    let text = HUB.replacen(
        "interface = \"sdwan\"",
        "interface = \"sdwan\"\nip_forwarding = false",
        1,
    );
    let text = text.replacen("10.3.9.0/24", "10.2.1.0/29", 1);
    let config = parse(&text, "x.toml").unwrap();
    assert_eq!(
        forwarding(&config),
        ["er-a", "er-b", "vpn-a", "vm1", "spoke-nva"],
        "said not to; within the range of dynamic peers"
    );
}

#[test]
fn faults_of_peerings_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\"]\n[[vnet.peering]]\nremote = \"spoke3\"",
                "remote = \"spoke3\"",
                "peering of network spoke2: there is no network \"spoke3\"; name one of: hub, spoke1, spoke2",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\"]\n[[vnet.peering]]\nremote = \"spoke2\"",
                "»remote = \"spoke2\"\n\n[[vnet.peering]]\nremote = \"hub\"",
                "network spoke2 has a peering with itself; name another network",
            ),
            (
                "prefixes = [\"10.2.0.0/16\"]",
                "prefixes = [\"10.2.0.0/16\"]\n[[vnet.peering]]\nremote = \"hub\"\nuse_remote_route_server = true",
                "»remote = \"hub\"\nuse_remote_route_server = true\n\n[[vnet]]",
                "network spoke1 has two peerings with hub (line 50); keep one",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.1.128.0/17\", \"10.3.9.0/24\"]",
                "remote = \"spoke2\"",
                "prefix 10.1.128.0/17 of network spoke2 overlaps 10.1.0.0/16 of network hub, with which it is peered; give each",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.2.0.0/16\", \"10.3.9.0/24\"]",
                "remote = \"spoke2\"",
                "prefix 10.2.0.0/16 of network spoke2 overlaps 10.2.0.0/16 of network spoke1, and hub is peered with both; give each",
            ),
            (
                "allow_gateway_transit = true",
                "",
                "»true\n\n[[vnet]]\nname = \"spoke2\"",
                "network spoke1 uses the route server of hub, which does not allow that; set allow_gateway_transit = true in the [[vnet.peering]] of hub with spoke1",
            ),
            (
                "[[route_server]]\nname = \"rs1\"\nvnet = \"hub\"",
                "[[route_server]]\nname = \"rs1\"\nvnet = \"spoke3\"",
                "\"spoke3\"",
                "route server rs1: there is no network \"spoke3\"; name one of: hub, spoke1, spoke2",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\", \"224.1.0.0/16\"]",
                "224.1.0.0/16",
                "prefix 224.1.0.0/16 of the network has multicast addresses; give addresses that machines can have",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\", \"128.0.0.0/1\"]",
                "128.0.0.0/1",
                "prefix 128.0.0.0/1 of the network has link-local addresses",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\", \"fe80::/64\"]",
                "fe80::/64",
                "has link-local addresses",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\", \"127.0.0.0/24\"]",
                "127.0.0.0/24",
                "has loopback addresses",
            ),
            (
                "prefixes = [\"10.3.0.0/16\"]",
                "prefixes = [\"10.3.0.0/16\", \"::/96\"]",
                "::/96",
                "has unspecified addresses",
            ),
            (
                "prefixes = [\"10.2.0.0/16\"]",
                "prefixes = [\"10.2.0.0/16\", \"::/0\"]",
                "::/0",
                "prefix ::/0 of the network is the whole address space; give addresses",
            ),
        ],
    );
}

#[test]
fn an_overlap_is_told_once_though_both_networks_see_it() {
    let overlapping = "prefixes = [\"10.3.0.0/16\", \"10.1.128.0/17\"]";
    let told = faults(&changed(HUB, "prefixes = [\"10.3.0.0/16\"]", overlapping));
    assert_eq!(told.matches("overlaps").count(), 1, "{told}");
}

#[test]
fn faults_of_route_tables_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "route_table = \"spoke-routes\"",
                "route_table = \"spokes\"",
                "\"spokes\"",
                "subnet apps: there is no route table \"spokes\"; name one of: spoke-routes, to-spokes",
            ),
            (
                "[[route_table]]\nname = \"to-spokes\"",
                "[[route_table]]\nname = \"spoke-routes\"\n\n[[route_table]]\nname = \"to-spokes\"",
                "name = \"spoke-routes\"\n\n[[route_table]]",
                "name spoke-routes of a route table is already that of a route table",
            ),
            (
                "[\"nva\", \"vpn\"]",
                "[\"nva\", \"vnet\"]",
                "\"vnet\"",
                "propagate_routes = \"vnet\" is not known; write one of: \"nva\", \"express_route\", \"vpn\"",
            ),
            (
                "prefix = \"0.0.0.0/0\"",
                "prefix = \"10.3.0.0/16\"",
                "»prefix = \"10.3.0.0/16\"\nnext_hop_type = \"internet\"",
                "prefix 10.3.0.0/16 of a route of table spoke-routes is already that of a route of table",
            ),
            (
                "next_hop_type = \"internet\"",
                "next_hop_type = \"vnet\"",
                "\"vnet\"",
                "next_hop_type = \"vnet\" is not known; write one of: \"virtual_appliance\", \"virtual_network_gateway\", \"virtual_network\", \"internet\", \"none\"",
            ),
            (
                "next_hop_type = \"internet\"",
                "",
                "[[route_table.route]]\nprefix = \"0.0.0.0/0\"",
                "[[route_table.route]] has no \"next_hop_type\"; add next_hop_type",
            ),
            (
                "next_hop_type = \"internet\"",
                "next_hop_type = \"internet\"\nnext_hop = \"10.1.10.4\"",
                "next_hop = \"10.1.10.4\"\n\n[[route_table]]",
                "route 0.0.0.0/0 of table spoke-routes has a next_hop, which its next_hop_type has not; leave next_hop out",
            ),
            (
                "next_hop = \"10.1.10.4\"",
                "",
                "[[route_table.route]]\nprefix = \"10.3.0.0/16\"",
                "route 10.3.0.0/16 of table spoke-routes names no appliance; add next_hop",
            ),
            (
                "prefix = \"10.3.0.0/16\"",
                "prefix = \"fd00:3::/48\"",
                "next_hop = \"10.1.10.4\"",
                "route fd00:3::/48 of table spoke-routes has the IPv4 next hop 10.1.10.4; give the machine's IPv6 address",
            ),
            (
                "next_hop = \"10.1.10.4\"",
                "next_hop = \"127.0.0.1\"",
                "127.0.0.1",
                "next hop 127.0.0.1 of route 10.3.0.0/16 of table spoke-routes is loopback; give the address of a machine",
            ),
        ],
    );
}

#[test]
fn a_network_uses_one_route_server_its_own_or_that_of_another_network() {
    let (without, server) = HUB.split_at(HUB.find("[[route_server]]").unwrap());
    let told = faults(without);
    for spoke in ["spoke1", "spoke2"] {
        let what = format!(
            "network {spoke} uses the route server of hub, which has none; attach a [[route_server]] to hub"
        );
        assert!(told.contains(&what), "{told}");
    }

    let instances = |network: &str| {
        format!(
            "[[route_server.instance]]\nid = 1\naddresses = [\"{network}.254.4\"]\n\
             [[route_server.instance]]\nid = 2\naddresses = [\"{network}.254.5\"]\n"
        )
    };
    let own = format!(
        "[[route_server]]\nname = \"rs2\"\nvnet = \"spoke1\"\n{}",
        instances("10.2")
    );
    let told = faults(&format!("{HUB}{own}"));
    assert!(
        told.contains("network spoke1 has route server rs2 and uses that of hub as well; leave"),
        "{told}"
    );

    let second = "[[vnet]]\nname = \"hub2\"\nprefixes = [\"10.4.0.0/16\"]\n\
                  [[vnet.peering]]\nremote = \"spoke2\"\nallow_gateway_transit = true\n";
    let without = without.replacen(
        "name = \"spoke2\"",
        "name = \"spoke2\"\npeering = [\n{ remote = \"hub\", use_remote_route_server = true },\n\
         { remote = \"hub2\", use_remote_route_server = true }]",
        1,
    );
    let sides = "\n[[vnet.peering]]\nremote = \"hub\"\nuse_remote_route_server = true\nallow_forwarded_traffic = true\n";
    let without = changed(&without, sides, "");
    let other = format!(
        "[[route_server]]\nname = \"rs2\"\nvnet = \"hub2\"\n{}",
        instances("10.4")
    );
    let told = faults(&format!("{second}{without}{server}{other}"));
    assert!(told.ends_with("network spoke2 uses the route servers of hub and hub2; set use_remote_route_server in one peering only"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_peering_with_one_side_and_a_table_of_no_subnet_are_warnings() {
    let one_sided = changed(
        HUB,
        "[[vnet.peering]]\nremote = \"hub\"\nuse_remote_route_server = true\n\n[[vnet]]",
        "[[vnet]]",
    );
    let told = faults(&one_sided);
    assert!(
        told.contains("address 10.2.1.10 of peer spoke-nva lies outside network hub and those"),
        "{told}"
    );
    let one_sided = changed(
        &one_sided,
        "address = \"10.2.1.10\"",
        "address = \"10.1.3.240\"",
    );
    let one_sided = changed(
        &one_sided,
        "\"10.2.1.10\", \"10.1.10.4\"]",
        "\"10.1.10.4\"]",
    );
    let told = warnings(&one_sided);
    assert_eq!(
        told[0],
        "x.toml:38: network hub is peered with spoke1, but spoke1 not with hub: no packet crosses; \
         add a [[vnet.peering]] with remote = \"hub\" to network spoke1"
    );
    let unreached = "next hop 10.1.10.4 of route 10.3.0.0/16 of table spoke-routes lies neither";
    assert!(told[1].contains(unreached), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    let told = warnings(&changed(HUB, "route_table = \"to-spokes\"\n", ""));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("route table to-spokes is that of no subnet; name it"),
        "{told:?}"
    );

    let plain = changed(HUB, "\nuse_remote_route_server = true", "");
    let plain = changed(&plain, "\nuse_remote_route_server = true", "");
    let (plain, _) = plain.split_at(plain.find("[[route_server]]").unwrap());
    let told = warnings(plain);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with(
            "x.toml:39: network hub lets spoke1 use its route server, but has none; attach"
        ),
        "{told:?}"
    );
}

#[test]
fn an_appliance_that_a_network_does_not_reach_is_a_warning() {
    let other = "[[vnet]]\nname = \"other\"\nprefixes = [\"10.7.0.0/16\"]\n[[vnet.subnet]]\n\
                 name = \"apps\"\nprefixes = [\"10.7.1.0/24\"]\nroute_table = \"spoke-routes\"\n";
    let told = warnings(&format!("{HUB}{other}"));
    assert_eq!(
        told,
        [
            "x.toml:83: next hop 10.1.10.4 of route 10.3.0.0/16 of table spoke-routes lies neither in \
             network other nor in one that is peered with it: the route is invalid there; \
             give the address of an appliance that can be reached, or add the peering"
        ]
    );
}

#[test]
fn propagation_that_a_gateway_s_ports_ignore_is_a_warning() {
    let table = changed(HUB, "\"to-spokes\"", "\"spoke-routes\"");
    let ignored = "propagate_routes of table spoke-routes has no effect in subnet hub/gateways";
    let count = |text: &str| {
        let told = warnings(text);
        told.iter().filter(|it| it.contains(ignored)).count()
    };
    assert_eq!(count(&table), 0, "one port is no gateway's");
    let jump = "[[vnet.subnet.port]]\ninterface = \"jump\"\naddresses = [\"10.1.3.240\"]\n";
    assert_eq!(count(&changed(&table, jump, "")), 1);
    assert_eq!(count(&changed(HUB, jump, "")), 0, "all propagates");
}

/// 500 networks with 4 subnets each, all peered with a hub and every second one with its neighbour.
#[test]
fn hundreds_of_networks_are_read_and_compared_in_no_time() {
    let mut text = HUB.to_owned();
    let mut hub = String::new();
    for n in 0..500 {
        let (a, b) = (100 + n / 250, n % 250);
        let neighbour = n ^ 1;
        writeln!(
            hub,
            "[[vnet.peering]]\nremote = \"net{n}\"\nallow_gateway_transit = true"
        )
        .unwrap();
        writeln!(
            text,
            "[[vnet]]\nname = \"net{n}\"\nprefixes = [\"10.{a}.{b}.0/24\"]\n\
             [[vnet.peering]]\nremote = \"hub\"\nuse_remote_route_server = true\n\
             [[vnet.peering]]\nremote = \"net{neighbour}\""
        )
        .unwrap();
        for (subnet, start) in [0, 64, 128, 192].into_iter().enumerate() {
            writeln!(
                text,
                "[[vnet.subnet]]\nname = \"s{subnet}\"\nprefixes = [\"10.{a}.{b}.{start}/26\"]\n\
                 route_table = \"to-spokes\"\n[[vnet.subnet.port]]\n\
                 interface = \"p{n}-{subnet}\"\naddresses = [\"10.{a}.{b}.{}\"]",
                start + 4
            )
            .unwrap();
        }
    }
    let text = changed(
        &text,
        "[[vnet]]\nname = \"spoke1\"",
        &format!("{hub}\n[[vnet]]\nname = \"spoke1\""),
    );
    let start = Instant::now();
    let config = parse(&text, "x.toml").unwrap();
    let next = parse(
        &changed(&text, "10.100.7.64/26", "10.100.7.64/27"),
        "x.toml",
    )
    .unwrap();
    let changes = config.changes(&next);
    let took = start.elapsed();
    assert_eq!(
        changes,
        ["subnet net7/s1: prefixes [10.100.7.64/26] → [10.100.7.64/27]"]
    );
    assert_eq!(config.vnets.len(), 503);
    assert_eq!(config.vnets[0].peerings.len(), 502);
    // A third of a second, in debug code, on a machine with nothing else to do.
    assert!(took.as_secs() < 5, "{took:?}");
}

#[test]
fn machines_without_a_port_and_ports_that_may_not_forward_are_warnings() {
    let port = "interface = \"jump\"\naddresses = [\"10.1.3.240\"]\n";
    let base = changed(
        HUB,
        port,
        "interface = \"jump\"\naddresses = [\"10.1.3.241\"]\n",
    );
    assert_eq!(warnings(&base), [""; 0]);
    let hint = "is that of no port: packets reach it only where the host has a route to it by one of \
                the ports of network hub; add a [[vnet.subnet.port]] with the address";
    for (from, to, at, what) in [
        (
            "address = \"10.1.10.4\"",
            "address = \"10.1.3.240\"",
            "\"10.1.3.240\"",
            "address 10.1.3.240 of peer sdwan",
        ),
        (
            "\"10.1.3.5\"]\nroute_map",
            "\"10.1.3.240\"]\nroute_map",
            "\"10.1.3.240\"",
            "address 10.1.3.240 of gateway er1",
        ),
        (
            "name = \"hub\"\n",
            "name = \"hub\"\nuplink = [\"10.1.3.240\"]\n",
            "\"10.1.3.240\"",
            "uplink 10.1.3.240",
        ),
        (
            "[\"10.2.1.10\", \"10.1.10.4\"]",
            "[\"10.1.3.240\"]",
            "[\"10.1.3.240\"]",
            "next hop 10.1.3.240 of static route 10.9.0.0/16",
        ),
        (
            "next_hop = \"10.1.10.4\"\n\n[[route_table.route]]",
            "next_hop = \"10.1.3.240\"\n\n[[route_table.route]]",
            "\"10.1.3.240\"",
            "next hop 10.1.3.240 of route 10.3.0.0/16 of table spoke-routes",
        ),
    ] {
        let text = changed(&base, from, to);
        let line = text[..text.find(at).unwrap()].matches('\n').count() + 1;
        let told = warnings(&text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("x.toml:{line}: {what} {hint}")),
            "{told:?}"
        );
    }
    let text: String = HUB
        .split("[[vnet.subnet.port]]\n")
        .map(|part| match part.strip_prefix("interface") {
            Some(port) => port.split_once("]\n").unwrap().1,
            None => part,
        })
        .collect();
    assert_eq!(warnings(&text), [""; 0], "BGP only");
    let text = changed(
        HUB,
        "interface = \"er-b\"",
        "interface = \"er-b\"\nip_forwarding = false",
    );
    let told = warnings(&text);
    let line = text[..text.find("ip_forwarding = false").unwrap()]
        .matches('\n')
        .count()
        + 1;
    let expected = format!(
        "x.toml:{line}: port er-b has ip_forwarding = false, and 10.1.3.5 is that of a peer: what it \
         forwards is dropped as source_check; leave ip_forwarding out"
    );
    assert_eq!(told, [expected]);
    let idle = changed(
        HUB,
        "interface = \"jump\"",
        "interface = \"jump\"\nip_forwarding = false",
    );
    assert_eq!(warnings(&idle), [""; 0]);
}

#[test]
fn a_user_defined_route_to_the_gateway_host_itself_is_refused() {
    let hop = "next_hop = \"10.1.10.4\"\n\n[[route_table.route]]";
    let row = |to: &'static str| (hop, hop.replace("10.1.10.4", to));
    for (address, owner) in [
        ("10.1.10.1", "the gateway of subnet nva"),
        ("10.1.255.5", "instance 2 of rs1"),
        ("10.2.1.1", "the gateway of subnet apps"),
    ] {
        let (from, to) = row(address);
        let expected = format!(
            "next hop {address} of route 10.3.0.0/16 of table spoke-routes is that of {owner} (line"
        );
        each_is_told(
            HUB,
            &[(from, &to, &format!("next_hop = \"{address}\""), &expected)],
        );
    }
}

#[test]
fn prefixes_of_ipv4_mapped_addresses_and_more_ports_than_a_host_has_are_refused() {
    each_is_told(
        HUB,
        &[(
            "prefix = \"10.99.0.0/16\"",
            "prefix = \"::ffff:10.99.0.0/112\"",
            "::ffff",
            "\"::ffff:10.99.0.0/112\" has IPv4-mapped addresses; write the IPv4 prefix itself",
        )],
    );
    let with = |count: u32| {
        let mut text = "[[vnet]]\nname = \"hub\"\nprefixes = [\"10.0.0.0/8\"]\n[[vnet.subnet]]\n\
                        name = \"all\"\nprefixes = [\"10.0.0.0/8\"]\n"
            .to_owned();
        for number in 0..count {
            let address = std::net::Ipv4Addr::from(0x0a01_0000 + number);
            write!(
                text,
                "[[vnet.subnet.port]]\ninterface = \"p{number}\"\naddresses = [\"{address}\"]\n"
            )
            .unwrap();
        }
        text
    };
    assert_eq!(warnings(&with(4095)), [""; 0]);
    let told = faults(&with(4097));
    assert_eq!(
        told,
        format!(
            "x.toml:{}: port p4095 is one port too many; a gateway host has at most 4095: move \
             networks to another one",
            6 + 4095 * 3 + 2
        )
    );
}
