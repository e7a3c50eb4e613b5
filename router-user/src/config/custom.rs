//! `[[route_server.learned]]` and `[[route_server.advertised]]`: routes given by hand.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    CommunityValue, DynamicPeers, Gateway, Peer, PeerKind,
    claims::Claims,
    fault::Report,
    networks::Networks,
    route_map::refuse_stranger,
    schema,
    section::{Located, Section},
    special::{all_special, refuse_next_hop},
    values::{Address, Name, Prefix},
};
use crate::{bgp::wire::Family, names::PeerName};

/// `[[route_server.learned]]`: a static route, learned as if an NVA had announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLearned {
    /// The prefix.
    pub prefix: IpNet,
    /// Its next hops, at least one, sorted; more than one: an ECMP set.
    pub next_hops: Vec<IpAddr>,
}

/// `[[route_server.advertised]]`: a prefix advertised to some peers as the route server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomAdvertised {
    /// The prefix.
    pub prefix: IpNet,
    /// Who is sent it; never empty.
    pub to: Vec<Recipient>,
    /// Its NEXT_HOP; default: the instance's address.
    pub next_hop: Option<IpAddr>,
    /// Its MED.
    pub med: Option<u32>,
    /// Its communities, sorted.
    pub communities: Vec<CommunityValue>,
}

/// Who is sent a custom route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    /// All peers of this kind.
    Kind(PeerKind),
    /// This peer, or all members of the gateway of this name.
    Peer(PeerName),
}

/// Reads `[[route_server.learned]]` of a route server in network `network`.
pub(super) fn read_learned(
    server: &Section<'_, '_>,
    networks: &mut Networks,
    network: Option<usize>,
    report: &mut Report,
) -> Vec<CustomLearned> {
    let mut prefixes = Claims::of("prefix");
    let mut all = Vec::new();
    for section in server.subsections("learned", &schema::LEARNED, report) {
        let prefix = section.required_text::<Prefix>("prefix", report);
        if let Some(prefix) = &prefix {
            prefixes.claim(prefix.value.0, "a static route", prefix.at, report);
            refuse_special(prefix, "static route", report);
        }
        let prefix = prefix.map(|prefix| prefix.value.0);
        let owner = match prefix {
            Some(prefix) => format!("static route {prefix}"),
            None => "a static route".to_owned(),
        };
        let mut claims = Claims::of("next hop");
        let mut next_hops = Vec::new();
        for next_hop in section.required_list::<Address>("next_hop", report) {
            let Located {
                value: Address(value),
                at,
            } = next_hop;
            claims.claim(value, &owner, at, report);
            refuse_next_hop(&next_hop, prefix.as_ref(), &owner, report);
            if let Some(network) = network {
                let what = format!("next hop {value} of {owner}");
                let remedy = "give the address of a machine there";
                let place = networks.locate(network, value.into(), &what, remedy, at, report);
                if let Some(place) = place {
                    networks.at_mut(place).note_machine(
                        value,
                        what,
                        "give the address of a machine",
                        at,
                    );
                }
            }
            next_hops.push(value);
        }
        next_hops.sort();
        if let Some(prefix) = prefix {
            all.push(CustomLearned { prefix, next_hops });
        }
    }
    all
}

/// Those with `default_originate`, by name.
pub(super) fn default_originators<'r>(
    peers: &'r [(usize, Peer)],
    dynamic_peers: &'r [(usize, DynamicPeers)],
    gateways: &'r [(usize, Gateway)],
) -> Vec<(&'r str, &'r Peer)> {
    let peers = peers.iter().map(|(_, peer)| (peer.name.as_str(), peer));
    let dynamic = dynamic_peers.iter();
    let dynamic = dynamic.map(|(_, section)| (section.name.as_str(), &section.template));
    let gateways = gateways.iter();
    let gateways = gateways.map(|(_, gateway)| (gateway.name.as_str(), &gateway.template));
    let all = peers.chain(dynamic).chain(gateways);
    all.filter(|(_, peer)| peer.policy.default_originate)
        .collect()
}

/// Reads `[[route_server.advertised]]` of a route server in network `network`, which has these peers
/// and gateways.
pub(super) fn read_advertised(
    server: &Section<'_, '_>,
    recipients: &HashSet<PeerName>,
    gateways: &[(usize, Gateway)],
    default_originators: &[(&str, &Peer)],
    networks: &Networks,
    network: Option<usize>,
    report: &mut Report,
) -> Vec<CustomAdvertised> {
    let sections = server.subsections("advertised", &schema::ADVERTISED, report);
    let mut reader = AdvertisedReader {
        recipients,
        gateways,
        default_originators,
        originated: match network {
            Some(network) if !sections.is_empty() => originated(networks, network),
            _ => HashMap::new(),
        },
        taken: HashMap::new(),
        named: HashMap::new(),
        sets: HashSet::new(),
    };
    sections
        .iter()
        .filter_map(|section| reader.read(section, report))
        .collect()
}

/// What a route server in `network` announces anyway, and whose prefixes these are.
fn originated(networks: &Networks, network: usize) -> HashMap<IpNet, &str> {
    let own = [&networks.at(network).vnet].into_iter();
    own.chain(networks.users(network))
        .flat_map(|vnet| {
            vnet.prefixes
                .iter()
                .map(|prefix| (*prefix, vnet.name.as_str()))
        })
        .collect()
}

/// Most distinct sets of recipients, one of which those with `default_originate` are.
const MOST_SETS: usize = 254;

struct AdvertisedReader<'r> {
    recipients: &'r HashSet<PeerName>,
    gateways: &'r [(usize, Gateway)],
    /// Who is sent the default routes anyway.
    default_originators: &'r [(&'r str, &'r Peer)],
    originated: HashMap<IpNet, &'r str>,
    /// Who is sent which prefix already, and the place that says so.
    taken: HashMap<(IpNet, Recipient), usize>,
    /// The first peer or gateway of a kind that is sent a prefix by name.
    named: HashMap<(IpNet, PeerKind), (PeerName, usize)>,
    /// Those whom a route goes to.
    sets: HashSet<BTreeSet<Recipient>>,
}

impl AdvertisedReader<'_> {
    fn read(&mut self, section: &Section<'_, '_>, report: &mut Report) -> Option<CustomAdvertised> {
        let prefix = section.required_text::<Prefix>("prefix", report);
        let owner = match &prefix {
            Some(prefix) => format!("advertised route {}", prefix.value.0),
            None => "an advertised route".to_owned(),
        };
        if let Some(prefix) = &prefix {
            refuse_special(prefix, "advertised route", report);
            if let Some(network) = self.originated.get(&prefix.value.0) {
                report.fault(
                    prefix.at,
                    format!("{owner} is a prefix of network {network}, which all peers are sent"),
                    "leave it out, or advertise a part of it",
                );
            }
        }
        let to = self.recipients_of(section, &owner, report);
        let own = prefix.as_ref().map(|prefix| prefix.value.0);
        let next_hop = section.text::<Address>("next_hop", report);
        if let Some(next_hop) = &next_hop {
            refuse_next_hop(next_hop, own.as_ref(), &owner, report);
        }
        let med = section.integer("med", 0..=u32::MAX, report);
        let communities = section.list::<CommunityValue>("community", report);
        let mut communities: Vec<_> = communities
            .into_iter()
            .map(|located| located.value)
            .collect();
        communities.sort();
        communities.dedup();
        let prefix = own?;
        self.refuse_overlap(prefix, &to, &owner, report);
        self.refuse_second_default(prefix, &to, &owner, report);
        let set = to.iter().map(|to| to.value.clone()).collect();
        if self.sets.insert(set) && self.sets.len() == MOST_SETS + 1 {
            report.fault(
                section.at,
                format!(
                    "advertised routes have more than {MOST_SETS} different sets of recipients"
                ),
                "name kinds instead of peers",
            );
        }
        for Located { value, at } in &to {
            if let Recipient::Peer(name) = value {
                let kind = self.kind_of(name);
                let named = self.named.entry((prefix, kind));
                named.or_insert_with(|| (name.clone(), *at));
            }
            if let Some(first) = self.taken.insert((prefix, value.clone()), *at) {
                let line = report.line_of(first);
                report.fault(
                    *at,
                    format!("{owner} goes to {} twice (line {line})", value.word()),
                    "keep one of the two",
                );
            }
        }
        Some(CustomAdvertised {
            prefix,
            to: to.into_iter().map(|to| to.value).collect(),
            next_hop: next_hop.map(|next_hop| next_hop.value.0),
            med: med.map(|med| med.value),
            communities,
        })
    }

    /// One prefix is sent to a peer by one section only: which of two would count?
    fn refuse_overlap(
        &self,
        prefix: IpNet,
        to: &[Located<Recipient>],
        owner: &str,
        report: &mut Report,
    ) {
        for Located { value, at } in to {
            let other = match value {
                Recipient::Kind(kind) => {
                    let named = self.named.get(&(prefix, *kind));
                    named.map(|(name, first)| (name.as_str(), first))
                }
                Recipient::Peer(name) => {
                    let kind = self.kind_of(name);
                    let first = self.taken.get(&(prefix, Recipient::Kind(kind)));
                    first.map(|first| (kind.word(), first))
                }
            };
            if let Some((other, first)) = other {
                let line = report.line_of(*first);
                report.fault(
                    *at,
                    format!(
                        "{owner} goes to {} and to {other} (line {line}), of which one is a part of \
                         the other",
                        value.word()
                    ),
                    "keep one of the two, or name the others of the kind one by one",
                );
            }
        }
    }

    /// A default route is sent to a peer by this or by `default_originate`: which of two would count?
    fn refuse_second_default(
        &self,
        prefix: IpNet,
        to: &[Located<Recipient>],
        owner: &str,
        report: &mut Report,
    ) {
        if prefix.prefix_len() != 0 {
            return;
        }
        for Located { value, at } in to {
            let mut has_one = self.default_originators.iter().filter(|(name, peer)| {
                let is_meant = match value {
                    Recipient::Kind(kind) => peer.kind() == *kind,
                    Recipient::Peer(wanted) => wanted.as_str() == *name,
                };
                is_meant && peer.families.contains(Family::of(&prefix))
            });
            if let Some((name, _)) = has_one.next() {
                report.fault(
                    *at,
                    format!(
                        "{owner} goes to {}, but {name} is sent a default route by default_originate",
                        value.word()
                    ),
                    format!(
                        "remove default_originate of {name}, or name in to_peer only those that have \
                         none"
                    ),
                );
            }
        }
    }

    /// What the peer or gateway of this name is.
    fn kind_of(&self, name: &PeerName) -> PeerKind {
        let mut gateways = self.gateways.iter().map(|(_, gateway)| gateway);
        let gateway = gateways.find(|gateway| gateway.name.as_str() == name.as_str());
        gateway.map_or(PeerKind::Nva, |gateway| gateway.kind)
    }

    fn recipients_of(
        &self,
        section: &Section<'_, '_>,
        owner: &str,
        report: &mut Report,
    ) -> Vec<Located<Recipient>> {
        let before = report.faults();
        let kinds = section.choices("to", &PeerKind::WORDS, report).into_iter();
        let mut to: Vec<_> = kinds
            .map(|Located { value, at }| Located {
                value: Recipient::Kind(value),
                at,
            })
            .collect();
        for Located { value, at } in section.list::<Name>("to_peer", report) {
            let peer = PeerName::from(value.0);
            refuse_stranger(&peer, self.recipients, owner, at, report);
            to.push(Located {
                value: Recipient::Peer(peer),
                at,
            });
        }
        if to.is_empty() && report.faults() == before {
            report.fault(
                section.at,
                format!("{owner} goes to nobody"),
                "add to = [\"nva\", …], kinds of peer, or to_peer = [\"…\"], peers and gateways by name",
            );
        }
        to
    }
}

impl Recipient {
    /// As the configuration has it.
    fn word(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.word(),
            Self::Peer(name) => name.as_str(),
        }
    }
}

/// A route leads to machines.
fn refuse_special(prefix: &Located<Prefix>, owner: &str, report: &mut Report) {
    let Located {
        value: Prefix(prefix),
        at,
    } = prefix;
    if let Some(special) = all_special(prefix) {
        report.fault(
            *at,
            format!("{owner} {prefix} has {special} addresses only"),
            "give a prefix that machines can have addresses from",
        );
    }
}
