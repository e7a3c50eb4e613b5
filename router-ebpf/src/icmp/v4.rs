//! ICMP errors (RFC 792, RFC 1191).

use router_common::{
    checksum,
    header::{is_icmp_error, protocol},
    maps::Port,
};

use super::{Error, HOPS, address, allowance, make_room};
use crate::{
    classify::sender,
    frame::{ETHERNET, Frame, Window},
    sum,
};

/// IPv4 and ICMP header of the answer.
const HEADERS: u32 = 28;

/// Most bytes of the packet that are quoted: the answer is at most 576 long (RFC 1812 §4.3.2.3).
const QUOTE: u32 = 576 - HEADERS;

/// Fragment offset.
const OFFSET: u16 = 0x1fff_u16.to_be();

/// First word of the answer's header but for its length: version, header length, and internetwork
/// control as type of service (RFC 1812 §4.3.2.5).
const FIRST: u32 = 0x45c0_0000;

/// No identification, not to be fragmented (RFC 6864 §4.1).
const SECOND: u32 = 0x0000_4000;

/// Turns the frame into an answer; none if none is due.
#[inline(always)]
pub(super) fn make(frame: &Frame, port: &Port, error: Error) -> Option<()> {
    let header: Window<20> = frame.fixed::<14, 20>()?;
    let gateway = u32::from_ne_bytes(port.gateway_v4);
    if gateway == 0 || header.load16::<6>() & OFFSET != 0 {
        return None;
    }
    if header.load8::<9>() == protocol::ICMP {
        let offset = ETHERNET + u32::from(header.load8::<0>() & 0xf) * 4;
        let icmp = frame.window::<1>(offset)?;
        if is_icmp_error(icmp.load8::<0>()) {
            return None;
        }
    }
    allowance()?;
    let sender_mac = sender(frame)?;
    let sender = header.load32::<12>();
    let length = u32::from(u16::from_be(header.load16::<2>()));
    let quote = if length < QUOTE { length } else { QUOTE };

    let frame = make_room(frame, quote, HEADERS as i32)?;
    let answer: Window<42> = frame.fixed::<0, 42>()?;
    address(&answer, port, sender_mac, 0x0800);

    let words = [
        (FIRST | (HEADERS + quote)).to_be(),
        SECOND.to_be(),
        (u32::from(HOPS) << 24 | u32::from(protocol::ICMP) << 16).to_be(),
        gateway,
        sender,
    ];
    let sum = words.iter().map(|word| u64::from(*word)).sum();
    answer.store32::<14>(words[0]);
    answer.store32::<18>(words[1]);
    answer.store32::<22>(words[2]);
    answer.store16::<24>(checksum::complement(sum));
    answer.store32::<26>(words[3]);
    answer.store32::<30>(words[4]);

    let (kind, rest) = match error {
        Error::TimeExceeded => (0x0b00_0000_u32.to_be(), 0),
        Error::TooBig { mtu } => (0x0304_0000_u32.to_be(), (mtu & 0xffff).to_be()),
    };
    answer.store32::<34>(kind);
    answer.store32::<38>(rest);
    let quoted = sum::of(frame.context(), ETHERNET + HEADERS, quote)?;
    answer.store16::<36>(checksum::complement(
        quoted + u64::from(kind) + u64::from(rest),
    ));
    Some(())
}
