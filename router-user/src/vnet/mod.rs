//! Virtual networks: which routes apply in which subnet.
//!
//! In: the configuration and [`LearnedChange`]s of the route servers. Out: tables, routes and ports
//! for `fib`, and the effective routes of each subnet with the reason for each loser. What BGP is,
//! is not known here.
//!
//! Every subnet's packets meet a chain of two tables: its own ([`own`]: which rows are valid;
//! [`placement`]: where they stand) and the learned one of the route server that its network uses
//! ([`learned`]). [`effective`] tells people the same story.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    api::types::{EffectiveRow, LearnedRow},
    config::{Config, Propagate},
    fib::Fib,
    names::{RouteServerName, SubnetName, TableName, VnetName},
    rib::{LearnedChange, LearnedViewId},
    route_server::{LearnedUse, Report},
};

mod effective;
mod learned;
mod network;
mod own;
mod placement;
#[cfg(test)]
mod tests;

pub use effective::{ACTIVE, Candidates, INVALID};

use effective::Wanted;
use learned::LearnedTable;
use network::Network;
use own::{LearnedDefaults, OwnCandidate};
use placement::Placements;

/// The virtual networks of a configuration and what their route servers have learned.
#[derive(Default)]
pub struct Vnets {
    networks: BTreeMap<VnetName, Network>,
    learned: BTreeMap<RouteServerName, LearnedTable>,
    placements: Placements,
    /// Networks whose own tables or ports are to be placed anew.
    stale: BTreeSet<VnetName>,
    /// Learned tables of route servers that are no longer configured.
    retired: Vec<TableName>,
}

/// Why a text names no subnet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubnetError {
    /// There is none of this name.
    #[error("no subnet \"{text}\"; there are: {known}")]
    Unknown {
        /// What was asked for.
        text: String,
        /// The subnets that exist, as `VNET/NAME`.
        known: String,
    },
    /// Several networks have one of this name.
    #[error("several networks have a subnet \"{text}\"; say which: {matching}")]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The subnets of this name, as `VNET/NAME`.
        matching: String,
    },
}

impl Vnets {
    /// The networks of a configuration; nothing is learned yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut vnets = Self::default();
        vnets.reconfigure(config);
        vnets
    }

    /// Takes over another configuration. Networks that did not change are not touched; what was
    /// learned stays as long as its route server does.
    pub fn reconfigure(&mut self, config: &Config) {
        let networks = Network::all_of(config);
        let former = std::mem::replace(&mut self.networks, networks);
        let names = former.keys().chain(self.networks.keys());
        self.stale.extend(
            names
                .filter(|name| former.get(*name) != self.networks.get(*name))
                .cloned(),
        );

        let mut former = std::mem::take(&mut self.learned);
        for server in &config.route_servers {
            let space = self
                .networks
                .get(&server.vnet)
                .map_or(&[][..], |network| &network.prefixes);
            let mut table = match former.remove(&server.name) {
                Some(mut table) => {
                    table.attach(&server.vnet, space);
                    table
                }
                None => LearnedTable::new(&server.name, server.vnet.clone(), space.to_vec()),
            };
            table.set_forwarding(self.forwards_by(&server.name));
            self.learned.insert(server.name.clone(), table);
        }
        let retired = former.into_values().map(|table| table.name().clone());
        self.retired.extend(retired);
    }

    /// Takes over what a route server tells. What one says that is not configured (any more) is
    /// ignored.
    pub fn report(&mut self, route_server: &RouteServerName, reports: Vec<Report>) {
        for report in reports {
            match report {
                Report::Changes(changes) => self.learned(route_server, changes),
                Report::Assign(..) | Report::Drop(_) => {}
            }
        }
    }

    /// Takes over what a route server has learned, O(1) a change.
    fn learned(&mut self, route_server: &RouteServerName, changes: Vec<LearnedChange>) {
        let Some(table) = self.learned.get_mut(route_server) else {
            return;
        };
        let before = table.defaults();
        for change in changes {
            table.learn(change);
        }
        if table.defaults() != before {
            let users = self
                .networks
                .values()
                .filter(|network| network.route_server.as_ref() == Some(route_server));
            self.stale.extend(users.map(|network| network.name.clone()));
        }
    }

    /// Hands all pending changes to the FIB.
    pub fn apply_to(&mut self, fib: &mut Fib) {
        for table in self.retired.drain(..) {
            fib.clear_table(&table);
        }
        for table in self.learned.values_mut() {
            table.apply_to(fib);
        }
        let stale = std::mem::take(&mut self.stale);
        // All are removed before the first is placed: a port may have moved between networks.
        for vnet in &stale {
            self.placements.remove(vnet, fib);
        }
        for vnet in &stale {
            let Some(network) = self.networks.get(vnet) else {
                continue;
            };
            let learned_table = self.learned_table(network).map(LearnedTable::name).cloned();
            for subnet in &network.subnets {
                let contents = placement::contents(&self.own_candidates(network), vnet);
                self.placements
                    .place(network, subnet, contents, learned_table.as_ref(), fib);
            }
        }
    }

    /// Who uses what a route server learns: every distinct use by a port. Without any, what it learns
    /// is not kept; once there is one, all of it is to come again through [`Vnets::report`].
    #[must_use]
    pub fn uses(&self, route_server: &RouteServerName) -> BTreeSet<LearnedUse> {
        let networks = self.networks.values();
        let users = networks.filter(|network| {
            network.route_server.as_ref() == Some(route_server)
                && network
                    .subnets
                    .iter()
                    .any(|subnet| !subnet.ports.is_empty())
        });
        let uses = users.map(|network| LearnedUse {
            propagate: Propagate::ALL,
            gateway: None,
            reach: BTreeSet::from([network.name.clone()]),
            forwarding: true,
        });
        uses.collect()
    }

    fn forwards_by(&self, route_server: &RouteServerName) -> bool {
        let mut users = self
            .networks
            .values()
            .filter(|network| network.route_server.as_ref() == Some(route_server));
        users.any(|network| {
            network
                .subnets
                .iter()
                .any(|subnet| !subnet.ports.is_empty())
        })
    }

    /// What a route server advertises on behalf of the network that it is attached to: the prefixes
    /// of the network.
    #[must_use]
    pub fn advertised_prefixes(&self, route_server: &RouteServerName) -> BTreeSet<IpNet> {
        self.networks
            .values()
            .filter(|network| network.route_server.as_ref() == Some(route_server))
            .flat_map(|network| network.prefixes.iter().copied())
            .collect()
    }

    /// Every candidate of a subnet, sorted by prefix, active rows first; `learned` are the paths of
    /// its route server (those of others are passed over). Addresses of the gateway host are left
    /// out. Empty if there is no such subnet.
    #[must_use]
    pub fn effective_routes(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        learned: &[LearnedRow],
    ) -> Vec<EffectiveRow> {
        self.rows(vnet, subnet, learned, &Wanted::Shown)
    }

    /// [`effective_routes`](Self::effective_routes) with the addresses of the gateway host, whose
    /// next hop type is `Host`.
    #[must_use]
    pub fn all_routes(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        learned: &[LearnedRow],
    ) -> Vec<EffectiveRow> {
        self.rows(vnet, subnet, learned, &Wanted::All)
    }

    /// Every candidate that covers an address, and which of them packets follow; addresses of the
    /// gateway host included.
    #[must_use]
    pub fn candidates(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        address: IpAddr,
        learned: &[LearnedRow],
    ) -> Candidates {
        self.with_subnet(vnet, subnet, |subnet| subnet.candidates(learned, address))
            .unwrap_or(Candidates {
                rows: Vec::new(),
                winner: None,
            })
    }

    /// The own and the learned table that a subnet's packets meet, as last applied.
    #[must_use]
    pub fn tables(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
    ) -> Option<(TableName, Option<TableName>)> {
        let own = self.placements.table(vnet, subnet)?.clone();
        let learned = self
            .networks
            .get(vnet)
            .and_then(|network| self.learned_table(network));
        Some((own, learned.map(|table| table.name().clone())))
    }

    /// The table with what a route server has learned, in a view.
    #[must_use]
    pub fn table_of_view(
        &self,
        route_server: &RouteServerName,
        _view: LearnedViewId,
    ) -> Option<&TableName> {
        self.learned.get(route_server).map(LearnedTable::name)
    }

    /// The route server whose learned routes apply in a network.
    #[must_use]
    pub fn route_server(&self, vnet: &VnetName) -> Option<&RouteServerName> {
        self.networks.get(vnet)?.route_server.as_ref()
    }

    /// Every subnet, by network.
    pub fn subnets(&self) -> impl Iterator<Item = (&VnetName, &SubnetName)> {
        self.networks.values().flat_map(|network| {
            network
                .subnets
                .iter()
                .map(|subnet| (&network.name, &subnet.name))
        })
    }

    /// The subnet that `NAME` or `VNET/NAME` means.
    ///
    /// # Errors
    /// There is none, or `NAME` alone fits several.
    pub fn resolve_subnet(&self, text: &str) -> Result<(VnetName, SubnetName), SubnetError> {
        let matching: Vec<_> = self
            .subnets()
            .filter(|(vnet, subnet)| {
                subnet.as_str() == text
                    || text
                        .strip_prefix(vnet.as_str())
                        .and_then(|rest| rest.strip_prefix('/'))
                        == Some(subnet.as_str())
            })
            .collect();
        match matching[..] {
            [(vnet, subnet)] => Ok((vnet.clone(), subnet.clone())),
            [] => Err(SubnetError::Unknown {
                text: text.to_owned(),
                known: listed(self.subnets()),
            }),
            _ => Err(SubnetError::Ambiguous {
                text: text.to_owned(),
                matching: listed(matching.into_iter()),
            }),
        }
    }

    fn rows(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        learned: &[LearnedRow],
        wanted: &Wanted,
    ) -> Vec<EffectiveRow> {
        self.with_subnet(vnet, subnet, |subnet| subnet.rows(learned, wanted))
            .unwrap_or_default()
    }

    fn with_subnet<T>(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        answer: impl FnOnce(effective::Subnet<'_>) -> T,
    ) -> Option<T> {
        let network = self.networks.get(vnet)?;
        let subnet = network.subnet(subnet)?;
        Some(answer(effective::Subnet {
            vnet,
            name: &subnet.name,
            own: &self.own_candidates(network),
            route_server: network.route_server.as_ref(),
            unresolvable: self.learned_table(network).map(LearnedTable::unresolvable),
        }))
    }

    /// The rows of every source, judged.
    fn own_candidates(&self, network: &Network) -> Vec<OwnCandidate> {
        let defaults = self
            .learned_table(network)
            .map_or_else(LearnedDefaults::default, LearnedTable::defaults);
        own::select(own::system_rows(network), defaults)
    }

    fn learned_table(&self, network: &Network) -> Option<&LearnedTable> {
        self.learned.get(network.route_server.as_ref()?)
    }
}

fn listed<'a>(subnets: impl Iterator<Item = (&'a VnetName, &'a SubnetName)>) -> String {
    let names: Vec<String> = subnets
        .map(|(vnet, subnet)| format!("{vnet}/{subnet}"))
        .collect();
    names.join(", ")
}
