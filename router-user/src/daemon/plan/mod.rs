//! What another configuration would change: `plan`.
//!
//! In: clones of the running route servers and a configuration. Out: a [`Plan`]. The stages are pure, so
//! the clones become two [`World`]s on which nothing depends: one stays as things are, the other is given
//! the configuration by the very functions that a reload calls, and both are compared. Only cloning
//! happens in the tasks of the owners; the rest, on a thread of its own, costs memory as the running
//! route servers and networks do, twice, until the plan is told.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{
    server::{Server, ServerHandle},
    supervisor::Running,
};
use crate::{
    api::{
        Answer, ApiError,
        types::{Plan, ReloadReport},
    },
    config::Config,
    names::RouteServerName,
};

mod compare;
mod forwarding;
mod sessions;
mod world;

#[cfg(test)]
mod tests;

use world::World;

/// All that a plan is made of.
pub(super) struct Planner {
    before: Arc<Config>,
    after: Arc<Config>,
    report: ReloadReport,
    shadows: BTreeMap<RouteServerName, Server>,
    /// The running ones.
    servers: Vec<ServerHandle>,
}

impl Planner {
    /// Clones the running route servers, to give them this configuration.
    pub(super) async fn new(
        running: &Running,
        after: Config,
        report: ReloadReport,
    ) -> Answer<Self> {
        let mut shadows = BTreeMap::new();
        if *running.config != after {
            for (name, server) in &running.servers {
                shadows.insert(name.clone(), server.ask(|server| server.clone()).await?);
            }
        }
        Ok(Self {
            before: running.config.clone(),
            after: Arc::new(after),
            report,
            shadows,
            servers: running.servers.values().cloned().collect(),
        })
    }

    /// Works the plan out.
    pub(super) async fn plan(self) -> Answer<Plan> {
        let Self {
            before,
            after,
            report,
            shadows,
            servers,
        } = self;
        let ReloadReport { changes, warnings } = report;
        let found = if before == after {
            Plan::default()
        } else {
            let found = elsewhere(move || difference(before, after, shadows, Instant::now())).await;
            for server in servers {
                let swept = server.ask(|server| server.route_server.forget_shadows());
                swept.await?;
            }
            found?
        };
        Ok(Plan {
            changes,
            warnings,
            ..found
        })
    }
}

/// Works on a thread of its own, for which nobody waits who stops the daemon.
async fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Answer<R> {
    let failed = |why: &dyn std::fmt::Display| {
        ApiError::unavailable(format!("the plan failed: {why}"), "see the daemon's log")
    };
    let (done, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("plan".to_owned());
    let started = thread.spawn(move || {
        // Whoever asked may have gone.
        let _ = done.send(work());
    });
    started.map_err(|error| failed(&error))?;
    answer.await.map_err(|_| failed(&"it broke off"))
}

/// What changes for clones of route servers that run under `before` once `after` holds, but for the
/// sentences about the configuration.
fn difference(
    before: Arc<Config>,
    after: Arc<Config>,
    clones: BTreeMap<RouteServerName, Server>,
    now: Instant,
) -> Plan {
    let mut as_is = World::of(before, clones, now);
    let mut as_planned = as_is.clone();
    let (sessions, changes) = as_planned.reload(after);
    Plan {
        learned: compare::learned(&as_is, &as_planned),
        advertised: compare::advertised(&mut as_is, &mut as_planned, &sessions),
        effective: compare::effective(&as_is, &as_planned),
        forwarding: forwarding::compare(&as_is.fib, &as_planned.fib, &changes),
        sessions,
        ..Plan::default()
    }
}
