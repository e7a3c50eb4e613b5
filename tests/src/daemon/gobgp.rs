//! GoBGP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Options, Route, Speaker, words, write_config};
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
        if speaker.options.restarting {
            command.arg("-r");
        }
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
        let own = self
            .speaker
            .own(ipv4 && !self.speaker.options.ipv6_next_hop);
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

    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>> {
        Ok(agreed(&self.ask(&format!("neighbor {neighbor}"))?))
    }

    fn count(&self, neighbor: IpAddr) -> Result<[usize; 2]> {
        let count = |family: &str| -> Result<usize> {
            let answer = self.ask(&format!("neighbor {neighbor} adj-in summary -a {family}"))?;
            // Table afi:AFI_IP safi:SAFI_UNICAST
            // Destination: 2, Path: 2
            let paths = answer.split("Path: ").nth(1);
            let number = paths.and_then(|text| text.split([',', '\n']).next());
            let number = number.ok_or_else(|| anyhow!("no count in {answer}"))?;
            Ok(number.trim().parse()?)
        };
        Ok([count("ipv4")?, count("ipv6")?])
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        self.ask(&format!("neighbor {neighbor} softresetin"))
            .map(drop)
    }

    fn refreshes(&self, neighbor: IpAddr) -> Result<usize> {
        let text = self.ask(&format!("neighbor {neighbor}"))?;
        let line = text.lines().find(|line| line.contains("Route Refresh:"));
        let received = line.and_then(|line| line.split_whitespace().last());
        let received = received.ok_or_else(|| anyhow!("no Route Refresh in: {text}"))?;
        Ok(received.parse()?)
    }

    fn shut(&mut self, neighbor: IpAddr, text: &str) -> Result<String> {
        let neighbor = neighbor.to_string();
        // `disable` sends a text without its length; after `shutdown` it comes back by itself.
        let command = ["neighbor", &neighbor, "shutdown", "--reason", text];
        self.host.succeed("gobgp", &command)?;
        Ok(text.to_owned())
    }

    fn change_key(&mut self, key: &str) -> Result<()> {
        self.speaker.options.md5 = Some(key.to_owned());
        write_config(&self.host, "gobgpd.toml", &configuration(&self.speaker))?;
        self.process.signal(libc::SIGHUP)
    }

    fn unshut(&mut self, _neighbor: IpAddr) -> Result<()> {
        Ok(())
    }

    fn last_error(&self, neighbor: IpAddr) -> Result<String> {
        let address = neighbor.to_string();
        let log = self.process.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains(&address)).collect();
        let state = self.ask(&format!("neighbor {neighbor}"))?;
        Ok(format!("{state}\n{}", said.join("\n")))
    }
}

/// "Neighbor capabilities" of `gobgp neighbor ADDRESS`.
fn agreed(text: &str) -> BTreeSet<String> {
    let names = [
        ("4-octet-as:", words::FOUR_OCTET_ASN),
        ("route-refresh:", words::ROUTE_REFRESH),
        ("enhanced-route-refresh:", words::ENHANCED_ROUTE_REFRESH),
        ("extended-message:", words::EXTENDED_MESSAGE),
        ("extended-nexthop:", words::IPV6_NEXT_HOP),
        ("graceful-restart:", words::GRACEFUL_RESTART),
        ("long-lived-graceful-restart:", words::LONG_LIVED),
    ];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let both = |name: &str| {
        let mut lines = lines.iter();
        lines.any(|line| line.starts_with(name) && line.ends_with("advertised and received"))
    };
    let named = names.into_iter().filter(|(name, _)| both(name));
    let mut agreed: BTreeSet<String> = named.map(|(_, word)| word.to_owned()).collect();
    // add-path:            advertised and received
    //     Local:
    //        ipv4-unicast: receive
    //     Remote:
    //        ipv4-unicast: send/receive
    let families = [("ipv4-unicast:", true), ("ipv6-unicast:", false)];
    let mut modes: BTreeMap<(bool, bool), String> = BTreeMap::new();
    let mut local = true;
    let list = lines
        .iter()
        .skip_while(|line| !line.starts_with("add-path:"));
    for line in list.skip(1).take_while(|line| {
        line.ends_with("Local:") || line.ends_with("Remote:") || line.contains("-unicast:")
    }) {
        match *line {
            "Local:" => local = true,
            "Remote:" => local = false,
            _ => {
                for (name, ipv4) in families {
                    if let Some(mode) = line.strip_prefix(name) {
                        modes.insert((local, ipv4), mode.trim().to_owned());
                    }
                }
            }
        }
    }
    for ipv4 in [true, false] {
        let mode = |local: bool| modes.get(&(local, ipv4)).map_or("", String::as_str);
        for (ours, theirs) in [("receive", "send"), ("send", "receive")] {
            if mode(true).contains(ours) && mode(false).contains(theirs) {
                agreed.insert(words::add_path(ours, ipv4));
            }
        }
    }
    agreed
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
        communities: attributes.iter().flat_map(communities).collect(),
        stale: path["stale"] == true,
    })
}

/// Of the attributes COMMUNITIES, EXTENDED COMMUNITIES and LARGE_COMMUNITY.
fn communities(attribute: &Value) -> Vec<String> {
    let numbers = attribute["communities"].as_array().into_iter().flatten();
    let numbers = numbers.filter_map(|number| u32::try_from(number.as_u64()?).ok());
    let values = attribute["value"].as_array().into_iter().flatten();
    let others = values.filter_map(|value| match attribute["type"].as_u64()? {
        16 if value["subtype"] == 2 => words::route_target(value["value"].as_str()?),
        32 => {
            let part = |key: &str| value[key].as_u64();
            let (global, one, two) = (part("ASN")?, part("LocalData1")?, part("LocalData2")?);
            Some(words::large(&format!("{global}:{one}:{two}")))
        }
        _ => None,
    });
    numbers.map(words::standard_of).chain(others).collect()
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
        let key = speaker.options.md5.as_ref().filter(|_| !neighbor.plain);
        let password = key.map_or(String::new(), |key| format!("auth-password = \"{key}\"\n"));
        let _ = write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n{}\
             [neighbors.transport.config]\nlocal-address = \"{}\"\npassive-mode = {}\n\
             [neighbors.timers.config]\nconnect-retry = 2\nidle-hold-time-after-reset = 1\n",
            neighbor.address, neighbor.asn, password, neighbor.local, neighbor.passive,
        );
        let plain = Options::default();
        let options = if neighbor.plain {
            &plain
        } else {
            &speaker.options
        };
        text.push_str(&statements(options));
        if neighbor.multihop && !options.ttl_security {
            text.push_str("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 8\n");
        }
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ = write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \
                 \"{family}\"\n"
            );
            if options.graceful_restart.is_some() {
                text.push_str("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n");
            }
            if let Some(time) = options.long_lived {
                let _ = write!(
                    text,
                    "[neighbors.afi-safis.long-lived-graceful-restart.config]\nenabled = \
                     true\nrestart-time = {time}\n"
                );
            }
        }
    }
    text
}

/// Options as tables of a neighbour.
fn statements(options: &Options) -> String {
    let mut text = String::new();
    if options.ttl_security {
        text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    if options.add_path_receive || options.add_path_send {
        let _ = write!(
            text,
            "[neighbors.add-paths.config]\nreceive = {}\nsend-max = {}\n",
            options.add_path_receive,
            if options.add_path_send { 8 } else { 0 }
        );
    }
    if let Some(time) = options.graceful_restart {
        let _ = write!(
            text,
            "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = \
             {time}\nlong-lived-enabled = {}\n",
            options.long_lived.is_some()
        );
    }
    text
}
