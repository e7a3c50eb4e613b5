//! Where a packet goes, and why, as a story.
//!
//! In: what the stages know of one destination. Out: the same facts with a sentence for each. What
//! the kernel's maps answer comes last and is held against what the control plane decided.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    api::types::{EffectiveRow, Explanation, FibNextHop, LearnedRow, RefusedRoute},
    dataplane::Lookup,
    names::InterfaceName,
    vnet::{Candidates, Entrance, PortGroup},
};

mod flow;
#[cfg(test)]
mod tests;

pub(super) use flow::Flow;

/// What the stages know of one destination.
pub(super) struct Facts {
    /// Where the packet comes from.
    pub(super) entrance: Entrance,
    pub(super) to: IpAddr,
    pub(super) candidates: Candidates,
    /// Paths of every prefix that covers the destination.
    pub(super) paths: Vec<LearnedRow>,
    /// What peers were refused of the routes there.
    pub(super) refused: Vec<RefusedRoute>,
    /// What the kernel's maps answer; `None` before they are written.
    pub(super) lookup: Option<Lookup>,
    /// Name of the group that the winner is to have in the maps.
    pub(super) wanted: Option<String>,
    /// The port of the network, or of one that it is peered with, that the destination is attached
    /// to.
    pub(super) attached: Option<InterfaceName>,
    pub(super) flow: Option<Flow>,
    pub(super) flow_seed: u64,
}

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
    let flow = flow::chosen(&facts);
    let mut story = Vec::new();
    tell_choice(&facts, route, &mut story);
    if let Some(route) = route {
        tell_paths(&facts.paths, route, &mut story);
    }
    tell_refused(&facts.refused, route, &mut story);
    tell_kernel(&facts, route, &mut story);
    flow::tell(&facts, flow.as_ref(), &mut story);
    let prefix = route.map(|route| route.prefix);
    let route = route.cloned();
    let Facts {
        candidates,
        mut paths,
        refused,
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
        refused,
        story,
    }
}

fn tell_choice(facts: &Facts, route: Option<&EffectiveRow>, story: &mut Vec<String>) {
    let Facts {
        entrance,
        to,
        candidates,
        ..
    } = facts;
    let PortGroup { vnet, subnet, .. } = &entrance.group;
    let of = entrance.ports.map_or_else(String::new, |ports| {
        let whose = match entrance.group.gateway {
            Some(_) => format!("members of {ports} gateways"),
            None => "no gateway".to_owned(),
        };
        if entrance.is_open {
            story.push(format!(
                "Ports of subnet {vnet}/{subnet} see different routes; this is what those of {whose} \
                 see. Say which is meant (--from or --port)."
            ));
        }
        format!(", ports of {whose}")
    });
    let Some(route) = route else {
        story.push(format!(
            "From subnet {vnet}/{subnet}{of}, no route covers {to}: packets are dropped and counted as no_route."
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
        "From subnet {vnet}/{subnet}{of}, {number} {plural} {to}; {} is used.",
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
        let LearnedRow {
            peer,
            instance,
            route_server,
            next_hop,
            as_path,
            state,
            ..
        } = path;
        let whence = if *instance == BY_HAND {
            format!("{route_server} has it by hand (route_server.learned)")
        } else if path.aggregate {
            format!(
                "The inbound route map of {peer} made it of what {peer} announced to instance \
                 {instance} of {route_server}"
            )
        } else {
            format!("{peer} announced it to instance {instance} of {route_server}")
        };
        let as_path = match as_path.as_str() {
            "" => "empty",
            as_path => as_path,
        };
        story.push(format!(
            "{whence}: next hop {next_hop}, AS path {as_path}: {state}{reason}."
        ));
    }
}

/// Stands for the instance of static routes, which were announced to none.
const BY_HAND: u8 = 0;

/// What might have been used instead.
fn tell_refused(refused: &[RefusedRoute], route: Option<&EffectiveRow>, story: &mut Vec<String>) {
    let is_rival =
        |prefix: IpNet| route.is_none_or(|route| prefix.prefix_len() >= route.prefix.prefix_len());
    for row in refused {
        let RefusedRoute {
            route_server,
            peer,
            instance,
            prefix,
            max_prefixes,
        } = row;
        let what = match prefix {
            Some(prefix) if is_rival(*prefix) => format!("{prefix}, which was refused"),
            Some(_) => continue,
            None => "more routes that were refused than are remembered, perhaps one that covers it"
                .into(),
        };
        story.push(format!(
            "{peer} announced to instance {instance} of {route_server} {what}: of a family it may \
             announce {max_prefixes} routes (max_prefixes, limit_action); raise that, or let it announce \
             fewer."
        ));
    }
}

fn tell_kernel(facts: &Facts, route: Option<&EffectiveRow>, story: &mut Vec<String>) {
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
    let is_wanted = group.is_none_or(|group| facts.wanted.as_ref() == Some(&group.name));
    if route.is_none_or(|route| route.prefix != fib.prefix) || !is_wanted {
        story.push(
            "The kernel does not (yet) follow what was decided; ask again, then see \"waypost show fib\" for errors."
                .to_owned(),
        );
    }
    for next_hop in &lookup.next_hops {
        story.push(reached(next_hop, lookup, facts));
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
