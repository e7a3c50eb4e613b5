//! Whether the model notices: every fault that can be planted in the product's rules breaks one of the
//! first cases. `cargo test --release -p fuzz --features planted-faults --test planted`.
//!
//! What counts is a difference that a comparison tells; a panic of any other kind is not what a fault
//! of the rules looks like. With `PLANTED_FAULTS=DropPermits,OldestWins` in the environment only these
//! are planted, with `PLANTED_CASES=200` each may take no more cases.

use std::{env, panic};

use router_user::planted::{Fault, plant};

/// Cases that each fault may take to be noticed.
const CASES: u64 = 3000;

#[test]
fn each_planted_fault_is_caught() {
    // What breaks is expected to; a line a fault is enough.
    panic::set_hook(Box::new(|_| {}));
    let cases = env::var("PLANTED_CASES").map_or(CASES, |text| text.parse().expect("a number"));
    let chosen = env::var("PLANTED_FAULTS").ok();
    let is_chosen = |fault: &Fault| {
        let names = chosen.as_ref().map(|names| names.split(','));
        names.is_none_or(|mut names| names.any(|name| name == format!("{fault:?}")))
    };
    let mut missed = Vec::new();
    for fault in Fault::ALL.into_iter().filter(is_chosen) {
        plant(Some(fault));
        match (0..cases).find(|number| told(*number).is_some_and(|told| shows(fault, &told))) {
            Some(number) => println!("{fault:?}: caught by number {number}"),
            None => missed.push(fault),
        }
    }
    plant(None);
    let sound = (0..cases).find_map(|number| Some((number, told(number)?)));
    let _ = panic::take_hook();
    assert_eq!(sound, None, "without a fault nothing is to be caught");
    assert!(
        missed.is_empty(),
        "not noticed within {cases} cases: {missed:?}"
    );
}

/// What a case breaks with.
fn told(number: u64) -> Option<String> {
    let input = fuzz::random(number);
    let payload = panic::catch_unwind(|| fuzz::rules::run(&input)).err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| "a panic of another kind".to_owned()))
}

/// Whether it is what this fault is expected to lead to.
fn shows(fault: Fault, told: &str) -> bool {
    let differs = told.contains("differences, first of all:");
    match fault {
        // Only what comes in another order can show that.
        Fault::OldestWins => {
            let orders = ["told at once, ", "the order of events shows, "];
            differs && orders.iter().any(|start| told.starts_with(start))
        }
        _ => differs,
    }
}
