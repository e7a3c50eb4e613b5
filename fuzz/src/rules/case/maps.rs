//! Route maps, and routes given by hand.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};

use super::{
    super::model::{
        Advertised, AsPath, Changes, Kind, LARGE_COMMUNITY, Match, Prefix, Rule, Source, State,
    },
    networks::{NVAS, hosts},
    paths::prefix,
    scope,
};
use crate::pick;

/// Route maps of each route server.
pub(super) const MAPS: usize = 3;

/// A rule or two of a route map, or where a map applies.
pub(super) fn route_map(
    bytes: &mut Unstructured<'_>,
    state: &mut State,
    contested: &[Prefix],
) -> Result<()> {
    let place = bytes.choose_index(state.servers.len())?;
    let map = bytes.choose_index(MAPS)?;
    if bytes.arbitrary()? {
        let some = bytes.arbitrary::<bool>()?.then_some(map);
        let server = &mut state.servers[place];
        let maps = if bytes.arbitrary()? {
            let peer = bytes.choose_index(server.peers.len())?;
            &mut server.peers[peer].maps
        } else {
            server
                .maps_of_kind
                .entry(pick(bytes, &Kind::ALL)?)
                .or_default()
        };
        if bytes.arbitrary()? {
            maps.inbound = some;
        } else {
            // Only the first map has weights, which mean nothing outbound.
            maps.outbound = some.filter(|map| *map != 0);
        }
    } else {
        for _ in 0..bytes.int_in_range(1..=2)? {
            let rule = rule(bytes, state, place, map == 0, contested)?;
            let rules = &mut state.servers[place].route_maps[map].0;
            if rules.len() == 3 {
                rules.clear();
            }
            rules.push(rule);
        }
    }
    Ok(())
}

fn rule(
    bytes: &mut Unstructured<'_>,
    state: &State,
    place: usize,
    weights: bool,
    contested: &[Prefix],
) -> Result<Rule> {
    let server = &state.servers[place];
    let flags: u16 = bytes.arbitrary()?;
    let has = |bit: u16| flags >> bit & 1 != 0;
    let listed = |any: u16, two: u16| usize::from(has(any)) * (1 + usize::from(has(two)));
    let mut matches = Match::default();
    // Now and then two of a list, of which one has to fit.
    for _ in 0..listed(0, 8) {
        let prefix = match bytes.arbitrary()? {
            true => pick(bytes, contested)?,
            false => prefix(bytes, state)?,
        };
        let widest = if prefix.address.is_ipv4() { 32 } else { 128 };
        let (shortest, longest) = pick(
            bytes,
            &[
                (prefix.len, prefix.len),
                (prefix.len, widest),
                (prefix.len.max(16), 24.max(prefix.len)),
            ],
        )?;
        matches
            .prefixes
            .push((prefix, shortest, longest.max(shortest)));
    }
    for _ in 0..listed(1, 9) * usize::from(has(2)) {
        const SOME: [u32; 4] = [0xfde8_0001, 0xfde8_0002, 0xffff_0000, LARGE_COMMUNITY | 1];
        matches.communities.push(pick(bytes, &SOME)?);
    }
    for _ in 0..listed(1, 10) * usize::from(has(3)) {
        let peer = bytes.choose_index(server.peers.len())?;
        let asn = server.peers[peer].asn;
        matches.as_paths.push(match bytes.arbitrary()? {
            true => AsPath::Contains(pick(bytes, &[64600, 64601, asn])?),
            false => AsPath::Exact(vec![asn]),
        });
    }
    for _ in 0..listed(4, 11) {
        matches.sources.push(match bytes.arbitrary::<u8>()? % 8 {
            0 if scope::CUSTOM_ROUTES => Source::Static,
            1 => Source::Originated,
            2..=4 => Source::Kind(pick(bytes, &Kind::ALL)?),
            _ => Source::Peer(bytes.choose_index(server.peers.len())?),
        });
    }
    if has(5) && has(6) {
        return Ok(Rule {
            matches,
            permit: None,
            continues: false,
        });
    }
    let is_ipv4 = |(prefix, ..): &(Prefix, u8, u8)| prefix.address.is_ipv4();
    let mut changes = Changes::default();
    match bytes.arbitrary::<u8>()? % 12 {
        0 => changes.as_path_replace = Some(vec![64700]),
        1 | 2 => changes.as_path_prepend = vec![64701, 64702],
        3 => {
            let some = [0xfde8_0003, LARGE_COMMUNITY | 3];
            changes.community_replace = Some([pick(bytes, &some)?].into());
        }
        4 => {
            changes.community_remove = [0xfde8_0001, 0xffff_0000, LARGE_COMMUNITY | 1].into();
        }
        5 => {
            let some = [0xfde8_0001, 0xfde8_0004, LARGE_COMMUNITY | 1];
            changes.community_add = [pick(bytes, &some)?].into();
        }
        6 => changes.local_pref = Some(pick(bytes, &[50, 150, 200])?),
        7 => changes.med = Some(pick(bytes, &[0, 5, 15])?),
        // IPv4 prefixes only.
        8 if has(0) && matches.prefixes.iter().all(is_ipv4) => {
            changes.next_hop = Some(hosts(server.network, NVAS, 51)[0]);
        }
        _ if weights => changes.weight = Some(pick(bytes, &[2, 3])?),
        _ => {}
    }
    Ok(Rule {
        matches,
        permit: Some(changes),
        continues: has(7),
    })
}

/// A static route, or one advertised by hand.
pub(super) fn by_hand(bytes: &mut Unstructured<'_>, state: &mut State) -> Result<()> {
    let place = bytes.choose_index(state.servers.len())?;
    let of_learned = bytes.arbitrary()?;
    // Not a prefix that is originated anyway.
    let prefix = Prefix::read(pick(
        bytes,
        &[
            "198.18.0.0/15",
            "198.18.7.0/24",
            "192.168.7.0/24",
            "2001:db8:7::/48",
        ],
    )?);
    let family = usize::from(prefix.address.is_ipv6());
    let server = &mut state.servers[place];
    let home = server.network;
    let hop = |number: u8| hosts(home, NVAS, number)[family];
    if of_learned {
        let next_hops = match bytes.arbitrary::<u8>()? % 4 {
            0 => vec![],
            1 => vec![hop(4)],
            2 => vec![hop(50), hop(51)],
            _ => vec![hosts(1, NVAS, 4)[family]],
        };
        server.statics.remove(&prefix);
        if !next_hops.is_empty() {
            server
                .statics
                .insert(prefix, next_hops.into_iter().collect());
        }
    } else {
        let bits: u8 = bytes.arbitrary()?;
        let chosen = |kind: &Kind| bits >> *kind as u8 & 1 != 0;
        let to: BTreeSet<_> = Kind::ALL.into_iter().filter(chosen).collect();
        let mut to_peers = BTreeSet::new();
        if bits & 64 != 0 {
            to_peers.insert(bytes.choose_index(server.peers.len())?);
        }
        server.advertised.remove(&prefix);
        if !to.is_empty() || !to_peers.is_empty() {
            let advertised = Advertised {
                to,
                to_peers,
                next_hop: (bits & 8 != 0).then(|| hop(50)),
                med: (bits & 16 != 0).then_some(7),
                communities: match bits & 32 {
                    0 => BTreeSet::new(),
                    _ => [0xfde8_0001, LARGE_COMMUNITY | 1].into(),
                },
            };
            server.advertised.insert(prefix, advertised);
        }
    }
    Ok(())
}
