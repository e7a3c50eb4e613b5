//! Waypost, the daemon under test, known only by its binary: what it is given as files and
//! arguments, and what it answers as JSON.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::lab::{Host, Process, wait::until};

pub mod config;
mod stale;

pub use config::Config;

/// How long Waypost may take for what it is told: to start, to stop, to reload.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waypost on a gateway host.
#[derive(Debug)]
pub struct Waypost {
    host: Host,
    config: Config,
    process: Process,
}

impl Waypost {
    /// Starts it and waits until it answers on its socket.
    ///
    /// # Errors
    /// It ends, or does not answer.
    pub fn start(host: &Host, config: Config) -> Result<Self> {
        write(host, "waypost", &config)?;
        let process = launch(host, "waypost", &[])?;
        let mut waypost = Self {
            host: host.clone(),
            config,
            process,
        };
        waypost.answers()?;
        Ok(waypost)
    }

    /// Starts it where it must refuse to run, without these capabilities (`libc` has no names for
    /// them: see `capabilities(7)`), and returns what it said.
    ///
    /// # Errors
    /// It runs all the same.
    pub fn refuses(host: &Host, config: &Config, without: &[libc::c_ulong]) -> Result<String> {
        write(host, "refused", config)?;
        let mut process = launch(host, "refused", without)?;
        let status = process.wait(PATIENCE)?;
        let said = process.log();
        ensure!(!status.success(), "it ended with success: {said}");
        ensure!(!said.contains("panicked"), "it panicked: {said}");
        Ok(said)
    }

    /// Starts it again after it has ended, with the same configuration.
    ///
    /// # Errors
    /// As [`Waypost::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.host, "waypost", &[])?;
        self.answers()
    }

    /// The gateway host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The configuration that it was given last.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What `waypost show WHAT --json` prints.
    ///
    /// # Errors
    /// It fails, or prints no JSON.
    pub fn show(&self, what: &str) -> Result<Value> {
        let text = self.ask(&format!("show {what} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("show {what} --json prints: {text}"))
    }

    /// The rows of `waypost show WHAT --json`.
    ///
    /// # Errors
    /// As [`Waypost::show`]; or it is no list.
    pub fn rows(&self, what: &str) -> Result<Vec<Value>> {
        match self.show(what)? {
            Value::Array(rows) => Ok(rows),
            other => bail!("show {what} --json prints no list: {other}"),
        }
    }

    /// What `waypost explain … --json` prints.
    ///
    /// # Errors
    /// It fails, or prints no JSON.
    pub fn explain(&self, question: &str) -> Result<Value> {
        let text = self.ask(&format!("explain {question} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("explain {question} prints: {text}"))
    }

    /// Runs a subcommand of the binary and returns what it prints.
    ///
    /// # Errors
    /// It fails: with what it said.
    pub fn ask(&self, line: &str) -> Result<String> {
        let binary = binary()?;
        let socket = self.config.daemon.socket.display();
        self.host
            .run(&format!("{} {line} --socket {socket}", binary.display()))
    }

    /// Gives it another configuration, live.
    ///
    /// # Errors
    /// It refuses it.
    pub fn reload(&mut self, config: Config) -> Result<String> {
        write(&self.host, "waypost", &config)?;
        let answer = self.ask("reload")?;
        self.config = config;
        Ok(answer)
    }

    /// What `waypost plan FILE --json` prints for another configuration.
    ///
    /// # Errors
    /// It refuses it.
    pub fn plan(&self, config: &Config) -> Result<Value> {
        let text = self.ask(&format!("plan {} --json", self.planned(config)?.display()))?;
        serde_json::from_str(&text).with_context(|| format!("plan prints: {text}"))
    }

    /// Writes another configuration for `waypost plan FILE`; which file that is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn planned(&self, config: &Config) -> Result<PathBuf> {
        write(&self.host, "planned", config)
    }

    /// Waits until the session of each of these peers with both instances is Established, by
    /// Waypost's word. (The daemons at the other end have theirs.)
    ///
    /// # Errors
    /// One is not.
    pub fn established(&self, peers: &[&str]) -> Result<()> {
        let expected = format!("sessions of {peers:?} with both instances established");
        until(&expected, PATIENCE, || {
            let rows = self.rows("peers")?;
            for peer in peers {
                let up = |row: &&Value| row["peer"] == *peer && row["state"] == "Established";
                let up = rows.iter().filter(up).count();
                ensure!(up == 2, "{peer}: {up} of 2; {}", sessions(&rows));
            }
            Ok(())
        })
    }

    /// Waits until `show fib` has a learned route for this prefix, with next hops that are all alive.
    ///
    /// # Errors
    /// They do not.
    pub fn programmed(&self, prefix: &str) -> Result<Value> {
        until(&format!("{prefix} is programmed"), PATIENCE, || {
            let fib = self.show("fib")?;
            let list = |key: &str| fib[key].as_array().cloned().unwrap_or_default();
            let route = list("routes")
                .into_iter()
                .find(|route| route["prefix"] == prefix && route["precedence"] == "learned");
            let route = route.with_context(|| {
                let known: Vec<String> = list("routes")
                    .iter()
                    .map(|route| route["prefix"].to_string())
                    .collect();
                format!("routes {}", known.join(" "))
            })?;
            let groups = list("groups");
            let group = groups
                .iter()
                .find(|group| group["number"] == route["group"]);
            let shares = group.and_then(|group| group["shares"].as_object().cloned());
            let shares = shares.unwrap_or_default();
            ensure!(!shares.is_empty(), "a group without next hops: {group:?}");
            for name in shares.keys() {
                let next_hops = list("next_hops");
                let alive = next_hops
                    .iter()
                    .any(|hop| hop["name"] == name.as_str() && hop["alive"] == true);
                ensure!(alive, "next hop {name} is not alive");
            }
            Ok(route)
        })
    }

    /// Packets of a port that were not forwarded for this reason.
    ///
    /// # Errors
    /// `show counters` fails.
    pub fn counted(&self, interface: &str, reason: &str) -> Result<u64> {
        let counters = self.show("counters")?;
        let ports = counters["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|port| port["interface"] == interface);
        let port = ports
            .next()
            .ok_or_else(|| anyhow!("no counters of {interface}: {counters}"))?;
        Ok(port["reasons"][reason].as_u64().unwrap_or(0))
    }

    fn answers(&mut self) -> Result<()> {
        until("Waypost answers on its socket", PATIENCE, || {
            if let Some(status) = self.process.ended()? {
                bail!("it ended ({status}): {}", self.process.log());
            }
            self.show("peers")
        })?;
        Ok(())
    }
}

/// Sessions of `show peers`, as one line.
#[must_use]
pub fn sessions(rows: &[Value]) -> String {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let words: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{}/{} {}",
                text(&row["peer"]),
                row["instance"],
                text(&row["state"])
            )
        })
        .collect();
    words.join(", ")
}

/// The binary under test: `WAYPOST_BIN`, or the one built beside this program.
///
/// # Errors
/// There is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("WAYPOST_BIN") {
        return Ok(path.into());
    }
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    let beside = folders
        .map(|folder| folder.join("waypost"))
        .find(|path| path.is_file());
    beside.with_context(|| {
        format!(
            "no waypost binary beside {}: build it with `cargo build --package router-user`, or set \
             WAYPOST_BIN",
            program.display()
        )
    })
}

/// Detaches and unpins everything of a configuration's instance, whether a daemon runs or not.
///
/// # Errors
/// It fails: with what it said.
pub fn flush(host: &Host, config: &Config) -> Result<String> {
    let file = write(host, "waypost", config)?;
    let (binary, socket) = (binary()?, config.daemon.socket.display());
    host.run(&format!(
        "{} stop --flush --config {} --socket {socket}",
        binary.display(),
        file.display()
    ))
}

/// What lies under a folder of bpffs.
///
/// # Errors
/// The folder cannot be read, unless it does not exist.
pub fn pins(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(pins(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Configuration and log bear the same name.
fn config_path(host: &Host, name: &str) -> PathBuf {
    host.folder().join(format!("{name}.toml"))
}

fn write(host: &Host, name: &str, config: &Config) -> Result<PathBuf> {
    let path = config_path(host, name);
    fs::write(&path, config.to_toml()?)?;
    Ok(path)
}

fn launch(host: &Host, name: &str, without: &[libc::c_ulong]) -> Result<Process> {
    let mut command = host.command(binary()?);
    command
        .arg("run")
        .arg("--config")
        .arg(config_path(host, name));
    command.env("RUST_BACKTRACE", "1");
    let without = without.to_owned();
    // SAFETY: the hook makes async-signal-safe system calls only.
    unsafe { command.pre_exec(move || drop_capabilities(&without)) };
    host.spawn(name, command)
}

/// Takes capabilities out of the bounding set: the program that is executed next, although root's,
/// does not have them.
fn drop_capabilities(capabilities: &[libc::c_ulong]) -> std::io::Result<()> {
    for capability in capabilities {
        // SAFETY: plain integers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
