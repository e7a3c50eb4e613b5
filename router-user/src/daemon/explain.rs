//! Where a packet goes, and why, as a story.
//!
//! In: what the stages know of one destination. Out: the same facts with a sentence for each. What
//! the kernel's maps answer comes last and is held against what the control plane decided.

use std::net::IpAddr;

use ipnet::IpNet;
use router_common::flow;

use crate::{
    api::{
        Answer, ApiError,
        types::{EffectiveRow, ExplainQuery, Explanation, FibNextHop, FlowChoice, LearnedRow},
    },
    dataplane::Lookup,
    names::{InterfaceName, SubnetName, VnetName},
    vnet::Candidates,
};

/// What the stages know of one destination.
pub(super) struct Facts {
    pub(super) vnet: VnetName,
    pub(super) subnet: SubnetName,
    pub(super) to: IpAddr,
    pub(super) candidates: Candidates,
    /// Paths of every prefix that covers the destination.
    pub(super) paths: Vec<LearnedRow>,
    /// What the kernel's maps answer; `None` before they are written.
    pub(super) lookup: Option<Lookup>,
    /// The port of the network, or of one that it is peered with, that the destination is attached
    /// to.
    pub(super) attached: Option<InterfaceName>,
    pub(super) flow: Option<Flow>,
    /// Networks that the flow may not enter from here: they take only what is of this one.
    pub(super) closed: Vec<VnetName>,
    pub(super) flow_seed: u64,
}

/// A flow, as far as the hash looks at it; its destination is that of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    from: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

impl Flow {
    /// The flow that a question names, if it names one. Without a protocol it is a ping.
    pub(super) fn of(query: &ExplainQuery) -> Answer<Option<Self>> {
        let Some(from) = query.from else {
            return Ok(None);
        };
        if from.is_ipv4() != query.to.is_ipv4() {
            return Err(ApiError::invalid(
                format!("{from} and {} are of different families", query.to),
                "give two IPv4 or two IPv6 addresses",
            ));
        }
        let protocol = match query.protocol.as_deref() {
            None | Some("icmp") => ICMP[usize::from(from.is_ipv6())],
            Some("tcp") => 6,
            Some("udp") => 17,
            Some(number) => number.parse().map_err(|_| {
                ApiError::invalid(
                    format!("\"{number}\" is no protocol"),
                    "write tcp, udp, icmp or a number from 0 to 255",
                )
            })?,
        };
        let given = query.source_port.is_some() || query.destination_port.is_some();
        let ports = WITH_PORTS.contains(&protocol).then(|| {
            let port = |port: Option<u16>| port.unwrap_or(0);
            (port(query.source_port), port(query.destination_port))
        });
        if given && ports.is_none() {
            return Err(ApiError::invalid(
                format!("protocol {protocol} has no ports"),
                "leave the ports out, or ask for tcp or udp",
            ));
        }
        Ok(Some(Self {
            from,
            protocol,
            ports,
        }))
    }
}

/// ICMP and ICMPv6.
const ICMP: [u8; 2] = [1, 58];

/// TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Every prefix that covers an address, the longest first.
pub(super) fn covering(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (0..=bits)
        .rev()
        .filter_map(move |length| IpNet::new(address, length).ok())
        .map(|prefix| prefix.trunc())
}

/// Tells the story.
pub(super) fn explain(facts: Facts) -> Explanation {
    let route = facts
        .candidates
        .winner
        .map(|index| &facts.candidates.rows[index]);
    let flow = facts
        .lookup
        .as_ref()
        .zip(facts.flow)
        .and_then(|(lookup, flow)| choose(lookup, flow, facts.to, facts.flow_seed));
    let mut story = Vec::new();
    tell_choice(&facts, route, &mut story);
    if let Some(route) = route {
        tell_paths(&facts.paths, route, &mut story);
    }
    tell_kernel(&facts, route, flow.as_ref(), &mut story);
    let prefix = route.map(|route| route.prefix);
    let route = route.cloned();
    let Facts {
        candidates,
        mut paths,
        lookup,
        ..
    } = facts;
    paths.retain(|path| Some(path.prefix) == prefix);
    let (fib, group, next_hops) = lookup.map_or_else(Default::default, |lookup| {
        (lookup.winner, lookup.group, lookup.next_hops)
    });
    Explanation {
        candidates: candidates.rows,
        route,
        paths,
        fib,
        group,
        next_hops,
        flow,
        story,
    }
}

fn tell_choice(facts: &Facts, route: Option<&EffectiveRow>, story: &mut Vec<String>) {
    let Facts {
        vnet,
        subnet,
        to,
        candidates,
        ..
    } = facts;
    let Some(route) = route else {
        story.push(format!(
            "From subnet {vnet}/{subnet}, no route covers {to}: packets are dropped and counted as no_route."
        ));
        return;
    };
    let number = candidates.rows.len();
    let plural = if number == 1 {
        "route covers"
    } else {
        "routes cover"
    };
    story.push(format!(
        "From subnet {vnet}/{subnet}, {number} {plural} {to}; {} is used.",
        named(route)
    ));
    if let Some(reason) = &route.reason {
        story.push(format!("Why: {reason}."));
    }
    for (index, row) in candidates.rows.iter().enumerate() {
        if Some(index) == candidates.winner || is_partner(row, route) {
            continue;
        }
        let why = row.reason.as_deref().unwrap_or("a longer prefix matches");
        story.push(format!("Not {}: {why}.", named(row)));
    }
    match route.next_hop_type.as_str() {
        "None" => {
            let next_hops = facts.lookup.iter().flat_map(|lookup| &lookup.next_hops);
            let names = next_hops.map(|next_hop| next_hop.name.as_str());
            let mut blackhole = names.filter(|name| *name == "blackhole");
            let reason = blackhole.next().unwrap_or("discard");
            story.push(format!("Packets are dropped and counted as {reason}."));
        }
        _ if candidates.host => story.push("The address is the gateway host's own.".to_owned()),
        _ => {}
    }
}

/// Another member of the same ECMP set.
fn is_partner(row: &EffectiveRow, route: &EffectiveRow) -> bool {
    row.state == route.state && row.prefix == route.prefix && row.source == route.source
}

fn tell_paths(paths: &[LearnedRow], route: &EffectiveRow, story: &mut Vec<String>) {
    if route.source != "learned" {
        return;
    }
    for path in paths.iter().filter(|path| path.prefix == route.prefix) {
        let reason = path
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        story.push(format!(
            "{} announced it to instance {} of {}: next hop {}, AS path {}: {}{reason}.",
            path.peer,
            path.instance,
            path.route_server,
            path.next_hop,
            if path.as_path.is_empty() {
                "empty"
            } else {
                &path.as_path
            },
            path.state,
        ));
    }
}

fn tell_kernel(
    facts: &Facts,
    route: Option<&EffectiveRow>,
    flow: Option<&FlowChoice>,
    story: &mut Vec<String>,
) {
    let Some(lookup) = &facts.lookup else {
        story.push("The kernel's maps do not hold this subnet yet.".to_owned());
        return;
    };
    let Some(fib) = &lookup.winner else {
        story.push("The kernel's maps hold no route: packets are dropped as no_route.".to_owned());
        return;
    };
    let group = lookup.group.as_ref();
    story.push(format!(
        "In the kernel: {} of table {} (number {}) names group {}{}{}.",
        fib.prefix,
        fib.table,
        fib.table_number,
        fib.group,
        group.map_or_else(String::new, |group| format!(
            " ({}, {})",
            group.name,
            buckets(group.buckets)
        )),
        if fib.stale {
            ", adopted from an earlier run and not relearned yet"
        } else {
            ""
        },
    ));
    if route.is_some_and(|route| route.prefix != fib.prefix) || route.is_none() {
        story.push(
            "The kernel does not (yet) follow what was decided; ask again, then see \"waypost show fib\" for errors."
                .to_owned(),
        );
    }
    for next_hop in &lookup.next_hops {
        story.push(reached(next_hop, lookup, facts));
    }
    if let (Some(choice), Some(asked)) = (flow, facts.flow) {
        let ports = asked
            .ports
            .map_or_else(String::new, |(from, to)| format!(", ports {from} to {to}"));
        let dropped = if is_down(lookup, &choice.next_hop) {
            ", which is down: its packets are dropped as next_hop_down"
        } else {
            ""
        };
        story.push(format!(
            "The flow from {} (protocol {}{ports}) has hash {:#010x} and takes bucket {}: {}{dropped}.",
            asked.from, asked.protocol, choice.hash, choice.bucket, choice.next_hop
        ));
        // "via NETWORK ADDRESS", "attached NETWORK".
        let into = choice.next_hop.split(' ').nth(1);
        if let Some(closed) = facts.closed.iter().find(|vnet| into == Some(vnet.as_str())) {
            story.push(format!(
                "{} is not an address of network {}, and network {closed} takes no forwarded traffic \
                 from there: packets are dropped as forwarded_traffic [allow_forwarded_traffic in \
                 {closed}'s peering with {}].",
                asked.from, facts.vnet, facts.vnet
            ));
        }
    }
}

fn reached(next_hop: &FibNextHop, lookup: &Lookup, facts: &Facts) -> String {
    let FibNextHop {
        name,
        alive,
        port,
        mac,
        ..
    } = next_hop;
    match (alive, port, mac) {
        (false, ..) => down(name, lookup),
        (true, Some(port), Some(mac)) => {
            format!("Next hop {name} is reached by port {port}, MAC address {mac}.")
        }
        _ if name.starts_with("via ") => {
            format!("Next hop {name} is not resolved yet: packets are dropped as unresolved.")
        }
        _ if name.starts_with("attached ") => match &facts.attached {
            Some(port) => format!("It is attached to port {port}."),
            None if facts.candidates.host => "Packets reach the gateway host itself.".to_owned(),
            None => "No machine of the network has this address: packets are dropped as no_host."
                .to_owned(),
        },
        _ => format!("Next hop: {name}."),
    }
}

/// What becomes of the flows of a next hop that is down.
fn down(name: &str, lookup: &Lookup) -> String {
    let backups = lookup
        .buckets
        .iter()
        .filter(|(primary, _)| primary == name)
        .map(|(_, backup)| backup.as_deref());
    let (saved, lost): (Vec<_>, Vec<_>) =
        backups.partition(|backup| backup.is_some_and(|backup| !is_down(lookup, backup)));
    match (saved.is_empty(), lost.is_empty()) {
        (true, true) => format!("Next hop {name} is down; no flow is meant for it."),
        (_, true) => {
            format!("Next hop {name} is down: flows take the backup of their bucket.")
        }
        (true, false) => format!(
            "Next hop {name} is down and nothing stands in for it: packets are dropped as next_hop_down."
        ),
        (false, false) => format!(
            "Next hop {name} is down: flows take the backup of their bucket; where there is none that is alive, packets are dropped as next_hop_down."
        ),
    }
}

fn is_down(lookup: &Lookup, name: &str) -> bool {
    let mut next_hops = lookup.next_hops.iter();
    next_hops.any(|next_hop| next_hop.name == name && !next_hop.alive)
}

/// The bucket that a flow takes, and the next hop that serves it: as XDP chooses.
fn choose(lookup: &Lookup, flow: Flow, to: IpAddr, seed: u64) -> Option<FlowChoice> {
    let hash = flow::hash(flow.from, to, flow.protocol, flow.ports, seed);
    let mask = u32::try_from(lookup.buckets.len()).ok()?.checked_sub(1)?;
    let bucket = hash & mask;
    let (primary, backup) = &lookup.buckets[bucket as usize];
    let next_hop = match backup {
        Some(backup) if is_down(lookup, primary) => backup,
        _ => primary,
    };
    Some(FlowChoice {
        hash,
        bucket,
        next_hop: next_hop.clone(),
    })
}

fn named(row: &EffectiveRow) -> String {
    let next_hop = row
        .next_hop
        .map_or_else(String::new, |address| format!(" {address}"));
    let peer = row
        .peer
        .as_ref()
        .map_or_else(String::new, |peer| format!(" from {peer}"));
    format!(
        "{} ({}{peer}, {}{next_hop})",
        row.prefix, row.source, row.next_hop_type
    )
}

fn buckets(number: u32) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} bucket{plural}")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Facts, Flow, covering, explain};
    use crate::{
        api::types::{EffectiveRow, ExplainQuery, FibNextHop, FibRoute},
        dataplane::Lookup,
        fib::Precedence,
        vnet::Candidates,
    };

    #[test]
    fn the_story_names_the_route_its_rivals_the_port_and_the_flows_next_hop() {
        let told = explain(facts(true)).story.join("\n");
        for part in [
            "From subnet hub/apps, 2 routes cover 10.250.0.10; 10.250.0.0/16 (learned from sdwan",
            "Not 0.0.0.0/0 (learned from fw, VirtualNetworkGateway 10.1.20.4): a longer prefix matches.",
            "In the kernel: 10.250.0.0/16 of table learned/rs1 (number 3) names group 7.",
            "Next hop via hub 10.1.10.4 is reached by port sdwan, MAC address 02:00:00:00:00:01.",
            "takes bucket",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }

    #[test]
    fn a_flow_that_a_network_does_not_take_is_said_to_be_dropped_and_by_which_setting() {
        let told = |closed: &str| {
            let closed = vec![closed.into()];
            let facts = Facts {
                closed,
                ..facts(true)
            };
            explain(facts).story.join("\n")
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
        let told = |facts: Facts| explain(facts).story.join("\n");
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
    fn a_flow_needs_one_family_a_known_protocol_and_ports_only_where_there_are_some() {
        let query = |from: &str, protocol: Option<&str>, port: Option<u16>| ExplainQuery {
            subnet: "apps".to_owned(),
            to: "10.250.0.10".parse().unwrap(),
            from: Some(from.parse().unwrap()),
            protocol: protocol.map(str::to_owned),
            source_port: port,
            destination_port: None,
        };
        let flow =
            |query| Flow::of(&query).map(|flow| flow.map(|flow| (flow.protocol, flow.ports)));
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
            vnet: "hub".into(),
            subnet: "apps".into(),
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
                    stale: false,
                }),
                group: None,
                buckets: vec![(sdwan.to_owned(), Some(fw.to_owned())); 2],
                next_hops: vec![next_hop(sdwan, "sdwan", alive), next_hop(fw, "fw", true)],
            }),
            attached: None,
            flow: Some(Flow {
                from: "10.1.1.4".parse().unwrap(),
                protocol: 6,
                ports: Some((40000, 443)),
            }),
            closed: Vec::new(),
            flow_seed: 0,
        }
    }
}
