//! A virtual network as its routes depend on it: the part of the configuration that, if it stays
//! equal, leaves everything equal.
//!
//! In: the configuration. Out: a [`Network`] for each, which knows its peerings (those that both
//! sides have), the route server that it uses (its own or that of one peer), and what of both reaches
//! each of its subnets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    config::{
        Config, GatewayMembers, PeerKind, Peering, Port, Propagate, RouteTable, Subnet,
        UserDefinedNextHop, Vnet,
    },
    names::{GatewayName, RouteServerName, RouteTableName, SubnetName, VnetName},
    route_server::LearnedUse,
};

/// A network as its peers see it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Space {
    pub(super) vnet: VnetName,
    pub(super) prefixes: Vec<IpNet>,
    /// The gateway host's addresses on its ports.
    pub(super) gateways: BTreeSet<IpAddr>,
    /// Those that no port has: of the instances of its route servers, and in subnets without ports.
    pub(super) elsewhere: BTreeSet<IpAddr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Network {
    pub(super) own: Arc<Space>,
    pub(super) uplink: Vec<IpAddr>,
    pub(super) subnets: Vec<Subnet>,
    /// The route tables that its subnets name.
    pub(super) tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// The networks that it is peered with both ways, sorted by name.
    pub(super) peers: Vec<Arc<Space>>,
    /// Peers that take only packets of this network's own from it, sorted.
    pub(super) restricted: Vec<VnetName>,
    /// The route server whose learned routes apply here.
    pub(super) route_server: Option<Arc<UsedServer>>,
}

/// A route server as the networks that use it depend on it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct UsedServer {
    pub(super) name: RouteServerName,
    pub(super) gateways: Vec<UsedGateway>,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct UsedGateway {
    name: GatewayName,
    kind: PeerKind,
    members: GatewayMembers,
}

/// Members of gateways, as far as their sessions are up or their routes are kept.
pub(super) type LiveMembers = BTreeMap<GatewayName, BTreeSet<IpAddr>>;

/// Ports of a subnet whose packets meet the same tables.
pub(super) struct Slot<'a> {
    /// They belong to members of gateways of this kind.
    pub(super) gateway: Option<PeerKind>,
    pub(super) ports: Vec<&'a Port>,
}

impl Space {
    fn new(vnet: &Vnet, servers: &[&Arc<UsedServer>], config: &Config) -> Arc<Self> {
        let instances = config
            .route_servers
            .iter()
            .filter(|server| servers.iter().any(|own| own.name == server.name))
            .flat_map(|server| &server.instances)
            .flat_map(|instance| &instance.addresses);
        let gateways = |with_ports: bool| {
            let subnets = vnet.subnets.iter();
            let subnets = subnets.filter(move |subnet| subnet.ports.is_empty() != with_ports);
            subnets.flat_map(|subnet| &subnet.gateways).copied()
        };
        Arc::new(Self {
            vnet: vnet.name.clone(),
            prefixes: vnet.prefixes.clone(),
            gateways: gateways(true).collect(),
            elsewhere: instances.copied().chain(gateways(false)).collect(),
        })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

impl Network {
    pub(super) fn all_of(config: &Config) -> BTreeMap<VnetName, Self> {
        let parts = Parts::of(config);
        let networks = config.vnets.iter();
        networks
            .map(|vnet| (vnet.name.clone(), parts.network(vnet)))
            .collect()
    }

    pub(super) fn name(&self) -> &VnetName {
        &self.own.vnet
    }

    pub(super) fn subnet(&self, name: &SubnetName) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.name == *name)
    }

    pub(super) fn server(&self) -> Option<&RouteServerName> {
        self.route_server.as_ref().map(|server| &server.name)
    }

    pub(super) fn table_of(&self, subnet: &Subnet) -> Option<&RouteTable> {
        self.shared_table_of(subnet).map(|table| &**table)
    }

    pub(super) fn shared_table_of(&self, subnet: &Subnet) -> Option<&Arc<RouteTable>> {
        self.tables.get(subnet.route_table.as_ref()?)
    }

    pub(super) fn propagate(&self, subnet: &Subnet) -> Propagate {
        self.table_of(subnet)
            .map_or(Propagate::ALL, |table| table.propagate)
    }

    /// The network and those that it is peered with.
    pub(super) fn spaces(&self) -> impl Iterator<Item = &Arc<Space>> {
        std::iter::once(&self.own).chain(&self.peers)
    }

    /// The network, its own or a peer, that an address lies in.
    pub(super) fn network_of(&self, address: IpAddr) -> Option<&VnetName> {
        let mut spaces = self.spaces();
        spaces
            .find(|space| space.contains(address))
            .map(|space| &space.vnet)
    }

    /// The ports of a subnet, grouped by the gateways that they belong to; at least one group, which
    /// is empty where there is no port.
    pub(super) fn slots<'a>(&self, subnet: &'a Subnet) -> Vec<Slot<'a>> {
        let mut slots: BTreeMap<Option<PeerKind>, Vec<&Port>> = BTreeMap::new();
        for port in &subnet.ports {
            slots.entry(self.gateway_of(port)).or_default().push(port);
        }
        if slots.is_empty() {
            slots.insert(None, Vec::new());
        }
        let slots = slots.into_iter();
        slots
            .map(|(gateway, ports)| Slot { gateway, ports })
            .collect()
    }

    /// What such ports of a subnet take of what the route server learns; whether a port does is left
    /// open.
    pub(super) fn learned_use(&self, subnet: &Subnet, gateway: Option<PeerKind>) -> LearnedUse {
        LearnedUse {
            propagate: self.propagate(subnet),
            gateway,
            reach: self.spaces().map(|space| space.vnet.clone()).collect(),
            forwarding: false,
        }
    }

    /// Where the live members of the VPN gateways are that can be reached from here.
    pub(super) fn vpn_members(&self, live: &LiveMembers) -> Vec<(VnetName, IpAddr)> {
        let gateways = self.route_server.iter().flat_map(|used| &used.gateways);
        let vpn = gateways.filter(|gateway| gateway.kind == PeerKind::Vpn);
        let members = vpn.flat_map(|gateway| {
            let live = live.get(&gateway.name).into_iter().flatten();
            // What was told may be of a former configuration.
            live.filter(|member| gateway.members.include(**member))
        });
        members
            .copied()
            .filter_map(|address| Some((self.network_of(address)?.clone(), address)))
            .collect()
    }

    /// Whether a route depends on which members of the VPN gateways there are.
    pub(super) fn depends_on_members(&self) -> bool {
        let mut routes = self.tables.values().flat_map(|table| &table.routes);
        routes.any(|route| route.next_hop == UserDefinedNextHop::VirtualNetworkGateway)
    }

    fn gateway_of(&self, port: &Port) -> Option<PeerKind> {
        let mut gateways = self.route_server.iter().flat_map(|used| &used.gateways);
        let is_member =
            |members: &GatewayMembers| port.addresses.iter().any(|own| members.include(*own));
        let gateway = gateways.find(|gateway| is_member(&gateway.members));
        gateway.map(|gateway| gateway.kind)
    }
}

/// What networks are put together from, each made once.
struct Parts<'a> {
    spaces: BTreeMap<&'a VnetName, Arc<Space>>,
    /// The route servers attached to each network.
    servers: BTreeMap<&'a VnetName, Vec<Arc<UsedServer>>>,
    tables: BTreeMap<&'a RouteTableName, Arc<RouteTable>>,
    /// By the network that decided it and the one on the other side.
    peerings: BTreeMap<(&'a VnetName, &'a VnetName), &'a Peering>,
}

impl<'a> Parts<'a> {
    fn of(config: &'a Config) -> Self {
        let mut servers: BTreeMap<&VnetName, Vec<Arc<UsedServer>>> = BTreeMap::new();
        for server in &config.route_servers {
            let gateways = server.gateways.iter().map(|gateway| UsedGateway {
                name: gateway.name.clone(),
                kind: gateway.kind,
                members: gateway.members.clone(),
            });
            let used = UsedServer {
                name: server.name.clone(),
                gateways: gateways.collect(),
            };
            servers.entry(&server.vnet).or_default().push(used.into());
        }
        let space = |vnet: &'a Vnet| {
            let attached: Vec<_> = servers.get(&vnet.name).into_iter().flatten().collect();
            (&vnet.name, Space::new(vnet, &attached, config))
        };
        let peerings = config.vnets.iter().flat_map(|vnet| {
            let sides = vnet.peerings.iter();
            sides.map(|peering| ((&vnet.name, &peering.remote), peering))
        });
        let tables = config.route_tables.iter();
        Self {
            spaces: config.vnets.iter().map(space).collect(),
            tables: tables
                .map(|table| (&table.name, Arc::new(table.clone())))
                .collect(),
            peerings: peerings.collect(),
            servers,
        }
    }

    fn network(&self, vnet: &'a Vnet) -> Network {
        let mut peers: Vec<_> = self.peers(vnet).collect();
        peers.sort_by_key(|(peering, ..)| &peering.remote);
        let restricted = peers
            .iter()
            .filter(|(_, theirs, _)| !theirs.allow_forwarded_traffic)
            .map(|(ours, ..)| ours.remote.clone());
        let tables = vnet.subnets.iter().filter_map(|subnet| {
            let name = subnet.route_table.as_ref()?;
            Some((name.clone(), self.tables.get(name)?.clone()))
        });
        let remote = peers
            .iter()
            .filter(|(ours, theirs, _)| {
                ours.use_remote_route_server
                    && (theirs.allow_gateway_transit || planted!(TransitIsNotAsked))
            })
            .find_map(|(ours, ..)| self.attached_to(&ours.remote));
        Network {
            own: self.spaces[&vnet.name].clone(),
            uplink: vnet.uplink.clone(),
            subnets: vnet.subnets.clone(),
            tables: tables.collect(),
            restricted: restricted.collect(),
            route_server: self.attached_to(&vnet.name).or(remote).cloned(),
            peers: peers.into_iter().map(|(.., space)| space.clone()).collect(),
        }
    }

    /// Both sides of each peering that has two, and the network on the other side.
    fn peers(
        &self,
        vnet: &'a Vnet,
    ) -> impl Iterator<Item = (&'a Peering, &'a Peering, &Arc<Space>)> {
        vnet.peerings.iter().filter_map(|ours| {
            let theirs = self.peerings.get(&(&ours.remote, &vnet.name)).copied();
            let theirs = theirs.or(planted!(OneSideIsAPeering).then_some(ours))?;
            Some((ours, theirs, self.spaces.get(&ours.remote)?))
        })
    }

    fn attached_to(&self, vnet: &VnetName) -> Option<&Arc<UsedServer>> {
        self.servers.get(vnet)?.first()
    }
}
