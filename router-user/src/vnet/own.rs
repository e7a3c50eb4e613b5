//! The own routes of a subnet: which of its rows are valid.
//!
//! In: rows ([`rows`](super::rows)) and whether the default route is learned. Out: every row with its
//! verdict; the valid ones are the contents of the subnet's own table. Whether a learned route then
//! beats one of them at equal prefix is decided for each packet by XDP, and told by
//! [`effective`](super::effective).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    fib::{Group, Member, NextHop, Precedence, RouteSpec, SharedGroup},
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
    /// Why it cannot be used: then it stands in nobody's way either.
    pub(super) fault: Option<String>,
    /// It is an address that packets reach by this hop as well.
    pub(super) delivered_by: Option<Hop>,
}

/// What a row says of where packets go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hop {
    /// To the attached host that has the destination.
    VirtualNetwork,
    /// To the attached host of this peered network that has the destination.
    Peering(VnetName),
    /// By the network's uplink of that family, if there is one.
    Internet(Option<IpAddr>),
    /// To an appliance in this network.
    Appliance(VnetName, IpAddr),
    /// To the members of the VPN gateways; without any, nowhere.
    Gateway(Vec<(VnetName, IpAddr)>),
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
    /// The space of a peered network: likewise.
    Peering,
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
    /// Lies within the network's own space.
    pub(super) local: bool,
    /// Valid, and not needed in the table: the row around it leads to the same place.
    pub(super) implied: bool,
    pub(super) verdict: Verdict,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Packets follow it; why, where there was a choice.
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

    /// The default routes that are learned.
    pub(super) fn prefixes(self) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.then(|| IpNet::V4(Ipv4Net::default()));
        let v6 = self.v6.then(|| IpNet::V6(Ipv6Net::default()));
        v4.into_iter().chain(v6)
    }

    fn of_family(self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(_) => self.v4,
            IpNet::V6(_) => self.v6,
        }
    }
}

/// Judges the rows of a subnet against each other, at O(n log n). The result is sorted by prefix, the
/// valid row of a prefix first.
pub(super) fn select(mut rows: Vec<OwnRow>, learned: LearnedDefaults) -> Vec<OwnCandidate> {
    rows.sort_by(|a, b| {
        a.prefix
            .cmp(&b.prefix)
            .then_with(|| b.rank().cmp(&a.rank()))
    });
    let user_defined_defaults: Vec<IpNet> = rows
        .iter()
        .filter(|row| row.precedence == Precedence::UserDefined && row.prefix.prefix_len() == 0)
        .filter(|row| row.fault.is_none())
        .map(|row| row.prefix)
        .collect();
    let gives_way = |row: &OwnRow| {
        let mut user_defined = user_defined_defaults.iter();
        if row.role != Role::Private || planted!(PrivateRangesStay) {
            None
        } else if learned.of_family(&row.prefix) {
            Some(gives_way(&row.prefix, "learned"))
        } else if user_defined.any(|default| default.contains(&row.prefix)) {
            Some(gives_way(&row.prefix, "user-defined"))
        } else {
            None
        }
    };

    let mut candidates: Vec<OwnCandidate> = Vec::with_capacity(rows.len());
    // The prefixes around the present one, the longest last.
    let mut around: Vec<Surroundings> = Vec::new();
    for rows in rows.chunk_by(|a, b| a.prefix == b.prefix) {
        let prefix = rows[0].prefix;
        while around
            .pop_if(|outer| !outer.prefix.contains(&prefix))
            .is_some()
        {}
        let outer = around.last();
        // A user-defined route of exactly such a prefix inherits the mark, and so does all beneath.
        let is_marked = |row: &OwnRow| match row.role {
            Role::Space => !planted!(LearnedBeatsOwnSpace),
            Role::Peering => !planted!(LearnedBeatsPeeredSpace),
            Role::Platform => true,
            Role::Ordinary | Role::Private => false,
        };
        let is_user_defined = rows[0].precedence == Precedence::UserDefined;
        let overriding = outer.is_some_and(|outer| outer.overriding)
            || rows.iter().any(is_marked) && !(is_user_defined && planted!(MarkIsNotInherited));
        let local = outer.is_some_and(|outer| outer.local)
            || rows.iter().any(|row| row.role == Role::Space);

        let first = candidates.len();
        let mut winner: Option<usize> = None;
        for row in rows {
            let verdict = if let Some(fault) = &row.fault {
                Verdict::Invalid(fault.clone())
            } else if let Some(winner) = winner {
                let winner = &mut candidates[winner];
                let (won, lost) = (winner.row.title(), row.title());
                winner.verdict =
                    Verdict::Valid(Some(format!("{won} beats {lost} of the same prefix")));
                Verdict::Invalid(format!("{won} has the same prefix"))
            } else if let Some(why) = gives_way(row) {
                Verdict::Invalid(why)
            } else {
                winner = Some(candidates.len());
                Verdict::Valid(None)
            };
            candidates.push(OwnCandidate {
                overriding,
                local,
                implied: false,
                row: row.clone(),
                verdict,
            });
        }
        let mut hop = outer.and_then(|outer| outer.hop.clone());
        if let Some(winner) = winner {
            let winner_row = &candidates[winner].row;
            let leads_there = winner_row.delivered_by.is_some()
                && winner_row.delivered_by == hop
                && outer.is_some_and(|outer| outer.overriding);
            if !leads_there {
                hop = Some(winner_row.hop.clone());
            }
            candidates[winner].implied = leads_there;
            candidates[first..=winner].rotate_right(1);
        }
        around.push(Surroundings {
            prefix,
            overriding,
            local,
            hop,
        });
    }
    candidates
}

/// What a prefix means for those within it.
struct Surroundings {
    prefix: IpNet,
    overriding: bool,
    local: bool,
    /// Where packets go by the own table.
    hop: Option<Hop>,
}

impl OwnCandidate {
    pub(super) fn is_valid(&self) -> bool {
        matches!(self.verdict, Verdict::Valid(_))
    }

    /// The route of the own table, if it needs one.
    pub(super) fn spec(&self, vnet: &VnetName) -> Option<RouteSpec> {
        (self.is_valid() && !self.implied).then(|| RouteSpec {
            group: self.row.hop.group(vnet),
            precedence: match self.row.precedence {
                _ if planted!(LearnedBeatsUserDefined) => Precedence::System,
                _ if planted!(SystemBeatsLearned) => Precedence::UserDefined,
                precedence => precedence,
            },
            overriding: self.overriding,
            local: self.local,
        })
    }
}

impl OwnRow {
    /// Of equal prefixes the higher wins.
    fn rank(&self) -> (bool, Precedence, u8) {
        let role = match self.role {
            Role::Private => 0,
            Role::Ordinary => 1,
            Role::Peering => 2,
            Role::Space | Role::Platform => 3,
        };
        (self.role == Role::Platform, self.precedence, role)
    }

    /// What the row is called in a reason.
    pub(super) fn title(&self) -> String {
        match (self.role, self.precedence, &self.hop) {
            (Role::Platform, ..) => "an address of the gateway host".to_owned(),
            (_, Precedence::UserDefined, _) => "a user-defined route".to_owned(),
            (Role::Space, ..) => "the virtual network's own space".to_owned(),
            (Role::Peering, _, Hop::Peering(peer)) => {
                format!("the space of the peered network \"{peer}\"")
            }
            _ => "a system route".to_owned(),
        }
    }
}

impl Hop {
    fn group(&self, vnet: &VnetName) -> SharedGroup {
        let via = |vnet: &VnetName, address: IpAddr| NextHop::Via {
            vnet: vnet.clone(),
            address,
        };
        let next_hop = match self {
            Self::VirtualNetwork => NextHop::Attached { vnet: vnet.clone() },
            Self::Peering(peer) => NextHop::Attached { vnet: peer.clone() },
            Self::Internet(Some(uplink)) => via(vnet, *uplink),
            Self::Internet(None) => NextHop::NoUplink,
            Self::Appliance(vnet, address) => via(vnet, *address),
            Self::Gateway(members) => {
                let members = members.iter().map(|(vnet, address)| Member {
                    next_hop: via(vnet, *address),
                    weight: 1,
                });
                return SharedGroup::new(Group {
                    members: members.collect(),
                    backups: Vec::new(),
                });
            }
            Self::None => NextHop::Discard,
            Self::Host => NextHop::Host,
        };
        SharedGroup::single(next_hop)
    }
}

fn gives_way(private: &IpNet, source: &str) -> String {
    let default = match private {
        IpNet::V4(_) => "0.0.0.0/0",
        IpNet::V6(_) => "::/0",
    };
    format!("{default} is {source}, and private ranges follow it")
}
