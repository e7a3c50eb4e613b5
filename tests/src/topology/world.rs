//! Builds a world: networks with their machines, appliances and route servers around one gateway host
//! `gw`, sites behind the appliances, and the configuration of Waypost that goes with them.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{
    plan::{Kind, Network, RouteServer, Space, Subnet},
    site::{Appliance, LAN, Site},
};
use crate::{
    lab::{Host, Lab},
    network::{Cable, Nva, UPLINK, Vm},
    overview::ROUTE_SERVER_ASN,
    waypost::config::{self, Config, Instance, Peer, Peering, RouteTable, UserRoute, Vnet},
};

/// A world of networks around one gateway host. It grows by calls, and Waypost's configuration with
/// it; daemons come after it.
#[derive(Debug)]
pub struct World<'a> {
    lab: &'a Lab,
    /// The gateway host.
    pub gw: Host,
    /// Waypost's configuration, as far as the world has been built.
    pub config: Config,
    /// Hosts and those of their interfaces on which packets come in.
    pub(super) points: Vec<(Host, Vec<String>)>,
}

impl<'a> World<'a> {
    /// An empty one.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self {
            lab,
            gw: lab.host("gw")?,
            config: Config {
                daemon: config::Daemon {
                    socket: "/run/waypost/waypost.sock".into(),
                    stale_time: 20,
                },
                dataplane: [].into(),
                vnet: Vec::new(),
                route_server: Vec::new(),
                route_table: Vec::new(),
            },
            points: Vec::new(),
        })
    }

    /// Adds a virtual network.
    ///
    /// # Errors
    /// Never.
    pub fn network(&mut self, name: &str, number: u8) -> Result<Network> {
        let network = Network {
            name: name.to_owned(),
            space: Space(number),
        };
        self.config.vnet.push(Vnet {
            name: name.to_owned(),
            prefixes: network.space.prefixes()?.to_vec(),
            uplink: Vec::new(),
            subnet: Vec::new(),
            peering: Vec::new(),
        });
        Ok(network)
    }

    /// Adds a subnet to a network.
    ///
    /// # Errors
    /// There is no such network.
    pub fn subnet(&mut self, network: &Network, name: &str, number: u8) -> Result<Subnet> {
        let subnet = Subnet {
            network: network.clone(),
            name: name.to_owned(),
            number,
        };
        let section = config::Subnet {
            name: name.to_owned(),
            prefixes: network.space.subnet(number)?.to_vec(),
            route_table: None,
            port: Vec::new(),
        };
        self.vnet(network)?.subnet.push(section);
        Ok(subnet)
    }

    /// Adds a virtual machine to a subnet.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn vm(&mut self, subnet: &Subnet, machine: u8, name: &str) -> Result<Vm> {
        let (addresses, gateways) = addresses_in(subnet, machine)?;
        let vm = Vm::attach(
            self.lab,
            &self.gw,
            name,
            [&addresses[0], &addresses[1]],
            [&gateways[0], &gateways[1]],
        )?;
        self.section(subnet)?.port.push(vm.port());
        self.point(&vm.host, UPLINK);
        Ok(vm)
    }

    /// Adds an appliance to a subnet, behind a switch: it may die with its port up, or lose the port.
    /// It knows the way to these route servers' instances, and no other.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn appliance(
        &mut self,
        subnet: &Subnet,
        machine: u8,
        name: &str,
        servers: &[&RouteServer],
    ) -> Result<Appliance> {
        let (addresses, gateways) = addresses_in(subnet, machine)?;
        let subnets = servers.iter().map(|server| server.subnet());
        let nva = Nva::attach_towards(
            self.lab,
            &self.gw,
            name,
            [&addresses[0], &addresses[1]],
            [&gateways[0], &gateways[1]],
            Cable::Switched,
            &subnets.collect::<Result<Vec<_>>>()?,
        )?;
        self.section(subnet)?.port.push(nva.port());
        self.point(nva.host(), UPLINK);
        let servers = servers.iter().map(|server| (*server).clone()).collect();
        Ok(Appliance::new(nva, &subnet.network, servers))
    }

    /// Adds a route server to a network, with a subnet and two instances.
    ///
    /// # Errors
    /// The lab refuses an instance's address.
    pub fn route_server(&mut self, network: &Network, name: &str) -> Result<RouteServer> {
        self.subnet(network, "RouteServerSubnet", RouteServer::SUBNET)?;
        let instance = |number: u8| network.space.machine(RouteServer::SUBNET, 3 + number);
        let server = RouteServer {
            name: name.to_owned(),
            network: network.clone(),
            instances: [instance(1)?, instance(2)?],
        };
        for address in server.instances.as_flattened() {
            self.gw.address("lo", (*address).into())?;
        }
        let instance = (1..).zip(server.instances);
        self.config.route_server.push(config::RouteServer {
            name: name.to_owned(),
            vnet: network.name.clone(),
            asn: ROUTE_SERVER_ASN,
            instance: instance
                .map(|(id, addresses)| Instance {
                    id,
                    addresses: addresses.to_vec(),
                })
                .collect(),
            settings: [].into(),
            peer: Vec::new(),
            gateway: Vec::new(),
        });
        Ok(server)
    }

    /// Makes an appliance a peer of a route server.
    ///
    /// # Errors
    /// There is no such route server.
    pub fn peer(&mut self, server: &RouteServer, appliance: &Appliance, asn: u32) -> Result<()> {
        let peer = Peer::new(appliance.name(), appliance.address(), asn);
        self.server(server)?.peer.push(peer);
        Ok(())
    }

    /// Makes appliances the members of a gateway.
    ///
    /// # Errors
    /// There is no such route server.
    pub fn gateway(
        &mut self,
        server: &RouteServer,
        name: &str,
        kind: Kind,
        members: &[&Appliance],
        asn: u32,
    ) -> Result<()> {
        let members = members.iter().map(|member| member.address()).collect();
        let section = kind.section(name, members, asn);
        self.server(server)?.gateway.push(section);
        Ok(())
    }

    /// Makes a gateway of whoever connects from a range.
    ///
    /// # Errors
    /// There is no such route server.
    pub fn gateway_within(
        &mut self,
        server: &RouteServer,
        name: &str,
        kind: Kind,
        range: IpNet,
        asn: u32,
    ) -> Result<()> {
        let settings = [("prefix".to_owned(), range.to_string().into())].into();
        let section = kind.section_within(name, asn, settings);
        self.server(server)?.gateway.push(section);
        Ok(())
    }

    /// Sets a key of a gateway.
    ///
    /// # Errors
    /// There is no such gateway.
    pub fn set_gateway(
        &mut self,
        server: &RouteServer,
        name: &str,
        key: &str,
        value: impl Into<toml::Value>,
    ) -> Result<()> {
        let mut gateways = self.server(server)?.gateway.iter_mut();
        let section = gateways.find(|section| section.name == name);
        let section = section.with_context(|| format!("no gateway {name}"))?;
        section.settings.insert(key.to_owned(), value.into());
        Ok(())
    }

    /// Sets a key of a route server.
    ///
    /// # Errors
    /// There is no such route server.
    pub fn set(
        &mut self,
        server: &RouteServer,
        key: &str,
        value: impl Into<toml::Value>,
    ) -> Result<()> {
        let settings = &mut self.server(server)?.settings;
        settings.insert(key.to_owned(), value.into());
        Ok(())
    }

    /// Peers a hub with a spoke, both ways. Packets that come from farther away cross it as well.
    /// With `transit` the spoke uses the hub's route server.
    ///
    /// # Errors
    /// There is no such network.
    pub fn peering(&mut self, hub: &Network, spoke: &Network, transit: bool) -> Result<()> {
        let side = |remote: &Network| Peering {
            remote: remote.name.clone(),
            allow_forwarded_traffic: true,
            ..Peering::default()
        };
        self.vnet(hub)?.peering.push(Peering {
            allow_gateway_transit: transit,
            ..side(spoke)
        });
        self.vnet(spoke)?.peering.push(Peering {
            use_remote_route_server: transit,
            ..side(hub)
        });
        Ok(())
    }

    /// Gives a subnet a route table with these routes, each a prefix and the type of its next hop,
    /// with an address for an appliance.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn route_table(
        &mut self,
        subnet: &Subnet,
        propagate: impl Into<toml::Value>,
        routes: &[(IpNet, &str, Option<IpAddr>)],
    ) -> Result<()> {
        let name = format!("{}-{}", subnet.network.name, subnet.name);
        let route = |(prefix, kind, next_hop): &(IpNet, &str, Option<IpAddr>)| UserRoute {
            prefix: *prefix,
            next_hop_type: (*kind).to_owned(),
            next_hop: *next_hop,
        };
        let table = RouteTable {
            name: name.clone(),
            propagate_routes: propagate.into(),
            route: routes.iter().map(route).collect(),
        };
        self.config.route_table.retain(|table| table.name != name);
        self.config.route_table.push(table);
        self.section(subnet)?.route_table = Some(name);
        Ok(())
    }

    /// Takes a subnet's route table away.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn no_route_table(&mut self, subnet: &Subnet) -> Result<()> {
        let name = self.section(subnet)?.route_table.take();
        let tables = &mut self.config.route_table;
        tables.retain(|table| Some(&table.name) != name.as_ref());
        Ok(())
    }

    /// Adds a site behind these appliances: a router with a link to each, and a host, both named.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn site(
        &mut self,
        router: &str,
        host: &str,
        number: u8,
        behind: &[&Appliance],
    ) -> Result<Site> {
        let site = Site::build(self.lab, router, host, Space(number), behind)?;
        for appliance in behind {
            self.point(appliance.host(), router);
            self.point(&site.router, appliance.name());
        }
        self.point(&site.router, LAN);
        self.point(&site.host, UPLINK);
        Ok(site)
    }

    /// Packets that come in here are looked at.
    pub fn point(&mut self, host: &Host, interface: &str) {
        let interface = interface.to_owned();
        let mut points = self.points.iter_mut();
        match points.find(|(known, _)| known.name() == host.name()) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => self.points.push((host.clone(), vec![interface])),
        }
    }

    /// A network's section.
    ///
    /// # Errors
    /// There is no such network.
    pub fn vnet(&mut self, network: &Network) -> Result<&mut Vnet> {
        let mut vnets = self.config.vnet.iter_mut();
        let found = vnets.find(|vnet| vnet.name == network.name);
        found.with_context(|| format!("no network {}", network.name))
    }

    /// A subnet's section.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn section(&mut self, subnet: &Subnet) -> Result<&mut config::Subnet> {
        let mut subnets = self.vnet(&subnet.network)?.subnet.iter_mut();
        let found = subnets.find(|section| section.name == subnet.name);
        found.with_context(|| format!("no subnet {}", subnet.path()))
    }

    /// A route server's section.
    ///
    /// # Errors
    /// There is no such route server.
    pub fn server(&mut self, server: &RouteServer) -> Result<&mut config::RouteServer> {
        let mut servers = self.config.route_server.iter_mut();
        let found = servers.find(|section| section.name == server.name);
        found.with_context(|| format!("no route server {}", server.name))
    }
}

fn addresses_in(subnet: &Subnet, machine: u8) -> Result<([String; 2], [String; 2])> {
    let texts = |machine| -> Result<[String; 2]> {
        let addresses = subnet.network.space.machine(subnet.number, machine)?;
        Ok(addresses.map(|address| address.to_string()))
    };
    Ok((texts(machine)?, texts(1)?))
}
