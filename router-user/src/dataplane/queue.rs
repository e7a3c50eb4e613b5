//! How many changes wait for the data plane's thread, so that whoever sends them can wait as well.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Changes that are enough to keep the thread busy.
const ENOUGH: usize = 32 * 1024;

/// A count of changes; clones count the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    changes: AtomicUsize,
    room: Notify,
}

impl Queue {
    /// So many more wait.
    pub(super) fn grow(&self, changes: usize) {
        self.0.changes.fetch_add(changes, Ordering::AcqRel);
    }

    /// So many are applied.
    pub(super) fn shrink(&self, changes: usize) {
        self.0.changes.fetch_sub(changes, Ordering::AcqRel);
        if self.has_room() {
            self.0.room.notify_one();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.changes.load(Ordering::Acquire) < ENOUGH
    }

    /// Returns once there is room; for one who waits.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            // Told before this was called: kept until then.
            self.0.room.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{ENOUGH, Queue};

    #[test]
    fn who_sends_waits_until_enough_is_applied() {
        let sender = Queue::default();
        let thread = sender.clone();
        sender.grow(2 * ENOUGH);
        assert!(!sender.has_room());
        let mut room = Box::pin(sender.room());
        assert_eq!((&mut room).now_or_never(), None);
        thread.shrink(ENOUGH);
        assert_eq!((&mut room).now_or_never(), None, "none is left yet");
        thread.shrink(1);
        assert_eq!((&mut room).now_or_never(), Some(()));
    }
}
