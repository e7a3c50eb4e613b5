//! IPv4 options: all are forwarded but source routing (RFC 7126 §4.3, §4.4).

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_load_bytes};
use router_common::reason::Reason;

use crate::{frame::ETHERNET, maps::SCRATCH, opaque};

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Most bytes of options that a header can hold.
const LONGEST: usize = 40;

/// The length of a header that begins with `first`, if its version, length and options are right.
#[inline(always)]
pub fn checked_header_length(context: *mut xdp_md, first: u8) -> Result<u32, Reason> {
    let words = u32::from(first & 0xf);
    if first >> 4 != 4 || words < 5 {
        return Err(Reason::BadHeader);
    }
    match scan_options(context, (words - 5) * 4) {
        FINE => Ok(words * 4),
        CUT_OFF => Err(Reason::Truncated),
        SOURCE_ROUTE => Err(Reason::SourceRoute),
        _ => Err(Reason::BadHeader),
    }
}

const FINE: u32 = 0;
const CUT_OFF: u32 = 1;
const SOURCE_ROUTE: u32 = 2;
const MALFORMED: u32 = 3;

/// Looks through `length` bytes of options.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn scan_options(context: *mut xdp_md, length: u32) -> u32 {
    let length = opaque::masked::<63>(length);
    if length == 0 || length as usize > LONGEST {
        return MALFORMED;
    }
    let Some(options) = SCRATCH.get_ptr_mut(0) else {
        return MALFORMED;
    };
    let options = options.cast::<u8>();
    // SAFETY: `length` bytes fit.
    if unsafe { bpf_xdp_load_bytes(context, ETHERNET + 20, options.cast(), length) } != 0 {
        return CUT_OFF;
    }
    // SAFETY: no option lies beyond the longest, and the scratch area is longer.
    let byte = |place: u32| unsafe { *options.add(place as usize) };
    let mut next = 0;
    for place in 0..LONGEST as u32 {
        if place >= length {
            break;
        }
        if place != next {
            continue;
        }
        next = match byte(place) {
            END => break,
            NO_OPERATION => place + 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return SOURCE_ROUTE,
            _ => {
                let size = u32::from(byte(place + 1));
                if place + 1 >= length || size < 2 || place + size > length {
                    return MALFORMED;
                }
                place + size
            }
        };
    }
    FINE
}
