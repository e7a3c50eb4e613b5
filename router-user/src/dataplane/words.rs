//! An array map in memory: its words are read and written as single words, never torn.
//!
//! The kernel puts every page of a mapping into memory at once, and most of a large array is never
//! used: it is mapped in windows, each when an element in it is first touched.

use std::{
    alloc::{Layout, handle_alloc_error},
    cell::OnceCell,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Bytes mapped at a time; a multiple of any page size.
const WINDOW: usize = 1 << 16;

/// A mapped array (`BPF_F_MMAPABLE`) of elements of `stride` bytes.
#[derive(Debug)]
pub(super) struct Words {
    map: OwnedFd,
    windows: Box<[OnceCell<Window>]>,
    /// Bytes of a window.
    window: usize,
    /// Bytes of all of them.
    bytes: usize,
    stride: usize,
    elements: u32,
}

/// A part of the array in memory.
#[derive(Debug)]
struct Window {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is memory shared with the kernel, accessed through atomics only.
unsafe impl Send for Words {}

impl Words {
    /// An array of `elements` elements of `size` bytes.
    ///
    /// # Errors
    /// It cannot be mapped into memory.
    pub(super) fn map(map: BorrowedFd<'_>, elements: u32, size: usize) -> io::Result<Self> {
        let stride = size.next_multiple_of(8);
        let bytes = stride * elements as usize;
        // No element lies in two windows.
        let window = match WINDOW.is_multiple_of(stride) {
            true => WINDOW,
            false => bytes,
        };
        let this = Self {
            map: map.try_clone_to_owned()?,
            windows: (0..bytes.div_ceil(window))
                .map(|_| OnceCell::new())
                .collect(),
            window,
            bytes,
            stride,
            elements,
        };
        // Whether it can be mapped at all shows here.
        if let Some(first) = this.windows.first() {
            let _ = first.set(this.open(0)?);
        }
        Ok(this)
    }

    pub(super) const fn len(&self) -> u32 {
        self.elements
    }

    /// The element's first 64 bits.
    pub(super) fn load(&self, element: u32) -> u64 {
        self.word64(element).load(Ordering::Acquire)
    }

    pub(super) fn store(&self, element: u32, word: u64) {
        self.word64(element).store(word, Ordering::Release);
    }

    /// The element's 32-bit word at a byte offset.
    pub(super) fn load32(&self, element: u32, offset: usize) -> u32 {
        self.word32(element, offset).load(Ordering::Acquire)
    }

    pub(super) fn store32(&self, element: u32, offset: usize, word: u32) {
        self.word32(element, offset).store(word, Ordering::Release);
    }

    fn word64(&self, element: u32) -> &AtomicU64 {
        let at = self.at(element, 0, 8);
        // SAFETY: within a window, which lives as long as `self`; 8-byte aligned, since windows are
        // page-aligned and the stride is a multiple of 8.
        unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) }
    }

    fn word32(&self, element: u32, offset: usize) -> &AtomicU32 {
        let at = self.at(element, offset, 4);
        // SAFETY: as above; `at` checks that the offset is a multiple of 4.
        unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) }
    }

    fn at(&self, element: u32, offset: usize, size: usize) -> NonNull<u8> {
        assert!(
            element < self.elements && offset.is_multiple_of(size) && offset + size <= self.stride,
            "element {element} of {}, offset {offset}",
            self.elements
        );
        let place = element as usize * self.stride + offset;
        let number = place / self.window;
        // The first could be mapped, so that only memory can be short now.
        let window = self.windows[number].get_or_init(|| {
            self.open(number)
                .unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; WINDOW]>()))
        });
        // SAFETY: within the array, as checked, and within this window, as computed.
        unsafe { window.base.add(place % self.window) }
    }

    fn open(&self, number: usize) -> io::Result<Window> {
        let start = number * self.window;
        let bytes = self.window.min(self.bytes - start);
        let offset = libc::off_t::try_from(start).map_err(io::Error::other)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.map.as_fd().as_raw_fd(),
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Window { base, bytes })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
