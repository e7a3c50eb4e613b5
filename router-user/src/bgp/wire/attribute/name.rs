//! Attribute types: their names, the flags they must have, and what a malformed one leads to.

use std::fmt;

use super::{super::Disposition, flags};

/// An attribute's type code. Its `Display` is the name of the registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttributeCode(pub u8);

/// What the codec knows of an attribute type.
pub(in super::super) struct Rules {
    /// The optional and transitive bits.
    pub(in super::super) flags: u8,
    /// What a malformed value leads to (RFC 7606 §7 and the attribute's own RFC).
    pub(in super::super) malformed: Disposition,
}

impl AttributeCode {
    /// Reserved; stands for the attributes as a whole where none can be named.
    pub const NONE: Self = Self(0);
    /// RFC 4271 §5.1.1.
    pub const ORIGIN: Self = Self(1);
    /// RFC 4271 §5.1.2.
    pub const AS_PATH: Self = Self(2);
    /// RFC 4271 §5.1.3.
    pub const NEXT_HOP: Self = Self(3);
    /// RFC 4271 §5.1.4.
    pub const MULTI_EXIT_DISC: Self = Self(4);
    /// RFC 4271 §5.1.5.
    pub const LOCAL_PREF: Self = Self(5);
    /// RFC 4271 §5.1.6.
    pub const ATOMIC_AGGREGATE: Self = Self(6);
    /// RFC 4271 §5.1.7.
    pub const AGGREGATOR: Self = Self(7);
    /// RFC 1997.
    pub const COMMUNITIES: Self = Self(8);
    /// RFC 4456.
    pub const ORIGINATOR_ID: Self = Self(9);
    /// RFC 4456.
    pub const CLUSTER_LIST: Self = Self(10);
    /// RFC 4760 §3.
    pub const MP_REACH_NLRI: Self = Self(14);
    /// RFC 4760 §4.
    pub const MP_UNREACH_NLRI: Self = Self(15);
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: Self = Self(16);
    /// RFC 6793.
    pub const AS4_PATH: Self = Self(17);
    /// RFC 6793.
    pub const AS4_AGGREGATOR: Self = Self(18);
    /// RFC 8092.
    pub const LARGE_COMMUNITY: Self = Self(32);
    /// RFC 9234.
    pub const ONLY_TO_CUSTOMER: Self = Self(35);

    /// Whether routes are lost with it: MP_REACH_NLRI and MP_UNREACH_NLRI.
    pub(in super::super) const fn carries_routes(self) -> bool {
        matches!(self, Self::MP_REACH_NLRI | Self::MP_UNREACH_NLRI)
    }

    /// `None`: not known to the codec.
    pub(in super::super) const fn rules(self) -> Option<Rules> {
        use Disposition::{AttributeDiscard, SessionReset, TreatAsWithdraw};
        const WELL_KNOWN: u8 = flags::TRANSITIVE;
        const NON_TRANSITIVE: u8 = flags::OPTIONAL;
        const TRANSITIVE: u8 = flags::OPTIONAL | flags::TRANSITIVE;
        let (flags, malformed) = match self {
            Self::ORIGIN | Self::AS_PATH | Self::NEXT_HOP | Self::LOCAL_PREF => {
                (WELL_KNOWN, TreatAsWithdraw)
            }
            Self::ATOMIC_AGGREGATE => (WELL_KNOWN, AttributeDiscard),
            Self::MULTI_EXIT_DISC | Self::ORIGINATOR_ID | Self::CLUSTER_LIST => {
                (NON_TRANSITIVE, TreatAsWithdraw)
            }
            Self::MP_REACH_NLRI | Self::MP_UNREACH_NLRI => (NON_TRANSITIVE, SessionReset),
            Self::COMMUNITIES
            | Self::EXTENDED_COMMUNITIES
            | Self::LARGE_COMMUNITY
            | Self::ONLY_TO_CUSTOMER => (TRANSITIVE, TreatAsWithdraw),
            Self::AGGREGATOR | Self::AS4_PATH | Self::AS4_AGGREGATOR => {
                (TRANSITIVE, AttributeDiscard)
            }
            _ => return None,
        };
        Some(Rules { flags, malformed })
    }
}

impl fmt::Display for AttributeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::ORIGIN => "ORIGIN",
            Self::AS_PATH => "AS_PATH",
            Self::NEXT_HOP => "NEXT_HOP",
            Self::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            Self::LOCAL_PREF => "LOCAL_PREF",
            Self::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            Self::AGGREGATOR => "AGGREGATOR",
            Self::COMMUNITIES => "COMMUNITIES",
            Self::ORIGINATOR_ID => "ORIGINATOR_ID",
            Self::CLUSTER_LIST => "CLUSTER_LIST",
            Self::MP_REACH_NLRI => "MP_REACH_NLRI",
            Self::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            Self::EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
            Self::AS4_PATH => "AS4_PATH",
            Self::AS4_AGGREGATOR => "AS4_AGGREGATOR",
            Self::LARGE_COMMUNITY => "LARGE_COMMUNITY",
            Self::ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
            Self::NONE => "path attributes",
            Self(code) => return write!(f, "attribute {code}"),
        })
    }
}
