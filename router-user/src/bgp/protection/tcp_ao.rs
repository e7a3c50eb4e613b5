//! TCP-AO (RFC 5925) as Linux offers it since 6.7, where it was built with `CONFIG_TCP_AO`.

use std::{io, os::fd::BorrowedFd};

use ipnet::IpNet;
use socket2::SockAddrStorage;

use super::{Expected, ProtectionError, address_of, set_option};
use crate::bgp::settings::{AoAlgorithm, AoKey, MAX_SECRET};

const TCP_AO_ADD_KEY: i32 = 38;
const TCP_AO_DEL_KEY: i32 = 39;
const TCP_AO_INFO: i32 = 40;

/// Bits of the flags word of all three structures; C bit-fields begin at the lowest bit on
/// little-endian machines and at the highest on big-endian ones.
const SET_CURRENT: u32 = flag(0);
const SET_RNEXT: u32 = flag(1);
const AO_REQUIRED: u32 = flag(2);

const fn flag(bit: u32) -> u32 {
    if cfg!(target_endian = "little") {
        1 << bit
    } else {
        1 << (31 - bit)
    }
}

/// Length of the code in a segment: 96 bits (RFC 5926 §3.2).
const CODE_LENGTH: u8 = 12;

/// `struct tcp_ao_add` of linux/tcp.h.
#[repr(C, align(8))]
pub(super) struct AddKey {
    pub(super) address: SockAddrStorage,
    pub(super) algorithm: [u8; 64],
    pub(super) interface: i32,
    pub(super) flags: u32,
    pub(super) reserved: u16,
    pub(super) prefix_length: u8,
    pub(super) send_id: u8,
    pub(super) receive_id: u8,
    pub(super) code_length: u8,
    pub(super) key_flags: u8,
    pub(super) key_length: u8,
    pub(super) key: [u8; MAX_SECRET],
}

/// `struct tcp_ao_del` of linux/tcp.h.
#[repr(C, align(8))]
pub(super) struct DeleteKey {
    pub(super) address: SockAddrStorage,
    pub(super) interface: i32,
    pub(super) flags: u32,
    pub(super) reserved: u16,
    pub(super) prefix_length: u8,
    pub(super) send_id: u8,
    pub(super) receive_id: u8,
    pub(super) current_key: u8,
    pub(super) next_key: u8,
    pub(super) key_flags: u8,
}

/// `struct tcp_ao_info_opt` of linux/tcp.h.
#[repr(C, align(8))]
#[derive(Default)]
pub(super) struct Info {
    pub(super) flags: u32,
    pub(super) reserved: u16,
    pub(super) current_key: u8,
    pub(super) next_key: u8,
    pub(super) packets: [u64; 5],
}

/// Adds a key for whom an address lies in the prefix. `first`: it is used to send and the peer is
/// asked for it; a listener has no such key.
pub(super) fn add(
    socket: BorrowedFd<'_>,
    from: IpNet,
    key: &AoKey,
    first: bool,
) -> Result<(), ProtectionError> {
    let option = add_key(from, key, first);
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option).map_err(told)
}

pub(super) fn add_key(from: IpNet, key: &AoKey, first: bool) -> AddKey {
    let secret = key.secret.expose();
    let mut option = AddKey {
        address: address_of(from).as_storage(),
        algorithm: [0; 64],
        interface: 0,
        flags: if first { SET_CURRENT | SET_RNEXT } else { 0 },
        reserved: 0,
        prefix_length: from.prefix_len(),
        send_id: key.id,
        receive_id: key.id,
        code_length: CODE_LENGTH,
        key_flags: 0,
        key_length: secret.len() as u8,
        key: [0; MAX_SECRET],
    };
    let name: &[u8] = match key.algorithm {
        AoAlgorithm::HmacSha1 => b"hmac(sha1)",
        AoAlgorithm::Aes128Cmac => b"cmac(aes128)",
    };
    option.algorithm[..name.len()].copy_from_slice(name);
    option.key[..secret.len()].copy_from_slice(secret);
    option
}

/// Removes a key. `instead`: the connection's other key that is used from now on.
pub(super) fn delete(
    socket: BorrowedFd<'_>,
    from: IpNet,
    key: &AoKey,
    instead: Option<&AoKey>,
) -> Result<(), ProtectionError> {
    let option = DeleteKey {
        address: address_of(from).as_storage(),
        interface: 0,
        flags: instead.map_or(0, |_| SET_CURRENT | SET_RNEXT),
        reserved: 0,
        prefix_length: from.prefix_len(),
        send_id: key.id,
        receive_id: key.id,
        current_key: instead.map_or(0, |key| key.id),
        next_key: instead.map_or(0, |key| key.id),
        key_flags: 0,
    };
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option).map_err(told)
}

/// Makes a connection send with this key of its own and ask the peer for it, and refuses segments
/// without TCP-AO. Fails where the connection has no TCP-AO.
pub(super) fn prefer(socket: BorrowedFd<'_>, key: &AoKey) -> Result<(), ProtectionError> {
    let info = Info {
        flags: SET_CURRENT | SET_RNEXT | AO_REQUIRED,
        current_key: key.id,
        next_key: key.id,
        ..Info::default()
    };
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_INFO, &info).map_err(told)
}

/// Replaces the keys of a live connection: new ones are added first, then the first one is
/// preferred, then what is not wanted any more goes (RFC 5925 §6.1).
pub(super) fn replace(
    socket: BorrowedFd<'_>,
    from: IpNet,
    before: &[AoKey],
    after: &[AoKey],
) -> Result<(), ProtectionError> {
    for key in after.iter().filter(|key| !before.contains(key)) {
        add(socket, from, key, false)?;
    }
    let Some(first) = after.first() else {
        return Err(ProtectionError::Live);
    };
    prefer(socket, first)?;
    for key in before.iter().filter(|key| !after.contains(key)) {
        delete(socket, from, key, Some(first))?;
    }
    Ok(())
}

/// The keys that a listener needs: not those which a wider prefix has already, since the
/// identifiers of keys that match the same connection must differ (RFC 5925 §3.1).
pub(super) fn needed(expected: &Expected) -> Vec<(IpNet, AoKey)> {
    let known = |from: &IpNet, key: &AoKey| {
        let mut wider = expected
            .iter()
            .filter(|(other, _)| other != from && other.contains(from));
        wider.any(|(_, security)| security.tcp_ao.contains(key))
    };
    let mut needed = Vec::new();
    for (from, security) in expected {
        let keys = security.tcp_ao.iter().filter(|key| !known(from, key));
        needed.extend(keys.map(|key| (*from, key.clone())));
    }
    needed
}

fn told(error: io::Error) -> ProtectionError {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => {
            ProtectionError::Unsupported("TCP-AO", "CONFIG_TCP_AO (Linux 6.7 or later)", "tcp_ao")
        }
        _ => ProtectionError::refused("the TCP-AO key", error),
    }
}
