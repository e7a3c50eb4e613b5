//! BIRD 2.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use super::{
    Daemon, Neighbor, Options, Policy, Route, Speaker, options::Role, words, write_config,
};
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
            .arg(question)
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

    /// Gives one session another policy; the session goes on.
    ///
    /// # Errors
    /// BIRD refuses.
    pub fn set_policy(&mut self, neighbor: IpAddr, policy: Policy) -> Result<()> {
        self.speaker.options.policies.insert(neighbor, policy);
        self.reconfigure()
    }

    /// What BIRD calls `BGP.NAME` of the route that a neighbour has sent for a prefix, by name:
    /// `local_pref`, `originator_id`, `cluster_list` and the rest.
    ///
    /// # Errors
    /// There is no such route.
    pub fn attributes(&self, neighbor: IpAddr, prefix: IpNet) -> Result<BTreeMap<String, String>> {
        let table = if prefix.addr().is_ipv4() { 4 } else { 6 };
        let text = self.ask(&format!(
            "show route {prefix} table master{table} protocol {} all",
            word_of(neighbor)
        ))?;
        let pairs = text.lines().filter_map(|line| {
            let (name, value) = line.trim().strip_prefix("BGP.")?.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        });
        let attributes: BTreeMap<String, String> = pairs.collect();
        ensure!(!attributes.is_empty(), "no {prefix} of {neighbor}: {text}");
        Ok(attributes)
    }

    /// `show protocols all` of a neighbour.
    fn details(&self, neighbor: IpAddr) -> Result<String> {
        self.ask(&format!("show protocols all {}", word_of(neighbor)))
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

    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>> {
        Ok(agreed(&self.details(neighbor)?))
    }

    fn count(&self, neighbor: IpAddr) -> Result<[usize; 2]> {
        let count = |table: &str| -> Result<usize> {
            let protocol = word_of(neighbor);
            let text = self.ask(&format!(
                "show route protocol {protocol} table {table} count"
            ))?;
            let line = text.lines().find(|line| line.contains(" routes for "));
            let first = line.and_then(|line| line.split_whitespace().next());
            let first = first.with_context(|| format!("no count in: {text}"))?;
            Ok(first.parse()?)
        };
        Ok([count("master4")?, count("master6")?])
    }

    /// `show route` cuts long lists off; a filter sees them whole.
    fn has_communities(
        &self,
        neighbor: IpAddr,
        prefix: IpNet,
        communities: &BTreeSet<String>,
    ) -> Result<bool> {
        let table = if prefix.addr().is_ipv4() {
            "master4"
        } else {
            "master6"
        };
        let protocol = word_of(neighbor);
        let words: Vec<&String> = communities.iter().collect();
        // A line may have 1,000 characters or so.
        for some in words.chunks(20) {
            let each: String = some
                .iter()
                .map(|word| format!(" && ({}) ~ bgp_community", word.replace(':', ",")))
                .collect();
            let text = self.ask(&format!(
                "show route for {prefix} table {table} protocol {protocol} where \
                 bgp_community.len = {}{each}",
                words.len()
            ))?;
            if !text.contains(&prefix.to_string()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn refresh(&mut self, neighbor: IpAddr) -> Result<()> {
        let answer = self.ask(&format!("reload in {}", word_of(neighbor)))?;
        ensure!(answer.contains("reloading"), "birdc reload in: {answer}");
        Ok(())
    }

    fn refreshes(&self, neighbor: IpAddr) -> Result<usize> {
        // Logged from now on, and not always: BIRD leaves out lines when there are many.
        self.ask(&format!(
            "debug {} {{ states, packets }}",
            word_of(neighbor)
        ))?;
        let line = format!("{}: Got ROUTE-REFRESH", word_of(neighbor));
        Ok(self.process.log().matches(&line).count())
    }

    fn markers(&self, neighbor: IpAddr) -> Result<Option<[usize; 2]>> {
        let protocol = word_of(neighbor);
        self.ask(&format!("debug {protocol} {{ states, packets }}"))?;
        let log = self.process.log();
        let count = |what| {
            log.matches(&format!("{protocol}: Got {what}-OF-RR"))
                .count()
        };
        Ok(Some([count("BEGIN"), count("END")]))
    }

    fn shut(&mut self, neighbor: IpAddr, text: &str) -> Result<String> {
        let answer = self.ask(&format!("disable {} \"{text}\"", word_of(neighbor)))?;
        ensure!(answer.contains("disabled"), "birdc disable: {answer}");
        Ok(text.to_owned())
    }

    fn change_key(&mut self, key: &str) -> Result<()> {
        self.speaker.options.md5 = Some(key.to_owned());
        self.reconfigure()
    }

    fn unshut(&mut self, neighbor: IpAddr) -> Result<()> {
        let answer = self.ask(&format!("enable {}", word_of(neighbor)))?;
        ensure!(answer.contains("enabled"), "birdc enable: {answer}");
        Ok(())
    }

    fn last_error(&self, neighbor: IpAddr) -> Result<String> {
        let name = format!("{}:", word_of(neighbor));
        let log = self.process.log();
        let said = log.lines().filter(|line| line.contains(&name));
        let said: Vec<&str> = said.filter(|line| !line.contains("<TRACE>")).collect();
        Ok(format!("{}\n{}", self.details(neighbor)?, said.join("\n")))
    }
}

/// A protocol's name must be a word.
fn protocol(neighbor: &Neighbor) -> String {
    word_of(neighbor.address)
}

fn word_of(neighbor: IpAddr) -> String {
    let word = neighbor.to_string().replace(['.', ':'], "_");
    format!("peer_{word}")
}

/// What stands under both "Local capabilities" and "Neighbor capabilities".
fn agreed(text: &str) -> BTreeSet<String> {
    let section = |title: &str| -> Vec<&str> {
        let lines = text.lines().skip_while(|line| line.trim() != title).skip(1);
        let indented = lines.take_while(|line| line.starts_with("      "));
        indented.map(str::trim).collect()
    };
    let (ours, theirs) = (
        section("Local capabilities"),
        section("Neighbor capabilities"),
    );
    let both = |line: &str| {
        let has = |lines: &[&str]| lines.iter().any(|one| one.starts_with(line));
        has(&ours) && has(&theirs)
    };
    let names = [
        ("4-octet AS numbers", words::FOUR_OCTET_ASN),
        ("Route refresh", words::ROUTE_REFRESH),
        ("Enhanced refresh", words::ENHANCED_ROUTE_REFRESH),
        ("Extended message", words::EXTENDED_MESSAGE),
        ("Extended next hop", words::IPV6_NEXT_HOP),
        ("Graceful restart", words::GRACEFUL_RESTART),
        ("Long-lived graceful restart", words::LONG_LIVED),
        ("Role", words::ROLE),
    ];
    let named = names.into_iter().filter(|(line, _)| both(line));
    let mut agreed: BTreeSet<String> = named.map(|(_, word)| word.to_owned()).collect();
    let families = |lines: &[&str], way: &str| -> Vec<String> {
        let line = lines.iter().find_map(|line| line.strip_prefix(way));
        let families = line.unwrap_or_default().split_whitespace();
        families.map(str::to_owned).collect()
    };
    for (way, ours_says, theirs_says) in [("receive", "RX:", "TX:"), ("send", "TX:", "RX:")] {
        let offered = families(&theirs, theirs_says);
        for family in families(&ours, ours_says) {
            if offered.contains(&family) {
                agreed.insert(words::add_path(way, family == "ipv4"));
            }
        }
    }
    agreed
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
    let plain = Options::default();
    let options = if neighbor.plain {
        &plain
    } else {
        &speaker.options
    };
    let policy = options.policies.get(&neighbor.address);
    let families: &[u8] = match policy {
        Some(policy) if policy.own_family && neighbor.address.is_ipv4() => &[4],
        Some(policy) if policy.own_family => &[6],
        _ => &[4, 6],
    };
    let channel = |family: u8| {
        let named = policy.and_then(|policy| policy.next_hop);
        let own = if let Some(next_hop) = named {
            Some(next_hop[usize::from(family == 6)])
        } else if neighbor.local.is_ipv4() == (family == 4) || options.ipv6_next_hop {
            Some(neighbor.local)
        } else {
            speaker.own(family == 4)
        };
        let mut more = String::new();
        if neighbor.multihop {
            // A gateway of the other family resolves IPv4 routes over IPv6 next hops.
            let table = if options.ipv6_next_hop { 6 } else { family };
            let _ = write!(more, "igp table underlay{table}; ");
        }
        match (options.add_path_receive, options.add_path_send) {
            (true, true) => more.push_str("add paths on; "),
            (true, false) => more.push_str("add paths rx; "),
            (false, true) => more.push_str("add paths tx; "),
            (false, false) => {}
        }
        if options.ipv6_next_hop {
            more.push_str("extended next hop on; ");
        }
        if let Some(policy) = policy {
            let filters = filters(speaker, neighbor, policy, own);
            return format!("  ipv{family} {{ {filters} {more}}};\n");
        }
        let next_hop = own.map_or(String::new(), |own| format!("next hop address {own}; "));
        format!(
            "  ipv{family} {{ import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; \
             {more}next hop self; {next_hop}}};\n"
        )
    };
    format!(
        "protocol bgp {} {{\n  local {} as {};\n  neighbor {} as {};\n  {};\n  passive {};\n  \
         connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;\n  debug {{ \
         states }};\n  enable extended messages on;\n{}{}}}\n",
        protocol(neighbor),
        neighbor.local,
        speaker.asn,
        neighbor.address,
        neighbor.asn,
        match (neighbor.multihop, options.ttl_security) {
            (false, _) => "direct",
            (true, false) => "multihop",
            (true, true) => "multihop 1",
        },
        if neighbor.passive { "on" } else { "off" },
        statements(neighbor, options),
        families
            .iter()
            .map(|family| channel(*family))
            .collect::<String>(),
    )
}

/// What a channel imports and exports by a policy. The filter sets the next hop: a change of the
/// channel's own options would not reach routes that have been sent.
fn filters(speaker: &Speaker, neighbor: &Neighbor, policy: &Policy, own: Option<IpAddr>) -> String {
    let import = match policy.local_pref {
        Some(preference) => {
            format!("import filter {{ bgp_local_pref = {preference}; accept; }};")
        }
        None => "import all;".to_owned(),
    };
    let mut export = String::from("if source !~ [ RTS_BGP, RTS_STATIC ] then reject; ");
    if let Some(from) = &policy.passes_on {
        let names = from
            .iter()
            .map(|from| format!("proto = \"{}\"", word_of(*from)));
        let names: Vec<String> = names.collect();
        let any = match names.as_slice() {
            [] => "false".to_owned(),
            names => names.join(" || "),
        };
        let _ = write!(export, "if source = RTS_BGP && !({any}) then reject; ");
    }
    if policy.as_override {
        let _ = write!(export, "bgp_path.delete({}); ", neighbor.asn);
    }
    for _ in 0..policy.prepend {
        let _ = write!(export, "bgp_path.prepend({}); ", speaker.asn);
    }
    for [high, low] in &policy.communities {
        let _ = write!(export, "bgp_community.add(({high},{low})); ");
    }
    if let Some(own) = own {
        let _ = write!(export, "bgp_next_hop = {own}; ");
    }
    format!("{import} export filter {{ {export}accept; }}; ")
}

/// Options as statements of a BGP protocol.
fn statements(neighbor: &Neighbor, options: &Options) -> String {
    let mut text = String::new();
    if options.two_octet_asn {
        text.push_str("  enable as4 off;\n");
    }
    let policy = options.policies.get(&neighbor.address);
    if policy.is_some_and(|policy| policy.allow_own_as) {
        text.push_str("  allow local as;\n");
    }
    if let Some(key) = &options.md5 {
        let _ = writeln!(text, "  password \"{key}\";");
    }
    if options.ttl_security {
        text.push_str("  ttl security on;\n");
    }
    match options.graceful_restart {
        Some(time) => {
            let _ = writeln!(
                text,
                "  graceful restart on;\n  graceful restart time {time};"
            );
        }
        // In recovery BIRD waits for every neighbour that is not off, also for one that is not there.
        None if neighbor.plain => text.push_str("  graceful restart off;\n"),
        None => text.push_str("  graceful restart aware;\n"),
    }
    if let Some(time) = options.long_lived {
        let _ = writeln!(
            text,
            "  long lived graceful restart on;\n  long lived stale time {time};"
        );
    }
    if let Some(role) = options.role {
        let role = match role {
            Role::Customer => "customer",
            Role::Provider => "provider",
            Role::RouteServerClient => "rs_client",
        };
        let _ = writeln!(text, "  local role {role};");
    }
    text
}

/// `show route … all`: a line with the prefix, then attributes, indented. Of further paths the line
/// has no prefix.
fn parse(text: &str) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut prefix = None;
    let mut path = None;
    for line in text.lines() {
        let indented = line.starts_with('\t');
        let line = line.trim();
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Ok(found) = first.parse::<IpNet>() {
            prefix = Some(found);
        }
        if !indented {
            routes.extend(path.take());
            path = prefix
                .filter(|_| line.contains('['))
                .map(|prefix| blank(prefix, line));
            continue;
        }
        if let (Some(route), Some((name, value))) = (&mut path, line.split_once(": ")) {
            attribute(route, name, value);
        }
    }
    routes.extend(path);
    routes
}

fn blank(prefix: IpNet, line: &str) -> Route {
    Route {
        prefix,
        next_hop: Ipv4Addr::UNSPECIFIED.into(),
        as_path: String::new(),
        communities: BTreeSet::new(),
        // The letter after the preference.
        stale: line.contains("s)"),
    }
}

fn attribute(route: &mut Route, name: &str, value: &str) {
    // `(65010,1) (65010,2)`, `(rt, 65010, 100)`.
    let lists = || {
        value
            .split(['(', ')'])
            .filter(|part| !part.trim().is_empty())
    };
    match name {
        "BGP.as_path" => value.clone_into(&mut route.as_path),
        "BGP.next_hop" => {
            // For IPv6 a link-local address may follow.
            let address = value.split_whitespace().next().unwrap_or_default();
            if let Ok(address) = address.parse() {
                route.next_hop = address;
            }
        }
        "BGP.community" => {
            let words = lists().map(|pair| words::standard(&pair.replace(',', ":")));
            route.communities.extend(words);
        }
        "BGP.large_community" => route.communities.extend(lists().map(words::large)),
        "BGP.ext_community" => {
            let targets = lists().filter_map(|part| part.trim().strip_prefix("rt, "));
            let words = targets.filter_map(|text| words::route_target(&text.replace(", ", ":")));
            route.communities.extend(words);
        }
        _ => {}
    }
}
