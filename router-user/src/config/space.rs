//! Who has an address, where several have prefixes and none of them overlap.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes and whose they are. Of those that overlap it has the larger one.
#[derive(Clone, Debug)]
pub(super) struct Space<T> {
    /// Sorted; none overlap.
    parts: Vec<(IpNet, T)>,
}

/// Two prefixes of which one lies within the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlap<T> {
    pub(super) outer: (IpNet, T),
    pub(super) inner: (IpNet, T),
}

impl<T> Default for Space<T> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<T: Clone> Space<T> {
    /// The space of these prefixes, and which of them lie within others.
    pub(super) fn of(prefixes: impl IntoIterator<Item = (IpNet, T)>) -> (Self, Vec<Overlap<T>>) {
        let mut all: Vec<_> = prefixes.into_iter().collect();
        all.sort_by_key(|(prefix, _)| *prefix);
        let mut parts: Vec<(IpNet, T)> = Vec::new();
        let mut overlaps = Vec::new();
        for inner in all {
            // Prefixes are apart or one within the other, and the larger one sorts first.
            match parts.last().filter(|outer| outer.0.contains(&inner.0)) {
                Some(outer) => overlaps.push(Overlap {
                    outer: outer.clone(),
                    inner,
                }),
                None => parts.push(inner),
            }
        }
        (Self { parts }, overlaps)
    }

    /// The prefix that an address lies in, and whose it is.
    pub(super) fn of_address(&self, address: IpAddr) -> Option<&(IpNet, T)> {
        self.around(address.into())
    }

    /// The prefix that another one lies in, and whose it is.
    pub(super) fn around(&self, prefix: IpNet) -> Option<&(IpNet, T)> {
        let after = self.parts.partition_point(|(part, _)| *part <= prefix);
        let part = &self.parts[after.checked_sub(1)?];
        part.0.contains(&prefix).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_prefix_that_it_lies_in() {
        let (space, overlaps) = Space::of(
            [
                ("10.2.0.0/16", 2),
                ("10.0.0.0/16", 0),
                ("fd00::/48", 6),
                ("10.2.128.0/17", 3),
                ("10.2.0.0/16", 4),
            ]
            .map(|(prefix, owner)| (net(prefix), owner)),
        );
        let owner = |address: &str| {
            let found = space.of_address(address.parse().unwrap());
            found.map(|(_, owner)| *owner)
        };
        assert_eq!(owner("10.0.255.255"), Some(0));
        assert_eq!(owner("10.1.0.0"), None);
        assert_eq!(owner("10.2.200.1"), Some(2), "the larger one");
        assert_eq!(owner("10.3.0.0"), None);
        assert_eq!(owner("9.255.255.255"), None);
        assert_eq!(owner("fd00::1"), Some(6));
        let around = |prefix: &str| space.around(net(prefix)).map(|(_, owner)| *owner);
        assert_eq!(around("10.2.4.0/24"), Some(2));
        assert_eq!(around("10.0.0.0/15"), None);
        let within: Vec<_> = overlaps.iter().map(|overlap| overlap.inner.1).collect();
        assert_eq!(within, [4, 3]);
        assert!(overlaps.iter().all(|overlap| overlap.outer.1 == 2));
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }
}
