//! `explain`: a question about a packet, and its answer.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{EffectiveRow, FibGroup, FibNextHop, FibRoute, LearnedRow};
use crate::names::{PeerName, RouteServerName};

/// A question: where does this packet go, and why? `waypost explain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// Subnet that the packet comes from, `NAME` or `VNET/NAME`.
    pub subnet: String,
    /// Destination.
    pub to: IpAddr,
    /// Interface of the port of that subnet that the packet comes through; without it the one that has
    /// `from`.
    pub port: Option<String>,
    /// Source; with it the ECMP member is told, and whether the packet is let in.
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
    /// Bucket and next hop that the flow takes, if the question named one and it is let in.
    pub flow: Option<FlowChoice>,
    /// Routes to the destination that peers announced and that were refused.
    pub refused: Vec<RefusedRoute>,
    /// The whole story, a sentence a line.
    pub story: Vec<String>,
}

/// A route that was refused because its peer announces more than it may (`limit_action = "discard"`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedRoute {
    /// Route server.
    pub route_server: RouteServerName,
    /// Name of the peer.
    pub peer: PeerName,
    /// Instance that it was announced to.
    pub instance: u8,
    /// Prefix; none where the peer was refused more routes than are remembered: one to the destination
    /// may be among them.
    pub prefix: Option<IpNet>,
    /// How many routes of a family the peer may announce.
    pub max_prefixes: u32,
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
