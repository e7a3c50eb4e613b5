//! What goes into the state machine and what comes out of it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::bgp::{
    DownReason,
    session::{AddPath, RoleSettings},
    wire::{Asn, Family, Negotiated, Notification, Open},
};

/// What the machine has to know of the session; it never changes while the machine lives.
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
    /// Families to announce.
    pub families: Vec<Family>,
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
        /// Subcode of Cease (RFC 4486).
        subcode: u8,
        /// Shutdown communication (RFC 9003); sent with subcodes 2 and 4.
        text: String,
        /// Start again by itself after this time.
        idle: Option<Duration>,
    },
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
    /// The socket took whole messages (RFC 9687).
    Written {
        /// Which connection's.
        connection: ConnectionId,
    },
    /// We do not read at the moment: a silent peer is not to blame.
    Busy {
        /// Which connection.
        connection: ConnectionId,
    },
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
