//! `[[route_server.gateway]]`: ExpressRoute and VPN gateways.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Peer;
use crate::names::GatewayName;

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// A network virtual appliance.
    Nva,
    /// A member of an ExpressRoute gateway.
    ExpressRoute,
    /// A member of a VPN gateway.
    Vpn,
}

impl PeerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nva, Self::ExpressRoute, Self::Vpn];

    /// Its word in the configuration and in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nva => "nva",
            Self::ExpressRoute => "express_route",
            Self::Vpn => "vpn",
        }
    }
}

/// Which of a few gateways a peer is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The gateway.
    pub gateway: GatewayName,
    /// Its kind, [`PeerKind::ExpressRoute`] or [`PeerKind::Vpn`].
    pub kind: PeerKind,
}

/// `[[route_server.gateway]]`: a gateway with its members, each of which is a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name; the members are called by it and their address.
    pub name: GatewayName,
    /// Its kind, [`PeerKind::ExpressRoute`] or [`PeerKind::Vpn`].
    pub kind: PeerKind,
    /// Who belongs to it.
    pub members: GatewayMembers,
    /// What each member is to be; name and address are its own, [`Peer::membership`] is set.
    pub template: Peer,
}

/// Who belongs to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayMembers {
    /// These; the route server connects to them as well.
    Addresses(Vec<IpAddr>),
    /// Whoever connects from there.
    Range {
        /// The gateway's subnet, or a part of it.
        prefix: IpNet,
        /// Most of them at a time; default 16.
        max_members: u16,
    },
}
