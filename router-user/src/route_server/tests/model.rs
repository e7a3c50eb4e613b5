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
    /// How many paths of a prefix are sent to peers with ADD-PATH.
    pub(super) max_sent: usize,
    /// What is configured for a peer's paths, where it is not the default.
    pub(super) policies: BTreeMap<Ipv4Addr, PeerPolicy>,
    /// Sessions, up or not, that the operator drains.
    pub(super) drained: BTreeSet<(Ipv4Addr, u8)>,
}

/// A session that is up.
#[derive(Clone)]
pub(super) struct ModelSession {
    pub(super) asn: u32,
    pub(super) router_id: Ipv4Addr,
    pub(super) routes: BTreeMap<(IpNet, u32), PathAttributes>,
    /// Announced before the refresh that is under way, and not again since.
    pub(super) stale: BTreeSet<(IpNet, u32)>,
    /// Families in which it is sent several paths a prefix.
    pub(super) add_path: Vec<Family>,
}

impl ModelSession {
    /// The peer announces all of a family again, or has done so.
    pub(super) fn refresh(&mut self, family: Family, ends: bool) {
        let of_family = |(prefix, _): &(IpNet, u32)| Family::of(prefix) == family;
        if ends {
            let stale = self.stale.extract_if(.., of_family);
            for key in stale {
                self.routes.remove(&key);
            }
        } else {
            self.stale
                .extend(self.routes.keys().filter(|key| of_family(key)));
        }
    }
}

#[derive(Clone)]
struct Candidate {
    peer: Ipv4Addr,
    instance: u8,
    router_id: Ipv4Addr,
    path_id: u32,
    attributes: PathAttributes,
}

impl Candidate {
    fn key(&self) -> (Ipv4Addr, u8, u32) {
        (self.peer, self.instance, self.path_id)
    }
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

    /// What a session holds in the end: the paths of each prefix, best first.
    pub(super) fn holds(
        &self,
        peer: Ipv4Addr,
        instance: u8,
    ) -> BTreeMap<IpNet, Vec<PathAttributes>> {
        let mut holds: BTreeMap<IpNet, Vec<PathAttributes>> = BTreeMap::new();
        for prefix in self.prefixes() {
            for mut sent in self.sent(peer, instance, prefix) {
                let PeerPolicy {
                    as_override,
                    transparent,
                    ..
                } = self.policy(peer);
                let mut path = vec![];
                if !transparent || self.originated.contains(&prefix) {
                    path.push(65515);
                }
                for segment in &sent.as_path.segments {
                    path.extend(&segment.asns);
                }
                if as_override {
                    let theirs = self.sessions[&(peer, instance)].asn;
                    for asn in path.iter_mut().filter(|asn| **asn == theirs) {
                        *asn = 65515;
                    }
                }
                sent.as_path = AsPath::sequence(path);
                sent.local_pref = None;
                if self.drained.contains(&(peer, instance)) {
                    tag(&mut sent);
                }
                holds.entry(prefix).or_default().push(sent);
            }
        }
        holds
    }

    fn sent(&self, peer: Ipv4Addr, instance: u8, prefix: IpNet) -> Vec<PathAttributes> {
        if self.originated.contains(&prefix) {
            let own = match prefix {
                IpNet::V4(_) => format!("10.1.255.{}", 3 + instance),
                // Only instance 1 has an IPv6 address here.
                IpNet::V6(_) if instance == 1 => "fd00:1:0:ff::4".to_owned(),
                IpNet::V6(_) => return vec![],
            };
            return vec![route(&[], &own)];
        }
        if !self.reflect {
            return vec![];
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
        let add_path = &self.sessions[&(peer, instance)].add_path;
        let count = match add_path.contains(&Family::of(&prefix)) {
            true => self.max_sent.max(1),
            false => 1,
        };
        let mut sent: Vec<PathAttributes> = Vec::new();
        while !candidates.is_empty() {
            let best = winners(&candidates);
            candidates.retain(|one| !best.iter().any(|other| one.key() == other.key()));
            for attributes in best.into_iter().map(|best| best.attributes) {
                if sent.len() < count && !sent.contains(&attributes) {
                    sent.push(attributes);
                }
            }
        }
        sent
    }

    fn policy(&self, peer: Ipv4Addr) -> PeerPolicy {
        self.policies.get(&peer).copied().unwrap_or_default()
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
                routes.map(move |((_, path_id), received)| {
                    let mut attributes = received.clone();
                    if self.drained.contains(&(*peer, *instance)) {
                        tag(&mut attributes);
                    }
                    let candidate = Candidate {
                        peer: *peer,
                        instance: *instance,
                        router_id: session.router_id,
                        path_id: *path_id,
                        attributes,
                    };
                    (fate(session.asn, self.policy(*peer), received), candidate)
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

/// Adds GRACEFUL_SHUTDOWN.
fn tag(attributes: &mut PathAttributes) {
    attributes.communities.push(0xffff_0000);
    attributes.communities.sort_unstable();
    attributes.communities.dedup();
}

fn fate(peer_asn: u32, policy: PeerPolicy, attributes: &PathAttributes) -> Fate {
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
    let own_count = all.iter().filter(|asn| **asn == 65515).count();
    let bad_path = all.contains(&0)
        || own_count > policy.allow_own_as.into()
        || all.len() > policy.max_as_path_length.into()
        || sets
        || all.first() != Some(&peer_asn);
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
