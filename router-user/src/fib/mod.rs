//! The desired forwarding state and the changes from one state to the next. Pure: no kernel, no
//! clock.
//!
//! In: tables, routes and ports from `vnet`, liveness of next hops from `dataplane`. Out:
//! [`Change`]s in an order that never shows a packet half a change (invariant 5). Names are stable
//! and mean the same on every host; numbers of maps and interfaces are given out by `dataplane`.
//!
//! - [`Fib`]: keeps the desired state and tells what changed since it was last asked.
//! - [`SharedGroup`]: a group with its name, a hash of its contents.
//! - [`buckets`]: weighted rendezvous hashing, which spreads a group's flows over its members.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::names::{InterfaceName, MacAddr, TableName, VnetName};

pub(crate) use crate::fnv;
mod group;
mod rendezvous;
mod state;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use group::SharedGroup;
pub use rendezvous::{FlowTarget, MIN_BUCKETS, buckets};
pub use state::{Fib, RouteSpec, Totals, Usage};

/// Where packets go. It is its own stable name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum NextHop {
    /// An appliance, gateway or uplink with this address in this network.
    Via {
        /// The network.
        vnet: VnetName,
        /// Its address.
        address: IpAddr,
    },
    /// The destination itself, attached to a port of this network.
    Attached {
        /// The network.
        vnet: VnetName,
    },
    /// The gateway host's own stack.
    Host,
    /// Nowhere: dropped as `discard`.
    Discard,
    /// `Internet` without an uplink: dropped as `no_uplink`.
    NoUplink,
    /// A learned route with BLACKHOLE (RFC 7999): dropped as `blackhole`.
    Blackhole,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via { vnet, address } => write!(f, "via {vnet} {address}"),
            Self::Attached { vnet } => write!(f, "attached {vnet}"),
            Self::Host => f.write_str("host"),
            Self::Discard => f.write_str("discard"),
            Self::NoUplink => f.write_str("no uplink"),
            Self::Blackhole => f.write_str("blackhole"),
        }
    }
}

/// A group's name: a hash of its members, backups and their weights, equal on every host. It does
/// not depend on who is alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The next hop.
    pub next_hop: NextHop,
    /// Share of the flows, at least 1.
    pub weight: u32,
}

/// A next-hop group as desired.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Members, sorted; never empty.
    pub members: Vec<Member>,
    /// Used while no member is alive; sorted.
    pub backups: Vec<Member>,
}

/// The buckets of a group: what the kernel is to hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Buckets {
    /// A power of two of them; a single one for a group of one next hop without backups.
    pub buckets: Vec<Bucket>,
}

/// A bucket: chosen by weighted rendezvous hashing over stable names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// Highest score among the members that are alive.
    pub primary: NextHop,
    /// What the rebuild would choose if the primary were not alive.
    pub backup: Option<NextHop>,
}

/// Precedence at equal prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precedence {
    /// A system route.
    System,
    /// Learned by BGP.
    Learned,
    /// User-defined.
    UserDefined,
}

/// A route of a table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The group that packets take.
    pub group: GroupId,
    /// Where it comes from.
    pub precedence: Precedence,
    /// Beats learned routes of any length.
    pub overriding: bool,
    /// Lies within the network's own space: a source that follows it is at home.
    pub local: bool,
}

/// A port and the chain of tables that its packets meet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// The interface, which names the port.
    pub interface: InterfaceName,
    /// Its network.
    pub vnet: VnetName,
    /// Own table of its subnet.
    pub own_table: TableName,
    /// Learned table.
    pub learned_table: Option<TableName>,
    /// Which learned table it takes is not known yet. A port that an earlier run has left keeps its
    /// tables until it is.
    pub awaits_learned: bool,
    /// Addresses of the machine behind it.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address, if it is bound to one.
    pub mac: Option<MacAddr>,
    /// The gateway host's addresses on this port.
    pub gateways: Vec<IpAddr>,
    /// Sources are not checked.
    pub ip_forwarding: bool,
    /// Networks that take from this port's network only packets whose source is at home
    /// ([`Route::local`]), sorted.
    pub restricted: Vec<VnetName>,
}

/// One step from the present forwarding state towards the desired one. A batch, applied in order,
/// never shows a packet half a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A next hop is used from now on: resolve it and keep it resolved.
    PutNextHop(NextHop),
    /// New, or its buckets changed.
    PutGroup {
        /// Its name.
        id: GroupId,
        /// Its buckets.
        buckets: Arc<Buckets>,
    },
    /// New or replaced.
    PutRoute {
        /// In which table.
        table: TableName,
        /// The prefix.
        prefix: IpNet,
        /// The route.
        route: Route,
    },
    /// New, or changed.
    PutPort(Port),
    /// The port is no longer Waypost's.
    RemovePort(InterfaceName),
    /// The route is gone.
    RemoveRoute {
        /// From which table.
        table: TableName,
        /// The prefix.
        prefix: IpNet,
    },
    /// The table is empty and no port names it.
    RemoveTable(TableName),
    /// No route names it.
    RemoveGroup(GroupId),
    /// No group names it.
    RemoveNextHop(NextHop),
    /// All that was to be relearned after a start has been: what was adopted and is not part of the
    /// desired state may go.
    Synchronised,
}

/// Liveness of a next hop, as `dataplane` sees it (link, neighbour).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Liveness {
    /// The next hop.
    pub next_hop: NextHop,
    /// Whether packets can be sent there.
    pub alive: bool,
}
