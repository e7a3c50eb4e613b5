//! The sum of many bytes of a frame, across its buffers, for a checksum.

use core::ptr;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_load_bytes},
};

use crate::{maps::SCRATCH, opaque};

/// Bytes that are copied and summed at once: as many as `bpf_csum_diff` took before Linux 6.13.
const PIECE: u32 = 512;

/// Pieces of the largest packet, and a rest.
const MOST: u32 = 65_536 / PIECE + 1;

/// The raw sum, not folded, of `length` bytes at `offset`; none if the frame holds fewer.
#[inline(always)]
pub fn of(context: *mut xdp_md, offset: u32, length: u32) -> Option<u64> {
    let sum = sum_of_pieces(context, offset, length);
    (sum != FAILED).then_some(sum)
}

const FAILED: u64 = u64::MAX;

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn sum_of_pieces(context: *mut xdp_md, offset: u32, length: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return FAILED;
    };
    let scratch = scratch.cast::<u8>();
    let mut offset = offset;
    let mut left = length;
    let mut sum = 0;
    for _ in 0..MOST {
        if left < PIECE {
            break;
        }
        // SAFETY: a piece is as large as the scratch area.
        unsafe {
            if bpf_xdp_load_bytes(context, offset, scratch.cast(), PIECE) != 0 {
                return FAILED;
            }
            sum = bpf_csum_diff(ptr::null_mut(), 0, scratch.cast(), PIECE, sum) as u32;
        }
        offset += PIECE;
        left -= PIECE;
    }
    let rest = opaque::masked::<{ PIECE - 1 }>(left);
    if rest == 0 {
        return u64::from(sum);
    }
    // SAFETY: the rest is smaller than the scratch area. It is padded with zero bytes to a
    // multiple of four, which lie within the area too.
    unsafe {
        let last = opaque::masked::<{ PIECE - 4 }>(rest);
        scratch.add(last as usize).cast::<u32>().write(0);
        if bpf_xdp_load_bytes(context, offset, scratch.cast(), rest) != 0 {
            return FAILED;
        }
        let padded = opaque::masked::<{ 2 * PIECE - 4 }>(rest + 3);
        if padded > PIECE {
            return FAILED;
        }
        u64::from(bpf_csum_diff(ptr::null_mut(), 0, scratch.cast(), padded, sum) as u32)
    }
}
