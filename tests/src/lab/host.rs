//! A host: a network namespace.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    net::IpAddr,
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::IpNet;

use super::{isolation::mount, process::Process, sysctl};

/// A host: a network namespace, and the processes started in it. Clones name the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    namespace: File,
    folder: PathBuf,
}

impl Host {
    pub(super) fn new(name: &str, lab: &Path) -> Result<Self> {
        let handle = format!("/run/netns/{name}");
        let namespace = in_thread(|| -> Result<File> {
            // SAFETY: takes flags only; the namespace belongs to this thread alone.
            let made = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            ensure!(made == 0, io::Error::last_os_error());
            File::create_new(&handle)?;
            mount("/proc/thread-self/ns/net", &handle, None, libc::MS_BIND)?;
            Ok(File::open(&handle)?)
        })?;
        let folder = lab.join(name);
        std::fs::create_dir_all(&folder)?;
        let host = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                namespace,
                folder,
            }),
        };
        host.inside(sysctl::defaults)?;
        host.run("ip link set lo up")?;
        Ok(host)
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where this host's configurations and logs are kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// A command that will run in this host's network namespace. Only that namespace is entered:
    /// `ip netns exec` would remount `/sys` and hide bpffs.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let inner = Arc::clone(&self.inner);
        // SAFETY: the hook makes one async-signal-safe system call on a descriptor that it keeps
        // open.
        unsafe { command.pre_exec(move || enter(inner.namespace.as_raw_fd())) };
        command
    }

    /// Runs a command line (split at white space) to its end and returns what it printed.
    ///
    /// # Errors
    /// It cannot be started, or fails: with what it said.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            bail!(
                "{self}: `{line}` failed ({}): {}",
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program with arguments that may hold white space to its end and returns what it printed.
    ///
    /// # Errors
    /// It cannot be started, or fails: with what it said.
    pub fn succeed(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output()?;
        let said = [output.stdout.clone(), output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(
            output.status.success(),
            "{self}: {program} {arguments:?}: {}",
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command line to its end, however it ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, line: &str) -> Result<Output> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        self.command(program)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!("{self}: cannot run `{line}`; `cargo xtask setup` installs it")
            })
    }

    /// Runs `ip` on several lines at once.
    ///
    /// # Errors
    /// One of them fails.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(lines.join("\n").as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{self}: ip {lines:#?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Starts a command that keeps running; its output goes to the log `<host>/<name>.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        let log = self.folder().join(format!("{name}.log"));
        Process::start(&format!("{self}/{name}"), command, &log)
    }

    /// Runs a piece of this program in the host's network namespace: sockets opened there stay
    /// there.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            self.enter_for_good();
            body()
        })
    }

    /// Moves the calling thread, and what it starts, into the host's network namespace.
    ///
    /// # Panics
    /// The kernel refuses, which it does not to root.
    pub fn enter_for_good(&self) {
        enter(self.inner.namespace.as_raw_fd()).expect("root may enter a namespace it holds");
    }

    /// Lets the host forward packets between its interfaces, whatever their source.
    ///
    /// # Errors
    /// A sysctl cannot be written.
    pub fn forward(&self, on: bool) -> Result<()> {
        self.inside(|| sysctl::forward(on))
    }

    /// Gives an interface an address that is usable at once.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn address(&self, interface: &str, address: IpNet) -> Result<()> {
        let nodad = if address.addr().is_ipv6() {
            "nodad"
        } else {
            ""
        };
        self.run(&format!(
            "ip address replace {address} dev {interface} {nodad}"
        ))?;
        Ok(())
    }

    /// Adds a route through a neighbour.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn route(&self, prefix: IpNet, via: IpAddr, interface: &str) -> Result<()> {
        let family = family_flag(prefix.addr());
        self.run(&format!(
            "ip {family} route replace {prefix} via {via} dev {interface} onlink"
        ))?;
        Ok(())
    }

    /// The MAC address of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let text = self.run(&format!("ip -json link show dev {interface}"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        links[0]["address"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("{self}: {interface} has no MAC address: {text}"))
    }

    /// Whether the kernel's own table holds exactly this prefix.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn kernel_route(&self, prefix: IpNet) -> Result<Option<String>> {
        let family = family_flag(prefix.addr());
        let text = self.run(&format!("ip {family} route show exact {prefix}"))?;
        Ok(text.lines().next().map(|line| line.trim().to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

/// `-4` or `-6`.
#[must_use]
pub fn family_flag(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "-4" } else { "-6" }
}

fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: plain integers.
    match unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
