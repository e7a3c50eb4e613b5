//! What another configuration would change: `waypost plan`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AdvertisedRow, EffectiveRow, LearnedRow};
use crate::{
    fib,
    names::{InterfaceName, PeerName, RouteServerName, TableName, VnetName},
};

/// What another configuration would change: `plan`. Nothing of it has been applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What differs in the configuration, a sentence a line; as `reload` would tell.
    pub changes: Vec<String>,
    /// What deserves a second thought; as `check` and `reload` would tell.
    pub warnings: Vec<String>,
    /// Every session of either configuration, and what becomes of it.
    pub sessions: Vec<PlannedSession>,
    /// Paths of peers that come, go, or have another state or other attributes.
    pub learned: Vec<PlannedLearned>,
    /// What sessions that are up and stay, or come back, would be sent otherwise.
    pub advertised: Vec<PlannedAdvertised>,
    /// Rows of subnets that come, go, or have another state or next hop.
    pub effective: Vec<PlannedEffective>,
    /// What would be written into the kernel's maps.
    pub forwarding: PlannedForwarding,
}

/// What becomes of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSession {
    /// Route server.
    pub route_server: RouteServerName,
    /// Instance, 1 or 2.
    pub instance: u8,
    /// Name of the peer.
    pub peer: PeerName,
    /// Address of the peer.
    pub address: IpAddr,
    /// Whether it is up now.
    pub up: bool,
    /// `kept`; `added`: it is tried, and nothing is known of its routes; `removed`; `reset`: it is closed
    /// and comes back; `closed` because of a limit.
    pub change: String,
    /// Why, and what the plan takes for granted.
    pub why: Option<String>,
}

/// A path of a peer, before and after; null where there is none. Where only the reason differs it is
/// left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedLearned {
    /// As it is.
    pub before: Option<LearnedRow>,
    /// As it would be.
    pub after: Option<LearnedRow>,
}

/// A route that a session is sent, before and after: announced where there is none before, withdrawn
/// where there is none after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAdvertised {
    /// As it is.
    pub before: Option<AdvertisedRow>,
    /// As it would be.
    pub after: Option<AdvertisedRow>,
}

/// A candidate of a subnet, before and after; null where there is none. Where only the reason differs it
/// is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEffective {
    /// As it is.
    pub before: Option<EffectiveRow>,
    /// As it would be.
    pub after: Option<EffectiveRow>,
}

/// What would be written into the kernel's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedForwarding {
    /// Routes of tables, by table and prefix. A subnet whose own rows change moves to another table.
    pub routes: Vec<PlannedRoute>,
    /// Ports.
    pub ports: Vec<PlannedPort>,
    /// Tables that are new.
    pub tables_added: Vec<TableName>,
    /// Tables that are gone.
    pub tables_removed: Vec<TableName>,
    /// Number of next-hop groups that are new.
    pub groups_added: usize,
    /// Number of next-hop groups that are gone.
    pub groups_removed: usize,
    /// Next hops that are new, by stable name.
    pub next_hops_added: Vec<String>,
    /// Next hops that are gone, by stable name.
    pub next_hops_removed: Vec<String>,
}

/// A route of a table, before and after; null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRoute {
    /// Table.
    pub table: TableName,
    /// Prefix.
    pub prefix: IpNet,
    /// As it is.
    pub before: Option<PlannedWay>,
    /// As it would be.
    pub after: Option<PlannedWay>,
}

/// Where packets go by a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWay {
    /// Next hops by their stable names, with ` weight N` where it is not 1.
    pub next_hops: Vec<String>,
    /// Those that take over while none of them is alive.
    pub backups: Vec<String>,
    /// Where the route comes from.
    pub precedence: fib::Precedence,
    /// Beats learned routes of any length.
    pub overriding: bool,
    /// Lies within the network's own space.
    pub local: bool,
}

/// A port, before and after; null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPort {
    /// Interface.
    pub interface: InterfaceName,
    /// As it is.
    pub before: Option<PlannedPlace>,
    /// As it would be.
    pub after: Option<PlannedPlace>,
}

/// Where a port stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPlace {
    /// Virtual network.
    pub vnet: VnetName,
    /// Own table.
    pub own_table: TableName,
    /// Learned table.
    pub learned_table: Option<TableName>,
    /// Addresses of the machine behind it.
    pub addresses: Vec<IpAddr>,
    /// Sources are not checked.
    pub ip_forwarding: bool,
    /// Networks that take from its network only packets whose source is at home.
    pub restricted: Vec<VnetName>,
}

impl Plan {
    /// Whether a reload would do nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
