//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760): routes of any family, with their next hop.

use super::{
    super::{Context, Family, FaultKind, cursor::Cursor, nlri::Prefixes},
    NextHop,
};

/// MP_REACH_NLRI of a family that is exchanged.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Reach<'a> {
    pub(in super::super) next_hop: NextHop,
    pub(in super::super) prefixes: Prefixes<'a>,
}

/// `None`: a family that is not exchanged, to be ignored. Faults leave the prefixes unknown, so
/// that nothing short of a session reset will do (RFC 7606 §5.3, §7.11).
pub(super) fn parse_reach<'a>(
    value: &'a [u8],
    context: &Context,
) -> Result<Option<Reach<'a>>, FaultKind> {
    let too_short = FaultKind::Length {
        found: value.len(),
        expected: "long enough for its next hop",
    };
    let mut cursor = Cursor::new(value);
    let (Some(afi), Some(safi), Some(len)) = (cursor.u16(), cursor.u8(), cursor.u8()) else {
        return Err(too_short);
    };
    let (Some(next_hop), Some(_reserved)) = (cursor.bytes(len.into()), cursor.u8()) else {
        return Err(too_short);
    };
    let Some(family) = exchanged(afi, safi, context) else {
        return Ok(None);
    };
    let next_hop = NextHop::parse(next_hop)
        .filter(|next_hop| fits(family, *next_hop, context))
        .ok_or(FaultKind::NextHopLength(len))?;
    let add_path = context.add_path_receive.contains(family);
    let prefixes = Prefixes::parse(cursor.rest(), family, add_path)?;
    Ok(Some(Reach { next_hop, prefixes }))
}

/// `None`: a family that is not exchanged, to be ignored.
pub(super) fn parse_unreach<'a>(
    value: &'a [u8],
    context: &Context,
) -> Result<Option<Prefixes<'a>>, FaultKind> {
    let mut cursor = Cursor::new(value);
    let (Some(afi), Some(safi)) = (cursor.u16(), cursor.u8()) else {
        return Err(FaultKind::Length {
            found: value.len(),
            expected: "3 or more",
        });
    };
    let Some(family) = exchanged(afi, safi, context) else {
        return Ok(None);
    };
    let add_path = context.add_path_receive.contains(family);
    Ok(Some(Prefixes::parse(cursor.rest(), family, add_path)?))
}

fn exchanged(afi: u16, safi: u8, context: &Context) -> Option<Family> {
    Family::from_identifiers(afi, safi).filter(|family| context.families.contains(*family))
}

/// Whether routes of `family` may have such a next hop in MP_REACH_NLRI.
pub(in super::super) const fn fits(family: Family, next_hop: NextHop, context: &Context) -> bool {
    match (family, next_hop) {
        (Family::Ipv4Unicast, NextHop::V4(_)) | (Family::Ipv6Unicast, NextHop::V6 { .. }) => true,
        (Family::Ipv4Unicast, NextHop::V6 { .. }) => context.extended_next_hop,
        (Family::Ipv6Unicast, NextHop::V4(_)) => false,
    }
}
