//! What import adds to the attributes of a path by itself.
//!
//! In: attributes as received, and what a session's settings add to them. Out: the attributes that
//! take part in everything that follows; those received are kept beside them by the RIB.

use std::sync::Arc;

use crate::bgp::wire::{Asn, PathAttributes, community};

/// What import adds to every path of a session that has not got it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Additions {
    /// ONLY_TO_CUSTOMER with this ASN (RFC 9234 §5).
    pub(super) only_to_customer: Option<Asn>,
    /// The community GRACEFUL_SHUTDOWN (RFC 8326 §4.2).
    pub(super) graceful_shutdown: bool,
}

impl Additions {
    /// The attributes after import; the very same if they have got all of it.
    pub(super) fn apply(self, received: &Arc<PathAttributes>) -> Arc<PathAttributes> {
        let marks = self.only_to_customer.is_some() && received.only_to_customer.is_none();
        let tag = community::GRACEFUL_SHUTDOWN;
        let tags = self.graceful_shutdown && !received.has_community(tag);
        if !marks && !tags {
            return received.clone();
        }
        let mut attributes = PathAttributes::clone(received);
        if marks {
            attributes.only_to_customer = self.only_to_customer;
        }
        if tags {
            attributes.add_community(tag);
        }
        Arc::new(attributes)
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
    fn what_is_missing_is_added() {
        let received = Arc::new(PathAttributes {
            communities: vec![1, u32::MAX],
            ..PathAttributes::default()
        });
        let imported = BOTH.apply(&received);
        assert_eq!(imported.only_to_customer, Some(65010));
        let communities = [1, community::GRACEFUL_SHUTDOWN, u32::MAX];
        assert_eq!(imported.communities, communities, "sorted");
        assert!(Arc::ptr_eq(
            &Additions::default().apply(&received),
            &received
        ));
    }

    #[test]
    fn what_the_peer_sent_itself_stays_its_own() {
        let received = Arc::new(PathAttributes {
            communities: vec![community::GRACEFUL_SHUTDOWN],
            only_to_customer: Some(65099),
            ..PathAttributes::default()
        });
        assert!(Arc::ptr_eq(&BOTH.apply(&received), &received));
    }
}
