//! All sessions and listeners of the daemon.
//!
//! In: which sessions there are to be, and what the operator wants of them. Each runs as a task of
//! its own; their [`SessionEvent`]s go to one channel. A change of one session's configuration
//! does not touch the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedSender},
    task::JoinHandle,
};

use super::{
    InstanceId, SessionEvent, SessionId,
    fsm::Restarted,
    listener::{Door, Guest, Listener},
    protection::{self, ProtectionError},
    session::{Control, Session, SessionConfig},
    settings::Security,
    socket,
    wire::notification::cease,
};
use crate::names::RouteServerName;

pub use super::listener::{Newcomer, Refusals};

/// How long [`Speaker::shutdown`] waits for the last messages to be delivered.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);

/// A peer's connections that wait for its session's task.
const INCOMING: usize = 4;

/// What could not be done. The rest was.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// A listener could not be opened; it is tried again every second.
    #[error("{0}")]
    Listen(String),
    /// Two sessions of one list have the same instance and peer; the first was taken.
    #[error("session {0} is listed twice: remove one")]
    Twice(SessionId),
    /// Two route servers would share a peer at the same address; the first was taken.
    #[error(
        "sessions {0} and {1} would both accept connections from {peer} at {2}: give their \
         instances different addresses",
        peer = .1.peer
    )]
    Ambiguous(SessionId, SessionId, SocketAddr),
    /// The kernel cannot protect a session as configured; it stays down.
    #[error("session {0}: {1}")]
    Unprotected(SessionId, ProtectionError),
    /// The same of dynamic peers; their connections are refused.
    #[error("dynamic peers of {0}: {1}")]
    UnprotectedRange(IpNet, ProtectionError),
}

/// Who may connect beside the peers of the sessions, and how often anyone may.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Connections a second from one address; what is beyond is closed at once.
    pub connection_rate: u16,
    /// Whence those may come who are not peers yet.
    pub ranges: Vec<DynamicRange>,
    /// Where their connections go; they are refused while it is full.
    pub newcomers: Option<mpsc::Sender<Newcomer>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connection_rate: 10,
            ranges: Vec::new(),
            newcomers: None,
        }
    }
}

/// Addresses whose connections are taken without a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DynamicRange {
    /// What they connect to.
    pub listen: Vec<SocketAddr>,
    /// Where they are.
    pub prefix: IpNet,
    /// How their connections are protected.
    pub security: Security,
}

/// Whether we come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// Soon: peers with graceful restart are to keep our routes (RFC 4724, RFC 8538).
    ForRestart,
    /// Not: all peers are to drop our routes at once.
    ForGood,
}

/// Which sessions are meant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Selection {
    /// One session.
    Session(SessionId),
    /// All sessions of one route server's instance, those configured later included.
    Instance(RouteServerName, InstanceId),
}

impl Selection {
    fn contains(&self, id: &SessionId) -> bool {
        match self {
            Self::Session(session) => session == id,
            Self::Instance(route_server, instance) => {
                (route_server, instance) == (&id.route_server, &id.instance)
            }
        }
    }
}

/// The BGP speaker. Its methods have to be called within a tokio runtime. Dropping it closes all
/// sessions with a Cease, but does not wait for that.
#[derive(Debug)]
pub struct Speaker {
    events: UnboundedSender<SessionEvent>,
    sessions: BTreeMap<SessionId, Running>,
    /// Tasks of removed sessions that are delivering their last message.
    ending: BTreeMap<SessionId, JoinHandle<()>>,
    listeners: HashMap<SocketAddr, Listener>,
    stopped: BTreeSet<Selection>,
    restarted: Restarted,
    admission: Admission,
}

#[derive(Debug)]
struct Running {
    config: SessionConfig,
    control: UnboundedSender<Control>,
    incoming: mpsc::Sender<TcpStream>,
    task: JoinHandle<()>,
}

impl Speaker {
    /// A speaker without sessions.
    #[must_use]
    pub fn new(events: UnboundedSender<SessionEvent>) -> Self {
        Self::restarted(events, Restarted::default())
    }

    /// A speaker without sessions that follows an earlier run; `restarted` is what their first OPENs
    /// say of that.
    #[must_use]
    pub fn restarted(events: UnboundedSender<SessionEvent>, restarted: Restarted) -> Self {
        Self {
            events,
            sessions: BTreeMap::new(),
            ending: BTreeMap::new(),
            listeners: HashMap::new(),
            stopped: BTreeSet::new(),
            restarted,
            admission: Admission::default(),
        }
    }

    /// Changes who may connect beside the sessions' peers, from the next [`apply`](Self::apply) on.
    pub fn admit(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Hands a newcomer's connection to its session, which has been made meanwhile.
    pub fn welcome(&self, id: &SessionId, newcomer: Newcomer) {
        match self.sessions.get(id) {
            Some(running) => {
                if let Err(error) = running.incoming.try_send(newcomer.stream) {
                    socket::refuse(error.into_inner());
                }
            }
            None => newcomer.refuse(),
        }
    }

    /// Starts a session that rests, unless the operator has stopped it.
    pub fn wake(&self, id: &SessionId) {
        if let Some(running) = self.sessions.get(id).filter(|_| !self.is_stopped(id)) {
            tell(running, Control::Start);
        }
    }

    /// Makes these the speaker's sessions: starts new ones, closes those that are not listed any
    /// more (Cease/3), restarts those that changed (Cease/6), leaves the others alone. Where only
    /// keys or hops changed, live connections go on with the new ones if TCP can do that. Opens and
    /// closes listeners accordingly.
    ///
    /// Returns what could not be done; everything else is.
    pub fn apply(&mut self, sessions: Vec<SessionConfig>) -> Vec<SpeakerError> {
        let mut errors = Vec::new();
        let wanted = distinct(sessions, &mut errors);
        self.remove_others(&wanted);
        for (id, config) in wanted {
            let before = self.sessions.get(&id).map(|running| &running.config);
            if before.is_none_or(|before| before.security != config.security)
                && let Err(error) = protection::check(&config.security, id.peer)
            {
                errors.push(SpeakerError::Unprotected(id.clone(), error));
            }
            match self.sessions.get_mut(&id) {
                Some(running) if running.config == config => {}
                Some(running) => {
                    let before = std::mem::replace(&mut running.config, config.clone());
                    tell(running, transition(&before, config));
                }
                None => self.add(id, config),
            }
        }
        self.listen(&mut errors);
        errors
    }

    /// Closes the selected sessions with this Cease (RFC 4486) and text (RFC 9003) and keeps them
    /// idle until [`start`](Self::start). Returns how many are selected.
    pub fn stop(&mut self, selection: Selection, subcode: u8, text: &str) -> usize {
        let selected = self.tell_all(&selection, || Control::Stop {
            subcode,
            text: text.to_owned(),
        });
        self.stopped.insert(selection);
        selected
    }

    /// Starts the selected sessions. What else was stopped stays so: a session that was stopped by
    /// itself when its instance is started, and one of a stopped instance. Returns how many were
    /// started.
    pub fn start(&mut self, selection: &Selection) -> usize {
        self.stopped.remove(selection);
        let mut started = 0;
        for (id, running) in &self.sessions {
            if selection.contains(id) && !self.is_stopped(id) {
                tell(running, Control::Start);
                started += 1;
            }
        }
        started
    }

    /// Closes a session with this Cease and text and starts it again at once, out of idle hold as
    /// well; `false`: it is stopped, or there is none.
    pub fn reset(&mut self, id: &SessionId, subcode: u8, text: &str) -> bool {
        let Some(running) = self.sessions.get(id).filter(|_| !self.is_stopped(id)) else {
            return false;
        };
        let text = text.to_owned();
        tell(running, Control::Reset { subcode, text });
        true
    }

    /// Closes all sessions and waits until that is delivered, 2 seconds at the most: with Cease,
    /// administrative shutdown, or, for a restart, so that peers with graceful restart keep our
    /// routes.
    pub async fn shutdown(&mut self, farewell: Farewell) {
        self.listeners.clear();
        let mut tasks: Vec<_> = std::mem::take(&mut self.ending).into_values().collect();
        for running in std::mem::take(&mut self.sessions).into_values() {
            let control = match farewell {
                Farewell::ForRestart => Control::Leave,
                Farewell::ForGood => Control::End {
                    subcode: cease::ADMINISTRATIVE_SHUTDOWN,
                    text: String::new(),
                },
            };
            tell(&running, control);
            tasks.push(running.task);
        }
        let ended = futures::future::join_all(&mut tasks);
        if tokio::time::timeout(SHUTDOWN_TIME, ended).await.is_err() {
            for task in tasks {
                task.abort();
            }
        }
    }

    fn remove_others(&mut self, wanted: &BTreeMap<SessionId, SessionConfig>) {
        self.ending.retain(|_, task| !task.is_finished());
        let removed: Vec<_> = self
            .sessions
            .keys()
            .filter(|id| !wanted.contains_key(*id))
            .cloned()
            .collect();
        for id in removed {
            if let Some(running) = self.sessions.remove(&id) {
                let text = String::new();
                let subcode = cease::PEER_DECONFIGURED;
                tell(&running, Control::End { subcode, text });
                self.ending.insert(id.clone(), running.task);
            }
            self.stopped.remove(&Selection::Session(id));
        }
    }

    fn add(&mut self, id: SessionId, config: SessionConfig) {
        let (control, controls) = mpsc::unbounded_channel();
        let (incoming, streams) = mpsc::channel(INCOMING);
        let events = self.events.clone();
        let session = Session::new(config.clone(), self.restarted, events, controls, streams);
        let predecessor = self.ending.remove(&id);
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                // Its events come before ours. How it ended does not matter.
                let _ = predecessor.await;
            }
            session.run().await;
        });
        let running = Running {
            config,
            control,
            incoming,
            task,
        };
        if !self.is_stopped(&id) {
            tell(&running, Control::Start);
        }
        self.sessions.insert(id, running);
    }

    fn listen(&mut self, errors: &mut Vec<SpeakerError>) {
        let wanted = self.doors(errors);
        self.listeners
            .retain(|address, _| wanted.contains_key(address));
        for (address, door) in wanted {
            if let Some(listener) = self.listeners.get(&address) {
                listener.set_door(door);
                continue;
            }
            let (listener, result) = Listener::open(address, door);
            if let Err(error) = result {
                let text = socket::listen_error(&error, address);
                errors.push(SpeakerError::Listen(text));
            }
            self.listeners.insert(address, listener);
        }
    }

    /// Who may connect to which address.
    fn doors(&self, errors: &mut Vec<SpeakerError>) -> BTreeMap<SocketAddr, Door> {
        let Admission {
            connection_rate,
            ranges,
            newcomers,
        } = &self.admission;
        let new = || Door {
            newcomers: newcomers.clone(),
            rate: *connection_rate,
            ..Door::default()
        };
        let mut doors: BTreeMap<SocketAddr, Door> = BTreeMap::new();
        let mut claims: HashMap<(SocketAddr, IpAddr), &SessionId> = HashMap::new();
        for (id, running) in &self.sessions {
            let address = running.config.listen();
            if let Some(first) = claims.get(&(address, id.peer)) {
                let first = (*first).clone();
                errors.push(SpeakerError::Ambiguous(first, id.clone(), address));
                continue;
            }
            claims.insert((address, id.peer), id);
            let guest = Guest {
                connections: running.incoming.clone(),
                security: running.config.security.clone(),
            };
            let door = doors.entry(address).or_insert_with(new);
            door.peers.insert(id.peer, guest);
        }
        for range in ranges {
            if let Err(error) = protection::check(&range.security, range.prefix.addr()) {
                errors.push(SpeakerError::UnprotectedRange(range.prefix, error));
            }
            for address in &range.listen {
                let door = doors.entry(*address).or_insert_with(new);
                door.ranges.push((range.prefix, range.security.clone()));
            }
        }
        doors
    }

    fn is_stopped(&self, id: &SessionId) -> bool {
        self.stopped.iter().any(|stopped| stopped.contains(id))
    }

    fn tell_all(&self, selection: &Selection, control: impl Fn() -> Control) -> usize {
        let selected = self
            .sessions
            .iter()
            .filter(|(id, _)| selection.contains(id));
        selected
            .map(|(_, running)| tell(running, control()))
            .count()
    }
}

/// How a session gets from one configuration to the next.
fn transition(before: &SessionConfig, after: SessionConfig) -> Control {
    if restarts(before, &after) {
        Control::Reconfigure(Box::new(after))
    } else {
        Control::Protect(after.security)
    }
}

/// Whether a session is closed and opened anew to get from one configuration to the next; live
/// connections take over other keys and hops where TCP can do that.
#[must_use]
pub fn restarts(before: &SessionConfig, after: &SessionConfig) -> bool {
    let protected_anew = SessionConfig {
        security: after.security.clone(),
        ..before.clone()
    };
    protected_anew != *after || !protection::changes_live(&before.security, &after.security)
}

fn tell(running: &Running, control: Control) {
    // A task ends only when told to, after which nobody speaks to it.
    let _ = running.control.send(control);
}

fn distinct(
    sessions: Vec<SessionConfig>,
    errors: &mut Vec<SpeakerError>,
) -> BTreeMap<SessionId, SessionConfig> {
    let mut distinct = BTreeMap::new();
    for session in sessions {
        if distinct.contains_key(&session.id) {
            errors.push(SpeakerError::Twice(session.id));
        } else {
            distinct.insert(session.id.clone(), session);
        }
    }
    distinct
}
