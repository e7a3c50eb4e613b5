//! `[[vnet.peering]]`: one network's side of a connection with another one.

use crate::names::VnetName;

/// `[[vnet.peering]]`: what one network has decided about its peering with another one. Packets cross
/// only where both sides have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The network on the other side.
    pub remote: VnetName,
    /// What the other side's route server learns applies here too, and it advertises this network's
    /// prefixes; needs `allow_gateway_transit` on the other side; default false.
    pub use_remote_route_server: bool,
    /// The other side may use this network's route server; default false.
    pub allow_gateway_transit: bool,
    /// Packets from the other side are taken although their source lies outside its space; default
    /// false.
    pub allow_forwarded_traffic: bool,
}

impl Peering {
    /// A peering with all settings at their defaults.
    #[must_use]
    pub const fn new(remote: VnetName) -> Self {
        Self {
            remote,
            use_remote_route_server: false,
            allow_gateway_transit: false,
            allow_forwarded_traffic: false,
        }
    }
}
