//! What the API answers, and what `waypost show … --json` prints. Field names are stable.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    bgp::{State, wire::Family},
    fib,
    names::{
        GatewayName, InterfaceName, MacAddr, PeerName, RouteServerName, SubnetName, TableName,
        VnetName,
    },
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

/// A path that a peer announced: `show learned`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LearnedRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Prefix.
    pub prefix: IpNet,
    /// Path identifier (RFC 7911), where the session has ADD-PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Name of the peer.
    pub peer: PeerName,
    /// Instance that it was announced to.
    pub instance: u8,
    /// BGP NEXT_HOP.
    pub next_hop: IpAddr,
    /// AS path as text, `65010 65020 {65030 65031}`.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MED.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities as text: `65535:65282`, `large:1:2:3`, `ext:0x…`.
    pub communities: Vec<String>,
    /// ONLY_TO_CUSTOMER (RFC 9234), attached on import where its rules say so.
    #[serde(default)]
    pub only_to_customer: Option<u32>,
    /// `best`, `multipath`, `lost` or `rejected`.
    pub state: String,
    /// Kept although its session was lost.
    pub stale: Option<Stale>,
    /// Why it lost or was rejected; why it won.
    pub reason: Option<String>,
}

/// A path as its peer announced it, before any rule of ours: `show received`. What RFC 7606 discards
/// or treats as withdrawn does not reach Adj-RIB-In.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Prefix.
    pub prefix: IpNet,
    /// Name of the peer.
    pub peer: PeerName,
    /// Instance that it was announced to.
    pub instance: u8,
    /// Path identifier (RFC 7911), where the peer sends them.
    pub path_id: Option<u32>,
    /// BGP NEXT_HOP.
    pub next_hop: IpAddr,
    /// The link-local address beside an IPv6 next hop.
    pub link_local: Option<Ipv6Addr>,
    /// AS path as text, `65010 65020 {65030 65031}`.
    pub as_path: String,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MED.
    pub med: Option<u32>,
    /// LOCAL_PREF; only from iBGP peers.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR: `65010 192.0.2.1`.
    pub aggregator: Option<String>,
    /// Communities as text: `65535:65282`, `large:1:2:3`, `ext:0x…`.
    pub communities: Vec<String>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<String>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<u32>,
    /// Attributes that are not known here: `attribute 99, flags 0xe0: 0x01020304`.
    pub unknown: Vec<String>,
}

/// A route that a session was sent: `show advertised`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdvertisedRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Name of the peer.
    pub peer: PeerName,
    /// Instance that announces it.
    pub instance: u8,
    /// Prefix.
    pub prefix: IpNet,
    /// Path identifier as sent (RFC 7911), where the session has ADD-PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// NEXT_HOP as sent.
    pub next_hop: IpAddr,
    /// AS path as sent.
    pub as_path: String,
    /// MED as sent.
    #[serde(default)]
    pub med: Option<u32>,
    /// Communities as sent, as text: `65535:0`, `large:1:2:3`, `ext:0x…`.
    #[serde(default)]
    pub communities: Vec<String>,
    /// `originated`, or the name of the peer that it was learned from.
    pub from: String,
}

/// A candidate for a prefix in a subnet: `show effective`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveRow {
    /// Virtual network.
    pub vnet: VnetName,
    /// Subnet.
    pub subnet: SubnetName,
    /// `system`, `learned`, `user_defined`.
    pub source: String,
    /// `Active` or `Invalid`.
    pub state: String,
    /// Prefix.
    pub prefix: IpNet,
    /// `VirtualNetwork`, `VNetPeering`, `VirtualAppliance`, `VirtualNetworkGateway`, `Internet`, `None`
    /// or `Host`.
    pub next_hop_type: String,
    /// Address, where the type has one.
    pub next_hop: Option<IpAddr>,
    /// AS path of a learned route.
    pub as_path: Option<String>,
    /// Peer that a learned route came from.
    pub peer: Option<PeerName>,
    /// Why it is not used; for a winner why it won, where there was a choice.
    pub reason: Option<String>,
}

/// The forwarding state as it stands in the kernel's maps: `show fib`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FibView {
    /// All routes.
    pub routes: Vec<FibRoute>,
    /// All groups.
    pub groups: Vec<FibGroup>,
    /// All next hops.
    pub next_hops: Vec<FibNextHop>,
    /// All ports.
    pub ports: Vec<FibPort>,
    /// Whether routes adopted from an earlier run are still waiting to be relearned.
    pub stale: bool,
    /// What could not be written and why, for example a full table.
    pub errors: Vec<String>,
}

/// A route of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FibRoute {
    /// Table.
    pub table: TableName,
    /// Number of the table in the maps.
    pub table_number: u32,
    /// Prefix.
    pub prefix: IpNet,
    /// Number of the group in the maps.
    pub group: u32,
    /// Where it comes from.
    pub precedence: fib::Precedence,
    /// Beats learned routes of any length.
    pub overriding: bool,
    /// Adopted, not relearned yet.
    pub stale: bool,
}

/// A next-hop group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FibGroup {
    /// Its stable name.
    pub name: String,
    /// Number in the maps.
    pub number: u32,
    /// Place of its first bucket.
    pub first_bucket: u32,
    /// Number of buckets.
    pub buckets: u32,
    /// Buckets a next hop, by its name.
    pub shares: BTreeMap<String, u32>,
}

/// A next hop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FibNextHop {
    /// Its stable name, for example `via hub 10.1.10.4`.
    pub name: String,
    /// Number in the maps.
    pub number: u32,
    /// Whether packets can be sent there.
    pub alive: bool,
    /// Port that it is reached by.
    pub port: Option<InterfaceName>,
    /// MAC address, once resolved.
    pub mac: Option<MacAddr>,
    /// Packets sent there.
    pub packets: u64,
    /// Bytes sent there.
    pub bytes: u64,
}

/// A port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FibPort {
    /// Interface.
    pub interface: InterfaceName,
    /// Number in the maps: place in the device map and the counters.
    pub number: u32,
    /// Virtual network.
    pub vnet: VnetName,
    /// Own table.
    pub own_table: TableName,
    /// Learned table.
    pub learned_table: Option<TableName>,
    /// `native`, `generic`, or why nothing is attached.
    pub attached: String,
}

/// Counters: `show counters`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// By port.
    pub ports: Vec<PortCounterRow>,
    /// By next hop.
    pub next_hops: Vec<NextHopCounterRow>,
}

/// Counters of a port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortCounterRow {
    /// Interface.
    pub interface: InterfaceName,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets that the driver lost after the verdict (`redirect_failed`).
    pub redirect_failed: u64,
    /// Packets not forwarded, by reason; zeros left out.
    pub reasons: BTreeMap<String, u64>,
}

/// Counters of a next hop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NextHopCounterRow {
    /// Its stable name.
    pub next_hop: String,
    /// Packets sent there.
    pub packets: u64,
    /// Bytes sent there.
    pub bytes: u64,
}

/// A question: where does this packet go, and why? `waypost explain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// Subnet that the packet comes from, `NAME` or `VNET/NAME`.
    pub subnet: String,
    /// Destination.
    pub to: IpAddr,
    /// Source; with it the ECMP member is told.
    pub from: Option<IpAddr>,
    /// `tcp`, `udp`, `icmp` or a number.
    pub protocol: Option<String>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Every candidate that covers the destination, longest prefix first, with state and reason.
    pub candidates: Vec<EffectiveRow>,
    /// The route that is used.
    pub route: Option<EffectiveRow>,
    /// Every path of that prefix in the RIB, with verdicts; for a learned route.
    pub paths: Vec<LearnedRow>,
    /// What the kernel's maps answer.
    pub fib: Option<FibRoute>,
    /// The group.
    pub group: Option<FibGroup>,
    /// Next hops of the group, with port and MAC address.
    pub next_hops: Vec<FibNextHop>,
    /// Bucket and next hop that the flow takes, if the question named one.
    pub flow: Option<FlowChoice>,
    /// The whole story, a sentence a line.
    pub story: Vec<String>,
}

/// Where one flow goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowChoice {
    /// The flow hash.
    pub hash: u32,
    /// Bucket of the group.
    pub bucket: u32,
    /// Next hop.
    pub next_hop: String,
}

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
    /// Newcomers refused since the start: there were as many dynamic peers as may be.
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
