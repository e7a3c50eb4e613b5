//! What changes from one configuration to the next, in sentences.

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    hash::Hash,
};

use super::{
    Config, CustomAdvertised, PeerKind, Port, Propagate, RouteMaps, RouteServer, RouteTable,
    Subnet, Vnet,
};

impl Config {
    /// What `next` changes, a sentence a line; empty if nothing does.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        compare(
            &self.vnets,
            &next.vnets,
            |vnet| &vnet.name,
            &mut |change| match change {
                Difference::Changed(old, new) => change_vnet(old, new, &mut changes),
                other => changes.push(format!("network {}", other.told(|vnet| &vnet.name))),
            },
        );
        compare(
            &self.route_tables,
            &next.route_tables,
            |table| &table.name,
            &mut |change| match change {
                Difference::Changed(old, new) => change_route_table(old, new, &mut changes),
                other => changes.push(format!("route table {}", other.told(|table| &table.name))),
            },
        );
        compare(
            &self.route_servers,
            &next.route_servers,
            |server| &server.name,
            &mut |change| match change {
                Difference::Changed(old, new) => change_route_server(old, new, &mut changes),
                other => {
                    changes.push(format!(
                        "route server {}",
                        other.told(|server| &server.name)
                    ));
                }
            },
        );
        changes
    }

    /// What `next` changes that is read at start only, a sentence a line.
    #[must_use]
    pub fn changes_at_restart(&self, next: &Self) -> Vec<String> {
        let mut sections = Vec::new();
        if self.daemon != next.daemon {
            sections.push("daemon");
        }
        if self.dataplane != next.dataplane {
            sections.push("dataplane");
        }
        sections
            .iter()
            .map(|section| format!("[{section}] changed and takes effect at the next start"))
            .collect()
    }
}

fn change_vnet(old: &Vnet, new: &Vnet, changes: &mut Vec<String>) {
    let name = &old.name;
    compare(
        &old.prefixes,
        &new.prefixes,
        |prefix| *prefix,
        &mut |change| {
            changes.push(format!(
                "network {name}: prefix {}",
                change.told(|prefix| prefix)
            ));
        },
    );
    if old.uplink != new.uplink {
        changes.push(format!(
            "network {name}: uplink {:?} → {:?}",
            old.uplink, new.uplink
        ));
    }
    compare(
        &old.subnets,
        &new.subnets,
        |subnet| &subnet.name,
        &mut |change| match change {
            Difference::Changed(old, new) => change_subnet(name, old, new, changes),
            other => changes.push(format!(
                "subnet {name}/{}",
                other.told(|subnet| &subnet.name)
            )),
        },
    );
    compare(
        &old.peerings,
        &new.peerings,
        |peering| &peering.remote,
        &mut |change| {
            let told = change.told(|peering| &peering.remote);
            changes.push(format!("network {name}: peering with {told}"));
        },
    );
}

fn change_subnet(vnet: &impl Display, old: &Subnet, new: &Subnet, changes: &mut Vec<String>) {
    let name = format!("{vnet}/{}", old.name);
    for (what, old, new) in [
        (
            "prefixes",
            format!("{:?}", old.prefixes),
            format!("{:?}", new.prefixes),
        ),
        (
            "gateways",
            format!("{:?}", old.gateways),
            format!("{:?}", new.gateways),
        ),
        (
            "route table",
            or_none(old.route_table.as_ref()),
            or_none(new.route_table.as_ref()),
        ),
    ] {
        if old != new {
            changes.push(format!("subnet {name}: {what} {old} → {new}"));
        }
    }
    compare(
        &old.ports,
        &new.ports,
        |port| &port.interface,
        &mut |change| {
            let told = change.told(|port: &Port| &port.interface);
            changes.push(format!("port {told}"));
        },
    );
}

fn change_route_table(old: &RouteTable, new: &RouteTable, changes: &mut Vec<String>) {
    let name = &old.name;
    if old.propagate != new.propagate {
        changes.push(format!(
            "route table {name}: propagate_routes {} → {}",
            propagated(old.propagate),
            propagated(new.propagate)
        ));
    }
    compare(
        &old.routes,
        &new.routes,
        |route| route.prefix,
        &mut |change| {
            let told = change.told(|route| &route.prefix);
            changes.push(format!("route table {name}: route {told}"));
        },
    );
}

fn change_route_server(old: &RouteServer, new: &RouteServer, changes: &mut Vec<String>) {
    let name = &old.name;
    let mut setting = |what: &str, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            changes.push(format!("route server {name}: {what} {old} → {new}"));
        }
    };
    setting("vnet", &old.vnet, &new.vnet);
    setting("asn", &old.asn, &new.asn);
    setting("max_paths", &old.max_paths, &new.max_paths);
    setting(
        "reflect_between_nvas",
        &old.reflect_between_nvas,
        &new.reflect_between_nvas,
    );
    setting("restart_time", &old.restart_time, &new.restart_time);
    setting("refresh_time", &old.refresh_time, &new.refresh_time);
    setting("require_policy", &old.require_policy, &new.require_policy);
    setting(
        "connection_rate",
        &old.connection_rate,
        &new.connection_rate,
    );
    setting(
        "branch_to_branch",
        &old.branch_to_branch,
        &new.branch_to_branch,
    );
    setting(
        "routing_preference",
        &old.routing_preference.word(),
        &new.routing_preference.word(),
    );
    setting(
        "always_compare_med",
        &old.always_compare_med,
        &new.always_compare_med,
    );
    setting("cluster_id", &old.cluster_id, &new.cluster_id);
    setting("soft_max_peers", &old.soft_max_peers, &new.soft_max_peers);
    for kind in PeerKind::ALL {
        let (of_old, of_new) = (maps_of(old, kind), maps_of(new, kind));
        for (direction, old, new) in [
            ("in", of_old.inbound, of_new.inbound),
            ("out", of_old.outbound, of_new.outbound),
        ] {
            let what = format!("route_maps.{}.{direction}", kind.word());
            setting(&what, &or_none(old.as_ref()), &or_none(new.as_ref()));
        }
    }
    let mut tell = |what: &str, told: String| {
        changes.push(format!("route server {name}: {what} {told}"));
    };
    compare(
        &old.instances,
        &new.instances,
        |instance| instance.id,
        &mut |change| tell("instance", change.told(|instance| &instance.id)),
    );
    compare(&old.peers, &new.peers, |peer| &peer.name, &mut |change| {
        tell("peer", change.told(|peer| &peer.name));
    });
    compare(
        &old.dynamic_peers,
        &new.dynamic_peers,
        |peers| &peers.name,
        &mut |change| tell("dynamic peers", change.told(|peers| &peers.name)),
    );
    compare(
        &old.gateways,
        &new.gateways,
        |gateway| &gateway.name,
        &mut |change| tell("gateway", change.told(|gateway| &gateway.name)),
    );
    compare(
        &old.route_maps,
        &new.route_maps,
        |map| &map.name,
        &mut |change| tell("route map", change.told(|map| &map.name)),
    );
    compare(
        &old.learned,
        &new.learned,
        |route| route.prefix,
        &mut |change| tell("static route", change.told(|route| &route.prefix)),
    );
    compare(
        &numbered(&old.advertised),
        &numbered(&new.advertised),
        |(number, route)| (route.prefix, *number),
        &mut |change| tell("advertised route", change.told(|(_, route)| &route.prefix)),
    );
}

fn maps_of(server: &RouteServer, kind: PeerKind) -> RouteMaps {
    let maps = server.route_maps_of_kind.get(&kind);
    maps.cloned().unwrap_or_default()
}

/// Routes of one prefix are told apart by their order.
fn numbered(routes: &[CustomAdvertised]) -> Vec<(usize, &CustomAdvertised)> {
    let mut seen = HashMap::new();
    let number = |route: &CustomAdvertised| {
        let times = seen.entry(route.prefix).or_insert(0);
        *times += 1;
        *times
    };
    let numbers: Vec<usize> = routes.iter().map(number).collect();
    numbers.into_iter().zip(routes).collect()
}

fn or_none<T: Display>(name: Option<&T>) -> String {
    name.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// As the configuration has it.
fn propagated(propagate: Propagate) -> String {
    match propagate {
        Propagate::ALL => "true".to_owned(),
        Propagate::NONE => "false".to_owned(),
        some => {
            let kinds = PeerKind::ALL.into_iter().filter(|kind| some.from(*kind));
            let words: Vec<_> = kinds.map(PeerKind::word).collect();
            format!("{words:?}")
        }
    }
}

/// One thing of a list, by its key.
enum Difference<'c, T> {
    Added(&'c T),
    Removed(&'c T),
    Changed(&'c T, &'c T),
}

impl<T> Difference<'_, T> {
    fn told<N: Display>(&self, name: impl Fn(&T) -> &N) -> String {
        match self {
            Self::Added(thing) => format!("{} added", name(thing)),
            Self::Removed(thing) => format!("{} removed", name(thing)),
            Self::Changed(thing, _) => format!("{} changed", name(thing)),
        }
    }
}

/// Tells each difference of two lists whose things are known by `key`: what is gone or changed in the
/// old order, then what is new in the new one.
fn compare<'c, T: PartialEq + Debug, K: Hash + Eq>(
    old: &'c [T],
    new: &'c [T],
    key: impl Fn(&'c T) -> K,
    tell: &mut dyn FnMut(Difference<'c, T>),
) {
    let by_key = |things: &'c [T]| -> HashMap<K, &'c T> {
        things.iter().map(|thing| (key(thing), thing)).collect()
    };
    let (before, after) = (by_key(old), by_key(new));
    for thing in old {
        match after.get(&key(thing)) {
            None => tell(Difference::Removed(thing)),
            Some(next) if *next != thing => tell(Difference::Changed(thing, next)),
            Some(_) => {}
        }
    }
    for thing in new {
        if !before.contains_key(&key(thing)) {
            tell(Difference::Added(thing));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../../docs/example.toml");
    const HUB: &str = include_str!("tests/hub.toml");

    #[test]
    fn each_change_is_one_sentence() {
        each_is_told(
            EXAMPLE,
            &[
                (
                    "prefixes = [\"10.1.0.0/16\"",
                    "prefixes = [\"10.1.0.0/16\", \"10.7.0.0/16\"",
                    "network hub: prefix 10.7.0.0/16 added",
                ),
                (
                    "name = \"data\"",
                    "name = \"db\"",
                    "subnet hub/data removed",
                ),
                (
                    "interface = \"fw\"",
                    "interface = \"fw9\"",
                    "port fw9 added",
                ),
                (
                    "ip_forwarding = true",
                    "ip_forwarding = false",
                    "port sdwan changed",
                ),
                (
                    "asn = 65515",
                    "asn = 65000",
                    "route server rs1: asn 65515 → 65000",
                ),
                (
                    "asn = 65010",
                    "asn = 65012",
                    "route server rs1: peer sdwan changed",
                ),
                (
                    "name = \"rs1\"",
                    "name = \"rs9\"",
                    "route server rs1 removed",
                ),
            ],
        );
    }

    #[test]
    fn each_change_of_peerings_gateways_maps_and_routes_is_one_sentence() {
        each_is_told(
            HUB,
            &[
                (
                    "\nallow_forwarded_traffic = true",
                    "",
                    "network hub: peering with spoke2 changed",
                ),
                (
                    "route_table = \"to-spokes\"",
                    "",
                    "subnet hub/gateways: route table to-spokes → none",
                ),
                (
                    "[\"nva\", \"vpn\"]\n\n",
                    "false\n\n",
                    "route table spoke-routes: propagate_routes [\"nva\", \"vpn\"] → false",
                ),
                (
                    "next_hop_type = \"internet\"",
                    "next_hop_type = \"none\"",
                    "route table spoke-routes: route 0.0.0.0/0 changed",
                ),
                (
                    "prefix = \"10.3.0.0/16\"",
                    "prefix = \"10.3.1.0/24\"",
                    "route table spoke-routes: route 10.3.1.0/24 added",
                ),
                (
                    "[[route_server]]",
                    "[[route_table]]\nname = \"spare\"\n[[route_server]]",
                    "route table spare added",
                ),
                (
                    "branch_to_branch = true",
                    "branch_to_branch = false",
                    "route server rs1: branch_to_branch true → false",
                ),
                (
                    "routing_preference = \"as_path\"",
                    "routing_preference = \"vpn_gateway\"",
                    "route server rs1: routing_preference as_path → vpn_gateway",
                ),
                (
                    "always_compare_med = true",
                    "",
                    "route server rs1: always_compare_med true → false",
                ),
                (
                    "cluster_id = \"10.1.255.9\"",
                    "",
                    "route server rs1: cluster_id 10.1.255.9 → 10.1.255.4",
                ),
                (
                    "soft_max_peers = 2",
                    "soft_max_peers = 3",
                    "route server rs1: soft_max_peers 2 → 3",
                ),
                (
                    "in = \"from-nva\"",
                    "",
                    "route server rs1: route_maps.nva.in from-nva → none",
                ),
                (
                    "allow_blackhole = true",
                    "",
                    "route server rs1: peer sdwan changed",
                ),
                (
                    "max_members = 2",
                    "max_members = 3",
                    "route server rs1: gateway vpn1 changed",
                ),
                (
                    "local_pref = 200",
                    "local_pref = 201",
                    "route server rs1: route map from-nva changed",
                ),
                (
                    "regex ^65010_",
                    "regex ^65011_",
                    "route server rs1: route map from-nva changed",
                ),
                (
                    "[\"10.2.1.10\", \"10.1.10.4\"]",
                    "[\"10.2.1.10\"]",
                    "route server rs1: static route 10.9.0.0/16 changed",
                ),
                (
                    "med = 10\n",
                    "",
                    "route server rs1: advertised route 10.99.0.0/16 changed",
                ),
                (
                    "[[route_server.advertised]]",
                    "[[route_server.advertised]]\nprefix = \"10.98.0.0/16\"\nto = [\"nva\"]\n\
                     [[route_server.advertised]]",
                    "route server rs1: advertised route 10.98.0.0/16 added",
                ),
            ],
        );
    }

    /// Each row: what is changed in the text, and the sentence that tells it.
    fn each_is_told(base: &str, rows: &[(&str, &str, &str)]) {
        let old = parse(base, "old").unwrap();
        assert!(old.changes(&old).is_empty());
        for (from, to, told) in rows {
            assert!(base.contains(from), "{from}");
            let new = parse(&base.replacen(from, to, 1), "new").unwrap();
            let changes = old.changes(&new);
            assert!(
                changes.iter().any(|change| change == told),
                "{told}: {changes:?}"
            );
            assert!(changes.len() <= 2, "{changes:?}");
        }
    }

    #[test]
    fn what_is_read_at_start_only_is_said() {
        let old = parse(EXAMPLE, "old").unwrap();
        let new = EXAMPLE.replacen("[daemon]", "[daemon]\nbgp_port = 1790", 1);
        let new = parse(&new, "new").unwrap();
        assert!(old.changes(&new).is_empty());
        assert_eq!(
            old.changes_at_restart(&new),
            ["[daemon] changed and takes effect at the next start"]
        );
    }
}
