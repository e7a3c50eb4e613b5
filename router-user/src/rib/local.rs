//! What the route server originates: several sources of its own may hold one prefix, and a view says
//! which of them it carries.

/// A source of prefixes that the route server originates, as `route_server` numbers them. Of those that
/// hold a prefix and that a view carries, the lowest number is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LocalSource(pub u8);

impl LocalSource {
    /// The networks' own prefixes: every view carries them.
    pub const NETWORKS: Self = Self(0);
}

/// A set of [`LocalSource`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LocalSet([u64; 4]);

impl LocalSet {
    /// The networks' own prefixes alone.
    pub const NETWORKS: Self = Self([0; 4]).with(LocalSource::NETWORKS);

    /// This set and `source`.
    #[must_use]
    pub const fn with(mut self, source: LocalSource) -> Self {
        let (word, bit) = Self::place(source);
        self.0[word] |= bit;
        self
    }

    /// Whether `source` is in it.
    #[must_use]
    pub const fn contains(self, source: LocalSource) -> bool {
        let (word, bit) = Self::place(source);
        self.0[word] & bit != 0
    }

    const fn place(LocalSource(number): LocalSource) -> (usize, u64) {
        ((number / 64) as usize, 1 << (number % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let members = [0, 1, 63, 64, 128, 255].map(LocalSource);
        let set = members
            .into_iter()
            .fold(LocalSet::default(), LocalSet::with);
        for source in (0..=255).map(LocalSource) {
            assert_eq!(set.contains(source), members.contains(&source));
            assert!(!LocalSet::default().contains(source));
        }
    }
}
