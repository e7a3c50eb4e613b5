//! How many packets of 64 bytes one core forwards, by the number of prefixes.
//!
//! Three namespaces: a generator on CPU 1, a router whose one NAPI thread runs on CPU 0, a sink that
//! counts. In the same run, round after round: Waypost with everything on, forwarding without a
//! look-up, the kernel's tables asked from XDP, and Linux. The median of the rounds counts.
//!
//! `WAYPOST_BENCH_ROUNDS` (5) and `WAYPOST_BENCH_SECONDS` (1.5) of each measurement,
//! `WAYPOST_BENCH_PREFIXES` (1,1000,10000,100000,1000000), `WAYPOST_DATA` (../shared/data).

// The modules of a benchmark are nobody's interface.
#![allow(unreachable_pub)]

#[path = "forward/bench_bed.rs"]
mod bench_bed;
#[path = "forward/destinations.rs"]
mod destinations;
#[path = "forward/namespaces.rs"]
mod namespaces;
#[path = "forward/subjects.rs"]
mod subjects;

use std::{collections::BTreeMap, env, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    bench::{Report, Target, median},
    internet::Table,
};

use self::{
    bench_bed::Bed,
    destinations::destinations,
    subjects::{Subject, Waypost},
};

/// Measured only if `cargo bench` says so: `cargo test` runs benchmarks too.
const SWITCH: &str = "--bench";

fn main() -> Result<()> {
    if !env::args().any(|argument| argument == SWITCH) {
        println!("forward: run with `cargo bench`");
        return Ok(());
    }
    // SAFETY: takes and changes nothing.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "the benchmark makes namespaces and loads programs: run it as root"
    );
    let rounds: usize = setting("WAYPOST_BENCH_ROUNDS", "5")?;
    let length = Duration::from_secs_f64(setting("WAYPOST_BENCH_SECONDS", "1.5")?);
    let sizes: String = setting("WAYPOST_BENCH_PREFIXES", "1,1000,10000,100000,1000000")?;
    let sizes = sizes
        .split(',')
        .map(|size| {
            size.parse()
                .context("WAYPOST_BENCH_PREFIXES is a list of numbers")
        })
        .collect::<Result<Vec<usize>>>()?;
    ensure!(sizes.is_sorted(), "WAYPOST_BENCH_PREFIXES is to ascend");

    let table = Table::load()?;
    println!("prefixes: {}", table.origin);
    let mut bed = Bed::set_up()?;
    let mut waypost = Waypost::load(&bed)?;
    let mut report = Report::new();
    let mut filled = 0;
    for size in sizes {
        let prefixes = table
            .prefixes
            .get(..size)
            .with_context(|| format!("the table has only {} prefixes", table.prefixes.len()))?;
        let added = &prefixes[filled..];
        waypost.learn(added)?;
        bed.add_kernel_routes(added)?;
        filled = size;
        bed.set_destinations(&destinations(prefixes))?;

        let mut measured: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
        for _ in 0..rounds {
            for subject in Subject::ALL {
                let rate = bed.measure(*subject, &mut waypost, length)?;
                measured.entry(*subject).or_default().push(rate);
            }
        }
        record(&mut report, size, &measured);
        println!("{size} prefixes: {}", summary(&measured));
    }
    waypost.assert_forwarded()?;
    for (name, bound) in [
        ("forward_1k_vs_redirect", 0.35),
        ("forward_1m_vs_redirect", 0.12),
    ] {
        report.targets.insert(name.to_owned(), Target::Min(bound));
    }
    println!("\n{}", report.text());
    println!("written to {}", report.write("forward")?.display());
    Ok(())
}

fn record(report: &mut Report, prefixes: usize, measured: &BTreeMap<Subject, Vec<f64>>) {
    let rate = |subject: Subject| median(&measured[&subject]);
    for (subject, rates) in measured {
        report.row([
            ("prefixes", json!(prefixes)),
            ("subject", json!(subject.name())),
            ("mpps", json!(median(rates))),
            ("min", json!(rates.iter().copied().fold(f64::MAX, f64::min))),
            ("max", json!(rates.iter().copied().fold(f64::MIN, f64::max))),
            (
                "vs_redirect",
                json!(median(rates) / rate(Subject::Redirect)),
            ),
        ]);
    }
    let size = match prefixes {
        1_000_000.. => format!("{}m", prefixes / 1_000_000),
        1000.. => format!("{}k", prefixes / 1000),
        _ => prefixes.to_string(),
    };
    for other in [Subject::Redirect, Subject::FibLookup, Subject::Linux] {
        report.ratios.insert(
            format!("forward_{size}_vs_{}", other.name()),
            rate(Subject::Waypost) / rate(other),
        );
    }
}

fn summary(measured: &BTreeMap<Subject, Vec<f64>>) -> String {
    measured
        .iter()
        .map(|(subject, rates)| format!("{} {:.3}", subject.name(), median(rates)))
        .collect::<Vec<_>>()
        .join(", ")
        + " Mpps"
}

fn setting<T>(name: &str, default: &str) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    text.parse()
        .with_context(|| format!("{name}={text} is not understood"))
}
