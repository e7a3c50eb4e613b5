//! Speakers, their events, and peers made of a bare socket, for the tests of sessions.

// Each test binary uses its part of it.
#![allow(dead_code)]

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use router_user::bgp::{
    DownReason, InstanceId, RouteChange, SessionCommand, SessionEvent, SessionId, SessionStatus,
    session::{SessionConfig, SessionHandle},
    settings::{AddPath, Restart, Security},
    speaker::{Speaker, SpeakerError},
    wire::{
        self, AsPath, Capability, Context, Family, Message, Negotiated, Notification, Open,
        PathAttributes,
    },
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

/// How long a test waits for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A speaker and what it says.
pub(crate) struct Node {
    pub(crate) speaker: Speaker,
    pub(crate) events: mpsc::UnboundedReceiver<SessionEvent>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        Self {
            speaker: Speaker::new(sender),
            events,
        }
    }

    /// A speaker with these sessions, each listener open.
    pub(crate) fn with(sessions: Vec<SessionConfig>) -> Self {
        let mut node = Self::new();
        let errors: Vec<SpeakerError> = node.speaker.apply(sessions);
        assert!(errors.is_empty(), "{errors:?}");
        node
    }

    /// Waits for the event that `wanted` takes; others are dropped.
    pub(crate) async fn wait<T>(&mut self, mut wanted: impl FnMut(SessionEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the speaker lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("it happens in time")
    }

    pub(crate) async fn up(&mut self, id: &SessionId) -> (SessionHandle, Context) {
        let (handle, negotiated) = self.up_on_terms(id).await;
        (handle, negotiated.context())
    }

    pub(crate) async fn up_on_terms(
        &mut self,
        id: &SessionId,
    ) -> (SessionHandle, std::sync::Arc<Negotiated>) {
        self.wait(|event| match event {
            SessionEvent::Up {
                id: of,
                commands,
                negotiated,
            } if of == *id => Some((commands, negotiated)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn down(&mut self, id: &SessionId) -> DownReason {
        self.wait(|event| match event {
            SessionEvent::Down { id: of, reason } if of == *id => Some(reason),
            _ => None,
        })
        .await
    }

    /// Waits until the last error of any session contains the text.
    pub(crate) async fn error(&mut self, text: &str) -> SessionStatus {
        self.wait(|event| match event {
            SessionEvent::Status { status, .. }
                if status
                    .last_error
                    .as_ref()
                    .is_some_and(|error| error.contains(text)) =>
            {
                Some(status)
            }
            _ => None,
        })
        .await
    }

    /// Waits for the change that `wanted` takes.
    pub(crate) async fn change<T>(
        &mut self,
        mut wanted: impl FnMut(RouteChange) -> Option<T>,
    ) -> T {
        self.wait(|event| match event {
            SessionEvent::Routes { changes, .. } => changes.into_iter().find_map(&mut wanted),
            _ => None,
        })
        .await
    }

    /// Waits until the prefix is announced.
    pub(crate) async fn announced(&mut self, prefix: &str) -> std::sync::Arc<PathAttributes> {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        self.change(|change| match change {
            RouteChange::Announce { attributes, nlri } => nlri
                .iter()
                .any(|nlri| nlri.prefix == prefix)
                .then_some(attributes),
            _ => None,
        })
        .await
    }

    /// Whether nothing that `unwanted` names happens for a while.
    pub(crate) async fn quiet(
        &mut self,
        time: Duration,
        unwanted: impl Fn(&SessionEvent) -> bool,
    ) -> bool {
        let happens = async {
            loop {
                let event = self.events.recv().await.expect("the speaker lives");
                if unwanted(&event) {
                    return;
                }
            }
        };
        tokio::time::timeout(time, happens).await.is_err()
    }
}

/// A session between two addresses; times are short.
pub(crate) fn session(local: &str, peer: &str, port: u16) -> SessionConfig {
    let local_address: IpAddr = local.parse().expect("an address");
    SessionConfig {
        id: SessionId {
            route_server: "rs1".into(),
            instance: InstanceId(1),
            peer: peer.parse().expect("an address"),
        },
        local_asn: 65515,
        peer_asn: 65010,
        router_id: match local_address {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::new(10, 1, 255, 4),
        },
        local_address,
        port,
        passive: false,
        hold_time: 9,
        connect_retry: 1,
        families: Family::ALL.to_vec(),
        send_hold_time: 480,
        security: Security::default(),
        add_path: AddPath::default(),
        restart: Restart::default(),
        extended_next_hop: false,
        role: None,
    }
}

/// The other end of a session, for another speaker.
pub(crate) fn mirrored(session: &SessionConfig) -> SessionConfig {
    let mut mirrored = SessionConfig {
        id: SessionId {
            route_server: "peer".into(),
            peer: session.local_address,
            ..session.id.clone()
        },
        local_asn: session.peer_asn,
        peer_asn: session.local_asn,
        local_address: session.id.peer,
        ..session.clone()
    };
    mirrored.router_id = match session.id.peer {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::new(10, 9, 9, 9),
    };
    mirrored
}

/// A port that nobody listens on at the address.
pub(crate) fn free_port(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).expect("an address of this host");
    listener.local_addr().expect("it is bound").port()
}

/// UPDATEs that announce a prefix with the context of a session.
pub(crate) fn announcement(
    context: &Context,
    asn: u32,
    next_hop: &str,
    prefixes: &[&str],
) -> Bytes {
    let attributes = PathAttributes {
        as_path: AsPath::sequence([asn]),
        next_hop: Some(next_hop.parse::<IpAddr>().expect("an address").into()),
        ..PathAttributes::default()
    };
    let nlri = prefixes
        .iter()
        .map(|prefix| prefix.parse::<IpNet>().expect("a prefix").into());
    let mut out = BytesMut::new();
    wire::encode_announce(context, &attributes, nlri, &mut out).expect("it fits");
    out.freeze()
}

pub(crate) fn send(handle: &SessionHandle, messages: Bytes) {
    assert!(handle.send(SessionCommand::Send(messages)));
}

/// A peer made of a socket: says exactly what the test wants.
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    context: Context,
}

impl RawPeer {
    /// Connects to the speaker's end of the session.
    pub(crate) async fn connect(session: &SessionConfig) -> Self {
        Self::connect_with(session, |_| {}).await
    }

    /// The same with the socket prepared.
    pub(crate) async fn connect_with(session: &SessionConfig, prepare: impl Fn(&Socket)) -> Self {
        Self::try_connect(session, prepare)
            .await
            .expect("somebody listens")
    }

    /// The same where the connection may be refused.
    pub(crate) async fn try_connect(
        session: &SessionConfig,
        prepare: impl Fn(&Socket),
    ) -> std::io::Result<Self> {
        let to = SocketAddr::new(session.local_address, session.port);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        prepare(&socket);
        let from = SocketAddr::new(session.id.peer, 0);
        socket.bind(&from.into()).expect("an address of this host");
        socket.set_nonblocking(true).expect("non-blocking");
        let socket = TcpSocket::from_std_stream(socket.into());
        Ok(Self {
            stream: socket.connect(to).await?,
            buffer: BytesMut::new(),
            context: Context::default(),
        })
    }

    /// Connects and goes through the opening.
    pub(crate) async fn establish(session: &SessionConfig, hold_time: u16) -> Self {
        let mut peer = Self::connect(session).await;
        peer.open(session, hold_time).await;
        peer
    }

    /// Goes through the opening.
    pub(crate) async fn open(&mut self, session: &SessionConfig, hold_time: u16) {
        let open = open_of_peer(session, hold_time);
        self.send(|out| open.encode(out)).await;
        let Some(Received::Open(theirs)) = self.receive().await else {
            panic!("no OPEN");
        };
        self.send(wire::encode_keepalive).await;
        assert_eq!(self.receive().await, Some(Received::Keepalive));
        self.context = Negotiated::new(&open, &theirs, session.id.peer).context();
    }

    pub(crate) async fn send(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        encode(&mut out);
        self.stream.write_all(&out).await.expect("it is connected");
    }

    /// The next message; `None`: the connection is closed.
    pub(crate) async fn receive(&mut self) -> Option<Received> {
        tokio::time::timeout(PATIENCE, self.next_message())
            .await
            .expect("a message or the end in time")
    }

    /// Whether the connection stays open and silent but for KEEPALIVEs.
    pub(crate) async fn stays_open(&mut self, time: Duration) -> bool {
        let ends = async { while self.next_message().await == Some(Received::Keepalive) {} };
        tokio::time::timeout(time, ends).await.is_err()
    }

    /// The NOTIFICATION that the connection ends with.
    pub(crate) async fn notification(&mut self) -> Notification {
        loop {
            match self.receive().await {
                Some(Received::Notification(notification)) => {
                    assert_eq!(self.receive().await, None, "closed after the NOTIFICATION");
                    return notification;
                }
                Some(_) => {}
                None => panic!("closed without a NOTIFICATION"),
            }
        }
    }

    async fn next_message(&mut self) -> Option<Received> {
        loop {
            let max_len = self.context.max_message_len();
            if let Some(len) = wire::frame(&self.buffer, max_len).expect("well-formed messages") {
                let message = self.buffer.split_to(len);
                let message = wire::decode(&message, &self.context).expect("it decodes");
                return Some(match message {
                    Message::Open(open) => Received::Open(open),
                    Message::Update(update) => Received::Update(update.into_changes()),
                    Message::Notification(notification) => Received::Notification(notification),
                    Message::Keepalive => Received::Keepalive,
                    Message::RouteRefresh(_) => Received::RouteRefresh,
                });
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// A message as a bare peer receives it.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Open(Open),
    Update(Vec<RouteChange>),
    Notification(Notification),
    Keepalive,
    RouteRefresh,
}

/// The OPEN that the peer of this session has to send.
pub(crate) fn open_of_peer(session: &SessionConfig, hold_time: u16) -> Open {
    Open {
        asn: session.peer_asn,
        hold_time,
        router_id: Ipv4Addr::new(10, 9, 9, 9),
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::FourOctetAsn(session.peer_asn),
        ],
    }
}

/// Runs a test in a network namespace of its own, with these addresses on its loopback interface;
/// what it starts lives there too. Needs root.
pub(crate) fn in_private_network<F: Future<Output = ()>>(
    addresses: &[&str],
    test: impl FnOnce() -> F + Send + 'static,
) {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let thread = std::thread::spawn(move || {
        // SAFETY: no arguments but a flag; affects this thread alone, which ends with the test.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(
            result, 0,
            "a network namespace needs root: run the tests as root"
        );
        ip(&["link", "set", "lo", "up"]);
        for address in &addresses {
            // Without nodad an IPv6 address is tentative for a moment, and cannot be listened on.
            let nodad = address.contains(':').then_some("nodad");
            let add = ["address", "add", address, "dev", "lo"];
            ip(&add.into_iter().chain(nodad).collect::<Vec<_>>());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "ip {arguments:?}: {status:?}; is iproute2 installed?"
    );
}
