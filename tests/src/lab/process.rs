//! A process of the lab: its log, its end.

use std::{
    fmt::Write,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::wait::until;

/// A running program of the lab, killed when dropped. It leads a process group of its own: some
/// daemons are several processes, of which the others would run on for a moment, hold addresses and
/// sockets that the next one wants, and say goodbye to their peers where a crash was meant.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// It has ended, and so have its children.
    gone: bool,
}

/// Logs of every process that the lab has started, in order.
static LOGS: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());

impl Process {
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
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
            gone: false,
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
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.kill_all();
        }
        Ok(status)
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
        until(&expected, limit, || self.ended()?.context("it still runs"))
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// It has ended before, or does not end within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(limit)
    }

    /// `kill -9` of all its processes, then waits until they are gone.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has ended ({status})", self.name);
        }
        self.kill_all();
        Ok(())
    }

    /// Kills what is left of the group, whether or not the leader has ended, and waits until all of
    /// it is gone. Once: afterwards the group's number may become another's.
    fn kill_all(&mut self) {
        let Ok(group) = libc::pid_t::try_from(self.id()) else {
            return;
        };
        if std::mem::replace(&mut self.gone, true) {
            return;
        }
        // SAFETY: plain integers; the group is this process's own.
        unsafe { libc::killpg(group, libc::SIGKILL) };
        // An error means that it has been waited for before.
        let _ = self.child.wait();
        // What it leaves behind are children of the lab's first process, which is this one.
        // SAFETY: no status is asked for, and only members of the group are waited for.
        while unsafe { libc::waitpid(-group, std::ptr::null_mut(), 0) } > 0 {}
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
        self.kill_all();
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
