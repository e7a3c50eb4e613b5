//! RFC 7606: every attribute that the codec knows with every fault, from external and internal
//! peers, with 4-octet AS numbers and without: what becomes of the UPDATE, and that the rest of it
//! is as it was. `wire_rfc7606_routes` does the same for the prefixes, `wire_faults` for values.

mod wire_support;

use wire_support::{
    EXTENDED_LENGTH, OPTIONAL, TRANSITIVE,
    attributes::{
        AS_PATH, AS4_PATH, LOCAL_PREF, MP_REACH, MP_UNREACH, NEXT_HOP, ORIGIN,
        Outcome::{Accepted, Discarded, Reset, Withdrawn},
        RULES, Rule, Value, encoded, joined, judge, replaced, sessions, well_formed, whole,
    },
    decode_update, update,
};

use router_user::bgp::wire::{Context, Peering};

#[test]
fn the_update_that_the_tests_spoil_is_well_formed() {
    for context in sessions() {
        let message = whole(&joined(&well_formed(&context)));
        judge(
            &message,
            &context,
            0,
            Accepted,
            Value::Same,
            "nothing wrong",
        );
    }
}

#[test]
fn rfc7606_4_and_7_each_length_from_0_to_300_has_the_outcome_of_its_attribute() {
    for (rule, context) in rules_and_sessions() {
        if rule.carries_routes() {
            continue;
        }
        for len in 0..=300 {
            let message = whole(&replaced(
                &context,
                rule.code,
                &of_length(rule, &context, len),
            ));
            let fits = (rule.length)(len, context.four_octet_asn);
            let outcome = match rule.malformed(&context) {
                _ if rule.unwanted(&context) => Discarded,
                _ if fits => Accepted,
                malformed => malformed,
            };
            let value = match outcome {
                _ if rule.unwanted(&context) => Value::Same,
                Accepted if len == rule.good_value(&context).len() => Value::Same,
                Accepted => Value::Other,
                _ => Value::Gone,
            };
            let what = format!("{len} bytes long");
            judge(&message, &context, rule.code, outcome, value, &what);
        }
    }
}

#[test]
fn rfc7606_3c_and_5_3_each_flags_octet_has_the_outcome_of_its_attribute() {
    for (rule, context) in rules_and_sessions() {
        for flags in 0..=255_u8 {
            let wrong = (flags ^ rule.flags) & (OPTIONAL | TRANSITIVE) != 0;
            let (outcome, value) = match rule.code {
                _ if rule.unwanted(&context) => (Discarded, Value::Same),
                _ if !wrong => (Accepted, Value::Same),
                _ if !rule.is_known() && flags & OPTIONAL == 0 => (Reset(2, true), Value::Other),
                _ if !rule.is_known() => (Accepted, Value::Other),
                _ if rule.carries_routes() => (Reset(9, true), Value::Other),
                _ => (Withdrawn, Value::Other),
            };
            // An unknown attribute keeps the partial bit that it came with.
            let value = match (outcome, rule.is_known()) {
                (Accepted, false) => Value::Other,
                _ => value,
            };
            let bytes = encoded(flags, rule.code, rule.good_value(&context));
            let message = whole(&replaced(&context, rule.code, &bytes));
            let what = format!("flags {flags:#04x}");
            judge(&message, &context, rule.code, outcome, value, &what);
        }
    }
}

#[test]
fn rfc4271_6_3_unrecognized_well_known_attributes_reset_the_session_whatever_they_say() {
    for context in sessions() {
        for flags in [0, TRANSITIVE, TRANSITIVE | EXTENDED_LENGTH] {
            for code in [0, 11, 12, 13, 19, 28, 40, 128, 255] {
                for len in [0, 1, 300] {
                    let bytes = encoded(flags, code, &vec![7; len]);
                    let message = whole(&replaced(&context, code, &bytes));
                    let what = "not recognized";
                    judge(&message, &context, code, Reset(2, true), Value::Other, what);
                }
            }
        }
    }
}

#[test]
fn rfc7606_3g_of_repeated_attributes_the_first_counts_but_for_mp_reach_and_mp_unreach() {
    for (rule, context) in rules_and_sessions() {
        let good = rule.good(&context);
        let other = other_than_good(rule, &context);
        let bad = malformed(rule, &context);
        let seconds = [Some(good.clone()), Some(other), bad.clone()];
        for second in seconds.into_iter().flatten() {
            let outcome = match rule.carries_routes() {
                true => Reset(1, false),
                false => Discarded,
            };
            for message in beside_and_behind(rule, &context, &good, &second) {
                let what = "repeated";
                judge(&message, &context, rule.code, outcome, Value::Same, what);
            }
        }
        if let Some(bad) = bad {
            for message in beside_and_behind(rule, &context, &bad, &good) {
                let value = match rule.unwanted(&context) {
                    true => Value::Same,
                    false => Value::Gone,
                };
                let outcome = rule.malformed(&context);
                let what = "malformed, then well-formed";
                judge(&message, &context, rule.code, outcome, value, what);
            }
        }
    }
}

#[test]
fn rfc7606_3d_missing_mandatory_attributes_are_treated_as_withdraw() {
    for (rule, context) in rules_and_sessions() {
        if rule.carries_routes() || rule.unwanted(&context) {
            continue;
        }
        let message = whole(&replaced(&context, rule.code, &[]));
        let internal = context.peering == Peering::Internal;
        let mandatory =
            [ORIGIN, AS_PATH, NEXT_HOP].contains(&rule.code) || rule.code == LOCAL_PREF && internal;
        let outcome = if mandatory { Withdrawn } else { Accepted };
        judge(
            &message,
            &context,
            rule.code,
            outcome,
            Value::Gone,
            "missing",
        );
    }
}

#[test]
fn rfc4760_3_next_hop_is_mandatory_only_for_routes_in_the_nlri_field() {
    for context in sessions() {
        for (nlri, reach, faulty) in [
            (&[8, 10][..], true, true),
            (&[8, 10], false, true),
            (&[], true, false),
            (&[], false, false),
        ] {
            let mut attributes = well_formed(&context);
            attributes.retain(|(code, _)| *code != NEXT_HOP && (reach || *code != MP_REACH));
            let message = update(&[], &joined(&attributes), nlri);
            let decoded = decode_update(&message, &context).expect("no session reset");
            let fault = decoded.malformed().map(ToString::to_string);
            let expected = faulty.then(|| String::from("NEXT_HOP: missing"));
            assert_eq!(fault, expected, "{nlri:?}, MP_REACH_NLRI {reach}");
        }
    }
}

#[test]
fn rfc7606_5_1_attributes_mean_the_same_in_every_order() {
    for context in sessions() {
        let mut attributes = well_formed(&context);
        let count = attributes.len();
        let mut random = 7_usize;
        for round in 0..500 {
            if round < count {
                attributes.rotate_left(1);
            } else {
                for place in (1..count).rev() {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    attributes.swap(place, (random >> 33) % (place + 1));
                }
            }
            let message = whole(&joined(&attributes));
            judge(
                &message,
                &context,
                0,
                Accepted,
                Value::Same,
                "another order",
            );
        }
    }
}

#[test]
fn rfc7606_4_an_attribute_that_overruns_the_attributes_is_treated_as_withdraw() {
    for (rule, context) in rules_and_sessions() {
        if rule.carries_routes() {
            continue;
        }
        let before = replaced(&context, rule.code, &[]);
        let value = rule.good_value(&context);
        let len = value.len();
        for claimed in [len + 1, len + 2, 200, 255] {
            let short = [rule.flags, rule.code, claimed as u8];
            let (high, low) = ((claimed >> 8) as u8, claimed as u8);
            let long = [rule.flags | EXTENDED_LENGTH, rule.code, high, low];
            for header in [&short[..], &long] {
                let message = whole(&[&before[..], header, value].concat());
                let what = format!("claims {claimed} bytes of {len}");
                judge(
                    &message,
                    &context,
                    rule.code,
                    Withdrawn,
                    Value::Other,
                    &what,
                );
            }
        }
        let whole_length = [rule.flags | EXTENDED_LENGTH, rule.code, 0xff, 0xff];
        let message = whole(&[&before[..], &whole_length, value].concat());
        judge(
            &message,
            &context,
            rule.code,
            Withdrawn,
            Value::Other,
            "claims 65,535 bytes",
        );
        // Fewer than three octets, or four with the extended length bit.
        for (header, code) in [
            (&[rule.flags][..], 0),
            (&[rule.flags, rule.code], rule.code),
            (&[rule.flags | EXTENDED_LENGTH, rule.code], rule.code),
            (&[rule.flags | EXTENDED_LENGTH, rule.code, 0], rule.code),
        ] {
            let message = whole(&[&before[..], header].concat());
            judge(
                &message,
                &context,
                code,
                Withdrawn,
                Value::Other,
                "cut off in its header",
            );
        }
    }
}

#[test]
fn rfc7606_4_an_attribute_that_swallows_those_behind_it_is_treated_as_withdraw() {
    for (rule, context) in rules_and_sessions() {
        if rule.carries_routes() || rule.unwanted(&context) {
            continue;
        }
        let mut attributes = well_formed(&context);
        let place = attributes.iter().position(|(code, _)| *code == rule.code);
        let (_, bytes) = &mut attributes[place.expect("it is there")];
        bytes[2] = 255;
        let message = whole(&joined(&attributes));
        judge(
            &message,
            &context,
            rule.code,
            Withdrawn,
            Value::Other,
            "swallows the rest",
        );
    }
}

#[test]
fn rfc7606_3j_mp_reach_and_mp_unreach_that_overrun_reset_the_session() {
    for (rule, context) in rules_and_sessions() {
        if !rule.carries_routes() {
            continue;
        }
        let before = replaced(&context, rule.code, &[]);
        let good = rule.good(&context);
        for cut in 1..good.len() - 1 {
            let message = whole(&[&before, &good[..good.len() - cut]].concat());
            let what = format!("cut off by {cut} bytes");
            judge(
                &message,
                &context,
                rule.code,
                Reset(1, false),
                Value::Other,
                &what,
            );
        }
    }
}

#[test]
fn rfc7606_3b_field_lengths_beyond_the_message_reset_the_session() {
    for context in sessions() {
        let good = whole(&joined(&well_formed(&context)));
        let withdrawn = usize::from(u16::from_be_bytes([good[19], good[20]]));
        for claimed in 0..=u16::MAX {
            for (at, others) in [(19, 0), (21 + withdrawn, withdrawn)] {
                if others + usize::from(claimed) + 23 <= good.len() {
                    continue;
                }
                let mut message = good.clone();
                message[at..at + 2].copy_from_slice(&claimed.to_be_bytes());
                let what = "field length beyond the message";
                judge(&message, &context, 0, Reset(1, false), Value::Other, what);
            }
        }
    }
}

#[test]
fn rfc7606_3h_of_any_two_faults_the_stronger_decides() {
    for context in sessions() {
        for first in &RULES {
            for second in &RULES {
                let (Some(one), Some(other)) =
                    (malformed(first, &context), malformed(second, &context))
                else {
                    continue;
                };
                if first.code == second.code {
                    continue;
                }
                let mut attributes = well_formed(&context);
                attributes.retain(|(code, _)| ![first.code, second.code].contains(code));
                let message = whole(&[joined(&attributes), one, other].concat());
                let outcomes = [first, second].map(|rule| (rule.malformed(&context), rule));
                let (outcome, rule) = match outcomes {
                    [(a, rule), (b, _)] if a >= b => (a, rule),
                    [_, stronger] => stronger,
                };
                if outcome == Discarded {
                    let decoded = decode_update(&message, &context).expect("no session reset");
                    assert_eq!(decoded.faults().len(), 2);
                    assert_eq!(decoded.malformed(), None);
                    assert_eq!(decoded.announced().count(), 2);
                } else {
                    let what = format!("beside {} and {}", first.name(), second.name());
                    judge(&message, &context, rule.code, outcome, Value::Other, &what);
                }
            }
        }
    }
}

#[test]
fn rfc7606_5_2_faults_beyond_discard_without_reachable_routes_reset_the_session() {
    let subcode = |rule: &Rule| match rule.code {
        AS_PATH => (11, false),
        _ if rule.carries_routes() => (9, true),
        _ => (5, true),
    };
    for (rule, context) in rules_and_sessions() {
        let Some(bad) = malformed(rule, &context) else {
            continue;
        };
        for unreach in [false, true] {
            let mut attributes = well_formed(&context);
            attributes.retain(|(code, _)| {
                ![MP_REACH, rule.code].contains(code) && (unreach || *code != MP_UNREACH)
            });
            let message = update(&[8, 10], &[joined(&attributes), bad.clone()].concat(), &[]);
            match (rule.malformed(&context), decode_update(&message, &context)) {
                (Discarded, Ok(decoded)) => assert_eq!(decoded.malformed(), None),
                (Discarded, Err(notification)) => panic!("{}: {notification}", rule.name()),
                (_, Ok(_)) => panic!("{}: no session reset", rule.name()),
                (_, Err(notification)) => {
                    let (subcode, quotes) = subcode(rule);
                    assert_eq!((notification.code, notification.subcode), (3, subcode));
                    assert_eq!(notification.data, if quotes { bad.clone() } else { vec![] });
                }
            }
        }
    }
}

#[test]
fn rfc7606_5_2_routes_of_a_family_that_is_not_exchanged_are_reachable_routes_all_the_same() {
    use router_user::bgp::wire::{Family, FamilySet};
    for context in sessions() {
        for (family, nlri) in [(Family::Ipv6Unicast, true), (Family::Ipv4Unicast, false)] {
            let context = Context {
                families: FamilySet::EMPTY.with(family),
                ..context
            };
            let mut attributes = well_formed(&context);
            attributes.retain(|(code, _)| *code != MP_UNREACH && (!nlri || *code != MP_REACH));
            let origin = attributes.iter_mut().find(|(code, _)| *code == ORIGIN);
            origin.expect("it is there").1[3] = 7;
            let nlri = if nlri { &[8, 10][..] } else { &[] };
            let message = update(&[], &joined(&attributes), nlri);
            let decoded = decode_update(&message, &context).expect("no session reset");
            let fault = decoded.malformed().expect("a fault").to_string();
            assert_eq!(fault, "ORIGIN: value 7 is not 0, 1 or 2");
            assert_eq!(decoded.into_changes(), []);
        }
    }
}

fn rules_and_sessions() -> impl Iterator<Item = (&'static Rule, Context)> {
    sessions()
        .into_iter()
        .flat_map(|context| RULES.iter().map(move |rule| (rule, context)))
}

/// The attribute with a value of `len` bytes, sensible as far as that goes.
fn of_length(rule: &Rule, context: &Context, len: usize) -> Vec<u8> {
    let good = rule.good_value(context);
    let value: Vec<u8> = if [AS_PATH, AS4_PATH].contains(&rule.code) {
        let octets = if rule.code == AS4_PATH || context.four_octet_asn {
            4
        } else {
            2
        };
        let count = len.saturating_sub(2) / octets;
        [2, count as u8]
            .into_iter()
            .chain(good[2..].iter().copied().cycle())
            .take(len)
            .collect()
    } else {
        let fill = if good.is_empty() { &[7] } else { good };
        fill.iter().copied().cycle().take(len).collect()
    };
    encoded(rule.flags, rule.code, &value)
}

/// The attribute with a value that it cannot have; `None`: there is none.
fn malformed(rule: &Rule, context: &Context) -> Option<Vec<u8>> {
    if rule.carries_routes() {
        return Some(encoded(rule.flags, rule.code, &[0, 2]));
    }
    let value = if rule.code == AS_PATH {
        &[2, 9][..]
    } else {
        &[1; 41]
    };
    (!(rule.length)(value.len(), context.four_octet_asn))
        .then(|| encoded(rule.flags, rule.code, value))
}

/// The attribute well-formed with another value, where it has one.
fn other_than_good(rule: &Rule, context: &Context) -> Vec<u8> {
    let mut bytes = rule.good(context);
    match rule.code {
        ORIGIN => bytes[3] = 1,
        MP_REACH | MP_UNREACH => {}
        _ if bytes.len() > 3 => *bytes.last_mut().expect("a value") ^= 1,
        _ => {}
    }
    bytes
}

/// UPDATEs with `first` and `second` side by side, and with `second` at the very end.
fn beside_and_behind(rule: &Rule, context: &Context, first: &[u8], second: &[u8]) -> [Vec<u8>; 2] {
    let beside = replaced(context, rule.code, &[first, second].concat());
    let behind = [&replaced(context, rule.code, first), second].concat();
    [whole(&beside), whole(&behind)]
}
