//! What the reconciler finds by something other than its name: with thousands of ports, none of this
//! may be a search.
//!
//! Hashes are keyed: peers choose the addresses of next hops, machines those of neighbours.

use std::{collections::BTreeSet, hash::Hash, net::IpAddr};

use foldhash::HashMap;
use rustc_hash::FxHashMap;

use super::kernel::{Link, Reachability};
use crate::names::InterfaceName;

/// Sets of values by key; those of a key in their order.
#[derive(Debug)]
pub(super) struct Index<K, V>(HashMap<K, BTreeSet<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Hash + Eq, V: Ord> Index<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(super) fn remove(&mut self, key: &K, value: &V) {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// All values of a key, which has none afterwards.
    pub(super) fn take(&mut self, key: &K) -> BTreeSet<V> {
        self.0.remove(key).unwrap_or_default()
    }

    pub(super) fn of<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
        self.0.get(key).into_iter().flatten()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key, value)))
    }
}

/// The host's interfaces.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_index: FxHashMap<u32, Link>,
    by_name: HashMap<InterfaceName, u32>,
}

impl Links {
    pub(super) fn get(&self, ifindex: u32) -> Option<&Link> {
        self.by_index.get(&ifindex)
    }

    pub(super) fn named(&self, name: &InterfaceName) -> Option<&Link> {
        self.get(*self.by_name.get(name)?)
    }

    pub(super) fn is_up(&self, ifindex: u32) -> bool {
        self.get(ifindex).is_some_and(|link| link.up)
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        self.by_index.keys().copied()
    }

    /// The link as it was before.
    pub(super) fn insert(&mut self, link: Link) -> Option<Link> {
        let before = self.remove(link.ifindex);
        self.by_name.insert(link.name.clone(), link.ifindex);
        self.by_index.insert(link.ifindex, link);
        before
    }

    pub(super) fn remove(&mut self, ifindex: u32) -> Option<Link> {
        let link = self.by_index.remove(&ifindex)?;
        // Another interface may have its name by now.
        if self.by_name.get(&link.name) == Some(&ifindex) {
            self.by_name.remove(&link.name);
        }
        Some(link)
    }
}

/// What the kernel's neighbour table says. What nothing is known about takes no room here.
#[derive(Debug, Default)]
pub(super) struct Neighbours(FxHashMap<u32, HashMap<IpAddr, Reachability>>);

impl Neighbours {
    pub(super) fn get(&self, ifindex: u32, address: IpAddr) -> Reachability {
        self.0
            .get(&ifindex)
            .and_then(|neighbours| neighbours.get(&address).copied())
            .unwrap_or(Reachability::Unknown)
    }

    /// What it said before.
    pub(super) fn put(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        reachability: Reachability,
    ) -> Reachability {
        let before = match reachability {
            Reachability::Unknown => match self.0.get_mut(&ifindex) {
                Some(neighbours) => neighbours.remove(&address),
                None => None,
            },
            known => self.0.entry(ifindex).or_default().insert(address, known),
        };
        before.unwrap_or(Reachability::Unknown)
    }

    /// The interface has gone.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }

    /// The kernel forgets neighbours without a carrier, but not those that are fixed.
    pub(super) fn without_carrier(&mut self, ifindex: u32) {
        if let Some(neighbours) = self.0.get_mut(&ifindex) {
            neighbours.retain(|_, reachability| matches!(reachability, Reachability::Fixed(_)));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::MacAddr;

    #[test]
    fn an_interface_that_takes_anothers_name_is_found_by_it() {
        let link = |ifindex, name: &str| Link {
            ifindex,
            name: name.into(),
            mac: MacAddr::default(),
            mtu: 1500,
            up: true,
        };
        let mut links = Links::default();
        links.insert(link(1, "a"));
        links.insert(link(2, "a"));
        // Only now is it told that the first one has another name.
        links.insert(link(1, "b"));
        assert_eq!(links.named(&"a".into()).map(|link| link.ifindex), Some(2));
        assert_eq!(links.named(&"b".into()).map(|link| link.ifindex), Some(1));
        links.remove(2);
        assert!(links.named(&"a".into()).is_none());
    }

    #[test]
    fn values_of_a_key_come_in_their_order_until_they_are_removed() {
        let mut index = Index::default();
        for value in [3, 1, 2] {
            index.insert("hub", value);
        }
        index.remove(&"hub", &1);
        index.remove(&"spoke", &1);
        assert_eq!(index.of(&"hub").collect::<Vec<_>>(), [&2, &3]);
    }
}
