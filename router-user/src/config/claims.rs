//! What may be given out only once: names, interfaces, addresses.

use std::{collections::HashMap, fmt::Display, hash::Hash};

use super::fault::Report;

/// Who has what already.
#[derive(Debug)]
pub(super) struct Claims<K> {
    /// What the keys are, for messages: "address", "interface".
    kind: &'static str,
    taken: HashMap<K, Claim>,
}

/// One of them.
#[derive(Debug)]
struct Claim {
    owner: String,
    at: usize,
}

impl<K: Hash + Eq + Display> Claims<K> {
    pub(super) fn of(kind: &'static str) -> Self {
        Self {
            kind,
            taken: HashMap::new(),
        }
    }

    /// Claims `key` for `owner`; a second claim is reported with the place of the first.
    pub(super) fn claim(
        &mut self,
        key: K,
        owner: impl Into<String>,
        at: usize,
        report: &mut Report,
    ) {
        let owner = owner.into();
        if let Some(first) = self.taken.get(&key) {
            let what = format!(
                "{} {key} of {owner} is already that of {} (line {})",
                self.kind,
                first.owner,
                report.line_of(first.at)
            );
            report.fault(at, what, format!("give each its own {}", self.kind));
            return;
        }
        self.taken.insert(key, Claim { owner, at });
    }

    /// Who has `key`, and since which byte of the file.
    pub(super) fn owner(&self, key: &K) -> Option<(&str, usize)> {
        self.taken
            .get(key)
            .map(|claim| (claim.owner.as_str(), claim.at))
    }
}
