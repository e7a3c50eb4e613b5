//! ICMPv6 errors (RFC 4443).

use router_common::{
    checksum,
    header::{is_icmp_v6_error, protocol},
    maps::Port,
};

use super::{Error, HOPS, address, allowance, make_room};
use crate::{
    classify::sender,
    extension,
    frame::{ETHERNET, Frame, Window},
    ipv6::{HEADER, words},
    sum,
};

/// IPv6 and ICMPv6 header of the answer.
const HEADERS: u32 = 48;

/// Most bytes of the packet that are quoted: the answer fits every link (RFC 4443 §3).
const QUOTE: u32 = 1280 - HEADERS;

/// The ICMPv6 redirect, which is no error and not answered by one either.
const REDIRECT: u8 = 137;

/// Turns the frame into an answer; none if none is due.
#[inline(always)]
pub(super) fn make(frame: &Frame, port: &Port, error: Error) -> Option<()> {
    let header: Window<40> = frame.fixed::<14, 40>()?;
    let gateway = words(&port.gateway_v6);
    if gateway == [0, 0] {
        return None;
    }
    let found = extension::walk(frame.context(), header.load8::<6>(), ETHERNET + HEADER);
    if found.is_later_fragment() {
        return None;
    }
    let transport = found.transport().ok()?;
    if transport.protocol == protocol::ICMP_V6 {
        let [kind] = frame.copy::<[u8; 1]>(transport.offset)?;
        if is_icmp_v6_error(kind) || kind == REDIRECT {
            return None;
        }
    }
    allowance()?;
    let sender_mac = sender(frame)?;
    let sender = [header.load64::<8>(), header.load64::<16>()];
    let length = HEADER + u32::from(u16::from_be(header.load16::<4>()));
    let quote = if length < QUOTE { length } else { QUOTE };

    let frame = make_room(frame, quote, HEADERS as i32)?;
    let answer: Window<62> = frame.fixed::<0, 62>()?;
    address(&answer, port, sender_mac, 0x86dd);

    let payload = 8 + quote;
    answer.store32::<14>(0x6000_0000_u32.to_be());
    answer.store16::<18>((payload as u16).to_be());
    answer.store8::<20>(protocol::ICMP_V6);
    answer.store8::<21>(HOPS);
    answer.store64::<22>(gateway[0]);
    answer.store64::<30>(gateway[1]);
    answer.store64::<38>(sender[0]);
    answer.store64::<46>(sender[1]);

    let (kind, rest) = match error {
        Error::TimeExceeded => (0x0300_0000_u32.to_be(), 0),
        Error::TooBig { mtu } => (0x0200_0000_u32.to_be(), mtu.to_be()),
    };
    answer.store32::<54>(kind);
    answer.store32::<58>(rest);
    let quoted = sum::of(frame.context(), ETHERNET + HEADERS, quote)?;
    let pseudo = checksum::pseudo_v6(gateway, sender, protocol::ICMP_V6, payload);
    answer.store16::<56>(checksum::complement(
        quoted + u64::from(pseudo) + u64::from(kind) + u64::from(rest),
    ));
    Some(())
}
