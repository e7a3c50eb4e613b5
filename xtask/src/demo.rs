//! `cargo xtask demo`.

use anyhow::Result;
use clap::Args;

use crate::{setup, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave everything running afterwards and print the commands to look around.
    #[arg(long)]
    keep: bool,
}

/// Builds the daemon and the demo, and runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
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
    let mut demo = shell::cargo(&[
        "run",
        "--release",
        "--quiet",
        "-p",
        "tests",
        "--bin",
        "demo",
        "--",
    ]);
    if arguments.keep {
        demo.arg("--keep");
    }
    shell::run(&mut demo)
}
