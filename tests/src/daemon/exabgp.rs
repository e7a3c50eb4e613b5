//! ExaBGP.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Route, Speaker, write_config};
use crate::lab::{Host, Process};

/// ExaBGP: it writes down what it hears as JSON, a line an event, and reads its configuration again
/// to announce something else.
#[derive(Debug)]
pub struct ExaBgp {
    host: Host,
    speaker: Speaker,
    events: PathBuf,
    script: PathBuf,
    process: Process,
}

impl ExaBgp {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(host: &Host, speaker: Speaker) -> Result<Self> {
        let events = host.folder().join("exabgp-events.json");
        // ExaBGP takes a helper that closes its standard output for dead: the shell holds it open.
        let script = format!("cat > {}\nexit\n", events.display());
        let script = write_config(host, "exabgp-events.sh", &script)?;
        let text = configuration(&speaker, &script);
        let config = write_config(host, "exabgp.conf", &text)?;
        let mut command = host.command("exabgp");
        command
            .env("exabgp.daemon.user", "root")
            .env("exabgp.api.ack", "false")
            .env("exabgp.log.destination", "stdout")
            .arg(config);
        // It listens only if told where.
        let listen = speaker.neighbors.iter().find(|neighbor| neighbor.passive);
        if let Some(neighbor) = listen {
            command.env("exabgp.tcp.bind", neighbor.local.to_string());
        }
        let process = host.spawn("exabgp", command)?;
        Ok(Self {
            host: host.clone(),
            speaker,
            events,
            script,
            process,
        })
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// SIGUSR1 makes ExaBGP read its configuration again.
    fn reconfigure(&mut self) -> Result<()> {
        let text = configuration(&self.speaker, &self.script);
        write_config(&self.host, "exabgp.conf", &text)?;
        self.process.signal(libc::SIGUSR1)
    }
}

impl Daemon for ExaBgp {
    fn title(&self) -> String {
        format!("ExaBGP on {}", self.host)
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let mut sessions = BTreeMap::new();
        for event in self.events() {
            if event["type"] != "state" {
                continue;
            }
            let neighbor = &event["neighbor"];
            let address = neighbor["address"]["peer"].as_str();
            let state = match neighbor["state"].as_str() {
                Some("up") => "established",
                other => other.unwrap_or_default(),
            };
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                sessions.insert(address, state.to_owned());
            }
        }
        Ok(sessions)
    }

    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>> {
        let mut routes = BTreeMap::new();
        for event in self.events() {
            let peer = &event["neighbor"];
            if peer["address"]["peer"].as_str() != Some(&neighbor.to_string()) {
                continue;
            }
            if event["type"] == "state" && peer["state"] == "down" {
                routes.clear();
            }
            replay(&peer["message"]["update"], &mut routes).unwrap_or_default();
        }
        Ok(routes.into_values().collect())
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.speaker.announce.push(prefix);
        self.reconfigure()
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.speaker
            .announce
            .retain(|announced| *announced != prefix);
        self.reconfigure()
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Applies one UPDATE; `None` where the event holds none.
fn replay(update: &Value, routes: &mut BTreeMap<IpNet, Route>) -> Option<()> {
    let update = update.as_object()?;
    let families = |kind: &str| {
        update
            .get(kind)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let prefix = |nlri: &Value| {
        nlri["nlri"]
            .as_str()
            .and_then(|text| text.parse::<IpNet>().ok())
    };
    for (_, withdrawn) in families("withdraw") {
        for nlri in withdrawn.as_array().into_iter().flatten() {
            routes.remove(&prefix(nlri)?);
        }
    }
    let path = update
        .get("attribute")
        .map(|attributes| &attributes["as-path"]);
    let asns: Vec<String> = as_path(path.unwrap_or(&Value::Null));
    for (_, by_next_hop) in families("announce") {
        for (next_hop, announced) in by_next_hop.as_object().into_iter().flatten() {
            let Ok(next_hop) = next_hop.parse() else {
                continue; // End-of-RIB
            };
            for prefix in announced
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(prefix)
            {
                let route = Route {
                    prefix,
                    next_hop,
                    as_path: asns.join(" "),
                };
                routes.insert(prefix, route);
            }
        }
    }
    Some(())
}

/// A list of ASNs, or segments by place with the list inside.
fn as_path(path: &Value) -> Vec<String> {
    match path {
        Value::Array(asns) => asns.iter().map(Value::to_string).collect(),
        Value::Object(segments) => segments
            .values()
            .flat_map(|segment| as_path(&segment["value"]))
            .collect(),
        _ => Vec::new(),
    }
}

fn configuration(speaker: &Speaker, script: &Path) -> String {
    let mut text = format!(
        "process events {{\n  run /bin/sh {};\n  encoder json;\n}}\n",
        script.display()
    );
    for neighbor in &speaker.neighbors {
        let routes: String = speaker
            .announce
            .iter()
            .filter_map(|prefix| {
                let own = speaker.own(prefix.addr().is_ipv4())?;
                Some(format!("    route {prefix} next-hop {own};\n"))
            })
            .collect();
        let passive = if neighbor.passive {
            "  passive true;\n"
        } else {
            ""
        };
        let _ = write!(
            text,
            "neighbor {} {{\n  router-id {};\n  local-address {};\n  local-as {};\n  peer-as {};\n\
             {passive}  family {{ ipv4 unicast; ipv6 unicast; }}\n  api {{ processes [ events ]; \
             neighbor-changes; receive {{ parsed; update; }} }}\n  static {{\n{routes}  }}\n}}\n",
            neighbor.address, speaker.router_id, neighbor.local, speaker.asn, neighbor.asn,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::replay;

    #[test]
    fn updates_are_replayed_in_order() {
        let announce = json!({
            "attribute": { "origin": "igp", "as-path": [65515, 65010] },
            "announce": { "ipv4 unicast": { "10.1.255.4": [{ "nlri": "10.1.0.0/16" }] } }
        });
        let mut routes = BTreeMap::new();
        replay(&announce, &mut routes).unwrap();
        let text: Vec<String> = routes.values().map(ToString::to_string).collect();
        assert_eq!(text, ["10.1.0.0/16 via 10.1.255.4 path 65515 65010"]);
        let withdraw = json!({ "withdraw": { "ipv4 unicast": [{ "nlri": "10.1.0.0/16" }] } });
        replay(&withdraw, &mut routes).unwrap();
        assert!(routes.is_empty());
    }
}
