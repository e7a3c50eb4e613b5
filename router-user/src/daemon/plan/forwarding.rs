//! What the data plane would be told, for people.

use crate::{
    api::types::{PlannedForwarding, PlannedPlace, PlannedPort, PlannedRoute, PlannedWay},
    fib::{Change, Fib, Member, Port, Route},
};

/// Describes changes that lead from one state to another.
pub(super) fn compare(before: &Fib, after: &Fib, changes: &[Change]) -> PlannedForwarding {
    let mut planned = PlannedForwarding::default();
    for change in changes {
        match change {
            Change::PutRoute { table, prefix, .. } | Change::RemoveRoute { table, prefix } => {
                let way = |fib: &Fib| Some(way(fib, fib.route(table, prefix)?));
                planned.routes.push(PlannedRoute {
                    table: table.clone(),
                    prefix: *prefix,
                    before: way(before),
                    after: way(after),
                });
            }
            Change::PutPort(Port { interface, .. }) | Change::RemovePort(interface) => {
                let place = |fib: &Fib| fib.port(interface).map(place);
                planned.ports.push(PlannedPort {
                    interface: interface.clone(),
                    before: place(before),
                    after: place(after),
                });
            }
            Change::RemoveTable(table) => planned.tables_removed.push(table.clone()),
            Change::PutGroup { id, .. } => {
                planned.groups_added += usize::from(before.group(*id).is_none());
            }
            Change::RemoveGroup(_) => planned.groups_removed += 1,
            Change::PutNextHop(next_hop) => planned.next_hops_added.push(next_hop.to_string()),
            Change::RemoveNextHop(next_hop) => {
                planned.next_hops_removed.push(next_hop.to_string());
            }
            Change::Synchronised => {}
        }
    }
    let place = |route: &PlannedRoute| (route.table.clone(), route.prefix);
    planned.routes.sort_by_cached_key(place);
    let new = planned.routes.iter().filter(|route| route.before.is_none());
    let mut tables: Vec<_> = new.map(|route| route.table.clone()).collect();
    tables.dedup();
    tables.retain(|table| before.routes(table).next().is_none());
    planned.tables_added = tables;
    planned
}

fn way(fib: &Fib, route: Route) -> PlannedWay {
    let names = |members: &[Member]| members.iter().map(name).collect();
    let group = fib.group(route.group);
    PlannedWay {
        next_hops: group.map(|group| names(&group.members)).unwrap_or_default(),
        backups: group.map(|group| names(&group.backups)).unwrap_or_default(),
        precedence: route.precedence,
        overriding: route.overriding,
        local: route.local,
    }
}

fn name(Member { next_hop, weight }: &Member) -> String {
    match weight {
        1 => next_hop.to_string(),
        weight => format!("{next_hop} weight {weight}"),
    }
}

fn place(port: &Port) -> PlannedPlace {
    PlannedPlace {
        vnet: port.vnet.clone(),
        own_table: port.own_table.clone(),
        learned_table: port.learned_table.clone(),
        addresses: port.addresses.clone(),
        ip_forwarding: port.ip_forwarding,
        restricted: port.restricted.clone(),
    }
}
