//! Random sequences of events: whatever the order, in the end every peer and every subnet has what
//! the model says.

use proptest::{prelude::*, sample::select};

use super::{
    model::{Model, ModelSession},
    *,
};
use crate::bgp::wire::{AsSegment, AsSegmentKind, Origin, community};

mod shadow;

/// Name, address, ASN, router id: the order of router ids is not that of addresses, and two share
/// an ASN and one the router id of another.
const PEERS: [(&str, [u8; 4], Asn, [u8; 4]); 4] = [
    ("sdwan", [10, 1, 10, 4], 65010, [9, 0, 0, 1]),
    ("fw", [10, 1, 20, 4], 65020, [3, 0, 0, 1]),
    ("fw2", [10, 1, 20, 5], 65020, [1, 0, 0, 1]),
    ("vpn", [10, 1, 30, 4], 65030, [3, 0, 0, 1]),
];

/// Families in which the peer is sent several paths a prefix (ADD-PATH).
fn add_path(peer: usize) -> Vec<Family> {
    match PEERS[peer].0 {
        "fw2" => Family::ALL.to_vec(),
        "vpn" => vec![Family::Ipv4Unicast],
        _ => vec![],
    }
}

const NETS: [&str; 6] = [
    "0.0.0.0/0",
    "10.1.0.0/16",
    "10.250.0.0/16",
    "10.250.0.0/24",
    "fd00:1::/48",
    "fd00:250::/48",
];

#[derive(Clone, Debug)]
enum Action {
    Up(usize, u8),
    Down(usize, u8),
    Announce(usize, u8, Vec<(usize, u32)>, Box<Route>),
    Withdraw(usize, u8, Vec<(usize, u32)>),
    /// The peer asks for all routes again.
    Refresh(usize, u8, Family),
    /// The peer announces all its routes again (BoRR), or has done so (EoRR).
    Refreshes(usize, u8, Family, bool),
    Originate(Vec<usize>),
    Reflect(bool),
    MaxPaths(u8),
    MaxSent(u8),
    Policy(usize, PeerPolicy),
    Drain(usize, u8, bool),
    Step,
    Deliver,
}

/// A route's attributes but for what depends on its peer.
#[derive(Clone, Debug)]
struct Route {
    tail: Vec<Asn>,
    first_as_is_the_peers: bool,
    set: bool,
    next_hop: usize,
    local_pref: Option<u32>,
    med: Option<u32>,
    origin: Origin,
    communities: Vec<u32>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_peer_and_every_subnet_ends_up_with_what_the_model_says(
        chunk in 1_usize..8,
        actions in prop::collection::vec(action(), 1..60),
    ) {
        crate::rib::MOVED_AT_ONCE.set(chunk);
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.settle_and_compare();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// The final state of the world is reached by its shortest history, in any order.
    #[test]
    fn the_end_state_does_not_depend_on_the_order_of_events(
        chunk in 1_usize..8,
        actions in prop::collection::vec(action(), 1..60),
        seed in any::<u64>(),
    ) {
        crate::rib::MOVED_AT_ONCE.set(chunk);
        let mut long = World::new();
        for action in &actions {
            long.act(action);
        }
        long.settle_and_compare();

        let mut short_world = World::new();
        short_world.model.originated = long.model.originated.clone();
        short_world.lab.server.set_originated(long.model.originated.clone());
        short_world.model.max_sent = long.model.max_sent;
        short_world.model.policies = long.model.policies.clone();
        short_world.model.drained = long.model.drained.clone();
        for (address, instance) in &long.model.drained {
            let peer = PEERS.iter().find(|peer| Ipv4Addr::from(peer.1) == *address);
            let id = short_world.lab.id(peer.expect("one of the peers").0, *instance);
            short_world.lab.server.set_drained(&[id], true, short_world.lab.now);
        }
        short_world.configure(long.model.reflect, long.model.max_paths as u8);
        let mut events: Vec<_> = long.model.sessions.iter().collect();
        events.sort_by_key(|((peer, instance), _)| {
            seed.rotate_left(u32::from(*instance) * 8 + u32::from(peer.octets()[3]))
        });
        for ((address, instance), session) in events {
            let peer = PEERS.iter().position(|peer| Ipv4Addr::from(peer.1) == *address);
            let peer = peer.expect("one of the peers");
            short_world.act(&Action::Up(peer, *instance));
            for ((net, path_id), attributes) in session.routes.iter().rev() {
                short_world.announce(peer, *instance, vec![(*net, *path_id)], attributes);
            }
        }
        short_world.settle_and_compare();
        prop_assert_eq!(&long.lab.learned, &short_world.lab.learned);
        for (id, far) in &long.lab.sessions {
            let mut short: BTreeMap<IpNet, Vec<PathAttributes>> = BTreeMap::new();
            for (nlri, attributes) in &short_world.lab.sessions[id].holds {
                short.entry(nlri.prefix).or_default().push(attributes.clone());
            }
            assert_same_paths(&far.holds, &short);
        }
    }
}

/// The route server and the model, side by side.
struct World {
    lab: Lab,
    model: Model,
}

impl World {
    fn new() -> Self {
        Self {
            lab: Lab::new(&world_config(true, 8, 2)),
            model: Model {
                reflect: true,
                max_paths: 8,
                max_sent: 2,
                ..Model::default()
            },
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Up(peer, instance) => self.up(*peer, *instance),
            Action::Down(peer, instance) => {
                let key = key(*peer, *instance);
                if self.model.sessions.remove(&key).is_some() {
                    self.lab.down(PEERS[*peer].0, *instance);
                }
            }
            Action::Announce(peer, instance, nets, route) => {
                for v6 in [false, true] {
                    let nets: Vec<(IpNet, u32)> = nets
                        .iter()
                        .map(|(net, path_id)| (prefix(NETS[*net]), *path_id))
                        .filter(|(net, _)| matches!(net, IpNet::V6(_)) == v6)
                        .collect();
                    let attributes = route.attributes(PEERS[*peer].2, v6);
                    self.announce(*peer, *instance, nets, &attributes);
                }
            }
            Action::Withdraw(peer, instance, nets) => {
                let Some(session) = self.model.sessions.get_mut(&key(*peer, *instance)) else {
                    return;
                };
                let mut nlri = Vec::new();
                for (net, path_id) in nets {
                    let prefix = prefix(NETS[*net]);
                    session.routes.remove(&(prefix, *path_id));
                    session.stale.remove(&(prefix, *path_id));
                    nlri.push(Nlri {
                        prefix,
                        path_id: *path_id,
                    });
                }
                let withdraw = RouteChange::Withdraw {
                    nlri,
                    malformed: None,
                };
                self.lab.send(PEERS[*peer].0, *instance, vec![withdraw]);
            }
            Action::Refresh(peer, instance, family) => {
                let (id, family) = (self.lab.id(PEERS[*peer].0, *instance), *family);
                let event = SessionEvent::RefreshRequested { id, family };
                self.lab.server.handle(event, self.lab.now);
            }
            Action::Refreshes(peer, instance, family, ends) => {
                let Some(session) = self.model.sessions.get_mut(&key(*peer, *instance)) else {
                    return;
                };
                session.refresh(*family, *ends);
                self.lab.now += Duration::from_secs(1);
                self.lab
                    .refreshes(PEERS[*peer].0, *instance, *family, *ends);
            }
            Action::MaxSent(max_sent) => {
                self.model.max_sent = (*max_sent).into();
                self.configure(self.model.reflect, self.model.max_paths as u8);
            }
            Action::Policy(peer, policy) => {
                self.model.policies.insert(PEERS[*peer].1.into(), *policy);
                self.configure(self.model.reflect, self.model.max_paths as u8);
            }
            Action::Drain(peer, instance, drained) => {
                let key = key(*peer, *instance);
                match drained {
                    true => self.model.drained.insert(key),
                    false => self.model.drained.remove(&key),
                };
                let id = self.lab.id(PEERS[*peer].0, *instance);
                self.lab.server.set_drained(&[id], *drained, self.lab.now);
            }
            Action::Originate(nets) => {
                let nets: BTreeSet<IpNet> = nets.iter().map(|net| prefix(NETS[*net])).collect();
                self.model.originated = nets.clone();
                self.lab.server.set_originated(nets);
            }
            Action::Reflect(reflect) => self.configure(*reflect, self.model.max_paths as u8),
            Action::MaxPaths(max_paths) => self.configure(self.model.reflect, *max_paths),
            Action::Step => self.lab.server.on_timeout(self.lab.now),
            Action::Deliver => self.lab.deliver(),
        }
    }

    fn up(&mut self, peer: usize, instance: u8) {
        let (name, _, asn, router_id) = PEERS[peer];
        let key = key(peer, instance);
        if self.model.sessions.contains_key(&key) {
            return;
        }
        let (id, mut negotiated) = self.lab.negotiated(name, instance);
        negotiated.peer_router_id = router_id.into();
        negotiated.add_path_receive = Family::ALL.to_vec();
        negotiated.add_path_send = add_path(peer);
        negotiated.enhanced_route_refresh = instance == 1;
        self.lab.up_with(id, negotiated);
        let session = ModelSession {
            asn,
            router_id: router_id.into(),
            routes: BTreeMap::new(),
            stale: BTreeSet::new(),
            add_path: add_path(peer),
        };
        self.model.sessions.insert(key, session);
    }

    fn announce(
        &mut self,
        peer: usize,
        instance: u8,
        nets: Vec<(IpNet, u32)>,
        attributes: &PathAttributes,
    ) {
        let Some(session) = self.model.sessions.get_mut(&key(peer, instance)) else {
            return;
        };
        for net in &nets {
            session.routes.insert(*net, attributes.clone());
            session.stale.remove(net);
        }
        let nlri = nets
            .into_iter()
            .map(|(prefix, path_id)| Nlri { prefix, path_id });
        let announce = RouteChange::Announce {
            attributes: Arc::new(attributes.clone()),
            nlri: nlri.collect(),
        };
        self.lab.send(PEERS[peer].0, instance, vec![announce]);
    }

    fn configure(&mut self, reflect: bool, max_paths: u8) {
        self.model.reflect = reflect;
        self.model.max_paths = max_paths.into();
        let mut config = world_config(reflect, max_paths, self.model.max_sent as u8);
        for peer in &mut config.peers {
            let IpAddr::V4(address) = peer.address else {
                continue;
            };
            let policy = self.model.policies.get(&address);
            peer.policy = policy.copied().unwrap_or_default();
        }
        self.lab
            .server
            .reconfigure(&config, &around(), self.lab.now);
    }

    fn settle_and_compare(&mut self) {
        // Refreshes that nobody ends are ended by their timer.
        self.lab.now += Duration::from_secs(24 * 3600);
        for session in self.model.sessions.values_mut() {
            for family in Family::ALL {
                session.refresh(family, true);
            }
        }
        self.lab.settle();
        let learned: BTreeMap<IpNet, (Vec<IpAddr>, Vec<IpAddr>)> = self
            .lab
            .learned
            .iter()
            .map(|(prefix, route)| {
                let addresses = |next_hops: &[crate::rib::LearnedNextHop]| {
                    next_hops.iter().map(|next_hop| next_hop.address).collect()
                };
                (
                    *prefix,
                    (addresses(&route.members), addresses(&route.backups)),
                )
            })
            .collect();
        assert_eq!(learned, self.model.learned());
        for (peer, instance) in self.model.sessions.keys() {
            let place = PEERS
                .iter()
                .position(|other| Ipv4Addr::from(other.1) == *peer);
            let name = PEERS[place.expect("one of the peers")].0;
            let far = self.lab.far(name, *instance);
            let expected = self.model.holds(*peer, *instance);
            assert_same_paths(&far.holds, &expected);
            assert_eq!(far.ended, Family::ALL);
            assert_eq!(far.refreshed.0, far.refreshed.1);
        }
        self.compare_rows();
    }

    /// What is shown is what was sent.
    fn compare_rows(&mut self) {
        let advertised = self.lab.server.advertised_rows(&Filter::default());
        for row in self.lab.server.peer_rows(self.lab.now) {
            let id = self.lab.id(row.peer.as_str(), row.instance);
            let holds = self.lab.sessions.get(&id).map(|far| &far.holds);
            let shown: BTreeMap<Nlri, (IpAddr, String)> = advertised
                .iter()
                .filter(|route| route.peer == row.peer && route.instance == row.instance)
                .map(|route| {
                    let nlri = Nlri {
                        prefix: route.prefix,
                        path_id: route.path_id.unwrap_or(0),
                    };
                    (nlri, (route.next_hop, route.as_path.clone()))
                })
                .collect();
            let held: BTreeMap<Nlri, (IpAddr, String)> = holds
                .into_iter()
                .flatten()
                .map(|(nlri, attributes)| {
                    let next_hop = attributes.next_hop.expect("sent with one").address();
                    (*nlri, (next_hop, attributes.as_path.to_string()))
                })
                .collect();
            assert_eq!(shown, held);
            assert_eq!(row.advertised, held.len());
        }
    }
}

/// The same paths for each prefix; identifiers are the sender's business, but for that none is
/// used twice.
fn assert_same_paths(
    holds: &BTreeMap<Nlri, PathAttributes>,
    expected: &BTreeMap<IpNet, Vec<PathAttributes>>,
) {
    let mut held: BTreeMap<IpNet, Vec<PathAttributes>> = BTreeMap::new();
    for (nlri, attributes) in holds {
        let paths = held.entry(nlri.prefix).or_default();
        paths.push(attributes.clone());
    }
    let sorted = |paths: &BTreeMap<IpNet, Vec<PathAttributes>>| {
        let mut paths = paths.clone();
        for paths in paths.values_mut() {
            paths.sort_by_key(|path| format!("{path:?}"));
        }
        paths
    };
    assert_eq!(sorted(&held), sorted(expected));
}

impl Route {
    fn attributes(&self, peer_asn: Asn, v6: bool) -> PathAttributes {
        let next_hops = match v6 {
            false => [
                "10.1.10.4",
                "10.1.20.4",
                "10.1.10.200",
                "10.1.255.5",
                "192.0.2.1",
            ],
            true => [
                "fd00:1:0:a::4",
                "fd00:1:0:14::4",
                "fd00:1:0:a::200",
                "fd00:1:0:ff::4",
                "2001:db8::1",
            ],
        };
        let first = if self.first_as_is_the_peers {
            peer_asn
        } else {
            65099
        };
        let path = [&[first], &self.tail[..]].concat();
        let mut attributes = PathAttributes {
            local_pref: self.local_pref,
            med: self.med,
            origin: self.origin,
            communities: self.communities.clone(),
            ..route(&path, next_hops[self.next_hop])
        };
        if self.set {
            attributes.as_path.segments.push(AsSegment {
                kind: AsSegmentKind::Set,
                asns: [65098].as_slice().into(),
            });
        }
        attributes
    }
}

fn action() -> impl Strategy<Value = Action> {
    let peer = || 0..PEERS.len();
    let nets = || prop::collection::vec((0..NETS.len(), prop::bool::weighted(0.2)), 1..4);
    let nets = move || {
        nets().prop_map(|nets| {
            let nets = nets.into_iter();
            nets.map(|(net, other_id)| (net, u32::from(other_id)))
                .collect::<Vec<_>>()
        })
    };
    prop_oneof![
        4 => (peer(), 1..=2_u8).prop_map(|(peer, instance)| Action::Up(peer, instance)),
        1 => (peer(), 1..=2_u8).prop_map(|(peer, instance)| Action::Down(peer, instance)),
        12 => (peer(), 1..=2_u8, nets(), route_strategy()).prop_map(
            |(peer, instance, nets, route)| {
                Action::Announce(peer, instance, nets, Box::new(route))
            }
        ),
        3 => (peer(), 1..=2_u8, nets())
            .prop_map(|(peer, instance, nets)| Action::Withdraw(peer, instance, nets)),
        1 => (peer(), 1..=2_u8, select(&Family::ALL[..]))
            .prop_map(|(peer, instance, family)| Action::Refresh(peer, instance, family)),
        2 => (peer(), 1..=2_u8, select(&Family::ALL[..]), any::<bool>()).prop_map(
            |(peer, instance, family, ends)| Action::Refreshes(peer, instance, family, ends)
        ),
        1 => prop::collection::vec(0..NETS.len(), 0..3).prop_map(Action::Originate),
        1 => prop::bool::weighted(0.7).prop_map(Action::Reflect),
        1 => (1..4_u8).prop_map(Action::MaxPaths),
        1 => (0..4_u8).prop_map(Action::MaxSent),
        2 => (peer(), policy()).prop_map(|(peer, policy)| Action::Policy(peer, policy)),
        2 => (peer(), 1..=2_u8, any::<bool>())
            .prop_map(|(peer, instance, drained)| Action::Drain(peer, instance, drained)),
        2 => Just(Action::Step),
        2 => Just(Action::Deliver),
    ]
}

/// Few values, so that ties are frequent; faults are rare.
fn policy() -> impl Strategy<Value = PeerPolicy> {
    let choices = (0..3_u8, select(&[1_u16, 3, 255][..]), any::<[bool; 2]>());
    choices.prop_map(|(allow_own_as, max_as_path_length, switches)| PeerPolicy {
        allow_own_as,
        max_as_path_length,
        as_override: switches[0],
        transparent: switches[1],
        ..PeerPolicy::default()
    })
}

fn route_strategy() -> impl Strategy<Value = Route> {
    let tail = prop_oneof![
        12 => prop::collection::vec(select(&[65011, 65012][..]), 0..2),
        1 => Just(vec![65515]),
        1 => Just(vec![0]),
    ];
    let communities = prop_oneof![
        8 => Just(vec![]),
        1 => Just(vec![community::GRACEFUL_SHUTDOWN]),
        1 => Just(vec![community::LLGR_STALE]),
        1 => Just(vec![community::NO_EXPORT]),
        1 => Just(vec![community::NO_ADVERTISE]),
    ];
    let next_hop =
        prop_oneof![5 => Just(0_usize), 5 => Just(1), 5 => Just(2), 1 => Just(3), 1 => Just(4)];
    let local_pref = prop_oneof![6 => Just(None), 1 => Just(Some(90)), 1 => Just(Some(100))];
    let origin = prop_oneof![6 => Just(Origin::Igp), 1 => Just(Origin::Incomplete)];
    let med = select(&[None, Some(0), Some(1), Some(2)][..]);
    let first_as_is_the_peers = prop::bool::weighted(0.95);
    let set = prop::bool::weighted(0.05);
    (
        tail,
        first_as_is_the_peers,
        set,
        next_hop,
        local_pref,
        med,
        origin,
        communities,
    )
        .prop_map(
            |(tail, first_as_is_the_peers, set, next_hop, local_pref, med, origin, communities)| {
                Route {
                    tail,
                    first_as_is_the_peers,
                    set,
                    next_hop,
                    local_pref,
                    med,
                    origin,
                    communities,
                }
            },
        )
}

/// Instance 2 has no IPv6 address.
fn world_config(reflect: bool, max_paths: u8, max_sent: u8) -> config::RouteServer {
    let mut config = config();
    config.instances[1].addresses.truncate(1);
    config.reflect_between_nvas = reflect;
    config.max_paths = max_paths;
    config.peers = PEERS
        .map(|(name, address, asn, _)| {
            let mut peer = peer(name, address, asn);
            peer.add_path.send = max_sent;
            peer
        })
        .to_vec();
    config
}

fn key(peer: usize, instance: u8) -> (Ipv4Addr, u8) {
    (PEERS[peer].1.into(), instance)
}
