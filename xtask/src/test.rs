//! `cargo xtask test`.

use anyhow::Result;
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
    let mut scenarios = shell::cargo(&["test", "-p", "tests"]);
    match arguments.scenario.as_deref() {
        Some(MANY) => return many(),
        Some(name) => {
            scenarios.args(["--test", name, "--", "--nocapture"]);
        }
        None => {}
    }
    shell::run(&mut scenarios)?;
    match arguments.scenario {
        Some(_) => Ok(()),
        None => many(),
    }
}

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
