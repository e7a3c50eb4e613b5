//! Path attributes (RFC 4271 §4.3, §5): the typed set that routes share, and a file for each
//! attribute or close family of attributes that reads and writes its value.

pub(super) mod aggregator;
pub(super) mod as4;
pub(super) mod as_path;
mod as_path_text;
pub mod community;
mod encode;
pub(super) mod mp;
mod name;
mod next_hop;
mod number;
mod origin;
mod raw;
mod reader;

use std::net::Ipv4Addr;

pub use aggregator::Aggregator;
pub use as_path::{AsPath, AsSegment, AsSegmentKind};
pub(super) use encode::encode;
pub use name::AttributeCode;
pub use next_hop::NextHop;
pub use origin::Origin;
pub(super) use raw::{Header, flags};
pub(super) use reader::Attributes;

use super::Asn;

/// An attribute that the codec does not know, kept if optional transitive.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UnknownAttribute {
    /// Flags octet without the extended-length bit; the partial bit set when passed on.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Box<[u8]>,
}

/// The path attributes of a route, NEXT_HOP included, whichever attribute carried it. Equal
/// routes share one allocation (`rib` interns them).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// NEXT_HOP or MP_REACH_NLRI's; `None` only while a route that the route server originates
    /// has not been addressed to a session yet.
    pub next_hop: Option<NextHop>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; only from and to iBGP peers.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE is present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997), sorted, without duplicates.
    pub communities: Vec<u32>,
    /// EXTENDED COMMUNITIES (RFC 4360), sorted, without duplicates.
    pub extended_communities: Vec<[u8; 8]>,
    /// LARGE_COMMUNITY (RFC 8092): global administrator, two local parts; sorted, no duplicates.
    pub large_communities: Vec<[u32; 3]>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<Asn>,
    /// Unknown optional transitive attributes, by code.
    pub unknown: Vec<UnknownAttribute>,
}
