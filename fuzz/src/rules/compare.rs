//! Whether the product has come to what the model says; if not, the first differences and the state.

use std::{collections::BTreeMap, fmt::Debug};

use super::model::{Outcome, State};

/// Most differences that are told.
const TOLD: usize = 6;

pub(super) fn assert_same(state: &State, expected: &Outcome, found: &Outcome, when: &str) {
    if expected == found {
        return;
    }
    let mut told = Vec::new();
    for (key, expected) in &expected.sent {
        differences(
            &format!("{key:?} is sent"),
            expected,
            &found.sent[key],
            &mut told,
        );
    }
    differences("taken", &expected.taken, &found.taken, &mut told);
    for (key, expected) in &expected.forwarding {
        differences(
            &format!("{key:?}"),
            expected,
            &found.forwarding[key],
            &mut told,
        );
    }
    differences(
        "restricted",
        &expected.restricted,
        &found.restricted,
        &mut told,
    );
    told.truncate(TOLD);
    panic!("{when}:\n{}\nin {state:?}", told.join("\n"));
}

fn differences<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    told: &mut Vec<String>,
) {
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found {
            told.push(format!(
                "{what}, {key:?}:\n  the model: {expected:?}\n  found: {found:?}"
            ));
        }
    }
}
