//! Back-pressure from the peers: what waits to be sent to a session.
//!
//! The RIB's owner counts what it hands to a session, and the session what the peer takes. Above
//! [`HIGH`] the owner holds the session back, so that nothing more is made for it; below [`LOW`] the
//! session says so and gets what it missed as it stands by then. So a peer that reads slowly costs a
//! bounded amount of memory and only delays itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes above which a session is handed no more.
const HIGH: usize = 4 << 20;

/// Bytes below which it is handed more again.
const LOW: usize = 1 << 20;

/// Bytes handed to a session that its peer has not taken yet. Clones count the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// So much more waits.
    pub(super) fn grow(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// So much was taken; whether less than [`LOW`] is left from now on.
    pub(super) fn shrink(&self, bytes: usize) -> bool {
        let before = self.0.fetch_sub(bytes, Ordering::AcqRel);
        before >= LOW && before - bytes < LOW
    }

    /// Whether more than [`HIGH`] waits: then a [`shrink`](Self::shrink) that follows goes below
    /// [`LOW`].
    pub(super) fn is_high(&self) -> bool {
        self.0.load(Ordering::Acquire) > HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::{Backlog, HIGH, LOW};

    #[test]
    fn a_session_is_held_above_the_upper_mark_until_it_is_below_the_lower_one() {
        let backlog = Backlog::default();
        let session = backlog.clone();
        backlog.grow(HIGH);
        assert!(!backlog.is_high());
        backlog.grow(1);
        assert!(backlog.is_high());
        assert!(!session.shrink(HIGH + 1 - LOW));
        assert!(!backlog.is_high());
        assert!(session.shrink(1));
        assert!(!session.shrink(1), "said once");
        backlog.grow(2);
        assert!(session.shrink(1), "and again");
    }
}
