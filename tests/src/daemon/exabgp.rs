//! ExaBGP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use super::{Daemon, Options, Route, Speaker, feed::Announcement, words, write_config};
use crate::lab::{Host, Process};

/// ExaBGP: it writes down what it hears as JSON, a line an event, and takes commands from a file that
/// grows.
#[derive(Debug)]
pub struct ExaBgp {
    host: Host,
    speaker: Speaker,
    events: PathBuf,
    commands: PathBuf,
    process: Process,
}

impl ExaBgp {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(host: &Host, speaker: Speaker) -> Result<Self> {
        let events = host.folder().join("exabgp-events.json");
        let commands = write_config(host, "exabgp-commands", "")?;
        // Its helper: what it prints are commands, what it reads are events. ExaBGP takes one that
        // closes its standard output for dead.
        let script = format!(
            "tail -s 0.1 -n +1 -f {} &\ncat > {}\nkill $!\n",
            commands.display(),
            events.display()
        );
        let script = write_config(host, "exabgp-helper.sh", &script)?;
        let text = configuration(&speaker, &script);
        let config = write_config(host, "exabgp.conf", &text)?;
        let mut command = host.command("exabgp");
        command
            .env("exabgp.daemon.user", "root")
            .env("exabgp.api.ack", "false")
            .env("exabgp.log.destination", "stdout")
            .env("exabgp.tcp.delay", "0");
        if speaker.options.md5.is_some() {
            // A reload gives new keys to these sockets only, not to those of a neighbour's `listen` alone
            // (reload() of exabgp/reactor/loop.py).
            let own: Vec<String> = speaker.addresses.iter().map(IpAddr::to_string).collect();
            command
                .env("exabgp.tcp.bind", own.join(" "))
                .env("exabgp.tcp.port", "179");
        }
        command.arg(config);
        let process = host.spawn("exabgp", command)?;
        Ok(Self {
            host: host.clone(),
            speaker,
            events,
            commands,
            process,
        })
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Events of a neighbour and of a type.
    fn events_of(&self, neighbor: IpAddr, kind: &str) -> Vec<Value> {
        let ours = |event: &Value| {
            event["type"] == kind
                && event["neighbor"]["address"]["peer"] == neighbor.to_string().as_str()
        };
        let mut events = self.events();
        events.retain(ours);
        events
    }

    /// ROUTE-REFRESH messages of one kind that a neighbour has sent.
    fn refresh_messages(&self, neighbor: IpAddr, kind: &str) -> usize {
        // These events are no JSON: their texts have too many quotes.
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        let address = format!("\"peer\": \"{neighbor}\"");
        let messages = text.lines().filter(|line| {
            line.contains("\"type\": \"refresh\"")
                && line.contains(&address)
                && line.contains("\"direction\": \"receive\"")
                && line.contains(kind)
        });
        messages.count()
    }

    /// Gives it lines of its API.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn command(&self, lines: &str) -> Result<()> {
        let mut file = std::fs::File::options().append(true).open(&self.commands)?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// Announces (`announce`) or withdraws (`withdraw`) many prefixes at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn routes(&self, verb: &str, prefixes: &[IpNet]) -> Result<()> {
        let mut text = String::new();
        for prefix in prefixes {
            let ipv4 = prefix.addr().is_ipv4() && !self.speaker.options.ipv6_next_hop;
            let own = self.speaker.own(ipv4);
            let own = own.context("no own address of that family")?;
            let _ = writeln!(text, "{verb} route {prefix} next-hop {own}");
        }
        self.command(&text)
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
            if peer["direction"] != "send" {
                replay(&peer["message"]["update"], &mut routes).unwrap_or_default();
            }
        }
        Ok(routes.into_values().collect())
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.routes("announce", &[prefix])
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.routes("withdraw", &[prefix])
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>> {
        let opens = self.events_of(neighbor, "open");
        let last = |direction: &str| {
            let mut opens = opens.iter().rev();
            let open = opens.find(|open| open["neighbor"]["direction"] == direction);
            let open = open.with_context(|| format!("no OPEN ({direction}) among the events"))?;
            anyhow::Ok(open["neighbor"]["open"]["capabilities"].clone())
        };
        Ok(agreed(&last("send")?, &last("receive")?))
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            self.command(&format!(
                "neighbor {neighbor} announce route-refresh {family} unicast\n"
            ))?;
        }
        Ok(())
    }

    fn refreshes(&self, neighbor: IpAddr) -> Result<usize> {
        Ok(self.refresh_messages(neighbor, "query"))
    }

    fn markers(&self, neighbor: IpAddr) -> Result<Option<[usize; 2]>> {
        let count = |what| self.refresh_messages(neighbor, what);
        Ok(Some([count("begin"), count("end")]))
    }

    fn shut(&mut self, neighbor: IpAddr, _text: &str) -> Result<String> {
        self.command(&format!("neighbor {neighbor} teardown 2\n"))?;
        // It has a text of its own for each subcode.
        Ok("Administrative Shutdown".to_owned())
    }

    fn change_key(&mut self, key: &str) -> Result<()> {
        self.speaker.options.md5 = Some(key.to_owned());
        let script = self.host.folder().join("exabgp-helper.sh");
        let text = configuration(&self.speaker, &script);
        write_config(&self.host, "exabgp.conf", &text)?;
        self.process.signal(libc::SIGUSR1)
    }

    fn unshut(&mut self, _neighbor: IpAddr) -> Result<()> {
        Ok(()) // It comes back by itself.
    }

    fn last_error(&self, neighbor: IpAddr) -> Result<String> {
        let mut events = self.events_of(neighbor, "notification");
        events.extend(self.events_of(neighbor, "state"));
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        Ok(format!("{}\n{}", lines.join("\n"), self.process.log()))
    }

    fn originate_many(&mut self, verb: &str, prefixes: &[IpNet]) -> Result<bool> {
        self.routes(verb, prefixes)?;
        Ok(true)
    }

    fn originate(&mut self, announcement: &Announcement) -> Result<bool> {
        let own = self.speaker.own(announcement.prefix.addr().is_ipv4());
        let own = own.context("no own address of that family")?;
        // It writes the whole path itself, its own ASN too.
        let path = [self.speaker.asn]
            .into_iter()
            .chain(announcement.as_path.iter().copied());
        let path: Vec<String> = path.map(|asn| asn.to_string()).collect();
        let mut line = format!(
            "announce route {} next-hop {own} as-path [ {} ]",
            announcement.prefix,
            path.join(" ")
        );
        let lists = [
            (
                "community",
                announcement
                    .communities
                    .iter()
                    .map(|c| words::standard_of(*c))
                    .collect::<Vec<_>>(),
            ),
            (
                "large-community",
                announcement
                    .large
                    .iter()
                    .map(|[a, b, c]| format!("{a}:{b}:{c}"))
                    .collect(),
            ),
            (
                "extended-community",
                announcement
                    .extended
                    .iter()
                    .map(|c| format!("0x{c:016x}"))
                    .collect(),
            ),
        ];
        for (name, values) in lists {
            if !values.is_empty() {
                let _ = write!(line, " {name} [ {} ]", values.join(" "));
            }
        }
        if let Some(number) = announcement.path_id {
            let _ = write!(line, " path-information 0.0.0.{number}");
        }
        line.push('\n');
        self.command(&line)?;
        Ok(true)
    }
}

/// What the OPEN that was sent and the one that was received have in common.
fn agreed(sent: &Value, received: &Value) -> BTreeSet<String> {
    let names = [
        ("asn4", words::FOUR_OCTET_ASN),
        ("route-refresh", words::ROUTE_REFRESH),
        ("enhanced-route-refresh", words::ENHANCED_ROUTE_REFRESH),
        ("extended-message", words::EXTENDED_MESSAGE),
        ("nexthop", words::IPV6_NEXT_HOP),
        ("graceful restart", words::GRACEFUL_RESTART),
    ];
    // Keys are names or numbers.
    let find = |open: &Value, name: &str| -> Option<Value> {
        let mut all = open.as_object()?.values();
        all.find(|capability| capability["name"] == name).cloned()
    };
    let both = |name: &str| find(sent, name).is_some() && find(received, name).is_some();
    let named = names.into_iter().filter(|(code, _)| both(code));
    let mut agreed: BTreeSet<String> = named.map(|(_, word)| word.to_owned()).collect();
    for (family, ipv4) in [("ipv4/unicast", true), ("ipv6/unicast", false)] {
        let mode = |open: &Value| {
            let paths = find(open, "addpath").unwrap_or_default();
            paths[family].as_str().unwrap_or_default().to_owned()
        };
        let (ours, theirs) = (mode(sent), mode(received));
        for (way, opposite) in [("receive", "send"), ("send", "receive")] {
            if ours.contains(way) && theirs.contains(opposite) {
                agreed.insert(words::add_path(way, ipv4));
            }
        }
    }
    agreed
}

/// By prefix and path identifier.
type Routes = BTreeMap<(IpNet, String), Route>;

/// Applies one UPDATE; `None` where the event holds none.
fn replay(update: &Value, routes: &mut Routes) -> Option<()> {
    let update = update.as_object()?;
    let families = |kind: &str| {
        update
            .get(kind)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let key = |nlri: &Value| {
        let prefix: IpNet = nlri["nlri"].as_str()?.parse().ok()?;
        Some((prefix, nlri["path-information"].to_string()))
    };
    for (_, withdrawn) in families("withdraw") {
        for nlri in withdrawn.as_array().into_iter().flatten() {
            routes.remove(&key(nlri)?);
        }
    }
    let nothing = Value::Null;
    let attributes = update.get("attribute").unwrap_or(&nothing);
    let asns: Vec<String> = as_path(&attributes["as-path"]);
    for (_, by_next_hop) in families("announce") {
        for (next_hop, announced) in by_next_hop.as_object().into_iter().flatten() {
            let Ok(next_hop) = next_hop.parse() else {
                continue; // End-of-RIB
            };
            for key in announced.as_array().into_iter().flatten().filter_map(key) {
                let route = Route {
                    prefix: key.0,
                    next_hop,
                    as_path: asns.join(" "),
                    communities: communities(attributes),
                    stale: false,
                };
                routes.insert(key, route);
            }
        }
    }
    Some(())
}

fn communities(attributes: &Value) -> BTreeSet<String> {
    let list = |key: &str| attributes[key].as_array().cloned().unwrap_or_default();
    // A community is a list of its parts.
    let joined = |parts: &Value| {
        let parts = parts.as_array().into_iter().flatten();
        parts.map(Value::to_string).collect::<Vec<_>>().join(":")
    };
    let standard = list("community");
    let standard = standard.iter().map(|parts| words::standard(&joined(parts)));
    let large = list("large-community");
    let large = large.iter().map(|parts| words::large(&joined(parts)));
    let extended = list("extended-community");
    let extended = extended
        .iter()
        .filter_map(|community| community["value"].as_u64());
    let extended = extended.map(words::extended);
    standard.chain(large).chain(extended).collect()
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
        let plain = Options::default();
        let options = if neighbor.plain {
            &plain
        } else {
            &speaker.options
        };
        // It listens only if told where.
        let passive = if neighbor.passive {
            "  passive true;\n  listen 179;\n"
        } else {
            ""
        };
        let _ = write!(
            text,
            "neighbor {} {{\n  router-id {};\n  local-address {};\n  local-as {};\n  peer-as {};\n\
             {passive}{}  family {{ ipv4 unicast; ipv6 unicast; }}\n  api {{ processes [ events ]; \
             neighbor-changes; receive {{ parsed; open; update; refresh; notification; }} send {{ \
             parsed; open; }} }}\n  static {{\n{routes}  }}\n}}\n",
            neighbor.address,
            speaker.router_id,
            neighbor.local,
            speaker.asn,
            neighbor.asn,
            statements(options),
        );
    }
    text
}

/// Options as statements of a neighbour.
fn statements(options: &Options) -> String {
    let mut text = String::new();
    if let Some(key) = &options.md5 {
        let _ = writeln!(text, "  md5-password \"{key}\";");
    }
    if options.ttl_security {
        text.push_str("  outgoing-ttl 255;\n  incoming-ttl 255;\n");
    }
    let add_path = match (options.add_path_receive, options.add_path_send) {
        (true, true) => "send/receive",
        (true, false) => "receive",
        (false, true) => "send",
        (false, false) => "disable",
    };
    let next_hop = if options.ipv6_next_hop {
        "  nexthop { ipv4 unicast ipv6; }\n"
    } else {
        ""
    };
    let asn4 = if options.two_octet_asn {
        "disable"
    } else {
        "enable"
    };
    let _ = writeln!(
        text,
        "{next_hop}  capability {{ asn4 {asn4}; route-refresh enable; extended-message enable; add-path \
         {add_path}; graceful-restart {}; nexthop {}; }}",
        options
            .graceful_restart
            .map_or("disable".to_owned(), |time| time.to_string()),
        if options.ipv6_next_hop {
            "enable"
        } else {
            "disable"
        },
    );
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
