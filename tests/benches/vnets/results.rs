//! What was measured, as rows, and what targets are set for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use router_common::maps::{RouteEntry, precedence};
use serde_json::json;
use tests::bench::{Report, Target, median};

use crate::{
    changes::Change,
    daemon::Daemon,
    initial::Own,
    kernel::{self, Tries},
};

const TARGETS: [(&str, Target); 6] = [
    ("initial_vs_bare_writes", Target::Max(3.0)),
    ("one_prefix_p99_ms", Target::Max(5.0)),
    ("toggle_branch_to_branch_s", Target::Max(1.0)),
    ("add_peering_s", Target::Max(1.0)),
    ("routing_preference_s", Target::Max(1.0)),
    ("trie_entries_per_distinct_route", Target::Max(1.1)),
];

/// Entries that a distinct own table may have, on average, beside the learned routes.
const OWN_ENTRIES: usize = 20;

/// All measurements of a run.
pub struct Results {
    report: Report,
    changes: BTreeMap<(Change, bool), Vec<f64>>,
}

/// A table's contents: length, address, value of each entry.
type Contents = BTreeSet<(u32, Vec<u8>, [u32; 2])>;

impl Results {
    pub fn new() -> Self {
        let mut report = Report::new();
        for (name, target) in TARGETS {
            report.targets.insert(name.to_owned(), target);
        }
        Self {
            report,
            changes: BTreeMap::new(),
        }
    }

    pub fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    /// Own tables, learned routes, and the same writes alone.
    pub fn initial(&mut self, own: Own, learned: f64, bare: &[f64], tries: &Tries) {
        let entries = tries.v4.len() + tries.v6.len();
        let bare = median(bare);
        self.row("program attached to all ports", own.attached, "s");
        self.row("initial: own tables", own.filling * 1e3, "ms");
        self.row("initial: learned routes", learned * 1e3, "ms");
        self.row("the same writes alone", bare * 1e3, "ms");
        self.row("entries written", entries as f64, "");
        self.ratio("initial_vs_bare_writes", (own.filling + learned) / bare);
    }

    /// Entries, beside what differs.
    pub fn bound(&mut self, tries: &Tries, learned: usize) -> Result<()> {
        let tables = tables(tries);
        let entries: usize = tables.values().map(BTreeSet::len).sum();
        let (of_bgp, own): (Vec<_>, Vec<_>) = tables.values().partition(|table| is_learned(table));
        let distinct_learned: Contents = of_bgp.into_iter().flatten().cloned().collect();
        let own: BTreeSet<&Contents> = own.into_iter().collect();
        let distinct = distinct_learned.len() + own.iter().map(|table| table.len()).sum::<usize>();
        self.row("distinct own tables", own.len() as f64, "");
        self.row("distinct routes", distinct as f64, "");
        let most = learned + OWN_ENTRIES * own.len();
        ensure!(
            entries <= most,
            "{entries} trie entries are more than {most}: {learned} learned routes and {OWN_ENTRIES} \
             for each of {} own tables",
            own.len()
        );
        self.ratio(
            "trie_entries_per_distinct_route",
            entries as f64 / distinct as f64,
        );
        Ok(())
    }

    pub fn memory(&mut self, daemon: &Daemon) -> Result<()> {
        let [resident, _] = daemon.resident()?;
        self.row("resident memory", resident, "MB");
        self.row(
            "kernel memory of maps",
            kernel::size_of_all()? as f64 / 1e6,
            "MB",
        );
        for trie in ["routes_v4", "routes_v6"] {
            let size = kernel::size(&kernel::pinned(trie)?)? as f64;
            self.row(&format!("of it, {trie}"), size / 1e6, "MB");
        }
        match daemon.kernel_memory() {
            Some(memory) => self.row("kernel memory of its control group", memory, "MB"),
            None => self.note("control groups that count kernel memory cannot be made here".into()),
        }
        Ok(())
    }

    /// Sorted, in milliseconds.
    pub fn one_prefix(&mut self, latencies: &[f64]) {
        let part = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            self.row(&format!("one prefix {name}"), part(share), "ms");
            self.ratio(&format!("one_prefix_{name}_ms"), part(share));
        }
    }

    pub fn change(&mut self, change: Change, there: bool, seconds: f64) {
        self.changes
            .entry((change, there))
            .or_default()
            .push(seconds);
    }

    pub fn finish(mut self, daemon: &Daemon) -> Result<()> {
        for ((change, there), seconds) in std::mem::take(&mut self.changes) {
            // Of a few rounds the slowest one counts.
            let slowest = seconds.iter().copied().fold(0.0, f64::max);
            self.row(change.name(there), slowest, "s");
            let name = match change {
                Change::BranchToBranch => "toggle_branch_to_branch_s",
                Change::Peering if there => continue,
                Change::Peering => "add_peering_s",
                Change::RoutingPreference => "routing_preference_s",
            };
            // Of two directions, the slower one.
            let slower = self.report.ratios.get(name).copied().unwrap_or(0.0);
            self.ratio(name, slower.max(slowest));
        }
        let [_, peak] = daemon.resident()?;
        self.row("peak resident memory", peak, "MB");
        println!("{}", self.report.text());
        println!("written to {}", self.report.write("vnets")?.display());
        Ok(())
    }

    fn row(&mut self, what: &str, value: f64, unit: &str) {
        self.report.row([
            ("what", json!(what)),
            ("value", json!(value)),
            ("unit", json!(unit)),
        ]);
    }

    fn ratio(&mut self, name: &str, value: f64) {
        self.report.ratios.insert(name.to_owned(), value);
    }
}

/// The contents of each table.
fn tables(tries: &Tries) -> BTreeMap<u32, Contents> {
    let mut tables: BTreeMap<u32, Contents> = BTreeMap::new();
    let mut add = |table: u32, length: u32, address: &[u8], entry: RouteEntry| {
        let marks = u32::from(entry.precedence) << 8 | u32::from(entry.flags);
        let route = (length, address.to_vec(), [entry.group, marks]);
        tables.entry(table).or_default().insert(route);
    };
    for (length, key, entry) in &tries.v4 {
        add(key.table, *length, &key.address, *entry);
    }
    for (length, key, entry) in &tries.v6 {
        add(key.table, *length, &key.address, *entry);
    }
    tables
}

fn is_learned(table: &Contents) -> bool {
    let learned = u32::from(precedence::LEARNED);
    table.iter().all(|(_, _, [_, marks])| marks >> 8 == learned)
}
