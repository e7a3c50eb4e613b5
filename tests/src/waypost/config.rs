//! The configuration of the daemon under test, written as TOML.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Serialize;

/// A whole configuration file.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[dataplane]`: whatever differs from the default.
    pub dataplane: BTreeMap<String, toml::Value>,
    /// `[[vnet]]`.
    pub vnet: Vec<Vnet>,
    /// `[[route_server]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route_server: Vec<RouteServer>,
    /// `[[route_table]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route_table: Vec<RouteTable>,
}

/// `[daemon]`.
#[derive(Clone, Debug, Serialize)]
pub struct Daemon {
    /// Unix socket.
    pub socket: PathBuf,
    /// Seconds for which adopted routes are kept.
    pub stale_time: u32,
}

/// `[[vnet]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Vnet {
    /// Name.
    pub name: String,
    /// Address space.
    pub prefixes: Vec<IpNet>,
    /// Where the Internet is without a learned default route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uplink: Vec<IpAddr>,
    /// `[[vnet.subnet]]`.
    pub subnet: Vec<Subnet>,
    /// `[[vnet.peering]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peering: Vec<Peering>,
}

/// `[[vnet.subnet]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Subnet {
    /// Name.
    pub name: String,
    /// Prefixes.
    pub prefixes: Vec<IpNet>,
    /// Name of its route table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_table: Option<String>,
    /// `[[vnet.subnet.port]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<Port>,
}

/// `[[vnet.subnet.port]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Interface of the gateway host.
    pub interface: String,
    /// Addresses of the machine behind it.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// An appliance.
    pub ip_forwarding: bool,
}

/// `[[vnet.peering]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peering {
    /// The other network.
    pub remote: String,
    /// Use its route server.
    pub use_remote_route_server: bool,
    /// Let it use this network's one.
    pub allow_gateway_transit: bool,
    /// Take packets from there that come from farther away.
    pub allow_forwarded_traffic: bool,
}

/// `[[route_table]]`.
#[derive(Clone, Debug, Serialize)]
pub struct RouteTable {
    /// Name.
    pub name: String,
    /// `true`, `false`, or a list of kinds of peer.
    pub propagate_routes: toml::Value,
    /// `[[route_table.route]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<UserRoute>,
}

/// `[[route_table.route]]`.
#[derive(Clone, Debug, Serialize)]
pub struct UserRoute {
    /// Prefix.
    pub prefix: IpNet,
    /// `virtual_appliance` and so on.
    pub next_hop_type: String,
    /// Address, with `virtual_appliance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
}

/// `[[route_server.gateway]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    /// Name.
    pub name: String,
    /// `express_route` or `vpn`.
    pub kind: String,
    /// Addresses of its members; none if they connect from a `prefix`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<IpAddr>,
    /// ASN.
    pub asn: u32,
    /// Seconds between connection attempts, to members that are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_retry: Option<u16>,
    /// Any other key of the section.
    #[serde(flatten)]
    pub settings: BTreeMap<String, toml::Value>,
}

/// `[[route_server]]`.
#[derive(Clone, Debug, Serialize)]
pub struct RouteServer {
    /// Name.
    pub name: String,
    /// Network.
    pub vnet: String,
    /// ASN.
    pub asn: u32,
    /// `[[route_server.instance]]`: two.
    pub instance: Vec<Instance>,
    /// Any other key of the section.
    #[serde(flatten)]
    pub settings: BTreeMap<String, toml::Value>,
    /// `[[route_server.peer]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<Peer>,
    /// `[[route_server.gateway]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<Gateway>,
}

/// `[[route_server.instance]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// 1 or 2.
    pub id: u8,
    /// Peer addresses.
    pub addresses: Vec<IpAddr>,
}

/// `[[route_server.peer]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// ASN.
    pub asn: u32,
    /// Wait for its connection.
    pub passive: bool,
    /// Seconds between connection attempts.
    pub connect_retry: u16,
    /// Most routes, a session and family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u32>,
    /// Any other key of the section.
    #[serde(flatten)]
    pub settings: BTreeMap<String, toml::Value>,
}

impl Config {
    /// The file's text.
    ///
    /// # Errors
    /// It cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        let mut text = toml::Value::try_from(self)?;
        // Beside the socket: it goes with the lab, and several daemons do not share it.
        let events = self.daemon.socket.with_extension("events.jsonl");
        text["daemon"]
            .as_table_mut()
            .context("[daemon] is a section")?
            .insert(
                "event_log".to_owned(),
                events.to_string_lossy().into_owned().into(),
            );
        Ok(toml::to_string(&text)?)
    }

    /// The route server of a configuration with a single one.
    ///
    /// # Panics
    /// There is none.
    pub fn peers(&mut self) -> &mut Vec<Peer> {
        &mut self.route_server[0].peer
    }

    /// The network of a configuration with a single one.
    ///
    /// # Panics
    /// There is none.
    pub fn network(&mut self) -> &mut Vnet {
        &mut self.vnet[0]
    }
}

impl Peer {
    /// The peer with another key set.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// A peer that both sides connect to.
    #[must_use]
    pub fn new(name: &str, address: IpAddr, asn: u32) -> Self {
        Self {
            name: name.to_owned(),
            address,
            asn,
            passive: false,
            connect_retry: 1,
            max_prefixes: None,
            settings: BTreeMap::new(),
        }
    }
}

impl RouteServer {
    /// Adds a section that has no field of its own: `route_map`, `learned`, `advertised`.
    ///
    /// # Panics
    /// `settings` has something else under that name.
    pub fn add(&mut self, section: &str, keys: toml::Table) {
        let sections = self.settings.entry(section.to_owned());
        let sections = sections.or_insert_with(|| toml::Value::Array(Vec::new()));
        let sections = sections.as_array_mut().expect("sections of one kind");
        sections.push(keys.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_reads_every_section_that_is_written() {
        let config = Config {
            daemon: Daemon {
                socket: "/run/waypost/waypost.sock".into(),
                stale_time: 20,
            },
            dataplane: [].into(),
            vnet: vec![hub(), spoke()],
            route_server: vec![route_server()],
            route_table: vec![RouteTable {
                name: "to-sdwan".to_owned(),
                propagate_routes: false.into(),
                route: vec![UserRoute {
                    prefix: net("0.0.0.0/0"),
                    next_hop_type: "virtual_appliance".to_owned(),
                    next_hop: Some(address("10.1.10.4")),
                }],
            }],
        };
        let text = config.to_toml().unwrap();
        let parsed = router_user::config::parse_with_warnings(&text, "x.toml");
        let parsed = parsed.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        let read = parsed.config;
        assert!(read.vnets[1].peerings[0].use_remote_route_server);
        assert_eq!(
            read.vnets[1].subnets[0].route_table,
            Some("to-sdwan".into())
        );
        assert_eq!(read.route_tables[0].routes.len(), 1);
        let server = &read.route_servers[0];
        assert!(server.branch_to_branch);
        assert_eq!(server.gateways[0].template.hold_time, 9);
        assert_eq!(server.route_maps[0].rules.len(), 1);
        assert_eq!((server.learned.len(), server.advertised.len()), (2, 1));
    }

    fn hub() -> Vnet {
        Vnet {
            name: "hub".to_owned(),
            prefixes: vec![net("10.1.0.0/16")],
            uplink: Vec::new(),
            subnet: Vec::new(),
            peering: vec![Peering {
                remote: "spoke".to_owned(),
                allow_gateway_transit: true,
                ..Peering::default()
            }],
        }
    }

    fn spoke() -> Vnet {
        Vnet {
            name: "spoke".to_owned(),
            prefixes: vec![net("10.2.0.0/16")],
            uplink: Vec::new(),
            subnet: vec![Subnet {
                name: "apps".to_owned(),
                prefixes: vec![net("10.2.1.0/24")],
                route_table: Some("to-sdwan".to_owned()),
                port: Vec::new(),
            }],
            peering: vec![Peering {
                remote: "hub".to_owned(),
                use_remote_route_server: true,
                ..Peering::default()
            }],
        }
    }

    fn route_server() -> RouteServer {
        let instance = (1..).zip(["10.1.255.4", "10.1.255.5"]);
        let instance = instance.map(|(id, own)| Instance {
            id,
            addresses: vec![address(own)],
        });
        let mut server = RouteServer {
            name: "rs1".to_owned(),
            vnet: "hub".to_owned(),
            asn: 65515,
            instance: instance.collect(),
            settings: [("branch_to_branch".to_owned(), true.into())].into(),
            peer: vec![Peer::new("sdwan", address("10.1.10.4"), 65010).set("route_map_in", "map")],
            gateway: vec![Gateway {
                name: "er1".to_owned(),
                kind: "express_route".to_owned(),
                members: vec![address("10.1.3.4")],
                asn: 65515,
                connect_retry: Some(1),
                settings: [("hold_time".to_owned(), 9.into())].into(),
            }],
        };
        server.add(
            "route_map",
            toml::toml! {
                name = "map"
                rule = [{ action = "drop" }]
            },
        );
        for prefix in ["10.8.0.0/16", "10.9.0.0/16"] {
            let mut route = toml::toml! { next_hop = ["10.1.10.4"] };
            route.insert("prefix".to_owned(), prefix.into());
            server.add("learned", route);
        }
        server.add(
            "advertised",
            toml::toml! {
                prefix = "10.99.0.0/16"
                to = ["nva"]
            },
        );
        server
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
