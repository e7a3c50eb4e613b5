//! One flow: whether it is let in, which next hop it takes, and whether it is dropped on its way.
//!
//! In: the flow that a question names. Out: sentences, in the order in which XDP looks.

use std::net::IpAddr;

use router_common::flow;

use super::{Facts, is_down};
use crate::{
    api::{
        Answer, ApiError,
        types::{ExplainQuery, FlowChoice},
    },
    dataplane::Lookup,
    names::InterfaceName,
};

/// A flow, as far as the hash looks at it; its destination is that of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Flow {
    pub(super) from: IpAddr,
    pub(super) protocol: u8,
    pub(super) ports: Option<(u16, u16)>,
}

impl Flow {
    /// The flow that a question names, if it names one. Without a protocol it is a ping.
    pub(in crate::daemon) fn of(query: &ExplainQuery) -> Answer<Option<Self>> {
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

/// Which next hop the flow takes; none if it is not let in.
pub(super) fn chosen(facts: &Facts) -> Option<FlowChoice> {
    let (flow, lookup) = facts.flow.zip(facts.lookup.as_ref())?;
    if is_refused(facts) {
        return None;
    }
    choose(lookup, flow, facts.to, facts.flow_seed)
}

/// What is sent to the gateway host itself passes whatever its source.
fn is_refused(facts: &Facts) -> bool {
    facts.entrance.is_refused && !facts.candidates.host
}

pub(super) fn tell(facts: &Facts, choice: Option<&FlowChoice>, story: &mut Vec<String>) {
    let Some(asked) = facts.flow else {
        return;
    };
    let group = &facts.entrance.group;
    if is_refused(facts) {
        story.push(format!(
            "Packets from {} are not let in: no port there has this address, and none forwards for \
             others: they are dropped as source_check (addresses and ip_forwarding of the port in \
             subnet {}/{}).",
            asked.from, group.vnet, group.subnet
        ));
        return;
    }
    let Some((choice, lookup)) = choice.zip(facts.lookup.as_ref()) else {
        return;
    };
    let ports = asked
        .ports
        .map_or_else(String::new, |(from, to)| format!(", ports {from} to {to}"));
    let is_lost = is_down(lookup, &choice.next_hop);
    let dropped = if is_lost {
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
    let mut closed = facts.entrance.closed.iter();
    if let Some(closed) = closed.find(|vnet| into == Some(vnet.as_str())) {
        story.push(format!(
            "{} is not an address of network {}, and network {closed} takes no forwarded traffic \
             from there: packets are dropped as forwarded_traffic [allow_forwarded_traffic in \
             {closed}'s peering with {}].",
            asked.from, group.vnet, group.vnet
        ));
    } else if !is_lost && !facts.candidates.host {
        story.extend(turned_back(facts, lookup, choice));
    }
}

/// What becomes of packets whose next hop is the machine that sends them.
fn turned_back(facts: &Facts, lookup: &Lookup, choice: &FlowChoice) -> Option<String> {
    let port = leaves_by(facts, lookup, choice)?;
    let through = &facts.entrance.through;
    if !through.contains(port) {
        return None;
    }
    let when = match through.len() {
        1 => format!("The packets come through port {port}"),
        _ => format!("Where the packets come through port {port}, they do so"),
    };
    Some(format!(
        "{when} from the machine that is their next hop: they are dropped as hairpin; give the subnet a \
         route that leads elsewhere (route_table)."
    ))
}

/// The port of the next hop that the flow takes, if it is reached.
fn leaves_by<'f>(
    facts: &'f Facts,
    lookup: &'f Lookup,
    choice: &FlowChoice,
) -> Option<&'f InterfaceName> {
    if choice.next_hop.starts_with("attached ") {
        return facts.attached.as_ref();
    }
    let mut next_hops = lookup.next_hops.iter();
    let next_hop = next_hops.find(|next_hop| next_hop.name == choice.next_hop)?;
    next_hop.port.as_ref().filter(|_| next_hop.mac.is_some())
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
