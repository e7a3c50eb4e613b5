//! Effective routes: every candidate of a subnet, what became of it, and why.
//!
//! In: the judged own rows of a subnet and the paths of the RIB. Out: rows for people. The rows that
//! are `Active` are those that the tables answer with, longest prefix first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    PortGroup,
    learned::{Dropping, Reach},
    network::{Network, Space},
    own::{Hop, OwnCandidate, Role, Verdict},
};
use crate::{
    api::types::{EffectiveRow, LearnedRow},
    config::{PeerKind, Propagate, RouteTable},
    fib::Precedence,
};

/// State of a row that packets may follow.
pub const ACTIVE: &str = "Active";

/// State of a row that no packet follows.
pub const INVALID: &str = "Invalid";

/// State of a learned path that lies outside what a subnet takes.
const EXCLUDED: &str = "excluded";

/// The candidates for one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidates {
    /// Longest prefix first; at equal prefix the active rows first.
    pub rows: Vec<EffectiveRow>,
    /// Index of the row that packets follow. The rows after it that are active and of the same
    /// prefix are its ECMP partners.
    pub winner: Option<usize>,
    /// The address is the gateway host's own.
    pub host: bool,
}

/// What is known of ports of a subnet that see the same routes, but for the learned paths: it stands by
/// itself, so that who asks for many rows keeps nobody from work while they are made.
#[derive(Clone, Debug)]
pub struct SubnetView {
    pub(super) network: Network,
    pub(super) group: PortGroup,
    /// Whose the ports are, where there are others.
    pub(super) ports: Option<&'static str>,
    pub(super) own: Vec<OwnCandidate>,
    pub(super) table: Option<Arc<RouteTable>>,
    /// Learned prefixes whose packets are dropped.
    pub(super) dropping: Option<BTreeMap<IpNet, Dropping>>,
    /// Where next hops lie for the route server in use.
    pub(super) reach: Option<Reach>,
    /// Every network.
    pub(super) spaces: Arc<[Arc<Space>]>,
}

/// Which rows are wanted.
enum Wanted {
    /// All, without the gateway host's own addresses.
    Shown,
    /// All.
    All,
    /// All that cover this address.
    Covering(IpAddr),
}

impl SubnetView {
    /// As [`Vnets::effective_routes`](super::Vnets::effective_routes).
    #[must_use]
    pub fn effective_routes(&self, learned: &[LearnedRow]) -> Vec<EffectiveRow> {
        self.rows(learned, &Wanted::Shown)
    }

    pub(super) fn all_routes(&self, learned: &[LearnedRow]) -> Vec<EffectiveRow> {
        self.rows(learned, &Wanted::All)
    }

    /// The candidates among own rows and the `learned` paths, sorted by prefix, active rows first.
    fn rows(&self, learned: &[LearnedRow], wanted: &Wanted) -> Vec<EffectiveRow> {
        let learned = self.by_prefix(learned, wanted);
        let mut rows: Vec<EffectiveRow> = Vec::new();
        for own in &self.own {
            if wanted.own(own) {
                self.own_rows(own, &learned, &mut rows);
            }
        }
        let own = Winners::of(&self.own);
        for learned in learned.values() {
            self.learned_rows(learned, &own, &mut rows);
        }
        rows.sort_by(|a, b| {
            (a.prefix, &a.state, &a.source, a.next_hop)
                .cmp(&(b.prefix, &b.state, &b.source, b.next_hop))
        });
        rows
    }

    /// The candidates that cover an address, and the one that packets there follow.
    pub(super) fn candidates(&self, learned: &[LearnedRow], address: IpAddr) -> Candidates {
        let mut rows = self.rows(learned, &Wanted::Covering(address));
        rows.sort_by_key(|row| std::cmp::Reverse(row.prefix.prefix_len()));
        let winner = rows.iter().position(|row| row.state == ACTIVE);
        let host = self.own.iter().any(|own| {
            own.is_valid() && own.row.role == Role::Platform && own.row.prefix.contains(&address)
        });
        let Some(winning) = winner.map(|winner| rows[winner].prefix) else {
            return Candidates { rows, winner, host };
        };
        let choice = rows.iter().any(|row| row.prefix != winning);
        for row in rows.iter_mut().filter(|row| row.state == ACTIVE) {
            if row.prefix != winning {
                row.reason = Some(format!("{winning} is longer"));
            } else if choice {
                let longest = format!("longest active prefix that covers {address}");
                row.reason = Some(joined([Some(longest), row.reason.take()]));
            }
        }
        Candidates { rows, winner, host }
    }

    fn by_prefix<'r>(
        &self,
        learned: &'r [LearnedRow],
        wanted: &Wanted,
    ) -> BTreeMap<IpNet, Learned<'r>> {
        let mut by_prefix: BTreeMap<IpNet, Learned<'r>> = BTreeMap::new();
        for (prefix, dropping) in self.dropping.iter().flatten() {
            if wanted.covers(prefix) {
                let learned = by_prefix.entry(*prefix).or_insert(Learned::new(*prefix));
                learned.dropping = Some(*dropping);
            }
        }
        // Many paths share few next hops.
        let mut beyond: BTreeMap<IpAddr, Option<String>> = BTreeMap::new();
        for path in learned {
            if Some(&path.route_server) == self.network.server() && wanted.covers(&path.prefix) {
                let learned = by_prefix
                    .entry(path.prefix)
                    .or_insert(Learned::new(path.prefix));
                let next_hop = path.next_hop;
                let beyond = beyond
                    .entry(next_hop)
                    .or_insert_with(|| self.why_beyond(next_hop));
                let kept_out = self.kept_out(path, beyond.as_ref());
                learned.paths.push((path, kept_out));
            }
        }
        by_prefix
    }

    /// Why a learned path does not reach this subnet, if it does not.
    fn kept_out(&self, path: &LearnedRow, beyond: Option<&String>) -> Option<String> {
        let excluded = path.state == EXCLUDED;
        if !excluded && !path.is_member() {
            return None;
        }
        // A gateway's ports take what it is sent, whatever the route table says.
        let table = self.table.as_ref();
        let table = table.filter(|_| self.group.gateway.is_none());
        if let Some(table) = table.filter(|table| table.propagate == Propagate::NONE) {
            return Some(format!(
                "route table \"{}\" keeps learned routes out (propagate_routes)",
                table.name
            ));
        }
        if let Some(beyond) = beyond {
            return Some(beyond.clone());
        }
        if !excluded {
            return None;
        }
        let partial = table.filter(|table| table.propagate != Propagate::ALL);
        let by_table = partial.map(|table| {
            let let_in = PeerKind::ALL.into_iter();
            let let_in = let_in.filter(|kind| table.propagate.from(*kind));
            let words: Vec<&str> = let_in.map(PeerKind::word).collect();
            format!(
                "route table \"{}\" lets in only what comes from {} (propagate_routes)",
                table.name,
                words.join(", ")
            )
        });
        let why = by_table.or_else(|| path.reason.clone());
        Some(why.unwrap_or_else(|| path.state.clone()))
    }

    /// Why packets from here cannot reach a next hop, if it lies in a network out of reach.
    fn why_beyond(&self, next_hop: IpAddr) -> Option<String> {
        // Networks that are not peered with each other may overlap: the route server's view counts.
        let told = self
            .reach
            .as_ref()
            .and_then(|reach| reach.space_of(next_hop));
        let there = match told.or_else(|| self.network.network_of(next_hop)) {
            Some(there) => there,
            None => {
                let mut spaces = self.spaces.iter();
                let there = spaces.find(|space| space.contains(next_hop))?;
                &there.vnet
            }
        };
        let mut spaces = self.network.spaces();
        if spaces.any(|space| space.vnet == *there) {
            return None;
        }
        Some(format!(
            "next hop lies in network \"{there}\", which is not peered with \"{}\" from both sides \
             (vnet.peering)",
            self.network.name()
        ))
    }

    fn own_rows(
        &self,
        own: &OwnCandidate,
        learned: &BTreeMap<IpNet, Learned<'_>>,
        rows: &mut Vec<EffectiveRow>,
    ) {
        let row = self.own_row(own, learned);
        let Hop::Gateway(members) = &own.row.hop else {
            return rows.push(row);
        };
        if members.is_empty() {
            return rows.push(row);
        }
        rows.extend(members.iter().map(|(_, address)| EffectiveRow {
            next_hop: Some(*address),
            ..row.clone()
        }));
    }

    fn own_row(&self, own: &OwnCandidate, learned: &BTreeMap<IpNet, Learned<'_>>) -> EffectiveRow {
        let prefix = own.row.prefix;
        let rival = learned.get(&prefix).filter(|learned| learned.is_usable());
        let beaten = own.row.precedence < Precedence::Learned && !own.overriding && rival.is_some();
        let (state, reason) = match &own.verdict {
            Verdict::Invalid(why) => (INVALID, Some(why.clone())),
            Verdict::Valid(_) if beaten => (
                INVALID,
                Some("a learned route has the same prefix and beats a system route".to_owned()),
            ),
            Verdict::Valid(why) => {
                let beats = own.beats(rival, learned);
                let reasons = [why.clone(), beats, own.row.hop.remark(&prefix)];
                (
                    ACTIVE,
                    Some(joined(reasons)).filter(|text| !text.is_empty()),
                )
            }
        };
        EffectiveRow {
            vnet: self.network.name().clone(),
            subnet: self.group.subnet.clone(),
            ports: self.ports.map(str::to_owned),
            source: match own.row.precedence {
                Precedence::UserDefined => "user_defined",
                _ => "system",
            }
            .to_owned(),
            state: state.to_owned(),
            prefix,
            next_hop_type: own.row.hop.type_name().to_owned(),
            next_hop: own.row.hop.address(),
            as_path: None,
            peer: None,
            reason,
        }
    }

    fn learned_rows(&self, learned: &Learned<'_>, own: &Winners<'_>, rows: &mut Vec<EffectiveRow>) {
        let beaten = own.why_beaten(&learned.prefix);
        let over_system = own.has_system_row(&learned.prefix);
        let over_system = over_system
            .then(|| "a learned route beats the system route of the same prefix".to_owned());
        let verdict = |why_it_won: Option<String>| match &beaten {
            Some(reason) => (INVALID, Some(reason.clone())),
            None => (
                ACTIVE,
                Some(joined([over_system.clone(), why_it_won])).filter(|text| !text.is_empty()),
            ),
        };

        if let Some(dropping) = learned.dropping {
            let why = match dropping {
                Dropping::Unresolvable => {
                    "no candidate's next hop is resolvable: packets are dropped"
                }
                Dropping::Blackhole => {
                    "the best path carries BLACKHOLE (RFC 7999): packets are dropped"
                }
            };
            let (state, reason) = verdict(Some(why.to_owned()));
            rows.push(EffectiveRow {
                state: state.to_owned(),
                reason,
                next_hop_type: Hop::None.type_name().to_owned(),
                ..self.learned_row(learned.prefix)
            });
        }
        let mut shown = BTreeSet::new();
        for (path, kept_out) in learned.paths_as_shown() {
            let member = path.is_member() && kept_out.is_none() && learned.dropping.is_none();
            let (state, reason) = if member {
                verdict(path.reason.clone())
            } else {
                let why = kept_out.as_ref().or(path.reason.as_ref());
                (INVALID, Some(why.unwrap_or(&path.state).clone()))
            };
            // An ECMP set has a member once; both instances are told the same paths.
            let new = if member {
                shown.insert((path.next_hop, None))
            } else {
                let same_as_member = path.state == "lost"
                    && learned
                        .paths
                        .iter()
                        .any(|(other, _)| other.is_member() && is_same_announcement(other, path));
                !same_as_member && shown.insert((path.next_hop, Some((&path.peer, &path.as_path))))
            };
            if new {
                rows.push(EffectiveRow {
                    state: state.to_owned(),
                    reason,
                    next_hop: Some(path.next_hop),
                    as_path: Some(path.as_path.clone()),
                    peer: Some(path.peer.clone()),
                    ..self.learned_row(learned.prefix)
                });
            }
        }
    }

    fn learned_row(&self, prefix: IpNet) -> EffectiveRow {
        EffectiveRow {
            vnet: self.network.name().clone(),
            subnet: self.group.subnet.clone(),
            ports: self.ports.map(str::to_owned),
            source: "learned".to_owned(),
            state: INVALID.to_owned(),
            prefix,
            next_hop_type: "VirtualNetworkGateway".to_owned(),
            next_hop: None,
            as_path: None,
            peer: None,
            reason: None,
        }
    }
}

/// What is learned of a prefix.
struct Learned<'a> {
    prefix: IpNet,
    /// Each with why it does not reach the subnet, if it does not.
    paths: Vec<(&'a LearnedRow, Option<String>)>,
    dropping: Option<Dropping>,
}

impl<'a> Learned<'a> {
    const fn new(prefix: IpNet) -> Self {
        Self {
            prefix,
            paths: Vec::new(),
            dropping: None,
        }
    }

    /// Whether a route of this prefix was learned for the subnets.
    fn is_usable(&self) -> bool {
        let mut paths = self.paths.iter();
        self.dropping.is_some()
            || paths.any(|(path, kept_out)| path.is_member() && kept_out.is_none())
    }

    /// The best first, so that of two equal members the best is the one that is shown.
    fn paths_as_shown(&self) -> impl Iterator<Item = (&'a LearnedRow, &Option<String>)> {
        let mut paths: Vec<_> = self.paths.iter().map(|(path, why)| (*path, why)).collect();
        paths.sort_by_key(|(path, _)| (path.state != "best", path.state != "multipath"));
        paths.into_iter()
    }
}

/// The valid own rows, by prefix.
struct Winners<'a>(BTreeMap<IpNet, &'a OwnCandidate>);

impl<'a> Winners<'a> {
    fn of(own: &'a [OwnCandidate]) -> Self {
        let valid = own.iter().filter(|own| own.is_valid());
        Self(valid.map(|own| (own.row.prefix, own)).collect())
    }

    fn has_system_row(&self, prefix: &IpNet) -> bool {
        let own = self.0.get(prefix);
        own.is_some_and(|own| own.row.precedence == Precedence::System)
    }

    /// Why a learned route of this prefix is not used, if an own row beats it.
    fn why_beaten(&self, learned: &IpNet) -> Option<String> {
        if let Some(own) = self.0.get(learned) {
            return own.why_it_beats(learned);
        }
        let around = std::iter::successors(learned.supernet(), IpNet::supernet);
        let mut around = around.filter_map(|prefix| self.0.get(&prefix.trunc()));
        around.find_map(|own| own.why_it_beats(learned))
    }
}

impl LearnedRow {
    /// Whether the path is in the ECMP set.
    fn is_member(&self) -> bool {
        self.state == "best" || self.state == "multipath"
    }
}

fn is_same_announcement(one: &LearnedRow, other: &LearnedRow) -> bool {
    one.peer == other.peer && one.next_hop == other.next_hop && one.as_path == other.as_path
}

impl OwnCandidate {
    /// Why a learned route of this prefix is not used, if this row beats it.
    fn why_it_beats(&self, learned: &IpNet) -> Option<String> {
        let own = self.row.prefix;
        if self.overriding && own.contains(learned) {
            let place = if own == *learned { "is" } else { "lies within" };
            return Some(format!(
                "{place} {own}, {}, which beats learned routes of equal or longer prefix",
                self.row.title()
            ));
        }
        (own == *learned && self.row.precedence > Precedence::Learned)
            .then(|| format!("{} has the same prefix", self.row.title()))
    }

    /// Which learned routes this active row beats.
    fn beats(
        &self,
        rival: Option<&Learned<'_>>,
        learned: &BTreeMap<IpNet, Learned<'_>>,
    ) -> Option<String> {
        if self.overriding {
            let inside = learned
                .range(self.row.prefix..)
                .take_while(|(prefix, _)| self.row.prefix.contains(*prefix))
                .filter(|(_, learned)| learned.is_usable())
                .count();
            return (inside > 0).then(|| {
                format!(
                    "{} beats learned routes of equal or longer prefix ({inside})",
                    self.row.title()
                )
            });
        }
        rival.map(|_| {
            format!(
                "{} beats the learned route of the same prefix",
                self.row.title()
            )
        })
    }
}

impl Hop {
    fn type_name(&self) -> &'static str {
        match self {
            Self::VirtualNetwork => "VirtualNetwork",
            Self::Peering(_) => "VNetPeering",
            Self::Internet(_) => "Internet",
            Self::Appliance(..) => "VirtualAppliance",
            Self::Gateway(_) => "VirtualNetworkGateway",
            Self::None => "None",
            Self::Host => "Host",
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Internet(uplink) => *uplink,
            Self::Appliance(_, address) => Some(*address),
            _ => None,
        }
    }

    fn remark(&self, prefix: &IpNet) -> Option<String> {
        let family = match prefix {
            IpNet::V4(_) => "IPv4",
            IpNet::V6(_) => "IPv6",
        };
        match self {
            Self::Internet(None) => Some(format!(
                "no {family} uplink is configured: packets are dropped"
            )),
            Self::Peering(peer) => Some(format!("network \"{peer}\" is peered with this one")),
            Self::Gateway(members) if members.is_empty() => Some(
                "the route server in use has no VPN gateway with a live member that can be reached: \
                 packets are dropped until a session with one is up (route_server.gateway, show \
                 peers)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl Wanted {
    fn covers(&self, prefix: &IpNet) -> bool {
        match self {
            Self::Shown | Self::All => true,
            Self::Covering(address) => prefix.contains(address),
        }
    }

    fn own(&self, own: &OwnCandidate) -> bool {
        let hidden = match self {
            Self::Shown => own.row.role == Role::Platform,
            Self::All => false,
            // What it stands in is what the table answers with.
            Self::Covering(_) => own.implied,
        };
        !hidden && self.covers(&own.row.prefix)
    }
}

fn joined<const N: usize>(reasons: [Option<String>; N]) -> String {
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    reasons.join("; ")
}
