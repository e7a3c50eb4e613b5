//! Where the own rows of a subnet come from: the system's, those of the network's peerings, the
//! user-defined ones of its route table, and the addresses of the gateway host.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    network::{LiveMembers, Network, Space},
    own::{Hop, OwnRow, Role},
};
use crate::{
    config::{RouteTable, UserDefinedNextHop, UserDefinedRoute},
    fib::Precedence,
    names::VnetName,
};

/// Private ranges lead nowhere until something says otherwise: RFC 1918, RFC 6598 and, likewise,
/// the unique local addresses of RFC 4193.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// Every row of a subnet of the network that has this route table.
pub(super) fn of(network: &Network, table: Option<&RouteTable>, live: &LiveMembers) -> Vec<OwnRow> {
    let mut rows: Vec<OwnRow> = system(network).collect();
    for (space, hop, role) in spaces(network) {
        let prefixes = space.prefixes.iter();
        rows.extend(prefixes.map(|prefix| system_row(*prefix, hop.clone(), role)));
        rows.extend(platform(space, &hop));
    }
    if let Some(table) = table {
        let members = network.vpn_members(live);
        let routes = table.routes.iter();
        rows.extend(routes.map(|route| user_defined(network, table, route, &members)));
    }
    rows
}

/// The network's own space and those of its peers, with the hop that delivers there.
fn spaces(network: &Network) -> impl Iterator<Item = (&Space, Hop, Role)> {
    let peers = network.peers.iter();
    let peers = peers.map(|peer| (&**peer, Hop::Peering(peer.vnet.clone()), Role::Peering));
    std::iter::once((&*network.own, Hop::VirtualNetwork, Role::Space)).chain(peers)
}

/// Private ranges and default routes.
fn system(network: &Network) -> impl Iterator<Item = OwnRow> {
    let is_owned = |range: &IpNet| {
        let mut spaces = network.spaces().flat_map(|space| &space.prefixes);
        spaces.any(|own| own.contains(range))
    };
    let private = PRIVATE
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a constant prefix"))
        .filter(move |range| !is_owned(range))
        .map(|range| system_row(range, Hop::None, Role::Private));
    let defaults = ["0.0.0.0/0", "::/0"]
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a constant prefix"))
        .map(|default| {
            system_row(
                default,
                Hop::Internet(uplink(network, &default)),
                Role::Ordinary,
            )
        });
    private.chain(defaults)
}

/// The gateway host's addresses in a network. Those that a port has are known to the data plane as
/// hosts of the network, so what delivers there reaches them too; the others are known by their rows
/// alone.
fn platform(space: &Space, delivering: &Hop) -> impl Iterator<Item = OwnRow> {
    let row = |address: &IpAddr| system_row((*address).into(), Hop::Host, Role::Platform);
    let gateways = space.gateways.iter();
    let elsewhere = space.elsewhere.difference(&space.gateways);
    gateways
        .map(move |address| OwnRow {
            delivered_by: Some(delivering.clone()),
            ..row(address)
        })
        .chain(elsewhere.map(row))
}

fn user_defined(
    network: &Network,
    table: &RouteTable,
    route: &UserDefinedRoute,
    members: &[(VnetName, IpAddr)],
) -> OwnRow {
    let prefix = route.prefix.trunc();
    let mut fault = None;
    let hop = match route.next_hop {
        UserDefinedNextHop::VirtualAppliance(address) => {
            let vnet = network.network_of(address);
            if vnet.is_none() {
                fault = Some(format!(
                    "next hop {address} lies neither in network \"{}\" nor in one that is peered \
                     with it both ways (next_hop of route table \"{}\", or vnet.peering)",
                    network.name(),
                    table.name
                ));
            }
            Hop::Appliance(vnet.unwrap_or(network.name()).clone(), address)
        }
        UserDefinedNextHop::VirtualNetworkGateway => Hop::Gateway(of_family(members, &prefix)),
        UserDefinedNextHop::VirtualNetwork => {
            let mut spaces = spaces(network);
            let within = spaces.find(|(space, ..)| {
                let mut prefixes = space.prefixes.iter();
                prefixes.any(|space| space.contains(&prefix))
            });
            within.map_or(Hop::VirtualNetwork, |(_, hop, _)| hop)
        }
        UserDefinedNextHop::Internet => Hop::Internet(uplink(network, &prefix)),
        UserDefinedNextHop::None => Hop::None,
    };
    OwnRow {
        precedence: Precedence::UserDefined,
        fault,
        ..system_row(prefix, hop, Role::Ordinary)
    }
}

/// The members of the prefix's family; if there are none, all.
fn of_family(members: &[(VnetName, IpAddr)], prefix: &IpNet) -> Vec<(VnetName, IpAddr)> {
    let is_v4 = matches!(prefix, IpNet::V4(_));
    let of_family = members
        .iter()
        .filter(|(_, address)| address.is_ipv4() == is_v4);
    let of_family: Vec<_> = of_family.cloned().collect();
    if of_family.is_empty() {
        members.to_vec()
    } else {
        of_family
    }
}

fn uplink(network: &Network, prefix: &IpNet) -> Option<IpAddr> {
    let is_v4 = matches!(prefix, IpNet::V4(_));
    let mut uplinks = network.uplink.iter();
    uplinks.find(|uplink| uplink.is_ipv4() == is_v4).copied()
}

fn system_row(prefix: IpNet, hop: Hop, role: Role) -> OwnRow {
    OwnRow {
        prefix: prefix.trunc(),
        precedence: Precedence::System,
        hop,
        role,
        fault: None,
        delivered_by: None,
    }
}
