//! `cargo xtask test`.

use std::{borrow::Cow, fs, sync::Mutex, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{setup, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Run only this scenario of tests/scenarios, for example `overview`.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Run the unit, property and integration tests only, without the lab's scenarios.
    #[arg(long, conflicts_with = "scenario")]
    no_scenarios: bool,
}

/// Unit, property and integration tests, then the lab's scenarios.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    shell::require_root("test")?;
    setup::run()?;
    if arguments.scenario.is_none() {
        let packages = [
            "-p",
            "xtask",
            "-p",
            "router-common",
            "-p",
            "router-user",
            "-p",
            "fuzz",
        ];
        shell::run(shell::cargo(&["test"]).args(packages))?;
    }
    if arguments.no_scenarios {
        return Ok(());
    }
    // The scenarios run the daemon's binary.
    shell::run(&mut shell::cargo(&[
        "build",
        "-p",
        "router-user",
        "--bin",
        "waypost",
    ]))?;
    match arguments.scenario.as_deref() {
        Some(MANY) => many(),
        Some(name) => {
            let run = ["test", "-p", "tests", "--test", name, "--", "--nocapture"];
            shell::run(&mut shell::cargo(&run))
        }
        None => scenarios(),
    }
}

/// All scenarios. Those that hold sessions with one daemon after the other mostly wait, so several of
/// them run side by side; those that measure time or losses have the machine to themselves.
fn scenarios() -> Result<()> {
    shell::run(&mut shell::cargo(&["test", "-p", "tests", "--no-run"]))?;
    let (patient, others): (Vec<String>, Vec<String>) =
        names()?.into_iter().partition(|name| is_patient(name));
    let mut alone = shell::cargo(&["test", "-p", "tests", "--no-fail-fast", "--lib"]);
    for name in &others {
        alone.args(["--test", name]);
    }
    // One failure does not hide another.
    let outcomes = [side_by_side(patient), shell::run(&mut alone), many()];
    let failures: Vec<String> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// The scenarios, by their files' names, without [`MANY`].
fn names() -> Result<Vec<String>> {
    let folder = shell::root().join("tests/scenarios");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        names.extend(stem.map(Cow::into_owned));
    }
    names.retain(|name| name != MANY);
    names.sort();
    Ok(names)
}

/// A scenario that holds sessions with one daemon and has no bounds of less than seconds.
fn is_patient(name: &str) -> bool {
    let daemon = name.strip_prefix("interop_").unwrap_or(name);
    ["bird", "frr", "gobgp", "openbgpd", "exabgp"].contains(&daemon)
}

/// Runs scenarios, a few at a time; what each printed comes out when it ends.
fn side_by_side(names: Vec<String>) -> Result<()> {
    let waiting = Mutex::new(names);
    let failed = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("nobody panics with it").pop();
    let worker = || {
        while let Some(name) = next() {
            let output = shell::cargo(&["test", "-p", "tests", "--test", &name]).output();
            let held = output.as_ref().is_ok_and(|output| output.status.success());
            if !held {
                failed.lock().expect("nobody panics with it").push(name);
            }
            match output {
                Ok(output) => print!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stderr),
                    String::from_utf8_lossy(&output.stdout)
                ),
                Err(error) => println!("{error}"),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(worker);
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    ensure!(
        failed.is_empty(),
        "these scenarios failed: {}; run one with `cargo xtask test --scenario NAME`",
        failed.join(", ")
    );
    Ok(())
}

/// Patient scenarios at a time.
const SIDE_BY_SIDE: usize = 4;

/// The scenario with a million prefixes.
const MANY: &str = "interop_many";

/// It takes minutes with a daemon that is not optimised.
fn many() -> Result<()> {
    let build = [
        "build",
        "--release",
        "-p",
        "router-user",
        "--bin",
        "waypost",
    ];
    shell::run(&mut shell::cargo(&build))?;
    let binary = shell::root().join("target/release/waypost");
    let run = ["test", "-p", "tests", "--test", MANY, "--", "--nocapture"];
    shell::run(shell::cargo(&run).env("WAYPOST_BIN", binary))
}
