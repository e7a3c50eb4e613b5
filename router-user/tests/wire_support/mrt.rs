//! Real data: the optional data folder, and just enough of MRT (RFC 6396, RFC 8050) to get at the
//! BGP messages and routes in its files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use router_user::bgp::wire::{Asn, Context, Family, FamilySet, Peering};

use super::{EXTENDED_LENGTH, OPTIONAL, context, update};

/// The decompressed file `mrt/NAME` of the data folder; says so where it is missing.
pub(crate) fn open(name: &str) -> Option<Box<dyn Read>> {
    let path = folder().join(name);
    let file = said(&path, File::open(&path))?;
    Some(Box::new(MultiGzDecoder::new(file)))
}

/// The names of all files of the folder; says so where it is missing.
pub(crate) fn names() -> Option<Vec<String>> {
    let folder = folder();
    let entries = said(&folder, fs::read_dir(&folder))?;
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    Some(
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect(),
    )
}

fn folder() -> PathBuf {
    std::env::var_os("WAYPOST_DATA")
        .map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
            PathBuf::from,
        )
        .join("mrt")
}

fn said<T>(path: &Path, result: io::Result<T>) -> Option<T> {
    match result {
        Ok(opened) => Some(opened),
        Err(error) => {
            let path = path.display();
            let text = format!("skipped: {path}: {error} (set WAYPOST_DATA)\n");
            // Past the test harness, which keeps to itself what macros print.
            let _ = io::stderr().write_all(text.as_bytes());
            None
        }
    }
}

/// A record of an MRT file.
#[derive(Debug)]
pub(crate) struct Record {
    /// UNIX time.
    pub(crate) seconds: u32,
    pub(crate) peer: IpAddr,
    pub(crate) asn: Asn,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// A message, header included, as the peer sent it.
    Message {
        bytes: Vec<u8>,
        four_octet_asn: bool,
    },
    /// The session went from one state to another.
    State(u16, u16),
    /// A route of a table.
    Route(Route),
}

/// A route of a table dump; with ADD-PATH (RFC 8050) or without.
#[derive(Debug)]
pub(crate) struct Route {
    /// `bgpdump`'s name for the kind of table.
    pub(crate) table: &'static str,
    pub(crate) four_octet_asn: bool,
    pub(crate) path_id: Option<u32>,
    pub(crate) family: Family,
    /// As in an NLRI field, without the path identifier.
    pub(crate) prefix: Vec<u8>,
    /// As the collector stored them.
    pub(crate) attributes: Vec<u8>,
}

impl Record {
    /// The UPDATE, and the session that it would have come over; `None`: no UPDATE. LOCAL_PREF
    /// makes the session an internal one.
    pub(crate) fn update(&self) -> Option<(Vec<u8>, Context)> {
        const UPDATE: u8 = 2;
        let (bytes, four_octet_asn, path_id) = match &self.body {
            Body::Message {
                bytes,
                four_octet_asn,
            } if bytes[18] == UPDATE => (bytes.clone(), *four_octet_asn, None),
            Body::Message { .. } | Body::State(..) => return None,
            Body::Route(route) => (route.update(), route.four_octet_asn, route.path_id),
        };
        let external = Context {
            four_octet_asn,
            extended_message: true,
            add_path_receive: Family::ALL
                .into_iter()
                .filter(|_| path_id.is_some())
                .collect::<FamilySet>(),
            ..context(Peering::External)
        };
        let has_local_pref = super::decode_update(&bytes, &external)
            .is_ok_and(|update| update.faults().iter().any(|fault| fault.attribute.0 == 5));
        let peering = if has_local_pref {
            Peering::Internal
        } else {
            Peering::External
        };
        Some((
            bytes,
            Context {
                peering,
                ..external
            },
        ))
    }
}

impl Route {
    /// Whether the collector stored the next hop of its IPv6 route.
    pub(crate) fn has_next_hop(&self) -> bool {
        self.family == Family::Ipv4Unicast || split(&self.attributes).iter().any(|a| a[1] == 14)
    }

    /// The UPDATE that announces it. MP_REACH_NLRI is stored as nothing but its next hop (RFC 6396
    /// §4.3.4), in full, or not at all.
    fn update(&self) -> Vec<u8> {
        let path_id = self.path_id.map(u32::to_be_bytes);
        let nlri = [path_id.as_ref().map_or(&[][..], |id| id), &self.prefix].concat();
        if self.family == Family::Ipv4Unicast {
            return update(&[], &self.attributes, &nlri);
        }
        let mut next_hop = [&[16][..], &[0; 16]].concat();
        let mut others = Vec::new();
        for attribute in split(&self.attributes) {
            let header = if attribute[0] & EXTENDED_LENGTH == 0 {
                3
            } else {
                4
            };
            match attribute[1] {
                14 => next_hop = stored_next_hop(&attribute[header..]).to_vec(),
                _ => others.extend(attribute),
            }
        }
        let value = [&[0, 2, 1][..], &next_hop, &[0], &nlri].concat();
        let reach = super::attribute(OPTIONAL | EXTENDED_LENGTH, 14, &value);
        update(&[], &[reach, others].concat(), &[])
    }
}

/// Length and address of the next hop of a stored MP_REACH_NLRI; some collectors store all of it.
fn stored_next_hop(value: &[u8]) -> &[u8] {
    match value {
        [0, _, _, next_hop @ ..] => &next_hop[..1 + usize::from(next_hop[0])],
        abbreviated => abbreviated,
    }
}

/// Well-formed attributes, each by itself.
fn split(mut attributes: &[u8]) -> Vec<&[u8]> {
    let mut split = Vec::new();
    while !attributes.is_empty() {
        let len = if attributes[0] & EXTENDED_LENGTH == 0 {
            3 + usize::from(attributes[2])
        } else {
            4 + usize::from(u16::from_be_bytes([attributes[2], attributes[3]]))
        };
        let (attribute, rest) = attributes.split_at(len);
        split.push(attribute);
        attributes = rest;
    }
    split
}

/// Hands each record of an MRT file to `each`, in order.
pub(crate) fn read(mut file: impl Read, mut each: impl FnMut(Record)) {
    let mut peers = Vec::new();
    while let Some((seconds, kind, subtype, record)) = next(&mut file) {
        let mut fields = Fields(&record);
        let mut give = |(peer, asn), body| {
            each(Record {
                seconds,
                peer,
                asn,
                body,
            });
        };
        match (kind, subtype) {
            (12, 1) => {
                let (peer, route) = table_dump(&mut fields);
                give(peer, Body::Route(route));
            }
            (13, 1) => peers = peer_index(&mut fields),
            (13, 2 | 4 | 8 | 10) => {
                for (peer, route) in table_dump_v2(&mut fields, subtype) {
                    give(peers[usize::from(peer)], Body::Route(route));
                }
            }
            (16 | 17, 0 | 1 | 4 | 5) => {
                if kind == 17 {
                    fields.u32();
                }
                let (peer, body) = bgp4mp(&mut fields, subtype);
                give(peer, body);
            }
            other => panic!("MRT record of unknown type {other:?}"),
        }
    }
}

/// Seconds, type, subtype and body; `None`: the file ends.
fn next(file: &mut impl Read) -> Option<(u32, u16, u16, Vec<u8>)> {
    let mut header = [0; 12];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
        Err(error) => panic!("{error}"),
    }
    let mut fields = Fields(&header);
    let (seconds, kind, subtype) = (fields.u32(), fields.u16(), fields.u16());
    let mut record = vec![0; fields.u32() as usize];
    file.read_exact(&mut record).expect("a whole record");
    Some((seconds, kind, subtype, record))
}

/// RFC 6396 §4.2.
fn table_dump(fields: &mut Fields<'_>) -> ((IpAddr, Asn), Route) {
    fields.bytes(4);
    let address = fields.bytes(4).to_vec();
    let bits = fields.u8();
    fields.bytes(5);
    let peer = (fields.address(false), fields.u16().into());
    let len = fields.u16();
    let route = Route {
        table: "TABLE_DUMP",
        four_octet_asn: false,
        path_id: None,
        family: Family::Ipv4Unicast,
        prefix: [&[bits], &address[..usize::from(bits.div_ceil(8))]].concat(),
        attributes: fields.bytes(len.into()).to_vec(),
    };
    (peer, route)
}

/// RFC 6396 §4.3.1.
fn peer_index(fields: &mut Fields<'_>) -> Vec<(IpAddr, Asn)> {
    fields.u32();
    let name = fields.u16();
    fields.bytes(name.into());
    (0..fields.u16())
        .map(|_| {
            let kind = fields.u8();
            fields.u32();
            let address = fields.address(kind & 1 != 0);
            let asn = if kind & 2 != 0 {
                fields.u32()
            } else {
                fields.u16().into()
            };
            (address, asn)
        })
        .collect()
}

/// RFC 6396 §4.3.2, RFC 8050 §4.1: each entry with the index of its peer.
fn table_dump_v2(fields: &mut Fields<'_>, subtype: u16) -> Vec<(u16, Route)> {
    let add_path = subtype >= 8;
    let family = if matches!(subtype, 2 | 8) {
        Family::Ipv4Unicast
    } else {
        Family::Ipv6Unicast
    };
    fields.u32();
    let bits = fields.u8();
    let prefix = [&[bits], fields.bytes(bits.div_ceil(8).into())].concat();
    (0..fields.u16())
        .map(|_| {
            let peer = fields.u16();
            fields.u32();
            let path_id = add_path.then(|| fields.u32());
            let len = fields.u16();
            let route = Route {
                table: if add_path {
                    "TABLE_DUMP2_AP"
                } else {
                    "TABLE_DUMP2"
                },
                four_octet_asn: true,
                path_id,
                family,
                prefix: prefix.clone(),
                attributes: fields.bytes(len.into()).to_vec(),
            };
            (peer, route)
        })
        .collect()
}

/// RFC 6396 §4.4.
fn bgp4mp(fields: &mut Fields<'_>, subtype: u16) -> ((IpAddr, Asn), Body) {
    let four_octet_asn = matches!(subtype, 4 | 5);
    let asn = if four_octet_asn {
        let asn = fields.u32();
        fields.u32();
        asn
    } else {
        let asn = fields.u16().into();
        fields.u16();
        asn
    };
    fields.u16();
    let ipv6 = fields.u16() == 2;
    let peer = fields.address(ipv6);
    fields.address(ipv6);
    let body = if matches!(subtype, 0 | 5) {
        Body::State(fields.u16(), fields.u16())
    } else {
        Body::Message {
            bytes: fields.0.to_vec(),
            four_octet_asn,
        }
    };
    ((peer, asn), body)
}

/// The bytes of a record that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().expect("as many as asked for")
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn address(&mut self, ipv6: bool) -> IpAddr {
        if ipv6 {
            Ipv6Addr::from(self.array::<16>()).into()
        } else {
            Ipv4Addr::from(self.array::<4>()).into()
        }
    }
}
