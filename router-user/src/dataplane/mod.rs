//! Makes the kernel equal to the desired forwarding state: loads, attaches and pins the XDP program,
//! writes its maps, resolves neighbours, reads counters.
//!
//! In: [`Change`](crate::fib::Change)s. Out: [`Liveness`](crate::fib::Liveness) of next hops. It
//! gives out the numbers of maps and interfaces; nobody else knows them. It subscribes first, takes
//! the full state, then deltas, and starts over on failure (invariant 7).

pub mod object;
