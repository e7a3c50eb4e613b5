//! The daemons that are measured: started, watched, ended.

use std::{
    fmt,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tests::{
    injector::Peer,
    lab::{Host, Process},
    waypost::{self, Waypost},
};

use crate::{
    bed::{Bed, SPEAKER},
    configuration,
};

/// A daemon that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Waypost,
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
}

impl Subject {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waypost => "waypost",
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::GoBgp => "gobgp",
            Self::OpenBgpd => "openbgpd",
        }
    }

    /// What it says when asked for its version.
    pub fn version(self) -> Result<String> {
        let (program, arguments): (PathBuf, &[&str]) = match self {
            Self::Waypost => (waypost::binary()?, &["--version"]),
            Self::Bird => ("bird".into(), &["--version"]),
            Self::Frr => ("/usr/lib/frr/bgpd".into(), &["--version"]),
            Self::GoBgp => ("gobgpd".into(), &["--version"]),
            Self::OpenBgpd => ("/usr/sbin/bgpd".into(), &["-V"]),
        };
        let output = Command::new(&program)
            .args(arguments)
            .output()
            .with_context(|| {
                let program = program.display();
                format!("cannot run {program}; `cargo xtask setup` installs what is missing")
            })?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let first = text
            .lines()
            .next()
            .unwrap_or("no version")
            .trim()
            .to_owned();
        Ok(first)
    }
}

/// A subject that runs.
#[derive(Debug)]
pub struct Running {
    speaker: Host,
    kind: Kind,
}

enum Kind {
    Waypost(Waypost),
    Other(Process),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waypost(_) => "Waypost",
            Self::Other(_) => "Other",
        })
    }
}

impl Running {
    /// Starts a subject that waits for these peers and lets them all learn from each other.
    pub fn start(bed: &Bed, subject: Subject, peers: &[Peer]) -> Result<Self> {
        let kind = if subject == Subject::Waypost {
            let config = configuration::waypost(peers)?;
            Kind::Waypost(bed.speak(|| Waypost::start(&bed.speaker, config))?)
        } else {
            let command = command(&bed.speaker, subject, peers)?;
            Kind::Other(bed.speak(|| bed.speaker.spawn(subject.name(), command))?)
        };
        Ok(Self {
            speaker: bed.speaker.clone(),
            kind,
        })
    }

    /// Starts Waypost with ports, and BIRD so that it writes into the kernel's table.
    pub fn start_forwarding(bed: &Bed, subject: Subject, peer: Peer) -> Result<Self> {
        let kind = match subject {
            Subject::Waypost => {
                let config = configuration::waypost_with_port(peer)?;
                Kind::Waypost(bed.speak(|| Waypost::start(&bed.speaker, config))?)
            }
            Subject::Bird => {
                let command = bird(&bed.speaker, &[peer], true)?;
                Kind::Other(bed.speak(|| bed.speaker.spawn(subject.name(), command))?)
            }
            other => bail!("{} is not measured up to forwarding", other.name()),
        };
        Ok(Self {
            speaker: bed.speaker.clone(),
            kind,
        })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.process().ended()? {
            None => Ok(()),
            Some(status) => bail!("it ended: {status}"),
        }
    }

    /// Peak resident memory of all its processes, in MB.
    pub fn peak_memory(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for process in self.family()? {
            let file = format!("/proc/{process}/status");
            let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = line.and_then(|line| line.split_whitespace().next());
            let kibibytes: f64 = kibibytes
                .with_context(|| format!("no VmHWM in {file}"))?
                .parse()?;
            sum += kibibytes * 1024.0 / 1e6;
        }
        Ok(sum)
    }

    /// CPU seconds that all its processes have used.
    pub fn cpu(&mut self) -> Result<f64> {
        let mut ticks = 0;
        for process in self.family()? {
            let fields = stat(process)?;
            // utime and stime of proc_pid_stat(5); what follows the name starts with field 3.
            for field in [14, 15] {
                let field = fields.get(field - 3).context("a short /proc/PID/stat")?;
                ticks += field.parse::<u64>()?;
            }
        }
        // SAFETY: takes an integer.
        let rate = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(ticks as f64 / rate as f64)
    }

    /// The end of its log.
    pub fn log(&mut self) -> String {
        let log = self.process().log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Ends it and takes away what it would leave in the kernel.
    pub fn end(mut self) -> Result<()> {
        let family = self.family()?;
        self.process().kill()?;
        // Processes of its that do not notice the end of the first one by themselves.
        let limit = Instant::now() + Duration::from_secs(10);
        for process in &family[1..] {
            while fs::exists(format!("/proc/{process}"))? && !is_zombie(*process) {
                if Instant::now() > limit {
                    bail!("process {process} of it does not end");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Kind::Waypost(waypost) = &self.kind {
            waypost::flush(&self.speaker, waypost.config())?;
        }
        Ok(())
    }

    fn process(&mut self) -> &mut Process {
        match &mut self.kind {
            Kind::Waypost(waypost) => waypost.process(),
            Kind::Other(process) => process,
        }
    }

    /// The process and its descendants.
    fn family(&mut self) -> Result<Vec<u32>> {
        let mut family = vec![self.process().id()];
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may have ended since.
            let Ok(fields) = stat(process) else { continue };
            if let Some(parent) = fields.get(1).and_then(|parent| parent.parse::<u32>().ok()) {
                parents.push((process, parent));
            }
        }
        let mut next = 0;
        while next < family.len() {
            let parent = family[next];
            family.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(id, _)| id),
            );
            next += 1;
        }
        Ok(family)
    }
}

/// What follows the name in `/proc/PID/stat`: field 3 (state) and on.
fn stat(process: u32) -> Result<Vec<String>> {
    let file = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let (_, rest) = text.rsplit_once(')').context("no name in /proc/PID/stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn is_zombie(process: u32) -> bool {
    stat(process).is_ok_and(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// How the others are started, with their configuration written.
fn command(host: &Host, subject: Subject, peers: &[Peer]) -> Result<Command> {
    let mut command;
    match subject {
        Subject::Waypost => bail!("Waypost is started by `Waypost::start`"),
        Subject::Bird => command = bird(host, peers, false)?,
        Subject::Frr => {
            fs::create_dir_all("/run/frr")?;
            command = host.command("/usr/lib/frr/bgpd");
            command.args(["--no_zebra", "--no_kernel", "--skip_runas"]);
            command.args([
                "-P",
                "0",
                "--vty_socket",
                "/run/frr",
                "-i",
                "/run/frr/bgpd.pid",
            ]);
            command.args(["--listenon", &SPEAKER[0].to_string(), "-f"]);
            command.arg(write(host, "frr.conf", configuration::frr(peers))?);
        }
        Subject::GoBgp => {
            command = host.command("gobgpd");
            command.args([
                "--api-hosts",
                "127.0.0.1:50051",
                "-l",
                "error",
                "-t",
                "toml",
                "-f",
            ]);
            command.arg(write(host, "gobgpd.toml", configuration::gobgp(peers))?);
        }
        Subject::OpenBgpd => {
            // The home of its user, to which it confines itself.
            fs::create_dir_all("/run/openbgpd")?;
            command = host.command("/usr/sbin/bgpd");
            command.arg("-d").arg("-f");
            command.arg(write(
                host,
                "openbgpd.conf",
                configuration::openbgpd(peers),
            )?);
        }
    }
    Ok(command)
}

fn bird(host: &Host, peers: &[Peer], install: bool) -> Result<Command> {
    let mut command = host.command("bird");
    command.arg("-f").arg("-c");
    command.arg(write(
        host,
        "bird.conf",
        configuration::bird(peers, install),
    )?);
    command.args(["-s", "/run/bird.ctl"]);
    Ok(command)
}

fn write(host: &Host, name: &str, text: String) -> Result<PathBuf> {
    let path = host.folder().join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    // OpenBGPD refuses a file that others may read; the others run as root.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(path)
}
