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
};

mod control;
mod core;
mod dynamic;
mod explain;
mod question;
mod server;
mod supervisor;

use control::Control;
use supervisor::{Order, Supervisor};

/// How long API requests under way may take once the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

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
    let (mut supervisor, running) = Supervisor::start(config, source)?;
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let (close, closed) = oneshot::channel::<()>();
    let api = tokio::spawn(api::server::serve(
        socket,
        Control::new(running, orders),
        async {
            let _ = closed.await;
        },
    ));
    tracing::info!("ready");

    let stop = loop {
        tokio::select! {
            _ = terminate.recv() => break StopOrder::default(),
            _ = interrupt.recv() => break StopOrder::default(),
            _ = hang_up.recv() => log_reload(&supervisor.reload().await),
            order = ordered.recv() => match order {
                Some(Order::Reload(reply)) => {
                    let report = supervisor.reload().await;
                    log_reload(&report);
                    let _ = reply.send(report);
                }
                Some(Order::Stop(order, reply)) => {
                    let _ = reply.send(());
                    break order;
                }
                // The API's task has died: nobody could stop this daemon but by a signal.
                None => break StopOrder::default(),
            },
        }
    };

    tracing::info!(flush = stop.flush, "stopping");
    let pins = supervisor.dataplane_config();
    let farewell = match stop.flush {
        true => Farewell::ForGood,
        false => Farewell::ForRestart,
    };
    supervisor.shutdown(farewell).await;
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
