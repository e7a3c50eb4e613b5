//! From nothing to everything: the own tables after the start, the learned routes after BGP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tests::injector::Injector;

use crate::{
    bed::Bed,
    configuration::Settings,
    daemon::Daemon,
    kernel::{self, Fact, Kernel, Watch},
    load::Load,
};

/// Nothing is written any more if nothing was for so long.
const QUIET: Duration = Duration::from_secs(1);
/// Time between two looks at the tries' sizes.
const PAUSE: Duration = Duration::from_micros(200);

/// How the own tables were filled.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Seconds from the first entry to the last.
    pub filling: f64,
    /// Seconds from the start of the process until its program is attached to every port.
    pub attached: f64,
}

/// When the tries' size changed.
#[derive(Default)]
struct Sizes {
    /// The last moment at which they were empty.
    empty: Option<Instant>,
    /// The last change that was seen.
    changed: Option<Instant>,
}

/// Starts the daemon, and returns once it answers, every port is attached and nothing is written any
/// more.
pub fn start(bed: &Bed, settings: &Settings, limit: Duration) -> Result<(Daemon, Own)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| bed.inject(|| watch(&stop)));
        let started = until_attached(bed, settings, limit);
        stop.store(true, Ordering::Relaxed);
        let Ok(watched) = watch.join() else {
            bail!("the watching thread panicked");
        };
        let (daemon, attached) = started?;
        let sizes = watched?;
        let (first, last) = sizes
            .empty
            .zip(sizes.changed)
            .context("nothing was written")?;
        let own = Own {
            filling: (last - first).as_secs_f64(),
            attached: attached.as_secs_f64(),
        };
        Ok((daemon, own))
    })
}

fn until_attached(bed: &Bed, settings: &Settings, limit: Duration) -> Result<(Daemon, Duration)> {
    let start = Instant::now();
    let mut daemon = bed.speak(|| Daemon::launch(bed, settings))?;
    // The machines', the appliance's, the gateway's.
    let ports = bed.machines.len() + 2;
    let wait = |what: &str, daemon: &mut Daemon| -> Result<()> {
        daemon.check()?;
        ensure!(start.elapsed() < limit, "after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    while kernel::attached().unwrap_or(0) < ports {
        wait("not all ports are attached", &mut daemon)?;
    }
    let attached = start.elapsed();
    while !daemon.answers() {
        wait("no answer on the socket", &mut daemon)?;
    }
    thread::sleep(QUIET);
    Ok((daemon, attached))
}

fn watch(stop: &AtomicBool) -> Result<Sizes> {
    let maps = loop {
        if let (Ok(v4), Ok(v6)) = (kernel::pinned("routes_v4"), kernel::pinned("routes_v6")) {
            break [v4, v6];
        }
        if stop.load(Ordering::Relaxed) {
            bail!("the daemon has made no tries");
        }
        thread::sleep(Duration::from_millis(1));
    };
    let (mut sizes, mut before) = (Sizes::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let size = kernel::size(&maps[0])? + kernel::size(&maps[1])?;
        if size == 0 {
            sizes.empty = Some(asked);
        } else if size != before {
            sizes.changed = Some(asked);
        }
        before = size;
        thread::sleep(PAUSE);
    }
    Ok(sizes)
}

/// Lets the injector announce everything; seconds from the first byte until all of the facts are seen
/// to hold.
pub fn learn(
    kernel: &Kernel,
    injector: &mut Injector,
    load: &Load,
    facts: &[Fact],
    limit: Duration,
) -> Result<f64> {
    ensure!(!kernel.holds_all(facts)?, "all is so before the first byte");
    let start = Instant::now();
    for (session, stream) in injector.sessions.iter_mut().zip(&load.streams) {
        session.queue(Arc::clone(stream));
    }
    let mut watch = Watch::default();
    loop {
        injector.turn(Duration::ZERO)?;
        if let Some(seen) = kernel.poll(&mut watch, facts)? {
            // At the end, for it takes time in which nobody listens to the peers.
            if kernel.holds_all(facts)? {
                return Ok((seen - start).as_secs_f64());
            }
            watch = Watch::default();
        }
        ensure!(
            start.elapsed() < limit,
            "after {limit:?} not all is as expected: {watch:?} of {} facts",
            facts.len()
        );
    }
}
