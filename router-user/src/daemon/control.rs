//! Answers the API: asks the owners and puts their answers together.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    dynamic, explain,
    server::{Server, ServerHandle},
    supervisor::{Order, Running},
};
use crate::{
    api::{
        Answer, ApiError, Backend,
        query::{
            CounterFilter, EffectiveFilter, FibFilter, InstanceOrder, PeerCommand, PeerOrder,
            RouteFilter, StopOrder,
        },
        types::{
            AdvertisedRow, Counters, EffectiveRow, ExplainQuery, Explanation, FibView, LearnedRow,
            PeerDetail, PeerOrderRow, PeerRow, ReceivedRow, ReloadReport, RouteServerStatus,
            Status,
        },
    },
    bgp::{InstanceId, State},
    config::RouteServer,
    names::{PeerName, RouteServerName, SubnetName, VnetName},
    route_server::{Filter, LearnedUse, STATIC_PEER},
};

/// What the API's requests reach.
#[derive(Clone)]
pub(super) struct Control {
    running: watch::Receiver<Running>,
    orders: mpsc::UnboundedSender<Order>,
    started: Instant,
}

impl Control {
    pub(super) fn new(
        running: watch::Receiver<Running>,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Self {
        Self {
            running,
            orders,
            started: Instant::now(),
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

    /// Rows of all route servers that a filter wants.
    async fn gather<R: Send + 'static>(
        &self,
        filter: RouteFilter,
        rows: impl Fn(&mut Server, &Filter, &RouteFilter) -> Vec<R> + Clone + Send + 'static,
    ) -> Answer<Vec<R>> {
        let servers = self.servers(filter.route_server.as_deref())?;
        let config = self.running().config;
        let configured: Vec<_> = config
            .route_servers
            .iter()
            .filter(|server| servers.contains_key(&server.name))
            .collect();
        let mut all = Vec::new();
        for (name, peer) in peers_meant(&configured, filter.peer.as_deref())? {
            let Some(server) = servers.get(&name) else {
                continue;
            };
            let narrow = Filter {
                peer: peer.clone(),
                instance: filter.instance.map(InstanceId),
                prefix: filter
                    .prefix
                    .filter(|_| !filter.longer)
                    .map(|prefix| prefix.trunc()),
            };
            // Which rows are this peer's is known to the route server.
            let filter = RouteFilter {
                peer: None,
                ..filter.clone()
            };
            let rows = rows.clone();
            let part = server.ask(move |server| rows(server, &narrow, &filter));
            all.extend(part.await?);
        }
        Ok(all)
    }

    async fn resolve(&self, subnet: String) -> Answer<(VnetName, SubnetName)> {
        let core = self.running().core;
        let resolved = core
            .ask(move |core| core.vnets.resolve_subnet(&subnet))
            .await?;
        resolved.map_err(|error| {
            let error = error.to_string();
            let (what, remedy) = split(&error);
            ApiError::not_found(what, remedy)
        })
    }

    /// What a subnet takes of what a route server learns.
    async fn learned_use(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
    ) -> Answer<Option<(RouteServerName, LearnedUse)>> {
        let core = self.running().core;
        let (vnet, subnet) = (vnet.clone(), subnet.clone());
        core.ask(move |core| {
            let (server, of, _) = core.vnets.learned_use(&vnet, &subnet)?;
            Some((server, of))
        })
        .await
    }

    /// The learned paths as a user sees them.
    async fn learned_by(
        &self,
        of: &Option<(RouteServerName, LearnedUse)>,
        filters: Vec<Filter>,
    ) -> Answer<Vec<LearnedRow>> {
        let Some((name, of)) = of.clone() else {
            return Ok(Vec::new());
        };
        let Some(server) = self.running().servers.get(&name).cloned() else {
            return Ok(Vec::new());
        };
        server
            .ask(move |server| {
                let rows = filters.iter().flat_map(|filter| {
                    let route_server = &server.route_server;
                    route_server.learned_rows_for(&of, filter, Instant::now())
                });
                rows.collect()
            })
            .await
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
        let Running {
            config,
            source,
            core,
            servers,
            ..
        } = self.running();
        let mut route_servers = Vec::new();
        for server in &config.route_servers {
            let Some(handle) = servers.get(&server.name) else {
                continue;
            };
            let (rows, stopped, dynamic_peers, newcomers_refused) = handle
                .ask(|server| {
                    let rows = server.route_server.peer_rows(Instant::now());
                    let dynamic = &server.dynamic;
                    let stopped = server.stopped.clone();
                    (rows, stopped, dynamic.count(), dynamic.refused())
                })
                .await?;
            let established = rows.iter().filter(|row| row.state == State::Established);
            route_servers.push(RouteServerStatus {
                name: server.name.clone(),
                asn: server.asn,
                sessions: rows.len(),
                established: established.count(),
                stopped_instances: stopped.into_iter().map(|instance| instance.0).collect(),
                dynamic_peers,
                newcomers_refused,
            });
        }
        let subnets = config.vnets.iter().flat_map(|vnet| &vnet.subnets);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: source.file.display().to_string(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            synchronised: core.ask(|core| core.synchronised).await?,
            route_servers,
            vnets: config.vnets.len(),
            ports: subnets.map(|subnet| subnet.ports.len()).sum(),
        })
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
        check_text(&order)?;
        if let Some(number) = order.instance {
            instance(number)?;
        }
        let servers = self.servers(order.route_server.as_deref())?;
        let config = self.running().config;
        let configured: Vec<_> = config
            .route_servers
            .iter()
            .filter(|server| servers.contains_key(&server.name))
            .collect();
        let meant = peers_meant(&configured, Some(&order.peer))?;
        if meant.len() > 1 {
            return Err(ApiError::invalid(
                format!("several route servers have a peer \"{}\"", order.peer),
                format!(
                    "say which (--route-server): {}",
                    one_of(meant.iter().map(|(server, _)| server))
                ),
            ));
        }
        let mut all = Vec::new();
        for (name, peer) in meant {
            if let (Some(server), Some(peer)) = (servers.get(&name), peer) {
                all.extend(server.command_peer(peer, order.clone()).await);
            }
        }
        if all.is_empty() {
            return Err(ApiError::not_found(
                format!("peer \"{}\" has no such session", order.peer),
                "see \"waypost show peers\"",
            ));
        }
        match all.iter().find(|row| !row.done) {
            // Nothing at all could be done: that is no success.
            Some(failed) if all.iter().all(|row| !row.done) => {
                let (what, remedy) = split(&failed.what);
                let peer = &failed.peer;
                let all_alike = all.iter().all(|row| row.what == failed.what);
                Err(match all_alike {
                    true => ApiError::invalid(format!("peer {peer}: {what}"), remedy),
                    false => {
                        let each = all.iter().map(|PeerOrderRow { instance, what, .. }| {
                            format!("with instance {instance}, {what}")
                        });
                        let each = each.collect::<Vec<_>>().join(". ");
                        ApiError::invalid(format!("peer {peer}: nothing was done"), each)
                    }
                })
            }
            _ => Ok(all),
        }
    }

    async fn received(&self, filter: RouteFilter) -> Answer<Vec<ReceivedRow>> {
        self.gather(filter, |server, narrow, filter| {
            let mut rows = server.route_server.received_rows(narrow);
            rows.retain(|row| filter.takes_received(row));
            rows
        })
        .await
    }

    async fn learned(&self, filter: RouteFilter) -> Answer<Vec<LearnedRow>> {
        self.gather(filter, |server, narrow, filter| {
            let mut rows = server.route_server.learned_rows(narrow, Instant::now());
            rows.retain(|row| filter.takes_learned(row));
            rows
        })
        .await
    }

    async fn advertised(&self, filter: RouteFilter) -> Answer<Vec<AdvertisedRow>> {
        self.gather(filter, |server, narrow, filter| {
            let mut rows = server.route_server.advertised_rows(narrow);
            rows.retain(|row| filter.takes_advertised(row));
            rows
        })
        .await
    }

    async fn effective(&self, filter: EffectiveFilter) -> Answer<Vec<EffectiveRow>> {
        let core = self.running().core;
        let subnets = match filter.subnet.clone() {
            Some(subnet) => vec![self.resolve(subnet).await?],
            None => {
                core.ask(|core| {
                    let subnets = core.vnets.subnets();
                    subnets
                        .map(|(vnet, subnet)| (vnet.clone(), subnet.clone()))
                        .collect()
                })
                .await?
            }
        };
        let narrow = Filter {
            prefix: filter
                .prefix
                .filter(|_| !filter.longer)
                .map(|prefix| prefix.trunc()),
            ..Filter::default()
        };
        let mut all = Vec::new();
        let mut learned: Option<(_, Arc<[LearnedRow]>)> = None;
        for (vnet, subnet) in subnets {
            let of = self.learned_use(&vnet, &subnet).await?;
            let paths = match &learned {
                Some((known, paths)) if *known == of => paths.clone(),
                _ => {
                    let asked = self.learned_by(&of, vec![narrow.clone()]);
                    let paths: Arc<[LearnedRow]> = asked.await?.into();
                    learned = Some((of, paths.clone()));
                    paths
                }
            };
            let rows = core.ask(move |core| core.vnets.effective_routes(&vnet, &subnet, &paths));
            all.extend(rows.await?.into_iter().filter(|row| filter.takes(row)));
        }
        Ok(all)
    }

    async fn fib(&self, filter: FibFilter) -> Answer<FibView> {
        let mut view = self.running().dataplane.view().await.map_err(dataplane)?;
        if filter != FibFilter::default() {
            view.routes.retain(|route| filter.takes(route));
            let groups: HashSet<_> = view.routes.iter().map(|route| route.group).collect();
            view.groups.retain(|group| groups.contains(&group.number));
            let names: HashSet<_> = view
                .groups
                .iter()
                .flat_map(|group| group.shares.keys())
                .collect();
            view.next_hops
                .retain(|next_hop| names.contains(&next_hop.name));
        }
        Ok(view)
    }

    async fn counters(&self, filter: CounterFilter) -> Answer<Counters> {
        let mut counters = self
            .running()
            .dataplane
            .counters()
            .await
            .map_err(dataplane)?;
        let Some(interface) = filter.interface else {
            return Ok(counters);
        };
        let known = one_of(counters.ports.iter().map(|port| &port.interface));
        counters
            .ports
            .retain(|port| port.interface.as_str() == interface);
        counters.next_hops.clear();
        if counters.ports.is_empty() {
            return Err(ApiError::not_found(
                format!("there is no port \"{interface}\""),
                known,
            ));
        }
        Ok(counters)
    }

    async fn explain(&self, query: ExplainQuery) -> Answer<Explanation> {
        let Running {
            config,
            core,
            dataplane: handle,
            ..
        } = self.running();
        let flow = explain::Flow::of(&query)?;
        let (vnet, subnet) = self.resolve(query.subnet.clone()).await?;
        let to = query.to;
        let covering = explain::covering(to).map(|prefix| Filter {
            prefix: Some(prefix),
            ..Filter::default()
        });
        let of = self.learned_use(&vnet, &subnet).await?;
        let paths = self.learned_by(&of, covering.collect()).await?;
        let paths: Arc<[LearnedRow]> = paths.into();
        let (candidates, tables, attached) = {
            let paths = paths.clone();
            let (vnet, subnet) = (vnet.clone(), subnet.clone());
            core.ask(move |core| {
                let candidates = core.vnets.candidates(&vnet, &subnet, to, &paths);
                let attached = core.vnets.attached(&vnet, to).cloned();
                (candidates, core.vnets.tables(&vnet, &subnet), attached)
            })
            .await?
        };
        let lookup = match tables {
            Some((own, learned)) => Some(
                handle
                    .lookup(&own, learned.as_ref(), to)
                    .await
                    .map_err(dataplane)?,
            ),
            None => None,
        };
        Ok(explain::explain(explain::Facts {
            attached,
            vnet,
            subnet,
            to,
            candidates,
            paths: paths.to_vec(),
            lookup,
            flow,
            flow_seed: config.dataplane.flow_seed,
        }))
    }

    async fn reload(&self) -> Answer<ReloadReport> {
        self.order(Order::Reload).await?
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

/// Which route servers are asked, and of each the peer that a filter names by name or address: the
/// same address may be another peer's at another route server.
fn peers_meant(
    servers: &[&RouteServer],
    wanted: Option<&str>,
) -> Answer<Vec<(RouteServerName, Option<PeerName>)>> {
    let Some(wanted) = wanted else {
        return Ok(servers
            .iter()
            .map(|server| (server.name.clone(), None))
            .collect());
    };
    let address = wanted.parse().ok();
    let meant: Vec<_> = servers
        .iter()
        .filter_map(|server| {
            let mut peers = server.peers.iter();
            let found = peers
                .find(|peer| peer.name.as_str() == wanted || Some(peer.address) == address)
                .map(|peer| peer.name.clone())
                .or_else(|| dynamic::meant(server, wanted))
                .or_else(|| {
                    let is_static = !server.learned.is_empty() && wanted == STATIC_PEER;
                    is_static.then(|| wanted.into())
                })?;
            Some((server.name.clone(), Some(found)))
        })
        .collect();
    if meant.is_empty() {
        let peers = servers.iter().flat_map(|server| {
            let fixed = server.peers.iter().map(|peer| peer.name.to_string());
            let gateways = server.gateways.iter();
            let gateways = gateways.map(|gateway| format!("{} (a gateway)", gateway.name));
            let ranges = server.dynamic_peers.iter();
            fixed
                .chain(gateways)
                .chain(ranges.map(|range| format!("{}-ADDRESS (of {})", range.name, range.prefix)))
        });
        return Err(ApiError::not_found(
            format!("there is no peer \"{wanted}\""),
            one_of(peers),
        ));
    }
    Ok(meant)
}

/// RFC 9003 §2; and a text that breaks lines would break the peer's log.
fn check_text(order: &PeerOrder) -> Answer<()> {
    const MOST: usize = 255;
    let told = matches!(
        order.command,
        PeerCommand::Shutdown | PeerCommand::ClearHard
    );
    let text = &order.text;
    let (what, remedy) = if !told && !text.is_empty() {
        let what = "this command has no text for the peer".to_owned();
        (what, "leave the text out")
    } else if text.len() > MOST {
        let what = format!(
            "the text has {} bytes, at most {MOST} can be sent (RFC 9003)",
            text.len()
        );
        (what, "shorten it")
    } else if text.chars().any(char::is_control) {
        let what = "the text has control characters".to_owned();
        (what, "give one line of plain text")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(what, remedy))
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

fn dataplane(error: anyhow::Error) -> ApiError {
    ApiError::unavailable(format!("the data plane: {error:#}"), "see the daemon's log")
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

#[cfg(test)]
mod tests {
    use super::{check_text, peers_meant};
    use crate::{
        api::query::{PeerCommand, PeerOrder},
        config::{RouteServer, parse},
    };

    #[test]
    fn a_text_that_cannot_be_sent_is_refused_with_the_reason() {
        let check = |command, text: &str| {
            let order = PeerOrder {
                route_server: None,
                peer: "fw".to_owned(),
                instance: None,
                command,
                text: text.to_owned(),
            };
            check_text(&order).map_err(|error| error.error)
        };
        let longest = "é".repeat(127) + "x";
        assert_eq!(check(PeerCommand::Shutdown, &longest), Ok(()));
        assert_eq!(check(PeerCommand::ClearHard, "new filters"), Ok(()));
        assert_eq!(check(PeerCommand::Drain, ""), Ok(()));
        let refused = |command, text: &str| check(command, text).unwrap_err();
        let long = refused(PeerCommand::Shutdown, &"é".repeat(128));
        assert!(long.contains("256 bytes, at most 255"), "{long}");
        let lines = refused(PeerCommand::Shutdown, "one\ntwo");
        assert!(lines.contains("control characters"), "{lines}");
        let drain = refused(PeerCommand::Drain, "text");
        assert!(drain.contains("no text"), "{drain}");
    }

    #[test]
    fn an_address_means_the_peer_that_has_it_at_each_route_server() {
        let config = parse(include_str!("../../../docs/example.toml"), "example").unwrap();
        let first = &config.route_servers[0];
        let mut second = RouteServer {
            name: "rs2".into(),
            ..first.clone()
        };
        second.peers[0].name = "vpn".into();
        second.peers.truncate(1);
        let asked = |servers: &[&RouteServer], peer: &str| {
            let meant = peers_meant(servers, Some(peer)).map_err(|error| error.error)?;
            let told = meant.into_iter().map(|(server, peer)| {
                let peer = peer.unwrap();
                format!("{server} {peer}")
            });
            Ok::<_, String>(told.collect::<Vec<_>>())
        };
        let both = [first, &second];
        assert_eq!(asked(&both, "10.1.10.4").unwrap(), ["rs1 sdwan", "rs2 vpn"]);
        assert_eq!(asked(&[&second], "10.1.10.4").unwrap(), ["rs2 vpn"]);
        assert_eq!(asked(&both, "fw").unwrap(), ["rs1 fw"]);
        assert!(asked(&[&second], "fw").is_err(), "it has no such peer");
        assert_eq!(peers_meant(&both, None).unwrap().len(), 2);
    }
}
