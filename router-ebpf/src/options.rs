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
    // Kept in memory, of which the verifier remembers nothing: else it would follow each way that
    // options can be laid out in forty bytes.
    // SAFETY: behind the options, within the scratch area.
    let place = unsafe { options.add(64).cast::<u32>() };
    write(place, 0);
    for _ in 0..LONGEST {
        let at = read(place);
        if at >= length {
            break;
        }
        let kind = byte(options, at);
        let size = match kind {
            END => break,
            NO_OPERATION => 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return SOURCE_ROUTE,
            _ if at + 1 >= length => return MALFORMED,
            _ => u32::from(byte(options, at + 1)),
        };
        if size == 0 || (size == 1 && kind != NO_OPERATION) || at + size > length {
            return MALFORMED;
        }
        write(place, at + size);
    }
    FINE
}

#[inline(always)]
fn byte(options: *const u8, place: u32) -> u8 {
    // SAFETY: the scratch area is longer than options can be.
    unsafe { *options.add(opaque::masked::<63>(place) as usize) }
}

#[inline(always)]
fn read(place: *const u32) -> u32 {
    // SAFETY: within the scratch area.
    unsafe { place.read_volatile() }
}

#[inline(always)]
fn write(place: *mut u32, value: u32) {
    // SAFETY: within the scratch area.
    unsafe { place.write_volatile(value) }
}
