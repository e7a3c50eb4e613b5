//! Properties of decoding: whatever the bytes, it ends, never panics, loses no prefix, costs no more
//! than RFC 7606 says, and what it accepts comes back equal. `wire_roundtrip` does the same for
//! what is encoded first. `WAYPOST_WIRE_CASES=1000000` runs that many cases of each.

mod wire_support;

use std::collections::BTreeSet;

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*, sample::select};
use router_user::bgp::{
    RouteChange,
    wire::{
        Capability, Context, Disposition, Family, MAX_LEN, Message, Nlri, Notification, Open,
        Peering, RefreshKind, RouteRefresh, decode, encode_announce, encode_keepalive, frame,
    },
};
use wire_support::{
    PARTIAL,
    attributes::{RULES, encoded, replaced, sessions, whole},
    changes, decode_update, message, split, update,
};

proptest! {
    #![proptest_config(wire_support::config(500))]

    #[test]
    fn a_stream_is_cut_into_messages_until_it_ends_or_is_refused(
        pieces in vec(piece(), 0..8),
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        extended in any::<bool>(),
    ) {
        let context = Context { extended_message: extended, ..Context::default() };
        let mut stream = pieces.concat();
        spoil(&mut stream, &spoilt);
        let mut rest = &stream[..];
        while let Ok(Some(len)) = frame(rest, context.max_message_len()) {
            prop_assert!((19..=context.max_message_len()).contains(&len));
            let (message, after) = rest.split_at(len);
            if let Err(notification) = decode(message, &context) {
                prop_assert!((1..=7).contains(&notification.code), "{notification:?}");
                let mut answer = BytesMut::new();
                notification.encode(&mut answer);
                prop_assert!(answer.len() <= MAX_LEN);
                prop_assert!(decode(&answer, &context).is_ok());
            }
            rest = after;
        }
    }

    #[test]
    fn rfc7606_3e_and_3f_no_value_of_any_attribute_resets_the_session_or_loses_a_prefix(
        session in select(sessions()),
        rule in 2..RULES.len(),
        value in vec(any::<u8>(), 0..300),
    ) {
        // Neither MP_REACH_NLRI nor MP_UNREACH_NLRI, the first two.
        let rule = &RULES[rule];
        let bytes = encoded(rule.flags, rule.code, &value);
        let message = whole(&replaced(&session, rule.code, &bytes));
        every_prefix_is_there(&message, &session)?;
    }

    #[test]
    fn rfc7606_2_no_mix_of_known_attributes_resets_the_session_or_loses_a_prefix(
        session in select(sessions()),
        attributes in vec((2..RULES.len(), any::<u8>(), vec(any::<u8>(), 0..20)), 0..12),
        overrun in prop::option::of((2..RULES.len(), vec(any::<u8>(), 0..20))),
    ) {
        let mut bytes = replaced(&session, 1, &[]);
        for (rule, flags, value) in attributes {
            let rule = &RULES[rule];
            // What nobody knows may be anything but well-known.
            let known = if rule.is_known() { 0 } else { 0x80 };
            bytes.extend(encoded(flags | known, rule.code, &value));
        }
        if let Some((rule, value)) = overrun {
            bytes.extend([0x40, RULES[rule].code, 255]);
            bytes.extend(value);
        }
        every_prefix_is_there(&whole(&bytes), &session)?;
    }

    #[test]
    fn random_attributes_are_read_to_their_end_and_what_is_accepted_comes_back_equal(
        session in context(),
        attributes in vec(attribute(), 0..12),
        withdrawn in vec(any::<u8>(), 0..6),
        nlri in vec(any::<u8>(), 0..10),
    ) {
        let message = update(&withdrawn, &attributes.concat(), &nlri);
        again(&message, &session)?;
    }

    #[test]
    fn spoilt_updates_with_every_attribute_come_back_equal_where_they_are_accepted(
        session in context(),
        from in select(sessions()),
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = whole(&replaced(&from, 0, &[]));
        spoil(&mut message[19..], &spoilt);
        again(&message, &session)?;
        again(&message, &from)?;
    }

    #[test]
    fn spoilt_opens_are_refused_or_come_back_equal(
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = BytesMut::new();
        full_open().encode(&mut bytes);
        let mut body = bytes[19..].to_vec();
        spoil(&mut body, &spoilt);
        for body in [&body[..], &body[..cut.index(body.len())]] {
            let message = message(1, body);
            match decode(&message, &Context::default()) {
                Ok(Message::Open(open)) => {
                    let mut again = BytesMut::new();
                    open.encode(&mut again);
                    let context = Context::default();
                    prop_assert_eq!(decode(&again, &context), Ok(Message::Open(open)));
                }
                Ok(other) => prop_assert!(false, "{other:?}"),
                Err(notification) => prop_assert!([1, 2].contains(&notification.code)),
            }
        }
    }
}

/// No session reset, and each of the five prefixes of a [`whole`] UPDATE is announced or withdrawn.
fn every_prefix_is_there(message: &[u8], context: &Context) -> Result<(), TestCaseError> {
    let decoded = match decode_update(message, context) {
        Ok(decoded) => decoded,
        Err(notification) => return Err(TestCaseError::fail(notification.to_string())),
    };
    let worst = decoded.faults().iter().map(|fault| fault.disposition).max();
    prop_assert!(worst < Some(Disposition::SessionReset));
    let mut prefixes = BTreeSet::new();
    for change in decoded.into_changes() {
        match change {
            RouteChange::Announce { nlri, .. } => {
                prop_assert!(worst < Some(Disposition::TreatAsWithdraw));
                prefixes.extend(nlri.iter().map(|nlri| nlri.prefix));
            }
            RouteChange::Withdraw { nlri, .. } => {
                prefixes.extend(nlri.iter().map(|nlri| nlri.prefix));
            }
            RouteChange::EndOfRib(family) => {
                return Err(TestCaseError::fail(format!("End-of-RIB of {family}")));
            }
        }
    }
    prop_assert_eq!(prefixes.len(), 5);
    Ok(())
}

/// Decodes; what is announced must come back equal once encoded. Old speakers' sessions lose what
/// AS4_PATH cannot carry, so that there only the encoding is tried.
fn again(message: &[u8], context: &Context) -> Result<(), TestCaseError> {
    let Ok(decoded) = decode_update(message, context) else {
        return Ok(());
    };
    for change in decoded.into_changes() {
        let RouteChange::Announce { attributes, nlri } = change else {
            continue;
        };
        let mut out = BytesMut::new();
        if let Err(error) = encode_announce(context, &attributes, nlri.clone(), &mut out) {
            // LOCAL_PREF, AS4_PATH or two-octet lengths may have been added.
            prop_assert!(message.len() > 4000, "{error}");
            continue;
        }
        if !context.four_octet_asn {
            continue;
        }
        let mut expected = (*attributes).clone();
        for unknown in &mut expected.unknown {
            unknown.flags |= PARTIAL;
        }
        let mut received: Vec<Nlri> = Vec::new();
        for message in split(&out) {
            let changes = changes(message, context);
            let [RouteChange::Announce { attributes, nlri }] = &changes[..] else {
                return Err(TestCaseError::fail(format!("{changes:?}")));
            };
            prop_assert_eq!(&**attributes, &expected);
            received.extend(nlri);
        }
        prop_assert_eq!(received, nlri);
    }
    Ok(())
}

fn spoil(bytes: &mut [u8], changes: &[(prop::sample::Index, u8)]) {
    if bytes.is_empty() {
        return;
    }
    for (place, value) in changes {
        bytes[place.index(bytes.len())] = *value;
    }
}

/// A message of any type, well-formed, or a few bytes of nothing.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let encode = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    };
    let refresh = RouteRefresh::new(Family::Ipv4Unicast, RefreshKind::Request);
    let notification = Notification::administrative_shutdown("maintenance");
    let updates = sessions()
        .into_iter()
        .map(|session| whole(&replaced(&session, 0, &[])));
    let mut pieces = vec![
        encode(&|out| encode_keepalive(out)),
        encode(&|out| refresh.encode(out)),
        encode(&|out| notification.encode(out)),
        encode(&|out| full_open().encode(out)),
    ];
    pieces.extend(updates);
    prop_oneof![9 => select(pieces), 1 => vec(any::<u8>(), 0..30)]
}

/// With every capability.
fn full_open() -> Open {
    Open {
        asn: 65010,
        hold_time: 180,
        router_id: [10, 1, 10, 4].into(),
        capabilities: vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::ExtendedMessage,
            Capability::Role(3),
            Capability::GracefulRestart {
                flags: 12,
                restart_time: 120,
                families: vec![(1, 1, 0x80), (2, 1, 0)],
            },
            Capability::FourOctetAsn(65010),
            Capability::AddPath(vec![(1, 1, 3)]),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(vec![(1, 1, 0x80, 86_400)]),
            Capability::Unknown {
                code: 73,
                value: [3, b'n', b'v', b'a'].into(),
            },
        ],
    }
}

/// An attribute whose header is right about its length, of a known type more often than not.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let rule = 0..RULES.len();
    prop_oneof![
        4 => (rule.clone(), any::<bool>()).prop_map(|(rule, four_octet_asn)| {
            let context = Context { four_octet_asn, ..Context::default() };
            RULES[rule].good(&context)
        }),
        3 => (rule, vec(any::<u8>(), 0..40))
            .prop_map(|(rule, value)| encoded(RULES[rule].flags, RULES[rule].code, &value)),
        1 => (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..40))
            .prop_map(|(flags, code, value)| encoded(flags, code, &value)),
    ]
}

prop_compose! {
    fn context()(
        internal in any::<bool>(),
        [four_octet_asn, extended_message, extended_next_hop, add_path] in any::<[bool; 4]>(),
        families in vec(select(&Family::ALL[..]), 1..3),
    ) -> Context {
        let add_path = families.iter().copied().filter(|_| add_path).collect();
        Context {
            peering: if internal { Peering::Internal } else { Peering::External },
            families: families.into_iter().collect(),
            four_octet_asn,
            extended_message,
            extended_next_hop,
            add_path_receive: add_path,
            add_path_send: add_path,
        }
    }
}
