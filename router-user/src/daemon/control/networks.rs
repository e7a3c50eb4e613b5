//! What the networks have: effective routes, and the way of a packet.

use std::{sync::Arc, time::Instant};

use super::{Control, forwarding::unavailable, split};
use crate::{
    api::{
        Answer, ApiError,
        query::EffectiveFilter,
        types::{EffectiveRow, ExplainQuery, Explanation, LearnedRow},
    },
    daemon::{explain, server::Server, supervisor::Running},
    names::{SubnetName, VnetName},
    route_server::Filter,
};

impl Control {
    /// `show effective`.
    pub(super) async fn effective_rows(
        &self,
        filter: EffectiveFilter,
    ) -> Answer<Vec<EffectiveRow>> {
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
        let mut learned: Option<(VnetName, Arc<[LearnedRow]>)> = None;
        for (vnet, subnet) in subnets {
            let paths = match &learned {
                Some((of, paths)) if *of == vnet => paths.clone(),
                _ => {
                    let narrow = narrow.clone();
                    let asked = self.learned_in(&vnet, move |server| {
                        server.route_server.learned_rows(&narrow, Instant::now())
                    });
                    let paths: Arc<[LearnedRow]> = asked.await?.into();
                    learned = Some((vnet.clone(), paths.clone()));
                    paths
                }
            };
            let rows = core.ask(move |core| core.vnets.effective_routes(&vnet, &subnet, &paths));
            all.extend(rows.await?.into_iter().filter(|row| filter.takes(row)));
        }
        Ok(all)
    }

    /// `explain`.
    pub(super) async fn explanation(&self, query: ExplainQuery) -> Answer<Explanation> {
        let Running {
            config,
            core,
            dataplane: handle,
            ..
        } = self.running();
        let flow = explain::Flow::of(&query)?;
        let (vnet, subnet) = self.resolve(query.subnet.clone()).await?;
        let to = query.to;
        let paths = self
            .learned_in(&vnet, move |server| {
                let covering = explain::covering(to).map(|prefix| Filter {
                    prefix: Some(prefix),
                    ..Filter::default()
                });
                covering
                    .flat_map(|filter| server.route_server.learned_rows(&filter, Instant::now()))
                    .collect()
            })
            .await?;
        let paths: Arc<[LearnedRow]> = paths.into();
        let (candidates, tables) = {
            let paths = paths.clone();
            let (vnet, subnet) = (vnet.clone(), subnet.clone());
            core.ask(move |core| {
                let candidates = core.vnets.candidates(&vnet, &subnet, to, &paths);
                (candidates, core.vnets.tables(&vnet, &subnet))
            })
            .await?
        };
        let lookup = match tables {
            Some((own, learned)) => Some(
                handle
                    .lookup(&own, learned.as_ref(), to)
                    .await
                    .map_err(unavailable)?,
            ),
            None => None,
        };
        let ports = config
            .vnets
            .iter()
            .filter(|network| network.name == vnet)
            .flat_map(|network| &network.subnets)
            .flat_map(|subnet| &subnet.ports);
        let attached = ports
            .filter(|port| port.addresses.contains(&to))
            .map(|port| port.interface.clone())
            .next();
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

    /// The learned paths that matter in a network.
    async fn learned_in(
        &self,
        vnet: &VnetName,
        rows: impl FnOnce(&mut Server) -> Vec<LearnedRow> + Send + 'static,
    ) -> Answer<Vec<LearnedRow>> {
        let Running { core, servers, .. } = self.running();
        let vnet = vnet.clone();
        let used = core
            .ask(move |core| core.vnets.route_server(&vnet).cloned())
            .await?;
        match used.and_then(|name| servers.get(&name).cloned()) {
            Some(server) => server.ask(rows).await,
            None => Ok(Vec::new()),
        }
    }
}
