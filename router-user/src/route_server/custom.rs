//! Routes given by hand: static ones that are learned, and prefixes that some peers are sent as the
//! route server's own.
//!
//! In: `learned`, `advertised` and `default_originate` of the configuration. Out: paths of a session of
//! their own in the RIB ([`StaticRoutes`]), and local sources, one for all routes with the same
//! recipients ([`LocalSources`]): a peer's view says which of them it carries.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{identity, import::ImportRules, kind};
use crate::{
    bgp::{
        InstanceId, SessionId,
        wire::{Family, Nlri, PathAttributes},
    },
    config::{self, CommunityValue, CustomAdvertised, Peer, Recipient},
    names::{PeerName, RouteServerName},
    rib::{LocalSet, LocalSource, Rib, SessionIndex, SessionInfo},
};

/// What static routes have as the name of their peer.
pub const STATIC_PEER: &str = "static";

/// The static routes, in a session of the RIB that no peer has.
#[derive(Clone, Default)]
pub(super) struct StaticRoutes {
    session: Option<SessionIndex>,
    /// What has been announced, with the number of each next hop.
    routes: BTreeMap<(IpNet, IpAddr), u32>,
}

impl StaticRoutes {
    /// Makes the RIB's static paths those of the configuration, judged by the rules of now.
    pub(super) fn apply(
        &mut self,
        rib: &mut Rib,
        config: &config::RouteServer,
        rules: &ImportRules,
    ) {
        let wanted: BTreeSet<(IpNet, IpAddr)> = config
            .learned
            .iter()
            .flat_map(|route| {
                route
                    .next_hops
                    .iter()
                    .map(|next_hop| (route.prefix, *next_hop))
            })
            .collect();
        if wanted.is_empty() && self.session.is_none() {
            return;
        }
        let session = *self.session.get_or_insert_with(|| {
            rib.add_session(SessionInfo {
                id: static_session(&config.name),
                router_id: Ipv4Addr::UNSPECIFIED,
                kind: kind::STATIC,
                identity: identity::STATIC,
                class: kind::class(config.routing_preference, kind::STATIC),
                ebgp: true,
                gateway: false,
                may_blackhole: false,
            })
        });
        self.routes.retain(|(prefix, next_hop), path_id| {
            let stays = wanted.contains(&(*prefix, *next_hop));
            if !stays {
                rib.withdraw(session, nlri(*prefix, *path_id));
            }
            stays
        });
        for (prefix, next_hop) in wanted {
            let path_id = self.path_id(prefix, next_hop);
            let attributes = Arc::new(PathAttributes {
                next_hop: Some(next_hop.into()),
                ..PathAttributes::default()
            });
            let judgement = rules.judge(Family::of(&prefix), Some(next_hop.into()));
            let attributes = rib.intern(attributes.clone(), attributes, None);
            rib.announce(session, nlri(prefix, path_id), &attributes, &judgement);
            rib.release(attributes);
        }
    }

    /// The number of a next hop of a prefix: it keeps the one that it has.
    fn path_id(&mut self, prefix: IpNet, next_hop: IpAddr) -> u32 {
        if let Some(known) = self.routes.get(&(prefix, next_hop)) {
            return *known;
        }
        let first = (prefix, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_prefix = self.routes.range(first..);
        let of_prefix = of_prefix.take_while(|((other, _), _)| *other == prefix);
        let last = of_prefix.map(|(_, path_id)| *path_id).max();
        let path_id = last.map_or(0, |last| last + 1);
        self.routes.insert((prefix, next_hop), path_id);
        path_id
    }
}

/// Stands for a session where the source of static routes is named.
pub(super) fn static_session(route_server: &RouteServerName) -> SessionId {
    SessionId {
        route_server: route_server.clone(),
        instance: InstanceId(0),
        peer: Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn nlri(prefix: IpNet, path_id: u32) -> Nlri {
    Nlri {
        path_id,
        ..Nlri::from(prefix)
    }
}

/// Who is sent the routes of a local source; sorted, for it is what sources are told apart by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Recipients {
    /// Peers and gateways, by kind or name, each as its word in the configuration.
    Named(BTreeSet<String>),
    /// Peers with `default_originate`.
    DefaultOriginate,
}

/// The local sources beside the networks' prefixes.
#[derive(Clone, Default)]
pub(super) struct LocalSources {
    /// A source keeps its number for as long as somebody receives it.
    numbers: BTreeMap<Recipients, LocalSource>,
    originated: BTreeMap<(LocalSource, IpNet), Arc<PathAttributes>>,
    /// How many sets of recipients there was no number for.
    left_out: usize,
}

impl LocalSources {
    /// Makes what the RIB originates that of the configuration.
    pub(super) fn apply(&mut self, rib: &mut Rib, config: &config::RouteServer) {
        let defaults = originates_default(config).then_some(Recipients::DefaultOriginate);
        let by_hand = config.advertised.iter().map(recipients);
        let wanted: BTreeSet<Recipients> = by_hand.chain(defaults).collect();
        // Until their views change, peers carry what has a number of before: it is not given to others.
        let mut taken: BTreeSet<LocalSource> = self.numbers.values().copied().collect();
        self.numbers
            .retain(|recipients, _| wanted.contains(recipients));
        self.left_out = 0;
        for recipients in wanted {
            self.number(recipients, &mut taken);
        }
        let mut originated = BTreeMap::new();
        for route in &config.advertised {
            if let Some(source) = self.numbers.get(&recipients(route)) {
                originated.insert((*source, route.prefix), Arc::new(attributes(route)));
            }
        }
        if let Some(source) = self.numbers.get(&Recipients::DefaultOriginate) {
            for prefix in default_routes() {
                originated.insert((*source, prefix), Arc::default());
            }
        }
        let before = std::mem::replace(&mut self.originated, originated);
        for (source, prefix) in before.keys() {
            if !self.originated.contains_key(&(*source, *prefix)) {
                rib.cease_originating(*source, *prefix);
            }
        }
        for ((source, prefix), attributes) in &self.originated {
            if before.get(&(*source, *prefix)) != Some(attributes) {
                rib.originate(*source, *prefix, attributes.clone());
            }
        }
    }

    /// Whether some sets of recipients have no number. Those that others had until now are free the next
    /// time.
    pub(super) fn are_short(&self) -> bool {
        self.left_out > 0
    }

    pub(super) fn warn_if_short(&self, config: &config::RouteServer) {
        if self.are_short() {
            tracing::error!(
                route_server = %config.name,
                left_out = self.left_out,
                "routes advertised by hand have more than 255 different sets of recipients; those \
                 beyond are not advertised, name kinds instead of peers"
            );
        }
    }

    fn number(&mut self, recipients: Recipients, taken: &mut BTreeSet<LocalSource>) {
        if self.numbers.contains_key(&recipients) {
            return;
        }
        let mut numbers = (1..=u8::MAX).map(LocalSource);
        match numbers.find(|number| taken.insert(*number)) {
            Some(free) => {
                self.numbers.insert(recipients, free);
            }
            None => self.left_out += 1,
        }
    }

    /// What a peer is sent of the local sources; the networks' prefixes are for everybody.
    pub(super) fn sent_to(&self, peer: &Peer) -> LocalSet {
        let received = self
            .numbers
            .iter()
            .filter(|(recipients, _)| match recipients {
                Recipients::Named(words) => {
                    let gateway = peer.membership.as_ref().map(|own| own.gateway.as_str());
                    let names = [Some(peer.name.as_str()), gateway].into_iter().flatten();
                    let mut words_of_peer = names.map(named).chain([of_kind(peer.kind())]);
                    words_of_peer.any(|word| words.contains(&word))
                }
                Recipients::DefaultOriginate => peer.policy.default_originate,
            });
        received.fold(LocalSet::NETWORKS, |set, (_, source)| set.with(*source))
    }
}

fn originates_default(config: &config::RouteServer) -> bool {
    let peers = config.peers.iter();
    let sections = config.dynamic_peers.iter().map(|section| &section.template);
    let gateways = config.gateways.iter().map(|gateway| &gateway.template);
    let mut all = peers.chain(sections).chain(gateways);
    all.any(|peer| peer.policy.default_originate)
}

fn default_routes() -> [IpNet; 2] {
    [
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    ]
}

fn recipients(route: &CustomAdvertised) -> Recipients {
    let words = route.to.iter().map(|recipient| match recipient {
        Recipient::Kind(kind) => of_kind(*kind),
        Recipient::Peer(name) => named(name.as_str()),
    });
    Recipients::Named(words.collect())
}

fn of_kind(kind: config::PeerKind) -> String {
    format!("kind {}", kind.word())
}

fn named(name: &str) -> String {
    format!("name {name}")
}

fn attributes(route: &CustomAdvertised) -> PathAttributes {
    let mut attributes = PathAttributes {
        next_hop: route.next_hop.map(Into::into),
        med: route.med,
        ..PathAttributes::default()
    };
    for community in &route.communities {
        match *community {
            CommunityValue::Standard(value) => attributes.communities.push(value),
            CommunityValue::Large(value) => attributes.large_communities.push(value),
            CommunityValue::Extended(value) => attributes.extended_communities.push(value),
        }
    }
    attributes.communities.sort_unstable();
    attributes
}

/// The name that people see for a source of routes that is no peer.
pub(super) fn static_name() -> PeerName {
    STATIC_PEER.into()
}
