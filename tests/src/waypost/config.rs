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
    pub route_server: Vec<RouteServer>,
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
}

/// `[[vnet.subnet]]`.
#[derive(Clone, Debug, Serialize)]
pub struct Subnet {
    /// Name.
    pub name: String,
    /// Prefixes.
    pub prefixes: Vec<IpNet>,
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
