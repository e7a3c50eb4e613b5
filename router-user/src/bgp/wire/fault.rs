//! What can be wrong with an UPDATE, and what becomes of it (RFC 7606).

use super::{Notification, attribute::AttributeCode, nlri::PrefixFault, notification::error};

/// What becomes of an UPDATE with a malformed attribute (RFC 7606 §2), in increasing severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Disposition {
    /// The attribute is dropped, the routes stay.
    AttributeDiscard,
    /// The UPDATE's routes are treated as withdrawn.
    TreatAsWithdraw,
    /// The session is reset with a NOTIFICATION.
    SessionReset,
}

/// A fault of an UPDATE. Its `Display` names the attribute and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{attribute}: {kind}")]
pub struct Fault {
    /// Which attribute.
    pub attribute: AttributeCode,
    /// What is wrong with it.
    pub kind: FaultKind,
    /// What becomes of the UPDATE.
    pub disposition: Disposition,
}

/// What is wrong with an attribute.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultKind {
    /// The length is not one that the attribute can have.
    #[error("{found} bytes long, must be {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// In words.
        expected: &'static str,
    },
    /// The optional or the transitive bit contradicts the type.
    #[error("flags {found:#04x}, must be {expected:#04x}")]
    Flags {
        /// The flags octet.
        found: u8,
        /// The optional and transitive bits as they should be.
        expected: u8,
    },
    /// ORIGIN has an undefined value.
    #[error("value {0} is not 0, 1 or 2")]
    Origin(u8),
    /// An AS path segment of a type that does not exist.
    #[error("segment of unknown type {0}")]
    SegmentType(u8),
    /// An AS path segment without AS numbers.
    #[error("segment without AS numbers")]
    SegmentEmpty,
    /// An AS path segment, or its header, does not fit into the attribute.
    #[error("the last segment is cut off")]
    SegmentOverrun,
    /// AS 0 where an AS must be named (RFC 7607).
    #[error("names AS 0")]
    AsZero,
    /// The length of the next hop does not fit the family.
    #[error("next hop of {0} bytes does not fit the address family")]
    NextHopLength(u8),
    /// The prefixes are malformed.
    #[error("{0}")]
    Prefixes(#[from] PrefixFault),
    /// A second attribute of the same type.
    #[error("appears more than once")]
    Duplicate,
    /// An attribute that announced routes need is not there.
    #[error("missing")]
    Missing,
    /// An attribute that is exchanged only within an AS came from another one.
    #[error("not accepted from an eBGP peer")]
    FromExternal,
    /// AS4_PATH or AS4_AGGREGATOR from a speaker that has no need of it.
    #[error("not accepted from a peer with 4-octet AS numbers")]
    FromNewSpeaker,
    /// A well-known attribute that is not known.
    #[error("unrecognized well-known attribute")]
    Unrecognized,
    /// The attribute is longer than what is left of the attributes (RFC 7606 §4).
    #[error("longer than the attributes that it is part of")]
    Overrun,
}

impl Fault {
    /// The NOTIFICATION if it comes to a session reset (RFC 4271 §6.3, RFC 4760 §7); `attribute` as
    /// received.
    pub(super) fn notification(&self, attribute: &[u8]) -> Notification {
        let (subcode, data) = match self.kind {
            FaultKind::Duplicate | FaultKind::Overrun => (1, &[][..]),
            _ if self.attribute.carries_routes() => (9, attribute),
            FaultKind::Unrecognized => (2, attribute),
            FaultKind::Missing => (3, &[self.attribute.0][..]),
            FaultKind::Flags { .. } => (4, attribute),
            FaultKind::Length { .. } => (5, attribute),
            FaultKind::Origin(_) => (6, attribute),
            FaultKind::SegmentType(_) | FaultKind::SegmentEmpty | FaultKind::SegmentOverrun => {
                (11, &[][..])
            }
            FaultKind::AsZero
            | FaultKind::NextHopLength(_)
            | FaultKind::Prefixes(_)
            | FaultKind::FromExternal
            | FaultKind::FromNewSpeaker => (9, attribute),
        };
        Notification::new(error::UPDATE, subcode, data)
    }
}
