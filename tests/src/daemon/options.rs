//! What a daemon's sessions are to have beyond the plain protocol, in words that every driver
//! translates into its daemon's own.

use std::{collections::BTreeMap, net::IpAddr};

use super::Policy;

/// Options of a speaker's sessions. The default: what the daemon does by itself, with 4-octet ASNs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Do not announce 4-octet ASNs: speak as before RFC 6793.
    pub two_octet_asn: bool,
    /// Offer to send several paths a prefix, both families (RFC 7911).
    pub add_path_send: bool,
    /// Offer to receive several paths a prefix, both families (RFC 7911).
    pub add_path_receive: bool,
    /// Key of TCP MD5 (RFC 2385).
    pub md5: Option<String>,
    /// The neighbour is on the next router: send with TTL 255 and take nothing from farther away
    /// (RFC 5082).
    pub ttl_security: bool,
    /// Graceful restart with this restart time in seconds (RFC 4724).
    pub graceful_restart: Option<u16>,
    /// Its long-lived form with this stale time in seconds (RFC 9494).
    pub long_lived: Option<u32>,
    /// Announce as one that has just restarted, where the daemon must be told.
    pub restarting: bool,
    /// Its role towards the neighbour (RFC 9234).
    pub role: Option<Role>,
    /// IPv4 routes with an IPv6 next hop (RFC 8950).
    pub ipv6_next_hop: bool,
    /// What it does to the routes of a session, by the neighbour's address.
    pub policies: BTreeMap<IpAddr, Policy>,
}

/// A role of RFC 9234.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the customer of its neighbour.
    Customer,
    /// It is the provider of its neighbour.
    Provider,
    /// It is the client of a route server.
    RouteServerClient,
}
