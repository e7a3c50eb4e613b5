//! BIRD 2.

use std::{
    collections::BTreeMap, fmt::Write, net::IpAddr, path::PathBuf, process::Command, time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use super::{Daemon, Neighbor, Options, Route, Speaker, write_config};
use crate::lab::{Host, Process, wait::until};

/// BIRD, one process, controlled through `birdc`.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    speaker: Speaker,
    socket: PathBuf,
    process: Process,
}

impl Bird {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not start or refuses its configuration.
    pub fn start(host: &Host, speaker: Speaker) -> Result<Self> {
        let config = write_config(host, "bird.conf", &configuration(&speaker))?;
        let socket = PathBuf::from(format!("/run/{host}-bird.ctl"));
        let mut command = host.command("bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(config)
            .arg("-s")
            .arg(&socket);
        if speaker.options.restarting {
            command.arg("-R");
        }
        let process = host.spawn("bird", command)?;
        let bird = Self {
            host: host.clone(),
            speaker,
            socket,
            process,
        };
        until("BIRD answers", Duration::from_secs(10), || {
            bird.ask("show status")
        })?;
        Ok(bird)
    }

    /// Asks `birdc`.
    ///
    /// # Errors
    /// BIRD does not answer, or with an error.
    pub fn ask(&self, question: &str) -> Result<String> {
        let output = Command::new("birdc")
            .arg("-s")
            .arg(&self.socket)
            .args(question.split_whitespace())
            .output()
            .context("cannot run birdc")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success() && !text.contains("syntax error"),
            "birdc {question}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Announces many prefixes at once.
    ///
    /// # Errors
    /// BIRD refuses.
    pub fn announce_all(&mut self, prefixes: &[IpNet]) -> Result<()> {
        self.speaker.announce.extend(prefixes);
        self.reconfigure()
    }

    /// Announces them no more.
    ///
    /// # Errors
    /// BIRD refuses.
    pub fn withdraw_all(&mut self, prefixes: &[IpNet]) -> Result<()> {
        self.speaker
            .announce
            .retain(|announced| !prefixes.contains(announced));
        self.reconfigure()
    }

    fn reconfigure(&self) -> Result<()> {
        write_config(&self.host, "bird.conf", &configuration(&self.speaker))?;
        let answer = self.ask("configure")?;
        ensure!(answer.contains("Reconfigur"), "birdc configure: {answer}");
        Ok(())
    }
}

impl Daemon for Bird {
    fn title(&self) -> String {
        format!("BIRD on {}", self.host)
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let text = self.ask("show protocols")?;
        let states: BTreeMap<&str, String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|columns| columns.get(1) == Some(&"BGP"))
            .map(|columns| {
                let state = columns.get(5).copied().unwrap_or(columns[3]);
                (columns[0], state.to_lowercase())
            })
            .collect();
        let state = |neighbor: &Neighbor| states.get(protocol(neighbor).as_str()).cloned();
        Ok(self
            .speaker
            .neighbors
            .iter()
            .filter_map(|neighbor| Some((neighbor.address, state(neighbor)?)))
            .collect())
    }

    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>> {
        let known = self
            .speaker
            .neighbors
            .iter()
            .find(|n| n.address == neighbor);
        let protocol = protocol(known.with_context(|| format!("{neighbor} is no neighbour"))?);
        let mut routes = Vec::new();
        for table in ["master4", "master6"] {
            let text = self.ask(&format!("show route table {table} protocol {protocol} all"))?;
            routes.extend(parse(&text));
        }
        routes.sort();
        Ok(routes)
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.announce_all(&[prefix])
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.withdraw_all(&[prefix])
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A protocol's name must be a word.
fn protocol(neighbor: &Neighbor) -> String {
    let word = neighbor.address.to_string().replace(['.', ':'], "_");
    format!("peer_{word}")
}

fn configuration(speaker: &Speaker) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\nipv4 table underlay4;\nipv6 table underlay6;\n\
         protocol device {{ scan time 1; }}\nprotocol direct {{ ipv4; ipv6; }}\n",
        speaker.router_id
    );
    for family in [4, 6] {
        if speaker.install {
            // What stands in the kernel's table outlives the daemon.
            let outlives = match speaker.options.graceful_restart {
                Some(_) => "persist; graceful restart;",
                None => "",
            };
            let _ = writeln!(
                text,
                "protocol kernel kernel{family} {{ {outlives} ipv{family} {{ import none; export \
                 where source = RTS_BGP; }}; }}"
            );
        }
        let ours = |prefix: &IpNet| prefix.addr().is_ipv4() == (family == 4);
        let announce = speaker.announce.iter().filter(|prefix| ours(prefix));
        let routes: String = announce
            .map(|prefix| format!("  route {prefix} blackhole;\n"))
            .collect();
        let _ = writeln!(
            text,
            "protocol static announce{family} {{\n  ipv{family};\n{routes}}}"
        );
        let underlay = speaker.underlay.iter().filter(|(prefix, _)| ours(prefix));
        let routes: String = underlay
            .map(|(prefix, via)| format!("  route {prefix} via {via};\n"))
            .collect();
        let _ = writeln!(
            text,
            "protocol static static_underlay{family} {{\n  ipv{family} {{ table underlay{family}; \
             }};\n{routes}}}"
        );
    }
    for neighbor in &speaker.neighbors {
        text.push_str(&neighbor_block(speaker, neighbor));
    }
    text
}

fn neighbor_block(speaker: &Speaker, neighbor: &Neighbor) -> String {
    let channel = |family: u8| {
        let own = if neighbor.local.is_ipv4() == (family == 4) {
            Some(neighbor.local)
        } else {
            speaker.own(family == 4)
        };
        let next_hop = own.map_or(String::new(), |own| format!("next hop address {own}; "));
        let underlay = if neighbor.multihop {
            format!("igp table underlay{family}; ")
        } else {
            String::new()
        };
        format!(
            "  ipv{family} {{ import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; \
             {underlay}next hop self; {next_hop}}};\n"
        )
    };
    format!(
        "protocol bgp {} {{\n  local {} as {};\n  neighbor {} as {};\n  {};\n  passive {};\n  \
         connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;\n{}{}{}}}\n",
        protocol(neighbor),
        neighbor.local,
        speaker.asn,
        neighbor.address,
        neighbor.asn,
        if neighbor.multihop {
            "multihop"
        } else {
            "direct"
        },
        if neighbor.passive { "on" } else { "off" },
        statements(&speaker.options),
        channel(4),
        channel(6),
    )
}

/// Options as statements of a BGP protocol.
fn statements(options: &Options) -> String {
    let mut text = String::new();
    if let Some(time) = options.graceful_restart {
        let _ = writeln!(
            text,
            "  graceful restart on;\n  graceful restart time {time};"
        );
    }
    if let Some(time) = options.long_lived {
        let _ = writeln!(
            text,
            "  long lived graceful restart on;\n  long lived stale time {time};"
        );
    }
    text
}

/// `show route … all`: a line with the prefix, then attributes, indented.
fn parse(text: &str) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut prefix = None;
    let mut as_path = String::new();
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if let Ok(found) = word.parse::<IpNet>() {
            prefix = Some(found);
            as_path.clear();
        } else if let Some(path) = line.trim().strip_prefix("BGP.as_path: ") {
            path.clone_into(&mut as_path);
        } else if let Some(next_hop) = line.trim().strip_prefix("BGP.next_hop: ") {
            // For IPv6 a link-local address may follow.
            let address = next_hop.split_whitespace().next().unwrap_or_default();
            if let (Some(prefix), Ok(next_hop)) = (prefix, address.parse()) {
                routes.push(Route {
                    prefix,
                    next_hop,
                    as_path: as_path.clone(),
                });
            }
        }
    }
    routes
}
