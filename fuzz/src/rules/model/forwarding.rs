//! Subnets: which row a packet follows, and where that leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    paths::{Hop, Hops, Learned, NO_ADVERTISE, NO_EXPORT, Path, learned, passes},
    state::{Kind, PortKey, Prefix, State, Subnet, Way},
};

/// Where a packet goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Forward {
    /// One of these; one of the others while none of them is alive.
    To(Hops, Hops),
    /// The machine of this network that has the address.
    Attached(usize),
    Host,
    Nowhere,
    NoUplink,
    Blackhole,
    NoRoute,
}

/// Where a row comes from; of equal prefixes the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Source {
    System,
    Learned,
    UserDefined,
}

struct Row {
    prefix: Prefix,
    source: Source,
    forward: Forward,
}

/// The rows of a port, by which its packets are forwarded.
pub(super) struct Rows(Vec<Row>);

type Paths<'a> = BTreeMap<Prefix, Vec<Path<'a>>>;

impl Rows {
    /// `paths`: of each route server.
    pub(super) fn of(state: &State, paths: &[Paths<'_>], key: PortKey) -> Self {
        let mut rows = Vec::new();
        let mut add = |prefix, source, forward| {
            rows.push(Row {
                prefix,
                source,
                forward,
            });
        };
        let this = &state.networks[key.network];
        let subnet = &this.subnets[key.subnet];
        let mut space = BTreeMap::new();
        for network in state.reach(key.network) {
            for prefix in &state.networks[network].prefixes {
                space.insert(*prefix, network);
            }
        }
        for (prefix, network) in &space {
            add(*prefix, Source::System, Forward::Attached(*network));
        }
        for prefix in defaults() {
            add(prefix, Source::System, internet(state, key.network, prefix));
        }
        for (prefix, learned) in usable(state, paths, key) {
            // Within the networks' own space nothing that is learned counts.
            if !space.keys().any(|own| own.contains(prefix)) {
                let forward = match learned {
                    Learned::Members(members, backups) => Forward::To(members, backups),
                    Learned::Nowhere => Forward::Nowhere,
                    Learned::Blackhole => Forward::Blackhole,
                };
                add(prefix, Source::Learned, forward);
            }
        }
        for (prefix, way) in user_defined(state, subnet) {
            if let Some(forward) = follow(state, key.network, prefix, way) {
                add(prefix, Source::UserDefined, forward);
            }
        }
        // Private ranges lead nowhere unless somebody has said where everything goes.
        let is_system = |row: &Row| row.source == Source::System;
        for default in defaults() {
            let mut of_default = rows.iter().filter(|row| row.prefix == default);
            if of_default.all(is_system) {
                let same_family = |prefix: &Prefix| default.covers(prefix.address);
                for prefix in private_ranges().into_iter().filter(same_family) {
                    if !space.contains_key(&prefix) {
                        rows.push(Row {
                            prefix,
                            source: Source::System,
                            forward: Forward::Nowhere,
                        });
                    }
                }
            }
        }
        for subnet in &this.subnets {
            for address in &subnet.host {
                rows.push(Row {
                    prefix: Prefix {
                        address: *address,
                        len: if address.is_ipv4() { 32 } else { 128 },
                    },
                    source: Source::System,
                    forward: Forward::Host,
                });
            }
        }
        Self(rows)
    }

    /// The longest prefix, then the greatest source.
    pub(super) fn look_up(&self, address: IpAddr) -> Forward {
        let matching = self.0.iter().filter(|row| row.prefix.covers(address));
        let best = matching.max_by_key(|row| (row.prefix.len, row.source));
        best.map_or(Forward::NoRoute, |row| row.forward.clone())
    }
}

fn defaults() -> [Prefix; 2] {
    ["0.0.0.0/0", "::/0"].map(Prefix::read)
}

fn private_ranges() -> [Prefix; 5] {
    [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
    ]
    .map(Prefix::read)
}

fn internet(state: &State, network: usize, prefix: Prefix) -> Forward {
    let uplinks = &state.networks[network].uplink;
    let uplink = uplinks
        .iter()
        .find(|uplink| uplink.is_ipv4() == prefix.address.is_ipv4());
    uplink.map_or(Forward::NoUplink, |address| to([(network, *address)]))
}

fn to(hops: impl IntoIterator<Item = Hop>) -> Forward {
    let hops = hops.into_iter().map(|hop| (hop, 1));
    Forward::To(hops.collect(), Hops::new())
}

/// What a port takes of what its route server has learned.
fn usable(state: &State, paths: &[Paths<'_>], key: PortKey) -> BTreeMap<Prefix, Learned> {
    let Some(place) = state.server_of(key.network) else {
        return BTreeMap::new();
    };
    let server = &state.servers[place];
    let subnet = &state.networks[key.network].subnets[key.subnet];
    let addresses = &subnet.ports[key.port].addresses;
    // A gateway's port takes exactly what is advertised to that gateway.
    let member = server
        .peers
        .iter()
        .filter(|peer| peer.configured && peer.kind != Kind::Nva)
        .find(|peer| addresses.contains(&peer.address));
    let kinds = match (member, subnet.table) {
        (Some(member), _) => Kind::ALL
            .into_iter()
            .filter(|kind| passes(server, *kind, member.kind))
            .collect(),
        (None, Some(table)) => state.tables[table].propagate.clone(),
        (None, None) => Kind::ALL.into(),
    };
    // One gateway of the kind in another AS is enough for NO_EXPORT to keep routes from all of them.
    let external = member.is_some_and(|member| {
        let peers = server.peers.iter().filter(|peer| peer.configured);
        let mut alike = peers.filter(|peer| peer.kind == member.kind);
        alike.any(|peer| peer.asn != server.asn)
    });
    let may_take = |path: &&Path<'_>| {
        let has = |community| path.route.communities.contains(&community);
        member.is_none() || !(has(NO_ADVERTISE) || external && has(NO_EXPORT))
    };
    let reach = state.reach(key.network);
    paths[place]
        .iter()
        .filter_map(|(prefix, paths)| {
            let paths: Vec<Path<'_>> = paths.iter().filter(may_take).cloned().collect();
            Some((*prefix, learned(server, &paths, &kinds, &reach)?))
        })
        .collect()
}

fn user_defined(state: &State, subnet: &Subnet) -> BTreeMap<Prefix, Way> {
    let table = subnet.table.map(|table| &state.tables[table]);
    table.map_or_else(BTreeMap::new, |table| table.routes.clone())
}

/// Where a user-defined route leads; `None`: it is not valid.
fn follow(state: &State, network: usize, prefix: Prefix, way: Way) -> Option<Forward> {
    Some(match way {
        Way::Appliance(address) => to([(state.network_of(network, address)?, address)]),
        // Within a peered network's space, that network.
        Way::Network => {
            let within = |other: &usize| {
                let prefixes = &state.networks[*other].prefixes;
                prefixes.iter().any(|space| space.contains(prefix))
            };
            let peered = state.reach(network).into_iter().find(within);
            Forward::Attached(peered.unwrap_or(network))
        }
        Way::Internet => internet(state, network, prefix),
        Way::Nowhere => Forward::Nowhere,
        Way::Gateway => {
            let server = state.server_of(network).map(|place| &state.servers[place]);
            let peers = server.into_iter().flat_map(|server| &server.peers);
            let members: BTreeSet<_> = peers
                .filter(|peer| peer.configured && peer.kind == Kind::Vpn)
                .filter(|peer| peer.sessions.iter().any(|session| session.up))
                .filter_map(|peer| Some((state.network_of(network, peer.address)?, peer.address)))
                .collect();
            if members.is_empty() {
                Forward::Nowhere
            } else {
                to(members)
            }
        }
    })
}
