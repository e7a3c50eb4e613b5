//! Waypost: a route server for virtual networks with an XDP data plane.
//!
//! Data flows one way, each stage handing typed changes to the next:
//!
//! ```text
//! bytes → bgp::wire → bgp::session → rib → route_server → vnet → fib → dataplane → XDP
//! ```
//!
//! What flows back is only routes to advertise (`rib` → `bgp`) and liveness, an input of `fib`.
//! `daemon` wires the stages together and is the only place that knows them all.

/// Whether this fault is planted; without the feature `planted-faults` none ever is.
#[cfg(feature = "planted-faults")]
macro_rules! planted {
    ($fault:ident) => {
        crate::planted::is_planted(crate::planted::Fault::$fault)
    };
}

#[cfg(not(feature = "planted-faults"))]
macro_rules! planted {
    ($fault:ident) => {
        false
    };
}

pub mod api;
pub mod bgp;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod events;
pub mod fib;
mod fnv;
mod memory;
pub mod names;
mod netlink;
#[cfg(feature = "planted-faults")]
pub mod planted;
pub mod rib;
pub mod route_server;
pub mod vnet;
