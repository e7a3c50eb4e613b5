//! The XDP program in the kernel: real packets through `BPF_PROG_TEST_RUN`, against real maps.
//!
//! Needs root. Nothing is attached and no interface is touched.

// The modules of a test binary are nobody's interface.
#![allow(unreachable_pub)]

mod bpftool;
mod checksums;
mod choice;
mod forwarding;
mod garbage;
mod icmp;
mod packet;
mod peerings;
mod router;
mod verdicts;
