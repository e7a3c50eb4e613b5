//! The lab: network namespaces, links, real BGP daemons, real packets, and Waypost under test.
//!
//! A scenario is a test in `scenarios/`, one subject a file:
//!
//! ```no_run
//! #[test]
//! fn a_machine_reaches_another() -> anyhow::Result<()> {
//!     tests::scenario(|lab| {
//!         let (left, right) = (lab.host("left")?, lab.host("right")?);
//!         // links, daemons, packets …
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Each scenario runs in a process of its own that is the first of its own PID namespace and has
//! its own mount and network namespaces (see [`lab::isolation`]). However it ends, nothing is left
//! of it but the logs in `target/lab/<program>/<test>/`.
//!
//! - [`lab`]: hosts, links, processes, captures, traffic.
//! - [`daemon`]: BIRD, FRR, GoBGP, OpenBGPD, ExaBGP behind one trait; a BGP speaker of bare bytes.
//! - [`waypost`]: the daemon under test, its configuration and what it says.
//! - [`network`]: virtual machines and appliances around one gateway host.
//! - [`injector`]: many BGP sessions of one's own that announce and check a million routes.
//! - [`internet`]: the table that they announce.
//! - [`interop`]: what every BGP daemon must be able to do with Waypost.
//! - [`mod@bench`]: the form that all benchmarks report in.
//! - [`kernel_maps`]: what the kernel's maps hold, read with `bpftool`.
//! - [`planned`]: whether what `waypost plan` says is what `waypost reload` does.
//! - [`topology`]: worlds of many networks, and the topologies told as stories.
//! - [`undisturbed`]: proof that an event left traffic and other sessions alone.
//! - [`updates`]: what captured packets say that a BGP session was told.
//! - [`overview`]: topology 1, which the demo and most scenarios use, and its story.

pub mod bench;
pub mod daemon;
pub mod injector;
pub mod internet;
pub mod interop;
pub mod kernel_maps;
pub mod lab;
pub mod network;
pub mod overview;
pub mod planned;
pub mod topology;
pub mod undisturbed;
pub mod updates;
pub mod waypost;

pub use lab::{Lab, scenario, wait::until};
