//! Networks that are peered: what each of them reaches, whose route server they use, and what of
//! theirs it advertises.

use super::{
    apps, assign, brief, config, first_of, hub, ip, lab::Lab, learn, learned, net, path, reason,
    route_server, row, subnet, vnets,
};
use crate::{
    config::{Config, Peering, Vnet},
    fib::{Change, NextHop},
    names::{InterfaceName, VnetName},
    vnet::{ACTIVE, INVALID},
};

/// The hub, and two spokes that are peered with it and use its route server.
pub(super) fn hub_and_spokes() -> Config {
    let mut config = hub();
    config.vnets.push(spoke(1));
    config.vnets.push(spoke(2));
    for spoke in ["spoke1", "spoke2"] {
        config.vnets[0].peerings.push(Peering {
            allow_gateway_transit: true,
            ..Peering::new(spoke.into())
        });
    }
    config
}

/// `10.10N.0.0/16` with one subnet, whose port is `spN`.
pub(super) fn spoke(n: u8) -> Vnet {
    Vnet {
        name: format!("spoke{n}").into(),
        prefixes: vec![net(&format!("10.10{n}.0.0/16"))],
        uplink: vec![],
        subnets: vec![subnet(
            "vms",
            &format!("10.10{n}.1"),
            &format!("sp{n}"),
            false,
        )],
        peerings: vec![Peering {
            use_remote_route_server: true,
            ..Peering::new("hub".into())
        }],
    }
}

#[test]
fn a_peered_network_is_reached_and_beats_what_is_learned_within_its_space() {
    let mut lab = Lab::new(&hub_and_spokes());
    lab.learn(vec![
        learned("10.101.0.0/16", &["10.1.10.4"]),
        learned("10.101.1.0/24", &["10.1.10.4"]),
    ]);
    assert_eq!(lab.answer("vm1", "10.101.1.4"), "attached spoke1");
    assert_eq!(lab.answer("sp1", "10.1.1.4"), "attached hub");
    assert_eq!(
        lab.answer("sp2", "10.101.1.4"),
        "via hub 10.1.10.4",
        "spokes are not peered with each other: the learned route applies there"
    );
}

#[test]
fn the_space_of_a_peered_network_is_not_local_and_the_own_is() {
    let lab = Lab::new(&hub_and_spokes());
    let own = lab.own_route("vm1", "10.1.0.0/16");
    assert!(own.local && own.overriding);
    let peered = lab.own_route("vm1", "10.101.0.0/16");
    assert!(!peered.local && peered.overriding);
    assert!(!lab.own_route("vm1", "0.0.0.0/0").local);
}

#[test]
fn a_peering_with_one_side_only_gives_no_rows() {
    for side in [0, 1] {
        let mut config = hub_and_spokes();
        config.vnets[side].peerings.remove(0);
        let lab = Lab::new(&config);
        assert_eq!(lab.answer("vm1", "10.101.1.4"), "discard");
        assert_eq!(lab.answer("sp1", "10.1.1.4"), "discard");
        assert_eq!(lab.learned_table("sp1"), None);
        assert_eq!(lab.answer("vm1", "10.102.1.4"), "attached spoke2");
    }
}

#[test]
fn a_network_uses_a_remote_route_server_only_where_both_sides_say_so() {
    let lab = Lab::new(&hub_and_spokes());
    assert_eq!(lab.learned_table("sp1"), Some("learned/rs1"));
    let not_asked = |config: &mut Config| {
        config.vnets[1].peerings[0].use_remote_route_server = false;
    };
    let not_allowed = |config: &mut Config| {
        config.vnets[0].peerings[0].allow_gateway_transit = false;
    };
    for change in [not_asked, not_allowed] {
        let mut config = hub_and_spokes();
        change(&mut config);
        let lab = Lab::new(&config);
        assert_eq!(lab.learned_table("sp1"), None);
        assert_eq!(lab.learned_table("sp2"), Some("learned/rs1"));
        assert_eq!(
            lab.answer("sp1", "10.1.1.4"),
            "attached hub",
            "still peered"
        );
    }
}

#[test]
fn a_network_uses_its_own_route_server_before_a_remote_one() {
    let mut config = hub_and_spokes();
    config
        .route_servers
        .push(route_server("rs2", "spoke1", "10.101.255"));
    let vnets = vnets(&config);
    assert_eq!(vnets.route_server(&"spoke1".into()), Some(&"rs2".into()));
    assert_eq!(vnets.route_server(&"spoke2".into()), Some(&"rs1".into()));
}

#[test]
fn a_route_server_advertises_the_prefixes_of_all_networks_that_use_it() {
    let advertised = |config: &Config| -> Vec<String> {
        let advertised = vnets(config).advertised_prefixes(&"rs1".into());
        advertised.iter().map(ToString::to_string).collect()
    };
    let mut config = hub_and_spokes();
    let all = [
        "10.1.0.0/16",
        "10.101.0.0/16",
        "10.102.0.0/16",
        "fd00:1::/48",
    ];
    assert_eq!(advertised(&config), all);
    config.vnets[2].prefixes.push(net("10.101.0.0/16"));
    assert_eq!(advertised(&config), all, "that of two users once");
    config.vnets[1].peerings[0].use_remote_route_server = false;
    config.vnets[2].prefixes.pop();
    assert_eq!(
        advertised(&config),
        ["10.1.0.0/16", "10.102.0.0/16", "fd00:1::/48"]
    );
}

#[test]
fn instances_are_the_hosts_in_peered_networks_too() {
    let config = hub_and_spokes();
    let lab = Lab::new(&config);
    assert_eq!(lab.answer("sp1", "10.1.255.4"), "host");
    let shown = lab
        .vnets
        .candidates(&first_of(&lab.vnets, "spoke1", "vms"), ip("10.1.1.1"), &[]);
    assert!(shown.host, "a gateway of the peered network");
    assert_eq!(
        shown.rows[shown.winner.unwrap()].next_hop_type,
        "VNetPeering"
    );
}

#[test]
fn the_port_of_a_machine_in_a_peered_network_is_known() {
    let vnets = vnets(&hub_and_spokes());
    let port = |from: &str, address: &str| {
        let port = vnets.attached(&from.into(), ip(address));
        port.map(ToString::to_string)
    };
    assert_eq!(port("hub", "10.101.1.4"), Some("sp1".into()));
    assert_eq!(port("spoke1", "10.1.1.4"), Some("vm1".into()));
    assert_eq!(port("spoke2", "10.101.1.4"), None, "not peered");
}

#[test]
fn learned_next_hops_lie_in_the_network_that_contains_them() {
    let mut lab = Lab::new(&hub_and_spokes());
    lab.learn(vec![learned("10.250.0.0/16", &["10.1.10.4", "10.101.1.9"])]);
    assert_eq!(
        lab.answer("sp2", "10.250.0.1"),
        "via hub 10.1.10.4, via spoke1 10.101.1.9"
    );
    let mut config = hub_and_spokes();
    config.vnets[2].prefixes = std::mem::take(&mut config.vnets[1].prefixes);
    config.vnets[1].subnets.clear();
    config.vnets[2].subnets.clear();
    lab.reconfigure(&config);
    assert_eq!(
        lab.answer("vm1", "10.250.0.1"),
        "via hub 10.1.10.4, via spoke2 10.101.1.9",
        "the address has moved to another network"
    );
}

#[test]
fn a_network_that_is_peered_no_more_stays_closed_to_a_port_while_its_view_leads_there() {
    let mut config = hub_and_spokes();
    // Nobody else takes what the hub will.
    config.vnets[2].peerings[0].use_remote_route_server = false;
    let mut lab = Lab::new(&config);
    let closed = |lab: &Lab| -> Vec<String> {
        let restricted = &lab.kernel.ports["sdwan"].restricted;
        restricted.iter().map(ToString::to_string).collect()
    };
    assert_eq!(closed(&lab), ["spoke1", "spoke2"]);
    lab.learn(vec![learned("10.250.0.0/16", &["10.101.1.9"])]);
    config.vnets[0].peerings.remove(0);
    config.vnets[1].peerings.clear();
    lab.vnets.reconfigure(&config);
    lab.apply();
    assert_eq!(lab.learned_table("sdwan"), Some("learned/rs1"));
    assert_eq!(closed(&lab), ["spoke1", "spoke2"]);
    // Placed anew for another reason.
    lab.learn(vec![
        learned("0.0.0.0/0", &["10.101.1.9"]),
        learned("10.251.0.0/16", &[]),
    ]);
    assert_eq!(closed(&lab), ["spoke1", "spoke2"]);
    let rows = apps(&lab.vnets, &[]);
    assert_eq!(
        row(&rows, "10.251.0.0/16", "learned").state,
        ACTIVE,
        "what the view learns is shown while packets follow it"
    );
    assign(&mut lab.vnets, &config);
    lab.apply();
    assert_eq!(closed(&lab), ["spoke2"]);
}

#[test]
fn networks_are_closed_to_what_a_port_forwards_that_is_not_of_its_own_network() {
    let vnets = vnets(&hub_and_spokes());
    let closed = |subnet: &str, source: &str| {
        let entrance = vnets.entrance(&"hub".into(), &subnet.into(), None, Some(ip(source)));
        entrance.unwrap().closed.len()
    };
    assert_eq!(closed("nva", "10.250.0.1"), 2);
    assert_eq!(closed("nva", "10.1.10.4"), 0, "it is at home");
    assert_eq!(closed("apps", "10.250.0.1"), 0, "no port there forwards");
}

#[test]
fn a_forwarding_port_is_restricted_towards_peers_that_take_no_forwarded_traffic() {
    let restricted = |config: &Config, interface: &str| -> Vec<VnetName> {
        let lab = Lab::new(config);
        lab.kernel.ports[&InterfaceName::from(interface)]
            .restricted
            .clone()
    };
    let mut config = hub_and_spokes();
    assert_eq!(
        restricted(&config, "sdwan"),
        ["spoke1".into(), "spoke2".into()]
    );
    assert_eq!(
        restricted(&config, "vm1"),
        [],
        "what it sends is its own anyway"
    );
    config.vnets[1].peerings[0].allow_forwarded_traffic = true;
    assert_eq!(restricted(&config, "sdwan"), ["spoke2".into()]);
    config.vnets[0].peerings[1].allow_forwarded_traffic = true;
    assert_eq!(
        restricted(&config, "sdwan"),
        ["spoke2".into()],
        "what counts is what the other side takes"
    );
}

#[test]
fn effective_routes_tell_peerings_and_what_they_beat() {
    let mut vnets = vnets(&hub_and_spokes());
    learn(&mut vnets, vec![learned("10.101.1.0/24", &["10.1.10.4"])]);
    let rows = apps(&vnets, &[path("10.101.1.0/24", "10.1.10.4", "best")]);
    let peering = row(&rows, "10.101.0.0/16", "system");
    assert_eq!(
        (peering.next_hop_type.as_str(), peering.state.as_str()),
        ("VNetPeering", ACTIVE)
    );
    assert_eq!(
        reason(peering),
        "the space of the peered network \"spoke1\" beats learned routes of equal or longer prefix \
         (1); network \"spoke1\" is peered with this one"
    );
    let beaten = row(&rows, "10.101.1.0/24", "learned");
    assert_eq!(beaten.state, INVALID);
    assert_eq!(
        reason(beaten),
        "lies within 10.101.0.0/16, the space of the peered network \"spoke1\", which beats \
         learned routes of equal or longer prefix"
    );
}

#[test]
fn a_next_hop_in_a_network_that_is_not_peered_is_not_used_and_the_reason_names_both() {
    let mut overlapping = hub_and_spokes();
    // The hub is not peered with it.
    let mut twin = spoke(1);
    twin.name = "another".into();
    twin.subnets.clear();
    twin.peerings = vec![Peering::new("spoke2".into())];
    overlapping.vnets.push(twin);
    overlapping.vnets[2]
        .peerings
        .push(Peering::new("another".into()));
    let configs = [hub_and_spokes(), overlapping];
    let states = ["best", "excluded"].into_iter();
    for (state, config) in states.flat_map(|state| configs.iter().map(move |it| (state, it))) {
        let vnets = vnets(config);
        let rows = vnets.effective_routes(
            &first_of(&vnets, "spoke2", "vms"),
            &[path("10.250.0.0/16", "10.101.1.9", state)],
        );
        let row = row(&rows, "10.250.0.0/16", "learned");
        assert_eq!(row.state, INVALID);
        assert_eq!(
            reason(row),
            "next hop lies in network \"spoke1\", which is not peered with \"spoke2\" from both \
             sides (vnet.peering)"
        );
    }
}

#[test]
fn a_private_range_that_a_peered_network_owns_is_not_none() {
    let mut config = hub_and_spokes();
    config.vnets[1].prefixes.push(net("100.0.0.0/9"));
    let rows = apps(&vnets(&config), &[]);
    let texts = brief(&rows);
    assert!(texts.contains(&"100.0.0.0/9 VNetPeering Active".to_owned()));
    assert!(!texts.iter().any(|text| text.starts_with("100.64.0.0/10")));
}

#[test]
fn a_peering_comes_and_goes_without_touching_other_networks() {
    let mut config = hub_and_spokes();
    let mut lab = Lab::new(&config);
    let other = lab.kernel.ports[&InterfaceName::from("sp2")].clone();
    config.vnets[1].peerings.clear();
    let changes = lab.reconfigure(&config);
    assert_eq!(lab.kernel.ports[&InterfaceName::from("sp2")], other);
    let touched = |changes: &[Change]| {
        changes.iter().any(|change| match change {
            Change::PutPort(port) => port.interface == "sp2".into(),
            Change::PutRoute { table, .. } => *table == other.own_table,
            _ => false,
        })
    };
    assert!(!touched(&changes));
    assert_eq!(lab.learned_table("sp1"), None);
    let changes = lab.reconfigure(&hub_and_spokes());
    assert!(!touched(&changes));
    assert_eq!(lab.learned_table("sp1"), Some("learned/rs1"));
}

#[test]
fn networks_without_configuration_have_no_peers() {
    let mut config = config(vec![spoke(1)], vec![]);
    config.vnets[0]
        .peerings
        .push(Peering::new("nowhere".into()));
    let lab = Lab::new(&config);
    assert_eq!(
        lab.next_hop(&lab.own("sp1"), "10.101.0.0/16"),
        NextHop::Attached {
            vnet: "spoke1".into()
        }
    );
}
