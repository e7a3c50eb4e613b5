//! `cargo xtask bench`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{setup, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to measure.
    name: Name,
    /// Arguments of the benchmark itself, after `--`.
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Packets a second of one core, 64-byte packets, beside redirect without look-up,
    /// `bpf_fib_lookup` and Linux forwarding.
    Forward,
}

/// Builds and runs one benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    shell::require_root("bench")?;
    setup::run()?;
    let name = match arguments.name {
        Name::Forward => "forward",
    };
    shell::run(shell::cargo(&["bench", "-p", "tests", "--bench", name, "--"]).args(&arguments.rest))
}
