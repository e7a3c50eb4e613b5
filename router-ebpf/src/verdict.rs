//! What becomes of a packet that is not forwarded.

use router_common::reason::Reason;

/// Why a packet leaves the way to its next hop. `main` says what follows from each.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// It is for the gateway host itself.
    ToHost,
    /// It goes nowhere.
    Dropped(Reason),
    /// Its TTL or hop limit ran out here; the sender may be told.
    HopLimit,
    /// It is larger than this MTU of the way out and may not be fragmented; the sender may be told.
    Mtu(u32),
}

impl From<Reason> for Verdict {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Dropped(reason)
    }
}
