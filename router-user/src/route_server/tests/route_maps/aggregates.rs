//! Aggregates: when they stand, for whom, and with what; and that the order of events never matters.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::bgp::wire::{Aggregator, community};

/// Routes within 10.250.0.0/15 give way to it.
const GIVES_WAY: &str =
    r#"[{ name = "sum", prefix = ["10.250.0.0/15+"], aggregate = "10.250.0.0/15" }]"#;
const SUM: &str = "10.250.0.0/15";

fn sum(next_hop: &str) -> PathAttributes {
    PathAttributes {
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 65515,
            id: [10, 1, 255, 4].into(),
        }),
        ..route(&[65515], next_hop)
    }
}

#[test]
fn an_inbound_aggregate_is_a_route_of_its_peer_while_one_of_its_routes_is_announced() {
    let mut lab = lab("sdwan", "in", GIVES_WAY);
    let tagged = PathAttributes {
        communities: vec![1],
        ..route(&[65010, 65011], SDWAN)
    };
    announce(
        &mut lab,
        "sdwan",
        &[SITE, "10.251.7.0/24", "10.9.0.0/16"],
        &tagged,
    );
    assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
    assert_eq!(
        (lab.members(SITE), lab.members("10.251.7.0/24")),
        (None, None)
    );
    assert!(lab.members("10.9.0.0/16").is_some(), "another route");
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
    assert_eq!(lab.holds("fw", 1, SITE), None);
    assert_eq!(lab.holds("sdwan", 1, SUM), None, "not back to its source");
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "rejected");
    assert_eq!(
        reason,
        "gives way to 10.250.0.0/15 by rule \"sum\" of route map \"m\" (aggregate)"
    );
    let (state, reason) = lab.state("sdwan", 1, SUM);
    assert!(state == "best" && reason.contains("aggregate"), "{reason}");
    assert_eq!(lab.server.received_rows(&Filter::default()).len(), 6);
    let rows = lab.server.peer_rows(lab.now);
    let row = rows.iter().find(|row| row.peer.as_str() == "sdwan");
    assert_eq!(row.unwrap().received, 3, "nobody announced it");

    let announced = lab.far("fw", 1).announced;
    withdraw(&mut lab, "sdwan", &[SITE]);
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
    assert_eq!(lab.far("fw", 1).announced, announced, "nothing is new");
    withdraw(&mut lab, "sdwan", &["10.251.7.0/24"]);
    assert_eq!((lab.members(SUM), lab.holds("fw", 1, SUM)), (None, None));
    announce(&mut lab, "sdwan", &[SITE], &tagged);
    assert!(lab.members(SUM).is_some());
    lab.down("sdwan", 1);
    lab.down("sdwan", 2);
    lab.settle();
    assert_eq!((lab.members(SUM), lab.holds("fw", 1, SUM)), (None, None));
}

#[test]
fn an_outbound_aggregate_is_for_its_peers_alone_and_subnets_keep_the_routes() {
    let mut lab = lab("fw", "out", GIVES_WAY);
    announce(&mut lab, "sdwan", &[SITE, OTHER], &route(&[65010], SDWAN));
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
    assert_eq!(
        (lab.holds("fw", 1, SITE), lab.holds("fw", 1, OTHER)),
        (None, None)
    );
    assert_eq!(lab.holds("fw2", 1, SUM), None);
    assert!(lab.holds("fw2", 1, SITE).is_some());
    assert_eq!(lab.members(SUM), None);
    assert!(lab.members(SITE).is_some());
    let rows = lab.server.learned_rows(&Filter::default(), lab.now);
    assert!(
        rows.iter().all(|row| row.prefix != prefix(SUM)),
        "it is not learned"
    );
    withdraw(&mut lab, "sdwan", &[SITE]);
    assert!(lab.holds("fw", 1, SUM).is_some());
    withdraw(&mut lab, "sdwan", &[OTHER]);
    assert_eq!(lab.holds("fw", 1, SUM), None);
}

#[test]
fn nobody_is_sent_an_aggregate_for_the_sake_of_its_own_routes_or_of_those_it_may_not_have() {
    let mut lab = lab("fw", "out", GIVES_WAY);
    lab.both_up("vpn1-10.1.4.4");
    announce(&mut lab, "fw", &[SITE], &route(&[65020], FW));
    announce(
        &mut lab,
        "vpn1-10.1.4.4",
        &[SITE],
        &route(&[64901], "10.1.4.4"),
    );
    assert_eq!(lab.holds("fw", 1, SUM), None);
    announce(&mut lab, "fw2", &[OTHER], &route(&[65021], FW2));
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(FW2)));
    announce(
        &mut lab,
        "fw2",
        &[OTHER],
        &PathAttributes {
            communities: vec![community::NO_EXPORT],
            ..route(&[65021], FW2)
        },
    );
    assert_eq!(lab.holds("fw", 1, SUM), None);
}

#[test]
fn a_route_of_the_aggregates_own_prefix_is_replaced_by_it_originated_or_learned() {
    for originated in [false, true] {
        let mut lab = lab("fw", "out", GIVES_WAY);
        let (next_hop, learned) = match originated {
            true => ("10.1.255.4", false),
            false => (SDWAN, true),
        };
        if originated {
            lab.originate(&[SUM]);
        } else {
            lab.announce_to_both("sdwan", &[SUM], &route(&[65010, 65011], SDWAN));
        }
        lab.settle();
        assert_eq!(
            lab.holds("fw", 1, SUM),
            Some(&sum(next_hop)),
            "{originated}"
        );
        assert_ne!(lab.holds("fw2", 1, SUM), Some(&sum(next_hop)));
        lab.originate(&[]);
        lab.settle();
        assert_eq!(lab.holds("fw", 1, SUM).is_some(), learned);
    }
}

#[test]
fn an_aggregate_comes_and_goes_with_its_rule_and_no_session_is_reset() {
    for (owner, direction) in [("sdwan", "in"), ("fw", "out")] {
        let mut lab = with(HEAD);
        announce(&mut lab, "sdwan", &[SITE, OTHER], &route(&[65010], SDWAN));
        for _ in 0..2 {
            lab.reload(&parsed(&map(&own(HEAD, owner, direction), GIVES_WAY)));
            assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
            assert_eq!(lab.holds("fw", 1, SITE), None);
            assert_eq!(lab.members(SUM).is_some(), direction == "in");
            lab.reload(&parsed(HEAD));
            assert_eq!((lab.holds("fw", 1, SUM), lab.members(SUM)), (None, None));
            assert!(lab.holds("fw", 1, SITE).is_some() && lab.members(SITE).is_some());
        }
        assert_eq!(lab.far("fw", 1).ended.len(), 2);
    }
}

#[test]
fn the_next_hop_is_the_lowest_of_the_routes_that_it_stands_for() {
    let mut lab = lab("sdwan", "in", GIVES_WAY);
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], FW));
    announce(&mut lab, "sdwan", &[OTHER], &route(&[65010], SDWAN));
    announce(
        &mut lab,
        "sdwan",
        &["10.250.1.0/24"],
        &route(&[65010], "192.0.2.1"),
    );
    assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
    assert_eq!(
        lab.members("10.250.1.0/24"),
        Some(vec![]),
        "it leads nowhere, and is no part of it"
    );
    withdraw(&mut lab, "sdwan", &[OTHER]);
    assert_eq!(lab.members(SUM), Some(vec![FW.parse().unwrap()]));
}

#[test]
fn an_aggregate_counts_towards_what_a_peer_may_be_sent_and_is_never_kept_back() {
    let text = map(&own(HEAD, "fw", "out"), GIVES_WAY).replace(
        "# fw\n",
        "max_advertised = 2\nadvertised_limit_action = \"discard\"\n# fw\n",
    );
    let mut lab = with(&text);
    let nets = ["10.8.0.0/16", "10.9.0.0/16", SITE, OTHER];
    announce(&mut lab, "sdwan", &nets, &route(&[65010], SDWAN));
    let held = |lab: &Lab| -> Vec<String> {
        let held = lab.far("fw", 1).holds.keys();
        held.map(|nlri| nlri.prefix.to_string()).collect()
    };
    assert_eq!(held(&lab), ["10.8.0.0/16", SUM]);
    lab.down("fw", 1);
    lab.up("fw", 1);
    lab.settle();
    assert_eq!(held(&lab), ["10.8.0.0/16", SUM]);
    lab.reload(&parsed(
        &text.replace("max_advertised = 2", "max_advertised = 3"),
    ));
    assert_eq!(held(&lab), ["10.8.0.0/16", "10.9.0.0/16", SUM]);
}

#[test]
fn an_aggregate_of_drained_routes_is_the_last_choice_in_both_directions() {
    let mut lab = lab("sdwan", "in", GIVES_WAY);
    announce(&mut lab, "sdwan", &[SITE, OTHER], &route(&[65010], SDWAN));
    announce(&mut lab, "fw2", &[SUM], &route(&[65021, 65022], FW2));
    assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
    drain(&mut lab, true);
    assert_eq!(lab.members(SUM), Some(vec![FW2.parse().unwrap()]));
    let fw2s = route(&[65515, 65021, 65022], FW2);
    assert_eq!(lab.holds("fw", 1, SUM), Some(&fw2s));
    drain(&mut lab, false);
    assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));

    let mut lab = super::lab("fw", "out", GIVES_WAY);
    announce(&mut lab, "sdwan", &[SITE], &route(&[65010], SDWAN));
    announce(&mut lab, "fw2", &[OTHER], &route(&[65021], FW2));
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
    drain(&mut lab, true);
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(FW2)));
    withdraw(&mut lab, "fw2", &[OTHER]);
    let drained = carrying(sum(SDWAN), community::GRACEFUL_SHUTDOWN);
    assert_eq!(lab.holds("fw", 1, SUM), Some(&drained));
}

#[test]
fn an_aggregate_of_routes_that_are_kept_for_long_is_the_last_choice() {
    let mut lab = lab("sdwan", "in", GIVES_WAY);
    announce(&mut lab, "sdwan", &[SITE, OTHER], &route(&[65010], SDWAN));
    announce(&mut lab, "fw2", &[SUM], &route(&[65021, 65022], FW2));
    let v4 = Family::Ipv4Unicast;
    for instance in [1, 2] {
        let index = lab.server.index(&lab.id("sdwan", instance)).unwrap();
        lab.server.rib.mark_stale(index, v4);
        lab.settle();
        assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
        lab.server.rib.make_long_lived(index, v4);
        lab.settle();
    }
    assert_eq!(lab.members(SUM), Some(vec![FW2.parse().unwrap()]));
    withdraw(&mut lab, "fw2", &[SUM]);
    assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
    assert_eq!(
        lab.holds("fw", 1, SUM),
        None,
        "it does not speak the long-lived form"
    );
    announce(&mut lab, "sdwan", &[OTHER], &route(&[65010], SDWAN));
    assert_eq!(
        lab.holds("fw", 1, SUM),
        Some(&sum(SDWAN)),
        "one of them is fresh"
    );
}

#[test]
fn an_aggregate_is_for_no_others_than_the_least_restricted_of_its_routes() {
    use community::{NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED};
    for restricted in [NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED] {
        let mut lab = lab("sdwan", "in", GIVES_WAY);
        let marked = carrying(route(&[65010], SDWAN), restricted);
        announce(&mut lab, "sdwan", &[SITE, OTHER], &marked);
        assert_eq!(lab.members(SUM), Some(vec![SDWAN.parse().unwrap()]));
        assert_eq!(lab.holds("fw", 1, SUM), None, "{restricted:x}");
        announce(&mut lab, "sdwan", &[OTHER], &route(&[65010], FW2));
        assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(FW2)));
        announce(&mut lab, "sdwan", &[OTHER], &marked);
        assert_eq!(lab.holds("fw", 1, SUM), None);
    }
    // The same where a route is only for customers, and its peer is to be told so.
    let mut lab = lab("sdwan", "in", GIVES_WAY);
    let for_customers = PathAttributes {
        only_to_customer: Some(65010),
        ..route(&[65010], SDWAN)
    };
    announce(&mut lab, "sdwan", &[SITE, OTHER], &for_customers);
    let held = lab.holds("fw", 1, SUM).expect("it has no role");
    assert_eq!(held.only_to_customer, Some(65010));
    announce(&mut lab, "sdwan", &[OTHER], &route(&[65010], SDWAN));
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(SDWAN)));
}

#[test]
fn an_aggregate_of_originated_routes_wins_over_learned_ones_after_a_reload_too() {
    let text = own(HEAD, "fw", "out").replace(
        "[[route_server]]\n",
        "[[route_server]]\nbranch_to_branch = true\n",
    );
    let mut config = parsed(&map(&text, GIVES_WAY));
    let gateway = "er1-10.1.3.4";
    let address = "10.1.3.4";
    config
        .peers
        .push(member("er1", PeerKind::ExpressRoute, address));
    let mut lab = Lab::new(&config);
    lab.both_up("fw");
    lab.both_up(gateway);
    lab.originate(&[SITE]);
    announce(&mut lab, gateway, &[OTHER], &route(&[64900], address));
    for _ in 0..3 {
        assert_eq!(lab.holds("fw", 1, SUM), Some(&sum("10.1.255.4")));
        lab.reload(&config);
    }
    lab.originate(&[]);
    lab.settle();
    assert_eq!(lab.holds("fw", 1, SUM), Some(&sum(address)));
}

#[test]
fn a_session_closed_for_what_it_was_to_be_sent_is_started_once_that_is_something_else() {
    let limited = HEAD.replace("# fw\n", "max_advertised = 2\n# fw\n");
    let plain = map(&own(&limited, "fw", "out"), "[]");
    let mapped = map(&own(&limited, "fw", "out"), GIVES_WAY);
    let toggled = limited.replace(
        "[[route_server]]\n",
        "[[route_server]]\nbranch_to_branch = true\n",
    );
    for (before, after) in [(&limited, &mapped), (&plain, &mapped), (&limited, &toggled)] {
        let mut lab = with(before);
        let nets = [SITE, OTHER, "10.9.0.0/16"];
        announce(&mut lab, "sdwan", &nets, &route(&[65010], SDWAN));
        assert_eq!(lab.shutdowns.len(), 2);
        lab.reload(&parsed(before));
        assert_eq!(lab.server.take_woken(), []);
        lab.reload(&parsed(after));
        assert_eq!(lab.server.take_woken().len(), 2);
        lab.reload(&parsed(after));
        assert_eq!(lab.server.take_woken(), []);
    }
}

fn drain(lab: &mut Lab, drained: bool) {
    let ids = lab.server.sessions_of(&"sdwan".into(), None);
    lab.server.set_drained(&ids, drained, lab.now);
    lab.settle();
}

fn carrying(attributes: PathAttributes, community: u32) -> PathAttributes {
    let mut attributes = attributes;
    attributes.add_community(community);
    attributes
}

const PEERS: [(&str, Asn, &str); 3] = [
    ("sdwan", 65010, SDWAN),
    ("fw", 65020, FW),
    ("fw2", 65021, FW2),
];
const NETS: [&str; 5] = [SUM, SITE, OTHER, "10.250.1.0/24", "10.9.0.0/16"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Announce {
        peer: usize,
        instance: u8,
        net: usize,
        next_hop: usize,
    },
    Withdraw {
        peer: usize,
        instance: u8,
        net: usize,
    },
    Lost {
        peer: usize,
        instance: u8,
    },
    Back {
        peer: usize,
        instance: u8,
    },
    /// The operator drains it, or does no longer.
    Drain {
        peer: usize,
        drained: bool,
    },
    /// It takes nothing for now, or does again.
    Hold {
        peer: usize,
        instance: u8,
        holds: bool,
    },
    Originate(bool),
    Reload(usize),
    Deliver,
}

/// What stands after all events.
#[derive(Default)]
struct Standing {
    up: BTreeSet<(usize, u8)>,
    routes: BTreeMap<(usize, u8, usize), usize>,
    originated: bool,
    drained: [bool; 3],
    reload: usize,
}

fn settings(which: usize) -> config::RouteServer {
    let everywhere = [("sdwan", "in"), ("fw", "in"), ("fw", "out"), ("fw2", "out")];
    let text = everywhere[..which.min(4)]
        .iter()
        .fold(HEAD.to_owned(), |text, (peer, direction)| {
            own(&text, peer, direction)
        });
    let text = match which {
        0 => text,
        4 => map(
            &text,
            r#"[{ prefix = ["10.250.1.0/24"], aggregate = "10.250.0.0/16" }, { prefix = ["10.250.0.0/15+"], aggregate = "10.250.0.0/15" }]"#,
        ),
        _ => map(&text, GIVES_WAY),
    };
    parsed(&text)
}

impl Standing {
    fn note(&mut self, event: &Event) {
        match *event {
            Event::Announce {
                peer,
                instance,
                net,
                next_hop,
            } if self.up.contains(&(peer, instance)) => {
                self.routes.insert((peer, instance, net), next_hop);
            }
            Event::Withdraw {
                peer,
                instance,
                net,
            } => {
                self.routes.remove(&(peer, instance, net));
            }
            Event::Lost { peer, instance } => {
                self.up.remove(&(peer, instance));
                self.routes
                    .retain(|(p, i, _), _| (*p, *i) != (peer, instance));
            }
            Event::Back { peer, instance } => {
                self.up.insert((peer, instance));
            }
            Event::Originate(on) => self.originated = on,
            Event::Drain { peer, drained } => self.drained[peer] = drained,
            Event::Reload(which) => self.reload = which,
            _ => {}
        }
    }

    /// The events that bring it about in the simplest way.
    fn events(&self) -> Vec<Event> {
        let up = self
            .up
            .iter()
            .map(|&(peer, instance)| Event::Back { peer, instance });
        let routes = self.routes.iter();
        let routes = routes.map(|(&(peer, instance, net), &next_hop)| Event::Announce {
            peer,
            instance,
            net,
            next_hop,
        });
        let drained = self.drained.iter().enumerate();
        let drained = drained.map(|(peer, &drained)| Event::Drain { peer, drained });
        [
            Event::Reload(self.reload),
            Event::Originate(self.originated),
        ]
        .into_iter()
        .chain(up)
        .chain(drained)
        .chain(routes)
        .collect()
    }
}

fn happen(lab: &mut Lab, event: &Event) {
    match *event {
        Event::Announce {
            peer,
            instance,
            net,
            next_hop,
        } => {
            let (name, asn, _) = PEERS[peer];
            if lab.sessions.contains_key(&lab.id(name, instance)) {
                let plain = route(&[asn], PEERS[next_hop].2);
                let path = match (net + next_hop) % 4 {
                    1 => carrying(plain, community::NO_EXPORT),
                    2 => carrying(plain, community::GRACEFUL_SHUTDOWN),
                    _ => plain,
                };
                lab.announce(name, instance, &[NETS[net]], &path);
            }
        }
        Event::Withdraw {
            peer,
            instance,
            net,
        } => {
            let nlri = vec![prefix(NETS[net]).into()];
            let gone = RouteChange::Withdraw {
                nlri,
                malformed: None,
            };
            lab.send(PEERS[peer].0, instance, vec![gone]);
        }
        Event::Lost { peer, instance } => lab.down(PEERS[peer].0, instance),
        Event::Back { peer, instance } => {
            if !lab.sessions.contains_key(&lab.id(PEERS[peer].0, instance)) {
                up(lab, PEERS[peer].0, instance);
            }
        }
        Event::Hold {
            peer,
            instance,
            holds,
        } => {
            let id = lab.id(PEERS[peer].0, instance);
            match holds {
                true => lab.server.hold(&id),
                false => lab.server.handle(SessionEvent::Drained { id }, lab.now),
            }
        }
        Event::Drain { peer, drained } => {
            let ids = lab.server.sessions_of(&PEERS[peer].0.into(), None);
            lab.server.set_drained(&ids, drained, lab.now);
        }
        Event::Originate(true) => lab.originate(&[SITE]),
        Event::Originate(false) => lab.originate(&[]),
        Event::Reload(which) => lab.reload(&settings(which)),
        Event::Deliver => lab.settle(),
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let peer = || (0..PEERS.len(), 1..=2_u8);
    prop::collection::vec(
        prop_oneof![
            10 => (peer(), 0..NETS.len(), 0..PEERS.len()).prop_map(|((peer, instance), net, next_hop)| Event::Announce { peer, instance, net, next_hop }),
            5 => (peer(), 0..NETS.len()).prop_map(|((peer, instance), net)| Event::Withdraw { peer, instance, net }),
            1 => peer().prop_map(|(peer, instance)| Event::Lost { peer, instance }),
            3 => peer().prop_map(|(peer, instance)| Event::Back { peer, instance }),
            2 => (peer(), any::<bool>()).prop_map(|((peer, instance), holds)| Event::Hold { peer, instance, holds }),
            1 => any::<bool>().prop_map(Event::Originate),
            2 => (0..PEERS.len(), any::<bool>()).prop_map(|(peer, drained)| Event::Drain { peer, drained }),
            2 => (0..5_usize).prop_map(Event::Reload),
            3 => select(vec![Event::Deliver]),
        ],
        0..50,
    )
}

/// Everybody takes everything again.
fn release(lab: &mut Lab) {
    let ids: Vec<SessionId> = lab.sessions.keys().cloned().collect();
    for id in ids {
        lab.server.handle(SessionEvent::Drained { id }, lab.now);
    }
    lab.settle();
}

/// What each session holds; path identifiers go by the order in which sessions came up.
fn all_told(lab: &Lab) -> Vec<(SessionId, BTreeMap<IpNet, BTreeSet<String>>)> {
    let sessions = lab.sessions.iter();
    let told = sessions.map(|(id, far)| {
        let mut holds: BTreeMap<IpNet, BTreeSet<String>> = BTreeMap::new();
        for (nlri, attributes) in &far.holds {
            let paths = holds.entry(nlri.prefix).or_default();
            paths.insert(format!("{attributes:?}"));
        }
        (id.clone(), holds)
    });
    told.collect()
}

/// The second firewall takes several paths a prefix.
fn up(lab: &mut Lab, peer: &str, instance: u8) {
    let (id, mut negotiated) = lab.negotiated(peer, instance);
    if peer == "fw2" {
        negotiated.add_path_send = Family::ALL.to_vec();
    }
    lab.up_with(id, negotiated);
}

proptest! {
    #[test]
    fn what_peers_and_subnets_are_told_depends_on_what_stands_and_not_on_what_came_before(events in events()) {
        let up = (0..3).flat_map(|peer| [1, 2].map(|instance| Event::Back { peer, instance }));
        let mut lab = Lab::new(&settings(0));
        let mut standing = Standing::default();
        for event in up.chain(events) {
            happen(&mut lab, &event);
            standing.note(&event);
        }
        release(&mut lab);
        let mut other = Lab::new(&settings(0));
        for event in standing.events() {
            happen(&mut other, &event);
        }
        other.settle();
        prop_assert_eq!(all_told(&lab), all_told(&other));
        prop_assert_eq!(&lab.learned, &other.learned);
    }

    #[test]
    fn a_map_that_permits_everything_changes_nothing(events in events()) {
        let everyone = ["sdwan", "fw", "fw2"].into_iter();
        let text = everyone.fold(HEAD.to_owned(), |text, peer| own(&own(&text, peer, "in"), peer, "out"));
        let mapped = parsed(&map(&text, "[{ action = \"permit\" }]"));
        let mut labs = [Lab::new(&parsed(HEAD)), Lab::new(&mapped)];
        let up = (0..3).flat_map(|peer| [1, 2].map(|instance| Event::Back { peer, instance }));
        for event in up.chain(events).filter(|event| !matches!(event, Event::Reload(_))) {
            labs.iter_mut().for_each(|lab| happen(lab, &event));
        }
        labs.iter_mut().for_each(release);
        prop_assert_eq!(all_told(&labs[0]), all_told(&labs[1]));
        prop_assert_eq!(&labs[0].learned, &labs[1].learned);
        let rows = labs.map(|lab| {
            let rows = lab.server.learned_rows(&Filter::default(), lab.now);
            format!("{rows:?}")
        });
        prop_assert_eq!(&rows[0], &rows[1]);
    }
}

fn withdraw(lab: &mut Lab, peer: &str, nets: &[&str]) {
    for instance in [1, 2] {
        let nlri = nets.iter().map(|net| prefix(net).into()).collect();
        let gone = RouteChange::Withdraw {
            nlri,
            malformed: None,
        };
        lab.send(peer, instance, vec![gone]);
    }
    lab.settle();
}
