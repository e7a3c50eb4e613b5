//! How fast BGP converges, beside BIRD and FRR, and with flags GoBGP and OpenBGPD.
//!
//! Two namespaces on a veth pair: the subject, and an injector that plays all peers, the same for
//! every subject. It sends byte streams that were encoded before, and its receivers compare the set
//! of (prefix, AS path) that they hold with the one expected, at every message: the clock stops when
//! the last of them is right. Subjects take turns, round after round; the median counts.
//!
//! - A: 1 sender of 1,000,000 prefixes, 1 receiver.
//! - B: 8 senders of the same 100,000 prefixes, with AS paths of different length, 8 receivers.
//! - C: 100 peers that announce 1,000 prefixes each and learn all others.
//! - D: 100,000 changes of best path over a loaded table of 1,000,000 prefixes (see `churn`).
//! - E: 1 sender of 1,000,000 prefixes until all stand where packets are looked up (see
//!   `forwarding`).

// The modules of a benchmark are nobody's interface.
#![allow(unreachable_pub)]

#[path = "converge/bed.rs"]
mod bed;
#[path = "converge/churn.rs"]
mod churn;
#[path = "converge/configuration.rs"]
mod configuration;
#[path = "converge/forwarding.rs"]
mod forwarding;
#[path = "converge/load.rs"]
mod load;
#[path = "converge/measure.rs"]
mod measure;
#[path = "converge/results.rs"]
mod results;
#[path = "converge/subject.rs"]
mod subject;

use std::{env, path::Path, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tests::{
    Lab, bench,
    internet::Table,
    lab::isolation::{self, Place},
    waypost,
};

use self::{
    bed::Bed, churn::ChurnLoad, forwarding::Beds, load::Load, results::Results, subject::Subject,
};

/// Measured only if `cargo bench` says so: `cargo test` runs benchmarks too.
const SWITCH: &str = "--bench";

/// BGP convergence, side by side.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench converge")]
struct Arguments {
    /// What to measure.
    #[arg(
        long = "case",
        value_delimiter = ',',
        default_value = "a,b,c,d,e",
        ignore_case = true
    )]
    cases: Vec<Case>,
    /// How often each subject is measured in each case.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// GoBGP too.
    #[arg(long)]
    gobgp: bool,
    /// OpenBGPD too.
    #[arg(long)]
    openbgpd: bool,
    /// Both.
    #[arg(long)]
    all: bool,
    /// Only these subjects.
    #[arg(long, value_delimiter = ',', hide = true)]
    only: Vec<String>,
    /// Let the subjects, the injector and the receivers share all CPUs.
    #[arg(long)]
    unpinned: bool,
    /// Seconds after which a load is given up.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Divide the number of prefixes of every case by this, to try things out.
    #[arg(long, default_value_t = 1)]
    shrink: usize,
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Case {
    A,
    B,
    C,
    D,
    E,
}

fn main() -> Result<()> {
    if !env::args().any(|argument| argument == SWITCH) {
        println!("converge: run with `cargo bench`");
        return Ok(());
    }
    let arguments = Arguments::parse();
    match isolation::place()? {
        Place::Inside(folder) => measure(&folder, &arguments),
        Place::Outside => {
            waypost::binary()?;
            let folder = isolation::fresh_folder("bench", "converge")?;
            let again: Vec<String> = env::args().skip(1).collect();
            let status = isolation::run_attached(&folder, &again)?;
            ensure!(status.success(), "logs: {}", folder.display());
            Ok(())
        }
    }
}

fn measure(folder: &Path, arguments: &Arguments) -> Result<()> {
    let subjects = subjects(arguments)?;
    let limit = Duration::from_secs(arguments.limit);
    let table = Table::load()?;
    let lab = Lab::new(folder)?;
    bench::go_first();
    let plain = Bed::set_up(&lab, !arguments.unpinned)?;
    let port = Bed::behind_a_port(&lab, !arguments.unpinned)?;
    let beds = Beds { plain, port };
    let mut results = Results::new();
    results.note(format!("prefixes and AS paths: {}", table.origin));
    results.note(beds.plain.cpus());
    for subject in &subjects {
        results.note(format!("{}: {}", subject.name(), subject.version()?));
    }
    let mut cases = arguments.cases.clone();
    cases.sort();
    cases.dedup();
    let whole = 1_000_000 / arguments.shrink;
    let changes = 100_000 / arguments.shrink;
    for case in cases {
        match case {
            Case::A | Case::B | Case::C => {
                let load = match case {
                    Case::A => Load::a(&table, whole),
                    Case::B => Load::b(&table, 100_000 / arguments.shrink),
                    _ => Load::c(&table, 100, 1000 / arguments.shrink),
                };
                for _ in 0..arguments.rounds {
                    let (sent, received) = measure::alone(&beds.plain, &load, limit)?;
                    results.alone(load.case, sent, received);
                    for subject in &subjects {
                        let outcome = measure::converge(&beds.plain, *subject, &load, limit);
                        results.measured(load.case, *subject, outcome);
                    }
                }
            }
            Case::D => {
                let load = ChurnLoad::new(&table, whole, changes);
                for _ in 0..arguments.rounds {
                    for subject in &subjects {
                        let outcome = churn::churn(&beds.plain, *subject, &load, limit);
                        results.measured('D', *subject, outcome);
                    }
                }
            }
            Case::E => {
                let load = Load::e(&table, whole);
                let both = [Subject::Waypost, Subject::Bird];
                for _ in 0..arguments.rounds {
                    for subject in both.iter().filter(|one| subjects.contains(one)) {
                        let outcome = forwarding::forward(&beds, *subject, &load, limit);
                        results.measured('E', *subject, outcome);
                    }
                }
            }
        }
    }
    results.finish()
}

fn subjects(arguments: &Arguments) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::Waypost, Subject::Bird, Subject::Frr];
    if arguments.gobgp || arguments.all {
        subjects.push(Subject::GoBgp);
    }
    if arguments.openbgpd || arguments.all {
        subjects.push(Subject::OpenBgpd);
    }
    if !arguments.only.is_empty() {
        subjects.retain(|subject| arguments.only.iter().any(|name| name == subject.name()));
    }
    if subjects.is_empty() {
        bail!("--only names none of the subjects");
    }
    Ok(subjects)
}
