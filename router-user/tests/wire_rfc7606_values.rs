//! RFC 7606 §7 and the attributes' own RFCs: values that an attribute cannot have, what becomes of
//! the UPDATE, and in which words the operator learns of it.

mod wire_support;

use router_user::bgp::wire::{Context, Peering};
use wire_support::{
    OPTIONAL, TEN, TRANSITIVE, attribute,
    attributes::{
        Outcome::{self, Accepted, Discarded, Withdrawn},
        RULES, Value, encoded, judge, replaced, sessions, whole,
    },
    context, decode_update, update,
};

/// (code, value, from an external peer, from an internal peer, the reason).
type Row<'a> = (u8, &'a [u8], Outcome, Outcome, &'a str);

#[test]
fn rfc7606_7_each_value_from_new_speakers_has_the_outcome_of_its_attribute() {
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        // §7.1
        (1, &[], Withdrawn, Withdrawn, "ORIGIN: 0 bytes long, must be 1"),
        (1, &[0, 0], Withdrawn, Withdrawn, "ORIGIN: 2 bytes long, must be 1"),
        (1, &[0], Accepted, Accepted, ""),
        (1, &[1], Accepted, Accepted, ""),
        (1, &[3], Withdrawn, Withdrawn, "ORIGIN: value 3 is not 0, 1 or 2"),
        (1, &[255], Withdrawn, Withdrawn, "ORIGIN: value 255 is not 0, 1 or 2"),
        // §7.2
        (2, &[], Accepted, Accepted, ""),
        (2, &[2, 1, 0, 0, 0, 1, 2, 1, 0, 0, 0, 2], Accepted, Accepted, ""),
        (2, &[0, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 0"),
        (2, &[5, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 5"),
        (2, &[255, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 255"),
        (2, &[2, 0], Withdrawn, Withdrawn, "AS_PATH: segment without AS numbers"),
        (2, &[2, 1, 0, 0, 0, 1, 1, 0], Withdrawn, Withdrawn, "AS_PATH: segment without AS numbers"),
        (2, &[2], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (2, &[2, 2, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (2, &[2, 255, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (2, &[2, 1, 0, 0, 0, 1, 2], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        // RFC 7607, RFC 9774, RFC 5065: what a session may treat as withdrawn, the codec decodes.
        (2, &[2, 1, 0, 0, 0, 0], Accepted, Accepted, ""),
        (2, &[1, 1, 0, 0, 0, 1], Accepted, Accepted, ""),
        (2, &[3, 1, 0, 0, 0, 1, 4, 1, 0, 0, 0, 1], Accepted, Accepted, ""),
        // §7.3
        (3, &[], Withdrawn, Withdrawn, "NEXT_HOP: 0 bytes long, must be 4"),
        (3, &[1; 16], Withdrawn, Withdrawn, "NEXT_HOP: 16 bytes long, must be 4"),
        (3, &[0; 4], Accepted, Accepted, ""),
        // §7.4
        (4, &[1; 3], Withdrawn, Withdrawn, "MULTI_EXIT_DISC: 3 bytes long, must be 4"),
        // §7.5
        (5, &[1; 4], Discarded, Accepted, "LOCAL_PREF: not accepted from an eBGP peer"),
        (5, &[1; 5], Discarded, Withdrawn, "LOCAL_PREF: "),
        // §7.6
        (6, &[0], Discarded, Discarded, "ATOMIC_AGGREGATE: 1 bytes long, must be 0"),
        // §7.7, RFC 7607 §2
        (7, &[0, 1, 1, 1, 1, 1], Discarded, Discarded, "AGGREGATOR: 6 bytes long, must be 8"),
        (7, &[0, 0, 0, 0, 1, 1, 1, 1], Discarded, Discarded, "AGGREGATOR: names AS 0"),
        (7, &[0, 0, 0, 1, 0, 0, 0, 0], Accepted, Accepted, ""),
        // §7.8
        (8, &[], Withdrawn, Withdrawn, "COMMUNITIES: 0 bytes long, must be a multiple of 4 above 0"),
        (8, &[1; 6], Withdrawn, Withdrawn, "COMMUNITIES: 6 bytes long, must be a multiple of 4"),
        (8, &[0; 4], Accepted, Accepted, ""),
        // §7.9
        (9, &[1; 4], Discarded, Accepted, "ORIGINATOR_ID: not accepted from an eBGP peer"),
        (9, &[1; 8], Discarded, Withdrawn, "ORIGINATOR_ID: "),
        // §7.10
        (10, &[1; 8], Discarded, Accepted, "CLUSTER_LIST: not accepted from an eBGP peer"),
        (10, &[1; 7], Discarded, Withdrawn, "CLUSTER_LIST: "),
        // §7.14: types that nobody knows are no error
        (16, &[0xff; 8], Accepted, Accepted, ""),
        (16, &[1; 12], Withdrawn, Withdrawn, "EXTENDED_COMMUNITIES: 12 bytes long"),
        // RFC 6793 §6
        (17, &[2, 1, 0, 0, 0, 1], Discarded, Discarded, "AS4_PATH: not accepted from a peer with 4-octet AS numbers"),
        (17, &[9], Discarded, Discarded, "AS4_PATH: not accepted from a peer with 4-octet AS numbers"),
        (18, &[1; 8], Discarded, Discarded, "AS4_AGGREGATOR: not accepted from a peer with 4-octet AS numbers"),
        // RFC 8092 §6: reserved AS numbers and duplicates are no error
        (32, &[0; 24], Accepted, Accepted, ""),
        (32, &[1; 40], Withdrawn, Withdrawn, "LARGE_COMMUNITY: 40 bytes long, must be a multiple of 12"),
        // RFC 9234 §5
        (35, &[], Withdrawn, Withdrawn, "ONLY_TO_CUSTOMER: 0 bytes long, must be 4"),
        (35, &[1; 5], Withdrawn, Withdrawn, "ONLY_TO_CUSTOMER: 5 bytes long, must be 4"),
        (35, &[0; 4], Accepted, Accepted, ""),
        // RFC 4271 §5
        (200, &[], Accepted, Accepted, ""),
    ];
    check(rows, true);
}

#[test]
fn rfc7606_7_each_value_from_old_speakers_has_the_outcome_of_its_attribute() {
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        (2, &[2, 1, 0, 1], Accepted, Accepted, ""),
        (2, &[2, 1, 0, 0, 0, 1], Withdrawn, Withdrawn, "AS_PATH: segment of unknown type 0"),
        (2, &[2, 2, 0, 1], Withdrawn, Withdrawn, "AS_PATH: the last segment is cut off"),
        (7, &[0x5b, 0xa0, 1, 1, 1, 1], Accepted, Accepted, ""),
        (7, &[1; 8], Discarded, Discarded, "AGGREGATOR: 8 bytes long, must be 6"),
        (7, &[0, 0, 1, 1, 1, 1], Discarded, Discarded, "AGGREGATOR: names AS 0"),
        // RFC 6793 §6
        (17, &[2, 1, 0, 0, 0, 1], Accepted, Accepted, ""),
        (17, &[3, 1, 0, 0, 0, 1, 2, 1, 0, 0, 0, 1], Accepted, Accepted, ""),
        (17, &[], Discarded, Discarded, "AS4_PATH: segment without AS numbers"),
        (17, &[2, 0], Discarded, Discarded, "AS4_PATH: segment without AS numbers"),
        (17, &[2, 1, 0, 1], Discarded, Discarded, "AS4_PATH: the last segment is cut off"),
        (17, &[9, 1, 0, 0, 0, 1], Discarded, Discarded, "AS4_PATH: segment of unknown type 9"),
        // RFC 7607 §2
        (17, &[2, 1, 0, 0, 0, 0], Discarded, Discarded, "AS4_PATH: names AS 0"),
        (18, &[0, 0, 0, 0, 1, 1, 1, 1], Discarded, Discarded, "AS4_AGGREGATOR: names AS 0"),
        (18, &[1; 6], Discarded, Discarded, "AS4_AGGREGATOR: 6 bytes long, must be 8"),
    ];
    check(rows, false);
}

fn check(rows: &[Row<'_>], four_octet_asn: bool) {
    for (code, value, external, internal, reason) in rows {
        let rule = RULES.iter().find(|rule| rule.code == *code);
        let bytes = encoded(rule.expect("a rule").flags, *code, value);
        for session in sessions() {
            if session.four_octet_asn != four_octet_asn {
                continue;
            }
            let outcome = match session.peering {
                Peering::External => *external,
                Peering::Internal => *internal,
            };
            let left = match outcome {
                _ if rule.is_some_and(|rule| rule.unwanted(&session)) => Value::Same,
                Accepted => Value::Other,
                _ => Value::Gone,
            };
            let message = whole(&replaced(&session, *code, &bytes));
            judge(
                &message,
                &session,
                *code,
                outcome,
                left,
                &format!("{value:?}"),
            );
            if outcome != Accepted {
                let decoded = decode_update(&message, &session).expect("no session reset");
                let text = decoded.faults()[0].to_string();
                assert!(text.starts_with(reason), "{text} and not {reason}");
            }
        }
    }
}

#[test]
fn rfc4271_6_3_a_session_reset_names_the_fault_and_quotes_the_attribute() {
    let cases = [
        (attribute(TRANSITIVE, 1, &[7]), 6, true),
        (attribute(TRANSITIVE, 1, &[]), 5, true),
        (attribute(OPTIONAL, 1, &[0]), 4, true),
        (attribute(TRANSITIVE, 2, &[2]), 11, false),
        (vec![TRANSITIVE, 1, 9], 1, false),
        (attribute(TRANSITIVE, 99, &[1, 2]), 2, true),
        (attribute(OPTIONAL, 15, &[0, 2, 1, 129]), 9, true),
    ];
    for (bytes, subcode, quotes) in cases {
        for withdrawn in [&[][..], TEN] {
            // No routes are announced (RFC 7606 §5.2).
            let message = update(withdrawn, &bytes, &[]);
            let notification = decode_update(&message, &external()).unwrap_err();
            assert_eq!((notification.code, notification.subcode), (3, subcode));
            let data = if quotes { &bytes[..] } else { &[] };
            assert_eq!(notification.data, data, "subcode {subcode}");
        }
    }
    let first = attribute(OPTIONAL, 4, &[1, 2]);
    let both = [&first[..], &attribute(TRANSITIVE, 1, &[7])].concat();
    let notification = decode_update(&update(&[], &both, &[]), &external()).unwrap_err();
    assert_eq!(
        (notification.subcode, notification.data),
        (5, first),
        "of several equal ones, the first"
    );
    let bad = attribute(OPTIONAL, 15, &[0, 2, 1, 129]);
    let notification = decode_update(&update(&[], &bad, &[]), &external()).unwrap_err();
    assert_eq!(
        notification.to_string(),
        "UPDATE error: optional attribute error: MP_UNREACH_NLRI"
    );
}

#[test]
fn rfc7606_5_2_discarded_attributes_without_routes_reset_nothing() {
    let discarded = attribute(TRANSITIVE, 6, &[1]);
    let message = update(TEN, &discarded, &[]);
    let decoded = decode_update(&message, &external()).expect("no session reset");
    assert_eq!(decoded.withdrawn().count(), 1);
    assert_eq!(decoded.faults().len(), 1);
}

#[test]
fn rfc7606_3h_all_faults_are_reported_and_the_strongest_is_the_reason() {
    let attributes = [
        attribute(TRANSITIVE, 6, &[1]),
        attribute(TRANSITIVE, 1, &[9]),
        attribute(OPTIONAL, 4, &[]),
    ]
    .concat();
    let message = update(&[], &attributes, TEN);
    let decoded = decode_update(&message, &external()).expect("no session reset");
    let texts: Vec<String> = decoded.faults().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "ATOMIC_AGGREGATE: 1 bytes long, must be 0",
            "ORIGIN: value 9 is not 0, 1 or 2",
            "MULTI_EXIT_DISC: 0 bytes long, must be 4",
            "AS_PATH: missing",
            "NEXT_HOP: missing",
        ]
    );
    let malformed = decoded.malformed().expect("a reason").to_string();
    assert_eq!(malformed, "ORIGIN: value 9 is not 0, 1 or 2");
}

fn external() -> Context {
    context(Peering::External)
}
