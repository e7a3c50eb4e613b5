//! What the kernel has: `show fib`, `show counters`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    fib,
    names::{InterfaceName, MacAddr, TableName, VnetName},
};

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
    /// Lies within the network's own space: packets whose source follows it are at home, and are no
    /// forwarded traffic.
    pub local: bool,
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
    /// Sources of packets are not checked.
    pub ip_forwarding: bool,
    /// Networks that take from this port only what is at home in its network (`local`), sorted.
    pub restricted: Vec<VnetName>,
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
