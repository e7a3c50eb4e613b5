//! What peers announce.

use std::{collections::BTreeSet, net::IpAddr};

use arbitrary::{Result, Unstructured};

use super::{
    super::model::{Kind, LARGE_COMMUNITY, Peer, Prefix, Route, Server, SessionKey, State},
    networks::{GATEWAYS, NVAS, address, hosts},
};
use crate::pick;

pub(super) fn session(bytes: &mut Unstructured<'_>, state: &State) -> Result<SessionKey> {
    pick(bytes, &state.sessions())
}

pub(super) fn prefix(bytes: &mut Unstructured<'_>, state: &State) -> Result<Prefix> {
    const OTHERS: [&str; 16] = [
        "0.0.0.0/0",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "192.168.7.0/24",
        "198.18.0.0/15",
        "198.18.7.0/24",
        "198.18.7.1/32",
        "2001:db8:7::/48",
        "2001:db8:7:1::/64",
        "10.1.7.0/24",
        "10.2.1.0/24",
        "fd00:1:0:7::/64",
    ];
    let own = state.networks.iter().flat_map(|network| &network.prefixes);
    let own: BTreeSet<_> = own.copied().collect();
    if bytes.ratio(1, 5)? {
        let own: Vec<_> = own.into_iter().collect();
        return pick(bytes, &own);
    }
    Ok(Prefix::read(pick(bytes, &OTHERS)?))
}

pub(super) fn route(
    bytes: &mut Unstructured<'_>,
    state: &State,
    key: SessionKey,
    prefix: Prefix,
) -> Result<Route> {
    const COMMUNITIES: [u32; 10] = [
        0xfde8_0001,
        0xfde8_0002,
        LARGE_COMMUNITY | 1,
        LARGE_COMMUNITY | 2,
        // BLACKHOLE, GRACEFUL_SHUTDOWN, LLGR_STALE, NO_EXPORT, NO_ADVERTISE.
        0xffff_029a,
        0xffff_029a,
        0xffff_0000,
        0xffff_0006,
        0xffff_ff01,
        0xffff_ff02,
    ];
    let server = &state.servers[key.server];
    let peer = state.peer(key);
    let internal = peer.asn == server.asn;
    // One in three has nothing that would tell it from others, but a MED now and then.
    let plain = bytes.ratio(1, 3)?;
    let flags: u8 = if plain { 0xf0 } else { bytes.arbitrary()? };
    let mut as_path = Vec::new();
    if !internal && flags & 0xf0 != 0 {
        as_path.push(peer.asn);
    }
    for _ in 0..flags & 3 {
        let asns = [
            64600,
            64601,
            64496,
            65010,
            65020,
            65515,
            server.asn,
            4_200_000_001,
        ];
        as_path.push(pick(bytes, &asns)?);
    }
    let mut communities = BTreeSet::new();
    if flags & 12 == 12 {
        communities.insert(pick(bytes, &COMMUNITIES)?);
        communities.insert(pick(bytes, &COMMUNITIES)?);
    }
    let mut route = Route {
        next_hop: next_hop(bytes, server, peer, prefix)?,
        as_path,
        origin: if plain {
            0
        } else {
            pick(bytes, &[0, 0, 0, 1, 2])?
        },
        med: if plain && !bytes.ratio(1, 4)? {
            None
        } else {
            pick(bytes, &[None, None, Some(0), Some(10), Some(20)])?
        },
        local_pref: None,
        communities,
        originator: None,
        clusters: Vec::new(),
    };
    if internal {
        route.local_pref = Some(if plain {
            100
        } else {
            pick(bytes, &[100, 100, 50, 200])?
        });
        if bytes.ratio(3, 4)? {
            route.originator = Some(pick(bytes, &[0x0a0a_0000, 0x0a0a_0009])?);
            let cluster = pick(bytes, &[1, 2, 3, 4, 6, 7, server.cluster_id])?;
            route.clusters = vec![cluster, 5][..bytes.int_in_range(1..=2)?].into();
        }
    }
    Ok(route)
}

fn next_hop(
    bytes: &mut Unstructured<'_>,
    server: &Server,
    peer: &Peer,
    prefix: Prefix,
) -> Result<IpAddr> {
    let family = usize::from(prefix.address.is_ipv6());
    let here = server.network;
    let place = server
        .peers
        .iter()
        .position(|other| other.address == peer.address);
    let number = place.expect("a peer of the route server") as u8;
    let subnet = if peer.kind == Kind::Nva {
        NVAS
    } else {
        GATEWAYS
    };
    let own = if family == 0 {
        peer.address
    } else {
        hosts(here, subnet, 100 + number)[1]
    };
    Ok(match bytes.arbitrary::<u8>()? % 20 {
        0..=9 => own,
        // A load balancer, another appliance.
        10 | 11 => hosts(here, NVAS, 50)[family],
        12 | 13 => hosts(here, NVAS, 4)[family],
        // In other networks.
        14 | 15 => hosts(1, NVAS, 4)[family],
        16 => hosts(2, NVAS, 5)[family],
        17 if bytes.arbitrary()? => hosts(1, NVAS, 1)[family],
        17 => address(["192.0.2.1", "2001:db8::1"][family]),
        // No next hops.
        18 => hosts(here, 255, 5)[family],
        _ => {
            let odd = [
                [
                    hosts(here, NVAS, 1)[0],
                    address("127.0.0.1"),
                    address("224.0.0.5"),
                    address("0.0.0.0"),
                ],
                [
                    hosts(here, NVAS, 1)[1],
                    address("::1"),
                    address("ff02::5"),
                    address("::"),
                ],
            ];
            pick(bytes, &odd[family])?
        }
    })
}
