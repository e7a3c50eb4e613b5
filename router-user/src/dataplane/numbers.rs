//! Numbers of maps: which are in use, under which name, and when a freed one may be used again.
//!
//! In: names of things. Out: numbers, the same ones after a restart, since the names are kept in
//! the pinned map `names`.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use router_common::maps::Name;
use rustc_hash::{FxHashMap, FxHashSet};

/// Kinds of things that have numbers: the first word of their name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Table,
    Group,
    NextHop,
    Port,
    Vnet,
    Restricted,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [
        Self::Table,
        Self::Group,
        Self::NextHop,
        Self::Port,
        Self::Vnet,
        Self::Restricted,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Group => "group",
            Self::NextHop => "next_hop",
            Self::Port => "port",
            Self::Vnet => "vnet",
            Self::Restricted => "restricted",
        }
    }
}

/// The key of `names`: what does not fit ends in a hash of the whole.
pub(super) fn encode(kind: Kind, name: &str) -> Name {
    const HASH: usize = 17;
    let whole = format!("{} {name}", kind.word());
    let mut text = [0; 64];
    if whole.len() < text.len() {
        text[..whole.len()].copy_from_slice(whole.as_bytes());
    } else {
        let mut cut = text.len() - 1 - HASH;
        while !whole.is_char_boundary(cut) {
            cut -= 1;
        }
        let short = format!("{}~{:016x}", &whole[..cut], fnv1a(whole.as_bytes()));
        text[..short.len()].copy_from_slice(short.as_bytes());
    }
    Name { text }
}

/// The kind and the name that a key of `names` stands for.
pub(super) fn decode(name: &Name) -> Option<(Kind, String)> {
    let end = name.text.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&name.text[..end]).ok()?;
    let (word, rest) = text.split_once(' ')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    Some((kind, rest.to_owned()))
}

/// 64-bit FNV-1a.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Places of a map, 1 up to its size; 0 is never given out.
#[derive(Debug)]
pub(super) struct Slots {
    free: BTreeSet<u32>,
    next: u32,
    size: u32,
}

impl Slots {
    /// `used`: what an earlier run has given out.
    pub(super) fn new(size: u32, used: &FxHashSet<u32>) -> Self {
        let next = used.iter().max().map_or(1, |last| last + 1);
        Self {
            free: (1..next).filter(|place| !used.contains(place)).collect(),
            next,
            size,
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop_first().or_else(|| {
            (self.next < self.size).then(|| {
                self.next += 1;
                self.next - 1
            })
        })
    }

    pub(super) fn release(&mut self, place: u32) {
        self.free.insert(place);
    }
}

/// Ranges of a map, first fit.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Start → length of each free range; no two touch.
    free: BTreeMap<u32, u32>,
}

impl Ranges {
    /// `used`: (start, length) of what an earlier run has given out.
    pub(super) fn new(size: u32, used: &[(u32, u32)]) -> Self {
        let mut used = used.to_vec();
        used.sort_unstable();
        let mut free = BTreeMap::new();
        let mut at = 1;
        for (start, length) in used {
            if start > at {
                free.insert(at, start - at);
            }
            at = at.max(start + length);
        }
        if size > at {
            free.insert(at, size - at);
        }
        Self { free }
    }

    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        let (start, free) = self
            .free
            .iter()
            .find(|(_, free)| **free >= length)
            .map(|(start, free)| (*start, *free))?;
        self.free.remove(&start);
        if free > length {
            self.free.insert(start + length, free - length);
        }
        Some(start)
    }

    pub(super) fn release(&mut self, mut start: u32, mut length: u32) {
        if let Some(after) = self.free.remove(&(start + length)) {
            length += after;
        }
        if let Some((before, free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            start = *before;
            length += free;
        }
        self.free.insert(start, length);
    }
}

/// Numbers with names.
#[derive(Debug)]
pub(super) struct Numbers {
    slots: Slots,
    /// Keyed: peers choose the addresses in the names of next hops.
    by_name: HashMap<Name, u32>,
    names: FxHashMap<u32, String>,
    unclaimed: FxHashSet<u32>,
}

/// A number given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// In use already.
    Known(u32),
    /// Adopted from an earlier run, claimed now.
    Adopted(u32),
    /// New: its name is to be kept before it is used.
    Fresh(u32),
}

impl Claim {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Known(number) | Self::Adopted(number) | Self::Fresh(number) => number,
        }
    }
}

impl Numbers {
    pub(super) fn new(kind: Kind, size: u32, adopted: &[(String, u32)]) -> Self {
        let used: FxHashSet<u32> = adopted.iter().map(|(_, number)| *number).collect();
        Self {
            slots: Slots::new(size, &used),
            by_name: adopted
                .iter()
                .map(|(name, number)| (encode(kind, name), *number))
                .collect(),
            names: adopted
                .iter()
                .map(|(name, number)| (*number, name.clone()))
                .collect(),
            unclaimed: used,
        }
    }

    pub(super) fn claim(&mut self, kind: Kind, name: &str) -> Option<Claim> {
        let key = encode(kind, name);
        if let Some(number) = self.by_name.get(&key).copied() {
            if self.unclaimed.remove(&number) {
                self.names.insert(number, name.to_owned());
                return Some(Claim::Adopted(number));
            }
            return Some(Claim::Known(number));
        }
        let number = self.slots.take()?;
        self.by_name.insert(key, number);
        self.names.insert(number, name.to_owned());
        Some(Claim::Fresh(number))
    }

    /// The number of a name, adopted ones included.
    pub(super) fn number(&self, kind: Kind, name: &str) -> Option<u32> {
        self.by_name.get(&encode(kind, name)).copied()
    }

    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.names
            .iter()
            .map(|(number, name)| (*number, name.as_str()))
    }

    /// Forgets the name; the number stays taken until it is [released](Self::release).
    pub(super) fn forget(&mut self, key: &Name) -> Option<u32> {
        let number = self.by_name.remove(key)?;
        self.names.remove(&number);
        self.unclaimed.remove(&number);
        Some(number)
    }

    /// Makes the number one that nobody has claimed, as if an earlier run had given it out.
    pub(super) fn disown(&mut self, key: &Name) {
        if let Some(number) = self.by_name.get(key) {
            self.unclaimed.insert(*number);
        }
    }

    pub(super) fn release(&mut self, number: u32) {
        self.slots.release(number);
    }

    /// Keys and numbers that an earlier run gave out and nobody has claimed.
    pub(super) fn unclaimed(&self) -> Vec<(Name, u32)> {
        let mut unclaimed: Vec<_> = self
            .by_name
            .iter()
            .filter(|(_, number)| self.unclaimed.contains(number))
            .map(|(name, number)| (*name, *number))
            .collect();
        unclaimed.sort_unstable_by_key(|(_, number)| *number);
        unclaimed
    }
}

/// What may be used again only after a grace period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Retired {
    Group { number: u32, first: u32, count: u32 },
    Buckets { first: u32, count: u32 },
    NextHop(u32),
    Neighbor(u32),
    PortPlace(u32),
    Number(Kind, u32),
    Restricted(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_kept_as_it_is_and_a_long_one_ends_in_its_hash() {
        let name = encode(Kind::NextHop, "via hub 10.1.10.4");
        assert_eq!(
            decode(&name),
            Some((Kind::NextHop, "via hub 10.1.10.4".into()))
        );
        let one = encode(Kind::Table, &format!("own/{}", "x".repeat(100)));
        let other = encode(Kind::Table, &format!("own/{}", "x".repeat(101)));
        assert_ne!(one, other);
        let (kind, text) = decode(&one).unwrap();
        assert_eq!(
            encode(kind, &text),
            one,
            "an adopted name finds its number again"
        );
    }

    #[test]
    fn zero_is_never_given_out_and_a_place_only_once() {
        let mut slots = Slots::new(4, &FxHashSet::from_iter([2]));
        assert_eq!(
            [slots.take(), slots.take(), slots.take()],
            [Some(1), Some(3), None]
        );
        slots.release(2);
        assert_eq!(slots.take(), Some(2));
    }

    #[test]
    fn freed_ranges_grow_together_again() {
        let mut ranges = Ranges::new(257, &[(129, 64)]);
        assert_eq!(ranges.take(128), Some(1));
        assert_eq!(ranges.take(128), None);
        assert_eq!(ranges.take(64), Some(193));
        ranges.release(1, 128);
        ranges.release(193, 64);
        ranges.release(129, 64);
        assert_eq!(ranges.take(256), Some(1));
    }

    #[test]
    fn an_adopted_number_is_given_to_its_name_again() {
        let mut numbers = Numbers::new(Kind::Vnet, 10, &[("hub".into(), 3), ("old".into(), 1)]);
        assert_eq!(numbers.claim(Kind::Vnet, "hub"), Some(Claim::Adopted(3)));
        assert_eq!(numbers.claim(Kind::Vnet, "hub"), Some(Claim::Known(3)));
        assert_eq!(numbers.claim(Kind::Vnet, "spoke"), Some(Claim::Fresh(2)));
        assert_eq!(
            numbers.unclaimed(),
            [(encode(Kind::Vnet, "old"), 1)],
            "what nobody asked for is known as such"
        );
    }
}
