//! The configuration: TOML text to a [`Config`] that cannot hold the invalid case.
//!
//! In: a file. Out: a [`Config`], or every fault found, each with file, line and remedy.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    bgp::{InstanceId, wire::Asn},
    names::{InterfaceName, MacAddr, RouteServerName, RouteTableName, SubnetName, VnetName},
};

mod claims;
mod custom;
mod diff;
mod fault;
mod gateway;
pub mod host;
mod instance;
mod network;
mod networks;
mod parse;
mod peer;
mod peering;
mod peers;
mod places;
mod route_map;
mod route_server;
mod route_table;
pub mod schema;
mod section;
mod space;
mod special;
mod subnet;
#[cfg(test)]
mod tests;
mod values;

pub use custom::{CustomAdvertised, CustomLearned, Recipient};
pub use fault::{Fault, Faults};
pub use gateway::{Gateway, GatewayMembers, Membership, PeerKind};
pub use parse::{DEFAULT_BPFFS, DEFAULT_EVENT_LOG, DEFAULT_SOCKET, parse, parse_with_warnings};
pub use peer::{DynamicPeers, LimitAction, Peer, PeerPolicy};
pub use peering::Peering;
pub use places::Places;
pub use route_map::{
    AsPathPattern, AsPathRegex, CommunityValue, Match, PatternError, PrefixPattern, RouteChanges,
    RouteMap, RouteMapAction, RouteMapRule, RouteMaps, SourcePattern,
};
pub use route_table::{Propagate, RouteTable, UserDefinedNextHop, UserDefinedRoute};

/// A configuration that was read, with what else the file told.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// What is allowed but deserves a second thought.
    pub warnings: Vec<Fault>,
    /// Lines of what [`host::check`] looks at.
    pub places: Places,
}

/// Why a file gave no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("cannot read {path}: {error}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is no text.
    #[error("{path}:{line}: this is not UTF-8; save the file as such")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The first line that is not.
        line: usize,
    },
    /// It was read and is not valid.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Where a daemon's configuration comes from, at its start and at each reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The socket that the command line names in place of the file's.
    pub socket: Option<PathBuf>,
}

impl Source {
    /// Reads the file and puts on top of it what the command line says.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has faults.
    pub fn load(&self) -> Result<Parsed, LoadError> {
        let mut parsed = load(&self.file)?;
        self.complete(&mut parsed.config);
        Ok(parsed)
    }

    /// Puts on top of a configuration what the command line says.
    pub fn complete(&self, config: &mut Config) {
        if let Some(socket) = &self.socket {
            config.daemon.socket.clone_from(socket);
        }
    }
}

/// Reads a configuration file.
///
/// # Errors
///
/// The file cannot be read, or has faults.
pub fn load(path: &Path) -> Result<Parsed, LoadError> {
    let text = read(path)?;
    Ok(parse_with_warnings(&text, &path.to_string_lossy())?)
}

/// Reads the text of a configuration file.
///
/// # Errors
///
/// The file cannot be read, or is no text.
pub fn read(path: &Path) -> Result<String, LoadError> {
    let bytes = std::fs::read(path).map_err(|error| LoadError::Read {
        path: path.to_owned(),
        error,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let text = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        LoadError::Encoding {
            path: path.to_owned(),
            line: 1 + text.iter().filter(|byte| **byte == b'\n').count(),
        }
    })
}

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: DaemonConfig,
    /// `[dataplane]`.
    pub dataplane: DataplaneConfig,
    /// `[[vnet]]`.
    pub vnets: Vec<Vnet>,
    /// `[[route_table]]`.
    pub route_tables: Vec<RouteTable>,
    /// `[[route_server]]`.
    pub route_servers: Vec<RouteServer>,
}

/// `[daemon]`: the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Unix socket of the API; default `/run/waypost/waypost.sock`.
    pub socket: PathBuf,
    /// TCP port of BGP; default 179.
    pub bgp_port: u16,
    /// How long adopted routes are kept unless all peers have sent End-of-RIB; default 120 s.
    pub stale_time: Duration,
    /// Where events are kept; default `/var/lib/waypost/events.jsonl`.
    pub event_log: Option<PathBuf>,
    /// Most bytes of them; default 64 MiB.
    pub event_log_size: u64,
    /// Where metrics are served over TCP besides the socket; default: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// `[dataplane]`: the maps and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Name of the pins' folder: `<bpffs>/waypost/<instance>/<layout>/`; default `default`.
    pub instance: String,
    /// Where bpffs is mounted; default `/sys/fs/bpf`.
    pub bpffs: PathBuf,
    /// Refuse a port whose driver has no native XDP instead of using the generic mode.
    pub require_native: bool,
    /// Size of `routes_v4`.
    pub max_routes_v4: u32,
    /// Size of `routes_v6`.
    pub max_routes_v6: u32,
    /// Seed of the flow hash.
    pub flow_seed: u64,
    /// ICMP errors a second and CPU at the most.
    pub icmp_rate: u32,
}

/// `[[vnet]]`: a virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnet {
    /// Its name.
    pub name: VnetName,
    /// Its address space, sorted; no two overlap.
    pub prefixes: Vec<IpNet>,
    /// Where the system default route (`Internet`) leads: an address in the network for IPv4, for
    /// IPv6; without one such packets are dropped and counted.
    pub uplink: Vec<IpAddr>,
    /// Its subnets, each within the address space; no two overlap.
    pub subnets: Vec<Subnet>,
    /// `[[vnet.peering]]`: one for each network on the other side.
    pub peerings: Vec<Peering>,
}

/// `[[vnet.subnet]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its name.
    pub name: SubnetName,
    /// At least one prefix.
    pub prefixes: Vec<IpNet>,
    /// The gateway host's own address in each prefix (default: the first usable one); source of
    /// ICMP errors.
    pub gateways: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The route table that applies to it.
    pub route_table: Option<RouteTableName>,
}

/// `[[vnet.subnet.port]]`: an interface of the gateway host with a virtual machine or an
/// appliance behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The interface; one port each.
    pub interface: InterfaceName,
    /// Addresses of the machine behind it, each within the subnet; none twice in a network.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address: the only one that frames may come from. Without one it is learned by
    /// ARP/ND and not checked.
    pub mac: Option<MacAddr>,
    /// Sources are not checked: an NVA or a gateway.
    pub ip_forwarding: bool,
}

/// `[[route_server]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteServer {
    /// Its name.
    pub name: RouteServerName,
    /// The network that it is attached to.
    pub vnet: VnetName,
    /// Its ASN; default 65515.
    pub asn: Asn,
    /// Its instances: numbers 1 and 2.
    pub instances: [Instance; 2],
    /// Whether routes of one NVA are advertised to the others; default true.
    pub reflect_between_nvas: bool,
    /// Largest number of ECMP members; default 8, at most 64.
    pub max_paths: u8,
    /// How long peers are to wait for it while it restarts, seconds; default 120.
    pub restart_time: u16,
    /// How long a peer that announces its routes again may take, seconds (RFC 7313 §4); default 600.
    pub refresh_time: u16,
    /// A peer without a policy announces and learns nothing (RFC 8212); default false.
    pub require_policy: bool,
    /// Connections accepted from one address, a second; default 10.
    pub connection_rate: u16,
    /// Whether routes pass between NVAs and gateways, and between ExpressRoute and VPN gateways;
    /// default false.
    pub branch_to_branch: bool,
    /// Which kind of source is preferred; default ExpressRoute.
    pub routing_preference: RoutingPreference,
    /// MEDs of different neighbour ASes are compared as well; default false.
    pub always_compare_med: bool,
    /// As route reflector of gateways that share its ASN (RFC 4456); default: the router id of
    /// instance 1.
    pub cluster_id: Ipv4Addr,
    /// Number of peers beyond which a warning is given; default 8.
    pub soft_max_peers: u16,
    /// `[[route_server.peer]]`.
    pub peers: Vec<Peer>,
    /// `[[route_server.dynamic_peer]]`.
    pub dynamic_peers: Vec<DynamicPeers>,
    /// `[[route_server.gateway]]`.
    pub gateways: Vec<Gateway>,
    /// `[[route_server.route_map]]`.
    pub route_maps: Vec<RouteMap>,
    /// The route maps of peers that name none of their own, by their kind.
    pub route_maps_of_kind: BTreeMap<PeerKind, RouteMaps>,
    /// `[[route_server.learned]]`.
    pub learned: Vec<CustomLearned>,
    /// `[[route_server.advertised]]`.
    pub advertised: Vec<CustomAdvertised>,
}

/// Which kind of source is preferred: step 3 of the decision process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RoutingPreference {
    /// ExpressRoute before VPN and NVA.
    #[default]
    ExpressRoute,
    /// VPN and NVA before ExpressRoute.
    VpnGateway,
    /// None: the AS path decides.
    AsPath,
}

impl RoutingPreference {
    /// Its word in the configuration and in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ExpressRoute => "express_route",
            Self::VpnGateway => "vpn_gateway",
            Self::AsPath => "as_path",
        }
    }
}

impl RouteServer {
    /// A route server without peers, with all settings at their defaults.
    #[must_use]
    pub fn new(name: RouteServerName, vnet: VnetName, instances: [Instance; 2]) -> Self {
        Self {
            branch_to_branch: false,
            routing_preference: RoutingPreference::default(),
            always_compare_med: false,
            cluster_id: instances[0].router_id,
            soft_max_peers: 8,
            gateways: Vec::new(),
            route_maps: Vec::new(),
            route_maps_of_kind: BTreeMap::new(),
            learned: Vec::new(),
            advertised: Vec::new(),
            name,
            vnet,
            asn: route_server::DEFAULT_ASN,
            instances,
            reflect_between_nvas: true,
            max_paths: 8,
            restart_time: 120,
            refresh_time: 600,
            require_policy: false,
            connection_rate: 10,
            peers: Vec::new(),
            dynamic_peers: Vec::new(),
        }
    }
}

/// `[[route_server.instance]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// 1 or 2.
    pub id: InstanceId,
    /// BGP identifier; default: its IPv4 address.
    pub router_id: Ipv4Addr,
    /// Peer addresses: at most one IPv4 and one IPv6.
    pub addresses: Vec<IpAddr>,
}
