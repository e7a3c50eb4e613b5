//! Gateways, and peers that lie in peered networks.

use super::{EXAMPLE, HUB, changed, each_is_told, faults, warnings};
use crate::config::{
    GatewayMembers, LimitAction, PeerKind, RouteMaps, RoutingPreference,
    host::{self, Host},
    parse, parse_with_warnings,
};

#[test]
fn gateways_have_members_and_every_setting_of_a_peer() {
    let config = parse(HUB, "hub.toml").unwrap();
    let [er1, vpn1] = &config.route_servers[0].gateways[..] else {
        panic!("two gateways");
    };
    assert_eq!(
        (er1.name.as_str(), er1.kind),
        ("er1", PeerKind::ExpressRoute)
    );
    let members = ["10.1.3.4", "10.1.3.5"].map(|member| member.parse().unwrap());
    assert_eq!(er1.members, GatewayMembers::Addresses(members.to_vec()));
    assert_eq!(er1.template.asn, 65515, "the route server's own");
    assert_eq!(er1.template.kind(), PeerKind::ExpressRoute);
    assert_eq!(er1.template.max_advertised, Some(1000));
    assert!(!er1.template.passive);
    let own = RouteMaps {
        inbound: None,
        outbound: Some("to-nva".into()),
    };
    assert_eq!(er1.template.route_maps, own);

    assert_eq!(
        (vpn1.kind, vpn1.template.kind()),
        (PeerKind::Vpn, PeerKind::Vpn)
    );
    assert_eq!(
        vpn1.members,
        GatewayMembers::Range {
            prefix: "10.1.3.128/27".parse().unwrap(),
            max_members: 2
        }
    );
    assert!(vpn1.template.passive);
    assert_eq!(
        (vpn1.template.asn, vpn1.template.max_advertised),
        (65030, Some(100))
    );
    let membership = vpn1.template.membership.as_ref().unwrap();
    assert_eq!(membership.gateway.as_str(), "vpn1");

    let text = changed(
        HUB,
        "max_members = 2\n",
        "hold_time = 30\nallow_own_as = 1\n",
    );
    let text = changed(
        &text,
        "[\"10.1.3.4\", \"10.1.3.5\"]",
        "[\"10.1.3.4\"]\npassive = true\nconnect_retry = 9",
    );
    let config = parse(&text, "x.toml").unwrap();
    let [er1, vpn1] = &config.route_servers[0].gateways[..] else {
        panic!("two gateways");
    };
    assert_eq!(
        (er1.template.passive, er1.template.connect_retry),
        (true, 9)
    );
    assert!(matches!(
        vpn1.members,
        GatewayMembers::Range {
            max_members: 16,
            ..
        }
    ));
    assert_eq!(
        (vpn1.template.hold_time, vpn1.template.policy.allow_own_as),
        (30, 1)
    );
}

#[test]
fn what_a_route_server_and_a_peer_may_set_for_gateways_and_maps_is_read() {
    let config = parse(HUB, "hub.toml").unwrap();
    let server = &config.route_servers[0];
    assert!(server.branch_to_branch && server.always_compare_med);
    assert_eq!(server.routing_preference, RoutingPreference::AsPath);
    assert_eq!(server.cluster_id.to_string(), "10.1.255.9");
    assert_eq!(server.soft_max_peers, 2);
    let [sdwan, spoke_nva] = &server.peers[..] else {
        panic!("two peers");
    };
    let policy = sdwan.policy;
    assert!(policy.remove_private_as && policy.allow_blackhole && policy.default_originate);
    assert_eq!(sdwan.max_advertised, Some(500));
    assert_eq!(sdwan.advertised_limit_action, LimitAction::Discard);
    assert_eq!(sdwan.limit_action, LimitAction::Teardown);
    assert_eq!(sdwan.route_maps.inbound, Some("from-sdwan".into()));
    assert_eq!(spoke_nva.max_advertised, None);
    assert_eq!(spoke_nva.route_maps, RouteMaps::default());

    let plain = parse(EXAMPLE, "example.toml").unwrap();
    let plain = &plain.route_servers[0];
    assert!(!plain.branch_to_branch && !plain.always_compare_med);
    assert_eq!(plain.routing_preference, RoutingPreference::ExpressRoute);
    assert_eq!(plain.cluster_id, plain.instances[0].router_id);
}

#[test]
fn faults_of_gateways_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "kind = \"vpn\"",
                "",
                "[[route_server.gateway]]\nname = \"vpn1\"",
                "[[route_server.gateway]] has no \"kind\"; add kind",
            ),
            (
                "kind = \"vpn\"",
                "kind = \"nva\"",
                "kind = \"nva\"",
                "kind = \"nva\" is not known; write one of: \"express_route\", \"vpn\"",
            ),
            (
                "members = [\"10.1.3.4\", \"10.1.3.5\"]",
                "",
                "[[route_server.gateway]]\nname = \"er1\"",
                "gateway er1 has neither members nor a prefix; name its members",
            ),
            (
                "members = [\"10.1.3.4\", \"10.1.3.5\"]",
                "members = []",
                "members = []",
                "members is empty; give at least one",
            ),
            (
                "prefix = \"10.1.3.128/27\"",
                "prefix = \"10.1.3.128/27\"\nmembers = [\"10.1.3.9\"]",
                "[[route_server.gateway]]\nname = \"vpn1\"",
                "gateway vpn1 has both members and a prefix; name its members",
            ),
            (
                "[\"10.1.3.4\", \"10.1.3.5\"]",
                "[\"10.1.3.4\", \"10.2.3.5\"]",
                "10.2.3.5",
                "address 10.2.3.5 of gateway er1 lies outside network hub; give what the gateway has",
            ),
            (
                "[\"10.1.3.4\", \"10.1.3.5\"]",
                "[\"10.1.3.4\", \"10.1.10.4\"]",
                "[\"10.1.3.4\", \"10.1.10.4\"]",
                "address 10.1.10.4 of gateway er1 is already that of peer sdwan (line",
            ),
            (
                "[\"10.1.3.4\", \"10.1.3.5\"]",
                "[\"10.1.3.4\", \"10.1.3.1\"]",
                "10.1.3.1\"",
                "address 10.1.3.1 of gateway er1 is that of the gateway of subnet gateways (line 16); give the address of the gateway's member",
            ),
            (
                "[\"10.1.3.4\", \"10.1.3.5\"]",
                "[\"fd00:1::4\"]",
                "fd00:1::4",
                "gateway er1 has the IPv6 address fd00:1::4, but instance 2 has none; add an IPv6 address to the instance",
            ),
            (
                "\"10.1.3.128/27\"",
                "\"fd00:1:0:3::/64\"",
                "fd00:1:0:3::/64",
                "gateway vpn1 has the IPv6 address fd00:1:0:3::, but instance 1 has none",
            ),
            (
                "\"10.1.3.128/27\"",
                "\"10.2.3.128/27\"",
                "10.2.3.128/27",
                "prefix 10.2.3.128/27 of gateway vpn1 lies outside network hub; give what",
            ),
            (
                "\"10.1.3.128/27\"",
                "\"10.1.3.0/28\"",
                "10.1.3.0/28",
                "prefix 10.1.3.0/28 of gateway vpn1 has the address 10.1.3.4 of gateway er1 (line 137); give the gateway a range of its own",
            ),
            (
                "\"10.1.3.128/27\"",
                "\"10.1.10.0/28\"",
                "10.1.10.0/28",
                "prefix 10.1.10.0/28 of gateway vpn1 has the address 10.1.10.4 of peer sdwan (line 115)",
            ),
            (
                "prefix = \"10.3.9.0/24\"",
                "prefix = \"10.1.3.144/28\"",
                "»10.1.3.128/27",
                "prefix 10.1.3.128/27 of gateway vpn1 overlaps 10.1.3.144/28 of dynamic peers branch; give each dynamic_peer and each gateway",
            ),
            (
                "name = \"vpn1\"",
                "name = \"sdwan\"",
                "name = \"sdwan\"\nkind",
                "name sdwan of a gateway is already that of a peer (line",
            ),
            (
                "max_members = 2",
                "passive = false",
                "passive = false",
                "gateway vpn1 waits for whoever connects, and has passive; leave passive out",
            ),
            (
                "[\"10.1.3.4\", \"10.1.3.5\"]",
                "[\"10.1.3.4\", \"10.1.3.5\"]\nmax_members = 4",
                "max_members = 4",
                "gateway er1 names its members, and has max_members; leave max_members out",
            ),
            (
                "asn = 65030",
                "asn = 23456",
                "asn = 23456",
                "asn 23456 of gateway vpn1 is AS_TRANS, reserved (RFC 6793); choose another one",
            ),
            (
                "max_members = 2",
                "max_members = 31996",
                "prefix = \"10.1.3.128/27\"",
                "from here on there may be 32100 peers at a time; a route server has at most 32000: lower max_peers",
            ),
            (
                "routing_preference = \"as_path\"",
                "routing_preference = \"vpn\"",
                "routing_preference = \"vpn\"",
                "routing_preference = \"vpn\" is not known; write one of: \"express_route\", \"vpn_gateway\", \"as_path\"",
            ),
            (
                "cluster_id = \"10.1.255.9\"",
                "cluster_id = \"0.0.0.0\"",
                "0.0.0.0\"",
                "\"0.0.0.0\" is no router id; write an IPv4 address",
            ),
        ],
    );
}

#[test]
fn faults_of_peers_in_peered_networks_are_told() {
    let instance = "[[route_server]]\nname = \"rs2\"\nvnet = \"hub2\"\n\
                    [[route_server.instance]]\nid = 1\naddresses = [\"10.4.0.4\"]\n\
                    [[route_server.instance]]\nid = 2\naddresses = [\"10.4.0.5\"]\n";
    let base = format!(
        "[[vnet]]\nname = \"hub2\"\nprefixes = [\"10.4.0.0/16\"]\n[[vnet.peering]]\nremote = \"hub\"\n\
         {HUB}{instance}"
    );
    let base = changed(
        &base,
        "[[vnet.peering]]\nremote = \"spoke1\"",
        "[[vnet.peering]]\nremote = \"hub2\"\n[[vnet.peering]]\nremote = \"spoke1\"",
    );
    assert_eq!(warnings(&base), [""; 0]);
    each_is_told(
        &base,
        &[
            (
                "address = \"10.2.1.10\"",
                "address = \"10.5.1.10\"",
                "10.5.1.10",
                "address 10.5.1.10 of peer spoke-nva lies outside network hub and those that it is peered with; give the address",
            ),
            (
                "address = \"10.2.1.10\"",
                "address = \"10.2.1.1\"",
                "address = \"10.2.1.1\"",
                "address 10.2.1.1 of peer spoke-nva is that of the gateway of subnet apps (line",
            ),
            (
                "address = \"10.2.1.10\"",
                "address = \"10.4.0.5\"",
                "address = \"10.4.0.5\"",
                "address 10.4.0.5 of peer spoke-nva is that of instance 2 of rs2 (line",
            ),
            (
                "prefix = \"10.3.9.0/24\"",
                "prefix = \"10.2.0.0/15\"",
                "10.2.0.0/15",
                "prefix 10.2.0.0/15 of dynamic peers branch lies outside network hub and those that it is peered with; give a range",
            ),
        ],
    );
}

#[test]
fn settings_of_ebgp_are_warned_of_where_a_gateway_is_in_the_own_as() {
    let members = "[\"10.1.3.4\", \"10.1.3.5\"]";
    let with = |settings: &str| changed(HUB, members, &format!("{members}\n{settings}"));
    let text = with("as_override = true\ntransparent = true");
    let told = warnings(&text);
    assert_eq!(told.len(), 1, "{told:?}");
    let expected =
        "gateway er1 is in the route server's own AS, where as_override, transparent has no effect";
    assert!(told[0].contains(expected), "{told:?}");
    let external = with("as_override = true\ntransparent = true\nasn = 65099");
    assert!(warnings(&external).is_empty());
}

#[test]
fn a_vpn_gateway_with_one_member_and_many_peers_are_warnings() {
    let single = "gateway vpn1 has a single member: when it fails, so does the gateway; give";
    let told = warnings(&changed(HUB, "max_members = 2", "max_members = 1"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(single), "{told:?}");
    let named = changed(
        HUB,
        "prefix = \"10.1.3.128/27\"\nmax_members = 2",
        "members = [\"10.1.3.140\"]",
    );
    let told = warnings(&named);
    assert!(told.len() == 1 && told[0].contains(single), "{told:?}");
    let one = changed(HUB, "[\"10.1.3.4\", \"10.1.3.5\"]", "[\"10.1.3.4\"]");
    assert_eq!(warnings(&one), [""; 0], "of an ExpressRoute gateway");

    let told = warnings(&changed(HUB, "soft_max_peers = 2", "soft_max_peers = 1"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains(
            "route server rs1 has 2 peers, more than soft_max_peers = 1; raise soft_max_peers"
        ),
        "{told:?}"
    );
}

#[test]
fn the_asn_of_the_route_server_is_for_gateways_only() {
    let told = faults(&changed(HUB, "asn = 65020", "asn = 65515"));
    assert!(
        told.contains("asn 65515 of peer spoke-nva is the route server's own"),
        "{told}"
    );
    let told = faults(&changed(HUB, "asn = 65020\n", ""));
    assert!(
        told.contains("[[route_server.peer]] has no \"asn\""),
        "{told}"
    );
    assert_eq!(
        warnings(&changed(HUB, "asn = 65030", "asn = 12076")),
        [""; 0]
    );
}

#[test]
fn a_gateway_that_wants_tcp_ao_is_told_of_a_kernel_without() {
    let key = "asn = 65030\ntcp_ao = [{ id = 1, secret = \"sesame\" }]";
    let parsed = parse_with_warnings(&changed(HUB, "asn = 65030", key), "x.toml").unwrap();
    let mut host = Host {
        no_tcp_ao: Some("this kernel has no TCP-AO".to_owned()),
        ..Host::default()
    };
    let config = &parsed.config;
    let instances = config.route_servers[0].instances.iter();
    let own = instances.flat_map(|instance| instance.addresses.clone());
    host.interfaces.insert("lo".to_owned(), own.collect());
    for subnet in config.vnets.iter().flat_map(|vnet| &vnet.subnets) {
        for port in &subnet.ports {
            let own = subnet.gateways.iter().copied().collect();
            host.interfaces.insert(port.interface.to_string(), own);
        }
    }
    let warnings = host::check(&parsed, &host, None).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let told = warnings[0].to_string();
    assert!(
        told.contains("peer vpn1 of route server rs1 stays down; this kernel"),
        "{told}"
    );
}
