//! What the networks want of a route server, and when they take which of its views.

use std::{collections::BTreeSet, time::Instant};

use super::{
    first_of, hub, ip, lab::Lab, learned, net, path, peerings::hub_and_spokes, route_server,
    subnet, withdrawn,
};
use crate::{
    bgp::wire::Asn,
    config::{
        Config, CustomLearned, Gateway, GatewayMembers, Peer, PeerKind, Propagate, RouteTable,
    },
    fib::Change,
    names::VnetName,
    rib::{LearnedChange, LearnedViewId},
    route_server::{LearnedUse, Report, RouteServer, Surroundings, ViewPlan},
    vnet::{ACTIVE, INVALID, Vnets},
};

#[test]
fn uses_differ_by_reach_propagation_and_gateway_and_are_told_once() {
    let mut config = hub_and_spokes();
    config.route_tables.push(RouteTable {
        name: "quiet".into(),
        propagate: Propagate::NONE,
        routes: vec![],
    });
    config.vnets[0].subnets[1].route_table = Some("quiet".into());
    config.route_servers[0]
        .gateways
        .push(gateway(GatewayMembers::Addresses(vec![ip("10.1.10.4")])));
    let hub: &[&str] = &["hub", "spoke1", "spoke2"];
    let expected = BTreeSet::from([
        of(hub, Propagate::ALL, None),
        of(hub, Propagate::NONE, None),
        of(hub, Propagate::ALL, Some(PeerKind::Vpn)),
        of(&["hub", "spoke1"], Propagate::ALL, None),
        of(&["hub", "spoke2"], Propagate::ALL, None),
    ]);
    assert_eq!(Vnets::new(&config).uses(&"rs1".into()), expected);
}

#[test]
fn a_port_belongs_to_a_gateway_by_its_address_or_its_range() {
    let mut config = hub();
    for members in [
        GatewayMembers::Addresses(vec![ip("10.1.10.4")]),
        GatewayMembers::Range {
            prefix: net("10.1.10.0/27"),
            max_members: 16,
        },
    ] {
        config.route_servers[0].gateways = vec![gateway(members)];
        let lab = Lab::new(&config);
        let nva = first_of(&lab.vnets, "hub", "nva");
        let (_, of, view) = lab.vnets.learned_use(&nva).unwrap();
        assert_eq!(of.gateway, Some(PeerKind::Vpn));
        assert_eq!(view, Some(LearnedViewId::default()));
        let tables = lab.vnets.tables(&nva);
        assert_eq!(tables.unwrap().0, lab.own("sdwan"));
        let (_, of, _) = lab
            .vnets
            .learned_use(&first_of(&lab.vnets, "hub", "apps"))
            .unwrap();
        assert_eq!(of.gateway, None);
    }
}

#[test]
fn ports_are_placed_at_once_and_take_what_is_learned_once_their_use_is_assigned() {
    let mut config = hub_and_spokes();
    config.vnets[2].peerings[0].use_remote_route_server = false;
    let mut lab = Lab::silent(&config);
    let all = waiting(&lab);
    assert!(all.contains(&"sp1".to_owned()) && !all.contains(&"sp2".to_owned()));
    assert_eq!(lab.learned_table("sp1"), None);
    assert_eq!(lab.answer("sp1", "10.101.7.7"), "attached spoke1");
    let spoke1 = of(&["hub", "spoke1"], Propagate::ALL, None);
    lab.say(vec![plan(7, "abc")]);
    lab.say(vec![changes(7, "10.250.0.0/16", "10.1.10.4")]);
    assert_eq!(
        lab.learned_table("sp1"),
        None,
        "its routes are not complete"
    );
    let emitted = lab.say(vec![Report::Assign(spoke1, LearnedViewId(7))]);
    assert!(!waiting(&lab).contains(&"sp1".to_owned()));
    assert_eq!(lab.learned_table("sp1"), Some("learned/rs1/abc"));
    assert_eq!(lab.answer("sp1", "10.250.0.1"), "via hub 10.1.10.4");
    assert!(matches!(emitted.last(), Some(Change::PutPort(_))));
}

#[test]
fn views_have_tables_of_their_own_and_a_port_meets_only_its_own() {
    let mut lab = Lab::silent(&hub_and_spokes());
    let all: &[&str] = &["hub", "spoke1", "spoke2"];
    lab.say(vec![
        plan(0, ""),
        plan(1, "ff"),
        changes(0, "10.250.0.0/16", "10.1.10.4"),
        changes(1, "10.250.0.0/16", "10.101.1.4"),
        changes(1, "0.0.0.0/0", "10.101.1.4"),
        Report::Assign(of(all, Propagate::ALL, None), LearnedViewId(1)),
        Report::Assign(
            of(&["hub", "spoke1"], Propagate::ALL, None),
            LearnedViewId(1),
        ),
        Report::Assign(
            of(&["hub", "spoke2"], Propagate::ALL, None),
            LearnedViewId(0),
        ),
    ]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via spoke1 10.101.1.4");
    assert_eq!(lab.answer("sp2", "10.250.0.1"), "via hub 10.1.10.4");
    // What is learned in one view moves nobody's private ranges but its users'.
    assert_eq!(lab.answer("sp1", "192.168.0.1"), "via spoke1 10.101.1.4");
    assert_eq!(lab.answer("sp2", "192.168.0.1"), "discard");
}

#[test]
fn a_port_keeps_its_view_until_another_is_assigned_and_then_the_old_one_may_go() {
    let mut config = hub_and_spokes();
    let mut lab = Lab::new(&config);
    lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    let before = lab.kernel.ports["sp1"].clone();

    // Spoke 1 reaches one network more.
    config.vnets[1]
        .peerings
        .push(crate::config::Peering::new("spoke2".into()));
    config.vnets[2]
        .peerings
        .push(crate::config::Peering::new("spoke1".into()));
    lab.vnets.reconfigure(&config);
    lab.apply();
    let between = &lab.kernel.ports["sp1"];
    assert_ne!(between.own_table, before.own_table, "the peering is there");
    assert_eq!(between.learned_table, before.learned_table);
    assert_eq!(lab.answer("sp1", "10.250.0.1"), "via hub 10.1.10.4");
    lab.learn(vec![learned("0.0.0.0/0", &["10.1.10.4"])]);
    assert_eq!(
        lab.answer("sp1", "192.168.0.1"),
        "via hub 10.1.10.4",
        "what the old view learns meanwhile counts"
    );

    let all: &[&str] = &["hub", "spoke1", "spoke2"];
    lab.say(vec![
        plan(1, "ff"),
        changes(1, "10.250.0.0/16", "10.102.1.4"),
        Report::Assign(of(all, Propagate::ALL, None), LearnedViewId(1)),
        Report::Drop(LearnedViewId(0)),
    ]);
    assert_eq!(lab.answer("sp1", "10.250.0.1"), "via spoke2 10.102.1.4");
    assert!(
        !lab.kernel.tables.contains("learned/rs1"),
        "nobody takes it"
    );
}

#[test]
fn a_port_that_becomes_a_gateway_s_or_moves_to_a_subnet_with_a_new_use_keeps_its_view_meanwhile() {
    let without = hub();
    let mut with = hub();
    let members = GatewayMembers::Addresses(vec![ip("10.1.10.4")]);
    with.route_servers[0].gateways.push(gateway(members));
    let mut moved = hub();
    moved.route_tables.push(RouteTable {
        name: "quiet".into(),
        propagate: Propagate::NONE,
        routes: vec![],
    });
    moved.vnets[0].subnets[1].route_table = Some("quiet".into());
    let ports = std::mem::take(&mut moved.vnets[0].subnets[2].ports);
    moved.vnets[0].subnets[1].ports.extend(ports);
    for (before, after) in [(&without, &with), (&with, &without), (&without, &moved)] {
        let mut lab = Lab::new(before);
        lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.9"])]);
        lab.vnets.reconfigure(after);
        let changes = lab.apply();
        let gone = |change: &Change| matches!(change, Change::RemovePort(_));
        assert!(!changes.iter().any(gone), "{changes:?}");
        assert_eq!(lab.answer("sdwan", "10.250.0.1"), "via hub 10.1.10.9");
    }
}

#[test]
fn a_view_that_is_dropped_leaves_nothing_once_its_last_ports_have_another() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![
        learned("10.250.0.0/16", &["10.1.10.4"]),
        learned("0.0.0.0/0", &["10.1.10.4"]),
    ]);
    lab.say(vec![Report::Drop(LearnedViewId(0))]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.4");
    lab.say(vec![
        plan(1, "ff"),
        Report::Assign(of(&["hub"], Propagate::ALL, None), LearnedViewId(1)),
    ]);
    assert_eq!(lab.learned_table("vm1"), Some("learned/rs1/ff"));
    assert!(!lab.kernel.tables.contains("learned/rs1"));
    assert_eq!(
        lab.answer("vm1", "10.250.0.1"),
        "discard",
        "nothing is learned"
    );
    let changes = lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    assert_eq!(changes, [], "it says nothing any more");
}

#[test]
fn the_end_of_a_view_leaves_the_table_to_another_one_that_has_it() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    lab.say(vec![
        plan(1, ""),
        changes(1, "10.250.0.0/16", "10.1.10.9"),
        Report::Assign(of(&["hub"], Propagate::ALL, None), LearnedViewId(1)),
    ]);
    lab.say(vec![Report::Drop(LearnedViewId(0))]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.9");
}

#[test]
fn static_routes_stand_when_their_route_server_has_moved_to_a_peered_network_and_back() {
    let mut config = hub_and_spokes();
    let route = |prefix: &str, next_hop: &str| CustomLearned {
        prefix: net(prefix),
        next_hops: vec![ip(next_hop)],
    };
    config.route_servers[0].learned = vec![
        route("10.250.0.0/16", "10.1.10.4"),
        route("10.251.0.0/16", "10.101.1.9"),
    ];
    let now = Instant::now();
    let mut server = RouteServer::new(&config.route_servers[0], &around(&config, &[0, 1, 2]));
    let mut lab = Lab::silent(&config);
    // It is called the same wherever it lies between the hub and spoke 1.
    let mut tables = BTreeSet::new();
    for spaces in [[0, 1, 2].as_slice(), &[1, 0], &[0, 1, 2]] {
        config.route_servers[0].vnet = config.vnets[spaces[0]].name.clone();
        lab.vnets.reconfigure(&config);
        lab.apply();
        server.set_uses(lab.vnets.uses(&"rs1".into()), now);
        server.reconfigure(&config.route_servers[0], &around(&config, spaces), now);
        lab.say(server.settle(now).reports);
        tables.extend(lab.learned_table("sp1").map(str::to_owned));
        assert_eq!(lab.answer("sp1", "10.250.0.1"), "via hub 10.1.10.4");
        assert_eq!(lab.answer("sp1", "10.251.0.1"), "via spoke1 10.101.1.9");
    }
    assert_eq!(tables.len(), 1, "{tables:?}");
}

#[test]
fn a_view_under_the_name_of_one_that_was_dropped_starts_empty() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![
        learned("10.250.0.0/16", &["10.1.10.4"]),
        learned("10.251.0.0/16", &["10.1.10.4"]),
    ]);
    lab.say(vec![
        Report::Drop(LearnedViewId(0)),
        plan(1, ""),
        changes(1, "10.250.0.0/16", "10.1.10.9"),
        Report::Assign(of(&["hub"], Propagate::ALL, None), LearnedViewId(1)),
    ]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.9");
    assert_eq!(lab.answer("vm1", "10.251.0.1"), "discard");
    assert_eq!(lab.fib.routes(&"learned/rs1".into()).count(), 1);
}

#[test]
fn a_view_under_the_name_of_one_that_ports_still_take_leaves_them_its_routes_until_it_is_told() {
    let mut lab = Lab::new(&hub());
    let nva = ["10.1.10.4"].as_slice();
    lab.learn(vec![
        learned("0.0.0.0/0", nva),
        learned("10.250.0.0/16", nva),
        learned("10.251.0.0/16", nva),
    ]);
    lab.say(vec![Report::Drop(LearnedViewId(0))]);
    lab.say(vec![plan(1, "")]);
    lab.say(vec![changes(1, "10.250.0.0/16", "10.1.10.9")]);
    assert_eq!(lab.learned_table("vm1"), Some("learned/rs1"));
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.9");
    for old in ["10.251.0.1", "192.168.0.1"] {
        assert_eq!(lab.answer("vm1", old), "via hub 10.1.10.4");
    }
    let hub = of(&["hub"], Propagate::ALL, None);
    lab.say(vec![Report::Assign(hub, LearnedViewId(1))]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.9");
    for old in ["10.251.0.1", "192.168.0.1"] {
        assert_eq!(lab.answer("vm1", old), "discard");
    }
}

#[test]
fn a_view_that_is_told_marks_only_stands_while_ports_take_it() {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![
        learned("10.250.0.0/16", &["10.1.10.4"]),
        learned("10.251.0.0/16", &["10.1.10.4"]),
    ]);
    let marks = ViewPlan {
        label: "".into(),
        forwarding: false,
    };
    lab.say(vec![Report::View(LearnedViewId(0), marks)]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.4");
    // Told in full again: what does not come again goes in the end.
    let hub = of(&["hub"], Propagate::ALL, None);
    lab.say(vec![plan(0, ""), changes(0, "10.250.0.0/16", "10.1.10.4")]);
    assert_eq!(lab.answer("vm1", "10.251.0.1"), "via hub 10.1.10.4");
    lab.say(vec![Report::Assign(hub.clone(), LearnedViewId(0))]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.4");
    assert_eq!(lab.answer("vm1", "10.251.0.1"), "discard");

    let marks = ViewPlan {
        label: "".into(),
        forwarding: false,
    };
    lab.say(vec![Report::View(LearnedViewId(0), marks)]);
    lab.say(vec![plan(1, "ff"), Report::Assign(hub, LearnedViewId(1))]);
    let left = lab.fib.routes(&"learned/rs1".into()).count();
    assert_eq!(left, 0, "no port takes it any more");
}

#[test]
fn a_view_that_tells_marks_only_knows_of_blackholes_until_they_are_gone() {
    let mut lab = Lab::new(&hub());
    let mut change = learned("10.250.0.0/16", &[]);
    change.route.as_mut().unwrap().blackhole = true;
    lab.learn(vec![change, learned("10.251.0.0/16", &[])]);
    let plan = ViewPlan {
        label: "".into(),
        forwarding: false,
    };
    lab.say(vec![Report::View(LearnedViewId(0), plan)]);
    let dropped = |lab: &Lab| {
        let rows = super::apps(&lab.vnets, &[]);
        let of = |prefix: &str| rows.iter().filter(|row| row.prefix == net(prefix)).count();
        (of("10.250.0.0/16"), of("10.251.0.0/16"))
    };
    assert_eq!(dropped(&lab), (1, 1));
    lab.learn(vec![withdrawn("10.250.0.0/16")]);
    assert_eq!(dropped(&lab), (0, 1));
}

#[test]
fn what_a_view_of_marks_does_not_tell_of_the_one_whose_name_it_takes_over_is_gone_once_it_is_assigned()
 {
    let mut lab = Lab::new(&hub());
    lab.learn(vec![
        learned("10.250.0.0/16", &[]),
        learned("10.251.0.0/16", &[]),
    ]);
    let marks = ViewPlan {
        label: "".into(),
        forwarding: false,
    };
    let hub = LearnedUse {
        forwarding: false,
        ..of(&["hub"], Propagate::ALL, None)
    };
    let again = LearnedChange {
        view: LearnedViewId(1),
        ..learned("10.250.0.0/16", &[])
    };
    lab.say(vec![
        Report::Drop(LearnedViewId(0)),
        Report::View(LearnedViewId(1), marks),
        Report::Changes(vec![again]),
        Report::Assign(hub, LearnedViewId(1)),
    ]);
    let rows = super::apps(&lab.vnets, &[]);
    let dropped = |prefix: &str| rows.iter().any(|row| row.prefix == net(prefix));
    assert!(dropped("10.250.0.0/16"));
    assert!(!dropped("10.251.0.0/16"));
}

#[test]
fn a_network_that_changes_its_route_server_keeps_the_old_routes_until_the_new_ones_are_complete() {
    let mut config = hub_and_spokes();
    let mut lab = Lab::new(&config);
    lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    config
        .route_servers
        .push(route_server("rs2", "spoke1", "10.101.255"));
    lab.vnets.reconfigure(&config);
    lab.apply();
    assert_eq!(lab.learned_table("sp1"), Some("learned/rs1"));
    assert_eq!(lab.answer("sp1", "10.250.0.1"), "via hub 10.1.10.4");
    lab.reconfigure(&config);
    assert_eq!(lab.learned_table("sp1"), Some("learned/rs2"));
}

#[test]
fn a_first_port_takes_what_is_learned_once_all_has_been_told() {
    let mut config = hub();
    let full = hub();
    for subnet in &mut config.vnets[0].subnets {
        subnet.ports.clear();
    }
    let mut lab = Lab::new(&config);
    lab.vnets.reconfigure(&full);
    lab.apply();
    assert_eq!(waiting(&lab), ["sdwan", "vm1", "vm2"]);
    lab.say(vec![
        plan(0, ""),
        changes(0, "10.250.0.0/16", "10.1.10.4"),
        Report::Assign(of(&["hub"], Propagate::ALL, None), LearnedViewId(0)),
    ]);
    assert_eq!(waiting(&lab), Vec::<String>::new());
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "via hub 10.1.10.4");
}

#[test]
fn a_blackhole_is_dropped_as_such_and_told() {
    let mut lab = Lab::new(&hub());
    let mut change = learned("10.250.0.0/16", &[]);
    change.route.as_mut().unwrap().blackhole = true;
    lab.learn(vec![change]);
    assert_eq!(lab.answer("vm1", "10.250.0.1"), "blackhole");
    let rows = super::apps(&lab.vnets, &[]);
    let row = super::row(&rows, "10.250.0.0/16", "learned");
    assert_eq!(
        (row.state.as_str(), row.next_hop_type.as_str()),
        ("Active", "None")
    );
    assert_eq!(
        super::reason(row),
        "the best path carries BLACKHOLE (RFC 7999): packets are dropped"
    );
}

#[test]
fn ports_of_a_gateway_beside_others_take_their_own_view() {
    let mut config = hub();
    let mut machines = subnet("nva", "10.1.10", "fw", true);
    machines.ports[0].addresses = vec![ip("10.1.10.9")];
    config.vnets[0].subnets[2].ports.append(&mut machines.ports);
    config.route_servers[0]
        .gateways
        .push(gateway(GatewayMembers::Addresses(vec![ip("10.1.10.4")])));
    let mut lab = Lab::silent(&config);
    lab.say(vec![
        plan(0, ""),
        plan(1, "ff"),
        Report::Assign(of(&["hub"], Propagate::ALL, None), LearnedViewId(0)),
        Report::Assign(
            of(&["hub"], Propagate::ALL, Some(PeerKind::Vpn)),
            LearnedViewId(1),
        ),
    ]);
    assert_eq!(lab.learned_table("fw"), Some("learned/rs1"));
    assert_eq!(lab.learned_table("sdwan"), Some("learned/rs1/ff"));
    lab.say(vec![changes(1, "0.0.0.0/0", "10.1.10.9")]);
    assert_eq!(lab.answer("fw", "192.168.0.1"), "discard");
    assert_eq!(
        lab.answer("sdwan", "192.168.0.1"),
        "via hub 10.1.10.9",
        "private ranges follow the default route of the view"
    );
    let groups = lab.vnets.port_groups(&"hub".into(), &"nva".into());
    let told = groups.iter().map(|group| lab.vnets.tables(group).unwrap());
    let learned = told.map(|(_, learned)| learned.unwrap().to_string());
    assert_eq!(
        learned.collect::<Vec<_>>(),
        ["learned/rs1", "learned/rs1/ff"]
    );
}

/// A subnet of an appliance (`fw`), an ExpressRoute gateway's member (`er1`), and a VPN gateway's, which
/// has `sdwan`'s port.
fn mixed_subnet() -> Config {
    let mut config = hub();
    for (interface, address) in [("fw", "10.1.10.9"), ("er1", "10.1.10.14")] {
        let mut machines = subnet("nva", "10.1.10", interface, true);
        machines.ports[0].addresses = vec![ip(address)];
        config.vnets[0].subnets[2].ports.append(&mut machines.ports);
    }
    config.route_servers[0].gateways = vec![
        Gateway {
            name: "er".into(),
            kind: PeerKind::ExpressRoute,
            ..gateway(GatewayMembers::Addresses(vec![ip("10.1.10.14")]))
        },
        gateway(GatewayMembers::Addresses(vec![ip("10.1.10.4")])),
    ];
    config
}

#[test]
fn effective_routes_of_ports_that_see_different_routes_stand_beside_each_other() {
    let lab = Lab::new(&mixed_subnet());
    let groups = lab.vnets.port_groups(&"hub".into(), &"nva".into());
    let told = groups.iter().map(|group| {
        // What branch-to-branch comes to: VPN routes for ExpressRoute's ports, not for VPN's own.
        let state = match group.gateway {
            Some(PeerKind::Vpn) => "excluded",
            _ => "best",
        };
        let (_, of, _) = lab.vnets.learned_use(group).unwrap();
        assert_eq!(of.gateway, group.gateway);
        let paths = [path("10.77.0.0/16", "10.1.10.4", state)];
        let rows = lab.vnets.effective_routes(group, &paths);
        let row = super::row(&rows, "10.77.0.0/16", "learned");
        let alike = rows.iter().all(|other| other.ports == row.ports);
        assert!(alike, "all name the ports");
        (row.ports.clone().unwrap(), row.state.clone())
    });
    let told: Vec<_> = told.collect();
    let told: Vec<_> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        told,
        [
            ("others", ACTIVE),
            ("express_route", ACTIVE),
            ("vpn", INVALID)
        ]
    );
    let apps = lab.vnets.port_groups(&"hub".into(), &"apps".into());
    let [apps] = &apps[..] else {
        panic!("its ports see the same");
    };
    let rows = lab.vnets.effective_routes(apps, &[]);
    assert!(rows.iter().all(|row| row.ports.is_none()));
}

#[test]
fn the_port_that_has_the_source_or_is_named_says_which_tables_a_packet_meets() {
    let vnets = Vnets::new(&mixed_subnet());
    let entrance = |port: Option<&str>, source: Option<&str>| {
        let (hub, nva) = ("hub".into(), "nva".into());
        vnets
            .entrance(&hub, &nva, port, source.map(ip))
            .map(|entrance| {
                let through: Vec<_> = entrance.through.iter().map(ToString::to_string).collect();
                (entrance.ports.unwrap(), entrance.is_open, through.join(" "))
            })
    };
    let said = |ports: &'static str, is_open, through: &str| Ok((ports, is_open, through.into()));
    assert_eq!(
        entrance(None, Some("10.1.10.14")),
        said("express_route", false, "er1")
    );
    assert_eq!(
        entrance(None, Some("10.1.10.4")),
        said("vpn", false, "sdwan")
    );
    assert_eq!(entrance(Some("sdwan"), None), said("vpn", false, ""));
    // What a gateway's site sends comes through its port, if that is named.
    assert_eq!(
        entrance(Some("er1"), Some("10.77.0.1")),
        said("express_route", false, "er1")
    );
    assert_eq!(
        entrance(None, Some("10.77.0.1")),
        said("others", true, "fw")
    );
    assert_eq!(entrance(None, None), said("others", true, ""));
    let none = entrance(Some("vm1"), None).unwrap_err().to_string();
    assert_eq!(
        none,
        "subnet hub/nva has no port \"vm1\"; there are: sdwan, fw, er1"
    );
}

#[test]
fn a_source_that_no_port_has_is_let_in_only_where_one_forwards() {
    let vnets = Vnets::new(&mixed_subnet());
    let is_refused = |subnet: &str, port: Option<&str>, source: &str| {
        let entrance = vnets.entrance(&"hub".into(), &subnet.into(), port, Some(ip(source)));
        entrance.unwrap().is_refused
    };
    assert!(!is_refused("apps", None, "10.1.1.4"));
    assert!(is_refused("apps", None, "10.1.1.5"), "nobody has it");
    assert!(is_refused("apps", None, "10.77.0.1"));
    assert!(!is_refused("nva", None, "10.77.0.1"), "they forward");
    assert!(!is_refused("nva", Some("er1"), "10.1.10.4"));
}

impl Lab {
    /// `rs1` says this.
    fn say(&mut self, reports: Vec<Report>) -> Vec<Change> {
        self.vnets.report(&"rs1".into(), reports);
        self.apply()
    }
}

/// These networks, the route server's own first, and all others beyond.
fn around(config: &Config, spaces: &[usize]) -> Surroundings {
    let space = |place: usize| {
        let vnet = &config.vnets[place];
        (vnet.name.clone(), vnet.prefixes.clone())
    };
    let beyond = (0..config.vnets.len()).filter(|place| !spaces.contains(place));
    Surroundings {
        spaces: spaces.iter().map(|place| space(*place)).collect(),
        beyond: beyond.map(space).collect(),
        gateways: BTreeSet::new(),
    }
}

/// The ports that wait to hear which learned table they take.
fn waiting(lab: &Lab) -> Vec<String> {
    let ports = lab.kernel.ports.values();
    let waiting = ports.filter(|port| port.awaits_learned);
    waiting.map(|port| port.interface.to_string()).collect()
}

fn of(reach: &[&str], propagate: Propagate, gateway: Option<PeerKind>) -> LearnedUse {
    LearnedUse {
        propagate,
        gateway,
        reach: reach.iter().map(|name| VnetName::from(*name)).collect(),
        forwarding: true,
    }
}

fn plan(view: u32, label: &str) -> Report {
    let plan = ViewPlan {
        label: label.into(),
        forwarding: true,
    };
    Report::View(LearnedViewId(view), plan)
}

fn changes(view: u32, prefix: &str, next_hop: &str) -> Report {
    Report::Changes(vec![LearnedChange {
        view: LearnedViewId(view),
        ..learned(prefix, &[next_hop])
    }])
}

fn gateway(members: GatewayMembers) -> Gateway {
    Gateway {
        name: "vpn".into(),
        kind: PeerKind::Vpn,
        members,
        template: Peer::new("vpn".into(), ip("10.1.10.4"), 65515 as Asn),
    }
}
