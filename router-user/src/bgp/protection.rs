//! How TCP connections are protected: TCP MD5 (RFC 2385), TCP-AO (RFC 5925), GTSM (RFC 5082).
//!
//! In: a socket, whom it speaks to, and the operator's [`Security`]. Out: the socket options set,
//! or why the kernel refuses them. Nothing is sent here, and nothing is remembered but what a
//! listener has been given.
//!
//! All sockets are of one family (IPv6 ones are `IPV6_V6ONLY`), so that a key's address is always
//! of the socket's own family and never an IPv4 address in IPv6 clothes, for which Linux would
//! look in another table.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};

use super::settings::Security;

mod hops;
mod md5;
mod tcp_ao;

pub(super) use hops::HOPS;

/// Why a peer's connections cannot be protected as configured. They are refused then.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// The kernel was built without it.
    #[error(
        "this kernel has no {0}: run one built with {1}, or take {2} out of the configuration; no \
         connection without it is made or accepted"
    )]
    Unsupported(&'static str, &'static str, &'static str),
    /// Connections that exist cannot be changed so.
    #[error("TCP-AO cannot be switched on or off on a live connection (RFC 5925 §1)")]
    Live,
    /// The kernel refuses the setting.
    #[error("the kernel refuses {what}: {error}{remedy}")]
    Refused {
        /// What was set.
        what: &'static str,
        /// What the kernel answered.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

impl ProtectionError {
    fn refused(what: &'static str, error: io::Error) -> Self {
        let remedy = match error.raw_os_error() {
            Some(libc::ENOMEM) => "; raise it with: sysctl -w net.core.optmem_max=1048576",
            _ => "",
        };
        Self::Refused {
            what,
            error,
            remedy,
        }
    }
}

/// Whether this kernel can do what is wanted for the peer. Tried out on a socket of its own.
///
/// # Errors
///
/// What it lacks or refuses.
pub fn check(security: &Security, peer: IpAddr) -> Result<(), ProtectionError> {
    if *security == Security::default() {
        return Ok(());
    }
    let domain = Domain::for_address(SocketAddr::new(peer, 0));
    let socket = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))
        .map_err(|error| ProtectionError::refused("another socket", error))?;
    prepare(&socket, peer, security)
}

/// Whether this kernel has TCP-AO.
///
/// # Errors
///
/// It has not.
pub fn tcp_ao() -> Result<(), ProtectionError> {
    let Ok(secret) = "probe".parse() else {
        return Ok(());
    };
    let key = super::settings::AoKey {
        id: 0,
        secret,
        algorithm: super::settings::AoAlgorithm::HmacSha1,
    };
    let security = Security {
        tcp_ao: vec![key],
        ..Security::default()
    };
    check(&security, std::net::Ipv4Addr::LOCALHOST.into())
}

/// Sets up a socket that is going to connect to the peer.
pub(super) fn prepare(
    socket: &impl AsFd,
    peer: IpAddr,
    security: &Security,
) -> Result<(), ProtectionError> {
    let socket = socket.as_fd();
    if let Some(password) = &security.md5_password {
        md5::set(socket, peer.into(), Some(password))?;
    }
    for (index, key) in security.tcp_ao.iter().enumerate() {
        tcp_ao::add(socket, peer.into(), key, index == 0)?;
    }
    hops::expect(socket, peer, security.ttl_security)
}

/// Makes sure of a connection that has just been accepted or made: its keys may have changed while
/// it waited, and a listener knows one number of hops for all.
pub(super) fn confirm(
    socket: &impl AsFd,
    peer: IpAddr,
    security: &Security,
) -> Result<(), ProtectionError> {
    let socket = socket.as_fd();
    // Where there is no key any more: the one that it inherited goes.
    md5::set(socket, peer.into(), security.md5_password.as_ref())?;
    if let Some(first) = security.tcp_ao.first() {
        // Fails where the connection came to be without TCP-AO.
        tcp_ao::prefer(socket, first)?;
    }
    hops::expect(socket, peer, security.ttl_security)
}

/// Changes the protection of a live connection.
///
/// # Errors
///
/// [`ProtectionError::Live`]: it has to be closed and made again.
pub(super) fn change(
    socket: &impl AsFd,
    peer: IpAddr,
    before: &Security,
    after: &Security,
) -> Result<(), ProtectionError> {
    if !changes_live(before, after) {
        return Err(ProtectionError::Live);
    }
    let socket = socket.as_fd();
    if before.md5_password != after.md5_password {
        md5::set(socket, peer.into(), after.md5_password.as_ref())?;
    }
    if before.tcp_ao != after.tcp_ao {
        tcp_ao::replace(socket, peer.into(), &before.tcp_ao, &after.tcp_ao)?;
    }
    hops::expect(socket, peer, after.ttl_security)
}

/// Whether a live connection can be given the new protection: TCP-AO stays on or off, and a key
/// of TCP-AO that is kept stays as it is (RFC 5925 §3.1).
pub(super) fn changes_live(before: &Security, after: &Security) -> bool {
    let kept = |key: &super::settings::AoKey| {
        let mut others = before.tcp_ao.iter();
        others
            .find(|other| other.id == key.id)
            .is_none_or(|other| other == key)
    };
    before.tcp_ao.is_empty() == after.tcp_ao.is_empty() && after.tcp_ao.iter().all(kept)
}

/// Whether the peer may sign with a key before that it may not sign with after.
pub(super) fn takes_keys(before: &Security, after: &Security) -> bool {
    let gone = |key| !after.tcp_ao.contains(key);
    before.md5_password != after.md5_password || before.tcp_ao.iter().any(gone)
}

/// What a listener expects of whom. The most specific entry counts.
pub(super) type Expected = Vec<(IpNet, Security)>;

/// What a listener has been given so far.
#[derive(Debug, Default)]
pub(super) struct Given {
    md5: Vec<(IpNet, super::settings::Secret)>,
    tcp_ao: Vec<(IpNet, super::settings::AoKey)>,
    hops: Vec<(IpNet, Option<u8>)>,
}

impl Given {
    /// Gives a listener the keys and hops that it lacks and takes away what is not wanted any more.
    /// What cannot be given is told with whom it concerns; the rest is given.
    pub(super) fn update(
        &mut self,
        listener: &impl AsFd,
        expected: &Expected,
    ) -> Vec<(IpNet, ProtectionError)> {
        let listener = listener.as_fd();
        let mut errors = Vec::new();
        self.update_md5(listener, expected, &mut errors);
        self.update_tcp_ao(listener, expected, &mut errors);
        let hops: Vec<_> = expected
            .iter()
            .map(|(from, security)| (*from, security.ttl_security))
            .collect();
        if hops != self.hops {
            match hops::filter(listener, &hops) {
                Ok(()) => self.hops = hops,
                Err(error) => errors.extend(hops.first().map(|(from, _)| (*from, error))),
            }
        }
        errors
    }

    fn update_md5(
        &mut self,
        listener: BorrowedFd<'_>,
        expected: &Expected,
        errors: &mut Vec<(IpNet, ProtectionError)>,
    ) {
        let wanted = md5::needed(expected);
        self.md5.retain(|(from, _)| {
            let stays = wanted.iter().any(|(other, _)| other == from);
            if !stays && let Err(error) = md5::set(listener, *from, None) {
                errors.push((*from, error));
            }
            stays
        });
        for entry in wanted {
            if self.md5.contains(&entry) {
                continue;
            }
            self.md5.retain(|(from, _)| *from != entry.0);
            match md5::set(listener, entry.0, Some(&entry.1)) {
                Ok(()) => self.md5.push(entry),
                Err(error) => errors.push((entry.0, error)),
            }
        }
    }

    fn update_tcp_ao(
        &mut self,
        listener: BorrowedFd<'_>,
        expected: &Expected,
        errors: &mut Vec<(IpNet, ProtectionError)>,
    ) {
        let wanted = tcp_ao::needed(expected);
        self.tcp_ao.retain(|entry| {
            let stays = wanted.contains(entry);
            if !stays && let Err(error) = tcp_ao::delete(listener, entry.0, &entry.1, None) {
                errors.push((entry.0, error));
            }
            stays
        });
        for entry in wanted {
            if self.tcp_ao.contains(&entry) {
                continue;
            }
            match tcp_ao::add(listener, entry.0, &entry.1, false) {
                Ok(()) => self.tcp_ao.push(entry),
                Err(error) => errors.push((entry.0, error)),
            }
        }
    }
}

/// A socket address with neither port nor scope, as the kernel wants a key's address.
fn address_of(from: IpNet) -> socket2::SockAddr {
    SocketAddr::new(from.network(), 0).into()
}

/// Sets a TCP option.
fn set_option<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads no more than the
    // given size of a value that lives across the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
