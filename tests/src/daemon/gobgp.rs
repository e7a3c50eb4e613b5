//! GoBGP.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr, time::Duration};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Route, Speaker, write_config};
use crate::lab::{Host, Process, wait::until};

/// GoBGP, controlled through `gobgp`. It never writes to the kernel's table.
#[derive(Debug)]
pub struct GoBgp {
    host: Host,
    speaker: Speaker,
    process: Process,
}

impl GoBgp {
    /// Starts it, waits until it answers, and announces what it is to announce.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(host: &Host, speaker: Speaker) -> Result<Self> {
        let config = write_config(host, "gobgpd.toml", &configuration(&speaker))?;
        let mut command = host.command("gobgpd");
        command.args([
            "--api-hosts",
            "127.0.0.1:50051",
            "--log-plain",
            "-t",
            "toml",
            "-f",
        ]);
        command.arg(config);
        let process = host.spawn("gobgpd", command)?;
        let mut gobgp = Self {
            host: host.clone(),
            speaker,
            process,
        };
        until("GoBGP answers", Duration::from_secs(10), || {
            gobgp.ask("global")
        })?;
        for prefix in gobgp.speaker.announce.clone() {
            gobgp.announce(prefix)?;
        }
        Ok(gobgp)
    }

    /// Asks `gobgp`.
    ///
    /// # Errors
    /// GoBGP does not answer, or with an error.
    pub fn ask(&self, question: &str) -> Result<String> {
        self.host.run(&format!("gobgp {question}"))
    }

    fn json(&self, question: &str) -> Result<Value> {
        let text = self.ask(&format!("-j {question}"))?;
        serde_json::from_str(&text).with_context(|| format!("gobgp {question}: {text}"))
    }

    fn path(&self, verb: &str, prefix: IpNet) -> Result<()> {
        let ipv4 = prefix.addr().is_ipv4();
        let own = self.speaker.own(ipv4);
        let own = own.ok_or_else(|| anyhow!("no own address of the family of {prefix}"))?;
        let family = if ipv4 { "ipv4" } else { "ipv6" };
        self.ask(&format!(
            "global rib {verb} -a {family} {prefix} nexthop {own}"
        ))?;
        Ok(())
    }
}

impl Daemon for GoBgp {
    fn title(&self) -> String {
        format!("GoBGP on {}", self.host)
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let neighbors = self.json("neighbor")?;
        let neighbors = neighbors.as_array().into_iter().flatten();
        Ok(neighbors
            .filter_map(|neighbor| {
                let state = &neighbor["state"];
                let address = state["neighbor_address"].as_str()?.parse().ok()?;
                Some((address, session_state(&state["session_state"])))
            })
            .collect())
    }

    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let answer = self.json(&format!("neighbor {neighbor} adj-in -a {family}"))?;
            // Destinations by prefix, each a list of paths (or an object that holds it).
            let destinations = answer.as_object().into_iter().flatten();
            routes.extend(destinations.flat_map(|(prefix, destination)| {
                let paths = destination.as_array().or(destination["paths"].as_array());
                let paths = paths.into_iter().flatten();
                paths
                    .filter_map(|path| route(prefix, path))
                    .collect::<Vec<_>>()
            }));
        }
        routes.sort();
        Ok(routes)
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.path("add", prefix)
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.path("del", prefix)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// `PeerState.SessionState` of GoBGP's API.
fn session_state(state: &Value) -> String {
    const STATES: [&str; 7] = [
        "unknown",
        "idle",
        "connect",
        "active",
        "opensent",
        "openconfirm",
        "established",
    ];
    let number = state
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    match (number.and_then(|number| STATES.get(number)), state.as_str()) {
        (Some(known), _) => (*known).to_owned(),
        (None, Some(text)) => text.to_lowercase(),
        (None, None) => state.to_string(),
    }
}

fn route(prefix: &str, path: &Value) -> Option<Route> {
    let attributes = path["attrs"].as_array()?;
    let next_hop = attributes
        .iter()
        .find_map(|attribute| attribute["nexthop"].as_str())?;
    let segments = attributes
        .iter()
        .find_map(|attribute| attribute["as_paths"].as_array());
    let asns: Vec<String> = segments
        .into_iter()
        .flatten()
        .flat_map(|segment| segment["asns"].as_array().into_iter().flatten())
        .map(Value::to_string)
        .collect();
    Some(Route {
        prefix: prefix.parse().ok()?,
        next_hop: next_hop.parse().ok()?,
        as_path: asns.join(" "),
    })
}

fn configuration(speaker: &Speaker) -> String {
    let own: Vec<String> = speaker
        .addresses
        .iter()
        .map(|own| format!("\"{own}\""))
        .collect();
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nlocal-address-list = [{}]\n",
        speaker.asn,
        speaker.router_id,
        own.join(", ")
    );
    for neighbor in &speaker.neighbors {
        let _ = write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\nlocal-address = \"{}\"\npassive-mode = {}\n\
             [neighbors.timers.config]\nconnect-retry = 2\nidle-hold-time-after-reset = 1\n",
            neighbor.address, neighbor.asn, neighbor.local, neighbor.passive
        );
        if neighbor.multihop {
            text.push_str("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 8\n");
        }
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ = write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \
                 \"{family}\"\n"
            );
        }
    }
    text
}
