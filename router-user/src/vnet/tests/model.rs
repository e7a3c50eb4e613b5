//! What people are told equals what the tables answer, and both equal what a naive model says: for
//! random networks, peerings, route tables, views of what is learned and addresses. The model shares
//! no code with the product; the tables are walked as XDP does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    assert_filled_before_use, first_of,
    lab::{self, Lab},
    net, path,
    random::{Announced, Step, address, any_config, step},
};
use crate::{
    api::types::{EffectiveRow, LearnedRow},
    config::{Config, GatewayMembers, PeerKind, RouteTable, UserDefinedNextHop, Vnet},
    fib::NextHop,
    names::{RouteServerName, VnetName},
    rib::{LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId},
    route_server::{LearnedUse, Report, ViewPlan},
    vnet::{ACTIVE, Vnets},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_active_row_is_what_the_tables_answer_and_what_the_model_says(
        first in any_config(),
        batches in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..5),
        addresses in prop::collection::vec(address(), 30),
    ) {
        let mut lab = Lab::silent(&first);
        let mut world = World::new(first);
        for batch in batches {
            for step in batch {
                world.take(step, &mut lab);
            }
            world.settle(&mut lab);
            for (vnet, subnet, interface) in world.subnets() {
                let sight = world.sight_of(&lab.vnets, &vnet, &subnet);
                let rows = world.rows(&lab.vnets, &vnet, sight.as_ref());
                let group = first_of(&lab.vnets, vnet.as_str(), &subnet);
                let all = lab.vnets.all_routes(&group, &rows);
                for address in &addresses {
                    let expected = world.expected(&vnet, &subnet, sight.as_ref(), *address);
                    let told = longest_active(&all, *address);
                    let said: BTreeSet<_> = told.iter().map(|row| world.said(row)).collect();
                    prop_assert_eq!(&said, &expected, "told of {} in {}/{}", address, vnet, subnet);
                    if let Some(interface) = &interface {
                        let answer = lab::answer(&lab.kernel, interface, *address).unwrap();
                        let answer: BTreeSet<_> =
                            answer.iter().map(|hop| world.reached(hop, *address)).collect();
                        prop_assert_eq!(&answer, &expected, "{} from {}", address, interface);
                    }
                    let explained = lab.vnets.candidates(&group, *address, &rows);
                    let winner = &explained.rows[explained.winner.expect("a default route")];
                    prop_assert_eq!(explained.host, expected.contains("host"));
                    prop_assert!(explained.host || winner.prefix == told[0].prefix);
                }
            }
        }
    }
}

/// A configuration, what the route servers were told by their peers, and what they told on.
struct World {
    config: Config,
    ribs: [BTreeMap<IpNet, BTreeSet<Announced>>; 2],
    members: BTreeSet<IpAddr>,
    servers: BTreeMap<RouteServerName, Told>,
}

/// What a route server has told.
#[derive(Default)]
struct Told {
    next: u32,
    views: BTreeMap<Sight, View>,
    uses: BTreeMap<LearnedUse, LearnedViewId>,
}

struct View {
    id: LearnedViewId,
    forwarding: bool,
    routes: BTreeMap<IpNet, LearnedRoute>,
}

/// From which kinds of peer, with next hops in which networks, at which route server.
type Sight = (usize, Vec<PeerKind>, BTreeSet<VnetName>);

const SERVERS: [&str; 2] = ["rs1", "rs2"];

impl World {
    fn new(config: Config) -> Self {
        Self {
            config,
            ribs: [BTreeMap::new(), BTreeMap::new()],
            members: BTreeSet::new(),
            servers: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step, lab: &mut Lab) {
        match step {
            Step::Announce(server, prefix, paths) if paths.is_empty() => {
                self.ribs[server].remove(&prefix);
            }
            Step::Announce(server, prefix, paths) => {
                self.ribs[server].insert(prefix, paths);
            }
            Step::Members(members) => {
                self.members.clone_from(&members);
                lab.vnets
                    .report(&"rs1".into(), vec![Report::Members("vpn".into(), members)]);
            }
            Step::Reconfigure(config) => {
                lab.vnets.reconfigure(&config);
                // What nothing was told of yet is handed on as well.
                lab.apply();
                self.config = *config;
                let servers = &self.config.route_servers;
                self.servers
                    .retain(|name, _| servers.iter().any(|server| server.name == *name));
                let mut gateways = servers
                    .iter()
                    .filter(|server| server.name.as_str() == "rs1")
                    .flat_map(|server| &server.gateways);
                if !gateways.any(|gateway| gateway.name.as_str() == "vpn") {
                    self.members.clear();
                }
                for (name, told) in &mut self.servers {
                    let uses = lab.vnets.uses(name);
                    told.uses.retain(|of, _| uses.contains(of));
                }
            }
        }
    }

    /// The route servers tell what changed.
    fn settle(&mut self, lab: &mut Lab) {
        for server in self.config.route_servers.clone() {
            let number = SERVERS
                .iter()
                .position(|name| server.name == (*name).into())
                .unwrap();
            let mut told = self.servers.remove(&server.name).unwrap_or_default();
            let uses = lab.vnets.uses(&server.name);
            let mut reports = Vec::new();
            let mut taken: BTreeMap<Sight, bool> = BTreeMap::new();
            for of in &uses {
                *taken.entry(self.sight(number, of)).or_default() |= of.forwarding;
            }
            for (sight, forwarding) in &taken {
                let fresh = LearnedViewId(told.next);
                let view = told.views.entry(sight.clone()).or_insert_with(|| {
                    told.next += 1;
                    View {
                        id: fresh,
                        forwarding: !forwarding,
                        routes: BTreeMap::new(),
                    }
                });
                let switched = view.forwarding != *forwarding;
                if switched {
                    view.forwarding = *forwarding;
                    view.routes.retain(is_mark);
                    let label = format!("{}", view.id.0).as_str().into();
                    reports.push(Report::View(
                        view.id,
                        ViewPlan {
                            label,
                            forwarding: *forwarding,
                        },
                    ));
                }
                let mut wanted = self.view(sight);
                wanted.retain(|prefix, route| *forwarding || is_mark(prefix, route));
                let mut changes = difference(view, &wanted);
                if switched {
                    let id = view.id;
                    let standing = wanted.iter().map(|(prefix, route)| LearnedChange {
                        view: id,
                        prefix: *prefix,
                        route: Some(route.clone()),
                    });
                    changes.extend(standing);
                }
                reports.push(Report::Changes(changes));
                view.routes = wanted;
            }
            for of in uses {
                let id = told.views[&self.sight(number, &of)].id;
                if told.uses.insert(of.clone(), id) != Some(id) {
                    reports.push(Report::Assign(of, id));
                }
            }
            told.views.retain(|sight, view| {
                let stays = taken.contains_key(sight);
                if !stays {
                    reports.push(Report::Drop(view.id));
                }
                stays
            });
            lab.vnets.report(&server.name, reports);
            self.servers.insert(server.name, told);
        }
        lab.vnets.apply_to(&mut lab.fib);
        let changes = lab.fib.take_changes();
        lab.kernel.apply_all(&changes);
        assert_filled_before_use(&changes, &lab.kernel);
    }

    fn sight(&self, server: usize, of: &LearnedUse) -> Sight {
        let sources = PeerKind::ALL.into_iter();
        let sources = sources.filter(|kind| of.propagate.from(*kind) && of.gateway != Some(*kind));
        let server_config = self.server(server).expect("it is configured");
        let mut around = self.peers(&server_config.vnet);
        around.insert(server_config.vnet.clone());
        (server, sources.collect(), &of.reach & &around)
    }

    fn server(&self, number: usize) -> Option<&crate::config::RouteServer> {
        let name: RouteServerName = SERVERS[number].into();
        self.config
            .route_servers
            .iter()
            .find(|server| server.name == name)
    }

    /// The routes of a view.
    fn view(&self, (server, sources, reach): &Sight) -> BTreeMap<IpNet, LearnedRoute> {
        let mut routes = BTreeMap::new();
        for (prefix, paths) in &self.ribs[*server] {
            let of_sources: Vec<_> = paths
                .iter()
                .filter(|(kind, _)| sources.contains(kind))
                .collect();
            if of_sources.is_empty() {
                continue;
            }
            let members: BTreeSet<IpAddr> = of_sources
                .iter()
                .map(|(_, next_hop)| *next_hop)
                .filter(|next_hop| reach.iter().any(|vnet| self.has(vnet, *next_hop)))
                .collect();
            let members = members.into_iter();
            let members = members
                .map(|address| LearnedNextHop { address, weight: 1 })
                .collect();
            let route = LearnedRoute {
                members,
                backups: Arc::new([]),
                blackhole: false,
            };
            routes.insert(*prefix, route);
        }
        routes
    }

    /// What a subnet sees of what is learned.
    fn sight_of(&self, vnets: &Vnets, vnet: &VnetName, subnet: &str) -> Option<Sight> {
        let (server, of, _) = vnets.learned_use(&first_of(vnets, vnet.as_str(), subnet))?;
        let number = SERVERS.iter().position(|name| server == (*name).into())?;
        Some(self.sight(number, &of))
    }

    /// The paths of a subnet's route server as the subnet sees them.
    fn rows(&self, vnets: &Vnets, vnet: &VnetName, sight: Option<&Sight>) -> Vec<LearnedRow> {
        let Some((server, sources, reach)) = sight else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        for (prefix, paths) in &self.ribs[*server] {
            let mut states = ["best"].into_iter().chain(std::iter::repeat("multipath"));
            for (kind, next_hop) in paths {
                let takes =
                    sources.contains(kind) && reach.iter().any(|vnet| self.has(vnet, *next_hop));
                let state = if takes {
                    states.next().unwrap()
                } else {
                    "excluded"
                };
                let mut row = path(&prefix.to_string(), &next_hop.to_string(), state);
                row.route_server = vnets.route_server(vnet).unwrap().clone();
                rows.push(row);
            }
        }
        rows
    }

    /// Where packets go, by the rules as they are written down.
    fn expected(
        &self,
        vnet: &VnetName,
        subnet: &str,
        sight: Option<&Sight>,
        address: IpAddr,
    ) -> BTreeSet<String> {
        let mut around = self.peers(vnet);
        around.insert(vnet.clone());
        let servers = self
            .config
            .route_servers
            .iter()
            .filter(|server| around.contains(&server.vnet));
        let instances = servers
            .flat_map(|server| &server.instances)
            .flat_map(|one| &one.addresses);
        let subnets = around.iter().flat_map(|vnet| &self.vnet(vnet).subnets);
        let gateways = subnets.flat_map(|subnet| &subnet.gateways);
        if instances.chain(gateways).any(|host| *host == address) {
            return BTreeSet::from(["host".to_owned()]);
        }
        let learned = sight.map(|sight| self.view(sight)).unwrap_or_default();
        let spaces: Vec<(IpNet, VnetName)> = around
            .iter()
            .flat_map(|vnet| {
                self.vnet(vnet)
                    .prefixes
                    .iter()
                    .map(|prefix| (*prefix, vnet.clone()))
            })
            .collect();
        let is_v4 = |prefix: &IpNet| matches!(prefix, IpNet::V4(_));

        // Prefix, rank among equal prefixes, next hops.
        let mut own: Vec<(IpNet, u8, BTreeSet<String>)> = Vec::new();
        for (prefix, vnet) in &spaces {
            own.push((*prefix, 1, BTreeSet::from([format!("attached {vnet}")])));
        }
        let uplink = |prefix: &IpNet| {
            let uplinks = self.vnet(vnet).uplink.iter();
            let mut uplinks = uplinks.filter(|uplink| uplink.is_ipv4() == is_v4(prefix));
            BTreeSet::from([uplinks
                .next()
                .map_or("no uplink".to_owned(), ToString::to_string)])
        };
        for default in ["0.0.0.0/0", "::/0"].map(net) {
            own.push((default, 1, uplink(&default)));
        }
        let discard = || BTreeSet::from(["discard".to_owned()]);
        for route in self
            .route_table(vnet, subnet)
            .map_or(&[][..], |table| &table.routes)
        {
            let hops = match route.next_hop {
                UserDefinedNextHop::VirtualAppliance(appliance) => {
                    if !around.iter().any(|vnet| self.has(vnet, appliance)) {
                        continue;
                    }
                    BTreeSet::from([appliance.to_string()])
                }
                UserDefinedNextHop::VirtualNetworkGateway => {
                    let members = self.vpn_members(sight);
                    let members = members
                        .into_iter()
                        .filter(|member| around.iter().any(|vnet| self.has(vnet, *member)));
                    let members: BTreeSet<_> = members.map(|member| member.to_string()).collect();
                    if members.is_empty() {
                        discard()
                    } else {
                        members
                    }
                }
                UserDefinedNextHop::VirtualNetwork => {
                    let mut within = spaces
                        .iter()
                        .filter(|(space, _)| space.contains(&route.prefix));
                    let vnet = within.next().map_or(vnet, |(_, vnet)| vnet);
                    BTreeSet::from([format!("attached {vnet}")])
                }
                UserDefinedNextHop::Internet => uplink(&route.prefix),
                UserDefinedNextHop::None => discard(),
            };
            own.push((route.prefix, 3, hops));
        }
        for private in [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
        ]
        .map(net)
        {
            let owned = spaces.iter().any(|(space, _)| space.contains(&private));
            let is_default = |prefix: &IpNet| prefix.prefix_len() == 0 && prefix.contains(&private);
            let gives_way = learned.keys().any(is_default)
                || own
                    .iter()
                    .any(|(prefix, rank, _)| *rank == 3 && is_default(prefix));
            if !owned && !gives_way {
                own.push((private, 0, discard()));
            }
        }
        let best = own
            .into_iter()
            .filter(|(prefix, ..)| prefix.contains(&address));
        let (prefix, rank, hops) = best
            .max_by_key(|(prefix, rank, _)| (prefix.prefix_len(), *rank))
            .expect("there is a default route");
        if spaces.iter().any(|(space, _)| space.contains(&prefix)) {
            return hops;
        }
        let rivals = learned
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let Some((rival, route)) = rivals.max_by_key(|(prefix, _)| prefix.prefix_len()) else {
            return hops;
        };
        if (rival.prefix_len(), 2) < (prefix.prefix_len(), rank) {
            return hops;
        }
        let members = route.members.iter();
        let members: BTreeSet<_> = members.map(|member| member.address.to_string()).collect();
        if members.is_empty() {
            discard()
        } else {
            members
        }
    }

    /// What a row says of the next hop.
    fn said(&self, row: &EffectiveRow) -> String {
        match (row.next_hop_type.as_str(), row.next_hop) {
            (_, Some(address)) => address.to_string(),
            ("VirtualNetwork", _) => format!("attached {}", row.vnet),
            ("VNetPeering", _) => {
                let peers = self.peers(&row.vnet);
                let mut there = peers.iter().filter(|peer| {
                    let mut prefixes = self.vnet(peer).prefixes.iter();
                    prefixes.any(|prefix| prefix.contains(&row.prefix))
                });
                format!("attached {}", there.next().expect("a peer has it"))
            }
            ("Internet", _) => "no uplink".into(),
            ("None" | "VirtualNetworkGateway", _) => "discard".into(),
            ("Host", _) => "host".into(),
            (other, _) => panic!("{other} without an address"),
        }
    }

    /// What the data plane makes of a next hop: it knows gateways as hosts of their network.
    fn reached(&self, hop: &NextHop, address: IpAddr) -> String {
        match hop {
            NextHop::Via { vnet, address } => {
                let known = self.has(vnet, *address) || self.vnet(vnet).uplink.contains(address);
                assert!(known, "{address} lies in another network than {vnet}");
                address.to_string()
            }
            NextHop::Attached { vnet } => {
                let subnets = self.vnet(vnet).subnets.iter();
                if subnets
                    .flat_map(|subnet| &subnet.gateways)
                    .any(|own| *own == address)
                {
                    return "host".into();
                }
                hop.to_string()
            }
            other => other.to_string(),
        }
    }

    fn vpn_members(&self, sight: Option<&Sight>) -> BTreeSet<IpAddr> {
        let server = sight.and_then(|(server, ..)| self.server(*server));
        let gateways = server.into_iter().flat_map(|server| &server.gateways);
        let vpn = gateways.filter(|gateway| gateway.kind == PeerKind::Vpn);
        vpn.flat_map(|gateway| {
            let live = self.members.iter().copied();
            live.filter(|member| match &gateway.members {
                GatewayMembers::Addresses(members) => members.contains(member),
                GatewayMembers::Range { prefix, .. } => prefix.contains(member),
            })
        })
        .collect()
    }

    fn peers(&self, vnet: &VnetName) -> BTreeSet<VnetName> {
        let names = |of: &VnetName| -> BTreeSet<VnetName> {
            let peerings = self.vnet(of).peerings.iter();
            peerings.map(|peering| peering.remote.clone()).collect()
        };
        let peers = names(vnet).into_iter();
        peers.filter(|peer| names(peer).contains(vnet)).collect()
    }

    fn route_table(&self, vnet: &VnetName, subnet: &str) -> Option<&RouteTable> {
        let mut subnets = self.vnet(vnet).subnets.iter();
        let subnet = subnets.find(|of| of.name.as_str() == subnet)?;
        let name = subnet.route_table.as_ref()?;
        self.config
            .route_tables
            .iter()
            .find(|table| table.name == *name)
    }

    fn vnet(&self, name: &VnetName) -> &Vnet {
        let mut vnets = self.config.vnets.iter();
        vnets
            .find(|vnet| vnet.name == *name)
            .expect("it is configured")
    }

    fn has(&self, vnet: &VnetName, address: IpAddr) -> bool {
        let mut prefixes = self.vnet(vnet).prefixes.iter();
        prefixes.any(|prefix| prefix.contains(&address))
    }

    /// Every subnet, with a port that stands for it if there is one.
    fn subnets(&self) -> Vec<(VnetName, String, Option<String>)> {
        let subnets = self.config.vnets.iter().flat_map(|vnet| {
            vnet.subnets.iter().map(|subnet| {
                let port = subnet.ports.first().map(|port| port.interface.to_string());
                (vnet.name.clone(), subnet.name.to_string(), port)
            })
        });
        subnets.collect()
    }
}

fn is_mark(prefix: &IpNet, route: &mut LearnedRoute) -> bool {
    prefix.prefix_len() == 0 || route.members.is_empty()
}

fn difference(view: &View, wanted: &BTreeMap<IpNet, LearnedRoute>) -> Vec<LearnedChange> {
    let prefixes: BTreeSet<&IpNet> = view.routes.keys().chain(wanted.keys()).collect();
    let changed = prefixes
        .into_iter()
        .filter(|prefix| view.routes.get(prefix) != wanted.get(prefix));
    let changes = changed.map(|prefix| LearnedChange {
        view: view.id,
        prefix: *prefix,
        route: wanted.get(prefix).cloned(),
    });
    changes.collect()
}

fn longest_active(rows: &[EffectiveRow], address: IpAddr) -> Vec<&EffectiveRow> {
    let covering = || {
        rows.iter()
            .filter(|row| row.state == ACTIVE && row.prefix.contains(&address))
    };
    let longest = covering().map(|row| row.prefix.prefix_len()).max();
    covering()
        .filter(|row| Some(row.prefix.prefix_len()) == longest)
        .collect()
}
