//! What the networks have: effective routes, and the way of a packet.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

use super::{Control, forwarding::unavailable, split};
use crate::{
    api::{
        Answer, ApiError,
        query::EffectiveFilter,
        types::{EffectiveRow, ExplainQuery, Explanation, LearnedRow, RefusedRoute},
    },
    daemon::{explain, server::ServerHandle, supervisor::Running},
    names::{RouteServerName, SubnetName, VnetName},
    rib::Place,
    route_server::{Filter, LearnedUse, sort_learned},
    vnet::{PortGroup, SubnetError, Vnets},
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

/// What is taken of which route server.
type Taken = Option<(RouteServerName, LearnedUse)>;

/// How many distinct prefixes rows have that stand together by prefix.
fn prefixes(rows: &[LearnedRow]) -> usize {
    rows.chunk_by(|a, b| a.prefix == b.prefix).count()
}

impl Control {
    /// `show effective`: rows of each subnet in turn, each group of ports after the other.
    pub(super) async fn effective_rows(
        &self,
        filter: EffectiveFilter,
    ) -> Answer<Vec<EffectiveRow>> {
        let core = self.running().core;
        let subnet = match filter.subnet.clone() {
            Some(subnet) => Some(self.resolve(subnet).await?),
            None => None,
        };
        let groups = core.ask(move |core| {
            let vnets = &core.vnets;
            let subnets = match &subnet {
                Some((vnet, subnet)) => vec![(vnet, subnet)],
                None => vnets.subnets().collect(),
            };
            let groups = subnets.into_iter();
            let groups = groups.flat_map(|(vnet, subnet)| vnets.port_groups(vnet, subnet));
            groups
                .map(|group| (taken(vnets, &group), group))
                .collect::<Vec<_>>()
        });
        // What several take is asked for once.
        let mut by_use: BTreeMap<Taken, Vec<PortGroup>> = BTreeMap::new();
        for (of, group) in groups.await? {
            by_use.entry(of).or_default().push(group);
        }
        let narrow = Filter {
            prefix: filter.prefix.map(|prefix| prefix.trunc()),
            longer: filter.longer,
            ..Filter::default()
        };
        let mut found: BTreeMap<PortGroup, Vec<EffectiveRow>> = BTreeMap::new();
        let mut count = 0;
        for (of, groups) in by_use {
            // Every prefix has a row in each.
            let shown = filter.source.as_deref().is_none_or(|it| it == "learned");
            let each = if shown { groups.len() } else { 0 };
            let bound = |prefixes: usize| bounded(&filter, count + prefixes * each);
            let learned = self.learned_by(&of, narrow.clone(), bound).await?;
            let learned: Arc<[LearnedRow]> = learned.into();
            for group in groups {
                let asked = {
                    let group = group.clone();
                    core.ask(move |core| core.vnets.subnet_view(&group))
                };
                let Some(view) = asked.await? else {
                    continue;
                };
                let (learned, wanted) = (learned.clone(), filter.clone());
                let rows = aside(move || {
                    let mut rows = view.effective_routes(&learned);
                    rows.retain(|row| wanted.takes(row));
                    rows
                });
                let rows = rows.await?;
                count += rows.len();
                found.insert(group, rows);
                bounded(&filter, count)?;
            }
        }
        Ok(found.into_values().flatten().collect())
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
        let (port, from, to) = (query.port.clone(), query.from, query.to);
        let entrance = core.ask(move |core| {
            let vnets = &core.vnets;
            let entrance = vnets.entrance(&vnet, &subnet, port.as_deref(), from)?;
            let of = taken(vnets, &entrance.group);
            Ok::<_, SubnetError>((entrance, of))
        });
        let (entrance, of) = entrance.await?.map_err(unknown)?;
        let (paths, refused) = self.learned_to(&of, to).await?;
        let paths: Arc<[LearnedRow]> = paths.into();
        let decided = {
            let (paths, group) = (paths.clone(), entrance.group.clone());
            core.ask(move |core| {
                let candidates = core.vnets.candidates(&group, to, &paths);
                let tables = core.vnets.tables(&group);
                let wanted = candidates.winner.and_then(|winner| {
                    let row = &candidates.rows[winner];
                    let (own, learned) = tables.as_ref()?;
                    let table = match row.source.as_str() {
                        "learned" => learned.as_ref()?,
                        _ => own,
                    };
                    let route = core.fib.route(table, &row.prefix)?;
                    Some(route.group.to_string())
                });
                let attached = core.vnets.attached(&group.vnet, to).cloned();
                (candidates, tables, wanted, attached)
            })
        };
        let (candidates, tables, wanted, attached) = decided.await?;
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
            entrance,
            to,
            candidates,
            paths: paths.to_vec(),
            refused,
            lookup,
            wanted,
            attached,
            flow,
            flow_seed: config.dataplane.flow_seed,
        }))
    }

    async fn resolve(&self, subnet: String) -> Answer<(VnetName, SubnetName)> {
        let core = self.running().core;
        let resolved = core
            .ask(move |core| core.vnets.resolve_subnet(&subnet))
            .await?;
        resolved.map_err(unknown)
    }

    /// The learned paths as a user sees them, a page at a time; `bound` is told of how many prefixes
    /// there are so far.
    async fn learned_by(
        &self,
        of: &Taken,
        filter: Filter,
        bound: impl Fn(usize) -> Answer<()>,
    ) -> Answer<Vec<LearnedRow>> {
        let mut rows = Vec::new();
        let Some((server, of)) = self.taken_of(of) else {
            return Ok(rows);
        };
        let mut next = Some(Place::FIRST);
        let mut count = 0;
        while let Some(from) = next {
            let (of, filter) = (of.clone(), filter.clone());
            let page = server.ask(move |server| {
                let now = Instant::now();
                let server = &server.route_server;
                server.learned_page(Some(&of), &filter, from, now)
            });
            let mut page = page.await?;
            count += prefixes(&page.rows);
            bound(count)?;
            rows.append(&mut page.rows);
            next = page.next;
        }
        aside(move || {
            sort_learned(&mut rows);
            rows
        })
        .await
    }

    /// The learned paths to an address as a user sees them, and the routes there that were refused.
    async fn learned_to(
        &self,
        of: &Taken,
        to: IpAddr,
    ) -> Answer<(Vec<LearnedRow>, Vec<RefusedRoute>)> {
        let Some((server, of)) = self.taken_of(of) else {
            return Ok(Default::default());
        };
        server
            .ask(move |server| {
                let server = &server.route_server;
                let covering: Vec<_> = explain::covering(to).collect();
                let paths = covering.iter().flat_map(|prefix| {
                    let filter = Filter {
                        prefix: Some(*prefix),
                        ..Filter::default()
                    };
                    server.learned_rows_for(&of, &filter, Instant::now())
                });
                (paths.collect(), server.refused_routes(to, &covering))
            })
            .await
    }

    fn taken_of(&self, of: &Taken) -> Option<(ServerHandle, LearnedUse)> {
        let (name, of) = of.clone()?;
        Some((self.running().servers.get(&name)?.clone(), of))
    }
}

/// What ports of a subnet take of what a route server learns.
fn taken(vnets: &Vnets, group: &PortGroup) -> Taken {
    let (server, of, _) = vnets.learned_use(group)?;
    Some((server, of))
}

fn unknown(error: SubnetError) -> ApiError {
    let error = error.to_string();
    let (what, remedy) = split(&error);
    ApiError::not_found(what, remedy)
}

/// Does what takes long on a thread where it keeps nobody waiting.
async fn aside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Answer<R> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::unavailable(error.to_string(), "see the daemon's log"))
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
