//! Two speakers and the connections between them, in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ipnet::IpNet;
use router_user::{
    api::types::LearnedRow,
    bgp::{
        Credit, InstanceId, RouteChange, SessionCommand, SessionEvent, SessionId, State,
        fsm::{Action, ConnectionId, Event, Fsm, Outgoing, Received, monitor::Monitor},
        session::SessionHandle,
        wire::{
            self, Capability, Context, Family, Message, MessageType, Negotiated, Nlri,
            Notification, Open, PathAttributes, RefreshKind, RouteRefresh,
        },
    },
    config,
    rib::LearnedRoute,
    route_server::{Filter, Report, RouteServer},
};

use super::{
    nva::{self, Announced, NVAS, Nva},
    setup::{Settings, around, route_server, session, speaker_address, speaker_name, uses},
};

mod mishaps;
mod outcome;

/// How long it has to be quiet for at the end: longer than any hold, restart or back-off time.
const QUIET: Duration = Duration::from_secs(1200);

/// The world.
pub(super) struct World {
    now: Instant,
    nodes: [Node; 2],
    connections: u64,
}

struct Node {
    number: usize,
    config: config::RouteServer,
    server: RouteServer,
    id: SessionId,
    fsm: Fsm,
    monitor: Monitor,
    attempt: bool,
    established: Option<ConnectionId>,
    links: BTreeMap<ConnectionId, Link>,
    settings: Settings,
    announced: [Announced; NVAS],
    /// NVAs that are away.
    lost: [bool; NVAS],
    drained: [bool; NVAS],
    /// How often an NVA has begun to announce all again: route servers allow ten times in a row.
    refreshed: [usize; NVAS],
    originated: BTreeSet<IpNet>,
    learned: BTreeMap<IpNet, LearnedRoute>,
}

/// One end of a connection.
struct Link {
    /// The other end's number for it.
    far: ConnectionId,
    context: Context,
    /// On the way to this end.
    arriving: BytesMut,
    /// Nothing more will come.
    closed: bool,
    received: BytesMut,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            now,
            nodes: [0, 1].map(|number| Node::new(number, settings, now)),
            connections: 0,
        }
    }

    pub(super) fn start(&mut self) {
        for node in [0, 1] {
            self.event(node, Event::Start);
        }
    }

    // -- What happens --------------------------------------------------------------------------

    pub(super) fn announce(
        &mut self,
        node: usize,
        nva: Nva,
        (attributes, nlri): (Arc<PathAttributes>, Vec<Nlri>),
    ) {
        self.tell(node, nva, RouteChange::Announce { attributes, nlri });
    }

    pub(super) fn withdraw(&mut self, node: usize, nva: Nva, nlri: &[Nlri]) {
        let nlri = nlri.to_vec();
        let malformed = None;
        self.tell(node, nva, RouteChange::Withdraw { nlri, malformed });
    }

    fn tell(&mut self, node: usize, nva: Nva, change: RouteChange) {
        let this = &mut self.nodes[node];
        if this.lost[nva.0] {
            return;
        }
        this.announced[nva.0].apply(&change);
        let event = SessionEvent::Routes {
            id: this.nva(nva),
            changes: vec![change],
            credit: Credit::default(),
        };
        self.server(node, event);
    }

    pub(super) fn originate(&mut self, node: usize, count: u8) {
        let this = &mut self.nodes[node];
        this.originated = (0..count)
            .map(|n| {
                format!("10.{}.{n}.0/24", 2 + node)
                    .parse()
                    .expect("a prefix")
            })
            .collect();
        this.server.set_originated(this.originated.clone());
        self.flush(node);
    }

    pub(super) fn reflect(&mut self, node: usize, on: bool) {
        self.nodes[node].config.reflect_between_nvas = on;
        self.reload(node);
    }

    /// Asks the other speaker for all routes again (RFC 2918).
    pub(super) fn ask_again(&mut self, node: usize) {
        let Some(connection) = self.nodes[node].established else {
            return;
        };
        let mut out = BytesMut::new();
        for family in Family::ALL {
            RouteRefresh::new(family, RefreshKind::Request).encode(&mut out);
        }
        self.send(node, connection, &out);
    }

    pub(super) fn stop(&mut self, node: usize) {
        self.event(
            node,
            Event::Stop {
                notification: Notification::administrative_reset(""),
                idle: Some(Duration::from_secs(1)),
            },
        );
    }

    /// All connections break; what is on the way is lost.
    pub(super) fn cut(&mut self) {
        for node in [0, 1] {
            let broken = std::mem::take(&mut self.nodes[node].links);
            for connection in broken.into_keys() {
                let reason = "reset".to_owned();
                self.event(node, Event::Closed { connection, reason });
            }
        }
    }

    // -- How it goes on ------------------------------------------------------------------------

    /// Up to so many bytes arrive on each connection of a node.
    pub(super) fn deliver(&mut self, node: usize, amount: usize) {
        let connections: Vec<_> = self.nodes[node].links.keys().copied().collect();
        for connection in connections {
            let Some(link) = self.nodes[node].links.get_mut(&connection) else {
                continue;
            };
            let arrived = link.arriving.split_to(amount.min(link.arriving.len()));
            let far = link.far;
            link.received.extend_from_slice(&arrived);
            let left = !link.arriving.is_empty();
            let ended = link.closed && link.arriving.is_empty();
            if !arrived.is_empty() {
                self.event(
                    1 - node,
                    Event::Written {
                        connection: far,
                        drained: !left,
                    },
                );
                self.receive(node, connection);
            }
            if ended && self.nodes[node].links.remove(&connection).is_some() {
                let reason = "closed by the peer".to_owned();
                self.event(node, Event::Closed { connection, reason });
            }
        }
        self.flush(node);
    }

    /// Time passes without a byte arriving, connections apart.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.timers();
        }
        self.now = end;
    }

    /// Everything arrives, for long enough.
    pub(super) fn settle(&mut self) {
        self.hold(0, false);
        self.hold(1, false);
        let end = self.now + QUIET;
        loop {
            while self.is_busy() {
                self.deliver(0, usize::MAX);
                self.deliver(1, usize::MAX);
                self.connect();
            }
            let Some(next) = self.next_moment().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.timers();
        }
        self.now = end;
        let states = self.nodes.each_ref().map(|node| node.fsm.state());
        assert_eq!(
            states,
            [State::Established; 2],
            "they do not find each other"
        );
    }

    fn is_busy(&self) -> bool {
        let waits = |link: &Link| link.closed || !link.arriving.is_empty();
        self.nodes
            .iter()
            .any(|node| node.attempt || node.links.values().any(waits))
    }

    fn next_moment(&self) -> Option<Instant> {
        let timers = self.nodes.iter();
        let timers = timers.flat_map(|node| [node.fsm.next_timeout(), node.server.next_timeout()]);
        timers.flatten().min()
    }

    fn timers(&mut self) {
        self.connect();
        for node in [0, 1] {
            let now = self.now;
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if due(self.nodes[node].fsm.next_timeout()) {
                self.event(node, Event::Timer);
            }
            if due(self.nodes[node].server.next_timeout()) {
                self.nodes[node].server.on_timeout(now);
                self.flush(node);
            }
        }
    }

    /// Connection attempts succeed.
    fn connect(&mut self) {
        for node in [0, 1] {
            if !std::mem::take(&mut self.nodes[node].attempt) {
                continue;
            }
            let [here, there] = [1, 2].map(|n| ConnectionId(self.connections + n));
            self.connections += 2;
            self.nodes[node].links.insert(here, Link::to(there));
            self.nodes[1 - node].links.insert(there, Link::to(here));
            let addresses = [node, 1 - node].map(speaker_address);
            self.event(
                node,
                Event::Connected {
                    connection: here,
                    local_address: addresses[0],
                },
            );
            self.event(
                1 - node,
                Event::Accepted {
                    connection: there,
                    local_address: addresses[1],
                },
            );
        }
    }

    // -- The session's part --------------------------------------------------------------------

    fn receive(&mut self, node: usize, connection: ConnectionId) {
        loop {
            let Some(link) = self.nodes[node].links.get_mut(&connection) else {
                return;
            };
            let mut context = link.context;
            let len = wire::frame(&link.received, context.max_message_len());
            let Some(len) = len.expect("a speaker sends messages") else {
                return;
            };
            let message = link.received.split_to(len);
            let is_update = message[18] == MessageType::Update as u8;
            if is_update && self.nodes[node].established != Some(connection) {
                let message = Received::Update;
                self.event(
                    node,
                    Event::Received {
                        connection,
                        message,
                    },
                );
                match self.nodes[node].links.get(&connection) {
                    Some(link) => context = link.context,
                    None => continue,
                }
            }
            let decoded = wire::decode(&message, &context).expect("a speaker sends no nonsense");
            self.message(node, connection, decoded);
        }
    }

    fn message(&mut self, node: usize, connection: ConnectionId, message: Message<'_>) {
        let received = |message| Event::Received {
            connection,
            message,
        };
        let id = self.nodes[node].id.clone();
        match message {
            Message::Open(open) => self.event(node, received(Received::Open(open))),
            Message::Notification(notification) => {
                self.event(node, received(Received::Notification(notification)));
            }
            Message::Keepalive => self.event(node, received(Received::Keepalive)),
            Message::Update(update) => {
                assert_eq!(update.faults(), [], "a speaker sends no faults");
                self.event(node, received(Received::Update));
                if self.nodes[node].established == Some(connection) {
                    let changes = update.into_changes();
                    let credit = Credit::default();
                    self.server(
                        node,
                        SessionEvent::Routes {
                            id,
                            changes,
                            credit,
                        },
                    );
                }
            }
            Message::RouteRefresh(refresh) => {
                self.event(node, received(Received::RouteRefresh));
                let established = self.nodes[node].established == Some(connection);
                if let (true, Some(family)) = (established, refresh.family()) {
                    match refresh.kind {
                        RefreshKind::Request => {
                            self.server(node, SessionEvent::RefreshRequested { id, family });
                        }
                        RefreshKind::Begin => {
                            self.server(node, SessionEvent::RefreshBegins { id, family });
                        }
                        RefreshKind::End => {
                            self.server(node, SessionEvent::RefreshEnds { id, family });
                        }
                        RefreshKind::Unknown(kind) => panic!("a refresh of kind {kind}"),
                    }
                }
            }
        }
    }

    fn event(&mut self, node: usize, event: Event) {
        let this = &mut self.nodes[node];
        this.monitor.event(&event);
        let actions = this.fsm.handle(event, self.now);
        this.monitor.check(&actions);
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Connect => self.nodes[node].attempt = true,
            Action::CancelConnect => self.nodes[node].attempt = false,
            Action::Send {
                connection,
                message,
            } => {
                let mut out = BytesMut::new();
                match message {
                    Outgoing::Open(open) => open.encode(&mut out),
                    Outgoing::Keepalive => wire::encode_keepalive(&mut out),
                    Outgoing::Notification(notification) => notification.encode(&mut out),
                }
                self.send(node, connection, &out);
            }
            Action::Close { connection } => {
                let link = self.nodes[node].links.remove(&connection);
                let far = link.and_then(|link| self.nodes[1 - node].links.get_mut(&link.far));
                if let Some(far) = far {
                    far.closed = true;
                }
            }
            Action::Established {
                connection,
                negotiated,
            } => {
                let this = &mut self.nodes[node];
                if let Some(link) = this.links.get_mut(&connection) {
                    link.context = negotiated.context();
                }
                // What is queued for the former connection must not reach this one.
                self.flush(node);
                self.nodes[node].established = Some(connection);
                let (commands, _) = SessionHandle::new();
                let id = self.nodes[node].id.clone();
                self.server(
                    node,
                    SessionEvent::Up {
                        id,
                        negotiated,
                        commands,
                    },
                );
            }
            Action::Down(reason) => {
                self.nodes[node].established = None;
                let id = self.nodes[node].id.clone();
                self.server(node, SessionEvent::Down { id, reason });
            }
            Action::Report(_) => {}
        }
    }

    fn send(&mut self, node: usize, connection: ConnectionId, bytes: &[u8]) {
        let link = self.nodes[node].links.get(&connection);
        let far = link.map(|link| link.far);
        if let Some(far) = far.and_then(|far| self.nodes[1 - node].links.get_mut(&far)) {
            far.arriving.extend_from_slice(bytes);
        }
    }

    fn server(&mut self, node: usize, event: SessionEvent) {
        let now = self.now;
        self.nodes[node].server.handle(event, now);
        self.flush(node);
    }

    /// Hands on what the route server has decided.
    fn flush(&mut self, node: usize) {
        let reports = self.nodes[node].server.take_reports(self.now).into_iter();
        let changes = reports.filter_map(|report| match report {
            Report::Changes(changes) => Some(changes),
            Report::View(..) | Report::Assign(..) | Report::Drop(_) | Report::Members(..) => None,
        });
        for change in changes.flatten() {
            let learned = &mut self.nodes[node].learned;
            match change.route {
                Some(route) => learned.insert(change.prefix, route),
                None => learned.remove(&change.prefix),
            };
        }
        for (id, command) in self.nodes[node].server.take_commands(self.now) {
            let this = &self.nodes[node];
            let Some(connection) = this.established.filter(|_| id == this.id) else {
                continue;
            };
            match command {
                SessionCommand::Send(bytes) => self.send(node, connection, &bytes),
                SessionCommand::RequestRefresh(family) => {
                    let mut out = BytesMut::new();
                    RouteRefresh::new(family, RefreshKind::Request).encode(&mut out);
                    self.send(node, connection, &out);
                }
                SessionCommand::Shutdown { notification, idle } => {
                    self.event(node, Event::Stop { notification, idle });
                }
            }
        }
    }
}

impl Node {
    fn new(number: usize, settings: Settings, now: Instant) -> Self {
        let config = route_server(number, settings);
        let id = SessionId {
            route_server: config.name.clone(),
            instance: InstanceId(1),
            peer: speaker_address(1 - number),
        };
        let mut session = session(number, &config, &id, settings).settings();
        session.seed = number as u64;
        let mut this = Self {
            number,
            server: RouteServer::new(&config, &around()),
            config,
            id,
            fsm: Fsm::new(session),
            monitor: Monitor::default(),
            attempt: false,
            established: None,
            links: BTreeMap::new(),
            settings,
            announced: Default::default(),
            lost: [false; NVAS],
            drained: [false; NVAS],
            refreshed: [0; NVAS],
            originated: BTreeSet::new(),
            learned: BTreeMap::new(),
        };
        this.server.set_uses(uses(), now);
        for nva in (0..NVAS).map(Nva) {
            this.connect_nva(nva, now);
        }
        this
    }

    fn nva(&self, nva: Nva) -> SessionId {
        SessionId {
            peer: nva::address(self.number, nva),
            ..self.id.clone()
        }
    }

    fn connect_nva(&mut self, nva: Nva, now: Instant) {
        let mut restart = Vec::new();
        if self.settings.nvas_restart {
            restart.push(Capability::GracefulRestart {
                flags: 0,
                restart_time: 120,
                families: vec![(1, 1, 0x80), (2, 1, 0x80)],
            });
            let time = self.settings.long_lived;
            let families = vec![(1, 1, 0x80, time), (2, 1, 0x80, time)];
            restart.push(Capability::LongLivedGracefulRestart(families));
        }
        let open = |asn, router_id: [u8; 4]| Open {
            asn,
            hold_time: 180,
            router_id: router_id.into(),
            capabilities: Family::ALL
                .map(Capability::multiprotocol)
                .into_iter()
                .chain([Capability::FourOctetAsn(asn), Capability::RouteRefresh])
                .chain([Capability::EnhancedRouteRefresh])
                .chain(restart.clone())
                .collect(),
        };
        let ours = open(self.config.asn, [10, 0, 0, 1]);
        let theirs = open(nva::asn(self.number, nva), [10, 0, 1, nva.0 as u8]);
        let local = speaker_address(self.number);
        let (commands, _) = SessionHandle::new();
        let event = SessionEvent::Up {
            id: self.nva(nva),
            negotiated: Arc::new(Negotiated::new(&ours, &theirs, local)),
            commands,
        };
        self.server.handle(event, now);
    }

    fn lose_nva(&mut self, nva: Nva, now: Instant) {
        let event = SessionEvent::Down {
            id: self.nva(nva),
            reason: router_user::bgp::DownReason::Connection("reset".to_owned()),
        };
        self.server.handle(event, now);
    }
}

impl Link {
    fn to(far: ConnectionId) -> Self {
        Self {
            far,
            context: Context::default(),
            arriving: BytesMut::new(),
            closed: false,
            received: BytesMut::new(),
        }
    }
}

fn from(peer: &str) -> Filter {
    Filter {
        peer: Some(peer.into()),
        instance: Some(InstanceId(1)),
        ..Filter::default()
    }
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}
