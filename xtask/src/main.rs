//! `cargo xtask …`: the project's own tasks.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod conformance;
mod demo;
mod fuzz;
mod lint;
mod setup;
mod shell;
mod test;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Waypost's own tasks"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: Debian packages, the eBPF compiler and linker. Changes nothing
    /// when nothing is missing.
    Setup,
    /// Run the main job in network namespaces of its own and tell what happens.
    Demo(demo::Arguments),
    /// Run all tests: unit and property tests, then the lab's scenarios with real daemons and
    /// packets. Needs root.
    Test(test::Arguments),
    /// Measure, side by side with the peers; the table goes to standard output and the figures to
    /// target/bench/NAME.json. Needs root.
    Bench(bench::Arguments),
    /// Search for input that breaks the BGP speaker or the route server's rules.
    Fuzz(fuzz::Arguments),
    /// Check formatting, lints (warnings are errors), documentation, the eBPF crate and that the tests
    /// of docs/conformance.md and docs/behaviour.md exist.
    Lint,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Lint => lint::run(),
    }
}
