//! Reading the log while it is written.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _},
};

use tokio::sync::watch;

use super::{Event, Filter, file::Shared};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Whoever reads the log: what is kept, oldest first, and what comes.
pub struct Reader {
    shared: Shared,
    filter: Filter,
    /// Follows the log: changes with each write.
    written: Option<watch::Receiver<u64>>,
    /// Still to be read, oldest first; the last one is of this generation.
    files: VecDeque<File>,
    generation: u64,
    /// The log has ended: what is there is the last of it.
    ended: bool,
    /// The beginning of a line.
    carry: Vec<u8>,
    /// Between the first file and the next one there were others.
    missed: bool,
}

impl Reader {
    pub(super) fn open(
        shared: Shared,
        filter: Filter,
        mut written: Option<watch::Receiver<u64>>,
    ) -> io::Result<Self> {
        if let Some(written) = &mut written {
            written.mark_unchanged();
        }
        let (generation, files) = shared.open_all()?;
        Ok(Self {
            shared,
            filter,
            written,
            files: files.into(),
            generation,
            ended: false,
            carry: Vec::new(),
            missed: false,
        })
    }

    /// The next lines that the filter takes, as they are, each with its end. `None`: there are no
    /// more, and nothing is followed, or the log has ended.
    ///
    /// # Errors
    ///
    /// The files cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut lines = Vec::new();
            if self.read_on(&mut lines)? {
                if !lines.is_empty() {
                    return Ok(Some(lines));
                }
                // A long log of which nothing is wanted is not to keep others waiting.
                tokio::task::yield_now().await;
                continue;
            }
            let Some(written) = self.written.as_mut().filter(|_| !self.ended) else {
                return Ok(None);
            };
            self.ended = written.changed().await.is_err();
        }
    }

    /// Reads a chunk. `false`: there is nothing more for now.
    fn read_on(&mut self, lines: &mut Vec<u8>) -> io::Result<bool> {
        if self.files.is_empty() {
            return Ok(false);
        }
        if self.read_chunk(lines)? {
            return Ok(true);
        }
        if self.files.len() == 1 {
            let later = self.shared.open_after(self.generation)?;
            if later.files.is_empty() {
                return Ok(false);
            }
            self.generation = later.generation;
            self.files.extend(later.files);
            self.missed = later.missed;
            // What was written before it was replaced.
            if self.read_chunk(lines)? {
                return Ok(true);
            }
        }
        self.files.pop_front();
        self.carry.clear();
        if std::mem::take(&mut self.missed) {
            Event::missed().append_to(lines);
        }
        Ok(true)
    }

    fn read_chunk(&mut self, lines: &mut Vec<u8>) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let read = self.files[0].read(&mut chunk)?;
        if read == 0 {
            return Ok(false);
        }
        self.carry.extend_from_slice(&chunk[..read]);
        let Some(end) = self.carry.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(true);
        };
        let rest = self.carry.split_off(end + 1);
        let whole = std::mem::replace(&mut self.carry, rest);
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            if self.takes(line) {
                lines.extend_from_slice(line);
            }
        }
        Ok(true)
    }

    /// What is no event (the remains of a line) is passed over.
    fn takes(&self, line: &[u8]) -> bool {
        let event = serde_json::from_slice::<Event>(line);
        event.is_ok_and(|event| self.filter.takes(&event))
    }
}
