//! What changes from one configuration to the next, in sentences.

use std::fmt::{Debug, Display};

use super::{Config, Port, RouteServer, Subnet, Vnet};

impl Config {
    /// What `next` changes, a sentence a line; empty if nothing does.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        compare(
            &self.vnets,
            &next.vnets,
            |vnet| vnet.name.to_string(),
            &mut |change| match change {
                Difference::Changed(old, new) => change_vnet(old, new, &mut changes),
                other => changes.push(format!("network {}", other.told(|vnet| &vnet.name))),
            },
        );
        compare(
            &self.route_servers,
            &next.route_servers,
            |server| server.name.to_string(),
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
        ToString::to_string,
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
        |subnet| subnet.name.to_string(),
        &mut |change| match change {
            Difference::Changed(old, new) => change_subnet(name, old, new, changes),
            other => changes.push(format!(
                "subnet {name}/{}",
                other.told(|subnet| &subnet.name)
            )),
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
    ] {
        if old != new {
            changes.push(format!("subnet {name}: {what} {old} → {new}"));
        }
    }
    compare(
        &old.ports,
        &new.ports,
        |port| port.interface.to_string(),
        &mut |change| {
            let told = change.told(|port: &Port| &port.interface);
            changes.push(format!("port {told}"));
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
    compare(
        &old.instances,
        &new.instances,
        |instance| instance.id.to_string(),
        &mut |change| {
            let told = change.told(|instance| &instance.id);
            changes.push(format!("route server {name}: instance {told}"));
        },
    );
    compare(
        &old.peers,
        &new.peers,
        |peer| peer.name.to_string(),
        &mut |change| {
            let told = change.told(|peer| &peer.name);
            changes.push(format!("route server {name}: peer {told}"));
        },
    );
    compare(
        &old.dynamic_peers,
        &new.dynamic_peers,
        |peers| peers.name.to_string(),
        &mut |change| {
            let told = change.told(|peers| &peers.name);
            changes.push(format!("route server {name}: dynamic peers {told}"));
        },
    );
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

/// Tells each difference of two lists whose things are known by `key`.
fn compare<'c, T: PartialEq + Debug>(
    old: &'c [T],
    new: &'c [T],
    key: impl Fn(&T) -> String,
    tell: &mut dyn FnMut(Difference<'c, T>),
) {
    for before in old {
        match new.iter().find(|after| key(after) == key(before)) {
            None => tell(Difference::Removed(before)),
            Some(after) if after != before => tell(Difference::Changed(before, after)),
            Some(_) => {}
        }
    }
    for after in new {
        if !old.iter().any(|before| key(before) == key(after)) {
            tell(Difference::Added(after));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const EXAMPLE: &str = include_str!("../../../docs/example.toml");

    #[test]
    fn each_change_is_one_sentence() {
        let old = parse(EXAMPLE, "old").unwrap();
        assert!(old.changes(&old).is_empty());
        for (from, to, told) in [
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
        ] {
            let new = parse(&EXAMPLE.replacen(from, to, 1), "new").unwrap();
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
