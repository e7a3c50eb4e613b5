//! The XDP program.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, LpmTrie},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use router_common::maps::{Group, MAX_GROUPS, MAX_ROUTES_V4, RouteEntry, RouteKeyV4};

#[btf_map(name = "routes_v4")]
static ROUTES_V4: LpmTrie<RouteKeyV4, RouteEntry, { MAX_ROUTES_V4 as usize }> = LpmTrie::new();
#[btf_map(name = "groups")]
static GROUPS: Array<Group, { MAX_GROUPS as usize }, 1024> = Array::new();

/// Entry.
#[xdp(frags)]
pub fn waypost(_context: XdpContext) -> u32 {
    if GROUPS.get(1).is_some() {
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
