//! Whatever happens in whatever order: views and peers end up with what a RIB gives them that was told
//! only how things stand in the end.

use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;
use crate::bgp::wire::{Peering, community};

/// What happens. Peers, prefixes and settings go by number.
#[derive(Clone, Debug)]
enum Event {
    Announce(usize, u8, Route),
    Withdraw(usize, u8),
    Originate(u8, u8, u32),
    Cease(u8, u8),
    Import(usize, u8),
    Prefer(u8),
    Options(usize, bool),
    Blackhole(usize, bool),
    Learn(usize, bool),
    Unlearn(usize),
    View(usize, Outbound),
    Hold(usize),
    Resume(usize),
    /// A peer leaves and joins anew: the table is on its way.
    Rejoin(usize),
    Step,
    Take,
}

/// A path as it is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Route {
    length: usize,
    med: u32,
    next_hop: u8,
    zone: u16,
    blackhole: bool,
}

/// What varies of a peer's outbound view.
#[derive(Clone, Copy, Debug)]
struct Outbound {
    all_sources: bool,
    locals: u8,
    reflects: bool,
    until: u8,
    policy: u8,
    graceful_shutdown: bool,
}

/// How things stand.
#[derive(Clone)]
struct World {
    routes: BTreeMap<(usize, u8), Route>,
    own: BTreeMap<(u8, u8), u32>,
    imports: [u8; PEERS],
    preferred: u8,
    options: DecisionOptions,
    blackholes: [bool; PEERS],
    /// The learned views there are: their number, and whether somebody forwards by them.
    learned: BTreeMap<usize, (u32, bool)>,
    outbound: [Outbound; PEERS],
}

const PEERS: usize = 5;

/// A route map that changes MED and next hop by prefix and source, or keeps back.
#[derive(Debug)]
struct Map(u8);

impl ExportPolicy for Map {
    fn evaluate(
        &self,
        prefix: IpNet,
        source: Source<'_>,
        attributes: &PathAttributes,
    ) -> Evaluation {
        let from = match source {
            Source::Originated => 7,
            Source::Session(session) => session.identity as u8,
        };
        match (self.0 + from + self.class(prefix) as u8) % 4 {
            0 => Evaluation::Drop,
            1 => Evaluation::Change(PathAttributes {
                med: Some(5),
                ..attributes.clone()
            }),
            2 => Evaluation::Change(PathAttributes {
                next_hop: Some(address(5).into()),
                ..attributes.clone()
            }),
            _ => Evaluation::Keep,
        }
    }

    fn class(&self, prefix: IpNet) -> u32 {
        u32::from(prefix >= numbered(3))
    }
}

proptest! {
    #[test]
    fn what_views_and_peers_end_up_with_does_not_depend_on_the_way_there(
        chunk in chunk(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        MOVED_AT_ONCE.set(chunk);
        let mut world = World::new();
        let mut lab = world.build();
        let mut known = Known::default();
        known.learn(&mut lab);
        let mut next_view = 100;
        for event in events {
            world.apply(event, &mut lab, &mut known, &mut next_view);
            lab.deliver();
        }
        for peer in 0..PEERS {
            lab.rib.resume(lab.peers[peer].index);
        }
        lab.settle();
        known.learn(&mut lab);

        let mut fresh = world.build();
        let mut expected = Known::default();
        expected.learn(&mut fresh);
        for (id, forwards) in world.learned.values().filter(|(_, forwards)| *forwards) {
            let id = LearnedViewId(*id);
            prop_assert!(*forwards);
            prop_assert_eq!(known.0.get(&id), expected.0.get(&id), "{:?}", id);
        }
        for peer in 0..PEERS {
            let [was, is] = [&lab, &fresh].map(|lab| &lab.peers[peer]);
            prop_assert_eq!(&was.holds, &is.holds, "peer {}", peer);
            let [was, is] = [(&lab, was), (&fresh, is)].map(|(lab, peer)| {
                let SessionTotals { received, accepted, advertised, .. } = lab.rib.totals(peer.index);
                (received, accepted, advertised)
            });
            prop_assert_eq!(was, is);
        }
        prop_assert_eq!(lab.rib.zones_in_use(), fresh.rib.zones_in_use());
        prop_assert_eq!(lab.rib.attribute_sets(), fresh.rib.attribute_sets());
    }
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0..PEERS;
    let net = 0_u8..6;
    let view = 0_usize..4;
    prop_oneof![
        10 => (peer.clone(), net.clone(), route()).prop_map(|(peer, net, route)| Event::Announce(peer, net, route)),
        4 => (peer.clone(), net.clone()).prop_map(|(peer, net)| Event::Withdraw(peer, net)),
        2 => (0_u8..3, net.clone(), 0_u32..2).prop_map(|(source, net, med)| Event::Originate(source, net, med)),
        1 => (0_u8..3, net).prop_map(|(source, net)| Event::Cease(source, net)),
        2 => (peer.clone(), 0_u8..5).prop_map(|(peer, how)| Event::Import(peer, how)),
        2 => (0_u8..3).prop_map(Event::Prefer),
        1 => (1_usize..4, any::<bool>()).prop_map(|(max, med)| Event::Options(max, med)),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, may)| Event::Blackhole(peer, may)),
        2 => (view.clone(), any::<bool>()).prop_map(|(view, forwards)| Event::Learn(view, forwards)),
        1 => view.prop_map(Event::Unlearn),
        3 => (peer.clone(), outbound()).prop_map(|(peer, outbound)| Event::View(peer, outbound)),
        2 => peer.clone().prop_map(Event::Hold),
        2 => peer.clone().prop_map(Event::Resume),
        1 => peer.prop_map(Event::Rejoin),
        2 => Just(Event::Step),
        2 => Just(Event::Take),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    let numbers = (1_usize..3, 0_u32..3, 4_u8..8, 0_u16..3);
    (numbers, prop::bool::weighted(0.1)).prop_map(|((length, med, next_hop, zone), blackhole)| {
        Route {
            length,
            med,
            next_hop,
            zone,
            blackhole,
        }
    })
}

fn outbound() -> impl Strategy<Value = Outbound> {
    (any::<[bool; 3]>(), 0_u8..8, 0_u8..8, 0_u8..5).prop_map(
        |([all_sources, reflects, graceful_shutdown], locals, until, policy)| Outbound {
            all_sources,
            locals,
            reflects,
            until,
            policy,
            graceful_shutdown,
        },
    )
}

impl World {
    fn new() -> Self {
        Self {
            routes: BTreeMap::new(),
            own: BTreeMap::new(),
            imports: [0; PEERS],
            preferred: 0,
            options: DecisionOptions::default(),
            blackholes: [false; PEERS],
            learned: BTreeMap::from([(0, (0, true)), (1, (1, true))]),
            outbound: [Outbound {
                all_sources: true,
                locals: 1,
                reflects: true,
                until: 7,
                policy: 0,
                graceful_shutdown: false,
            }; PEERS],
        }
    }

    /// A RIB that is told how things stand, and nothing else.
    fn build(&self) -> Lab {
        let mut lab = Lab {
            rib: Rib::new(self.options),
            peers: Vec::new(),
        };
        for peer in 0..PEERS {
            let place = lab.source(SessionInfo {
                class: self.class(kind(peer)),
                may_blackhole: self.blackholes[peer],
                ..session(peer)
            });
            let view = self.view(peer);
            lab.peers[place].context = Context {
                add_path_receive: view.context.add_path_send,
                ..view.context
            };
        }
        for (&(source, net), &med) in &self.own {
            let attributes = own_attributes(med);
            lab.rib
                .originate(LocalSource(source), numbered(net), attributes);
        }
        for (&(peer, net), &route) in &self.routes {
            self.announce(&mut lab, peer, net, route);
        }
        for (&number, &(id, forwards)) in &self.learned {
            let view = learned_view(number, forwards);
            lab.rib.set_learned_view(LearnedViewId(id), view);
        }
        for peer in 0..PEERS {
            lab.rib.join(lab.peers[peer].index, self.view(peer));
        }
        lab.settle();
        lab
    }

    /// Notes what happens, and lets it happen.
    fn apply(&mut self, event: Event, lab: &mut Lab, known: &mut Known, next_view: &mut u32) {
        let index = |peer: usize| lab.peers[peer].index;
        match event {
            Event::Announce(peer, net, route) => {
                self.routes.insert((peer, net), route);
                self.announce(lab, peer, net, route);
            }
            Event::Withdraw(peer, net) => {
                self.routes.remove(&(peer, net));
                lab.rib.withdraw(index(peer), numbered(net).into());
            }
            Event::Originate(source, net, med) => {
                self.own.insert((source, net), med);
                let source = LocalSource(source);
                lab.rib
                    .originate(source, numbered(net), own_attributes(med));
            }
            Event::Cease(source, net) => {
                self.own.remove(&(source, net));
                lab.rib
                    .cease_originating(LocalSource(source), numbered(net));
            }
            Event::Import(peer, how) => {
                self.imports[peer] = how;
                let routes = self.routes.clone();
                lab.rib.reimport(index(peer), |prefix, received| {
                    let number = (0..6).find(|net| numbered(*net) == prefix).unwrap();
                    let route = routes[&(peer, number)];
                    import(how, number, route, received)
                });
            }
            Event::Prefer(kind) => {
                self.preferred = kind;
                lab.rib.reclassify(|session| self.class(session.kind));
            }
            Event::Options(max_paths, always_compare_med) => {
                self.options = DecisionOptions {
                    max_paths,
                    always_compare_med,
                };
                lab.rib.set_options(self.options);
            }
            Event::Blackhole(peer, may) => {
                self.blackholes[peer] = may;
                lab.rib.set_may_blackhole(index(peer), may);
            }
            Event::Learn(number, forwards) => {
                known.learn(lab);
                let fresh = (*next_view, forwards);
                let (id, did) = self.learned.entry(number).or_insert(fresh);
                *next_view += 1;
                if forwards && !*did {
                    // Nobody has noted what went while nobody forwarded.
                    known.0.remove(&LearnedViewId(*id));
                }
                *did = forwards;
                let view = learned_view(number, forwards);
                lab.rib.set_learned_view(LearnedViewId(*id), view);
            }
            Event::Unlearn(number) => {
                if let Some((id, _)) = self.learned.remove(&number) {
                    lab.rib.remove_learned_view(LearnedViewId(id));
                }
            }
            Event::View(peer, outbound) => {
                self.outbound[peer] = outbound;
                lab.rib.set_views(vec![(index(peer), self.view(peer))]);
            }
            Event::Hold(peer) => lab.rib.hold(index(peer)),
            Event::Resume(peer) => lab.rib.resume(index(peer)),
            Event::Rejoin(peer) => {
                let index = index(peer);
                lab.rib.leave(index);
                lab.deliver();
                lab.peers[peer].holds.clear();
                lab.rib.join(index, self.view(peer));
            }
            Event::Step => lab.rib.step(),
            Event::Take => known.learn(lab),
        }
    }

    fn announce(&self, lab: &mut Lab, peer: usize, net: u8, route: Route) {
        let received = Arc::new(received(peer, route));
        let Imported {
            judgement,
            attributes,
            weight,
        } = import(self.imports[peer], net, route, &received);
        let interned = lab.rib.intern(received, attributes, weight);
        let index = lab.peers[peer].index;
        lab.rib
            .announce(index, numbered(net).into(), &interned, &judgement);
        lab.rib.release(interned);
    }

    fn class(&self, kind: SourceKind) -> u8 {
        u8::from(kind.0 != self.preferred)
    }

    fn view(&self, peer: usize) -> View {
        let Outbound {
            all_sources,
            locals,
            reflects,
            until,
            policy,
            graceful_shutdown,
        } = self.outbound[peer];
        let add_path_send = match peer {
            1 => Family::ALL.into_iter().collect(),
            _ => FamilySet::EMPTY,
        };
        let peering = match session(peer).ebgp {
            true => Peering::External,
            false => Peering::Internal,
        };
        let carried = (0..3).filter(|source| locals >> source & 1 != 0);
        let carried = carried.map(LocalSource);
        View {
            context: Context {
                peering,
                add_path_send,
                ..context()
            },
            max_paths: 2,
            export: Export {
                graceful_shutdown,
                ..Export::default()
            },
            sources: match all_sources {
                true => SourceKinds::ALL,
                false => SourceKinds::default().with(SourceKind(0)),
            },
            locals: carried.fold(LocalSet::default(), LocalSet::with),
            cluster_id: reflects.then_some(Ipv4Addr::new(10, 1, 255, 4)),
            until: [
                match until {
                    0..6 => Until::Prefix(numbered(until)),
                    6 => Until::Nothing,
                    _ => Until::End,
                },
                Until::End,
            ],
            policy: (policy > 0).then(|| Arc::new(Map(policy)) as Arc<dyn ExportPolicy>),
            ..view()
        }
    }
}

/// What the views have been told, by prefix.
#[derive(Default)]
struct Known(BTreeMap<LearnedViewId, BTreeMap<IpNet, LearnedRoute>>);

impl Known {
    fn learn(&mut self, lab: &mut Lab) {
        for LearnedChange {
            view,
            prefix,
            route,
        } in lab.rib.take_learned()
        {
            let routes = self.0.entry(view).or_default();
            match route {
                Some(route) => routes.insert(prefix, route),
                None => routes.remove(&prefix),
            };
        }
        self.0.retain(|_, routes| !routes.is_empty());
    }
}

/// Three NVAs, the second of which is sent several paths a prefix, and two gateways by iBGP.
fn session(peer: usize) -> SessionInfo {
    SessionInfo {
        kind: kind(peer),
        ebgp: peer < 3,
        gateway: peer >= 3,
        ..info(peer as u8 + 4)
    }
}

fn kind(peer: usize) -> SourceKind {
    SourceKind(peer.saturating_sub(2) as u8)
}

fn received(peer: usize, route: Route) -> PathAttributes {
    let asn = 65010 + peer as Asn % 2;
    let mut received = PathAttributes {
        med: Some(route.med),
        ..attributes(&vec![asn; route.length], route.next_hop)
    };
    if route.blackhole {
        received.add_community(community::BLACKHOLE);
    }
    received
}

/// What import makes of a path: nothing, one set of many, a weight, none or several by prefix.
fn import(how: u8, net: u8, route: Route, received: &Arc<PathAttributes>) -> Imported {
    let mut made = received.clone();
    match how {
        1 => Arc::make_mut(&mut made).med = Some(1),
        2 if net.is_multiple_of(2) => Arc::make_mut(&mut made).local_pref = Some(200),
        _ => {}
    }
    Imported {
        judgement: match (how, net) {
            (4, 1) => Judgement::Rejected("not wanted".into()),
            (4, 2) => Judgement::Unresolvable("nowhere".into()),
            _ => Judgement::Eligible(Zone(route.zone)),
        },
        attributes: made,
        weight: NonZeroU8::new(9).filter(|_| how == 3),
    }
}

fn own_attributes(med: u32) -> Arc<PathAttributes> {
    let med = Some(med).filter(|med| *med > 0);
    Arc::new(PathAttributes {
        med,
        next_hop: med.map(|_| address(6).into()),
        ..PathAttributes::default()
    })
}

/// Views that differ in what counts; the first takes everything.
fn learned_view(number: usize, forwards: bool) -> LearnedView {
    let kinds = [0, 1, 2].map(SourceKind);
    let kinds = kinds.into_iter().take(3 - number % 3);
    let zones: &[u16] = [&[0, 1, 2][..], &[0], &[0, 1, 2], &[1]][number];
    LearnedView {
        sources: kinds.fold(SourceKinds::default(), SourceKinds::with),
        towards: Towards::Subnets,
        reach: zones.iter().copied().map(Zone).collect(),
        marks_only: !forwards,
    }
}

fn numbered(net: u8) -> IpNet {
    match net {
        0 => prefix("0.0.0.0/0"),
        _ => prefix(&format!("10.{net}.0.0/16")),
    }
}
