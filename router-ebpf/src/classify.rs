//! The Ethernet header: is the frame for this port, and what does it carry?

use router_common::{maps::Port, reason::Reason};

use crate::{
    frame::{Frame, Mac, Window},
    verdict::Verdict,
};

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const ARP: u16 = 0x0806_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// The bit of a MAC address's first byte that means multicast or broadcast.
const GROUP_ADDRESS: u8 = 1;

/// What a frame for this port carries.
pub enum Content {
    Ipv4,
    Ipv6,
}

/// Frames to everyone and ARP are the host's; other stations' frames go nowhere.
#[inline(always)]
pub fn classify(frame: &Frame, port: &Port) -> Result<Content, Verdict> {
    let header: Window<14> = frame.fixed::<0, 14>().ok_or(Reason::Truncated)?;
    let destination = Mac {
        first: header.load32::<0>(),
        last: header.load16::<4>(),
    };
    if destination != Mac::of(&port.mac) {
        return Err(if header.load8::<0>() & GROUP_ADDRESS != 0 {
            Verdict::ToHost
        } else {
            Verdict::Dropped(Reason::WrongMac)
        });
    }
    match header.load16::<12>() {
        IPV4 => Ok(Content::Ipv4),
        IPV6 => Ok(Content::Ipv6),
        ARP => Err(Verdict::ToHost),
        VLAN | SERVICE_VLAN => Err(Reason::Vlan.into()),
        _ => Err(Reason::UnknownProtocol.into()),
    }
}

/// The sender's MAC address.
#[inline(always)]
pub fn sender(frame: &Frame) -> Option<Mac> {
    let header: Window<12> = frame.fixed::<0, 12>()?;
    Some(Mac {
        first: header.load32::<6>(),
        last: header.load16::<10>(),
    })
}
