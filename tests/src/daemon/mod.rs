//! Real BGP daemons behind one trait, and a speaker of bare bytes for what no daemon would send.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use ipnet::IpNet;

use crate::lab::{Host, Process, wait::until};

mod bird;
mod exabgp;
pub mod feed;
mod frr;
mod gobgp;
mod openbgpd;
pub mod options;
pub mod policy;
pub mod raw;
pub mod words;

pub use bird::Bird;
pub use exabgp::ExaBgp;
pub use frr::Frr;
pub use gobgp::GoBgp;
pub use openbgpd::OpenBgpd;
pub use options::Options;
pub use policy::Policy;

/// What a daemon is to do, in words that all of them can be configured by.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Its ASN.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its own addresses: local ends of its sessions and next hops of what it announces.
    pub addresses: Vec<IpAddr>,
    /// Its neighbours.
    pub neighbors: Vec<Neighbor>,
    /// Prefixes that it announces from the start.
    pub announce: Vec<IpNet>,
    /// How next hops that are not on a link are reached: prefix and gateway.
    pub underlay: Vec<(IpNet, IpAddr)>,
    /// Whether what it learns goes into the kernel's table, so that the host forwards by it.
    pub install: bool,
    /// What its sessions have beyond the plain protocol; not those of [`Neighbor::plain`].
    pub options: Options,
}

/// A neighbour of a daemon.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// Its address. The session runs from the speaker's own address of the same family that lies on
    /// the same link, or from its first one.
    pub address: IpAddr,
    /// Local address of the session.
    pub local: IpAddr,
    /// Its ASN.
    pub asn: u32,
    /// Wait for its connection.
    pub passive: bool,
    /// It is not on a link of ours.
    pub multihop: bool,
    /// The speaker's options are not for this session.
    pub plain: bool,
}

impl Speaker {
    /// The speaker's own address of this family, which is the next hop of what it announces.
    fn own(&self, ipv4: bool) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| address.is_ipv4() == ipv4)
    }
}

/// A route as a daemon received it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Prefix.
    pub prefix: IpNet,
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// AS path, ASNs separated by blanks.
    pub as_path: String,
    /// Communities of all kinds as in [`words`].
    pub communities: BTreeSet<String>,
    /// Kept although its neighbour is away (RFC 4724, RFC 9494), where the daemon tells.
    pub stale: bool,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            next_hop,
            as_path,
            communities,
            stale,
        } = self;
        write!(f, "{prefix} via {next_hop} path {as_path}")?;
        if !communities.is_empty() {
            let first: Vec<&str> = communities.iter().take(8).map(String::as_str).collect();
            write!(
                f,
                " with {} communities {} …",
                communities.len(),
                first.join(" ")
            )?;
        }
        f.write_str(if *stale { " stale" } else { "" })
    }
}

/// A running BGP daemon.
pub trait Daemon: Send {
    /// What it calls itself, for example `BIRD on sdwan`.
    fn title(&self) -> String;

    /// State of each session in the daemon's own words, lower case, by the neighbour's address.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn sessions(&self) -> Result<BTreeMap<IpAddr, String>>;

    /// What it has received from a neighbour, sorted.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn received(&self, neighbor: IpAddr) -> Result<Vec<Route>>;

    /// Announces a prefix from now on.
    ///
    /// # Errors
    /// The daemon refuses.
    fn announce(&mut self, prefix: IpNet) -> Result<()>;

    /// Announces it no more.
    ///
    /// # Errors
    /// The daemon refuses.
    fn withdraw(&mut self, prefix: IpNet) -> Result<()>;

    /// The process that speaks BGP.
    fn process(&mut self) -> &mut Process;

    /// What is agreed on with a neighbour, in [`words`], by the daemon's own words.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn capabilities(&self, neighbor: IpAddr) -> Result<BTreeSet<String>>;

    /// How many routes a neighbour has sent: IPv4, IPv6.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn count(&self, neighbor: IpAddr) -> Result<[usize; 2]> {
        let routes = self.received(neighbor)?;
        let ipv4 = routes.iter().filter(|route| route.prefix.addr().is_ipv4());
        let ipv4 = ipv4.count();
        Ok([ipv4, routes.len() - ipv4])
    }

    /// Whether a neighbour has sent this prefix with exactly these standard communities, where
    /// [`Daemon::received`] may not show all of them.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn has_communities(
        &self,
        neighbor: IpAddr,
        prefix: IpNet,
        communities: &BTreeSet<String>,
    ) -> Result<bool> {
        let routes = self.received(neighbor)?;
        let mut routes = routes.iter().filter(|route| route.prefix == prefix);
        let route = routes
            .next()
            .ok_or_else(|| anyhow!("{prefix} is not there"))?;
        let missing = communities.difference(&route.communities).next();
        ensure!(missing.is_none(), "no {missing:?} in {route}");
        Ok(route.communities == *communities)
    }

    /// Asks a neighbour to send all its routes again (RFC 2918).
    ///
    /// # Errors
    /// The daemon refuses.
    fn refresh(&mut self, neighbor: IpAddr) -> Result<()>;

    /// How many ROUTE-REFRESH messages it has received from a neighbour, markers not counted.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn refreshes(&self, neighbor: IpAddr) -> Result<usize>;

    /// How many markers of an enhanced route refresh (RFC 7313) it has received from a neighbour, by its
    /// counters or by its log from the first call on: beginnings, ends. `None`: it does not tell.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn markers(&self, _neighbor: IpAddr) -> Result<Option<[usize; 2]>> {
        Ok(None)
    }

    /// Closes the session for administrative reasons, with a text (RFC 9003), and keeps it closed.
    /// Returns the text that the neighbour is told.
    ///
    /// # Errors
    /// The daemon refuses.
    fn shut(&mut self, neighbor: IpAddr, text: &str) -> Result<String>;

    /// Takes [`Daemon::shut`] back.
    ///
    /// # Errors
    /// The daemon refuses.
    fn unshut(&mut self, neighbor: IpAddr) -> Result<()>;

    /// Gives it another TCP MD5 key for its protected neighbours while it runs, the way its operator
    /// would, with whatever it takes for their sessions to use the key.
    ///
    /// # Errors
    /// The daemon refuses.
    fn change_key(&mut self, key: &str) -> Result<()>;

    /// What the daemon says about the end of the last session: its state, its log.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn last_error(&self, neighbor: IpAddr) -> Result<String>;

    /// Announces (`announce`) or withdraws (`withdraw`) many routes of its own, as
    /// [`Daemon::originate`] one.
    ///
    /// # Errors
    /// The daemon refuses.
    fn originate_many(&mut self, _verb: &str, _prefixes: &[IpNet]) -> Result<bool> {
        Ok(false)
    }

    /// Announces a route with attributes of its own, where the daemon originates such; `false`: it
    /// only passes on what a peer behind it announces.
    ///
    /// # Errors
    /// The daemon refuses.
    fn originate(&mut self, _announcement: &feed::Announcement) -> Result<bool> {
        Ok(false)
    }

    /// Waits until the sessions with these neighbours are established, by the daemon's own word.
    ///
    /// # Errors
    /// One is not within `limit`.
    fn established(&self, neighbors: &[IpAddr], limit: Duration) -> Result<()> {
        let title = self.title();
        let expected = format!("{title}: sessions with {neighbors:?} established");
        until(&expected, limit, || {
            let sessions = self.sessions()?;
            let up = |neighbor| {
                sessions
                    .get(neighbor)
                    .is_some_and(|state| state == "established")
            };
            ensure!(neighbors.iter().all(up), "{sessions:?}");
            Ok(())
        })
    }

    /// Waits until a neighbour has sent this prefix, and returns the route.
    ///
    /// # Errors
    /// It has not within `limit`.
    fn learns(&self, prefix: IpNet, neighbor: IpAddr, limit: Duration) -> Result<Route> {
        let title = self.title();
        let expected = format!("{title} learns {prefix} from {neighbor}");
        until(&expected, limit, || {
            let routes = self.received(neighbor)?;
            let found = routes.iter().find(|route| route.prefix == prefix).cloned();
            found.ok_or_else(|| anyhow!("{}", as_text(&routes)))
        })
    }

    /// Waits until a neighbour does not send this prefix any more.
    ///
    /// # Errors
    /// It still does after `limit`.
    fn loses(&self, prefix: IpNet, neighbor: IpAddr, limit: Duration) -> Result<()> {
        let title = self.title();
        let expected = format!("{title} has no {prefix} from {neighbor}");
        until(&expected, limit, || {
            let routes = self.received(neighbor)?;
            let gone = routes.iter().all(|route| route.prefix != prefix);
            ensure!(gone, "{}", as_text(&routes));
            Ok(())
        })
    }
}

/// Routes as one line.
#[must_use]
pub fn as_text(routes: &[Route]) -> String {
    let words: Vec<String> = routes.iter().map(Route::to_string).collect();
    if words.is_empty() {
        return "no routes".to_owned();
    }
    words.join("; ")
}

/// Writes a configuration into the host's folder and returns its path.
fn write_config(host: &Host, file: &str, text: &str) -> Result<std::path::PathBuf> {
    let path = host.folder().join(file);
    std::fs::write(&path, text)?;
    Ok(path)
}
