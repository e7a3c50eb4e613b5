//! `cargo xtask lint`.

use anyhow::Result;
use xtask::ebpf;

use crate::{setup, shell};

/// Formatting, clippy and rustdoc with warnings as errors, and the eBPF crate without a warning.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    shell::run(&mut shell::cargo(&[
        "clippy",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    shell::run(
        shell::cargo(&["doc", "--no-deps", "--document-private-items"]).env(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private-intra-doc-links",
        ),
    )?;
    println!("router-ebpf, warnings as errors");
    ebpf::check(&shell::root())
}
