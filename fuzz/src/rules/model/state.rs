//! What there is: networks, route tables, route servers, their peers, and what each has announced.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::route_map::RouteMap;

/// A prefix: an address and how many of its bits count; the others are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) len: u8,
}

/// Everything. Networks, tables and servers are known by their places.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) networks: Vec<Network>,
    pub(crate) tables: Vec<Table>,
    pub(crate) servers: Vec<Server>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) prefixes: BTreeSet<Prefix>,
    /// At most one of each family.
    pub(crate) uplink: Vec<IpAddr>,
    /// By the network on the other side.
    pub(crate) peerings: BTreeMap<usize, Peering>,
    pub(crate) subnets: Vec<Subnet>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peering {
    pub(crate) use_remote: bool,
    pub(crate) allow_transit: bool,
    pub(crate) allow_forwarded: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) prefixes: Vec<Prefix>,
    /// The gateway host's own addresses.
    pub(crate) host: Vec<IpAddr>,
    pub(crate) table: Option<usize>,
    pub(crate) ports: Vec<Port>,
}

#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) addresses: Vec<IpAddr>,
    /// What comes out of it need not come from its addresses.
    pub(crate) forwards: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// From which kinds learned routes reach its subnets.
    pub(crate) propagate: BTreeSet<Kind>,
    pub(crate) routes: BTreeMap<Prefix, Way>,
}

/// Where the packets of a user-defined route go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Appliance(IpAddr),
    Gateway,
    Network,
    Internet,
    Nowhere,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Nva,
    ExpressRoute,
    Vpn,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Nva, Self::ExpressRoute, Self::Vpn];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Preference {
    ExpressRoute,
    VpnGateway,
    AsPath,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) network: usize,
    pub(crate) asn: u32,
    pub(crate) instances: [Instance; 2],
    pub(crate) cluster_id: u32,
    pub(crate) reflect: bool,
    pub(crate) branch_to_branch: bool,
    pub(crate) preference: Preference,
    pub(crate) always_compare_med: bool,
    pub(crate) max_paths: usize,
    pub(crate) peers: Vec<Peer>,
    pub(crate) route_maps: Vec<RouteMap>,
    /// Which of them apply to the peers of a kind that name none of their own.
    pub(crate) maps_of_kind: BTreeMap<Kind, Maps>,
    /// Learned by hand: the next hops of each prefix.
    pub(crate) statics: BTreeMap<Prefix, BTreeSet<IpAddr>>,
    /// Advertised by hand.
    pub(crate) advertised: BTreeMap<Prefix, Advertised>,
}

/// Route maps by their places: for what is learned, for what is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Maps {
    pub(crate) inbound: Option<usize>,
    pub(crate) outbound: Option<usize>,
}

/// A prefix that some are sent as the route server's own.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    pub(crate) to: BTreeSet<Kind>,
    /// As well to the peers of these places, and all members of their gateways.
    pub(crate) to_peers: BTreeSet<usize>,
    /// Instead of the instance's address.
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) med: Option<u32>,
    pub(crate) communities: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) router_id: u32,
    /// At most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// If not, neither it nor its sessions exist.
    pub(crate) configured: bool,
    pub(crate) kind: Kind,
    /// Peers with the same number are members of one gateway; an NVA has one of its own.
    pub(crate) gateway: usize,
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) router_id: u32,
    pub(crate) policy: Policy,
    pub(crate) maps: Maps,
    /// With each instance.
    pub(crate) sessions: [Session; 2],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) allow_own_as: usize,
    pub(crate) enforce_first_as: bool,
    pub(crate) max_as_path_length: usize,
    pub(crate) as_override: bool,
    pub(crate) transparent: bool,
    pub(crate) remove_private_as: bool,
    pub(crate) allow_blackhole: bool,
    pub(crate) default_originate: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub(crate) up: bool,
    /// What the peer has to say; it counts while the session is up.
    pub(crate) announced: BTreeMap<Prefix, Route>,
}

/// Numbers of communities with these upper bits stand for large ones (RFC 8092).
pub(crate) const LARGE_COMMUNITY: u32 = 1 << 16;

/// What is known of a route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Route {
    pub(crate) next_hop: IpAddr,
    pub(crate) as_path: Vec<u32>,
    /// 0 IGP, 1 EGP, 2 incomplete.
    pub(crate) origin: u8,
    pub(crate) med: Option<u32>,
    /// Within one AS only.
    pub(crate) local_pref: Option<u32>,
    pub(crate) communities: BTreeSet<u32>,
    pub(crate) originator: Option<u32>,
    pub(crate) clusters: Vec<u32>,
}

/// A session: route server, peer, instance (0 or 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SessionKey {
    pub(crate) server: usize,
    pub(crate) peer: usize,
    pub(crate) instance: usize,
}

/// A port: network, subnet, port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PortKey {
    pub(crate) network: usize,
    pub(crate) subnet: usize,
    pub(crate) port: usize,
}

impl Prefix {
    /// `10.1.0.0/16`, host bits zero.
    pub(crate) fn read(text: &str) -> Self {
        let (address, len) = text.split_once('/').expect("a prefix");
        Self {
            address: address.parse().expect("an address"),
            len: len.parse().expect("a length"),
        }
    }

    pub(crate) fn covers(self, address: IpAddr) -> bool {
        let (width, ours, theirs) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (32, u128::from(ours.to_bits()), u128::from(theirs.to_bits()))
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (128, ours.to_bits(), theirs.to_bits()),
            _ => return false,
        };
        (0..u32::from(self.len)).all(|bit| (ours ^ theirs) >> (width - 1 - bit) & 1 == 0)
    }

    /// This one, or a longer one within it.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.len <= other.len && self.covers(other.address)
    }

    /// Two addresses within it, one of them the last.
    pub(crate) fn probes(self) -> [IpAddr; 2] {
        let add = |bits: u128, width: u32| {
            let free = width - u32::from(self.len);
            let last = 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
            [bits + last.min(9), bits + last]
        };
        match self.address {
            IpAddr::V4(address) => add(address.to_bits().into(), 32)
                .map(|bits| u32::try_from(bits).expect("32 bits").into())
                .map(IpAddr::V4),
            IpAddr::V6(address) => add(address.to_bits(), 128).map(|bits| IpAddr::V6(bits.into())),
        }
    }
}

impl State {
    pub(crate) fn sessions(&self) -> Vec<SessionKey> {
        let mut keys = Vec::new();
        for (server, this) in self.servers.iter().enumerate() {
            for peer in 0..this.peers.len() {
                for instance in [0, 1] {
                    keys.push(SessionKey {
                        server,
                        peer,
                        instance,
                    });
                }
            }
        }
        keys
    }

    pub(crate) fn ports(&self) -> Vec<PortKey> {
        let mut keys = Vec::new();
        for (network, this) in self.networks.iter().enumerate() {
            for (subnet, this) in this.subnets.iter().enumerate() {
                for port in 0..this.ports.len() {
                    keys.push(PortKey {
                        network,
                        subnet,
                        port,
                    });
                }
            }
        }
        keys
    }

    pub(crate) fn peer(&self, key: SessionKey) -> &Peer {
        &self.servers[key.server].peers[key.peer]
    }

    pub(crate) fn is_up(&self, key: SessionKey) -> bool {
        let peer = self.peer(key);
        peer.configured && peer.sessions[key.instance].up
    }

    pub(crate) fn session_mut(&mut self, key: SessionKey) -> &mut Session {
        &mut self.servers[key.server].peers[key.peer].sessions[key.instance]
    }

    /// Both networks have a peering with each other.
    pub(crate) fn peered(&self, one: usize, other: usize) -> bool {
        self.networks[one].peerings.contains_key(&other)
            && self.networks[other].peerings.contains_key(&one)
    }

    /// The network itself and those that it is peered with.
    pub(crate) fn reach(&self, network: usize) -> BTreeSet<usize> {
        (0..self.networks.len())
            .filter(|other| *other == network || self.peered(network, *other))
            .collect()
    }

    /// The network, of those in reach of `network`, that an address lies in.
    pub(crate) fn network_of(&self, network: usize, address: IpAddr) -> Option<usize> {
        self.reach(network).into_iter().find(|other| {
            let prefixes = &self.networks[*other].prefixes;
            prefixes.iter().any(|prefix| prefix.covers(address))
        })
    }

    /// Whether `network` uses the route server of `other` through their peering.
    pub(crate) fn uses_remote(&self, network: usize, other: usize) -> bool {
        self.peered(network, other)
            && self.networks[network].peerings[&other].use_remote
            && self.networks[other].peerings[&network].allow_transit
    }

    /// The route server whose routes a network uses: its own, or that of the one that it says.
    pub(crate) fn server_of(&self, network: usize) -> Option<usize> {
        let attached = |to: usize| {
            self.servers
                .iter()
                .position(move |server| server.network == to)
        };
        attached(network).or_else(|| {
            (0..self.networks.len())
                .filter(|other| self.uses_remote(network, *other))
                .find_map(attached)
        })
    }
}
