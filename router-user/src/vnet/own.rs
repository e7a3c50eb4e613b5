//! The own routes of a subnet: rows from several sources, and which of them are valid.
//!
//! In: rows (system rows today; peerings and user-defined routes are further sources) and whether
//! the default route is learned. Out: every row with its verdict; the valid ones are the contents
//! of the subnet's own table. Whether a learned route then beats one of them at equal prefix is
//! decided for each packet by XDP, and told by [`effective`](super::effective).

use std::net::IpAddr;

use ipnet::IpNet;

use super::network::Network;
use crate::{
    fib::{NextHop, Precedence, RouteSpec, SharedGroup},
    names::VnetName,
};

/// A row of one of the sources.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnRow {
    pub(super) prefix: IpNet,
    /// System or user-defined.
    pub(super) precedence: Precedence,
    pub(super) hop: Hop,
    pub(super) role: Role,
}

/// What a row says of where packets go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hop {
    /// To the attached host that has the destination.
    VirtualNetwork,
    /// By the network's uplink of that family, if there is one.
    Internet(Option<IpAddr>),
    /// Nowhere.
    None,
    /// To the gateway host itself.
    Host,
}

/// What sets a row apart in the selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Ordinary,
    /// The network's own space: beats learned routes of equal or longer prefix.
    Space,
    /// A private range: gives way to a default route that is not the system's.
    Private,
    /// An address of the gateway host: beats everything, and is not shown unless asked for.
    Platform,
}

/// A row and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnCandidate {
    pub(super) row: OwnRow,
    /// Beats learned routes of any length.
    pub(super) overriding: bool,
    pub(super) verdict: Verdict,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Part of the own table; why, where there was a choice.
    Valid(Option<String>),
    Invalid(String),
}

/// For which families the default route is learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct LearnedDefaults {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl LearnedDefaults {
    pub(super) fn note(&mut self, prefix: &IpNet, learned: bool) {
        if prefix.prefix_len() == 0 {
            match prefix {
                IpNet::V4(_) => self.v4 = learned,
                IpNet::V6(_) => self.v6 = learned,
            }
        }
    }

    fn of_family(self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(_) => self.v4,
            IpNet::V6(_) => self.v6,
        }
    }
}

/// Private ranges lead nowhere until something says otherwise: RFC 1918, RFC 6598 and, likewise,
/// the unique local addresses of RFC 4193.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// The system rows of every subnet of a network.
pub(super) fn system_rows(network: &Network) -> Vec<OwnRow> {
    let row = |prefix: IpNet, hop, role| OwnRow {
        prefix: prefix.trunc(),
        precedence: Precedence::System,
        hop,
        role,
    };
    let space = network
        .prefixes
        .iter()
        .map(|prefix| row(*prefix, Hop::VirtualNetwork, Role::Space));
    let platform = network
        .host_addresses
        .iter()
        .map(|address| row((*address).into(), Hop::Host, Role::Platform));
    let private = PRIVATE
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a constant prefix"))
        .filter(|range| !network.prefixes.iter().any(|own| own.contains(range)))
        .map(|range| row(range, Hop::None, Role::Private));
    let default = ["0.0.0.0/0", "::/0"]
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a constant prefix"))
        .map(|default| {
            let uplink = network
                .uplink
                .iter()
                .find(|uplink| default.contains(*uplink))
                .copied();
            row(default, Hop::Internet(uplink), Role::Ordinary)
        });
    space
        .chain(platform)
        .chain(private)
        .chain(default)
        .collect()
}

/// Judges the rows of a subnet against each other. The result is sorted by prefix, the valid row of
/// a prefix first.
pub(super) fn select(mut rows: Vec<OwnRow>, learned: LearnedDefaults) -> Vec<OwnCandidate> {
    rows.sort_by(|a, b| {
        a.prefix
            .cmp(&b.prefix)
            .then_with(|| b.rank().cmp(&a.rank()))
    });
    // A user-defined route of exactly such a prefix inherits the mark, and so does all beneath.
    let roots: Vec<IpNet> = rows
        .iter()
        .filter(|row| matches!(row.role, Role::Space | Role::Platform))
        .map(|row| row.prefix)
        .collect();
    let user_defined_defaults: Vec<IpNet> = rows
        .iter()
        .filter(|row| row.precedence == Precedence::UserDefined && row.prefix.prefix_len() == 0)
        .map(|row| row.prefix)
        .collect();

    let mut candidates: Vec<OwnCandidate> = Vec::with_capacity(rows.len());
    for row in rows {
        let beaten_by = candidates
            .iter_mut()
            .rev()
            .take_while(|winner| winner.row.prefix == row.prefix)
            .last();
        let verdict = if let Some(winner) = beaten_by {
            winner.verdict = Verdict::Valid(Some(format!(
                "{} beats {} of the same prefix",
                winner.row.title(),
                row.title()
            )));
            Verdict::Invalid(format!("{} has the same prefix", winner.row.title()))
        } else if row.role == Role::Private && learned.of_family(&row.prefix) {
            Verdict::Invalid(gives_way(&row.prefix, "learned"))
        } else if row.role == Role::Private
            && user_defined_defaults
                .iter()
                .any(|default| default.contains(&row.prefix))
        {
            Verdict::Invalid(gives_way(&row.prefix, "user-defined"))
        } else {
            Verdict::Valid(None)
        };
        candidates.push(OwnCandidate {
            overriding: roots.iter().any(|root| root.contains(&row.prefix)),
            row,
            verdict,
        });
    }
    candidates
}

impl OwnCandidate {
    pub(super) fn is_valid(&self) -> bool {
        matches!(self.verdict, Verdict::Valid(_))
    }

    /// The route of the own table.
    pub(super) fn spec(&self, vnet: &VnetName) -> RouteSpec {
        RouteSpec {
            group: SharedGroup::single(self.row.hop.next_hop(vnet)),
            precedence: self.row.precedence,
            overriding: self.overriding,
            local: false,
        }
    }
}

impl OwnRow {
    /// Of equal prefixes the higher wins.
    fn rank(&self) -> (bool, Precedence, bool) {
        (
            self.role == Role::Platform,
            self.precedence,
            self.role != Role::Private,
        )
    }

    /// What the row is called in a reason.
    pub(super) fn title(&self) -> &'static str {
        match (self.role, self.precedence) {
            (Role::Platform, _) => "an address of the gateway host",
            (_, Precedence::UserDefined) => "a user-defined route",
            (Role::Space, _) => "the virtual network's own space",
            _ => "a system route",
        }
    }
}

impl Hop {
    fn next_hop(&self, vnet: &VnetName) -> NextHop {
        match self {
            Self::VirtualNetwork => NextHop::Attached { vnet: vnet.clone() },
            Self::Internet(Some(uplink)) => NextHop::Via {
                vnet: vnet.clone(),
                address: *uplink,
            },
            Self::Internet(None) => NextHop::NoUplink,
            Self::None => NextHop::Discard,
            Self::Host => NextHop::Host,
        }
    }
}

fn gives_way(private: &IpNet, source: &str) -> String {
    let default = match private {
        IpNet::V4(_) => "0.0.0.0/0",
        IpNet::V6(_) => "::/0",
    };
    format!("{default} is {source}, and private ranges follow it")
}
