//! What the kernel's maps tell XDP, read with `bpftool` alone.
//!
//! The maps hold numbers; what a number stands for is read from the map `names`, which the daemon
//! keeps for its own next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use crate::{lab::Host, waypost::pins};

/// Numbers of buckets by next hop.
pub type Shares = BTreeMap<String, usize>;

/// Where packets to a prefix go in a table, and which tables a port's packets meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelMaps {
    /// By table and prefix.
    pub routes: BTreeMap<(String, String), Way>,
    /// By interface.
    pub ports: BTreeMap<String, Place>,
}

/// A route's group and weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The next hops that have buckets of the group, by name, for example `via hub 10.1.10.4`, and how
    /// many.
    pub next_hops: Shares,
    /// `system`, `learned` or `user_defined`.
    pub precedence: String,
    /// Beats learned routes of any length.
    pub overriding: bool,
}

/// The network and the tables of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Virtual network.
    pub vnet: String,
    /// Own table.
    pub own_table: String,
    /// Learned table, if it has one.
    pub learned_table: Option<String>,
}

/// Reads the maps that are pinned on a gateway host.
pub fn dump(gateway: &Host) -> Result<KernelMaps> {
    let pinned = pins(Path::new("/sys/fs/bpf/waypost"))?;
    let reader = Reader { gateway, pinned };
    let names = reader.names()?;
    let routes = reader.routes()?;
    let ways = reader.ways(&names, &routes)?;
    let mut maps = KernelMaps::default();
    for entry in routes {
        let key = &entry["key"];
        let table = names.of("table", &key["data"]["table"])?;
        let way = ways
            .get(&number(&entry["value"]["group"])?)
            .with_context(|| format!("no group of {entry}"))?;
        let way = Way {
            next_hops: way.clone(),
            precedence: match number(&entry["value"]["precedence"])? {
                1 => "system".to_owned(),
                2 => "learned".to_owned(),
                3 => "user_defined".to_owned(),
                other => format!("precedence {other}"),
            },
            overriding: number(&entry["value"]["flags"])? & 1 == 1,
        };
        let prefix = prefix(&entry)?.to_string();
        let twice = maps.routes.insert((table.clone(), prefix), way);
        ensure!(twice.is_none(), "{entry} is there twice");
    }
    for port in reader.ports()? {
        let learned = &port["learned_table"];
        let place = Place {
            vnet: names.of("vnet", &port["vnet"])?.clone(),
            own_table: names.of("table", &port["own_table"])?.clone(),
            learned_table: match number(learned)? {
                0 => None,
                _ => Some(names.of("table", learned)?.clone()),
            },
        };
        let interface = names.of("port", &port["id"])?.clone();
        maps.ports.insert(interface, place);
    }
    Ok(maps)
}

struct Reader<'a> {
    gateway: &'a Host,
    pinned: Vec<PathBuf>,
}

impl Reader<'_> {
    fn path(&self, map: &str) -> Result<String> {
        let path = self.pinned.iter().find(|path| path.ends_with(map));
        let path = path.with_context(|| format!("no {map} among {:?}", self.pinned))?;
        Ok(path.display().to_string())
    }

    /// All elements, as key and value with the fields' names.
    fn all(&self, map: &str) -> Result<Vec<Value>> {
        let path = self.path(map)?;
        let text = self
            .gateway
            .run(&format!("bpftool map dump pinned {path}"))?;
        let entries: Vec<Value> = serde_json::from_str(&text).context("no list of entries")?;
        Ok(entries)
    }

    /// The values of some elements of an array.
    fn some(&self, map: &str, places: &BTreeSet<u64>) -> Result<BTreeMap<u64, Value>> {
        let path = self.path(map)?;
        let lines: String = places
            .iter()
            .map(|place| {
                let [a, b, c, d, ..] = place.to_le_bytes();
                format!("map lookup pinned {path} key {a} {b} {c} {d}\n")
            })
            .collect();
        if lines.is_empty() {
            return Ok(BTreeMap::new());
        }
        let file = self.gateway.folder().join("bpftool.batch");
        fs::write(&file, lines)?;
        let text = self
            .gateway
            .run(&format!("bpftool -j batch file {}", file.display()))?;
        let answers: Vec<Value> = serde_json::from_str(&text).context("no list of answers")?;
        ensure!(answers.len() == places.len(), "{text}");
        let answers = places.iter().zip(answers);
        Ok(answers
            .map(|(place, answer)| (*place, answer["output"]["formatted"]["value"].clone()))
            .collect())
    }

    fn names(&self) -> Result<Names> {
        let mut names = Names::default();
        for entry in self.all("names")? {
            let text = entry["key"]["text"].as_array().context("no text")?;
            let bytes = text
                .iter()
                .filter_map(Value::as_u64)
                .filter(|byte| *byte != 0);
            let bytes: Vec<u8> = bytes.map(u8::try_from).collect::<Result<_, _>>()?;
            let text = String::from_utf8(bytes)?;
            let (kind, name) = text.split_once(' ').context(text.clone())?;
            let key = (kind.to_owned(), number(&entry["value"])?);
            names.0.insert(key, name.to_owned());
        }
        Ok(names)
    }

    fn routes(&self) -> Result<Vec<Value>> {
        Ok([self.all("routes_v4")?, self.all("routes_v6")?].concat())
    }

    /// The next hops of each group that a route takes.
    fn ways(&self, names: &Names, routes: &[Value]) -> Result<BTreeMap<u64, Shares>> {
        let groups: BTreeSet<u64> = routes
            .iter()
            .map(|entry| number(&entry["value"]["group"]))
            .collect::<Result<_>>()?;
        let mut ways = BTreeMap::new();
        for (group, value) in self.some("groups", &groups)? {
            let first = number(&value["first_bucket"])?;
            if first == 0 {
                // No group was ever written here, or it has no member: its packets are dropped.
                ways.insert(group, Shares::new());
                continue;
            }
            let buckets = (first..=first + number(&value["mask"])?).collect();
            let mut next_hops = Shares::new();
            for bucket in self.some("buckets", &buckets)?.into_values() {
                let name = names.of("next_hop", &bucket["primary"])?.clone();
                *next_hops.entry(name).or_default() += 1;
            }
            ways.insert(group, next_hops);
        }
        Ok(ways)
    }

    fn ports(&self) -> Result<Vec<Value>> {
        let places = self.all("port_by_ifindex")?;
        let places = places.iter().map(|entry| number(&entry["value"]));
        let ports = self.some("ports", &places.collect::<Result<_>>()?)?;
        Ok(ports.into_values().collect())
    }
}

/// By kind and number.
#[derive(Default)]
struct Names(BTreeMap<(String, u64), String>);

impl Names {
    fn of(&self, kind: &str, value: &Value) -> Result<&String> {
        let name = self.0.get(&(kind.to_owned(), number(value)?));
        name.with_context(|| format!("no name of {kind} {value}"))
    }
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .with_context(|| format!("no number: {value}"))
}

/// A key's prefix, whose length counts the 32 bits of the table's number too.
fn prefix(entry: &Value) -> Result<IpNet> {
    let address = entry["key"]["data"]["address"].as_array();
    let address = address.with_context(|| format!("no address: {entry}"))?;
    let bytes: Vec<u8> = address
        .iter()
        .map(|byte| Ok(u8::try_from(number(byte)?)?))
        .collect::<Result<_>>()?;
    let address: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice())?).into(),
    };
    let length = number(&entry["key"]["prefix_len"])? - 32;
    let said = number(&entry["value"]["prefix_len"])?;
    ensure!(
        length == said,
        "{length} in the key, {said} in the value: {entry}"
    );
    Ok(IpNet::new(address, u8::try_from(length)?)?)
}
