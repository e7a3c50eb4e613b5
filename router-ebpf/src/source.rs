//! The source check: (MAC, address) belongs to the port.

use router_common::{
    maps::{Port, port_flags},
    reason::Reason,
};

use crate::{
    choose::host,
    classify::sender,
    frame::{Frame, Mac},
    ip::Ip,
};

/// Whether the packet may come from where it says, through this port.
#[inline(always)]
pub fn check<P: Ip>(frame: &Frame, port: &Port, packet: &P) -> Result<(), Reason> {
    if port.flags & port_flags::IP_FORWARDING != 0 {
        return Ok(());
    }
    if port.flags & port_flags::SOURCE_MAC != 0 && sender(frame) != Some(Mac::of(&port.source_mac))
    {
        return Err(Reason::SourceCheck);
    }
    if packet.source_is_of(port) || is_attached(port, packet) {
        Ok(())
    } else {
        Err(Reason::SourceCheck)
    }
}

/// Whether the source is a further address of the port.
#[inline(always)]
fn is_attached<P: Ip>(port: &Port, packet: &P) -> bool {
    if port.flags & port_flags::MORE_SOURCES == 0 {
        return false;
    }
    host(&packet.source_key(port.vnet)).is_some_and(|neighbor| neighbor.port == port.id)
}
