//! The types of events. They are those of the log's lines: names of fields are stable.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Kind, now};
use crate::{
    api::query::PeerCommand,
    bgp::wire::Family,
    names::{PeerName, RouteServerName},
};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, UTC, to the microsecond: `2026-01-31T09:30:00.000000Z`.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// Why.
    pub cause: String,
    /// What that does.
    pub effect: String,
}

/// What happened. `kind` and `event` say which of these it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A session came up or went down.
    Session(SessionEvent),
    /// A peer's number of routes and its limit.
    Limit(LimitEvent),
    /// What subnets learn of a prefix.
    Route(RouteEvent),
    /// A next hop died or came back.
    Failover(FailoverEvent),
    /// A command.
    Operator(OperatorEvent),
    /// The configuration was read again.
    Reload(ReloadEvent),
    /// The daemon itself.
    Daemon(DaemonEvent),
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionName {
    /// Route server.
    pub route_server: RouteServerName,
    /// Instance, 1 or 2.
    pub instance: u8,
    /// Name of the peer.
    pub peer: PeerName,
    /// Its address.
    pub address: IpAddr,
}

/// A session came up or went down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// It is Established.
    Up(SessionName),
    /// It no longer is.
    Down(SessionName),
}

/// A peer's number of routes and its limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LimitEvent {
    /// 80 % of it.
    Warned(LimitCount),
    /// As many as are allowed.
    Reached(LimitCount),
    /// More than are allowed.
    Over(LimitCount),
}

/// How many routes there are, and how many there may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LimitCount {
    /// Of which session.
    #[serde(flatten)]
    pub session: SessionName,
    /// Of which family.
    pub family: Family,
    /// Which ones.
    pub direction: Direction,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub max: usize,
}

/// Which way routes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer announced them.
    Received,
    /// The peer is sent them.
    Advertised,
}

/// What subnets learn of a prefix.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RouteEvent {
    /// There was no route.
    Learned(RouteChange),
    /// It has other next hops.
    Changed(RouteChange),
    /// No route is left.
    Withdrawn(RouteChange),
    /// More changes than are written one by one.
    Summary(RouteSummary),
}

/// The next hops of a prefix, before and after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteChange {
    /// Which route server learned it.
    pub route_server: RouteServerName,
    /// The prefix.
    pub prefix: IpNet,
    /// Its next hops before; empty: none.
    pub before: Vec<IpAddr>,
    /// Its next hops now; empty: none.
    pub after: Vec<IpAddr>,
    /// The peers whose messages or sessions caused it.
    pub peers: Vec<PeerName>,
}

/// How many prefixes changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteSummary {
    /// Which route server learned them.
    pub route_server: RouteServerName,
    /// Learned, or with other next hops.
    pub learned: u64,
    /// Withdrawn.
    pub withdrawn: u64,
    /// The peers whose messages or sessions caused it.
    pub peers: Vec<PeerName>,
}

/// A next hop died or came back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FailoverEvent {
    /// No packet can be sent there.
    NextHopDown(NextHopUse),
    /// Packets can be sent there again.
    NextHopUp(NextHopUse),
}

/// What names a next hop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NextHopUse {
    /// Its stable name: `via hub 10.1.10.4`.
    pub next_hop: String,
    /// Groups that have it as member or backup.
    pub groups: usize,
    /// Routes that name these groups.
    pub routes: usize,
    /// Of these groups, those without any other next hop that lives.
    pub groups_without_other: usize,
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum OperatorEvent {
    /// `waypost instance stop`.
    InstanceStopped {
        /// Of which route server.
        route_server: RouteServerName,
        /// 1 or 2.
        instance: u8,
    },
    /// `waypost instance start`.
    InstanceStarted {
        /// Of which route server.
        route_server: RouteServerName,
        /// 1 or 2.
        instance: u8,
    },
    /// `waypost peer …`.
    PeerCommand {
        /// For which session.
        #[serde(flatten)]
        session: SessionName,
        /// Which one.
        command: PeerCommand,
    },
}

/// The configuration was read again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ReloadEvent {
    /// It holds now.
    Applied {
        /// What changed, a sentence each; the first hundred.
        changes: Vec<String>,
        /// How many there were.
        count: usize,
    },
    /// It has faults; nothing was changed.
    Refused,
}

/// The daemon itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DaemonEvent {
    /// It runs.
    Started {
        /// Version of Waypost.
        version: String,
        /// Process number.
        pid: u32,
    },
    /// It ends.
    Stopped {
        /// Process number.
        pid: u32,
    },
    /// Events were not written: there was no room in the queue, or on the disk.
    Lost {
        /// How many.
        events: u64,
    },
    /// Events were written, but are gone before this reader came to them. No line of the log itself.
    Missed,
}

/// Whom an event is about.
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) route_server: Option<&'a RouteServerName>,
    pub(super) peers: &'a [PeerName],
}

impl<'a> Subject<'a> {
    fn new(kind: Kind, route_server: Option<&'a RouteServerName>, peers: &'a [PeerName]) -> Self {
        Self {
            kind,
            route_server,
            peers,
        }
    }

    fn of_session(kind: Kind, session: &'a SessionName) -> Self {
        let peers = std::slice::from_ref(&session.peer);
        Self::new(kind, Some(&session.route_server), peers)
    }
}

impl Event {
    /// It happens now.
    pub(super) fn now(what: What, cause: String, effect: String) -> Self {
        Self {
            time: now(),
            what,
            cause,
            effect,
        }
    }

    /// So many events were not written.
    pub(super) fn lost(events: u64) -> Self {
        Self::now(
            What::Daemon(DaemonEvent::Lost { events }),
            "more happened than could be written".to_owned(),
            "they are missing from this log".to_owned(),
        )
    }

    /// Whoever reads the log has not read all of it.
    pub(super) fn missed() -> Self {
        Self::now(
            What::Daemon(DaemonEvent::Missed),
            "the log was replaced more than once before it was read on".to_owned(),
            "events that were written in between are missing here".to_owned(),
        )
    }

    /// Appends its line.
    pub(super) fn append_to(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        match serde_json::to_writer(&mut *lines, self) {
            Ok(()) => lines.push(b'\n'),
            // No event has what JSON cannot say; a part of a line would spoil the next one.
            Err(_) => lines.truncate(start),
        }
    }
}

impl What {
    pub(super) fn subject(&self) -> Subject<'_> {
        let about = Subject::new;
        let of = Subject::of_session;
        match self {
            Self::Session(SessionEvent::Up(session) | SessionEvent::Down(session)) => {
                of(Kind::Session, session)
            }
            Self::Limit(
                LimitEvent::Warned(count) | LimitEvent::Reached(count) | LimitEvent::Over(count),
            ) => of(Kind::Limit, &count.session),
            Self::Route(
                RouteEvent::Learned(change)
                | RouteEvent::Changed(change)
                | RouteEvent::Withdrawn(change),
            ) => about(Kind::Route, Some(&change.route_server), &change.peers),
            Self::Route(RouteEvent::Summary(summary)) => {
                about(Kind::Route, Some(&summary.route_server), &summary.peers)
            }
            Self::Failover(_) => about(Kind::Failover, None, &[]),
            Self::Operator(
                OperatorEvent::InstanceStopped { route_server, .. }
                | OperatorEvent::InstanceStarted { route_server, .. },
            ) => about(Kind::Operator, Some(route_server), &[]),
            Self::Operator(OperatorEvent::PeerCommand { session, .. }) => {
                of(Kind::Operator, session)
            }
            Self::Reload(_) => about(Kind::Reload, None, &[]),
            Self::Daemon(_) => about(Kind::Daemon, None, &[]),
        }
    }
}

fn write_time<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.6}"))
}

fn read_time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(from)?;
    text.parse().map_err(D::Error::custom)
}

// -- For people ----------------------------------------------------------------------------------

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            what,
            cause,
            effect,
        } = self;
        write!(f, "{time:.6}  {:<8}  {what}", what.subject().kind.word())?;
        if !cause.is_empty() {
            write!(f, ": {cause}")?;
        }
        if !effect.is_empty() {
            write!(f, "; {effect}")?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(SessionEvent::Up(session)) => write!(f, "{session} is up"),
            Self::Session(SessionEvent::Down(session)) => write!(f, "{session} is down"),
            Self::Limit(LimitEvent::Warned(count)) => write!(f, "{count}, near its limit"),
            Self::Limit(LimitEvent::Reached(count)) => write!(f, "{count}, its limit"),
            Self::Limit(LimitEvent::Over(count)) => write!(f, "{count}, over its limit"),
            Self::Route(event) => event.fmt(f),
            Self::Failover(FailoverEvent::NextHopDown(next_hop)) => {
                write!(f, "{} is down", next_hop.next_hop)
            }
            Self::Failover(FailoverEvent::NextHopUp(next_hop)) => {
                write!(f, "{} is up", next_hop.next_hop)
            }
            Self::Operator(event) => event.fmt(f),
            Self::Reload(ReloadEvent::Applied { count, .. }) => {
                write!(f, "reload, changes: {count}")
            }
            Self::Reload(ReloadEvent::Refused) => f.write_str("reload refused"),
            Self::Daemon(DaemonEvent::Started { version, pid }) => {
                write!(f, "waypost {version} started as process {pid}")
            }
            Self::Daemon(DaemonEvent::Stopped { pid }) => write!(f, "process {pid} stopped"),
            Self::Daemon(DaemonEvent::Lost { events }) => write!(f, "events lost: {events}"),
            Self::Daemon(DaemonEvent::Missed) => f.write_str("events missed"),
        }
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            route_server,
            instance,
            peer,
            ..
        } = self;
        write!(f, "{route_server}/{instance} {peer}")
    }
}

impl fmt::Display for LimitCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            session,
            family,
            direction,
            count,
            max,
        } = self;
        let direction = match direction {
            Direction::Received => "received",
            Direction::Advertised => "advertised",
        };
        write!(f, "{session} {direction} {count} of {max} {family} routes")
    }
}

impl fmt::Display for RouteEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, change) = match self {
            Self::Learned(change) => ("learned", change),
            Self::Changed(change) => ("changed", change),
            Self::Withdrawn(change) => ("withdrawn", change),
            Self::Summary(RouteSummary {
                route_server,
                learned,
                withdrawn,
                ..
            }) => {
                return write!(
                    f,
                    "{route_server}: {learned} more prefixes learned or changed, {withdrawn} withdrawn"
                );
            }
        };
        let RouteChange {
            route_server,
            prefix,
            before,
            after,
            ..
        } = change;
        write!(f, "{route_server}: {prefix} {word}")?;
        if !before.is_empty() {
            write!(f, " from {}", Addresses(before))?;
        }
        if !after.is_empty() {
            write!(f, " to {}", Addresses(after))?;
        }
        Ok(())
    }
}

impl fmt::Display for OperatorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstanceStopped {
                route_server,
                instance,
            } => write!(f, "instance {instance} of {route_server} stopped"),
            Self::InstanceStarted {
                route_server,
                instance,
            } => write!(f, "instance {instance} of {route_server} started"),
            Self::PeerCommand { session, command } => {
                write!(f, "{session} {}", command.words())
            }
        }
    }
}

/// `10.1.10.4, 10.1.10.5`.
struct Addresses<'a>(&'a [IpAddr]);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            address.fmt(f)?;
        }
        Ok(())
    }
}
