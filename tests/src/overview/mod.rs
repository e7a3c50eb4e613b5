//! Topology 1, the overview: an SD-WAN appliance with a site behind it, firewalls with the Internet
//! behind them, two virtual machines, and Waypost on the gateway host between them all.
//!
//! ```text
//!   office ── site ── sdwan ──┐              ┌── fw  ──┐
//! 10.250.0.10  65011   65010  ├── gw ────────┼── fw2 ──┼── internet 198.51.100.10
//!                   vm1, vm2 ─┘  Waypost     └── fw3 ──┘
//!                                 65515          65020
//! ```

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Frr, Neighbor, Options, Speaker},
    lab::Host,
    network::{Nva, Vm},
    topology::{self, Network, Space},
    waypost::{
        Waypost,
        config::{self, Config, Instance, Peer, RouteServer, Subnet, Vnet},
    },
};

mod build;
mod changes;
pub mod narrator;
pub mod paths;
pub mod story;

/// The route server's ASN.
pub const ROUTE_SERVER_ASN: u32 = 65515;
/// The SD-WAN appliance's ASN.
pub const SDWAN_ASN: u32 = 65010;
/// The site router's ASN.
pub const SITE_ASN: u32 = 65011;
/// The firewalls' ASN.
pub const FIREWALL_ASN: u32 = 65020;

/// Peer addresses of instances 1 and 2, IPv4 and IPv6.
pub const INSTANCES: [[&str; 2]; 2] = [
    ["10.1.255.4", "fd00:1:0:ff::4"],
    ["10.1.255.5", "fd00:1:0:ff::5"],
];
/// The network's space.
pub const NETWORK: [&str; 2] = ["10.1.0.0/16", "fd00:1::/48"];
/// The site's space.
pub const SITE: [&str; 2] = ["10.250.0.0/16", "fd00:250::/48"];
/// A host of the site.
pub const OFFICE: [&str; 2] = ["10.250.0.10", "fd00:250::10"];
/// A host of the Internet.
pub const INTERNET: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
/// The default routes.
pub const DEFAULT: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Restart time of the appliances, seconds: Waypost keeps their routes so long, and they keep its
/// routes as long as it asks for.
const RESTART_TIME: u16 = 60;

/// How long BGP may take to bring up a session and spread a route.
pub const CONVERGENCE: Duration = Duration::from_secs(20);

/// Hosts, links and machines of topology 1, without daemons.
#[derive(Debug)]
pub struct Overview {
    /// The gateway host.
    pub gw: Host,
    /// In subnet `apps`.
    pub vm1: Vm,
    /// In subnet `data`.
    pub vm2: Vm,
    /// In subnet `nva`.
    pub sdwan: Nva,
    /// In subnet `firewall`; as many as asked for.
    pub firewalls: Vec<Nva>,
    /// The site's router.
    pub site: Host,
    /// A host behind it.
    pub office: Host,
    /// A host behind the firewalls.
    pub internet: Host,
}

impl Overview {
    /// The configuration of Waypost: both virtual machines, the SD-WAN and all firewalls as ports,
    /// the SD-WAN and the first firewall as peers.
    ///
    /// # Errors
    /// Never: the texts are constant.
    pub fn config(&self) -> Result<Config> {
        let subnet = |name: &str, prefixes: [&str; 2], port: Vec<config::Port>| -> Result<Subnet> {
            Ok(Subnet {
                name: name.to_owned(),
                prefixes: prefixes_of(prefixes)?,
                route_table: None,
                port,
            })
        };
        let firewalls = self.firewalls.iter().map(Nva::port).collect();
        let network = Vnet {
            name: "hub".to_owned(),
            prefixes: prefixes_of(NETWORK)?,
            uplink: Vec::new(),
            peering: Vec::new(),
            subnet: vec![
                subnet(
                    "RouteServerSubnet",
                    ["10.1.255.0/27", "fd00:1:0:ff::/64"],
                    vec![],
                )?,
                subnet(
                    "apps",
                    ["10.1.1.0/24", "fd00:1:0:1::/64"],
                    vec![self.vm1.port()],
                )?,
                subnet(
                    "data",
                    ["10.1.2.0/24", "fd00:1:0:2::/64"],
                    vec![self.vm2.port()],
                )?,
                subnet(
                    "nva",
                    ["10.1.10.0/24", "fd00:1:0:a::/64"],
                    vec![self.sdwan.port()],
                )?,
                subnet("firewall", ["10.1.20.0/24", "fd00:1:0:14::/64"], firewalls)?,
            ],
        };
        let mut instance = Vec::new();
        for (id, addresses) in (1..).zip(INSTANCES) {
            let addresses = addresses.iter().map(|address| address.parse());
            instance.push(Instance {
                id,
                addresses: addresses.collect::<Result<_, _>>()?,
            });
        }
        let mut peer = vec![Peer::new("sdwan", self.sdwan.vm.addresses[0], SDWAN_ASN)];
        peer.extend(self.firewalls.first().map(firewall_peer));
        Ok(Config {
            daemon: config::Daemon {
                socket: "/run/waypost/waypost.sock".into(),
                stale_time: 20,
            },
            dataplane: [].into(),
            vnet: vec![network],
            route_server: vec![RouteServer {
                name: "rs1".to_owned(),
                vnet: "hub".to_owned(),
                asn: ROUTE_SERVER_ASN,
                instance,
                peer,
                gateway: Vec::new(),
                settings: [].into(),
            }],
            route_table: Vec::new(),
        })
    }

    /// Starts BIRD on the SD-WAN: it peers with both instances and with the site's router.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_sdwan(&self) -> Result<Bird> {
        self.start_sdwan_with(Self::appliance_options())
    }

    /// The same, with other options.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_sdwan_with(&self, options: Options) -> Result<Bird> {
        let mut speaker = nva_speaker(&self.sdwan, SDWAN_ASN)?;
        speaker.options = options;
        for [local, address] in SITE_LINK {
            speaker.neighbors.push(Neighbor {
                address: address.parse()?,
                local: local.parse()?,
                asn: SITE_ASN,
                passive: false,
                multihop: false,
                plain: false,
            });
        }
        Bird::start(self.sdwan.host(), speaker)
    }

    /// Starts BIRD on the site's router: it announces the site.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_site(&self) -> Result<Bird> {
        let mut neighbors = Vec::new();
        let mut addresses = Vec::new();
        for [address, local] in SITE_LINK {
            addresses.push(local.parse()?);
            neighbors.push(Neighbor {
                address: address.parse()?,
                local: local.parse()?,
                asn: SDWAN_ASN,
                passive: false,
                multihop: false,
                plain: false,
            });
        }
        let speaker = Speaker {
            asn: SITE_ASN,
            router_id: "10.250.255.2".parse()?,
            addresses,
            neighbors,
            announce: prefixes_of(SITE)?,
            underlay: Vec::new(),
            install: true,
            // It keeps what the SD-WAN told it in each form that the SD-WAN asks for.
            options: Options {
                long_lived: Some(RESTART_TIME.into()),
                ..Self::appliance_options()
            },
        };
        Bird::start(&self.site, speaker)
    }

    /// Starts FRR on a firewall: it announces the default routes.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_firewall(&self, number: usize) -> Result<Frr> {
        self.start_firewall_with(number, Self::appliance_options())
    }

    /// The same, with other options.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_firewall_with(&self, number: usize, options: Options) -> Result<Frr> {
        let firewall = &self.firewalls[number];
        let mut speaker = nva_speaker(firewall, FIREWALL_ASN)?;
        speaker.options = options;
        speaker.announce = prefixes_of(DEFAULT)?;
        Frr::start(firewall.host(), speaker)
    }

    /// Brings everything of the overview up: Waypost, the SD-WAN with its site, the first firewall;
    /// and waits until each has learned, and the kernel's maps hold, what they should.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(&self) -> Result<Running> {
        self.start_with(self.config()?)
    }

    /// The same, with a configuration that differs.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start_with(&self, config: Config) -> Result<Running> {
        self.start_with_sdwan(config, Self::appliance_options())
    }

    /// The options of an appliance's sessions.
    #[must_use]
    pub fn appliance_options() -> Options {
        Options {
            graceful_restart: Some(RESTART_TIME),
            ..Options::default()
        }
    }

    /// The same, with other options of the SD-WAN's sessions.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start_with_sdwan(&self, config: Config, sdwan: Options) -> Result<Running> {
        let running = Running {
            waypost: Waypost::start(&self.gw, config)?,
            site: self.start_site()?,
            sdwan: self.start_sdwan_with(sdwan)?,
            firewall: self.start_firewall(0)?,
        };
        running.waypost.established(&["sdwan", "fw"])?;
        for prefix in SITE.into_iter().chain(DEFAULT) {
            running.waypost.programmed(prefix)?;
        }
        let site_link: Vec<IpAddr> = site_link_addresses(0)?;
        for (prefix, from) in NETWORK.into_iter().zip(site_link) {
            running.site.learns(prefix.parse()?, from, CONVERGENCE)?;
        }
        for prefix in NETWORK {
            running
                .firewall
                .learns(prefix.parse()?, instance(1)?, CONVERGENCE)?;
        }
        Ok(running)
    }
}

/// The daemons of the overview.
#[derive(Debug)]
pub struct Running {
    /// On the gateway host.
    pub waypost: Waypost,
    /// On the site's router.
    pub site: Bird,
    /// On the SD-WAN.
    pub sdwan: Bird,
    /// On the first firewall.
    pub firewall: Frr,
}

/// IPv4 address of an instance.
///
/// # Errors
/// Never: the texts are constant.
pub fn instance(number: usize) -> Result<IpAddr> {
    Ok(INSTANCES[number - 1][0].parse()?)
}

/// A firewall as a peer of the route server.
#[must_use]
pub fn firewall_peer(firewall: &Nva) -> Peer {
    Peer::new(
        firewall.host().name(),
        firewall.vm.addresses[0],
        FIREWALL_ASN,
    )
}

/// The network, as topologies know it.
#[must_use]
pub fn hub() -> Network {
    Network {
        name: "hub".to_owned(),
        space: Space(1),
    }
}

/// Its route server.
///
/// # Errors
/// Never: the texts are constant.
pub fn route_server() -> Result<topology::RouteServer> {
    let [first, second] = INSTANCES;
    Ok(topology::RouteServer {
        name: "rs1".to_owned(),
        network: hub(),
        instances: [addresses_of(first)?, addresses_of(second)?],
    })
}

/// Texts as addresses.
///
/// # Errors
/// One is no address.
pub fn addresses_of([ipv4, ipv6]: [&str; 2]) -> Result<[IpAddr; 2]> {
    Ok([ipv4.parse()?, ipv6.parse()?])
}

/// Texts as prefixes.
///
/// # Errors
/// One is no prefix.
pub fn prefixes_of(texts: [&str; 2]) -> Result<Vec<IpNet>> {
    Ok(texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?)
}

/// An appliance's speaker: it peers with both instances over IPv4, both families in each session,
/// and forwards by what it learns. Without options.
///
/// # Errors
/// Never: the texts are constant.
pub fn nva_speaker(nva: &Nva, asn: u32) -> Result<Speaker> {
    let [ipv4, _] = nva.vm.addresses;
    let router_id = match ipv4 {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("the first address is the IPv4 one"),
    };
    let mut neighbors = Vec::new();
    for number in [1, 2] {
        neighbors.push(Neighbor {
            address: instance(number)?,
            local: ipv4,
            asn: ROUTE_SERVER_ASN,
            passive: false,
            multihop: true,
            plain: false,
        });
    }
    let underlay = prefixes_of(NETWORK)?.into_iter().zip(nva.vm.gateways);
    Ok(Speaker {
        asn,
        router_id,
        addresses: nva.vm.addresses.to_vec(),
        neighbors,
        announce: Vec::new(),
        underlay: underlay.collect(),
        install: true,
        options: Options::default(),
    })
}

/// Addresses of the SD-WAN and of the site's router on the link between them.
const SITE_LINK: [[&str; 2]; 2] = [
    ["10.250.255.1", "10.250.255.2"],
    ["fd00:250:0:ff::1", "fd00:250:0:ff::2"],
];

/// Addresses on the link between SD-WAN (0) and site router (1), IPv4 and IPv6.
///
/// # Errors
/// Never: the texts are constant.
pub fn site_link_addresses(end: usize) -> Result<Vec<IpAddr>> {
    let addresses = SITE_LINK.iter().map(|ends| ends[end].parse());
    Ok(addresses.collect::<Result<_, _>>()?)
}
