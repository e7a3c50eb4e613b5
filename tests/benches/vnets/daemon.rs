//! The daemon that is measured.

use std::{
    ffi::{CString, OsString},
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use tests::{
    lab::{Host, Process},
    waypost,
};

use crate::{
    bed::Bed,
    configuration::{self, SOCKET, Settings},
};

/// Where a group of processes whose memory is counted together can be made, by version.
const CGROUPS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.stat"),
    ("/sys/fs/cgroup/memory", "memory.kmem.usage_in_bytes"),
];

/// Waypost on the gateway host.
pub struct Daemon {
    host: Host,
    process: Process,
    file: PathBuf,
    cgroup: Option<Cgroup>,
}

impl Daemon {
    /// Starts it; it is not ready yet.
    pub fn launch(bed: &Bed, settings: &Settings) -> Result<Self> {
        let host = bed.gateway.clone();
        let file = host.folder().join("waypost.toml");
        fs::write(&file, configuration::text(bed, settings))?;
        let cgroup = Cgroup::new();
        let mut command = host.command(waypost::binary()?);
        command.arg("run").arg("--config").arg(&file);
        if let Some(cgroup) = &cgroup {
            cgroup.enter(&mut command);
        }
        let process = host.spawn("waypost", command)?;
        Ok(Self {
            host,
            process,
            file,
            cgroup,
        })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!("it ended: {status}; {}", self.process.log()),
        }
    }

    /// Whether it answers on its socket.
    pub fn answers(&self) -> bool {
        self.ask("show peers --json").is_ok()
    }

    /// Each session: peer, instance, state, how often it was established.
    pub fn sessions(&self) -> Result<Vec<[String; 4]>> {
        let text = self.ask("show peers --json")?;
        let rows: Vec<Value> = serde_json::from_str(&text).context(text)?;
        let sessions: Vec<_> = rows
            .iter()
            .map(|row| {
                ["peer", "instance", "state", "established_count"].map(|key| row[key].to_string())
            })
            .collect();
        let up = |row: &&[String; 4]| row[2].contains("Established");
        ensure!(
            sessions.iter().filter(up).count() == 2,
            "two sessions are to be up: {sessions:?}"
        );
        Ok(sessions)
    }

    /// Gives it other settings by `waypost reload`; seconds from its start until `poll` says that all
    /// is as expected.
    pub fn reload(
        &self,
        bed: &Bed,
        settings: &Settings,
        mut poll: impl FnMut() -> Result<Option<Instant>>,
        limit: Duration,
    ) -> Result<f64> {
        fs::write(&self.file, configuration::text(bed, settings))?;
        let start = Instant::now();
        thread::scope(|scope| {
            let reload = scope.spawn(|| self.ask("reload"));
            let polled = loop {
                match poll() {
                    Ok(Some(seen)) => break Ok((seen - start).as_secs_f64()),
                    Ok(None) if start.elapsed() < limit => {}
                    Ok(None) => break Err(anyhow!("not as expected after {limit:?}")),
                    Err(error) => break Err(error),
                }
            };
            match reload.join() {
                Ok(answer) => answer.and(polled),
                Err(_) => bail!("the reloading thread panicked"),
            }
        })
    }

    /// Resident memory and its peak, MB (10^6 bytes).
    pub fn resident(&self) -> Result<[f64; 2]> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.split_whitespace().next());
            let kibibytes: f64 = kibibytes.with_context(|| format!("no {name}"))?.parse()?;
            Ok(kibibytes * 1024.0 / 1e6)
        };
        Ok([field("VmRSS:")?, field("VmHWM:")?])
    }

    /// Kernel memory that its control group was charged for, MB; if the machine counts it.
    pub fn kernel_memory(&self) -> Option<f64> {
        self.cgroup.as_ref()?.kernel_memory()
    }

    fn ask(&self, line: &str) -> Result<String> {
        let binary = waypost::binary()?;
        self.host
            .run(&format!("{} {line} --socket {SOCKET}", binary.display()))
    }
}

/// A control group that counts the memory of what runs in it, the kernel's included.
struct Cgroup {
    folder: PathBuf,
    figure: &'static str,
}

impl Cgroup {
    fn new() -> Option<Self> {
        CGROUPS.into_iter().find_map(|(root, figure)| {
            let folder = fresh(Path::new(root))?;
            if folder.join(figure).exists() {
                return Some(Self { folder, figure });
            }
            let _ = fs::remove_dir(&folder);
            None
        })
    }

    /// What the command starts is charged from its first moment on.
    fn enter(&self, command: &mut process::Command) {
        use std::{io::Write as _, os::unix::process::CommandExt as _};
        let Ok(mut procs) = fs::OpenOptions::new()
            .write(true)
            .open(self.folder.join("cgroup.procs"))
        else {
            return;
        };
        // SAFETY: the hook makes one async-signal-safe system call on a descriptor that it keeps
        // open.
        unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    }

    fn kernel_memory(&self) -> Option<f64> {
        let text = fs::read_to_string(self.folder.join(self.figure)).ok()?;
        let bytes = match self.figure {
            "memory.stat" => text.lines().find_map(|line| line.strip_prefix("kernel "))?,
            _ => text.as_str(),
        };
        Some(bytes.trim().parse::<f64>().ok()? / 1e6)
    }
}

/// Makes a folder of a name that nobody else has; ids of processes are the same in every lab.
fn fresh(root: &Path) -> Option<PathBuf> {
    let template = root.join("waypost-bench-XXXXXX");
    let template = CString::new(template.into_os_string().into_vec()).ok()?;
    let name = template.into_raw();
    // SAFETY: a NUL-terminated string of ours that is written to, its length unchanged.
    let (made, name) = unsafe {
        let made = !libc::mkdtemp(name).is_null();
        (made, CString::from_raw(name))
    };
    made.then(|| OsString::from_vec(name.into_bytes()).into())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The daemon is gone by then, or the group stays.
        let _ = fs::remove_dir(&self.folder);
    }
}
