//! What the benchmarks measure Waypost by: baselines, a sink and a generator.
//!
//! `redirect` is frozen: parse, TTL, MAC addresses, redirect, no look-up. A figure of today is
//! compared with one of last year by it.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[path = "../frame.rs"]
#[allow(dead_code)]
mod frame;
#[path = "../opaque.rs"]
#[allow(dead_code)]
mod opaque;

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{bpf_fib_lookup, xdp_action},
    btf_maps::{Array, DevMap, PerCpuArray},
    helpers::{bpf_fib_lookup as fib, bpf_get_prandom_u32},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use router_common::{checksum, maps::Neighbor};

use self::frame::{ETHERNET, Frame, Mac, Window};

/// Number of destinations, of each family.
const DESTINATIONS: u32 = 1 << 16;

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();

/// Where `redirect` and `fib_lookup` send: the one element's MAC addresses and device.
#[btf_map(name = "way")]
static WAY: Array<Neighbor, 1> = Array::new();

/// Devices: 0 is the way out, of the router as of the generator.
#[btf_map(name = "devices")]
static DEVICES: DevMap<1> = DevMap::new();

/// Packets that `sink` has seen.
#[btf_map(name = "seen")]
static SEEN: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The generator's frame; the destination address in it is zero, its checksums are for that.
#[btf_map(name = "template")]
static TEMPLATE: Array<[u64; 8], 1> = Array::new();

/// Raw destination addresses.
#[btf_map(name = "to_v4")]
static TO_V4: Array<u32, { DESTINATIONS as usize }> = Array::new();

/// Raw destination addresses.
#[btf_map(name = "to_v6")]
static TO_V6: Array<[u64; 2], { DESTINATIONS as usize }> = Array::new();

/// Forwards without a look-up.
#[xdp(frags)]
pub fn redirect(context: XdpContext) -> u32 {
    let frame = Frame::of(context.ctx);
    let Some(way) = WAY.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let to = (Mac::of(&way.mac), Mac::of(&way.port_mac));
    match hop(&frame, to) {
        Some(()) => send(way.port),
        None => xdp_action::XDP_PASS,
    }
}

/// Forwards by the kernel's own tables.
#[xdp(frags)]
pub fn fib_lookup(context: XdpContext) -> u32 {
    let frame = Frame::of(context.ctx);
    match look_up(&frame).and_then(|to| hop(&frame, to)) {
        Some(()) => send(0),
        None => xdp_action::XDP_PASS,
    }
}

/// Counts and drops.
#[xdp(frags)]
pub fn sink(_context: XdpContext) -> u32 {
    if let Some(seen) = SEEN.get_ptr_mut(0) {
        // SAFETY: this CPU's own element.
        unsafe { *seen += 1 };
    }
    xdp_action::XDP_DROP
}

/// Makes frames of 64 bytes, IPv4 UDP, each to one of the destinations. Live frames are recycled
/// as the last receiver left them, so all of the header is written each time.
#[xdp(frags)]
pub fn generator_v4(context: XdpContext) -> u32 {
    let Some(frame) = from_template(&context) else {
        return xdp_action::XDP_ABORTED;
    };
    let Some(to) = TO_V4.get(random()) else {
        return xdp_action::XDP_ABORTED;
    };
    let sum = u64::from(!frame.load16::<24>()) + u64::from(*to);
    frame.store16::<24>(checksum::complement(sum));
    frame.store32::<30>(*to);
    send(0)
}

/// The same over IPv6.
#[xdp(frags)]
pub fn generator_v6(context: XdpContext) -> u32 {
    let Some(frame) = from_template(&context) else {
        return xdp_action::XDP_ABORTED;
    };
    let Some([first, last]) = TO_V6.get(random()).copied() else {
        return xdp_action::XDP_ABORTED;
    };
    let addresses = (first >> 32) + (first & 0xffff_ffff) + (last >> 32) + (last & 0xffff_ffff);
    // The checksum of UDP, at 14 + 40 + 6.
    let sum = u64::from(!frame.load16::<60>()) + addresses;
    frame.store16::<60>(checksum::complement(sum));
    frame.store64::<38>(first);
    frame.store64::<46>(last);
    send(0)
}

#[inline(always)]
fn from_template(context: &XdpContext) -> Option<Window<64>> {
    let frame: Window<64> = Frame::of(context.ctx).fixed::<0, 64>()?;
    let words = TEMPLATE.get(0)?;
    frame.store64::<0>(words[0]);
    frame.store64::<8>(words[1]);
    frame.store64::<16>(words[2]);
    frame.store64::<24>(words[3]);
    frame.store64::<32>(words[4]);
    frame.store64::<40>(words[5]);
    frame.store64::<48>(words[6]);
    frame.store64::<56>(words[7]);
    Some(frame)
}

/// Lowers the TTL and writes MAC addresses; none if that is not to be.
#[inline(always)]
fn hop(frame: &Frame, (to, from): (Mac, Mac)) -> Option<()> {
    let ethernet: Window<14> = frame.fixed::<0, 14>()?;
    match ethernet.load16::<12>() {
        IPV4 => {
            let header: Window<20> = frame.fixed::<14, 20>()?;
            let ttl = header.load8::<8>();
            if ttl <= 1 {
                return None;
            }
            header.store16::<10>(checksum::after_hop(header.load16::<10>()));
            header.store8::<8>(ttl - 1);
        }
        IPV6 => {
            let header: Window<40> = frame.fixed::<14, 40>()?;
            let hops = header.load8::<7>();
            if hops <= 1 {
                return None;
            }
            header.store8::<7>(hops - 1);
        }
        _ => return None,
    }
    ethernet.store32::<0>(to.first);
    ethernet.store16::<4>(to.last);
    ethernet.store32::<6>(from.first);
    ethernet.store16::<10>(from.last);
    Some(())
}

/// MAC addresses of the next hop and of the way out, by the kernel's own tables.
#[inline(always)]
fn look_up(frame: &Frame) -> Option<(Mac, Mac)> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let ethernet: Window<14> = frame.fixed::<0, 14>()?;
    let mut query = MaybeUninit::uninit();
    let query = cleared(&mut query);
    query.ifindex = frame.ingress_ifindex();
    match ethernet.load16::<12>() {
        IPV4 => {
            let header: Window<20> = frame.fixed::<14, 20>()?;
            query.family = AF_INET;
            query.l4_protocol = header.load8::<9>();
            query.__bindgen_anon_1.tot_len = u16::from_be(header.load16::<2>());
            query.__bindgen_anon_3.ipv4_src = header.load32::<12>();
            query.__bindgen_anon_4.ipv4_dst = header.load32::<16>();
        }
        IPV6 => {
            let header: Window<40> = frame.fixed::<{ ETHERNET as usize }, 40>()?;
            query.family = AF_INET6;
            query.l4_protocol = header.load8::<6>();
            query.__bindgen_anon_1.tot_len = u16::from_be(header.load16::<4>());
            query.__bindgen_anon_3.ipv6_src = [
                header.load32::<8>(),
                header.load32::<12>(),
                header.load32::<16>(),
                header.load32::<20>(),
            ];
            query.__bindgen_anon_4.ipv6_dst = [
                header.load32::<24>(),
                header.load32::<28>(),
                header.load32::<32>(),
                header.load32::<36>(),
            ];
        }
        _ => return None,
    }
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is valid and the query is as large as said.
    let result = unsafe { fib(frame.context().cast(), query, size, 0) };
    (result == 0).then(|| (on_stack(query.dmac), on_stack(query.smac)))
}

/// Clears a query where it is, word by word: the compiler's own way of clearing is a call that the
/// verifier does not take.
#[inline(always)]
fn cleared(query: &mut MaybeUninit<bpf_fib_lookup>) -> &mut bpf_fib_lookup {
    let words = query.as_mut_ptr().cast::<u64>();
    for word in 0..size_of::<bpf_fib_lookup>() / 8 {
        // SAFETY: within the query.
        unsafe { words.add(word).write_volatile(0) };
    }
    // SAFETY: all of it is written; integers and unions of them may be zero.
    unsafe { query.assume_init_mut() }
}

/// A MAC address on the stack, where loads are aligned.
#[inline(always)]
fn on_stack([a, b, c, d, e, f]: [u8; 6]) -> Mac {
    Mac {
        first: u32::from_ne_bytes([a, b, c, d]),
        last: u16::from_ne_bytes([e, f]),
    }
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_prandom_u32() & (DESTINATIONS - 1) }
}

#[inline(always)]
fn send(device: u32) -> u32 {
    DEVICES.redirect(device, 0).unwrap_or_else(|action| action)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
