//! Writing to standard output, which may be closed at any time.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints a text. That the reader has gone (`waypost show fib | head`) is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints JSON where it was asked for, else the text.
pub(super) fn print_as<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if json {
        let json = serde_json::to_string_pretty(value).context("cannot write JSON")?;
        print(&format!("{json}\n"))
    } else {
        print(&text(value))
    }
}
