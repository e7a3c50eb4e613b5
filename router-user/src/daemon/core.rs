//! The owner of the networks and the desired forwarding state (invariant 1).
//!
//! In: learned routes of the route servers, liveness from the data plane, configurations,
//! questions. Out: changes to the data plane, and what the networks want of each route server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::question::{self, Question};
use crate::{
    api::Answer,
    config::Config,
    dataplane,
    events::{
        Events, What,
        event::{FailoverEvent, NextHopUse},
        routes::{Cause, RouteEvents, Way},
    },
    fib::{Fib, Group, Liveness, NextHop},
    names::RouteServerName,
    route_server::{LearnedUse, Report},
    vnet::Vnets,
};

/// Messages handled before their changes are handed on.
const MESSAGES_AT_ONCE: usize = 256;

/// Reaches the core.
#[derive(Clone)]
pub(super) struct CoreHandle(mpsc::UnboundedSender<CoreOrder>);

/// What questions are put to.
pub(super) struct Core {
    pub(super) vnets: Vnets,
    pub(super) fib: Fib,
    /// What the event log is told of routes.
    pub(super) routes: RouteEvents,
    /// What an earlier run left is gone.
    pub(super) synchronised: bool,
}

/// What the networks want of a route server.
#[derive(Clone, Default)]
pub(super) struct Demand {
    /// It originates these prefixes.
    pub(super) originated: BTreeSet<IpNet>,
    /// Who uses what it learns.
    pub(super) uses: BTreeSet<LearnedUse>,
}

/// What the networks want of each route server.
pub(super) type Demands = BTreeMap<RouteServerName, Demand>;

enum CoreOrder {
    Reports(RouteServerName, Vec<Report>, Cause),
    Synchronised(RouteServerName),
    Reconfigure(Arc<Config>, oneshot::Sender<Demands>),
    Ask(Question<Core>),
    /// Hand nothing on any more and end the data plane's thread; what is pinned goes on.
    Shutdown(oneshot::Sender<()>),
}

impl CoreHandle {
    /// Starts the core with the networks of a configuration. Comes back with what they want of the
    /// route servers.
    pub(super) fn start(
        config: &Config,
        dataplane: dataplane::Handle,
        liveness: mpsc::UnboundedReceiver<Liveness>,
        events: Events,
    ) -> (Self, Demands) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let owner = Owner {
            core: Core {
                vnets: Vnets::new(config),
                fib: Fib::new(),
                routes: RouteEvents::new(events.clone()),
                synchronised: false,
            },
            events,
            dataplane,
            waiting: names(config),
            stale_until: Instant::now() + config.daemon.stale_time,
            stale_time: config.daemon.stale_time,
        };
        let demands = demands(&owner.core.vnets, config);
        tokio::spawn(owner.run(ordered, liveness));
        (Self(orders), demands)
    }

    /// A route server has something to tell.
    pub(super) fn report(&self, route_server: RouteServerName, reports: Vec<Report>, cause: Cause) {
        self.tell(CoreOrder::Reports(route_server, reports, cause));
    }

    /// All sessions of a route server have sent End-of-RIB.
    pub(super) fn synchronised(&self, route_server: RouteServerName) {
        self.tell(CoreOrder::Synchronised(route_server));
    }

    /// Takes over other networks. Comes back with what they want of the route servers.
    pub(super) async fn reconfigure(&self, config: Arc<Config>) -> Demands {
        let (done, answer) = oneshot::channel();
        self.tell(CoreOrder::Reconfigure(config, done));
        answer.await.unwrap_or_default()
    }

    /// Asks the core.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Answer<R> {
        question::ask(
            |question| self.0.send(CoreOrder::Ask(question)).is_ok(),
            question,
        )
        .await
    }

    /// Ends the core and the data plane's thread. What is pinned goes on forwarding as it is.
    pub(super) async fn shutdown(&self) {
        let (done, answer) = oneshot::channel();
        self.tell(CoreOrder::Shutdown(done));
        let _ = answer.await;
    }

    fn tell(&self, order: CoreOrder) {
        // The core ends only when the daemon does; what comes after that does not matter.
        let _ = self.0.send(order);
    }
}

struct Owner {
    core: Core,
    events: Events,
    dataplane: dataplane::Handle,
    /// Route servers that have not relearned everything yet.
    waiting: BTreeSet<RouteServerName>,
    stale_until: Instant,
    stale_time: Duration,
}

impl Core {
    /// Tells the event log of changed routes, before the networks know of them.
    fn note(&mut self, route_server: &RouteServerName, reports: &[Report], cause: &Cause) {
        let Self {
            vnets, fib, routes, ..
        } = self;
        let before = |view, prefix: &IpNet| {
            let table = vnets.table_of_view(route_server, view)?;
            let group = fib.group(fib.route(table, prefix)?.group)?;
            Some(way(group))
        };
        let now = std::time::Instant::now();
        routes.note(route_server, reports, cause, before, now);
    }
}

/// Where the packets of a group go, as events tell it.
fn way(group: &Group) -> Way {
    let mut members = group.members.iter();
    if members.any(|member| member.next_hop == NextHop::Blackhole) {
        return Way::blackhole();
    }
    let members = group.members.iter();
    Way::to(members.filter_map(|member| match member.next_hop {
        NextHop::Via { address, .. } => Some(address),
        _ => None,
    }))
}

impl Owner {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<CoreOrder>,
        mut liveness: mpsc::UnboundedReceiver<Liveness>,
    ) {
        loop {
            let settled = self.settle();
            let period_ends = self.core.routes.period_ends();
            tokio::select! {
                order = orders.recv() => {
                    let mut order = order;
                    for _ in 0..MESSAGES_AT_ONCE {
                        match order {
                            Some(CoreOrder::Shutdown(done)) => {
                                self.dataplane.clone().shutdown().await;
                                let _ = done.send(());
                                return;
                            }
                            Some(order) => self.obey(order),
                            None => return,
                        }
                        match orders.try_recv() {
                            Ok(next) => order = Some(next),
                            Err(_) => break,
                        }
                    }
                }
                Some(first) = liveness.recv() => {
                    self.alive(first);
                    while let Ok(next) = liveness.try_recv() {
                        self.alive(next);
                    }
                }
                () = self.dataplane.room(), if !settled => {}
                () = tokio::time::sleep_until(period_ends.map_or_else(Instant::now, Instant::from_std)),
                    if period_ends.is_some() =>
                {
                    self.core.routes.end_period(std::time::Instant::now());
                }
                () = tokio::time::sleep_until(self.stale_until), if !self.core.synchronised => {
                    tracing::warn!(
                        waiting_for = ?self.waiting,
                        "not all was relearned within {:?}; what is left of an earlier run goes",
                        self.stale_time
                    );
                    self.waiting.clear();
                }
            }
        }
    }

    fn obey(&mut self, order: CoreOrder) {
        match order {
            CoreOrder::Reports(route_server, reports, cause) => {
                self.core.note(&route_server, &reports, &cause);
                self.core.vnets.report(&route_server, reports);
            }
            CoreOrder::Synchronised(route_server) => {
                self.waiting.remove(&route_server);
            }
            CoreOrder::Reconfigure(config, done) => {
                self.core.vnets.reconfigure(&config);
                let configured = names(&config);
                self.core.routes.retain(&configured);
                self.waiting.retain(|name| configured.contains(name));
                let _ = done.send(demands(&self.core.vnets, &config));
            }
            CoreOrder::Ask(question) => question(&mut self.core),
            CoreOrder::Shutdown(_) => unreachable!("handled by the loop"),
        }
    }

    fn alive(&mut self, liveness: Liveness) {
        let Liveness { next_hop, alive } = &liveness;
        tracing::info!(%next_hop, alive, "next hop");
        if self.events.is_kept() && self.core.fib.is_alive(next_hop) != *alive {
            self.tell_failover(next_hop, *alive);
        }
        self.core.fib.liveness(liveness);
    }

    /// Hands on what the last messages led to, in one batch (invariant 5 holds within it). While the
    /// data plane has enough to do it gathers in the FIB, where a later change takes the place of an
    /// earlier one. `false`: it does.
    fn settle(&mut self) -> bool {
        self.core.vnets.apply_to(&mut self.core.fib);
        self.core.routes.settled();
        if !self.core.synchronised && self.waiting.is_empty() {
            self.core.synchronised = true;
            self.core.fib.synchronised();
            tracing::info!("forwarding state is complete; nothing stale is left");
        }
        if !self.dataplane.has_room() {
            return false;
        }
        let changes = self.core.fib.take_changes();
        if !changes.is_empty() {
            tracing::debug!(changes = changes.len(), "to the data plane");
            self.dataplane.apply(changes);
        }
        true
    }

    fn tell_failover(&self, next_hop: &NextHop, alive: bool) {
        let usage = self.core.fib.usage(next_hop);
        if usage.groups == 0 {
            return;
        }
        let used = NextHopUse {
            next_hop: next_hop.to_string(),
            groups: usage.groups,
            routes: usage.routes,
            groups_without_other: usage.without_other,
        };
        let (event, cause, effect) = match (alive, usage.groups, usage.without_other) {
            (true, ..) => (
                FailoverEvent::NextHopUp(used),
                "its neighbour answers",
                "flows come back to it where it is preferred".to_owned(),
            ),
            (false, groups, 0) => (
                FailoverEvent::NextHopDown(used),
                "its link is down, or its neighbour does not answer",
                format!(
                    "its flows move to other next hops; groups: {groups}, routes: {}",
                    usage.routes
                ),
            ),
            (false, groups, without) if without == groups => (
                FailoverEvent::NextHopDown(used),
                "its link is down, or its neighbour does not answer",
                format!(
                    "packets to it are dropped: no other next hop is left; groups: {groups}, routes: {}",
                    usage.routes
                ),
            ),
            (false, groups, without) => (
                FailoverEvent::NextHopDown(used),
                "its link is down, or its neighbour does not answer",
                format!(
                    "its flows move to other next hops, but {without} of {groups} groups have none \
                     left: their packets are dropped; routes: {}",
                    usage.routes
                ),
            ),
        };
        self.events.tell(What::Failover(event), cause, effect);
    }
}

/// What the networks want of the route servers of their configuration.
pub(super) fn demands(vnets: &Vnets, config: &Config) -> Demands {
    names(config)
        .into_iter()
        .map(|name| {
            let demand = Demand {
                originated: vnets.advertised_prefixes(&name),
                uses: vnets.uses(&name),
            };
            (name, demand)
        })
        .collect()
}

fn names(config: &Config) -> BTreeSet<RouteServerName> {
    let servers = config.route_servers.iter();
    servers.map(|server| server.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::Member;

    #[test]
    fn events_tell_the_way_of_a_group_whatever_its_order_and_why_it_drops_packets() {
        let group = |members: &[NextHop]| Group {
            members: members
                .iter()
                .map(|next_hop| Member {
                    next_hop: next_hop.clone(),
                    weight: 1,
                })
                .collect(),
            backups: [].into(),
        };
        let [first, second] = ["10.1.10.4", "10.2.10.4"].map(|text| text.parse().unwrap());
        let via = |vnet: &str, address| NextHop::Via {
            vnet: vnet.into(),
            address,
        };
        // The FIB sorts by network first.
        let both = group(&[via("a", second), via("hub", first)]);
        assert_eq!(way(&both), Way::to([first, second]));
        assert_eq!(way(&group(&[])), Way::to([]));
        assert_eq!(way(&group(&[NextHop::Blackhole])), Way::blackhole());
    }
}
