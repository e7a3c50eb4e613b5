//! Back-pressure towards the peers: what a session may have in the queue to the RIB's owner.
//!
//! Each batch of routes carries a [`Credit`] for the bytes that it was decoded from. While the
//! owner has not dropped enough of them, the session does not read; then the peer's TCP window
//! closes, and only this peer waits. So memory per session is bounded without a bounded channel
//! in which one session could hold up the others' events.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A session's share of the queue, in bytes of UPDATE messages.
const SHARE: usize = 1 << 20;

/// Room in the queue towards the RIB's owner, given back when dropped. Keep it until the batch is
/// applied. The default is a credit for nothing.
#[derive(Debug, Default)]
pub struct Credit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A session's credits.
#[derive(Debug)]
pub(super) struct Credits {
    left: Arc<Semaphore>,
}

impl Credits {
    pub(super) fn new() -> Self {
        Self {
            left: Arc::new(Semaphore::new(SHARE)),
        }
    }

    /// Whether a burst of so many bytes may be read.
    pub(super) fn suffice(&self, bytes: usize) -> bool {
        self.left.available_permits() >= bytes
    }

    /// Returns when a burst of so many bytes may be read.
    pub(super) async fn returned(&self, bytes: usize) {
        // Never closed, so that the result says nothing.
        let _ = self.left.acquire_many(saturated(bytes)).await;
    }

    /// A credit for a batch that was decoded from so many bytes, or for what is left.
    pub(super) fn take(&self, bytes: usize) -> Credit {
        let bytes = bytes.min(self.left.available_permits());
        Credit {
            _permit: Arc::clone(&self.left)
                .try_acquire_many_owned(saturated(bytes))
                .ok(),
        }
    }
}

fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Credits, SHARE};

    #[test]
    fn credits_run_out_and_come_back_with_the_batch() {
        let credits = Credits::new();
        let first = credits.take(SHARE - 10);
        assert!(credits.suffice(10) && !credits.suffice(11));
        let beyond = credits.take(SHARE);
        assert!(!credits.suffice(1));
        drop(first);
        assert!(!credits.suffice(SHARE));
        drop(beyond);
        assert!(credits.suffice(SHARE));
    }
}
