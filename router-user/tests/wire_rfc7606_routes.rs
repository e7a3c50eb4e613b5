//! RFC 7606 §3 i, §5.3, §7.11 and §7.12: faults of the fields that hold prefixes. Where the
//! prefixes are in doubt the session is reset; what is only odd changes nothing.

mod wire_support;

use router_user::bgp::wire::{Context, Family, FamilySet, Peering};
use wire_support::{
    OPTIONAL, attribute,
    attributes::{
        MP_REACH, MP_UNREACH,
        Outcome::{Accepted, Reset},
        Value, encoded, joined, judge, replaced, sessions, well_formed, whole,
    },
    context, decode_update, ipv4_only, update,
};

/// NOTIFICATION for the plain fields: invalid network field.
const INVALID_NETWORK: (u8, u8) = (3, 10);

/// Global address of a next hop.
const GLOBAL: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];

#[test]
fn rfc7606_5_3_prefixes_of_more_than_32_bits_in_the_plain_fields_reset_the_session() {
    for context in sessions() {
        for bits in 0..=255_u8 {
            let octets = usize::from(bits.div_ceil(8));
            let field = [vec![8, 10, bits], vec![7; octets]].concat();
            plain(&context, &field, bits <= 32, &format!("{bits} bits"));
        }
    }
}

#[test]
fn rfc7606_5_3_prefixes_cut_off_in_the_plain_fields_reset_the_session() {
    for context in sessions() {
        for bits in 1..=32_u8 {
            for octets in 0..usize::from(bits.div_ceil(8)) {
                let field = [vec![8, 10, bits], vec![7; octets]].concat();
                plain(
                    &context,
                    &field,
                    false,
                    &format!("{octets} octets for {bits} bits"),
                );
            }
        }
    }
}

#[test]
fn rfc7911_3_path_identifiers_cut_off_in_the_plain_fields_reset_the_session() {
    for context in sessions() {
        let context = Context {
            add_path_receive: ipv4_only(),
            ..context
        };
        let good = [0, 0, 0, 1, 8, 10, 0, 0, 0, 2, 24, 10, 1, 2];
        for len in 0..=good.len() {
            let whole = [0, 6, 14].contains(&len);
            plain(&context, &good[..len], whole, &format!("{len} bytes"));
        }
        let without_identifiers = [8, 10, 16, 11, 1];
        plain(&context, &without_identifiers, false, "no path identifiers");
    }
}

#[test]
fn rfc4271_4_3_trailing_bits_are_without_meaning_in_every_field() {
    for context in sessions() {
        let reach = [&[0, 2, 1, 16][..], &GLOBAL, &[0, 31, 0xfd, 0, 0, 3]].concat();
        let attributes = [
            encoded(OPTIONAL, MP_REACH, &reach),
            encoded(OPTIONAL, MP_UNREACH, &[0, 2, 1, 7, 0xfd]),
            others(&context),
        ]
        .concat();
        let message = update(&[15, 10, 3], &attributes, &[9, 10, 0xff]);
        let decoded = decode_update(&message, &context).expect("no session reset");
        assert_eq!(decoded.faults(), []);
        let withdrawn: Vec<_> = decoded
            .withdrawn()
            .map(|nlri| nlri.prefix.to_string())
            .collect();
        assert_eq!(withdrawn, ["10.2.0.0/15", "fc00::/7"]);
        let announced: Vec<_> = decoded
            .announced()
            .flat_map(|announced| announced.prefixes)
            .map(|nlri| nlri.prefix.to_string())
            .collect();
        assert_eq!(announced, ["10.128.0.0/9", "fd00:2::/31"]);
    }
}

#[test]
fn rfc7606_5_3_mp_reach_and_mp_unreach_that_are_too_short_reset_the_session() {
    for context in sessions() {
        for len in 0..3 {
            let value = &[0, 2, 1][..len];
            multiprotocol(&context, MP_UNREACH, value, false, &format!("{len} bytes"));
        }
        for family in [1, 2, 25] {
            for len in 0..5 {
                let value = &[0, family, 1, 0, 0][..len];
                multiprotocol(&context, MP_REACH, value, false, &format!("{len} bytes"));
            }
        }
        let reach = [&[0, 2, 1, 16][..], &GLOBAL, &[0]].concat();
        for len in 5..reach.len() {
            let what = format!("{len} bytes, less than its next hop takes");
            multiprotocol(&context, MP_REACH, &reach[..len], false, &what);
        }
    }
}

#[test]
fn rfc7606_7_11_next_hops_of_a_length_that_the_family_does_not_have_reset_the_session() {
    for context in sessions() {
        for extended_next_hop in [false, true] {
            let context = Context {
                extended_next_hop,
                ..context
            };
            for len in 0..=255_u8 {
                let next_hop = GLOBAL.iter().copied().cycle().take(len.into());
                let value = |afi: u8, prefix: &[u8]| -> Vec<u8> {
                    let head = [0, afi, 1, len].into_iter().chain(next_hop.clone());
                    head.chain([0]).chain(prefix.iter().copied()).collect()
                };
                let what = format!("next hop of {len} bytes, RFC 8950 {extended_next_hop}");
                let ipv6 = value(2, &[32, 0xfd, 0, 0, 2]);
                let fits = [16, 32].contains(&len);
                multiprotocol(&context, MP_REACH, &ipv6, fits, &what);
                let ipv4 = value(1, &[8, 12]);
                let fits = len == 4 || extended_next_hop && [16, 32].contains(&len);
                multiprotocol(&context, MP_REACH, &ipv4, fits, &what);
                // Nobody here knows what next hops of other families look like.
                let evpn = value(25, &[1, 2, 3]);
                multiprotocol(&context, MP_REACH, &evpn, true, &what);
            }
        }
    }
}

#[test]
fn rfc4760_3_the_reserved_octet_of_mp_reach_is_ignored() {
    for context in sessions() {
        for reserved in 0..=255 {
            let value = [&[0, 2, 1, 16][..], &GLOBAL, &[reserved, 32, 0xfd, 0, 0, 2]].concat();
            let bytes = encoded(OPTIONAL, MP_REACH, &value);
            let message = whole(&replaced(&context, MP_REACH, &bytes));
            let what = "reserved octet";
            judge(&message, &context, MP_REACH, Accepted, Value::Same, what);
        }
    }
}

#[test]
fn rfc7606_5_3_prefixes_longer_than_an_address_in_mp_reach_and_mp_unreach_reset_the_session() {
    for context in sessions() {
        for (afi, max) in [(1, 32), (2, 128)] {
            for bits in 0..=255_u8 {
                let octets = usize::from(bits.div_ceil(8));
                let prefixes = [vec![8, 0xfd, bits], vec![7; octets]].concat();
                let what = format!("AFI {afi}, {bits} bits");
                prefixes_of_both(&context, afi, &prefixes, bits <= max, &what);
            }
        }
    }
}

#[test]
fn rfc7606_5_3_prefixes_cut_off_in_mp_reach_and_mp_unreach_reset_the_session() {
    for context in sessions() {
        for (afi, bits) in [
            (1, 1),
            (1, 17),
            (1, 32),
            (2, 1),
            (2, 64),
            (2, 127),
            (2, 128),
        ] {
            for octets in 0..usize::from(u8::div_ceil(bits, 8)) {
                let prefixes = [vec![8, 0xfd, bits], vec![7; octets]].concat();
                let what = format!("AFI {afi}, {octets} octets for {bits} bits");
                prefixes_of_both(&context, afi, &prefixes, false, &what);
            }
        }
        let context = Context {
            add_path_receive: Family::ALL.into_iter().collect(),
            ..context
        };
        let good = [0, 0, 0, 1, 16, 0xfd, 0, 0, 0, 0, 2, 8, 0xfd];
        for len in 0..=good.len() {
            let whole = [0, 7, 13].contains(&len);
            let what = format!("path identifiers, {len} bytes");
            // The plain fields of the UPDATE have none.
            for code in [MP_REACH, MP_UNREACH] {
                let value = multiprotocol_value(code, 2, &good[..len]);
                let bytes = [encoded(OPTIONAL, code, &value), others(&context)].concat();
                let decoded = decode_update(&update(&[], &bytes, &[]), &context).map(|_| ());
                assert_eq!(decoded.is_ok(), whole, "{what}: {decoded:?}");
            }
        }
    }
}

#[test]
fn rfc4760_7_families_that_are_not_exchanged_are_ignored_whatever_their_prefixes() {
    for context in sessions() {
        let context = Context {
            families: ipv4_only(),
            ..context
        };
        for (afi, safi) in [(2, 1), (1, 2), (1, 128), (25, 70), (0, 0), (0xff, 0xff)] {
            for code in [MP_REACH, MP_UNREACH] {
                let mut value = multiprotocol_value(code, afi, &[255, 1, 2, 3]);
                value[2] = safi;
                let attributes = [encoded(OPTIONAL, code, &value), others(&context)].concat();
                let message = update(&[], &attributes, &[8, 10]);
                let decoded = decode_update(&message, &context).expect("no session reset");
                assert_eq!(decoded.malformed(), None);
                let announced: Vec<_> = decoded.announced().collect();
                assert_eq!(announced.len(), 1);
                assert_eq!(announced[0].prefixes.family(), Family::Ipv4Unicast);
            }
        }
    }
}

#[test]
fn rfc7606_5_2_end_of_rib_with_wrong_flags_is_a_faulty_mp_unreach() {
    let end = attribute(OPTIONAL, MP_UNREACH, &[0, 2, 1]);
    let context = context(Peering::External);
    let good = update(&[], &end, &[]);
    let decoded = decode_update(&good, &context).expect("no session reset");
    assert_eq!(decoded.end_of_rib(), Some(Family::Ipv6Unicast));
    for flags in [0, 0x40, 0xc0] {
        let bytes = attribute(flags, MP_UNREACH, &[0, 2, 1]);
        let message = update(&[], &bytes, &[]);
        let notification = decode_update(&message, &context).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 9));
        assert_eq!(notification.data, bytes);
    }
}

/// `field` as Withdrawn Routes and as NLRI: well-formed or a reset.
fn plain(context: &Context, field: &[u8], well_formed: bool, what: &str) {
    for (withdrawn, nlri) in [(field, &[][..]), (&[], field)] {
        let message = update(withdrawn, &others(context), nlri);
        match decode_update(&message, context) {
            Ok(decoded) => {
                assert!(well_formed, "{what}: no session reset");
                assert_eq!(decoded.faults(), [], "{what}");
            }
            Err(notification) => {
                assert!(!well_formed, "{what}: {notification}");
                let found = (notification.code, notification.subcode);
                assert_eq!(found, INVALID_NETWORK, "{what}");
                assert_eq!(notification.data, [] as [u8; 0], "{what}");
            }
        }
    }
    // Not the business of a session without IPv4 unicast.
    let ipv6 = Context {
        families: FamilySet::EMPTY.with(Family::Ipv6Unicast),
        ..*context
    };
    let message = update(field, &others(context), field);
    assert!(decode_update(&message, &ipv6).is_ok(), "{what}");
}

/// Attribute `code` with `value` in an UPDATE with everything else: well-formed or a reset that
/// quotes it.
fn multiprotocol(context: &Context, code: u8, value: &[u8], well_formed: bool, what: &str) {
    let bytes = encoded(OPTIONAL, code, value);
    let message = whole(&replaced(context, code, &bytes));
    if well_formed {
        let decoded = decode_update(&message, context).expect(what);
        assert_eq!(decoded.faults(), [], "{what}");
    } else {
        judge(&message, context, code, Reset(9, true), Value::Other, what);
    }
}

fn prefixes_of_both(context: &Context, afi: u8, prefixes: &[u8], well_formed: bool, what: &str) {
    for code in [MP_REACH, MP_UNREACH] {
        let value = multiprotocol_value(code, afi, prefixes);
        multiprotocol(context, code, &value, well_formed, what);
    }
}

/// The value of MP_REACH_NLRI or MP_UNREACH_NLRI for unicast prefixes of `afi`.
fn multiprotocol_value(code: u8, afi: u8, prefixes: &[u8]) -> Vec<u8> {
    let next_hop = match (code, afi) {
        (MP_UNREACH, _) => vec![],
        (_, 1) => vec![4, 10, 1, 10, 4, 0],
        _ => [&[16][..], &GLOBAL, &[0]].concat(),
    };
    [&[0, afi, 1][..], &next_hop, prefixes].concat()
}

/// The well-formed attributes without MP_REACH_NLRI and MP_UNREACH_NLRI.
fn others(context: &Context) -> Vec<u8> {
    let mut attributes = well_formed(context);
    attributes.retain(|(code, _)| ![MP_REACH, MP_UNREACH].contains(code));
    joined(&attributes)
}
