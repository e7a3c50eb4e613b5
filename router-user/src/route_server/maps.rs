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
    config::{self, GatewayMembers, Peer, PeerKind, RouteMap, RouteMaps, SourcePattern},
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
            let names = named_sources(written, config);
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

/// The names of peers that a map's rules ask for.
#[derive(PartialEq, Eq, Debug)]
struct Names {
    peers: BTreeMap<IpAddr, (PeerName, Option<GatewayName>)>,
    /// Whoever comes and goes there is a member of the gateway, other peers of above excepted: the
    /// names are the same whoever there is.
    ranges: Vec<(IpNet, GatewayName)>,
}

impl Names {
    /// The name of a peer and of its gateway.
    fn of(&self, address: IpAddr) -> (Option<&PeerName>, Option<&GatewayName>) {
        if let Some((name, gateway)) = self.peers.get(&address) {
            return (Some(name), gateway.as_ref());
        }
        let mut ranges = self.ranges.iter();
        let range = ranges.find(|(range, _)| range.contains(&address));
        (None, range.map(|(_, gateway)| gateway))
    }
}

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
                    let (name, gateway) = self.names.of(session.id.peer);
                    RouteSource::Peer {
                        kind,
                        name: name.map_or("", PeerName::as_str),
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
fn named_sources(map: &RouteMap, config: &config::RouteServer) -> Names {
    let sources = map.rules.iter().flat_map(|rule| &rule.matches.sources);
    let asked: BTreeSet<&str> = sources
        .filter_map(|source| match source {
            SourcePattern::Peer(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let gateways = config.gateways.iter();
    let asked_gateways = gateways.filter(|gateway| asked.contains(gateway.name.as_str()));
    let ranges = asked_gateways.filter_map(|gateway| match &gateway.members {
        GatewayMembers::Range { prefix, .. } => Some((*prefix, gateway.name.clone())),
        GatewayMembers::Addresses(_) => None,
    });
    let ranges: Vec<(IpNet, GatewayName)> = ranges.collect();
    let asked_for = |peer: &&Peer| {
        let lies_in = |(range, _): &(IpNet, GatewayName)| range.contains(&peer.address);
        let member = peer.membership.as_ref();
        let asked_member = member.is_some_and(|own| asked.contains(own.gateway.as_str()));
        asked.contains(peer.name.as_str())
            || match ranges.iter().any(lies_in) {
                true => !asked_member,
                false => asked_member,
            }
    };
    let named = config.peers.iter().filter(asked_for);
    let named = named.map(|peer| (peer.address, (peer.name.clone(), gateway(peer))));
    Names {
        peers: named.collect(),
        ranges,
    }
}

fn gateway(peer: &Peer) -> Option<GatewayName> {
    let membership = peer.membership.as_ref();
    membership.map(|membership| membership.gateway.clone())
}
