//! What a plan says is what happens.

use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::{prelude::*, sample::subsequence};

use super::*;
use crate::{
    api::types::{AdvertisedRow, LearnedRow, PlannedSession},
    bgp::{
        SessionId,
        wire::{AsPath, Family, Negotiated, Nlri, Offer, PathAttributes},
    },
    config::parse,
    daemon::{core, server::sessions, supervisor},
    fib::{Change, Fib},
    names::{SubnetName, VnetName},
    route_server::{Filter, Recollection},
    vnet::Vnets,
};

const HUB: &str = include_str!("../../config/tests/hub.toml");

/// What may be changed in the file.
const CHANGES: [(&str, &str); 23] = [
    ("branch_to_branch = true", "branch_to_branch = false"),
    (
        "routing_preference = \"as_path\"",
        "routing_preference = \"vpn_gateway\"",
    ),
    ("always_compare_med = true\n", ""),
    ("\nallow_forwarded_traffic = true", ""),
    ("route_table = \"to-spokes\"\n", ""),
    ("[\"nva\", \"vpn\"]\n\n", "false\n\n"),
    ("next_hop_type = \"internet\"", "next_hop_type = \"none\""),
    (
        "prefix = \"10.3.0.0/16\"\nnext_hop_type",
        "prefix = \"10.3.1.0/24\"\nnext_hop_type",
    ),
    (
        "prefixes = [\"10.1.0.0/16\"",
        "prefixes = [\"10.1.0.0/16\", \"10.7.0.0/16\"",
    ),
    (
        "prefixes = [\"10.3.0.0/16\"]",
        "prefixes = [\"10.3.0.0/16\", \"10.250.0.0/16\"]",
    ),
    ("remove_private_as = true\n", ""),
    ("allow_blackhole = true\n", ""),
    ("default_originate = true\n", ""),
    ("max_advertised = 500", "max_advertised = 2"),
    ("[\"10.2.1.10\", \"10.1.10.4\"]", "[\"10.2.1.10\"]"),
    ("med = 10\n", "med = 11\n"),
    (
        "members = [\"10.1.3.4\", \"10.1.3.5\"]\nroute_map_out = \"to-nva\"",
        "members = [\"10.1.3.4\", \"10.1.3.5\"]",
    ),
    ("asn = 65020", "asn = 65021"),
    ("cluster_id = \"10.1.255.9\"", "cluster_id = \"10.1.255.8\""),
    (
        "[[vnet.subnet.port]]\ninterface = \"jump\"\naddresses = [\"10.1.3.240\"]\n",
        "",
    ),
    (
        "name = \"sdwan\"\naddress",
        "name = \"sdwan\"\nhold_time = 30\naddress",
    ),
    (
        "name = \"spoke-nva\"\naddress",
        "name = \"spoke-nva\"\nmax_prefixes = 1\naddress",
    ),
    (
        "name = \"sdwan\"\naddress",
        "name = \"sdwan\"\nallow_own_as = 1\naddress",
    ),
];

/// Peers of the file by address, ASN, and the next hop that they name.
const PEERS: [(&str, u32); 5] = [
    ("10.1.10.4", 65010),
    ("10.2.1.10", 65020),
    ("10.1.3.4", 65515),
    ("10.1.3.5", 65515),
    ("10.3.9.7", 65040),
];

const NETS: [&str; 6] = [
    "0.0.0.0/0",
    "10.250.0.0/16",
    "10.250.1.0/24",
    "10.2.1.0/24",
    "10.9.0.0/16",
    "192.0.2.0/24",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_reload_does_what_the_plan_says_and_the_plan_does_nothing(
        announced in prop::collection::vec((0..PEERS.len(), 1..3_u8, 0..NETS.len(), 0..3_u32), 0..16),
        changes in subsequence(CHANGES.to_vec(), 0..5),
    ) {
        let before = Arc::new(parse(HUB, "hub").unwrap());
        let text = changes.iter().fold(HUB.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        let Ok(after) = parse(&text, "new") else { return Ok(()) };
        compare_with_reload(before, Arc::new(after), &announced);
    }
}

#[test]
fn branch_to_branch_lets_routes_through_and_resets_nobody() {
    // Without the map that makes one aggregate of all that the gateway is sent.
    let on = HUB.replacen("route_map_out = \"to-nva\"\n", "", 1);
    let off = on.replacen("branch_to_branch = true", "branch_to_branch = false", 1);
    let [off, on] = [off, on].map(|text| Arc::new(parse(&text, "hub").unwrap()));
    let announced = [(0, 1, 1, 0), (0, 2, 1, 0), (2, 1, 5, 0), (2, 2, 5, 0)];
    let plan = compare_with_reload(off, on, &announced);
    assert!(plan.sessions.iter().all(|session| session.change == "kept"));
    assert!(plan.learned.is_empty());
    let told: BTreeSet<String> = plan
        .advertised
        .iter()
        .map(|change| {
            assert!(change.before.is_none());
            let row = change.after.as_ref().unwrap();
            format!("{} {}", row.prefix, row.peer)
        })
        .collect();
    assert!(told.contains("192.0.2.0/24 sdwan"), "{told:?}");
    assert!(told.contains("10.250.0.0/16 er1-10.1.3.4"), "{told:?}");
}

#[test]
fn what_only_peers_of_the_own_as_are_sent_is_told_as_well() {
    let map = "[[route_server.route_map]]\nname = \"to-er\"\n\
               [[route_server.route_map.rule]]\nlocal_pref = 100\n[[route_server.learned]]";
    let before = HUB
        .replacen("map_out = \"to-nva\"", "map_out = \"to-er\"", 1)
        .replacen("[[route_server.learned]]", map, 1);
    let after = before.replacen("local_pref = 100", "local_pref = 150", 1);
    let [before, after] = [before, after].map(|text| Arc::new(parse(&text, "hub").unwrap()));
    let announced = [(0, 1, 2, 0), (2, 1, 5, 0), (3, 1, 1, 0)];
    let plan = compare_with_reload(before, after, &announced);
    assert!(!plan.advertised.is_empty());
    for change in plan.advertised {
        let [before, after] = [change.before, change.after].map(Option::unwrap);
        assert!(before.peer.as_str().starts_with("er1-"), "{before:?}");
        assert_eq!(
            [before.local_pref, after.local_pref],
            [Some(100), Some(150)]
        );
    }
}

#[test]
fn what_becomes_of_sessions_is_told_with_the_setting_that_is_the_reason() {
    let before = Arc::new(parse(HUB, "hub").unwrap());
    let text = HUB
        .replacen(
            "name = \"sdwan\"\naddress",
            "name = \"sdwan\"\nhold_time = 30\naddress",
            1,
        )
        .replacen("asn = 65020", "asn = 65021", 1)
        .replacen("\"10.1.3.5\"]\nroute_map", "\"10.1.3.6\"]\nroute_map", 1);
    let after = Arc::new(parse(&text, "new").unwrap());
    let announced = [(0, 1, 1, 0), (1, 1, 2, 0), (3, 1, 5, 0)];
    let plan = compare_with_reload(before, after, &announced);
    let told = |address: &str| {
        let mut sessions = plan.sessions.iter();
        let session = sessions
            .find(|it| it.address.to_string() == address && it.instance == 1)
            .unwrap();
        let why = session.why.clone().unwrap_or_default();
        format!("{}: {why}", session.change)
    };
    assert_eq!(
        told("10.1.10.4"),
        "reset: hold_time; it is taken to come back with the same routes"
    );
    assert_eq!(
        told("10.2.1.10"),
        "reset: asn; of another AS, nothing is known of its routes"
    );
    assert_eq!(told("10.1.3.4"), "kept: ");
    assert_eq!(told("10.1.3.5"), "removed: ");
    assert_eq!(
        told("10.1.3.6"),
        format!("added: {}", "it is tried; nothing is known of its routes")
    );
    let gone: BTreeSet<IpNet> = plan
        .learned
        .iter()
        .filter(|change| change.after.is_none())
        .map(|change| change.before.as_ref().unwrap().prefix)
        .collect();
    let expected = ["10.250.1.0/24", "192.0.2.0/24"].map(|net| net.parse().unwrap());
    assert_eq!(gone, BTreeSet::from(expected), "those of the others stay");
}

#[test]
fn a_session_that_is_reset_does_not_come_back_with_what_its_routes_were_aggregated_to() {
    let aggregates = HUB.replacen(
        "name = \"from-sdwan\"\n",
        "name = \"from-sdwan\"\n[[route_server.route_map.rule]]\nprefix = [\"10.250.0.0/15+\"]\naggregate = \"10.250.0.0/15\"\n",
        1,
    );
    let reset = HUB.replacen(
        "name = \"sdwan\"\naddress",
        "name = \"sdwan\"\nhold_time = 30\naddress",
        1,
    );
    let [before, after] = [aggregates, reset].map(|text| Arc::new(parse(&text, "hub").unwrap()));
    let plan = compare_with_reload(before, after, &[(0, 1, 1, 0)]);
    let told: Vec<(String, bool)> = plan
        .learned
        .iter()
        .map(|change| {
            let row = change.after.as_ref().or(change.before.as_ref());
            (row.unwrap().prefix.to_string(), change.after.is_some())
        })
        .collect();
    let sum = ("10.250.0.0/15".to_owned(), false);
    assert!(told.contains(&sum), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
}

/// Announcements as (peer, instance, prefix, variant): what a plan says of them is what a reload does to
/// stages that have run before, and that it has not touched.
fn compare_with_reload(
    before: Arc<Config>,
    after: Arc<Config>,
    announced: &[(usize, u8, usize, u32)],
) -> Plan {
    let now = Instant::now();
    let mut live = live(before.clone(), announced, now);
    let state = State::of(&mut live);
    let plan = difference(before, after.clone(), live.servers.clone(), now);
    assert_eq!(State::of(&mut live), state, "a plan changes nothing");

    let fib = live.fib.clone();
    let (sessions, changes) = live.reload(after);
    assert_eq!(plan.sessions, sessions);
    let reloaded = State::of(&mut live);
    assert_eq!(
        plan.forwarding,
        forwarding::compare(&fib, &live.fib, &changes)
    );
    state.is_changed_by(&plan, &reloaded);
    plan
}

/// What people and the kernel see of a world.
#[derive(PartialEq, Debug)]
struct State {
    learned: Vec<LearnedRow>,
    advertised: Vec<AdvertisedRow>,
    effective: Vec<crate::api::types::EffectiveRow>,
    fib: BTreeSet<String>,
}

impl State {
    fn of(world: &mut World) -> Self {
        let all = Filter::default();
        let servers = world.servers.values_mut();
        let (mut learned, mut advertised) = (Vec::new(), Vec::new());
        for server in servers {
            learned.extend(server.route_server.learned_rows(&all, world.now));
            advertised.extend(server.route_server.advertised_rows(&all));
        }
        let subnets: Vec<(VnetName, SubnetName)> = world
            .vnets
            .subnets()
            .map(|(vnet, subnet)| (vnet.clone(), subnet.clone()))
            .collect();
        let groups = subnets
            .iter()
            .flat_map(|(vnet, subnet)| world.vnets.port_groups(vnet, subnet));
        let effective = groups.flat_map(|group| {
            let taken = world.vnets.learned_use(&group);
            let paths = taken.map(|(name, of, _)| {
                let server = &world.servers[&name].route_server;
                server.learned_rows_for(&of, &all, world.now)
            });
            let paths = paths.unwrap_or_default();
            world.vnets.effective_routes(&group, &paths)
        });
        let effective = effective.collect();
        let fib = world.fib.snapshot().into_iter();
        Self {
            learned,
            advertised,
            effective,
            fib: fib.map(|change| format!("{change:?}")).collect(),
        }
    }

    /// Each list of the plan, applied to what was, gives what is.
    fn is_changed_by(&self, plan: &Plan, after: &Self) {
        let learned = plan.learned.iter().map(|it| (&it.before, &it.after));
        applied(&self.learned, learned, &after.learned, |row| {
            format!(
                "{:?}",
                LearnedRow {
                    reason: None,
                    ..row.clone()
                }
            )
        });
        let effective = plan.effective.iter().map(|it| (&it.before, &it.after));
        applied(&self.effective, effective, &after.effective, |row| {
            let row = crate::api::types::EffectiveRow {
                reason: None,
                ..row.clone()
            };
            format!("{row:?}")
        });
        // Those whose sessions go, or are not up afterwards, are not told one by one.
        let stays = |row: &&AdvertisedRow| {
            plan.sessions.iter().any(|session: &PlannedSession| {
                let same = session.peer == row.peer && session.instance == row.instance;
                same && session.up && matches!(session.change.as_str(), "kept" | "reset")
            })
        };
        let staying =
            |rows: &[AdvertisedRow]| rows.iter().filter(stays).cloned().collect::<Vec<_>>();
        let advertised = plan.advertised.iter().map(|it| (&it.before, &it.after));
        let (before, after) = (staying(&self.advertised), staying(&after.advertised));
        applied(&before, advertised, &after, |row| format!("{row:?}"));
    }
}

/// Takes the changes' `before` out of some rows and puts `after` in: then they are the others.
fn applied<'r, R: 'r>(
    before: &[R],
    changes: impl Iterator<Item = (&'r Option<R>, &'r Option<R>)>,
    after: &[R],
    text: impl Fn(&R) -> String,
) {
    let sorted = |rows: &[R]| {
        let mut texts: Vec<String> = rows.iter().map(&text).collect();
        texts.sort();
        texts
    };
    let mut rows = sorted(before);
    for (gone, new) in changes {
        assert_ne!(
            gone.as_ref().map(&text),
            new.as_ref().map(&text),
            "nothing changes"
        );
        if let Some(gone) = gone {
            let gone = text(gone);
            let place = rows.iter().position(|row| *row == gone);
            rows.remove(place.unwrap_or_else(|| panic!("{gone} was not there")));
        }
        rows.extend(new.as_ref().map(&text));
    }
    rows.sort();
    assert_eq!(rows, sorted(after));
}

/// Stages that run: sessions of the peers that announce something come up and announce it.
fn live(config: Arc<Config>, announced: &[(usize, u8, usize, u32)], now: Instant) -> World {
    let vnets = Vnets::new(&config);
    let demands = core::demands(&vnets, &config);
    let servers = config.route_servers.iter().map(|wanted| {
        let desired = supervisor::desired(&config, wanted, &demands);
        (wanted.name.clone(), Server::new(&desired, now))
    });
    let mut world = World {
        servers: servers.collect(),
        vnets,
        fib: Fib::new(),
        config,
        now,
    };
    let _: Vec<Change> = world.settle().1;
    let wanted = world.config.route_servers[0].clone();
    let server = world.servers.get_mut("rs1").unwrap();
    let dynamic = PEERS[4].0.parse().unwrap();
    server.dynamic.admit(dynamic, now);
    let complete = server.dynamic.complete(&wanted);
    let around = supervisor::desired(
        &world.config,
        &wanted,
        &core::demands(&world.vnets, &world.config),
    );
    server
        .route_server
        .reconfigure(&complete, &around.surroundings, now);
    for session in sessions(&complete, 179) {
        let peer = PEERS
            .iter()
            .position(|(address, _)| session.id.peer.to_string() == *address);
        let own = announced.iter().filter(|(from, instance, ..)| {
            Some(*from) == peer && *instance == session.id.instance.0
        });
        let routes: Vec<_> = own
            .map(|(from, _, net, variant)| route(*from, *net, *variant))
            .collect();
        if routes.is_empty() {
            continue;
        }
        let known = Recollection::new(Arc::new(negotiated(&session.id, &session)), routes);
        server.dynamic.up(&session.id);
        server.route_server.come_back(&session, known, now);
    }
    world.settle();
    world
}

fn route(peer: usize, net: usize, variant: u32) -> (Arc<PathAttributes>, Nlri) {
    let (address, asn) = PEERS[peer];
    let tail = (0..variant).map(|_| 64999);
    let own = (asn != 65515).then_some(asn);
    let next_hop: std::net::IpAddr = address.parse().unwrap();
    let attributes = PathAttributes {
        as_path: AsPath::sequence(own.into_iter().chain(tail)),
        next_hop: Some(next_hop.into()),
        local_pref: own.is_none().then_some(100),
        ..PathAttributes::default()
    };
    let prefix: IpNet = NETS[net].parse().unwrap();
    (Arc::new(attributes), prefix.into())
}

fn negotiated(id: &SessionId, session: &crate::bgp::session::SessionConfig) -> Negotiated {
    let std::net::IpAddr::V4(router_id) = id.peer else {
        panic!("IPv4 only");
    };
    Negotiated {
        local_asn: session.local_asn,
        peer_asn: session.peer_asn,
        local_router_id: session.router_id,
        peer_router_id: router_id,
        local_address: session.local_address,
        hold_time: 180,
        families: Family::ALL.to_vec(),
        four_octet_asn: true,
        route_refresh: true,
        enhanced_route_refresh: false,
        extended_message: false,
        add_path_receive: Vec::new(),
        add_path_send: Vec::new(),
        extended_next_hop: false,
        local: Offer::default(),
        peer: Offer::default(),
    }
}
