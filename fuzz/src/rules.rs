//! Route servers, networks and their peers: random settings, paths and changes, against a small model
//! that is computed from scratch ([`model`]).
//!
//! Whatever the order of the changes: what each session was sent, read from its UPDATEs, what became of
//! each path and why, and where packets of each port go, read from the forwarding tables, is what the
//! model says of the final state; and a second world that is told the final state at once, in another
//! order, ends up the same. A third one, in which limits hold, never has more than there may be, and sends
//! as many as there may be of what the model says.
//!
//! With `SHOW_CASE` in the environment the changes and the final state are printed.

use std::env;

use arbitrary::Unstructured;

use case::Case;
use edge::Limits;
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
    let mut world = World::new(&case.state, Limits::None);
    let limits = case.limits();
    let mut limited = World::new(&case.state, limits);
    let show = env::var_os("SHOW_CASE").is_some();
    while let Ok(Some(change)) = case.step(&mut bytes) {
        if show {
            eprintln!("{change:?}");
        }
        world.follow(&case.state, change);
        limited.follow(&case.state, change);
    }
    if show {
        eprintln!("{:#?}", case.state);
    }
    world.settle(&case.state);
    let expected = model::outcome(&case.state);
    let outcome = world.outcome(&case.state);
    compare::assert_same(&expected, &outcome, "after all changes");

    limited.settle(&case.state);
    if limits == Limits::Sent {
        let outcome = limited.outcome(&case.state);
        compare::assert_same_within_limit(&case.state, &expected, outcome);
    }

    let mut other = World::new(&case.state, Limits::None);
    for change in case.retold() {
        other.follow(&case.state, change);
    }
    other.settle(&case.state);
    let outcome = other.outcome(&case.state);
    compare::assert_same(&expected, &outcome, "told at once");
    compare::assert_same_rows(&world.rows(), &other.rows());
}
