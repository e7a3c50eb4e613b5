//! What goes into the state machine and what comes out of it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::bgp::{
    DownReason,
    settings::{AddPath, Restart, RoleSettings},
    wire::{Asn, Family, FamilySet, Negotiated, Notification, Open},
};

/// What the machine has to know of the session.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our ASN.
    pub local_asn: Asn,
    /// The ASN that the peer must have.
    pub peer_asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The peer; only for texts.
    pub peer: SocketAddr,
    /// Never connect, only accept.
    pub passive: bool,
    /// Offered hold time, seconds: 0 or at least 3.
    pub hold_time: u16,
    /// Delay between connection attempts; grows with each one that fails.
    pub connect_retry: Duration,
    /// How long the peer may take nothing of what is sent (RFC 9687); at least twice the hold time
    /// counts where it is not longer than that.
    pub send_hold_time: Duration,
    /// Connections are authenticated; only for texts.
    pub authenticated: bool,
    /// Families to announce.
    pub families: Vec<Family>,
    /// Graceful restart: what is offered.
    pub restart: Restart,
    /// What outlived our own restart.
    pub restarted: Restarted,
    /// Announce ADD-PATH (RFC 7911).
    pub add_path: AddPath,
    /// Announce RFC 8950, IPv4 routes with IPv6 next hops. The stages behind must honour it.
    pub extended_next_hop: bool,
    /// Our role towards the peer (RFC 9234), if it is to be told.
    pub role: Option<RoleSettings>,
    /// A connection that collides with an Established one replaces it. RFC 4271 §6.8 keeps the
    /// Established one unless configured otherwise; one that proves to be dead is replaced anyway.
    pub replace_established: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What our OPEN says of our own last restart (RFC 4724 §4.1). The default: there was none, and
/// nothing forwards yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restarted {
    /// The R bit is set until then, or until the session is Established once.
    pub until: Option<Instant>,
    /// Families whose forwarding went on meanwhile: the F bits.
    pub preserved: FamilySet,
}

impl Restarted {
    /// A speaker that runs: a session that is lost takes no forwarding state with it.
    #[must_use]
    pub fn running() -> Self {
        Self {
            until: None,
            preserved: Family::ALL.into_iter().collect(),
        }
    }

    /// The R bit.
    #[must_use]
    pub fn is_restarting(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// A TCP connection; the number is given by whoever holds the socket and is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Event {
    /// Start, also out of idle hold (ManualStart, AutomaticStart).
    Start,
    /// Close with Cease and stay idle (ManualStop, AutomaticStop).
    Stop {
        /// What the peer is told: Cease (RFC 4486), perhaps with a text (RFC 9003).
        notification: Notification,
        /// Start again by itself after this time.
        idle: Option<Duration>,
    },
    /// Close with Cease and come back: the peer may connect at once, we do so a second later.
    Reset {
        /// What the peer is told.
        notification: Notification,
    },
    /// Close for a restart and stay idle: peers with graceful restart are to keep our routes.
    Leave,
    /// The connection that [`Action::Connect`] asked for is there.
    Connected {
        /// Its number.
        connection: ConnectionId,
        /// Our address on it.
        local_address: IpAddr,
    },
    /// The connection that [`Action::Connect`] asked for failed.
    ConnectFailed {
        /// Why, and what to do.
        reason: String,
    },
    /// The peer connected.
    Accepted {
        /// The connection's number.
        connection: ConnectionId,
        /// Our address on it.
        local_address: IpAddr,
    },
    /// A connection was closed by the peer, or failed.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// A message was received and decoded.
    Received {
        /// Where.
        connection: ConnectionId,
        /// What matters of it here.
        message: Received,
    },
    /// The connection cannot go on: what was received is malformed, or a limit is exceeded.
    Fault {
        /// Which.
        connection: ConnectionId,
        /// What to tell the peer.
        notification: Notification,
        /// What to tell the operator.
        reason: String,
    },
    /// Messages of others than the state machine wait to be sent.
    Queued {
        /// On which connection.
        connection: ConnectionId,
    },
    /// The socket took whole messages (RFC 9687).
    Written {
        /// Which connection's.
        connection: ConnectionId,
        /// Nothing waits any more.
        drained: bool,
    },
    /// We do not read at the moment: a silent peer is not to blame.
    Busy {
        /// Which connection.
        connection: ConnectionId,
    },
    /// The connections have been given another key: what the peer signs with the last one is not
    /// taken any more.
    Rekeyed,
    /// [`Fsm::next_timeout`](super::Fsm::next_timeout) has come.
    Timer,
}

/// A message as far as the state machine is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// OPEN.
    Open(Open),
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh,
}

impl Received {
    /// Message type (RFC 4271 §4.1).
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Open(_) => 1,
            Self::Update => 2,
            Self::Notification(_) => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }
}

/// A message that the state machine sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// OPEN.
    Open(Open),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(Notification),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer; answered by [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect,
    /// Give that attempt up.
    CancelConnect,
    /// Send before anything that waits.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        message: Outgoing,
    },
    /// Close once what was to be sent is sent; no event of this connection is wanted any more.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// This connection is Established; routes may flow.
    Established {
        /// Which.
        connection: ConnectionId,
        /// On these terms.
        negotiated: Arc<Negotiated>,
    },
    /// The Established connection is gone.
    Down(DownReason),
    /// Something went wrong: tell the operator.
    Report(String),
}
