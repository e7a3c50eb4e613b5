//! Networks, their peerings and their route tables.

use std::{collections::BTreeMap, net::IpAddr};

use arbitrary::{Result, Unstructured};

use super::{
    super::model::{Kind, Network, Peering, Port, Prefix, Server, State, Subnet, Table, Way},
    NETWORKS,
    paths::prefix,
    scope,
};
use crate::pick;

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// In the network of this place: third byte and host of IPv4, and the same for IPv6.
pub(super) fn hosts(network: usize, subnet: u8, host: u8) -> [IpAddr; 2] {
    let number = network + 1;
    [
        address(&format!("10.{number}.{subnet}.{host}")),
        address(&format!("fd00:{number}:0:{subnet}::{host}")),
    ]
}

pub(super) fn network(place: usize) -> Network {
    let number = place + 1;
    let subnet = |third: u8| Subnet {
        prefixes: vec![
            Prefix::read(&format!("10.{number}.{third}.0/24")),
            Prefix::read(&format!("fd00:{number}:0:{third}::/64")),
        ],
        host: hosts(place, third, 1).into(),
        table: (scope::ROUTE_TABLES && third != GATEWAYS).then_some(place % 2),
        ports: Vec::new(),
    };
    let mut subnets = [APPS, NVAS, GATEWAYS].map(subnet);
    subnets[0].ports.push(Port {
        addresses: hosts(place, APPS, 4).into(),
        forwards: false,
    });
    Network {
        prefixes: [
            Prefix::read(&format!("10.{number}.0.0/16")),
            Prefix::read(&format!("fd00:{number}::/48")),
        ]
        .into(),
        uplink: Vec::new(),
        peerings: BTreeMap::new(),
        subnets: subnets.into(),
    }
}

/// Third bytes of the subnets' prefixes, in order.
const APPS: u8 = 1;
pub(super) const NVAS: u8 = 10;
pub(super) const GATEWAYS: u8 = 3;

/// Gives each peer its port.
pub(super) fn place(state: &mut State, server: &Server) {
    for peer in &server.peers {
        let subnet = if peer.kind == Kind::Nva { 1 } else { 2 };
        state.networks[server.network].subnets[subnet]
            .ports
            .push(Port {
                addresses: vec![peer.address],
                forwards: true,
            });
    }
}

pub(super) fn table() -> Table {
    Table {
        propagate: Kind::ALL.into(),
        routes: BTreeMap::new(),
    }
}

/// The address space or the uplink of a network.
pub(super) fn space(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let place = bytes.choose_index(NETWORKS)?;
    let network = &mut state.networks[place];
    if bytes.arbitrary()? {
        let more = Prefix::read(&format!("172.16.{place}.0/24"));
        if !network.prefixes.remove(&more) {
            network.prefixes.insert(more);
        }
    } else {
        let uplink = hosts(place, APPS, 200);
        network.uplink = uplink[..bytes.choose_index(3)?].into();
    }
    Ok(())
}

/// The networks without a route server use that of the first, and are not peered with each other.
pub(super) fn hub_and_spokes(state: &mut State) {
    for spoke in 1..NETWORKS - 1 {
        let settings = Peering {
            use_remote: true,
            allow_transit: false,
            allow_forwarded: false,
        };
        state.networks[spoke].peerings.insert(0, settings);
        let settings = Peering {
            use_remote: false,
            allow_transit: true,
            allow_forwarded: true,
        };
        state.networks[0].peerings.insert(spoke, settings);
    }
}

/// One side of a peering, or one of its settings.
pub(super) fn peering(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let one = bytes.choose_index(NETWORKS)?;
    let other = (one + 1 + bytes.choose_index(NETWORKS - 1)?) % NETWORKS;
    let bits: u8 = bytes.arbitrary()?;
    let settings = |bits: u8| Peering {
        use_remote: bits & 1 != 0,
        allow_transit: bits & 2 != 0,
        allow_forwarded: bits & 4 != 0,
    };
    for (one, other, bits) in [(one, other, bits), (other, one, bits >> 3)] {
        // Now and then one side only.
        if bits & 0x18 == 0x18 {
            state.networks[one].peerings.remove(&other);
        } else {
            state.networks[one].peerings.insert(other, settings(bits));
        }
    }
    Ok(())
}

/// What a configuration is refused for goes: a second remote route server, and one where there is none.
/// Whether the other side allows it is left to be asked.
pub(super) fn mend(state: &mut State) {
    for place in 0..NETWORKS {
        let homes: Vec<_> = state.servers.iter().map(|server| server.network).collect();
        let mut may = !homes.contains(&place);
        for (other, peering) in &mut state.networks[place].peerings {
            peering.use_remote &= may && homes.contains(other);
            may &= !peering.use_remote;
        }
    }
}

/// Which table a subnet has, what a table lets through, or one of its routes.
pub(super) fn user_defined(
    bytes: &mut Unstructured<'_>,
    state: &mut State,
    contested: &[Prefix],
) -> Result<()> {
    let place = bytes.choose_index(state.tables.len())?;
    match bytes.arbitrary::<u8>()? % 4 {
        0 => {
            let network = bytes.choose_index(NETWORKS)?;
            let subnet = bytes.choose_index(3)?;
            let table = bytes.ratio(3, 4)?.then_some(place);
            state.networks[network].subnets[subnet].table = table;
        }
        1 => {
            let bits: u8 = bytes.arbitrary()?;
            let chosen = |kind: &Kind| bits >> *kind as u8 & 1 != 0;
            state.tables[place].propagate = Kind::ALL.into_iter().filter(chosen).collect();
        }
        _ => {
            let prefix = match bytes.arbitrary()? {
                true => pick(bytes, contested)?,
                false => prefix(bytes, state)?,
            };
            let family = usize::from(prefix.address.is_ipv6());
            let network = bytes.choose_index(NETWORKS)?;
            let way = match bytes.arbitrary::<u8>()? % 10 {
                0..=3 => Way::Appliance(hosts(network, NVAS, 4 + (network as u8 & 1))[family]),
                4 => Way::Appliance(address(["192.0.2.9", "2001:db8::9"][family])),
                5 => Way::Gateway,
                6 => Way::Network,
                7 => Way::Internet,
                8 => Way::Nowhere,
                _ => {
                    state.tables[place].routes.remove(&prefix);
                    return Ok(());
                }
            };
            state.tables[place].routes.insert(prefix, way);
        }
    }
    Ok(())
}
