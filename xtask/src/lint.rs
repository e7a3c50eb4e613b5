//! `cargo xtask lint`.

use anyhow::Result;
use xtask::ebpf;

use crate::{conformance, setup, shell};

/// Formatting, clippy and rustdoc with warnings as errors, the eBPF crate without a warning, and a
/// test behind each line of the documents that say what is proved.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    for (document, _) in conformance::DOCUMENTS {
        println!("{document}");
    }
    conformance::check(&shell::root())?;
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
