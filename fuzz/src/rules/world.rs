//! The product in memory: route servers, networks and the desired forwarding state, without sockets
//! and state machines. What sessions are sent is read from the UPDATEs.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use router_user::{
    bgp::{
        Credit, DownReason, RouteChange, SessionCommand, SessionEvent,
        session::SessionHandle,
        wire::{self, Capability, Context, Family, Message, Negotiated, Notification, Open},
    },
    config::Config,
    fib::{self, Change as FibChange, Fib},
    names::TableName,
    route_server::{Filter, RouteServer, STATIC_PEER, Surroundings},
    vnet::Vnets,
};

use super::{
    case::Change,
    edge::{self, Limits, MOST},
    model::{Forward, Outcome, PortKey, Prefix, Route, SessionKey, State},
};

/// How long it has to be quiet for at the end: longer than any hold, restart or back-off time.
const QUIET: Duration = Duration::from_secs(1200);

pub(super) struct World {
    now: Instant,
    config: Config,
    limits: Limits,
    servers: Vec<RouteServer>,
    vnets: Vnets,
    fib: Fib,
    /// Sessions that are up.
    links: BTreeMap<SessionKey, Link>,
    steps: u32,
}

/// The peer's end of a session.
struct Link {
    context: Context,
    received: BTreeMap<Prefix, Route>,
    /// Most routes that it may ever have been sent, of each family, where a limit holds: so many, or what
    /// the route server originated.
    most: [usize; 2],
}

impl World {
    pub(super) fn new(state: &State, limits: Limits) -> Self {
        let config = edge::config(state, limits);
        let vnets = Vnets::new(&config);
        let now = Instant::now();
        let mut servers = Vec::new();
        for desired in &config.route_servers {
            let around = Surroundings::around(&config, &desired.vnet);
            let mut server = RouteServer::new(desired, &around);
            server.set_originated(vnets.advertised_prefixes(&desired.name));
            server.set_uses(vnets.uses(&desired.name), now);
            servers.push(server);
        }
        Self {
            now,
            config,
            limits,
            servers,
            vnets,
            fib: Fib::new(),
            links: BTreeMap::new(),
            steps: 0,
        }
    }

    // -- What happens --------------------------------------------------------------------------

    pub(super) fn follow(&mut self, state: &State, change: Change) {
        match change {
            Change::Announced(key, prefix) => {
                let session = &state.peer(key).sessions[key.instance];
                if let Some(route) = session.announced.get(&prefix) {
                    let change = RouteChange::Announce {
                        attributes: edge::attributes(route),
                        nlri: vec![edge::ip_net(prefix).into()],
                    };
                    self.tell(state, key, change);
                }
            }
            Change::Withdrawn(key, prefix) => {
                let change = RouteChange::Withdraw {
                    nlri: vec![edge::ip_net(prefix).into()],
                    malformed: None,
                };
                self.tell(state, key, change);
            }
            Change::Up(key) => self.up(state, key),
            Change::Down(key) => self.down(state, key),
            Change::Configured => self.reconfigure(state),
        }
        // Not always at once: changes meet others on their way.
        self.steps += 1;
        self.now += Duration::from_millis(10);
        if self.steps.is_multiple_of(3) {
            self.due(state, self.now);
        }
        self.assert_within_limits(state);
        if self.steps.is_multiple_of(5) {
            self.vnets.apply_to(&mut self.fib);
        }
    }

    fn tell(&mut self, state: &State, key: SessionKey, change: RouteChange) {
        if self.links.contains_key(&key) {
            let event = SessionEvent::Routes {
                id: edge::session(state, key),
                changes: vec![change],
                credit: Credit::default(),
            };
            self.handle(state, key, event);
        }
    }

    fn up(&mut self, state: &State, key: SessionKey) {
        // What is queued for the session's former connection must not reach this one.
        self.flush(state);
        let server = &state.servers[key.server];
        let peer = state.peer(key);
        let instance = &server.instances[key.instance];
        let open = |asn, router_id: u32| Open {
            asn,
            hold_time: 180,
            router_id: router_id.into(),
            capabilities: Family::ALL
                .map(Capability::multiprotocol)
                .into_iter()
                .chain([Capability::FourOctetAsn(asn), Capability::RouteRefresh])
                .collect(),
        };
        let ours = open(server.asn, instance.router_id);
        let theirs = open(peer.asn, peer.router_id);
        let negotiated = Negotiated::new(&ours, &theirs, instance.addresses[0]);
        let link = Link {
            context: negotiated.context(),
            received: BTreeMap::new(),
            most: [MOST; 2],
        };
        self.links.insert(key, link);
        let event = SessionEvent::Up {
            id: edge::session(state, key),
            negotiated: negotiated.into(),
            commands: SessionHandle::new().0,
        };
        self.handle(state, key, event);
    }

    fn down(&mut self, state: &State, key: SessionKey) {
        let broken = DownReason::Connection("reset".to_owned());
        let closed = DownReason::NotificationReceived(Notification::administrative_reset(""));
        let event = SessionEvent::Down {
            id: edge::session(state, key),
            reason: if key.instance == 0 { broken } else { closed },
        };
        self.handle(state, key, event);
        self.links.remove(&key);
    }

    fn handle(&mut self, state: &State, key: SessionKey, event: SessionEvent) {
        self.servers[key.server].handle(event, self.now);
        self.flush(state);
    }

    fn reconfigure(&mut self, state: &State) {
        // The speaker closes the sessions of peers that are gone.
        self.links.retain(|key, _| state.peer(*key).configured);
        self.config = edge::config(state, self.limits);
        self.vnets.reconfigure(&self.config);
        for (place, config) in self.config.route_servers.iter().enumerate() {
            let server = &mut self.servers[place];
            server.set_uses(self.vnets.uses(&config.name), self.now);
            let around = Surroundings::around(&self.config, &config.vnet);
            server.reconfigure(config, &around, self.now);
            server.set_originated(self.vnets.advertised_prefixes(&config.name));
        }
        self.flush(state);
    }

    // -- How it goes on ------------------------------------------------------------------------

    /// Time passes until nothing more happens.
    pub(super) fn settle(&mut self, state: &State) {
        let end = self.now + QUIET;
        self.due(state, end);
        self.now = end;
        self.vnets.apply_to(&mut self.fib);
        // Nobody may depend on who asks when.
        let _ = self.fib.take_changes();
    }

    /// All that is due by then.
    fn due(&mut self, state: &State, end: Instant) {
        self.flush(state);
        loop {
            let next = self
                .servers
                .iter()
                .filter_map(RouteServer::next_timeout)
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for server in &mut self.servers {
                if server.next_timeout().is_some_and(|at| at <= self.now) {
                    server.on_timeout(self.now);
                }
            }
            self.flush(state);
        }
    }

    /// Hands on what the route servers have decided.
    fn flush(&mut self, state: &State) {
        for (place, config) in self.config.route_servers.iter().enumerate() {
            let server = &mut self.servers[place];
            self.vnets
                .report(&config.name, server.take_reports(self.now));
            for (id, command) in server.take_commands(self.now) {
                let mut keys = state.sessions().into_iter();
                let key = keys
                    .find(|key| key.server == place && edge::session(state, *key) == id)
                    .expect("a configured session");
                match (command, self.links.get_mut(&key)) {
                    (_, None) => {}
                    (SessionCommand::Send(bytes), Some(link)) => link.receive(&bytes),
                    // Peers of these worlds forget nothing.
                    (SessionCommand::RequestRefresh(_), Some(_)) => {}
                    (SessionCommand::Shutdown { notification, .. }, Some(_)) => {
                        panic!("{id} is closed: {notification}");
                    }
                }
            }
        }
    }

    // -- What it has come to -------------------------------------------------------------------

    pub(super) fn outcome(&self, state: &State) -> Outcome {
        let mut outcome = Outcome::default();
        for key in state.sessions() {
            let link = self.links.get(&key);
            let received = link.map(|link| link.received.clone());
            outcome.sent.insert(key, received.unwrap_or_default());
        }
        for (place, server) in self.servers.iter().enumerate() {
            for row in server.learned_rows(&Filter::default(), self.now) {
                // Others were given by hand.
                let number = row.peer.as_str().strip_prefix("peer");
                let Some(peer) = number.and_then(|text| text.parse().ok()) else {
                    continue;
                };
                let key = SessionKey {
                    server: place,
                    peer,
                    instance: usize::from(row.instance) - 1,
                };
                let standing = edge::standing(&row);
                let prefix = edge::prefix(row.prefix);
                outcome.standings.insert((key, prefix), standing);
            }
        }
        self.forwarding(state, &mut outcome);
        outcome
    }

    fn forwarding(&self, state: &State, outcome: &mut Outcome) {
        let ports: BTreeMap<_, _> = self
            .fib
            .snapshot()
            .into_iter()
            .filter_map(|change| match change {
                FibChange::PutPort(port) => Some((port.interface.to_string(), port)),
                _ => None,
            })
            .collect();
        let addresses = super::model::addresses_of_interest(state);
        for key in state.ports() {
            let PortKey {
                network,
                subnet,
                port,
            } = key;
            let placed = &ports[&edge::port_name(network, subnet, port)];
            let ways = addresses.iter().map(|to| (*to, self.look_up(placed, *to)));
            outcome.forwarding.insert(key, ways.collect());
            if placed.ip_forwarding {
                let restricted = placed.restricted.iter().map(edge::place).collect();
                outcome.restricted.insert(key, restricted);
            }
        }
    }

    /// What a packet from the port meets in its chain of two tables.
    fn look_up(&self, port: &fib::Port, to: IpAddr) -> Forward {
        let own = self.longest(&port.own_table, to);
        let learned = port.learned_table.as_ref();
        let learned = learned.and_then(|table| self.longest(table, to));
        let route = match (own, learned) {
            (Some((_, own)), _) if own.overriding => own,
            (Some((ours, own)), Some((theirs, learned))) => {
                let rank =
                    |prefix: IpNet, route: &fib::Route| (prefix.prefix_len(), route.precedence);
                if rank(ours, &own) > rank(theirs, &learned) {
                    own
                } else {
                    learned
                }
            }
            (Some((_, route)), None) | (None, Some((_, route))) => route,
            (None, None) => return Forward::NoRoute,
        };
        edge::forward(self.fib.group(route.group).expect("a route has its group"))
    }

    fn longest(&self, table: &TableName, to: IpAddr) -> Option<(IpNet, fib::Route)> {
        let routes = self.fib.routes(table);
        let matching = routes.filter(|(prefix, _)| prefix.contains(&to));
        matching.max_by_key(|(prefix, _)| prefix.prefix_len())
    }

    /// No session has more paths here than it may announce, nor more than it may be sent.
    fn assert_within_limits(&mut self, state: &State) {
        match self.limits {
            Limits::None => {}
            Limits::Announced => {
                let servers = self.servers.iter();
                let rows =
                    servers.flat_map(|server| server.learned_rows(&Filter::default(), self.now));
                let mut held = BTreeMap::<_, Vec<_>>::new();
                for row in rows.filter(|row| row.peer.as_str() != STATIC_PEER) {
                    let session = (row.route_server, row.peer, row.instance);
                    let prefixes = held.entry(session).or_default();
                    prefixes.push(edge::prefix(row.prefix));
                }
                for (session, prefixes) in &held {
                    assert_at_most(format_args!("{session:?}"), [MOST; 2], prefixes);
                }
            }
            Limits::Sent => {
                for (key, link) in &mut self.links {
                    let own = by_family(&super::model::own_prefixes(state, *key));
                    for (most, own) in link.most.iter_mut().zip(own) {
                        *most = own.max(*most);
                    }
                    assert_at_most(format_args!("{key:?}"), link.most, link.received.keys());
                }
            }
        }
    }

    /// What people are shown of paths and subnets.
    pub(super) fn rows(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut learned = Vec::new();
        for server in &mut self.servers {
            learned.extend(server.learned_rows(&Filter::default(), self.now));
            let advertised = server.advertised_rows(&Filter::default());
            rows.extend(advertised.iter().map(|row| format!("{row:?}")));
        }
        rows.extend(learned.iter().map(|row| format!("{row:?}")));
        for (vnet, subnet) in self.vnets.subnets() {
            for group in self.vnets.port_groups(vnet, subnet) {
                // Of other route servers than the network's it takes nothing.
                let effective = self.vnets.effective_routes(&group, &learned);
                rows.extend(effective.iter().map(|row| format!("{row:?}")));
            }
        }
        rows.sort();
        rows
    }
}

/// Of each family there are no more than so many.
fn assert_at_most<'a>(
    what: fmt::Arguments<'_>,
    most: [usize; 2],
    prefixes: impl IntoIterator<Item = &'a Prefix>,
) {
    let count = by_family(prefixes);
    let fits = count.iter().zip(most).all(|(count, most)| *count <= most);
    assert!(fits, "{what} has {count:?} routes of at most {most:?}");
}

/// How many are of IPv4 and of IPv6.
fn by_family<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> [usize; 2] {
    let mut count = [0; 2];
    for prefix in prefixes {
        count[usize::from(prefix.address.is_ipv6())] += 1;
    }
    count
}

impl Link {
    fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let len = wire::frame(bytes, self.context.max_message_len());
            let len = len.expect("a header").expect("whole messages");
            let (message, rest) = bytes.split_at(len);
            bytes = rest;
            let message = wire::decode(message, &self.context).expect("an UPDATE is well-formed");
            let Message::Update(update) = message else {
                panic!("{message:?} is no UPDATE");
            };
            assert_eq!(update.faults(), [], "an UPDATE has no faults");
            for change in update.into_changes() {
                match change {
                    RouteChange::Announce { attributes, nlri } => {
                        let route = edge::route(&attributes);
                        for nlri in nlri {
                            self.received
                                .insert(edge::prefix(nlri.prefix), route.clone());
                        }
                    }
                    RouteChange::Withdraw { nlri, .. } => {
                        for nlri in nlri {
                            let known = self.received.remove(&edge::prefix(nlri.prefix));
                            assert!(known.is_some(), "{} was never announced", nlri.prefix);
                        }
                    }
                    RouteChange::EndOfRib(_) => {}
                }
            }
        }
    }
}
