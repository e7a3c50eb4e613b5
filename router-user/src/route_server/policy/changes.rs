//! What a rule changes of a route.

use crate::{
    bgp::wire::{AsPath, NextHop, PathAttributes},
    config::{CommunityValue, RouteChanges},
};

/// The most ASNs of an AS path.
pub(super) const MOST_ASNS: usize = 1023;

/// Changes the attributes of a route to an IPv4 or an IPv6 prefix. A next hop is set where it is of
/// the prefix's own family; other routes keep theirs. `false`: the AS path would be too long.
pub(super) fn apply(changes: &RouteChanges, ipv4: bool, attributes: &mut PathAttributes) -> bool {
    let RouteChanges {
        as_path_replace,
        as_path_prepend,
        community_replace,
        community_remove,
        community_add,
        local_pref,
        med,
        // No attribute.
        weight: _,
        next_hop,
    } = changes;
    if let Some(asns) = as_path_replace {
        attributes.as_path = AsPath::sequence(asns.iter().copied());
    }
    if as_path_replace.is_some() || !as_path_prepend.is_empty() {
        let asns = attributes.as_path.asns().count() + as_path_prepend.len();
        if asns > MOST_ASNS {
            return false;
        }
    }
    for asn in as_path_prepend.iter().rev() {
        attributes.as_path.prepend(*asn, 1);
    }
    if let Some(communities) = community_replace {
        attributes.communities.clear();
        attributes.large_communities.clear();
        attributes.extended_communities.clear();
        add(communities, attributes);
    }
    for community in community_remove {
        match community {
            CommunityValue::Standard(value) => remove(&mut attributes.communities, value),
            CommunityValue::Large(value) => remove(&mut attributes.large_communities, value),
            CommunityValue::Extended(value) => remove(&mut attributes.extended_communities, value),
        }
    }
    add(community_add, attributes);
    attributes.local_pref = local_pref.or(attributes.local_pref);
    attributes.med = med.or(attributes.med);
    let next_hop = next_hop.filter(|_| !planted!(NextHopStays));
    if let Some(address) = next_hop.filter(|address| address.is_ipv4() == ipv4) {
        attributes.next_hop = Some(NextHop::from(address));
    }
    true
}

fn add(communities: &[CommunityValue], attributes: &mut PathAttributes) {
    for community in communities {
        match community {
            CommunityValue::Standard(value) => insert(&mut attributes.communities, *value),
            CommunityValue::Large(value) => insert(&mut attributes.large_communities, *value),
            CommunityValue::Extended(value) => insert(&mut attributes.extended_communities, *value),
        }
    }
}

/// Into a sorted list, unless it is there.
fn insert<T: Ord>(list: &mut Vec<T>, value: T) {
    if let Err(place) = list.binary_search(&value) {
        list.insert(place, value);
    }
}

fn remove<T: Ord>(list: &mut Vec<T>, value: &T) {
    if let Ok(place) = list.binary_search(value) {
        list.remove(place);
    }
}
