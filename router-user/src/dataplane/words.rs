//! An array map in memory: its words are read and written as single words, never torn.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// A mapped array (`BPF_F_MMAPABLE`) of elements of `stride` bytes.
#[derive(Debug)]
pub(super) struct Words {
    base: NonNull<u8>,
    bytes: usize,
    stride: usize,
    elements: u32,
}

// SAFETY: the mapping is memory shared with the kernel, accessed through atomics only.
unsafe impl Send for Words {}

impl Words {
    /// Maps an array of `elements` elements of `size` bytes.
    pub(super) fn map(map: BorrowedFd<'_>, elements: u32, size: usize) -> io::Result<Self> {
        let stride = size.next_multiple_of(8);
        let bytes = stride * elements as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            base,
            bytes,
            stride,
            elements,
        })
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
        // SAFETY: within the mapping, which lives as long as `self`; 8-byte aligned, since the
        // mapping is page-aligned and the stride a multiple of 8.
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
        // SAFETY: checked to lie within the mapping.
        unsafe { self.base.add(element as usize * self.stride + offset) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
