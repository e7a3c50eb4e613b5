//! `cargo xtask fuzz`: libFuzzer over the targets of the `fuzz` crate.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{setup, shell};

/// Coverage for libFuzzer, and every check that a debug build has.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// A run that takes longer than this many seconds counts as a hang.
const HANG: u32 = 10;

/// More memory than this, in MiB, counts as unbounded growth.
const MEMORY: u32 = 1024;

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to fuzz.
    target: Target,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// End after so many inputs, if that comes first.
    #[arg(long)]
    inputs: Option<u64>,
    /// Run this one input instead, for example one that broke the target.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "inputs"])]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// A stream of bytes, cut into messages, each decoded.
    Message,
    /// An OPEN, and what two OPENs agree on.
    Open,
    /// An UPDATE and its way through the codec.
    Update,
    /// Any sequence of events at the state machine.
    Fsm,
    /// Two speakers, any changes and mishaps: both end with the same routes.
    Convergence,
    /// Route servers, networks and peers, any changes: all end where a small model says.
    Rules,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Open => "open",
            Self::Update => "update",
            Self::Fsm => "fsm",
            Self::Convergence => "convergence",
            Self::Rules => "rules",
        }
    }

    /// The longest input, in bytes: a message and more, or all steps of a story.
    const fn longest(self) -> u32 {
        match self {
            Self::Message | Self::Open | Self::Update => 8192,
            Self::Fsm => 4096,
            Self::Convergence | Self::Rules => 2048,
        }
    }
}

/// Builds one target with coverage and runs it. New inputs that reach new code gather under
/// `target/fuzz/corpus`; what breaks the target is kept under `target/fuzz/broken`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    setup::fuzzing()?;
    let name = arguments.target.name();
    let root = shell::root();
    let folder = root.join("target/fuzz");
    let program = build(name, &folder)?;
    if let Some(input) = &arguments.input {
        return shell::run(Command::new(program).arg(input));
    }
    let corpus = folder.join("corpus").join(name);
    let broken = folder.join("broken");
    for folder in [&corpus, &broken] {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let prefix = broken.join(format!("{name}-"));
    let mut command = Command::new(&program);
    command
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(name))
        .arg(format!("-artifact_prefix={}", prefix.display()))
        .arg(format!("-max_total_time={}", arguments.seconds))
        .arg(format!("-timeout={HANG}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-max_len={}", arguments.target.longest()))
        .arg("-print_final_stats=1");
    if let Some(inputs) = arguments.inputs {
        command.arg(format!("-runs={inputs}"));
    }
    let start = Instant::now();
    let (succeeded, figures) = watch(&mut command)?;
    let seconds = start.elapsed().as_secs();
    fs::write(
        folder.join(format!("{name}.json")),
        format!(
            "{{\"target\":\"{name}\",\"inputs\":{},\"seconds\":{seconds},\
             \"inputs_per_second\":{},\"peak_rss_mb\":{},\"coverage\":{},\"corpus\":{},\
             \"broken\":{}}}\n",
            figures.inputs,
            figures.rate,
            figures.memory,
            figures.coverage,
            figures.corpus,
            !succeeded
        ),
    )?;
    println!(
        "{name}: {} inputs in {seconds} s, {} a second, peak memory {} MiB, {} places in the code \
         reached, {} inputs in the corpus",
        figures.inputs, figures.rate, figures.memory, figures.coverage, figures.corpus
    );
    if !succeeded {
        bail!(
            "the target broke: the input lies in {}; run it again with `cargo xtask fuzz {name} \
             --input FILE`, mend the fault, and add the input to fuzz/seeds/{name}",
            broken.display()
        );
    }
    Ok(())
}

fn build(name: &str, folder: &Path) -> Result<PathBuf> {
    let host = host()?;
    let binary = format!("fuzz-{name}");
    let mut command = shell::cargo(&[
        "build",
        "--release",
        "-p",
        "fuzz",
        "--features",
        "libfuzzer",
    ]);
    command
        .args(["--bin", &binary, "--target", &host])
        .env("CARGO_TARGET_DIR", folder)
        // Links in seconds instead of minutes.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("RUSTFLAGS", FLAGS.join(" "));
    shell::run(&mut command)?;
    Ok(folder.join(host).join("release").join(binary))
}

/// The machine's own target, so that the flags reach the program and not the build scripts.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    inputs: u64,
    rate: u64,
    memory: u64,
    coverage: u64,
    corpus: u64,
}

impl Figures {
    /// Takes what one of libFuzzer's lines tells.
    fn read(&mut self, line: &str) {
        let number = |text: &str| text.trim().parse().ok();
        if let Some((what, value)) = line
            .strip_prefix("stat::")
            .and_then(|rest| rest.split_once(':'))
            .and_then(|(what, value)| Some((what, number(value)?)))
        {
            match what {
                "number_of_executed_units" => self.inputs = value,
                "average_exec_per_sec" => self.rate = value,
                "peak_rss_mb" => self.memory = value,
                _ => {}
            }
        }
        let after = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split(['/', ' ']).next().and_then(number)
        };
        self.coverage = after(" cov: ").unwrap_or(self.coverage);
        self.corpus = after(" corp: ").unwrap_or(self.corpus);
    }
}

/// Runs libFuzzer, shows what it says, and reads its figures; `false`: the target broke.
fn watch(command: &mut Command) -> Result<(bool, Figures)> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} does not start"))?;
    let mut figures = Figures::default();
    let lines = BufReader::new(child.stderr.take().context("standard error is piped")?).lines();
    for line in lines {
        let line = line?;
        figures.read(&line);
        // A line for each new input: too many to be read.
        if !line.contains(" NEW ") && !line.contains(" REDUCE ") {
            eprintln!("{line}");
        }
    }
    Ok((child.wait()?.success(), figures))
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_figures_are_those_of_libfuzzers_last_lines() {
        let mut figures = Figures::default();
        for line in [
            "#2\tINITED cov: 10 ft: 11 corp: 1/300b exec/s: 0 rss: 40Mb",
            "#524288\tpulse  cov: 1288 ft: 5037 corp: 731/212Kb lim: 8192 exec/s: 74898 rss: 66Mb",
            "stat::number_of_executed_units: 1048576",
            "stat::average_exec_per_sec:     74898",
            "stat::new_units_added:          902",
            "stat::peak_rss_mb:              70",
        ] {
            figures.read(line);
        }
        let expected = Figures {
            inputs: 1_048_576,
            rate: 74_898,
            memory: 70,
            coverage: 1288,
            corpus: 731,
        };
        assert_eq!(figures, expected);
    }
}
