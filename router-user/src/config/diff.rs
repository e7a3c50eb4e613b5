//! What changes from one configuration to the next, in sentences.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{Debug, Display},
    hash::Hash,
};

use super::{
    Config, CustomAdvertised, PeerKind, Port, Propagate, RouteMaps, RouteServer, RouteTable,
    Subnet, Vnet,
};

mod keys;

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
    let Vnet {
        name,
        prefixes,
        uplink,
        subnets,
        peerings,
    } = old;
    compare(prefixes, &new.prefixes, |prefix| *prefix, &mut |change| {
        changes.push(format!(
            "network {name}: prefix {}",
            change.told(|prefix| prefix)
        ));
    });
    if *uplink != new.uplink {
        changes.push(format!(
            "network {name}: uplink {uplink:?} → {:?}",
            new.uplink
        ));
    }
    compare(
        subnets,
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
        peerings,
        &new.peerings,
        |peering| &peering.remote,
        &mut |change| {
            let told = change.told(|peering| &peering.remote);
            changes.push(format!("network {name}: peering with {told}"));
        },
    );
}

fn change_subnet(vnet: &impl Display, old: &Subnet, new: &Subnet, changes: &mut Vec<String>) {
    let Subnet {
        name,
        prefixes,
        gateways,
        ports,
        route_table,
    } = old;
    let name = format!("{vnet}/{name}");
    for (what, old, new) in [
        (
            "prefixes",
            format!("{prefixes:?}"),
            format!("{:?}", new.prefixes),
        ),
        (
            "gateways",
            format!("{gateways:?}"),
            format!("{:?}", new.gateways),
        ),
        (
            "route table",
            or_none(route_table.as_ref()),
            or_none(new.route_table.as_ref()),
        ),
    ] {
        if old != new {
            changes.push(format!("subnet {name}: {what} {old} → {new}"));
        }
    }
    compare(ports, &new.ports, |port| &port.interface, &mut |change| {
        let told = change.told_with_keys(|port: &Port| &port.interface, keys::of_port);
        changes.extend(told.map(|told| format!("port {told}")));
    });
}

fn change_route_table(old: &RouteTable, new: &RouteTable, changes: &mut Vec<String>) {
    let RouteTable {
        name,
        propagate,
        routes,
    } = old;
    if *propagate != new.propagate {
        changes.push(format!(
            "route table {name}: propagate_routes {} → {}",
            propagated(*propagate),
            propagated(new.propagate)
        ));
    }
    compare(routes, &new.routes, |route| route.prefix, &mut |change| {
        let told = change.told(|route| &route.prefix);
        changes.push(format!("route table {name}: route {told}"));
    });
}

fn change_route_server(old: &RouteServer, new: &RouteServer, changes: &mut Vec<String>) {
    let RouteServer {
        name,
        vnet,
        asn,
        instances,
        reflect_between_nvas,
        max_paths,
        restart_time,
        refresh_time,
        require_policy,
        connection_rate,
        branch_to_branch,
        routing_preference,
        always_compare_med,
        cluster_id,
        soft_max_peers,
        peers,
        dynamic_peers,
        gateways,
        route_maps,
        route_maps_of_kind,
        learned,
        advertised,
    } = old;
    let mut setting = |what: &str, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            changes.push(format!("route server {name}: {what} {old} → {new}"));
        }
    };
    setting("vnet", vnet, &new.vnet);
    setting("asn", asn, &new.asn);
    setting("max_paths", max_paths, &new.max_paths);
    setting(
        "reflect_between_nvas",
        reflect_between_nvas,
        &new.reflect_between_nvas,
    );
    setting("restart_time", restart_time, &new.restart_time);
    setting("refresh_time", refresh_time, &new.refresh_time);
    setting("require_policy", require_policy, &new.require_policy);
    setting("connection_rate", connection_rate, &new.connection_rate);
    setting("branch_to_branch", branch_to_branch, &new.branch_to_branch);
    setting(
        "routing_preference",
        &routing_preference.word(),
        &new.routing_preference.word(),
    );
    setting(
        "always_compare_med",
        always_compare_med,
        &new.always_compare_med,
    );
    setting("cluster_id", cluster_id, &new.cluster_id);
    setting("soft_max_peers", soft_max_peers, &new.soft_max_peers);
    for kind in PeerKind::ALL {
        let of_old = maps_of(route_maps_of_kind, kind);
        let of_new = maps_of(&new.route_maps_of_kind, kind);
        for (direction, old, new) in [
            ("in", of_old.inbound, of_new.inbound),
            ("out", of_old.outbound, of_new.outbound),
        ] {
            let what = format!("route_maps.{}.{direction}", kind.word());
            setting(&what, &or_none(old.as_ref()), &or_none(new.as_ref()));
        }
    }
    let mut tell = |what: &str, told: Option<String>| {
        changes.extend(told.map(|told| format!("route server {name}: {what} {told}")));
    };
    compare(
        instances,
        &new.instances,
        |instance| instance.id,
        &mut |change| tell("instance", Some(change.told(|instance| &instance.id))),
    );
    compare(peers, &new.peers, |peer| &peer.name, &mut |change| {
        tell(
            "peer",
            change.told_with_keys(|peer| &peer.name, keys::of_peer),
        );
    });
    compare(
        dynamic_peers,
        &new.dynamic_peers,
        |peers| &peers.name,
        &mut |change| {
            tell(
                "dynamic peers",
                change.told_with_keys(|peers| &peers.name, keys::of_dynamic_peers),
            );
        },
    );
    compare(
        gateways,
        &new.gateways,
        |gateway| &gateway.name,
        &mut |change| {
            tell(
                "gateway",
                change.told_with_keys(|gateway| &gateway.name, keys::of_gateway),
            );
        },
    );
    compare(
        route_maps,
        &new.route_maps,
        |map| &map.name,
        &mut |change| tell("route map", Some(change.told(|map| &map.name))),
    );
    compare(learned, &new.learned, |route| route.prefix, &mut |change| {
        tell("static route", Some(change.told(|route| &route.prefix)));
    });
    compare(
        &numbered(advertised),
        &numbered(&new.advertised),
        |(number, route)| (route.prefix, *number),
        &mut |change| {
            tell(
                "advertised route",
                Some(change.told(|(_, route)| &route.prefix)),
            );
        },
    );
}

fn maps_of(maps: &BTreeMap<PeerKind, RouteMaps>, kind: PeerKind) -> RouteMaps {
    maps.get(&kind).cloned().unwrap_or_default()
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

impl<T> Difference<'_, T> {
    /// The same with the keys that changed. `None`: none did, but something that its section has from
    /// elsewhere, which is told there.
    fn told_with_keys<N: Display>(
        &self,
        name: impl Fn(&T) -> &N,
        keys: impl Fn(&T, &T) -> Vec<&'static str>,
    ) -> Option<String> {
        let told = self.told(name);
        let Self::Changed(old, new) = self else {
            return Some(told);
        };
        let keys = keys(old, new);
        (!keys.is_empty()).then(|| format!("{told}: {}", keys.join(", ")))
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
                    "port sdwan changed: ip_forwarding",
                ),
                (
                    "asn = 65515",
                    "asn = 65000",
                    "route server rs1: asn 65515 → 65000",
                ),
                (
                    "asn = 65010",
                    "asn = 65012",
                    "route server rs1: peer sdwan changed: asn",
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
                    "route server rs1: peer sdwan changed: allow_blackhole",
                ),
                (
                    "max_members = 2",
                    "max_members = 3",
                    "route server rs1: gateway vpn1 changed: max_members",
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

    #[test]
    fn the_restart_time_of_all_peers_is_told_once() {
        let old = parse(HUB, "old").unwrap();
        let text = HUB.replacen(
            "soft_max_peers = 2",
            "restart_time = 60\nsoft_max_peers = 2",
            1,
        );
        let changes = old.changes(&parse(&text, "new").unwrap());
        assert_eq!(changes, ["route server rs1: restart_time 120 → 60"]);
    }

    #[test]
    fn each_key_of_a_peer_that_changed_is_named_and_no_secret() {
        let old = parse(HUB, "old").unwrap();
        let told = |from: &str, to: &str| {
            assert!(HUB.contains(from), "{from}");
            let text = HUB.replacen(from, to, 1);
            old.changes(&parse(&text, "new").unwrap())
        };
        assert_eq!(
            told(
                "asn = 65020\n",
                "asn = 65021\nmd5_password = \"sesame\"\nrole = \"peer\"\nstrict_role = true\n\
                 long_lived_stale_time = 60\nallow_own_as = 1\nroute_map_out = \"to-nva\"\n",
            ),
            [
                "route server rs1: peer spoke-nva changed: asn, md5_password, long_lived_stale_time, \
                 role, strict_role, route_map_out, allow_own_as"
            ]
        );
        assert_eq!(
            told(
                "asn = 65040\n",
                "asn = 65040\nmax_peers = 7\nhold_time = 9\n"
            ),
            ["route server rs1: dynamic peers branch changed: max_peers, hold_time"]
        );
        assert_eq!(
            told("[\"10.1.3.4\", \"10.1.3.5\"]", "[\"10.1.3.4\"]"),
            [
                "port er-b changed: ip_forwarding",
                "route server rs1: gateway er1 changed: members"
            ]
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
