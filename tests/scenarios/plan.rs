//! `waypost plan`, then `waypost reload`, on a live network: what the UPDATEs at the appliances say, and
//! how `bpftool`'s dumps of the kernel's maps differ, is what the plan said, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    kernel_maps::{KernelMaps, Place, Way, dump},
    lab::{Host, capture::Capture, packet::protocol},
    network::{Cable, Nva, UPLINK},
    overview::{INSTANCES, Overview, Running, firewall_peer},
    scenario, until,
    updates::{Told, told_by},
    waypost::{Config, PATIENCE},
};

/// How long nobody may say anything more after all that was planned has happened.
const SILENCE: Duration = Duration::from_secs(3);

#[test]
fn a_reload_sends_and_writes_exactly_what_the_plan_said() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 2, Cable::Straight)?;
        let running = overview.start()?;
        let second = overview.start_firewall(1)?;
        let mut config = running.waypost.config().clone();
        let mut watched = Watched { overview, running };
        watched.quiet()?;

        // A new peer: what it would announce nobody knows.
        config
            .peers()
            .push(firewall_peer(&watched.overview.firewalls[1]));
        let plan = watched.running.waypost.plan(&config)?;
        let added = sessions(&plan, "added")?;
        ensure!(
            added == BTreeSet::from(["fw2/1".into(), "fw2/2".into()]),
            "{plan}"
        );
        ensure!(plan["learned"] == Value::Array(vec![]), "{plan}");
        watched.running.waypost.reload(config.clone())?;
        watched
            .running
            .waypost
            .established(&["sdwan", "fw", "fw2"])?;
        watched.quiet()?;

        // A prefix of the network: the appliances are told, subnets deliver there.
        for (prefix, subnet) in ["10.3.0.0/16", "fd00:3::/48"]
            .into_iter()
            .zip(["10.3.1.0/24", "fd00:3:0:1::/64"])
        {
            config.network().prefixes.push(prefix.parse()?);
            config.network().subnet[1].prefixes.push(subnet.parse()?);
        }
        let step = watched.plan_and_reload("a prefix", config.clone())?;
        ensure!(
            step.sent == 6 * 2,
            "{step:?}: two prefixes to three peers, twice"
        );
        ensure!(step.written > 0, "{step:?}");

        // What one appliance is sent.
        let peers = config.peers();
        peers[0] = peers[0].clone().set("transparent", true);
        let step = watched.plan_and_reload("a peer's setting", config.clone())?;
        ensure!(step.sent > 0 && step.written == 0, "{step:?}");

        // A route by hand, for which no appliance is asked.
        let route = [
            ("prefix".to_owned(), "10.9.0.0/16".into()),
            ("next_hop".to_owned(), vec!["10.1.10.4"].into()),
        ];
        config.route_server[0].add("learned", route.into_iter().collect());
        let step = watched.plan_and_reload("a static route", config.clone())?;
        ensure!(step.sent > 0 && step.written == 1, "{step:?}");

        // Appliances are not told of each other.
        let settings = &mut config.route_server[0].settings;
        settings.insert("reflect_between_nvas".to_owned(), false.into());
        let step = watched.plan_and_reload("no reflection", config.clone())?;
        ensure!(step.sent > 0 && step.written == 0, "{step:?}");

        // One of two equal firewalls goes: half of the default route's next hops.
        config.peers().retain(|peer| peer.name != "fw2");
        let step = watched.plan_and_reload("a peer that goes", config.clone())?;
        ensure!(step.written == 2, "{step:?}: both default routes");
        ensure!(step.sent == 0, "{step:?}");
        drop(second);

        let plan = watched.running.waypost.plan(&config)?;
        ensure!(plan["changes"] == Value::Array(vec![]), "{plan}");
        Ok(())
    })
}

#[test]
fn a_session_that_is_reset_comes_back_with_its_routes_and_only_it() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = overview.start()?;
        let mut config = running.waypost.config().clone();
        let peers = config.peers();
        peers[0] = peers[0].clone().set("hold_time", 30);
        let before = dump(&overview.gw)?;
        let counts = established(&running)?;

        let plan = running.waypost.plan(&config)?;
        let reset = sessions(&plan, "reset")?;
        ensure!(
            reset == BTreeSet::from(["sdwan/1".into(), "sdwan/2".into()]),
            "{plan}"
        );
        let why = plan["sessions"][0]["why"].as_str().unwrap_or_default();
        ensure!(why.starts_with("hold_time;"), "{why}");
        for list in ["learned", "advertised", "effective"] {
            ensure!(plan[list] == Value::Array(vec![]), "{list}: {plan}");
        }
        ensure!(established(&running)? == counts && dump(&overview.gw)? == before);

        running.waypost.reload(config)?;
        until(
            "both sessions are back and nothing else has changed",
            PATIENCE,
            || {
                let now = established(&running)?;
                for (session, count) in &counts {
                    let expected = count + u64::from(reset.contains(session));
                    let found = now.get(session);
                    ensure!(
                        found == Some(&expected),
                        "{session}: {found:?}, not {expected}"
                    );
                }
                ensure!(dump(&overview.gw)? == before, "the maps differ");
                Ok(())
            },
        )?;
        Ok(())
    })
}

#[test]
fn a_plan_tells_faults_as_check_does_and_whether_anything_would_change() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 1, Cable::Straight)?;
        let running = overview.start()?;
        let mut config = running.waypost.config().clone();
        let before = dump(&overview.gw)?;
        let code = |config: &Config| -> Result<(Option<i32>, String)> {
            let file = running.waypost.planned(config)?;
            let socket = config.daemon.socket.display();
            let binary = tests::waypost::binary()?;
            let line = format!(
                "{} plan {} --exit-code --socket {socket}",
                binary.display(),
                file.display()
            );
            let output = overview.gw.output(&line)?;
            let said = [output.stdout, output.stderr].concat();
            Ok((output.status.code(), String::from_utf8(said)?))
        };
        let (same, said) = code(&config)?;
        ensure!(
            same == Some(0) && said.contains("nothing would change"),
            "{said}"
        );
        config.network().prefixes.push("10.3.0.0/16".parse()?);
        let (changed, said) = code(&config)?;
        ensure!(changed == Some(2), "{said}");
        for part in [
            "prefix 10.3.0.0/16 added",
            "advertised: 4 changes",
            "4 sessions as they are",
        ] {
            ensure!(said.contains(part), "no {part} in: {said}");
        }
        println!("{said}");
        config.peers()[0].asn = 23456;
        let (faulty, said) = code(&config)?;
        ensure!(faulty == Some(1), "{said}");
        ensure!(
            said.contains("planned.toml:") && said.contains("23456"),
            "{said}"
        );
        ensure!(dump(&overview.gw)? == before, "a plan has changed the maps");
        Ok(())
    })
}

struct Watched {
    overview: Overview,
    running: Running,
}

/// How much a plan announced, all of which happened.
#[derive(Debug)]
struct Step {
    sent: usize,
    written: usize,
}

/// An UPDATE's route to a session, `PEER/INSTANCE`, as text.
type Sent = BTreeMap<String, BTreeSet<String>>;

impl Watched {
    /// Plans, looks that nothing has happened, reloads, and looks that exactly the plan has.
    fn plan_and_reload(&mut self, what: &str, config: Config) -> Result<Step> {
        let Self { overview, running } = self;
        let before = dump(&overview.gw)?;
        let counts = established(running)?;
        let appliances: Vec<(&str, &Host)> = [("sdwan", overview.sdwan.host())]
            .into_iter()
            .chain(
                ["fw", "fw2"]
                    .into_iter()
                    .zip(overview.firewalls.iter().map(Nva::host)),
            )
            .collect();
        let mut captures = Vec::new();
        for (name, host) in appliances {
            let is_tcp = |packet: &tests::lab::Packet| packet.protocol == protocol::TCP;
            captures.push((name, Capture::of(host, &[UPLINK], is_tcp)?));
        }
        let plan = running.waypost.plan(&config)?;
        thread::sleep(SILENCE);
        ensure!(
            sent(&captures)?.is_empty(),
            "{what}: the plan has sent something"
        );
        ensure!(
            dump(&overview.gw)? == before,
            "{what}: the plan has written something"
        );

        let file = running.waypost.planned(&config)?;
        println!(
            "{}",
            running.waypost.ask(&format!("plan {}", file.display()))?
        );
        let gone = sessions(&plan, "removed")?;
        let (planned_sent, planned_maps) = (planned_updates(&plan)?, planned_maps(&before, &plan)?);
        running.waypost.reload(config)?;
        until(
            &format!("{what}: what was planned happens"),
            PATIENCE,
            || {
                let now = dump(&overview.gw)?;
                ensure!(
                    now == planned_maps,
                    "maps: {}",
                    difference(&planned_maps, &now)
                );
                let sent = sent(&captures)?;
                ensure!(
                    sent == planned_sent,
                    "sent {sent:?}, planned {planned_sent:?}"
                );
                Ok(())
            },
        )?;
        thread::sleep(SILENCE);
        ensure!(
            sent(&captures)? == planned_sent,
            "{what}: more was sent than planned"
        );
        ensure!(
            dump(&overview.gw)? == planned_maps,
            "{what}: more was written than planned"
        );
        let mut counts = counts;
        counts.retain(|session, _| !gone.contains(session));
        ensure!(
            established(running)? == counts,
            "{what}: a session was reset"
        );
        let written = plan["forwarding"]["routes"].as_array().map_or(0, Vec::len);
        let sent = planned_sent.values().map(BTreeSet::len).sum();
        println!("{what}: {sent} routes in UPDATEs and {written} in the maps, as planned");
        Ok(Step { sent, written })
    }

    /// Waits until nobody has told anything for a while.
    fn quiet(&self) -> Result<()> {
        until("the network is quiet", PATIENCE, || {
            let before = (
                self.running.waypost.rows("advertised")?,
                dump(&self.overview.gw)?,
            );
            thread::sleep(SILENCE);
            let now = (
                self.running.waypost.rows("advertised")?,
                dump(&self.overview.gw)?,
            );
            ensure!(before == now, "not yet");
            Ok(())
        })
    }
}

/// The routes of UPDATEs from the instances, as captured at the appliances.
fn sent(captures: &[(&str, Capture)]) -> Result<Sent> {
    let mut sent = Sent::new();
    for (name, capture) in captures {
        for (number, addresses) in (1..).zip(INSTANCES) {
            let from: Vec<IpAddr> = vec![addresses[0].parse()?, addresses[1].parse()?];
            let told = told_by(&capture.packets(), &from)?;
            let routes: BTreeSet<String> = told.into_values().flatten().map(text).collect();
            if !routes.is_empty() {
                sent.insert(format!("{name}/{number}"), routes);
            }
        }
    }
    Ok(sent)
}

fn text(told: Told) -> String {
    match told.route {
        Some((path, next_hop)) => format!("{} path {path} via {next_hop}", told.prefix),
        None => format!("{} withdrawn", told.prefix),
    }
}

/// The same as planned.
fn planned_updates(plan: &Value) -> Result<Sent> {
    let mut sent = Sent::new();
    for change in list(&plan["advertised"])? {
        let row = match &change["after"] {
            Value::Null => &change["before"],
            row => row,
        };
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (prefix, path, next_hop) = (word("prefix"), word("as_path"), word("next_hop"));
        let told = match &change["after"] {
            Value::Null => format!("{prefix} withdrawn"),
            _ => format!("{prefix} path {path} via {next_hop}"),
        };
        let session = format!("{}/{}", word("peer"), row["instance"]);
        sent.entry(session).or_default().insert(told);
    }
    Ok(sent)
}

/// What they are to hold once the plan has been carried out.
fn planned_maps(before: &KernelMaps, plan: &Value) -> Result<KernelMaps> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let way = |way: &Value| -> Result<Way> {
        let names = way["next_hops"].as_array().context("next hops")?;
        Ok(Way {
            next_hops: names.iter().map(word).collect(),
            precedence: word(&way["precedence"]),
            overriding: way["overriding"].as_bool().context("overriding")?,
        })
    };
    let place = |place: &Value| {
        Ok(Place {
            vnet: word(&place["vnet"]),
            own_table: word(&place["own_table"]),
            learned_table: place["learned_table"].as_str().map(str::to_owned),
        })
    };
    let mut maps = before.clone();
    for route in list(&plan["forwarding"]["routes"])? {
        let key = (word(&route["table"]), word(&route["prefix"]));
        change(&mut maps.routes, key, route, way)?;
    }
    for port in list(&plan["forwarding"]["ports"])? {
        change(&mut maps.ports, word(&port["interface"]), port, place)?;
    }
    Ok(maps)
}

/// Changes an element as planned, which is now as the plan says.
fn change<K: Ord, V: PartialEq + Debug>(
    map: &mut BTreeMap<K, V>,
    key: K,
    planned: &Value,
    read: impl Fn(&Value) -> Result<V>,
) -> Result<()> {
    let side = |name: &str| match &planned[name] {
        Value::Null => Ok(None),
        some => read(some).map(Some),
    };
    let found = map.get(&key);
    ensure!(found == side("before")?.as_ref(), "{planned}: {found:?}");
    match side("after")? {
        Some(after) => map.insert(key, after),
        None => map.remove(&key),
    };
    Ok(())
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("a list")
}

fn difference(planned: &KernelMaps, now: &KernelMaps) -> String {
    format!(
        "routes {}; ports {}",
        differing(&planned.routes, &now.routes),
        differing(&planned.ports, &now.ports)
    )
}

fn differing<K: Ord + Debug, V: PartialEq + Debug>(
    planned: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> String {
    let missing = planned
        .iter()
        .filter(|(key, way)| now.get(*key) != Some(way));
    let more = now
        .iter()
        .filter(|(key, way)| planned.get(*key) != Some(way));
    let (missing, more): (Vec<_>, Vec<_>) = (missing.collect(), more.collect());
    format!("planned and not there: {missing:?}; there and not planned: {more:?}")
}

/// The sessions of which a plan says this, as `PEER/INSTANCE`.
fn sessions(plan: &Value, change: &str) -> Result<BTreeSet<String>> {
    let sessions = list(&plan["sessions"])?
        .iter()
        .filter(|session| session["change"] == change);
    let name = |it: &Value| {
        format!(
            "{}/{}",
            it["peer"].as_str().unwrap_or_default(),
            it["instance"]
        )
    };
    Ok(sessions.map(name).collect())
}

/// How often each session has become established.
fn established(running: &Running) -> Result<BTreeMap<String, u64>> {
    let rows = running.waypost.rows("peers")?;
    let rows = rows.iter().map(|row| {
        let name = format!(
            "{}/{}",
            row["peer"].as_str().unwrap_or_default(),
            row["instance"]
        );
        (name, row["established_count"].as_u64().unwrap_or_default())
    });
    Ok(rows.collect())
}
