//! Many BGP sessions of one's own: they announce what was encoded beforehand and compare what they
//! are told with what they expect. One thread drives them all.
//!
//! In: peers, byte streams of UPDATEs, [`View`]s. Out: when every view was as expected.

use std::{
    collections::VecDeque,
    fmt,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    os::fd::AsRawFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;
use socket2::{Domain, SockRef, Socket, Type};

pub mod update;
pub mod view;

pub use view::{Index, View, path_hash};

/// Bytes that are read or written at one go.
const GO: usize = 256 * 1024;
/// Largest message (RFC 4271 §4.1).
const LARGEST: usize = 4096;
/// Time between keepalives of a session that sends nothing else.
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);

/// A peer that the injector plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its ASN.
    pub asn: u32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (AS {})", self.address, self.asn)
    }
}

/// An established session.
#[derive(Debug)]
pub struct Session {
    /// Who we are in it.
    pub peer: Peer,
    stream: TcpStream,
    /// What is to be sent, whole messages each.
    queue: VecDeque<(Arc<[u8]>, Range<usize>)>,
    /// What has arrived and is not a whole message yet, in the first `have` bytes.
    buffer: Vec<u8>,
    have: usize,
    sent_last: Instant,
    /// Bytes that have arrived.
    pub received: u64,
    /// What it has been told; without one, arriving routes are not looked at.
    pub view: Option<View>,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Injector {
    /// In the order of connecting.
    pub sessions: Vec<Session>,
    polled: Vec<libc::pollfd>,
}

impl Injector {
    /// Connects as `peer` and returns the session's place once it is established. Tries again until
    /// `until`, as `alive` permits.
    ///
    /// # Errors
    /// It cannot be established: what was seen last.
    pub fn connect(
        &mut self,
        peer: Peer,
        speaker: Ipv4Addr,
        until: Instant,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<usize> {
        loop {
            match establish(peer, speaker) {
                Ok(stream) => {
                    self.sessions.push(Session::new(peer, stream));
                    return Ok(self.sessions.len() - 1);
                }
                Err(error) if Instant::now() >= until => {
                    return Err(error.context(format!("{peer} does not get a session")));
                }
                Err(_) => {
                    alive()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Plays the speaker instead: takes the next connection, with as little of the protocol as the
    /// other side's [`Injector::connect`] needs. `peer` is who the other side is.
    ///
    /// # Errors
    /// The connection fails.
    pub fn accept(&mut self, listener: &TcpListener, peer: Peer, speaker: Peer) -> Result<()> {
        SockRef::from(listener).set_read_timeout(Some(Duration::from_secs(60)))?;
        let (mut stream, _) = listener.accept()?;
        let mut messages = Vec::new();
        update::open(&mut messages, speaker.asn, speaker.address);
        update::keepalive(&mut messages);
        stream.write_all(&messages)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.sessions.push(Session::new(peer, stream));
        Ok(())
    }

    /// Sends and receives for one turn, waiting up to `limit` for something to do.
    ///
    /// # Errors
    /// A session ended, or was told what makes no sense.
    pub fn turn(&mut self, limit: Duration) -> Result<()> {
        self.polled.clear();
        self.polled
            .extend(self.sessions.iter().map(|session| libc::pollfd {
                fd: session.stream.as_raw_fd(),
                events: if session.queue.is_empty() {
                    libc::POLLIN
                } else {
                    libc::POLLIN | libc::POLLOUT
                },
                revents: 0,
            }));
        let count = libc::nfds_t::try_from(self.polled.len())?;
        let limit = i32::try_from(limit.as_millis())?;
        // SAFETY: the array is as long as it says, and lives through the call.
        let ready = unsafe { libc::poll(self.polled.as_mut_ptr(), count, limit) };
        if ready < 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.kind() == ErrorKind::Interrupted, error);
            return Ok(());
        }
        for (session, polled) in self.sessions.iter_mut().zip(&self.polled) {
            let mut step = || -> Result<()> {
                if polled.revents & libc::POLLOUT != 0 {
                    session.send()?;
                }
                if polled.revents & !libc::POLLOUT != 0 {
                    session.receive()?;
                }
                session.keep_alive();
                Ok(())
            };
            step().with_context(|| format!("session of {}", session.peer))?;
        }
        Ok(())
    }

    /// Whether all that was queued has been given to TCP.
    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.sessions.iter().all(|session| session.queue.is_empty())
    }

    /// Since when all views have been as expected; `None` if one is not.
    #[must_use]
    pub fn right_since(&self) -> Option<Instant> {
        let mut latest = None;
        for view in self
            .sessions
            .iter()
            .filter_map(|session| session.view.as_ref())
        {
            latest = latest.max(Some(view.right_since()?));
        }
        latest
    }

    /// Where it stands, for a load that does not end.
    #[must_use]
    pub fn progress(&self, prefixes: &[Ipv4Net]) -> String {
        let unsent: usize = self.sessions.iter().map(Session::unsent).sum();
        let views = self
            .sessions
            .iter()
            .filter_map(|session| session.view.as_ref().map(|view| (session.peer, view)));
        let (mut right, mut wrong, mut worst) = (0, 0, None);
        for (peer, view) in views {
            match view.wrong() {
                (0, _) => right += 1,
                (missing, all) => {
                    wrong += 1;
                    if worst.is_none_or(|(_, most, _, _)| missing > most) {
                        worst = Some((peer, missing, all, view));
                    }
                }
            }
        }
        let worst = worst.map_or_else(String::new, |(peer, missing, all, view)| {
            format!(
                "; {peer}: {missing} of {all} prefixes not as expected, for example{}",
                view.differences(prefixes)
            )
        });
        format!("{unsent} bytes not yet sent; {right} receivers right, {wrong} not{worst}")
    }
}

impl Session {
    fn new(peer: Peer, stream: TcpStream) -> Self {
        Self {
            peer,
            stream,
            queue: VecDeque::new(),
            buffer: vec![0; GO + LARGEST],
            have: 0,
            sent_last: Instant::now(),
            received: 0,
            view: None,
        }
    }

    /// Adds whole messages to what is to be sent.
    pub fn queue(&mut self, messages: Arc<[u8]>) {
        let all = 0..messages.len();
        self.queue_part(messages, all);
    }

    /// Adds a part of `messages` that is whole messages too.
    pub fn queue_part(&mut self, messages: Arc<[u8]>, part: Range<usize>) {
        if part.start < part.end {
            self.queue.push_back((messages, part));
        }
    }

    /// Bytes that are to be sent yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.queue.iter().map(|(_, part)| part.len()).sum()
    }

    fn send(&mut self) -> Result<()> {
        while let Some((bytes, part)) = self.queue.front_mut() {
            let go = &bytes[part.start..part.end.min(part.start + GO)];
            match self.stream.write(go) {
                Ok(written) => {
                    self.sent_last = Instant::now();
                    part.start += written;
                    if part.start == part.end {
                        self.queue.pop_front();
                    } else {
                        return Ok(());
                    }
                }
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let read = match self.stream.read(&mut self.buffer[self.have..]) {
            Ok(0) => bail!("the speaker closed the connection"),
            Ok(read) => read,
            Err(error) if is_temporary(&error) => return Ok(()),
            Err(error) => return Err(error).context("receiving"),
        };
        let now = Instant::now();
        self.received += read as u64;
        let have = self.have + read;
        let mut done = 0;
        while let Some(length) = message_length(&self.buffer[done..have])? {
            let message = &self.buffer[done..done + length];
            match (message[18], &mut self.view) {
                (update::UPDATE, Some(view)) => view.update(&message[update::HEADER..], now)?,
                (update::NOTIFICATION, _) => {
                    bail!("the speaker sent NOTIFICATION {:?}", &message[19..])
                }
                _ => {}
            }
            done += length;
        }
        self.buffer.copy_within(done..have, 0);
        self.have = have - done;
        Ok(())
    }

    fn keep_alive(&mut self) {
        if self.queue.is_empty() && self.sent_last.elapsed() > KEEPALIVE_TIME {
            let mut message = Vec::new();
            update::keepalive(&mut message);
            self.queue(message.into());
        }
    }
}

/// The length of the message that these bytes start with, if it is complete.
fn message_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(header) = bytes.get(..update::HEADER) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!(
        header[..16] == update::MARKER && (update::HEADER..=LARGEST).contains(&length),
        "the speaker sent no BGP message: {header:x?}"
    );
    Ok((bytes.len() >= length).then_some(length))
}

fn is_temporary(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Connects, exchanges OPENs and first keepalives.
fn establish(peer: Peer, speaker: Ipv4Addr) -> Result<TcpStream> {
    let patience = Duration::from_secs(5);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(peer.address), 0).into())?;
    let to = SocketAddr::new(IpAddr::V4(speaker), 179);
    socket
        .connect_timeout(&to.into(), patience)
        .with_context(|| format!("connecting to {to}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    let mut message = Vec::new();
    update::open(&mut message, peer.asn, peer.address);
    stream.write_all(&message)?;
    loop {
        let mut header = [0; update::HEADER];
        stream
            .read_exact(&mut header)
            .context("waiting for OPEN and KEEPALIVE")?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        ensure!((update::HEADER..=LARGEST).contains(&length), "{header:x?}");
        let mut body = vec![0; length - update::HEADER];
        stream.read_exact(&mut body)?;
        match header[18] {
            update::OPEN => {
                message.clear();
                update::keepalive(&mut message);
                stream.write_all(&message)?;
            }
            update::KEEPALIVE => break,
            update::NOTIFICATION => bail!("the speaker sent NOTIFICATION {body:?}"),
            other => bail!("the speaker sent a message of type {other} first"),
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}
