//! A session's task: tokio sockets driving the state machine.
//!
//! In: what the [`Speaker`](super::speaker::Speaker) and the RIB's owner want, the peer's
//! connections and bytes. Out: [`SessionEvent`]s. Decisions are the state machine's; here its
//! actions are carried out.
//!
//! Reading never waits for writing, and neither waits for the RIB: what is to be sent is queued up
//! to [`MAX_BACKLOG`], and what was received is queued up to the session's [`Credit`](super::Credit).
//! The RIB's owner hands over less than that as long as it minds [`SessionHandle::is_behind`].

use std::{
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};

use super::{
    RouteChange, SessionCommand, SessionEvent,
    backlog::Backlog,
    credit::Credits,
    fsm::{ConnectionId, Event, Fsm, Restarted, Settings},
    link::{self, BURST, LINGER, Link, Progress},
    protection,
    settings::Security,
    socket,
    wire::{Notification, RefreshKind, RouteRefresh},
};
use refreshes::Refreshes;
use status::Status;

mod actions;
mod config;
mod receive;
mod refreshes;
mod status;

pub use config::SessionConfig;

/// What may wait to be sent to one peer, in bytes; beyond, the session is closed.
pub const MAX_BACKLOG: usize = 256 << 20;

/// How long a session stays idle after its backlog grew over [`MAX_BACKLOG`].
const BACKLOG_IDLE: Duration = Duration::from_secs(60);

/// Connections that may be on their way to being closed at the same time.
const MAX_CLOSING: usize = 8;

/// Commands carried out before connections get their turn.
const COMMANDS_AT_ONCE: usize = 64;

/// Where commands to an Established session go.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    commands: UnboundedSender<SessionCommand>,
    backlog: Backlog,
}

impl SessionHandle {
    /// A handle and the end where its commands arrive.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<SessionCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let backlog = Backlog::default();
        (Self { commands, backlog }, receiver)
    }

    /// Queues a command; `false`: the session has ended.
    pub fn send(&self, command: SessionCommand) -> bool {
        if let SessionCommand::Send(messages) = &command {
            self.backlog.grow(messages.len());
        }
        self.commands.send(command).is_ok()
    }

    /// Whether so much waits for the peer that it should be handed no more until the session says
    /// [`SessionEvent::Drained`], which it does from here on.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.backlog.is_high()
    }
}

/// What the speaker tells a session's task.
#[derive(Debug)]
pub(super) enum Control {
    /// Start.
    Start,
    /// Close with this Cease and stay idle until started.
    Stop { subcode: u8, text: String },
    /// Close with this Cease and come back.
    Reset { subcode: u8, text: String },
    /// Close and go on with another configuration; idle, if it was stopped.
    Reconfigure(Box<SessionConfig>),
    /// Protect all connections otherwise, live ones too.
    Protect(Security),
    /// Close with this Cease and end.
    End { subcode: u8, text: String },
    /// Close so that a peer with graceful restart keeps our routes, and end.
    Leave,
}

/// A session's task and all that it owns.
pub(super) struct Session {
    config: SessionConfig,
    fsm: Fsm,
    restarted: Restarted,
    stopped: bool,
    events: UnboundedSender<SessionEvent>,
    control: UnboundedReceiver<Control>,
    incoming: mpsc::Receiver<TcpStream>,
    /// Commands of the Established session.
    commands: Option<UnboundedReceiver<SessionCommand>>,
    /// What waits for the Established session's peer, and how much of it has come here.
    backlog: Backlog,
    waiting: usize,
    attempt: Option<Attempt>,
    links: Vec<Link>,
    /// Which link is asked first for progress, so that none starves the others.
    turn: usize,
    established: Option<ConnectionId>,
    closing: JoinSet<()>,
    connections: u64,
    pending: Pending,
    refreshes: Refreshes,
    credits: Credits,
    status: Status,
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Changes that wait for the end of the burst.
#[derive(Default)]
struct Pending {
    changes: Vec<RouteChange>,
    bytes: usize,
}

/// What the task woke up for.
enum Input {
    Control(Option<Control>),
    Command(Option<SessionCommand>),
    Incoming(TcpStream),
    Attempt(io::Result<TcpStream>),
    Progress(usize, Progress),
    MayRead,
    Time,
}

impl Session {
    pub(super) fn new(
        config: SessionConfig,
        restarted: Restarted,
        events: UnboundedSender<SessionEvent>,
        control: UnboundedReceiver<Control>,
        incoming: mpsc::Receiver<TcpStream>,
    ) -> Self {
        Self {
            fsm: machine(&config, restarted),
            restarted,
            status: Status::new(config.id.clone()),
            config,
            stopped: true,
            events,
            control,
            incoming,
            commands: None,
            backlog: Backlog::default(),
            waiting: 0,
            attempt: None,
            links: Vec::new(),
            turn: 0,
            established: None,
            closing: JoinSet::new(),
            connections: 0,
            pending: Pending::default(),
            refreshes: Refreshes::default(),
            credits: Credits::new(),
        }
    }

    /// Runs until told to end, or until the speaker is gone.
    pub(super) async fn run(mut self) {
        self.check_protection();
        self.report_status();
        loop {
            let input = self.next_input().await;
            let has_read = matches!(&input, Input::Progress(_, progress) if progress.read);
            if self.take(input).is_break() {
                break;
            }
            self.timers();
            self.hand_on_refreshes();
            if self.status.is_due(Instant::now()) {
                self.report_status();
            }
            if has_read {
                // A burst may hold thousands of messages: other sessions get their turn after each.
                tokio::task::yield_now().await;
            }
        }
        let farewells = async { while self.closing.join_next().await.is_some() {} };
        // Each of them is bounded by itself.
        let _ = tokio::time::timeout(LINGER, farewells).await;
    }

    async fn next_input(&mut self) -> Input {
        let established = self.established;
        let credit = self.credits.suffice(BURST);
        let deadline = [
            self.fsm.next_timeout(),
            self.status.due_at(),
            self.refreshes.due_at(Instant::now()),
        ]
        .into_iter()
        .flatten()
        .min();
        tokio::select! {
            control = self.control.recv() => Input::Control(control),
            command = next(&mut self.commands) => Input::Command(command),
            Some(stream) = self.incoming.recv() => Input::Incoming(stream),
            result = finish(&mut self.attempt) => Input::Attempt(result),
            (index, progress) = link::progress(&mut self.links, self.turn, |id| {
                credit || Some(id) != established
            }) => Input::Progress(index, progress),
            () = self.credits.returned(BURST), if !credit => Input::MayRead,
            Some(_) = self.closing.join_next() => Input::Time,
            () = until(deadline) => Input::Time,
        }
    }

    fn take(&mut self, input: Input) -> std::ops::ControlFlow<()> {
        match input {
            Input::Control(control) => return self.control(control),
            Input::Command(command) => self.commands(command),
            Input::Incoming(stream) => {
                // What the speaker has said before counts before: a session that was just made is
                // started before its first connection comes.
                while let Ok(control) = self.control.try_recv() {
                    self.control(Some(control))?;
                }
                self.connected(stream, false);
            }
            Input::Attempt(Ok(stream)) => {
                self.attempt = None;
                self.connected(stream, true);
            }
            Input::Attempt(Err(error)) => {
                self.attempt = None;
                let config = &self.config;
                let reason = socket::connect_error(&error, config.local_address, config.peer());
                self.event(Event::ConnectFailed { reason });
            }
            Input::Progress(index, progress) => {
                self.turn = index + 1;
                self.progress(index, progress);
            }
            Input::MayRead | Input::Time => {}
        }
        std::ops::ControlFlow::Continue(())
    }

    // -- What others want ----------------------------------------------------------------------

    fn control(&mut self, control: Option<Control>) -> std::ops::ControlFlow<()> {
        match control {
            Some(Control::Start) => {
                self.stopped = false;
                self.event(Event::Start);
            }
            Some(Control::Stop { subcode, text }) => {
                self.stopped = true;
                self.stop(Notification::cease_with_text(subcode, &text), None);
            }
            Some(Control::Reset { subcode, text }) => {
                let notification = Notification::cease_with_text(subcode, &text);
                self.tell_closing(&notification);
                self.event(Event::Reset { notification });
            }
            Some(Control::Reconfigure(config)) => self.reconfigure(*config),
            Some(Control::Protect(security)) => self.protect(security),
            Some(Control::End { subcode, text }) => {
                self.stop(Notification::cease_with_text(subcode, &text), None);
                return std::ops::ControlFlow::Break(());
            }
            Some(Control::Leave) => {
                self.event(Event::Leave);
                return std::ops::ControlFlow::Break(());
            }
            None => {
                self.stop(Notification::administrative_shutdown(""), None);
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn stop(&mut self, notification: Notification, idle: Option<Duration>) {
        self.tell_closing(&notification);
        self.event(Event::Stop { notification, idle });
    }

    fn tell_closing(&mut self, notification: &Notification) {
        if self.established.is_some() {
            self.status
                .error(format!("closed from here: {notification}"));
        }
    }

    fn reconfigure(&mut self, config: SessionConfig) {
        let before = std::mem::replace(&mut self.config, config);
        let same_peer =
            before.peer() == self.config.peer() && before.peer_asn == self.config.peer_asn;
        let fsm = machine(&self.config, self.restarted);
        // Another setting is no reason to wake one that was closed for its number of routes.
        if self.fsm.rests() && (same_peer || self.stopped) {
            self.fsm = fsm.resting_like(&self.fsm);
            self.check_protection();
        } else {
            self.stop(Notification::configuration_change(), None);
            self.fsm = fsm;
            self.check_protection();
            self.event(Event::Start);
        }
    }

    fn protect(&mut self, security: Security) {
        let peer = self.config.id.peer;
        let before = std::mem::replace(&mut self.config.security, security);
        let after = &self.config.security;
        let mut changes = self
            .links
            .iter()
            .map(|link| link.protect(peer, &before, after));
        let failed = changes.find_map(Result::err);
        let rekeyed = protection::takes_keys(&before, after);
        if let Some(error) = failed {
            let text = format!("the connection with {peer} cannot be given its new key: {error}");
            self.status.error(text);
            self.reconfigure(self.config.clone());
            return;
        }
        self.check_protection();
        if rekeyed {
            // What came with the old key says nothing about the new one.
            self.read_what_is_there();
            self.event(Event::Rekeyed);
        }
        if self.attempt.is_some() {
            // It has been made with the old key.
            self.attempt = Some(self.new_attempt());
        }
    }

    /// Says so at once where the kernel cannot protect the connections: none is made or taken.
    fn check_protection(&mut self) {
        if let Err(error) = protection::check(&self.config.security, self.config.id.peer) {
            self.status.error(error.to_string());
        }
    }

    fn new_attempt(&self) -> Attempt {
        let (local, peer) = (self.config.local_address, self.config.peer());
        Box::pin(socket::connect(local, peer, self.config.security.clone()))
    }

    fn commands(&mut self, first: Option<SessionCommand>) {
        let mut next = first;
        let mut budget = COMMANDS_AT_ONCE;
        while let Some(command) = next {
            self.command(command);
            budget -= 1;
            let more = self.commands.as_mut().filter(|_| budget > 0);
            next = more.and_then(|commands| commands.try_recv().ok());
        }
    }

    fn command(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Send(messages) => self.send(messages),
            SessionCommand::RequestRefresh(family) => {
                if let Some(link) = find(&mut self.links, self.established) {
                    let request = RouteRefresh::new(family, RefreshKind::Request);
                    link.send(|out| request.encode(out));
                }
            }
            SessionCommand::Shutdown { notification, idle } => self.stop(notification, idle),
        }
    }

    fn send(&mut self, messages: bytes::Bytes) {
        let Some(link) = find(&mut self.links, self.established) else {
            return;
        };
        self.waiting += messages.len();
        link.enqueue(messages);
        let (connection, backlog) = (link.id, link.backlog());
        self.event(Event::Queued { connection });
        if backlog > MAX_BACKLOG {
            self.status.error(format!(
                "{} takes its routes too slowly: more than {} MiB wait for it; trying again in {} s",
                self.config.id.peer,
                MAX_BACKLOG >> 20,
                BACKLOG_IDLE.as_secs()
            ));
            self.event(Event::Stop {
                notification: Notification::out_of_resources(),
                idle: Some(BACKLOG_IDLE),
            });
        }
    }

    // -- What connections do -------------------------------------------------------------------

    fn connected(&mut self, stream: TcpStream, outgoing: bool) {
        let Ok(address) = stream.local_addr() else {
            return;
        };
        let config = &self.config;
        if let Err(error) = protection::confirm(&stream, config.id.peer, &config.security) {
            // The operator has changed it while the connection came to be.
            self.status.error(format!("connection given up: {error}"));
            if outgoing {
                let reason = error.to_string();
                self.event(Event::ConnectFailed { reason });
            }
            return;
        }
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.links.push(Link::new(connection, stream));
        let local_address = address.ip();
        self.event(if outgoing {
            Event::Connected {
                connection,
                local_address,
            }
        } else {
            Event::Accepted {
                connection,
                local_address,
            }
        });
    }

    fn progress(&mut self, index: usize, progress: Progress) {
        let connection = self.links[index].id;
        if progress.written > 0 {
            self.status.sent(progress.written);
            self.sent(connection);
            self.event(Event::Written {
                connection,
                drained: progress.drained,
            });
        }
        if progress.read {
            self.receive(connection);
        }
        if let Some(reason) = progress.ended
            && let Some(index) = self.links.iter().position(|link| link.id == connection)
        {
            self.links.swap_remove(index);
            self.event(Event::Closed { connection, reason });
        }
    }

    /// The Established session's peer has taken a part of what waits for it.
    fn sent(&mut self, connection: ConnectionId) {
        if self.established != Some(connection) {
            return;
        }
        let left = find(&mut self.links, self.established).map_or(0, |link| link.waiting());
        let taken = self.waiting.saturating_sub(left);
        self.waiting = left;
        if self.backlog.shrink(taken) {
            self.emit(SessionEvent::Drained {
                id: self.config.id.clone(),
            });
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.fsm.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        // We did not read, so that the peer could not prove that it lives.
        if let Some(connection) = self.established.filter(|_| !self.credits.suffice(BURST)) {
            self.event(Event::Busy { connection });
        }
        // The task may have been late itself: what has arrived meanwhile counts.
        self.read_what_is_there();
        self.event(Event::Timer);
    }

    fn read_what_is_there(&mut self) {
        let established = self.established;
        let credit = self.credits.suffice(BURST);
        let may_read = |id| credit || Some(id) != established;
        let caught_up: Vec<_> = self
            .links
            .iter_mut()
            .map(|link| (link.id, link.catch_up(may_read(link.id))))
            .collect();
        for (id, progress) in caught_up {
            if let Some(index) = self.links.iter().position(|link| link.id == id) {
                self.progress(index, progress);
            }
        }
    }
}

fn machine(config: &SessionConfig, restarted: Restarted) -> Fsm {
    Fsm::new(Settings {
        restarted,
        ..config.settings()
    })
}

fn find(links: &mut [Link], id: Option<ConnectionId>) -> Option<&mut Link> {
    links.iter_mut().find(|link| Some(link.id) == id)
}

/// The next command; never, while there is nobody to give one.
async fn next(commands: &mut Option<UnboundedReceiver<SessionCommand>>) -> Option<SessionCommand> {
    let Some(receiver) = commands else {
        return std::future::pending().await;
    };
    let command = receiver.recv().await;
    if command.is_none() {
        *commands = None;
    }
    command
}

async fn finish(attempt: &mut Option<Attempt>) -> io::Result<TcpStream> {
    match attempt {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
