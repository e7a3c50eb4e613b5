//! Events of the host, as they happen: links, neighbours, addresses.

use std::{io, os::fd::AsRawFd};

use rtnetlink::{
    packet_core::NetlinkPayload,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::io::unix::AsyncFd;

use super::{kernel::Event, netlink::event_of};
use crate::netlink::messages;

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;

/// Bytes of events that may wait.
const BUFFER: libc::c_int = 8 << 20;

/// Events were lost (ENOBUFS): the full state has to be read again.
#[derive(Debug)]
pub(super) struct Lost;

/// A subscription.
#[derive(Debug)]
pub(super) struct Watch {
    socket: AsyncFd<Socket>,
}

impl Watch {
    /// Subscribes. To be called in a tokio runtime, before the full state is read (invariant 7).
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        enlarge(&socket);
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in [
            RTNLGRP_LINK,
            RTNLGRP_NEIGH,
            RTNLGRP_IPV4_IFADDR,
            RTNLGRP_IPV6_IFADDR,
        ] {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        // SAFETY: the socket keeps one descriptor, its own, until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Waits until something happened. Cancel-safe.
    pub(super) async fn wait(&self) -> io::Result<()> {
        // What is there is read by `read`, until there is nothing more.
        self.socket.readable().await.map(|mut ready| {
            ready.clear_ready();
        })
    }

    /// All events that are there.
    ///
    /// # Errors
    /// Some were lost.
    pub(super) fn read(&self) -> Result<Vec<Event>, Lost> {
        let mut events = Vec::new();
        loop {
            match self.socket.get_ref().recv_from_full() {
                Ok((bytes, _)) => {
                    events.extend(
                        messages(&bytes).filter_map(|message| match message.payload {
                            NetlinkPayload::InnerMessage(inner) => event_of(inner),
                            _ => None,
                        }),
                    );
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost),
            }
        }
    }
}

/// Room for bursts; without it they cost a full resync.
fn enlarge(socket: &Socket) {
    let size = BUFFER;
    // SAFETY: an open socket, and an integer of the length that is passed.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}
