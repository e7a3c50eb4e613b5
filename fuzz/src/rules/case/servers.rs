//! Route servers, their peers, and the settings of both.

use std::{collections::BTreeMap, net::IpAddr};

use arbitrary::{Result, Unstructured};

use super::{
    super::model::{
        Instance, Kind, Maps, Peer, Policy, Preference, RouteMap, Server, Session, State,
    },
    maps::MAPS,
    networks::{GATEWAYS, NVAS, hosts},
    scope,
};
use crate::pick;

pub(super) fn server(bytes: &mut Unstructured<'_>, network: usize) -> Result<Server> {
    let asn = pick(bytes, &[65515, 65515, 64499])?;
    let v6 = bytes.ratio(3, 4)?;
    let instances = [4, 5].map(|host| Instance {
        router_id: 0x0a00_0000 | (network as u32) << 8 | u32::from(host),
        addresses: hosts(network, 255, host)[..1 + usize::from(v6)].into(),
    });
    let mut peers = Vec::new();
    for number in 0..bytes.int_in_range(2..=4)? {
        let asn = pick(bytes, &[65010, 65010, 65020, 64496, 4_200_000_001])?;
        peers.push(peer(
            bytes,
            Kind::Nva,
            number,
            hosts(network, NVAS, 4 + number)[0],
            asn,
        )?);
    }
    if scope::GATEWAYS {
        // Gateway, kind, address: two ExpressRoute gateways and two for VPN, with a member or two.
        for (number, kind, host) in [
            (10, Kind::ExpressRoute, 4),
            (10, Kind::ExpressRoute, 5),
            (11, Kind::ExpressRoute, 6),
            (12, Kind::Vpn, 8),
            (12, Kind::Vpn, 9),
            (13, Kind::Vpn, 10),
        ] {
            if bytes.arbitrary()? {
                let known = peers
                    .iter()
                    .find(|peer: &&Peer| peer.gateway == usize::from(number));
                let theirs = match known.map(|peer| peer.asn) {
                    Some(asn) => asn,
                    None => pick(bytes, &[asn, asn, 65100, 64497, 65010])?,
                };
                let place = hosts(network, GATEWAYS, host)[0];
                peers.push(peer(bytes, kind, number, place, theirs)?);
            }
        }
    }
    Ok(Server {
        network,
        asn,
        instances,
        cluster_id: 0x0a00_00ff,
        reflect: true,
        branch_to_branch: bytes.arbitrary()?,
        preference: Preference::ExpressRoute,
        always_compare_med: false,
        max_paths: 8,
        peers,
        route_maps: vec![RouteMap::default(); MAPS],
        maps_of_kind: BTreeMap::new(),
        statics: BTreeMap::new(),
        advertised: BTreeMap::new(),
    })
}

fn peer(
    bytes: &mut Unstructured<'_>,
    kind: Kind,
    gateway: u8,
    address: IpAddr,
    asn: u32,
) -> Result<Peer> {
    Ok(Peer {
        configured: true,
        kind,
        gateway: gateway.into(),
        address,
        asn,
        // Sometimes the same.
        router_id: pick(bytes, &[0x0a0a_0001, 0x0a0a_0002, 0x0a0a_0003])?,
        policy: Policy {
            allow_own_as: 0,
            enforce_first_as: true,
            max_as_path_length: 255,
            as_override: false,
            transparent: false,
            remove_private_as: false,
            allow_blackhole: false,
            default_originate: false,
        },
        maps: Maps::default(),
        sessions: [Session::default(), Session::default()],
    })
}

pub(super) fn setting(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let place = bytes.choose_index(state.servers.len())?;
    let server = &mut state.servers[place];
    match bytes.arbitrary::<u8>()? % 6 {
        0 => server.reflect = !server.reflect,
        1 | 2 => server.branch_to_branch = !server.branch_to_branch,
        3 => {
            server.preference = pick(
                bytes,
                &[
                    Preference::ExpressRoute,
                    Preference::VpnGateway,
                    Preference::AsPath,
                ],
            )?;
        }
        4 if scope::POLICIES => server.always_compare_med = !server.always_compare_med,
        _ => server.max_paths = pick(bytes, &[1, 2, 8])?,
    }
    Ok(())
}

pub(super) fn policy(bytes: &mut Unstructured<'_>, policy: &mut Policy) -> Result<()> {
    match bytes.arbitrary::<u8>()? % 8 {
        0 => policy.allow_own_as = pick(bytes, &[0, 1, 2])?,
        1 => policy.enforce_first_as = !policy.enforce_first_as,
        2 => policy.max_as_path_length = pick(bytes, &[2, 255])?,
        3 => policy.as_override = !policy.as_override,
        4 => policy.transparent = !policy.transparent,
        5 if scope::POLICIES => policy.allow_blackhole = !policy.allow_blackhole,
        6 if scope::CUSTOM_ROUTES => policy.default_originate = !policy.default_originate,
        7 if scope::POLICIES => policy.remove_private_as = !policy.remove_private_as,
        _ => {}
    }
    // What comes of both is said nowhere: the route server's own ASN may be a private one.
    policy.remove_private_as &= !policy.as_override;
    Ok(())
}
