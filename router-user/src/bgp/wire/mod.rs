//! The BGP-4 codec: bytes to typed values and back. No sockets, no timers, no state.
//!
//! Decoding borrows the buffer, goes over it once, never panics and never allocates per prefix.
//! Every error knows its NOTIFICATION (RFC 4271 §6) or, for UPDATEs, its RFC 7606 disposition.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// An autonomous system number, always 4 octets inside (RFC 6793).
pub type Asn = u32;

/// AS_TRANS (RFC 6793 §9).
pub const AS_TRANS: Asn = 23456;

/// An address family that Waypost routes: SAFI unicast (RFC 4760).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

/// A route's key within a session: prefix and path identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Nlri {
    /// The prefix, host bits zero.
    pub prefix: IpNet,
    /// Path identifier (RFC 7911); 0 without ADD-PATH.
    pub path_id: u32,
}

/// ORIGIN (RFC 4271 §5.1.1); lower is preferred.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Origin {
    /// 0.
    #[default]
    Igp = 0,
    /// 1.
    Egp = 1,
    /// 2.
    Incomplete = 2,
}

/// NEXT_HOP, or the next hop of MP_REACH_NLRI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NextHop {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6, with the link-local address where both were sent (RFC 2545 §3).
    V6 {
        /// The global address (or the link-local one, if it came alone).
        global: Ipv6Addr,
        /// The link-local address.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that packets are sent to.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(address),
            Self::V6 { global, .. } => IpAddr::V6(global),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 {
                global,
                link_local: None,
            },
        }
    }
}

/// A segment of an AS path (RFC 4271 §4.3, RFC 5065).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AsSegment {
    /// What the numbers mean.
    pub kind: AsSegmentKind,
    /// 1 to 255 AS numbers on the wire; longer sequences are split when encoded.
    pub asns: SmallVec<[Asn; 6]>,
}

/// Kinds of AS path segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AsSegmentKind {
    /// Unordered (deprecated by RFC 9774).
    Set = 1,
    /// Ordered.
    Sequence = 2,
    /// Ordered, within a confederation.
    ConfedSequence = 3,
    /// Unordered, within a confederation.
    ConfedSet = 4,
}

/// AS_PATH, 4-octet, merged with AS4_PATH where the speaker is old (RFC 6793 §4.2.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AsPath {
    /// The segments, nearest neighbour first.
    pub segments: SmallVec<[AsSegment; 1]>,
}

/// AGGREGATOR (RFC 4271 §5.1.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its identifier.
    pub id: Ipv4Addr,
}

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

/// Well-known communities.
pub mod community {
    /// RFC 1997.
    pub const NO_EXPORT: u32 = 0xFFFF_FF01;
    /// RFC 1997.
    pub const NO_ADVERTISE: u32 = 0xFFFF_FF02;
    /// RFC 8326.
    pub const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;
    /// RFC 7999.
    pub const BLACKHOLE: u32 = 0xFFFF_029A;
    /// RFC 9494.
    pub const LLGR_STALE: u32 = 0xFFFF_0006;
}

/// A capability of an OPEN (RFC 5492).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Capability {
    /// RFC 4760: (AFI, SAFI).
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 8950: (NLRI AFI, NLRI SAFI, next hop AFI).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 9234: role value.
    Role(u8),
    /// RFC 4724.
    GracefulRestart {
        /// R and N bits, the top four bits of the first octet.
        flags: u8,
        /// Seconds, 12 bits.
        restart_time: u16,
        /// (AFI, SAFI, flags).
        families: Vec<(u16, u8, u8)>,
    },
    /// RFC 6793.
    FourOctetAsn(Asn),
    /// RFC 7911: (AFI, SAFI, 1 receive | 2 send).
    AddPath(Vec<(u16, u8, u8)>),
    /// RFC 7313.
    EnhancedRouteRefresh,
    /// RFC 9494: (AFI, SAFI, flags, seconds).
    LongLivedGracefulRestart(Vec<(u16, u8, u8, u32)>),
    /// Any other.
    Unknown {
        /// Code.
        code: u8,
        /// Value.
        value: Box<[u8]>,
    },
}

/// An OPEN message (RFC 4271 §4.2, RFC 9072).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The 4-octet ASN where the capability was sent, else My Autonomous System.
    pub asn: Asn,
    /// Seconds; 0 or at least 3.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// All capabilities, in order.
    pub capabilities: Vec<Capability>,
}

/// What both sides of a session agreed on, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Our ASN on this session.
    pub local_asn: Asn,
    /// The peer's ASN.
    pub peer_asn: Asn,
    /// Our identifier.
    pub local_router_id: Ipv4Addr,
    /// The peer's identifier.
    pub peer_router_id: Ipv4Addr,
    /// Our address on the connection.
    pub local_address: IpAddr,
    /// Seconds; 0: no keepalives.
    pub hold_time: u16,
    /// Families that both announced.
    pub families: Vec<Family>,
    /// Both speak 4-octet ASNs.
    pub four_octet_asn: bool,
    /// The peer takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// The peer takes enhanced ROUTE-REFRESH.
    pub enhanced_route_refresh: bool,
    /// Both take messages of up to 65,535 bytes.
    pub extended_message: bool,
    /// Families in which the peer sends path identifiers.
    pub add_path_receive: Vec<Family>,
    /// Families in which we send path identifiers.
    pub add_path_send: Vec<Family>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer's graceful restart capability: (restart time in seconds, families).
    pub graceful_restart: Option<(u16, Vec<Family>)>,
}

/// A NOTIFICATION (RFC 4271 §4.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

/// What becomes of an UPDATE with a malformed attribute (RFC 7606 §2), in increasing severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Disposition {
    /// The attribute is dropped, the routes stay.
    AttributeDiscard,
    /// The UPDATE's routes are treated as withdrawn.
    TreatAsWithdraw,
    /// The session is reset with a NOTIFICATION.
    SessionReset,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The family of a prefix.
    #[must_use]
    pub const fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4Unicast,
            IpNet::V6(_) => Self::Ipv6Unicast,
        }
    }
}

impl From<Ipv4Net> for Nlri {
    fn from(prefix: Ipv4Net) -> Self {
        Self {
            prefix: prefix.into(),
            path_id: 0,
        }
    }
}

impl From<Ipv6Net> for Nlri {
    fn from(prefix: Ipv6Net) -> Self {
        Self {
            prefix: prefix.into(),
            path_id: 0,
        }
    }
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, path_id: 0 }
    }
}

// -- The operations, to be found in the submodules: ------------------------------------------------
//
// reading   frame(buffer, max) -> Result<Option<usize>, Notification>      header.rs
//             length of the first whole message in the buffer, or None if more bytes are needed
//           decode(message, &Context) -> Result<Message<'_>, Notification> message.rs
//             Message::{Open(Open), Update(Update<'_>), Notification, Keepalive, RouteRefresh}
//           Update<'_>: withdrawn/announced as borrowed iterators of Nlri, attributes parsed once,
//             faults with their Disposition; into_changes() -> Vec<RouteChange>
// writing   Open::encode, Notification::encode, keepalive(), route_refresh()  -> into BytesMut
//           encode_announce(&Context, &PathAttributes, nlri iterator, &mut BytesMut)
//             one or more UPDATEs of one family, packed full
//           encode_withdraw(&Context, nlri iterator, &mut BytesMut), encode_end_of_rib(Family, ..)
