//! OPEN: what we send, what we accept, and what both sides then agree on (RFC 4271 §6.2,
//! RFC 5492, RFC 6286).

use std::net::IpAddr;

use super::{Settings, error};
use crate::bgp::wire::{AS_TRANS, Capability, Family, Negotiated, Notification, Open};

/// Why the peer's OPEN is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) notification: Notification,
    pub(super) reason: String,
}

/// The OPEN that we send. Enhanced route refresh and graceful restart are announced by nobody who
/// does not honour them.
pub(super) fn ours(settings: &Settings) -> Open {
    let mut capabilities: Vec<_> = settings.families.iter().map(multiprotocol).collect();
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::FourOctetAsn(settings.local_asn));
    capabilities.push(Capability::ExtendedMessage);
    if settings.extended_next_hop {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    Open {
        asn: settings.local_asn,
        hold_time: settings.hold_time,
        router_id: settings.router_id,
        capabilities,
    }
}

/// Checks the peer's OPEN and works out the terms of the session.
pub(super) fn negotiate(
    settings: &Settings,
    theirs: &Open,
    local_address: IpAddr,
) -> Result<Negotiated, Refusal> {
    check_asn(settings, theirs)?;
    check_router_id(settings, theirs)?;
    check_hold_time(theirs)?;
    let families = common_families(settings, theirs)?;
    let has = |wanted: &Capability| theirs.capabilities.contains(wanted);
    Ok(Negotiated {
        local_asn: settings.local_asn,
        peer_asn: theirs.asn,
        local_router_id: settings.router_id,
        peer_router_id: theirs.router_id,
        local_address,
        hold_time: settings.hold_time.min(theirs.hold_time),
        families,
        four_octet_asn: announces_four_octets(theirs),
        route_refresh: has(&Capability::RouteRefresh),
        enhanced_route_refresh: false,
        extended_message: has(&Capability::ExtendedMessage),
        add_path_receive: Vec::new(),
        add_path_send: Vec::new(),
        extended_next_hop: settings.extended_next_hop && takes_ipv6_next_hops(theirs),
        graceful_restart: graceful_restart(theirs),
    })
}

/// Of two connections that collide, whether the one that we opened is kept: the speaker with the
/// higher identifier wins (RFC 4271 §6.8), or, if they are equal, with the higher ASN (RFC 6286
/// §2.3).
pub(super) fn ours_wins(negotiated: &Negotiated) -> bool {
    let ours = (negotiated.local_router_id, negotiated.local_asn);
    ours > (negotiated.peer_router_id, negotiated.peer_asn)
}

/// RFC 8950: NLRI of AFI 1, SAFI 1 with a next hop of AFI 2.
const IPV4_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);

fn check_asn(settings: &Settings, theirs: &Open) -> Result<(), Refusal> {
    if theirs.asn == settings.peer_asn && theirs.asn != 0 {
        return Ok(());
    }
    let reason = match theirs.asn {
        0 => "OPEN: peer says ASN 0, which nobody may have (RFC 7607): correct the peer's \
              configuration"
            .to_owned(),
        AS_TRANS if !announces_four_octets(theirs) => format!(
            "OPEN: peer says ASN {AS_TRANS} (AS_TRANS) without the capability for 4-octet ASNs, \
             the configuration says {}: enable 4-octet ASNs on the peer",
            settings.peer_asn
        ),
        asn => format!(
            "OPEN: peer says ASN {asn}, the configuration says {}: correct asn of peer or the \
             peer's own configuration",
            settings.peer_asn
        ),
    };
    Err(refuse(error::BAD_PEER_AS, Vec::new(), reason))
}

fn check_router_id(settings: &Settings, theirs: &Open) -> Result<(), Refusal> {
    let reason = if theirs.router_id.is_unspecified() {
        "OPEN: peer says BGP identifier 0.0.0.0: set the peer's router id".to_owned()
    } else if theirs.router_id == settings.router_id && theirs.asn == settings.local_asn {
        format!(
            "OPEN: peer has BGP identifier {} and ASN {}, just like this instance: give one of \
             them another router id",
            theirs.router_id, theirs.asn
        )
    } else {
        return Ok(());
    };
    Err(refuse(error::BAD_IDENTIFIER, Vec::new(), reason))
}

fn check_hold_time(theirs: &Open) -> Result<(), Refusal> {
    if !matches!(theirs.hold_time, 1 | 2) {
        return Ok(());
    }
    let reason = format!(
        "OPEN: peer offers a hold time of {} s: set it to 0 or at least 3 s on the peer",
        theirs.hold_time
    );
    Err(refuse(error::BAD_HOLD_TIME, Vec::new(), reason))
}

/// Families that both announce. A speaker without multiprotocol capabilities means IPv4 unicast
/// (RFC 4760 §8).
fn common_families(settings: &Settings, theirs: &Open) -> Result<Vec<Family>, Refusal> {
    let is_multiprotocol = |c: &Capability| matches!(c, Capability::Multiprotocol { .. });
    let old = !theirs.capabilities.iter().any(is_multiprotocol);
    let common: Vec<_> = settings
        .families
        .iter()
        .filter(|family| match old {
            true => **family == Family::Ipv4Unicast,
            false => theirs.capabilities.contains(&multiprotocol(family)),
        })
        .copied()
        .collect();
    if common.is_empty() {
        let wanted = &settings.families;
        let reason = format!(
            "OPEN: peer announces none of the address families {wanted:?}: enable one of them on \
             the peer"
        );
        let data = wanted
            .iter()
            .flat_map(|f| encode(&multiprotocol(f)))
            .collect();
        return Err(refuse(error::UNSUPPORTED_CAPABILITY, data, reason));
    }
    Ok(common)
}

const fn multiprotocol(family: &Family) -> Capability {
    let afi = match family {
        Family::Ipv4Unicast => 1,
        Family::Ipv6Unicast => 2,
    };
    Capability::Multiprotocol { afi, safi: 1 }
}

/// A multiprotocol capability as in an OPEN: the data of 2/7 (RFC 5492 §5).
fn encode(capability: &Capability) -> Vec<u8> {
    let Capability::Multiprotocol { afi, safi } = capability else {
        return Vec::new();
    };
    let [high, low] = afi.to_be_bytes();
    vec![1, 4, high, low, 0, *safi]
}

fn announces_four_octets(theirs: &Open) -> bool {
    let is_four_octet = |c: &Capability| matches!(c, Capability::FourOctetAsn(_));
    theirs.capabilities.iter().any(is_four_octet)
}

fn takes_ipv6_next_hops(theirs: &Open) -> bool {
    theirs.capabilities.iter().any(
        |c| matches!(c, Capability::ExtendedNextHop(tuples) if tuples.contains(&IPV4_OVER_IPV6)),
    )
}

fn graceful_restart(theirs: &Open) -> Option<(u16, Vec<Family>)> {
    theirs.capabilities.iter().find_map(|capability| {
        let Capability::GracefulRestart {
            restart_time,
            families,
            ..
        } = capability
        else {
            return None;
        };
        let announced = |family: &Family| {
            let Capability::Multiprotocol { afi, safi } = multiprotocol(family) else {
                return false;
            };
            families.iter().any(|(a, s, _)| (*a, *s) == (afi, safi))
        };
        let families = Family::ALL.into_iter().filter(announced).collect();
        Some((*restart_time, families))
    })
}

fn refuse(subcode: u8, data: Vec<u8>, reason: String) -> Refusal {
    Refusal {
        notification: Notification {
            data,
            ..error(error::OPEN, subcode)
        },
        reason,
    }
}
