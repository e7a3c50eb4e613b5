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
    let ended = runtime.block_on(async {
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
    });
    // A thread that hangs in a read of the event log is not waited for.
    runtime.shutdown_background();
    ended
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
    let environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let (filter, refused) = chosen(filter, environment.as_deref())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    if let Some(refused) = refused {
        tracing::warn!("{refused}");
    }
    Ok(())
}

/// What is logged, and what is wrong with the environment's wish if that is not it.
fn chosen(
    argument: Option<&str>,
    environment: Option<&str>,
) -> anyhow::Result<(EnvFilter, Option<String>)> {
    let info = || EnvFilter::new("info");
    if let Some(argument) = argument {
        let filter = EnvFilter::try_new(argument).map_err(|error| {
            anyhow::anyhow!(
                "--log {argument} is not a filter ({error}); write for example \"debug\""
            )
        })?;
        return Ok((filter, None));
    }
    Ok(match environment.map(EnvFilter::try_new) {
        None => (info(), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => {
            let text = environment.unwrap_or_default();
            let refused = format!(
                "RUST_LOG={text} is not a filter ({error}) and is passed over; write for example \
                 \"debug\""
            );
            (info(), Some(refused))
        }
    })
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
    let some = |number: usize, thing: &str| (number > 0).then(|| count(number, thing));
    let servers = config.route_servers.iter();
    let ranges: usize = servers.map(|server| server.dynamic_peers.len()).sum();
    let ranges = some(ranges, "range").map(|ranges| ranges + " of dynamic peers");
    let servers = config.route_servers.iter();
    let gateways = some(servers.map(|server| server.gateways.len()).sum(), "gateway");
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
        .chain(gateways)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: &str = include_str!("../config/tests/hub.toml");

    #[test]
    fn a_good_file_is_summed_up_with_ranges_and_gateways() {
        let told = summary(&config::parse(HUB, "hub.toml").unwrap());
        assert_eq!(
            told,
            "3 virtual networks, 3 subnets, 7 ports, 1 route server, 2 peers, 1 range of dynamic \
             peers, 2 gateways"
        );
    }

    #[test]
    fn a_filter_of_the_environment_that_is_none_is_told_and_one_of_the_command_line_is_refused() {
        let told = |argument, environment| {
            let (filter, refused) = chosen(argument, environment).unwrap();
            (filter.to_string(), refused)
        };
        assert_eq!(told(None, None), ("info".to_owned(), None));
        assert_eq!(told(None, Some("debug")), ("debug".to_owned(), None));
        assert_eq!(told(Some("warn"), Some("=")), ("warn".to_owned(), None));
        let (filter, refused) = told(None, Some("router_user=loud"));
        assert_eq!(filter, "info");
        let refused = refused.unwrap();
        assert!(
            refused.starts_with("RUST_LOG=router_user=loud is not a filter (error parsing"),
            "{refused}"
        );
        assert!(
            refused.ends_with("is passed over; write for example \"debug\""),
            "{refused}"
        );
        let error = chosen(Some("router_user=loud"), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("--log router_user=loud is not a filter (error parsing"),
            "{error}"
        );
    }
}
