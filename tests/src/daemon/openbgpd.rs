//! OpenBGPD.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Neighbor, Options, Route, Speaker, options::Role, words, write_config};
use crate::lab::{Host, Process, wait::until};

/// OpenBGPD, controlled through `bgpctl`. It is not told to write to the kernel's table.
#[derive(Debug)]
pub struct OpenBgpd {
    host: Host,
    speaker: Speaker,
    socket: PathBuf,
    process: Process,
}

impl OpenBgpd {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(host: &Host, speaker: &Speaker) -> Result<Self> {
        // Its user's home, to which it confines itself; the lab's own /run does not have it.
        std::fs::create_dir_all("/run/openbgpd")?;
        let socket = PathBuf::from(format!("/run/{host}-openbgpd.sock"));
        let config = write(host, speaker, &socket)?;
        let mut command = host.command("/usr/sbin/bgpd");
        command.arg("-d").arg("-f").arg(config);
        let process = host.spawn("openbgpd", command)?;
        let mut daemon = Self {
            host: host.clone(),
            speaker: speaker.clone(),
            socket,
            process,
        };
        until("OpenBGPD answers", Duration::from_secs(10), || {
            if let Some(status) = daemon.process.ended()? {
                bail!("it has ended ({status}): {}", daemon.last_words());
            }
            daemon.ask("show summary")
        })?;
        Ok(daemon)
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("; ")
    }

    /// Asks `bgpctl`.
    ///
    /// # Errors
    /// OpenBGPD does not answer, or with an error.
    pub fn ask(&self, question: &str) -> Result<String> {
        let socket = self.socket.display();
        self.host.run(&format!("bgpctl -s {socket} {question}"))
    }

    /// `show neighbor` of one.
    fn details(&self, neighbor: IpAddr) -> Result<Value> {
        let answer = self.json(&format!("show neighbor {neighbor}"))?;
        Ok(answer["neighbors"][0].clone())
    }

    fn json(&self, question: &str) -> Result<Value> {
        let text = self.ask(&format!("-j {question}"))?;
        serde_json::from_str(&text).with_context(|| format!("bgpctl {question}: {text}"))
    }
}

impl Daemon for OpenBgpd {
    fn title(&self) -> String {
        format!("OpenBGPD on {}", self.host)
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let answer = self.json("show neighbor")?;
        let neighbors = answer["neighbors"].as_array().into_iter().flatten();
        Ok(neighbors
            .filter_map(|neighbor| {
                let address = neighbor["remote_addr"].as_str()?.parse().ok()?;
                Some((address, neighbor["state"].as_str()?.to_lowercase()))
            })
            .collect())
    }

    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>> {
        let answer = self.json(&format!("show rib detail in neighbor {neighbor}"))?;
        let entries = answer["rib"].as_array().into_iter().flatten();
        let mut routes: Vec<Route> = entries
            .filter_map(|entry| {
                Some(Route {
                    prefix: entry["prefix"].as_str()?.parse().ok()?,
                    next_hop: entry["exit_nexthop"].as_str()?.parse().ok()?,
                    as_path: entry["aspath"].as_str()?.to_owned(),
                    communities: communities(entry),
                    stale: entry["stale"] == true,
                })
            })
            .collect();
        routes.sort();
        Ok(routes)
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.ask(&format!("network add {prefix}")).map(drop)
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.ask(&format!("network delete {prefix}")).map(drop)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>> {
        Ok(agreed(&self.details(neighbor)?))
    }

    fn count(&self, neighbor: IpAddr) -> Result<[usize; 2]> {
        // It counts both families together.
        let details = self.details(neighbor)?;
        let count = &details["stats"]["prefixes"]["received"];
        Ok([count.as_u64().context("no prefixes received")? as usize, 0])
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        self.ask(&format!("neighbor {neighbor} refresh")).map(drop)
    }

    fn refreshes(&self, neighbor: IpAddr) -> Result<usize> {
        let details = self.details(neighbor)?;
        let count = &details["stats"]["route-refresh"]["received"]["request"];
        Ok(count.as_u64().context("no route-refresh received")? as usize)
    }

    fn markers(&self, neighbor: IpAddr) -> Result<Option<[usize; 2]>> {
        let details = self.details(neighbor)?;
        let count = |what: &str| {
            let count = &details["stats"]["route-refresh"]["received"][what];
            let count = count.as_u64().with_context(|| format!("no {what}"))?;
            anyhow::Ok(count as usize)
        };
        Ok(Some([count("borr")?, count("eorr")?]))
    }

    fn shut(&mut self, neighbor: IpAddr, text: &str) -> Result<String> {
        let socket = self.socket.display().to_string();
        let neighbor = neighbor.to_string();
        let arguments = ["-s", &socket, "neighbor", &neighbor, "down", text];
        self.host.succeed("bgpctl", &arguments)?;
        Ok(text.to_owned())
    }

    /// A session keeps the key that it began with, until it is cleared.
    fn change_key(&mut self, key: &str) -> Result<()> {
        self.speaker.options.md5 = Some(key.to_owned());
        write(&self.host, &self.speaker, &self.socket)?;
        self.ask("reload")?;
        let neighbors = self.speaker.neighbors.iter();
        let mut protected = neighbors.filter(|neighbor| !neighbor.plain);
        protected.try_for_each(|neighbor| {
            let address = neighbor.address;
            self.ask(&format!("neighbor {address} clear")).map(drop)
        })
    }

    fn unshut(&mut self, neighbor: IpAddr) -> Result<()> {
        self.ask(&format!("neighbor {neighbor} up")).map(drop)
    }

    fn last_error(&self, neighbor: IpAddr) -> Result<String> {
        let address = neighbor.to_string();
        let log = self.process.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains(&address)).collect();
        let state = self.ask(&format!("show neighbor {neighbor}"))?;
        Ok(format!("{state}\n{}", said.join("\n")))
    }
}

/// Of an entry of `show rib detail`.
fn communities(entry: &Value) -> BTreeSet<String> {
    let list = |key: &str| {
        let list = entry[key].as_array().into_iter().flatten();
        let words: Vec<&str> = list.filter_map(Value::as_str).collect();
        words
    };
    let standard = list("communities").into_iter().map(words::standard);
    let large = list("large_communities").into_iter().map(words::large);
    let targets = list("extended_communities").into_iter();
    let targets = targets.filter_map(|word| words::route_target(word.strip_prefix("rt ")?));
    standard.chain(large).chain(targets).collect()
}

/// What stands under both `local` and `remote` of a session.
fn agreed(neighbor: &Value) -> BTreeSet<String> {
    let side = |side: &str| neighbor["session"][side]["capabilities"].clone();
    let (ours, theirs) = (side("local"), side("remote"));
    let names = [
        ("as4byte", words::FOUR_OCTET_ASN),
        ("refresh", words::ROUTE_REFRESH),
        ("enhanced_refresh", words::ENHANCED_ROUTE_REFRESH),
        ("graceful_restart", words::GRACEFUL_RESTART),
        ("open_policy_role", words::ROLE),
    ];
    let is = |value: &Value| *value == true || value.is_string() || value.is_object();
    let named = names.into_iter();
    let named = named.filter(|(key, _)| is(&ours[*key]) && is(&theirs[*key]));
    let mut agreed: BTreeSet<String> = named.map(|(_, word)| word.to_owned()).collect();
    for (family, ipv4) in [("IPv4 unicast", true), ("IPv6 unicast", false)] {
        let mode = |side: &Value, way: &str| {
            let entries = side["add-path"].as_array().into_iter().flatten();
            let mut ours = entries.filter(|entry| entry["family"] == family);
            ours.any(|entry| entry["mode"] == way || entry["mode"] == "bidir")
        };
        for (word, way, opposite) in [("receive", "recv", "send"), ("send", "send", "recv")] {
            if mode(&ours, way) && mode(&theirs, opposite) {
                agreed.insert(words::add_path(word, ipv4));
            }
        }
    }
    agreed
}

/// Writes its configuration.
fn write(host: &Host, speaker: &Speaker, socket: &Path) -> Result<PathBuf> {
    let text = configuration(speaker, &socket.display().to_string());
    let config = write_config(host, "openbgpd.conf", &text)?;
    // It refuses a file that others may write to or read.
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600))?;
    Ok(config)
}

fn configuration(speaker: &Speaker, socket: &str) -> String {
    let mut text = format!(
        "AS {}\nrouter-id {}\nsocket \"{socket}\"\nfib-update no\nnexthop qualify via default\n\
         connect-retry 2\n",
        speaker.asn, speaker.router_id
    );
    for own in &speaker.addresses {
        let _ = writeln!(text, "listen on {own}");
    }
    for prefix in &speaker.announce {
        if let Some(own) = speaker.own(prefix.addr().is_ipv4()) {
            let _ = writeln!(text, "network {prefix} set nexthop {own}");
        }
    }
    for neighbor in &speaker.neighbors {
        let _ = write!(
            text,
            "neighbor {} {{\n remote-as {}\n announce IPv4 unicast\n announce IPv6 unicast\n",
            neighbor.address, neighbor.asn
        );
        let plain = Options::default();
        let options = if neighbor.plain {
            &plain
        } else {
            &speaker.options
        };
        text.push_str(&statements(neighbor, options));
        if neighbor.passive {
            // No `local-address`: with one, 7.7 gives its listening socket no TCP MD5 key on Linux. In the
            // session engine the socket's address has no length (IMSG_RECONF_LISTENER of
            // bgpd/session.c), so that listener_match_peer() of bgpd/pfkey-linux.c finds them different.
            text.push_str(" passive\n");
        } else {
            let _ = writeln!(text, " local-address {}", neighbor.local);
        }
        text.push_str("}\n");
    }
    text.push_str("allow from any\nallow to any\n");
    // By itself it announces ::1 over a multihop IPv4 session.
    for (family, ipv4) in [("inet", true), ("inet6", false)] {
        if let Some(own) = speaker.own(ipv4) {
            let _ = writeln!(text, "match to any {family} set nexthop {own}");
        }
    }
    text.push_str("match to any set nexthop no-modify\n");
    text
}

/// Options as statements of a neighbour.
fn statements(neighbor: &Neighbor, options: &Options) -> String {
    let mut text = String::new();
    if neighbor.multihop {
        let hops = if options.ttl_security { 2 } else { 8 };
        let _ = writeln!(text, " multihop {hops}");
    }
    if options.two_octet_asn {
        text.push_str(" announce as-4byte no\n");
    }
    text.push_str(" announce enhanced refresh yes\n");
    if options.add_path_receive {
        text.push_str(" announce add-path recv yes\n");
    }
    if options.add_path_send {
        text.push_str(" announce add-path send all\n");
    }
    if let Some(key) = &options.md5 {
        let _ = writeln!(text, " tcp md5sig password {key}");
    }
    if options.ttl_security {
        text.push_str(" ttl-security yes\n");
    }
    if let Some(role) = options.role {
        let role = match role {
            Role::Customer => "customer",
            Role::Provider => "provider",
            Role::RouteServerClient => "rs-client",
        };
        let _ = writeln!(text, " announce policy {role}");
    }
    text
}
