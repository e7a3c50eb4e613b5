//! Properties of the codec: what is encoded comes back equal, messages are packed full, and no
//! bytes whatsoever make it panic. `WAYPOST_WIRE_CASES=1000000` runs that many cases of each.

mod wire_support;

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{collection::vec, option, prelude::*, sample::select};
use router_user::bgp::{
    RouteChange,
    wire::{
        Aggregator, AsPath, AsSegment, AsSegmentKind, Asn, Capability, Context, Family, FamilySet,
        Message, NextHop, Nlri, Notification, Open, Origin, PathAttributes, Peering, RefreshKind,
        RouteRefresh, UnknownAttribute, decode, encode_announce, encode_keepalive, encode_withdraw,
        frame,
    },
};
use wire_support::{PARTIAL, changes, split};

proptest! {
    #![proptest_config(wire_support::config(300))]

    #[test]
    fn an_open_comes_back_equal(open in open()) {
        let mut out = BytesMut::new();
        open.encode(&mut out);
        prop_assert_eq!(decode(&out, &Context::default()), Ok(Message::Open(open)));
    }

    #[test]
    fn a_notification_comes_back_equal(
        code in any::<u8>(),
        subcode in any::<u8>(),
        data in vec(any::<u8>(), 0..300),
    ) {
        let notification = Notification::new(code, subcode, data);
        let mut out = BytesMut::new();
        notification.encode(&mut out);
        prop_assert!(!notification.to_string().is_empty());
        prop_assert_eq!(
            decode(&out, &Context::default()),
            Ok(Message::Notification(notification))
        );
    }

    #[test]
    fn a_route_refresh_comes_back_equal(
        afi in any::<u16>(),
        safi in any::<u8>(),
        kind in select(vec![RefreshKind::Request, RefreshKind::Begin, RefreshKind::End]),
    ) {
        let refresh = RouteRefresh { afi, kind, safi };
        let mut out = BytesMut::new();
        refresh.encode(&mut out);
        encode_keepalive(&mut out);
        let messages = split(&out);
        let context = Context::default();
        prop_assert_eq!(decode(messages[0], &context), Ok(Message::RouteRefresh(refresh)));
        prop_assert_eq!(decode(messages[1], &context), Ok(Message::Keepalive));
    }

    #[test]
    fn announced_routes_come_back_equal_and_packed_full(
        (context, family) in (context(), select(&Family::ALL[..])),
        attributes in attributes(),
        next_hop_v4 in any::<bool>(),
        nlri in vec(any::<(u128, u8, u32)>(), 1..1500),
    ) {
        let nlri: Vec<Nlri> = nlri
            .into_iter()
            .map(|key| self::nlri(family, context.add_path_send, key))
            .collect();
        let attributes = sendable(attributes, &context, family, next_hop_v4);
        let mut out = BytesMut::new();
        encode_announce(&context, &attributes, nlri.iter().copied(), &mut out).unwrap();
        let messages = split(&out);
        assert_packed(&messages, &context)?;
        let mut received = Vec::new();
        for message in messages {
            let changes = changes(message, &context);
            prop_assert_eq!(changes.len(), 1);
            let Some(RouteChange::Announce { attributes: shared, nlri }) = changes.first() else {
                return Err(TestCaseError::fail(format!("{changes:?}")));
            };
            prop_assert_eq!(&**shared, &attributes);
            received.extend(nlri.iter().copied());
        }
        prop_assert_eq!(received, nlri);
    }

    #[test]
    fn withdrawn_routes_come_back_equal_and_packed_full(
        (context, family) in (context(), select(&Family::ALL[..])),
        nlri in vec(any::<(u128, u8, u32)>(), 1..1500),
    ) {
        let nlri: Vec<Nlri> = nlri
            .into_iter()
            .map(|key| self::nlri(family, context.add_path_send, key))
            .collect();
        let mut out = BytesMut::new();
        encode_withdraw(&context, nlri.iter().copied(), &mut out);
        let messages = split(&out);
        assert_packed(&messages, &context)?;
        let mut received = Vec::new();
        for message in messages {
            let changes = changes(message, &context);
            let [RouteChange::Withdraw { nlri, malformed: None }] = &changes[..] else {
                return Err(TestCaseError::fail(format!("{changes:?}")));
            };
            received.extend(nlri.iter().copied());
        }
        prop_assert_eq!(received, nlri);
    }

    #[test]
    fn random_bytes_never_panic(
        context in context(),
        kind in 0..7_u8,
        body in vec(any::<u8>(), 0..200),
    ) {
        let message = wire_support::message(kind, &body);
        use_all_of(&message, &context);
        use_all_of(&body, &context);
    }

    #[test]
    fn mutated_updates_never_panic_and_what_they_announce_can_be_passed_on(
        context in context(),
        other in context(),
        attributes in attributes(),
        nlri in vec(any::<(u128, u8, u32)>(), 1..20),
        family in select(&Family::ALL[..]),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let nlri: Vec<Nlri> = nlri
            .into_iter()
            .map(|key| self::nlri(family, context.add_path_send, key))
            .collect();
        let attributes = sendable(attributes, &context, family, false);
        let mut out = BytesMut::new();
        encode_announce(&context, &attributes, nlri, &mut out).unwrap();
        let mut message = out.to_vec();
        for (place, value) in mutations {
            let body = message.len() - 19;
            message[19 + place.index(body)] = value;
        }
        use_all_of(&message, &context);
        use_all_of(&message, &other);
    }
}

/// Decodes, looks at everything, and encodes again what was announced.
fn use_all_of(message: &[u8], context: &Context) {
    let _ = frame(message, context.max_message_len());
    match decode(message, context) {
        Ok(Message::Update(update)) => {
            let faults: Vec<String> = update.faults().iter().map(ToString::to_string).collect();
            assert!(faults.iter().all(|text| !text.is_empty()));
            for change in update.into_changes() {
                pass_on(change, context);
            }
        }
        Ok(other) => assert!(!format!("{other:?}").is_empty()),
        Err(notification) => {
            assert!(!notification.to_string().is_empty());
            notification.encode(&mut BytesMut::new());
        }
    }
}

fn pass_on(change: RouteChange, context: &Context) {
    let mut out = BytesMut::new();
    match change {
        RouteChange::Announce { attributes, nlri } => {
            assert!(nlri.iter().all(|nlri| nlri.prefix == nlri.prefix.trunc()));
            assert!(!format!("{}", attributes.as_path).contains("  "));
            // Attributes may have grown, by LOCAL_PREF or AS4_PATH, beyond what fits.
            let _ = encode_announce(context, &attributes, nlri, &mut out);
        }
        RouteChange::Withdraw { nlri, .. } => encode_withdraw(context, nlri, &mut out),
        RouteChange::EndOfRib(_) => {}
    }
}

/// No message is longer than allowed, and each but the last has no room for the longest prefix.
fn assert_packed(messages: &[&[u8]], context: &Context) -> Result<(), TestCaseError> {
    const LONGEST_PREFIX: usize = 21;
    let max = context.max_message_len();
    for (index, message) in messages.iter().enumerate() {
        prop_assert!(message.len() <= max);
        if index + 1 < messages.len() {
            prop_assert!(
                message.len() + LONGEST_PREFIX > max,
                "{} bytes",
                message.len()
            );
        }
    }
    Ok(())
}

/// What of `attributes` is sent on a session with this context, so that it comes back equal.
fn sendable(
    mut attributes: PathAttributes,
    context: &Context,
    family: Family,
    next_hop_v4: bool,
) -> PathAttributes {
    let v4 = NextHop::V4(Ipv4Addr::new(10, 1, 10, 4));
    attributes.next_hop = Some(match (family, attributes.next_hop) {
        (Family::Ipv4Unicast, Some(NextHop::V4(_)) | None) => v4,
        (Family::Ipv4Unicast, _) if next_hop_v4 || !context.extended_next_hop => v4,
        (Family::Ipv6Unicast, Some(NextHop::V4(_)) | None) => NextHop::V6 {
            global: Ipv6Addr::LOCALHOST,
            link_local: None,
        },
        (_, Some(next_hop)) => next_hop,
    });
    match context.peering {
        Peering::Internal => {
            attributes.local_pref.get_or_insert(100);
        }
        Peering::External => {
            attributes.local_pref = None;
            attributes.originator_id = None;
            attributes.cluster_list.clear();
        }
    }
    attributes
}

prop_compose! {
    /// Both ways alike, so that one context serves both ends.
    fn context()(
        internal in any::<bool>(),
        four_octet_asn in any::<bool>(),
        extended_message in any::<bool>(),
        extended_next_hop in any::<bool>(),
        add_path in vec(select(&Family::ALL[..]), 0..2),
    ) -> Context {
        let add_path: FamilySet = add_path.into_iter().collect();
        Context {
            peering: if internal { Peering::Internal } else { Peering::External },
            families: Family::ALL.into_iter().collect(),
            four_octet_asn,
            extended_message,
            extended_next_hop,
            add_path_receive: add_path,
            add_path_send: add_path,
        }
    }
}

fn nlri(family: Family, add_path: FamilySet, (address, len, path_id): (u128, u8, u32)) -> Nlri {
    let prefix: IpNet = match family {
        Family::Ipv4Unicast => Ipv4Net::new(Ipv4Addr::from_bits(address as u32), len % 33)
            .unwrap()
            .trunc()
            .into(),
        Family::Ipv6Unicast => Ipv6Net::new(Ipv6Addr::from_bits(address), len % 129)
            .unwrap()
            .trunc()
            .into(),
    };
    let path_id = if add_path.contains(family) {
        path_id
    } else {
        0
    };
    Nlri { prefix, path_id }
}

prop_compose! {
    fn attributes()(
        origin in select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        as_path in as_path(),
        (med, local_pref, only_to_customer) in any::<(Option<u32>, Option<u32>, Option<u32>)>(),
        next_hop in option::of(next_hop()),
        atomic_aggregate in any::<bool>(),
        aggregator in option::of((1_u32.., any::<u32>()).prop_map(|(asn, id)| Aggregator {
            asn,
            id: Ipv4Addr::from_bits(id),
        })),
        mut communities in vec(any::<u32>(), 0..100),
        mut extended_communities in vec(any::<[u8; 8]>(), 0..40),
        mut large_communities in vec(any::<[u32; 3]>(), 0..30),
        originator_id in option::of(any::<u32>().prop_map(Ipv4Addr::from_bits)),
        cluster_list in vec(any::<u32>().prop_map(Ipv4Addr::from_bits), 0..4),
        mut unknown in vec((64..=255_u8, vec(any::<u8>(), 0..300)), 0..3),
    ) -> PathAttributes {
        communities.sort_unstable();
        communities.dedup();
        extended_communities.sort_unstable();
        extended_communities.dedup();
        large_communities.sort_unstable();
        large_communities.dedup();
        unknown.sort_unstable();
        unknown.dedup_by_key(|(code, _)| *code);
        PathAttributes {
            origin,
            as_path,
            next_hop,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            communities,
            extended_communities,
            large_communities,
            originator_id,
            cluster_list,
            only_to_customer,
            unknown: unknown
                .into_iter()
                .map(|(code, value)| UnknownAttribute {
                    flags: 0xc0 | PARTIAL,
                    code,
                    value: value.into(),
                })
                .collect(),
        }
    }
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        any::<u32>().prop_map(|address| NextHop::V4(Ipv4Addr::from_bits(address))),
        (any::<u128>(), option::of(1_u128..)).prop_map(|(global, link_local)| NextHop::V6 {
            global: Ipv6Addr::from_bits(global),
            link_local: link_local.map(Ipv6Addr::from_bits),
        }),
    ]
}

/// Confederation segments lead and have 2-octet numbers, as AS4_PATH cannot carry them (RFC 6793
/// §4.2.2); no two sequences stand side by side, as decoding joins them.
fn as_path() -> impl Strategy<Value = AsPath> {
    let confederation = segments(
        &[AsSegmentKind::ConfedSequence, AsSegmentKind::ConfedSet],
        0xffff,
        2,
    );
    let others = segments(&[AsSegmentKind::Sequence, AsSegmentKind::Set], Asn::MAX, 4);
    (confederation, others).prop_map(|(leading, others)| {
        let mut segments: Vec<AsSegment> = [leading, others].concat();
        segments.dedup_by(|b, a| a.kind == b.kind && a.kind.is_sequence());
        AsPath {
            segments: segments.into(),
        }
    })
}

fn segments(
    kinds: &'static [AsSegmentKind],
    largest: Asn,
    max: usize,
) -> impl Strategy<Value = Vec<AsSegment>> {
    let asn = prop_oneof![1..=0xffff_u32, 1..=largest];
    let segment =
        (select(kinds), vec(asn, 1..20), prop::num::u8::ANY).prop_map(|(kind, mut asns, long)| {
            // Now and then a sequence longer than a segment.
            if kind == AsSegmentKind::Sequence && long < 8 {
                asns = asns.repeat(20);
            }
            AsSegment {
                kind,
                asns: asns.into(),
            }
        });
    vec(segment, 0..max)
}

prop_compose! {
    fn open()(
        my_asn in 1..=0xffff_u32,
        hold_time in any::<u16>(),
        router_id in any::<u32>(),
        capabilities in vec(capability(), 0..12),
    ) -> Open {
        let mut open = Open {
            asn: my_asn,
            hold_time,
            router_id: Ipv4Addr::from_bits(router_id),
            capabilities,
        };
        open.asn = open.four_octet_asn().unwrap_or(my_asn);
        open
    }
}

fn capability() -> impl Strategy<Value = Capability> {
    let family = || any::<(u16, u8, u8)>();
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi }),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::EnhancedRouteRefresh),
        any::<u8>().prop_map(Capability::Role),
        (1_u32..).prop_map(Capability::FourOctetAsn),
        vec(any::<(u16, u16, u16)>(), 0..42).prop_map(Capability::ExtendedNextHop),
        vec(family(), 0..63).prop_map(Capability::AddPath),
        (0..16_u8, 0..4096_u16, vec(family(), 0..63)).prop_map(
            |(flags, restart_time, families)| Capability::GracefulRestart {
                flags,
                restart_time,
                families,
            }
        ),
        vec(
            (any::<u16>(), any::<u8>(), any::<u8>(), 0..1_u32 << 24),
            0..36
        )
        .prop_map(Capability::LongLivedGracefulRestart),
        (100_u8.., vec(any::<u8>(), 0..255)).prop_map(|(code, value)| Capability::Unknown {
            code,
            value: value.into(),
        }),
    ]
}
