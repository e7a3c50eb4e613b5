//! Rows as plain tables: a heading, columns apart by two blanks, nothing drawn.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::api::types::{
    AdvertisedRow, Counters, EffectiveRow, FibGroup, FibNextHop, FibPort, FibRoute, FibView,
    LearnedRow, PeerRow, RouteServerStatus,
};

/// Sessions.
pub(super) fn peers(rows: &[PeerRow]) -> String {
    let columns = [
        "ROUTE SERVER",
        "INSTANCE",
        "PEER",
        "ADDRESS",
        "ASN",
        "CONNECTION",
        "STATE",
        "SINCE",
        "RECEIVED",
        "ACCEPTED",
        "ADVERTISED",
        "NOTE",
    ];
    let numbers = [4, 8, 9, 10];
    render(
        &columns,
        &numbers,
        rows.iter().map(|row| {
            let error = row.last_error.iter().cloned();
            let dynamic = row.dynamic.then(|| "dynamic".to_owned());
            let notes = dynamic.into_iter().chain(row.warnings.iter().cloned());
            let notes: Vec<_> = notes.chain(error).collect();
            vec![
                row.route_server.to_string(),
                row.instance.to_string(),
                row.peer.to_string(),
                row.address.to_string(),
                row.asn.to_string(),
                row.connection.clone(),
                format!("{:?}", row.state),
                row.since_seconds.map_or_else(dash, duration),
                row.received.to_string(),
                row.accepted.to_string(),
                row.advertised.to_string(),
                notes.join("; "),
            ]
        }),
    )
}

/// Learned routes.
pub(super) fn learned(rows: &[LearnedRow]) -> String {
    let columns = [
        "PREFIX",
        "PEER",
        "INSTANCE",
        "NEXT HOP",
        "AS PATH",
        "ORIGIN",
        "MED",
        "COMMUNITIES",
        "STATE",
        "REASON",
    ];
    render(
        &columns,
        &[],
        rows.iter().map(|row| {
            vec![
                row.prefix.to_string(),
                row.peer.to_string(),
                row.instance.to_string(),
                row.next_hop.to_string(),
                row.as_path.clone(),
                row.origin.clone(),
                row.med.map_or_else(dash, |med| med.to_string()),
                row.communities.join(" "),
                row.state.clone(),
                row.reason.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Advertised routes.
pub(super) fn advertised(rows: &[AdvertisedRow]) -> String {
    let columns = ["PEER", "INSTANCE", "PREFIX", "NEXT HOP", "AS PATH", "FROM"];
    render(
        &columns,
        &[],
        rows.iter().map(|row| {
            vec![
                row.peer.to_string(),
                row.instance.to_string(),
                row.prefix.to_string(),
                row.next_hop.to_string(),
                row.as_path.clone(),
                row.from.clone(),
            ]
        }),
    )
}

/// Effective routes.
pub(super) fn effective(rows: &[EffectiveRow]) -> String {
    let columns = [
        "SUBNET",
        "SOURCE",
        "STATE",
        "PREFIX",
        "NEXT HOP TYPE",
        "NEXT HOP",
        "AS PATH",
        "PEER",
        "REASON",
    ];
    render(
        &columns,
        &[],
        rows.iter().map(|row| {
            vec![
                format!("{}/{}", row.vnet, row.subnet),
                row.source.clone(),
                row.state.clone(),
                row.prefix.to_string(),
                row.next_hop_type.clone(),
                row.next_hop
                    .map_or_else(dash, |address| address.to_string()),
                row.as_path.clone().unwrap_or_else(dash),
                row.peer.as_ref().map_or_else(dash, ToString::to_string),
                row.reason.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// The forwarding state: four tables.
pub(super) fn fib(view: &FibView) -> String {
    let mut text = format!(
        "Routes\n{}\nGroups\n{}\nNext hops\n{}\nPorts\n{}",
        fib_routes(&view.routes),
        fib_groups(&view.groups),
        fib_next_hops(&view.next_hops),
        fib_ports(&view.ports),
    );
    if view.stale {
        text += "\nRoutes of an earlier run are kept until they are relearned (stale).\n";
    }
    for error in &view.errors {
        text += &format!("\nError: {error}\n");
    }
    text
}

fn fib_next_hops(next_hops: &[FibNextHop]) -> String {
    let columns = [
        "NUMBER", "NEXT HOP", "ALIVE", "PORT", "MAC", "PACKETS", "BYTES",
    ];
    render(
        &columns,
        &[0, 5, 6],
        next_hops.iter().map(|next_hop| {
            vec![
                next_hop.number.to_string(),
                next_hop.name.clone(),
                yes_no(next_hop.alive),
                next_hop
                    .port
                    .as_ref()
                    .map_or_else(dash, ToString::to_string),
                next_hop.mac.map_or_else(dash, |mac| mac.to_string()),
                next_hop.packets.to_string(),
                next_hop.bytes.to_string(),
            ]
        }),
    )
}

/// Counters: two tables.
pub(super) fn counters(counters: &Counters) -> String {
    let ports = render(
        &[
            "PORT",
            "RX PACKETS",
            "RX BYTES",
            "REDIRECT FAILED",
            "NOT FORWARDED",
        ],
        &[1, 2, 3],
        counters.ports.iter().map(|port| {
            let reasons: Vec<_> = port
                .reasons
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            vec![
                port.interface.to_string(),
                port.rx_packets.to_string(),
                port.rx_bytes.to_string(),
                port.redirect_failed.to_string(),
                reasons.join(", "),
            ]
        }),
    );
    let next_hops = render(
        &["NEXT HOP", "PACKETS", "BYTES"],
        &[1, 2],
        counters.next_hops.iter().map(|next_hop| {
            vec![
                next_hop.next_hop.clone(),
                next_hop.packets.to_string(),
                next_hop.bytes.to_string(),
            ]
        }),
    );
    format!("{ports}\n{next_hops}")
}

/// Route servers of the daemon.
pub(super) fn route_servers(servers: &[RouteServerStatus]) -> String {
    let columns = [
        "ROUTE SERVER",
        "ASN",
        "ESTABLISHED",
        "SESSIONS",
        "STOPPED INSTANCES",
    ];
    render(
        &columns,
        &[1, 2, 3],
        servers.iter().map(|server| {
            let stopped: Vec<_> = server.stopped_instances.iter().map(u8::to_string).collect();
            vec![
                server.name.to_string(),
                server.asn.to_string(),
                server.established.to_string(),
                server.sessions.to_string(),
                if stopped.is_empty() {
                    dash()
                } else {
                    stopped.join(", ")
                },
            ]
        }),
    )
}

/// A number of things: `1 port`, `2 ports`.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Seconds as people say them: `42s`, `3m12s`, `5h07m`, `12d03h`.
pub(super) fn duration(seconds: f64) -> String {
    // A negative or absurd number saturates.
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

fn fib_routes(routes: &[FibRoute]) -> String {
    let columns = [
        "TABLE",
        "NUMBER",
        "PREFIX",
        "GROUP",
        "FROM",
        "OVERRIDING",
        "STALE",
    ];
    render(
        &columns,
        &[1, 3],
        routes.iter().map(|route| {
            vec![
                route.table.to_string(),
                route.table_number.to_string(),
                route.prefix.to_string(),
                route.group.to_string(),
                format!("{:?}", route.precedence),
                yes_no(route.overriding),
                yes_no(route.stale),
            ]
        }),
    )
}

fn fib_groups(groups: &[FibGroup]) -> String {
    let columns = ["NUMBER", "NAME", "FIRST BUCKET", "BUCKETS", "SHARES"];
    render(
        &columns,
        &[0, 2, 3],
        groups.iter().map(|group| {
            let shares: Vec<_> = group
                .shares
                .iter()
                .map(|(next_hop, buckets)| format!("{next_hop} ({buckets})"))
                .collect();
            vec![
                group.number.to_string(),
                group.name.clone(),
                group.first_bucket.to_string(),
                group.buckets.to_string(),
                shares.join(", "),
            ]
        }),
    )
}

fn fib_ports(ports: &[FibPort]) -> String {
    let columns = [
        "NUMBER",
        "INTERFACE",
        "NETWORK",
        "OWN TABLE",
        "LEARNED TABLE",
        "XDP",
    ];
    render(
        &columns,
        &[0],
        ports.iter().map(|port| {
            vec![
                port.number.to_string(),
                port.interface.to_string(),
                port.vnet.to_string(),
                port.own_table.to_string(),
                port.learned_table
                    .as_ref()
                    .map_or_else(dash, ToString::to_string),
                port.attached.clone(),
            ]
        }),
    )
}

fn render(columns: &[&str], numbers: &[usize], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    lines
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::{advertised, duration};
    use crate::api::types::AdvertisedRow;

    #[test]
    fn a_table_is_a_heading_and_aligned_columns() {
        let row = |peer: &str, prefix: &str| AdvertisedRow {
            route_server: "rs1".into(),
            peer: peer.into(),
            instance: 1,
            prefix: prefix.parse().unwrap(),
            next_hop: "10.1.255.4".parse().unwrap(),
            as_path: "65515".into(),
            from: "originated".into(),
        };
        let text = advertised(&[row("sdwan", "10.1.0.0/16"), row("fw", "10.250.0.0/16")]);
        assert_eq!(
            text,
            "PEER   INSTANCE  PREFIX         NEXT HOP    AS PATH  FROM\n\
             sdwan  1         10.1.0.0/16    10.1.255.4  65515    originated\n\
             fw     1         10.250.0.0/16  10.1.255.4  65515    originated\n"
        );
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = [0.4, 59.9, 192.0, 18_420.0, 1_047_600.0, -1.0].map(duration);
        assert_eq!(said, ["0s", "59s", "3m12s", "5h07m", "12d03h", "0s"]);
    }
}
