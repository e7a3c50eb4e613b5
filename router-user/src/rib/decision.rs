//! The decision process (RFC 4271 §9.1.2): the steps of [`Step`], in their order.
//!
//! In: the paths of one prefix. Out: the ECMP set, the single best path, and for each loser the
//! step that it lost in. Elimination goes over the whole set, step by step, never by pairs: MED is
//! not a total order. The age of a path never decides, so the result does not depend on the order
//! in which paths came.

use std::net::{IpAddr, Ipv4Addr};

use smallvec::SmallVec;

use super::{
    LocalSource, Step, Verdict,
    learned::Scope,
    path::{Judgement, Path, Reasons, Sessions},
};
use crate::bgp::wire::{Asn, PathAttributes, community};

/// LOCAL_PREF of a path that carries none.
pub(super) const DEFAULT_LOCAL_PREF: u32 = 100;

/// What is configurable about the decision process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecisionOptions {
    /// Largest ECMP set; at least 1.
    pub max_paths: usize,
    /// Compare MED between paths of different neighbour ASes as well.
    pub always_compare_med: bool,
}

impl Default for DecisionOptions {
    fn default() -> Self {
        Self {
            max_paths: 8,
            always_compare_med: false,
        }
    }
}

/// Steps 0 to 6 of the decision process in one number, lower is better. Each step has its own
/// bits, the first step the highest ones, so the lowest number is what step-by-step elimination
/// leaves, and the highest differing bit of a loser names its step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank(u64);

/// (step, lowest bit, number of bits), first step first.
const RANK_BITS: [(Step, u32, u32); 7] = [
    (Step::Originated, 54, 1),
    (Step::LlgrStale, 53, 1),
    (Step::GracefulShutdown, 52, 1),
    (Step::Class, 50, 2),
    (Step::LocalPref, 18, 32),
    (Step::AsPathLength, 2, 16),
    (Step::Origin, 0, 2),
];

impl Rank {
    /// The rank of what the route server originates itself, by its sources' numbers.
    pub(super) fn originated(source: LocalSource) -> Self {
        Self(u64::from(source.0) | u64::from(planted!(LearnedBeatsOriginated)) << 55)
    }

    /// The rank of a learned path from a source of this class.
    pub(super) fn learned(attributes: &PathAttributes, class: u8) -> Self {
        let has = |community| attributes.has_community(community);
        let absent = match planted!(NoLocalPrefIsLowest) {
            true => 0,
            false => DEFAULT_LOCAL_PREF,
        };
        let local_pref = attributes.local_pref.unwrap_or(absent);
        let value = |step| match step {
            Step::Originated => 1,
            Step::LlgrStale if planted!(StaleCounts) => 0,
            Step::GracefulShutdown if planted!(ShutdownCounts) => 0,
            Step::LocalPref if planted!(LocalPrefDoesNotCount) => 0,
            Step::AsPathLength if planted!(AsPathDoesNotCount) => 0,
            Step::Origin if planted!(OriginDoesNotCount) => 0,
            Step::LlgrStale => u64::from(has(community::LLGR_STALE)),
            Step::GracefulShutdown => u64::from(has(community::GRACEFUL_SHUTDOWN)),
            Step::Class => u64::from(class),
            Step::LocalPref => u64::from(!local_pref),
            Step::AsPathLength => attributes.as_path.length() as u64,
            Step::Origin => attributes.origin as u64,
            Step::Med | Step::EbgpOverIbgp => unreachable!("not part of the rank"),
        };
        let bits = RANK_BITS.iter().map(|&(step, lowest, width)| {
            let largest = (1 << width) - 1;
            value(step).min(largest) << lowest
        });
        Self(bits.sum())
    }

    /// The rank of an aggregate that peers are sent in the place of learned paths: it wins over all of
    /// these.
    pub(super) fn aggregate(attributes: &PathAttributes, class: u8) -> Self {
        let (_, lowest, _) = RANK_BITS[0];
        Self(Self::learned(attributes, class).0 & !(1 << lowest))
    }

    /// This rank for a source of another class.
    pub(super) fn with_class(self, class: u8) -> Self {
        let all = RANK_BITS.iter();
        let bits = all.filter(|(step, ..)| *step == Step::Class);
        let rank = bits.fold(self.0, |rank, &(_, lowest, width)| {
            let largest = (1 << width) - 1;
            rank & !(largest << lowest) | u64::from(class).min(largest) << lowest
        });
        Self(rank)
    }

    /// The first step in which the two differ.
    fn differs_in(self, best: Self) -> Option<Step> {
        let difference = self.0 ^ best.0;
        let first = RANK_BITS
            .iter()
            .find(|(_, lowest, _)| difference >> lowest != 0);
        first.map(|(step, ..)| *step)
    }
}

/// The decision process over the sessions of one RIB.
#[derive(Clone, Copy)]
pub(super) struct Decision<'s> {
    pub(super) sessions: &'s Sessions,
    pub(super) options: DecisionOptions,
}

/// The single best path.
#[derive(Clone, Copy)]
pub(super) struct Choice<'p> {
    /// `None`: there was no candidate.
    pub(super) path: Option<&'p Path>,
    /// Without one of the candidates that lost, another one could have won: one was eliminated in
    /// step 7 or 8, in which not only the winner eliminates.
    pub(super) hinges_on_losers: bool,
}

/// The best paths, best first.
pub(super) struct Ranking<'p> {
    pub(super) paths: Survivors<'p>,
    /// As [`Choice::hinges_on_losers`].
    pub(super) hinges_on_losers: bool,
}

/// Paths that are still in.
pub(super) type Survivors<'p> = SmallVec<[&'p Path; 8]>;

impl Decision<'_> {
    /// The single best of the candidates: the one that is advertised.
    pub(super) fn best<'p>(
        &self,
        paths: &'p [Path],
        is_candidate: impl Fn(&Path) -> bool,
    ) -> Choice<'p> {
        let mut hinges_on_losers = false;
        let survivors = self.survivors(paths, is_candidate, |_, _| hinges_on_losers = true);
        let path = match survivors[..] {
            [] => None,
            [only] => Some(only),
            _ => survivors
                .into_iter()
                .min_by_key(|path| self.tie_break(path)),
        };
        Choice {
            path,
            hinges_on_losers,
        }
    }

    /// The best `count` of the candidates. What elimination leaves of all of them comes first, in
    /// the order of the tie-break; then what it leaves of the others, and so on: the first is
    /// [`Decision::best`]. A path with the very attributes of a better one says nothing new and is
    /// passed over (the same route announced to both instances).
    pub(super) fn ranked<'p>(
        &self,
        paths: &'p [Path],
        is_candidate: impl Fn(&Path) -> bool,
        count: usize,
    ) -> Ranking<'p> {
        let mut hinges_on_losers = false;
        let mut left: Survivors<'p> = paths.iter().filter(|path| is_candidate(path)).collect();
        let mut ranked = Survivors::new();
        while !left.is_empty() && ranked.len() < count {
            let all = left.iter().copied();
            let mut round = self.survivors(all, |_| true, |_, _| hinges_on_losers = true);
            // Both are in one order.
            let mut taken = round.iter().peekable();
            left.retain(|path| {
                taken
                    .next_if(|taken| std::ptr::eq(**taken, *path))
                    .is_none()
            });
            self.sort(&mut round);
            for path in round {
                let says_the_same = |better: &&Path| better.same_attributes(path);
                if ranked.len() < count && !ranked.iter().any(says_the_same) {
                    ranked.push(path);
                }
            }
        }
        Ranking {
            paths: ranked,
            hinges_on_losers,
        }
    }

    /// The ECMP set: best first, one member a next hop, at most `max_paths`.
    pub(super) fn multipath<'p>(
        &self,
        paths: &'p [Path],
        is_candidate: impl Fn(&Path) -> bool,
    ) -> Survivors<'p> {
        let mut survivors = self.survivors(paths, is_candidate, |_, _| ());
        self.sort(&mut survivors);
        let mut members = Survivors::new();
        for path in survivors {
            if members.len() == self.options.max_paths + usize::from(planted!(MorePathsThanMax)) {
                break;
            }
            if !has_next_hop(&members, path) || planted!(NextHopsCountTwice) {
                members.push(path);
            }
        }
        members
    }

    /// What became of each of `paths`, in their order, where only those in `scope` count; what is
    /// originated here does not take part.
    pub(super) fn verdicts(
        &self,
        paths: &[Path],
        reasons: &Reasons,
        scope: Option<&Scope>,
    ) -> Vec<Verdict> {
        let is_candidate = |path: &Path| match scope {
            Some(scope) => scope.takes(self.sessions, path),
            None => path.is_eligible() && !path.is_local(),
        };
        let mut late_losers = Vec::new();
        let mut survivors = self.survivors(paths, is_candidate, |path, step| {
            late_losers.push((path, step));
        });
        self.sort(&mut survivors);
        let best = survivors.first().map(|path| path.rank);
        let mut verdicts: Vec<Verdict> = paths
            .iter()
            .map(|path| match reasons.fault(path.standing) {
                Some(
                    Judgement::Unresolvable(reason)
                    | Judgement::Rejected(reason)
                    | Judgement::Aggregated { reason, .. },
                ) => Verdict::Rejected(reason.clone()),
                Some(Judgement::Eligible(_)) | None => {
                    let excluded = scope.filter(|_| !path.is_local() && !is_candidate(path));
                    if let Some(scope) = excluded {
                        return Verdict::Excluded(scope.exclusion(self.sessions, path));
                    }
                    let step = best.and_then(|best| path.rank.differs_in(best));
                    step.map_or(Verdict::Best, Verdict::Lost)
                }
            })
            .collect();
        let place = |wanted: &Path| {
            let found = paths.iter().position(|path| std::ptr::eq(path, wanted));
            found.expect("candidates are taken from these paths")
        };
        for (path, step) in late_losers {
            verdicts[place(path)] = Verdict::Lost(step);
        }
        let mut members = Survivors::new();
        for path in survivors {
            verdicts[place(path)] = if has_next_hop(&members, path) {
                Verdict::NotNeeded("a better path has the same next hop")
            } else if members.len() == self.options.max_paths {
                Verdict::NotNeeded("the ECMP set is full")
            } else {
                members.push(path);
                match members.len() {
                    1 => Verdict::Best,
                    _ => Verdict::Multipath,
                }
            };
        }
        verdicts
    }

    /// Steps 0 to 8; `lost` hears of those that lose in step 7 or 8. Whether a path is a candidate
    /// is asked only if its rank is not worse than what has been seen so far.
    fn survivors<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p Path>,
        is_candidate: impl Fn(&Path) -> bool,
        mut lost: impl FnMut(&'p Path, Step),
    ) -> Survivors<'p> {
        let mut left = Survivors::new();
        for path in paths {
            let best = left.first().map(|best: &&Path| best.rank);
            if best.is_some_and(|best| best < path.rank) || !is_candidate(path) {
                continue;
            }
            if best.is_some_and(|best| path.rank < best) {
                left.clear();
            }
            left.push(path);
        }
        if left.len() > 1 {
            if !planted!(MedDoesNotCount) {
                self.eliminate_by_med(&mut left, &mut lost);
            }
            self.eliminate_ibgp(&mut left, &mut lost);
        }
        left
    }

    /// Step 7: within each neighbour AS the lowest MED stays (RFC 4271 §9.1.2.2 c).
    fn eliminate_by_med<'p>(
        &self,
        paths: &mut Survivors<'p>,
        lost: &mut impl FnMut(&'p Path, Step),
    ) {
        let across = match self.options.always_compare_med {
            true => !planted!(MedNeverCountsAcrossNeighbours),
            false => planted!(MedCountsAcrossNeighbours),
        };
        let group = |path: &Path| match across {
            true => None,
            false => path.attributes.as_path.neighbour_as(),
        };
        let absent = u32::from(planted!(NoMedIsHighest)) * u32::MAX;
        let med = |path: &Path| path.attributes.med.unwrap_or(absent);
        // With the one before only, instead of all that came before.
        let compared = match planted!(MedCountsByPairs) {
            true => 1,
            false => usize::MAX,
        };
        let mut lowest: SmallVec<[(Option<Asn>, u32); 8]> = SmallVec::new();
        for path in paths.iter() {
            let mut known = lowest.iter_mut().rev().take(compared);
            match known.find(|(asn, _)| *asn == group(path)) {
                Some((_, lowest)) => *lowest = med(path).min(*lowest),
                None => lowest.push((group(path), med(path))),
            }
        }
        paths.retain(|path| {
            let stays = lowest.contains(&(group(path), med(path)));
            if !stays {
                lost(path, Step::Med);
            }
            stays
        });
    }

    /// Step 8: eBGP beats iBGP; gateways take no part in it.
    fn eliminate_ibgp<'p>(&self, paths: &mut Survivors<'p>, lost: &mut impl FnMut(&'p Path, Step)) {
        let session = |path: &Path| {
            let session = (!path.is_local()).then(|| self.sessions.info(path.session));
            session.filter(|session| !session.gateway || planted!(ExternalBeatsInternalGateways))
        };
        let any_ebgp = paths
            .iter()
            .any(|path| session(path).is_some_and(|s| s.ebgp));
        paths.retain(|path| {
            let loses = any_ebgp && session(path).is_some_and(|s| !s.ebgp);
            if loses {
                lost(path, Step::EbgpOverIbgp);
            }
            !loses
        });
    }

    fn sort(&self, paths: &mut Survivors<'_>) {
        if paths.len() > 1 {
            paths.sort_unstable_by_key(|path| self.tie_break(path));
        }
    }

    /// Order among equals: lowest ORIGINATOR_ID or router id, shorter CLUSTER_LIST, lowest peer
    /// address (RFC 4271 §9.1.2.2 f-g, RFC 4456 §9); then instance and path id, which only tell
    /// paths of one peer apart.
    fn tie_break(&self, path: &Path) -> (Ipv4Addr, usize, IpAddr, u8, u32) {
        if path.is_local() || planted!(OldestWins) {
            return (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::UNSPECIFIED.into(), 0, 0);
        }
        let session = self.sessions.info(path.session);
        let router_id = Some(session.router_id).filter(|_| !planted!(RouterIdDoesNotCount));
        let originator_id = path.attributes.originator_id;
        let originator_id = originator_id.filter(|_| !planted!(OriginatorDoesNotCount));
        let peer = Some(session.id.peer).filter(|_| !planted!(PeerAddressDoesNotCount));
        (
            originator_id.or(router_id).unwrap_or(Ipv4Addr::UNSPECIFIED),
            path.attributes.cluster_list.len() * usize::from(!planted!(ClusterListDoesNotCount)),
            peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            session.id.instance.0,
            path.path_id,
        )
    }
}

fn has_next_hop(members: &[&Path], path: &Path) -> bool {
    let next_hop = path.next_hop();
    members.iter().any(|member| member.next_hop() == next_hop)
}
