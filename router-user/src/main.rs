//! The `waypost` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    router_user::cli::run()
}
