//! `waypost run` and `waypost check`: what reads the configuration file.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::{
    args::{CheckArguments, RunArguments},
    output::print,
    table::count,
};
use crate::{
    config::{self, Config, Source, host::Host},
    daemon, memory,
};

/// Runs the daemon until it is told to stop.
pub(super) fn run(arguments: &RunArguments, socket: Option<PathBuf>) -> anyhow::Result<()> {
    memory::set_allocator();
    start_logging(arguments.log.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let source = Source {
            file: arguments.config.clone(),
            socket,
        };
        let parsed = source.load()?;
        let host_warnings = config::host::check(&parsed, &Host::read().await?, None)?;
        for warning in parsed.warnings.iter().chain(&host_warnings) {
            tracing::warn!("{warning}");
        }
        daemon::run(parsed.config, source).await
    })
}

/// Checks a file, and the host against it.
pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let parsed = config::load(&arguments.file)?;
    for warning in &parsed.warnings {
        eprintln!("warning: {warning}");
    }
    if !arguments.file_only {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        let host = runtime.block_on(Host::read())?;
        for warning in config::host::check(&parsed, &host, None)? {
            eprintln!("warning: {warning}");
        }
    }
    print(&format!(
        "{}: good: {}\n",
        arguments.file.display(),
        summary(&parsed.config)
    ))
}

fn start_logging(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match filter {
        Some(filter) => EnvFilter::try_new(filter).with_context(|| {
            format!("--log {filter}: not a filter; write for example \"debug\"")
        })?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

fn summary(config: &Config) -> String {
    let subnets = config.vnets.iter().flat_map(|vnet| &vnet.subnets);
    let (subnets, ports) = subnets.fold((0, 0), |(subnets, ports), subnet| {
        (subnets + 1, ports + subnet.ports.len())
    });
    let peers: usize = config
        .route_servers
        .iter()
        .map(|server| server.peers.len())
        .sum();
    let ranges: usize = config
        .route_servers
        .iter()
        .map(|server| server.dynamic_peers.len())
        .sum();
    let ranges = (ranges > 0).then(|| count(ranges, "range") + " of dynamic peers");
    let counts = [
        count(config.vnets.len(), "virtual network"),
        count(subnets, "subnet"),
        count(ports, "port"),
        count(config.route_servers.len(), "route server"),
        count(peers, "peer"),
    ];
    counts
        .into_iter()
        .chain(ranges)
        .collect::<Vec<_>>()
        .join(", ")
}
