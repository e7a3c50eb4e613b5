//! Route maps with live sessions: what they take out and change on the way in and on the way out. The
//! maps are written as in the configuration file.

use super::{gateways::member, *};
use crate::config::PeerKind;

mod aggregates;

const SITE: &str = "10.250.0.0/16";
const OTHER: &str = "10.251.0.0/16";
const SDWAN: &str = "10.1.10.4";
const FW: &str = "10.1.20.4";
const FW2: &str = "10.1.20.5";

#[test]
fn what_an_inbound_map_drops_is_not_learned_and_the_reason_names_map_and_rule() {
    let mut lab = lab(
        "sdwan",
        "in",
        r#"[{ name = "sites", prefix = ["10.250.0.0/15+"] }, { name = "rest", action = "drop" }]"#,
    );
    announce(
        &mut lab,
        "sdwan",
        &[SITE, "172.16.0.0/12"],
        &route(&[65010], SDWAN),
    );
    assert_eq!(lab.state("sdwan", 1, SITE).0, "best");
    assert!(lab.holds("fw", 1, SITE).is_some());
    let (state, reason) = lab.state("sdwan", 1, "172.16.0.0/12");
    assert_eq!(state, "rejected");
    assert_eq!(
        reason,
        "dropped by rule \"rest\" of route map \"m\" (action)"
    );
    assert_eq!(lab.members("172.16.0.0/12"), None);
    assert_eq!(lab.holds("fw", 1, "172.16.0.0/12"), None);
    let received = lab.server.received_rows(&Filter::default());
    assert_eq!(received.len(), 4, "it stays visible as it came");
    let detail = lab.server.peer_details(
        &Filter {
            peer: Some("sdwan".into()),
            ..Filter::default()
        },
        lab.now,
    );
    assert!(
        detail[0]
            .policy
            .contains(&"route_map_in = \"m\"".to_owned()),
        "{:?}",
        detail[0].policy
    );
}

#[test]
fn a_limit_counts_what_loops_and_what_a_map_drops_as_well() {
    let text = HEAD.replace(
        "# sdwan\n",
        "max_prefixes = 2\nlimit_action = \"discard\"\n# sdwan\n",
    );
    let rules = r#"[{ prefix = ["10.251.0.0/16"], action = "drop" }]"#;
    let mut lab = with(&map(&own(&text, "sdwan", "in"), rules));
    let good = route(&[65010], SDWAN);
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010, 65515], SDWAN));
    announce(&mut lab, "sdwan", &[OTHER], &good);
    for net in [SITE, OTHER] {
        assert_eq!(lab.state("sdwan", 1, net).0, "rejected");
    }
    announce(&mut lab, "sdwan", &["10.9.0.0/16"], &good);
    assert_eq!(lab.members("10.9.0.0/16"), None);
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("1 IPv4 routes were refused"),
        "{warnings}"
    );
}

/// For each kind of match: a rule that drops what it matches, and which of two routes stays.
#[test]
fn each_kind_of_match_tells_routes_apart_in_both_directions() {
    let plain = route(&[65010], SDWAN);
    let marked = PathAttributes {
        communities: vec![0xfdf2_0064],
        large_communities: vec![[65010, 1, 2]],
        extended_communities: vec![[0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 0x64]],
        ..route(&[65010, 65011], SDWAN)
    };
    for matches in [
        r#"prefix = ["10.251.0.0/16"]"#,
        r#"prefix = ["10.251.0.0/16+"]"#,
        r#"prefix = ["10.251.0.0/16{16,24}"]"#,
        r#"community = ["65010:100"]"#,
        r#"community = ["large:65010:1:2"]"#,
        r#"community = ["ext:0x0002fde800000064"]"#,
        r#"as_path = ["contains 65011"]"#,
        r#"as_path = ["exact 65010 65011"]"#,
        r#"as_path = ["regex _65011$"]"#,
    ] {
        for (owner, direction) in [("sdwan", "in"), ("fw", "out")] {
            let mut lab = lab(
                owner,
                direction,
                &format!("[{{ {matches}, action = \"drop\" }}]"),
            );
            announce(&mut lab, "sdwan", &[SITE], &plain);
            announce(&mut lab, "sdwan", &[OTHER], &marked);
            assert!(lab.holds("fw", 1, SITE).is_some(), "{matches} {direction}");
            assert_eq!(lab.holds("fw", 1, OTHER), None, "{matches} {direction}");
            let learned = lab.members(OTHER).is_some();
            assert_eq!(
                learned,
                direction == "out",
                "{matches}: a map is for its direction"
            );
            assert_eq!(
                lab.holds("fw2", 1, OTHER).is_some(),
                learned,
                "and for its peer"
            );
        }
    }
}

#[test]
fn outbound_maps_tell_where_a_route_comes_from() {
    for (source, stays) in [
        (
            r#"source = ["originated"]"#,
            [false, true, true, true, true],
        ),
        (r#"source = ["static"]"#, [true, false, true, true, true]),
        (r#"source = ["nva"]"#, [true, true, false, false, true]),
        (r#"source = ["vpn"]"#, [true, true, true, true, false]),
        (
            r#"source_peer = ["sdwan"]"#,
            [true, true, false, true, true],
        ),
        (r#"source_peer = ["vpn1"]"#, [true, true, true, true, false]),
    ] {
        let head = HEAD.replace(
            "[[route_server]]\n",
            "[[route_server]]\nbranch_to_branch = true\n",
        );
        let text = map(
            &own(&head, "fw", "out"),
            &format!("[{{ {source}, action = \"drop\" }}]"),
        );
        let text = format!(
            "{text}\n[[route_server.learned]]\nprefix = \"10.9.0.0/16\"\nnext_hop = [\"{SDWAN}\"]\n"
        );
        let mut lab = with(&text);
        lab.both_up("vpn1-10.1.4.4");
        lab.originate(&["10.1.0.0/16"]);
        announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
        announce(&mut lab, "fw2", &[OTHER], &route(&[65021], FW2));
        announce(
            &mut lab,
            "vpn1-10.1.4.4",
            &["10.230.0.0/16"],
            &route(&[64901], "10.1.4.4"),
        );
        let nets = ["10.1.0.0/16", "10.9.0.0/16", SITE, OTHER, "10.230.0.0/16"];
        assert_eq!(
            nets.map(|net| lab.holds("fw", 1, net).is_some()),
            stays,
            "{source}"
        );
    }
}

#[test]
fn inbound_maps_of_a_kind_hold_for_its_peers_and_a_peers_own_one_goes_before() {
    let text = own(HEAD, "fw", "in")
        + "
[route_server.route_maps.nva]
in = \"kind\"
[route_server.route_maps.vpn]
in = \"m\"
[[route_server.route_map]]
name = \"kind\"
rule = [{ action = \"drop\" }]
";
    let mut lab = with(&map(
        &text,
        r#"[{ source_peer = ["vpn1"], med = 7 }, { source = ["nva"], med = 8 }]"#,
    ));
    lab.both_up("vpn1-10.1.4.4");
    for (peer, net, next_hop, asn) in [
        ("sdwan", SITE, SDWAN, 65010),
        ("fw", OTHER, FW, 65020),
        ("vpn1-10.1.4.4", "10.230.0.0/16", "10.1.4.4", 64901),
    ] {
        announce(&mut lab, peer, &[net], &route(&[asn], next_hop));
    }
    assert_eq!(lab.state("sdwan", 1, SITE).0, "rejected");
    let med = |net: &str| {
        let rows = lab.server.learned_rows(
            &Filter {
                prefix: Some(prefix(net)),
                ..Filter::default()
            },
            lab.now,
        );
        rows[0].med
    };
    assert_eq!(med(OTHER), Some(8));
    assert_eq!(
        med("10.230.0.0/16"),
        Some(7),
        "a member of the gateway of that name"
    );
}

#[test]
fn a_member_that_its_gateway_gains_and_a_peer_with_another_name_are_known_to_outbound_maps() {
    let head = HEAD.replace(
        "[[route_server]]\n",
        "[[route_server]]\nbranch_to_branch = true\n",
    );
    let rules = r#"[{ source_peer = ["vpn1", "sdwan"], action = "drop" }]"#;
    let text = map(&own(&head, "fw", "out"), rules);
    let all = parsed(&text);
    let mut first = all.clone();
    first.peers.pop();
    let sdwan = first.peers.iter_mut();
    let sdwan = sdwan.filter(|peer| peer.name.as_str() == "sdwan");
    sdwan.for_each(|peer| peer.name = "other".into());
    let mut lab = Lab::new(&first);
    lab.both_up("fw");
    lab.both_up("other");
    announce(&mut lab, "other", &[SITE], &route(&[65010], SDWAN));
    assert!(lab.holds("fw", 1, SITE).is_some());
    lab.reload(&all);
    assert_eq!(lab.holds("fw", 1, SITE), None);
    lab.both_up("vpn1-10.1.4.5");
    announce(
        &mut lab,
        "vpn1-10.1.4.5",
        &[OTHER],
        &route(&[64901], "10.1.4.5"),
    );
    assert!(lab.members(OTHER).is_some());
    assert_eq!(lab.holds("fw", 1, OTHER), None);
    assert_eq!(lab.far("fw", 1).ended.len(), 2);
}

#[test]
fn what_an_inbound_map_changes_decides_and_is_sent_on_and_what_came_is_still_shown() {
    let mut lab = lab(
        "sdwan",
        "in",
        r#"[{ prefix = ["10.250.0.0/16"], local_pref = 200, as_path_prepend = [65010, 65010], community_add = ["65010:200"], med = 50 }]"#,
    );
    announce(&mut lab, "fw2", &[SITE], &route(&[65021], FW2));
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
    assert_eq!(
        lab.members(SITE),
        Some(vec![SDWAN.parse().unwrap()]),
        "in spite of its path"
    );
    let expected = PathAttributes {
        med: Some(50),
        communities: vec![0xfdf2_00c8],
        ..route(&[65515, 65010, 65010, 65010], SDWAN)
    };
    assert_eq!(
        lab.holds("fw", 1, SITE),
        Some(&expected),
        "by eBGP without LOCAL_PREF"
    );
    let row = &lab.server.received_rows(&Filter {
        peer: Some("sdwan".into()),
        ..Filter::default()
    })[0];
    assert_eq!(
        (row.as_path.as_str(), row.med, row.communities.len()),
        ("65010", None, 0)
    );
    let row = &lab.server.learned_rows(
        &Filter {
            peer: Some("sdwan".into()),
            ..Filter::default()
        },
        lab.now,
    )[0];
    assert_eq!(
        (row.as_path.as_str(), row.local_pref),
        ("65010 65010 65010", Some(200))
    );
}

#[test]
fn next_hops_are_checked_as_a_map_leaves_them_and_loops_as_paths_were_received() {
    let mut lab = lab(
        "sdwan",
        "in",
        r#"[{ prefix = ["10.250.0.0/16"], next_hop = "10.1.20.4", as_path_replace = [65010] }, { prefix = ["10.251.0.0/16"], next_hop = "10.1.255.4" }]"#,
    );
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], "192.0.2.1"));
    announce(&mut lab, "sdwan", &[OTHER], &route(&[65010], SDWAN));
    assert_eq!(lab.members(SITE), Some(vec![FW.parse().unwrap()]));
    let (state, reason) = lab.state("sdwan", 1, OTHER);
    assert!(
        state == "rejected" && reason.contains("own address"),
        "{reason}"
    );
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010, 65515], SDWAN));
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert!(state == "rejected" && reason.contains("loop"), "{reason}");
}

#[test]
fn a_weight_reaches_the_ecmp_set_of_the_subnets() {
    let mut lab = lab("sdwan", "in", "[{ weight = 3 }]");
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
    announce(&mut lab, "fw2", &[SITE], &route(&[65021], FW2));
    let members = lab.learned[&prefix(SITE)].members.iter();
    let weights: Vec<_> = members
        .map(|member| (member.address.to_string(), member.weight))
        .collect();
    assert_eq!(weights, [(SDWAN.to_owned(), 3), (FW2.to_owned(), 1)]);
}

#[test]
fn what_an_outbound_map_changes_stands_behind_the_route_servers_asn() {
    let mut lab = lab(
        "fw",
        "out",
        r#"[{ prefix = ["10.250.0.0/16"], as_path_prepend = [65999, 65998], community_add = ["65010:1"], med = 9, next_hop = "10.1.20.5" }]"#,
    );
    announce(&mut lab, "sdwan", &[SITE, OTHER], &route(&[65010], SDWAN));
    let expected = PathAttributes {
        med: Some(9),
        communities: vec![0xfdf2_0001],
        ..route(&[65515, 65999, 65998, 65010], FW2)
    };
    assert_eq!(lab.holds("fw", 1, SITE), Some(&expected));
    let plain = route(&[65515, 65010], SDWAN);
    assert_eq!(lab.holds("fw", 1, OTHER), Some(&plain));
    assert_eq!(lab.holds("fw2", 1, SITE), Some(&plain), "another peer");
    assert_eq!(
        lab.members(SITE),
        Some(vec![SDWAN.parse().unwrap()]),
        "subnets"
    );
}

#[test]
fn a_changed_map_changes_what_it_is_about_and_nothing_else_and_no_session_is_reset() {
    let text = |med: u32, drops: &str| {
        map(
            &own(&own(HEAD, "sdwan", "in"), "fw", "out"),
            &format!(
                r#"[{{ prefix = ["{drops}"], action = "drop" }}, {{ prefix = ["10.252.0.0/16"], med = {med} }}]"#
            ),
        )
    };
    let mut lab = with(&text(1, SITE));
    announce(
        &mut lab,
        "sdwan",
        &[SITE, OTHER, "10.252.0.0/16"],
        &route(&[65010], SDWAN),
    );
    announce(&mut lab, "fw2", &["10.253.0.0/16"], &route(&[65021], FW2));
    let held = |lab: &Lab| {
        [SITE, OTHER, "10.252.0.0/16", "10.253.0.0/16"]
            .map(|net| lab.holds("fw", 1, net).map(|held| held.med))
    };
    assert_eq!(held(&lab), [None, Some(None), Some(Some(1)), Some(None)]);
    let sent = |lab: &Lab, peer: &str| (lab.far(peer, 1).announced, lab.far(peer, 1).withdrawn);
    let before = sent(&lab, "fw");

    lab.reload(&parsed(&text(1, SITE)));
    assert_eq!(sent(&lab, "fw"), before, "the same map");
    lab.reload(&parsed(&text(2, SITE)));
    assert_eq!(
        sent(&lab, "fw"),
        (before.0 + 1, before.1),
        "the one route that differs"
    );
    lab.reload(&parsed(&text(2, OTHER)));
    assert_eq!(held(&lab), [Some(None), None, Some(Some(2)), Some(None)]);
    assert_eq!(sent(&lab, "fw"), (before.0 + 2, before.1 + 1));
    lab.reload(&parsed(HEAD));
    assert_eq!(held(&lab), [Some(None); 4]);
    for peer in ["sdwan", "fw", "fw2"] {
        assert_eq!(lab.far(peer, 1).ended.len(), 2, "the session is the same");
    }
    assert!(lab.shutdowns.is_empty());
}

#[test]
fn rfc8212_2_a_peer_with_a_map_is_learned_from_or_sent_to_by_direction() {
    let strict = HEAD.replace(
        "[[route_server]]\n",
        "[[route_server]]\nrequire_policy = true\n",
    );
    let mut lab = with(&map(&own(&own(&strict, "sdwan", "in"), "fw", "out"), "[]"));
    lab.originate(&["10.1.0.0/16"]);
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
    announce(&mut lab, "fw", &[OTHER], &route(&[65020], FW));
    assert_eq!(lab.state("sdwan", 1, SITE).0, "best");
    let (state, reason) = lab.state("fw", 1, OTHER);
    assert!(
        state == "rejected" && reason.contains("RFC 8212"),
        "{reason}"
    );
    assert!(lab.holds("fw", 1, SITE).is_some() && lab.holds("fw", 1, "10.1.0.0/16").is_some());
    assert!(lab.far("sdwan", 1).holds.is_empty() && lab.far("fw2", 1).holds.is_empty());
    for (peer, lacks) in [
        ("sdwan", "announces nothing: no export"),
        ("fw", "learns nothing: no import"),
        ("fw2", "learns and announces nothing"),
    ] {
        assert!(
            lab.warnings(peer, 1).contains(lacks),
            "{}",
            lab.warnings(peer, 1)
        );
    }
}

#[test]
fn a_drained_peer_stays_marked_whatever_its_map_does_to_communities() {
    let mut lab = lab("sdwan", "in", "[{ community_replace = [] }]");
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
    announce(&mut lab, "fw2", &[SITE], &route(&[65021, 65022], FW2));
    assert_eq!(lab.members(SITE), Some(vec![SDWAN.parse().unwrap()]));
    let ids = lab.server.sessions_of(&"sdwan".into(), None);
    lab.server.set_drained(&ids, true, lab.now);
    lab.settle();
    assert_eq!(lab.members(SITE), Some(vec![FW2.parse().unwrap()]));
}

/// The hub with its appliances and a VPN gateway. Where a peer may have maps of its own there is a mark.
const HEAD: &str = r#"
[[vnet]]
name = "hub"
prefixes = ["10.1.0.0/16"]
[[route_server]]
name = "rs1"
vnet = "hub"
asn = 65515
[[route_server.instance]]
id = 1
addresses = ["10.1.255.4"]
[[route_server.instance]]
id = 2
addresses = ["10.1.255.5"]
[[route_server.peer]]
name = "sdwan"
address = "10.1.10.4"
asn = 65010
# sdwan
[[route_server.peer]]
name = "fw"
address = "10.1.20.4"
asn = 65020
# fw
[[route_server.peer]]
name = "fw2"
address = "10.1.20.5"
asn = 65021
add_path_send = 3
# fw2
[[route_server.gateway]]
name = "vpn1"
kind = "vpn"
members = ["10.1.4.4", "10.1.4.5"]
"#;

#[test]
fn members_of_a_range_come_and_go_without_a_new_map_for_those_who_are_sent_routes() {
    let rules = r#"[{ source_peer = ["vpn1"], action = "drop" }]"#;
    let text = map(&own(HEAD, "sdwan", "out"), rules);
    let range = text.replace(
        r#"members = ["10.1.4.4", "10.1.4.5"]"#,
        r#"prefix = "10.1.4.0/24""#,
    );
    let dynamic = |address: &str| config::Peer {
        dynamic: true,
        ..member("vpn1", PeerKind::Vpn, address)
    };
    let mut config = parsed(&range);
    config.peers.retain(|peer| peer.membership.is_none());
    // Lies there, and is nobody's member.
    let mut stranger = config.peers[1].clone();
    stranger.name = "stranger".into();
    stranger.address = "10.1.4.9".parse().unwrap();
    config.peers.push(stranger);
    config.peers.push(dynamic("10.1.4.4"));
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "vpn1-10.1.4.4", "stranger"] {
        lab.both_up(peer);
    }
    let outbound = |lab: &Lab| {
        let maps = &lab.server.maps;
        maps.outbound(&lab.server.config.peers[0]).unwrap()
    };
    let before = outbound(&lab);
    config.branch_to_branch = true;
    config.peers.push(dynamic("10.1.4.5"));
    lab.reload(&config);
    assert!(Arc::ptr_eq(&before, &outbound(&lab)));
    lab.both_up("vpn1-10.1.4.5");
    let nets = ["10.230.0.0/16", "10.231.0.0/16", "10.232.0.0/16"];
    announce(
        &mut lab,
        "vpn1-10.1.4.4",
        &nets[..1],
        &route(&[64901], "10.1.4.4"),
    );
    announce(
        &mut lab,
        "vpn1-10.1.4.5",
        &nets[1..2],
        &route(&[64901], "10.1.4.5"),
    );
    announce(
        &mut lab,
        "stranger",
        &nets[2..],
        &route(&[65020], "10.1.4.9"),
    );
    let held = nets.map(|net| lab.holds("sdwan", 1, net).is_some());
    assert_eq!(held, [false, false, true]);
}

/// The text with the map `m` as this peer's own, `in` or `out`.
fn own(text: &str, peer: &str, direction: &str) -> String {
    let mark = format!("# {peer}\n");
    assert!(text.contains(&mark));
    text.replace(&mark, &format!("route_map_{direction} = \"m\"\n{mark}"))
}

/// The text with these rules as the map `m`.
fn map(text: &str, rules: &str) -> String {
    format!("{text}\n[[route_server.route_map]]\nname = \"m\"\nrule = {rules}\n")
}

fn parsed(text: &str) -> config::RouteServer {
    let config = config::parse(text, "hub.toml").unwrap_or_else(|faults| panic!("{faults}"));
    let mut server = config.route_servers[0].clone();
    for address in ["10.1.4.4", "10.1.4.5"] {
        server.peers.push(member("vpn1", PeerKind::Vpn, address));
    }
    server
}

/// With the appliances up.
fn with(text: &str) -> Lab {
    let mut lab = Lab::new(&parsed(text));
    for peer in ["sdwan", "fw", "fw2"] {
        lab.both_up(peer);
    }
    lab.settle();
    lab
}

fn lab(owner: &str, direction: &str, rules: &str) -> Lab {
    with(&map(&own(HEAD, owner, direction), rules))
}

fn announce(lab: &mut Lab, peer: &str, nets: &[&str], attributes: &PathAttributes) {
    lab.announce_to_both(peer, nets, attributes);
    lab.settle();
}
