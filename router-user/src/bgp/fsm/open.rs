//! OPEN: what we send, what we accept, and what both sides then agree on (RFC 4271 §6.2,
//! RFC 5492, RFC 6286).

use std::{net::IpAddr, time::Instant};

use super::Settings;
use crate::bgp::{
    settings::AddPath,
    wire::{AS_TRANS, Capability, Family, Negotiated, Notification, Open, Role},
};

/// Why the peer's OPEN is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) notification: Notification,
    pub(super) reason: String,
}

/// The OPEN that we send.
pub(super) fn ours(settings: &Settings, now: Instant) -> Open {
    let families = settings.families.iter().copied();
    let mut capabilities: Vec<_> = families.map(Capability::multiprotocol).collect();
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::EnhancedRouteRefresh);
    capabilities.push(Capability::FourOctetAsn(settings.local_asn));
    capabilities.push(Capability::ExtendedMessage);
    graceful_restart(settings, now, &mut capabilities);
    capabilities.extend(add_path(settings));
    if settings.extended_next_hop {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    // It is for other ASes only (RFC 9234 §4.1).
    let role = settings
        .role
        .filter(|_| settings.local_asn != settings.peer_asn);
    capabilities.extend(role.map(|settings| Capability::Role(settings.role.code())));
    Open {
        asn: settings.local_asn,
        hold_time: settings.hold_time,
        router_id: settings.router_id,
        capabilities,
    }
}

/// RFC 4724 §3, RFC 8538 §2, RFC 9494 §3.1: flags of graceful restart, and of its families.
const RESTARTED: u8 = 0b1000;
const NOTIFICATION: u8 = 0b0100;
const FORWARDING: u8 = 0x80;

fn graceful_restart(settings: &Settings, now: Instant, capabilities: &mut Vec<Capability>) {
    if !settings.restart.enabled {
        // FRR, for one, sends End-of-RIB only to those who announce this capability, and what an
        // earlier run left in the kernel waits for it. No families: nothing is kept (RFC 4724 §3).
        capabilities.push(Capability::GracefulRestart {
            flags: 0,
            restart_time: 0,
            families: Vec::new(),
        });
        return;
    }
    let restarted = match settings.restarted.is_restarting(now) {
        true => RESTARTED,
        false => 0,
    };
    let families = settings.families.iter().map(|&family| {
        let forwarding = match settings.restarted.preserved.contains(family) {
            true => FORWARDING,
            false => 0,
        };
        (family.afi(), family.safi(), forwarding)
    });
    let families: Vec<_> = families.collect();
    let stale_time = settings.restart.long_lived_stale_time;
    let long_lived = families
        .iter()
        .map(|&(afi, safi, flags)| (afi, safi, flags, stale_time))
        .collect();
    capabilities.push(Capability::GracefulRestart {
        flags: restarted | NOTIFICATION,
        restart_time: settings.restart.time,
        families,
    });
    if stale_time > 0 {
        capabilities.push(Capability::LongLivedGracefulRestart(long_lived));
    }
}

/// RFC 7911 §4: the same for all families.
fn add_path(settings: &Settings) -> Option<Capability> {
    let AddPath { receive, send } = settings.add_path;
    let send_receive = match (receive, send > 0) {
        (false, false) => return None,
        (true, false) => 1,
        (false, true) => 2,
        (true, true) => 3,
    };
    let families = settings.families.iter();
    let families = families.map(|family| (family.afi(), family.safi(), send_receive));
    Some(Capability::AddPath(families.collect()))
}

/// Checks the peer's OPEN and works out the terms of the session.
pub(super) fn negotiate(
    settings: &Settings,
    theirs: &Open,
    local_address: IpAddr,
    now: Instant,
) -> Result<Negotiated, Refusal> {
    check_asn(settings, theirs)?;
    check_router_id(settings, theirs)?;
    check_hold_time(theirs)?;
    let ours = ours(settings, now);
    check_role(&ours, theirs)?;
    check_strict_role(settings, theirs)?;
    let negotiated = Negotiated::new(&ours, theirs, local_address);
    check_families(&settings.families, &negotiated)?;
    Ok(negotiated)
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
        AS_TRANS if theirs.four_octet_asn().is_none() => format!(
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
    Err(Refusal {
        notification: Notification::bad_peer_as(),
        reason,
    })
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
    Err(Refusal {
        notification: Notification::bad_bgp_identifier(),
        reason,
    })
}

fn check_hold_time(theirs: &Open) -> Result<(), Refusal> {
    if !matches!(theirs.hold_time, 1 | 2) {
        return Ok(());
    }
    Err(Refusal {
        notification: Notification::unacceptable_hold_time(),
        reason: format!(
            "OPEN: peer offers a hold time of {} s: set it to 0 or at least 3 s on the peer",
            theirs.hold_time
        ),
    })
}

/// Where both announce a role to another AS, the two must fit (RFC 9234 §4.2).
pub(super) fn check_role(ours: &Open, theirs: &Open) -> Result<(), Refusal> {
    let mismatch = Role::mismatch(ours, theirs);
    let Some((ours, theirs)) = mismatch.filter(|_| ours.asn != theirs.asn) else {
        return Ok(());
    };
    let theirs = Role::from_code(theirs).map_or_else(
        || format!("that its role is number {theirs}"),
        |role| format!("that its role is {role}"),
    );
    Err(Refusal {
        notification: Notification::role_mismatch(),
        reason: format!(
            "OPEN: peer says {theirs}; ours is {ours}, to which only {} fits: correct the role of \
             one of them",
            ours.counterpart()
        ),
    })
}

/// In strict mode a peer in another AS must announce its role (RFC 9234 §4.2).
fn check_strict_role(settings: &Settings, theirs: &Open) -> Result<(), Refusal> {
    let strict = settings.role.filter(|settings| settings.strict);
    let Some(ours) = strict.filter(|_| settings.local_asn != theirs.asn) else {
        return Ok(());
    };
    if theirs.roles().next().is_some() {
        return Ok(());
    }
    Err(Refusal {
        notification: Notification::role_mismatch(),
        reason: format!(
            "OPEN: peer announces no role, and strict_role demands one: set its role to {}, or \
             leave strict_role out",
            ours.role.counterpart()
        ),
    })
}

fn check_families(ours: &[Family], negotiated: &Negotiated) -> Result<(), Refusal> {
    if !negotiated.families.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = ours.iter().map(ToString::to_string).collect();
    let wanted: Vec<_> = ours
        .iter()
        .copied()
        .map(Capability::multiprotocol)
        .collect();
    Err(Refusal {
        notification: Notification::unsupported_capability(&wanted),
        reason: format!(
            "OPEN: peer announces no address family in common with ours ({}): enable one of them \
             on the peer",
            names.join(", ")
        ),
    })
}
