//! Random cases: a state to begin with, and changes, one at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use arbitrary::{Result, Unstructured};

use super::model::{
    Instance, Kind, Network, Peer, Peering, Policy, Port, Preference, Prefix, Route, Server,
    Session, SessionKey, State, Subnet, Table, Way,
};
use crate::pick;

/// What the product can do; a case has nothing else.
mod scope {
    pub(super) const GATEWAYS: bool = false;
    pub(super) const PEERINGS: bool = false;
    pub(super) const ROUTE_TABLES: bool = false;
    pub(super) const POLICIES: bool = false;
}

/// Most changes of one case.
const STEPS: usize = 60;

/// Networks; the first and the last have a route server.
const NETWORKS: usize = 4;

/// What a world is to be told; the state has it already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Announced(SessionKey, Prefix),
    Withdrawn(SessionKey, Prefix),
    Up(SessionKey),
    Down(SessionKey),
    Configured,
}

/// A state and how it goes on.
pub(super) struct Case {
    pub(super) state: State,
    /// Prefixes that most announcements are about, so that paths meet.
    contested: Vec<Prefix>,
    steps: usize,
    waiting: Vec<Change>,
    /// Decides how it is told once more.
    order: u64,
}

impl Case {
    pub(super) fn read(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let order = bytes.arbitrary()?;
        let mut state = State {
            networks: (0..NETWORKS).map(network).collect(),
            tables: (0..2).map(|_| table()).collect(),
            servers: Vec::new(),
        };
        for home in [0, NETWORKS - 1] {
            let server = server(bytes, home)?;
            place(&mut state, &server);
            state.servers.push(server);
        }
        let contested = (0..4)
            .map(|_| prefix(bytes, &state))
            .collect::<Result<_>>()?;
        let mut case = Self {
            state,
            contested,
            steps: 0,
            waiting: Vec::new(),
            order,
        };
        for _ in 0..bytes.int_in_range(0..=8)? {
            case.configure(bytes)?;
        }
        case.waiting = case.state.sessions().into_iter().map(Change::Up).collect();
        for key in case.state.sessions() {
            case.state.session_mut(key).up = true;
        }
        Ok(case)
    }

    /// Changes the state, and says how.
    pub(super) fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<Option<Change>> {
        if let Some(change) = self.waiting.pop() {
            return Ok(Some(change));
        }
        // Without this, what is missing would be read as zeros, step after step.
        if bytes.is_empty() || self.steps == STEPS {
            return Ok(None);
        }
        self.steps += 1;
        let key = session(bytes, &self.state)?;
        match bytes.arbitrary::<u8>()? % 16 {
            0..=8 => {
                let prefix = if bytes.ratio(3, 4)? {
                    pick(bytes, &self.contested)?
                } else {
                    prefix(bytes, &self.state)?
                };
                let route = route(bytes, &self.state, key, prefix)?;
                // Mostly the same to both.
                let both = bytes.ratio(3, 4)?;
                for instance in [0, 1] {
                    if both || instance == key.instance {
                        let key = SessionKey { instance, ..key };
                        let session = self.state.session_mut(key);
                        session.announced.insert(prefix, route.clone());
                        self.waiting.push(Change::Announced(key, prefix));
                    }
                }
            }
            9 | 10 => {
                let known = &self.state.peer(key).sessions[key.instance].announced;
                let known: Vec<_> = known.keys().copied().collect();
                if !known.is_empty() {
                    let prefix = pick(bytes, &known)?;
                    for instance in [0, 1] {
                        let key = SessionKey { instance, ..key };
                        if self
                            .state
                            .session_mut(key)
                            .announced
                            .remove(&prefix)
                            .is_some()
                        {
                            self.waiting.push(Change::Withdrawn(key, prefix));
                        }
                    }
                }
            }
            11 => {
                let session = self.state.session_mut(key);
                session.up = !session.up;
                if session.up {
                    self.waiting.push(Change::Up(key));
                    let known = session.announced.keys();
                    let known = known.map(|prefix| Change::Announced(key, *prefix));
                    self.waiting.extend(known);
                } else {
                    self.waiting.push(Change::Down(key));
                }
            }
            _ => {
                self.configure(bytes)?;
                self.waiting.push(Change::Configured);
            }
        }
        self.waiting.reverse();
        Ok(self.waiting.pop().or(Some(Change::Configured)))
    }

    /// The final state in another order: sessions and announcements only.
    pub(super) fn retold(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in self.state.sessions() {
            let session = &self.state.peer(key).sessions[key.instance];
            if session.up {
                changes.push(Change::Up(key));
            }
        }
        self.shuffle(&mut changes);
        let ups = changes.len();
        for key in self.state.sessions() {
            let session = &self.state.peer(key).sessions[key.instance];
            if session.up {
                let announced = session.announced.keys();
                changes.extend(announced.map(|prefix| Change::Announced(key, *prefix)));
            }
        }
        self.shuffle(&mut changes[ups..]);
        changes
    }

    fn shuffle(&self, changes: &mut [Change]) {
        let mut random = self.order | 1;
        for place in (1..changes.len()).rev() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            changes.swap(place, (random >> 33) as usize % (place + 1));
        }
    }

    /// One setting becomes another one.
    fn configure(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let state = &mut self.state;
        match bytes.arbitrary::<u8>()? % 8 {
            0..=2 => setting(bytes, state)?,
            3 | 4 => {
                let key = session(bytes, state)?;
                policy(bytes, &mut state.servers[key.server].peers[key.peer].policy)?;
            }
            5 => space(bytes, state)?,
            6 if scope::PEERINGS => peering(bytes, state)?,
            7 if scope::ROUTE_TABLES => user_defined(bytes, state)?,
            _ => {}
        }
        mend(state);
        Ok(())
    }
}

// -- Networks ----------------------------------------------------------------------------------

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// In the network of this place: third byte and host of IPv4, and the same for IPv6.
fn hosts(network: usize, subnet: u8, host: u8) -> [IpAddr; 2] {
    let number = network + 1;
    [
        address(&format!("10.{number}.{subnet}.{host}")),
        address(&format!("fd00:{number}:0:{subnet}::{host}")),
    ]
}

fn network(place: usize) -> Network {
    let number = place + 1;
    let subnet = |third: u8| Subnet {
        prefixes: vec![
            Prefix::read(&format!("10.{number}.{third}.0/24")),
            Prefix::read(&format!("fd00:{number}:0:{third}::/64")),
        ],
        host: hosts(place, third, 1).into(),
        table: None,
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
const NVAS: u8 = 10;
const GATEWAYS: u8 = 3;

/// Gives each peer its port.
fn place(state: &mut State, server: &Server) {
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

fn table() -> Table {
    Table {
        propagate: Kind::ALL.into(),
        routes: BTreeMap::new(),
    }
}

/// The address space or the uplink of a network.
fn space(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
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

/// One side of a peering, or one of its settings.
fn peering(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
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

/// What a configuration is refused for goes: remote route servers that may not be used.
fn mend(state: &mut State) {
    for place in 0..NETWORKS {
        let homes: Vec<_> = state.servers.iter().map(|server| server.network).collect();
        let mut may = !homes.contains(&place);
        let valid: Vec<_> = (0..NETWORKS)
            .filter(|other| homes.contains(other) && state.uses_remote(place, *other))
            .collect();
        for (other, peering) in &mut state.networks[place].peerings {
            peering.use_remote &= may && valid.contains(other);
            may &= !peering.use_remote;
        }
    }
}

fn user_defined(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let place = bytes.choose_index(state.tables.len())?;
    match bytes.arbitrary::<u8>()? % 4 {
        0 => {
            let network = bytes.choose_index(NETWORKS)?;
            let subnet = bytes.choose_index(3)?;
            let table = bytes.arbitrary::<bool>()?.then_some(place);
            state.networks[network].subnets[subnet].table = table;
        }
        1 => {
            let bits: u8 = bytes.arbitrary()?;
            let chosen = |kind: &Kind| bits >> *kind as u8 & 1 != 0;
            state.tables[place].propagate = Kind::ALL.into_iter().filter(chosen).collect();
        }
        _ => {
            let prefix = prefix(bytes, state)?;
            let v4 = usize::from(prefix.address.is_ipv6());
            let network = bytes.choose_index(NETWORKS)?;
            let way = match bytes.arbitrary::<u8>()? % 10 {
                0..=3 => Way::Appliance(hosts(network, NVAS, 4 + (network as u8 & 1))[v4]),
                4 => Way::Appliance(address(["192.0.2.9", "2001:db8::9"][v4])),
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

// -- Route servers -----------------------------------------------------------------------------

fn server(bytes: &mut Unstructured<'_>, network: usize) -> Result<Server> {
    let asn = pick(bytes, &[65515, 65515, 64499])?;
    let v6 = bytes.ratio(3, 4)?;
    let instances = [4, 5].map(|host| Instance {
        router_id: 0x0a00_0000 | (network as u32) << 8 | u32::from(host),
        addresses: hosts(network, 255, host)[..1 + usize::from(v6)].into(),
    });
    let mut peers = Vec::new();
    for number in 0..bytes.int_in_range(2..=4)? {
        let asn = pick(bytes, &[65010, 65010, 65020, 64496, 4_200_000_001])?;
        peers.push(peer(
            bytes,
            Kind::Nva,
            number,
            hosts(network, NVAS, 4 + number)[0],
            asn,
        )?);
    }
    if scope::GATEWAYS {
        // Gateway, kind, address: two ExpressRoute gateways and two for VPN, with a member or two.
        for (number, kind, host) in [
            (10, Kind::ExpressRoute, 4),
            (10, Kind::ExpressRoute, 5),
            (11, Kind::ExpressRoute, 6),
            (12, Kind::Vpn, 8),
            (12, Kind::Vpn, 9),
            (13, Kind::Vpn, 10),
        ] {
            if bytes.arbitrary()? {
                let known = peers
                    .iter()
                    .find(|peer: &&Peer| peer.gateway == usize::from(number));
                let theirs = match known.map(|peer| peer.asn) {
                    Some(asn) => asn,
                    None => pick(bytes, &[asn, asn, 65100, 64497, 65010])?,
                };
                let place = hosts(network, GATEWAYS, host)[0];
                peers.push(peer(bytes, kind, number, place, theirs)?);
            }
        }
    }
    Ok(Server {
        network,
        asn,
        instances,
        cluster_id: 0x0a00_00ff,
        reflect: true,
        branch_to_branch: false,
        preference: Preference::ExpressRoute,
        always_compare_med: false,
        max_paths: 8,
        peers,
    })
}

fn peer(
    bytes: &mut Unstructured<'_>,
    kind: Kind,
    gateway: u8,
    address: IpAddr,
    asn: u32,
) -> Result<Peer> {
    Ok(Peer {
        kind,
        gateway: gateway.into(),
        address,
        asn,
        // Sometimes the same.
        router_id: pick(bytes, &[0x0a0a_0001, 0x0a0a_0002, 0x0a0a_0003])?,
        policy: Policy {
            allow_own_as: 0,
            enforce_first_as: true,
            max_as_path_length: 255,
            as_override: false,
            transparent: false,
            remove_private_as: false,
            allow_blackhole: false,
        },
        sessions: [Session::default(), Session::default()],
    })
}

fn setting(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let place = bytes.choose_index(state.servers.len())?;
    let server = &mut state.servers[place];
    match bytes.arbitrary::<u8>()? % 6 {
        0 => server.reflect = !server.reflect,
        1 | 2 => server.branch_to_branch = !server.branch_to_branch,
        3 => {
            server.preference = pick(
                bytes,
                &[
                    Preference::ExpressRoute,
                    Preference::VpnGateway,
                    Preference::AsPath,
                ],
            )?;
        }
        4 if scope::POLICIES => server.always_compare_med = !server.always_compare_med,
        _ => server.max_paths = pick(bytes, &[1, 2, 8])?,
    }
    Ok(())
}

fn policy(bytes: &mut Unstructured<'_>, policy: &mut Policy) -> Result<()> {
    match bytes.arbitrary::<u8>()? % 8 {
        0 => policy.allow_own_as = pick(bytes, &[0, 1, 2])?,
        1 => policy.enforce_first_as = !policy.enforce_first_as,
        2 => policy.max_as_path_length = pick(bytes, &[2, 255])?,
        3 => policy.as_override = !policy.as_override,
        4 => policy.transparent = !policy.transparent,
        5 | 6 if scope::POLICIES => policy.allow_blackhole = !policy.allow_blackhole,
        7 if scope::POLICIES => policy.remove_private_as = !policy.remove_private_as,
        _ => {}
    }
    Ok(())
}

// -- Paths -------------------------------------------------------------------------------------

fn session(bytes: &mut Unstructured<'_>, state: &State) -> Result<SessionKey> {
    pick(bytes, &state.sessions())
}

fn prefix(bytes: &mut Unstructured<'_>, state: &State) -> Result<Prefix> {
    const OTHERS: [&str; 16] = [
        "0.0.0.0/0",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "192.168.7.0/24",
        "198.18.0.0/15",
        "198.18.7.0/24",
        "198.18.7.1/32",
        "2001:db8:7::/48",
        "2001:db8:7:1::/64",
        "10.1.7.0/24",
        "10.2.1.0/24",
        "fd00:1:0:7::/64",
    ];
    let own = state.networks.iter().flat_map(|network| &network.prefixes);
    let own: BTreeSet<_> = own.copied().collect();
    if bytes.ratio(1, 5)? {
        let own: Vec<_> = own.into_iter().collect();
        return pick(bytes, &own);
    }
    Ok(Prefix::read(pick(bytes, &OTHERS)?))
}

fn route(
    bytes: &mut Unstructured<'_>,
    state: &State,
    key: SessionKey,
    prefix: Prefix,
) -> Result<Route> {
    const COMMUNITIES: [u32; 8] = [
        0xfde8_0001,
        0xfde8_0002,
        // BLACKHOLE, GRACEFUL_SHUTDOWN, LLGR_STALE, NO_EXPORT, NO_ADVERTISE.
        0xffff_029a,
        0xffff_029a,
        0xffff_0000,
        0xffff_0006,
        0xffff_ff01,
        0xffff_ff02,
    ];
    let server = &state.servers[key.server];
    let peer = state.peer(key);
    let internal = peer.asn == server.asn;
    // One in three has nothing that would tell it from others.
    let plain = bytes.ratio(1, 3)?;
    let flags: u8 = if plain { 0xf0 } else { bytes.arbitrary()? };
    let mut as_path = Vec::new();
    if !internal && flags & 0xf0 != 0 {
        as_path.push(peer.asn);
    }
    for _ in 0..flags & 3 {
        let asns = [
            64600,
            64601,
            64496,
            65010,
            65020,
            65515,
            server.asn,
            4_200_000_001,
        ];
        as_path.push(pick(bytes, &asns)?);
    }
    let mut communities = BTreeSet::new();
    if flags & 12 == 12 {
        communities.insert(pick(bytes, &COMMUNITIES)?);
        communities.insert(pick(bytes, &COMMUNITIES)?);
    }
    let mut route = Route {
        next_hop: next_hop(bytes, server, peer, prefix)?,
        as_path,
        origin: if plain {
            0
        } else {
            pick(bytes, &[0, 0, 0, 1, 2])?
        },
        med: if plain {
            None
        } else {
            pick(bytes, &[None, None, Some(0), Some(10), Some(20)])?
        },
        local_pref: None,
        communities,
        originator: None,
        clusters: Vec::new(),
    };
    if internal {
        route.local_pref = pick(bytes, &[Some(100), Some(100), Some(50), Some(200)])?;
        if flags & 0x10 != 0 {
            route.originator = Some(pick(bytes, &[0x0a0a_0001, 0x0a0a_0009])?);
            let cluster = pick(bytes, &[1, 2, 3, 4, server.cluster_id])?;
            route.clusters = vec![cluster, 5][..1 + usize::from(flags >> 5 & 1)].into();
        }
    }
    Ok(route)
}

fn next_hop(
    bytes: &mut Unstructured<'_>,
    server: &Server,
    peer: &Peer,
    prefix: Prefix,
) -> Result<IpAddr> {
    let family = usize::from(prefix.address.is_ipv6());
    let here = server.network;
    let place = server
        .peers
        .iter()
        .position(|other| other.address == peer.address);
    let number = place.expect("a peer of the route server") as u8;
    let subnet = if peer.kind == Kind::Nva {
        NVAS
    } else {
        GATEWAYS
    };
    let own = if family == 0 {
        peer.address
    } else {
        hosts(here, subnet, 100 + number)[1]
    };
    Ok(match bytes.arbitrary::<u8>()? % 20 {
        0..=9 => own,
        // A load balancer, another appliance.
        10 | 11 => hosts(here, NVAS, 50)[family],
        12 | 13 => hosts(here, NVAS, 4)[family],
        // In other networks.
        14 | 15 => hosts(1, NVAS, 4)[family],
        16 => hosts(2, NVAS, 5)[family],
        17 => address(["192.0.2.1", "2001:db8::1"][family]),
        // No next hops.
        18 => hosts(here, 255, 5)[family],
        _ => {
            let odd = [
                [
                    hosts(here, NVAS, 1)[0],
                    address("127.0.0.1"),
                    address("224.0.0.5"),
                    address("0.0.0.0"),
                ],
                [
                    hosts(here, NVAS, 1)[1],
                    address("::1"),
                    address("ff02::5"),
                    address("::"),
                ],
            ];
            pick(bytes, &odd[family])?
        }
    })
}
