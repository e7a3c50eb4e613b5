//! `waypost plan`: what another configuration would change.

use std::{path::Path, process::ExitCode};

use super::{
    args::PlanArguments,
    output::print_as,
    table::{count, render},
};
use crate::{
    api::{
        client::Client,
        query::PlanOrder,
        types::{
            AdvertisedRow, EffectiveRow, LearnedRow, Plan, PlannedAdvertised, PlannedEffective,
            PlannedForwarding, PlannedLearned, PlannedPlace, PlannedPort, PlannedRoute,
            PlannedSession, PlannedWay,
        },
    },
    config,
};

/// Rows of a list that are shown unless all are wanted.
const SHOWN: usize = 20;

/// Exit code that says that something would change.
const CHANGES: u8 = 2;

/// Asks what the file would change. It is read here: the daemon need not be able to.
pub(super) async fn plan(client: &Client, asked: &PlanArguments) -> anyhow::Result<ExitCode> {
    let plan: Plan = client.post("/v1/plan", &order(&asked.file)?).await?;
    let shown = match asked.all {
        true => usize::MAX,
        false => SHOWN,
    };
    print_as(asked.output.json, &plan, |plan| text(plan, shown))?;
    Ok(match asked.exit_code && !plan.is_empty() {
        true => ExitCode::from(CHANGES),
        false => ExitCode::SUCCESS,
    })
}

fn order(file: &Path) -> anyhow::Result<PlanOrder> {
    let name = file.display();
    Ok(PlanOrder {
        file: name.to_string(),
        text: config::read(file)?,
    })
}

fn text(plan: &Plan, shown: usize) -> String {
    let mut text = String::new();
    for warning in &plan.warnings {
        text += &format!("warning: {warning}\n");
    }
    if plan.is_empty() {
        return text + "nothing would change\n";
    }
    for change in &plan.changes {
        text += &format!("{change}\n");
    }
    text += &sessions(&plan.sessions, shown);
    text += &learned(&plan.learned, shown);
    text += &advertised(&plan.advertised, shown);
    text += &effective(&plan.effective, shown);
    text + &forwarding(&plan.forwarding, shown)
}

fn sessions(sessions: &[PlannedSession], shown: usize) -> String {
    let (kept, others): (Vec<_>, Vec<_>) = sessions
        .iter()
        .partition(|session| session.change == "kept" && session.why.is_none());
    let rows = others.into_iter().map(|session| {
        vec![
            session.change.clone(),
            session.route_server.to_string(),
            session.instance.to_string(),
            session.peer.to_string(),
            session.address.to_string(),
            session.why.clone().unwrap_or_default(),
        ]
    });
    let stay = match kept.len() {
        0 => String::new(),
        kept => format!(", {} as they are", count(kept, "session")),
    };
    let columns = ["", "ROUTE SERVER", "INSTANCE", "PEER", "ADDRESS", "WHY"];
    section("sessions", &stay, &columns, rows.collect(), shown)
}

fn learned(paths: &[PlannedLearned], shown: usize) -> String {
    let rows = paths.iter().filter_map(|PlannedLearned { before, after }| {
        let row = after.as_ref().or(before.as_ref())?;
        Some(vec![
            sign(before.is_some(), after.is_some()),
            row.prefix.to_string(),
            row.peer.to_string(),
            row.instance.to_string(),
            told(before.as_ref(), path),
            told(after.as_ref(), path_and_reason),
        ])
    });
    let columns = ["", "PREFIX", "PEER", "INSTANCE", "BEFORE", "AFTER"];
    section("learned", "", &columns, rows.collect(), shown)
}

fn path(row: &LearnedRow) -> String {
    let mut words = vec![row.state.clone()];
    words.extend(way_there(&row.next_hop.to_string(), &row.as_path));
    words.extend(row.local_pref.map(|value| format!("local_pref {value}")));
    words.extend(row.med.map(|value| format!("med {value}")));
    words.extend(row.communities.iter().cloned());
    words.join(" ")
}

/// The same with why it is not taken, if it is not.
fn path_and_reason(row: &LearnedRow) -> String {
    match row.reason.as_ref().filter(|_| row.state == "rejected") {
        Some(reason) => format!("{}: {reason}", path(row)),
        None => path(row),
    }
}

fn way_there(next_hop: &str, as_path: &str) -> Vec<String> {
    let mut words = vec![format!("via {next_hop}")];
    if !as_path.is_empty() {
        words.push(format!("path {as_path}"));
    }
    words
}

fn advertised(routes: &[PlannedAdvertised], shown: usize) -> String {
    let rows = routes
        .iter()
        .filter_map(|PlannedAdvertised { before, after }| {
            let row = after.as_ref().or(before.as_ref())?;
            Some(vec![
                sign(before.is_some(), after.is_some()),
                row.peer.to_string(),
                row.instance.to_string(),
                row.prefix.to_string(),
                told(before.as_ref(), announcement),
                told(after.as_ref(), announcement),
            ])
        });
    let columns = ["", "TO PEER", "INSTANCE", "PREFIX", "BEFORE", "AFTER"];
    section("advertised", "", &columns, rows.collect(), shown)
}

fn announcement(row: &AdvertisedRow) -> String {
    let mut words = way_there(&row.next_hop.to_string(), &row.as_path);
    words.extend((row.origin != "igp").then(|| format!("origin {}", row.origin)));
    words.extend(row.local_pref.map(|value| format!("local_pref {value}")));
    words.extend(row.med.map(|value| format!("med {value}")));
    words.extend(row.communities.iter().cloned());
    let aggregator = row.aggregator.as_ref();
    words.extend(aggregator.map(|aggregator| format!("aggregator {aggregator}")));
    words.extend(row.atomic_aggregate.then(|| "atomic_aggregate".to_owned()));
    let originator = row.originator_id;
    words.extend(originator.map(|address| format!("originator_id {address}")));
    if !row.cluster_list.is_empty() {
        words.push(format!("cluster_list {}", row.cluster_list.join(" ")));
    }
    let asn = row.only_to_customer;
    words.extend(asn.map(|asn| format!("only_to_customer {asn}")));
    words.extend(row.unknown.iter().cloned());
    words.push(match row.from.as_str() {
        "originated" => "originated".to_owned(),
        from => format!("from {from}"),
    });
    words.join(" ")
}

fn effective(rows: &[PlannedEffective], shown: usize) -> String {
    let rows = rows
        .iter()
        .filter_map(|PlannedEffective { before, after }| {
            let row = after.as_ref().or(before.as_ref())?;
            Some(vec![
                sign(before.is_some(), after.is_some()),
                format!("{}/{}", row.vnet, row.subnet),
                row.prefix.to_string(),
                row.source.clone(),
                told(before.as_ref(), candidate),
                told(after.as_ref(), candidate),
            ])
        });
    let columns = ["", "SUBNET", "PREFIX", "SOURCE", "BEFORE", "AFTER"];
    section("effective routes", "", &columns, rows.collect(), shown)
}

fn candidate(row: &EffectiveRow) -> String {
    let mut words = vec![row.state.clone(), row.next_hop_type.clone()];
    words.extend(row.next_hop.map(|address| address.to_string()));
    words.extend(row.peer.as_ref().map(|peer| format!("by {peer}")));
    words.join(" ")
}

fn forwarding(planned: &PlannedForwarding, shown: usize) -> String {
    let PlannedForwarding {
        routes,
        ports,
        tables_added,
        tables_removed,
        groups_added,
        groups_removed,
        next_hops_added,
        next_hops_removed,
    } = planned;
    let rows = routes.iter().map(
        |PlannedRoute {
             table,
             prefix,
             before,
             after,
         }| {
            vec![
                sign(before.is_some(), after.is_some()),
                table.to_string(),
                prefix.to_string(),
                told(before.as_ref(), way),
                told(after.as_ref(), way),
            ]
        },
    );
    let columns = ["", "TABLE", "PREFIX", "BEFORE", "AFTER"];
    let counts = [
        ("tables", tables_added.len(), tables_removed.len()),
        ("groups", *groups_added, *groups_removed),
        ("next hops", next_hops_added.len(), next_hops_removed.len()),
    ];
    let counts = counts.iter().filter(|(_, new, gone)| new + gone > 0);
    let others: String = counts
        .map(|(what, new, gone)| format!("; {what}: {new} new, {gone} gone"))
        .collect();
    let mut text = section("forwarding", &others, &columns, rows.collect(), shown);
    if !ports.is_empty() {
        let rows = ports.iter().map(
            |PlannedPort {
                 interface,
                 before,
                 after,
             }| {
                vec![
                    sign(before.is_some(), after.is_some()),
                    interface.to_string(),
                    told(before.as_ref(), place),
                    told(after.as_ref(), place),
                ]
            },
        );
        let columns = ["", "PORT", "BEFORE", "AFTER"];
        text += &section("ports", "", &columns, rows.collect(), shown);
    }
    text
}

fn way(way: &PlannedWay) -> String {
    let mut text = way.next_hops.join(", ");
    if !way.backups.is_empty() {
        text += &format!(", else {}", way.backups.join(", "));
    }
    text
}

fn place(place: &PlannedPlace) -> String {
    let mut tables = vec![place.own_table.to_string()];
    tables.extend(place.learned_table.as_ref().map(ToString::to_string));
    let mut text = format!("{}: {}", place.vnet, tables.join(", "));
    if place.ip_forwarding {
        text += ", ip_forwarding";
    }
    if !place.restricted.is_empty() {
        let networks: Vec<_> = place.restricted.iter().map(ToString::to_string).collect();
        text += &format!(", own sources only to {}", networks.join(", "));
    }
    text
}

/// `+` comes, `-` goes, `~` changes.
fn sign(before: bool, after: bool) -> String {
    match (before, after) {
        (false, _) => "+",
        (true, false) => "-",
        (true, true) => "~",
    }
    .to_owned()
}

fn told<T>(row: Option<&T>, text: impl Fn(&T) -> String) -> String {
    row.map_or_else(|| "-".to_owned(), text)
}

/// A list under its name, with how long it is; the first rows of it.
fn section(
    name: &str,
    others: &str,
    columns: &[&str],
    rows: Vec<Vec<String>>,
    shown: usize,
) -> String {
    let found = match rows.len() {
        0 => "nothing changes".to_owned(),
        rows => count(rows, "change"),
    };
    let mut text = format!("\n{name}: {found}{others}\n");
    if !rows.is_empty() {
        let left = rows.len().saturating_sub(shown);
        text += &render(columns, &[], rows.into_iter().take(shown));
        if left > 0 {
            text += &format!("and {left} more (--all shows them)\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let route = |number: u8| PlannedRoute {
            table: "learned/rs1".into(),
            prefix: ipnet::Ipv4Net::new([10, number, 0, 0].into(), 16)
                .unwrap()
                .into(),
            before: None,
            after: Some(PlannedWay {
                next_hops: vec!["via hub 10.1.10.4".to_owned()],
                backups: vec!["via hub 10.1.20.4".to_owned()],
                precedence: crate::fib::Precedence::Learned,
                overriding: false,
                local: false,
            }),
        };
        let plan = Plan {
            changes: vec!["route server rs1: branch_to_branch false → true".to_owned()],
            forwarding: PlannedForwarding {
                routes: (0..30).map(route).collect(),
                groups_added: 1,
                ..PlannedForwarding::default()
            },
            ..Plan::default()
        };
        let short = text(&plan, SHOWN);
        for part in [
            "branch_to_branch false → true\n",
            "\nsessions: nothing changes\n",
            "\nforwarding: 30 changes; groups: 1 new, 0 gone\n",
            "via hub 10.1.10.4, else via hub 10.1.20.4",
            "and 10 more (--all shows them)",
        ] {
            assert!(short.contains(part), "{part} in\n{short}");
        }
        assert!(!short.contains("10.20.0.0/16"));
        assert!(text(&plan, usize::MAX).contains("10.29.0.0/16"));
        assert_eq!(text(&Plan::default(), SHOWN), "nothing would change\n");
    }
}
