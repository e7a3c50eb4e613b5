//! The gateway host's own addresses in the subnets: hosts of their network that packets reach without
//! leaving by a port. So no table needs a route for each of them, and peered networks find them too.

use std::net::IpAddr;

use router_common::maps::{NO_PORT, Neighbor};
use tracing::warn;

use super::{
    kernel::{Host, Maps},
    next_hops::host_key,
    ports::PortState,
    reconciler::Reconciler,
};
use crate::{fib, names::VnetName};

impl<M: Maps, H: Host> Reconciler<M, H> {
    /// Publishes the host's addresses on a port; those that only the port as it was before had, go.
    pub(super) fn put_gateways(&mut self, port: &fib::Port, vnet: u32, before: Option<&PortState>) {
        for address in &port.gateways {
            let gateway = (port.vnet.clone(), *address);
            self.gateways.insert(gateway, port.interface.clone());
            let key = host_key(vnet, *address);
            let neighbor = Neighbor {
                port: NO_PORT,
                vnet,
                address: key.address,
                ..Neighbor::default()
            };
            if let Err(error) = self.publish_host(key, neighbor) {
                warn!(port = %port.interface, %address, "gateway is not programmed: {error}");
            }
        }
        if let Some(before) = before {
            self.remove_gateways(before, |vnet, address| {
                *vnet == port.vnet && port.gateways.contains(&address)
            });
        }
    }

    /// Removes the host's addresses on a former port, but for those that it keeps and those that
    /// another port of the network has.
    pub(super) fn remove_gateways(
        &mut self,
        before: &PortState,
        keeps: impl Fn(&VnetName, IpAddr) -> bool,
    ) {
        let vnet = &before.config.vnet;
        for address in &before.config.gateways {
            if keeps(vnet, *address) {
                continue;
            }
            let gateway = (vnet.clone(), *address);
            self.gateways.remove(&gateway, &before.config.interface);
            if self.gateways.of(&gateway).next().is_none() {
                self.remove_host(host_key(before.vnet, *address), NO_PORT);
            }
        }
    }
}
