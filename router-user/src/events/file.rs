//! Two files: the one that is written, and the one before it. Each has at most half of the bound.
//!
//! In: whole lines. Each batch is one write, so that a process that is killed leaves no part of a
//! line; what a host that crashed, or a full disk, left of one is closed off, and readers skip it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::LogError;

/// Who may read it: the owner and the group, as those of the socket.
const MODE: u32 = 0o640;

/// The writer's end.
#[derive(Debug)]
pub(super) struct LogFile {
    shared: Shared,
    file: File,
    length: u64,
    /// Most bytes of a file.
    half: u64,
    /// The last write was cut short: the next one begins a new line.
    torn: bool,
    /// Held as long as this process writes.
    _lock: File,
}

/// What writer and readers share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// How often the file has been replaced; held while it is.
    generation: Mutex<u64>,
}

/// What came after a generation.
pub(super) struct Later {
    /// That of the last file.
    pub(super) generation: u64,
    /// Oldest first.
    pub(super) files: Vec<File>,
    /// Others came before these, and are gone.
    pub(super) missed: bool,
}

/// Lines that were not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// So many whole lines before them were.
    pub(super) written: u64,
    pub(super) error: io::Error,
}

impl LogFile {
    /// Opens the file, and makes its folder if it is missing.
    pub(super) fn open(path: PathBuf, size: u64) -> Result<Self, LogError> {
        let failed = |error| LogError::Io {
            path: path.clone(),
            error,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let lock = File::create(beside(&path, ".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let half = size / 2;
        shorten(&beside(&path, ".1"), half).map_err(failed)?;
        shorten(&path, half).map_err(failed)?;
        let mut file = append_to(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let torn = is_torn(&mut file, length).map_err(failed)?;
        if torn {
            tracing::warn!(
                "the last line of {} is incomplete and is passed over",
                path.display()
            );
        }
        Ok(Self {
            shared: Shared(Arc::new(Inner {
                path,
                generation: Mutex::new(0),
            })),
            file,
            length,
            half,
            torn,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.shared.path()
    }

    pub(super) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Appends whole lines, all or the first of them.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut rest = lines;
        while !rest.is_empty() {
            let room = self.half.saturating_sub(self.length);
            let now = fitting(rest, room);
            let done = if now == 0 && self.length > 0 {
                self.replace()
            } else {
                // A line that is longer than a file may be is not worth the bound.
                let now = if now == 0 { first_line(rest) } else { now };
                let (these, others) = rest.split_at(now);
                let (stands, done) = self.write(these);
                rest = if done.is_ok() {
                    others
                } else {
                    &rest[stands..]
                };
                done
            };
            done.map_err(|error| Unwritten {
                written: whole_lines(&lines[..lines.len() - rest.len()]),
                error,
            })?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// A part stands of what is written next, and the rest fails.
    #[cfg(test)]
    pub(super) fn break_file(&mut self, part: &[u8]) {
        self.file.write_all(part).unwrap();
        self.file = File::open(self.path()).unwrap();
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) {
        // What the disk does not take is lost with or without this daemon.
        let _ = self.file.sync_data();
    }

    /// Writes lines that there is room for. Comes back with how many bytes of them stand.
    fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.torn {
            if let Err(error) = self.file.write_all(b"\n") {
                return (0, Err(error));
            }
            self.length += 1;
        }
        let written = self.file.write_all(lines);
        self.torn = written.is_err();
        let before = self.length;
        self.length += lines.len() as u64;
        if written.is_err() {
            // A part of it may stand.
            let metadata = self.file.metadata();
            self.length = metadata.map_or(before, |metadata| metadata.len());
        }
        let stands = self.length.saturating_sub(before) as usize;
        (stands.min(lines.len()), written)
    }

    /// Begins a new file; the one before the present one goes.
    fn replace(&mut self) -> io::Result<()> {
        let path = self.shared.path();
        let mut generation = self.shared.generation();
        match fs::rename(path, beside(path, ".1")) {
            // Somebody has removed it: what it held is gone, and the log goes on.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        let file = append_to(path)?;
        *generation += 1;
        drop(generation);
        self.file = file;
        self.length = 0;
        self.torn = false;
        Ok(())
    }
}

impl Shared {
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// All files, oldest first, and which generation the last one is.
    pub(super) fn open_all(&self) -> io::Result<(u64, Vec<File>)> {
        let generation = self.generation();
        let mut files = Vec::new();
        match File::open(beside(self.path(), ".1")) {
            Ok(file) => files.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files.push(File::open(self.path())?);
        Ok((*generation, files))
    }

    /// The files that came after that generation.
    pub(super) fn open_after(&self, known: u64) -> io::Result<Later> {
        let generation = self.generation();
        let mut files = Vec::new();
        if *generation > known + 1 {
            files.push(File::open(beside(self.path(), ".1"))?);
        }
        if *generation > known {
            files.push(File::open(self.path())?);
        }
        Ok(Later {
            generation: *generation,
            files,
            missed: *generation > known + 2,
        })
    }

    /// Held for as long as it takes to rename or to open two files.
    fn generation(&self) -> std::sync::MutexGuard<'_, u64> {
        let generation = self.0.generation.lock();
        generation.unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bytes of whole lines there is room for.
fn fitting(lines: &[u8], room: u64) -> usize {
    if lines.len() as u64 <= room {
        return lines.len();
    }
    let within = &lines[..room as usize];
    within
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1)
}

fn whole_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn first_line(lines: &[u8]) -> usize {
    let end = lines.iter().position(|byte| *byte == b'\n');
    end.map_or(lines.len(), |at| at + 1)
}

/// Drops the oldest lines of a file that an earlier run was allowed to make longer.
fn shorten(path: &Path, most: u64) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length <= most {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - most))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let whole = rest.split_off(first_line(&rest));
    let unready = beside(path, ".new");
    let _ = fs::remove_file(&unready);
    append_to(&unready)?.write_all(&whole)?;
    fs::rename(unready, path)
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).read(true).append(true);
    options.mode(MODE).open(path)
}

fn is_torn(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// `events.jsonl` and `.1`: `events.jsonl.1`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
