//! Routes: `show received`, `show learned`, `show advertised`, `show effective`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Stale;
use crate::names::{PeerName, RouteServerName, SubnetName, VnetName};

/// A path that was learned: `show learned`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedRow {
    /// Route server.
    pub route_server: RouteServerName,
    /// Prefix.
    pub prefix: IpNet,
    /// Path identifier (RFC 7911), where the session has ADD-PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_id: Option<u32>,
    /// Name of the peer; `static` for static routes.
    pub peer: PeerName,
    /// Instance that it was announced to; 0 for a static route, which the route server has by hand.
    pub instance: u8,
    /// It was not announced: the peer's inbound route map made it of what the peer announced.
    #[serde(default)]
    pub aggregate: bool,
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
    /// `best`, `multipath`, `lost` or `rejected`; in an answer of `explain`, which tells what a subnet
    /// sees, also `excluded`: the subnet does not take it.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `igp`, `egp` or `incomplete`.
    #[serde(default)]
    pub origin: String,
    /// MED as sent.
    #[serde(default)]
    pub med: Option<u32>,
    /// LOCAL_PREF as sent; only to iBGP peers.
    #[serde(default)]
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    #[serde(default)]
    pub atomic_aggregate: bool,
    /// AGGREGATOR: `65010 192.0.2.1`.
    #[serde(default)]
    pub aggregator: Option<String>,
    /// Communities as sent, as text: `65535:0`, `large:1:2:3`, `ext:0x…`.
    #[serde(default)]
    pub communities: Vec<String>,
    /// ORIGINATOR_ID (RFC 4456); only to iBGP peers.
    #[serde(default)]
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456); only to iBGP peers.
    #[serde(default)]
    pub cluster_list: Vec<String>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    #[serde(default)]
    pub only_to_customer: Option<u32>,
    /// Attributes that are not known here: `attribute 99, flags 0xe0: 0x01020304`.
    #[serde(default)]
    pub unknown: Vec<String>,
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
    /// Whose ports of the subnet the row is for, where they do not all see the same: `express_route` or
    /// `vpn` (those of the members of such gateways), `others`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
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
