//! `[[route_table]]`: user-defined routes, and which learned ones reach a subnet.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PeerKind;
use crate::names::RouteTableName;

/// `[[route_table]]`: what subnets that name it have beside the system's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// Its name.
    pub name: RouteTableName,
    /// From which kinds of peer learned routes reach its subnets; default all.
    pub propagate: Propagate,
    /// `[[route_table.route]]`, sorted by prefix; each prefix once.
    pub routes: Vec<UserDefinedRoute>,
}

/// From which kinds of peer learned routes reach a subnet. Routes learned by hand go with those of
/// NVAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Propagate {
    /// From NVAs.
    pub nva: bool,
    /// From ExpressRoute gateways.
    pub express_route: bool,
    /// From VPN gateways.
    pub vpn: bool,
}

impl Propagate {
    /// All reach it.
    pub const ALL: Self = Self {
        nva: true,
        express_route: true,
        vpn: true,
    };

    /// None does.
    pub const NONE: Self = Self {
        nva: false,
        express_route: false,
        vpn: false,
    };

    /// Whether those from this kind of peer do.
    #[must_use]
    pub const fn from(self, kind: PeerKind) -> bool {
        match kind {
            PeerKind::Nva => self.nva,
            PeerKind::ExpressRoute => self.express_route,
            PeerKind::Vpn => self.vpn,
        }
    }
}

impl Default for Propagate {
    fn default() -> Self {
        Self::ALL
    }
}

/// `[[route_table.route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDefinedRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Where its packets go.
    pub next_hop: UserDefinedNextHop,
}

/// Where the packets of a user-defined route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDefinedNextHop {
    /// An appliance with this address in the network or in one that it is peered with.
    VirtualAppliance(IpAddr),
    /// The live members of the VPN gateway of the route server in use.
    VirtualNetworkGateway,
    /// The attached host that has the destination.
    VirtualNetwork,
    /// The network's uplink.
    Internet,
    /// Nowhere.
    None,
}
