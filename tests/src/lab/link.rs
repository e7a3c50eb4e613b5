//! A link: a veth pair between two hosts, or through a switch.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use super::{Host, Lab};

/// Interface number of the next second end. The first end has one of the low ones that the kernel
/// gives. Were the two equal, the kernel would take the end for a device without a peer, and tell of a
/// lost carrier up to a second late if any other interface of the machine changed shortly before.
static SECOND_END: AtomicU32 = AtomicU32::new(10_000);

/// A veth pair. It stays until it is deleted or the lab ends.
#[derive(Clone, Debug)]
pub struct Link {
    ends: [(Host, String); 2],
}

impl Link {
    /// Joins two hosts; both ends are up. The second end has GRO on: without an XDP program of its
    /// own it would not take the frames that the first end's XDP redirects to it.
    ///
    /// # Errors
    /// An interface of that name exists.
    pub fn new(first: (&Host, &str), second: (&Host, &str)) -> Result<Self> {
        let link = Self {
            ends: [first, second].map(|(host, interface)| (host.clone(), interface.to_owned())),
        };
        link.create()?;
        Ok(link)
    }

    /// Joins two hosts through a switch of its own, as on a real network: an end that dies behind a
    /// switch does not take the other's carrier with it. The links are the first and the second host's
    /// cables; of both the second end goes down.
    ///
    /// # Errors
    /// As [`Link::new`].
    pub fn through_switch(
        lab: &Lab,
        first: (&Host, &str),
        second: (&Host, &str),
    ) -> Result<[Self; 2]> {
        let switch = lab.host(&format!("switch-{}", first.1))?;
        switch.run("ip link add bridge type bridge mcast_snooping 0")?;
        let near = Self::new(first, (&switch, "near"))?;
        let far = Self::new((&switch, "far"), second)?;
        switch.run("ethtool -K far gro on")?;
        for (_, port) in [&near.ends[1], &far.ends[0]] {
            switch.run(&format!("ip link set {port} master bridge"))?;
        }
        switch.run("ip link set bridge up")?;
        Ok([near, far])
    }

    /// Creates the pair, again if it was deleted.
    ///
    /// # Errors
    /// It exists, or the kernel refuses.
    pub fn create(&self) -> Result<()> {
        let [(first, name), (second, peer)] = &self.ends;
        let index = SECOND_END.fetch_add(1, Ordering::Relaxed);
        first.run(&format!(
            "ip link add name {name} type veth peer name {peer} index {index} netns {second}"
        ))?;
        second.run(&format!("ethtool -K {peer} gro on"))?;
        self.up()
    }

    /// Pulls the cable: the first end loses its carrier.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn down(&self) -> Result<()> {
        self.set(1, "down")
    }

    /// Both ends up.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn up(&self) -> Result<()> {
        self.set(1, "up")?;
        self.set(0, "up")
    }

    /// Takes the pair away.
    ///
    /// # Errors
    /// It is gone already.
    pub fn delete(&self) -> Result<()> {
        let (host, interface) = &self.ends[0];
        host.run(&format!("ip link delete {interface}"))?;
        Ok(())
    }

    fn set(&self, end: usize, state: &str) -> Result<()> {
        let (host, interface) = &self.ends[end];
        host.run(&format!("ip link set {interface} {state}"))?;
        Ok(())
    }
}
