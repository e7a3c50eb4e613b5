//! The chain of two tables: the subnet's own and the learned one.

use router_common::{
    maps::{NO_TABLE, Port, RouteEntry, route_flags},
    reason::Reason,
};

use crate::ip::Ip;

/// The route that wins for the packet's destination.
#[inline(always)]
pub fn look_up<P: Ip>(port: &Port, packet: &P) -> Result<RouteEntry, Reason> {
    let own = packet.route(port.own_table);
    if port.learned_table == NO_TABLE {
        return own.ok_or(Reason::NoRoute);
    }
    if let Some(own) = own
        && own.flags & route_flags::OVERRIDING != 0
    {
        return Ok(own);
    }
    match (own, packet.route(port.learned_table)) {
        (Some(own), Some(learned)) if own.wins_over(&learned) => Ok(own),
        (_, Some(learned)) => Ok(learned),
        (Some(own), None) => Ok(own),
        (None, None) => Err(Reason::NoRoute),
    }
}
