//! Where next hops lie: the route server's own network and those peered with it.
//!
//! In: the address space of each network. Out: for an address, the [`Zone`] in which it lies, or why
//! it is in none. Zones are numbers of networks that stay the same for as long as the route server
//! lives; its own network is zone 0.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::{
    config::{Config, Vnet},
    names::VnetName,
    rib::Zone,
};

/// The route server's own network.
pub(super) const OWN: Zone = Zone(0);

/// Most networks that are told apart.
const MOST: u16 = 4094;

/// What lies around a route server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// Address space in which next hops can be resolved: that of its network, which stands first, and
    /// of those that are peered with it from both sides.
    pub spaces: Vec<(VnetName, Vec<IpNet>)>,
    /// That of all other networks: a next hop there has a reason that names the network.
    pub beyond: Vec<(VnetName, Vec<IpNet>)>,
    /// The gateway host's addresses in the subnets of `spaces`, which are no next hops.
    pub gateways: BTreeSet<IpAddr>,
}

impl Surroundings {
    /// Those of a route server of this network: the network itself and those that are peered with it
    /// from both sides.
    #[must_use]
    pub fn around(config: &Config, own: &VnetName) -> Self {
        let network = config.vnets.iter().find(|vnet| vnet.name == *own);
        let peerings = network.into_iter().flat_map(|vnet| &vnet.peerings);
        let ours: BTreeSet<&VnetName> = peerings.map(|peering| &peering.remote).collect();
        let is_peered = |vnet: &&Vnet| {
            let mut theirs = vnet.peerings.iter();
            ours.contains(&vnet.name) && theirs.any(|peering| peering.remote == *own)
        };
        let others = config.vnets.iter().filter(|vnet| vnet.name != *own);
        let (peered, beyond): (Vec<&Vnet>, Vec<&Vnet>) = others.partition(is_peered);
        let within: Vec<&Vnet> = network.into_iter().chain(peered).collect();
        let space = |vnet: &&Vnet| (vnet.name.clone(), vnet.prefixes.clone());
        let subnets = within.iter().flat_map(|vnet| &vnet.subnets);
        Self {
            spaces: within.iter().map(space).collect(),
            beyond: beyond.iter().map(space).collect(),
            gateways: subnets
                .flat_map(|subnet| &subnet.gateways)
                .copied()
                .collect(),
        }
    }
}

/// The numbers of networks.
#[derive(Clone, Default)]
pub(super) struct Zones {
    numbers: BTreeMap<VnetName, Zone>,
    own: Option<VnetName>,
}

impl Zones {
    /// Numbers the networks of `surroundings`. A network keeps its number, also while it is not peered;
    /// only when there is none left, those of networks that are gone are given out again.
    pub(super) fn number(&mut self, surroundings: &Surroundings) -> Space {
        let mut spaces = surroundings.spaces.iter();
        self.own = surroundings.spaces.first().map(|(name, _)| name.clone());
        let mut space = Space::default();
        if let Some((_, own)) = spaces.next() {
            space.within.extend(own, &OWN);
        }
        for (name, prefixes) in spaces {
            if let Some(zone) = self.zone_or_new(name, surroundings) {
                space.within.extend(prefixes, &zone);
            }
        }
        let own = self.own.as_ref().map_or("", VnetName::as_str);
        for (name, prefixes) in &surroundings.beyond {
            let reason = format!(
                "next hop lies in network \"{name}\", which is not peered with \"{own}\" from both \
                 sides (vnet.peering)"
            );
            space.beyond.extend(prefixes, &Arc::from(reason));
        }
        space.gateways.clone_from(&surroundings.gateways);
        space
    }

    /// The number of a network that has one.
    pub(super) fn zone(&self, name: &VnetName) -> Option<Zone> {
        if self.own.as_ref() == Some(name) {
            return Some(OWN);
        }
        self.numbers.get(name).copied()
    }

    /// The network with this number.
    pub(super) fn name(&self, zone: Zone) -> Option<&VnetName> {
        if zone == OWN {
            return self.own.as_ref();
        }
        let mut numbers = self.numbers.iter();
        Some(numbers.find(|(_, number)| **number == zone)?.0)
    }

    fn zone_or_new(&mut self, name: &VnetName, surroundings: &Surroundings) -> Option<Zone> {
        if let Some(zone) = self.numbers.get(name) {
            return Some(*zone);
        }
        if self.numbers.len() == usize::from(MOST) {
            let spaces = &surroundings.spaces;
            self.numbers
                .retain(|name, _| spaces.iter().any(|(other, _)| other == name));
        }
        let taken: BTreeSet<u16> = self.numbers.values().map(|zone| zone.0).collect();
        let free = match taken.last() {
            Some(last) if *last < MOST => Some(last + 1),
            Some(_) => (1..=MOST).find(|number| !taken.contains(number)),
            None => Some(1),
        };
        let zone = Zone(free?);
        self.numbers.insert(name.clone(), zone);
        Some(zone)
    }
}

/// Where an address lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In a network in which next hops are reached.
    Within(Zone),
    /// Elsewhere: why next hops there are not reached.
    Beyond(Arc<str>),
}

/// The address space around a route server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Space {
    within: Prefixes<Zone>,
    beyond: Prefixes<Arc<str>>,
    gateways: BTreeSet<IpAddr>,
}

impl Space {
    /// Where an address lies.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        if let Some(zone) = self.zone(address) {
            return Place::Within(zone);
        }
        let beyond = self.beyond.longest(address).cloned();
        Place::Beyond(beyond.unwrap_or_else(|| {
            "next hop is outside the virtual network and those peered with it (vnet.peering)".into()
        }))
    }

    /// The same without what says why next hops are not reached.
    pub(super) fn within(&self) -> Self {
        Self {
            beyond: Prefixes::default(),
            ..self.clone()
        }
    }

    /// The network in which an address lies, if next hops are reached there.
    pub(super) fn zone(&self, address: IpAddr) -> Option<Zone> {
        self.within.longest(address).copied()
    }

    /// Whether it is an address of the gateway host in a subnet.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains(&address)
    }
}

/// Values by prefix, found by the longest one that holds an address: one look-up for each length that
/// occurs, and networks have few.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Prefixes<T> {
    values: FxHashMap<IpNet, T>,
    /// Lengths that occur, of IPv4 and of IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self {
            values: FxHashMap::default(),
            lengths: Default::default(),
        }
    }
}

impl<T: Clone> Prefixes<T> {
    /// Adds prefixes; one that is there already keeps its value.
    fn extend(&mut self, prefixes: &[IpNet], value: &T) {
        for prefix in prefixes {
            self.lengths[usize::from(prefix.addr().is_ipv6())].insert(prefix.prefix_len());
            self.values
                .entry(prefix.trunc())
                .or_insert_with(|| value.clone());
        }
    }

    fn longest(&self, address: IpAddr) -> Option<&T> {
        let lengths = self.lengths[usize::from(address.is_ipv6())].iter().rev();
        let mut prefixes = lengths.filter_map(|length| IpNet::new(address, *length).ok());
        prefixes.find_map(|prefix| self.values.get(&prefix.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Peering, parse};

    #[test]
    fn next_hops_are_resolved_in_networks_that_are_peered_from_both_sides() {
        let mut config = parse(include_str!("../../../docs/example.toml"), "example").unwrap();
        let hub = config.vnets[0].clone();
        let mut network = |name: &str, prefix: &str, from: bool, back: bool| {
            let mut spoke = hub.clone();
            spoke.name = name.into();
            spoke.prefixes = vec![prefix.parse().unwrap()];
            spoke.subnets.clear();
            spoke.peerings.clear();
            if from {
                spoke.peerings.push(Peering::new(hub.name.clone()));
            }
            if back {
                config.vnets[0].peerings.push(Peering::new(name.into()));
            }
            config.vnets.push(spoke);
        };
        network("both", "10.7.0.0/16", true, true);
        network("from", "10.8.0.0/16", true, false);
        network("back", "10.9.0.0/16", false, true);
        let around = Surroundings::around(&config, &hub.name);
        let names = |networks: &[(VnetName, Vec<IpNet>)]| {
            let names = networks.iter().map(|(name, _)| name.to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&around.spaces), [hub.name.as_str(), "both"]);
        assert_eq!(names(&around.beyond), ["from", "back"]);
        let gateways = hub.subnets.iter().map(|subnet| subnet.gateways.len());
        assert_eq!(around.gateways.len(), gateways.sum::<usize>());
    }

    #[test]
    fn an_address_lies_in_the_network_with_the_longest_prefix() {
        let mut zones = Zones::default();
        let space = zones.number(&around(&["hub 10.1.0.0/16", "spoke 10.2.0.0/16"], &[]));
        assert_eq!(space.place(address("10.1.3.4")), Place::Within(OWN));
        assert_eq!(space.place(address("10.2.3.4")), Place::Within(Zone(1)));
        assert_eq!(zones.name(Zone(1)).unwrap().as_str(), "spoke");
        assert_eq!(zones.name(OWN).unwrap().as_str(), "hub");
        let nested = around(&["hub 10.0.0.0/8", "spoke 10.2.0.0/16"], &[]);
        let space = zones.number(&nested);
        assert_eq!(space.place(address("10.2.3.4")), Place::Within(Zone(1)));
        assert_eq!(space.place(address("10.3.3.4")), Place::Within(OWN));
        assert!(matches!(space.place(address("fd00::1")), Place::Beyond(_)));
    }

    #[test]
    fn an_address_of_a_network_that_is_not_peered_has_a_reason_that_names_it() {
        let mut zones = Zones::default();
        let around = around(&["hub 10.1.0.0/16"], &["spoke 10.2.0.0/16"]);
        let space = zones.number(&around);
        let Place::Beyond(reason) = space.place(address("10.2.3.4")) else {
            panic!("it is not peered");
        };
        assert!(
            reason.contains("\"spoke\", which is not peered with \"hub\""),
            "{reason}"
        );
        let Place::Beyond(reason) = space.place(address("192.0.2.1")) else {
            panic!("it is nowhere");
        };
        assert!(reason.contains("outside the virtual network"), "{reason}");
    }

    #[test]
    fn a_network_keeps_its_number_for_as_long_as_the_route_server_lives() {
        let mut zones = Zones::default();
        let mut number = |spaces: &[&str]| {
            zones.number(&around(spaces, &[]));
            ["a", "b", "c"].map(|name| zones.zone(&name.into()).map(|zone| zone.0))
        };
        let hub = "hub 10.1.0.0/16";
        let [a, b, c] = ["a 10.2.0.0/16", "b 10.3.0.0/16", "c 10.4.0.0/16"];
        assert_eq!(number(&[hub, a, b]), [Some(1), Some(2), None]);
        assert_eq!(number(&[hub, c]), [Some(1), Some(2), Some(3)]);
        assert_eq!(number(&[hub, b, a]), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn numbers_are_given_out_again_only_when_there_is_none_left() {
        let mut zones = Zones::default();
        let names: Vec<String> = (1..=MOST)
            .map(|number| format!("n{number} 10.{}.{}.0/24", number / 256, number % 256))
            .collect();
        let mut all: Vec<&str> = vec!["hub 172.16.0.0/16"];
        all.extend(names.iter().map(String::as_str));
        zones.number(&around(&all, &[]));
        assert_eq!(zones.zone(&"n4094".into()), Some(Zone(4094)));
        zones.number(&around(
            &["hub 172.16.0.0/16", "n7 10.0.7.0/24", "new 172.17.0.0/16"],
            &[],
        ));
        assert_eq!(zones.zone(&"n7".into()), Some(Zone(7)));
        assert_eq!(zones.zone(&"new".into()), Some(Zone(8)));
    }

    /// Networks as `NAME PREFIX`.
    fn around(spaces: &[&str], beyond: &[&str]) -> Surroundings {
        let networks = |texts: &[&str]| {
            let networks = texts.iter().map(|text| {
                let (name, prefix) = text.split_once(' ').unwrap();
                (name.into(), vec![prefix.parse().unwrap()])
            });
            networks.collect()
        };
        Surroundings {
            spaces: networks(spaces),
            beyond: networks(beyond),
            gateways: BTreeSet::new(),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
