//! Which route maps apply to which peer, in the form in which they are asked.
//!
//! In: the configuration. Out: the inbound map of a peer ([`Inbound`]) and its outbound one
//! ([`ExportPolicy`]). A map that stays as it is written stays the same object from one configuration
//! to the next: peers with one outbound map share their work, and what did not change is not done
//! anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    kind,
    policy::{CompiledRouteMap, Outcome, RouteSource},
};
use crate::{
    bgp::wire::PathAttributes,
    config::{self, Peer, PeerKind, RouteMap, RouteMaps, SourcePattern},
    names::{GatewayName, PeerName, RouteMapName},
    rib::{Evaluation, ExportPolicy, Source},
};

/// The route maps of a route server.
#[derive(Clone, Default)]
pub(super) struct Maps {
    of_kinds: BTreeMap<PeerKind, RouteMaps>,
    compiled: BTreeMap<RouteMapName, Compiled>,
}

/// One route map.
#[derive(Clone)]
struct Compiled {
    /// What it was compiled of.
    written: RouteMap,
    map: Arc<CompiledRouteMap>,
    outbound: Arc<Outbound>,
}

impl Maps {
    /// Makes them those of a configuration.
    pub(super) fn apply(&mut self, config: &config::RouteServer) {
        self.of_kinds = config.route_maps_of_kind.clone();
        let mut before = std::mem::take(&mut self.compiled);
        for written in &config.route_maps {
            let known = before.remove(&written.name);
            let known = known.filter(|known| known.written == *written);
            let names = named_sources(written, &config.peers);
            let map = match &known {
                Some(known) => known.map.clone(),
                None => Arc::new(CompiledRouteMap::new(written)),
            };
            let outbound = known.map(|known| known.outbound);
            let outbound = outbound.filter(|outbound| outbound.names == names);
            let compiled = Compiled {
                written: written.clone(),
                outbound: outbound.unwrap_or_else(|| {
                    let map = map.clone();
                    Arc::new(Outbound { map, names })
                }),
                map,
            };
            self.compiled.insert(written.name.clone(), compiled);
        }
    }

    /// The names of the maps that apply to a peer: its own, else those of its kind.
    pub(super) fn of(&self, peer: &Peer) -> RouteMaps {
        let of_kind = self.of_kinds.get(&peer.kind());
        let of_kind = of_kind.cloned().unwrap_or_default();
        let own = peer.route_maps.clone();
        let (own, of_kind) = match planted!(KindBeatsPeer) {
            true => (of_kind, own),
            false => (own, of_kind),
        };
        RouteMaps {
            inbound: own.inbound.or(of_kind.inbound),
            outbound: own.outbound.or(of_kind.outbound),
        }
    }

    /// The map for what a peer announces.
    pub(super) fn inbound(&self, peer: &Peer) -> Option<Inbound> {
        let compiled = self.compiled.get(&self.of(peer).inbound?)?;
        Some(Inbound {
            map: compiled.map.clone(),
            name: peer.name.clone(),
            gateway: gateway(peer),
        })
    }

    /// The map for what a peer is sent.
    pub(super) fn outbound(&self, peer: &Peer) -> Option<Arc<dyn ExportPolicy>> {
        let compiled = self.compiled.get(&self.of(peer).outbound?)?;
        Some(compiled.outbound.clone())
    }
}

/// The inbound map of a peer. Equal only if the map is the very same.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    map: Arc<CompiledRouteMap>,
    name: PeerName,
    gateway: Option<GatewayName>,
}

impl Inbound {
    /// The class of a prefix, as in [`CompiledRouteMap::class`].
    pub(super) fn class(&self, prefix: IpNet) -> u32 {
        self.map.class(prefix)
    }

    /// What becomes of a route of the peer, which is of this kind, to a prefix of this class.
    pub(super) fn evaluate(
        &self,
        class: u32,
        kind: PeerKind,
        attributes: &PathAttributes,
    ) -> Outcome {
        let source = RouteSource::Peer {
            kind,
            name: self.name.as_str(),
            gateway: self.gateway.as_ref().map(GatewayName::as_str),
        };
        self.map.evaluate_class(class, source, attributes)
    }
}

impl PartialEq for Inbound {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.map, &other.map)
            && (&self.name, &self.gateway) == (&other.name, &other.gateway)
    }
}

impl Eq for Inbound {}

/// The names of peers that a map's rules ask for, by their address.
type Names = BTreeMap<IpAddr, (PeerName, Option<GatewayName>)>;

/// An outbound map.
#[derive(Debug)]
struct Outbound {
    map: Arc<CompiledRouteMap>,
    names: Names,
}

impl ExportPolicy for Outbound {
    fn evaluate(
        &self,
        prefix: IpNet,
        source: Source<'_>,
        attributes: &PathAttributes,
    ) -> Evaluation {
        let source = match source {
            Source::Originated => RouteSource::Originated,
            Source::Session(session) => match kind::of_peer(session.kind) {
                None => RouteSource::Static,
                Some(kind) => {
                    let named = self.names.get(&session.id.peer);
                    let gateway = named.and_then(|(_, gateway)| gateway.as_ref());
                    RouteSource::Peer {
                        kind,
                        name: named.map_or("", |(name, _)| name.as_str()),
                        gateway: gateway.map(GatewayName::as_str),
                    }
                }
            },
        };
        match self.map.evaluate(prefix, source, attributes) {
            Outcome::Keep => Evaluation::Keep,
            Outcome::Drop(_) => Evaluation::Drop,
            Outcome::Change { attributes, .. } => Evaluation::Change(*attributes),
            Outcome::Aggregate { prefix, .. } => Evaluation::Aggregate(prefix),
        }
    }

    fn class(&self, prefix: IpNet) -> u32 {
        self.map.class(prefix)
    }

    fn aggregates(&self) -> bool {
        self.map.aggregates()
    }
}

/// The peers that the rules of a map ask for by name, their own or their gateway's.
fn named_sources(map: &RouteMap, peers: &[Peer]) -> Names {
    let sources = map.rules.iter().flat_map(|rule| &rule.matches.sources);
    let asked: BTreeSet<&str> = sources
        .filter_map(|source| match source {
            SourcePattern::Peer(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let asked_for = |peer: &&Peer| {
        let gateway = peer.membership.as_ref();
        asked.contains(peer.name.as_str())
            || gateway.is_some_and(|own| asked.contains(own.gateway.as_str()))
    };
    let named = peers.iter().filter(asked_for);
    named
        .map(|peer| (peer.address, (peer.name.clone(), gateway(peer))))
        .collect()
}

fn gateway(peer: &Peer) -> Option<GatewayName> {
    let membership = peer.membership.as_ref();
    membership.map(|membership| membership.gateway.clone())
}
