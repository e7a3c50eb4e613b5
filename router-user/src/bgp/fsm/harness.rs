//! Two state machines and the network between them, in virtual time.
//!
//! TCP is modelled as far as a speaker notices it: connecting takes a round trip, what is sent
//! arrives in order after the latency and some jitter, a close arrives after what was sent before it. The network
//! can be cut: then nothing arrives any more on the connections that exist, without a word, and
//! nobody can connect.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Action, ConnectionId, Event, Fsm, Outgoing, Received, Restarted, Settings, monitor::Monitor,
};
use crate::bgp::{
    DownReason, State,
    settings::{AddPath, Restart},
    wire::Family,
};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

pub(super) struct World {
    start: Instant,
    pub(super) now: Instant,
    pub(super) latency: Duration,
    pub(super) nodes: [Node; 2],
    pub(super) cut: bool,
    /// Each packet takes up to so much longer, whatever others take; those of a connection stay in
    /// order.
    pub(super) jitter: Duration,
    /// Decides how much; not 0.
    pub(super) random: u64,
    /// When the last packet for this end of a connection arrives.
    last: HashMap<ConnectionId, Instant>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    connections: HashMap<ConnectionId, Wire>,
    sequence: u64,
    connection_numbers: u64,
}

/// One end's view of a connection: the other end's number, and whether the network has lost it.
#[derive(Clone, Copy)]
struct Wire {
    peer: ConnectionId,
    lost: bool,
}

enum Arrival {
    Event(usize, Event),
    /// A SYN reaches the node; the attempt's number of the other one.
    Syn(usize, u64),
    /// The answer to attempt: accepted under these numbers (ours, theirs).
    SynAck(usize, u64, ConnectionId, ConnectionId),
}

pub(super) struct Node {
    pub(super) fsm: Fsm,
    pub(super) monitor: Monitor,
    pub(super) log: Vec<Action>,
    address: IpAddr,
    attempt: Option<u64>,
}

impl Node {
    pub(super) fn reports(&self) -> Vec<&str> {
        let texts = self.log.iter().filter_map(|action| match action {
            Action::Report(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    pub(super) fn downs(&self) -> Vec<&DownReason> {
        let downs = self.log.iter().filter_map(|action| match action {
            Action::Down(reason) => Some(reason),
            _ => None,
        });
        downs.collect()
    }

    pub(super) fn notifications(&self) -> Vec<(u8, u8)> {
        let sent = self.log.iter().filter_map(|action| match action {
            Action::Send {
                message: Outgoing::Notification(n),
                ..
            } => Some((n.code, n.subcode)),
            _ => None,
        });
        sent.collect()
    }

    pub(super) fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.log.iter().filter(|action| wanted(action)).count()
    }
}

impl World {
    pub(super) fn new(a: Settings, b: Settings) -> Self {
        let now = Instant::now();
        let node = |settings: Settings, address: &str| Node {
            fsm: Fsm::new(settings),
            monitor: Monitor::default(),
            log: Vec::new(),
            address: address.parse().expect("an address"),
            attempt: None,
        };
        Self {
            start: now,
            now,
            latency: Duration::from_millis(2),
            nodes: [node(a, "10.0.0.1"), node(b, "10.0.0.2")],
            cut: false,
            jitter: Duration::ZERO,
            random: 1,
            last: HashMap::new(),
            arrivals: BTreeMap::new(),
            connections: HashMap::new(),
            sequence: 0,
            connection_numbers: 0,
        }
    }

    pub(super) fn states(&self) -> [State; 2] {
        [self.nodes[A].fsm.state(), self.nodes[B].fsm.state()]
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn start_both(&mut self) {
        self.input(A, Event::Start);
        self.input(B, Event::Start);
    }

    /// Runs the world on for so long.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Runs until both are Established; panics after `limit`.
    pub(super) fn run_until_established(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.states() != [State::Established; 2] {
            let next = self.next_moment().expect("something is going on");
            assert!(next <= end, "not Established in time: {:?}", self.states());
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// The network forgets all connections, without a word to either end.
    pub(super) fn forget_connections(&mut self) {
        for wire in self.connections.values_mut() {
            wire.lost = true;
        }
    }

    /// The node's process dies and starts again; its kernel resets what the other end still sends.
    pub(super) fn crash(&mut self, node: usize, settings: Settings) {
        self.nodes[node].fsm = Fsm::new(settings);
        self.nodes[node].monitor = Monitor::default();
        self.nodes[node].attempt = None;
        self.forget_connections();
    }

    pub(super) fn input(&mut self, node: usize, event: Event) {
        self.nodes[node].monitor.event(&event);
        let actions = self.nodes[node].fsm.handle(event, self.now);
        self.nodes[node].monitor.check(&actions);
        for action in actions {
            self.nodes[node].log.push(action.clone());
            self.act(node, action);
        }
    }

    fn next_moment(&self) -> Option<Instant> {
        let timers = self.nodes.iter().filter_map(|n| n.fsm.next_timeout());
        let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
        timers.chain(arrival).min()
    }

    fn step(&mut self) {
        if let Some(entry) = self
            .arrivals
            .first_entry()
            .filter(|e| e.key().0 <= self.now)
        {
            let arrival = entry.remove();
            self.arrive(arrival);
            return;
        }
        for node in [A, B] {
            if self.nodes[node]
                .fsm
                .next_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.input(node, Event::Timer);
                let next = self.nodes[node].fsm.next_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a timer stays due");
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Event(node, event) => self.input(node, event),
            Arrival::Syn(node, attempt) => {
                let [theirs, ours] = [self.number(), self.number()];
                self.connections.insert(
                    ours,
                    Wire {
                        peer: theirs,
                        lost: false,
                    },
                );
                self.connections.insert(
                    theirs,
                    Wire {
                        peer: ours,
                        lost: false,
                    },
                );
                let at = self.arrival();
                self.last.insert(theirs, at);
                self.at(at, Arrival::SynAck(1 - node, attempt, theirs, ours));
                let local_address = self.nodes[node].address;
                self.input(
                    node,
                    Event::Accepted {
                        connection: ours,
                        local_address,
                    },
                );
            }
            Arrival::SynAck(node, attempt, ours, theirs) => {
                if self.nodes[node].attempt != Some(attempt) {
                    self.deliver(
                        1 - node,
                        Event::Closed {
                            connection: theirs,
                            reason: "reset".into(),
                        },
                    );
                    return;
                }
                self.nodes[node].attempt = None;
                let local_address = self.nodes[node].address;
                self.input(
                    node,
                    Event::Connected {
                        connection: ours,
                        local_address,
                    },
                );
            }
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Connect => {
                self.sequence += 1;
                let attempt = self.sequence;
                self.nodes[node].attempt = Some(attempt);
                if !self.cut {
                    let at = self.arrival();
                    self.at(at, Arrival::Syn(1 - node, attempt));
                }
            }
            Action::CancelConnect => self.nodes[node].attempt = None,
            Action::Send {
                connection,
                message,
            } => self.send(node, connection, message),
            Action::Close { connection } => {
                let wire = self.connections[&connection];
                if !wire.lost {
                    self.deliver(
                        1 - node,
                        Event::Closed {
                            connection: wire.peer,
                            reason: "closed by the peer".into(),
                        },
                    );
                }
            }
            Action::Established { .. } | Action::Down(_) | Action::Report(_) => {}
        }
    }

    fn send(&mut self, node: usize, connection: ConnectionId, message: Outgoing) {
        let wire = self.connections[&connection];
        if wire.lost && !self.cut {
            // The other end's kernel knows nothing of this connection.
            self.later(Arrival::Event(
                node,
                Event::Closed {
                    connection,
                    reason: "reset".into(),
                },
            ));
        }
        if wire.lost || self.cut {
            return;
        }
        self.later(Arrival::Event(
            node,
            Event::Written {
                connection,
                drained: true,
            },
        ));
        let message = match message {
            Outgoing::Open(open) => Received::Open(open),
            Outgoing::Keepalive => Received::Keepalive,
            Outgoing::Notification(notification) => Received::Notification(notification),
        };
        let connection = wire.peer;
        self.deliver(
            1 - node,
            Event::Received {
                connection,
                message,
            },
        );
    }

    fn deliver(&mut self, node: usize, event: Event) {
        if self.cut {
            return;
        }
        let mut at = self.arrival();
        if let Event::Received { connection, .. } | Event::Closed { connection, .. } = &event {
            let last = self.last.entry(*connection).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.at(at, Arrival::Event(node, event));
    }

    fn later(&mut self, arrival: Arrival) {
        self.at(self.now + self.latency, arrival);
    }

    fn at(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.insert((at, self.sequence), arrival);
    }

    /// When a packet that is sent now arrives.
    fn arrival(&mut self) -> Instant {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 40) as f64 / f64::from(1_u32 << 24);
        self.now + self.latency + self.jitter.mul_f64(part)
    }

    fn number(&mut self) -> ConnectionId {
        self.connection_numbers += 1;
        ConnectionId(self.connection_numbers)
    }
}

pub(super) fn settings(asn: u32, peer_asn: u32, router_id: [u8; 4]) -> Settings {
    Settings {
        local_asn: asn,
        peer_asn,
        router_id: router_id.into(),
        peer: ([10, 0, 0, 9], 179).into(),
        passive: false,
        hold_time: 180,
        connect_retry: Duration::from_secs(5),
        send_hold_time: Duration::from_secs(480),
        authenticated: false,
        families: Family::ALL.to_vec(),
        restart: Restart {
            enabled: false,
            ..Restart::default()
        },
        restarted: Restarted::default(),
        add_path: AddPath::default(),
        extended_next_hop: false,
        role: None,
        replace_established: false,
        seed: u64::from(asn),
    }
}
