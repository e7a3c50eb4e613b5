//! The prefixes that are looked up in, and destinations in them.

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use ipnet::Ipv4Net;
use router_common::header::{Scope, scope_v4};

/// As many as the largest measured table.
const MOST: usize = 1_000_000;

/// How many of a thousand prefixes are of each length, about as in today's Internet.
const MIX: [(u8, u32); 13] = [
    (24, 600),
    (23, 90),
    (22, 110),
    (21, 50),
    (20, 45),
    (19, 26),
    (18, 14),
    (17, 8),
    (16, 14),
    (15, 2),
    (14, 1),
    (25, 15),
    (28, 25),
];

/// Distinct prefixes, in random order.
pub struct Table {
    pub prefixes: Vec<Ipv4Net>,
    /// Where they come from.
    pub origin: String,
}

impl Table {
    /// The real table if it is there, else one of the same mix of lengths.
    pub fn load() -> Result<Self> {
        let data = env::var_os("WAYPOST_DATA").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
            PathBuf::from,
        );
        let file = data.join("tables/full-table.v4.txt.gz");
        if file.exists() {
            return Self::read(file);
        }
        Ok(Self {
            prefixes: generated(),
            origin: format!("generated ({} is not there)", file.display()),
        })
    }

    fn read(file: PathBuf) -> Result<Self> {
        let opened = File::open(&file).with_context(|| format!("opening {}", file.display()))?;
        let mut prefixes = Vec::with_capacity(MOST);
        for line in BufReader::new(GzDecoder::new(opened)).lines() {
            let line = line.with_context(|| format!("reading {}", file.display()))?;
            let Some(prefix) = line.split_whitespace().next() else {
                continue;
            };
            let prefix: Ipv4Net = prefix
                .parse()
                .with_context(|| format!("{}: {prefix} is no prefix", file.display()))?;
            prefixes.push(prefix);
        }
        let origin = file.canonicalize().unwrap_or(file).display().to_string();
        Ok(Self { prefixes, origin })
    }
}

/// As many destinations as the generator holds, each in a random one of the prefixes.
pub fn destinations(prefixes: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    let mut random = Random(9);
    let mut destinations = Vec::with_capacity(1 << 16);
    while destinations.len() < 1 << 16 {
        let prefix = prefixes[random.next() as usize % prefixes.len()];
        let host = random.next() as u32 & u32::from(prefix.hostmask());
        let address = u32::from(prefix.network()) | host;
        if is_routable(address) {
            destinations.push(Ipv4Addr::from(address));
        }
    }
    destinations
}

fn generated() -> Vec<Ipv4Net> {
    let mut random = Random(3);
    let mut seen = HashSet::with_capacity(MOST);
    let mut prefixes = Vec::with_capacity(MOST);
    let all: u32 = MIX.iter().map(|(_, share)| share).sum();
    while prefixes.len() < MOST {
        let mut place = random.next() as u32 % all;
        let length = MIX
            .iter()
            .find(|(_, share)| {
                let found = place < *share;
                place = place.saturating_sub(*share);
                found
            })
            .map_or(24, |(length, _)| *length);
        let address = random.next() as u32;
        let prefix = Ipv4Net::new_assert(Ipv4Addr::from(address), length).trunc();
        if is_routable(address) && seen.insert(prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// Whether packets to it cross routers, and leave the bed's own networks (10/8).
fn is_routable(address: u32) -> bool {
    scope_v4(address) == Scope::Routable && address >> 24 != 10
}

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
