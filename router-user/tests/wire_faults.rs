//! RFC 7606: every attribute with every fault, from external and internal peers, and what becomes
//! of the UPDATE.

mod wire_support;

use router_user::bgp::{
    RouteChange,
    wire::{AttributeCode, Context, Disposition, Peering},
};
use wire_support::{
    OPTIONAL, PARTIAL, TEN, TRANSITIVE, attribute, changes, context, decode_update, ipv4_only,
    update,
};

/// What becomes of an UPDATE.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outcome {
    /// Nothing is wrong.
    Accepted,
    /// The attribute is gone, the route stays.
    Discarded,
    /// The route is treated as withdrawn.
    Withdrawn,
    /// UPDATE message error with this subcode.
    Reset(u8),
}

use Outcome::{Accepted, Discarded, Reset, Withdrawn};

const EXTERNAL: Peering = Peering::External;
const INTERNAL: Peering = Peering::Internal;

#[test]
fn rfc7606_7_each_malformed_value_has_the_outcome_of_its_attribute() {
    let long = [1; 40];
    // (code, flags, value, from an external peer, from an internal peer, the reason)
    type Row<'a> = (u8, u8, &'a [u8], Outcome, Outcome, &'a str);
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        // §7.1
        (1, 0x40, &[], Withdrawn, Withdrawn, "ORIGIN: 0 bytes long, must be 1"),
        (1, 0x40, &[0, 0], Withdrawn, Withdrawn, "ORIGIN: 2 bytes long, must be 1"),
        (1, 0x40, &[3], Withdrawn, Withdrawn, "ORIGIN: value 3 is not 0, 1 or 2"),
        // §7.2
        (2, 0x40, &[], Accepted, Accepted, ""),
        (2, 0x40, &[0, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 0"),
        (2, 0x40, &[5, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 5"),
        (2, 0x40, &[2, 0], Withdrawn, Withdrawn, "AS_PATH: segment without AS numbers"),
        (2, 0x40, &[2], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (2, 0x40, &[2, 2, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (2, 0x40, &[2, 1, 0, 0, 0, 1, 2], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        // §7.3
        (3, 0x40, &[], Withdrawn, Withdrawn, "NEXT_HOP: 0 bytes long, must be 4"),
        (3, 0x40, &[1; 3], Withdrawn, Withdrawn, "NEXT_HOP: 3 bytes long, must be 4"),
        (3, 0x40, &[1; 16], Withdrawn, Withdrawn, "NEXT_HOP: 16 bytes long, must be 4"),
        // §7.4
        (4, 0x80, &[], Withdrawn, Withdrawn, "MULTI_EXIT_DISC: 0 bytes long, must be 4"),
        (4, 0x80, &[1; 3], Withdrawn, Withdrawn, "MULTI_EXIT_DISC: 3 bytes long, must be 4"),
        (4, 0x80, &[1; 5], Withdrawn, Withdrawn, "MULTI_EXIT_DISC: 5 bytes long, must be 4"),
        // §7.5
        (5, 0x40, &[1; 4], Discarded, Accepted, "LOCAL_PREF: not accepted from an eBGP peer"),
        (5, 0x40, &[], Discarded, Withdrawn, "LOCAL_PREF: "),
        (5, 0x40, &[1; 5], Discarded, Withdrawn, "LOCAL_PREF: "),
        // §7.6
        (6, 0x40, &[], Accepted, Accepted, ""),
        (6, 0x40, &[0], Discarded, Discarded, "ATOMIC_AGGREGATE: 1 bytes long, must be 0"),
        // §7.7, RFC 7607
        (7, 0xc0, &[0, 0, 0, 1, 1, 1, 1, 1], Accepted, Accepted, ""),
        (7, 0xc0, &[0, 1, 1, 1, 1, 1], Discarded, Discarded, "AGGREGATOR: 6 bytes long, must be 8"),
        (7, 0xc0, &[1; 9], Discarded, Discarded, "AGGREGATOR: 9 bytes long, must be 8"),
        (7, 0xc0, &[], Discarded, Discarded, "AGGREGATOR: 0 bytes long, must be 8"),
        (7, 0xc0, &[0, 0, 0, 0, 1, 1, 1, 1], Discarded, Discarded, "AGGREGATOR: names AS 0"),
        // §7.8
        (8, 0xc0, &[], Withdrawn, Withdrawn, "COMMUNITIES: 0 bytes long, must be a multiple of 4 above 0"),
        (8, 0xc0, &[1; 6], Withdrawn, Withdrawn, "COMMUNITIES: 6 bytes long, must be a multiple of 4 above 0"),
        // §7.9
        (9, 0x80, &[1; 4], Discarded, Accepted, "ORIGINATOR_ID: not accepted from an eBGP peer"),
        (9, 0x80, &[], Discarded, Withdrawn, "ORIGINATOR_ID: "),
        (9, 0x80, &[1; 8], Discarded, Withdrawn, "ORIGINATOR_ID: "),
        // §7.10
        (10, 0x80, &[1; 8], Discarded, Accepted, "CLUSTER_LIST: not accepted from an eBGP peer"),
        (10, 0x80, &[], Discarded, Withdrawn, "CLUSTER_LIST: "),
        (10, 0x80, &[1; 7], Discarded, Withdrawn, "CLUSTER_LIST: "),
        // §7.11, §5.3
        (14, 0x80, &[], Reset(5), Reset(5), ""),
        (14, 0x80, &[0, 2, 1], Reset(5), Reset(5), ""),
        (14, 0x80, &[0, 2, 1, 200, 1, 0], Reset(5), Reset(5), ""),
        (14, 0x80, &[0, 2, 1, 0, 0], Reset(9), Reset(9), ""),
        (14, 0x80, &[0, 2, 1, 4, 1, 1, 1, 1, 0], Reset(9), Reset(9), ""),
        (14, 0x80, &[0, 1, 1, 3, 1, 1, 1, 0], Reset(9), Reset(9), ""),
        (14, 0x80, &[0, 1, 1, 4, 1, 1, 1, 1, 0, 33, 1, 1, 1, 1, 1], Reset(9), Reset(9), ""),
        (14, 0x80, &[0, 1, 1, 4, 1, 1, 1, 1, 0, 24, 1, 1], Reset(9), Reset(9), ""),
        // §7.12, §5.3
        (15, 0x80, &[], Reset(5), Reset(5), ""),
        (15, 0x80, &[0, 2], Reset(5), Reset(5), ""),
        (15, 0x80, &[0, 2, 1, 129], Reset(9), Reset(9), ""),
        (15, 0x80, &[0, 2, 1, 16, 1], Reset(9), Reset(9), ""),
        // §7.14
        (16, 0xc0, &[], Withdrawn, Withdrawn, "EXTENDED_COMMUNITIES: 0 bytes long"),
        (16, 0xc0, &[1; 12], Withdrawn, Withdrawn, "EXTENDED_COMMUNITIES: 12 bytes long"),
        // RFC 6793 §6, from a new speaker
        (17, 0xc0, &[2, 1, 0, 0, 0, 1], Discarded, Discarded, "AS4_PATH: not accepted from a peer with 4-octet AS numbers"),
        (18, 0xc0, &[1; 8], Discarded, Discarded, "AS4_AGGREGATOR: not accepted from a peer with 4-octet AS numbers"),
        // RFC 8092 §6
        (32, 0xc0, &[], Withdrawn, Withdrawn, "LARGE_COMMUNITY: 0 bytes long"),
        (32, 0xc0, &long, Withdrawn, Withdrawn, "LARGE_COMMUNITY: 40 bytes long"),
        // RFC 9234 §5
        (35, 0xc0, &[], Withdrawn, Withdrawn, "ONLY_TO_CUSTOMER: 0 bytes long, must be 4"),
        (35, 0xc0, &[1; 5], Withdrawn, Withdrawn, "ONLY_TO_CUSTOMER: 5 bytes long, must be 4"),
        // RFC 4271 §6.3
        (99, 0x40, &[1], Reset(2), Reset(2), ""),
        (99, 0x00, &[1], Reset(2), Reset(2), ""),
        (99, 0x80, &[1], Accepted, Accepted, ""),
        (99, 0xc0, &[1], Accepted, Accepted, ""),
    ];
    for (code, flags, value, external, internal, reason) in rows {
        let message = update(&[], &with(attribute(*flags, *code, value)), TEN);
        for (peering, outcome) in [(EXTERNAL, *external), (INTERNAL, *internal)] {
            let reason = if outcome == Accepted { "" } else { reason };
            assert_outcome(&message, &context(peering), outcome, *code, reason);
        }
    }
}

#[test]
fn rfc6793_6_malformed_as4_attributes_of_old_speakers_are_discarded() {
    let old = Context {
        four_octet_asn: false,
        ..context(EXTERNAL)
    };
    #[rustfmt::skip]
    let rows: [(u8, &[u8], Outcome, &str); 11] = [
        (17, &[2, 1, 0, 0, 0, 1], Accepted, ""),
        (17, &[], Discarded, "AS4_PATH: segment without AS numbers"),
        (17, &[2, 1, 0, 1], Discarded, "AS4_PATH: the last segment is cut off"),
        (17, &[9, 1, 0, 0, 0, 1], Discarded, "AS4_PATH: segment of unknown type 9"),
        (17, &[2, 0], Discarded, "AS4_PATH: segment without AS numbers"),
        (17, &[2, 1, 0, 0, 0, 0], Discarded, "AS4_PATH: names AS 0"),
        (18, &[1; 8], Accepted, ""),
        (18, &[1; 6], Discarded, "AS4_AGGREGATOR: 6 bytes long, must be 8"),
        (18, &[0, 0, 0, 0, 1, 1, 1, 1], Discarded, "AS4_AGGREGATOR: names AS 0"),
        (7, &[1; 6], Accepted, ""),
        (7, &[1; 8], Discarded, "AGGREGATOR: 8 bytes long, must be 6"),
    ];
    for (code, value, outcome, reason) in rows {
        let mut attributes = well_formed();
        attributes.retain(|(other, _)| ![2, 7, code].contains(other));
        attributes.push((2, attribute(TRANSITIVE, 2, &[2, 1, 0xfd, 0xf2])));
        attributes.push((code, attribute(0xc0, code, value)));
        attributes.retain(|(code, _)| !INTERNAL_ONLY.contains(code));
        let message = update(&[], &joined(&attributes), TEN);
        assert_outcome(&message, &old, outcome, code, reason);
    }
}

#[test]
fn rfc7606_3c_wrong_optional_or_transitive_bits_are_treated_as_withdraw() {
    for (code, bytes) in well_formed() {
        for wrong in [OPTIONAL, TRANSITIVE, OPTIONAL | TRANSITIVE] {
            let mut bytes = bytes.clone();
            bytes[0] ^= wrong;
            let message = update(&[], &with(bytes), TEN);
            let external = if INTERNAL_ONLY.contains(&code) {
                Discarded
            } else {
                Withdrawn
            };
            let name = AttributeCode(code).to_string();
            assert_outcome(&message, &context(EXTERNAL), external, code, &name);
            let reason = format!("{name}: flags 0x");
            assert_outcome(&message, &context(INTERNAL), Withdrawn, code, &reason);
        }
    }
}

#[test]
fn rfc4271_4_3_partial_extended_length_and_unused_bits_do_not_matter() {
    for (code, bytes) in well_formed() {
        for bit in [PARTIAL, 8, 4, 2, 1] {
            let mut bytes = bytes.clone();
            bytes[0] |= bit;
            let message = update(&[], &with(bytes), TEN);
            assert_outcome(&message, &context(INTERNAL), Accepted, code, "");
        }
        let extended = attribute(bytes[0] | 0x10, code, &bytes[3..]);
        let message = update(&[], &with(extended), TEN);
        assert_outcome(&message, &context(INTERNAL), Accepted, code, "");
    }
}

#[test]
fn rfc7606_3g_of_repeated_attributes_the_first_counts_but_for_mp_reach_and_mp_unreach() {
    for (code, bytes) in well_formed() {
        let twice = [with(bytes.clone()), bytes].concat();
        let outcome = match code {
            14 | 15 => Reset(1),
            _ => Discarded,
        };
        let message = update(&[], &twice, TEN);
        let reason = format!("{}: appears more than once", AttributeCode(code));
        assert_outcome(&message, &context(INTERNAL), outcome, code, &reason);
    }
    let different = [with(Vec::new()), attribute(TRANSITIVE, 1, &[2])].concat();
    let changes = changes(&update(&[], &different, TEN), &context(INTERNAL));
    let Some(RouteChange::Announce { attributes, .. }) = changes.last() else {
        panic!("{changes:?}");
    };
    assert_eq!(
        attributes.origin.to_string(),
        "igp",
        "the first one's value"
    );
}

#[test]
fn rfc7606_3d_missing_mandatory_attributes_are_treated_as_withdraw() {
    for (missing, external) in [
        (1, Withdrawn),
        (2, Withdrawn),
        (3, Withdrawn),
        (5, Accepted),
    ] {
        let mut attributes = well_formed();
        attributes.retain(|(code, _)| *code != missing);
        let reason = format!("{}: missing", AttributeCode(missing));
        let message = update(&[], &joined(&attributes), TEN);
        assert_outcome(&message, &context(INTERNAL), Withdrawn, missing, &reason);
        attributes.retain(|(code, _)| !INTERNAL_ONLY.contains(code));
        let message = update(&[], &joined(&attributes), TEN);
        let reason = if external == Accepted { "" } else { &reason };
        assert_outcome(&message, &context(EXTERNAL), external, missing, reason);
    }
    let mut without_next_hop = well_formed();
    without_next_hop.retain(|(code, _)| *code != 3);
    let message = update(&[], &joined(&without_next_hop), &[]);
    assert_outcome(&message, &context(INTERNAL), Accepted, 3, "");
}

#[test]
fn rfc7606_3a_field_lengths_beyond_the_message_reset_the_session() {
    for body in [
        &[0, 1, 0, 0][..],
        &[0xff, 0xff, 0, 0],
        &[0, 0, 0, 1],
        &[0, 0, 0xff, 0xff, 1],
    ] {
        let message = wire_support::message(2, body);
        let notification = decode_update(&message, &context(EXTERNAL)).unwrap_err();
        assert_eq!(
            (notification.code, notification.subcode),
            (3, 1),
            "{body:?}"
        );
    }
}

#[test]
fn rfc7606_4_an_attribute_longer_than_the_attributes_is_treated_as_withdraw() {
    for (code, bytes) in well_formed() {
        for cut in 1..bytes.len().min(6) {
            let mut others = well_formed();
            others.retain(|(other, _)| *other != code);
            let kept = &bytes[..bytes.len() - cut];
            let message = update(&[], &[&joined(&others), kept].concat(), TEN);
            let name = if kept.len() > 1 {
                AttributeCode(code)
            } else {
                AttributeCode::NONE
            };
            let outcome = match name.0 {
                14 | 15 => Reset(1),
                _ => Withdrawn,
            };
            let reason = format!("{name}: longer than the attributes");
            assert_outcome(&message, &context(INTERNAL), outcome, name.0, &reason);
        }
    }
}

#[test]
fn rfc7606_4_the_attributes_length_tells_where_the_routes_begin() {
    let mut origin_too_long = with(Vec::new());
    origin_too_long.extend([TRANSITIVE, 6, 200]);
    let changes = changes(
        &update(&[16, 10, 1], &origin_too_long, TEN),
        &context(INTERNAL),
    );
    let withdrawn: Vec<String> = changes
        .iter()
        .flat_map(|change| match change {
            RouteChange::Withdraw { nlri, .. } => nlri,
            other => panic!("{other:?}"),
        })
        .map(|nlri| nlri.prefix.to_string())
        .collect();
    assert_eq!(
        withdrawn,
        ["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "fd00:2::/32"]
    );
}

#[test]
fn rfc7606_5_2_malformed_attributes_without_routes_reset_the_session() {
    let origin = |value: &[u8]| attribute(TRANSITIVE, 1, value);
    for (attributes, subcode) in [
        (origin(&[7]), 6),
        (origin(&[]), 5),
        (attribute(OPTIONAL, 1, &[0]), 4),
        (attribute(TRANSITIVE, 2, &[2]), 11),
        (vec![TRANSITIVE, 1, 9], 1),
    ] {
        for withdrawn in [&[][..], TEN] {
            let message = update(withdrawn, &attributes, &[]);
            let notification = decode_update(&message, &context(EXTERNAL)).unwrap_err();
            assert_eq!((notification.code, notification.subcode), (3, subcode));
        }
    }
    let discard = attribute(TRANSITIVE, 6, &[1]);
    assert!(decode_update(&update(TEN, &discard, &[]), &context(EXTERNAL)).is_ok());
    let flags = attribute(TRANSITIVE, 15, &[0, 2, 1, 8, 0xfd]);
    assert!(
        decode_update(&update(&[], &flags, &[]), &context(EXTERNAL)).is_ok(),
        "MP_UNREACH_NLRI alone announces nothing that could be lost"
    );
}

#[test]
fn rfc7606_5_3_malformed_prefixes_reset_the_session() {
    for field in [&[33, 1, 1, 1, 1, 1][..], &[24, 1, 1], &[8, 10, 8]] {
        for (withdrawn, nlri) in [(field, &[][..]), (&[], field)] {
            let message = update(withdrawn, &with(Vec::new()), nlri);
            let context = context(INTERNAL);
            assert_outcome(&message, &context, Reset(10), 0, "");
        }
    }
    let add_path = Context {
        add_path_receive: ipv4_only(),
        ..context(INTERNAL)
    };
    let message = update(&[], &with(Vec::new()), &[0, 0, 0, 1]);
    assert_outcome(&message, &add_path, Reset(10), 0, "");
}

#[test]
fn rfc7606_3h_the_strongest_of_several_faults_decides() {
    let discard = attribute(TRANSITIVE, 6, &[1]);
    let withdraw = attribute(TRANSITIVE, 1, &[9]);
    let reset = attribute(TRANSITIVE, 99, &[]);
    let faulty = |parts: &[&[u8]]| {
        let codes: Vec<u8> = parts.iter().map(|part| part[1]).collect();
        let mut others = well_formed();
        others.retain(|(code, _)| !codes.contains(code));
        update(&[], &[parts.concat(), joined(&others)].concat(), TEN)
    };
    let context = context(INTERNAL);
    let message = faulty(&[&discard, &withdraw]);
    let decoded = decode_update(&message, &context).unwrap();
    assert_eq!(decoded.faults().len(), 2, "both are reported");
    assert_eq!(
        decoded.malformed().unwrap().to_string(),
        "ORIGIN: value 9 is not 0, 1 or 2"
    );
    for parts in [
        [&discard[..], &withdraw, &reset],
        [&reset, &withdraw, &discard],
    ] {
        assert_outcome(&faulty(&parts), &context, Reset(2), 99, "");
    }
}

#[test]
fn rfc4271_6_3_a_session_reset_quotes_the_attribute() {
    let bad = attribute(OPTIONAL, 15, &[0, 2, 1, 129]);
    let message = update(&[], &with(bad.clone()), TEN);
    let notification = decode_update(&message, &context(INTERNAL)).unwrap_err();
    assert_eq!(notification.data, bad);
    assert_eq!(
        notification.to_string(),
        "UPDATE error: optional attribute error: MP_UNREACH_NLRI"
    );
}

/// Attributes that external peers must not send.
const INTERNAL_ONLY: [u8; 3] = [5, 9, 10];

/// Every attribute, well-formed, as an internal peer with 4-octet AS numbers sends them.
fn well_formed() -> Vec<(u8, Vec<u8>)> {
    let mut reach = vec![0, 2, 1, 16];
    reach.extend([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    reach.extend([32, 0xfd, 0, 0, 2]);
    [
        (14, 0x80, &reach[..]),
        (15, 0x80, &[0, 2, 1, 8, 0xfd]),
        (1, 0x40, &[0]),
        (2, 0x40, &[2, 1, 0, 0, 0xfd, 0xf2]),
        (3, 0x40, &[10, 1, 10, 4]),
        (4, 0x80, &[0, 0, 0, 50]),
        (5, 0x40, &[0, 0, 0, 200]),
        (6, 0x40, &[]),
        (7, 0xc0, &[0, 0, 0xfd, 0xf2, 1, 1, 1, 1]),
        (8, 0xc0, &[0, 1, 0, 2]),
        (9, 0x80, &[2, 2, 2, 2]),
        (10, 0x80, &[3, 3, 3, 3]),
        (16, 0xc0, &[0, 2, 0, 1, 0, 0, 0, 7]),
        (32, 0xc0, &[1; 12]),
        (35, 0xc0, &[0, 0, 0xfd, 0xf2]),
    ]
    .map(|(code, flags, value)| (code, attribute(flags, code, value)))
    .to_vec()
}

/// The mandatory attributes with `attribute` in place of its like.
fn with(attribute: Vec<u8>) -> Vec<u8> {
    let code = attribute.get(1).copied().unwrap_or_default();
    let mut attributes = well_formed();
    let mandatory = [1, 2, 3, 5, 14, 15];
    attributes.retain(|(other, _)| *other != code && mandatory.contains(other));
    attributes.push((code, attribute));
    joined(&attributes)
}

fn joined(attributes: &[(u8, Vec<u8>)]) -> Vec<u8> {
    attributes
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect()
}

/// Judges one faulty attribute. LOCAL_PREF and the like from external peers, which all test
/// UPDATEs carry, count only if they are what is judged.
fn assert_outcome(message: &[u8], context: &Context, outcome: Outcome, code: u8, reason: &str) {
    let what = format!("{code} {:?}: {reason:?} in {message:02x?}", context.peering);
    let decoded = match (decode_update(message, context), outcome) {
        (Err(notification), Reset(subcode)) => {
            assert_eq!(
                (notification.code, notification.subcode),
                (3, subcode),
                "{what}"
            );
            return;
        }
        (Err(notification), _) => panic!("{what}: {notification}"),
        (Ok(_), Reset(_)) => panic!("{what}: no session reset"),
        (Ok(decoded), _) => decoded,
    };
    let faults: Vec<_> = decoded
        .faults()
        .iter()
        .filter(|fault| fault.attribute.0 == code || !INTERNAL_ONLY.contains(&fault.attribute.0))
        .cloned()
        .collect();
    let disposition = match outcome {
        Accepted => None,
        Discarded => Some(Disposition::AttributeDiscard),
        Withdrawn => Some(Disposition::TreatAsWithdraw),
        Reset(_) => Some(Disposition::SessionReset),
    };
    assert_eq!(
        faults.iter().map(|fault| fault.disposition).max(),
        disposition,
        "{what}: {faults:?}"
    );
    if disposition.is_some() {
        assert!(
            faults.iter().any(|fault| fault.attribute.0 == code
                && Some(fault.disposition) == disposition
                && fault.to_string().starts_with(reason)),
            "{what}: {faults:?}"
        );
    }
    for change in decoded.into_changes() {
        match change {
            RouteChange::Announce { .. } => assert_ne!(outcome, Withdrawn, "{what}"),
            RouteChange::Withdraw {
                malformed: Some(text),
                ..
            } => {
                assert_eq!(outcome, Withdrawn, "{what}");
                assert!(text.starts_with(reason), "{what}: {text}");
            }
            // What MP_UNREACH_NLRI withdraws.
            RouteChange::Withdraw { nlri, .. } => assert_eq!(nlri.len(), 1, "{what}"),
            RouteChange::EndOfRib(_) => panic!("{what}"),
        }
    }
}
