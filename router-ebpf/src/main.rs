//! The XDP program: what a packet meets between a port and the next hop.
//!
//! In: a frame and the maps that the daemon fills. Out: the frame, rewritten, at the port of its
//! next hop; an ICMP error at the port that it came from; the frame at the host's own stack; or a
//! drop. Whatever is not forwarded counts under a reason (invariant 6).
//!
//! ```text
//! frame → classify → ipv4 | ipv6 → forward ─┬─ look_up → choose (group, bucket, next hop)
//!                    (parse)                ├─ source (check)
//!                                           ├─ complete (partial checksums)
//!                                           └─ rewrite → redirect
//!                                     verdict ─► icmp | host | drop
//! ```
//!
//! Steps that most packets do not need (`extension`, `options`, `quoted`, `restricted`, `sum`, `icmp`) are
//! functions of their own, called and not inlined, so that the others stay short.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod choose;
mod classify;
mod complete;
mod counters;
mod extension;
mod flow;
mod forward;
mod frame;
mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod look_up;
mod maps;
mod opaque;
mod options;
mod quoted;
mod restricted;
mod source;
mod sum;
mod verdict;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use router_common::{
    maps::{NO_PORT, Port},
    reason::Reason,
};

use self::{
    classify::{Content, classify},
    forward::forward,
    frame::Frame,
    icmp::Error,
    ipv4::Ipv4,
    ipv6::Ipv6,
    maps::{PORT_BY_IFINDEX, PORTS},
    verdict::Verdict,
};

/// Entry: one frame that arrived at an interface.
#[xdp(frags)]
pub fn waypost(context: XdpContext) -> u32 {
    let frame = Frame::of(context.ctx);
    let Some(port) = port_of(&frame) else {
        counters::received(NO_PORT, &frame);
        counters::count(NO_PORT, Reason::NotAPort);
        return xdp_action::XDP_DROP;
    };
    counters::received(port.id, &frame);
    let Err(verdict) = route(&frame, port) else {
        return xdp_action::XDP_REDIRECT;
    };
    let (reason, action) = match verdict {
        Verdict::ToHost => (Reason::ToHost, xdp_action::XDP_PASS),
        Verdict::Dropped(reason) => (reason, xdp_action::XDP_DROP),
        Verdict::HopLimit => {
            if icmp::answer(frame.context(), port, Error::TimeExceeded) {
                (Reason::TimeExceeded, xdp_action::XDP_REDIRECT)
            } else {
                (Reason::TtlExpired, xdp_action::XDP_DROP)
            }
        }
        Verdict::Mtu(mtu) => {
            if icmp::answer(frame.context(), port, Error::TooBig { mtu }) {
                (Reason::MtuExceeded, xdp_action::XDP_REDIRECT)
            } else {
                (Reason::TooBig, xdp_action::XDP_DROP)
            }
        }
    };
    counters::count(port.id, reason);
    action
}

#[inline(always)]
fn route(frame: &Frame, port: &'static Port) -> Result<(), Verdict> {
    match classify(frame, port)? {
        Content::Ipv4 => forward(frame, port, Ipv4::parse(frame, port)?),
        Content::Ipv6 => forward(frame, port, Ipv6::parse(frame, port)?),
    }
}

#[inline(always)]
fn port_of(frame: &Frame) -> Option<&'static Port> {
    let ifindex = frame.ingress_ifindex();
    // SAFETY: the value is one aligned word, read once.
    let place = unsafe { PORT_BY_IFINDEX.get(ifindex) }?;
    // The kernel may give the element of a port that is removed at this very moment to another one.
    PORTS.get(*place).filter(|port| port.ifindex == ifindex)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
