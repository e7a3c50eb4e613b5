//! Paths: which are taken, which are best, and what each session is sent.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Kind, Peer, Preference, Prefix, Route, Server, SessionKey, State};

const BLACKHOLE: u32 = 0xffff_029a;
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
const LLGR_STALE: u32 = 0xffff_0006;
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;

/// What becomes of an announced path before any is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fate {
    /// Its next hop lies in this network.
    Taken(usize),
    /// Its next hop lies in no network within reach.
    OutOfReach,
    /// The AS path has the route server's own ASN, or the cluster list its cluster.
    Looped,
    /// The AS path does not begin with the peer's ASN.
    FirstAs,
    /// The AS path is longer than it may be.
    TooLong,
    /// The next hop is no address that packets could be sent to.
    BadNextHop,
}

/// A path that somebody has announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) from: SessionKey,
    pub(super) peer: &'a Peer,
    pub(super) route: &'a Route,
    pub(super) fate: Fate,
}

/// All that was announced to a server, by prefix.
pub(super) fn paths(state: &State, server: usize) -> BTreeMap<Prefix, Vec<Path<'_>>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for from in state.sessions() {
        let peer = state.peer(from);
        let session = &peer.sessions[from.instance];
        if from.server != server || !session.up {
            continue;
        }
        for (prefix, route) in &session.announced {
            all.entry(*prefix).or_default().push(Path {
                from,
                peer,
                route,
                fate: fate(state, from, route),
            });
        }
    }
    all
}

pub(super) fn fate(state: &State, from: SessionKey, route: &Route) -> Fate {
    let server = &state.servers[from.server];
    let peer = state.peer(from);
    let own = route.as_path.iter().filter(|asn| **asn == server.asn);
    if own.count() > peer.policy.allow_own_as || route.clusters.contains(&server.cluster_id) {
        return Fate::Looped;
    }
    let external = peer.asn != server.asn;
    if external && peer.policy.enforce_first_as && route.as_path.first() != Some(&peer.asn) {
        return Fate::FirstAs;
    }
    if route.as_path.len() > peer.policy.max_as_path_length {
        return Fate::TooLong;
    }
    let hop = route.next_hop;
    let network = &state.networks[server.network];
    let of_instance = |instance: &super::state::Instance| instance.addresses.contains(&hop);
    let is_own = server.instances.iter().any(of_instance)
        || network
            .subnets
            .iter()
            .any(|subnet| subnet.host.contains(&hop));
    if is_own || hop.is_multicast() || hop.is_loopback() || hop.is_unspecified() {
        return Fate::BadNextHop;
    }
    match state.network_of(server.network, hop) {
        Some(network) => Fate::Taken(network),
        None => Fate::OutOfReach,
    }
}

/// The paths that the steps of the decision process leave, those that are preferred among equals
/// first.
pub(super) fn decide<'a>(server: &Server, mut paths: Vec<Path<'a>>) -> Vec<Path<'a>> {
    let has = |path: &Path<'_>, community| path.route.communities.contains(&community);
    // 1 and 2: what is about to go.
    keep_lowest(&mut paths, |path| has(path, LLGR_STALE));
    keep_lowest(&mut paths, |path| has(path, GRACEFUL_SHUTDOWN));
    // 3: the class.
    keep_lowest(&mut paths, |path| match server.preference {
        Preference::ExpressRoute => path.peer.kind != Kind::ExpressRoute,
        Preference::VpnGateway => path.peer.kind == Kind::ExpressRoute,
        Preference::AsPath => false,
    });
    // 4 to 6.
    keep_lowest(&mut paths, |path| u32::MAX - local_pref(path.route));
    keep_lowest(&mut paths, |path| path.route.as_path.len());
    keep_lowest(&mut paths, |path| path.route.origin);
    // 7: the lowest MED, of each neighbour AS or of all.
    let med = |path: &Path<'_>| path.route.med.unwrap_or(0);
    let neighbour = |path: &Path<'_>| {
        let first = path.route.as_path.first().copied();
        first.filter(|_| !server.always_compare_med)
    };
    let mut lowest = BTreeMap::new();
    for path in &paths {
        let entry = lowest.entry(neighbour(path)).or_insert(u32::MAX);
        *entry = med(path).min(*entry);
    }
    paths.retain(|path| med(path) == lowest[&neighbour(path)]);
    // 8 is not applied to gateways, and nobody else shares the route server's ASN.
    paths.sort_by_key(|path| {
        let Path {
            from, peer, route, ..
        } = path;
        (
            route.originator.unwrap_or(peer.router_id),
            route.clusters.len(),
            peer.address,
            from.instance,
        )
    });
    paths
}

fn keep_lowest<K: Ord>(paths: &mut Vec<Path<'_>>, key: impl Fn(&Path<'_>) -> K) {
    if let Some(lowest) = paths.iter().map(&key).min() {
        paths.retain(|path| key(path) == lowest);
    }
}

fn local_pref(route: &Route) -> u32 {
    route.local_pref.unwrap_or(100)
}

/// The prefixes that a server originates.
pub(super) fn originated(state: &State, server: usize) -> BTreeSet<Prefix> {
    let home = state.servers[server].network;
    let networks = (0..state.networks.len())
        .filter(|network| *network == home || state.uses_remote(*network, home));
    networks
        .flat_map(|network| state.networks[network].prefixes.clone())
        .collect()
}

/// What a session is sent.
pub(super) fn advertised(
    state: &State,
    paths: &BTreeMap<Prefix, Vec<Path<'_>>>,
    to: SessionKey,
) -> BTreeMap<Prefix, Route> {
    let server = &state.servers[to.server];
    let peer = state.peer(to);
    let mut sent = BTreeMap::new();
    if !peer.sessions[to.instance].up {
        return sent;
    }
    let own = originated(state, to.server);
    for (prefix, paths) in paths {
        if own.contains(prefix) {
            continue;
        }
        let candidates = paths
            .iter()
            .filter(|path| may_be_sent(server, path, to, peer))
            .copied();
        if let Some(best) = decide(server, candidates.collect()).first() {
            sent.insert(*prefix, addressed(server, best, peer));
        }
    }
    let internal = peer.asn == server.asn;
    for prefix in own {
        let addresses = &server.instances[to.instance].addresses;
        let same_family = addresses
            .iter()
            .find(|address| address.is_ipv4() == prefix.address.is_ipv4());
        if let Some(address) = same_family {
            let route = Route {
                next_hop: *address,
                as_path: if internal { vec![] } else { vec![server.asn] },
                origin: 0,
                med: None,
                local_pref: internal.then_some(100),
                communities: BTreeSet::new(),
                originator: None,
                clusters: vec![],
            };
            sent.insert(prefix, route);
        }
    }
    sent
}

/// Whether what one kind learns goes to the other at all.
pub(super) fn passes(server: &Server, from: Kind, to: Kind) -> bool {
    match (from, to) {
        (Kind::Nva, Kind::Nva) => server.reflect,
        (Kind::ExpressRoute, Kind::ExpressRoute) | (Kind::Vpn, Kind::Vpn) => false,
        _ => server.branch_to_branch,
    }
}

fn may_be_sent(server: &Server, path: &Path<'_>, to: SessionKey, peer: &Peer) -> bool {
    let has = |community| path.route.communities.contains(&community);
    let external = peer.asn != server.asn;
    matches!(path.fate, Fate::Taken(_))
        && path.from.peer != to.peer
        && passes(server, path.peer.kind, peer.kind)
        && path.route.next_hop != peer.address
        && !has(NO_ADVERTISE)
        // No peer here speaks long-lived graceful restart.
        && !(external && (has(NO_EXPORT) || has(LLGR_STALE)))
}

/// A learned path as a peer is sent it.
fn addressed(server: &Server, path: &Path<'_>, peer: &Peer) -> Route {
    let mut route = path.route.clone();
    if peer.asn == server.asn {
        route.local_pref = Some(local_pref(&route));
        if route.communities.contains(&LLGR_STALE) {
            route.local_pref = Some(0);
            route.communities.insert(NO_EXPORT);
        }
        // From one member of the AS to another: as a route reflector.
        if path.peer.asn == server.asn {
            route.originator.get_or_insert(path.peer.router_id);
            route.clusters.insert(0, server.cluster_id);
        }
        return route;
    }
    route.local_pref = None;
    route.originator = None;
    route.clusters.clear();
    if peer.policy.remove_private_as {
        let private = |asn: &u32| matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294);
        route.as_path.retain(|asn| !private(asn));
    }
    if peer.policy.as_override {
        for asn in &mut route.as_path {
            if *asn == peer.asn {
                *asn = server.asn;
            }
        }
    }
    if !peer.policy.transparent {
        route.as_path.insert(0, server.asn);
    }
    route
}

/// What is learned for a prefix as one user sees it, who takes routes of these kinds and reaches
/// next hops in these networks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Learned {
    /// Network and address of each next hop; those to use while none of them is alive.
    Members(BTreeSet<Hop>, BTreeSet<Hop>),
    Nowhere,
    Blackhole,
}

/// A next hop: its network and its address.
pub(crate) type Hop = (usize, std::net::IpAddr);

pub(super) fn learned(
    server: &Server,
    paths: &[Path<'_>],
    kinds: &BTreeSet<Kind>,
    reach: &BTreeSet<usize>,
) -> Option<Learned> {
    let of_kinds = paths.iter().filter(|path| kinds.contains(&path.peer.kind));
    let usable: Vec<_> = of_kinds
        .clone()
        .filter(|path| matches!(path.fate, Fate::Taken(network) if reach.contains(&network)))
        .copied()
        .collect();
    let best = decide(server, usable.clone());
    let Some(first) = best.first() else {
        let exists = of_kinds
            .clone()
            .any(|path| matches!(path.fate, Fate::Taken(_) | Fate::OutOfReach));
        return exists.then_some(Learned::Nowhere);
    };
    if first.peer.policy.allow_blackhole && first.route.communities.contains(&BLACKHOLE) {
        return Some(Learned::Blackhole);
    }
    let members = hops(server, &best);
    let others = usable
        .iter()
        .filter(|path| hop(path).is_none_or(|hop| !members.contains(&hop)))
        .copied();
    let backups = hops(server, &decide(server, others.collect()));
    Some(Learned::Members(members, backups))
}

/// The next hops of equal paths, preferred ones first, as many as there may be.
fn hops(server: &Server, paths: &[Path<'_>]) -> BTreeSet<Hop> {
    let mut hops = BTreeSet::new();
    for hop in paths.iter().filter_map(hop) {
        if hops.len() < server.max_paths {
            hops.insert(hop);
        }
    }
    hops
}

fn hop(path: &Path<'_>) -> Option<Hop> {
    match path.fate {
        Fate::Taken(network) => Some((network, path.route.next_hop)),
        _ => None,
    }
}
