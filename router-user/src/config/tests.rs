//! What the configuration accepts, and what it refuses and how.

use std::{net::IpAddr, time::Duration};

use super::{
    LimitAction, LoadError, Peer, RouteServer, Source, load, parse, parse_with_warnings,
    schema::{self, Schema},
};

mod daemon;
mod gateways;
mod guide;
mod host;
mod networks;
mod peers;
mod routes;

/// Every section that the example does without.
const HUB: &str = include_str!("tests/hub.toml");
const EXAMPLE: &str = include_str!("../../../docs/example.toml");
const README: &str = include_str!("../../../README.md");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

#[test]
fn the_first_configuration_of_the_readme_is_accepted() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let parsed = parse_with_warnings(text, "README.md").unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    assert_eq!(
        parsed.config.route_servers[0].peers[0].name.as_str(),
        "sdwan"
    );
}

#[test]
fn a_socket_of_the_command_line_is_no_change_when_the_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waypost.toml");
    std::fs::write(&file, EXAMPLE).unwrap();
    let source = Source {
        file,
        socket: Some("/run/other.sock".into()),
    };
    let running = source.load().unwrap().config;
    assert_eq!(running.daemon.socket.to_str(), Some("/run/other.sock"));
    let again = source.load().unwrap().config;
    assert_eq!(running.changes_at_restart(&again), [""; 0]);
}

#[test]
fn a_file_that_is_no_text_is_told_from_one_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waypost.toml");
    std::fs::write(&file, b"# Z\xc3\xbcrich\n# Z\xfcrich\n").unwrap();
    let path = file.display();
    let error = load(&file).unwrap_err();
    assert!(matches!(error, LoadError::Encoding { line: 2, .. }));
    let expected = format!("{path}:2: this is not UTF-8; save the file as such");
    assert_eq!(error.to_string(), expected);
    std::fs::remove_file(&file).unwrap();
    let told = load(&file).unwrap_err().to_string();
    assert!(
        told.starts_with(&format!("cannot read {path}: No such file")),
        "{told}"
    );
    assert!(
        told.ends_with("; check the path and its permissions"),
        "{told}"
    );
}

#[test]
fn the_example_is_a_whole_configuration_without_warnings() {
    let parsed = parse_with_warnings(EXAMPLE, "example.toml").unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let config = parsed.config;
    assert_eq!(config.daemon.bgp_port, 179);
    assert_eq!(config.daemon.stale_time, Duration::from_secs(120));
    let hub = &config.vnets[0];
    assert_eq!(hub.name.as_str(), "hub");
    assert_eq!(hub.subnets.len(), 5);
    let apps = &hub.subnets[1];
    assert_eq!(
        apps.gateways,
        addresses(&["10.1.1.1", "fd00:1:0:1::1"]),
        "the first usable address of each prefix"
    );
    assert!(!apps.ports[0].ip_forwarding);
    assert!(hub.subnets[3].ports[0].ip_forwarding);
    let server = &config.route_servers[0];
    assert_eq!((server.asn, server.max_paths), (65515, 8));
    assert!(server.reflect_between_nvas);
    assert_eq!(server.instances[1].router_id.to_string(), "10.1.255.5");
    let peer = &server.peers[0];
    assert_eq!(
        (peer.asn, peer.hold_time, peer.connect_retry),
        (65010, 180, 5)
    );
    assert_eq!(
        (peer.max_prefixes, peer.limit_action),
        (1000, LimitAction::Teardown)
    );
}

#[test]
fn what_a_file_does_not_say_is_at_its_default() {
    let config = parse(EXAMPLE, "example.toml").unwrap();
    let read = &config.route_servers[0];
    let instances = read.instances.clone();
    let peers = read.peers.iter();
    let peers = peers.map(|peer| Peer::new(peer.name.clone(), peer.address, peer.asn));
    let expected = RouteServer {
        peers: peers.collect(),
        ..RouteServer::new(read.name.clone(), read.vnet.clone(), instances)
    };
    assert_eq!(*read, expected);
}

#[test]
fn every_key_of_the_schema_stands_in_its_section_of_the_reference() {
    for Schema { header, keys } in schema::ALL {
        if *header == schema::ROOT.header {
            for key in *keys {
                assert!(REFERENCE.contains(&format!("[{key}]")), "{key}");
            }
            continue;
        }
        let section = REFERENCE
            .split("\n## ")
            .find(|section| section.starts_with(&format!("`{header}`")))
            .unwrap_or_else(|| panic!("no section {header}"));
        for key in *keys {
            assert!(
                section.contains(&format!("\n| `{key}` |")),
                "{header} {key}"
            );
        }
    }
}

#[test]
fn all_faults_are_found_in_one_go_in_the_order_of_the_lines() {
    let text = edited(&[
        ("prefixes = [\"10.1.0.0/16\"", "prefixs = [\"10.1.0.0/16\""),
        ("asn = 65010", "asn = 65535"),
        ("id = 2", "id = 3"),
    ]);
    let faults = parse(&text, "x.toml").unwrap_err().0;
    let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    let all = faults.iter().map(ToString::to_string).collect::<String>();
    for part in [
        "did you mean \"prefixes\"?",
        "asn 65535",
        "id = 3 is out of range",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
}

#[test]
fn each_fault_is_told_with_its_line_and_its_remedy() {
    let rows: &[(&str, &str, &str, &str)] = &[
        (
            "name = \"hub\"",
            "nane = \"hub\"",
            "nane = \"hub\"",
            "unknown key \"nane\" in [[vnet]]; did you mean \"name\"?",
        ),
        (
            "[daemon]",
            "[deamon]",
            "[deamon]",
            "unknown key \"deamon\" in the top level; did you mean \"daemon\"?",
        ),
        (
            "asn = 65515",
            "zzz = 1",
            "zzz = 1",
            "unknown key \"zzz\" in [[route_server]]; known here: name, vnet",
        ),
        ("asn = 65515", "asn = ", "asn = ", "not TOML"),
        (
            "[\"10.1.0.0/16\", \"fd00:1::/48\"]",
            "[\"10.1.0.0/16\", \"10.1.128.0/17\", \"fd00:1::/48\"]",
            "10.1.128.0/17",
            "prefixes 10.1.0.0/16 and 10.1.128.0/17 of the network overlap; keep the larger one",
        ),
        (
            "[\"10.1.255.0/27\"",
            "[\"10.1.1.128/27\"",
            "10.1.1.0/24",
            "subnet apps: 10.1.1.0/24 overlaps 10.1.1.128/27 of subnet RouteServerSubnet (line 26); give each subnet",
        ),
        (
            "[\"10.1.255.0/27\"",
            "[\"10.2.2.0/24\"",
            "10.2.2.0/24",
            "subnet RouteServerSubnet: 10.2.2.0/24 lies outside network hub; move it",
        ),
        (
            "[\"10.1.2.0/24\"",
            "[\"10.1.2.1/24\"",
            "10.1.2.1/24",
            "\"10.1.2.1/24\" has bits set beyond its length; write 10.1.2.0/24",
        ),
        (
            "\"10.1.2.0/24\"",
            "\"10.1.2.0\"",
            "\"10.1.2.0\"",
            "\"10.1.2.0\" is not a prefix; write address/length",
        ),
        (
            "[\"10.1.2.4\"",
            "[\"10.1.3.4\"",
            "10.1.3.4",
            "address 10.1.3.4 of port vm2 lies outside subnet data; give an address within 10.1.2.0/24 or fd00:1:0:2::/64",
        ),
        (
            "[\"10.1.2.4\"",
            "[\"10.1.2.400\"",
            "10.1.2.400",
            "\"10.1.2.400\" is not an IP address; write for example",
        ),
        (
            "[\"10.1.2.4\"",
            "[\"10.1.2.1\"",
            "10.1.2.1\"",
            "address 10.1.2.1 of port vm2 is already that of the gateway of subnet data",
        ),
        (
            "[\"10.1.2.4\"",
            "[\"10.1.2.255\"",
            "10.1.2.255",
            "address 10.1.2.255 of port vm2 is the broadcast address of 10.1.2.0/24; choose one between",
        ),
        (
            "[\"10.1.2.4\", \"fd00:1:0:2::4\"]",
            "[\"10.1.2.4\", \"10.1.2.4\"]",
            "\"10.1.2.4\", \"10.1.2.4\"",
            "address 10.1.2.4 of port vm2 is already that of port vm2",
        ),
        (
            "[\"10.1.2.4\", \"fd00:1:0:2::4\"]",
            "[]",
            "addresses = []",
            "addresses is empty; give at least one",
        ),
        (
            "interface = \"vm2\"",
            "interface = \"vm1\"",
            "interface = \"vm1\"\naddresses = [\"10.1.2.4\"",
            "interface vm1 of a port of subnet data is already that of a port of subnet apps (line 35); give each its own interface",
        ),
        (
            "interface = \"vm2\"",
            "interface = \"an/other\"",
            "an/other",
            "\"an/other\" is no interface name; use 1 to 15 bytes",
        ),
        (
            "interface = \"vm2\"",
            "interface = \"vm2\"\nmac = \"02:00\"",
            "mac = \"02:00\"",
            "\"02:00\" is not a MAC address; write six bytes",
        ),
        (
            "interface = \"vm2\"",
            "interface = \"vm2\"\nmac = \"ff:ff:ff:ff:ff:ff\"",
            "mac = ",
            "is not the address of one station; give the machine's own",
        ),
        (
            "name = \"data\"",
            "name = \"apps\"",
            "[[vnet.subnet]]\nname = \"apps\"\nprefixes = [\"10.1.2.0",
            "name apps of a subnet of hub is already that of a subnet of hub",
        ),
        (
            "name = \"data\"",
            "name = \"da/ta\"",
            "da/ta",
            "\"da/ta\" is no usable name; use 1 to 48 letters",
        ),
        (
            "name = \"data\"",
            "name = \"data\"\ngateways = [\"10.1.9.1\"]",
            "10.1.9.1",
            "gateway 10.1.9.1 lies outside subnet data; give an address within",
        ),
        (
            "# uplink = [\"10.1.20.4\", \"fd00:1:0:14::4\"]",
            "uplink = [\"10.9.0.1\"]",
            "10.9.0.1",
            "uplink 10.9.0.1 lies outside network hub; give the address of a machine",
        ),
        (
            "# uplink = [\"10.1.20.4\", \"fd00:1:0:14::4\"]",
            "uplink = [\"10.1.20.4\", \"10.1.20.5\"]",
            "10.1.20.5",
            "uplink has 10.1.20.4 and 10.1.20.5, two addresses of one family; keep one",
        ),
        (
            "# uplink = [\"10.1.20.4\", \"fd00:1:0:14::4\"]",
            "uplink = [\"10.1.1.1\"]",
            "10.1.1.1",
            "uplink 10.1.1.1 is that of the gateway of subnet apps (line 30); give the address of",
        ),
        (
            "# uplink = [\"10.1.20.4\", \"fd00:1:0:14::4\"]",
            "uplink = [\"10.1.255.5\"]",
            "10.1.255.5",
            "uplink 10.1.255.5 is that of instance 2 of rs1",
        ),
        (
            "vnet = \"hub\"",
            "vnet = \"spoke\"",
            "vnet = \"spoke\"",
            "route server rs1: there is no network \"spoke\"; name one of: hub",
        ),
        (
            "asn = 65515",
            "max_paths = 65",
            "max_paths = 65",
            "max_paths = 65 is out of range; give 1 to 64",
        ),
        (
            "asn = 65515",
            "asn = 0",
            "asn = 0",
            "asn 0 of the route server is reserved (RFC 7607); choose another",
        ),
        (
            "asn = 65010",
            "asn = 23456",
            "asn = 23456",
            "asn 23456 of peer sdwan is AS_TRANS, reserved (RFC 6793); choose another one",
        ),
        (
            "asn = 65010",
            "asn = 4294967295",
            "asn = 4294967295",
            "asn 4294967295 of peer sdwan is reserved (RFC 7300); choose",
        ),
        (
            "asn = 65010",
            "asn = 4294967296",
            "asn = 4294967296",
            "asn = 4294967296 is out of range; give 0 to 4294967295",
        ),
        (
            "asn = 65010",
            "asn = -1",
            "asn = -1",
            "asn = -1 is out of range",
        ),
        (
            "asn = 65010",
            "asn = \"65010\"",
            "asn = \"65010\"",
            "asn in [[route_server.peer]] is of type string; write a whole number",
        ),
        (
            "asn = 65010",
            "asn = 65515",
            "address = \"10.1.10.4\"\n»asn = 65515",
            "asn 65515 of peer sdwan is the route server's own; give the appliance another ASN",
        ),
        (
            "asn = 65010",
            "",
            "[[route_server.peer]]\nname = \"sdwan\"",
            "[[route_server.peer]] has no \"asn\"; add asn = …",
        ),
        (
            "asn = 65010",
            "asn = 65010\nhold_time = 2",
            "hold_time = 2",
            "hold_time = 2 of peer sdwan is not allowed (RFC 4271); give 0 (no keepalives) or at least 3",
        ),
        (
            "asn = 65010",
            "asn = 65010\nlimit_action = \"panic\"",
            "panic",
            "limit_action = \"panic\" is not known; write one of: \"teardown\", \"discard\", \"warn\"",
        ),
        (
            "asn = 65010",
            "asn = 65010\nrole = \"boss\"",
            "boss",
            "role = \"boss\" is not known; write one of: \"provider\", \"route_server\", \"route_server_client\", \"customer\", \"peer\"",
        ),
        (
            "asn = 65010",
            "asn = 65010\nstrict_role = true",
            "strict_role = true",
            "peer sdwan has strict_role without a role; add role = \"route_server\", or leave strict_role out",
        ),
        (
            "asn = 65010",
            "asn = 65010\nmd5_password = \"a\"\ntcp_ao = [{ id = 1, secret = \"b\" }]",
            "md5_password = \"a\"",
            "peer sdwan has both md5_password and tcp_ao; keep one of them; TCP-AO (RFC 5925) replaces TCP MD5",
        ),
        (
            "asn = 65010",
            "asn = 65010\nfamilies = [\"ipx\"]",
            "ipx",
            "\"ipx\" is no address family; write \"ipv4\" or \"ipv6\"",
        ),
        (
            "address = \"10.1.10.4\"",
            "address = \"10.9.10.4\"",
            "10.9.10.4",
            "address 10.9.10.4 of peer sdwan lies outside network hub; give the address that the appliance has",
        ),
        (
            "address = \"10.1.10.4\"",
            "address = \"10.1.255.4\"",
            "address = \"10.1.255.4\"",
            "address 10.1.255.4 of peer sdwan is that of instance 1 of rs1 (line",
        ),
        (
            "address = \"10.1.10.4\"",
            "address = \"10.1.10.1\"",
            "address = \"10.1.10.1\"",
            "address 10.1.10.1 of peer sdwan is that of the gateway of subnet nva (line",
        ),
        (
            "address = \"10.1.20.4\"",
            "address = \"10.1.10.4\"",
            "»address = \"10.1.10.4\"\nasn = 65020",
            "address 10.1.10.4 of peer fw is already that of peer sdwan",
        ),
        (
            "name = \"fw\"",
            "name = \"sdwan\"",
            "name = \"sdwan\"\naddress = \"10.1.20.4\"",
            "name sdwan of a peer is already that of a peer",
        ),
        (
            "[\"10.1.255.5\", \"fd00:1:0:ff::5\"]",
            "[\"10.2.255.5\"]",
            "10.2.255.5",
            "address 10.2.255.5 of instance 2 of rs1 lies outside network hub; give an address within the network",
        ),
        (
            "[\"10.1.255.5\", \"fd00:1:0:ff::5\"]",
            "[\"10.1.255.4\"]",
            "[\"10.1.255.4\"]",
            "address 10.1.255.4 of instance 2 of rs1 is already that of instance 1 of rs1",
        ),
        (
            "[\"10.1.255.5\", \"fd00:1:0:ff::5\"]",
            "[\"10.1.1.4\"]",
            "addresses = [\"10.1.1.4\"]",
            "address 10.1.1.4 of instance 2 of rs1 is already that of port vm1",
        ),
        (
            "[\"10.1.255.5\", \"fd00:1:0:ff::5\"]",
            "[\"fd00:1:0:ff::5\"]",
            "[[route_server.instance]]\nid = 2",
            "instance 2 of rs1 has no IPv4 address to serve as its router id; add router_id",
        ),
        (
            "[\"10.1.255.5\", \"fd00:1:0:ff::5\"]",
            "[\"fd00:1:0:ff::5\"]\nrouter_id = \"10.1.255.5\"",
            "address = \"10.1.10.4\"",
            "peer sdwan has the IPv4 address 10.1.10.4, but instance 2 has none; add an IPv4 address to the instance",
        ),
        (
            "id = 2",
            "id = 2\nrouter_id = \"10.1.255.4\"",
            "[[route_server.instance]]\nid = 2",
            "router id 10.1.255.4 of instance 2 of rs1 is already that of instance 1 of rs1",
        ),
        (
            "id = 2",
            "id = 2\nrouter_id = \"0.0.0.0\"",
            "router_id = \"0.0.0.0\"",
            "\"0.0.0.0\" is no router id; write an IPv4 address other than 0.0.0.0",
        ),
        (
            "id = 2",
            "id = 1",
            "[[route_server.instance]]\nid = 1\naddresses = [\"10.1.255.5",
            "id 1 of instance 1 of rs1 is already that of instance 1 of rs1",
        ),
        (
            "socket = \"/run",
            "socket = \"run",
            "socket = \"run",
            "\"run/waypost/waypost.sock\" is not an absolute path; begin it with \"/\"",
        ),
        (
            "[daemon]",
            "[daemon]\nstale_time = true",
            "stale_time = true",
            "stale_time in [daemon] is of type boolean; write a whole number",
        ),
    ];
    each_is_told(EXAMPLE, rows);
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    let faults = parse("", "empty.toml").unwrap_err();
    assert!(faults.to_string().starts_with("empty.toml:1: no [[vnet]]"));
}

#[test]
fn a_route_server_needs_exactly_two_instances() {
    let second =
        "[[route_server.instance]]\nid = 2\naddresses = [\"10.1.255.5\", \"fd00:1:0:ff::5\"]\n";
    let one = edited(&[(second, "")]);
    let told = parse(&one, "x.toml").unwrap_err().to_string();
    assert!(
        told.contains("has 1 [[route_server.instance]]; give it exactly two"),
        "{told}"
    );
    let three = edited(&[(second, &format!("{second}{second}"))]);
    let told = parse(&three, "x.toml").unwrap_err().to_string();
    assert!(told.contains("has 3 [[route_server.instance]]"), "{told}");
}

#[test]
fn an_asn_that_azure_reserves_is_only_a_warning() {
    let parsed = parse_with_warnings(&edited(&[("asn = 65010", "asn = 65517")]), "x.toml").unwrap();
    let [warning] = &parsed.warnings[..] else {
        panic!("{:?}", parsed.warnings)
    };
    assert!(
        warning
            .to_string()
            .contains("asn 65517 of peer sdwan is reserved by Azure")
    );
}

#[test]
fn two_networks_may_use_the_same_prefixes_but_not_the_same_interface_or_listener() {
    let other = EXAMPLE
        .replace("[daemon]\nsocket = \"/run/waypost/waypost.sock\"", "")
        .replace("name = \"hub\"", "name = \"hub2\"")
        .replace("vnet = \"hub\"", "vnet = \"hub2\"")
        .replace("name = \"rs1\"", "name = \"rs2\"");
    let apart = other
        .replace("interface = \"", "interface = \"b-")
        .replace("10.1.255.", "10.1.254.")
        .replace("fd00:1:0:ff:", "fd00:1:0:fe:");
    let config = parse(&format!("{EXAMPLE}\n{apart}"), "x.toml").unwrap();
    assert_eq!(config.vnets[0].prefixes, config.vnets[1].prefixes);

    let told = parse(&format!("{EXAMPLE}\n{other}"), "x.toml")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("interface vm1 of a port of subnet apps is already"),
        "{told}"
    );
    assert!(
        told.contains(
            "address 10.1.255.4 of instance 1 of rs2 is already that of instance 1 of rs1"
        ),
        "{told}"
    );
}

#[test]
fn a_network_has_one_route_server() {
    let start = EXAMPLE.find("[[route_server]]").unwrap();
    let second = EXAMPLE[start..]
        .replace("name = \"rs1\"", "name = \"rs2\"")
        .replace("10.1.255.4", "10.1.255.6")
        .replace("10.1.255.5", "10.1.255.7")
        .replace("ff::4", "ff::6")
        .replace("ff::5", "ff::7");
    let told = parse(&format!("{EXAMPLE}\n{second}"), "x.toml")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("network hub of route server rs2 is already that of route server rs1"),
        "{told}"
    );
}

fn edited(edits: &[(&str, &str)]) -> String {
    let edits = edits.iter();
    edits.fold(EXAMPLE.to_owned(), |text, (from, to)| {
        changed(&text, from, to)
    })
}

/// Each row: what is changed in the text; on whose line the fault is told (behind `»`, if it has one);
/// what it says (what; remedy).
fn each_is_told(base: &str, rows: &[(&str, &str, &str, &str)]) {
    for (from, to, place, message) in rows {
        let text = changed(base, from, to);
        let (before, at) = place.split_once('»').unwrap_or(("", place));
        let found = text.find(&format!("{before}{at}"));
        let place = found.unwrap_or_else(|| panic!("{place}")) + before.len();
        let line = text[..place].matches('\n').count() + 1;
        let faults = parse(&text, "x.toml").expect_err(message);
        let told = faults.to_string();
        let expected = faults
            .0
            .iter()
            .find(|fault| format!("{}; {}", fault.what, fault.remedy).contains(message));
        let Some(fault) = expected else {
            panic!("expected \"{message}\", got:\n{told}");
        };
        assert_eq!(fault.line, line, "{told}");
        assert!(told.contains(&format!("x.toml:{line}: ")), "{told}");
        let one_cause = faults.0.iter().all(|other| other.remedy == fault.remedy);
        assert!(one_cause, "one cause, one remedy:\n{told}");
    }
}

/// The warnings of a text that has no fault, a line each.
fn warnings(text: &str) -> Vec<String> {
    let parsed = parse_with_warnings(text, "x.toml").unwrap();
    parsed.warnings.iter().map(ToString::to_string).collect()
}

/// All faults of a text, a line each.
fn faults(text: &str) -> String {
    parse(text, "x.toml").unwrap_err().to_string()
}

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the text has no {from}");
    text.replacen(from, to, 1)
}

fn line_of(part: &str) -> usize {
    EXAMPLE[..EXAMPLE.find(part).unwrap()].matches('\n').count() + 1
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
