//! Whether the product has come to what the model says, and to the same in another order; if not, the
//! first differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use super::model::Outcome;

/// Most differences that are told.
const TOLD: usize = 6;

pub(super) fn assert_same(expected: &Outcome, found: &Outcome, when: &str) {
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
    panic!("{when}, {}", listed(&told));
}

/// Rows of one world and of another one that was told the same in another order.
pub(super) fn assert_same_rows(first: &[String], second: &[String]) {
    let [first, second] = [first, second].map(BTreeSet::from_iter);
    let of_first = first.difference(&second).map(|row| (row, "first"));
    let of_second = second.difference(&first).map(|row| (row, "second"));
    // Rows of the same begin alike.
    let mut rows: Vec<_> = of_first.chain(of_second).collect();
    rows.sort();
    let told: Vec<_> = rows
        .into_iter()
        .map(|(row, order)| format!("only in the {order} order: {row}"))
        .collect();
    assert!(
        told.is_empty(),
        "the order of events shows, {}",
        listed(&told)
    );
}

fn listed(told: &[String]) -> String {
    let first = &told[..told.len().min(TOLD)];
    format!(
        "{} differences, first of all:\n{}",
        told.len(),
        first.join("\n")
    )
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
