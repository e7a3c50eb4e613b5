//! Lines of what is checked against the host, after the file itself was found good.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use crate::names::{InterfaceName, PeerName, RouteServerName};

/// Where in the file interfaces, instance addresses and peers stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The file, as the operator named it.
    pub(super) file: Arc<str>,
    /// Line of each port's interface.
    pub(super) interfaces: HashMap<InterfaceName, usize>,
    /// Line of each instance's address.
    pub(super) instance_addresses: HashMap<IpAddr, usize>,
    /// Line of each section of a peer, of dynamic peers and of a gateway.
    pub(super) peers: HashMap<(RouteServerName, PeerName), usize>,
}
