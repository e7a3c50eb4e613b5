//! Forwarded traffic: what is not at home in the port's network stays out of the networks that do
//! not allow it.

use aya_ebpf::{bindings::xdp_md, btf_maps::lpm_trie::Key};
use router_common::{
    maps::{NONE, Neighbor, Port, RestrictedKey, RouteKeyV4, RouteKeyV6, TABLE_BITS, route_flags},
    reason::Reason,
};

use crate::{
    frame::Frame,
    ipv6::bytes,
    maps::{RESTRICTED, ROUTES_V4, ROUTES_V6},
};

/// Whether a packet of this port may go to this neighbour. A port without restrictions pays for
/// one comparison.
#[inline(always)]
pub fn check(frame: &Frame, port: &'static Port, neighbor: &Neighbor) -> Result<(), Reason> {
    if port.restricted == NONE || may_enter(frame.context(), port, neighbor.vnet) != 0 {
        Ok(())
    } else {
        Err(Reason::ForwardedTraffic)
    }
}

#[inline(never)]
fn may_enter(context: *mut xdp_md, port: &'static Port, vnet: u32) -> u32 {
    let key = RestrictedKey {
        set: port.restricted,
        vnet,
    };
    // SAFETY: only whether there is a value counts.
    let restricted = unsafe { RESTRICTED.get(key) }.is_some();
    u32::from(!restricted || is_at_home(&Frame::of(context), port.own_table))
}

/// Whether the source lies in the space of the network whose table this is.
#[inline(always)]
fn is_at_home(frame: &Frame, table: u32) -> bool {
    let Some(version) = frame.fixed::<14, 1>() else {
        return false;
    };
    let route = if version.load8::<0>() >> 4 == 4 {
        let Some(header) = frame.fixed::<14, 20>() else {
            return false;
        };
        let address = header.load32::<12>().to_ne_bytes();
        ROUTES_V4.get(&Key {
            prefix_len: TABLE_BITS + 32,
            data: RouteKeyV4 { table, address },
        })
    } else {
        let Some(header) = frame.fixed::<14, 40>() else {
            return false;
        };
        let address = bytes([header.load64::<8>(), header.load64::<16>()]);
        ROUTES_V6.get(&Key {
            prefix_len: TABLE_BITS + 128,
            data: RouteKeyV6 { table, address },
        })
    };
    route.is_some_and(|route| route.flags & route_flags::LOCAL != 0)
}
