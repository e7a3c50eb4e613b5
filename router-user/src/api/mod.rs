//! The surface for people and programs: JSON over HTTP on a Unix socket.
//!
//! In: requests. Out: [`types`], filled by the stages through `daemon`. No logic of a stage lives
//! here.

pub mod types;
