//! The daemon itself: `status`, `reload`, and why a request was not served.

use serde::{Deserialize, Serialize};

use crate::names::RouteServerName;

/// The daemon: `waypost status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of Waypost.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// The configuration file.
    pub config: String,
    /// Seconds since the daemon started.
    pub uptime_seconds: f64,
    /// Every session that came up has sent End-of-RIB, or `stale_time` has passed: what an earlier
    /// run left in the kernel is gone.
    pub synchronised: bool,
    /// The route servers.
    pub route_servers: Vec<RouteServerStatus>,
    /// Number of virtual networks.
    pub vnets: usize,
    /// Number of ports.
    pub ports: usize,
}

/// A route server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteServerStatus {
    /// Its name.
    pub name: RouteServerName,
    /// Its ASN.
    pub asn: u32,
    /// Sessions that are configured.
    pub sessions: usize,
    /// Sessions that are Established.
    pub established: usize,
    /// Instances that were stopped by `waypost instance stop`.
    pub stopped_instances: Vec<u8>,
    /// Peers that are not in the configuration.
    #[serde(default)]
    pub dynamic_peers: usize,
    /// Newcomers refused since the start: there were as many dynamic peers as may be, or no section has
    /// their address any longer.
    #[serde(default)]
    pub newcomers_refused: u64,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What changed, a sentence a line; empty: nothing did.
    pub changes: Vec<String>,
    /// What deserves a second thought.
    pub warnings: Vec<String>,
}

/// Why a request was not served: the body of every answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}
