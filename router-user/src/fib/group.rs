//! Groups and their names.
//!
//! A group's name is FNV-1a (64 bits) of this serialisation, integers as 64 bits in network byte
//! order, texts preceded by their length:
//!
//! ```text
//! group    = "waypost group 1" count member* count member*      members, then backups
//! member   = next-hop weight
//! next-hop = kind (one byte) [vnet text] [4 or 6, address octets]
//! ```
//!
//! Two hosts therefore give the same group the same name without talking.

use std::{fmt, ops::Deref, sync::Arc};

use super::{Group, GroupId, Member, NextHop, fnv::Fnv};

/// A group in canonical form with its name, computed once; cheap to clone.
#[derive(Clone)]
pub struct SharedGroup(Arc<Named>);

struct Named {
    id: GroupId,
    group: Group,
}

impl SharedGroup {
    /// Brings the group into canonical form and names it.
    ///
    /// Members and backups are sorted and named once (the larger weight counts), weights are at
    /// least 1, a member is no backup. A group without members discards.
    #[must_use]
    pub fn new(group: Group) -> Self {
        let mut members = canonical(group.members);
        if members.is_empty() {
            return Self::single(NextHop::Discard);
        }
        members.shrink_to_fit();
        let mut backups = canonical(group.backups);
        backups.retain(|backup| {
            members
                .binary_search_by(|member| member.next_hop.cmp(&backup.next_hop))
                .is_err()
        });
        let group = Group { members, backups };
        let id = group.id();
        Self(Arc::new(Named { id, group }))
    }

    /// The group of one next hop.
    #[must_use]
    pub fn single(next_hop: NextHop) -> Self {
        Self::new(Group {
            members: vec![Member {
                next_hop,
                weight: 1,
            }],
            backups: Vec::new(),
        })
    }

    /// The group's name.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.0.id
    }

    /// How many hold this group.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// A group under a name of the test's choice.
    #[cfg(test)]
    pub(super) fn named(id: GroupId, group: Group) -> Self {
        Self(Arc::new(Named { id, group }))
    }
}

impl Deref for SharedGroup {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.0.group
    }
}

impl PartialEq for SharedGroup {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.id == other.0.id && self.0.group == other.0.group)
    }
}

impl Eq for SharedGroup {}

impl fmt::Debug for SharedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.0.id, self.0.group)
    }
}

impl Group {
    /// Every next hop that the group names: members, then backups.
    pub fn next_hops(&self) -> impl Iterator<Item = &NextHop> {
        self.members
            .iter()
            .chain(&self.backups)
            .map(|member| &member.next_hop)
    }

    fn id(&self) -> GroupId {
        let mut hash = Fnv::new("waypost group 1");
        for members in [&self.members, &self.backups] {
            hash.number(members.len() as u64);
            for member in members {
                member.next_hop.feed(&mut hash);
                hash.number(u64::from(member.weight));
            }
        }
        GroupId(hash.finish())
    }
}

impl NextHop {
    pub(super) fn feed(&self, hash: &mut Fnv) {
        match self {
            Self::Via { vnet, address } => {
                hash.bytes(&[1]);
                hash.text(vnet.as_str());
                hash.address(*address);
            }
            Self::Attached { vnet } => {
                hash.bytes(&[2]);
                hash.text(vnet.as_str());
            }
            Self::Host => hash.bytes(&[3]),
            Self::Discard => hash.bytes(&[4]),
            Self::NoUplink => hash.bytes(&[5]),
            Self::Blackhole => hash.bytes(&[6]),
        }
    }
}

fn canonical(mut members: Vec<Member>) -> Vec<Member> {
    for member in &mut members {
        member.weight = member.weight.max(1);
    }
    // Of equal next hops the heaviest comes first, and the first stays.
    members.sort_unstable_by(|a, b| {
        a.next_hop
            .cmp(&b.next_hop)
            .then_with(|| b.weight.cmp(&a.weight))
    });
    members.dedup_by(|later, earlier| later.next_hop == earlier.next_hop);
    members
}

#[cfg(test)]
mod tests {
    use super::SharedGroup;
    use crate::fib::{Group, GroupId, Member, NextHop};

    #[test]
    fn a_name_never_changes_between_releases() {
        let group = SharedGroup::new(Group {
            members: vec![via(4, 1), via(5, 3)],
            backups: vec![via(6, 1)],
        });
        assert_eq!(group.id(), GroupId(PINNED));
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let one = group(vec![via(4, 1), via(5, 3)], vec![via(7, 1), via(6, 1)]);
        let other = group(vec![via(5, 3), via(4, 1)], vec![via(6, 1), via(7, 1)]);
        assert_eq!(one, other);
        assert_eq!(one.id(), other.id());
    }

    #[test]
    fn weight_role_and_network_are_part_of_the_name() {
        let ids = [
            group(vec![via(4, 1), via(5, 1)], vec![]),
            group(vec![via(4, 1), via(5, 2)], vec![]),
            group(vec![via(4, 1)], vec![via(5, 1)]),
            group(vec![via(4, 1)], vec![]),
            SharedGroup::single(NextHop::Via {
                vnet: "spoke".into(),
                address: "10.0.0.4".parse().unwrap(),
            }),
            SharedGroup::single(NextHop::Attached { vnet: "hub".into() }),
            SharedGroup::single(NextHop::Host),
            SharedGroup::single(NextHop::Discard),
            SharedGroup::single(NextHop::NoUplink),
        ]
        .map(|group| group.id());
        for (n, id) in ids.iter().enumerate() {
            assert!(!ids[..n].contains(id), "{n}");
        }
    }

    #[test]
    fn a_member_is_no_backup_and_is_named_once() {
        let group = group(
            vec![via(4, 0), via(4, 2), via(5, 0)],
            vec![via(5, 1), via(6, 1)],
        );
        assert_eq!(group.members, [via(4, 2), via(5, 1)]);
        assert_eq!(group.backups, [via(6, 1)]);
    }

    #[test]
    fn a_group_without_members_discards() {
        let group = group(vec![], vec![via(6, 1)]);
        assert_eq!(group, SharedGroup::single(NextHop::Discard));
    }

    /// Computed from the serialisation by another program.
    const PINNED: u64 = 0xdef0_26f5_0755_47bb;

    fn group(members: Vec<Member>, backups: Vec<Member>) -> SharedGroup {
        SharedGroup::new(Group { members, backups })
    }

    fn via(n: u8, weight: u32) -> Member {
        Member {
            next_hop: NextHop::Via {
                vnet: "hub".into(),
                address: [10, 0, 0, n].into(),
            },
            weight,
        }
    }
}
