//! All sessions and listeners of the daemon.
//!
//! In: which sessions there are to be, and what the operator wants of them. Each runs as a task of
//! its own; their [`SessionEvent`]s go to one channel. A change of one session's configuration
//! does not touch the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedSender},
    task::JoinHandle,
};

use super::{
    InstanceId, SessionEvent, SessionId,
    listener::{Listener, Peers},
    session::{Control, Session, SessionConfig},
    socket,
    wire::notification::cease,
};
use crate::names::RouteServerName;

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
        Self {
            events,
            sessions: BTreeMap::new(),
            ending: BTreeMap::new(),
            listeners: HashMap::new(),
            stopped: BTreeSet::new(),
        }
    }

    /// Makes these the speaker's sessions: starts new ones, closes those that are not listed any
    /// more (Cease/3), restarts those that changed (Cease/6), leaves the others alone. Opens and
    /// closes listeners accordingly.
    ///
    /// Returns what could not be done; everything else is.
    pub fn apply(&mut self, sessions: Vec<SessionConfig>) -> Vec<SpeakerError> {
        let mut errors = Vec::new();
        let wanted = distinct(sessions, &mut errors);
        self.remove_others(&wanted);
        for (id, config) in wanted {
            match self.sessions.get_mut(&id) {
                Some(running) if running.config == config => {}
                Some(running) => {
                    running.config = config.clone();
                    tell(running, Control::Reconfigure(Box::new(config)));
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

    /// Starts the selected sessions, those stopped one by one included. A session of a stopped
    /// instance stays idle until its instance is started. Returns how many were started.
    pub fn start(&mut self, selection: &Selection) -> usize {
        self.stopped.retain(|stopped| match stopped {
            Selection::Session(id) => !selection.contains(id),
            Selection::Instance(..) => stopped != selection,
        });
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
        tell(running, Control::Stop { subcode, text });
        tell(running, Control::Start);
        true
    }

    /// Closes all sessions with Cease, administrative shutdown, and waits until that is delivered,
    /// 2 seconds at the most.
    pub async fn shutdown(&mut self) {
        self.listeners.clear();
        let mut tasks: Vec<_> = std::mem::take(&mut self.ending).into_values().collect();
        for running in std::mem::take(&mut self.sessions).into_values() {
            tell(
                &running,
                Control::End {
                    subcode: cease::ADMINISTRATIVE_SHUTDOWN,
                    text: String::new(),
                },
            );
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
        let session = Session::new(config.clone(), self.events.clone(), controls, streams);
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
        let mut wanted: BTreeMap<SocketAddr, HashMap<_, (&SessionId, mpsc::Sender<TcpStream>)>> =
            BTreeMap::new();
        for (id, running) in &self.sessions {
            let address = running.config.listen();
            let peers = wanted.entry(address).or_default();
            if let Some((first, _)) = peers.get(&id.peer) {
                errors.push(SpeakerError::Ambiguous(
                    (*first).clone(),
                    id.clone(),
                    address,
                ));
                continue;
            }
            peers.insert(id.peer, (id, running.incoming.clone()));
        }
        self.listeners
            .retain(|address, _| wanted.contains_key(address));
        for (address, peers) in wanted {
            let peers = peers.into_iter().map(|(peer, (_, to))| (peer, to));
            let peers: Peers = Arc::new(peers.collect());
            if let Some(listener) = self.listeners.get(&address) {
                listener.set_peers(peers);
                continue;
            }
            let (listener, result) = Listener::open(address, peers);
            if let Err(error) = result {
                let text = socket::listen_error(&error, address);
                errors.push(SpeakerError::Listen(text));
            }
            self.listeners.insert(address, listener);
        }
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
