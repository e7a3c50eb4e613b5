//! The data plane's thread: events of the host first, then changes, a part at a time, so that a
//! full table on its way into the kernel does not delay a link failure.

use std::{collections::VecDeque, future::Future, io, pin::Pin, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    Inherited, bpf, capabilities,
    carrier::{self, Carriers},
    kernel::{Event, KernelError},
    linux::Linux,
    maps::MapSet,
    numbers::Retired,
    queue::Queue,
    reconciler::Reconciler,
    view::{Lookup, Snapshot, Tally},
    watch::Watch,
};
use crate::{
    config::DataplaneConfig,
    fib::{Change, Liveness},
    names::TableName,
};

/// Changes applied between two looks at events.
const PART: usize = 2048;

/// How often neighbours are asked.
const TICK: Duration = Duration::from_millis(500);

/// What is asked of the thread. Answers reflect all changes sent before the question.
pub(super) enum Command {
    Apply(Vec<Change>),
    Snapshot(oneshot::Sender<Snapshot>),
    Counters(oneshot::Sender<Tally>),
    Lookup {
        own: TableName,
        learned: Option<TableName>,
        address: std::net::IpAddr,
        answer: oneshot::Sender<Result<Lookup, KernelError>>,
    },
    Shutdown,
}

/// Loads and adopts, then runs until told to stop.
///
/// `started` is told once the host's state is known, and what was adopted.
pub(super) fn run(
    config: &DataplaneConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    queue: Queue,
    liveness: mpsc::UnboundedSender<Liveness>,
    started: oneshot::Sender<Result<Inherited>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let prepared = runtime
        .context("tokio cannot start")
        .and_then(|runtime| Ok((prepare(config, queue, &runtime)?, runtime)));
    match prepared {
        Ok((task, runtime)) => {
            let _ = started.send(Ok(task.reconciler.inherited()));
            runtime.block_on(task.run(commands, liveness));
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

fn prepare(
    config: &DataplaneConfig,
    queue: Queue,
    runtime: &tokio::runtime::Runtime,
) -> Result<Task> {
    capabilities::check()?;
    let (maps, host) = Linux::open(config)?;
    // Before the capability is dropped.
    let carriers = Carriers::open()
        .inspect_err(|error| {
            info!(
                "carriers are not watched, the kernel may tell of a lost one a second late: {error}"
            );
        })
        .ok();
    if let Err(error) = capabilities::drop_others() {
        warn!("capabilities that are not needed stay: {error}");
    }
    let _context = runtime.enter();
    // Subscribe first, then the full state, then deltas (invariant 7).
    let watch = Watch::open().context("netlink cannot be subscribed to")?;
    let mut reconciler = Reconciler::adopt(maps, host)?;
    resync(&mut reconciler).context("the host's interfaces cannot be read")?;
    Ok(Task {
        reconciler,
        watch,
        carriers,
        queue,
        inbox: VecDeque::new(),
        applied: 0,
        resync_due: false,
    })
}

fn resync(reconciler: &mut Reconciler<MapSet, Linux>) -> io::Result<()> {
    let links = reconciler.host.requests().links()?;
    let neighbours = reconciler.host.requests().neighbours()?;
    reconciler.resync(links, neighbours);
    Ok(())
}

struct Task {
    reconciler: Reconciler<MapSet, Linux>,
    watch: Watch,
    carriers: Option<Carriers>,
    queue: Queue,
    inbox: VecDeque<Command>,
    /// How many changes at the head of the inbox have been applied.
    applied: usize,
    /// The host's full state could not be read when it had to be.
    resync_due: bool,
}

/// A grace period under way, with what it frees.
type Grace = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<Retired>)>>>;

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        liveness: mpsc::UnboundedSender<Liveness>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(carrier::INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut grace: Option<Grace> = None;
        loop {
            tokio::select! {
                biased;
                result = self.watch.wait() => {
                    if let Err(error) = result {
                        error!("netlink: {error}");
                        return;
                    }
                    self.host_events();
                }
                _ = looks.tick(), if self.carriers.is_some() => self.look_at_carriers(),
                _ = ticks.tick() => self.tick(),
                (result, retired) = async {
                    match &mut grace {
                        Some(grace) => grace.await,
                        None => std::future::pending().await,
                    }
                } => {
                    grace = None;
                    match result {
                        Ok(()) => self.reconciler.grace_passed(retired),
                        Err(error) => warn!("{} places are lost: no grace period: {error}", retired.len()),
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.inbox.push_back(command),
                    None => return,
                },
                // Yields to the runtime, which is what finds new events.
                () = tokio::task::yield_now(), if self.busy() => {}
            }
            if self.work() {
                return;
            }
            for change in self.reconciler.take_liveness() {
                // Nobody listens any more while the daemon stops.
                let _ = liveness.send(change);
            }
            if grace.is_none() {
                let retired = self.reconciler.take_retired();
                if !retired.is_empty() {
                    grace = Some(Box::pin(async {
                        let waited = tokio::task::spawn_blocking(bpf::wait_for_programs).await;
                        (
                            waited.unwrap_or_else(|error| Err(io::Error::other(error))),
                            retired,
                        )
                    }));
                }
            }
        }
    }

    fn busy(&self) -> bool {
        !self.inbox.is_empty() || self.reconciler.sweeping() || self.reconciler.has_room()
    }

    fn host_events(&mut self) {
        match self.watch.read() {
            Ok(events) => {
                for event in events {
                    self.reconciler.host_event(event);
                }
            }
            Err(super::watch::Lost) => {
                warn!("events of the host were lost: its full state is read again");
                // What arrived meanwhile is older than the full state that follows.
                let _ = self.watch.read();
                self.resync();
            }
        }
    }

    /// The interfaces of next hops whose carrier has changed are asked for: events tell of it later.
    fn look_at_carriers(&mut self) {
        let Some(carriers) = &mut self.carriers else {
            return;
        };
        for ifindex in carriers.changed(self.reconciler.interfaces_of_next_hops()) {
            match self.reconciler.host.requests().link(ifindex) {
                Ok(Some(link)) => self.reconciler.host_event(Event::Link(link)),
                // Of its end an event tells.
                Ok(None) => {}
                Err(error) => warn!(ifindex, "an interface cannot be asked for: {error}"),
            }
        }
    }

    /// Reads the host's full state; if it cannot be read now, it is tried again at the next tick.
    fn resync(&mut self) {
        let result = resync(&mut self.reconciler);
        self.resync_due = result.is_err();
        if let Err(error) = result {
            error!("the host's state cannot be read, it is tried again: {error}");
        }
    }

    fn tick(&mut self) {
        if self.resync_due {
            self.resync();
        }
        self.reconciler.tick(self.inbox.is_empty());
    }

    /// Does a part of what there is to do; whether to stop.
    fn work(&mut self) -> bool {
        let Some(command) = self.inbox.pop_front() else {
            self.reconciler.settle();
            self.reconciler.sweep();
            self.reconciler.retry();
            return false;
        };
        match command {
            Command::Apply(changes) => {
                let end = changes.len().min(self.applied + PART);
                self.reconciler.apply(&changes[self.applied..end]);
                self.queue.shrink(end - self.applied);
                if end < changes.len() {
                    self.applied = end;
                    self.inbox.push_front(Command::Apply(changes));
                } else {
                    self.applied = 0;
                    if self.inbox.is_empty() {
                        self.reconciler.settle();
                    }
                }
            }
            // Who asked may be gone.
            Command::Snapshot(answer) => drop(answer.send(self.reconciler.snapshot())),
            Command::Counters(answer) => drop(answer.send(self.reconciler.counters())),
            Command::Lookup {
                own,
                learned,
                address,
                answer,
            } => drop(answer.send(self.reconciler.lookup(&own, learned.as_ref(), address))),
            Command::Shutdown => return true,
        }
        false
    }
}
