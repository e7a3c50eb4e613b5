//! Answers the API: asks the owners and puts their answers together.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{
    server::{Server, ServerHandle},
    supervisor::{Order, Running},
};
use crate::{
    api::{
        Answer, ApiError, Backend,
        query::{
            CounterFilter, EffectiveFilter, EventFilter, FibFilter, InstanceOrder, PeerOrder,
            PlanOrder, RouteFilter, StopOrder,
        },
        types::{
            AdvertisedRow, Counters, EffectiveRow, ExplainQuery, Explanation, FibView, LearnedRow,
            PeerDetail, PeerOrderRow, PeerRow, Plan, ReceivedRow, ReloadReport, Status,
        },
    },
    bgp::InstanceId,
    events::{Events, Reader},
    names::RouteServerName,
    route_server::{Filter, sort_learned, sort_received},
};

mod events;
mod forwarding;
mod metrics;
mod networks;
mod peers;
mod status;

/// What the API's requests reach.
#[derive(Clone)]
pub(super) struct Control {
    running: watch::Receiver<Running>,
    orders: mpsc::UnboundedSender<Order>,
    events: Events,
    started: Instant,
    /// Whose turn it is to be told a plan.
    plans: Arc<Semaphore>,
}

impl Control {
    pub(super) fn new(
        running: watch::Receiver<Running>,
        orders: mpsc::UnboundedSender<Order>,
        events: Events,
    ) -> Self {
        Self {
            running,
            orders,
            events,
            started: Instant::now(),
            plans: Arc::new(Semaphore::new(1)),
        }
    }

    fn running(&self) -> Running {
        self.running.borrow().clone()
    }

    /// The route servers that a filter wants.
    fn servers(&self, wanted: Option<&str>) -> Answer<BTreeMap<RouteServerName, ServerHandle>> {
        let mut servers = self.running().servers;
        let Some(wanted) = wanted else {
            return Ok(servers);
        };
        match servers.remove_entry(wanted) {
            Some(server) => Ok(BTreeMap::from([server])),
            None => Err(ApiError::not_found(
                format!("there is no route server \"{wanted}\""),
                one_of(servers.keys()),
            )),
        }
    }

    /// The route server of an order.
    fn ordered_server(&self, order: &InstanceOrder) -> Answer<ServerHandle> {
        let servers = self.servers(order.route_server.as_deref())?;
        if servers.len() > 1 {
            return Err(ApiError::invalid(
                "there are several route servers",
                format!("say which (--route-server): {}", one_of(servers.keys())),
            ));
        }
        let server = servers.into_values().next();
        server.ok_or_else(|| {
            ApiError::not_found("there is no route server", "add one to the configuration")
        })
    }

    async fn order<R>(&self, order: impl FnOnce(oneshot::Sender<R>) -> Order) -> Answer<R> {
        let (reply, answer) = oneshot::channel();
        let stopping = || ApiError::unavailable("the daemon is stopping", "start it again");
        self.orders.send(order(reply)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

impl Backend for Control {
    async fn status(&self) -> Answer<Status> {
        self.status_now().await
    }

    async fn peers(&self, filter: RouteFilter) -> Answer<Vec<PeerRow>> {
        self.gather(filter, |server, narrow, filter| {
            let mut rows = server.route_server.peer_rows_of(narrow, Instant::now());
            rows.retain(|row| filter.takes_peer(row));
            for row in &mut rows {
                let instance = InstanceId(row.instance);
                if server.stopped.contains(&instance) {
                    let note =
                        format!("instance {instance} is stopped; see `waypost instance start`");
                    row.warnings.insert(0, note);
                }
            }
            rows
        })
        .await
    }

    async fn peer(&self, filter: RouteFilter) -> Answer<Vec<PeerDetail>> {
        if filter.peer.is_none() {
            return Err(ApiError::invalid(
                "no peer is named",
                "say which, by name or address; \"waypost show peers\" lists them",
            ));
        }
        self.gather(filter, |server, narrow, _| {
            server.route_server.peer_details(narrow, Instant::now())
        })
        .await
    }

    async fn command_peer(&self, order: PeerOrder) -> Answer<Vec<PeerOrderRow>> {
        self.carry_out(order).await
    }

    async fn received(&self, filter: RouteFilter) -> Answer<Vec<ReceivedRow>> {
        let page = |server: &Server, narrow: &Filter, from| {
            server.route_server.received_page(narrow, from)
        };
        self.walk(filter, page, sort_received).await
    }

    async fn learned(&self, filter: RouteFilter) -> Answer<Vec<LearnedRow>> {
        let page = |server: &Server, narrow: &Filter, from| {
            let now = Instant::now();
            server.route_server.learned_page(None, narrow, from, now)
        };
        self.walk(filter, page, sort_learned).await
    }

    async fn advertised(&self, filter: RouteFilter) -> Answer<Vec<AdvertisedRow>> {
        self.sent(filter).await
    }

    async fn effective(&self, filter: EffectiveFilter) -> Answer<Vec<EffectiveRow>> {
        self.effective_rows(filter).await
    }

    async fn fib(&self, filter: FibFilter) -> Answer<FibView> {
        self.fib_view(filter).await
    }

    async fn counters(&self, filter: CounterFilter) -> Answer<Counters> {
        self.counter_rows(filter).await
    }

    async fn events(&self, filter: EventFilter) -> Answer<Reader> {
        self.event_lines(&filter)
    }

    async fn metrics(&self) -> Answer<String> {
        self.metrics_text().await
    }

    async fn explain(&self, query: ExplainQuery) -> Answer<Explanation> {
        self.explanation(query).await
    }

    async fn reload(&self) -> Answer<ReloadReport> {
        self.order(Order::Reload).await?
    }

    async fn plan(&self, order: PlanOrder) -> Answer<Plan> {
        // Each costs memory: one at a time.
        let turn = self.plans.clone().acquire_owned().await;
        let turn =
            turn.map_err(|_| ApiError::unavailable("the daemon is stopping", "start it again"))?;
        self.order(|reply| Order::Plan(order, turn, reply)).await?
    }

    async fn stop_instance(&self, order: InstanceOrder) -> Answer<()> {
        let server = self.ordered_server(&order)?;
        server.stop_instance(instance(order.instance)?).await;
        Ok(())
    }

    async fn start_instance(&self, order: InstanceOrder) -> Answer<()> {
        let server = self.ordered_server(&order)?;
        server.start_instance(instance(order.instance)?).await;
        Ok(())
    }

    async fn stop(&self, order: StopOrder) -> Answer<()> {
        self.order(|reply| Order::Stop(order, reply)).await
    }
}

fn instance(number: u8) -> Answer<InstanceId> {
    match number {
        number @ 1..=2 => Ok(InstanceId(number)),
        number => Err(ApiError::not_found(
            format!("there is no instance {number}"),
            "a route server has instances 1 and 2",
        )),
    }
}

/// Errors of the stages read `what; remedy`.
fn split(error: &str) -> (&str, &str) {
    error
        .split_once("; ")
        .unwrap_or((error, "see the configuration"))
}

fn one_of<T: std::fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    if names.is_empty() {
        "none is configured".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}
