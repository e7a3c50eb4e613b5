//! Many virtual networks on one gateway host: 500 networks of four subnets each, all of which use the
//! hub's route server by peering, 10,000 learned routes, a live daemon, real kernel maps.
//!
//! An injector plays an appliance and an ExpressRoute gateway in the hub. What the kernel is to hold
//! after each change is known beforehand, as facts about ports, prefixes and the addresses that they
//! lead to, and so is what both of them are to be told; the clock stops when all facts hold at once
//! and both know all that they are to know, and nothing else.
//!
//! - `initial`: until the tries hold everything, beside a bare loop of `bpf(2)` that writes the same
//!   keys and values into tries of the same kind. Two parts: the own tables after the start, and the
//!   learned routes after the first byte of BGP. Loading the program and attaching it to the ports
//!   come in between and are told apart.
//! - `one prefix`: from the UPDATE of a changed prefix to the trie, many times, one at a time.
//! - `branch_to_branch`, a peering, `routing_preference`: changed in the file, `waypost reload`.
//!   Sessions stay up, which is asserted.

// The modules of a benchmark are nobody's interface.
#![allow(unreachable_pub)]

#[path = "vnets/bare.rs"]
mod bare;
#[path = "vnets/bed.rs"]
mod bed;
#[path = "vnets/changes.rs"]
mod changes;
#[path = "vnets/configuration.rs"]
mod configuration;
#[path = "vnets/daemon.rs"]
mod daemon;
#[path = "vnets/initial.rs"]
mod initial;
#[path = "vnets/kernel.rs"]
mod kernel;
#[path = "vnets/latency.rs"]
mod latency;
#[path = "vnets/load.rs"]
mod load;
#[path = "vnets/peers.rs"]
mod peers;
#[path = "vnets/results.rs"]
mod results;

use std::{env, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use tests::{
    Lab, bench,
    internet::Table,
    lab::isolation::{self, Place},
    waypost,
};

use self::{
    bed::Bed,
    changes::Change,
    configuration::Settings,
    kernel::{Kernel, Watch},
    load::Load,
    peers::Peers,
    results::Results,
};

/// Measured only if `cargo bench` says so: `cargo test` runs benchmarks too.
const SWITCH: &str = "--bench";

/// Many virtual networks, one route server.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench vnets")]
pub struct Arguments {
    /// Virtual networks, the hub among them.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=4000))]
    vnets: u32,
    /// Routes that are learned.
    #[arg(long, default_value_t = 10_000)]
    routes: usize,
    /// Which subnets have a machine behind a port.
    #[arg(long, value_enum, default_value_t = Ports::Auto)]
    ports: Ports,
    /// Changes of a single prefix.
    #[arg(long, default_value_t = 1000)]
    samples: usize,
    /// How often each change of the configuration is made and taken back.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Let the daemon and the injector share all CPUs.
    #[arg(long)]
    unpinned: bool,
    /// Seconds after which a step is given up.
    #[arg(long, default_value_t = 120)]
    limit: u64,
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ports {
    /// Every subnet, unless making so many interfaces would take too long.
    Auto,
    /// Every subnet.
    Subnets,
    /// One subnet of each network.
    Vnets,
}

fn main() -> Result<()> {
    if !env::args().any(|argument| argument == SWITCH) {
        println!("vnets: run with `cargo bench`");
        return Ok(());
    }
    let arguments = Arguments::parse();
    match isolation::place()? {
        Place::Inside(folder) => measure(&folder, &arguments),
        Place::Outside => {
            waypost::binary()?;
            let folder = isolation::fresh_folder("bench", "vnets")?;
            let again: Vec<String> = env::args().skip(1).collect();
            let status = isolation::run_attached(&folder, &again)?;
            ensure!(status.success(), "logs: {}", folder.display());
            Ok(())
        }
    }
}

fn measure(folder: &Path, arguments: &Arguments) -> Result<()> {
    let limit = Duration::from_secs(arguments.limit);
    let table = Table::load()?;
    let load = Load::new(&table, arguments.routes)?;
    let lab = Lab::new(folder)?;
    bench::go_first();
    let bed = Bed::set_up(&lab, arguments.vnets, arguments.ports, !arguments.unpinned)?;
    let mut results = Results::new();
    results.note(format!("prefixes and AS paths: {}", table.origin));
    results.note(bench::cpus(!arguments.unpinned));
    results.note(bed.ports_in_words());

    let mut settings = Settings::default();
    let (mut daemon, own) = initial::start(&bed, &settings, limit)?;
    let mut injector = bed.establish(|| daemon.check())?;
    let peers = Peers::new(&bed, &load);
    peers.listen(&mut injector, &settings);
    let kernel = Kernel::open(&bed)?;
    let facts = changes::facts(&bed, &load, &settings);
    let learned = bed.inject(|| initial::learn(&kernel, &mut injector, &load, &facts, limit))?;
    let tries = kernel.dump()?;
    let bare = bed.speak(|| bare::write_again(&tries))?;
    results.initial(own, learned, &bare, &tries);
    results.bound(&tries, arguments.routes)?;
    results.memory(&daemon)?;

    let sessions = daemon.sessions()?;
    let samples = arguments.samples;
    let latencies =
        bed.inject(|| latency::one_prefix(&bed, &kernel, &mut injector, &load, samples, limit))?;
    results.one_prefix(&latencies);
    for (change, there) in Change::all(arguments.rounds) {
        settings = change.made(settings, there);
        let facts = changes::facts(&bed, &load, &settings);
        let seconds = bed
            .inject(|| {
                peers.expect(&mut injector, &settings);
                ensure!(
                    injector.right_since().is_none() || !kernel.holds_all(&facts)?,
                    "all is so before the change"
                );
                let (mut watch, mut kernel_s) = (Watch::default(), None);
                let poll = || {
                    // Who reloads needs the CPU too.
                    injector.turn(Duration::from_millis(1))?;
                    if kernel_s.is_none() {
                        kernel_s = kernel.poll(&mut watch, &facts)?;
                    }
                    let Some((one, other)) = kernel_s.zip(injector.right_since()) else {
                        return Ok(None);
                    };
                    // At the end, for it takes time in which nobody listens to the peers.
                    if !kernel.holds_all(&facts)? {
                        (watch, kernel_s) = (Watch::default(), None);
                        return Ok(None);
                    }
                    Ok(Some(one.max(other)))
                };
                let seconds = daemon.reload(&bed, &settings, poll, limit);
                seconds.with_context(|| injector.progress(&peers.prefixes))
            })
            .with_context(|| change.name(there))?;
        results.change(change, there, seconds);
        ensure!(
            daemon.sessions()? == sessions,
            "{}: sessions (peer, instance, state, how often established) were {sessions:?} and are \
             {:?}",
            change.name(there),
            daemon.sessions()?
        );
    }
    results.finish(&daemon)
}
