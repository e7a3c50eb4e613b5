//! ICMP errors made here, in place of the packet that they are about.
//!
//! None is made about ICMP errors, fragments other than the first, or where the port has no
//! address to send from (RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)); packets to and from groups never
//! come here. The rate is limited per CPU. The answer leaves through the device map: with XDP_TX
//! it would stick at a far end that has GRO but no program.

mod v4;
mod v6;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
};
use router_common::maps::Port;

use crate::{
    frame::{ETHERNET, Frame, Mac, Window},
    maps::{DEV_MAP, ICMP_BUDGET, SETTINGS},
};

/// What the sender is told.
#[derive(Clone, Copy)]
pub enum Error {
    /// TTL or hop limit ran out on the way.
    TimeExceeded,
    /// The way out takes no more than this many bytes.
    TooBig { mtu: u32 },
}

/// Hop limit of the answers.
const HOPS: u8 = 64;

/// Turns the frame into an answer to its sender and sends it; whether it did.
#[inline(always)]
pub fn answer(context: *mut xdp_md, port: &'static Port, error: Error) -> bool {
    // Zero is no MTU: it stands for the other error, in the one register there is for both.
    let mtu = match error {
        Error::TimeExceeded => 0,
        Error::TooBig { mtu } => mtu,
    };
    answer_in_place(context, port, mtu) != 0
}

#[inline(never)]
fn answer_in_place(context: *mut xdp_md, port: &'static Port, mtu: u32) -> u32 {
    let error = match mtu {
        0 => Error::TimeExceeded,
        mtu => Error::TooBig { mtu },
    };
    let frame = Frame::of(context);
    let Some(header) = frame.fixed::<14, 20>() else {
        return 0;
    };
    let sent = match header.load8::<0>() >> 4 {
        4 => v4::make(&frame, port, error),
        _ => v6::make(&frame, port, error),
    };
    u32::from(sent.is_some() && DEV_MAP.redirect(port.id, 0).is_ok())
}

/// Takes one error off the allowance, if there is one.
#[inline(always)]
fn allowance() -> Option<()> {
    let rate = SETTINGS.get(0)?.icmp_rate;
    let budget = ICMP_BUDGET.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, not shared while the program runs.
    unsafe { (*budget).take(bpf_ktime_get_ns(), rate) }.then_some(())
}

/// Cuts the packet to its first `quote` bytes and makes room for `room` bytes of headers before
/// it. The frame as it then is.
#[inline(always)]
fn make_room(frame: &Frame, quote: u32, room: i32) -> Option<Frame> {
    let context = frame.context();
    let surplus = frame.length() as i32 - (ETHERNET + quote) as i32;
    // SAFETY: the context is valid, and no window is used after this.
    unsafe {
        if surplus > 0 && bpf_xdp_adjust_tail(context, -surplus) != 0 {
            return None;
        }
        if bpf_xdp_adjust_head(context, -room) != 0 {
            return None;
        }
    }
    Some(Frame::of(context))
}

/// Writes an Ethernet header from the port back to the sender.
#[inline(always)]
fn address<const N: usize>(frame: &Window<N>, port: &Port, to: Mac, ethertype: u16) {
    let from = Mac::of(&port.mac);
    frame.store32::<0>(to.first);
    frame.store16::<4>(to.last);
    frame.store32::<6>(from.first);
    frame.store16::<10>(from.last);
    frame.store16::<12>(ethertype.to_be());
}
