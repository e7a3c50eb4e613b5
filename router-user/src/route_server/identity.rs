//! Who a session belongs to: a route is never sent back to its source, by whichever session.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{config::Peer, names::GatewayName};

/// The identity of the source of static routes.
pub(super) const STATIC: u32 = u32::MAX;

/// Who has sessions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    /// An NVA, with its sessions to both instances.
    Nva(IpAddr),
    /// A gateway, with all its members.
    Gateway(GatewayName),
}

/// A number for each NVA and each gateway.
#[derive(Clone, Default)]
pub(super) struct Identities(BTreeMap<Owner, u32>);

impl Identities {
    /// Knows these peers from now on and no others; those who were known keep their numbers.
    pub(super) fn set<'p>(&mut self, peers: impl Iterator<Item = &'p Peer>) {
        let mut before = std::mem::take(&mut self.0);
        let owners: Vec<Owner> = peers.map(owner).collect();
        let mut next = before.values().max().map_or(0, |last| last + 1);
        for owner in owners {
            let known = before.remove(&owner);
            self.0.entry(owner).or_insert_with(|| {
                known.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            });
        }
    }

    /// The number of a peer that is known.
    pub(super) fn of(&self, peer: &Peer) -> u32 {
        self.0[&owner(peer)]
    }
}

fn owner(peer: &Peer) -> Owner {
    match &peer.membership {
        Some(membership) => Owner::Gateway(membership.gateway.clone()),
        None => Owner::Nva(peer.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Membership, PeerKind};

    #[test]
    fn all_members_of_a_gateway_are_one_and_each_nva_is_its_own() {
        let mut identities = Identities::default();
        let all = [
            nva(4),
            nva(5),
            member("er1", 6),
            member("er1", 7),
            member("er2", 8),
        ];
        identities.set(all.iter());
        let [a, b, c, d, e] = all.each_ref().map(|peer| identities.of(peer));
        assert_eq!(c, d);
        let distinct = std::collections::BTreeSet::from([a, b, c, e]);
        assert_eq!(distinct.len(), 4);
        let fewer = [member("er1", 7), nva(9), nva(5)];
        identities.set(fewer.iter());
        assert_eq!(identities.of(&fewer[0]), c, "who stays keeps its number");
        assert_eq!(identities.of(&fewer[2]), b);
        assert!(![a, b, c, e].contains(&identities.of(&fewer[1])));
    }

    fn nva(last: u8) -> Peer {
        Peer::new("nva".into(), [10, 1, 10, last].into(), 65010)
    }

    fn member(gateway: &str, last: u8) -> Peer {
        Peer {
            membership: Some(Membership {
                gateway: gateway.into(),
                kind: PeerKind::ExpressRoute,
            }),
            ..nva(last)
        }
    }
}
