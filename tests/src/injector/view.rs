//! What a receiver has been told, compared with what it is to be told, prefix by prefix.
//!
//! In: the bytes of UPDATEs as they arrive. Out: at any time, for how many prefixes the AS path
//! received last differs from the one expected, and when that number came down to none. A route
//! costs two look-ups and no allocation, so that a receiver is no bottleneck.

use std::{fmt::Write as _, net::Ipv4Addr, ops::Range, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;

/// A number that stands for an AS path; never 0.
#[must_use]
pub fn path_hash(path: impl IntoIterator<Item = u32>) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for asn in path {
        hash = (hash.rotate_left(5) ^ u64::from(asn)).wrapping_mul(0x517c_c1b7_2722_0a95);
        hash ^= hash >> 32;
    }
    hash | 1
}

/// Prefixes by number: open addressing, one cache line a look-up.
#[derive(Debug)]
pub struct Index {
    /// Address in the upper half, then the length (8 bits) and the number (24 bits).
    cells: Vec<u64>,
    shift: u32,
}

/// No prefix: a length that there is not.
const FREE: u64 = 0xff << 24;

impl Index {
    /// Numbers prefixes by their place.
    ///
    /// # Panics
    /// There are more than 2^24, or one twice.
    #[must_use]
    pub fn new(prefixes: &[Ipv4Net]) -> Self {
        assert!(prefixes.len() < 1 << 24, "numbers have 24 bits");
        let size = (2 * prefixes.len()).next_power_of_two().max(2);
        let mut index = Self {
            cells: vec![FREE; size],
            shift: 64 - size.trailing_zeros(),
        };
        for (number, prefix) in (0_u64..).zip(prefixes) {
            let key = key(u32::from(prefix.network()), prefix.prefix_len());
            let cell = index.cell(key);
            assert!(index.cells[cell] == FREE, "{prefix} is there twice");
            index.cells[cell] = key | number;
        }
        index
    }

    /// The number of a prefix.
    #[must_use]
    pub fn find(&self, address: u32, length: u8) -> Option<usize> {
        let found = self.cells[self.cell(key(address, length))];
        (found != FREE).then_some((found & 0xff_ffff) as usize)
    }

    /// Where the key is, or is to be.
    fn cell(&self, key: u64) -> usize {
        let mask = self.cells.len() - 1;
        let mut cell = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        while self.cells[cell] != FREE && (self.cells[cell] ^ key) >> 24 != 0 {
            cell = (cell + 1) & mask;
        }
        cell
    }
}

fn key(address: u32, length: u8) -> u64 {
    u64::from(address) << 32 | u64::from(length) << 24
}

/// What one receiver has been told.
#[derive(Debug)]
pub struct View {
    index: Arc<Index>,
    /// Hash of the AS path that each prefix is to have in the end.
    expected: Arc<[u64]>,
    /// Hash of the AS path received last; 0: none, or withdrawn.
    current: Vec<u64>,
    /// Prefixes that may come back or not: the receiver's own.
    own: Range<usize>,
    /// Prefixes that the speaker originates itself.
    originated: Vec<Ipv4Net>,
    /// Prefixes whose `current` is not as expected.
    wrong: usize,
    /// When `wrong` became 0 last.
    right_since: Option<Instant>,
    /// Prefixes whose arrival is timed, and when each became as expected.
    timed: Range<usize>,
    arrivals: Vec<Option<Instant>>,
    /// Announced and withdrawn prefixes, repeated ones too.
    pub announced: u64,
    /// See `announced`.
    pub withdrawn: u64,
}

impl View {
    /// A view that has been told nothing. `own` need not be told. Prefixes of `originated` are the
    /// speaker's own and not looked at.
    ///
    /// # Panics
    /// `index` and `expected` are of different tables.
    #[must_use]
    pub fn new(
        index: Arc<Index>,
        expected: Arc<[u64]>,
        own: Range<usize>,
        originated: Vec<Ipv4Net>,
    ) -> Self {
        let current = vec![0; expected.len()];
        let mut view = Self {
            index,
            expected: Arc::clone(&expected),
            current,
            own,
            originated,
            wrong: 0,
            right_since: None,
            timed: 0..0,
            arrivals: Vec::new(),
            announced: 0,
            withdrawn: 0,
        };
        view.expect(expected);
        view
    }

    /// From now on something else is to be told.
    ///
    /// # Panics
    /// It is of another table.
    pub fn expect(&mut self, expected: Arc<[u64]>) {
        assert_eq!(expected.len(), self.current.len(), "another table");
        self.expected = expected;
        let differs = |place: &usize| self.current[*place] != self.expected[*place];
        self.wrong = (0..self.current.len())
            .filter(|place| !self.own.contains(place))
            .filter(differs)
            .count();
        self.right_since = (self.wrong == 0).then(Instant::now);
    }

    /// Notes from now on when each of these prefixes becomes as expected.
    pub fn time(&mut self, places: Range<usize>) {
        self.arrivals = vec![None; places.len()];
        self.timed = places;
    }

    /// When the timed prefixes became as expected.
    #[must_use]
    pub fn arrivals(&self) -> &[Option<Instant>] {
        &self.arrivals
    }

    /// Since when all is as expected.
    #[must_use]
    pub fn right_since(&self) -> Option<Instant> {
        self.right_since
    }

    /// Prefixes that are not as expected, and how many there are at all.
    #[must_use]
    pub fn wrong(&self) -> (usize, usize) {
        (self.wrong, self.current.len() - self.own.len())
    }

    /// The first few prefixes that are not as expected, as text.
    #[must_use]
    pub fn differences(&self, prefixes: &[Ipv4Net]) -> String {
        let mut text = String::new();
        let wrong = (0..self.current.len())
            .filter(|place| !self.own.contains(place))
            .filter(|place| self.current[*place] != self.expected[*place]);
        for place in wrong.take(5) {
            let what = match self.current[place] {
                0 => "missing",
                _ => "another AS path",
            };
            let _ = write!(text, " {}: {what};", prefixes[place]);
        }
        text
    }

    /// Takes in the body of an UPDATE that arrived at `now`.
    ///
    /// # Errors
    /// It is malformed, or holds what was never announced to the speaker.
    pub fn update(&mut self, body: &[u8], now: Instant) -> Result<()> {
        let (withdrawn, rest) = split_by_length(body).context("withdrawn routes")?;
        let (attributes, announced) = split_by_length(rest).context("attributes")?;
        for_each_prefix(withdrawn, |address, length| {
            self.withdrawn += 1;
            self.set(address, length, 0, now)
        })?;
        if announced.is_empty() {
            return Ok(());
        }
        let path = hash_of_path(attributes)?;
        for_each_prefix(announced, |address, length| {
            self.announced += 1;
            self.set(address, length, path, now)
        })
    }

    fn set(&mut self, address: u32, length: u8, path: u64, now: Instant) -> Result<()> {
        let Some(place) = self.index.find(address, length) else {
            let prefix = Ipv4Net::new(Ipv4Addr::from(address), length)?;
            ensure!(
                self.originated.contains(&prefix),
                "it was told {prefix}, which nobody announced"
            );
            return Ok(());
        };
        if self.own.contains(&place) {
            return Ok(());
        }
        let expected = self.expected[place];
        let before = std::mem::replace(&mut self.current[place], path);
        match (before == expected, path == expected) {
            (false, true) => {
                self.wrong -= 1;
                if self.timed.contains(&place) {
                    self.arrivals[place - self.timed.start] = Some(now);
                }
                if self.wrong == 0 {
                    self.right_since = Some(now);
                }
            }
            (true, false) => {
                self.wrong += 1;
                self.right_since = None;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A part that two bytes of length precede, and what follows it.
fn split_by_length(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk().context("cut off")?;
    let length = usize::from(u16::from_be_bytes(*length));
    rest.split_at_checked(length).context("cut off")
}

fn for_each_prefix(mut bytes: &[u8], mut visit: impl FnMut(u32, u8) -> Result<()>) -> Result<()> {
    while let Some((&length, rest)) = bytes.split_first() {
        ensure!(length <= 32, "a prefix of length {length}");
        let (octets, rest) = rest
            .split_at_checked(usize::from(length.div_ceil(8)))
            .context("a prefix is cut off")?;
        let mut address = [0; 4];
        address[..octets.len()].copy_from_slice(octets);
        visit(u32::from_be_bytes(address), length)?;
        bytes = rest;
    }
    Ok(())
}

/// The AS path of the attributes, as [`path_hash`] has it.
fn hash_of_path(mut attributes: &[u8]) -> Result<u64> {
    loop {
        let [flags, code, rest @ ..] = attributes else {
            bail!("an UPDATE announces prefixes without AS_PATH");
        };
        let (value, rest) = if flags & 0x10 == 0 {
            let (length, rest) = rest.split_first().context("an attribute is cut off")?;
            rest.split_at_checked(usize::from(*length))
                .context("an attribute is cut off")?
        } else {
            split_by_length(rest).context("an attribute")?
        };
        if *code == 2 {
            return hash_of_segments(value);
        }
        attributes = rest;
    }
}

/// Four-octet ASNs of AS_SEQUENCEs; how they are divided into segments does not matter.
fn hash_of_segments(value: &[u8]) -> Result<u64> {
    if let [2, count, asns @ ..] = value
        && asns.len() == 4 * usize::from(*count)
    {
        return Ok(path_hash(asns.chunks_exact(4).map(asn)));
    }
    let mut path = Vec::new();
    let mut segments = value;
    while let [kind, count, rest @ ..] = segments {
        ensure!(*kind == 2, "a segment of type {kind} in an AS_PATH");
        let (asns, rest) = rest
            .split_at_checked(4 * usize::from(*count))
            .context("an AS_PATH is cut off")?;
        path.extend(asns.chunks_exact(4).map(asn));
        segments = rest;
    }
    Ok(path_hash(path))
}

fn asn(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |asn, byte| asn << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc, time::Instant};

    use ipnet::Ipv4Net;

    use super::{Index, View, path_hash};
    use crate::injector::update;

    const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

    fn prefixes() -> Vec<Ipv4Net> {
        [
            "192.0.2.0/24",
            "192.0.2.0/25",
            "0.0.0.0/0",
            "198.51.100.7/32",
        ]
        .map(|text| text.parse().expect("a prefix"))
        .to_vec()
    }

    /// A view that expects every prefix by the path 1 2.
    fn view() -> View {
        let prefixes = prefixes();
        let expected = vec![path_hash([1, 2]); prefixes.len()];
        let originated = vec!["10.77.0.0/16".parse().expect("a prefix")];
        View::new(
            Arc::new(Index::new(&prefixes)),
            expected.into(),
            0..0,
            originated,
        )
    }

    fn tell(view: &mut View, path: &[u32], prefixes: &[Ipv4Net]) -> anyhow::Result<()> {
        let mut message = Vec::new();
        update::announce(&mut message, path.iter().copied(), NEXT_HOP, prefixes);
        view.update(&message[update::HEADER..], Instant::now())
    }

    #[test]
    fn a_view_is_right_only_with_every_prefix_by_the_expected_path() {
        let (mut view, prefixes) = (view(), prefixes());
        tell(&mut view, &[1, 2], &prefixes[..3]).expect("well-formed");
        assert_eq!(view.wrong(), (1, 4));
        tell(&mut view, &[2, 1], &prefixes[3..]).expect("well-formed");
        assert_eq!((view.wrong(), view.right_since()), ((1, 4), None));
        tell(&mut view, &[1, 2], &prefixes[3..]).expect("well-formed");
        assert!(view.right_since().is_some());
    }

    #[test]
    fn a_view_that_was_right_becomes_wrong_by_another_path_or_a_withdrawal() {
        let (mut view, prefixes) = (view(), prefixes());
        tell(&mut view, &[1, 2], &prefixes).expect("well-formed");
        tell(&mut view, &[1, 2, 3], &prefixes[..1]).expect("well-formed");
        assert_eq!((view.wrong(), view.right_since()), ((1, 4), None));
        tell(&mut view, &[1, 2], &prefixes[..1]).expect("well-formed");
        let default_withdrawn = [0, 1, 0, 0, 0];
        view.update(&default_withdrawn, Instant::now())
            .expect("well-formed");
        assert_eq!((view.wrong(), view.right_since()), ((1, 4), None));
    }

    #[test]
    fn what_nobody_announced_is_an_error_unless_the_speaker_originates_it() {
        let mut view = view();
        let foreign: Ipv4Net = "203.0.113.0/24".parse().expect("a prefix");
        assert!(tell(&mut view, &[1, 2], &[foreign]).is_err());
        let originated: Ipv4Net = "10.77.0.0/16".parse().expect("a prefix");
        assert!(tell(&mut view, &[1, 2], &[originated]).is_ok());
    }

    #[test]
    fn a_path_is_the_same_however_it_is_cut_into_segments() {
        let whole = [2, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let cut = [2, 1, 0, 0, 0, 1, 2, 1, 0, 0, 0, 2];
        let hash = |bytes| super::hash_of_segments(bytes).expect("well-formed");
        assert_eq!(hash(&whole), path_hash([1, 2]));
        assert_eq!(hash(&cut), path_hash([1, 2]));
        assert_ne!(path_hash([1, 2]), path_hash([2, 1]));
    }
}
