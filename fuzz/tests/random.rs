//! Random inputs of the convergence and rules targets in a plain loop, a few by default. Many:
//! `RANDOM_INPUTS=0..20000 cargo test --release -p fuzz --test random`.

use std::{env, ops::Range, panic};

#[test]
fn two_speakers_converge_after_random_events() {
    for number in numbers("0..200") {
        let input = fuzz::random(number);
        let result = panic::catch_unwind(|| fuzz::convergence::run(&input));
        assert!(result.is_ok(), "broken by number {number}");
    }
}

#[test]
fn selection_propagation_and_forwarding_are_those_of_the_model_in_any_order() {
    for number in numbers("0..600") {
        let input = fuzz::random(number);
        let result = panic::catch_unwind(|| fuzz::rules::run(&input));
        assert!(result.is_ok(), "broken by number {number}");
    }
}

/// Which inputs: the same numbers, the same inputs.
fn numbers(default: &str) -> Range<u64> {
    let text = env::var("RANDOM_INPUTS").unwrap_or_else(|_| default.to_owned());
    let (first, end) = text.split_once("..").expect("RANDOM_INPUTS=first..end");
    let number = |text: &str| text.parse().expect("RANDOM_INPUTS=first..end, two numbers");
    number(first)..number(end)
}
