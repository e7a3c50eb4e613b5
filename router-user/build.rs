//! Builds the XDP program for inclusion in the binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::ebpf::build(&["waypost"]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
