//! Whether the product has come to what the model says, and to the same in another order; if not, the
//! first differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use super::{
    edge::MOST,
    model::{self, Outcome, Prefix, State},
};

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
    differences(
        "what becomes of paths",
        &expected.standings,
        &found.standings,
        &mut told,
    );
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

/// The same where a session is sent no more than so many routes of a family, of those that it would be
/// sent any.
pub(super) fn assert_same_within_limit(state: &State, expected: &Outcome, mut found: Outcome) {
    let mut told = Vec::new();
    for (key, all) in &expected.sent {
        let some = &found.sent[key];
        let own = model::own_prefixes(state, *key);
        for is_ipv4 in [true, false] {
            let of_family = |prefix: &&Prefix| prefix.address.is_ipv4() == is_ipv4;
            let (all, some) = (all.keys().filter(of_family), some.keys().filter(of_family));
            let (all, some) = (all.count(), some.count());
            let own = own.iter().filter(of_family).count();
            if some != all.min(MOST).max(own) {
                told.push(format!("{key:?} is sent {some} of {all} routes"));
            }
        }
        let strange = some
            .iter()
            .filter(|(prefix, route)| all.get(prefix) != Some(*route));
        told.extend(strange.map(|strange| format!("{key:?} is sent, {strange:?}")));
    }
    assert!(told.is_empty(), "within limits, {}", listed(&told));
    found.sent.clone_from(&expected.sent);
    assert_same(expected, &found, "within limits");
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
