//! A shadow is as its original, ends up as its original does, and its original knows nothing of it.

use super::*;
use crate::api::types::{AdvertisedRow, LearnedRow};

/// What people are shown.
type Shown = (Vec<LearnedRow>, Vec<AdvertisedRow>, Vec<String>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_shadow_is_as_its_original_and_ends_up_as_its_original_does(
        chunk in 1_usize..8,
        actions in prop::collection::vec(action(), 1..40),
        reload in prop::collection::vec(reload(), 1..5),
    ) {
        crate::rib::MOVED_AT_ONCE.set(chunk);
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        let now = world.lab.now;
        let mut copy = world.lab.server.clone();
        copy.become_shadow(now);
        let reports = copy.settle(now).reports;
        // The original is not settled yet.
        world.lab.settle();
        let before = shown(&mut world.lab.server, now);
        prop_assert_eq!(&shown(&mut copy, now), &before);
        let views = world.lab.views.values().filter(|routes| !routes.is_empty());
        prop_assert_eq!(told(&reports), views.cloned().collect::<Vec<_>>());

        let mut after = world.model.clone();
        let mut config = world.lab.server.config.clone();
        for change in &reload {
            change.apply(&mut config, &mut after.originated);
        }
        copy.reconfigure(&config, &around(), now);
        copy.set_originated(after.originated.clone());
        copy.settle(now);
        prop_assert_eq!(&shown(&mut world.lab.server, now), &before, "nobody asked the original");

        let removed = |lab: &Lab| -> Vec<SessionId> {
            let ids = lab.sessions.keys();
            ids.filter(|id| config.peers.iter().all(|peer| peer.address != id.peer)).cloned().collect()
        };
        world.lab.server.reconfigure(&config, &around(), now);
        world.lab.server.set_originated(after.originated.clone());
        for id in removed(&world.lab) {
            world.lab.sessions.remove(&id);
        }
        world.lab.settle();
        prop_assert_eq!(shown(&mut copy, now), shown(&mut world.lab.server, now));
    }
}

#[test]
fn a_session_that_is_reset_comes_back_with_what_its_peer_had_announced() {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    lab.both_up("fw");
    lab.announce_to_both("sdwan", &["10.250.0.0/16"], &route(&[65010], "10.1.10.4"));
    lab.settle();
    let mut copy = lab.server.clone();
    copy.become_shadow(lab.now);
    copy.settle(lab.now);
    let before = shown(&mut copy, lab.now);

    // Another ASN of the route server: all sessions are closed.
    let mut other = config();
    other.asn = 65000;
    let all: BTreeSet<SessionId> = lab.sessions.keys().cloned().collect();
    let known = copy.recollect(&all);
    assert_eq!(known.len(), 4);
    copy.reconfigure(&other, &around(), lab.now);
    assert!(all.iter().all(|id| !copy.is_up(id)));
    for (id, known) in known {
        let session = session_config(&id, &other);
        copy.come_back(&session, known, lab.now);
    }
    let settled = copy.settle(lab.now);
    assert!(settled.closed.is_empty(), "{:?}", settled.closed);
    let after = shown(&mut copy, lab.now);
    assert_eq!(after.0, before.0, "learned as before");
    assert_eq!(after.1.len(), before.1.len());
    assert!(after.1.iter().all(|row| row.as_path.starts_with("65000")));
    assert_eq!(
        lab.holds("fw", 1, "10.250.0.0/16").unwrap().as_path,
        AsPath::sequence([65515, 65010])
    );
}

#[test]
fn what_waits_for_a_slow_peer_or_for_the_end_of_a_restart_has_happened_in_a_shadow() {
    let sent = |lab: &Lab| {
        let mut copy = lab.server.clone();
        copy.become_shadow(lab.now);
        copy.settle(lab.now);
        let rows = copy.advertised_to(InstanceId(1), IpAddr::from(PEERS[1].1));
        rows.into_iter().map(|row| row.prefix).collect::<Vec<_>>()
    };
    let site = "10.250.0.0/16";
    let attributes = route(&[65010], "10.1.10.4");

    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    lab.up("fw", 1);
    lab.settle();
    lab.server.hold(&lab.id("fw", 1));
    lab.announce("sdwan", 1, &[site], &attributes);
    lab.settle();
    assert_eq!(lab.holds("fw", 1, site), None, "it takes no more");
    assert_eq!(sent(&lab), [prefix(site)]);

    let mut lab = Lab::new(&config());
    lab.server
        .defer_selection(lab.now + Duration::from_secs(100));
    lab.up("sdwan", 1);
    lab.up("fw", 1);
    lab.announce("sdwan", 1, &[site], &attributes);
    lab.settle();
    assert_eq!(lab.holds("fw", 1, site), None, "others may come");
    assert_eq!(sent(&lab), [prefix(site)]);
}

#[test]
fn attributes_that_only_a_shadow_held_are_freed_when_it_is_gone() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    lab.announce(
        "sdwan",
        1,
        &["10.250.0.0/16"],
        &route(&[65010], "10.1.10.4"),
    );
    lab.settle();
    let sets = lab.server.rib.attribute_sets();
    let copy = lab.server.clone();
    lab.announce(
        "sdwan",
        1,
        &["10.250.0.0/16"],
        &route(&[65010, 1], "10.1.10.4"),
    );
    lab.settle();
    drop(copy);
    assert!(lab.server.rib.attribute_sets() > sets);
    lab.server.forget_shadows();
    assert_eq!(lab.server.rib.attribute_sets(), sets);
}

/// A change of the configuration.
#[derive(Clone, Debug)]
enum Reload {
    Reflect(bool),
    MaxPaths(u8),
    Policy(usize, PeerPolicy),
    Remove(usize),
    AlwaysCompareMed,
    Originate(Vec<usize>),
    OtherAsn(usize),
}

impl Reload {
    fn apply(&self, config: &mut config::RouteServer, originated: &mut BTreeSet<IpNet>) {
        let address = |peer: usize| IpAddr::from(PEERS[peer].1);
        let mut peers = config.peers.iter_mut();
        match self {
            Self::Reflect(reflect) => config.reflect_between_nvas = *reflect,
            Self::MaxPaths(max) => config.max_paths = *max,
            Self::Policy(peer, policy) => {
                let peer = peers.find(|other| other.address == address(*peer));
                if let Some(peer) = peer {
                    peer.policy = *policy;
                }
            }
            Self::OtherAsn(peer) => {
                let peer = peers.find(|other| other.address == address(*peer));
                if let Some(peer) = peer {
                    peer.asn += 1000;
                }
            }
            Self::Remove(peer) => config.peers.retain(|other| other.address != address(*peer)),
            Self::AlwaysCompareMed => config.always_compare_med = true,
            Self::Originate(nets) => {
                *originated = nets.iter().map(|net| prefix(NETS[*net])).collect();
            }
        }
    }
}

fn reload() -> impl Strategy<Value = Reload> {
    let policy =
        (any::<bool>(), any::<bool>(), 0..2_u8).prop_map(|(transparent, first, own)| PeerPolicy {
            transparent,
            enforce_first_as: first,
            allow_own_as: own,
            ..PeerPolicy::default()
        });
    prop_oneof![
        any::<bool>().prop_map(Reload::Reflect),
        (1..9_u8).prop_map(Reload::MaxPaths),
        (0..PEERS.len(), policy).prop_map(|(peer, policy)| Reload::Policy(peer, policy)),
        (0..PEERS.len()).prop_map(Reload::Remove),
        (0..PEERS.len()).prop_map(Reload::OtherAsn),
        Just(Reload::AlwaysCompareMed),
        prop::collection::vec(0..NETS.len(), 0..3).prop_map(Reload::Originate),
    ]
}

fn shown(server: &mut RouteServer, now: Instant) -> Shown {
    let peers = server.peer_rows(now).into_iter();
    let all = Filter::default();
    (
        server.learned_rows(&all, now),
        server.advertised_rows(&all),
        peers.map(|row| format!("{row:?}")).collect(),
    )
}

/// The routes that reports come to, of each view that has any.
fn told(reports: &[Report]) -> Vec<BTreeMap<IpNet, LearnedRoute>> {
    let mut views: BTreeMap<LearnedViewId, BTreeMap<IpNet, LearnedRoute>> = BTreeMap::new();
    for report in reports {
        match report {
            Report::Changes(changes) => {
                for change in changes {
                    let routes = views.entry(change.view).or_default();
                    match &change.route {
                        Some(route) => routes.insert(change.prefix, route.clone()),
                        None => routes.remove(&change.prefix),
                    };
                }
            }
            Report::Drop(view) => {
                views.remove(view);
            }
            _ => {}
        }
    }
    views.retain(|_, routes| !routes.is_empty());
    views.into_values().collect()
}

fn session_config(
    id: &SessionId,
    config: &config::RouteServer,
) -> crate::bgp::session::SessionConfig {
    let mut peers = config.peers.iter();
    let peer = peers.find(|peer| peer.address == id.peer).unwrap();
    let instance = &config.instances[usize::from(id.instance.0) - 1];
    crate::bgp::session::SessionConfig {
        id: id.clone(),
        local_asn: config.asn,
        peer_asn: peer.asn,
        router_id: instance.router_id,
        local_address: instance.addresses[0],
        port: 179,
        passive: peer.passive,
        hold_time: peer.hold_time,
        connect_retry: peer.connect_retry,
        families: peer.families.iter().collect(),
        send_hold_time: peer.send_hold_time,
        security: peer.security.clone(),
        add_path: peer.add_path,
        restart: peer.restart,
        extended_next_hop: peer.extended_next_hop,
        role: None,
    }
}
