//! A process of the lab: its log, its end.

use std::{
    fmt::Write,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::wait::until;

/// A running program of the lab, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Logs of every process that the lab has started, in order.
static LOGS: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());

impl Process {
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().with_context(|| {
            let program = command.get_program().display();
            format!("cannot start {program} ({name}); `cargo xtask setup` installs what is missing")
        })?;
        let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
        if logs.iter().all(|(_, known)| known != log) {
            logs.push((name.to_owned(), log.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its id, within the lab.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not know it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal, by its id.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has ended ({status})", self.name);
        }
        let id = i32::try_from(self.id())?;
        // SAFETY: plain integers; the child has not been reaped, so that the id is still its own.
        if unsafe { libc::kill(id, signal) } != 0 {
            bail!("{}: {}", self.name, io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let expected = format!("{} ends", self.name);
        until(&expected, limit, || {
            self.child.try_wait()?.context("it still runs")
        })
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// It has ended before, or does not end within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(limit)
    }

    /// `kill -9`, then waits.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// All that it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of every log, for a scenario that failed.
pub(super) fn log_tails(lines: usize) -> String {
    let mut text = String::new();
    for (name, path) in LOGS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let bytes = fs::read(path).unwrap_or_default();
        let log = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = log.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        let _ = writeln!(
            text,
            "── log of {name}, last {} of {} lines",
            tail.len(),
            all.len()
        );
        for line in tail {
            let _ = writeln!(text, "   {line}");
        }
    }
    text
}
