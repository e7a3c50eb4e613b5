//! A connection's socket and buffers: whole messages out, bytes in, without blocking.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    net::IpAddr,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    fsm::ConnectionId,
    protection::{self, ProtectionError},
    settings::Security,
    socket,
    wire::Context,
};

/// What is read at a time: at least one message of any length.
pub(super) const BURST: usize = 1 << 16;

/// Parts of the backlog given to the kernel at a time.
const SLICES: usize = 64;

/// What is still read, at the most, of a connection that cannot be written to any more.
const LAST_WORDS: usize = 1 << 20;

/// How long a closed connection may take to deliver its last message.
pub(super) const LINGER: Duration = Duration::from_secs(2);

const HEADER_LEN: usize = 19;

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) received: BytesMut,
    pub(super) context: Context,
    stream: TcpStream,
    out: Outbox,
}

/// What happened on a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes were received.
    pub(super) read: bool,
    /// Whole messages that the socket took.
    pub(super) written: u64,
    /// Nothing waits to be sent.
    pub(super) drained: bool,
    /// The connection has ended; what was received before is in the buffer.
    pub(super) ended: Option<String>,
}

impl Link {
    pub(super) fn new(id: ConnectionId, stream: TcpStream) -> Self {
        Self {
            id,
            received: BytesMut::new(),
            context: Context::default(),
            stream,
            out: Outbox::default(),
        }
    }

    /// Sends before anything that waits, but never within a message.
    pub(super) fn send(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        encode(&mut self.out.urgent);
    }

    /// Sends whole messages after everything else.
    pub(super) fn enqueue(&mut self, messages: Bytes) {
        self.out.enqueue(messages);
    }

    /// Bytes that wait to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.out.waiting + self.out.urgent.len()
    }

    /// The same without the messages that go before anything that waits.
    pub(super) fn waiting(&self) -> usize {
        self.out.waiting
    }

    /// Changes how the connection is protected.
    pub(super) fn protect(
        &self,
        peer: IpAddr,
        before: &Security,
        after: &Security,
    ) -> Result<(), ProtectionError> {
        protection::change(&self.stream, peer, before, after)
    }

    /// Reads and writes what is possible now.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>, may_read: bool) -> Poll<Progress> {
        let mut progress = Progress::default();
        let result = match self.poll_write(cx, &mut progress) {
            Ok(()) if may_read => self.poll_read(cx, &mut progress),
            Ok(()) => Ok(()),
            Err(error) => {
                if may_read {
                    self.read_last_words(&mut progress);
                }
                Err(error)
            }
        };
        progress.drained = self.out.is_empty();
        if let Err(error) = result {
            progress.ended = Some(socket::connection_error(&error));
        }
        if progress.read || progress.written > 0 || progress.ended.is_some() {
            return Poll::Ready(progress);
        }
        Poll::Pending
    }

    /// Reads and writes what is possible now as the kernel knows it: the runtime may not have asked it
    /// for long, if the process was stopped.
    pub(super) fn catch_up(&mut self, may_read: bool) -> Progress {
        let mut progress = Progress::default();
        let mut result = self.write_now(&mut progress);
        if may_read && result.is_ok() {
            result = self.read_now(&mut progress);
        } else if may_read {
            self.read_last_words(&mut progress);
        }
        progress.drained = self.out.is_empty();
        if let Err(error) = result {
            progress.ended = Some(socket::connection_error(&error));
        }
        progress
    }

    fn write_now(&mut self, progress: &mut Progress) -> io::Result<()> {
        let socket = SockRef::from(&self.stream);
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.out.slices(&mut slices);
            match (&*socket).write_vectored(&slices[..used]) {
                Ok(written) => progress.written += self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_now(&mut self, progress: &mut Progress) -> io::Result<()> {
        let socket = SockRef::from(&self.stream);
        let mut part = [0; 4096];
        let mut left = BURST;
        while left >= part.len() {
            match (&*socket).read(&mut part) {
                Ok(0) => {
                    progress.ended = Some("closed by the peer".to_owned());
                    break;
                }
                Ok(len) => {
                    self.received.extend_from_slice(&part[..len]);
                    progress.read = true;
                    left -= len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut TaskContext<'_>, progress: &mut Progress) -> io::Result<()> {
        while !self.out.is_empty() {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.out.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..used]) {
                Ok(written) => progress.written += self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut TaskContext<'_>, progress: &mut Progress) -> io::Result<()> {
        while self.stream.poll_read_ready(cx)?.is_ready() {
            self.received.reserve(BURST);
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => {
                    progress.ended = Some("closed by the peer".to_owned());
                    return Ok(());
                }
                Ok(_) => {
                    progress.read = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.let_go(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the buffer's memory back where nothing is in it: most sessions are quiet.
    pub(super) fn let_go(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// A peer that has closed the connection may have said why before: it lies behind everything
    /// that has arrived and was not read.
    fn read_last_words(&mut self, progress: &mut Progress) {
        // Not through tokio, which may not know yet that there is something to read.
        let socket = SockRef::from(&self.stream);
        let mut part = [0; 4096];
        while self.received.len() < LAST_WORDS {
            match (&*socket).read(&mut part) {
                Ok(len @ 1..) => self.received.extend_from_slice(&part[..len]),
                Ok(0) | Err(_) => return,
            }
            progress.read = true;
        }
    }

    /// Delivers the last message, drops the backlog, and closes; bounded in time.
    pub(super) async fn close(mut self) {
        let last = self.out.into_last();
        let farewell = async {
            self.stream.write_all(&last).await?;
            self.stream.shutdown().await?;
            // Unread data would turn the close into a reset, and the peer might lose the message.
            let mut rest = [0; 4096];
            while self.stream.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // Slow or gone: it is closed all the same.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// Waits for progress on any connection; which one by its place. They take turns: the one at
/// `first` is asked first.
pub(super) async fn progress(
    links: &mut [Link],
    first: usize,
    may_read: impl Fn(ConnectionId) -> bool,
) -> (usize, Progress) {
    std::future::poll_fn(|cx| {
        let count = links.len();
        for index in (0..count).map(|number| (first + number) % count) {
            let link = &mut links[index];
            let may_read = may_read(link.id);
            if let Poll::Ready(progress) = link.poll(cx, may_read) {
                return Poll::Ready((index, progress));
            }
        }
        Poll::Pending
    })
    .await
}

/// What waits to be sent. Urgent messages go between two whole messages of the backlog.
#[derive(Debug, Default)]
struct Outbox {
    urgent: BytesMut,
    backlog: VecDeque<Bytes>,
    /// Bytes of the backlog.
    waiting: usize,
    /// Bytes left of the message of the backlog that is partly sent.
    unfinished: usize,
    /// The same of the urgent ones.
    urgent_unfinished: usize,
}

impl Outbox {
    fn enqueue(&mut self, messages: Bytes) {
        if !messages.is_empty() {
            self.waiting += messages.len();
            self.backlog.push_back(messages);
        }
    }

    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.backlog.is_empty()
    }

    /// What to send next, in as many of the slices as are needed; their number.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if !self.urgent.is_empty() {
            slices[0] = IoSlice::new(match self.backlog.front() {
                Some(first) if self.unfinished > 0 => &first[..self.unfinished],
                _ => &self.urgent,
            });
            return 1;
        }
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(&self.backlog) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        used
    }

    /// So many bytes were sent of what `slices` gave; how many messages this completed.
    fn advance(&mut self, mut written: usize) -> u64 {
        if !self.urgent.is_empty() && self.unfinished == 0 {
            let messages = pass(&self.urgent, written, &mut self.urgent_unfinished);
            self.urgent.advance(written);
            return messages;
        }
        let mut messages = 0;
        self.waiting -= written;
        while written > 0 {
            let Some(first) = self.backlog.front_mut() else {
                break;
            };
            let part = written.min(first.len());
            messages += pass(first, part, &mut self.unfinished);
            first.advance(part);
            written -= part;
            if first.is_empty() {
                self.backlog.pop_front();
            }
        }
        messages
    }

    /// The rest of the message that is partly sent, and the urgent ones.
    fn into_last(mut self) -> BytesMut {
        let first = self.backlog.pop_front().unwrap_or_default();
        let mut last = BytesMut::from(&first[..self.unfinished.min(first.len())]);
        last.unsplit(self.urgent);
        last
    }
}

/// Goes over the first `written` bytes of `messages`, which begin with `unfinished` bytes of a
/// message that is partly sent; the messages completed.
fn pass(messages: &[u8], written: usize, unfinished: &mut usize) -> u64 {
    let mut completed = 0;
    let mut at = 0;
    loop {
        if *unfinished == 0 {
            if at == written {
                return completed;
            }
            *unfinished = message_len(&messages[at..]);
        }
        let part = (*unfinished).min(written - at);
        at += part;
        *unfinished -= part;
        if *unfinished > 0 {
            return completed;
        }
        completed += 1;
    }
}

/// The length of the message that `messages` begins with.
fn message_len(messages: &[u8]) -> usize {
    let len = messages.get(16..18).map_or(HEADER_LEN, |len| {
        usize::from(u16::from_be_bytes([len[0], len[1]]))
    });
    debug_assert!(
        (HEADER_LEN..=messages.len()).contains(&len),
        "whole messages"
    );
    len.clamp(1, messages.len())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Write},
        time::Duration,
    };

    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::{ConnectionId, HEADER_LEN, Link, Outbox, SLICES, message_len};

    proptest! {
        #[test]
        fn urgent_messages_go_between_whole_ones_whatever_the_socket_takes(
            chunks in prop::collection::vec(prop::collection::vec(0_usize..60, 1..6), 1..8),
            steps in prop::collection::vec((1_usize..90, any::<bool>()), 1..200),
        ) {
            let mut out = Outbox::default();
            let mut expected = 0;
            for chunk in &chunks {
                expected += chunk.len() as u64;
                out.enqueue(chunk.iter().flat_map(|len| message(2, *len)).collect::<Bytes>());
            }
            let mut sent = BytesMut::new();
            let mut completed = 0;
            for (room, keepalive) in steps.into_iter().chain(std::iter::repeat_n((90, false), 500)) {
                if keepalive {
                    out.urgent.extend_from_slice(&message(4, 0));
                    expected += 1;
                }
                completed += take(&mut out, room, &mut sent);
            }
            prop_assert!(out.is_empty());
            prop_assert_eq!(out.waiting, 0);
            prop_assert_eq!(completed, expected);
            let mut rest = &sent[..];
            let mut updates = vec![];
            while !rest.is_empty() {
                let (first, others) = rest.split_at(message_len(rest));
                prop_assert!(first[..16].iter().all(|octet| *octet == 0xff), "out of step");
                if first[18] == 2 {
                    updates.push(first.len() - HEADER_LEN);
                }
                rest = others;
            }
            prop_assert_eq!(updates, chunks.concat());
        }
    }

    #[test]
    fn a_keepalive_overtakes_the_backlog() {
        let mut out = Outbox::default();
        out.enqueue((0..100).flat_map(|_| message(2, 50)).collect::<Bytes>());
        let mut sent = BytesMut::new();
        take(&mut out, 10, &mut sent);
        out.urgent.extend_from_slice(&message(4, 0));
        take(&mut out, 1000, &mut sent);
        take(&mut out, 1000, &mut sent);
        assert_eq!(sent.len(), 69 + 19);
        assert_eq!(sent[69 + 18], 4);
    }

    #[test]
    fn the_last_message_follows_the_one_that_is_partly_sent() {
        let mut out = Outbox::default();
        out.enqueue((0..100).flat_map(|_| message(2, 50)).collect::<Bytes>());
        let mut sent = BytesMut::new();
        take(&mut out, 10, &mut sent);
        out.urgent.extend_from_slice(&message(3, 2));
        sent.extend_from_slice(&out.into_last());
        assert_eq!(sent.len(), 69 + 21);
        assert_eq!(sent[69 + 18], 3);
    }

    #[tokio::test]
    async fn what_the_peer_said_before_it_closed_is_read_though_nothing_can_be_sent_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut peer = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut link = Link::new(ConnectionId(1), stream);

        peer.write_all(&message(3, 2)).unwrap();
        // The peer's kernel resets the connection, as it does where something was left unread.
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(peer);
        tokio::time::sleep(Duration::from_millis(50)).await;

        link.enqueue(message(2, 50).into());
        let progress = std::future::poll_fn(|cx| link.poll(cx, true)).await;
        assert_eq!(link.received, message(3, 2), "{progress:?}");
        assert!(progress.read && progress.ended.is_some(), "{progress:?}");
    }

    #[tokio::test]
    async fn links_take_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut peers, mut links) = (vec![], vec![]);
        for number in 0..2 {
            let mut peer = std::net::TcpStream::connect(address).unwrap();
            peer.write_all(&message(4, 0)).unwrap();
            peers.push(peer);
            let (stream, _) = listener.accept().await.unwrap();
            links.push(Link::new(ConnectionId(number), stream));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut turn = 0;
        for _ in 0..10 {
            let mut seen = vec![];
            for _ in 0..2 {
                let (index, _) = super::progress(&mut links, turn, |_| true).await;
                turn = index + 1;
                seen.push(index);
                peers[index].write_all(&message(4, 0)).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(seen, [0, 1]);
        }
    }

    /// The socket takes `room` bytes at the most.
    fn take(out: &mut Outbox, room: usize, sent: &mut BytesMut) -> u64 {
        if out.is_empty() {
            return 0;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = out.slices(&mut slices);
        let all: Vec<u8> = slices[..used]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        let taken = room.min(all.len());
        sent.extend_from_slice(&all[..taken]);
        out.advance(taken)
    }

    fn message(kind: u8, body: usize) -> Vec<u8> {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&((HEADER_LEN + body) as u16).to_be_bytes());
        message.push(kind);
        message.resize(HEADER_LEN + body, 0xaa);
        message
    }
}
