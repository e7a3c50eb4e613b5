//! `cargo xtask bench`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{setup, shell};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to measure.
    name: Name,
    /// Arguments of the benchmark itself; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Packets a second of one core, 64-byte packets, beside redirect without look-up,
    /// `bpf_fib_lookup` and Linux forwarding.
    Forward,
    /// BGP convergence, with BIRD and FRR beside Waypost: time, memory, churn, and from BGP to
    /// forwarding.
    Converge,
    /// 500 virtual networks on one route server: programming time, memory, latency of one changed
    /// prefix, changes of the configuration.
    Vnets,
}

/// Builds and runs one benchmark.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    shell::require_root("bench")?;
    setup::run()?;
    let name = match arguments.name {
        Name::Forward => "forward",
        Name::Converge => "converge",
        Name::Vnets => "vnets",
    };
    if matches!(arguments.name, Name::Converge | Name::Vnets) {
        // These measure the daemon's binary.
        shell::run(&mut shell::cargo(&[
            "build",
            "--release",
            "-p",
            "router-user",
            "--bin",
            "waypost",
        ]))?;
    }
    shell::run(shell::cargo(&["bench", "-p", "tests", "--bench", name, "--"]).args(&arguments.rest))
}
