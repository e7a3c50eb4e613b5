//! What the networks have: effective routes, and the way of a packet.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Control, forwarding::unavailable, split};
use crate::{
    api::{
        Answer, ApiError,
        query::EffectiveFilter,
        types::{EffectiveRow, ExplainQuery, Explanation, LearnedRow},
    },
    daemon::{explain, supervisor::Running},
    names::{RouteServerName, SubnetName, VnetName},
    route_server::{Filter, LearnedUse},
};

/// Most rows of an answer for all subnets.
const MOST_ROWS: usize = 50_000;

/// The routes of all subnets are many times those of one.
fn bounded(filter: &EffectiveFilter, rows: usize) -> Answer<()> {
    if filter.subnet.is_some() || rows <= MOST_ROWS {
        return Ok(());
    }
    Err(ApiError::invalid(
        format!("all subnets together have more than {MOST_ROWS} such routes"),
        "name a subnet, or one prefix without those inside it",
    ))
}

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
        // Of one prefix there are few, and many subnets see the same.
        let keep = narrow.prefix.is_some();
        let mut learned: BTreeMap<_, Arc<[LearnedRow]>> = BTreeMap::new();
        for (vnet, subnet) in subnets {
            let of = self.learned_use(&vnet, &subnet).await?;
            let paths = match learned.get(&of) {
                Some(paths) => paths.clone(),
                None => {
                    let asked = self.learned_by(&of, vec![narrow.clone()]);
                    let paths: Arc<[LearnedRow]> = asked.await?.into();
                    if !keep {
                        learned.clear();
                    }
                    learned.insert(of, paths.clone());
                    paths
                }
            };
            let rows = core.ask(move |core| core.vnets.effective_routes(&vnet, &subnet, &paths));
            all.extend(rows.await?.into_iter().filter(|row| filter.takes(row)));
            bounded(&filter, all.len())?;
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
        let covering = explain::covering(to).map(|prefix| Filter {
            prefix: Some(prefix),
            ..Filter::default()
        });
        let of = self.learned_use(&vnet, &subnet).await?;
        let paths = self.learned_by(&of, covering.collect()).await?;
        let paths: Arc<[LearnedRow]> = paths.into();
        let from = query.from;
        let (candidates, tables, attached, closed) = {
            let paths = paths.clone();
            let (vnet, subnet) = (vnet.clone(), subnet.clone());
            core.ask(move |core| {
                let candidates = core.vnets.candidates(&vnet, &subnet, to, &paths);
                let attached = core.vnets.attached(&vnet, to).cloned();
                let closed = from.map(|from| core.vnets.closed_to(&vnet, &subnet, from));
                let tables = core.vnets.tables(&vnet, &subnet);
                (candidates, tables, attached, closed.unwrap_or_default())
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
        Ok(explain::explain(explain::Facts {
            attached,
            vnet,
            subnet,
            to,
            candidates,
            paths: paths.to_vec(),
            lookup,
            flow,
            closed,
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
}

#[cfg(test)]
mod tests {
    use super::{EffectiveFilter, MOST_ROWS, bounded};

    #[test]
    fn the_rows_of_all_subnets_are_bounded_and_those_of_one_are_not() {
        let all = EffectiveFilter::default();
        assert!(bounded(&all, MOST_ROWS).is_ok());
        let refused = bounded(&all, MOST_ROWS + 1).unwrap_err();
        assert!(refused.remedy.contains("name a subnet"), "{refused:?}");
        let one = EffectiveFilter {
            subnet: Some("apps".into()),
            ..all
        };
        assert!(bounded(&one, 20 * MOST_ROWS).is_ok());
    }
}
