//! The listeners: one for each address of an instance.
//!
//! In: who may connect to the address, and how that is protected ([`Door`]). Out: connections, each
//! handed to the session's task, or to whoever makes peers of newcomers. Anyone else is refused at
//! accept.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use super::{
    protection::{self, Expected, Given},
    rate::Rates,
    settings::Security,
    socket,
};

/// How often an address that could not be listened on is tried again, and how long a host without
/// memory or file descriptors is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Log lines about refused connections: one in so much time.
const REFUSALS_LOGGED: Duration = Duration::from_secs(5);

/// Errors of accept one after another, without a connection between them, that are put up with.
const ERRORS_AT_ONCE: u32 = 64;

/// Who may connect to an address.
#[derive(Clone, Debug, Default)]
pub(super) struct Door {
    /// The peers, and where their connections go.
    pub(super) peers: HashMap<IpAddr, Guest>,
    /// Whence those come who are not peers yet.
    pub(super) ranges: Expected,
    /// Where those go.
    pub(super) newcomers: Option<mpsc::Sender<Newcomer>>,
    /// Connections a second from one address.
    pub(super) rate: u16,
}

/// A peer that may connect.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) connections: mpsc::Sender<TcpStream>,
    pub(super) security: Security,
}

/// A connection from the range of dynamic peers, by somebody who is no peer yet.
#[derive(Debug)]
pub struct Newcomer {
    /// Who it is.
    pub address: IpAddr,
    /// The address and port that it connected to.
    pub to: SocketAddr,
    /// Its connection.
    pub(super) stream: TcpStream,
}

impl Newcomer {
    /// Closes its connection: it is not wanted.
    pub fn refuse(self) {
        socket::refuse(self.stream);
    }
}

impl Door {
    /// What the kernel has to know.
    fn expected(&self) -> Expected {
        let peers = self.peers.iter();
        let peers = peers.map(|(peer, guest)| (IpNet::from(*peer), guest.security.clone()));
        let mut expected: Expected = peers.chain(self.ranges.iter().cloned()).collect();
        expected.sort_by_key(|(from, _)| *from);
        expected
    }
}

/// A listener; dropping it closes it.
#[derive(Debug)]
pub(super) struct Listener {
    door: watch::Sender<Arc<Door>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens. If that fails now, it is tried again until it succeeds.
    pub(super) fn open(address: SocketAddr, door: Door) -> (Self, Result<(), io::Error>) {
        let mut given = Given::default();
        let result = listen(address, &door, &mut given);
        let rates = Rates::new(door.rate);
        let (door, watched) = watch::channel(Arc::new(door));
        let (socket, result) = match result {
            Ok(socket) => (Some(socket), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let doorman = Doorman {
            address,
            rates,
            door: watched,
            given,
            strangers: Refusals::default(),
            others: Refusals::default(),
        };
        let task = tokio::spawn(doorman.run(socket));
        (Self { door, task }, result)
    }

    /// Changes who may connect; what is connected already does not notice.
    pub(super) fn set_door(&self, door: Door) {
        self.door.send_replace(Arc::new(door));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens with all keys in place before the first packet.
fn listen(address: SocketAddr, door: &Door, given: &mut Given) -> io::Result<TcpListener> {
    socket::listen(address, |socket| {
        tell(address, given.update(socket, &door.expected()));
    })
}

/// Whom the listener could not be set up for is not spoken to; it says so in its session, too.
fn tell(address: SocketAddr, errors: Vec<(IpNet, protection::ProtectionError)>) {
    for (from, reason) in errors {
        error!("listening on {address} for {from}: {reason}");
    }
}

/// A listener's task.
struct Doorman {
    address: SocketAddr,
    door: watch::Receiver<Arc<Door>>,
    given: Given,
    rates: Rates,
    strangers: Refusals,
    others: Refusals,
}

impl Doorman {
    async fn run(mut self, socket: Option<TcpListener>) {
        let listener = match socket {
            Some(listener) => listener,
            None => self.listen_some_time().await,
        };
        info!("listening for BGP on {}", self.address);
        let mut errors = 0;
        loop {
            tokio::select! {
                // Keys before connections.
                biased;
                changed = self.door.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update(&listener);
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        errors = 0;
                        self.hand_over(stream, from);
                    }
                    Err(error) => {
                        errors += 1;
                        self.accept_failed(&error, errors).await;
                    }
                }
            }
        }
    }

    async fn listen_some_time(&mut self) -> TcpListener {
        loop {
            tokio::time::sleep(RETRY).await;
            let door = Arc::clone(&self.door.borrow_and_update());
            self.rates.set(door.rate);
            self.given = Given::default();
            if let Ok(listener) = listen(self.address, &door, &mut self.given) {
                return listener;
            }
        }
    }

    fn update(&mut self, listener: &TcpListener) {
        let door = Arc::clone(&self.door.borrow_and_update());
        self.rates.set(door.rate);
        let errors = self.given.update(listener, &door.expected());
        tell(self.address, errors);
    }

    /// An error is that of one connection, unless the host is short of something.
    async fn accept_failed(&mut self, error: &io::Error, errors: u32) {
        if let Some(unlogged) = self.others.count(Instant::now()) {
            warn!(
                "accepting BGP connections on {}: {error}{}",
                self.address,
                more(unlogged)
            );
        }
        if is_shortage(error) || errors.is_multiple_of(ERRORS_AT_ONCE) {
            tokio::time::sleep(RETRY).await;
        }
    }

    fn hand_over(&mut self, stream: TcpStream, from: SocketAddr) {
        let door = Arc::clone(&self.door.borrow());
        let peer = from.ip();
        let guest = door.peers.get(&peer);
        let security = match guest {
            Some(guest) => &guest.security,
            None => {
                let mut ranges = door.ranges.iter();
                match ranges.find(|(range, _)| range.contains(&peer)) {
                    Some((_, security)) => security,
                    None => return self.refuse_stranger(stream, peer),
                }
            }
        };
        if !self.rates.admit(peer, guest.is_some(), Instant::now()) {
            let rate = door.rate;
            return self.refuse(
                stream,
                peer,
                &format_args!("it makes more than {rate} a second"),
            );
        }
        if let Err(error) = socket::accepted(&stream, peer, security) {
            return self.refuse(stream, peer, &error);
        }
        // Who cannot keep up with these connections gets no more of them.
        let refused = match (guest, &door.newcomers) {
            (Some(guest), _) => guest
                .connections
                .try_send(stream)
                .map_err(mpsc::error::TrySendError::into_inner)
                .err(),
            (None, Some(newcomers)) => newcomers
                .try_send(Newcomer {
                    address: peer,
                    to: self.address,
                    stream,
                })
                .map_err(|error| error.into_inner().stream)
                .err(),
            (None, None) => Some(stream),
        };
        if let Some(stream) = refused {
            self.refuse(stream, peer, &"more of them wait already than can be taken");
        }
    }

    fn refuse_stranger(&mut self, stream: TcpStream, peer: IpAddr) {
        if let Some(unlogged) = self.strangers.count(Instant::now()) {
            warn!(
                "connection from {peer} to {} refused: no peer of this instance has that address; \
                 configure it as a peer, or correct the address there{}",
                self.address,
                more(unlogged)
            );
        }
        socket::refuse(stream);
    }

    fn refuse(&mut self, stream: TcpStream, peer: IpAddr, why: &dyn std::fmt::Display) {
        if let Some(unlogged) = self.others.count(Instant::now()) {
            warn!(
                "connection from {peer} to {} refused: {why}{}",
                self.address,
                more(unlogged)
            );
        }
        socket::refuse(stream);
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn more(unlogged: u64) -> String {
    match unlogged {
        0 => String::new(),
        more => format!(" ({more} more since the last line)"),
    }
}

/// Limits the log lines that others can cause.
#[derive(Debug, Default)]
pub struct Refusals {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// Counts a refusal. If it is to be logged: how many were not, since the last one that was.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        let recently = |logged: Instant| now.duration_since(logged) < REFUSALS_LOGGED;
        if self.logged.is_some_and(recently) {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, Refusals, io, is_shortage};

    #[test]
    fn refusals_are_logged_now_and_then_and_all_counted() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.count(start), Some(0));
        for millis in 1..=4999 {
            assert_eq!(refusals.count(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(refusals.count(start + Duration::from_secs(5)), Some(4999));
    }

    #[test]
    fn only_a_host_that_is_short_of_something_is_left_alone_for_a_while() {
        let of = |code| is_shortage(&io::Error::from_raw_os_error(code));
        assert!(
            [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]
                .into_iter()
                .all(of)
        );
        let ones_own = [
            libc::ECONNABORTED,
            libc::EPERM,
            libc::EPROTO,
            libc::ENETDOWN,
        ];
        assert!(!ones_own.into_iter().any(of));
    }
}
