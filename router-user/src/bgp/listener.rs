//! The listeners: one for each address of an instance.
//!
//! In: which peers may connect to the address. Out: their connections, each handed to the session's
//! task. Anyone else is refused at accept.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

use super::socket;

/// How often an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Log lines about refused connections: one in so much time.
const REFUSALS_LOGGED: Duration = Duration::from_secs(5);

/// Who may connect, and where their connections go.
pub(super) type Peers = Arc<HashMap<IpAddr, mpsc::Sender<TcpStream>>>;

/// A listener; dropping it closes it.
#[derive(Debug)]
pub(super) struct Listener {
    peers: watch::Sender<Peers>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens. If that fails now, it is tried again until it succeeds.
    pub(super) fn open(address: SocketAddr, peers: Peers) -> (Self, Result<(), std::io::Error>) {
        let (peers, watched) = watch::channel(peers);
        let (socket, result) = match socket::listen(address) {
            Ok(socket) => (Some(socket), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let task = tokio::spawn(run(address, socket, watched));
        (Self { peers, task }, result)
    }

    /// Changes who may connect; what is connected already does not notice.
    pub(super) fn set_peers(&self, peers: Peers) {
        self.peers.send_replace(peers);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(address: SocketAddr, socket: Option<TcpListener>, peers: watch::Receiver<Peers>) {
    let listener = match socket {
        Some(listener) => listener,
        None => listen_some_time(address).await,
    };
    info!("listening for BGP on {address}");
    let mut refusals = Refusals::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => hand_over(stream, from, address, &peers, &mut refusals),
            Err(error) => {
                // Out of file descriptors, for example: existing sessions are not affected.
                warn!("accepting BGP connections on {address}: {error}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn listen_some_time(address: SocketAddr) -> TcpListener {
    loop {
        tokio::time::sleep(RETRY).await;
        if let Ok(listener) = socket::listen(address) {
            return listener;
        }
    }
}

fn hand_over(
    stream: TcpStream,
    from: SocketAddr,
    address: SocketAddr,
    peers: &watch::Receiver<Peers>,
    refusals: &mut Refusals,
) {
    let session = peers.borrow().get(&from.ip()).cloned();
    let Some(session) = session else {
        if let Some(unlogged) = refusals.count(Instant::now()) {
            warn!(
                "connection from {} to {address} refused: no peer of this instance has that \
                 address; configure it as a peer, or correct the address there{}",
                from.ip(),
                match unlogged {
                    0 => String::new(),
                    more => format!(" ({more} more connections refused since the last line)"),
                }
            );
        }
        socket::refuse(stream);
        return;
    };
    if socket::accepted(&stream).is_err() {
        return;
    }
    // A session that cannot keep up with its own peer's connections gets no more of them.
    if let Err(error) = session.try_send(stream) {
        socket::refuse(error.into_inner());
    }
}

/// Limits the log lines that strangers can cause.
#[derive(Default)]
struct Refusals {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// Counts a refusal. If it is to be logged: how many were not, since the last one that was.
    fn count(&mut self, now: Instant) -> Option<u64> {
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
    use super::{Duration, Instant, Refusals};

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
}
