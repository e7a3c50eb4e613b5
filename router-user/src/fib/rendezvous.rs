//! Weighted rendezvous hashing: which next hop each bucket of a group takes.
//!
//! In: a group and who is alive. Out: its [`Buckets`]. Each bucket takes the member of the highest
//! score; a score depends on the bucket's index, the member's stable name and its weight, on
//! nothing else. So hosts agree without talking, a lost member moves only its own flows, and what
//! XDP does by itself (take the backup while the primary is down) equals what the rebuild says.
//!
//! The score of a member of weight w is w / -log2(u), where u is a hash drawn evenly from (0, 1]:
//! the highest score then falls to each member in proportion to its weight. It is computed in
//! integers alone, since the rounding of a floating-point logarithm differs between machines.

use super::{Bucket, Buckets, Group, Member, NextHop, fnv::Fnv};

/// Least number of buckets of a group that has a choice.
pub const MIN_BUCKETS: usize = 128;

/// Buckets a member at the least, on average: keeps large groups even.
const BUCKETS_PER_MEMBER: usize = 16;

/// The buckets of a canonical group ([`SharedGroup`](super::SharedGroup)) while those next hops
/// are alive of which `alive` says so.
///
/// Members that are alive share the buckets; if there are none, backups that are alive do; if there
/// are none either, the buckets stay as if all were alive, and XDP drops as `next_hop_down`. A
/// bucket's backup is what this function would choose if its primary were not alive, or `None` if
/// nothing else is.
///
/// Their number does not depend on who is alive: one for a single next hop, else a power of two, at
/// least [`MIN_BUCKETS`] and at least 16 a member. So flows of others move only where a group grows
/// or shrinks across 8, 16 or 32 members by configuration, never when one of them dies.
#[must_use]
pub fn buckets(group: &Group, alive: impl Fn(&NextHop) -> bool) -> Buckets {
    let nobody = !group.next_hops().any(&alive);
    let serving = |members: &'_ [Member]| -> Vec<Candidate> {
        members
            .iter()
            .enumerate()
            .filter(|(_, member)| nobody || alive(&member.next_hop))
            .map(|(place, member)| Candidate::new(place, member))
            .collect()
    };
    let members = serving(&group.members);
    let backups = serving(&group.backups);

    let buckets = (0..bucket_count(group))
        .map(|bucket| {
            let mut ranking = best_two(&members, bucket)
                .into_iter()
                .flatten()
                .map(|place| &group.members[place])
                .chain(
                    best_two(&backups, bucket)
                        .into_iter()
                        .flatten()
                        .map(|place| &group.backups[place]),
                )
                .map(|member| member.next_hop.clone());
            Bucket {
                primary: ranking.next().unwrap_or(NextHop::Discard),
                backup: ranking.next(),
            }
        })
        .collect();
    Buckets { buckets }
}

/// Where a flow goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowTarget<'a> {
    /// Index of its bucket.
    pub bucket: u32,
    /// The next hop that it takes; `None`: primary and backup are down, its packets are dropped.
    pub next_hop: Option<&'a NextHop>,
}

impl Buckets {
    /// Where a flow of this hash goes while those next hops are alive of which `alive` says so, by
    /// XDP's own rule: the bucket's primary, else its backup.
    #[must_use]
    pub fn flow(&self, hash: u32, alive: impl Fn(&NextHop) -> bool) -> FlowTarget<'_> {
        let mask = (self.buckets.len() as u32).saturating_sub(1);
        let bucket = hash & mask;
        let next_hop = self.buckets.get(bucket as usize).and_then(|bucket| {
            Some(&bucket.primary)
                .into_iter()
                .chain(&bucket.backup)
                .find(|next_hop| alive(next_hop))
        });
        FlowTarget { bucket, next_hop }
    }
}

fn bucket_count(group: &Group) -> usize {
    if group.members.len() == 1 && group.backups.is_empty() {
        return 1;
    }
    let members = group.members.len().max(group.backups.len());
    (members * BUCKETS_PER_MEMBER)
        .next_power_of_two()
        .max(MIN_BUCKETS)
}

/// A member that takes part in the choice.
struct Candidate {
    place: usize,
    name: u64,
    weight: u32,
}

impl Candidate {
    fn new(place: usize, member: &Member) -> Self {
        let mut name = Fnv::new("waypost rendezvous 1");
        member.next_hop.feed(&mut name);
        Self {
            place,
            name: name.finish(),
            weight: member.weight,
        }
    }

    fn score(&self, bucket: usize) -> Score {
        Score {
            weight: self.weight,
            distance: distance(mix(self.name, bucket as u64)),
        }
    }
}

/// weight / distance, compared without dividing.
#[derive(Clone, Copy)]
struct Score {
    weight: u32,
    distance: u64,
}

impl Score {
    fn beats(self, other: Self) -> bool {
        u128::from(self.weight) * u128::from(other.distance)
            > u128::from(other.weight) * u128::from(self.distance)
    }
}

/// Places of the members with the highest and the second highest score; of equal scores the
/// earlier in the (sorted) list is the higher.
fn best_two(candidates: &[Candidate], bucket: usize) -> [Option<usize>; 2] {
    let mut first: Option<(Score, usize)> = None;
    let mut second: Option<(Score, usize)> = None;
    for candidate in candidates {
        let score = candidate.score(bucket);
        let ranked = Some((score, candidate.place));
        if first.is_none_or(|(best, _)| score.beats(best)) {
            second = first;
            first = ranked;
        } else if second.is_none_or(|(best, _)| score.beats(best)) {
            second = ranked;
        }
    }
    [first, second].map(|ranked| ranked.map(|(_, place)| place))
}

/// SplitMix64's finaliser: spreads a name and a bucket over 64 bits.
const fn mix(name: u64, bucket: u64) -> u64 {
    let mut z = name.wrapping_add((bucket + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// -log2(hash / 2^64) in units of 2^-32, at least 1. Linear between the 257 points of [`LOG2`], so
/// it falls monotonically; off by less than 3e-6.
const fn distance(hash: u64) -> u64 {
    let hash = if hash == 0 { 1 } else { hash };
    let zeros = hash.leading_zeros();
    let mantissa = hash << zeros;
    let step = ((mantissa >> 55) & 0xff) as usize;
    let rest = (mantissa >> 23) & 0xffff_ffff;
    let slope = LOG2[step + 1] - LOG2[step];
    let fraction = LOG2[step] + ((slope * rest) >> 32);
    let distance = ((zeros as u64 + 1) << 32).saturating_sub(fraction);
    if distance == 0 { 1 } else { distance }
}

/// log2(1 + n/256) in units of 2^-32, for n from 0 to 256.
const LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut n = 0;
    while n < 257 {
        table[n] = log2((1 << 62) + ((n as u128) << 54));
        n += 1;
    }
    table
};

/// log2 of a number from 1 to 2, given in units of 2^-62; the result in units of 2^-32. A bit a
/// squaring.
const fn log2(mut number: u128) -> u64 {
    const TWO: u128 = 2 << 62;
    if number >= TWO {
        return 1 << 32;
    }
    let mut result = 0;
    let mut bit = 1 << 31;
    while bit > 0 {
        number = (number * number) >> 62;
        if number >= TWO {
            result |= bit;
            number >>= 1;
        }
        bit >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{LOG2, distance};

    #[test]
    fn the_distance_is_the_logarithm() {
        for hash in [1, 2, 3, 1 << 20, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1] {
            let exact = 64.0 - (hash as f64).log2();
            let got = distance(hash) as f64 / 2f64.powi(32);
            assert!((exact - got).abs() < 3e-6, "{hash}: {got} for {exact}");
        }
        assert_eq!(LOG2[256], 1 << 32);
    }

    #[test]
    fn the_distance_is_never_zero() {
        assert!(distance(u64::MAX) >= 1);
        assert_eq!(distance(0), distance(1));
    }
}
