//! OpenBGPD.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Route, Speaker, write_config};
use crate::lab::{Host, Process, wait::until};

/// OpenBGPD, controlled through `bgpctl`. It is not told to write to the kernel's table.
#[derive(Debug)]
pub struct OpenBgpd {
    host: Host,
    socket: PathBuf,
    process: Process,
}

impl OpenBgpd {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(host: &Host, speaker: &Speaker) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;

        // Its user's home, to which it confines itself; the lab's own /run does not have it.
        std::fs::create_dir_all("/run/openbgpd")?;
        let socket = PathBuf::from(format!("/run/{host}-openbgpd.sock"));
        let text = configuration(speaker, &socket.display().to_string());
        let config = write_config(host, "openbgpd.conf", &text)?;
        // It refuses a file that others may write to or read.
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600))?;
        let mut command = host.command("/usr/sbin/bgpd");
        command.arg("-d").arg("-f").arg(config);
        let process = host.spawn("openbgpd", command)?;
        let daemon = Self {
            host: host.clone(),
            socket,
            process,
        };
        until("OpenBGPD answers", Duration::from_secs(10), || {
            daemon.ask("show summary")
        })?;
        Ok(daemon)
    }

    /// Asks `bgpctl`.
    ///
    /// # Errors
    /// OpenBGPD does not answer, or with an error.
    pub fn ask(&self, question: &str) -> Result<String> {
        let socket = self.socket.display();
        self.host.run(&format!("bgpctl -s {socket} {question}"))
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
        let answer = self.json(&format!("show rib in neighbor {neighbor}"))?;
        let entries = answer["rib"].as_array().into_iter().flatten();
        let mut routes: Vec<Route> = entries
            .filter_map(|entry| {
                Some(Route {
                    prefix: entry["prefix"].as_str()?.parse().ok()?,
                    next_hop: entry["exit_nexthop"].as_str()?.parse().ok()?,
                    as_path: entry["aspath"].as_str()?.to_owned(),
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
            "neighbor {} {{\n remote-as {}\n local-address {}\n announce IPv4 unicast\n announce \
             IPv6 unicast\n",
            neighbor.address, neighbor.asn, neighbor.local
        );
        if neighbor.multihop {
            text.push_str(" multihop 8\n");
        }
        if neighbor.passive {
            text.push_str(" passive\n");
        }
        text.push_str("}\n");
    }
    text.push_str("allow from any\nallow to any\n");
    text
}
