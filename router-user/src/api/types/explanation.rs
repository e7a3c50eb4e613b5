//! `explain`: a question about a packet, and its answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EffectiveRow, FibGroup, FibNextHop, FibRoute, LearnedRow};

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
