//! Paths: which are taken, which are best, and what each session is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    route_map::Source,
    state::{Instance, Kind, Maps, Peer, Preference, Prefix, Route, Server, SessionKey, State},
};

const BLACKHOLE: u32 = 0xffff_029a;
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
const LLGR_STALE: u32 = 0xffff_0006;
pub(super) const NO_EXPORT: u32 = 0xffff_ff01;
pub(super) const NO_ADVERTISE: u32 = 0xffff_ff02;

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
    /// The route map says so.
    Dropped,
}

/// A path that somebody has announced, or that was given by hand.
#[derive(Clone, Debug)]
pub(super) struct Path<'a> {
    /// `None`: by hand, which counts as an NVA's.
    pub(super) from: Option<SessionKey>,
    pub(super) peer: Option<&'a Peer>,
    /// As the route map has left it.
    pub(super) route: Route,
    /// What the route map says of it.
    pub(super) weight: Option<u8>,
    pub(super) fate: Fate,
}

impl Path<'_> {
    pub(super) fn kind(&self) -> Kind {
        self.peer.map_or(Kind::Nva, |peer| peer.kind)
    }

    fn internal(&self, server: &Server) -> bool {
        self.peer.is_some_and(|peer| peer.asn == server.asn)
    }

    /// All that a rule of a route map may ask for.
    fn sources(&self, server: &Server) -> Vec<Source> {
        let Some((from, peer)) = self.from.zip(self.peer) else {
            return vec![Source::Static];
        };
        let same = |(_, other): &(usize, &Peer)| match peer.kind {
            Kind::Nva => false,
            kind => other.kind == kind && other.gateway == peer.gateway,
        };
        let members = server.peers.iter().enumerate().filter(same);
        let members = members.map(|(place, _)| Source::Peer(place));
        [Source::Kind(peer.kind), Source::Peer(from.peer)]
            .into_iter()
            .chain(members)
            .collect()
    }
}

/// All that was announced to a server, by prefix.
pub(super) fn paths(state: &State, server: usize) -> BTreeMap<Prefix, Vec<Path<'_>>> {
    let this = &state.servers[server];
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (prefix, next_hops) in &this.statics {
        for next_hop in next_hops {
            let route = own_route(*next_hop);
            let fate = reached(state, this, *next_hop);
            all.entry(*prefix).or_default().push(Path {
                from: None,
                peer: None,
                route,
                weight: None,
                fate,
            });
        }
    }
    for from in state.sessions() {
        let peer = state.peer(from);
        let session = &peer.sessions[from.instance];
        if from.server != server || !state.is_up(from) {
            continue;
        }
        for (prefix, route) in &session.announced {
            let path = import(state, from, *prefix, route);
            all.entry(*prefix).or_default().push(path);
        }
    }
    all
}

/// A route of the route server's own, not yet addressed to anybody.
fn own_route(next_hop: IpAddr) -> Route {
    Route {
        next_hop,
        as_path: vec![],
        origin: 0,
        med: None,
        local_pref: None,
        communities: BTreeSet::new(),
        originator: None,
        clusters: vec![],
    }
}

/// The checks, in order: of the path as it came, then of what the route map has made of it.
fn import<'a>(state: &'a State, from: SessionKey, prefix: Prefix, received: &Route) -> Path<'a> {
    let server = &state.servers[from.server];
    let peer = state.peer(from);
    let mut path = Path {
        from: Some(from),
        peer: Some(peer),
        route: received.clone(),
        weight: None,
        fate: Fate::Dropped,
    };
    let own = received.as_path.iter().filter(|asn| **asn == server.asn);
    let external = peer.asn != server.asn;
    let starts = received.as_path.first() == Some(&peer.asn);
    if own.count() > peer.policy.allow_own_as {
        path.fate = Fate::Looped;
    } else if external && peer.policy.enforce_first_as && !starts {
        path.fate = Fate::FirstAs;
    } else if received.as_path.len() > peer.policy.max_as_path_length {
        path.fate = Fate::TooLong;
    } else if received.clusters.contains(&server.cluster_id) {
        path.fate = Fate::Looped;
    } else {
        let sources = path.sources(server);
        let map = maps(server, peer).inbound;
        let passed = match map {
            Some(map) => {
                let received = received.clone();
                server.route_maps[map].apply(prefix, &sources, received, &mut path.weight)
            }
            None => Some(received.clone()),
        };
        if let Some(route) = passed {
            path.fate = reached(state, server, route.next_hop);
            path.route = route;
        }
    }
    path
}

/// The route maps of a peer: its own, else those of its kind.
fn maps(server: &Server, peer: &Peer) -> Maps {
    let of_kind = server.maps_of_kind.get(&peer.kind).copied();
    let of_kind = of_kind.unwrap_or_default();
    Maps {
        inbound: peer.maps.inbound.or(of_kind.inbound),
        outbound: peer.maps.outbound.or(of_kind.outbound),
    }
}

/// Where a next hop lies.
fn reached(state: &State, server: &Server, hop: IpAddr) -> Fate {
    let of_instance = |instance: &Instance| instance.addresses.contains(&hop);
    let of_host = |network: usize| {
        let subnets = &state.networks[network].subnets;
        subnets.iter().any(|subnet| subnet.host.contains(&hop))
    };
    let is_own = server.instances.iter().any(of_instance)
        || state.reach(server.network).into_iter().any(of_host);
    if is_own || hop.is_multicast() || hop.is_loopback() || hop.is_unspecified() {
        return Fate::BadNextHop;
    }
    match state.network_of(server.network, hop) {
        Some(network) => Fate::Taken(network),
        None => Fate::OutOfReach,
    }
}

/// What becomes of a path that was announced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Standing {
    Best,
    /// Equal to the best.
    Multipath,
    /// Equal to the best as well, but one that is preferred has its next hop.
    SameNextHop,
    /// Equal to the best as well, but there are as many as there may be.
    Full,
    /// In this step.
    Lost(Step),
    /// It was never compared.
    Refused(Fate),
}

/// Steps of the decision process, after what is originated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Stale,
    Shutdown,
    Class,
    LocalPref,
    AsPath,
    Origin,
    Med,
    /// Of gateways none does, and nobody else shares the route server's ASN.
    Internal,
}

/// What becomes of each of the paths that peers have announced for a prefix.
pub(super) fn standings(server: &Server, paths: &[Path<'_>]) -> Vec<(SessionKey, Standing)> {
    let is_taken = |path: &&Path<'_>| matches!(path.fate, Fate::Taken(_));
    let (taken, refused): (Vec<_>, Vec<_>) = paths.iter().partition(is_taken);
    let refused = refused
        .into_iter()
        .map(|path| (path.clone(), Standing::Refused(path.fate)));
    let Compared { equals, lost } = compare(server, taken.into_iter().cloned().collect());
    let lost = lost
        .into_iter()
        .map(|(path, step)| (path, Standing::Lost(step)));
    let mut members = BTreeSet::new();
    let equals = equals.into_iter().map(|path| {
        let standing = if members.contains(&path.route.next_hop) {
            Standing::SameNextHop
        } else if members.len() == server.max_paths {
            Standing::Full
        } else if members.is_empty() {
            Standing::Best
        } else {
            Standing::Multipath
        };
        if matches!(standing, Standing::Best | Standing::Multipath) {
            members.insert(path.route.next_hop);
        }
        (path, standing)
    });
    refused
        .chain(lost)
        .chain(equals)
        .filter_map(|(path, standing)| Some((path.from?, standing)))
        .collect()
}

/// The paths that the steps of the decision process leave, those that are preferred among equals
/// first.
pub(super) fn decide<'a>(server: &Server, paths: Vec<Path<'a>>) -> Vec<Path<'a>> {
    compare(server, paths).equals
}

struct Compared<'a> {
    /// Those that are preferred first.
    equals: Vec<Path<'a>>,
    lost: Vec<(Path<'a>, Step)>,
}

/// The same, and each of the others with the step that it lost in.
fn compare<'a>(server: &Server, mut paths: Vec<Path<'a>>) -> Compared<'a> {
    let has = |path: &Path<'_>, community| path.route.communities.contains(&community);
    let mut lost = Vec::new();
    // 1 and 2: what is about to go.
    keep_lowest(&mut paths, &mut lost, Step::Stale, |path| {
        has(path, LLGR_STALE)
    });
    keep_lowest(&mut paths, &mut lost, Step::Shutdown, |path| {
        has(path, GRACEFUL_SHUTDOWN)
    });
    // 3: the class.
    keep_lowest(&mut paths, &mut lost, Step::Class, |path| {
        match server.preference {
            Preference::ExpressRoute => path.kind() != Kind::ExpressRoute,
            Preference::VpnGateway => path.kind() == Kind::ExpressRoute,
            Preference::AsPath => false,
        }
    });
    // 4 to 6.
    keep_lowest(&mut paths, &mut lost, Step::LocalPref, |path| {
        u32::MAX - local_pref(&path.route)
    });
    keep_lowest(&mut paths, &mut lost, Step::AsPath, |path| {
        path.route.as_path.len()
    });
    keep_lowest(&mut paths, &mut lost, Step::Origin, |path| {
        path.route.origin
    });
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
    keep_lowest(&mut paths, &mut lost, Step::Med, |path| {
        med(path) != lowest[&neighbour(path)]
    });
    // 8 is not applied to gateways, and nobody else shares the route server's ASN.
    paths.sort_by_key(|path| {
        let Path { peer, route, .. } = path;
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        (
            route
                .originator
                .unwrap_or(peer.map_or(0, |peer| peer.router_id)),
            route.clusters.len(),
            peer.map_or(nobody, |peer| peer.address),
            path.from.map(|from| from.instance),
            route.next_hop,
        )
    });
    Compared {
        equals: paths,
        lost,
    }
}

/// Those with another than the lowest value lose in this step.
fn keep_lowest<'a, K: Ord>(
    paths: &mut Vec<Path<'a>>,
    lost: &mut Vec<(Path<'a>, Step)>,
    step: Step,
    key: impl Fn(&Path<'a>) -> K,
) {
    if let Some(lowest) = paths.iter().map(&key).min() {
        let others = paths.extract_if(.., |path| key(path) != lowest);
        lost.extend(others.map(|path| (path, step)));
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
    let mut sent = BTreeMap::new();
    if !state.is_up(to) {
        return sent;
    }
    let own = own_routes(state, to);
    for (prefix, paths) in paths {
        if own.contains_key(prefix) {
            continue;
        }
        let candidates = paths
            .iter()
            .filter_map(|path| to_be_sent(server, *prefix, path, to));
        let (paths, routes): (Vec<_>, Vec<_>) = candidates.unzip();
        let best = decide(server, paths.clone());
        if let Some(best) = best.first() {
            // The one that was worked out for it.
            let place = paths.iter().position(|path| {
                path.from == best.from && path.route.next_hop == best.route.next_hop
            });
            sent.insert(*prefix, routes[place.expect("one of them")].clone());
        }
    }
    sent.extend(
        own.into_iter()
            .filter_map(|(prefix, route)| Some((prefix, route?))),
    );
    sent
}

/// The prefixes that a session is sent as the route server's own, whatever is learned; `None`: but
/// cannot be.
pub(super) fn own_routes(state: &State, to: SessionKey) -> BTreeMap<Prefix, Option<Route>> {
    let server = &state.servers[to.server];
    let peer = state.peer(to);
    let addresses = &server.instances[to.instance].addresses;
    let here = |prefix: Prefix| {
        let mut addresses = addresses.iter();
        addresses
            .find(|address| address.is_ipv4() == prefix.address.is_ipv4())
            .copied()
    };
    let mut own = BTreeMap::new();
    for (prefix, advertised) in &server.advertised {
        let same = |place: &usize| server.peers[*place].gateway == peer.gateway;
        if advertised.to.contains(&peer.kind) || advertised.to_peers.iter().any(same) {
            let route = |next_hop| Route {
                med: advertised.med,
                communities: advertised.communities.clone(),
                ..own_route(next_hop)
            };
            let next_hop = advertised.next_hop.or(here(*prefix));
            own.insert(*prefix, next_hop.map(route));
        }
    }
    let mut plain = originated(state, to.server);
    if peer.policy.default_originate {
        plain.extend(["0.0.0.0/0", "::/0"].map(Prefix::read));
    }
    for prefix in plain {
        own.insert(prefix, here(prefix).map(own_route));
    }
    for (prefix, route) in &mut own {
        *route = route.take().and_then(|route| {
            let map = maps(server, peer).outbound;
            let route = match map {
                Some(map) => {
                    let sources = [Source::Originated];
                    server.route_maps[map].apply(*prefix, &sources, route, &mut None)?
                }
                None => route,
            };
            Some(addressed(server, route, false, 0, peer, false))
        });
    }
    own
}

/// Whether what one kind learns goes to the other at all.
pub(super) fn passes(server: &Server, from: Kind, to: Kind) -> bool {
    match (from, to) {
        (Kind::Nva, Kind::Nva) => server.reflect,
        (Kind::ExpressRoute, Kind::ExpressRoute) | (Kind::Vpn, Kind::Vpn) => false,
        _ => server.branch_to_branch,
    }
}

/// A path that a session may be sent, and what it would look like.
fn to_be_sent<'a>(
    server: &Server,
    prefix: Prefix,
    path: &Path<'a>,
    to: SessionKey,
) -> Option<(Path<'a>, Route)> {
    let peer = &server.peers[to.peer];
    let has = |community| path.route.communities.contains(&community);
    let external = peer.asn != server.asn;
    let may = matches!(path.fate, Fate::Taken(_))
        && path.from.map(|from| from.peer) != Some(to.peer)
        && passes(server, path.kind(), peer.kind)
        && !has(NO_ADVERTISE)
        // No peer here speaks long-lived graceful restart.
        && !(external && (has(NO_EXPORT) || has(LLGR_STALE)));
    if !may {
        return None;
    }
    let route = match maps(server, peer).outbound {
        Some(map) => {
            let route = path.route.clone();
            server.route_maps[map].apply(prefix, &path.sources(server), route, &mut None)?
        }
        None => path.route.clone(),
    };
    // What counts is the next hop that it would be sent with.
    if route.next_hop == peer.address {
        return None;
    }
    let router_id = path.peer.map_or(0, |peer| peer.router_id);
    let internal = path.internal(server);
    let route = addressed(
        server,
        route,
        internal,
        router_id,
        peer,
        peer.policy.transparent,
    );
    Some((path.clone(), route))
}

/// A route as a peer is sent it; whether it comes from within the AS, and from whom.
fn addressed(
    server: &Server,
    mut route: Route,
    internal: bool,
    router_id: u32,
    peer: &Peer,
    transparent: bool,
) -> Route {
    if peer.policy.remove_private_as {
        let private = |asn: &u32| matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294);
        // The own one stays, wherever it stands.
        route
            .as_path
            .retain(|asn| *asn == server.asn || !private(asn));
    }
    if peer.asn == server.asn {
        route.local_pref = Some(local_pref(&route));
        if route.communities.contains(&LLGR_STALE) {
            route.local_pref = Some(0);
            route.communities.insert(NO_EXPORT);
        }
        // From one member of the AS to another: as a route reflector.
        if internal {
            route.originator.get_or_insert(router_id);
            route.clusters.insert(0, server.cluster_id);
        }
        return route;
    }
    route.local_pref = None;
    route.originator = None;
    route.clusters.clear();
    if peer.policy.as_override {
        for asn in &mut route.as_path {
            if *asn == peer.asn {
                *asn = server.asn;
            }
        }
    }
    if !transparent || route.as_path.is_empty() {
        route.as_path.insert(0, server.asn);
    }
    route
}

/// What is learned for a prefix as one user sees it, who takes routes of these kinds and reaches
/// next hops in these networks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Learned {
    /// The next hops; those to use while none of them is alive.
    Members(Hops, Hops),
    Nowhere,
    Blackhole,
}

/// A next hop: its network and its address.
pub(crate) type Hop = (usize, IpAddr);

/// Next hops, each with its share of the flows.
pub(crate) type Hops = BTreeMap<Hop, u32>;

pub(super) fn learned(
    server: &Server,
    paths: &[Path<'_>],
    kinds: &BTreeSet<Kind>,
    reach: &BTreeSet<usize>,
) -> Option<Learned> {
    let of_kinds = paths.iter().filter(|path| kinds.contains(&path.kind()));
    let usable: Vec<_> = of_kinds
        .clone()
        .filter(|path| matches!(path.fate, Fate::Taken(network) if reach.contains(&network)))
        .cloned()
        .collect();
    let best = decide(server, usable.clone());
    let Some(first) = best.first() else {
        let exists = of_kinds
            .clone()
            .any(|path| matches!(path.fate, Fate::Taken(_) | Fate::OutOfReach));
        return exists.then_some(Learned::Nowhere);
    };
    let may_blackhole = first.peer.is_some_and(|peer| peer.policy.allow_blackhole);
    if may_blackhole && first.route.communities.contains(&BLACKHOLE) {
        return Some(Learned::Blackhole);
    }
    let members = hops(server, &best);
    let others = usable
        .iter()
        .filter(|path| hop(path).is_none_or(|hop| !members.contains_key(&hop)))
        .cloned();
    let backups = hops(server, &decide(server, others.collect()));
    Some(Learned::Members(members, backups))
}

/// The next hops of equal paths, preferred ones first, as many as there may be.
fn hops(server: &Server, paths: &[Path<'_>]) -> Hops {
    let mut hops = Hops::new();
    for path in paths {
        if let Some(hop) = hop(path)
            && hops.len() < server.max_paths
        {
            let weight = path.weight.map_or(1, u32::from);
            hops.entry(hop).or_insert(weight);
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
