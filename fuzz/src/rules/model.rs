//! The rules of a route server and its networks, once more and as plainly as possible: the outcome of
//! a [`State`], computed from scratch. Nothing here is incremental, fast, or shared with the product.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

mod forwarding;
mod paths;
mod route_map;
mod state;

pub(crate) use forwarding::Forward;
pub(crate) use paths::{Fate, Hops, Standing, Step};
pub(crate) use route_map::{AsPath, Changes, Match, RouteMap, Rule, Source};
pub(crate) use state::{
    Advertised, Instance, Kind, LARGE_COMMUNITY, Maps, Network, Peer, Peering, Policy, Port,
    PortKey, Preference, Prefix, Route, Server, Session, SessionKey, State, Subnet, Table, Way,
};

/// What everybody ends up with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// What each session is sent.
    pub(crate) sent: BTreeMap<SessionKey, BTreeMap<Prefix, Route>>,
    /// What becomes of each path that was announced.
    pub(crate) standings: BTreeMap<(SessionKey, Prefix), Standing>,
    /// Where packets of each port to each address of interest go.
    pub(crate) forwarding: BTreeMap<PortKey, BTreeMap<IpAddr, Forward>>,
    /// Networks that take of a port that forwards only what comes from its network's own space.
    pub(crate) restricted: BTreeMap<PortKey, BTreeSet<usize>>,
}

/// The outcome of a state.
pub(crate) fn outcome(state: &State) -> Outcome {
    let paths: Vec<_> = (0..state.servers.len())
        .map(|server| paths::paths(state, server))
        .collect();
    let mut outcome = Outcome::default();
    for key in state.sessions() {
        let sent = paths::advertised(state, &paths[key.server], key);
        outcome.sent.insert(key, sent);
    }
    for (server, paths) in state.servers.iter().zip(&paths) {
        for (prefix, paths) in paths {
            let standings = paths::standings(server, paths).into_iter();
            let standings = standings.map(|(from, standing)| ((from, *prefix), standing));
            outcome.standings.extend(standings);
        }
    }
    let addresses = addresses_of_interest(state);
    for key in state.ports() {
        let rows = forwarding::Rows::of(state, &paths, key);
        let ways = addresses
            .iter()
            .map(|address| (*address, rows.look_up(*address)));
        outcome.forwarding.insert(key, ways.collect());
        let port = &state.networks[key.network].subnets[key.subnet].ports[key.port];
        if port.forwards {
            outcome.restricted.insert(key, restricted(state, key));
        }
    }
    outcome
}

/// What a session is sent as the route server's own.
pub(crate) fn own_prefixes(state: &State, key: SessionKey) -> BTreeSet<Prefix> {
    if !state.is_up(key) {
        return BTreeSet::new();
    }
    let own = paths::own_routes(state, key).into_iter();
    own.filter_map(|(prefix, route)| route.map(|_| prefix))
        .collect()
}

fn restricted(state: &State, key: PortKey) -> BTreeSet<usize> {
    (0..state.networks.len())
        .filter(|other| state.peered(key.network, *other))
        .filter(|other| !state.networks[*other].peerings[&key.network].allow_forwarded)
        .collect()
}

/// Two addresses of every prefix that anything is said about.
pub(crate) fn addresses_of_interest(state: &State) -> BTreeSet<IpAddr> {
    let mut prefixes: BTreeSet<_> = ["0.0.0.0/0", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
        .into_iter()
        .chain(["100.64.0.0/10", "::/0"])
        .map(Prefix::read)
        .collect();
    for network in &state.networks {
        prefixes.extend(&network.prefixes);
        prefixes.extend(network.subnets.iter().flat_map(|subnet| &subnet.prefixes));
    }
    for table in &state.tables {
        prefixes.extend(table.routes.keys());
    }
    for server in &state.servers {
        prefixes.extend(server.statics.keys());
    }
    for key in state.sessions() {
        let session = &state.peer(key).sessions[key.instance];
        prefixes.extend(session.announced.keys());
    }
    prefixes.into_iter().flat_map(Prefix::probes).collect()
}
