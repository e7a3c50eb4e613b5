//! Sessions: `show peers`, `show peer`, `peer`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use crate::{
    bgp::{State, wire::Family},
    names::{GatewayName, PeerName, RouteServerName},
};

/// A session: `show peers`, one row for each (instance, peer).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Instance, 1 or 2.
    pub instance: u8,
    /// Name of the peer.
    pub peer: PeerName,
    /// It is not in the configuration: it connected from the prefix of a `dynamic_peer`, or of a
    /// gateway.
    #[serde(default)]
    pub dynamic: bool,
    /// `nva`, `express_route` or `vpn`.
    #[serde(default)]
    pub kind: String,
    /// The gateway that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayName>,
    /// Its address.
    pub address: IpAddr,
    /// Its ASN.
    pub asn: u32,
    /// Unknown, Connecting, Connected, NotConnected.
    pub connection: String,
    /// State of RFC 4271.
    pub state: State,
    /// Seconds in this state.
    pub since_seconds: Option<f64>,
    /// Families of the session (`ipv4_unicast`, `ipv6_unicast`).
    pub families: Vec<Family>,
    /// Hold time agreed on, seconds.
    pub hold_time: Option<u16>,
    /// Paths in Adj-RIB-In, rejected ones and stale ones included.
    pub received: usize,
    /// Of them, eligible.
    pub accepted: usize,
    /// Routes advertised to it.
    pub advertised: usize,
    /// What is kept of it although its session was lost, by family.
    pub stale: Vec<StaleRoutes>,
    /// Messages received.
    pub messages_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// How often it has become Established.
    pub established_count: u64,
    /// Last error, with its remedy where there is one.
    pub last_error: Option<String>,
    /// The operator has shut it down, with this text.
    #[serde(default)]
    pub shutdown: Option<String>,
    /// The operator drains it (RFC 8326).
    #[serde(default)]
    pub drained: bool,
    /// What an operator should know: "peers with instance 1 only", "announces other routes to
    /// instance 2", …
    pub warnings: Vec<String>,
}

/// Routes of one family that are kept although their session was lost (RFC 4724, RFC 9494).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StaleRoutes {
    /// The family.
    pub family: Family,
    /// How many; what the peer has announced again is none of them.
    pub routes: usize,
    /// Until when.
    #[serde(flatten)]
    pub kept: Stale,
}

/// Until when something stale is kept.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stale {
    /// Kept for long, as last choice (LLGR_STALE).
    pub long_lived: bool,
    /// Seconds until it goes, or is kept for long.
    pub seconds_left: f64,
}

/// All that is known of a session: `show peer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerDetail {
    /// What `show peers` tells.
    #[serde(flatten)]
    pub session: PeerRow,
    /// The instance's address towards the peer.
    pub local_address: Option<IpAddr>,
    /// What both sides announced, while Established.
    pub terms: Option<SessionTerms>,
    /// Timers.
    pub timers: SessionTimers,
    /// UPDATE messages received.
    pub updates_received: u64,
    /// Of them, malformed (RFC 7606), the session kept.
    pub updates_malformed: u64,
    /// Prefixes treated as withdrawn since the session came up.
    pub prefixes_malformed: usize,
    /// Routes in Adj-RIB-In, rejected ones included, by family.
    pub received_by_family: BTreeMap<Family, usize>,
    /// Of them, kept from before a restart or a refresh and not announced again yet.
    pub stale_by_family: BTreeMap<Family, usize>,
    /// Most routes, by family.
    pub max_prefixes: u32,
    /// What happens beyond.
    pub limit_action: String,
    /// Most routes that it is sent, by family; `None`: any number.
    #[serde(default)]
    pub max_advertised: Option<u32>,
    /// What happens beyond.
    #[serde(default)]
    pub advertised_limit_action: String,
    /// How the connections are protected: `TCP MD5`, …; empty: not at all.
    pub security: Vec<String>,
    /// Settings for its paths that are not at their defaults, as in the configuration.
    pub policy: Vec<String>,
    /// What the peer said when it closed the session (RFC 9003), until it is up again.
    pub shutdown_received: Option<String>,
}

/// What both sides of a session announced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionTerms {
    /// Our BGP identifier.
    pub local_router_id: Ipv4Addr,
    /// The peer's.
    pub peer_router_id: Ipv4Addr,
    /// Capabilities that we announced, as text.
    pub local_capabilities: Vec<String>,
    /// Capabilities that the peer announced, as text.
    pub peer_capabilities: Vec<String>,
    /// Families in which the peer sends path identifiers (RFC 7911).
    pub add_path_receive: Vec<Family>,
    /// Families in which we send path identifiers.
    pub add_path_send: Vec<Family>,
    /// How long the peer waits for us, seconds (RFC 4724).
    pub local_restart_time: Option<u16>,
    /// How long we wait for the peer, seconds.
    pub peer_restart_time: Option<u16>,
}

/// Timers of a session, seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SessionTimers {
    /// Hold time that we offer.
    pub hold_time_offered: u16,
    /// Hold time agreed on, while Established.
    pub hold_time: Option<u16>,
    /// Between keepalives.
    pub keepalive: Option<u16>,
    /// Between attempts to connect.
    pub connect_retry: u16,
    /// For how long the peer may take nothing (RFC 9687).
    pub send_hold_time: u16,
}

/// What became of an order for one session: `waypost peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerOrderRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Instance, 1 or 2.
    pub instance: u8,
    /// Name of the peer.
    pub peer: PeerName,
    /// Whether it was carried out.
    pub done: bool,
    /// What was done, or why nothing was.
    pub what: String,
}
