//! `[[vnet.peering]]`: one network's side of a connection with another one.

use std::collections::HashMap;

use super::{
    claims::Claims,
    fault::Report,
    network::Network,
    networks::Networks,
    schema,
    section::{Located, Section},
    values::Name,
};
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

/// Where in the file a peering's decisions stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeeringPlaces {
    pub(super) remote: usize,
    pub(super) use_remote_route_server: usize,
    pub(super) allow_gateway_transit: usize,
}

/// Reads the peerings of one network into it.
pub(super) fn read_all(section: &Section<'_, '_>, network: &mut Network, report: &mut Report) {
    let mut seen: HashMap<VnetName, usize> = HashMap::new();
    for section in section.subsections("peering", &schema::PEERING, report) {
        let remote = section.required_text::<Name>("remote", report);
        let flag = |key: &str, report: &mut Report| section.boolean(key, false, report);
        let use_remote_route_server = flag("use_remote_route_server", report);
        let allow_gateway_transit = flag("allow_gateway_transit", report);
        let allow_forwarded_traffic = flag("allow_forwarded_traffic", report);
        let Some(Located { value, at }) = remote else {
            continue;
        };
        let remote = VnetName::from(value.0);
        let own = &network.vnet.name;
        if remote == *own {
            report.fault(
                at,
                format!("network {own} has a peering with itself"),
                "name another network, or leave the peering out",
            );
            continue;
        }
        if let Some(first) = seen.insert(remote.clone(), at) {
            let line = report.line_of(first);
            report.fault(
                at,
                format!("network {own} has two peerings with {remote} (line {line})"),
                "keep one of them",
            );
            continue;
        }
        network.vnet.peerings.push(Peering {
            remote,
            use_remote_route_server,
            allow_gateway_transit,
            allow_forwarded_traffic,
        });
        network.peering_places.push(PeeringPlaces {
            remote: at,
            use_remote_route_server: section.place("use_remote_route_server"),
            allow_gateway_transit: section.place("allow_gateway_transit"),
        });
    }
}

/// Which networks have route servers, once all of those are read.
pub(super) struct Served<'r> {
    /// The route server of each network that has one.
    pub(super) claims: &'r Claims<VnetName>,
    /// Of every route server it is known to which network it belongs.
    pub(super) complete: bool,
}

/// Holds what the two sides of each peering say against each other.
pub(super) fn check(networks: &Networks, served: &Served<'_>, report: &mut Report) {
    for (index, network) in networks.iter().enumerate() {
        let mut used: Option<&VnetName> = None;
        for (peering, places) in network.vnet.peerings.iter().zip(&network.peering_places) {
            let side = Side {
                own: &network.vnet.name,
                peering,
                places,
                served,
            };
            if let Some(remote) = networks.find(&peering.remote) {
                side.check(networks.side(remote, index), report);
            }
            if peering.use_remote_route_server {
                side.check_used(used, report);
                used = used.or(Some(&peering.remote));
            }
        }
    }
}

/// One side of a peering, while it is checked.
struct Side<'r> {
    own: &'r VnetName,
    peering: &'r Peering,
    places: &'r PeeringPlaces,
    served: &'r Served<'r>,
}

impl Side<'_> {
    /// Checks it against the other side, which there may not be.
    fn check(&self, other: Option<&Peering>, report: &mut Report) {
        let (own, remote) = (self.own, &self.peering.remote);
        let uses = self.peering.use_remote_route_server;
        if uses && !other.is_some_and(|other| other.allow_gateway_transit) {
            report.fault(
                self.places.use_remote_route_server,
                format!(
                    "network {own} uses the route server of {remote}, which does not allow that"
                ),
                format!(
                    "set allow_gateway_transit = true in the [[vnet.peering]] of {remote} with {own}"
                ),
            );
        } else if other.is_none() {
            report.warning(
                self.places.remote,
                format!(
                    "network {own} is peered with {remote}, but {remote} not with {own}: no packet crosses"
                ),
                format!("add a [[vnet.peering]] with remote = \"{own}\" to network {remote}"),
            );
        }
        if !self.served.complete {
            return;
        }
        if uses && self.served.claims.owner(remote).is_none() {
            report.fault(
                self.places.use_remote_route_server,
                format!("network {own} uses the route server of {remote}, which has none"),
                format!(
                    "attach a [[route_server]] to {remote}, or leave use_remote_route_server out"
                ),
            );
        }
        if self.peering.allow_gateway_transit && self.served.claims.owner(own).is_none() {
            report.warning(
                self.places.allow_gateway_transit,
                format!("network {own} lets {remote} use its route server, but has none"),
                format!("attach a [[route_server]] to {own}, or leave allow_gateway_transit out"),
            );
        }
    }

    /// A network uses its own route server or that of one other network; `used`: the one that it uses
    /// by an earlier peering.
    fn check_used(&self, used: Option<&VnetName>, report: &mut Report) {
        let (own, remote) = (self.own, &self.peering.remote);
        let at = self.places.use_remote_route_server;
        if let Some((server, _)) = self.served.claims.owner(own) {
            report.fault(
                at,
                format!("network {own} has {server} and uses that of {remote} as well"),
                "leave use_remote_route_server out: a network with a route server uses its own",
            );
        }
        if let Some(used) = used {
            report.fault(
                at,
                format!("network {own} uses the route servers of {used} and {remote}"),
                "set use_remote_route_server in one peering only",
            );
        }
    }
}
