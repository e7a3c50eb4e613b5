//! What captured packets say that BGP sessions were told: routes announced and withdrawn.
//!
//! In: TCP segments as seen at a speaker, from a moment at which nothing was under way. Out: for each
//! direction of a connection the routes of its UPDATEs, in order. Reads both families, AS numbers of
//! four octets and no path identifiers, which is what the scenarios agree on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::lab::{Packet, packet::protocol};

/// TCP port of BGP.
const BGP: u16 = 179;

/// A route that an UPDATE announced or withdrew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Prefix.
    pub prefix: IpNet,
    /// `None`: withdrawn.
    pub route: Option<Announced>,
}

/// How a route was announced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced {
    /// AS path, ASNs separated by blanks.
    pub as_path: String,
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MED.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities as Waypost writes them: `65535:0`, `large:1:2:3`, `ext:0x…`.
    pub communities: BTreeSet<String>,
}

/// What all BGP speakers at these addresses told, by their address.
///
/// # Errors
/// A connection began or lost segments meanwhile, or what it holds are no BGP messages.
pub fn told_by(packets: &[Packet], speakers: &[IpAddr]) -> Result<BTreeMap<IpAddr, Vec<Told>>> {
    let mut streams: BTreeMap<(IpAddr, (u16, u16)), Stream> = BTreeMap::new();
    for packet in packets {
        let ports = packet.ports().filter(|_| packet.protocol == protocol::TCP);
        let Some(ports) = ports.filter(|(from, to)| *from == BGP || *to == BGP) else {
            continue;
        };
        if speakers.contains(&packet.source) {
            let stream = streams.entry((packet.source, ports)).or_default();
            stream.take(&packet.payload)?;
        }
    }
    let mut told: BTreeMap<IpAddr, Vec<Told>> = BTreeMap::new();
    for ((speaker, _), stream) in streams {
        told.entry(speaker).or_default().extend(stream.routes()?);
    }
    Ok(told)
}

/// The bytes of one direction of a connection.
#[derive(Default)]
struct Stream {
    next: Option<u32>,
    bytes: Vec<u8>,
}

impl Stream {
    /// Takes a segment, header and all.
    fn take(&mut self, segment: &[u8]) -> Result<()> {
        let header = segment.get(..20).context("a TCP header")?;
        let number = u32::from_be_bytes(header[4..8].try_into()?);
        let syn = header[13] & 2 != 0;
        let data = segment
            .get(usize::from(header[12] >> 4) * 4..)
            .context("TCP options")?;
        if syn {
            self.next = Some(number.wrapping_add(1));
            return Ok(());
        }
        let expected = *self.next.get_or_insert(number);
        let ahead = number.wrapping_sub(expected).cast_signed();
        if data.is_empty() || ahead < 0 {
            // Nothing, or sent a second time.
            return Ok(());
        }
        ensure!(
            ahead == 0,
            "{ahead} bytes of a connection were not captured"
        );
        self.bytes.extend(data);
        self.next = Some(expected.wrapping_add(u32::try_from(data.len())?));
        Ok(())
    }

    fn routes(&self) -> Result<Vec<Told>> {
        const UPDATE: u8 = 2;
        let mut routes = Vec::new();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let header = rest.get(..19).context("a BGP header")?;
            ensure!(header[..16] == [0xff; 16], "no marker");
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            let message = rest.get(19..length).context("a whole BGP message")?;
            if header[18] == UPDATE {
                read_update(message, &mut routes).context("an UPDATE")?;
            }
            rest = &rest[length..];
        }
        Ok(routes)
    }
}

/// Reads RFC 4271 §4.3 and RFC 4760 §3, §4. End-of-RIB tells nothing.
fn read_update(message: &[u8], routes: &mut Vec<Told>) -> Option<()> {
    let (withdrawn, rest) = counted(message)?;
    let (mut attributes, announced) = counted(rest)?;
    let mut path = String::new();
    let (mut origin, mut communities) = (String::new(), BTreeSet::new());
    let (mut next_hop, mut med, mut local_pref) = (None, None, None);
    let mut reached = Vec::new();
    let withdraw = |prefix| Told {
        prefix,
        route: None,
    };
    routes.extend(prefixes(withdrawn, false)?.into_iter().map(withdraw));
    while let [flags, kind, rest @ ..] = attributes {
        let (value, rest) = match flags & 0x10 {
            0 => {
                let (length, rest) = rest.split_first()?;
                rest.split_at_checked(usize::from(*length))?
            }
            _ => counted(rest)?,
        };
        attributes = rest;
        match kind {
            1 => {
                let words = ["igp", "egp", "incomplete"];
                let word = words.get(usize::from(*value.first()?))?;
                origin = (*word).to_owned();
            }
            2 => path = as_path(value)?,
            3 => {
                let octets = <[u8; 4]>::try_from(value).ok()?;
                next_hop = Some(IpAddr::from(octets));
            }
            4 => med = Some(u32::from_be_bytes(value.try_into().ok()?)),
            5 => local_pref = Some(u32::from_be_bytes(value.try_into().ok()?)),
            8 => {
                communities.extend(value.chunks_exact(4).map(|octets| {
                    let [high, low] = [&octets[..2], &octets[2..]].map(number);
                    format!("{high}:{low}")
                }));
            }
            16 => {
                let eights = value.chunks_exact(8);
                communities.extend(eights.map(|octets| format!("ext:0x{:016x}", number(octets))));
            }
            32 => {
                communities.extend(value.chunks_exact(12).map(|octets| {
                    let parts: Vec<String> = octets
                        .chunks_exact(4)
                        .map(|part| number(part).to_string())
                        .collect();
                    format!("large:{}", parts.join(":"))
                }));
            }
            14 => {
                let is_v6 = value.get(..2)? == [0, 2];
                let (next, rest) = value.get(4..)?.split_at_checked(usize::from(value[3]))?;
                let address = next.get(..16).and_then(|octets| octets.try_into().ok());
                let address = address.map(|octets: [u8; 16]| Ipv6Addr::from(octets).into());
                reached.push((prefixes(rest.get(1..)?, is_v6)?, address?));
            }
            15 => {
                let is_v6 = value.get(..2)? == [0, 2];
                let gone = prefixes(value.get(3..)?, is_v6)?;
                routes.extend(gone.into_iter().map(withdraw));
            }
            _ => {}
        }
    }
    if !announced.is_empty() {
        reached.push((prefixes(announced, false)?, next_hop?));
    }
    for (prefixes, next_hop) in reached {
        routes.extend(prefixes.into_iter().map(|prefix| Told {
            prefix,
            route: Some(Announced {
                as_path: path.clone(),
                next_hop,
                origin: origin.clone(),
                med,
                local_pref,
                communities: communities.clone(),
            }),
        }));
    }
    Some(())
}

/// What has two octets of length before it, and the rest.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Octets, the most significant one first.
fn number(octets: &[u8]) -> u64 {
    let add = |number: u64, octet: &u8| number << 8 | u64::from(*octet);
    octets.iter().fold(0, add)
}

fn as_path(mut bytes: &[u8]) -> Option<String> {
    let mut words = Vec::new();
    while let [_, count, rest @ ..] = bytes {
        let (segment, rest) = rest.split_at_checked(usize::from(*count) * 4)?;
        let numbers = segment.chunks_exact(4);
        words
            .extend(numbers.filter_map(|octets| Some(u32::from_be_bytes(octets.try_into().ok()?))));
        bytes = rest;
    }
    let words: Vec<String> = words.iter().map(u32::to_string).collect();
    Some(words.join(" "))
}

fn prefixes(mut bytes: &[u8], is_v6: bool) -> Option<Vec<IpNet>> {
    let mut prefixes = Vec::new();
    while let [length, rest @ ..] = bytes {
        let (octets, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        let mut address = [0; 16];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let address: IpAddr = match is_v6 {
            true => Ipv6Addr::from(address).into(),
            false => Ipv4Addr::from(<[u8; 4]>::try_from(&address[..4]).ok()?).into(),
        };
        prefixes.push(IpNet::new(address, *length).ok()?);
        bytes = rest;
    }
    Some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_both_families_are_read_and_segments_sent_twice_count_once() -> Result<()> {
        let body: &[u8] = &[
            0, 2, 8, 9, // withdrawn: 9.0.0.0/8
            0, 0, // length of the attributes, see below
            0x40, 1, 1, 0, // ORIGIN
            0x40, 2, 10, 2, 2, 0, 0, 0xff, 0xeb, 0, 0, 0xfd, 0xf2, // AS_PATH
            0x40, 3, 4, 10, 1, 255, 4, // NEXT_HOP
            0x80, 4, 4, 0, 0, 0, 7, // MED
            0x40, 5, 4, 0, 0, 0, 200, // LOCAL_PREF
            0xc0, 8, 4, 0xff, 0xff, 0, 0, // COMMUNITIES
            0xc0, 16, 8, 0, 2, 0xfd, 0xe8, 0, 0, 0, 100, // EXTENDED COMMUNITIES
            0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, // LARGE_COMMUNITY
            0x90, 14, 0, 28, 0, 2, 1, 16, // MP_REACH_NLRI
            0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 48, 0xfd, 0, 2, 0x50, 0, 0,
            0, // next: two octets are missing
        ];
        let mut message = vec![0xff; 16];
        // The last octet above is cut off; NLRI 10.3.0.0/16 follows.
        let body = [&body[..body.len() - 1], &[16, 10, 3]].concat();
        let attributes = body.len() - 4 - 2 - 3;
        let mut body = body;
        body[5] = u8::try_from(attributes)?;
        message.extend(u16::try_from(19 + body.len())?.to_be_bytes());
        message.push(2);
        message.extend(&body);
        let segment = |number: u32, data: &[u8]| {
            let mut segment = vec![0; 20];
            segment[4..8].copy_from_slice(&number.to_be_bytes());
            segment[12] = 0x50;
            segment.extend(data);
            segment
        };
        let mut stream = Stream::default();
        stream.take(&segment(7, &message[..30]))?;
        stream.take(&segment(7, &message[..30]))?;
        stream.take(&segment(37, &message[30..]))?;
        let told: Vec<String> = stream
            .routes()?
            .iter()
            .map(|told| match &told.route {
                None => format!("-{}", told.prefix),
                Some(route) => format!(
                    "{} {} {} {} {:?} {:?} {:?}",
                    told.prefix,
                    route.as_path,
                    route.next_hop,
                    route.origin,
                    route.med,
                    route.local_pref,
                    route.communities,
                ),
            })
            .collect();
        let rest =
            "igp Some(7) Some(200) {\"65535:0\", \"ext:0x0002fde800000064\", \"large:1:2:3\"}";
        assert_eq!(
            told,
            [
                "-9.0.0.0/8".to_owned(),
                format!("fd00:250::/48 65515 65010 fd00:1::4 {rest}"),
                format!("10.3.0.0/16 65515 65010 10.1.255.4 {rest}"),
            ]
        );
        assert!(stream.take(&segment(1 << 20, &message)).is_err(), "a gap");
        Ok(())
    }
}
