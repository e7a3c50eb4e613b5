//! The RIB by itself: decisions, update groups, dumps.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::bgp::{
    InstanceId, RouteChange, SessionId,
    wire::{AsPath, Asn, Context, FamilySet, Message, Peering, decode, frame},
};

mod add_path;
mod adj_rib_out;
mod any_order;
mod decision;
mod import;
mod lag;
mod learned;
mod limited;
mod long_lived;
mod moves;
mod own_routes;
mod policy;
mod reflection;
mod room;
mod smoke;
mod stale;
mod views;

/// The route server's ASN in these tests.
const ASN: Asn = 65515;

/// A RIB with peers that remember what they were sent.
struct Lab {
    rib: Rib,
    peers: Vec<Peer>,
}

/// A peer's end of its session.
struct Peer {
    index: SessionIndex,
    context: Context,
    /// What it holds after all messages so far.
    holds: BTreeMap<Nlri, PathAttributes>,
    /// Messages received, by what they said.
    updates: usize,
    announced: usize,
    withdrawn: usize,
    ended: Vec<Family>,
    /// The very pieces that it was sent.
    pieces: Vec<Bytes>,
}

impl Lab {
    fn new() -> Self {
        let mut rib = Rib::new(DecisionOptions::default());
        rib.set_learned_view(LearnedViewId(0), learned_view());
        let peers = Vec::new();
        Self { rib, peers }
    }

    /// An NVA 10.1.10.`host` that sends and is sent routes.
    fn nva(&mut self, host: u8) -> usize {
        let peer = self.source(SessionInfo {
            id: session_id(1, host),
            ..info(host)
        });
        self.join(peer);
        peer
    }

    /// A session that only announces.
    fn source(&mut self, info: SessionInfo) -> usize {
        let index = self.rib.add_session(info);
        self.peers.push(Peer {
            index,
            context: context(),
            holds: BTreeMap::new(),
            updates: 0,
            announced: 0,
            withdrawn: 0,
            ended: Vec::new(),
            pieces: Vec::new(),
        });
        self.peers.len() - 1
    }

    fn join(&mut self, peer: usize) {
        self.rib.join(self.peers[peer].index, view());
        self.settle();
    }

    /// An NVA that is sent up to `max_paths` paths a prefix.
    fn add_path_nva(&mut self, host: u8, max_paths: u8) -> usize {
        self.add_path_peer(info(host), max_paths)
    }

    fn add_path_peer(&mut self, info: SessionInfo, max_paths: u8) -> usize {
        let peer = self.source(info);
        let families = Family::ALL.into_iter().collect();
        self.peers[peer].context.add_path_receive = families;
        let view = View {
            context: Context {
                add_path_send: families,
                ..context()
            },
            max_paths,
            ..view()
        };
        self.rib.join(self.peers[peer].index, view);
        self.settle();
        peer
    }

    fn announce(&mut self, peer: usize, net: &str, attributes: PathAttributes) {
        self.announce_path(peer, prefix(net).into(), attributes);
    }

    fn announce_path(&mut self, peer: usize, nlri: Nlri, attributes: PathAttributes) {
        let attributes = self.intern(attributes);
        let index = self.peers[peer].index;
        self.rib
            .announce(index, nlri, &attributes, &Judgement::Eligible(Zone(0)));
        self.rib.release(attributes);
    }

    /// Attributes that import does not change.
    fn intern(&mut self, attributes: PathAttributes) -> Interned {
        let attributes = Arc::new(attributes);
        self.rib.intern(attributes.clone(), attributes, None)
    }

    fn withdraw(&mut self, peer: usize, net: &str) {
        self.rib
            .withdraw(self.peers[peer].index, prefix(net).into());
    }

    /// Lets all messages arrive, those of dumps included.
    fn settle(&mut self) {
        self.deliver();
        while self.rib.is_dumping() {
            self.rib.step();
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        for (index, messages) in self.rib.take_messages() {
            let mut peers = self.peers.iter_mut();
            let peer = peers.find(|peer| peer.index == index);
            peer.expect("messages go to sessions that are up")
                .receive(messages);
        }
    }

    fn holds(&self, peer: usize, net: &str) -> Option<&PathAttributes> {
        self.peers[peer].holds.get(&prefix(net).into())
    }
}

impl Peer {
    fn receive(&mut self, piece: Bytes) {
        self.pieces.push(piece.clone());
        for change in changes(&piece, &self.context, &mut self.updates) {
            match change {
                RouteChange::Announce { attributes, nlri } => {
                    self.announced += nlri.len();
                    for nlri in nlri {
                        self.holds.insert(nlri, (*attributes).clone());
                    }
                }
                RouteChange::Withdraw { nlri, malformed } => {
                    assert_eq!(malformed, None, "what is sent is well-formed");
                    self.withdrawn += nlri.len();
                    for nlri in nlri {
                        let held = self.holds.remove(&nlri);
                        assert!(held.is_some(), "{nlri:?} was never sent");
                    }
                }
                RouteChange::EndOfRib(family) => self.ended.push(family),
            }
        }
    }
}

/// What a piece of a session's stream says, as its receiver reads it.
pub(crate) fn changes(piece: &[u8], context: &Context, updates: &mut usize) -> Vec<RouteChange> {
    let mut changes = Vec::new();
    let mut rest = piece;
    while !rest.is_empty() {
        let length = frame(rest, context.max_message_len())
            .expect("a well-formed header")
            .expect("whole messages only");
        let Ok(Message::Update(update)) = decode(&rest[..length], context) else {
            panic!("only well-formed UPDATEs are sent");
        };
        changes.extend(update.into_changes());
        *updates += 1;
        rest = &rest[length..];
    }
    changes
}

/// How many slots a change of views comes to in one step.
fn chunk() -> impl Strategy<Value = usize> {
    prop_oneof![Just(CHUNK), 1_usize..6]
}

fn session_id(instance: u8, host: u8) -> SessionId {
    SessionId {
        route_server: "rs1".into(),
        instance: InstanceId(instance),
        peer: address(host),
    }
}

fn info(host: u8) -> SessionInfo {
    SessionInfo {
        id: session_id(1, host),
        router_id: Ipv4Addr::new(192, 0, 2, host),
        kind: SourceKind(0),
        identity: host.into(),
        class: 1,
        ebgp: true,
        gateway: false,
        may_blackhole: false,
    }
}

fn context() -> Context {
    Context {
        peering: Peering::External,
        families: FamilySet::EMPTY
            .with(Family::Ipv4Unicast)
            .with(Family::Ipv6Unicast),
        four_octet_asn: true,
        ..Context::default()
    }
}

fn view() -> View {
    View {
        context: context(),
        asn: ASN,
        max_paths: 1,
        sources: SourceKinds::default().with(SourceKind(0)),
        long_lived: true,
        export: Export::default(),
        next_hop_v4: Some(IpAddr::from([10, 1, 255, 4]).into()),
        next_hop_v6: None,
        locals: LocalSet::NETWORKS,
        cluster_id: None,
        until: [Until::End; 2],
        policy: None,
        aggregator: None,
        audience: Audience::default(),
    }
}

/// All sources, the route server's own network.
fn learned_view() -> LearnedView {
    LearnedView {
        sources: SourceKinds::ALL,
        towards: Towards::Subnets,
        reach: ZoneSet::from([Zone(0)]),
        marks_only: false,
    }
}

fn address(host: u8) -> IpAddr {
    IpAddr::from([10, 1, 10, host])
}

fn attributes(path: &[Asn], next_hop: u8) -> PathAttributes {
    PathAttributes {
        as_path: AsPath::sequence(path.iter().copied()),
        next_hop: Some(address(next_hop).into()),
        ..PathAttributes::default()
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}
