//! The spreading of flows: who gets which bucket.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Buckets, Group, Member, NextHop, SharedGroup, via};
use crate::fib::{MIN_BUCKETS, buckets};

#[test]
fn a_single_next_hop_needs_a_single_bucket() {
    let single = SharedGroup::single(via(4));
    let built = buckets(&single, |_| true);
    assert_eq!(built.buckets.len(), 1);
    assert_eq!(built.buckets[0].primary, via(4));
    assert_eq!(built.buckets[0].backup, None);
    assert_eq!(buckets(&single, |_| false), built);
}

#[test]
fn a_next_hop_with_a_backup_has_all_buckets_and_the_backup_in_each() {
    let group = group(&[(4, 1)], &[(5, 1)]);
    let built = buckets(&group, |_| true);
    assert_eq!(built.buckets.len(), MIN_BUCKETS);
    assert!(built.buckets.iter().all(|bucket| bucket.primary == via(4)));
    assert!(
        built
            .buckets
            .iter()
            .all(|bucket| bucket.backup == Some(via(5)))
    );
}

#[test]
fn while_no_member_is_alive_the_backups_share_the_flows() {
    let group = group(&[(4, 1), (5, 1)], &[(6, 1), (7, 1)]);
    let built = buckets(&group, |next_hop| {
        *next_hop == via(6) || *next_hop == via(7)
    });
    let shares = shares(&built);
    assert_eq!(shares.keys().cloned().collect::<Vec<_>>(), [via(6), via(7)]);
}

#[test]
fn while_nobody_is_alive_the_buckets_stay_as_if_all_were() {
    let group = group(&[(4, 1), (5, 2)], &[(6, 1)]);
    assert_eq!(buckets(&group, |_| false), buckets(&group, |_| true));
}

#[test]
fn what_is_chosen_never_changes_between_releases() {
    let built = buckets(&group(&[(4, 1), (5, 1), (6, 2)], &[]), |_| true);
    for (bucket, n) in built.buckets.iter().zip(PINNED) {
        assert_eq!(bucket.primary, via(n));
    }
}

#[test]
fn a_flow_takes_its_bucket_s_primary_then_its_backup_then_nothing() {
    let built = buckets(&group(&[(4, 1), (5, 1)], &[]), |_| true);
    let hash = 0xdead_bee3;
    let target = built.flow(hash, |_| true);
    let bucket = &built.buckets[target.bucket as usize];
    assert_eq!(target.bucket, hash % MIN_BUCKETS as u32);
    assert_eq!(target.next_hop, Some(&bucket.primary));
    let without = built.flow(hash, |next_hop| *next_hop != bucket.primary);
    assert_eq!(without.next_hop, bucket.backup.as_ref());
    assert_eq!(built.flow(hash, |_| false).next_hop, None);
}

/// Over many groups a member of weight w gets w / sum of the buckets; each bucket is an independent
/// draw, so five standard deviations of the binomial bound the error.
#[test]
fn weights_are_honoured() {
    for weights in [[1, 1, 1], [1, 2, 5], [1, 10, 100]] {
        let mut counts = [0u64; 3];
        let mut total = 0;
        for n in 0..=255 {
            let group = SharedGroup::new(Group {
                members: (0..3u8)
                    .map(|m| member([10, n, 0, m], weights[usize::from(m)]))
                    .collect(),
                backups: vec![],
            });
            for bucket in buckets(&group, |_| true).buckets {
                let NextHop::Via {
                    address: std::net::IpAddr::V4(address),
                    ..
                } = bucket.primary
                else {
                    unreachable!("members are IPv4 next hops");
                };
                counts[usize::from(address.octets()[3])] += 1;
                total += 1;
            }
        }
        let sum: u32 = weights.iter().sum();
        for (count, weight) in counts.into_iter().zip(weights) {
            let share = f64::from(weight) / f64::from(sum);
            let expected = share * total as f64;
            let bound = 5.0 * (expected * (1.0 - share)).sqrt();
            assert!(
                (count as f64 - expected).abs() <= bound,
                "weight {weight} of {sum}: {count} of {total}, expected {expected:.0} ± {bound:.0}"
            );
        }
    }
}

#[test]
fn sixty_four_members_all_get_flows() {
    let members: Vec<(u8, u32)> = (1..=64).map(|n| (n, 1)).collect();
    let built = buckets(&group(&members, &[]), |_| true);
    assert_eq!(built.buckets.len(), 1024);
    assert_eq!(shares(&built).len(), 64);
}

proptest! {
    #[test]
    fn a_lost_member_moves_only_its_own_flows(group in any_group(), lost in any::<prop::sample::Index>()) {
        let lost = group.members[lost.index(group.members.len())].next_hop.clone();
        let before = buckets(&group, |_| true);
        let after = buckets(&group, |next_hop| *next_hop != lost);
        prop_assert_eq!(before.buckets.len(), after.buckets.len());
        for (before, after) in before.buckets.iter().zip(&after.buckets) {
            if before.primary != lost {
                prop_assert_eq!(&before.primary, &after.primary);
            }
        }
    }

    #[test]
    fn a_member_removed_by_configuration_moves_only_its_own_flows(group in any_group_of(3..9)) {
        let mut members = group.members.clone();
        let removed = members.remove(0).next_hop;
        let smaller = SharedGroup::new(Group { members, backups: group.backups.clone() });
        let before = buckets(&group, |_| true);
        let after = buckets(&smaller, |_| true);
        for (before, after) in before.buckets.iter().zip(&after.buckets) {
            if before.primary != removed {
                prop_assert_eq!(&before.primary, &after.primary);
            }
        }
    }

    /// For every set of dead next hops and every one that dies next: what XDP does by itself with
    /// the old buckets, and what the rebuild puts there.
    #[test]
    fn xdp_s_own_skip_equals_the_rebuild(
        group in any_group(),
        dead in prop::collection::btree_set(1..20u8, 0..4),
    ) {
        let dead: BTreeSet<NextHop> = dead.into_iter().map(via).collect();
        let before = buckets(&group, |next_hop| !dead.contains(next_hop));
        for dies in group.next_hops().filter(|next_hop| !dead.contains(next_hop)) {
            let alive = |next_hop: &NextHop| next_hop != dies && !dead.contains(next_hop);
            let after = buckets(&group, alive);
            for hash in 0..before.buckets.len() as u32 {
                prop_assert_eq!(before.flow(hash, alive), after.flow(hash, alive));
            }
        }
    }

    #[test]
    fn primary_and_backup_differ_and_are_alive_if_anybody_is(
        group in any_group(),
        dead in prop::collection::btree_set(1..20u8, 0..20),
    ) {
        let alive = |next_hop: &NextHop| !dead.iter().any(|n| via(*n) == *next_hop);
        let anybody = group.next_hops().any(alive);
        for bucket in buckets(&group, alive).buckets {
            prop_assert_ne!(Some(&bucket.primary), bucket.backup.as_ref());
            for next_hop in std::iter::once(&bucket.primary).chain(&bucket.backup) {
                prop_assert!(alive(next_hop) || !anybody);
            }
        }
    }
}

/// Last octets; computed by another program with floating-point logarithms.
const PINNED: [u8; 8] = [4, 5, 4, 5, 6, 6, 5, 6];

fn any_group() -> impl Strategy<Value = SharedGroup> {
    any_group_of(1..9)
}

fn any_group_of(members: std::ops::Range<usize>) -> impl Strategy<Value = SharedGroup> {
    let choice = |range| prop::collection::btree_map(1..20u8, 1..5u32, range);
    (choice(members), choice(0..4)).prop_map(|(members, backups)| {
        let list = |map: BTreeMap<u8, u32>| map.into_iter().collect::<Vec<_>>();
        group(&list(members), &list(backups))
    })
}

fn group(members: &[(u8, u32)], backups: &[(u8, u32)]) -> SharedGroup {
    let list = |numbers: &[(u8, u32)]| {
        numbers
            .iter()
            .map(|(n, weight)| member([10, 0, 0, *n], *weight))
            .collect()
    };
    SharedGroup::new(Group {
        members: list(members),
        backups: list(backups),
    })
}

fn member(address: [u8; 4], weight: u32) -> Member {
    Member {
        next_hop: NextHop::Via {
            vnet: "hub".into(),
            address: address.into(),
        },
        weight,
    }
}

fn shares(buckets: &Buckets) -> BTreeMap<NextHop, usize> {
    let mut shares = BTreeMap::new();
    for bucket in &buckets.buckets {
        *shares.entry(bucket.primary.clone()).or_default() += 1;
    }
    shares
}
