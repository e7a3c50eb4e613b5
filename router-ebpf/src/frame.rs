//! The frame, and the one way to its bytes.
//!
//! A [`Window`] is a run of bytes that was checked once against the frame's end; what is read or
//! written through it was checked at compile time against the window.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
};

use crate::opaque;

/// Length of an Ethernet header without tags.
pub const ETHERNET: u32 = 14;

/// A frame: its first buffer, which holds the headers.
#[derive(Clone, Copy)]
pub struct Frame {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame as it is now. To be made anew after its head or tail was moved.
    #[inline(always)]
    pub fn of(context: *mut xdp_md) -> Self {
        // SAFETY: the kernel hands a valid context to the program.
        let (start, end) = unsafe { ((*context).data, (*context).data_end) };
        Self {
            context,
            start: start as usize,
            end: end as usize,
        }
    }

    #[inline(always)]
    pub fn context(&self) -> *mut xdp_md {
        self.context
    }

    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Bytes in the first buffer.
    #[inline(always)]
    pub fn linear_length(&self) -> u32 {
        (self.end - self.start) as u32
    }

    /// Bytes in all buffers.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { bpf_xdp_get_buff_len(self.context) as u32 }
    }

    /// `N` bytes at an offset that is known when compiling.
    #[inline(always)]
    pub fn fixed<const OFFSET: usize, const N: usize>(&self) -> Option<Window<N>> {
        if self.start + OFFSET + N > self.end {
            return None;
        }
        Some(Window((self.start + OFFSET) as *mut u8))
    }

    /// `N` bytes at an offset; offsets beyond what a header can lie at are masked off.
    #[inline(always)]
    pub fn window<const N: usize>(&self, offset: u32) -> Option<Window<N>> {
        let start = opaque::sum(self.start, (offset & 0x7fff) as usize);
        if start + N > self.end {
            return None;
        }
        Some(Window(start as *mut u8))
    }

    /// A copy of bytes in any of the frame's buffers; none if the frame ends before.
    #[inline(always)]
    pub fn copy<T: Plain>(&self, offset: u32) -> Option<T> {
        // Not cleared before: that would take a loop.
        let mut copy = MaybeUninit::<T>::uninit();
        // SAFETY: on success the helper has written all of `T`, of which any bytes are valid.
        unsafe {
            let size = size_of::<T>() as u32;
            (bpf_xdp_load_bytes(self.context, offset, copy.as_mut_ptr().cast(), size) == 0)
                .then(|| copy.assume_init())
        }
    }
}

/// Types that any bytes are a valid value of.
///
/// # Safety
/// As said.
pub unsafe trait Plain {}
// SAFETY: integers.
unsafe impl<const N: usize> Plain for [u8; N] {}
// SAFETY: integers.
unsafe impl<const N: usize> Plain for [u32; N] {}

/// `N` bytes of a frame. Numbers are raw: in the byte order that they lie in.
///
/// It ends with the next change of the frame's head or tail; the verifier sees to that.
#[derive(Clone, Copy)]
pub struct Window<const N: usize>(*mut u8);

macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $bytes:literal, $width:literal) => {
        #[inline(always)]
        pub fn $load<const OFFSET: usize>(&self) -> $type {
            const { assert!(OFFSET + $bytes <= N) };
            // SAFETY: the bytes lie within the window.
            unsafe { raw::$load::<OFFSET>(self.0) }
        }

        #[inline(always)]
        #[allow(dead_code)]
        pub fn $store<const OFFSET: usize>(&self, value: $type) {
            const { assert!(OFFSET + $bytes <= N) };
            // SAFETY: the bytes lie within the window.
            unsafe { raw::$store::<OFFSET>(self.0, value) }
        }
    };
}

impl<const N: usize> Window<N> {
    access!(load8, store8, u8, 1, "u8");
    access!(load16, store16, u16, 2, "u16");
    access!(load32, store32, u32, 4, "u32");
    access!(load64, store64, u64, 8, "u64");
}

/// A MAC address in two words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mac {
    pub first: u32,
    pub last: u16,
}

impl Mac {
    /// A MAC address in a map's value.
    #[inline(always)]
    pub fn of(bytes: &[u8; 6]) -> Self {
        // SAFETY: the reference is to six bytes.
        unsafe {
            Self {
                first: raw::load32::<0>(bytes.as_ptr()),
                last: raw::load16::<4>(bytes.as_ptr()),
            }
        }
    }
}

/// Single loads and stores of any alignment. The compiler would split them into bytes: it does
/// not know that the machines which BPF runs on do without alignment.
mod raw {
    macro_rules! raw {
        ($load:ident, $store:ident, $type:ty, $width:literal) => {
            /// # Safety
            /// The bytes are readable.
            #[inline(always)]
            pub(super) unsafe fn $load<const OFFSET: usize>(from: *const u8) -> $type {
                #[cfg(target_arch = "bpf")]
                {
                    let value: u64;
                    // SAFETY: the caller's.
                    unsafe {
                        core::arch::asm!(
                            concat!("{value} = *(", $width, " *)({from} + {offset})"),
                            value = lateout(reg) value,
                            from = in(reg) from,
                            offset = const OFFSET,
                            options(pure, readonly, nostack, preserves_flags),
                        );
                    }
                    value as $type
                }
                #[cfg(not(target_arch = "bpf"))]
                // SAFETY: the caller's.
                unsafe {
                    from.add(OFFSET).cast::<$type>().read_unaligned()
                }
            }

            /// # Safety
            /// The bytes are writable.
            #[inline(always)]
            pub(super) unsafe fn $store<const OFFSET: usize>(to: *mut u8, value: $type) {
                #[cfg(target_arch = "bpf")]
                // SAFETY: the caller's.
                unsafe {
                    core::arch::asm!(
                        concat!("*(", $width, " *)({to} + {offset}) = {value}"),
                        to = in(reg) to,
                        value = in(reg) u64::from(value),
                        offset = const OFFSET,
                        options(nostack, preserves_flags),
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                // SAFETY: the caller's.
                unsafe {
                    to.add(OFFSET).cast::<$type>().write_unaligned(value);
                }
            }
        };
    }

    raw!(load8, store8, u8, "u8");
    raw!(load16, store16, u16, "u16");
    raw!(load32, store32, u32, "u32");
    raw!(load64, store64, u64, "u64");
}
