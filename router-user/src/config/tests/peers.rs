//! Settings of peers, dynamic ones included.

use super::{HUB, changed, each_is_told, edited, faults, warnings};
use crate::{
    bgp::{
        settings::AoAlgorithm,
        wire::{Family, Role},
    },
    config::{
        PeerPolicy,
        host::{self, Host},
        parse, parse_with_warnings,
    },
};

#[test]
fn each_setting_of_a_peer_is_read() {
    let text = edited(&[(
        "asn = 65010",
        "asn = 65010\nlimit_restart = false\nfamilies = [\"ipv6\"]\nsend_hold_time = 60\n\
         ttl_security = 2\nadd_path_receive = true\nadd_path_send = 4\n\
         long_lived_stale_time = 3600\nextended_next_hop = false\nrole = \"route_server\"\n\
         strict_role = true\nallow_own_as = 1\nallow_as_set = true\nenforce_first_as = false\n\
         max_as_path_length = 50\nas_override = true\ntransparent = true\n\
         [[route_server.peer.tcp_ao]]\nid = 7\nsecret = \"open sesame\"\n\
         algorithm = \"aes-128-cmac-96\"",
    )]);
    let config = parse(&text, "x.toml").unwrap();
    let peer = &config.route_servers[0].peers[0];
    assert!(!peer.limit_restart);
    assert_eq!(
        peer.families.iter().collect::<Vec<_>>(),
        [Family::Ipv6Unicast]
    );
    assert_eq!(peer.send_hold_time, 60);
    assert_eq!(peer.security.ttl_security, Some(2));
    let key = &peer.security.tcp_ao[0];
    assert_eq!((key.id, key.secret.expose()), (7, &b"open sesame"[..]));
    assert_eq!(key.algorithm, AoAlgorithm::Aes128Cmac);
    assert_eq!((peer.add_path.receive, peer.add_path.send), (true, 4));
    assert!(peer.restart.enabled);
    assert_eq!(peer.restart.long_lived_stale_time, 3600);
    assert!(!peer.extended_next_hop);
    let role = peer.role.unwrap();
    assert!(role.strict && role.role == Role::RouteServer);
    let policy = PeerPolicy {
        allow_own_as: 1,
        allow_as_set: true,
        enforce_first_as: false,
        max_as_path_length: 50,
        as_override: true,
        transparent: true,
        ..PeerPolicy::default()
    };
    assert_eq!(peer.policy, policy);
    let text = edited(&[("asn = 65010", "asn = 65010\ngraceful_restart = false")]);
    let config = parse(&text, "x.toml").unwrap();
    assert!(!config.route_servers[0].peers[0].restart.enabled);
}

#[test]
fn faults_of_peers_settings_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "asn = 65020",
                "asn = 65020\nfamilies = []",
                "families = []",
                "families is empty; give at least one",
            ),
            (
                "asn = 65020",
                "asn = 65020\ngraceful_restart = false\nlong_lived_stale_time = 60",
                "long_lived_stale_time",
                "peer spoke-nva has long_lived_stale_time, but graceful_restart = false: nothing is \
                 kept; leave one of them out",
            ),
        ],
    );
}

#[test]
fn a_name_that_means_something_else_already_is_refused() {
    let own = "name = \"spoke-nva\"\naddress";
    each_is_told(
        HUB,
        &[
            (
                own,
                "name = \"static\"\naddress",
                "\"static\"\naddress",
                "name \"static\" of a peer is what routes given by hand are called; choose another",
            ),
            (
                "name = \"branch\"",
                "name = \"originated\"",
                "\"originated\"",
                "name \"originated\" of dynamic peers is what the route server's own routes are called",
            ),
            (
                "name = \"vpn1\"",
                "name = \"10.1.3.130\"",
                "\"10.1.3.130\"",
                "name \"10.1.3.130\" of a gateway is an address; choose another name",
            ),
            (
                own,
                "name = \"er1-10.1.3.5\"\naddress",
                "\"er1-10.1.3.5\"",
                "name \"er1-10.1.3.5\" of a peer is what one of gateway er1 (line",
            ),
            (
                own,
                "name = \"branch-10.3.9.7\"\naddress",
                "\"branch-10.3.9.7\"",
                "name \"branch-10.3.9.7\" of a peer is what one of dynamic peers branch (line",
            ),
        ],
    );
    for other in ["er1-10.1.3.6", "branch-10.3.8.7", "er-10.1.3.5"] {
        let text = changed(HUB, own, &format!("name = \"{other}\"\naddress"));
        assert_eq!(warnings(&text), [""; 0], "{other} is free");
    }
}

#[test]
fn faults_name_the_section_that_they_are_in() {
    let key = "tcp_ao = [{ id = 1, secret = \"sesame\", colour = 1 }]";
    for (asn, header) in [
        ("asn = 65020", "[[route_server.peer.tcp_ao]]"),
        ("asn = 65040", "[[route_server.dynamic_peer.tcp_ao]]"),
        ("asn = 65030", "[[route_server.gateway.tcp_ao]]"),
    ] {
        let told = faults(&changed(HUB, asn, &format!("{asn}\n{key}")));
        let expected = format!("unknown key \"colour\" in {header}; known here: id, secret");
        assert!(told.contains(&expected), "{told}");
    }
    let text = changed(
        HUB,
        "route_maps.nva]",
        "route_maps.express_route]\ncolour = 1",
    );
    let told = faults(&text);
    let expected = "unknown key \"colour\" in [route_server.route_maps.express_route]; known";
    assert!(told.contains(expected), "{told}");
    let told = faults(&changed(
        HUB,
        "[route_server.route_maps.nva]",
        "route_maps.vpn = 1\n",
    ));
    let expected = "vpn in [route_server.route_maps] is of type integer; \
                    write a section [route_server.route_maps.vpn]";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn peers_of_one_address_in_two_networks_are_a_warning() {
    let other = "[[vnet]]\nname = \"copy\"\nprefixes = [\"10.1.0.0/16\"]\n[[vnet.subnet]]\nname = \"nva\"\n\
                 prefixes = [\"10.1.10.0/24\"]\n[[vnet.subnet.port]]\ninterface = \"copy\"\n\
                 addresses = [\"10.1.10.4\"]\n[[route_server]]\nname = \"rs2\"\nvnet = \"copy\"\n\
                 [[route_server.instance]]\nid = 1\naddresses = [\"10.1.255.14\"]\n\
                 [[route_server.instance]]\nid = 2\naddresses = [\"10.1.255.15\"]\n\
                 [[route_server.peer]]\nname = \"twin\"\naddress = \"10.1.10.4\"\nasn = 65010\n";
    let text = format!("{HUB}{other}");
    let line = |part: &str| text[..text.find(part).unwrap()].matches('\n').count() + 1;
    let [first, second] = ["address = \"10.1.10.4\"\nasn = 65010\nremove", "\"twin\""].map(line);
    let told = warnings(&text);
    let expected = format!(
        "x.toml:{}: address 10.1.10.4 of peer twin in network copy is also that of peer sdwan in \
         network hub (line {first}): the host connects to both by the same route; give one of them \
         another address, or have the host choose the way by source address",
        second + 1
    );
    assert_eq!(told, [expected]);
}

#[test]
fn dynamic_peers_have_the_settings_of_peers_and_never_connect() {
    let text = edited(&[(
        "[[route_server.peer]]",
        "[[route_server.dynamic_peer]]\nname = \"branch\"\nprefix = \"10.1.10.128/25\"\n\
         max_peers = 5\nasn = 65040\nmd5_password = \"open sesame\"\n\n[[route_server.peer]]",
    )]);
    let config = parse(&text, "x.toml").unwrap();
    let peers = &config.route_servers[0].dynamic_peers[0];
    assert_eq!(peers.name.as_str(), "branch");
    assert_eq!(
        (peers.prefix.to_string().as_str(), peers.max_peers),
        ("10.1.10.128/25", 5)
    );
    assert!(peers.template.passive && peers.template.security.md5_password.is_some());
    assert_eq!(peers.template.asn, 65040);
}

#[test]
fn more_peers_than_a_route_server_can_tell_apart_are_refused() {
    let range = |number: u32, max_peers: u32| {
        format!(
            "[[route_server.dynamic_peer]]\nname = \"branch{number}\"\nasn = 65040\n\
             prefix = \"10.1.10.{number}/32\"\nmax_peers = {max_peers}\n\n"
        )
    };
    let with = |ranges: &[(u32, u32)]| {
        let ranges = ranges.iter().map(|(number, most)| range(*number, *most));
        let text: String = ranges.chain(["[[route_server.peer]]".to_owned()]).collect();
        parse(&edited(&[("[[route_server.peer]]", &text)]), "x.toml")
    };
    assert!(with(&[(101, 20_000), (102, 11_000)]).is_ok());
    let told = with(&[(101, 20_000), (102, 12_000)])
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("there may be 32002 peers at a time"),
        "{told}"
    );
    assert!(
        told.contains("a route server has at most 32000: lower max_peers"),
        "{told}"
    );
}

#[test]
fn a_peer_without_a_key_within_a_range_that_has_one_is_refused() {
    let range = "[[route_server.dynamic_peer]]\nname = \"branch\"\nprefix = \"10.1.10.0/24\"\n\
                 asn = 65040\nmd5_password = \"open sesame\"\n\n[[route_server.peer]]";
    let told = parse(&edited(&[("[[route_server.peer]]", range)]), "x.toml")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("has no key, but its address 10.1.10.4 lies within 10.1.10.0/24"),
        "{told}"
    );
}

#[test]
fn a_kernel_without_tcp_ao_is_a_warning_for_the_peers_that_want_it() {
    let key = "[[route_server.peer.tcp_ao]]\nid = 1\nsecret = \"sesame\"\n\n[[route_server.peer]]";
    let text = edited(&[(
        "\n[[route_server.peer]]\nname = \"fw\"",
        &format!("\n{key}\nname = \"fw\""),
    )]);
    let parsed = parse_with_warnings(&text, "x.toml").unwrap();
    let mut host = Host::default();
    let addresses = parsed.config.route_servers[0].instances.iter();
    let own = addresses
        .flat_map(|instance| instance.addresses.clone())
        .collect();
    host.interfaces.insert("lo".to_owned(), own);
    for subnet in parsed.config.vnets.iter().flat_map(|vnet| &vnet.subnets) {
        for port in &subnet.ports {
            let own = subnet.gateways.iter().copied().collect();
            host.interfaces.insert(port.interface.to_string(), own);
        }
    }
    assert_eq!(host::check(&parsed, &host, None), Ok(Vec::new()));
    host.no_tcp_ao = Some("this kernel has no TCP-AO".to_owned());
    let warnings = host::check(&parsed, &host, None).unwrap();
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        told.contains("peer sdwan of route server rs1 stays down; this kernel has no TCP-AO"),
        "{told}"
    );
    assert!(!told.starts_with("x.toml:1:"), "{told}");
}
