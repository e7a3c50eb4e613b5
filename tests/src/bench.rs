//! What all benchmarks have in common: the machine and its CPUs, the table on the screen, the form of
//! the JSON, the comparison with targets.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Others on the machine are to disturb the measurement as little as can be.
const NICE: i32 = -20;
/// Where the subject runs, with all its threads.
pub const SPEAKER_CPU: usize = 0;
/// Where injector and receivers run.
pub const INJECTOR_CPU: usize = 1;

/// Makes a session, and so where the kernel groups by sessions a scheduling group, of this process
/// and all that it starts, and puts it before all others.
pub fn go_first() {
    // SAFETY: takes nothing. It fails where it has been done before, which is as good.
    unsafe { libc::setsid() };
    // Kernels without automatic groups have no such file and need none.
    let _ = fs::write("/proc/self/autogroup", NICE.to_string());
}

/// Puts the calling thread, and what it starts, before all others, and keeps it on one CPU if one is
/// named.
///
/// # Errors
/// The kernel refuses, or there is no such CPU.
pub fn pin(cpu: Option<usize>) -> Result<()> {
    // SAFETY: plain integers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    ensure!(result == 0, "nice {NICE}: {}", io::Error::last_os_error());
    let Some(cpu) = cpu else {
        return Ok(());
    };
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is far below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set outlives the call and has the size that is given.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    ensure!(
        result == 0,
        "CPU {cpu}: {}; use --unpinned on a machine of one CPU",
        io::Error::last_os_error()
    );
    Ok(())
}

/// Which CPUs are used, for people.
#[must_use]
pub fn cpus(pinned: bool) -> String {
    let which = if pinned {
        format!(
            "every subject, with all its threads, has CPU {SPEAKER_CPU}; injector and receivers \
             have CPU {INJECTOR_CPU}"
        )
    } else {
        "subjects, injector and receivers share all CPUs".to_owned()
    };
    format!("{which}; all at nice {NICE}")
}

/// The outcome of a benchmark.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What it ran on.
    pub machine: String,
    /// What else has to be known to read the figures: versions, data, CPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// One measured configuration a row; all have the same columns.
    pub rows: Vec<Map<String, Value>>,
    /// The columns of the table on the screen, in order.
    #[serde(skip)]
    columns: Vec<String>,
    /// Figures that targets are set for, mostly of two subjects of the same run.
    pub ratios: BTreeMap<String, f64>,
    /// What the ratios are to be.
    pub targets: BTreeMap<String, Target>,
}

/// The bound of a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At least this.
    Min(f64),
    /// At most this.
    Max(f64),
}

impl Target {
    /// Whether `ratio` meets it.
    #[must_use]
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::Min(bound) => ratio >= bound,
            Self::Max(bound) => ratio <= bound,
        }
    }
}

impl Report {
    /// A report without rows, about this machine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            machine: machine(),
            ..Self::default()
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [(&str, Value); N]) {
        self.columns = cells
            .iter()
            .map(|(column, _)| (*column).to_owned())
            .collect();
        self.rows.push(
            cells
                .into_iter()
                .map(|(column, cell)| (column.to_owned(), cell))
                .collect(),
        );
    }

    /// The rows, the ratios and which targets fall short, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.machine.clone()];
        lines.extend(self.notes.iter().cloned());
        lines.push(String::new());
        lines.extend(table(&self.columns, &self.rows));
        lines.push(String::new());
        for (name, ratio) in &self.ratios {
            let target = match self.targets.get(name) {
                Some(Target::Min(bound)) => format!("  (target: at least {bound})"),
                Some(Target::Max(bound)) => format!("  (target: at most {bound})"),
                None => String::new(),
            };
            lines.push(format!("{name:32} {ratio:>8.3}{target}"));
        }
        let short = self.short();
        if short.is_empty() {
            lines.push("all targets met".to_owned());
        } else {
            lines.push(format!("short of the target: {}", short.join(", ")));
        }
        lines.join("\n")
    }

    /// The targets that were not met or not measured.
    #[must_use]
    pub fn short(&self) -> Vec<&str> {
        self.targets
            .iter()
            .filter(|(name, target)| {
                !self
                    .ratios
                    .get(*name)
                    .is_some_and(|ratio| target.is_met(*ratio))
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Writes `target/bench/NAME.json` and says where it is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str) -> Result<PathBuf> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let file = folder.canonicalize()?.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }
}

/// The middle one of measurements, the upper of two.
///
/// # Panics
/// There is none.
#[must_use]
pub fn median(measurements: &[f64]) -> f64 {
    let mut sorted = measurements.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn table(columns: &[String], rows: &[Map<String, Value>]) -> Vec<String> {
    let mut cells = vec![columns.to_vec()];
    cells.extend(rows.iter().map(|row| {
        columns
            .iter()
            .map(|column| match row.get(column) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) if number.is_f64() => {
                    format!("{:.3}", number.as_f64().unwrap_or_default())
                }
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            })
            .collect()
    }));
    let widths: Vec<usize> = (0..columns.len())
        .map(|n| cells.iter().map(|row| row[n].len()).max().unwrap_or(0))
        .collect();
    cells
        .iter()
        .map(|row| {
            row.iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:>width$}"))
                .collect::<Vec<_>>()
                .join("  ")
        })
        .collect()
}

fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} x {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Report, Target, median};

    #[test]
    fn the_json_has_the_form_that_all_benchmarks_share() {
        let mut report = Report::new();
        report.row([("prefixes", json!(1000)), ("mpps", json!(1.5))]);
        report.ratios.insert("a_vs_b".to_owned(), 0.5);
        report.targets.insert("a_vs_b".to_owned(), Target::Min(0.4));
        let json = serde_json::to_value(&report).expect("it is JSON");
        assert_eq!(json["rows"][0]["prefixes"], 1000);
        assert_eq!(json["ratios"]["a_vs_b"], 0.5);
        assert_eq!(json["targets"]["a_vs_b"], json!({"min": 0.4}));
        assert!(json["machine"].is_string());
    }

    #[test]
    fn a_target_that_is_missed_or_not_measured_is_short() {
        let mut report = Report::new();
        for (name, target) in [
            ("met", Target::Max(2.0)),
            ("missed", Target::Min(2.0)),
            ("unmeasured", Target::Min(0.0)),
        ] {
            report.targets.insert(name.to_owned(), target);
        }
        report.ratios.insert("met".to_owned(), 1.0);
        report.ratios.insert("missed".to_owned(), 1.0);
        assert_eq!(report.short(), ["missed", "unmeasured"]);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
