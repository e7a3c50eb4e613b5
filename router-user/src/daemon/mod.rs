//! Wires the stages together; the only place that knows them all. No rules live here.
//!
//! ```text
//!            SessionEvent              LearnedChange           Change
//! sessions ───────────────► server ───────────────► core ───────────────► dataplane
//!          ◄─────────────── (one a   ◄───────────── (vnets, ◄───────────── (own thread)
//!           SessionCommand   RIB)     demands        fib)     Liveness
//! ```
//!
//! Each box is a task (invariant 1: one owner) that others reach through channels only: [`server`]
//! owns a route server with its RIB and its speaker, [`core`] the networks and the forwarding
//! state. [`supervisor`] starts them, reloads and stops them; [`control`] answers the API.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    api::{self, query::StopOrder},
    bgp::speaker::Farewell,
    config::{Config, Source},
    dataplane,
    events::{
        Events, What,
        event::{DaemonEvent, ReloadEvent},
    },
};

mod control;
mod core;
mod dynamic;
mod explain;
mod plan;
mod question;
mod server;
mod supervisor;

use control::Control;
use supervisor::{Order, Supervisor};

/// How long API requests under way may take once the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long the disk may take for the last events.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Runs the daemon until SIGTERM, SIGINT or `waypost stop`. `source` is read again by a reload.
///
/// # Errors
///
/// The socket or the data plane cannot be opened, or the pins cannot be removed by a flush.
pub async fn run(config: Config, source: Source) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;

    // The socket first: a second daemon is refused before it touches anything.
    let socket = api::server::bind(&config.daemon.socket).await?;
    let events = start_events(&config);
    let metrics = match config.daemon.metrics {
        Some(address) => Some(api::server::bind_metrics(address).await?),
        None => None,
    };
    let (mut supervisor, running) = Supervisor::start(config, source, events.clone())?;
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let (close, closed) = oneshot::channel::<()>();
    let control = Control::new(running, orders, events.clone());
    if let Some(listener) = metrics {
        tokio::spawn(api::server::serve_metrics(listener, control.clone()));
    }
    let api = tokio::spawn(api::server::serve(socket, control, async {
        let _ = closed.await;
    }));
    let pid = std::process::id();
    let started = DaemonEvent::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid,
    };
    events.tell(What::Daemon(started), "", "sessions come up");
    tracing::info!("ready");

    let stop = loop {
        tokio::select! {
            _ = terminate.recv() => break (StopOrder::default(), "SIGTERM"),
            _ = interrupt.recv() => break (StopOrder::default(), "SIGINT"),
            _ = hang_up.recv() => note_reload(&supervisor.reload().await, "SIGHUP", &events),
            order = ordered.recv() => match order {
                Some(Order::Reload(reply)) => {
                    let report = supervisor.reload().await;
                    note_reload(&report, "waypost reload", &events);
                    let _ = reply.send(report);
                }
                Some(Order::Plan(order, turn, reply)) => match supervisor.shadow(order).await {
                    Ok(planner) => {
                        tokio::spawn(async {
                            let _ = reply.send(planner.plan().await);
                            drop(turn);
                        });
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                },
                Some(Order::Stop(order, reply)) => {
                    let _ = reply.send(());
                    break (order, "waypost stop");
                }
                // The API's task has died: nobody could stop this daemon but by a signal.
                None => break (StopOrder::default(), "the API has ended"),
            },
        }
    };

    let (stop, cause) = stop;
    tracing::info!(flush = stop.flush, "stopping");
    let pins = supervisor.dataplane_config();
    let farewell = match stop.flush {
        true => Farewell::ForGood,
        false => Farewell::ForRestart,
    };
    supervisor.shutdown(farewell).await;
    let effect = match stop.flush {
        true => "forwarding ends",
        false => "the pinned data plane goes on forwarding",
    };
    events.tell(What::Daemon(DaemonEvent::Stopped { pid }), cause, effect);
    // Whoever follows the log is told so, and does not keep the socket open.
    events.end_within(LAST_EVENTS).await;
    let flushed = if stop.flush {
        dataplane::flush(&pins).context("cannot remove the pinned data plane")
    } else {
        Ok(Vec::new())
    };
    // Last of all: who waits for the socket to vanish knows that everything is done.
    let _ = close.send(());
    if tokio::time::timeout(LAST_ANSWERS, api).await.is_err() {
        tracing::warn!("API requests were cut off");
    }
    tracing::info!("stopped");
    for pin in flushed? {
        tracing::info!("removed {}", pin.display());
    }
    Ok(())
}

/// The event log; without one the daemon does what it does all the same.
fn start_events(config: &Config) -> Events {
    let Some(path) = config.daemon.event_log.clone() else {
        return Events::none();
    };
    Events::start(path, config.daemon.event_log_size).unwrap_or_else(|error| {
        tracing::warn!("events are not kept: {error}");
        Events::none()
    })
}

fn note_reload(report: &api::Answer<api::types::ReloadReport>, cause: &str, events: &Events) {
    /// Most changes that one event names.
    const NAMED: usize = 100;
    log_reload(report);
    let (event, effect) = match report {
        Ok(report) if report.changes.is_empty() => return,
        Ok(report) => (
            ReloadEvent::Applied {
                changes: report.changes.iter().take(NAMED).cloned().collect(),
                count: report.changes.len(),
            },
            report
                .changes
                .iter()
                .take(NAMED)
                .cloned()
                .collect::<Vec<_>>()
                .join("; "),
        ),
        Err(error) => (
            ReloadEvent::Refused,
            format!("nothing was changed: {error}"),
        ),
    };
    events.tell(What::Reload(event), cause, effect);
}

fn log_reload(report: &api::Answer<api::types::ReloadReport>) {
    match report {
        Ok(report) => {
            for warning in &report.warnings {
                tracing::warn!("reload: {warning}");
            }
            for change in &report.changes {
                tracing::info!("reload: {change}");
            }
            if report.changes.is_empty() {
                tracing::info!("reload: nothing changed");
            }
        }
        Err(error) => tracing::error!("reload refused: {error}"),
    }
}
