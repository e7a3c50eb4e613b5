//! The event log: what happened to sessions, limits, routes and next hops, when, why, and with what
//! effect.
//!
//! In: [`Event`]s, from any stage's owner in `daemon`. Out: JSON lines in a file, and to those who
//! read it ([`Reader`]), as it grows if they like. The log is bounded on disk, and a stage never waits
//! for it: what finds no room in the queue is counted, and the count is an event itself.
//!
//! - [`event`]: the types of events, which are those of the lines.
//! - [`mod@file`]: two files, each at most half of the bound.
//! - [`reader`]: who reads them, with a [`Filter`].
//! - [`routes`]: which changes of routes are written one by one, and which are summed up.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

pub mod event;
mod file;
mod filter;
mod reader;
pub mod routes;
#[cfg(test)]
mod tests;

pub use event::{Event, What};
use file::{LogFile, Unwritten};
pub use filter::{Filter, FilterError, Kind};
pub use reader::Reader;

/// Events that wait to be written; more are lost, and counted.
const QUEUE: usize = 8192;

/// Events written at once.
const BATCH: usize = 512;

/// Tells the event log, or nobody. Cheap to clone.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Shared>>);

struct Shared {
    queue: mpsc::Sender<Message>,
    lost: Arc<Lost>,
    /// Changes whenever lines were written; closed with the log.
    written: watch::Receiver<u64>,
    file: file::Shared,
}

/// Events that are not in the log.
#[derive(Default)]
struct Lost {
    /// The log does not say so yet.
    untold: AtomicU64,
    /// Since the start.
    in_all: AtomicU64,
}

impl Lost {
    fn count(&self, events: u64) {
        self.untold.fetch_add(events, Ordering::Relaxed);
        self.in_all.fetch_add(events, Ordering::Relaxed);
    }
}

enum Message {
    Event(Box<Event>),
    End(oneshot::Sender<()>),
}

/// Why events are not kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("cannot write {path}: {error}; check the path (event_log) and its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another daemon writes there.
    #[error("another process writes {0}; give this one another path (event_log)")]
    InUse(PathBuf),
}

impl Events {
    /// Opens the log at `path`, at most `size` bytes, and starts the thread that writes it.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or another process writes it.
    pub fn start(path: PathBuf, size: u64) -> Result<Self, LogError> {
        let file = LogFile::open(path, size)?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let (progress, written) = watch::channel(0);
        let lost = Arc::new(Lost::default());
        let shared = Shared {
            queue,
            lost: lost.clone(),
            written,
            file: file.shared(),
        };
        thread::Builder::new()
            .name("events".into())
            .spawn(move || write_all(file, messages, &lost, &progress))
            .map_err(|error| LogError::Io {
                path: shared.file.path().to_owned(),
                error,
            })?;
        Ok(Self(Some(Arc::new(shared))))
    }

    /// Nobody is told.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether anybody is told: who is not need not be told what takes work to find out.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Notes what happens now. Never waits.
    pub fn tell(&self, what: What, cause: impl Into<String>, effect: impl Into<String>) {
        let Some(shared) = &self.0 else {
            return;
        };
        let event = Event::now(what, cause.into(), effect.into());
        let message = Message::Event(Box::new(event));
        if let Err(mpsc::error::TrySendError::Full(_)) = shared.queue.try_send(message) {
            shared.lost.count(1);
        }
    }

    /// How many events found no room since the start, in the queue or on the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = self.0.as_ref();
        lost.map_or(0, |shared| shared.lost.in_all.load(Ordering::Relaxed))
    }

    /// Reads what is kept, oldest first; `follow`: and what comes. `None`: nothing is kept.
    ///
    /// # Errors
    ///
    /// The files cannot be read.
    pub fn read(&self, filter: Filter, follow: bool) -> std::io::Result<Option<Reader>> {
        let Some(shared) = &self.0 else {
            return Ok(None);
        };
        let written = follow.then(|| shared.written.clone());
        Reader::open(shared.file.clone(), filter, written).map(Some)
    }

    /// [`Events::end`], for which a disk that hangs is not waited.
    pub async fn end_within(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.end()).await.is_err() {
            let path = self.0.as_ref().map(|shared| shared.file.path().display());
            let path = path.map_or_else(String::new, |path| path.to_string());
            tracing::warn!("the last events may be lost: {path} does not take them");
        }
    }

    /// Writes what waits and ends the log, and with it all [`Reader`]s.
    pub async fn end(&self) {
        let Some(shared) = &self.0 else {
            return;
        };
        let (done, ended) = oneshot::channel();
        if shared.queue.send(Message::End(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// The thread that writes.
fn write_all(
    mut file: LogFile,
    mut messages: mpsc::Receiver<Message>,
    lost: &Lost,
    progress: &watch::Sender<u64>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut failing = false;
    loop {
        if messages.blocking_recv_many(&mut batch, BATCH) == 0 {
            return;
        }
        let mut lines = Vec::new();
        let mut count = 0;
        let mut end = None;
        for message in batch.drain(..) {
            match message {
                Message::Event(event) => {
                    event.append_to(&mut lines);
                    count += 1;
                }
                Message::End(done) => end = Some(done),
            }
        }
        // After the queue was read: what was lost because it was full is noticed here at the latest.
        let missing = lost.untold.swap(0, Ordering::Relaxed);
        if missing > 0 {
            Event::lost(missing).append_to(&mut lines);
        }
        match file.append(&lines) {
            Ok(()) => {
                failing = false;
                progress.send_modify(|batches| *batches += 1);
            }
            Err(Unwritten { written, error }) => {
                // What is missing would have been told last.
                lost.untold.fetch_add(missing, Ordering::Relaxed);
                lost.count(count - written.min(count));
                progress.send_modify(|batches| *batches += 1);
                if !std::mem::replace(&mut failing, true) {
                    let path = file.path();
                    tracing::warn!("events are lost: cannot write {}: {error}", path.display());
                }
            }
        }
        if let Some(done) = end {
            file.finish();
            let _ = done.send(());
            return;
        }
    }
}

/// The time, to the microsecond.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
