//! Random inputs of the convergence and rules targets in a plain loop, a few by default. Many:
//! `RANDOM_INPUTS=0..20000 cargo test --release -p fuzz --test random`.

use std::{env, ops::Range, panic};

#[test]
fn two_speakers_converge_after_random_events() {
    assert_none_breaks(fuzz::convergence::run, numbers("0..200"));
}

#[test]
fn selection_propagation_and_forwarding_are_those_of_the_model_in_any_order() {
    assert_none_breaks(fuzz::rules::run, numbers("0..600"));
}

fn assert_none_breaks(run: fuzz::Target, numbers: Range<u64>) {
    let breaks = |number: &u64| {
        let input = fuzz::random(*number);
        panic::catch_unwind(|| run(&input)).is_err()
    };
    let broken: Vec<_> = numbers.filter(breaks).collect();
    assert!(broken.is_empty(), "broken by the numbers {broken:?}");
}

/// Which inputs: the same numbers, the same inputs.
fn numbers(default: &str) -> Range<u64> {
    let text = env::var("RANDOM_INPUTS").unwrap_or_else(|_| default.to_owned());
    let (first, end) = text.split_once("..").expect("RANDOM_INPUTS=first..end");
    let number = |text: &str| text.parse().expect("RANDOM_INPUTS=first..end, two numbers");
    number(first)..number(end)
}
