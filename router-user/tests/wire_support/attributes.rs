//! One well-formed UPDATE with every attribute that the codec knows and prefixes in every field,
//! on each kind of session; what RFC 7606 says of each attribute; and what is left of the UPDATE
//! once one of them is faulty.

use std::net::Ipv4Addr;

use router_user::bgp::{
    RouteChange,
    wire::{
        AS_TRANS, Aggregator, AsPath, AttributeCode, Context, Disposition, NextHop, Origin,
        PathAttributes, Peering, UnknownAttribute,
    },
};

use super::{EXTENDED_LENGTH, OPTIONAL, TRANSITIVE, context, decode_update, update};

/// What becomes of an UPDATE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Outcome {
    /// Nothing is wrong.
    Accepted,
    /// The attribute is gone, the routes stay.
    Discarded,
    /// The routes are treated as withdrawn.
    Withdrawn,
    /// UPDATE message error with this subcode; whether the data is the attribute.
    Reset(u8, bool),
}

use Outcome::{Accepted, Discarded, Reset, Withdrawn};

/// What the RFCs say of an attribute.
pub(crate) struct Rule {
    pub(crate) code: u8,
    pub(crate) flags: u8,
    /// Of a malformed value, on sessions where the attribute belongs.
    pub(crate) malformed: Outcome,
    /// The value in the well-formed UPDATE.
    pub(crate) value: &'static [u8],
    /// The value on sessions with 2-octet AS numbers, where it is another one.
    pub(crate) two_octet: Option<&'static [u8]>,
    /// Whether the value may have this length; the flag: 4-octet AS numbers.
    pub(crate) length: fn(usize, bool) -> bool,
}

pub(crate) const ORIGIN: u8 = 1;
pub(crate) const AS_PATH: u8 = 2;
pub(crate) const NEXT_HOP: u8 = 3;
pub(crate) const LOCAL_PREF: u8 = 5;
pub(crate) const MP_REACH: u8 = 14;
pub(crate) const MP_UNREACH: u8 = 15;
pub(crate) const AS4_PATH: u8 = 17;
/// Nobody knows it.
pub(crate) const UNKNOWN_TRANSITIVE: u8 = 200;
/// Nobody knows it either.
pub(crate) const UNKNOWN_NON_TRANSITIVE: u8 = 201;

const WELL_KNOWN: u8 = TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;

/// All attributes, MP_REACH_NLRI and MP_UNREACH_NLRI first (RFC 7606 §5.1).
#[rustfmt::skip]
pub(crate) const RULES: [Rule; 19] = [
    rule(MP_REACH, OPTIONAL, Reset(9, true), &[
        0, 2, 1, 16, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 32, 0xfd, 0, 0, 2,
    ], |_, _| true),
    rule(MP_UNREACH, OPTIONAL, Reset(9, true), &[0, 2, 1, 8, 0xfd], |_, _| true),
    rule(ORIGIN, WELL_KNOWN, Withdrawn, &[2], |len, _| len == 1),
    Rule {
        two_octet: Some(&[2, 2, 0x5b, 0xa0, 0xfd, 0xf2]),
        ..rule(AS_PATH, WELL_KNOWN, Withdrawn, &[2, 2, 0, 1, 0, 0, 0, 0, 0xfd, 0xf2],
            |len, four_octet| len == 0 || is_segment(len, four_octet))
    },
    rule(NEXT_HOP, WELL_KNOWN, Withdrawn, &[10, 1, 10, 4], |len, _| len == 4),
    rule(4, OPTIONAL, Withdrawn, &[0, 0, 0, 50], |len, _| len == 4),
    rule(LOCAL_PREF, WELL_KNOWN, Withdrawn, &[0, 0, 0, 200], |len, _| len == 4),
    rule(6, WELL_KNOWN, Discarded, &[], |len, _| len == 0),
    Rule {
        two_octet: Some(&[0x5b, 0xa0, 1, 1, 1, 1]),
        ..rule(7, OPTIONAL_TRANSITIVE, Discarded, &[0, 1, 0, 0, 1, 1, 1, 1],
            |len, four_octet| len == if four_octet { 8 } else { 6 })
    },
    rule(8, OPTIONAL_TRANSITIVE, Withdrawn, &[0, 1, 0, 2], |len, _| is_list(len, 4)),
    rule(9, OPTIONAL, Withdrawn, &[2, 2, 2, 2], |len, _| len == 4),
    rule(10, OPTIONAL, Withdrawn, &[3, 3, 3, 3], |len, _| is_list(len, 4)),
    rule(16, OPTIONAL_TRANSITIVE, Withdrawn, &[0, 2, 0, 1, 0, 0, 0, 7], |len, _| is_list(len, 8)),
    rule(AS4_PATH, OPTIONAL_TRANSITIVE, Discarded, &[2, 2, 0, 1, 0, 0, 0, 0, 0xfd, 0xf2],
        |len, _| is_segment(len, true)),
    rule(18, OPTIONAL_TRANSITIVE, Discarded, &[0, 1, 0, 0, 1, 1, 1, 1], |len, _| len == 8),
    rule(32, OPTIONAL_TRANSITIVE, Withdrawn, &[1; 12], |len, _| is_list(len, 12)),
    rule(35, OPTIONAL_TRANSITIVE, Withdrawn, &[0, 0, 0xfd, 0xf2], |len, _| len == 4),
    rule(UNKNOWN_TRANSITIVE, OPTIONAL_TRANSITIVE, Accepted, &[9, 9], |_, _| true),
    rule(UNKNOWN_NON_TRANSITIVE, OPTIONAL, Accepted, &[9], |_, _| true),
];

const fn rule(
    code: u8,
    flags: u8,
    malformed: Outcome,
    value: &'static [u8],
    length: fn(usize, bool) -> bool,
) -> Rule {
    Rule {
        code,
        flags,
        malformed,
        value,
        two_octet: None,
        length,
    }
}

/// One segment with at least one AS number.
const fn is_segment(len: usize, four_octet: bool) -> bool {
    let octets = if four_octet { 4 } else { 2 };
    len > 2 && (len - 2).is_multiple_of(octets)
}

const fn is_list(len: usize, member: usize) -> bool {
    len > 0 && len.is_multiple_of(member)
}

impl Rule {
    pub(crate) fn is_known(&self) -> bool {
        ![UNKNOWN_TRANSITIVE, UNKNOWN_NON_TRANSITIVE].contains(&self.code)
    }

    pub(crate) fn carries_routes(&self) -> bool {
        [MP_REACH, MP_UNREACH].contains(&self.code)
    }

    /// Whether peers of this kind must not send it: it is discarded, come what may.
    pub(crate) fn unwanted(&self, context: &Context) -> bool {
        match self.code {
            LOCAL_PREF | 9 | 10 => context.peering == Peering::External,
            AS4_PATH | 18 => context.four_octet_asn,
            _ => false,
        }
    }

    /// What becomes of an UPDATE where only its value is malformed.
    pub(crate) fn malformed(&self, context: &Context) -> Outcome {
        if self.unwanted(context) {
            Discarded
        } else {
            self.malformed
        }
    }

    pub(crate) fn good_value(&self, context: &Context) -> &'static [u8] {
        self.two_octet
            .filter(|_| !context.four_octet_asn)
            .unwrap_or(self.value)
    }

    pub(crate) fn good(&self, context: &Context) -> Vec<u8> {
        encoded(self.flags, self.code, self.good_value(context))
    }

    pub(crate) fn name(&self) -> String {
        AttributeCode(self.code).to_string()
    }
}

/// An attribute, its length in two octets if it must be or the flags say so.
pub(crate) fn encoded(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let long = if value.len() > 255 {
        EXTENDED_LENGTH
    } else {
        0
    };
    super::attribute(flags | long, code, value)
}

/// eBGP and iBGP, with 4-octet AS numbers and without.
pub(crate) fn sessions() -> Vec<Context> {
    let mut sessions = Vec::new();
    for peering in [Peering::External, Peering::Internal] {
        for four_octet_asn in [true, false] {
            sessions.push(Context {
                four_octet_asn,
                ..context(peering)
            });
        }
    }
    sessions
}

/// The well-formed attributes of a session, in order, each with its code.
pub(crate) fn well_formed(context: &Context) -> Vec<(u8, Vec<u8>)> {
    RULES
        .iter()
        .filter(|rule| !rule.unwanted(context))
        .map(|rule| (rule.code, rule.good(context)))
        .collect()
}

/// The well-formed attributes with `bytes` in the place of those of type `code`, or at the end.
pub(crate) fn replaced(context: &Context, code: u8, bytes: &[u8]) -> Vec<u8> {
    let mut attributes = well_formed(context);
    match attributes.iter_mut().find(|(other, _)| *other == code) {
        Some((_, place)) => *place = bytes.to_vec(),
        None => attributes.push((code, bytes.to_vec())),
    }
    joined(&attributes)
}

pub(crate) fn joined(attributes: &[(u8, Vec<u8>)]) -> Vec<u8> {
    attributes
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect()
}

/// An UPDATE with these attributes that withdraws and announces in the plain fields too.
pub(crate) fn whole(attributes: &[u8]) -> Vec<u8> {
    update(&[16, 10, 1], attributes, &[8, 10, 16, 11, 1])
}

const WITHDRAWN: [&str; 2] = ["10.1.0.0/16", "fd00::/8"];
const PLAIN: [&str; 2] = ["10.0.0.0/8", "11.1.0.0/16"];
const MULTIPROTOCOL: [&str; 1] = ["fd00:2::/32"];

/// What the well-formed UPDATE says of its IPv4 routes.
fn expected(context: &Context) -> PathAttributes {
    let internal = context.peering == Peering::Internal;
    PathAttributes {
        origin: Origin::Incomplete,
        as_path: AsPath::sequence([65536, 65010]),
        next_hop: Some(NextHop::V4(Ipv4Addr::new(10, 1, 10, 4))),
        med: Some(50),
        local_pref: internal.then_some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 65536,
            id: Ipv4Addr::new(1, 1, 1, 1),
        }),
        communities: vec![0x0001_0002],
        extended_communities: vec![[0, 2, 0, 1, 0, 0, 0, 7]],
        large_communities: vec![[0x0101_0101; 3]],
        originator_id: internal.then_some(Ipv4Addr::new(2, 2, 2, 2)),
        cluster_list: Vec::from_iter(internal.then_some(Ipv4Addr::new(3, 3, 3, 3))),
        only_to_customer: Some(65010),
        unknown: vec![UnknownAttribute {
            flags: OPTIONAL | TRANSITIVE,
            code: UNKNOWN_TRANSITIVE,
            value: [9, 9].into(),
        }],
    }
}

/// The attributes without what `code` says, or with what it leaves in force.
fn without(code: u8, attributes: &PathAttributes) -> PathAttributes {
    let mut left = attributes.clone();
    match code {
        ORIGIN => left.origin = Origin::default(),
        AS_PATH => left.as_path = AsPath::default(),
        NEXT_HOP => left.next_hop = None,
        4 => left.med = None,
        LOCAL_PREF => left.local_pref = None,
        6 => left.atomic_aggregate = false,
        7 => left.aggregator = None,
        8 => left.communities.clear(),
        9 => left.originator_id = None,
        10 => left.cluster_list.clear(),
        16 => left.extended_communities.clear(),
        AS4_PATH => left.as_path = AsPath::sequence([AS_TRANS, 65010]),
        18 => {
            left.aggregator = left.aggregator.map(|aggregator| Aggregator {
                asn: AS_TRANS,
                ..aggregator
            });
        }
        32 => left.large_communities.clear(),
        35 => left.only_to_customer = None,
        _ => left.unknown.retain(|unknown| unknown.code != code),
    }
    left
}

/// What the attribute says where the routes stay.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value {
    /// As in the well-formed UPDATE.
    Same,
    /// Nothing: it is gone.
    Gone,
    /// Whatever; the others are as in the well-formed UPDATE.
    Other,
}

/// Judges `message`, a [`whole`] UPDATE on a session of this kind whose attribute `code` is
/// faulty: the outcome, its reason, and that all the rest is as in the well-formed UPDATE.
pub(crate) fn judge(
    message: &[u8],
    context: &Context,
    code: u8,
    outcome: Outcome,
    value: Value,
    what: &str,
) {
    let name = AttributeCode(code).to_string();
    let what = format!(
        "{name}, {what}, {:?}, 4-octet {}: {message:02x?}",
        context.peering, context.four_octet_asn
    );
    let decoded = match (decode_update(message, context), outcome) {
        (Err(notification), Reset(subcode, quotes)) => {
            assert_eq!(
                (notification.code, notification.subcode),
                (3, subcode),
                "{what}"
            );
            assert_eq!(!notification.data.is_empty(), quotes, "{what}");
            if quotes {
                let quoted = &notification.data[..];
                assert_eq!(quoted[1], code, "{what}");
                assert!(
                    message.windows(quoted.len()).any(|part| part == quoted),
                    "{what}"
                );
            }
            return;
        }
        (Err(notification), _) => panic!("{what}: {notification}"),
        (Ok(_), Reset(..)) => panic!("{what}: no session reset"),
        (Ok(decoded), _) => decoded,
    };
    let faults = decoded.faults();
    let worst = faults.iter().map(|fault| fault.disposition).max();
    let expected_worst = match outcome {
        Discarded => Some(Disposition::AttributeDiscard),
        Withdrawn => Some(Disposition::TreatAsWithdraw),
        _ => None,
    };
    assert_eq!(worst, expected_worst, "{what}: {faults:?}");
    if let Some(disposition) = expected_worst {
        let first = faults.iter().find(|fault| fault.disposition == disposition);
        assert_eq!(first.map(|fault| fault.attribute.0), Some(code), "{what}");
    }
    let changes = decoded.into_changes();
    let (withdrawn, announced) = routes(&changes);
    if outcome == Withdrawn {
        assert_eq!(
            withdrawn,
            [&WITHDRAWN[..], &PLAIN, &MULTIPROTOCOL].concat(),
            "{what}"
        );
        assert!(announced.is_empty(), "{what}");
        for change in &changes[1..] {
            let RouteChange::Withdraw {
                malformed: Some(reason),
                ..
            } = change
            else {
                panic!("{what}: {change:?}");
            };
            assert!(reason.starts_with(&name), "{what}: {reason}");
        }
        return;
    }
    assert_eq!(withdrawn, WITHDRAWN, "{what}");
    let [(plain, plain_nlri), (multiprotocol, multiprotocol_nlri)] = &announced[..] else {
        panic!("{what}: {announced:?}");
    };
    assert_eq!(
        (&plain_nlri[..], &multiprotocol_nlri[..]),
        (
            &PLAIN.map(String::from)[..],
            &MULTIPROTOCOL.map(String::from)[..]
        ),
        "{what}"
    );
    let expected = expected(context);
    let plain = PathAttributes::clone(plain);
    match value {
        Value::Same => assert_eq!(plain, expected, "{what}"),
        Value::Gone => assert_eq!(plain, without(code, &expected), "{what}"),
        Value::Other => assert_eq!(without(code, &plain), without(code, &expected), "{what}"),
    }
    let next_hop = Some(NextHop::V6 {
        global: [0xfd00, 1, 0, 0, 0, 0, 0, 4].into(),
        link_local: None,
    });
    assert_eq!(
        **multiprotocol,
        PathAttributes { next_hop, ..plain },
        "{what}"
    );
}

/// All prefixes withdrawn, for whatever reason, and those announced with their attributes.
fn routes(changes: &[RouteChange]) -> (Vec<String>, Vec<(&PathAttributes, Vec<String>)>) {
    let mut withdrawn = Vec::new();
    let mut announced = Vec::new();
    for change in changes {
        let texts = |nlri: &[router_user::bgp::wire::Nlri]| -> Vec<String> {
            nlri.iter().map(|nlri| nlri.prefix.to_string()).collect()
        };
        match change {
            RouteChange::Withdraw { nlri, .. } => withdrawn.extend(texts(nlri)),
            RouteChange::Announce { attributes, nlri } => {
                announced.push((&**attributes, texts(nlri)));
            }
            RouteChange::EndOfRib(family) => panic!("End-of-RIB of {family}"),
        }
    }
    (withdrawn, announced)
}
