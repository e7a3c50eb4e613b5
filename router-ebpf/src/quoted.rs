//! The flow that an ICMP error is about: that of the packet which it quotes, turned round.

use aya_ebpf::bindings::xdp_md;
use router_common::{
    flow::{ADDRESSES_ONLY, hash_v4, hash_v6, turned},
    header::{has_ports, is_icmp_error, is_icmp_v6_error},
};

use crate::{extension, frame::Frame, ipv6::HEADER};

/// Length of an ICMP header.
const ICMP_HEADER: u32 = 8;

/// Beside the hash in a register: it is one.
const IS_ERROR: u64 = 1 << 32;

/// The hash of the flow quoted by the ICMP message at `offset`, if that is an error.
#[inline(always)]
pub fn hash_v4_of(context: *mut xdp_md, offset: u32, seed: u64) -> Option<u32> {
    unpack(quoted_v4(context, offset, seed))
}

/// The hash of the flow quoted by the ICMPv6 message at `offset`, if that is an error.
#[inline(always)]
pub fn hash_v6_of(context: *mut xdp_md, offset: u32, seed: u64) -> Option<u32> {
    unpack(quoted_v6(context, offset, seed))
}

#[inline(always)]
fn unpack(packed: u64) -> Option<u32> {
    (packed & IS_ERROR != 0).then_some(packed as u32)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn quoted_v4(context: *mut xdp_md, offset: u32, seed: u64) -> u64 {
    match read_v4(&Frame::of(context), offset, seed) {
        Some(hash) => IS_ERROR | u64::from(hash),
        None => 0,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn quoted_v6(context: *mut xdp_md, offset: u32, seed: u64) -> u64 {
    match read_v6(&Frame::of(context), offset, seed) {
        Some(hash) => IS_ERROR | u64::from(hash),
        None => 0,
    }
}

#[inline(always)]
fn read_v4(frame: &Frame, offset: u32, seed: u64) -> Option<u32> {
    let [kind] = frame.copy::<[u8; 1]>(offset)?;
    if !is_icmp_error(kind) {
        return None;
    }
    let inner = offset + ICMP_HEADER;
    let header = frame.copy::<[u32; 5]>(inner)?;
    let first = header[0].to_ne_bytes()[0];
    if first >> 4 != 4 {
        return None;
    }
    let is_fragment = u32::from_be(header[1]) & 0x3fff != 0;
    let protocol = if is_fragment {
        ADDRESSES_ONLY
    } else {
        header[2].to_ne_bytes()[1]
    };
    let ports = ports_at(frame, protocol, inner + u32::from(first & 0xf) * 4);
    let (source, destination) = (u32::from_le(header[3]), u32::from_le(header[4]));
    Some(hash_v4(destination, source, protocol, turned(ports), seed))
}

#[inline(always)]
fn read_v6(frame: &Frame, offset: u32, seed: u64) -> Option<u32> {
    let [kind] = frame.copy::<[u8; 1]>(offset)?;
    if !is_icmp_v6_error(kind) {
        return None;
    }
    let inner = offset + ICMP_HEADER;
    let header = frame.copy::<[u32; 10]>(inner)?;
    if header[0].to_ne_bytes()[0] >> 4 != 6 {
        return None;
    }
    let next_header = header[1].to_ne_bytes()[2];
    let transport = extension::walk(frame.context(), next_header, inner + HEADER)
        .transport()
        .ok()?;
    let protocol = if transport.fragment {
        ADDRESSES_ONLY
    } else {
        transport.protocol
    };
    let ports = ports_at(frame, protocol, transport.offset);
    let source = [join(header[2], header[3]), join(header[4], header[5])];
    let destination = [join(header[6], header[7]), join(header[8], header[9])];
    Some(hash_v6(destination, source, protocol, turned(ports), seed))
}

/// The ports at `offset`, as a little-endian word of the wire.
#[inline(always)]
fn ports_at(frame: &Frame, protocol: u8, offset: u32) -> u32 {
    if !has_ports(protocol) {
        return 0;
    }
    frame
        .copy::<[u32; 1]>(offset)
        .map_or(0, |[ports]| u32::from_le(ports))
}

/// Two words of the wire as one little-endian word.
#[inline(always)]
fn join(first: u32, second: u32) -> u64 {
    u64::from(u32::from_le(first)) | u64::from(u32::from_le(second)) << 32
}
