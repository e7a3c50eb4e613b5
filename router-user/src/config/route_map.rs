//! `[[route_server.route_map]]`: ordered rules over routes that are learned or advertised.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{PeerKind, fault::Report, schema, section::Section, values::Name};
use crate::{
    bgp::wire::Asn,
    names::{PeerName, RouteMapName},
};

mod pattern;
mod rules;

pub use pattern::PatternError;
pub(super) use rules::{RouteMapsRead, refuse_stranger};

/// `[[route_server.route_map]]`: rules that are asked in order; what none of them matches passes
/// unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMap {
    /// Its name; unique within the route server.
    pub name: RouteMapName,
    /// `[[route_server.route_map.rule]]`, in order.
    pub rules: Vec<RouteMapRule>,
}

/// The route maps that apply to a peer, or to all peers of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteMaps {
    /// For what it announces.
    pub inbound: Option<RouteMapName>,
    /// For what it is sent.
    pub outbound: Option<RouteMapName>,
}

/// `[[route_server.route_map.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMapRule {
    /// Its name, for people; default: its place, from 1.
    pub name: String,
    /// Which routes it is about.
    pub matches: Match,
    /// What becomes of them.
    pub action: RouteMapAction,
    /// Later rules are asked as well; default false.
    pub continues: bool,
}

/// Which routes a rule is about: every list that is not empty must have one that fits; with all
/// lists empty, every route.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Match {
    /// Prefixes.
    pub prefixes: Vec<PrefixPattern>,
    /// Communities, of which one must be there.
    pub communities: Vec<CommunityValue>,
    /// AS paths.
    pub as_paths: Vec<AsPathPattern>,
    /// Where the route comes from.
    pub sources: Vec<SourcePattern>,
}

/// Prefixes within `prefix` whose length lies within `lengths`: `10.0.0.0/8`, `10.0.0.0/8+`,
/// `10.0.0.0/8{16,24}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixPattern {
    /// The prefix.
    pub prefix: IpNet,
    /// Shortest and longest length, both at least that of `prefix`.
    pub lengths: (u8, u8),
}

/// A community of one of the three kinds: `65010:100`, `large:65010:1:2`, `ext:0x0002fde800000064`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommunityValue {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large([u32; 3]),
    /// RFC 4360.
    Extended([u8; 8]),
}

/// What an AS path is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsPathPattern {
    /// Has this ASN somewhere.
    Contains(Asn),
    /// Is this sequence and nothing else; empty: an empty path.
    Exact(Vec<Asn>),
    /// As text (`65010 65020 {65030 65031}`) it has a match of this regular expression, in which
    /// `_` stands for a boundary between ASNs.
    Regex(AsPathRegex),
}

/// A regular expression over AS paths. Equal if written equally.
#[derive(Clone)]
pub struct AsPathRegex {
    /// As written in the configuration.
    pub text: String,
    /// Compiled, `_` translated.
    pub compiled: regex::Regex,
}

impl PartialEq for AsPathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for AsPathRegex {}

impl fmt::Debug for AsPathRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Where a route comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePattern {
    /// A peer of this kind.
    Kind(PeerKind),
    /// Learned by hand.
    Static,
    /// Originated by the route server, or advertised by hand.
    Originated,
    /// This peer, or a member of the gateway of this name.
    Peer(PeerName),
}

/// What becomes of a route that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMapAction {
    /// It is dropped; no later rule is asked.
    Drop,
    /// It passes, changed.
    Permit(Box<RouteChanges>),
    /// It does not pass; while there is one that would, this prefix does in their place.
    Aggregate(IpNet),
}

/// What a rule changes. Fields that are `None` or empty change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteChanges {
    /// The AS path becomes this sequence; before `as_path_prepend`.
    pub as_path_replace: Option<Vec<Asn>>,
    /// Put before the AS path, first one first.
    pub as_path_prepend: Vec<Asn>,
    /// The communities, of all kinds, become these; before adding and removing.
    pub community_replace: Option<Vec<CommunityValue>>,
    /// Communities that go.
    pub community_remove: Vec<CommunityValue>,
    /// Communities that are added.
    pub community_add: Vec<CommunityValue>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MED.
    pub med: Option<u32>,
    /// Share of the flows in an ECMP set, 1 to 255; inbound only.
    pub weight: Option<u8>,
    /// NEXT_HOP.
    pub next_hop: Option<IpAddr>,
}

/// A place in the file that names a route map.
#[derive(Clone, Debug)]
pub(super) struct MapUse {
    pub(super) map: RouteMapName,
    pub(super) outbound: bool,
    /// Who, for messages: `peer sdwan`.
    pub(super) owner: String,
    pub(super) at: usize,
}

impl MapUse {
    /// What a section says under two keys, one for each direction.
    pub(super) fn read(
        section: &Section<'_, '_>,
        [inbound, outbound]: [&str; 2],
        owner: &str,
        report: &mut Report,
    ) -> Vec<Self> {
        let mut uses = Vec::new();
        for (key, outbound) in [(inbound, false), (outbound, true)] {
            if let Some(name) = section.text::<Name>(key, report) {
                uses.push(Self {
                    map: name.value.0.into(),
                    outbound,
                    owner: owner.to_owned(),
                    at: name.at,
                });
            }
        }
        uses
    }

    /// Those uses, as the configuration has them.
    pub(super) fn maps(uses: &[Self]) -> RouteMaps {
        let of = |outbound: bool| {
            let found = uses.iter().find(|of| of.outbound == outbound);
            found.map(|of| of.map.clone())
        };
        RouteMaps {
            inbound: of(false),
            outbound: of(true),
        }
    }
}

/// Reads the route maps of kinds of peer, and adds where they are named to `uses`.
pub(super) fn read_of_kinds(
    server: &Section<'_, '_>,
    uses: &mut Vec<MapUse>,
    report: &mut Report,
) -> BTreeMap<PeerKind, RouteMaps> {
    let mut of_kinds = BTreeMap::new();
    let Some(section) = server.subsection("route_maps", &schema::ROUTE_MAPS, report) else {
        return of_kinds;
    };
    for kind in PeerKind::ALL {
        let Some(section) = section.subsection(kind.word(), &schema::ROUTE_MAPS_OF_KIND, report)
        else {
            continue;
        };
        let owner = format!("route_maps.{}", kind.word());
        let read = MapUse::read(&section, ["in", "out"], &owner, report);
        of_kinds.insert(kind, MapUse::maps(&read));
        uses.extend(read);
    }
    of_kinds
}
