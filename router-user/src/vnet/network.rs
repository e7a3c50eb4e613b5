//! A virtual network as its routes depend on it: the part of the configuration that, if it stays
//! equal, leaves everything equal.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    config::{Config, Subnet},
    names::{RouteServerName, SubnetName, VnetName},
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Network {
    pub(super) name: VnetName,
    pub(super) prefixes: Vec<IpNet>,
    pub(super) uplink: Vec<IpAddr>,
    pub(super) subnets: Vec<Subnet>,
    /// The route server whose learned routes apply here.
    pub(super) route_server: Option<RouteServerName>,
    /// Addresses of the gateway host itself: gateways of the subnets, instances of route servers.
    pub(super) host_addresses: BTreeSet<IpAddr>,
}

impl Network {
    pub(super) fn all_of(config: &Config) -> BTreeMap<VnetName, Self> {
        config
            .vnets
            .iter()
            .map(|vnet| {
                let mut servers = config
                    .route_servers
                    .iter()
                    .filter(|server| server.vnet == vnet.name)
                    .peekable();
                let route_server = servers.peek().map(|server| server.name.clone());
                let instances = servers.flat_map(|server| &server.instances);
                let network = Self {
                    name: vnet.name.clone(),
                    prefixes: vnet.prefixes.clone(),
                    uplink: vnet.uplink.clone(),
                    subnets: vnet.subnets.clone(),
                    route_server,
                    host_addresses: vnet
                        .subnets
                        .iter()
                        .flat_map(|subnet| &subnet.gateways)
                        .chain(instances.flat_map(|instance| &instance.addresses))
                        .copied()
                        .collect(),
                };
                (vnet.name.clone(), network)
            })
            .collect()
    }

    pub(super) fn subnet(&self, name: &SubnetName) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.name == *name)
    }
}
