//! The compiled XDP program.

/// The object file of the XDP program `waypost` and its maps, for a loader.
pub static WAYPOST: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/waypost.bpf.o"));
