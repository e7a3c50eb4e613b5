//! The story, sentence by sentence.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Facts, Flow, covering, explain};
use crate::{
    api::types::{
        EffectiveRow, ExplainQuery, FibGroup, FibNextHop, FibRoute, LearnedRow, RefusedRoute,
    },
    config::PeerKind,
    dataplane::Lookup,
    fib::Precedence,
    vnet::{Candidates, Entrance, PortGroup},
};

#[test]
fn the_story_names_the_route_its_rivals_the_port_and_the_flows_next_hop() {
    let told = explain(facts(true)).story.join("\n");
    for part in [
        "From subnet hub/apps, 2 routes cover 10.250.0.10; 10.250.0.0/16 (learned from sdwan",
        "Not 0.0.0.0/0 (learned from fw, VirtualNetworkGateway 10.1.20.4): a longer prefix matches.",
        "In the kernel: 10.250.0.0/16 of table learned/rs1 (number 3) names group 7 (0123, 2 buckets).",
        "Next hop via hub 10.1.10.4 is reached by port sdwan, MAC address 02:00:00:00:00:01.",
        "takes bucket",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
}

#[test]
fn a_flow_that_a_network_does_not_take_is_said_to_be_dropped_and_by_which_setting() {
    let told = |closed: &str| {
        let mut facts = facts(true);
        facts.entrance.closed = vec![closed.into()];
        told(facts)
    };
    let dropped = "packets are dropped as forwarded_traffic [allow_forwarded_traffic";
    assert!(told("hub").contains(dropped), "{}", told("hub"));
    assert!(!told("spoke1").contains(dropped));
}

#[test]
fn the_flow_takes_the_backup_while_its_primary_is_down() {
    let explanation = explain(facts(false));
    assert_eq!(explanation.flow.unwrap().next_hop, "via hub 10.1.20.4");
    let explanation = explain(facts(true));
    assert_eq!(explanation.flow.unwrap().next_hop, "via hub 10.1.10.4");
}

#[test]
fn packets_of_a_next_hop_that_is_down_and_has_no_backup_are_said_to_be_dropped() {
    let saved = told(facts(false));
    assert!(
        saved.contains("10.1.10.4 is down: flows take the backup"),
        "{saved}"
    );
    assert!(!saved.contains("next_hop_down"), "{saved}");

    let mut alone = facts(false);
    let lookup = alone.lookup.as_mut().unwrap();
    lookup.buckets = vec![("via hub 10.1.10.4".to_owned(), None)];
    lookup.next_hops.truncate(1);
    let lost = told(alone);
    for part in [
        "10.1.10.4 is down and nothing stands in for it: packets are dropped as next_hop_down.",
        "takes bucket 0: via hub 10.1.10.4, which is down: its packets are dropped",
    ] {
        assert!(lost.contains(part), "{part} in\n{lost}");
    }

    let mut both = facts(false);
    both.lookup.as_mut().unwrap().next_hops[1].alive = false;
    let lost = told(both);
    assert!(lost.contains("10.1.10.4 is down and nothing"), "{lost}");
    assert!(
        lost.contains("10.1.20.4 is down; no flow is meant"),
        "{lost}"
    );
}

#[test]
fn a_kernel_that_answers_otherwise_is_told() {
    let mut differing = facts(true);
    let winner = differing
        .lookup
        .as_mut()
        .and_then(|lookup| lookup.winner.as_mut());
    winner.unwrap().prefix = "0.0.0.0/0".parse().unwrap();
    let told = explain(differing).story.join("\n");
    assert!(told.contains("does not (yet) follow"), "{told}");
    assert!(
        !explain(facts(true))
            .story
            .join("\n")
            .contains("does not (yet) follow")
    );
}

#[test]
fn the_gateway_host_s_own_address_is_told_where_its_network_stands_for_it() {
    let mut own = facts(true);
    own.candidates.host = true;
    let lookup = own.lookup.as_mut().unwrap();
    lookup.next_hops.truncate(1);
    lookup.next_hops[0] = FibNextHop {
        name: "attached hub".to_owned(),
        port: None,
        mac: None,
        ..lookup.next_hops[0].clone()
    };
    let told = explain(own).story.join("\n");
    assert!(
        told.contains("The address is the gateway host's own."),
        "{told}"
    );
    assert!(
        told.contains("Packets reach the gateway host itself."),
        "{told}"
    );
    assert!(!told.contains("no_host"), "{told}");
}

#[test]
fn a_blackhole_is_told_apart_from_other_drops() {
    let mut dropped = facts(true);
    dropped.candidates.rows[0].next_hop_type = "None".to_owned();
    let lookup = dropped.lookup.as_mut().unwrap();
    lookup.next_hops.truncate(1);
    lookup.next_hops[0].name = "discard".to_owned();
    let told = explain(dropped).story.join("\n");
    assert!(told.contains("dropped and counted as discard."), "{told}");

    let mut blackhole = facts(true);
    blackhole.candidates.rows[0].next_hop_type = "None".to_owned();
    let lookup = blackhole.lookup.as_mut().unwrap();
    lookup.next_hops.truncate(1);
    lookup.next_hops[0].name = "blackhole".to_owned();
    let told = explain(blackhole).story.join("\n");
    assert!(told.contains("dropped and counted as blackhole."), "{told}");
}

#[test]
fn without_a_route_packets_are_dropped() {
    let mut nothing = facts(true);
    nothing.candidates = Candidates {
        rows: Vec::new(),
        winner: None,
        host: false,
    };
    nothing.lookup.as_mut().unwrap().winner = None;
    let explanation = explain(nothing);
    assert!(explanation.route.is_none());
    assert!(explanation.story[0].contains("dropped and counted as no_route"));
}

#[test]
fn a_group_that_is_not_the_wanted_one_is_told() {
    let differs = |wanted: Option<&str>| {
        let story = told(Facts {
            wanted: wanted.map(str::to_owned),
            ..facts(true)
        });
        story.contains("does not (yet) follow")
    };
    assert!(!differs(Some("0123")));
    assert!(differs(Some("4567")), "the prefix is the same");
    assert!(differs(None));
}

#[test]
fn packets_of_a_source_that_no_port_lets_in_are_said_to_be_dropped() {
    let mut refused = facts(true);
    refused.entrance.is_refused = true;
    refused.entrance.through.clear();
    let mut host = facts(true);
    host.candidates.host = true;
    host.entrance = refused.entrance.clone();
    let explanation = explain(refused);
    let story = explanation.story.join("\n");
    assert!(
        story.contains("they are dropped as source_check"),
        "{story}"
    );
    assert!(!story.contains("takes bucket"), "{story}");
    assert!(explanation.flow.is_none());
    let story = told(host);
    assert!(!story.contains("source_check"), "the host's own pass");
}

#[test]
fn packets_that_would_go_back_to_their_sender_are_said_to_be_dropped() {
    let hairpin = |through: &[&str], alive| {
        let mut facts = facts(alive);
        facts.entrance.through = through.iter().map(|it| (*it).into()).collect();
        let story = told(facts);
        story
            .lines()
            .find(|line| line.contains("dropped as hairpin"))
            .map(|line| line.split(" from ").next().unwrap().to_owned())
    };
    assert_eq!(hairpin(&["vm1"], true), None);
    assert_eq!(
        hairpin(&["sdwan"], true).as_deref(),
        Some("The packets come through port sdwan")
    );
    assert_eq!(hairpin(&["sdwan"], false), None, "the backup takes it");
    assert_eq!(
        hairpin(&["fw", "sdwan"], true).as_deref(),
        Some("Where the packets come through port sdwan, they do so")
    );
}

#[test]
fn which_ports_of_a_subnet_are_told_of_is_said_where_they_see_different_routes() {
    let story = |is_open| {
        let mut facts = facts(true);
        facts.entrance.ports = Some("vpn");
        facts.entrance.group.gateway = Some(PeerKind::Vpn);
        facts.entrance.is_open = is_open;
        explain(facts).story
    };
    let chosen = story(false);
    assert!(
        chosen[0].starts_with("From subnet hub/apps, ports of members of vpn gateways, 2 routes"),
        "{chosen:?}"
    );
    assert_eq!(
        story(true)[0],
        "Ports of subnet hub/apps see different routes; this is what those of members of vpn gateways \
         see. Say which is meant (--from or --port)."
    );
}

#[test]
fn routes_that_were_refused_are_told_with_peer_limit_and_remedy() {
    let story = |prefix: Option<&str>| {
        told(Facts {
            refused: vec![RefusedRoute {
                route_server: "rs1".into(),
                peer: "vpn".into(),
                instance: 2,
                prefix: prefix.map(|prefix| prefix.parse().unwrap()),
                max_prefixes: 1000,
            }],
            ..facts(true)
        })
    };
    let refused = story(Some("10.250.0.0/24"));
    let sentence = "vpn announced to instance 2 of rs1 10.250.0.0/24, which was refused: of a family it \
                    may announce 1000 routes (max_prefixes, limit_action); raise that, or let it \
                    announce fewer.";
    assert!(refused.contains(sentence), "{refused}");
    assert!(!story(Some("10.0.0.0/8")).contains("refused"), "no rival");
    assert!(story(None).contains("more routes that were refused than are remembered"));
}

#[test]
fn whence_a_path_comes_is_told_as_it_is() {
    let row = |peer: &str, instance, aggregate| LearnedRow {
        route_server: "rs1".into(),
        prefix: "10.250.0.0/16".parse().unwrap(),
        path_id: None,
        peer: peer.into(),
        instance,
        aggregate,
        next_hop: "10.1.10.4".parse().unwrap(),
        as_path: String::new(),
        origin: "igp".into(),
        med: None,
        local_pref: None,
        communities: Vec::new(),
        only_to_customer: None,
        state: "multipath".into(),
        stale: None,
        reason: None,
    };
    let story = told(Facts {
        paths: vec![
            row("sdwan", 1, false),
            row("sdwan", 2, true),
            row("static", 0, false),
        ],
        ..facts(true)
    });
    for sentence in [
        "sdwan announced it to instance 1 of rs1: next hop 10.1.10.4, AS path empty: multipath.",
        "The inbound route map of sdwan made it of what sdwan announced to instance 2 of rs1: next",
        "rs1 has it by hand (route_server.learned): next hop 10.1.10.4",
    ] {
        assert!(story.contains(sentence), "{sentence} in\n{story}");
    }
}

fn told(facts: Facts) -> String {
    explain(facts).story.join("\n")
}

#[test]
fn a_flow_needs_one_family_a_known_protocol_and_ports_only_where_there_are_some() {
    let query = |from: &str, protocol: Option<&str>, port: Option<u16>| ExplainQuery {
        subnet: "apps".to_owned(),
        to: "10.250.0.10".parse().unwrap(),
        port: None,
        from: Some(from.parse().unwrap()),
        protocol: protocol.map(str::to_owned),
        source_port: port,
        destination_port: None,
    };
    let flow = |query| Flow::of(&query).map(|flow| flow.map(|flow| (flow.protocol, flow.ports)));
    assert_eq!(flow(query("10.1.1.4", None, None)), Ok(Some((1, None))));
    assert_eq!(
        flow(query("10.1.1.4", Some("udp"), Some(9))),
        Ok(Some((17, Some((9, 0)))))
    );
    assert!(flow(query("10.1.1.4", Some("icmp"), Some(9))).is_err());
    assert!(flow(query("10.1.1.4", Some("smtp"), None)).is_err());
    assert!(flow(query("fd00::1", None, None)).is_err());
}

#[test]
fn covering_prefixes_come_longest_first() {
    let prefixes: Vec<_> = covering("10.1.2.3".parse().unwrap()).collect();
    assert_eq!(prefixes.len(), 33);
    assert_eq!(prefixes[8].to_string(), "10.1.2.0/24");
    assert_eq!(prefixes[32].to_string(), "0.0.0.0/0");
}

fn facts(alive: bool) -> Facts {
    let to: IpAddr = "10.250.0.10".parse().unwrap();
    let row = |prefix: &str, peer: &str, next_hop: &str| EffectiveRow {
        vnet: "hub".into(),
        subnet: "apps".into(),
        ports: None,
        source: "learned".to_owned(),
        state: "Active".to_owned(),
        prefix: prefix.parse().unwrap(),
        next_hop_type: "VirtualNetworkGateway".to_owned(),
        next_hop: Some(next_hop.parse().unwrap()),
        as_path: Some("65010".to_owned()),
        peer: Some(peer.into()),
        reason: None,
    };
    let next_hop = |name: &str, port: &str, alive| FibNextHop {
        name: name.to_owned(),
        number: 1,
        alive,
        port: Some(port.into()),
        mac: "02:00:00:00:00:01".parse().ok(),
        packets: 0,
        bytes: 0,
    };
    let (sdwan, fw) = ("via hub 10.1.10.4", "via hub 10.1.20.4");
    Facts {
        entrance: Entrance {
            group: PortGroup {
                vnet: "hub".into(),
                subnet: "apps".into(),
                gateway: None,
            },
            ports: None,
            is_open: false,
            through: vec!["vm1".into()],
            is_refused: false,
            closed: Vec::new(),
        },
        to,
        candidates: Candidates {
            rows: vec![
                row("10.250.0.0/16", "sdwan", "10.1.10.4"),
                row("0.0.0.0/0", "fw", "10.1.20.4"),
            ],
            winner: Some(0),
            host: false,
        },
        paths: Vec::new(),
        refused: Vec::new(),
        wanted: Some("0123".to_owned()),
        lookup: Some(Lookup {
            own: None,
            learned: None,
            winner: Some(FibRoute {
                table: "learned/rs1".into(),
                table_number: 3,
                prefix: "10.250.0.0/16".parse().unwrap(),
                group: 7,
                precedence: Precedence::Learned,
                overriding: false,
                local: false,
                stale: false,
            }),
            group: Some(FibGroup {
                name: "0123".to_owned(),
                number: 7,
                first_bucket: 1,
                buckets: 2,
                shares: BTreeMap::new(),
            }),
            buckets: vec![(sdwan.to_owned(), Some(fw.to_owned())); 2],
            next_hops: vec![next_hop(sdwan, "sdwan", alive), next_hop(fw, "fw", true)],
        }),
        attached: None,
        flow: Some(Flow {
            from: "10.1.1.4".parse().unwrap(),
            protocol: 6,
            ports: Some((40000, 443)),
        }),
        flow_seed: 0,
    }
}
