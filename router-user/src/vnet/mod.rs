//! Virtual networks: which routes apply in which subnet.
//!
//! In: the configuration and [`LearnedChange`](crate::rib::LearnedChange)s of the route servers.
//! Out: tables, routes and ports for `fib`, and the effective routes of each subnet with the reason
//! for each loser. What BGP is, is not known here.
