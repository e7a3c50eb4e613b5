//! FRR: zebra, staticd and bgpd.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{
    Daemon, Neighbor, Options, Policy, Route, Speaker, options::Role, words, write_config,
};
use crate::lab::{Host, Process, wait::until};

/// FRR, controlled through `vtysh`.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    speaker: Speaker,
    sockets: PathBuf,
    bgpd: Process,
    _others: Vec<Process>,
}

impl Frr {
    /// Starts its daemons and waits until bgpd answers.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(host: &Host, speaker: Speaker) -> Result<Self> {
        let mut policies = speaker.options.policies.values();
        ensure!(
            policies.all(|policy| policy.passes_on.is_none()),
            "FRR's route maps do not see who a route came from; let BIRD pass on some alone"
        );
        let sockets = PathBuf::from(format!("/run/{host}-frr"));
        if sockets.exists() {
            std::fs::remove_dir_all(&sockets)?;
        }
        std::fs::create_dir_all(&sockets)?;
        // zebra insists on its own user, who may not be able to read where the lab lies.
        host.run(&format!("chown frr:frr {}", sockets.display()))?;
        // vtysh wants to read one.
        write_config(host, "vtysh.conf", "no service integrated-vtysh-config\n")?;
        let zebra = daemon(host, &sockets, "zebra", "log stdout\n", &[])?;
        until("zebra answers", Duration::from_secs(10), || {
            ensure!(
                sockets.join("zserv.api").exists(),
                "no zserv.api in {}",
                sockets.display()
            );
            Ok(())
        })?;
        let bgpd = bgpd(host, &sockets, &speaker)?;
        let frr = Self {
            host: host.clone(),
            speaker,
            sockets,
            bgpd,
            _others: vec![zebra],
        };
        frr.answers()?;
        Ok(frr)
    }

    /// Starts bgpd again after it has ended; zebra ran on.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.bgpd = bgpd(&self.host, &self.sockets, &self.speaker)?;
        self.answers()
    }

    fn answers(&self) -> Result<()> {
        until("bgpd answers", Duration::from_secs(10), || {
            let summary = self.ask(&["show bgp summary json"])?;
            ensure!(summary.starts_with('{'), "{summary}");
            Ok(())
        })
    }

    /// Asks `vtysh`, one command after the other.
    ///
    /// # Errors
    /// bgpd does not answer, or refuses a command.
    pub fn ask(&self, commands: &[&str]) -> Result<String> {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(&self.sockets);
        vtysh.arg("--config_dir").arg(self.host.folder());
        for command in commands {
            vtysh.args(["-c", command]);
        }
        let output = vtysh.output().context("cannot run vtysh")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success() && !text.contains("% "),
            "vtysh {commands:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    fn network(&self, prefix: IpNet, no: &str) -> Result<()> {
        let router = format!("router bgp {}", self.speaker.asn);
        let family = format!("address-family {} unicast", family(prefix.addr().is_ipv4()));
        let network = format!("{no}network {prefix}");
        self.ask(&["configure terminal", &router, &family, &network])?;
        Ok(())
    }

    /// A line of `router bgp`.
    fn configure(&self, line: &str) -> Result<()> {
        let router = format!("router bgp {}", self.speaker.asn);
        self.ask(&["configure terminal", &router, line])?;
        Ok(())
    }

    /// `show bgp neighbors json` of one.
    fn details(&self, neighbor: IpAddr) -> Result<Value> {
        let answer = self.json(&format!("show bgp neighbors {neighbor} json"))?;
        Ok(answer[neighbor.to_string()].clone())
    }

    fn json(&self, question: &str) -> Result<Value> {
        let text = self.ask(&[question])?;
        serde_json::from_str(&text).with_context(|| format!("vtysh {question}: {text}"))
    }
}

impl Daemon for Frr {
    fn title(&self) -> String {
        format!("FRR on {}", self.host)
    }

    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>> {
        let summary = self.json("show bgp summary json")?;
        let mut sessions = BTreeMap::new();
        for family in summary
            .as_object()
            .into_iter()
            .flat_map(|families| families.values())
        {
            let peers = family["peers"].as_object().into_iter().flatten();
            sessions.extend(peers.filter_map(|(address, peer)| {
                let state = peer["state"].as_str()?.to_lowercase();
                Some((address.parse().ok()?, state))
            }));
        }
        Ok(sessions)
    }

    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for ipv4 in [true, false] {
            let family = family(ipv4);
            let answer = self.json(&format!("show bgp {family} unicast json detail"))?;
            let prefixes = answer["routes"].as_object().into_iter().flatten();
            routes.extend(prefixes.flat_map(|(prefix, paths)| {
                let paths = paths.as_array().or(paths["paths"].as_array());
                let from = |path: &&Value| path["peer"]["peerId"] == neighbor.to_string();
                let paths = paths.into_iter().flatten().filter(from);
                paths
                    .filter_map(|path| route(prefix, path))
                    .collect::<Vec<_>>()
            }));
        }
        routes.sort();
        Ok(routes)
    }

    fn announce(&mut self, prefix: IpNet) -> Result<()> {
        self.network(prefix, "")
    }

    fn withdraw(&mut self, prefix: IpNet) -> Result<()> {
        self.network(prefix, "no ")
    }

    fn process(&mut self) -> &mut Process {
        &mut self.bgpd
    }

    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>> {
        Ok(agreed(&self.details(neighbor)?["neighborCapabilities"]))
    }

    fn count(&self, neighbor: IpAddr) -> Result<[usize; 2]> {
        let details = self.details(neighbor)?;
        let count = |family: &str| {
            let known = &details["addressFamilyInfo"][family]["acceptedPrefixCounter"];
            known.as_u64().unwrap_or(0) as usize
        };
        Ok([count("ipv4Unicast"), count("ipv6Unicast")])
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            self.ask(&[&format!("clear bgp {family} {neighbor} in")])?;
        }
        Ok(())
    }

    fn refreshes(&self, neighbor: IpAddr) -> Result<usize> {
        let details = self.details(neighbor)?;
        let count = &details["messageStats"]["routeRefreshRecv"];
        Ok(count.as_u64().context("no routeRefreshRecv")? as usize)
    }

    fn markers(&self, neighbor: IpAddr) -> Result<Option<[usize; 2]>> {
        self.ask(&["debug bgp neighbor-events"])?;
        let (log, address) = (self.bgpd.log(), format!(" {neighbor}("));
        let count = |what: &str| {
            let what = format!("rcvd route-refresh ({what}) ");
            let lines = log.lines().filter(|line| line.contains(&address));
            lines.filter(|line| line.contains(&what)).count()
        };
        Ok(Some([count("BoRR"), count("EoRR")]))
    }

    fn shut(&mut self, neighbor: IpAddr, text: &str) -> Result<String> {
        self.configure(&format!("neighbor {neighbor} shutdown message {text}"))?;
        Ok(text.to_owned())
    }

    fn change_key(&mut self, key: &str) -> Result<()> {
        self.speaker.options.md5 = Some(key.to_owned());
        let neighbors = self.speaker.neighbors.iter();
        let mut protected = neighbors.filter(|neighbor| !neighbor.plain);
        protected.try_for_each(|neighbor| {
            self.configure(&format!("neighbor {} password {key}", neighbor.address))
        })
    }

    fn unshut(&mut self, neighbor: IpAddr) -> Result<()> {
        self.configure(&format!("no neighbor {neighbor} shutdown"))
    }

    fn last_error(&self, neighbor: IpAddr) -> Result<String> {
        let address = neighbor.to_string();
        let log = self.bgpd.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains(&address)).collect();
        Ok(format!("{}\n{}", self.details(neighbor)?, said.join("\n")))
    }
}

/// `neighborCapabilities` of `show bgp neighbors json`.
fn agreed(capabilities: &Value) -> BTreeSet<String> {
    let names = [
        ("4byteAs", words::FOUR_OCTET_ASN),
        ("routeRefresh", words::ROUTE_REFRESH),
        ("enhancedRouteRefresh", words::ENHANCED_ROUTE_REFRESH),
        ("extendedMessage", words::EXTENDED_MESSAGE),
        ("extendedNexthop", words::IPV6_NEXT_HOP),
        ("gracefulRestart", words::GRACEFUL_RESTART),
        ("gracefulRestartCapability", words::GRACEFUL_RESTART),
        ("longLivedGracefulRestart", words::LONG_LIVED),
        ("role", words::ROLE),
    ];
    let both = |key: &str| {
        let said = capabilities[key].as_str().unwrap_or_default();
        said.starts_with("advertisedAndReceived")
    };
    let named = names.into_iter().filter(|(key, _)| both(key));
    let mut agreed: BTreeSet<String> = named.map(|(_, word)| word.to_owned()).collect();
    for (key, ipv4) in [("ipv4Unicast", true), ("ipv6Unicast", false)] {
        let said = &capabilities["addPath"][key];
        // "AndReceived" means that the neighbour has announced the same way, not the opposite one.
        let is = |way: &str, whose: &str| {
            said[format!("{way}{whose}")] == true
                || said[format!("{way}AdvertisedAndReceived")] == true
        };
        if is("rx", "Advertised") && is("tx", "Received") {
            agreed.insert(words::add_path("receive", ipv4));
        }
        if is("tx", "Advertised") && is("rx", "Received") {
            agreed.insert(words::add_path("send", ipv4));
        }
    }
    agreed
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "ipv4" } else { "ipv6" }
}

fn route(prefix: &str, path: &Value) -> Option<Route> {
    let next_hops = path["nexthops"].as_array()?;
    let global = next_hops
        .iter()
        .find(|next_hop| next_hop["scope"] != "link-local")?;
    Some(Route {
        prefix: prefix.parse().ok()?,
        next_hop: global["ip"].as_str()?.parse().ok()?,
        as_path: path["aspath"]["string"].as_str()?.to_owned(),
        communities: communities(path),
        stale: path["stale"] == true,
    })
}

fn bgpd(host: &Host, sockets: &Path, speaker: &Speaker) -> Result<Process> {
    let own: Vec<String> = speaker.addresses.iter().map(IpAddr::to_string).collect();
    let mut arguments = vec!["--skip_runas", "-p", "179"];
    for address in &own {
        arguments.extend(["-l", address.as_str()]);
    }
    if !speaker.install {
        arguments.push("-n");
    }
    daemon(host, sockets, "bgpd", &configuration(speaker), &arguments)
}

fn communities(path: &Value) -> BTreeSet<String> {
    let list = |key: &str| path[key]["string"].as_str().unwrap_or_default();
    // Of many the string holds the first ones only.
    let standard = path["community"]["list"].as_array().into_iter().flatten();
    let standard = standard.filter_map(Value::as_str).map(words::standard);
    let large = list("largeCommunity").split_whitespace().map(words::large);
    let targets = list("extendedCommunity").split_whitespace();
    let targets = targets.filter_map(|word| words::route_target(word.strip_prefix("RT:")?));
    standard.chain(large).chain(targets).collect()
}

fn daemon(
    host: &Host,
    sockets: &Path,
    name: &str,
    configuration: &str,
    arguments: &[&str],
) -> Result<Process> {
    let config = write_config(host, &format!("{name}.conf"), configuration)?;
    let mut command = host.command(format!("/usr/lib/frr/{name}"));
    let readable = sockets.join(format!("{name}.conf"));
    std::fs::copy(config, &readable)?;
    command
        .arg("-f")
        .arg(readable)
        .arg("-i")
        .arg(sockets.join(format!("{name}.pid")))
        .arg("-z")
        .arg(sockets.join("zserv.api"))
        .arg("--vty_socket")
        .arg(sockets)
        .args(["-P", "0", "--log", "stdout", "--log-level", "info"])
        .args(arguments);
    host.spawn(name, command)
}

/// Route maps take effect at once: otherwise what passes one is sent after End-of-RIB.
fn configuration(speaker: &Speaker) -> String {
    let mut text = format!(
        "log stdout\nbgp route-map delay-timer 0\nrouter bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp \
         network import-check\n no bgp default ipv4-unicast\n",
        speaker.asn, speaker.router_id
    );
    if let Some(time) = speaker.options.graceful_restart {
        let _ = writeln!(
            text,
            " bgp graceful-restart\n bgp graceful-restart restart-time {time}\n bgp \
             graceful-restart preserve-fw-state\n bgp graceful-restart notification"
        );
    }
    if let Some(time) = speaker.options.long_lived {
        let _ = writeln!(text, " bgp long-lived-graceful-restart stale-time {time}");
    }
    for neighbor in &speaker.neighbors {
        let address = neighbor.address;
        let _ = writeln!(text, " neighbor {address} remote-as {}", neighbor.asn);
        let _ = writeln!(text, " neighbor {address} update-source {}", neighbor.local);
        let _ = writeln!(text, " neighbor {address} timers connect 2");
        let _ = writeln!(text, " neighbor {address} advertisement-interval 0");
        let options = options_of(speaker, neighbor);
        if options.ttl_security {
            let _ = writeln!(text, " neighbor {address} ttl-security hops 1");
        } else if neighbor.multihop {
            let _ = writeln!(text, " neighbor {address} ebgp-multihop 8");
        }
        text.push_str(&statements(address, options));
        if neighbor.passive {
            let _ = writeln!(text, " neighbor {address} passive");
        }
    }
    for ipv4 in [true, false] {
        let family = family(ipv4);
        let _ = writeln!(text, " address-family {family} unicast");
        for prefix in speaker
            .announce
            .iter()
            .filter(|prefix| prefix.addr().is_ipv4() == ipv4)
        {
            let _ = writeln!(text, "  network {prefix}");
        }
        for neighbor in &speaker.neighbors {
            let address = neighbor.address;
            let own_family = policy_of(speaker, neighbor).is_some_and(|policy| policy.own_family);
            if own_family && address.is_ipv4() != ipv4 {
                continue;
            }
            let _ = writeln!(text, "  neighbor {address} activate");
            if options_of(speaker, neighbor).add_path_send {
                let _ = writeln!(text, "  neighbor {address} addpath-tx-all-paths");
            }
            if !options_of(speaker, neighbor).add_path_receive {
                let _ = writeln!(text, "  neighbor {address} disable-addpath-rx");
            }
            text.push_str(&policy_statements(speaker, neighbor, family));
        }
        let _ = writeln!(text, " exit-address-family");
    }
    let _ = writeln!(text, "exit");
    for ipv4 in [true, false] {
        let family = family(ipv4);
        let _ = writeln!(text, "route-map SELF{family} permit 10");
        if let Some(own) = speaker.own(ipv4) {
            let set = if ipv4 {
                "ip next-hop"
            } else {
                "ipv6 next-hop global"
            };
            let _ = writeln!(text, " set {set} {own}");
        }
        let _ = writeln!(text, "exit");
        for neighbor in &speaker.neighbors {
            if let Some(policy) = policy_of(speaker, neighbor) {
                text.push_str(&route_maps(speaker, neighbor, policy, ipv4));
            }
        }
    }
    text
}

fn policy_of<'a>(speaker: &'a Speaker, neighbor: &Neighbor) -> Option<&'a Policy> {
    options_of(speaker, neighbor)
        .policies
        .get(&neighbor.address)
}

/// A neighbour's policy as lines of an address family: route maps of its own, where it has one.
fn policy_statements(speaker: &Speaker, neighbor: &Neighbor, family: &str) -> String {
    let address = neighbor.address;
    let Some(policy) = policy_of(speaker, neighbor) else {
        return format!("  neighbor {address} route-map SELF{family} out\n");
    };
    let mut text = format!(
        "  neighbor {address} route-map IN{family}-{address} in\n  neighbor {address} route-map \
         OUT{family}-{address} out\n"
    );
    if policy.as_override {
        let _ = writeln!(text, "  neighbor {address} as-override");
    }
    if policy.allow_own_as {
        let _ = writeln!(text, "  neighbor {address} allowas-in");
    }
    text
}

/// The route maps of a neighbour with a policy.
fn route_maps(speaker: &Speaker, neighbor: &Neighbor, policy: &Policy, ipv4: bool) -> String {
    let (family, address) = (family(ipv4), neighbor.address);
    let mut text = format!("route-map IN{family}-{address} permit 10\n");
    if let Some(preference) = policy.local_pref {
        let _ = writeln!(text, " set local-preference {preference}");
    }
    let _ = writeln!(text, "exit\nroute-map OUT{family}-{address} permit 10");
    text.push_str(&sets(speaker, neighbor, policy, ipv4));
    text.push_str("exit\n");
    text
}

fn sets(speaker: &Speaker, neighbor: &Neighbor, policy: &Policy, ipv4: bool) -> String {
    let mut text = String::new();
    let own = if neighbor.local.is_ipv4() == ipv4 {
        Some(neighbor.local)
    } else {
        speaker.own(ipv4)
    };
    let named = policy
        .next_hop
        .map(|[four, six]| if ipv4 { four } else { six });
    let next_hop = named.or(own);
    if let Some(next_hop) = next_hop {
        let set = if ipv4 {
            "ip next-hop"
        } else {
            "ipv6 next-hop global"
        };
        let _ = writeln!(text, " set {set} {next_hop}");
    }
    if policy.prepend > 0 {
        let asns = vec![speaker.asn.to_string(); policy.prepend.into()];
        let _ = writeln!(text, " set as-path prepend {}", asns.join(" "));
    }
    if !policy.communities.is_empty() {
        let words = policy.communities.iter();
        let words: Vec<String> = words.map(|[high, low]| format!("{high}:{low}")).collect();
        let _ = writeln!(text, " set community {} additive", words.join(" "));
    }
    text
}

fn options_of<'a>(speaker: &'a Speaker, neighbor: &Neighbor) -> &'a Options {
    const PLAIN: &Options = &Options {
        two_octet_asn: false,
        add_path_send: false,
        add_path_receive: false,
        md5: None,
        ttl_security: false,
        graceful_restart: None,
        long_lived: None,
        restarting: false,
        role: None,
        ipv6_next_hop: false,
        policies: BTreeMap::new(),
    };
    if neighbor.plain {
        PLAIN
    } else {
        &speaker.options
    }
}

/// Options as statements of a neighbour.
fn statements(address: IpAddr, options: &Options) -> String {
    let mut lines = Vec::new();
    if options.two_octet_asn {
        // It has no switch for 4-octet ASNs alone.
        lines.push("dont-capability-negotiate".to_owned());
    }
    lines.extend(options.md5.as_ref().map(|key| format!("password {key}")));
    lines.extend(options.role.map(|role| {
        let role = match role {
            Role::Customer => "customer",
            Role::Provider => "provider",
            Role::RouteServerClient => "rs-client",
        };
        format!("local-role {role}")
    }));
    if options.ipv6_next_hop {
        lines.push("capability extended-nexthop".to_owned());
    }
    let line = |line: String| format!(" neighbor {address} {line}\n");
    lines.into_iter().map(line).collect()
}
