//! Virtual networks: which routes apply in which subnet.
//!
//! In: the configuration and the [`Report`]s of the route servers. Out: tables, routes and ports for
//! `fib`, what each route server is to advertise and who uses what it learns, and the effective routes
//! of each subnet with the reason for each loser. What BGP is, is not known here.
//!
//! Every subnet's packets meet a chain of two tables: its own ([`rows`]: where its rows come from;
//! [`own`]: which of them are valid; [`placement`]: where they stand) and the learned one of the view
//! that it takes of the route server that its network uses ([`server`], [`learned`]). Where ports of
//! gateways are in a subnet, those of each kind take a view of their own ([`ports`]). [`effective`]
//! tells people the same story.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    api::types::{EffectiveRow, LearnedRow},
    config::{Config, Subnet},
    fib::Fib,
    names::{InterfaceName, RouteServerName, SubnetName, TableName, VnetName},
    rib::LearnedViewId,
    route_server::{LearnedUse, Report},
};

mod effective;
mod learned;
mod network;
mod own;
mod placement;
mod ports;
mod rows;
mod server;
#[cfg(test)]
mod tests;

pub use effective::{ACTIVE, Candidates, INVALID, SubnetView};
pub use ports::{Entrance, PortGroup};

use learned::{LearnedTable, Reach};
use network::{LiveMembers, Network, Slot, Space};
use own::{LearnedDefaults, OwnCandidate};
use placement::{Contents, FormerPorts, Placements, View};
use server::{Concerned, Server};

/// The virtual networks of a configuration and what their route servers have learned.
#[derive(Clone, Default)]
pub struct Vnets {
    networks: BTreeMap<VnetName, Network>,
    /// What every network is to others.
    spaces: Arc<[Arc<Space>]>,
    servers: BTreeMap<RouteServerName, Server>,
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
    /// The subnet has no such port.
    #[error("subnet {subnet} has no port \"{port}\"; {known}")]
    NoPort {
        /// The subnet, as `VNET/NAME`.
        subnet: String,
        /// What was asked for.
        port: String,
        /// The ports that it has.
        known: String,
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
        let spaces = networks.values().map(|network| network.own.clone());
        self.spaces = spaces.collect();
        let former = std::mem::replace(&mut self.networks, networks);
        let names = former.keys().chain(self.networks.keys());
        self.stale.extend(
            names
                .filter(|name| former.get(*name) != self.networks.get(*name))
                .cloned(),
        );

        let mut users: BTreeMap<&RouteServerName, Vec<&Network>> = BTreeMap::new();
        for network in self.networks.values() {
            if let Some(server) = network.server() {
                users.entry(server).or_default().push(network);
            }
        }
        let mut former = std::mem::take(&mut self.servers);
        for server in &config.route_servers {
            let reach = Reach::new(&server.vnet, self.networks.get(&server.vnet));
            let known = former.remove(&server.name);
            let mut known = known.unwrap_or_else(|| Server::new(&server.name, reach.clone()));
            let users = users.get(&server.name).map_or(&[][..], |users| users);
            known.reconfigure(reach, users);
            known.retain_members(&server.gateways);
            self.servers.insert(server.name.clone(), known);
        }
        let retired = former.into_values().flat_map(Server::into_tables);
        self.retired.extend(retired);
    }

    /// Takes over what a route server tells, at O(1) a learned route. What one says that is not
    /// configured (any more) is ignored.
    pub fn report(&mut self, route_server: &RouteServerName, reports: Vec<Report>) {
        let Some(server) = self.servers.get_mut(route_server) else {
            return;
        };
        for report in reports {
            match server.report(report) {
                Concerned::Nobody => {}
                Concerned::Networks(mut networks) => self.stale.append(&mut networks),
                Concerned::TakersOf(views) => {
                    let takers = self.placements.takers_of(route_server, &views);
                    self.stale.extend(takers.cloned());
                }
                Concerned::ByMembers => {
                    let networks = self.networks.values();
                    let users = networks.filter(|network| {
                        network.server() == Some(route_server) && network.depends_on_members()
                    });
                    self.stale
                        .extend(users.map(|network| network.name().clone()));
                }
            }
        }
    }

    /// Hands all pending changes to the FIB.
    pub fn apply_to(&mut self, fib: &mut Fib) {
        for table in self.retired.drain(..) {
            fib.clear_table(&table);
        }
        for server in self.servers.values_mut() {
            server.apply_to(fib);
        }
        let stale = std::mem::take(&mut self.stale);
        // All are removed before the first is placed: a port may have moved between networks.
        let former = stale.into_iter().map(|vnet| {
            let stood = self.placements.remove(&vnet, fib);
            (vnet, stood)
        });
        for (vnet, former) in former.collect::<Vec<_>>() {
            self.place(&vnet, &former, fib);
        }
        for (name, server) in &mut self.servers {
            server.remove_outdated(fib);
            if server.has_dropped() {
                server.retire(&self.placements.views_of(name), fib);
            }
        }
    }

    /// Places the subnets of a network that is not placed. Ports whose view is yet to be assigned
    /// keep what they had; those that had nothing say that they wait for it.
    fn place(&mut self, vnet: &VnetName, former: &FormerPorts, fib: &mut Fib) {
        let Some(network) = self.networks.get(vnet) else {
            return;
        };
        // Subnets with the same rows and defaults have the same contents.
        let mut made: Vec<(Option<&str>, LearnedDefaults, Contents)> = Vec::new();
        for subnet in &network.subnets {
            for slot in network.slots(subnet) {
                let view = self.view_to_take(network, subnet, &slot, former);
                let taken = match &view {
                    View::Taken((server, id, _)) | View::Former((server, id, _), _) => {
                        let server = self.servers.get(server);
                        server.and_then(|server| server.view(*id))
                    }
                    View::None | View::Awaited => None,
                };
                let defaults = taken.map(LearnedTable::defaults).unwrap_or_default();
                let table = network.table_of(subnet).map(|table| table.name.as_str());
                let known = made
                    .iter()
                    .find(|(of, with, _)| (*of, *with) == (table, defaults));
                let contents = if let Some((.., contents)) = known {
                    contents.clone()
                } else {
                    let judged = self.own_candidates(network, subnet, defaults);
                    let contents = placement::contents(&judged, vnet);
                    made.push((table, defaults, contents.clone()));
                    contents
                };
                self.placements
                    .place(network, subnet, &slot, contents, view, fib);
            }
        }
    }

    /// The view that ports are to take: until their use is assigned one, what they had.
    fn view_to_take<'a>(
        &self,
        network: &Network,
        subnet: &Subnet,
        slot: &Slot<'_>,
        former: &'a FormerPorts,
    ) -> View<'a> {
        let Some(name) = network.server() else {
            return View::None;
        };
        let of = network.learned_use(subnet, slot.gateway);
        let assigned = self.servers.get(name).and_then(|server| {
            let id = server.complete(&of)?;
            Some((name.clone(), id, server.view(id)?.name().clone()))
        });
        // Its ports may have stood in other subnets, or become a gateway's.
        let had = || {
            let ports = slot.ports.iter();
            let had = ports.filter_map(|port| former.get(&port.interface)?.view.as_ref());
            // Another view may have taken the table over.
            let mut stands = had.filter_map(|(server, _, table)| {
                let id = self.servers.get(server)?.view_of_table(table)?;
                Some((server.clone(), id, table.clone()))
            });
            stands.next()
        };
        let taken = assigned.map(View::Taken);
        let taken = taken.or_else(|| Some(View::Former(had()?, former)));
        taken.unwrap_or(View::Awaited)
    }

    /// Who uses what a route server learns: every distinct use by a subnet or a gateway's port.
    /// Without any that forwards, what it learns is not kept; once there is one, all of it is to come
    /// again through [`Vnets::report`].
    #[must_use]
    pub fn uses(&self, route_server: &RouteServerName) -> BTreeSet<LearnedUse> {
        let server = self.servers.get(route_server);
        server.into_iter().flat_map(Server::uses).collect()
    }

    /// What a route server advertises on behalf of the networks that use it, that which it is attached
    /// to among them: their prefixes.
    #[must_use]
    pub fn advertised_prefixes(&self, route_server: &RouteServerName) -> BTreeSet<IpNet> {
        self.networks
            .values()
            .filter(|network| network.server() == Some(route_server))
            .flat_map(|network| network.own.prefixes.iter().copied())
            .collect()
    }

    /// Every candidate of ports of a subnet, sorted by prefix, active rows first; `learned` are the
    /// paths of its route server (those of others are passed over). Addresses of the gateway host are
    /// left out. Empty if there are no such ports.
    #[must_use]
    pub fn effective_routes(&self, group: &PortGroup, learned: &[LearnedRow]) -> Vec<EffectiveRow> {
        let view = self.subnet_view(group);
        view.map_or_else(Vec::new, |view| view.effective_routes(learned))
    }

    /// [`effective_routes`](Self::effective_routes) with the addresses of the gateway host, whose
    /// next hop type is `Host`.
    #[must_use]
    pub fn all_routes(&self, group: &PortGroup, learned: &[LearnedRow]) -> Vec<EffectiveRow> {
        let view = self.subnet_view(group);
        view.map_or_else(Vec::new, |view| view.all_routes(learned))
    }

    /// Every candidate that covers an address, and which of them packets follow; addresses of the
    /// gateway host included.
    #[must_use]
    pub fn candidates(
        &self,
        group: &PortGroup,
        address: IpAddr,
        learned: &[LearnedRow],
    ) -> Candidates {
        let view = self.subnet_view(group);
        let candidates = view.map(|view| view.candidates(learned, address));
        candidates.unwrap_or(Candidates {
            rows: Vec::new(),
            winner: None,
            host: false,
        })
    }

    /// What the effective routes of ports of a subnet are made of but for learned paths, as it is now;
    /// none if there are no such ports.
    #[must_use]
    pub fn subnet_view(&self, group: &PortGroup) -> Option<SubnetView> {
        let network = self.networks.get(&group.vnet)?;
        let subnet = network.subnet(&group.subnet)?;
        let slots = network.slots(subnet);
        let slot = slots.iter().find(|slot| slot.gateway == group.gateway)?;
        let table = self.view_of(group);
        let defaults = table.map(LearnedTable::defaults).unwrap_or_default();
        Some(SubnetView {
            own: self.own_candidates(network, subnet, defaults),
            table: network.shared_table_of(subnet).cloned(),
            ports: Network::word(&slots, slot),
            dropping: table.map(LearnedTable::dropping).cloned(),
            reach: network
                .server()
                .and_then(|server| self.servers.get(server))
                .map(|server| server.reach().clone()),
            spaces: self.spaces.clone(),
            network: network.clone(),
            group: group.clone(),
        })
    }

    /// The own and the learned table that packets of these ports meet, as last applied.
    #[must_use]
    pub fn tables(&self, group: &PortGroup) -> Option<(TableName, Option<TableName>)> {
        let slot = (group.subnet.clone(), group.gateway);
        let (own, learned) = self.placements.tables(&group.vnet, &slot)?;
        Some((own.clone(), learned.cloned()))
    }

    /// What ports of a subnet take of which route server, and the view that they were assigned; for
    /// who asks that route server what they see.
    #[must_use]
    pub fn learned_use(
        &self,
        group: &PortGroup,
    ) -> Option<(RouteServerName, LearnedUse, Option<LearnedViewId>)> {
        let network = self.networks.get(&group.vnet)?;
        let server = self.servers.get(network.server()?)?;
        let of = network.learned_use(network.subnet(&group.subnet)?, group.gateway);
        let view = server.assigned(&of);
        let forwarding = server.forwards_by(&of);
        let of = LearnedUse { forwarding, ..of };
        Some((network.server()?.clone(), of, view))
    }

    /// The table with what a route server has learned, in a view.
    #[must_use]
    pub fn table_of_view(
        &self,
        route_server: &RouteServerName,
        view: LearnedViewId,
    ) -> Option<&TableName> {
        let server = self.servers.get(route_server)?;
        server.view(view).map(LearnedTable::name)
    }

    /// The route server whose learned routes apply in a network.
    #[must_use]
    pub fn route_server(&self, vnet: &VnetName) -> Option<&RouteServerName> {
        self.networks.get(vnet)?.server()
    }

    /// The port that an address of a network, or of one that it is peered with, is attached to.
    #[must_use]
    pub fn attached(&self, vnet: &VnetName, address: IpAddr) -> Option<&InterfaceName> {
        let there = self.networks.get(vnet)?.network_of(address)?;
        let subnets = self.networks.get(there)?.subnets.iter();
        let mut ports = subnets.flat_map(|subnet| &subnet.ports);
        let port = ports.find(|port| port.addresses.contains(&address))?;
        Some(&port.interface)
    }

    /// How packets come into a subnet: through a port of this name, if one is given, and with this
    /// source.
    ///
    /// # Errors
    /// There is no such subnet, or it has no such port.
    pub fn entrance(
        &self,
        vnet: &VnetName,
        subnet: &SubnetName,
        port: Option<&str>,
        source: Option<IpAddr>,
    ) -> Result<Entrance, SubnetError> {
        let network = self.networks.get(vnet);
        let found = network.and_then(|network| Some((network, network.subnet(subnet)?)));
        let (network, subnet) = found.ok_or_else(|| SubnetError::Unknown {
            text: format!("{vnet}/{subnet}"),
            known: listed(self.subnets()),
        })?;
        network.entrance(subnet, port, source)
    }

    /// Every subnet, by network.
    pub fn subnets(&self) -> impl Iterator<Item = (&VnetName, &SubnetName)> {
        self.networks.values().flat_map(|network| {
            network
                .subnets
                .iter()
                .map(|subnet| (network.name(), &subnet.name))
        })
    }

    /// The groups of ports of a subnet; where there is one, at least one.
    #[must_use]
    pub fn port_groups(&self, vnet: &VnetName, subnet: &SubnetName) -> Vec<PortGroup> {
        let network = self.networks.get(vnet);
        let found = network.and_then(|network| Some((network, network.subnet(subnet)?)));
        found.map_or_else(Vec::new, |(network, subnet)| {
            let slots = network.slots(subnet).into_iter();
            slots
                .map(|slot| PortGroup::new(network, subnet, &slot))
                .collect()
        })
    }

    /// Whether what ports of a subnet have of their own is the same there, and what they learn is judged
    /// alike: where their effective routes differ, learned paths do.
    #[must_use]
    pub fn is_alike(&self, there: &Self, group: &PortGroup) -> bool {
        let vnet = &group.vnet;
        let members = |vnets: &Self| {
            let server = vnets.networks.get(vnet)?.server()?;
            Some(vnets.servers.get(server)?.members().clone())
        };
        let judged = |table: &LearnedTable| (table.defaults(), table.dropping().clone());
        self.networks.get(vnet) == there.networks.get(vnet)
            && members(self) == members(there)
            && self.view_of(group).map(judged) == there.view_of(group).map(judged)
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

    /// The learned table of the view that ports of a subnet take, or are assigned and not told of yet.
    fn view_of(&self, group: &PortGroup) -> Option<&LearnedTable> {
        let slot = (group.subnet.clone(), group.gateway);
        let placed = self.placements.view(&group.vnet, &slot);
        let taken = placed.and_then(|(server, id, _)| self.servers.get(server)?.view(*id));
        taken.or_else(|| {
            let (server, _, view) = self.learned_use(group)?;
            self.servers.get(&server)?.view(view?)
        })
    }

    /// The rows of every source, judged.
    fn own_candidates(
        &self,
        network: &Network,
        subnet: &Subnet,
        defaults: LearnedDefaults,
    ) -> Vec<OwnCandidate> {
        let none = LiveMembers::new();
        let server = network.server().and_then(|name| self.servers.get(name));
        let live = server.map_or(&none, Server::members);
        own::select(rows::of(network, network.table_of(subnet), live), defaults)
    }
}

fn listed<'a>(subnets: impl Iterator<Item = (&'a VnetName, &'a SubnetName)>) -> String {
    let names: Vec<String> = subnets
        .map(|(vnet, subnet)| format!("{vnet}/{subnet}"))
        .collect();
    names.join(", ")
}
