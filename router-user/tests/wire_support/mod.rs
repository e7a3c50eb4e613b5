//! What the tests of the codec share: UPDATEs put together by hand, contexts, and what comes out.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod attributes;
pub(crate) mod mrt;

use bytes::BytesMut;
use proptest::test_runner::Config;
use router_user::bgp::{
    RouteChange,
    wire::{
        Context, Family, FamilySet, MAX_LEN_EXTENDED, Message, Notification, Peering, Update,
        decode, frame,
    },
};

pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const TRANSITIVE: u8 = 0x40;
pub(crate) const PARTIAL: u8 = 0x20;
pub(crate) const EXTENDED_LENGTH: u8 = 0x10;

/// So many cases of each property, or what `WAYPOST_WIRE_CASES` says.
pub(crate) fn config(cases: u32) -> Config {
    let told = std::env::var("WAYPOST_WIRE_CASES");
    Config {
        cases: told
            .ok()
            .and_then(|told| told.parse().ok())
            .unwrap_or(cases),
        failure_persistence: None,
        ..Config::default()
    }
}

/// 10.0.0.0/8 in an NLRI or Withdrawn Routes field.
pub(crate) const TEN: &[u8] = &[8, 10];

/// Both families, 4-octet AS numbers, nothing else.
pub(crate) fn context(peering: Peering) -> Context {
    Context {
        peering,
        families: Family::ALL.into_iter().collect(),
        four_octet_asn: true,
        ..Context::default()
    }
}

pub(crate) fn ipv4_only() -> FamilySet {
    FamilySet::EMPTY.with(Family::Ipv4Unicast)
}

/// An attribute, its length in one octet unless the flags say two.
pub(crate) fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, code];
    if flags & EXTENDED_LENGTH != 0 {
        bytes.extend((value.len() as u16).to_be_bytes());
    } else {
        bytes.push(u8::try_from(value.len()).expect("short value"));
    }
    bytes.extend(value);
    bytes
}

/// An UPDATE of the three fields.
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend((19 + body.len() as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

pub(crate) fn decode_update<'a>(
    message: &'a [u8],
    context: &Context,
) -> Result<Update<'a>, Notification> {
    match decode(message, context)? {
        Message::Update(update) => Ok(update),
        other => panic!("not an UPDATE: {other:?}"),
    }
}

/// The changes of an UPDATE that must not reset the session.
pub(crate) fn changes(message: &[u8], context: &Context) -> Vec<RouteChange> {
    decode_update(message, context)
        .expect("no session reset")
        .into_changes()
}

/// The messages of a stream that ends with a whole one.
pub(crate) fn split(stream: &BytesMut) -> Vec<&[u8]> {
    let mut rest = &stream[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = frame(rest, MAX_LEN_EXTENDED)
            .expect("well-formed header")
            .expect("whole message");
        let (message, after) = rest.split_at(len);
        messages.push(message);
        rest = after;
    }
    messages
}
