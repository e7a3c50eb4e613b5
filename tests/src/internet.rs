//! The Internet's table: what benchmarks look up in and announce.
//!
//! In: `tables/full-table.v4.txt.gz` of the data folder (`WAYPOST_DATA`, default
//! `../shared/data`), a `prefix as_path` a line; where it is missing, a generator of the same mix
//! of prefix lengths and of the same sharing of AS paths. Out: [`Table`].

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

/// Distinct AS paths of a generated table of [`MOST`] prefixes; the real one has 76,342.
const PATHS: usize = 76_000;

/// How many of a thousand AS paths are of each length in the real table.
const PATH_LENGTHS: [(usize, u32); 8] = [
    (1, 186),
    (2, 369),
    (3, 273),
    (4, 98),
    (5, 40),
    (6, 18),
    (7, 8),
    (10, 8),
];

/// Distinct prefixes, in random order, with the AS paths that they were learned with.
#[derive(Debug)]
pub struct Table {
    /// The prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// ASNs of all paths, one after another.
    asns: Vec<u32>,
    /// Where the path of each prefix ends in `asns`.
    ends: Vec<u32>,
    /// Where they come from.
    pub origin: String,
}

impl Table {
    /// The real table if it is there, else one of the same mix of lengths.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn load() -> Result<Self> {
        let data = env::var_os("WAYPOST_DATA").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
            PathBuf::from,
        );
        let file = data.join("tables/full-table.v4.txt.gz");
        if file.exists() {
            return Self::read(file);
        }
        let origin = format!("generated ({} is not there)", file.display());
        Ok(Self::generate(origin))
    }

    /// The AS path of a prefix, by its place: nearest AS first, AS_SEQUENCE only, no private or
    /// reserved ASN.
    ///
    /// # Panics
    /// There is no such prefix.
    #[must_use]
    pub fn path(&self, place: usize) -> &[u32] {
        let end = |place: usize| self.ends[place] as usize;
        let start = place.checked_sub(1).map_or(0, end);
        &self.asns[start..end(place)]
    }

    fn empty(origin: String) -> Self {
        Self {
            prefixes: Vec::with_capacity(MOST),
            asns: Vec::with_capacity(3 * MOST),
            ends: Vec::with_capacity(MOST),
            origin,
        }
    }

    fn push(&mut self, prefix: Ipv4Net, path: impl IntoIterator<Item = u32>) {
        self.prefixes.push(prefix);
        // As at a border to the Internet. It also keeps the lab's own ASNs out of the paths.
        self.asns
            .extend(path.into_iter().filter(|asn| is_public(*asn)));
        self.ends
            .push(u32::try_from(self.asns.len()).unwrap_or(u32::MAX));
    }

    fn read(file: PathBuf) -> Result<Self> {
        let opened = File::open(&file).with_context(|| format!("opening {}", file.display()))?;
        let origin = file.canonicalize().unwrap_or_else(|_| file.clone());
        let mut table = Self::empty(origin.display().to_string());
        let mut path = Vec::new();
        for line in BufReader::new(GzDecoder::new(opened)).lines() {
            let line = line.with_context(|| format!("reading {}", file.display()))?;
            let mut words = line.split_ascii_whitespace();
            let Some(prefix) = words.next() else {
                continue;
            };
            let place = |what: &str| format!("{}: {what} in \"{line}\"", file.display());
            let prefix = prefix.parse().with_context(|| place("no prefix"))?;
            path.clear();
            for asn in words {
                path.push(asn.parse().with_context(|| place("no ASN"))?);
            }
            table.push(prefix, path.iter().copied());
        }
        Ok(table)
    }

    fn generate(origin: String) -> Self {
        let mut random = Random::new(3);
        let mut seen = HashSet::with_capacity(MOST);
        let paths: Vec<Vec<u32>> = (0..PATHS)
            .map(|_| {
                let length = random.pick(&PATH_LENGTHS).unwrap_or(3);
                (0..length).map(|_| random.below(60_000) + 1).collect()
            })
            .collect();
        let mut table = Self::empty(origin);
        while table.prefixes.len() < MOST {
            let length = random.pick(&MIX).unwrap_or(24);
            let address = random.next() as u32;
            let prefix = Ipv4Net::new_assert(Ipv4Addr::from(address), length).trunc();
            if is_routable(address) && seen.insert(prefix) {
                // Few paths have most of the prefixes: half of them share 1000.
                let skew = f64::from(random.below(1 << 24)) / f64::from(1 << 24);
                let place = (PATHS as f64 * skew.powi(6)) as usize;
                table.push(prefix, paths[place.min(PATHS - 1)].iter().copied());
            }
        }
        table
    }
}

/// Whether packets to it cross routers, and leave the lab's own networks (10/8).
#[must_use]
pub fn is_routable(address: u32) -> bool {
    scope_v4(address) == Scope::Routable && address >> 24 != 10
}

/// Neither private, reserved, for documentation, nor AS_TRANS.
fn is_public(asn: u32) -> bool {
    !matches!(asn, 0 | 23_456 | 64_496..=131_071 | 4_200_000_000..)
}

/// The same numbers in each run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence by its seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        (self.next() as u32) % bound
    }

    /// One of the choices, each as often as its weight says.
    fn pick<T: Copy>(&mut self, choices: &[(T, u32)]) -> Option<T> {
        let all: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut place = self.below(all);
        let chosen = choices.iter().find(|(_, weight)| {
            let found = place < *weight;
            place = place.saturating_sub(*weight);
            found
        });
        chosen.map(|(choice, _)| *choice)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{MOST, Table};

    #[test]
    fn a_generated_table_is_as_large_and_as_shared_as_the_real_one() {
        let table = Table::generate("generated".to_owned());
        let prefixes: HashSet<_> = table.prefixes.iter().collect();
        assert_eq!(prefixes.len(), MOST);
        let paths: HashSet<_> = (0..MOST).map(|place| table.path(place)).collect();
        assert!(
            (50_000..=80_000).contains(&paths.len()),
            "{} distinct AS paths",
            paths.len()
        );
    }
}
