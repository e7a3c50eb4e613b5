//! Makes the kernel equal to the desired forwarding state: loads, attaches and pins the XDP program,
//! writes its maps, resolves neighbours, reads counters.
//!
//! In: [`Change`]s. Out: [`Liveness`] of next hops. It gives out the numbers of maps and
//! interfaces; nobody else knows them. It subscribes first, takes the full state, then deltas, and
//! starts over on failure (invariant 7).
//!
//! `reconciler` decides what is written and in which order; `kernel` says what it writes to, `maps`
//! and `linux` are the real ones, `fake` the one of unit tests; `task` is the thread they live on.

mod adopt;
mod bpf;
mod capabilities;
mod carrier;
mod ethtool;
#[cfg(test)]
mod fake;
mod gateways;
mod handover;
mod index;
mod kernel;
mod linux;
mod maps;
mod netlink;
mod next_hops;
mod numbers;
pub mod object;
mod pins;
mod ports;
mod queue;
mod reconciler;
mod restricted;
mod tables;
mod task;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod words;

use std::{net::IpAddr, path::PathBuf, thread};

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};

pub use self::{capabilities::Missing, pins::PinError, view::Lookup};
use self::{queue::Queue, task::Command};
use crate::{
    api::types::{Counters, FibView},
    config::DataplaneConfig,
    fib::{Change, Liveness},
    names::TableName,
};

/// The data plane of this host.
#[derive(Debug)]
pub struct Dataplane;

/// Speaks to the data plane's thread. Answers reflect all changes that were sent before.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    queue: Queue,
    /// Closed once the thread has ended.
    ended: mpsc::Sender<()>,
    inherited: Inherited,
}

/// Whether an earlier run left routes in the pinned tries, which were adopted and forward on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inherited {
    /// In `routes_v4`.
    pub ipv4: bool,
    /// In `routes_v6`.
    pub ipv6: bool,
}

impl Dataplane {
    /// Loads the program, adopts what is pinned, and starts the thread. Interfaces become ports by
    /// [`Handle::apply`].
    ///
    /// # Errors
    /// No bpffs, a missing capability, another daemon on the same pins, a kernel that refuses: each
    /// with its remedy.
    pub fn start(config: DataplaneConfig) -> Result<(Handle, mpsc::UnboundedReceiver<Liveness>)> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (liveness, changes) = mpsc::unbounded_channel();
        let (ended, alive) = mpsc::channel(1);
        let (started, start) = oneshot::channel();
        let queue = Queue::default();
        let its_queue = queue.clone();
        thread::Builder::new()
            .name("dataplane".into())
            .spawn(move || {
                task::run(&config, inbox, its_queue, liveness, started);
                // Pins are unlocked by now.
                drop(alive);
            })
            .context("the data plane's thread cannot start")?;
        // A plain thread answers: also inside of a runtime this blocks only while it loads.
        let started = thread::scope(|scope| scope.spawn(|| start.blocking_recv()).join());
        let inherited = started
            .ok()
            .and_then(Result::ok)
            .context("the data plane's thread has died")??;
        let handle = Handle {
            commands,
            queue,
            ended,
            inherited,
        };
        Ok((handle, changes))
    }
}

impl Handle {
    /// What was adopted at the start.
    #[must_use]
    pub fn inherited(&self) -> Inherited {
        self.inherited
    }

    /// Whether so few changes wait that more should be sent. While they wait, what is wanted may
    /// change again, and what is written at once is written faster.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// Returns once [`has_room`](Self::has_room) says so.
    pub async fn room(&self) {
        self.queue.room().await;
    }

    /// Sends changes, to be applied in order.
    pub fn apply(&self, changes: Vec<Change>) {
        self.queue.grow(changes.len());
        self.send(Command::Apply(changes));
    }

    /// The forwarding state as it stands in the maps.
    ///
    /// # Errors
    /// The data plane has stopped.
    pub async fn view(&self) -> Result<FibView> {
        let snapshot = self.ask(Command::Snapshot).await?;
        // A million routes take a second to read: not on the data plane's thread.
        tokio::task::spawn_blocking(|| snapshot.complete())
            .await
            .context("the maps cannot be read")
    }

    /// Counters of ports and next hops, all CPUs summed.
    ///
    /// # Errors
    /// The data plane has stopped.
    pub async fn counters(&self) -> Result<Counters> {
        let tally = self.ask(Command::Counters).await?;
        // Thousands of drivers are asked one by one: not on the data plane's thread.
        tokio::task::spawn_blocking(|| tally.complete())
            .await
            .context("the drivers cannot be asked")
    }

    /// What the kernel's tries answer for an address.
    ///
    /// # Errors
    /// The data plane has stopped, or the maps cannot be read.
    pub async fn lookup(
        &self,
        own: &TableName,
        learned: Option<&TableName>,
        address: IpAddr,
    ) -> Result<Lookup> {
        let (own, learned) = (own.clone(), learned.cloned());
        let answer = self.ask(|answer| Command::Lookup {
            own,
            learned,
            address,
            answer,
        });
        Ok(answer.await??)
    }

    /// Stops the thread once all that was sent is applied. Pins stay, packets go on.
    pub async fn shutdown(self) {
        self.send(Command::Shutdown);
        self.ended.closed().await;
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the data plane has stopped");
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(question(answer));
        answered.await.context("the data plane has stopped")
    }
}

/// Detaches the program from every port and removes every pin of the instance, without a daemon.
/// Returns what was removed.
///
/// # Errors
/// No bpffs, a missing capability, or a daemon that is running: each with its remedy.
pub fn flush(config: &DataplaneConfig) -> Result<Vec<PathBuf>> {
    capabilities::check()?;
    match pins::Pins::open_existing(config)? {
        Some(pins) => pins.remove_all(),
        None => Ok(Vec::new()),
    }
}
