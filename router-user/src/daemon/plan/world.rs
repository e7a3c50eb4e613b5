//! Route servers, networks and forwarding state beside the running ones.
//!
//! In: clones of route servers, and configurations. Out: what becomes of the sessions, and what the data
//! plane would be told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::sessions::{Endpoints, Outcome};
use crate::{
    api::types::PlannedSession,
    config::Config,
    daemon::{core, server::Server, supervisor},
    fib::{Change, Fib},
    names::RouteServerName,
    vnet::Vnets,
};

/// What a daemon holds, without sockets and kernel.
#[derive(Clone)]
pub(super) struct World {
    pub(super) config: Arc<Config>,
    pub(super) vnets: Vnets,
    pub(super) fib: Fib,
    pub(super) servers: BTreeMap<RouteServerName, Server>,
    /// When it is.
    pub(super) now: Instant,
}

impl World {
    /// As things are, where nothing waits: clones of the route servers of this configuration, and
    /// networks that they have told everything.
    pub(super) fn of(
        config: Arc<Config>,
        clones: BTreeMap<RouteServerName, Server>,
        now: Instant,
    ) -> Self {
        let mut world = Self {
            vnets: Vnets::new(&config),
            fib: Fib::new(),
            config,
            servers: clones,
            now,
        };
        for server in world.servers.values_mut() {
            server.route_server.become_shadow(now);
        }
        world.settle();
        world
    }

    /// Takes over another configuration, as the supervisor does it with the running stages. Comes back
    /// with what becomes of the sessions, and what the data plane is told.
    pub(super) fn reload(&mut self, config: Arc<Config>) -> (Vec<PlannedSession>, Vec<Change>) {
        let port = config.daemon.bgp_port;
        let before = Endpoints::of(&self.servers, &self.config, port);
        self.servers.retain(|name, _| {
            let mut wanted = config.route_servers.iter();
            wanted.any(|wanted| wanted.name == *name)
        });
        self.vnets.reconfigure(&config);
        let demands = core::demands(&self.vnets, &config);
        for wanted in &config.route_servers {
            let desired = supervisor::desired(&config, wanted, &demands);
            let Some(server) = self.servers.get_mut(&wanted.name) else {
                let server = Server::new(&desired, self.now);
                self.servers.insert(wanted.name.clone(), server);
                continue;
            };
            let mut dynamic = server.dynamic.clone();
            dynamic.configure(wanted);
            let after = Endpoints::of_server(&dynamic.complete(wanted), port);
            let reset: BTreeSet<_> = before.come_back(&after).collect();
            let known = server.route_server.recollect(&reset);
            server.take_over(&desired, self.now);
            for (id, known) in known {
                let config = after.config(&id);
                server.route_server.come_back(config, known, self.now);
            }
        }
        self.config = config;
        let (outcome, changes) = self.settle();
        let after = Endpoints::of(&self.servers, &self.config, port);
        (before.become_of(&after, &outcome), changes)
    }

    /// Lets everything happen that is under way.
    pub(super) fn settle(&mut self) -> (Outcome, Vec<Change>) {
        let mut outcome = Outcome::default();
        for (name, server) in &mut self.servers {
            let settled = server.route_server.settle(self.now);
            self.vnets.report(name, settled.reports);
            outcome.closed.extend(settled.closed);
            outcome.asked.extend(settled.asked);
            outcome.woken.extend(settled.woken);
        }
        self.vnets.apply_to(&mut self.fib);
        (outcome, self.fib.take_changes())
    }
}
