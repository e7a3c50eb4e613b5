//! `cargo xtask demo`.

use anyhow::Result;
use clap::Args;

use crate::{setup, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Tell this topology instead of the overview, for example `instances`; see --list.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Print the topologies that can be told.
    #[arg(long, conflicts_with_all = ["scenario", "keep"])]
    list: bool,
    /// Leave everything running afterwards and print the commands to look around.
    #[arg(long)]
    keep: bool,
}

/// Builds the daemon and the demo, and runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        return shell::run(demo().arg("--list"));
    }
    shell::require_root("demo")?;
    setup::run()?;
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "-p",
        "router-user",
        "-p",
        "tests",
    ]))?;
    let mut demo = demo();
    if let Some(name) = &arguments.scenario {
        demo.args(["--scenario", name]);
    }
    if arguments.keep {
        demo.arg("--keep");
    }
    shell::run(&mut demo)
}

/// The demo, with arguments to come.
fn demo() -> std::process::Command {
    shell::cargo(&[
        "run",
        "--release",
        "--quiet",
        "-p",
        "tests",
        "--bin",
        "demo",
        "--",
    ])
}
