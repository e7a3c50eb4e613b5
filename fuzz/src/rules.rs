//! Route servers, networks and their peers: random settings, paths and changes, against a small model
//! that is computed from scratch ([`model`]).
//!
//! Whatever the order of the changes: what each session was sent, read from its UPDATEs, which paths
//! were taken, and where packets of each port go, read from the forwarding tables, is what the model
//! says of the final state; and a second world that is told the final state at once, in another order,
//! ends up the same.
//!
//! With `SHOW_CASE` in the environment the changes and the final state are printed.

use std::env;

use arbitrary::Unstructured;

use case::Case;
use world::World;

mod case;
mod compare;
mod edge;
mod model;
mod world;

/// A case from the bytes, its story, and the comparisons.
pub fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    // An error: a choice was not possible, and the case has no more than that.
    let Ok(mut case) = Case::read(&mut bytes) else {
        return;
    };
    let mut world = World::new(&case.state);
    let show = env::var_os("SHOW_CASE").is_some();
    while let Ok(Some(change)) = case.step(&mut bytes) {
        if show {
            eprintln!("{change:?}");
        }
        world.follow(&case.state, change);
    }
    if show {
        eprintln!("{:#?}", case.state);
    }
    world.settle(&case.state);
    let expected = model::outcome(&case.state);
    let outcome = world.outcome(&case.state);
    compare::assert_same(&expected, &outcome, "after all changes");

    let mut other = World::new(&case.state);
    for change in case.retold() {
        other.follow(&case.state, change);
    }
    other.settle(&case.state);
    let outcome = other.outcome(&case.state);
    compare::assert_same(&expected, &outcome, "told at once");
    compare::assert_same_rows(&world.rows(), &other.rows());
}
