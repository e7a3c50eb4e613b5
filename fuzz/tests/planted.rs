//! Whether the model notices: every fault that can be planted in the product's rules breaks one of the
//! first cases. `cargo test --release -p fuzz --features planted-faults --test planted`.

use std::panic;

use router_user::planted::{Fault, plant};

/// Cases that each fault may take to be noticed.
const CASES: u64 = 3000;

#[test]
fn each_planted_fault_is_caught() {
    // What breaks is expected to; a line a fault is enough.
    panic::set_hook(Box::new(|_| {}));
    let caught = |fault| {
        plant(fault);
        (0..CASES).find(|number| {
            let input = fuzz::random(*number);
            panic::catch_unwind(|| fuzz::rules::run(&input)).is_err()
        })
    };
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        match caught(Some(fault)) {
            Some(number) => println!("{fault:?}: caught by number {number}"),
            None => missed.push(fault),
        }
    }
    let sound = caught(None);
    let _ = panic::take_hook();
    assert_eq!(sound, None, "without a fault nothing is to be caught");
    assert!(
        missed.is_empty(),
        "not noticed within {CASES} cases: {missed:?}"
    );
}
