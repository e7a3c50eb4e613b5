//! All networks of a file: who is peered with whom, and which addresses one reaches.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Peering, Vnet,
    fault::{self, Report},
    network::{NAMELESS, Network},
    space::{Overlap, Space},
};
use crate::names::VnetName;

/// The networks that were read, known by their index.
#[derive(Debug)]
pub(super) struct Networks {
    all: Vec<Network>,
    by_name: HashMap<VnetName, usize>,
    /// The name of one could not be read: it may be the one that others mean.
    nameless: bool,
    /// For each side of a peering that there is, (network, remote), its place in `vnet.peerings`.
    sides: HashMap<(usize, usize), usize>,
    /// What each network reaches: its own space and that of the networks that it is peered with both
    /// ways.
    reach: Vec<Reach>,
}

#[derive(Debug, Default)]
struct Reach {
    space: Space<usize>,
    /// It is peered with another network.
    peered: bool,
    /// All of it was read: what lies outside is a fault of its own.
    complete: bool,
}

impl Networks {
    /// Connects networks by their peerings.
    pub(super) fn connect(all: Vec<Network>, report: &mut Report) -> Self {
        let mut networks = Self {
            by_name: HashMap::with_capacity(all.len()),
            nameless: all
                .iter()
                .any(|network| network.vnet.name.as_str() == NAMELESS),
            sides: HashMap::new(),
            reach: Vec::with_capacity(all.len()),
            all,
        };
        for (index, network) in networks.all.iter().enumerate() {
            let name = network.vnet.name.clone();
            networks.by_name.entry(name).or_insert(index);
        }
        let mut unknown = HashSet::new();
        for (index, network) in networks.all.iter().enumerate() {
            for (place, peering) in network.vnet.peerings.iter().enumerate() {
                if let Some(remote) = networks.find(&peering.remote) {
                    networks.sides.insert((index, remote), place);
                    continue;
                }
                unknown.insert(index);
                let at = network.peering_places[place].remote;
                let owner = format!("peering of network {}", network.vnet.name);
                networks.refuse_unknown(&peering.remote, &owner, at, report);
            }
        }
        let mut told = HashSet::new();
        for index in 0..networks.all.len() {
            let reach = networks.reach_of(index, &unknown, &mut told, report);
            networks.reach.push(reach);
        }
        networks
    }

    /// Index of the network of a name.
    pub(super) fn find(&self, name: &VnetName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Reports that `owner` names a network that there is not.
    pub(super) fn refuse_unknown(
        &self,
        name: &VnetName,
        owner: &str,
        at: usize,
        report: &mut Report,
    ) {
        if self.nameless {
            return;
        }
        let names = self.iter().map(|network| &network.vnet.name);
        report.fault(
            at,
            format!("{owner}: there is no network \"{name}\""),
            format!("name one of: {}", fault::known(names)),
        );
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Network> {
        self.all.iter()
    }

    pub(super) fn at(&self, index: usize) -> &Network {
        &self.all[index]
    }

    pub(super) fn at_mut(&mut self, index: usize) -> &mut Network {
        &mut self.all[index]
    }

    /// The side that `network` has of a peering with `remote`.
    pub(super) fn side(&self, network: usize, remote: usize) -> Option<&Peering> {
        let place = *self.sides.get(&(network, remote))?;
        Some(&self.all[network].vnet.peerings[place])
    }

    /// The networks whose prefixes a route server in this one announces, beside its own: those that
    /// use it.
    pub(super) fn users(&self, index: usize) -> impl Iterator<Item = &Vnet> {
        let sides = self.all[index].vnet.peerings.iter();
        sides.filter_map(move |own| {
            let user = self.find(&own.remote)?;
            let uses = self.side(user, index)?.use_remote_route_server;
            (own.allow_gateway_transit && uses).then(|| &self.all[user].vnet)
        })
    }

    /// The network, this one or one that it is peered with, that a prefix lies in. If it lies in none,
    /// that is reported; `what` names the prefix.
    pub(super) fn locate(
        &self,
        index: usize,
        prefix: IpNet,
        what: &str,
        remedy: &str,
        at: usize,
        report: &mut Report,
    ) -> Option<usize> {
        let reach = &self.reach[index];
        let found = reach.space.around(prefix).map(|(_, network)| *network);
        if found.is_none() && reach.complete {
            let beside = if reach.peered {
                " and those that it is peered with"
            } else {
                ""
            };
            let name = &self.all[index].vnet.name;
            report.fault(
                at,
                format!("{what} lies outside network {name}{beside}"),
                remedy,
            );
        }
        found
    }

    /// Whether an address lies in this network or in one that it is peered with, as far as is known.
    pub(super) fn may_reach(&self, index: usize, address: IpAddr) -> bool {
        let reach = &self.reach[index];
        !reach.complete || reach.space.of_address(address).is_some()
    }

    /// The network, this one or one that it is peered with, that an address lies in.
    pub(super) fn reached(&self, index: usize, address: IpAddr) -> Option<&Network> {
        let (_, place) = self.reach[index].space.of_address(address)?;
        Some(&self.all[*place])
    }

    /// Holds the addresses of machines against the hosts' and the ports'. Asked once all of them are
    /// claimed and all forwarders are noted.
    pub(super) fn check_machines(&self, report: &mut Report) {
        let forwards = self.forwards();
        for network in &self.all {
            network.check_machines(forwards, report);
        }
    }

    /// Whether there is a port. Without one the route servers speak BGP, and no packet is forwarded.
    pub(super) fn forwards(&self) -> bool {
        let mut subnets = self.all.iter().flat_map(|network| &network.vnet.subnets);
        subnets.any(|subnet| !subnet.ports.is_empty())
    }

    /// The networks, complete.
    pub(super) fn into_vnets(self) -> Vec<Vnet> {
        self.all.into_iter().map(Network::into_vnet).collect()
    }

    /// What a network reaches. Overlaps on the way are reported, those of two networks once.
    fn reach_of(
        &self,
        index: usize,
        unknown: &HashSet<usize>,
        told: &mut HashSet<(usize, usize)>,
        report: &mut Report,
    ) -> Reach {
        let peered: Vec<usize> = self.all[index]
            .vnet
            .peerings
            .iter()
            .filter_map(|peering| self.find(&peering.remote))
            .filter(|remote| self.sides.contains_key(&(*remote, index)))
            .collect();
        let reached = || [index].into_iter().chain(peered.iter().copied());
        let (space, overlaps) = Space::of(reached().flat_map(|network| {
            let prefixes = self.all[network].vnet.prefixes.iter();
            prefixes.map(move |prefix| (*prefix, network))
        }));
        for overlap in overlaps {
            let (a, b) = (overlap.outer.1, overlap.inner.1);
            let complete = self.all[a].complete && self.all[b].complete;
            if a != b && complete && told.insert((a.min(b), a.max(b))) {
                self.refuse_overlap(index, &overlap, report);
            }
        }
        Reach {
            space,
            peered: !peered.is_empty(),
            complete: !unknown.contains(&index)
                && reached().all(|network| self.all[network].complete),
        }
    }

    /// Two prefixes overlap that meet in network `index`.
    fn refuse_overlap(&self, index: usize, overlap: &Overlap<usize>, report: &mut Report) {
        let place = |remote: usize| {
            let place = *self.sides.get(&(index, remote))?;
            Some(self.all[index].peering_places[place].remote)
        };
        let Overlap {
            outer: (outer, a),
            inner: (inner, b),
        } = *overlap;
        let at = place(a).max(place(b));
        let name = |network: usize| &self.all[network].vnet.name;
        let how = if a == index || b == index {
            "with which it is peered".to_owned()
        } else {
            format!("and {} is peered with both", name(index))
        };
        report.fault(
            at.unwrap_or(0),
            format!(
                "prefix {inner} of network {} overlaps {outer} of network {}, {how}",
                name(b),
                name(a)
            ),
            "give each of them address space of its own, or remove the peering",
        );
    }
}
