//! Effective routes: every candidate of a subnet, what became of it, and why.
//!
//! In: the judged own rows of a subnet and the paths of the RIB. Out: rows for people. The rows that
//! are `Active` are those that the tables answer with, longest prefix first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::own::{Hop, OwnCandidate, Role, Verdict};
use crate::{
    api::types::{EffectiveRow, LearnedRow},
    fib::Precedence,
    names::{RouteServerName, SubnetName, VnetName},
};

/// State of a row that packets may follow.
pub const ACTIVE: &str = "Active";

/// State of a row that no packet follows.
pub const INVALID: &str = "Invalid";

/// The candidates for one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidates {
    /// Longest prefix first; at equal prefix the active rows first.
    pub rows: Vec<EffectiveRow>,
    /// Index of the row that packets follow. The rows after it that are active and of the same
    /// prefix are its ECMP partners.
    pub winner: Option<usize>,
}

/// What is known of a subnet.
pub(super) struct Subnet<'a> {
    pub(super) vnet: &'a VnetName,
    pub(super) name: &'a SubnetName,
    pub(super) own: &'a [OwnCandidate],
    pub(super) route_server: Option<&'a RouteServerName>,
    /// Learned prefixes without any resolvable next hop.
    pub(super) unresolvable: Option<&'a BTreeSet<IpNet>>,
}

/// Which rows are wanted.
pub(super) enum Wanted {
    /// All, without the gateway host's own addresses.
    Shown,
    /// All.
    All,
    /// All that cover this address.
    Covering(IpAddr),
}

impl Subnet<'_> {
    /// The candidates among own rows and the `learned` paths, sorted by prefix, active rows first.
    pub(super) fn rows(&self, learned: &[LearnedRow], wanted: &Wanted) -> Vec<EffectiveRow> {
        let learned = self.by_prefix(learned, wanted);
        let mut rows: Vec<EffectiveRow> = Vec::new();
        for own in self.own {
            if wanted.own(own) {
                rows.push(self.own_row(own, &learned));
            }
        }
        for learned in learned.values() {
            self.learned_rows(learned, &mut rows);
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
        let Some(winning) = winner.map(|winner| rows[winner].prefix) else {
            return Candidates { rows, winner };
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
        Candidates { rows, winner }
    }

    fn by_prefix<'r>(
        &self,
        learned: &'r [LearnedRow],
        wanted: &Wanted,
    ) -> BTreeMap<IpNet, Learned<'r>> {
        let mut by_prefix: BTreeMap<IpNet, Learned<'r>> = BTreeMap::new();
        for prefix in self.unresolvable.into_iter().flatten() {
            if wanted.covers(prefix) {
                let learned = by_prefix.entry(*prefix).or_insert(Learned::new(*prefix));
                learned.unresolvable = true;
            }
        }
        for path in learned {
            if Some(&path.route_server) == self.route_server && wanted.covers(&path.prefix) {
                by_prefix
                    .entry(path.prefix)
                    .or_insert(Learned::new(path.prefix))
                    .paths
                    .push(path);
            }
        }
        by_prefix
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
            vnet: self.vnet.clone(),
            subnet: self.name.clone(),
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

    fn learned_rows(&self, learned: &Learned<'_>, rows: &mut Vec<EffectiveRow>) {
        let beaten = self
            .own
            .iter()
            .find_map(|own| own.why_it_beats(&learned.prefix));
        let over_system = self.own.iter().any(|own| {
            own.row.prefix == learned.prefix
                && own.row.precedence == Precedence::System
                && own.is_valid()
        });
        let over_system = over_system
            .then(|| "a learned route beats the system route of the same prefix".to_owned());
        let verdict = |why_it_won: Option<String>| match &beaten {
            Some(reason) => (INVALID, Some(reason.clone())),
            None => (
                ACTIVE,
                Some(joined([over_system.clone(), why_it_won])).filter(|text| !text.is_empty()),
            ),
        };

        if learned.unresolvable {
            let why = "no candidate's next hop is resolvable: packets are dropped".to_owned();
            let (state, reason) = verdict(Some(why));
            rows.push(EffectiveRow {
                state: state.to_owned(),
                reason,
                next_hop_type: Hop::None.type_name().to_owned(),
                ..self.learned_row(learned.prefix)
            });
        }
        let mut shown = BTreeSet::new();
        for path in learned.paths_as_shown() {
            let member = path.is_member() && !learned.unresolvable;
            let (state, reason) = if member {
                verdict(path.reason.clone())
            } else {
                (
                    INVALID,
                    path.reason.clone().or_else(|| Some(path.state.clone())),
                )
            };
            // An ECMP set has a member once; both instances are told the same paths.
            let new = if member {
                shown.insert((path.next_hop, None))
            } else {
                let same_as_member = path.state == "lost"
                    && learned
                        .paths
                        .iter()
                        .any(|other| other.is_member() && is_same_announcement(other, path));
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
            vnet: self.vnet.clone(),
            subnet: self.name.clone(),
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
    paths: Vec<&'a LearnedRow>,
    unresolvable: bool,
}

impl<'a> Learned<'a> {
    const fn new(prefix: IpNet) -> Self {
        Self {
            prefix,
            paths: Vec::new(),
            unresolvable: false,
        }
    }

    /// Whether a route of this prefix was learned for the subnets.
    fn is_usable(&self) -> bool {
        self.unresolvable || self.paths.iter().any(|path| path.is_member())
    }

    /// The best first, so that of two equal members the best is the one that is shown.
    fn paths_as_shown(&self) -> impl Iterator<Item = &'a LearnedRow> {
        let mut paths = self.paths.clone();
        paths.sort_by_key(|path| (path.state != "best", path.state != "multipath"));
        paths.into_iter()
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
        if !self.is_valid() {
            return None;
        }
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
                .values()
                .filter(|learned| learned.is_usable() && self.row.prefix.contains(&learned.prefix))
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
            Self::Internet(_) => "Internet",
            Self::None => "None",
            Self::Host => "Host",
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Internet(uplink) => *uplink,
            Self::VirtualNetwork | Self::None | Self::Host => None,
        }
    }

    fn remark(&self, prefix: &IpNet) -> Option<String> {
        let family = match prefix {
            IpNet::V4(_) => "IPv4",
            IpNet::V6(_) => "IPv6",
        };
        (*self == Self::Internet(None))
            .then(|| format!("no {family} uplink is configured: packets are dropped"))
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
        let hidden = matches!(self, Self::Shown) && own.row.role == Role::Platform;
        !hidden && self.covers(&own.row.prefix)
    }
}

fn joined<const N: usize>(reasons: [Option<String>; N]) -> String {
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    reasons.join("; ")
}
