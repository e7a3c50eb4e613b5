//! Whether what `waypost plan` says is what `waypost reload` does.
//!
//! In: a live network, a configuration. Out: how much the plan announced, all of which has happened
//! and nothing else: UPDATEs are read from captures at the speakers, the kernel's maps by `bpftool`,
//! rows by `waypost show`, before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    kernel_maps::{KernelMaps, Place, Shares, Way, dump},
    lab::{Host, Packet, capture::Capture, packet::protocol, wait::until},
    network::UPLINK,
    updates::{Told, told_by},
    waypost::{Config, PATIENCE, Waypost},
};

/// How long nobody may say anything more after all that was planned has happened.
const SILENCE: Duration = Duration::from_secs(3);

/// How far the number of a next hop's buckets may be from its weight's share: an eighth of all.
const UNEVEN: usize = 8;

/// A network of which plans are asked, and carried out.
#[derive(Debug)]
pub struct Watched {
    /// The gateway host.
    pub gw: Host,
    /// Who is told something, by the name of the peer.
    pub speakers: Vec<(String, Host)>,
    /// Addresses of the instances of the one route server.
    pub instances: [[IpAddr; 2]; 2],
    /// The daemon.
    pub waypost: Waypost,
}

/// How much a plan announced, all of which happened.
#[derive(Debug)]
pub struct Step {
    /// Routes in UPDATEs.
    pub sent: usize,
    /// Routes in the kernel's maps.
    pub written: usize,
    /// Paths of peers.
    pub learned: usize,
    /// Candidates of subnets.
    pub effective: usize,
}

/// What each session, `PEER/INSTANCE`, is told, as text, in the order of the alphabet; what is told
/// twice is there twice.
type Sent = BTreeMap<String, Vec<String>>;

impl Watched {
    /// Plans, looks that nothing has happened, reloads, and looks that exactly the plan has.
    ///
    /// # Errors
    /// Something else has, or less.
    pub fn plan_and_reload(&mut self, what: &str, config: Config) -> Result<Step> {
        let before = dump(&self.gw)?;
        let counts = established(&self.waypost)?;
        let captures = self.captures()?;
        let plan = self.waypost.plan(&config)?;
        thread::sleep(SILENCE);
        let shape = Shape::of(&plan)?;
        ensure!(
            self.sent(&captures, shape)?.is_empty(),
            "{what}: the plan has sent something"
        );
        ensure!(
            dump(&self.gw)? == before,
            "{what}: the plan has written something"
        );

        let file = self.waypost.planned(&config)?;
        println!("{}", self.waypost.ask(&format!("plan {}", file.display()))?);
        let gone = sessions(&plan, "removed")?;
        let (planned_sent, planned_maps) = (
            planned_updates(&plan, shape)?,
            planned_maps(&before, &plan)?,
        );
        let lists = ["learned", "effective"];
        let mut planned_rows = Vec::new();
        for list in lists {
            let rows = planned_list(self.rows(list)?, &plan[list], &self.echoes()?);
            planned_rows.push(rows.context(list)?);
        }
        self.waypost.reload(config)?;
        let all_is_so = || -> Result<()> {
            let now = dump(&self.gw)?;
            let bare = bare(&now);
            ensure!(
                bare == planned_maps,
                "maps: {}",
                difference(&planned_maps, &bare)
            );
            shares_fit(&before, &now, &plan)?;
            let sent = self.sent(&captures, shape)?;
            ensure!(
                sent == planned_sent,
                "sent {sent:?}, planned {planned_sent:?}"
            );
            for (list, planned) in lists.into_iter().zip(&planned_rows) {
                let rows = self.rows(list)?;
                let missing: Vec<_> = planned.iter().filter(|row| !rows.contains(row)).collect();
                let more: Vec<_> = rows.iter().filter(|row| !planned.contains(row)).collect();
                ensure!(
                    rows == *planned,
                    "{list}: planned and not there: {missing:?}; there and not planned: {more:?}"
                );
            }
            Ok(())
        };
        let expected = format!("{what}: what was planned happens");
        until(&expected, PATIENCE, all_is_so)?;
        thread::sleep(SILENCE);
        all_is_so().with_context(|| format!("{what}: more has happened than planned"))?;
        let mut counts = counts;
        counts.retain(|session, _| !gone.contains(session));
        ensure!(
            established(&self.waypost)? == counts,
            "{what}: a session was reset"
        );
        let length = |list: &Value| list.as_array().map_or(0, Vec::len);
        let step = Step {
            sent: planned_sent.values().map(Vec::len).sum(),
            written: length(&plan["forwarding"]["routes"]),
            learned: length(&plan["learned"]),
            effective: length(&plan["effective"]),
        };
        println!("{what}: {step:?}, as planned");
        Ok(step)
    }

    /// Waits until nobody has told anything for a while.
    ///
    /// # Errors
    /// Somebody always does.
    pub fn quiet(&self) -> Result<()> {
        until("the network is quiet", PATIENCE, || {
            let look = || -> Result<_> { Ok((self.waypost.rows("advertised")?, dump(&self.gw)?)) };
            let before = look()?;
            thread::sleep(SILENCE);
            ensure!(look()? == before, "not yet");
            Ok(())
        })
    }

    /// Captures of BGP at all speakers, from now on.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn captures(&self) -> Result<Vec<(String, Capture)>> {
        let is_tcp = |packet: &Packet| packet.protocol == protocol::TCP;
        let captures = self.speakers.iter().map(|(name, host)| {
            let capture = Capture::of(host, &[UPLINK], is_tcp)?;
            Ok((name.clone(), capture))
        });
        captures.collect()
    }

    /// What each session was told since.
    ///
    /// # Errors
    /// A capture has a gap.
    pub fn told(&self, captures: &[(String, Capture)]) -> Result<BTreeMap<String, Vec<Told>>> {
        let mut all = BTreeMap::new();
        for (name, capture) in captures {
            for (number, addresses) in (1..).zip(self.instances) {
                let told = told_by(&capture.packets(), &addresses)?;
                let told: Vec<Told> = told.into_values().flatten().collect();
                if !told.is_empty() {
                    all.insert(format!("{name}/{number}"), told);
                }
            }
        }
        Ok(all)
    }

    fn sent(&self, captures: &[(String, Capture)], shape: Shape) -> Result<Sent> {
        let told = self.told(captures)?.into_iter();
        Ok(told
            .map(|(session, told)| {
                let mut texts: Vec<String> = told.iter().map(|told| shape.text(told)).collect();
                texts.sort();
                (session, texts)
            })
            .collect())
    }

    fn echoes(&self) -> Result<Echoes> {
        let rows = self.waypost.rows("advertised")?;
        let echo = |row: &Value| ["peer", "prefix", "as_path"].map(|key| word(&row[key]));
        Ok(rows.iter().map(echo).collect())
    }

    /// The rows of a list but for their reasons and for echoes, sorted.
    fn rows(&self, list: &str) -> Result<Vec<String>> {
        let echoes = self.echoes()?;
        let rows = self.waypost.rows(list)?;
        let rows = rows.iter().filter_map(|row| plannable(row, &echoes));
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        Ok(rows)
    }
}

/// Paths that peers are sent, by peer and prefix.
type Echoes = BTreeSet<[String; 3]>;

/// Which of the attributes a plan's rows tell; the others are not compared.
#[derive(Clone, Copy, Debug)]
struct Shape {
    origin: bool,
    local_pref: bool,
}

impl Shape {
    fn of(plan: &Value) -> Result<Self> {
        let rows = list(&plan["advertised"])?;
        let tells = |key: &str| {
            let mut sides = rows.iter().flat_map(|row| [&row["before"], &row["after"]]);
            sides.any(|row| row.get(key).is_some())
        };
        Ok(Self {
            origin: tells("origin"),
            local_pref: tells("local_pref"),
        })
    }

    /// A route as captured.
    fn text(self, told: &Told) -> String {
        let Some(route) = &told.route else {
            return format!("{} withdrawn", told.prefix);
        };
        let mut text = format!(
            "{} path {} via {} med {:?} communities {:?}",
            told.prefix, route.as_path, route.next_hop, route.med, route.communities
        );
        if self.origin {
            text += &format!(" {}", route.origin);
        }
        if self.local_pref {
            text += &format!(" local_pref {:?}", route.local_pref);
        }
        text
    }

    /// The same as planned.
    fn planned(self, row: &Value) -> String {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let communities = row["communities"].as_array().into_iter().flatten();
        let communities: BTreeSet<&str> = communities.filter_map(Value::as_str).collect();
        let mut text = format!(
            "{} path {} via {} med {:?} communities {communities:?}",
            word("prefix"),
            word("as_path"),
            word("next_hop"),
            row["med"].as_u64(),
        );
        if self.origin {
            text += &format!(" {}", word("origin"));
        }
        if self.local_pref {
            text += &format!(" local_pref {:?}", row["local_pref"].as_u64());
        }
        text
    }
}

/// What sessions are to be told.
fn planned_updates(plan: &Value, shape: Shape) -> Result<Sent> {
    let mut sent = Sent::new();
    for change in list(&plan["advertised"])? {
        let (row, text) = match &change["after"] {
            Value::Null => {
                let row = &change["before"];
                let prefix = row["prefix"].as_str().unwrap_or_default();
                (row, format!("{prefix} withdrawn"))
            }
            row => (row, shape.planned(row)),
        };
        sent.entry(session(row)).or_default().push(text);
    }
    sent.values_mut().for_each(|texts| texts.sort());
    Ok(sent)
}

/// What rows are to be there once the plan has been carried out.
fn planned_list(before: Vec<String>, plan: &Value, echoes: &Echoes) -> Result<Vec<String>> {
    let mut rows = before;
    let side = |change: &Value, side: &str| {
        let row = &change[side];
        (!row.is_null()).then(|| plannable(row, echoes)).flatten()
    };
    for change in list(plan)? {
        if let Some(gone) = side(change, "before") {
            let place = rows.iter().position(|row| *row == gone);
            rows.remove(place.with_context(|| format!("{gone} is not there"))?);
        }
    }
    rows.extend(
        list(plan)?
            .iter()
            .filter_map(|change| side(change, "after")),
    );
    rows.sort();
    Ok(rows)
}

/// A row but for its reason. What a peer says back of what it is told nobody can plan.
fn plannable(row: &Value, echoes: &Echoes) -> Option<String> {
    let path = row["as_path"].as_str().unwrap_or_default();
    let asns: Vec<&str> = path.split(' ').collect();
    // A peer may prepend its own ASN more than once.
    let own = asns.iter().take_while(|asn| **asn == asns[0]).count();
    let echo = [
        word(&row["peer"]),
        word(&row["prefix"]),
        asns[own..].join(" "),
    ];
    if echoes.contains(&echo) {
        return None;
    }
    let mut row = row.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.remove("reason");
    }
    Some(row.to_string())
}

/// What the maps are to hold once the plan has been carried out, but for the numbers of buckets.
fn planned_maps(before: &KernelMaps, plan: &Value) -> Result<KernelMaps> {
    let way = |way: &Value| -> Result<Way> {
        Ok(Way {
            next_hops: weights(way)?.into_keys().map(|name| (name, 0)).collect(),
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
    let mut maps = bare(before);
    for route in list(&plan["forwarding"]["routes"])? {
        change(&mut maps.routes, key(route), route, way)?;
    }
    for port in list(&plan["forwarding"]["ports"])? {
        change(&mut maps.ports, word(&port["interface"]), port, place)?;
    }
    Ok(maps)
}

/// A route's table and prefix.
fn key(route: &Value) -> (String, String) {
    (word(&route["table"]), word(&route["prefix"]))
}

/// The maps without the numbers of buckets.
fn bare(maps: &KernelMaps) -> KernelMaps {
    let mut maps = maps.clone();
    for way in maps.routes.values_mut() {
        way.next_hops.values_mut().for_each(|buckets| *buckets = 0);
    }
    maps
}

/// The next hops of a planned way, and the weight of each.
fn weights(way: &Value) -> Result<Shares> {
    let names = way["next_hops"].as_array().context("next hops")?;
    names
        .iter()
        .map(|name| {
            let name = word(name);
            Ok(match name.split_once(" weight ") {
                Some((name, weight)) => (name.to_owned(), weight.parse()?),
                None => (name, 1),
            })
        })
        .collect()
}

/// Each next hop of a route that was planned has its share of the buckets; the others have what they
/// had.
fn shares_fit(before: &KernelMaps, now: &KernelMaps, plan: &Value) -> Result<()> {
    let mut planned = BTreeSet::new();
    for route in list(&plan["forwarding"]["routes"])? {
        planned.insert(key(route));
        let (Some(way), false) = (now.routes.get(&key(route)), route["after"].is_null()) else {
            continue;
        };
        let weights = weights(&route["after"])?;
        let (all, sum): (usize, usize) = (way.next_hops.values().sum(), weights.values().sum());
        for (name, weight) in &weights {
            let buckets = way.next_hops.get(name).copied().unwrap_or_default();
            let apart = (buckets * sum).abs_diff(all * weight);
            ensure!(
                apart * UNEVEN <= all * sum,
                "{name} has {buckets} of {all} buckets, planned were {weights:?}: {route}"
            );
        }
    }
    for (key, way) in &now.routes {
        if !planned.contains(key) {
            let found = before.routes.get(key);
            ensure!(found == Some(way), "{key:?}: {found:?}, now {way:?}");
        }
    }
    Ok(())
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

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("a list")
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `PEER/INSTANCE` of a row.
fn session(row: &Value) -> String {
    format!("{}/{}", word(&row["peer"]), row["instance"])
}

/// The sessions of which a plan says this, as `PEER/INSTANCE`.
///
/// # Errors
/// It has no list of sessions.
pub fn sessions(plan: &Value, change: &str) -> Result<BTreeSet<String>> {
    let sessions = list(&plan["sessions"])?.iter();
    let sessions = sessions.filter(|session| session["change"] == change);
    Ok(sessions.map(session).collect())
}

/// How often each session, `PEER/INSTANCE`, has become established.
///
/// # Errors
/// Waypost does not answer.
pub fn established(waypost: &Waypost) -> Result<BTreeMap<String, u64>> {
    let rows = waypost.rows("peers")?;
    let count = |row: &Value| row["established_count"].as_u64().unwrap_or_default();
    let rows = rows.iter().map(|row| (session(row), count(row)));
    Ok(rows.collect())
}
