//! UPDATEs as bytes, made before any clock starts.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Bytes of the header's marker (RFC 4271 §4.1).
pub(super) const MARKER: [u8; 16] = [0xff; 16];
/// Bytes of a header.
pub(super) const HEADER: usize = 19;
/// Type codes of messages.
pub(super) const OPEN: u8 = 1;
pub(super) const UPDATE: u8 = 2;
pub(super) const NOTIFICATION: u8 = 3;
pub(super) const KEEPALIVE: u8 = 4;

/// Appends one UPDATE that announces these prefixes (RFC 4271 §4.3): ORIGIN IGP, an AS_PATH of one
/// AS_SEQUENCE with four-octet ASNs, NEXT_HOP.
///
/// # Panics
/// The path is longer than 255 ASNs, or the message than 4096 bytes.
pub fn announce(
    out: &mut Vec<u8>,
    path: impl ExactSizeIterator<Item = u32>,
    next_hop: Ipv4Addr,
    prefixes: &[Ipv4Net],
) {
    let start = begin(out, UPDATE);
    out.extend([0, 0]);
    let attributes = out.len();
    out.extend([0, 0]);
    // ORIGIN: well-known, transitive; IGP.
    out.extend([0x40, 1, 1, 0]);
    let count = u8::try_from(path.len()).expect("a path of at most 255 ASNs");
    let length = 2 + 4 * u16::from(count);
    // AS_PATH with extended length.
    out.extend([0x50, 2]);
    out.extend(length.to_be_bytes());
    out.extend([2, count]);
    for asn in path {
        out.extend(asn.to_be_bytes());
    }
    // NEXT_HOP.
    out.extend([0x40, 3, 4]);
    out.extend(next_hop.octets());
    let length = out.len() - attributes - 2;
    put_length(out, attributes, length);
    for prefix in prefixes {
        let bytes = usize::from(prefix.prefix_len().div_ceil(8));
        out.push(prefix.prefix_len());
        out.extend(&prefix.network().octets()[..bytes]);
    }
    end(out, start);
}

/// Appends a KEEPALIVE.
pub(super) fn keepalive(out: &mut Vec<u8>) {
    let start = begin(out, KEEPALIVE);
    end(out, start);
}

/// Appends an OPEN: hold time 180 s, IPv4 unicast, four-octet ASNs, route refresh (as asked by
/// nobody).
pub(super) fn open(out: &mut Vec<u8>, asn: u32, address: Ipv4Addr) {
    let start = begin(out, OPEN);
    let short = u16::try_from(asn).unwrap_or(23_456);
    out.push(4);
    out.extend(short.to_be_bytes());
    out.extend(180_u16.to_be_bytes());
    out.extend(address.octets());
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    capabilities.extend([2, 0]);
    let length = u8::try_from(capabilities.len()).expect("three capabilities are short");
    out.extend([length + 2, 2, length]);
    out.extend(capabilities);
    end(out, start);
}

/// A header whose length is not known yet; returns where it starts.
fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind]);
    start
}

fn end(out: &mut [u8], start: usize) {
    let length = out.len() - start;
    assert!(length <= 4096, "a message of {length} bytes");
    put_length(out, start + MARKER.len(), length);
}

fn put_length(out: &mut [u8], at: usize, length: usize) {
    let length = u16::try_from(length).expect("messages are short");
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
