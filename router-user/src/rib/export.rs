//! What is special about the routes that a peer is sent: attributes that change on the way, and
//! routes that are kept back.

use crate::bgp::wire::{Asn, PathAttributes, Role, community};

/// The operator's settings for routes to a peer; part of a [`View`](super::View).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Export {
    /// Nothing is sent, for no export policy is configured (RFC 8212 §2).
    pub closed: bool,
    /// Our ASN is not prepended to learned routes (RFC 7947 §2.2.2).
    pub transparent: bool,
    /// This ASN, the peer's, is replaced by ours wherever it stands in a path.
    pub replaced_asn: Option<Asn>,
    /// ASNs for private use (RFC 6996) are taken out of the path, ours excepted.
    pub remove_private_as: bool,
    /// Our role towards the peer (RFC 9234).
    pub role: Option<Role>,
    /// Every route is sent with GRACEFUL_SHUTDOWN (RFC 8326 §4.2): the session is being drained.
    pub graceful_shutdown: bool,
}

impl Export {
    /// Whether a route with these attributes may leave: one that is only for customers does not go
    /// to providers, peers and route servers (RFC 9234 §5, egress rule 2).
    pub(super) fn permits(&self, attributes: &PathAttributes) -> bool {
        let only_downwards = matches!(
            self.role,
            Some(Role::Customer | Role::Peer | Role::RouteServerClient)
        );
        attributes.only_to_customer.is_none() || !only_downwards
    }

    /// Makes of attributes those that are sent by eBGP from `asn`.
    pub(super) fn apply(&self, asn: Asn, originated: bool, sent: &mut PathAttributes) {
        if let Some(peer) = self.replaced_asn.filter(|_| !planted!(NoAsOverride)) {
            sent.as_path.replace(peer, asn);
        }
        self.remove_private(asn, sent);
        // What the route server originates has no path without its own ASN; nor is any path empty
        // outside the AS.
        let own = originated || sent.as_path.is_empty();
        if own || !self.transparent || planted!(TransparentPrepends) {
            sent.as_path.prepend(asn, 1);
        }
        let downwards = matches!(
            self.role,
            Some(Role::Provider | Role::Peer | Role::RouteServer)
        );
        if downwards {
            // RFC 9234 §5, egress rule 1.
            sent.only_to_customer.get_or_insert(asn);
        }
        self.tag(sent);
    }

    /// Makes of attributes those that are sent by iBGP within `asn`.
    pub(super) fn apply_within(&self, asn: Asn, sent: &mut PathAttributes) {
        self.remove_private(asn, sent);
        if self.graceful_shutdown {
            // RFC 8326 §4.2: those who do not know the community go by this.
            sent.local_pref = Some(0);
        }
        self.tag(sent);
    }

    fn remove_private(&self, asn: Asn, sent: &mut PathAttributes) {
        if !self.remove_private_as || planted!(PrivateAsnsStay) {
            return;
        }
        let segments = &mut sent.as_path.segments;
        for segment in segments.iter_mut() {
            let stays = |other: &mut Asn| *other == asn || !is_private(*other);
            segment.asns.retain(stays);
        }
        segments.retain(|segment| !segment.asns.is_empty());
    }

    fn tag(&self, sent: &mut PathAttributes) {
        if self.graceful_shutdown {
            sent.add_community(community::GRACEFUL_SHUTDOWN);
        }
    }
}

/// RFC 6996 §5.
fn is_private(asn: Asn) -> bool {
    matches!(asn, 64512..=65534 | 4_200_000_000..=4_294_967_294)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::AsPath;

    const RS: Asn = 65515;

    #[test]
    fn the_own_asn_is_prepended_unless_the_peer_is_served_transparently() {
        assert_eq!(sent(Export::default(), &[65010]), [RS, 65010]);
        let transparent = Export {
            transparent: true,
            ..Export::default()
        };
        assert_eq!(sent(transparent, &[65010]), [65010]);
        assert_eq!(sent(transparent, &[]), [RS], "no path is empty by eBGP");
        let mut originated = PathAttributes::default();
        transparent.apply(RS, true, &mut originated);
        assert_eq!(originated.as_path, AsPath::sequence([RS]));
    }

    #[test]
    fn as_override_replaces_every_occurrence_and_then_prepends() {
        let export = Export {
            replaced_asn: Some(65020),
            ..Export::default()
        };
        let path = [65010, 65020, 65020, 65030, 65020];
        let expected = [RS, 65010, RS, RS, 65030, RS];
        assert_eq!(sent(export, &path), expected);
        let transparent = Export {
            transparent: true,
            ..export
        };
        assert_eq!(sent(transparent, &path), expected[1..]);
    }

    #[test]
    fn rfc6996_private_asns_are_taken_out_before_the_own_one_is_prepended() {
        let export = Export {
            remove_private_as: true,
            ..Export::default()
        };
        let path = [64511, 64512, RS, 65534, 65535, 4_199_999_999];
        assert_eq!(
            sent(export, &path),
            [RS, 64511, RS, 65535, 4_199_999_999],
            "the own one stays where it stood"
        );
        let path = [4_200_000_000, 4_294_967_294, 4_294_967_295];
        assert_eq!(sent(export, &path), [RS, 4_294_967_295]);
        assert_eq!(sent(export, &[65010]), [RS]);
        assert_eq!(sent(Export::default(), &[65010]), [RS, 65010]);
        let mut nothing_left = PathAttributes {
            as_path: AsPath::sequence([65010]),
            ..PathAttributes::default()
        };
        let transparent = Export {
            transparent: true,
            ..export
        };
        transparent.apply(RS, false, &mut nothing_left);
        assert_eq!(
            nothing_left.as_path,
            AsPath::sequence([RS]),
            "no segment without numbers, and no path without a segment"
        );
    }

    #[test]
    fn rfc9234_5_egress_rules_for_each_role_of_ours() {
        let plain = PathAttributes::default();
        let marked = PathAttributes {
            only_to_customer: Some(65010),
            ..PathAttributes::default()
        };
        for (role, adds, keeps_back) in [
            (None, false, false),
            (Some(Role::Provider), true, false),
            (Some(Role::RouteServer), true, false),
            (Some(Role::Peer), true, true),
            (Some(Role::Customer), false, true),
            (Some(Role::RouteServerClient), false, true),
        ] {
            let export = Export {
                role,
                ..Export::default()
            };
            assert!(export.permits(&plain), "{role:?}");
            assert_eq!(export.permits(&marked), !keeps_back, "{role:?}");
            let mut sent = plain.clone();
            export.apply(RS, false, &mut sent);
            assert_eq!(sent.only_to_customer, adds.then_some(RS), "{role:?}");
            let mut sent = marked.clone();
            export.apply(RS, false, &mut sent);
            assert_eq!(sent.only_to_customer, Some(65010), "{role:?} changes none");
        }
    }

    #[test]
    fn rfc8326_4_2_routes_to_a_drained_peer_are_tagged_once() {
        let export = Export {
            graceful_shutdown: true,
            ..Export::default()
        };
        let mut sent = PathAttributes {
            communities: vec![1, u32::MAX],
            ..PathAttributes::default()
        };
        export.apply(RS, false, &mut sent);
        export.apply(RS, false, &mut sent);
        assert_eq!(
            sent.communities,
            [1, community::GRACEFUL_SHUTDOWN, u32::MAX]
        );
    }

    #[test]
    fn rfc8326_4_2_within_the_as_drained_routes_are_the_last_choice_and_private_asns_go_as_well() {
        let export = Export {
            graceful_shutdown: true,
            remove_private_as: true,
            ..Export::default()
        };
        let mut sent = PathAttributes {
            as_path: AsPath::sequence([65010, 64511, RS]),
            local_pref: Some(200),
            ..PathAttributes::default()
        };
        export.apply_within(RS, &mut sent);
        let expected = PathAttributes {
            as_path: AsPath::sequence([64511, RS]),
            local_pref: Some(0),
            communities: vec![community::GRACEFUL_SHUTDOWN],
            ..PathAttributes::default()
        };
        assert_eq!(sent, expected);
        Export::default().apply_within(RS, &mut sent);
        assert_eq!(sent, expected, "nothing else is touched");
    }

    fn sent(export: Export, path: &[Asn]) -> Vec<Asn> {
        let mut attributes = PathAttributes {
            as_path: AsPath::sequence(path.iter().copied()),
            ..PathAttributes::default()
        };
        export.apply(RS, false, &mut attributes);
        attributes.as_path.asns().collect()
    }
}
