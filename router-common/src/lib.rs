//! What the daemon and the XDP program must agree on byte for byte: map keys and values, the
//! reasons for verdicts, the flow hash, and header arithmetic.
//!
//! No I/O, no allocation; everything here is unit-tested on the host.

#![cfg_attr(not(test), no_std)]

pub mod checksum;
pub mod flow;
pub mod header;
pub mod maps;
pub mod rate;
pub mod reason;
