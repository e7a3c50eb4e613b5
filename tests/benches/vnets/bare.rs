//! What the kernel itself needs: the same keys and values, in order, one `bpf(2)` each, into empty
//! tries of the same kind.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Instant,
};

use anyhow::{Context as _, Result};
use router_common::maps::{MAX_ROUTES_V4, MAX_ROUTES_V6, RouteEntry, RouteKeyV4, RouteKeyV6};

use crate::kernel::Tries;

const ROUNDS: usize = 5;
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_TYPE_LPM_TRIE: u32 = 11;
const BPF_F_NO_PREALLOC: u32 = 1;

/// A key as it lies in memory.
#[repr(C)]
struct Key<K> {
    prefix_len: u32,
    key: K,
}

/// `bpf_attr` of BPF_MAP_CREATE, as far as it is needed.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// `bpf_attr` of BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct Update {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Seconds that each of several rounds took.
pub fn write_again(tries: &Tries) -> Result<Vec<f64>> {
    let v4: Vec<(Key<RouteKeyV4>, RouteEntry)> = sorted(&tries.v4, |key| (key.table, key.address));
    let v6: Vec<(Key<RouteKeyV6>, RouteEntry)> = sorted(&tries.v6, |key| (key.table, key.address));
    (0..ROUNDS)
        .map(|_| {
            let maps = [
                create(size_of::<Key<RouteKeyV4>>(), MAX_ROUTES_V4)?,
                create(size_of::<Key<RouteKeyV6>>(), MAX_ROUTES_V6)?,
            ];
            let start = Instant::now();
            write(&maps[0], &v4)?;
            write(&maps[1], &v6)?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

/// In the order of their prefixes, in which a trie is filled fastest.
fn sorted<K: Copy, O: Ord>(
    entries: &[(u32, K, RouteEntry)],
    order: impl Fn(&K) -> O,
) -> Vec<(Key<K>, RouteEntry)> {
    let mut entries: Vec<_> = entries.to_vec();
    entries.sort_by_key(|(length, key, _)| (order(key), *length));
    entries
        .into_iter()
        .map(|(prefix_len, key, entry)| (Key { prefix_len, key }, entry))
        .collect()
}

fn create(key_size: usize, max_entries: u32) -> Result<OwnedFd> {
    let attr = Create {
        map_type: MAP_TYPE_LPM_TRIE,
        key_size: u32::try_from(key_size)?,
        value_size: u32::try_from(size_of::<RouteEntry>())?,
        max_entries,
        map_flags: BPF_F_NO_PREALLOC,
    };
    let fd = bpf(MAP_CREATE, &attr).context("a trie cannot be made")?;
    // SAFETY: the kernel has just given out this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

fn write<K>(map: &OwnedFd, entries: &[(Key<K>, RouteEntry)]) -> Result<()> {
    for (key, entry) in entries {
        let attr = Update {
            map_fd: map.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: std::ptr::from_ref(key) as u64,
            value: std::ptr::from_ref(entry) as u64,
            flags: 0,
        };
        bpf(MAP_UPDATE_ELEM, &attr).context("writing an entry")?;
    }
    Ok(())
}

fn bpf<A>(command: libc::c_long, attr: &A) -> io::Result<i64> {
    // SAFETY: `attr` is laid out as the kernel's for this command, what it does not cover counts as
    // zero, and its pointers are of live values of the map's sizes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
