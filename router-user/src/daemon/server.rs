//! The owner of one route server: its RIB and its BGP sessions (invariant 1).
//!
//! In: session events, orders, questions. Out: learned routes to the core, commands to sessions.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Instant,
};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use super::{
    core::CoreHandle,
    dynamic::{self, Dynamic, Verdict},
    question::{self, Question},
};
use crate::{
    api::{Answer, query::PeerOrder, types::PeerOrderRow},
    bgp::{
        InstanceId, SessionEvent, SessionId,
        fsm::Restarted,
        session::{SessionConfig, SessionHandle},
        settings::AddPath,
        speaker::{Admission, DynamicRange, Farewell, Newcomer, Refusals, Selection, Speaker},
        wire::notification::cease,
    },
    config,
    events::{Events, routes::Cause},
    names::{PeerName, RouteServerName},
    route_server::{LearnedUse, RouteServer, Surroundings},
};

mod causes;
mod peers;
mod told;

use causes::{Causes, Why};

/// Connections of newcomers that wait; more are refused.
const NEWCOMERS: usize = 16;

/// Events handled before orders and questions get their turn.
const EVENTS_AT_ONCE: usize = 64;

/// Reaches the owner of a route server.
#[derive(Clone)]
pub(super) struct ServerHandle(mpsc::UnboundedSender<ServerOrder>);

/// What questions are put to.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) route_server: RouteServer,
    /// Instances stopped by the operator.
    pub(super) stopped: BTreeSet<InstanceId>,
    /// Peers that are not in the configuration.
    pub(super) dynamic: Dynamic,
}

/// How a route server is to be.
pub(super) struct Desired {
    pub(super) config: config::RouteServer,
    /// The address space around it.
    pub(super) surroundings: Surroundings,
    /// TCP port of BGP.
    pub(super) port: u16,
    /// What it originates.
    pub(super) originated: BTreeSet<IpNet>,
    /// Who uses what it learns.
    pub(super) uses: BTreeSet<LearnedUse>,
}

enum ServerOrder {
    Reconfigure(Box<Desired>, oneshot::Sender<Vec<String>>),
    StopInstance(InstanceId, oneshot::Sender<()>),
    StartInstance(InstanceId, oneshot::Sender<()>),
    CommandPeer(PeerName, PeerOrder, oneshot::Sender<Vec<PeerOrderRow>>),
    Ask(Question<Server>),
    /// Close all sessions and end.
    Shutdown(Farewell, oneshot::Sender<()>),
}

impl ServerHandle {
    /// Starts the owner of a route server; `restarted`: what it says of an earlier run, for whose
    /// routes it waits. Comes back with what could not be done, in sentences.
    pub(super) fn start(
        desired: Desired,
        core: CoreHandle,
        events: Events,
        restarted: Restarted,
    ) -> (Self, Vec<String>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (session_events, happened) = mpsc::unbounded_channel();
        let (newcomers, arrivals) = mpsc::channel(NEWCOMERS);
        let mut owner = Owner {
            name: desired.config.name.clone(),
            server: Server::new(&desired, Instant::now()),
            speaker: Speaker::restarted(session_events, restarted),
            sessions: HashMap::new(),
            core,
            events,
            causes: Causes::default(),
            synchronised: false,
            deferred_until: restarted.until,
            config: desired.config,
            surroundings: desired.surroundings,
            port: desired.port,
            newcomers,
            refusals: Refusals::default(),
        };
        if let Some(until) = restarted.until {
            owner.server.route_server.defer_selection(until);
        }
        let errors = owner.apply_sessions();
        tokio::spawn(owner.run(ordered, happened, arrivals));
        (Self(orders), errors)
    }

    /// Takes over another configuration; sessions that did not change stay up. Comes back with what
    /// could not be done, in sentences.
    pub(super) async fn reconfigure(&self, desired: Desired) -> Vec<String> {
        self.order(|done| ServerOrder::Reconfigure(Box::new(desired), done))
            .await
            .unwrap_or_default()
    }

    /// Closes the sessions of an instance and keeps them closed.
    pub(super) async fn stop_instance(&self, instance: InstanceId) {
        self.order(|done| ServerOrder::StopInstance(instance, done))
            .await;
    }

    /// Lets the sessions of an instance come up again.
    pub(super) async fn start_instance(&self, instance: InstanceId) {
        self.order(|done| ServerOrder::StartInstance(instance, done))
            .await;
    }

    /// Carries out an order for the sessions of a peer; one row for each.
    pub(super) async fn command_peer(&self, peer: PeerName, order: PeerOrder) -> Vec<PeerOrderRow> {
        self.order(|done| ServerOrder::CommandPeer(peer, order, done))
            .await
            .unwrap_or_default()
    }

    /// Asks the owner.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Server) -> R + Send + 'static,
    ) -> Answer<R> {
        question::ask(
            |question| self.0.send(ServerOrder::Ask(question)).is_ok(),
            question,
        )
        .await
    }

    /// Closes all sessions, which the speaker bounds in time, and ends the owner.
    pub(super) async fn shutdown(&self, farewell: Farewell) {
        self.order(|done| ServerOrder::Shutdown(farewell, done))
            .await;
    }

    /// `None`: the owner has ended.
    async fn order<R>(&self, order: impl FnOnce(oneshot::Sender<R>) -> ServerOrder) -> Option<R> {
        let (done, answer) = oneshot::channel();
        self.0.send(order(done)).ok()?;
        answer.await.ok()
    }
}

impl Server {
    /// The route server as desired; no session is up.
    pub(super) fn new(desired: &Desired, now: Instant) -> Self {
        let mut dynamic = Dynamic::default();
        dynamic.configure(&desired.config);
        let complete = dynamic.complete(&desired.config);
        let mut route_server = RouteServer::new(&complete, &desired.surroundings);
        route_server.set_originated(desired.originated.clone());
        route_server.set_uses(desired.uses.clone(), now);
        Self {
            route_server,
            stopped: BTreeSet::new(),
            dynamic,
        }
    }

    /// Makes the route server as desired, with the dynamic peers of now.
    pub(super) fn take_over(&mut self, desired: &Desired, now: Instant) {
        self.dynamic.configure(&desired.config);
        let complete = self.dynamic.complete(&desired.config);
        let server = &mut self.route_server;
        server.set_uses(desired.uses.clone(), now);
        server.reconfigure(&complete, &desired.surroundings, now);
        server.set_originated(desired.originated.clone());
    }
}

struct Owner {
    name: RouteServerName,
    server: Server,
    speaker: Speaker,
    /// Where commands to Established sessions go.
    sessions: HashMap<SessionId, SessionHandle>,
    core: CoreHandle,
    events: Events,
    /// What has happened since routes were last handed on.
    causes: Causes,
    /// Has told the core so.
    synchronised: bool,
    /// Until when at the latest routes are not selected after a restart.
    deferred_until: Option<Instant>,
    /// As in the file: without dynamic peers and members of gateways.
    config: config::RouteServer,
    surroundings: Surroundings,
    port: u16,
    /// Where the listeners hand connections of those who are no peers yet.
    newcomers: mpsc::Sender<Newcomer>,
    /// Of newcomers; limits what is logged.
    refusals: Refusals,
}

impl Owner {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<ServerOrder>,
        mut events: mpsc::UnboundedReceiver<SessionEvent>,
        mut arrivals: mpsc::Receiver<Newcomer>,
    ) {
        loop {
            self.hand_on();
            let timeout = self.server.route_server.next_timeout();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(ServerOrder::Shutdown(farewell, done)) => {
                        self.speaker.shutdown(farewell).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(event) = events.recv() => {
                    self.handle(event);
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(event) = events.try_recv() else { break };
                        self.handle(event);
                    }
                }
                Some(newcomer) = arrivals.recv() => self.meet(newcomer),
                () = sleep_until(self.server.dynamic.next_timeout()) => self.forget_dynamic(),
                () = sleep_until(timeout) => {
                    self.causes.note(Why::Time);
                    self.server.route_server.on_timeout(Instant::now());
                }
            }
        }
    }

    fn obey(&mut self, order: ServerOrder) {
        match order {
            ServerOrder::Reconfigure(desired, done) => {
                self.causes.note(Why::Reload);
                self.server.take_over(&desired, Instant::now());
                (self.config, self.surroundings) = (desired.config, desired.surroundings);
                self.port = desired.port;
                let _ = done.send(self.apply_to_sessions());
            }
            ServerOrder::StopInstance(instance, done) => {
                let selection = Selection::Instance(self.name.clone(), instance);
                let subcode = cease::ADMINISTRATIVE_SHUTDOWN;
                self.speaker.stop(selection, subcode, "instance stopped");
                self.server.stopped.insert(instance);
                self.server.route_server.drop_kept(instance);
                self.causes.note(Why::Instance(instance));
                self.tell_instance(instance, true);
                tracing::info!(route_server = %self.name, %instance, "instance stopped");
                let _ = done.send(());
            }
            ServerOrder::StartInstance(instance, done) => {
                let selection = Selection::Instance(self.name.clone(), instance);
                self.speaker.start(&selection);
                self.server.stopped.remove(&instance);
                self.tell_instance(instance, false);
                tracing::info!(route_server = %self.name, %instance, "instance started");
                let _ = done.send(());
            }
            ServerOrder::CommandPeer(peer, order, done) => {
                self.causes.note(Why::Command(peer.clone(), order.command));
                let _ = done.send(self.command_peer(&peer, &order));
            }
            ServerOrder::Ask(question) => question(&mut self.server),
            ServerOrder::Shutdown(..) => unreachable!("handled by the loop"),
        }
    }

    fn handle(&mut self, event: SessionEvent) {
        match &event {
            SessionEvent::Up {
                id,
                commands,
                negotiated,
            } => {
                // What is queued for the session's former connection must not reach this one.
                self.send_commands();
                tracing::debug!(
                    session = %id,
                    asn = negotiated.peer_asn,
                    router_id = %negotiated.peer_router_id,
                    hold_time = negotiated.hold_time,
                    families = ?negotiated.families,
                    "session established"
                );
                self.sessions.insert(id.clone(), commands.clone());
                self.server.dynamic.up(id);
            }
            SessionEvent::Down { id, reason } => {
                tracing::debug!(session = %id, reason = %told::reason(reason), "session down");
                self.sessions.remove(id);
                self.server.dynamic.down(id, Instant::now());
            }
            _ => {}
        }
        let down = match &event {
            SessionEvent::Down { id, .. } => Some(id.instance),
            _ => None,
        };
        self.causes.note_event(&event);
        let change = self.session_change(&event);
        let Server {
            route_server,
            stopped,
            ..
        } = &mut self.server;
        route_server.handle(event, Instant::now());
        // Its connection was lost by itself, just before the instance was stopped.
        if let Some(instance) = down.filter(|instance| stopped.contains(instance)) {
            route_server.drop_kept(instance);
        }
        if let Some(change) = change {
            self.tell_session(change);
        }
    }

    /// Hands on what the last events led to.
    fn hand_on(&mut self) {
        self.send_commands();
        let reports = self.server.route_server.take_reports(Instant::now());
        if !reports.is_empty() {
            let server = &self.server.route_server;
            let cause = match self.events.is_kept() {
                true => self.causes.clone().take(|id| server.peer_name(id).cloned()),
                false => Cause::default(),
            };
            self.core.report(self.name.clone(), reports, cause);
        }
        // What is learned before selection begins is told all at once, then.
        let deferred =
            !self.synchronised && self.deferred_until.is_some_and(|it| Instant::now() < it);
        self.causes.settle(deferred);
        self.tell_limits();
        // After the routes, in the same channel: the core knows them when it hears this.
        if !self.synchronised && self.server.route_server.synchronised() {
            self.synchronised = true;
            self.core.synchronised(self.name.clone());
        }
    }

    fn send_commands(&mut self) {
        for (id, command) in self.server.route_server.take_commands(Instant::now()) {
            if let Some(session) = self.sessions.get(&id) {
                // `false`: it has ended and its Down is on the way.
                session.send(command);
            }
        }
        let sessions = self.sessions.iter();
        for (id, _) in sessions.filter(|(_, session)| session.is_behind()) {
            self.server.route_server.hold(id);
        }
    }

    /// Other dynamic peers are known now.
    fn reconfigure(&mut self) {
        let config = self.server.dynamic.complete(&self.config);
        let server = &mut self.server.route_server;
        server.reconfigure(&config, &self.surroundings, Instant::now());
        self.apply_to_sessions();
    }

    /// Makes the sessions those of the route server. Comes back with what could not be done.
    fn apply_to_sessions(&mut self) -> Vec<String> {
        // What was to be sent goes to the sessions as they were, before any restarts.
        self.send_commands();
        let errors = self.apply_sessions();
        for id in self.server.route_server.take_woken() {
            self.speaker.wake(&id);
        }
        errors
    }

    fn apply_sessions(&mut self) -> Vec<String> {
        let config = self.server.dynamic.complete(&self.config);
        self.speaker.admit(Admission {
            connection_rate: config.connection_rate,
            ranges: ranges(&config, self.port),
            newcomers: Some(self.newcomers.clone()),
        });
        let errors = self.speaker.apply(sessions(&config, self.port));
        for error in &errors {
            tracing::error!(route_server = %config.name, "{error}");
        }
        errors.iter().map(ToString::to_string).collect()
    }

    // -- Dynamic peers and members of gateways -------------------------------------------------

    /// Somebody connects from a range.
    fn meet(&mut self, newcomer: Newcomer) {
        let (address, to) = (newcomer.address, newcomer.to);
        match self.server.dynamic.admit(address, Instant::now()) {
            Verdict::New => {
                tracing::info!(route_server = %self.name, "{address} is a peer now");
                self.reconfigure();
            }
            Verdict::Known => {}
            Verdict::Refused(why) => {
                if let Some(unlogged) = self.refusals.count(Instant::now()) {
                    tracing::warn!(
                        route_server = %self.name, unlogged,
                        "connection from {address} to {to} refused: {why}"
                    );
                }
                newcomer.refuse();
                return;
            }
        }
        let mut instances = self.config.instances.iter();
        match instances.find(|instance| instance.addresses.contains(&to.ip())) {
            Some(instance) => {
                let id = SessionId {
                    route_server: self.name.clone(),
                    instance: instance.id,
                    peer: address,
                };
                self.speaker.welcome(&id, newcomer);
            }
            None => newcomer.refuse(),
        }
    }

    fn forget_dynamic(&mut self) {
        let Server {
            route_server,
            dynamic,
            ..
        } = &mut self.server;
        let is_kept = |address| route_server.must_remember(address);
        if dynamic.forget(Instant::now(), is_kept) {
            self.reconfigure();
        }
    }
}

/// The sessions of a route server: each instance with each peer, from the instance's address of the
/// peer's family.
pub(super) fn sessions(config: &config::RouteServer, port: u16) -> Vec<SessionConfig> {
    let mut sessions = Vec::new();
    for instance in &config.instances {
        for peer in &config.peers {
            let mut own = instance.addresses.iter();
            let Some(local) = own.find(|own| own.is_ipv4() == peer.address.is_ipv4()) else {
                // The configuration refuses such a peer.
                continue;
            };
            sessions.push(SessionConfig {
                id: SessionId {
                    route_server: config.name.clone(),
                    instance: instance.id,
                    peer: peer.address,
                },
                local_asn: config.asn,
                peer_asn: peer.asn,
                router_id: instance.router_id,
                local_address: *local,
                port,
                passive: peer.passive,
                hold_time: peer.hold_time,
                connect_retry: peer.connect_retry,
                families: peer.families.iter().collect(),
                send_hold_time: peer.send_hold_time,
                security: peer.security.clone(),
                // How many paths are sent is the route server's business: another number of them
                // changes nothing that was agreed on.
                add_path: AddPath {
                    send: peer.add_path.send.min(1),
                    ..peer.add_path
                },
                restart: peer.restart,
                extended_next_hop: peer.extended_next_hop,
                role: peer.role,
            });
        }
    }
    sessions
}

/// Where peers come from that are not known by address, and which instances' addresses they connect to.
fn ranges(config: &config::RouteServer, port: u16) -> Vec<DynamicRange> {
    let range = |section: config::DynamicPeers| {
        let ipv4 = section.prefix.addr().is_ipv4();
        let instances = config.instances.iter();
        let own = instances.flat_map(|instance| &instance.addresses);
        DynamicRange {
            listen: own
                .filter(|own| own.is_ipv4() == ipv4)
                .map(|own| SocketAddr::new(*own, port))
                .collect(),
            prefix: section.prefix,
            security: section.template.security,
        }
    };
    let ranges = dynamic::ranges(config).into_iter();
    ranges.map(|own| range(own.peers)).collect()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::{Dynamic, ranges, sessions};
    use crate::config::{RouteServer, parse};

    #[test]
    fn a_gateway_in_the_file_has_sessions_with_its_members_or_a_range_that_they_come_from() {
        let gateways = r#"
            [[route_server.gateway]]
            name = "er1"
            kind = "express_route"
            members = ["10.1.60.4", "10.1.60.5"]
            [[route_server.gateway]]
            name = "vpn1"
            kind = "vpn"
            asn = 65060
            prefix = "10.1.61.0/27"
        "#;
        let text = [include_str!("../../../docs/example.toml"), gateways].concat();
        let config = parse(&text, "example").unwrap();
        let server = &config.route_servers[0];
        let mut dynamic = Dynamic::default();
        dynamic.configure(server);
        let all = sessions(&dynamic.complete(server), 179);
        let of_members: Vec<_> = all
            .iter()
            .filter(|session| session.id.peer.to_string().starts_with("10.1.60."))
            .map(|session| (session.peer_asn, session.passive))
            .collect();
        assert_eq!(
            of_members,
            [(server.asn, false); 4],
            "two members, two instances"
        );
        let ranges: Vec<_> = ranges(server, 179);
        assert_eq!(
            ranges.last().unwrap().prefix,
            "10.1.61.0/27".parse().unwrap()
        );
    }

    #[test]
    fn a_change_of_path_policy_restarts_no_session_and_one_of_the_role_does() {
        let config = parse(include_str!("../../../docs/example.toml"), "example").unwrap();
        let before = &config.route_servers[0];
        let changed = |change: fn(&mut RouteServer)| {
            let mut after = before.clone();
            change(&mut after);
            sessions(&after, 179) != sessions(before, 179)
        };
        assert!(!changed(|server| {
            server.require_policy = true;
            let policy = &mut server.peers[0].policy;
            policy.allow_own_as = 1;
            policy.allow_as_set = true;
            policy.enforce_first_as = false;
            policy.max_as_path_length = 1;
            policy.as_override = true;
            policy.transparent = true;
            server.peers[0].max_prefixes = 1;
        }));
        assert!(changed(|server| {
            server.peers[0].role = Some(crate::bgp::settings::RoleSettings {
                role: crate::bgp::wire::Role::Peer,
                strict: false,
            });
        }));
    }
}
