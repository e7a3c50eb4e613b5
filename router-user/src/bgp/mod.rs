//! The BGP speaker (RFC 4271): codec, state machine, sessions.
//!
//! In: TCP connections and the configured peers. Out: [`SessionEvent`]s to the owner of the route
//! server's RIB. Back come [`SessionCommand`]s: encoded UPDATEs to send and what the operator asked
//! for.
//!
//! - [`wire`]: the codec; no sockets, no timers.
//! - [`settings`]: what an operator may set for a session.
//! - [`fsm`]: the state machine; (event, now) → actions, no I/O.
//! - [`session`], `listener`: tokio sockets that drive the state machine.
//! - [`speaker`]: all sessions together.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::names::RouteServerName;

mod backlog;
mod credit;
pub mod fsm;
mod link;
mod listener;
pub mod protection;
mod rate;
pub mod session;
pub mod settings;
mod socket;
pub mod speaker;
pub mod wire;

pub use credit::Credit;

use wire::{Family, Negotiated, Nlri, PathAttributes};

/// Number of a route server's instance: 1 or 2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u8);

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A session: one instance of a route server with one peer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SessionId {
    /// The route server.
    pub route_server: RouteServerName,
    /// Which of its instances.
    pub instance: InstanceId,
    /// The peer's address.
    pub peer: IpAddr,
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.route_server, self.instance, self.peer)
    }
}

/// What a session tells the owner of the RIB. Events of one session arrive in order.
#[derive(Debug)]
pub enum SessionEvent {
    /// The session is Established.
    Up {
        /// Which session.
        id: SessionId,
        /// What both sides agreed on.
        negotiated: Arc<Negotiated>,
        /// Where commands to this session go from now on.
        commands: session::SessionHandle,
    },
    /// Routes, in the order received; one or more UPDATEs.
    Routes {
        /// Which session.
        id: SessionId,
        /// The changes.
        changes: Vec<RouteChange>,
        /// The session's room in this queue: dropped once the changes are applied.
        credit: Credit,
    },
    /// The peer asked for all routes of a family again (RFC 2918).
    RefreshRequested {
        /// Which session.
        id: SessionId,
        /// Of which family.
        family: Family,
    },
    /// The peer has taken most of what waited for it: a session whose
    /// [handle](session::SessionHandle::is_behind) said that it is behind no longer is.
    Drained {
        /// Which session.
        id: SessionId,
    },
    /// The peer announces all its routes of a family again, from here on (BoRR, RFC 7313 §3.2).
    RefreshBegins {
        /// Which session.
        id: SessionId,
        /// Of which family.
        family: Family,
    },
    /// It has announced all of them: what it did not announce again is gone (EoRR).
    RefreshEnds {
        /// Which session.
        id: SessionId,
        /// Of which family.
        family: Family,
    },
    /// The session is no longer Established.
    Down {
        /// Which session.
        id: SessionId,
        /// Why.
        reason: DownReason,
    },
    /// The state, counters or last error changed; for display.
    Status {
        /// Which session.
        id: SessionId,
        /// The new status.
        status: SessionStatus,
    },
}

/// One change that a peer announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// New or replaced routes that share their attributes.
    Announce {
        /// The attributes, NEXT_HOP included (also where it came in MP_REACH_NLRI).
        attributes: Arc<PathAttributes>,
        /// The prefixes.
        nlri: Vec<Nlri>,
    },
    /// Routes withdrawn.
    Withdraw {
        /// The prefixes.
        nlri: Vec<Nlri>,
        /// Withdrawn because the UPDATE was malformed (RFC 7606 treat-as-withdraw): what was wrong.
        malformed: Option<Arc<str>>,
    },
    /// End-of-RIB (RFC 4724 §2).
    EndOfRib(Family),
}

/// What the owner of the RIB, or the operator, tells a session.
#[derive(Clone, Debug)]
pub enum SessionCommand {
    /// Send these whole BGP messages, in order.
    Send(Bytes),
    /// Ask the peer for all its routes of a family again (RFC 2918); it must take such requests.
    RequestRefresh(Family),
    /// Close with this NOTIFICATION and stay idle until started again or until `idle` has passed.
    Shutdown {
        /// What the peer is told: Cease (RFC 4486), perhaps with a text (RFC 9003).
        notification: wire::Notification,
        /// Start again by itself after this time; `None`: only when told to.
        idle: Option<std::time::Duration>,
    },
}

/// Why a session went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// We sent a NOTIFICATION.
    NotificationSent(wire::Notification),
    /// The peer sent one.
    NotificationReceived(wire::Notification),
    /// The TCP connection was closed or failed.
    Connection(String),
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (who, notification) = match self {
            Self::NotificationSent(notification) => ("we sent", notification),
            Self::NotificationReceived(notification) => ("the peer sent", notification),
            Self::Connection(text) => return f.write_str(text),
        };
        let wire::Notification { code, subcode, .. } = notification;
        write!(f, "{who} NOTIFICATION {code}/{subcode} ({notification})")
    }
}

/// States of RFC 4271 §8.2.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum State {
    /// Refuses connections.
    #[default]
    Idle,
    /// Waits for its own TCP connection to complete.
    Connect,
    /// Waits for the peer's TCP connection.
    Active,
    /// Sent its OPEN.
    OpenSent,
    /// Sent and received an OPEN.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// A session as shown to people.
#[derive(Clone, Debug, Default)]
pub struct SessionStatus {
    /// State of RFC 4271.
    pub state: State,
    /// Since when it has this state.
    pub since: Option<Instant>,
    /// What went wrong last, with the remedy where there is one.
    pub last_error: Option<String>,
    /// How often the session has become Established.
    pub established_count: u64,
    /// Messages received and sent, all kinds.
    pub messages_received: u64,
    /// See `messages_received`.
    pub messages_sent: u64,
    /// UPDATE messages received.
    pub updates_received: u64,
    /// UPDATE messages that were malformed (RFC 7606), session kept.
    pub updates_malformed: u64,
    /// What was agreed on; while Established.
    pub negotiated: Option<Arc<Negotiated>>,
}
