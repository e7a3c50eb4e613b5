//! Builds the programs that the benchmarks measure by.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::ebpf::build(&["yardstick"]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
