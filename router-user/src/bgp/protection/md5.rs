//! TCP MD5 (RFC 2385): `TCP_MD5SIG_EXT` of Linux, which knows prefixes.

use std::{io, os::fd::BorrowedFd};

use ipnet::IpNet;
use socket2::SockAddrStorage;

use super::{Expected, ProtectionError, address_of, set_option};
use crate::bgp::settings::{MAX_SECRET, Secret};

const TCP_MD5SIG_EXT: i32 = 32;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
pub(super) struct Md5Signature {
    pub(super) address: SockAddrStorage,
    pub(super) flags: u8,
    pub(super) prefix_length: u8,
    pub(super) key_length: u16,
    pub(super) interface: i32,
    pub(super) key: [u8; MAX_SECRET],
}

/// Sets the password for whom an address lies in the prefix; `None` removes it.
pub(super) fn set(
    socket: BorrowedFd<'_>,
    from: IpNet,
    password: Option<&Secret>,
) -> Result<(), ProtectionError> {
    let secret = password.map_or(&[][..], Secret::expose);
    let mut key = [0; MAX_SECRET];
    // A secret is never longer than that.
    key[..secret.len()].copy_from_slice(secret);
    let signature = Md5Signature {
        address: address_of(from).as_storage(),
        flags: TCP_MD5SIG_FLAG_PREFIX,
        prefix_length: from.prefix_len(),
        key_length: secret.len() as u16,
        interface: 0,
        key,
    };
    match set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &signature) {
        Ok(()) => Ok(()),
        // There was none.
        Err(error) if password.is_none() && is_absent(&error) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Err(
            ProtectionError::Unsupported("TCP MD5", "CONFIG_TCP_MD5SIG", "md5_password"),
        ),
        Err(error) => Err(ProtectionError::refused("the TCP MD5 key", error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT))
}

/// The passwords that a listener needs: not those which a wider prefix says already, since each
/// takes memory of the socket (`net.core.optmem_max`).
pub(super) fn needed(expected: &Expected) -> Vec<(IpNet, Secret)> {
    let mut needed = Vec::new();
    for (from, security) in expected {
        let Some(password) = &security.md5_password else {
            continue;
        };
        let wider = expected
            .iter()
            .filter(|(other, _)| other != from && other.contains(from))
            .max_by_key(|(other, _)| other.prefix_len());
        if wider.is_none_or(|(_, wider)| wider.md5_password.as_ref() != Some(password)) {
            needed.push((*from, password.clone()));
        }
    }
    needed
}
