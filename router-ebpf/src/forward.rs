//! The way of a packet from its parsed header to the device map.

use router_common::{
    maps::{Neighbor, Port},
    reason::Reason,
};

use crate::{
    choose::{Way, choose},
    classify::sender,
    complete::complete,
    counters,
    frame::{ETHERNET, Frame, Mac, Window},
    ip::Ip,
    look_up::look_up,
    maps::DEV_MAP,
    restricted, source,
    verdict::Verdict,
};

/// Forwards a packet.
///
/// The host's own packets are known by their route, and pass before the source check; so the
/// routes come first, and what they say of other packets counts only after the checks.
#[inline(always)]
pub fn forward<P: Ip>(frame: &Frame, port: &'static Port, packet: P) -> Result<(), Verdict> {
    let way = match look_up(port, &packet) {
        Ok(route) => choose(frame, &packet, &route),
        Err(reason) => Err(reason),
    };
    if let Ok(Way::Host) = way {
        return Err(Verdict::ToHost);
    }
    source::check(frame, port, &packet)?;
    if packet.hop_limit() <= 1 {
        return Err(Verdict::HopLimit);
    }
    let Way::Neighbor(next_hop, neighbor) = way? else {
        return Err(Verdict::ToHost);
    };
    restricted::check(frame, port, neighbor)?;
    if neighbor.port == port.id && sender(frame) == Some(Mac::of(&neighbor.mac)) {
        return Err(Reason::Hairpin.into());
    }
    if packet.length() > neighbor.mtu {
        return Err(if packet.may_not_be_fragmented() {
            Verdict::Mtu(neighbor.mtu)
        } else {
            Verdict::Dropped(Reason::TooBig)
        });
    }
    complete(frame, &packet);
    packet.hop();
    rewrite(frame, neighbor)?;
    // A port that vanished is no longer in the device map.
    DEV_MAP
        .redirect(neighbor.port, 0)
        .map_err(|_| Reason::NextHopDown)?;
    counters::forwarded(next_hop, ETHERNET + packet.length());
    Ok(())
}

/// Writes the MAC addresses of the next link.
#[inline(always)]
fn rewrite(frame: &Frame, neighbor: &Neighbor) -> Result<(), Reason> {
    let header: Window<12> = frame.fixed::<0, 12>().ok_or(Reason::Truncated)?;
    let (to, from) = (Mac::of(&neighbor.mac), Mac::of(&neighbor.port_mac));
    header.store32::<0>(to.first);
    header.store16::<4>(to.last);
    header.store32::<6>(from.first);
    header.store16::<10>(from.last);
    Ok(())
}
