//! Rows as plain tables: a heading, columns apart by two blanks, nothing drawn.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use ipnet::IpNet;

use crate::api::types::{
    AdvertisedRow, Counters, EffectiveRow, FibGroup, FibNextHop, FibPort, FibRoute, FibView,
    LearnedRow, PeerRow, ReceivedRow, RouteServerStatus, Stale, StaleRoutes,
};
use crate::bgp::State;
use crate::names::{RouteServerName, VnetName};

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
            let dynamic = row.dynamic.then(|| "dynamic".to_owned());
            let stale = row.stale.iter().map(stale_routes);
            // Once it is up, the error is over.
            let error = row.last_error.iter();
            let error = error.filter(|_| row.state != State::Established);
            let warnings = row.warnings.iter().chain(error).cloned();
            let gateway = row.gateway.as_ref();
            let gateway = gateway.map(|gateway| format!("{} gateway {gateway}", row.kind));
            let notes: Vec<_> = dynamic
                .into_iter()
                .chain(gateway)
                .chain(stale)
                .chain(warnings)
                .collect();
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

/// Routes as received: each on a line, what few of them have behind it.
pub(super) fn received(rows: &[ReceivedRow]) -> String {
    let columns = [
        "PREFIX",
        "PEER",
        "INSTANCE",
        "NEXT HOP",
        "AS PATH",
        "ORIGIN",
        "MED",
        "COMMUNITIES",
        "OTHER ATTRIBUTES",
    ];
    let several = have_several_servers(rows.iter().map(|row| &row.route_server));
    render_with_server(
        several,
        &columns,
        rows.iter().map(|row| {
            let cells = vec![
                with_id(row.prefix, row.path_id),
                row.peer.to_string(),
                row.instance.to_string(),
                row.next_hop.to_string(),
                row.as_path.clone(),
                row.origin.clone(),
                row.med.map_or_else(dash, |med| med.to_string()),
                row.communities.join(" "),
                other_attributes(row),
            ];
            (row.route_server.to_string(), cells)
        }),
    )
}

fn other_attributes(row: &ReceivedRow) -> String {
    let mut others = Vec::new();
    let mut other = |name: &str, value: Option<String>| {
        others.extend(value.map(|value| format!("{name} {value}")));
    };
    other(
        "link-local",
        row.link_local.map(|address| address.to_string()),
    );
    other("LOCAL_PREF", row.local_pref.map(|value| value.to_string()));
    other("AGGREGATOR", row.aggregator.clone());
    other(
        "ORIGINATOR_ID",
        row.originator_id.map(|address| address.to_string()),
    );
    let clusters = Some(row.cluster_list.join(" "));
    other(
        "CLUSTER_LIST",
        clusters.filter(|clusters| !clusters.is_empty()),
    );
    other(
        "ONLY_TO_CUSTOMER",
        row.only_to_customer.map(|asn| asn.to_string()),
    );
    if row.atomic_aggregate {
        others.push("ATOMIC_AGGREGATE".to_owned());
    }
    others.extend(row.unknown.iter().cloned());
    others.join("; ")
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
    let several = have_several_servers(rows.iter().map(|row| &row.route_server));
    render_with_server(
        several,
        &columns,
        rows.iter().map(|row| {
            let cells = vec![
                with_id(row.prefix, row.path_id),
                row.peer.to_string(),
                row.instance.to_string(),
                row.next_hop.to_string(),
                row.as_path.clone(),
                row.origin.clone(),
                row.med.map_or_else(dash, |med| med.to_string()),
                row.communities.join(" "),
                match row.stale {
                    Some(kept) => format!("{}, {}", row.state, stale(kept)),
                    None => row.state.clone(),
                },
                row.reason.clone().unwrap_or_default(),
            ];
            (row.route_server.to_string(), cells)
        }),
    )
}

/// What is kept of a lost session.
fn stale_routes(stale_routes: &StaleRoutes) -> String {
    let StaleRoutes {
        family,
        routes,
        kept,
    } = stale_routes;
    let (routes, are) = (
        count(*routes, "route"),
        if *routes == 1 { "is" } else { "are" },
    );
    format!("{routes} of {family} {are} {}", stale(*kept))
}

fn stale(kept: Stale) -> String {
    let how = match kept.long_lived {
        true => "stale as last choice",
        false => "stale",
    };
    format!("{how} for {} more", duration(kept.seconds_left))
}

/// A prefix and its path identifier (RFC 7911), if it has one: `10.250.0.0/16 id 3`.
fn with_id(prefix: IpNet, path_id: Option<u32>) -> String {
    match path_id {
        Some(path_id) => format!("{prefix} id {path_id}"),
        None => prefix.to_string(),
    }
}

/// Whether rows are of more than one route server.
fn have_several_servers<'r>(mut servers: impl Iterator<Item = &'r RouteServerName>) -> bool {
    let first = servers.next();
    servers.any(|server| Some(server) != first)
}

/// A table that begins with the route server where there are several.
fn render_with_server(
    several: bool,
    columns: &[&str],
    rows: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let first = several.then_some("ROUTE SERVER");
    let columns: Vec<&str> = first.into_iter().chain(columns.iter().copied()).collect();
    let rows = rows.map(|(server, cells)| {
        let server = several.then_some(server);
        server.into_iter().chain(cells).collect()
    });
    render(&columns, &[], rows)
}

/// Advertised routes, with LOCAL_PREF where a session of them has it.
pub(super) fn advertised(rows: &[AdvertisedRow]) -> String {
    let local_pref = rows.iter().any(|row| row.local_pref.is_some());
    let number = |value: Option<u32>| value.map_or_else(dash, |value| value.to_string());
    let first = ["PEER", "INSTANCE", "PREFIX", "NEXT HOP", "AS PATH", "MED"];
    let last = ["COMMUNITIES", "FROM"];
    let columns = first.into_iter().chain(local_pref.then_some("LOCAL_PREF"));
    let columns: Vec<_> = columns.chain(last).collect();
    render(
        &columns,
        &[],
        rows.iter().map(|row| {
            let mut cells = vec![
                row.peer.to_string(),
                row.instance.to_string(),
                with_id(row.prefix, row.path_id),
                row.next_hop.to_string(),
                row.as_path.clone(),
                number(row.med),
            ];
            cells.extend(local_pref.then(|| number(row.local_pref)));
            cells.extend([row.communities.join(" "), row.from.clone()]);
            cells
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
                match &row.ports {
                    Some(ports) => format!("{}/{} ({ports})", row.vnet, row.subnet),
                    None => format!("{}/{}", row.vnet, row.subnet),
                },
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
        "DYNAMIC PEERS",
        "NEWCOMERS REFUSED",
        "STOPPED INSTANCES",
    ];
    render(
        &columns,
        &[1, 2, 3, 4, 5],
        servers.iter().map(|server| {
            let stopped: Vec<_> = server.stopped_instances.iter().map(u8::to_string).collect();
            vec![
                server.name.to_string(),
                server.asn.to_string(),
                server.established.to_string(),
                server.sessions.to_string(),
                server.dynamic_peers.to_string(),
                server.newcomers_refused.to_string(),
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
        "LOCAL",
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
                yes_no(route.local),
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
        "FORWARDS",
        "RESTRICTED",
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
                yes_no(port.ip_forwarding),
                match &port.restricted[..] {
                    [] => dash(),
                    restricted => {
                        let names: Vec<&str> = restricted.iter().map(VnetName::as_str).collect();
                        names.join(" ")
                    }
                },
                port.attached.clone(),
            ]
        }),
    )
}

pub(super) fn render(
    columns: &[&str],
    numbers: &[usize],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
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
    use super::{State, advertised, duration, learned, peers, received};
    use crate::api::types::{AdvertisedRow, LearnedRow, PeerRow, ReceivedRow};

    #[test]
    fn the_last_error_is_a_note_only_while_the_session_is_down() {
        let row = |state| PeerRow {
            route_server: "rs1".into(),
            instance: 1,
            peer: "sdwan".into(),
            dynamic: false,
            kind: "nva".into(),
            gateway: None,
            address: "10.1.10.4".parse().unwrap(),
            asn: 65010,
            connection: "Connected".into(),
            state,
            since_seconds: None,
            families: vec![],
            hold_time: None,
            received: 0,
            accepted: 0,
            advertised: 0,
            stale: vec![],
            messages_received: 0,
            messages_sent: 0,
            established_count: 1,
            last_error: Some("connection refused".into()),
            shutdown: None,
            drained: false,
            warnings: vec!["peers with instance 1 only".into()],
        };
        let notes = |state| {
            let text = peers(&[row(state)]);
            ["connection refused", "instance 1 only"].map(|note| text.contains(note))
        };
        assert_eq!(notes(State::Active), [true, true]);
        assert_eq!(notes(State::Established), [false, true]);
    }

    #[test]
    fn a_table_is_a_heading_and_aligned_columns() {
        let row = |peer: &str, prefix: &str| AdvertisedRow {
            route_server: "rs1".into(),
            peer: peer.into(),
            instance: 1,
            prefix: prefix.parse().unwrap(),
            path_id: None,
            next_hop: "10.1.255.4".parse().unwrap(),
            as_path: "65515".into(),
            origin: "igp".into(),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: vec![],
            originator_id: None,
            cluster_list: vec![],
            only_to_customer: None,
            unknown: vec![],
            from: "originated".into(),
        };
        let several = AdvertisedRow {
            path_id: Some(7),
            med: Some(10),
            communities: vec!["65535:0".into()],
            ..row("vpn", "10.250.0.0/16")
        };
        let rows = [
            row("sdwan", "10.1.0.0/16"),
            row("fw", "10.250.0.0/16"),
            several,
        ];
        let text = advertised(&rows);
        assert_eq!(
            text,
            "PEER   INSTANCE  PREFIX              NEXT HOP    AS PATH  MED  COMMUNITIES  FROM\n\
             sdwan  1         10.1.0.0/16         10.1.255.4  65515    -                 originated\n\
             fw     1         10.250.0.0/16       10.1.255.4  65515    -                 originated\n\
             vpn    1         10.250.0.0/16 id 7  10.1.255.4  65515    10   65535:0      originated\n"
        );
        let within = AdvertisedRow {
            local_pref: Some(200),
            ..row("er1", "10.1.0.0/16")
        };
        assert_eq!(
            advertised(&[within, row("fw", "10.1.0.0/16")]),
            "PEER  INSTANCE  PREFIX       NEXT HOP    AS PATH  MED  LOCAL_PREF  COMMUNITIES  FROM\n\
             er1   1         10.1.0.0/16  10.1.255.4  65515    -    200                      originated\n\
             fw    1         10.1.0.0/16  10.1.255.4  65515    -    -                        originated\n"
        );
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = [0.4, 59.9, 192.0, 18_420.0, 1_047_600.0, -1.0].map(duration);
        assert_eq!(said, ["0s", "59s", "3m12s", "5h07m", "12d03h", "0s"]);
    }

    #[test]
    fn the_route_server_is_a_column_where_there_are_several() {
        let row = |server: &str| LearnedRow {
            route_server: server.into(),
            prefix: "10.250.0.0/16".parse().unwrap(),
            path_id: None,
            peer: "sdwan".into(),
            instance: 1,
            aggregate: false,
            next_hop: "10.1.10.4".parse().unwrap(),
            as_path: "65010".into(),
            origin: "igp".into(),
            med: None,
            local_pref: None,
            communities: vec![],
            only_to_customer: None,
            state: "best".into(),
            stale: None,
            reason: None,
        };
        let one = learned(&[row("rs1"), row("rs1")]);
        assert!(one.starts_with("PREFIX"), "{one}");
        let two = learned(&[row("rs1"), row("rs2")]);
        let lines: Vec<_> = two.lines().collect();
        assert!(lines[0].starts_with("ROUTE SERVER  PREFIX"), "{two}");
        assert!(lines[2].starts_with("rs2           10.250.0.0/16"), "{two}");
    }

    #[test]
    fn what_few_received_paths_have_stands_behind_the_rest() {
        let row = ReceivedRow {
            route_server: "rs1".into(),
            prefix: "10.250.0.0/16".parse().unwrap(),
            peer: "sdwan".into(),
            instance: 1,
            path_id: Some(3),
            next_hop: "10.1.10.4".parse().unwrap(),
            link_local: None,
            as_path: "65010".into(),
            origin: "igp".into(),
            med: Some(5),
            local_pref: None,
            atomic_aggregate: true,
            aggregator: Some("65010 192.0.2.1".into()),
            communities: vec!["65010:1".into()],
            originator_id: None,
            cluster_list: vec![],
            only_to_customer: Some(65010),
            unknown: vec![],
        };
        let text = received(&[row]);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("10.250.0.0/16 id 3  sdwan"), "{text}");
        let others = "AGGREGATOR 65010 192.0.2.1; ONLY_TO_CUSTOMER 65010; ATOMIC_AGGREGATE";
        assert!(line.ends_with(others), "{text}");
    }
}
