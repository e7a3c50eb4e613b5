//! `[[route_server.learned]]` and `[[route_server.advertised]]`: routes given by hand.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{CommunityValue, PeerKind};
use crate::names::PeerName;

/// `[[route_server.learned]]`: a static route, learned as if an NVA had announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLearned {
    /// The prefix.
    pub prefix: IpNet,
    /// Its next hops, at least one, sorted; more than one: an ECMP set.
    pub next_hops: Vec<IpAddr>,
}

/// `[[route_server.advertised]]`: a prefix advertised to some peers as the route server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomAdvertised {
    /// The prefix.
    pub prefix: IpNet,
    /// Who is sent it; never empty.
    pub to: Vec<Recipient>,
    /// Its NEXT_HOP; default: the instance's address.
    pub next_hop: Option<IpAddr>,
    /// Its MED.
    pub med: Option<u32>,
    /// Its communities, sorted.
    pub communities: Vec<CommunityValue>,
}

/// Who is sent a custom route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// All peers of this kind.
    Kind(PeerKind),
    /// This peer, or all members of the gateway of this name.
    Peer(PeerName),
}
