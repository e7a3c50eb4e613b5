//! The maps. `router_common::maps` says what they mean and how they hang together.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray},
    macros::btf_map,
};
use router_common::{
    maps::{
        Bucket, Group, HostKey, MAX_BUCKETS, MAX_GROUPS, MAX_NAMES, MAX_NEIGHBORS, MAX_NEXT_HOPS,
        MAX_PORT_PLACES, MAX_PORTS, MAX_RESTRICTED, MAX_ROUTES_V4, MAX_ROUTES_V6, Name, Neighbor,
        NextHop, NextHopCounters, Port, RestrictedKey, RouteEntry, RouteKeyV4, RouteKeyV6,
        Settings,
    },
    rate::Budget,
    reason::PortCounters,
};

/// User space writes each aligned word of these through `mmap`.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// Memory grows with use.
const AS_USED: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "routes_v4")]
pub static ROUTES_V4: LpmTrie<RouteKeyV4, RouteEntry, { MAX_ROUTES_V4 as usize }> = LpmTrie::new();

#[btf_map(name = "routes_v6")]
pub static ROUTES_V6: LpmTrie<RouteKeyV6, RouteEntry, { MAX_ROUTES_V6 as usize }> = LpmTrie::new();

#[btf_map(name = "groups")]
pub static GROUPS: Array<Group, { MAX_GROUPS as usize }, MAPPED> = Array::new();

#[btf_map(name = "buckets")]
pub static BUCKETS: Array<Bucket, { MAX_BUCKETS as usize }, MAPPED> = Array::new();

#[btf_map(name = "next_hops")]
pub static NEXT_HOPS: Array<NextHop, { MAX_NEXT_HOPS as usize }, MAPPED> = Array::new();

#[btf_map(name = "neighbors")]
pub static NEIGHBORS: Array<Neighbor, { MAX_NEIGHBORS as usize }> = Array::new();

#[btf_map(name = "hosts")]
pub static HOSTS: HashMap<HostKey, u32, { MAX_NEIGHBORS as usize }, AS_USED> = HashMap::new();

#[btf_map(name = "restricted")]
pub static RESTRICTED: HashMap<RestrictedKey, u32, { MAX_RESTRICTED as usize }, AS_USED> =
    HashMap::new();

#[btf_map(name = "ports")]
pub static PORTS: Array<Port, { MAX_PORT_PLACES as usize }> = Array::new();

#[btf_map(name = "port_by_ifindex")]
pub static PORT_BY_IFINDEX: HashMap<u32, u32, { MAX_PORTS as usize }> = HashMap::new();

#[btf_map(name = "dev_map")]
pub static DEV_MAP: DevMap<{ MAX_PORTS as usize }> = DevMap::new();

#[btf_map(name = "port_counters")]
pub static PORT_COUNTERS: PerCpuArray<PortCounters, { MAX_PORTS as usize }> = PerCpuArray::new();

#[btf_map(name = "nh_counters")]
pub static NH_COUNTERS: PerCpuArray<NextHopCounters, { MAX_NEXT_HOPS as usize }> =
    PerCpuArray::new();

#[btf_map(name = "settings")]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// The daemon's own; no program reads it.
#[btf_map(name = "names")]
pub static NAMES: HashMap<Name, u32, { MAX_NAMES as usize }, AS_USED> = HashMap::new();

/// Bytes that are being summed.
#[btf_map(name = "scratch")]
pub static SCRATCH: PerCpuArray<[u64; 64], 1> = PerCpuArray::new();

/// The allowance of ICMP errors.
#[btf_map(name = "icmp_budget")]
pub static ICMP_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();
