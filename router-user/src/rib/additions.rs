//! What import adds to the attributes of a path, so that it can be taken away again.
//!
//! In: attributes as received, and what a session's settings add to them. Out: the attributes that
//! take part in everything that follows, and two bits that say what is not the peer's: with them
//! Adj-RIB-In before import is known without a second copy of it.

use std::sync::Arc;

use crate::bgp::wire::{Asn, PathAttributes, community};

/// What import adds to every path of a session that has not got it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Additions {
    /// ONLY_TO_CUSTOMER with this ASN (RFC 9234 §5).
    pub only_to_customer: Option<Asn>,
    /// The community GRACEFUL_SHUTDOWN (RFC 8326 §4.2).
    pub graceful_shutdown: bool,
}

/// What was added to one path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Added {
    pub(super) only_to_customer: bool,
    pub(super) graceful_shutdown: bool,
}

impl Additions {
    /// The attributes after import, and what was added to them.
    pub(super) fn apply(self, received: Arc<PathAttributes>) -> (Arc<PathAttributes>, Added) {
        if self == Self::default() {
            return (received, Added::default());
        }
        let tagged = received
            .communities
            .binary_search(&community::GRACEFUL_SHUTDOWN);
        let added = Added {
            only_to_customer: self.only_to_customer.is_some()
                && received.only_to_customer.is_none(),
            graceful_shutdown: self.graceful_shutdown && tagged.is_err(),
        };
        if added == Added::default() {
            return (received, added);
        }
        let mut attributes = Arc::unwrap_or_clone(received);
        if added.only_to_customer {
            attributes.only_to_customer = self.only_to_customer;
        }
        if let (true, Err(place)) = (added.graceful_shutdown, tagged) {
            let communities = &mut attributes.communities;
            communities.insert(place, community::GRACEFUL_SHUTDOWN);
        }
        (Arc::new(attributes), added)
    }
}

impl Added {
    /// The attributes as received.
    pub(super) fn without(self, imported: &Arc<PathAttributes>) -> Arc<PathAttributes> {
        if self == Self::default() {
            return imported.clone();
        }
        let mut received = PathAttributes::clone(imported);
        if self.only_to_customer {
            received.only_to_customer = None;
        }
        if self.graceful_shutdown {
            let ours = |community: &u32| *community == community::GRACEFUL_SHUTDOWN;
            received.communities.retain(|community| !ours(community));
        }
        Arc::new(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Additions = Additions {
        only_to_customer: Some(65010),
        graceful_shutdown: true,
    };

    #[test]
    fn what_is_added_can_be_taken_away_again() {
        let received = Arc::new(PathAttributes {
            communities: vec![1, u32::MAX],
            ..PathAttributes::default()
        });
        let (imported, added) = BOTH.apply(received.clone());
        assert_eq!(imported.only_to_customer, Some(65010));
        let communities = [1, community::GRACEFUL_SHUTDOWN, u32::MAX];
        assert_eq!(imported.communities, communities, "sorted");
        assert_eq!(added.without(&imported), received);
    }

    #[test]
    fn what_the_peer_sent_itself_stays_its_own() {
        let received = Arc::new(PathAttributes {
            communities: vec![community::GRACEFUL_SHUTDOWN],
            only_to_customer: Some(65099),
            ..PathAttributes::default()
        });
        let (imported, added) = BOTH.apply(received.clone());
        assert!(Arc::ptr_eq(&imported, &received));
        assert!(Arc::ptr_eq(&added.without(&imported), &received));
    }
}
