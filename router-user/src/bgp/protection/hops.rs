//! GTSM (RFC 5082): what a neighbour sends has crossed few routers, and nobody farther away can
//! pretend so.
//!
//! A socket of one peer drops what has too few hops left (`IP_MINTTL`, `IPV6_MINHOPCOUNT`). A
//! listener is shared by all peers, so that its handshakes are guarded by a socket filter (classic
//! BPF), which looks up the sender and then at its hops left. What is accepted inherits the filter,
//! which is taken off again: the connection has its own bound, and that may change.

use std::{io, net::IpAddr, os::fd::BorrowedFd};

use ipnet::IpNet;
use socket2::{SockFilter, SockRef};

use super::{ProtectionError, set_option};

/// Hops that a session may cross where nothing is said: peers are not on the instances' link
/// (multihop).
pub(in crate::bgp) const HOPS: u32 = 64;

/// What a protected peer sends, and is sent (RFC 5082 §3).
const SENT: u32 = 255;

/// `IPV6_MINHOPCOUNT` of linux/in6.h.
const IPV6_MINHOPCOUNT: i32 = 73;

/// Most instructions of a filter (`BPF_MAXINSNS`).
const MAX_FILTER: usize = 4096;

/// `SKF_NET_OFF`: offsets of the network header.
const NETWORK_HEADER: u32 = -0x10_0000_i32 as u32;

/// Least hops left of a packet that crossed fewer than so many routers.
const fn least(hops: u8) -> u32 {
    SENT + 1 - hops as u32
}

/// Makes a socket of one peer send with all hops, and drop what comes from farther away.
pub(super) fn expect(
    socket: BorrowedFd<'_>,
    peer: IpAddr,
    hops: Option<u8>,
) -> Result<(), ProtectionError> {
    let sent = hops.map_or(HOPS, |_| SENT);
    let least = hops.map_or(0, least);
    let reference = SockRef::from(&socket);
    let result = match peer {
        IpAddr::V4(_) => reference
            .set_ttl_v4(sent)
            .and_then(|()| set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &least)),
        IpAddr::V6(_) => reference
            .set_unicast_hops_v6(sent)
            .and_then(|()| set_option(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least)),
    };
    let result = result.and_then(|()| without_filter(&reference));
    result.map_err(|error| ProtectionError::refused("the hop limit of ttl_security", error))
}

fn without_filter(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.detach_filter() {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Makes a listener take up handshakes of protected peers only from as near as they are; the most
/// specific entry counts. All hops are sent once one peer is protected: its handshake is.
pub(super) fn filter(
    listener: BorrowedFd<'_>,
    expected: &[(IpNet, Option<u8>)],
) -> Result<(), ProtectionError> {
    let reference = SockRef::from(&listener);
    let protected = expected.iter().any(|(_, hops)| hops.is_some());
    let sent = if protected { SENT } else { HOPS };
    let refused = |error| ProtectionError::refused("the hop limit of ttl_security", error);
    match expected.first() {
        Some((IpNet::V4(_), _)) => reference.set_ttl_v4(sent).map_err(refused)?,
        Some((IpNet::V6(_), _)) => reference.set_unicast_hops_v6(sent).map_err(refused)?,
        None => {}
    }
    // Without a filter connections are still checked as soon as they are accepted.
    let program = program(expected).filter(|program| program.len() <= MAX_FILTER);
    match program {
        Some(program) => reference
            .attach_filter(&loadable(&program))
            .map_err(refused),
        None => without_filter(&reference).map_err(refused),
    }
}

fn loadable(program: &[libc::sock_filter]) -> Vec<SockFilter> {
    let one = |step: &libc::sock_filter| SockFilter::new(step.code, step.jt, step.jf, step.k);
    program.iter().map(one).collect()
}

/// The filter; `None`: there is nothing to look for.
pub(super) fn program(expected: &[(IpNet, Option<u8>)]) -> Option<Vec<libc::sock_filter>> {
    expected.iter().find(|(_, hops)| hops.is_some())?;
    let mut sorted = expected.to_vec();
    sorted.sort_by_key(|(from, _)| std::cmp::Reverse(from.prefix_len()));
    let mut program = Vec::new();
    for (from, hops) in sorted {
        entry(&mut program, from, hops.map(least));
    }
    program.push(statement(RETURN, ACCEPT));
    Some(program)
}

/// If the sender is of the prefix: accepts what has so many hops left.
fn entry(program: &mut Vec<libc::sock_filter>, from: IpNet, least: Option<u32>) {
    let mut verdict = Vec::new();
    if let Some(least) = least {
        let offset = match from {
            IpNet::V4(_) => 8,
            IpNet::V6(_) => 7,
        };
        verdict.push(statement(LOAD_BYTE, NETWORK_HEADER.wrapping_add(offset)));
        verdict.push(jump(JUMP_GREATER_EQUAL, least, 1, 0));
        verdict.push(statement(RETURN, DROP));
    }
    verdict.push(statement(RETURN, ACCEPT));

    let (offset, address) = match from {
        IpNet::V4(from) => (12, from.network().octets().to_vec()),
        IpNet::V6(from) => (8, from.network().octets().to_vec()),
    };
    let mut words: Vec<(u32, u32, u32)> = Vec::new();
    for (index, word) in address.chunks(4).enumerate() {
        let index = index as u32;
        let bits = u32::from(from.prefix_len())
            .saturating_sub(32 * index)
            .min(32);
        if bits > 0 {
            let mask = u32::MAX << (32 - bits);
            let value = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
            words.push((offset + 4 * index, mask, value));
        }
    }
    // Three instructions a word at the most.
    let mut matching = Vec::new();
    for (number, (offset, mask, value)) in words.iter().enumerate().rev() {
        let after = if number + 1 == words.len() {
            verdict.len()
        } else {
            matching.len() + verdict.len()
        };
        let mut part = vec![statement(LOAD_WORD, NETWORK_HEADER.wrapping_add(*offset))];
        if *mask != u32::MAX {
            part.push(statement(AND, *mask));
        }
        // At the most 3 × 4 + 4 instructions lie behind.
        part.push(jump(JUMP_EQUAL, *value, 0, after as u8));
        part.append(&mut matching);
        matching = part;
    }
    program.append(&mut matching);
    program.append(&mut verdict);
}

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}
