//! A route server for clarity only: everything from scratch, nothing shared with the product but
//! the attributes' type.

use super::*;
use crate::bgp::wire::{AsSegmentKind, NextHop};

/// What the model knows: the state of the world, no history.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<(Ipv4Addr, u8), ModelSession>,
    pub(super) originated: BTreeSet<IpNet>,
    pub(super) reflect: bool,
    pub(super) max_paths: usize,
}

/// A session that is up.
#[derive(Clone)]
pub(super) struct ModelSession {
    pub(super) asn: u32,
    pub(super) router_id: Ipv4Addr,
    pub(super) routes: BTreeMap<(IpNet, u32), PathAttributes>,
}

#[derive(Clone)]
struct Candidate {
    peer: Ipv4Addr,
    instance: u8,
    router_id: Ipv4Addr,
    path_id: u32,
    attributes: PathAttributes,
}

#[derive(PartialEq)]
enum Fate {
    Candidate,
    Nowhere,
    Refused,
}

impl Model {
    /// Members and backups of every learned prefix.
    pub(super) fn learned(&self) -> BTreeMap<IpNet, (Vec<IpAddr>, Vec<IpAddr>)> {
        let mut learned = BTreeMap::new();
        for prefix in self.prefixes() {
            let candidates = self.candidates(prefix);
            if candidates.is_empty() {
                if self.paths(prefix).any(|(fate, _)| fate == Fate::Nowhere) {
                    learned.insert(prefix, (vec![], vec![]));
                }
                continue;
            }
            let members = self.next_hops(&winners(&candidates));
            let others: Vec<Candidate> = candidates
                .into_iter()
                .filter(|candidate| !members.contains(&next_hop(candidate)))
                .collect();
            let backups = self.next_hops(&winners(&others));
            learned.insert(prefix, (members, backups));
        }
        learned
    }

    /// What a session holds in the end.
    pub(super) fn holds(&self, peer: Ipv4Addr, instance: u8) -> BTreeMap<IpNet, PathAttributes> {
        let mut holds = BTreeMap::new();
        for prefix in self.prefixes() {
            let Some(mut sent) = self.sent(peer, instance, prefix) else {
                continue;
            };
            let mut path = vec![65515];
            for segment in &sent.as_path.segments {
                path.extend(&segment.asns);
            }
            sent.as_path = AsPath::sequence(path);
            sent.local_pref = None;
            holds.insert(prefix, sent);
        }
        holds
    }

    fn sent(&self, peer: Ipv4Addr, instance: u8, prefix: IpNet) -> Option<PathAttributes> {
        if self.originated.contains(&prefix) {
            let own = match prefix {
                IpNet::V4(_) => format!("10.1.255.{}", 3 + instance),
                // Only instance 1 has an IPv6 address here.
                IpNet::V6(_) if instance == 1 => "fd00:1:0:ff::4".to_owned(),
                IpNet::V6(_) => return None,
            };
            return Some(route(&[], &own));
        }
        if !self.reflect {
            return None;
        }
        let mut candidates = self.candidates(prefix);
        candidates.retain(|candidate| {
            let communities = &candidate.attributes.communities;
            candidate.peer != peer
                && next_hop(candidate) != IpAddr::V4(peer)
                && !communities.contains(&0xffff_ff01)
                && !communities.contains(&0xffff_ff02)
                // None of the peers speaks long-lived graceful restart.
                && !communities.contains(&0xffff_0006)
        });
        Some(winners(&candidates).first()?.attributes.clone())
    }

    fn prefixes(&self) -> BTreeSet<IpNet> {
        let learned = self
            .sessions
            .values()
            .flat_map(|session| session.routes.keys());
        let learned = learned.map(|(prefix, _)| *prefix);
        learned.chain(self.originated.iter().copied()).collect()
    }

    fn candidates(&self, prefix: IpNet) -> Vec<Candidate> {
        let candidates = self
            .paths(prefix)
            .filter(|(fate, _)| *fate == Fate::Candidate);
        candidates.map(|(_, candidate)| candidate).collect()
    }

    fn paths(&self, wanted: IpNet) -> impl Iterator<Item = (Fate, Candidate)> {
        self.sessions
            .iter()
            .flat_map(move |((peer, instance), session)| {
                let routes = session
                    .routes
                    .iter()
                    .filter(move |((prefix, _), _)| *prefix == wanted);
                routes.map(move |((_, path_id), attributes)| {
                    let candidate = Candidate {
                        peer: *peer,
                        instance: *instance,
                        router_id: session.router_id,
                        path_id: *path_id,
                        attributes: attributes.clone(),
                    };
                    (fate(session.asn, attributes), candidate)
                })
            })
    }

    fn next_hops(&self, winners: &[Candidate]) -> Vec<IpAddr> {
        let mut next_hops: Vec<IpAddr> = Vec::new();
        for winner in winners {
            if !next_hops.contains(&next_hop(winner)) && next_hops.len() < self.max_paths {
                next_hops.push(next_hop(winner));
            }
        }
        next_hops.sort();
        next_hops
    }
}

fn fate(peer_asn: u32, attributes: &PathAttributes) -> Fate {
    let segments = &attributes.as_path.segments;
    let all: Vec<u32> = segments
        .iter()
        .flat_map(|segment| segment.asns.to_vec())
        .collect();
    let sets = segments
        .iter()
        .any(|segment| segment.kind == AsSegmentKind::Set);
    let next_hop = attributes.next_hop.unwrap().address().to_string();
    let own = ["10.1.255.4", "10.1.255.5", "fd00:1:0:ff::4"];
    let bad_path =
        all.contains(&0) || all.contains(&65515) || sets || all.first() != Some(&peer_asn);
    if bad_path || own.contains(&next_hop.as_str()) {
        Fate::Refused
    } else if next_hop.starts_with("10.1.") || next_hop.starts_with("fd00:1:0:") {
        Fate::Candidate
    } else {
        Fate::Nowhere
    }
}

/// What is left after all steps, the best first.
fn winners(candidates: &[Candidate]) -> Vec<Candidate> {
    let has = |candidate: &Candidate, community: u32| {
        i64::from(candidate.attributes.communities.contains(&community))
    };
    let steps: [&dyn Fn(&Candidate) -> i64; 5] = [
        &|candidate| has(candidate, 0xffff_0006),
        &|candidate| has(candidate, 0xffff_0000),
        &|candidate| -i64::from(candidate.attributes.local_pref.unwrap_or(100)),
        &|candidate| candidate.attributes.as_path.segments[0].asns.len() as i64,
        &|candidate| candidate.attributes.origin as i64,
    ];
    let mut left = candidates.to_vec();
    for step in steps {
        let best = left.iter().map(step).min();
        left.retain(|candidate| Some(step(candidate)) == best);
    }
    let med = |candidate: &Candidate| candidate.attributes.med.unwrap_or(0);
    let neighbour = |candidate: &Candidate| candidate.attributes.as_path.segments[0].asns[0];
    let all = left.clone();
    left.retain(|candidate| {
        let same = all
            .iter()
            .filter(|other| neighbour(other) == neighbour(candidate));
        same.map(med).min() == Some(med(candidate))
    });
    left.sort_by_key(|path| (path.router_id, path.peer, path.instance, path.path_id));
    left
}

fn next_hop(candidate: &Candidate) -> IpAddr {
    candidate.attributes.next_hop.map(NextHop::address).unwrap()
}
