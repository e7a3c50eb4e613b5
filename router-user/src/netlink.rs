//! Questions to the kernel's network side, each answered before the next.
//!
//! In: a request. Out: what the caller makes of each answer, one by one: an interface as it is decoded
//! takes 15 KB, and a host has thousands of them.

use std::{io, os::fd::AsRawFd, time::Duration};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkExtentMask, LinkMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// How often a dump is tried that the kernel interrupts.
const DUMPS: usize = 10;

/// A socket for requests.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let _ = socket.set_cap_ack(true);
        set_timeout(&socket, Duration::from_secs(5))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and reads its answers to the end; comes back with what `of` makes of them. A
    /// dump during which the kernel's tables changed may lack entries: it is repeated.
    pub(crate) fn request<T>(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        of: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        for _ in 0..DUMPS {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            self.socket.send(&bytes, 0)?;
            let mut answers = Answers::to(self.sequence, flags);
            let complete = loop {
                let (bytes, _) = self.socket.recv_from_full()?;
                if let Some(result) = answers.read(&bytes, &of) {
                    break result?;
                }
            };
            if complete {
                return Ok(answers.taken);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the kernel's tables change too fast to be read",
        ))
    }
}

/// Asks for all interfaces, without what they have counted.
pub(crate) fn all_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    let without_counters = vec![LinkExtentMask::SkipStats];
    message.attributes = vec![LinkAttribute::ExtMask(without_counters)];
    RouteNetlinkMessage::GetLink(message)
}

/// The messages of a datagram; what cannot be parsed is left out.
pub(crate) fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
            let message = bytes.get(..length).filter(|it| it.len() >= 16)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                return Some(message);
            }
        }
    })
}

/// The answers to a request, as they come in.
struct Answers<T> {
    sequence: u32,
    /// Of the request.
    flags: u16,
    taken: Vec<T>,
    interrupted: bool,
}

impl<T> Answers<T> {
    fn to(sequence: u32, flags: u16) -> Self {
        Self {
            sequence,
            flags,
            taken: Vec::new(),
            interrupted: false,
        }
    }

    /// Takes in a datagram. At the end of the answers: whether nothing is missing.
    fn read(
        &mut self,
        bytes: &[u8],
        of: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Option<io::Result<bool>> {
        for message in messages(bytes) {
            if message.header.sequence_number != self.sequence {
                continue;
            }
            self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::Error(error) => {
                    return Some(match error.code {
                        None => Ok(true),
                        Some(_) => Err(error.to_io()),
                    });
                }
                NetlinkPayload::Done(_) => return Some(Ok(!self.interrupted)),
                NetlinkPayload::InnerMessage(inner) => {
                    self.taken.extend(of(inner));
                    if self.flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                        return Some(Ok(true));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn set_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_usec: 0,
    };
    // SAFETY: an open socket, and a structure of the length that is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const value).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{DoneMessage, NLM_F_MULTIPART};

    use super::*;

    fn datagram(flags: u16, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<u8> {
        let mut message = NetlinkMessage::new(Default::default(), payload);
        message.header.flags = NLM_F_MULTIPART | flags;
        message.header.sequence_number = 7;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn a_dump_that_was_interrupted_is_not_taken_for_complete() {
        let link = || RouteNetlinkMessage::NewLink(LinkMessage::default()).into();
        let done = || NetlinkPayload::Done(DoneMessage::default());
        for interrupted in [[0, 0], [NLM_F_DUMP_INTR, 0], [0, NLM_F_DUMP_INTR]] {
            let mut answers = Answers::to(7, NLM_F_DUMP);
            assert!(
                answers
                    .read(&datagram(interrupted[0], link()), Some)
                    .is_none()
            );
            let complete = answers.read(&datagram(interrupted[1], done()), Some);
            assert_eq!(complete.unwrap().unwrap(), interrupted == [0, 0]);
            assert_eq!(answers.taken.len(), 1);
        }
    }
}
