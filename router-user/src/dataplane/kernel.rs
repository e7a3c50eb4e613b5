//! The kernel side as the reconciler sees it: maps, XDP links, interfaces and neighbours.
//!
//! In: single writes in the order in which packets may meet them. Out: what the maps hold.
//! [`MapSet`](super::maps::MapSet) and [`Linux`](super::linux::Linux) are the real ones; unit tests record what a fake is told.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use router_common::{
    maps::{
        Bucket, Group, HostKey, Name, Neighbor, NextHop, NextHopCounters, Port, RestrictedKey,
        RouteEntry, Settings,
    },
    reason::PortCounters,
};

use crate::names::{InterfaceName, MacAddr};

/// Key of a route: table number and prefix. Its family says which trie it lives in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct RouteKey {
    pub(super) table: u32,
    pub(super) prefix: IpNet,
}

impl RouteKey {
    /// Name of the trie that holds it.
    pub(super) const fn map(&self) -> &'static str {
        match self.prefix {
            IpNet::V4(_) => "routes_v4",
            IpNet::V6(_) => "routes_v6",
        }
    }
}

/// Sizes of the maps, entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) groups: u32,
    pub(super) buckets: u32,
    pub(super) next_hops: u32,
    pub(super) neighbors: u32,
    pub(super) ports: u32,
    pub(super) devices: u32,
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    /// No room for a new entry.
    #[error("{map} is full: its size is fixed in this build")]
    Full {
        /// The map.
        map: &'static str,
    },
    /// A call failed.
    #[error("{what}: {source}")]
    Call {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The port cannot be used as it is; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
}

impl KernelError {
    pub(super) fn call(what: impl Into<String>, source: io::Error) -> Self {
        Self::Call {
            what: what.into(),
            source,
        }
    }
}

/// A run of route writes that stopped: the first `written` stand.
#[derive(Debug)]
pub(super) struct Interrupted {
    pub(super) written: usize,
    pub(super) error: KernelError,
}

/// Reads all routes, on any thread.
pub(super) type RouteDump =
    Box<dyn FnOnce() -> Result<Vec<(RouteKey, RouteEntry)>, KernelError> + Send>;

/// An interface of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: InterfaceName,
    pub(super) mac: MacAddr,
    /// Layer 3, bytes.
    pub(super) mtu: u32,
    /// Administratively up and with a carrier.
    pub(super) up: bool,
}

/// What the kernel's neighbour table says about an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reachability {
    /// REACHABLE, STALE, DELAY or PROBE, with its MAC address.
    Usable(MacAddr),
    /// PERMANENT or NOARP. It is not asked: the kernel would forget the address that it was given.
    Fixed(MacAddr),
    /// Does not answer.
    Failed,
    /// Nothing is known (yet); what was known before still holds.
    Unknown,
}

/// A change on the host, from netlink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// New or changed.
    Link(Link),
    /// Gone.
    LinkGone { ifindex: u32 },
    Neighbour {
        ifindex: u32,
        address: IpAddr,
        reachability: Reachability,
    },
    /// An address of the host on an interface came or went.
    Address { ifindex: u32 },
}

/// How a program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attached {
    /// In the driver.
    Native,
    /// After the driver, slower.
    Generic,
    /// An older build's program forwards until the new maps are filled.
    Waiting,
}

/// Writes and reads of maps. A write returns once XDP can see it.
pub(super) trait Maps {
    fn sizes(&self) -> Sizes;
    fn put_settings(&mut self, settings: Settings) -> Result<(), KernelError>;

    /// Writes routes in order, stops at the first that is refused.
    fn put_routes(&mut self, routes: &[(RouteKey, RouteEntry)]) -> Result<(), Interrupted>;
    /// Whether there was one.
    fn remove_route(&mut self, key: &RouteKey) -> Result<bool, KernelError>;
    /// The longest prefix of `table` that covers `prefix`.
    fn route(&self, table: u32, prefix: IpNet) -> Result<Option<RouteEntry>, KernelError>;
    fn dump_routes(&self) -> RouteDump;

    fn group(&self, number: u32) -> Group;
    fn set_group(&mut self, number: u32, group: Group);
    fn bucket(&self, place: u32) -> Bucket;
    fn set_bucket(&mut self, place: u32, bucket: Bucket);
    fn next_hop(&self, number: u32) -> NextHop;
    fn set_next_hop_kind(&mut self, number: u32, kind: u32);
    fn set_next_hop_neighbor(&mut self, number: u32, place: u32);
    fn set_next_hop_down(&mut self, number: u32, down: bool);

    fn neighbor(&self, place: u32) -> Result<Neighbor, KernelError>;
    fn write_neighbor(&mut self, place: u32, neighbor: Neighbor) -> Result<(), KernelError>;
    fn port(&self, place: u32) -> Result<Port, KernelError>;
    fn write_port(&mut self, place: u32, port: Port) -> Result<(), KernelError>;

    /// (ifindex, place) of each published port.
    fn published_ports(&self) -> Result<Vec<(u32, u32)>, KernelError>;
    fn publish_port(&mut self, ifindex: u32, place: u32) -> Result<(), KernelError>;
    fn unpublish_port(&mut self, ifindex: u32) -> Result<(), KernelError>;
    fn published_hosts(&self) -> Result<Vec<(HostKey, u32)>, KernelError>;
    fn publish_host(&mut self, key: HostKey, place: u32) -> Result<(), KernelError>;
    fn unpublish_host(&mut self, key: HostKey) -> Result<(), KernelError>;
    fn restricted(&self) -> Result<Vec<RestrictedKey>, KernelError>;
    fn put_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError>;
    fn remove_restricted(&mut self, key: RestrictedKey) -> Result<(), KernelError>;
    /// Sets or clears the port's place in the device map.
    fn set_device(&mut self, port: u32, ifindex: Option<u32>) -> Result<(), KernelError>;

    fn names(&self) -> Result<Vec<(Name, u32)>, KernelError>;
    fn put_name(&mut self, name: Name, number: u32) -> Result<(), KernelError>;
    fn remove_name(&mut self, name: Name) -> Result<(), KernelError>;

    fn port_counters(&self, port: u32) -> Result<PortCounters, KernelError>;
    fn reset_port_counters(&mut self, port: u32) -> Result<(), KernelError>;
    fn next_hop_counters(&self, number: u32) -> Result<NextHopCounters, KernelError>;
    fn reset_next_hop_counters(&mut self, number: u32) -> Result<(), KernelError>;
}

/// XDP links and the host's network.
pub(super) trait Host {
    /// Makes the interface fit to be a port: kernel forwarding off, neighbour timers short.
    fn prepare(&mut self, name: &InterfaceName, ifindex: u32) -> Result<(), KernelError>;
    /// Attaches the program, or replaces the one that an adopted link runs.
    fn attach(&mut self, name: &InterfaceName, ifindex: u32) -> Result<Attached, KernelError>;
    fn detach(&mut self, name: &InterfaceName) -> Result<(), KernelError>;
    /// Ports with a pinned link, also from an earlier run.
    fn attached(&self) -> Vec<InterfaceName>;
    /// The maps hold all there is: links that wait are switched to the new program, and what an
    /// older build pinned is removed.
    fn finish_adoption(&mut self) -> Vec<(InterfaceName, Result<Attached, KernelError>)>;

    /// Asks whether the neighbour still answers, and keeps asking.
    fn probe(&mut self, ifindex: u32, address: IpAddr) -> Result<(), KernelError>;
    fn forget_neighbour(&mut self, ifindex: u32, address: IpAddr);
    /// The interface that the host's own routes lead to.
    fn interface_towards(&mut self, address: IpAddr) -> Option<u32>;
    /// Packets that the drivers of these interfaces lost after the verdict.
    fn redirect_failed(&mut self, name: &InterfaceName, ifindex: u32) -> u64;
}
