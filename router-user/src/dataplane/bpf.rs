//! The bpf(2) and membarrier(2) calls that aya has not: batches, links as plain file descriptors
//! whose interface can be asked for, and waiting for XDP programs that run.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;

const MAP_CREATE: u32 = 0;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;

const ATTACH_TYPE_XDP: u32 = 37;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// How an XDP program is attached: `XDP_FLAGS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum XdpMode {
    Generic = 1 << 1,
    Native = 1 << 2,
}

/// A structure of `union bpf_attr`.
///
/// # Safety
/// `repr(C)` without padding, laid out as the kernel's, and every pointer in it valid for the call.
unsafe trait Attr {}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}
// SAFETY: `struct { … } batch`; its pointers are set by the functions below from live slices.
unsafe impl Attr for Batch {}

#[repr(C)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}
// SAFETY: the anonymous structure of BPF_MAP_*_ELEM.
unsafe impl Attr for Element {}

#[repr(C)]
struct Object {
    pathname: u64,
    fd: u32,
    file_flags: u32,
}
// SAFETY: the anonymous structure of BPF_OBJ_*.
unsafe impl Attr for Object {}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}
// SAFETY: `struct { … } info`.
unsafe impl Attr for Info {}

/// Four words: BPF_LINK_CREATE, BPF_LINK_UPDATE, BPF_LINK_DETACH.
#[repr(C)]
struct Link([u32; 4]);
// SAFETY: these commands begin with 32-bit words and need no more of them.
unsafe impl Attr for Link {}

/// BPF_MAP_CREATE up to `inner_map_fd`.
#[repr(C)]
struct Create([u32; 6]);
// SAFETY: the anonymous structure of BPF_MAP_CREATE begins with these words.
unsafe impl Attr for Create {}

#[repr(C, align(8))]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    rest: [u32; 27],
}

/// Reads a whole map, `chunk` entries a call.
pub(super) fn read_all<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    const CHUNK: usize = 16_384;
    let mut all = Vec::new();
    let mut keys = vec![zeroed::<K>(); CHUNK];
    let mut values = vec![zeroed::<V>(); CHUNK];
    let mut from: Option<K> = None;
    loop {
        let mut next = zeroed::<K>();
        let mut batch = Batch {
            in_batch: from.as_ref().map_or(0, |key| address(key)),
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: CHUNK as u32,
            map_fd: raw(map),
            ..Batch::default()
        };
        let result = bpf(MAP_LOOKUP_BATCH, &mut batch);
        let finished = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = batch.count as usize;
        all.extend(
            keys[..count]
                .iter()
                .copied()
                .zip(values[..count].iter().copied()),
        );
        if finished {
            return Ok(all);
        }
        from = Some(next);
    }
}

/// Writes entries in order.
///
/// # Errors
/// How many were written before the one that was refused, and why.
pub(super) fn write_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    if keys.is_empty() {
        return Ok(());
    }
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: raw(map),
        ..Batch::default()
    };
    match bpf(MAP_UPDATE_BATCH, &mut batch) {
        Ok(_) => Ok(()),
        Err(error) => Err(((batch.count as usize).min(keys.len() - 1), error)),
    }
}

/// Deletes an entry.
pub(super) fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut element = Element {
        map_fd: raw(map),
        pad: 0,
        key: address(key),
        value: 0,
        flags: 0,
    };
    bpf(MAP_DELETE_ELEM, &mut element).map(drop)
}

/// Opens what is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = bpf(
        OBJ_GET,
        &mut Object {
            pathname: path.as_ptr() as u64,
            fd: 0,
            file_flags: 0,
        },
    )?;
    Ok(owned(fd))
}

/// Pins an object at a path.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(
        OBJ_PIN,
        &mut Object {
            pathname: path.as_ptr() as u64,
            fd: raw(object),
            file_flags: 0,
        },
    )
    .map(drop)
}

/// Attaches an XDP program to an interface.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: XdpMode,
) -> io::Result<OwnedFd> {
    let mut attr = Link([raw(program), ifindex, ATTACH_TYPE_XDP, mode as u32]);
    bpf(LINK_CREATE, &mut attr).map(owned)
}

/// Replaces the program of a link atomically. ENOLINK: its interface is gone.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_UPDATE, &mut Link([raw(link), raw(program), 0, 0])).map(drop)
}

/// Detaches a link whoever else holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_DETACH, &mut Link([raw(link), 0, 0, 0])).map(drop)
}

/// The interface of an XDP link; 0 once it is gone.
pub(super) fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let mut attr = Info {
        fd: raw(link),
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.ifindex)
}

/// Waits until every XDP program that ran when this was called has ended (an RCU grace period).
///
/// # Errors
/// Neither `membarrier` nor a map-in-map update is allowed here.
pub(super) fn wait_for_programs() -> io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 {
        return Ok(());
    }
    // Where CPUs run without a tick there is no global membarrier; updating a map of maps waits
    // for the same grace period.
    let inner = owned(bpf(
        MAP_CREATE,
        &mut Create([MAP_TYPE_ARRAY, 4, 4, 1, 0, 0]),
    )?);
    let mut outer = Create([
        MAP_TYPE_ARRAY_OF_MAPS,
        4,
        4,
        1,
        0,
        inner.as_raw_fd().cast_unsigned(),
    ]);
    let outer = owned(bpf(MAP_CREATE, &mut outer)?);
    let (key, value) = (0u32, inner.as_raw_fd());
    let mut element = Element {
        map_fd: outer.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: address(&key),
        value: address(&value),
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &mut element).map(drop)
}

fn bpf<A: Attr>(command: u32, attr: &mut A) -> io::Result<i64> {
    // SAFETY: by the contract of `Attr`, `attr` is what the kernel expects for `size` bytes; what
    // it does not cover counts as zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just given out this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

fn zeroed<T: Pod>() -> T {
    // SAFETY: `Pod` types are plain data, valid for any bytes.
    unsafe { std::mem::zeroed() }
}
