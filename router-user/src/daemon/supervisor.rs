//! Starts the owners of the stages, gives them another configuration, stops them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::{
    core::{CoreHandle, Demands},
    plan::Planner,
    server::{Desired, ServerHandle},
};
use crate::{
    api::{
        Answer, ApiError,
        query::{PlanOrder, StopOrder},
        types::{Plan, ReloadReport},
    },
    bgp::{fsm::Restarted, speaker::Farewell, wire::Family},
    config::{self, Config, DataplaneConfig, Parsed, Source, host::Host},
    dataplane::{self, Dataplane, Inherited},
    events::Events,
    names::RouteServerName,
    route_server::Surroundings,
};

/// What the API passes to the main loop.
pub(super) enum Order {
    /// Read the file again.
    Reload(oneshot::Sender<Answer<ReloadReport>>),
    /// Say what another configuration would change. The guard lets the next one in.
    Plan(
        PlanOrder,
        OwnedSemaphorePermit,
        oneshot::Sender<Answer<Plan>>,
    ),
    /// Stop; the reply says that it has begun.
    Stop(StopOrder, oneshot::Sender<()>),
}

/// What runs now: for those who ask.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) config: Arc<Config>,
    pub(super) source: Arc<Source>,
    pub(super) core: CoreHandle,
    pub(super) servers: BTreeMap<RouteServerName, ServerHandle>,
    pub(super) dataplane: dataplane::Handle,
}

/// The one who starts and stops.
pub(super) struct Supervisor {
    /// What runs now; replaced as a whole.
    running: watch::Sender<Running>,
    events: Events,
}

impl Supervisor {
    /// Starts all stages.
    ///
    /// # Errors
    ///
    /// The data plane cannot be opened.
    pub(super) fn start(
        config: Config,
        source: Source,
        events: Events,
    ) -> anyhow::Result<(Self, watch::Receiver<Running>)> {
        let (dataplane, liveness) =
            Dataplane::start(config.dataplane.clone()).context("cannot start the data plane")?;
        let restarted = restarted(dataplane.inherited(), config.daemon.stale_time);
        let config = Arc::new(config);
        let (core, demands) =
            CoreHandle::start(&config, dataplane.clone(), liveness, events.clone());
        let servers = config
            .route_servers
            .iter()
            .map(|server| {
                let desired = desired(&config, server, &demands);
                // What could not be done was logged and is tried again.
                let (handle, _) =
                    ServerHandle::start(desired, core.clone(), events.clone(), restarted);
                (server.name.clone(), handle)
            })
            .collect();
        let (running, watched) = watch::channel(Running {
            config,
            source: Arc::new(source),
            core,
            servers,
            dataplane,
        });
        Ok((Self { running, events }, watched))
    }

    /// The pins of this daemon.
    pub(super) fn dataplane_config(&self) -> DataplaneConfig {
        self.running.borrow().config.dataplane.clone()
    }

    /// Reads the file again and applies what changed: all of it, or nothing if it has a fault.
    ///
    /// # Errors
    ///
    /// The file's faults; nothing was changed then.
    pub(super) async fn reload(&mut self) -> Answer<ReloadReport> {
        let before = self.running.borrow().clone();
        let remedy = "nothing was changed: correct the file and reload again";
        let refused = |error: &dyn std::fmt::Display| ApiError::invalid(error.to_string(), remedy);
        let parsed = before.source.load().map_err(|error| refused(&error))?;
        let read = against(&before, parsed).await;
        let (config, mut report) = read.map_err(|error| refused(&format_args!("{error:#}")))?;
        if *before.config == config {
            return Ok(report);
        }

        let config = Arc::new(config);
        // Route servers that are gone close their sessions first: another may take over their
        // addresses.
        let mut servers = before.servers.clone();
        for (name, server) in &before.servers {
            if config
                .route_servers
                .iter()
                .all(|wanted| wanted.name != *name)
            {
                server.shutdown(Farewell::ForGood).await;
                servers.remove(name);
            }
        }
        let demands = before.core.reconfigure(config.clone()).await;
        for server in &config.route_servers {
            let desired = desired(&config, server, &demands);
            let errors = match servers.get(&server.name) {
                Some(running) => running.reconfigure(desired).await,
                None => {
                    let (core, events) = (before.core.clone(), self.events.clone());
                    let (handle, errors) =
                        ServerHandle::start(desired, core, events, Restarted::default());
                    servers.insert(server.name.clone(), handle);
                    errors
                }
            };
            report.warnings.extend(errors);
        }
        self.running.send_replace(Running {
            config,
            servers,
            ..before
        });
        Ok(report)
    }

    /// What another configuration would change; takes the shadows of all route servers, on which that is
    /// worked out elsewhere.
    ///
    /// # Errors
    ///
    /// The faults of the configuration.
    pub(super) async fn shadow(&self, order: PlanOrder) -> Answer<Planner> {
        let running = self.running.borrow().clone();
        let remedy = "correct the file and plan again";
        let refused = |error: &dyn std::fmt::Display| ApiError::invalid(error.to_string(), remedy);
        let parsed = config::parse_with_warnings(&order.text, &order.file);
        let mut parsed = parsed.map_err(|error| refused(&error))?;
        running.source.complete(&mut parsed.config);
        let read = against(&running, parsed).await;
        let (config, report) = read.map_err(|error| refused(&format_args!("{error:#}")))?;
        Planner::new(&running, config, report).await
    }

    /// Closes all sessions. The pinned data plane goes on forwarding as it is: the core ends first,
    /// so that routes lost with the sessions are not withdrawn from it.
    pub(super) async fn shutdown(self, farewell: Farewell) {
        let running = self.running.borrow().clone();
        running.core.shutdown().await;
        let servers = running.servers.values();
        let servers = servers.map(|server| server.shutdown(farewell));
        futures::future::join_all(servers).await;
    }
}

/// What peers are told of an earlier run, and until when selection waits for them (RFC 4724 §4.1).
/// That ends a little before what is left of the earlier run goes: what is selected is programmed
/// by then. Where what is left goes at once, nothing has been preserved.
fn restarted(inherited: Inherited, stale_time: Duration) -> Restarted {
    if stale_time.is_zero() {
        return Restarted::default();
    }
    let families = [
        (Family::Ipv4Unicast, inherited.ipv4),
        (Family::Ipv6Unicast, inherited.ipv6),
    ];
    let kept = families.into_iter().filter(|(_, kept)| *kept);
    let restarting = inherited != Inherited::default();
    Restarted {
        until: restarting.then(|| Instant::now() + stale_time * 9 / 10),
        preserved: kept.map(|(family, _)| family).collect(),
    }
}

/// Holds a configuration that was read against the host and the running one: as it would run, what it
/// changes, and its warnings.
async fn against(running: &Running, parsed: Parsed) -> anyhow::Result<(Config, ReloadReport)> {
    let before = &*running.config;
    let host = Host::read().await?;
    let host_warnings = config::host::check(&parsed, &host, Some(before))?;
    let Parsed {
        mut config,
        warnings,
        ..
    } = parsed;
    let warnings = warnings
        .iter()
        .chain(&host_warnings)
        .map(ToString::to_string);
    let at_restart = before.changes_at_restart(&config);
    let report = ReloadReport {
        changes: before.changes(&config),
        warnings: warnings.chain(at_restart).collect(),
    };
    // Read at start only.
    config.daemon = before.daemon.clone();
    config.dataplane = before.dataplane.clone();
    Ok((config, report))
}

/// How a route server of a configuration is to be.
pub(super) fn desired(config: &Config, server: &config::RouteServer, demands: &Demands) -> Desired {
    let demand = demands.get(&server.name).cloned().unwrap_or_default();
    Desired {
        config: server.clone(),
        surroundings: Surroundings::around(config, &server.vnet),
        port: config.daemon.bgp_port,
        originated: demand.originated,
        uses: demand.uses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4724_4_1_forwarding_is_preserved_only_if_what_was_inherited_stays_a_while() {
        let inherited = Inherited {
            ipv4: true,
            ipv6: false,
        };
        let restarts = restarted(inherited, Duration::from_secs(100));
        assert!(restarts.is_restarting(Instant::now()));
        assert!(restarts.preserved.contains(Family::Ipv4Unicast));
        assert!(!restarts.preserved.contains(Family::Ipv6Unicast));
        assert_eq!(restarted(inherited, Duration::ZERO), Restarted::default());
        let nothing = restarted(Inherited::default(), Duration::from_secs(100));
        assert_eq!(nothing, Restarted::default());
    }
}
