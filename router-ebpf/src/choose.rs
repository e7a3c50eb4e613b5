//! From a route to the neighbour that its packets go to: group, bucket, next hop.

use core::ptr;

use router_common::{
    maps::{Bucket, Group, HostKey, NO_PORT, NONE, Neighbor, NextHop, RouteEntry, next_hop_kind},
    reason::Reason,
};

use crate::{
    flow,
    frame::Frame,
    ip::Ip,
    ipv6::words,
    maps::{BUCKETS, GROUPS, HOSTS, NEIGHBORS, NEXT_HOPS},
};

/// Where a packet goes.
pub enum Way {
    /// To the gateway host.
    Host,
    /// To a neighbour on a local link, by the next hop of this number.
    Neighbor(u32, &'static Neighbor),
}

/// Follows the route for this packet's flow.
#[inline(always)]
pub fn choose<P: Ip>(frame: &Frame, packet: &P, route: &RouteEntry) -> Result<Way, Reason> {
    let group = group(route.group).ok_or(Reason::Internal)?;
    let place = match group.mask {
        0 => group.first_bucket,
        mask => group
            .first_bucket
            .wrapping_add(flow::hash(frame, packet) & mask),
    };
    let bucket = bucket(place).ok_or(Reason::Internal)?;
    let (number, next_hop) = alive(bucket)?;
    // SAFETY: elements of an array stay where they are; each field is one aligned word that the
    // daemon writes while this is read.
    let (kind, neighbor) = unsafe {
        (
            (&raw const (*next_hop).kind).read_volatile(),
            (&raw const (*next_hop).neighbor).read_volatile(),
        )
    };
    let place = match kind {
        next_hop_kind::VIA => neighbor,
        next_hop_kind::ATTACHED => {
            let host = host(&packet.destination_key(neighbor)).ok_or(Reason::NoHost)?;
            if host.port == NO_PORT {
                return Ok(Way::Host);
            }
            return Ok(Way::Neighbor(number, host));
        }
        next_hop_kind::HOST => return Ok(Way::Host),
        next_hop_kind::DISCARD => return Err(Reason::Discard),
        next_hop_kind::NO_UPLINK => return Err(Reason::NoUplink),
        next_hop_kind::BLACKHOLE => return Err(Reason::Blackhole),
        _ => return Err(Reason::Internal),
    };
    if place == NONE {
        return Err(Reason::Unresolved);
    }
    let neighbor = NEIGHBORS.get(place).ok_or(Reason::Internal)?;
    Ok(Way::Neighbor(number, neighbor))
}

/// An attached host.
///
/// The kernel may give the element of a host that is removed at this very moment to another one:
/// then the neighbour that it leads to is not the one that was asked for.
#[inline(always)]
pub fn host(key: &HostKey) -> Option<&'static Neighbor> {
    // SAFETY: the value is one aligned word, read once.
    let place = unsafe { HOSTS.get(key) }?;
    let neighbor = NEIGHBORS.get(*place)?;
    let asked = neighbor.vnet == key.vnet && words(&neighbor.address) == words(&key.address);
    asked.then_some(neighbor)
}

/// The bucket's next hop that is not down.
#[inline(always)]
fn alive(bucket: Bucket) -> Result<(u32, *const NextHop), Reason> {
    let primary = NEXT_HOPS.get_ptr(bucket.primary).ok_or(Reason::Internal)?;
    if !is_down(primary) {
        return Ok((bucket.primary, primary));
    }
    if bucket.backup == NONE {
        return Err(Reason::NextHopDown);
    }
    let backup = NEXT_HOPS.get_ptr(bucket.backup).ok_or(Reason::Internal)?;
    if is_down(backup) {
        return Err(Reason::NextHopDown);
    }
    Ok((bucket.backup, backup))
}

#[inline(always)]
fn is_down(next_hop: *const NextHop) -> bool {
    // SAFETY: elements of an array stay where they are; the field is one aligned word.
    unsafe { (&raw const (*next_hop).down).read_volatile() != 0 }
}

#[inline(always)]
fn group(number: u32) -> Option<Group> {
    if number == NONE {
        return None;
    }
    GROUPS
        .get_ptr(number)
        .map(|group| Group::from_word(word(group)))
}

#[inline(always)]
fn bucket(place: u32) -> Option<Bucket> {
    BUCKETS
        .get_ptr(place)
        .map(|bucket| Bucket::from_word(word(bucket)))
}

/// Reads what the daemon replaces in one write in one read.
#[inline(always)]
fn word<T>(element: *const T) -> u64 {
    const { assert!(size_of::<T>() == 8 && align_of::<T>() == 8) };
    // SAFETY: elements of an array stay where they are; aligned and as large as a word.
    unsafe { ptr::read_volatile(element.cast::<u64>()) }
}
