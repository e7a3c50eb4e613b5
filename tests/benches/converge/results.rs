//! What was measured, as rows, and what it means, as ratios.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::bench::{Report, Target, median};

use crate::{measure::Outcome, subject::Subject};

/// Bounds of the ratios, by case.
const TARGETS: [(&str, Target); 9] = [
    ("a_time_vs_bird", Target::Max(0.9)),
    ("a_memory_vs_bird", Target::Max(1.0)),
    ("b_time_vs_bird", Target::Max(0.5)),
    ("b_time_vs_frr", Target::Max(0.8)),
    ("c_time_vs_bird", Target::Max(0.5)),
    ("c_memory_vs_bird", Target::Max(1.0)),
    ("d_rate_vs_bird", Target::Min(1.0)),
    ("d_latency_p99_vs_bird", Target::Max(1.0)),
    ("e_time_vs_bird_kernel", Target::Max(0.5)),
];

/// All measurements of a run.
#[derive(Debug, Default)]
pub struct Results {
    report: Report,
    /// Sending alone and receiving alone, by case.
    alone: BTreeMap<char, Vec<(f64, f64)>>,
    converged: BTreeMap<(char, Subject), Vec<Outcome>>,
    /// Loads that did not end as they have to.
    failed: Vec<String>,
}

impl Results {
    pub fn new() -> Self {
        Self {
            report: Report::new(),
            ..Self::default()
        }
    }

    /// Something that has to be known to read the figures.
    pub fn note(&mut self, note: String) {
        println!("{note}");
        self.report.notes.push(note);
    }

    /// The injector's and the receivers' own time.
    pub fn alone(&mut self, case: char, sent: f64, received: f64) {
        println!("{case} injector alone: {sent:.3} s; receivers alone: {received:.3} s");
        self.alone.entry(case).or_default().push((sent, received));
    }

    /// What a subject took. A load that failed is told at once, and at the end.
    pub fn measured(&mut self, case: char, subject: Subject, outcome: Result<Outcome>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("FAILED: {error:#}");
                self.failed.push(format!("{error:#}"));
                return;
            }
        };
        let Outcome {
            seconds,
            sent,
            memory,
            cpu,
            churn,
        } = outcome;
        let churn = churn.map_or_else(String::new, |churn| {
            format!(
                ", {:.0} changes a second, latency {:.2} ms, 99 % {:.2} ms",
                churn.rate, churn.p50, churn.p99
            )
        });
        println!(
            "{case} {}: {seconds:.3} s (all sent after {sent:.3} s), peak {memory:.1} MB, CPU \
             {cpu:.2} s{churn}",
            subject.name()
        );
        self.converged
            .entry((case, subject))
            .or_default()
            .push(outcome);
    }

    /// Prints the table and writes the JSON.
    pub fn finish(mut self) -> Result<()> {
        let mut cases: Vec<char> = self.converged.keys().map(|(case, _)| *case).collect();
        cases.dedup();
        for case in cases {
            let alone = self.alone.get(&case).map_or(&[][..], Vec::as_slice);
            let (sent, received): (Vec<f64>, Vec<f64>) = alone.iter().copied().unzip();
            for (who, times) in [("injector alone", sent), ("receivers alone", received)] {
                if !times.is_empty() {
                    row(&mut self.report, case, who, &times, &[]);
                }
            }
            for ((_, subject), outcomes) in self.converged.iter().filter(|(key, _)| key.0 == case) {
                let times = column(outcomes, |one| Some(one.seconds));
                row(&mut self.report, case, subject.name(), &times, outcomes);
            }
            let letter = case.to_ascii_lowercase();
            for (name, target) in TARGETS {
                if name.starts_with(letter) {
                    self.report.targets.insert(name.to_owned(), target);
                }
            }
        }
        for (name, _) in TARGETS {
            if let Some(ratio) = self.ratio(name) {
                self.report.ratios.insert(name.to_owned(), ratio);
            }
        }
        let failed = self.failed.len();
        self.report
            .notes
            .extend(self.failed.drain(..).map(|what| format!("FAILED: {what}")));
        println!("\n{}", self.report.text());
        println!("written to {}", self.report.write("converge")?.display());
        ensure!(failed == 0, "{failed} loads failed; they count for nothing");
        Ok(())
    }

    /// Waypost's figure by the other's; the name says which.
    fn ratio(&self, name: &str) -> Option<f64> {
        let case = name.chars().next()?.to_ascii_uppercase();
        let other = if name.ends_with("_frr") {
            Subject::Frr
        } else {
            Subject::Bird
        };
        let part: Part = match name.split('_').nth(1)? {
            "memory" => |one| Some(one.memory),
            "rate" => |one| Some(one.churn?.rate),
            "latency" => |one| Some(one.churn?.p99),
            _ => |one| Some(one.seconds),
        };
        let of = |subject: Subject| -> Option<f64> {
            let figures = column(self.converged.get(&(case, subject))?, part);
            (!figures.is_empty()).then(|| median(&figures))
        };
        Some(of(Subject::Waypost)? / of(other)?)
    }
}

/// A figure of an outcome, if it has it.
type Part = fn(&Outcome) -> Option<f64>;

fn column(outcomes: &[Outcome], part: Part) -> Vec<f64> {
    outcomes.iter().filter_map(part).collect()
}

fn row(report: &mut Report, case: char, subject: &str, times: &[f64], outcomes: &[Outcome]) {
    let middle = |part: Part| match column(outcomes, part).as_slice() {
        [] => Value::Null,
        figures => json!(median(figures)),
    };
    report.row([
        ("case", json!(case.to_string())),
        ("subject", json!(subject)),
        ("seconds", json!(median(times))),
        ("min", json!(times.iter().copied().fold(f64::MAX, f64::min))),
        ("max", json!(times.iter().copied().fold(f64::MIN, f64::max))),
        ("memory_mb", middle(|one| Some(one.memory))),
        ("cpu_seconds", middle(|one| Some(one.cpu))),
        ("changes_per_second", middle(|one| Some(one.churn?.rate))),
        ("latency_p50_ms", middle(|one| Some(one.churn?.p50))),
        ("latency_p99_ms", middle(|one| Some(one.churn?.p99))),
    ]);
}
