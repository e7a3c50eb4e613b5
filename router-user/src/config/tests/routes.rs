//! Route maps, and routes given by hand.

use super::{HUB, changed, each_is_told, faults, warnings};
use crate::config::{
    AsPathPattern, AsPathRegex, CommunityValue, CustomAdvertised, CustomLearned, Match, PeerKind,
    Recipient, RouteChanges, RouteMapAction, RouteMapRule, RouteMaps, SourcePattern, parse,
};

#[test]
fn each_key_of_a_route_map_is_read() {
    let config = parse(HUB, "hub.toml").unwrap();
    let server = &config.route_servers[0];
    let names: Vec<_> = server
        .route_maps
        .iter()
        .map(|map| map.name.as_str())
        .collect();
    assert_eq!(names, ["from-nva", "from-sdwan", "to-nva"]);
    let [first, second] = &server.route_maps[0].rules[..] else {
        panic!("two rules");
    };
    let prefixes = ["10.0.0.0/8", "10.0.0.0/8+", "10.0.0.0/8{16,24}"];
    let regex = AsPathRegex::compile("^65010_").unwrap();
    let expected = RouteMapRule {
        name: "private-only".to_owned(),
        matches: Match {
            prefixes: prefixes.map(|prefix| prefix.parse().unwrap()).to_vec(),
            communities: vec![
                CommunityValue::Standard(0xfdf2_0064),
                CommunityValue::Large([65010, 1, 2]),
                CommunityValue::Extended([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]),
            ],
            as_paths: vec![
                AsPathPattern::Contains(65010),
                AsPathPattern::Exact(vec![65010, 65020]),
                AsPathPattern::Regex(regex),
            ],
            sources: vec![
                SourcePattern::Kind(PeerKind::Nva),
                SourcePattern::Static,
                SourcePattern::Peer("sdwan".into()),
                SourcePattern::Peer("er1".into()),
            ],
        },
        action: RouteMapAction::Permit(Box::new(RouteChanges {
            as_path_replace: Some(vec![65010]),
            as_path_prepend: vec![65010, 65010],
            community_replace: Some(vec![]),
            community_remove: vec![CommunityValue::Standard(0xfdf2_0001)],
            community_add: vec![CommunityValue::Standard(0xfdf2_00c8)],
            local_pref: Some(200),
            med: Some(50),
            weight: Some(3),
            next_hop: Some("10.1.10.9".parse().unwrap()),
        })),
        continues: true,
    };
    assert_eq!(*first, expected);
    assert_eq!(second.name, "2");
    assert_eq!(second.matches, Match::default());
    assert_eq!(second.action, RouteMapAction::Drop);
    assert!(!second.continues);
    assert_eq!(
        server.route_maps[2].rules[0].action,
        RouteMapAction::Aggregate("10.0.0.0/8".parse().unwrap())
    );
    let of_nvas = RouteMaps {
        inbound: Some("from-nva".into()),
        outbound: Some("to-nva".into()),
    };
    assert_eq!(server.route_maps_of_kind, [(PeerKind::Nva, of_nvas)].into());
}

#[test]
fn a_rule_that_says_nothing_permits_every_route_unchanged() {
    let text = changed(HUB, "aggregate = \"10.0.0.0/8\"", "");
    let config = parse(&text, "x.toml").unwrap();
    let rule = &config.route_servers[0].route_maps[2].rules[0];
    assert_eq!(rule.matches, Match::default());
    assert_eq!(rule.action, RouteMapAction::Permit(Box::default()));
    assert!(!rule.continues);
}

#[test]
fn routes_given_by_hand_are_read() {
    let config = parse(HUB, "hub.toml").unwrap();
    let server = &config.route_servers[0];
    let hop = |text: &str| text.parse().unwrap();
    assert_eq!(
        server.learned,
        [CustomLearned {
            prefix: "10.9.0.0/16".parse().unwrap(),
            next_hops: vec![hop("10.1.10.4"), hop("10.2.1.10")],
        }]
    );
    assert_eq!(
        server.advertised,
        [CustomAdvertised {
            prefix: "10.99.0.0/16".parse().unwrap(),
            to: vec![
                Recipient::Kind(PeerKind::Nva),
                Recipient::Kind(PeerKind::Vpn),
                Recipient::Peer("er1".into()),
            ],
            next_hop: Some(hop("10.1.10.4")),
            med: Some(10),
            communities: vec![
                CommunityValue::Standard(0xfdf2_0001),
                CommunityValue::Standard(0xfdf2_0002),
            ],
        }]
    );
}

#[test]
fn faults_of_route_maps_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "route_map_in = \"from-sdwan\"",
                "route_map_in = \"from-sdwan\"\nroute_map_out = \"nothing\"",
                "\"nothing\"",
                "peer sdwan: there is no route map \"nothing\"; name one of: from-nva, from-sdwan, to-nva",
            ),
            (
                "in = \"from-nva\"",
                "in = \"nothing\"",
                "\"nothing\"",
                "route_maps.nva: there is no route map \"nothing\"; name one of",
            ),
            (
                "[route_server.route_maps.nva]",
                "[route_server.route_maps.nvas]",
                "[route_server.route_maps.nvas]",
                "unknown key \"nvas\" in [route_server.route_maps]; did you mean \"nva\"?",
            ),
            (
                "route_map_out = \"to-nva\"",
                "route_map_out = \"from-nva\"",
                "route_map_out = \"from-nva\"",
                "gateway er1: route map from-nva sets a weight (line 165), which nobody is sent; use it inbound",
            ),
            (
                "out = \"to-nva\"",
                "out = \"from-nva\"",
                "out = \"from-nva\"",
                "route_maps.nva: route map from-nva sets a weight (line 165), which nobody is sent",
            ),
            (
                "name = \"from-sdwan\"",
                "name = \"from-nva\"\n[[route_server.route_map]]\nname = \"from-sdwan\"",
                "»name = \"from-nva\"\n[[route_server.route_map]]",
                "name from-nva of a route map is already that of a route map (line",
            ),
            (
                "action = \"drop\"",
                "name = \"private-only\"\naction = \"drop\"",
                "»name = \"private-only\"\naction",
                "name private-only of a rule of route map from-nva is already that of a rule",
            ),
            (
                "name = \"private-only\"",
                "name = \"2\"",
                "[[route_server.route_map.rule]]\naction = \"drop\"",
                "name 2 of a rule of route map from-nva is already that of a rule",
            ),
            (
                "source_peer = [\"sdwan\", \"er1\"]",
                "source_peer = [\"sdwan\", \"branch\"]",
                "\"branch\"]",
                "rule private-only of route map from-nva: there is no peer or gateway \"branch\"; name one of: er1, sdwan, spoke-nva, vpn1",
            ),
            (
                "source = [\"nva\", \"static\"]",
                "source = [\"nva\", \"dynamic\"]",
                "\"dynamic\"",
                "source = \"dynamic\" is not known; write one of: \"nva\", \"express_route\", \"vpn\", \"static\", \"originated\"",
            ),
            (
                "source = [\"nva\", \"static\"]",
                "source = []",
                "source = []",
                "source is empty; give at least one",
            ),
            (
                "\"regex ^65010_\"",
                "\"regex ^65010_(\"",
                "\"regex ^65010_(\"",
                "as_path: regular expression \"^65010_(\": unclosed group; correct it",
            ),
            (
                "10.0.0.0/8{16,24}",
                "10.0.0.0/8{24,40}",
                "10.0.0.0/8{24,40}",
                "prefix: \"10.0.0.0/8{24,40}\" can match nothing; give lengths from 8 to 32",
            ),
            (
                "\"10.0.0.0/8+\"",
                "\"10.1.0.0/8+\"",
                "10.1.0.0/8+",
                "prefix: \"10.1.0.0/8+\" has bits set beyond its length; write 10.0.0.0/8",
            ),
            (
                "\"65010:100\"",
                "\"65010\"",
                "community = [\"65010\"",
                "community: \"65010\" is no community; write 65010:100",
            ),
            (
                "as_path_replace = [65010]",
                "as_path_replace = [65010, 0]",
                "as_path_replace = [65010, 0]",
                "as_path_replace = 0 is out of range; give 1 to 4294967295",
            ),
            (
                "as_path_replace = [65010]",
                "as_path_replace = 65010",
                "as_path_replace = 65010",
                "as_path_replace in [[route_server.route_map.rule]] is of type integer; write a list of whole numbers",
            ),
            (
                "weight = 3",
                "weight = 0",
                "weight = 0",
                "weight = 0 is out of range; give 1 to 255",
            ),
            (
                "next_hop = \"10.1.10.9\"",
                "next_hop = \"224.0.0.9\"",
                "224.0.0.9",
                "next hop 224.0.0.9 of rule private-only of route map from-nva is multicast; give the address",
            ),
            (
                "aggregate = \"10.0.0.0/8\"",
                "aggregate = \"10.0.0.0/8\"\naction = \"permit\"",
                "action = \"permit\"",
                "rule 1 of route map to-nva has an action and an aggregate; keep one of them",
            ),
            (
                "aggregate = \"10.0.0.0/8\"",
                "aggregate = \"10.0.0.1/8\"",
                "10.0.0.1/8",
                "aggregate: \"10.0.0.1/8\" has bits set beyond its length; write 10.0.0.0/8",
            ),
            (
                "aggregate = \"10.0.0.0/8\"",
                "aggregate = \"10.0.0.0/8\"\nmed = 5",
                "med = 5\n",
                "rule 1 of route map to-nva aggregates routes, and changes them (med); leave med out",
            ),
            (
                "action = \"drop\"",
                "action = \"drop\"\nlocal_pref = 5",
                "local_pref = 5",
                "rule 2 of route map from-nva drops routes, and changes them (local_pref); leave local_pref out",
            ),
            (
                "action = \"drop\"",
                "action = \"drop\"\nthen = \"continue\"",
                "»then = \"continue\"\n\n[[route_server.route_map]]",
                "rule 2 of route map from-nva lets nothing pass that a later rule could be asked about; leave then",
            ),
        ],
    );
    let long = format!("as_path_prepend = {:?}", vec![65010; 256]);
    each_is_told(
        HUB,
        &[(
            "as_path_prepend = [65010, 65010]",
            &long,
            "as_path_prepend",
            "as_path_prepend has 256 ASNs; give at most 255",
        )],
    );
}

#[test]
fn a_route_map_that_is_named_nowhere_is_a_warning() {
    let told = warnings(&changed(HUB, "route_map_in = \"from-sdwan\"\n", ""));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("route map from-sdwan is named nowhere; name it as route_map_in"),
        "{told:?}"
    );
}

#[test]
fn rules_that_no_route_ever_fits_are_warnings() {
    let first = "[[route_server.route_map.rule]]\naction = \"drop\"";
    for (from, to, at, expected) in [
        (
            first,
            "[[route_server.route_map.rule]]\nname = \"all\"\nmed = 1\n\
             [[route_server.route_map.rule]]\naction = \"drop\"\n\
             [[route_server.route_map.rule]]",
            first,
            "rules of route map from-nva from here on are never asked: rule all takes every route; \
             move rule all behind them, or have it match some routes only",
        ),
        (
            first,
            "[[route_server.route_map.rule]]\naction = \"drop\"\nsource = [\"static\", \"originated\"]",
            "source = [\"static\", \"orig",
            "rule 2 of route map from-nva takes no route: the map is used inbound, and what is static \
             or originated is not announced by a peer; use the map outbound, or correct source",
        ),
        (
            "aggregate = \"10.0.0.0/8\"",
            "aggregate = \"10.0.0.0/8\"\nprefix = [\"172.16.0.0/12+\", \"0.0.0.0/0\"]",
            "aggregate = ",
            "rule 1 of route map to-nva takes no route: none that it matches lies within 10.0.0.0/8; \
             give an aggregate around the prefixes of the rule",
        ),
    ] {
        let text = changed(HUB, from, to);
        let line = text[..text.find(at).unwrap()].matches('\n').count() + 1;
        assert_eq!(warnings(&text), [format!("x.toml:{line}: {expected}")]);
    }
    for (from, to) in [
        // It lets later rules be asked.
        (
            first,
            "[[route_server.route_map.rule]]\nmed = 1\nthen = \"continue\"\n[[route_server.route_map.rule]]",
        ),
        // What lies outside an aggregate comes to the next rule.
        (
            "aggregate = \"10.0.0.0/8\"",
            "aggregate = \"10.0.0.0/8\"\n[[route_server.route_map.rule]]",
        ),
        // One of the sources announces routes; what is sent may be anything.
        (
            first,
            "[[route_server.route_map.rule]]\nsource = [\"static\", \"nva\"]",
        ),
        ("aggregate = \"10.0.0.0/8\"", "source = [\"originated\"]"),
        (
            "aggregate = \"10.0.0.0/8\"",
            "aggregate = \"10.0.0.0/8\"\nprefix = [\"0.0.0.0/0+\"]",
        ),
    ] {
        assert_eq!(warnings(&changed(HUB, from, to)), [""; 0], "{to}");
    }
}

#[test]
fn faults_of_routes_given_by_hand_are_told() {
    each_is_told(
        HUB,
        &[
            (
                "[\"10.2.1.10\", \"10.1.10.4\"]",
                "[\"10.5.0.1\"]",
                "10.5.0.1",
                "next hop 10.5.0.1 of static route 10.9.0.0/16 lies outside network hub and those that it is peered with; give the address of a machine there",
            ),
            (
                "[\"10.2.1.10\", \"10.1.10.4\"]",
                "[\"10.1.255.4\"]",
                "next_hop = [\"10.1.255.4\"]",
                "next hop 10.1.255.4 of static route 10.9.0.0/16 is that of instance 1 of rs1 (line",
            ),
            (
                "[\"10.2.1.10\", \"10.1.10.4\"]",
                "[\"10.1.10.4\", \"10.1.10.4\"]",
                "[\"10.1.10.4\", \"10.1.10.4\"]",
                "next hop 10.1.10.4 of static route 10.9.0.0/16 is already that of static route 10.9.0.0/16",
            ),
            (
                "[\"10.2.1.10\", \"10.1.10.4\"]",
                "[]",
                "next_hop = []",
                "next_hop is empty; give at least one",
            ),
            (
                "prefix = \"10.9.0.0/16\"",
                "prefix = \"fd00:9::/48\"",
                "[\"10.2.1.10\", \"10.1.10.4\"]",
                "static route fd00:9::/48 has the IPv4 next hop 10.1.10.4; give the machine's IPv6 address",
            ),
            (
                "prefix = \"10.9.0.0/16\"",
                "prefix = \"224.9.0.0/16\"",
                "224.9.0.0/16",
                "static route 224.9.0.0/16 has multicast addresses only; give a prefix",
            ),
            (
                "[[route_server.advertised]]",
                "[[route_server.learned]]\nprefix = \"10.9.0.0/16\"\nnext_hop = [\"10.1.10.4\"]\n[[route_server.advertised]]",
                "»prefix = \"10.9.0.0/16\"\nnext_hop = [\"10.1.10.4\"]",
                "prefix 10.9.0.0/16 of a static route is already that of a static route",
            ),
            (
                "prefix = \"10.99.0.0/16\"",
                "prefix = \"10.1.0.0/16\"",
                "prefix = \"10.1.0.0/16\"",
                "advertised route 10.1.0.0/16 is a prefix of network hub, which all peers are sent; leave it out",
            ),
            (
                "prefix = \"10.99.0.0/16\"",
                "prefix = \"10.3.0.0/16\"",
                "prefix = \"10.3.0.0/16\"\nto =",
                "advertised route 10.3.0.0/16 is a prefix of network spoke2, which all peers are sent",
            ),
            (
                "to = [\"nva\", \"vpn\"]\nto_peer = [\"er1\"]",
                "to = []",
                "[[route_server.advertised]]",
                "advertised route 10.99.0.0/16 goes to nobody; add to = [\"nva\", …]",
            ),
            (
                "to_peer = [\"er1\"]",
                "to_peer = [\"er9\"]",
                "\"er9\"",
                "advertised route 10.99.0.0/16: there is no peer or gateway \"er9\"; name one of: er1, sdwan, spoke-nva, vpn1",
            ),
            (
                "[\"nva\", \"vpn\"]\nto_peer",
                "[\"nva\", \"nva\"]\nto_peer",
                "[\"nva\", \"nva\"]",
                "advertised route 10.99.0.0/16 goes to nva twice (line 187); keep one",
            ),
            (
                "[[route_server.learned]]",
                "[[route_server.advertised]]\nprefix = \"10.99.0.0/16\"\nto_peer = [\"er1\"]\n\n[[route_server.learned]]",
                "to_peer = [\"er1\"]\nnext_hop",
                "advertised route 10.99.0.0/16 goes to er1 twice (line 183); keep one",
            ),
            (
                "[[route_server.learned]]",
                "[[route_server.advertised]]\nprefix = \"10.99.0.0/16\"\nto_peer = [\"sdwan\"]\n\n[[route_server.learned]]",
                "to = [\"nva\", \"vpn\"]",
                "advertised route 10.99.0.0/16 goes to nva and to sdwan (line 183), of which one is a part of the other; keep one",
            ),
            (
                "[[route_server.learned]]",
                "[[route_server.advertised]]\nprefix = \"10.99.0.0/16\"\nto = [\"express_route\"]\n\n[[route_server.learned]]",
                "to_peer = [\"er1\"]\nnext_hop",
                "advertised route 10.99.0.0/16 goes to er1 and to express_route (line 183), of which one is a part of the other; keep one",
            ),
            (
                "prefix = \"10.99.0.0/16\"",
                "prefix = \"0.0.0.0/0\"",
                "[\"nva\", \"vpn\"]\nto_peer",
                "advertised route 0.0.0.0/0 goes to nva, but sdwan is sent a default route by default_originate; remove default_originate of sdwan, or name in to_peer",
            ),
            (
                "[[route_server.learned]]",
                "[[route_server.advertised]]\nprefix = \"::/0\"\nto_peer = [\"spoke-nva\", \"sdwan\"]\n\n[[route_server.learned]]",
                "[\"spoke-nva\", \"sdwan\"]",
                "advertised route ::/0 goes to sdwan, but sdwan is sent a default route by default_originate",
            ),
            (
                "next_hop = \"10.1.10.4\"\nmed = 10",
                "next_hop = \"::1\"\nmed = 10",
                "::1",
                "next hop ::1 of advertised route 10.99.0.0/16 is loopback; give the address of a machine",
            ),
            (
                "community = [\"65010:2\", \"65010:1\"]",
                "community = [\"65010:2\", \"65010:x\"]",
                "65010:x",
                "community: \"65010:x\" is no community; write",
            ),
        ],
    );
}

#[test]
fn default_routes_by_hand_go_to_those_who_are_not_sent_one_of_that_family_anyway() {
    let by_hand = |to: &str, families: &str| {
        let own = format!("default_originate = true\n{families}");
        let text = HUB.replacen("default_originate = true\n", &own, 1);
        text + &format!("\n[[route_server.advertised]]\nprefix = \"::/0\"\n{to}\n")
    };
    for (to, families) in [
        ("to = [\"vpn\", \"express_route\"]", ""),
        ("to_peer = [\"spoke-nva\"]", ""),
        ("to = [\"nva\"]", "families = [\"ipv4\"]\n"),
    ] {
        parse(&by_hand(to, families), "x.toml").unwrap_or_else(|why| panic!("{to}: {why}"));
    }
    let second = HUB.replacen(
        "asn = 65040\n",
        "asn = 65040\ndefault_originate = true\n",
        1,
    );
    let second = second.replacen("default_originate = true\n", "", 1);
    let second = second.replacen("prefix = \"10.99.0.0/16\"", "prefix = \"0.0.0.0/0\"", 1);
    let faults = faults(&second);
    assert!(
        faults.contains("but branch is sent a default route"),
        "{faults}"
    );
}

#[test]
fn routes_by_hand_have_no_more_than_254_different_sets_of_recipients() {
    let with = |count: usize| {
        let mut text = HUB.to_owned();
        for number in 0..8 {
            text += &format!(
                "\n[[route_server.peer]]\nname = \"p{number}\"\naddress = \"10.1.10.{}\"\nasn = {}\n",
                100 + number,
                65100 + number
            );
        }
        for set in 1..=count {
            let named = (0..8).filter(|number| set >> number & 1 != 0);
            let named: Vec<String> = named.map(|number| format!("\"p{number}\"")).collect();
            text += &format!(
                "\n[[route_server.advertised]]\nprefix = \"172.20.{set}.0/24\"\nto_peer = [{}]\n",
                named.join(", ")
            );
        }
        text
    };
    let most = with(253);
    parse(&most, "x.toml").expect("and one more stands in the file");
    let faults = faults(&with(254));
    assert_eq!(faults.lines().count(), 1, "{faults}");
    let expected = "advertised routes have more than 254 different sets of recipients; name kinds";
    assert!(faults.contains(expected), "{faults}");
}

#[test]
fn a_prefix_of_a_peered_network_that_is_not_announced_may_be_advertised_by_hand() {
    let used = "remote = \"hub\"\nuse_remote_route_server = true\nallow_forwarded";
    let text = changed(HUB, used, "remote = \"hub\"\nallow_forwarded");
    let text = changed(
        &text,
        "prefix = \"10.99.0.0/16\"",
        "prefix = \"10.3.0.0/16\"",
    );
    assert_eq!(warnings(&text), [""; 0]);
}
