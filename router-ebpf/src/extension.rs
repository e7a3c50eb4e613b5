//! IPv6 extension headers: walked as far as needed to find the transport header (RFC 8200 §4).

use aya_ebpf::bindings::xdp_md;
use router_common::{header::protocol, reason::Reason};

use crate::{frame::Frame, ip::Transport};

/// Most extension headers of a packet that are looked at; a longer chain is forwarded by its
/// addresses alone.
const MOST: u32 = 8;

/// Largest offset that a header is looked for at.
const FARTHEST: u32 = 0x3fff;

/// Whether another header follows one of this number.
#[inline(always)]
pub fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

/// What a walk found, in one register: offset, protocol and flags.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Found(u64);

impl Found {
    const FRAGMENT: u64 = 1 << 32;
    const LATER_FRAGMENT: u64 = 1 << 33;
    const CUT_OFF: u64 = 1 << 34;
    const SOURCE_ROUTE: u64 = 1 << 35;

    /// The transport header, or why the packet is to be dropped.
    #[inline(always)]
    pub fn transport(self) -> Result<Transport, Reason> {
        if self.0 & Self::CUT_OFF != 0 {
            return Err(Reason::Truncated);
        }
        if self.0 & Self::SOURCE_ROUTE != 0 {
            return Err(Reason::SourceRoute);
        }
        Ok(Transport {
            offset: self.0 as u32 & FARTHEST,
            protocol: (self.0 >> 24) as u8,
            fragment: self.0 & Self::FRAGMENT != 0,
        })
    }

    /// Whether the packet is a fragment other than the first.
    #[inline(always)]
    pub fn is_later_fragment(self) -> bool {
        self.0 & Self::LATER_FRAGMENT != 0
    }
}

/// Walks from the header `next_header` at `offset` to the transport header.
#[inline(always)]
pub fn walk(context: *mut xdp_md, next_header: u8, offset: u32) -> Found {
    Found(walk_headers(context, u32::from(next_header), offset))
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn walk_headers(context: *mut xdp_md, next_header: u32, offset: u32) -> u64 {
    let frame = Frame::of(context);
    let mut next_header = next_header as u8;
    let mut offset = offset & FARTHEST;
    let mut flags = 0;
    for _ in 0..MOST {
        if !is_extension(next_header) {
            break;
        }
        let Some(start) = frame.copy::<[u8; 8]>(offset) else {
            return Found::CUT_OFF;
        };
        let units = u32::from(start[1]);
        let length = match next_header {
            protocol::FRAGMENT => {
                flags |= Found::FRAGMENT;
                if start[2] != 0 || start[3] & 0xf8 != 0 {
                    // What follows is payload.
                    flags |= Found::LATER_FRAGMENT;
                }
                8
            }
            protocol::ROUTING if start[2] == 0 => return Found::SOURCE_ROUTE,
            protocol::AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next_header = start[0];
        offset = (offset + length) & FARTHEST;
        if flags & Found::LATER_FRAGMENT != 0 {
            break;
        }
    }
    flags | u64::from(next_header) << 24 | u64::from(offset)
}
