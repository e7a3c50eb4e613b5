//! The attributes of a path as a peer is sent them: by eBGP with the own ASN in front and without what
//! is internal, by iBGP as a route reflector passes them on (RFC 4456).

use std::{borrow::Cow, net::IpAddr, net::Ipv4Addr, sync::Arc};

use super::{decision::DEFAULT_LOCAL_PREF, view::View};
use crate::bgp::wire::{Family, NextHop, PathAttributes, Peering, community};

/// What a view sends of a path, before what [`View::outbound`] makes of it.
#[derive(Clone)]
pub(super) struct Outgoing<'p> {
    /// After the view's policy; the path's own unless that changed them.
    pub(super) attributes: Cow<'p, Arc<PathAttributes>>,
    pub(super) provenance: Provenance,
}

impl Outgoing<'_> {
    /// The address that it names as next hop, if it is not to be the route server's own.
    pub(super) fn next_hop(&self) -> Option<IpAddr> {
        self.attributes.next_hop.map(NextHop::address)
    }
}

/// What beside its attributes decides how a path is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Provenance {
    /// The route server originates it.
    Own,
    /// It was learned.
    Learned,
    /// It was learned by iBGP and is sent by iBGP; who brought it into the AS.
    Reflected(Ipv4Addr),
}

impl View {
    /// The attributes as sent.
    pub(super) fn outbound(
        &self,
        family: Family,
        attributes: &PathAttributes,
        provenance: Provenance,
    ) -> PathAttributes {
        let mut sent = attributes.clone();
        // A link-local address means nothing beyond the link of its sender (RFC 2545 §3).
        let next_hop = sent.next_hop.map(|next_hop| next_hop.address().into());
        sent.next_hop = next_hop.or(self.own_next_hop(family));
        match self.context.peering {
            Peering::External => {
                let originated = provenance == Provenance::Own;
                self.export.apply(self.asn, originated, &mut sent);
                sent.local_pref = None;
                sent.originator_id = None;
                sent.cluster_list = Vec::new();
                sent.extended_communities.retain(is_transitive);
            }
            Peering::Internal => {
                // RFC 4456 §8.
                if let (Provenance::Reflected(originator), Some(cluster)) =
                    (provenance, self.cluster_id)
                {
                    if !planted!(NoOriginatorId) {
                        sent.originator_id.get_or_insert(originator);
                    }
                    if !planted!(NoClusterListPrepended) {
                        sent.cluster_list.insert(0, cluster);
                    }
                }
                if !self.long_lived && sent.has_community(community::LLGR_STALE) {
                    // RFC 9494 §4.6: it does not know LLGR_STALE, but these two.
                    sent.add_community(community::NO_EXPORT);
                    sent.local_pref = Some(0);
                } else {
                    sent.local_pref = sent.local_pref.or(Some(DEFAULT_LOCAL_PREF));
                }
                self.export.apply_within(self.asn, &mut sent);
            }
        }
        sent
    }

    /// Whether two views send the same attributes as the same, next hops of the route server's own
    /// aside.
    pub(super) fn sends_like(&self, other: &Self) -> bool {
        let form = |view: &Self| {
            let View {
                context,
                asn,
                long_lived,
                export,
                cluster_id,
                ..
            } = view;
            (context.peering, *asn, *long_lived, *export, *cluster_id)
        };
        form(self) == form(other)
    }
}

/// RFC 4360 §2: others do not leave the AS.
fn is_transitive(community: &[u8; 8]) -> bool {
    const NON_TRANSITIVE: u8 = 0x40;
    community[0] & NON_TRANSITIVE == 0
}
