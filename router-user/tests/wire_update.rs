//! UPDATEs byte by byte, section by section of the RFCs.

mod wire_support;

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use ipnet::IpNet;
use router_user::bgp::{
    RouteChange,
    wire::{
        Aggregator, AsPath, Context, EncodeError, Family, FamilySet, NextHop, Nlri, Origin,
        PathAttributes, Peering, UnknownAttribute, encode_announce, encode_end_of_rib,
        encode_withdraw,
    },
};
use wire_support::{
    OPTIONAL, PARTIAL, TEN, TRANSITIVE, attribute, changes, context, decode_update, ipv4_only,
    split, update,
};

#[test]
fn rfc4271_4_3_withdrawals_come_before_announcements_of_the_same_update() {
    let message = update(&[16, 10, 1], &mandatory(), &[8, 10, 24, 10, 2, 3]);
    let changes = changes(&message, &context(Peering::External));
    let [
        RouteChange::Withdraw {
            nlri: withdrawn,
            malformed: None,
        },
        RouteChange::Announce { attributes, nlri },
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(withdrawn, &[nlri_of("10.1.0.0/16")]);
    assert_eq!(nlri, &[nlri_of("10.0.0.0/8"), nlri_of("10.2.3.0/24")]);
    assert_eq!(**attributes, plain_route());
}

#[test]
fn rfc4271_5_every_attribute_is_read_from_an_internal_peer() {
    let attributes = [
        attribute(TRANSITIVE, 1, &[2]),
        attribute(TRANSITIVE, 2, &[2, 1, 0, 0, 0xfd, 0xf2]),
        attribute(TRANSITIVE, 3, &[10, 1, 10, 4]),
        attribute(OPTIONAL, 4, &[0, 0, 0, 50]),
        attribute(TRANSITIVE, 5, &[0, 0, 0, 200]),
        attribute(TRANSITIVE, 6, &[]),
        attribute(OPTIONAL | TRANSITIVE, 7, &[0, 1, 0, 0, 1, 1, 1, 1]),
        attribute(OPTIONAL | TRANSITIVE, 8, &[0, 1, 0, 2, 0, 1, 0, 1]),
        attribute(OPTIONAL, 9, &[2, 2, 2, 2]),
        attribute(OPTIONAL, 10, &[3, 3, 3, 3, 4, 4, 4, 4]),
        attribute(OPTIONAL | TRANSITIVE, 16, &[0, 2, 0, 1, 0, 0, 0, 7]),
        attribute(
            OPTIONAL | TRANSITIVE,
            32,
            &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        ),
        attribute(OPTIONAL | TRANSITIVE, 35, &[0, 0, 0xff, 0xeb]),
        attribute(OPTIONAL | TRANSITIVE, 200, &[9]),
    ]
    .concat();
    let expected = PathAttributes {
        origin: Origin::Incomplete,
        as_path: AsPath::sequence([65010]),
        next_hop: Some(NextHop::V4(Ipv4Addr::new(10, 1, 10, 4))),
        med: Some(50),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 65536,
            id: Ipv4Addr::new(1, 1, 1, 1),
        }),
        communities: vec![0x0001_0001, 0x0001_0002],
        extended_communities: vec![[0, 2, 0, 1, 0, 0, 0, 7]],
        large_communities: vec![[1, 2, 3]],
        originator_id: Some(Ipv4Addr::new(2, 2, 2, 2)),
        cluster_list: vec![Ipv4Addr::new(3, 3, 3, 3), Ipv4Addr::new(4, 4, 4, 4)],
        only_to_customer: Some(65515),
        unknown: vec![UnknownAttribute {
            flags: OPTIONAL | TRANSITIVE,
            code: 200,
            value: [9].into(),
        }],
    };
    let internal = context(Peering::Internal);
    assert_eq!(
        announced(&update(&[], &attributes, TEN), &internal),
        expected
    );

    let mut out = BytesMut::new();
    encode_announce(&internal, &expected, [nlri_of("10.0.0.0/8")], &mut out).unwrap();
    let sorted = [0, 1, 0, 1, 0, 1, 0, 2];
    let attributes = attributes
        .windows(8)
        .position(|window| window == [0, 1, 0, 2, 0, 1, 0, 1])
        .map(|at| [&attributes[..at], &sorted, &attributes[at + 8..]].concat())
        .unwrap();
    let partial = [
        &attributes[..attributes.len() - 4],
        &attribute(OPTIONAL | TRANSITIVE | PARTIAL, 200, &[9]),
    ]
    .concat();
    assert_eq!(
        out[..],
        update(&[], &partial, TEN),
        "in order of type; communities sorted; the unknown attribute partial (RFC 4271 §5)"
    );
}

#[test]
fn rfc4271_5_1_5_and_rfc4456_8_what_belongs_within_an_as_is_not_sent_outside() {
    let route = PathAttributes {
        local_pref: Some(200),
        originator_id: Some(Ipv4Addr::new(2, 2, 2, 2)),
        cluster_list: vec![Ipv4Addr::new(3, 3, 3, 3)],
        ..plain_route()
    };
    let external = context(Peering::External);
    let mut out = BytesMut::new();
    encode_announce(&external, &route, [nlri_of("10.0.0.0/8")], &mut out).unwrap();
    assert_eq!(out[..], update(&[], &mandatory(), TEN));

    let internal = context(Peering::Internal);
    let mut out = BytesMut::new();
    encode_announce(&internal, &plain_route(), [nlri_of("10.0.0.0/8")], &mut out).unwrap();
    assert_eq!(
        announced(&out, &internal).local_pref,
        Some(100),
        "an internal peer is always sent a LOCAL_PREF"
    );
}

#[test]
fn rfc4271_9_unknown_non_transitive_attributes_are_dropped_without_a_word() {
    let attributes = [mandatory(), attribute(OPTIONAL, 201, &[1, 2])].concat();
    let message = update(&[], &attributes, TEN);
    let external = context(Peering::External);
    assert_eq!(announced(&message, &external), plain_route());
    assert_eq!(decode_update(&message, &external).unwrap().faults(), []);
}

#[test]
fn rfc4760_3_ipv6_routes_come_with_their_next_hop() {
    let global: Ipv6Addr = "fd00:1::4".parse().unwrap();
    let link_local: Ipv6Addr = "fe80::4".parse().unwrap();
    let unspecified = Ipv6Addr::UNSPECIFIED;
    for (addresses, expected) in [
        (vec![global], v6_next_hop(global, None)),
        (vec![link_local], v6_next_hop(link_local, None)),
        (
            vec![global, link_local],
            v6_next_hop(global, Some(link_local)),
        ),
        (vec![global, unspecified], v6_next_hop(global, None)),
    ] {
        let mut reach = vec![0, 2, 1, 16 * addresses.len() as u8];
        reach.extend(addresses.iter().flat_map(Ipv6Addr::octets));
        reach.push(0);
        reach.extend([32, 0xfd, 0, 0, 2]);
        let attributes = [
            attribute(OPTIONAL, 14, &reach),
            attribute(TRANSITIVE, 1, &[0]),
            attribute(TRANSITIVE, 2, &[2, 1, 0, 0, 0xfd, 0xf2]),
        ]
        .concat();
        let message = update(&[], &attributes, &[]);
        let changes = changes(&message, &context(Peering::External));
        let [RouteChange::Announce { attributes, nlri }] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(nlri, &[nlri_of("fd00:2::/32")]);
        assert_eq!(attributes.next_hop, Some(expected));
    }
}

#[test]
fn rfc4760_both_families_of_one_update_keep_their_own_next_hop() {
    let mut reach = vec![0, 2, 1, 16];
    reach.extend("fd00:1::4".parse::<Ipv6Addr>().unwrap().octets());
    reach.extend([0, 0]);
    let attributes = [
        attribute(OPTIONAL, 14, &reach),
        attribute(OPTIONAL, 15, &[0, 2, 1, 8, 0xfd]),
        mandatory(),
    ]
    .concat();
    let message = update(&[16, 10, 1], &attributes, TEN);
    let changes = changes(&message, &context(Peering::External));
    let [
        RouteChange::Withdraw {
            nlri: withdrawn, ..
        },
        RouteChange::Announce {
            attributes: v4,
            nlri: v4_nlri,
        },
        RouteChange::Announce {
            attributes: v6,
            nlri: v6_nlri,
        },
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(withdrawn, &[nlri_of("10.1.0.0/16"), nlri_of("fd00::/8")]);
    assert_eq!(v4_nlri, &[nlri_of("10.0.0.0/8")]);
    assert_eq!(v6_nlri, &[nlri_of("::/0")]);
    assert_eq!(v4.next_hop.unwrap().to_string(), "10.1.10.4");
    assert_eq!(v6.next_hop.unwrap().to_string(), "fd00:1::4");
}

#[test]
fn rfc4760_families_that_are_not_exchanged_are_ignored() {
    let vpn = attribute(
        OPTIONAL,
        14,
        &[0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 9],
    );
    let mut ipv6 = vec![0, 2, 1, 16];
    ipv6.extend([0xfd; 16]);
    ipv6.extend([0, 0]);
    let ipv4_only = Context {
        families: ipv4_only(),
        ..context(Peering::External)
    };
    for reach in [vpn, attribute(OPTIONAL, 14, &ipv6)] {
        let message = update(&[], &[reach, mandatory()].concat(), &[]);
        assert_eq!(changes(&message, &ipv4_only), []);
    }
    let unreach = attribute(OPTIONAL, 15, &[0, 2, 1, 8, 0xfd]);
    assert_eq!(changes(&update(&[], &unreach, &[]), &ipv4_only), []);
    let ipv6_only = Context {
        families: FamilySet::EMPTY.with(Family::Ipv6Unicast),
        ..context(Peering::External)
    };
    assert_eq!(changes(&update(TEN, &mandatory(), TEN), &ipv6_only), []);
}

#[test]
fn rfc4724_2_end_of_rib_is_an_update_that_says_nothing() {
    let external = context(Peering::External);
    for family in Family::ALL {
        let mut out = BytesMut::new();
        encode_end_of_rib(family, &mut out);
        assert_eq!(changes(&out, &external), [RouteChange::EndOfRib(family)]);
    }
    let mut out = BytesMut::new();
    encode_end_of_rib(Family::Ipv4Unicast, &mut out);
    assert_eq!(out[..], update(&[], &[], &[]));
    let unreach = attribute(OPTIONAL, 15, &[0, 1, 1]);
    assert_eq!(
        changes(&update(&[], &unreach, &[]), &external),
        [RouteChange::EndOfRib(Family::Ipv4Unicast)],
        "IPv4 unicast may be ended in multiprotocol form too"
    );
    let with_more = [unreach, attribute(TRANSITIVE, 1, &[0])].concat();
    assert_eq!(changes(&update(&[], &with_more, &[]), &external), []);
}

#[test]
fn rfc6793_4_2_2_an_old_speaker_gets_as_trans_and_the_rest_in_as4_attributes() {
    let old = Context {
        four_octet_asn: false,
        ..context(Peering::External)
    };
    let route = PathAttributes {
        as_path: AsPath::sequence([65010, 4_200_000_000]),
        aggregator: Some(Aggregator {
            asn: 4_200_000_000,
            id: Ipv4Addr::new(1, 1, 1, 1),
        }),
        ..plain_route()
    };
    let mut out = BytesMut::new();
    encode_announce(&old, &route, [nlri_of("10.0.0.0/8")], &mut out).unwrap();
    let expected = [
        attribute(TRANSITIVE, 1, &[0]),
        attribute(TRANSITIVE, 2, &[2, 2, 0xfd, 0xf2, 0x5b, 0xa0]),
        attribute(TRANSITIVE, 3, &[10, 1, 10, 4]),
        attribute(OPTIONAL | TRANSITIVE, 7, &[0x5b, 0xa0, 1, 1, 1, 1]),
        attribute(
            OPTIONAL | TRANSITIVE,
            17,
            &[2, 2, 0, 0, 0xfd, 0xf2, 0xfa, 0x56, 0xea, 0],
        ),
        attribute(
            OPTIONAL | TRANSITIVE,
            18,
            &[0xfa, 0x56, 0xea, 0, 1, 1, 1, 1],
        ),
    ]
    .concat();
    assert_eq!(out[..], update(&[], &expected, TEN));
    assert_eq!(announced(&out, &old), route);
}

#[test]
fn rfc7911_3_path_identifiers_go_each_way_as_agreed() {
    let receives = Context {
        add_path_receive: ipv4_only(),
        ..context(Peering::External)
    };
    let message = update(&[0, 0, 0, 9, 8, 11], &mandatory(), &[0, 0, 0, 7, 8, 10]);
    let changes = changes(&message, &receives);
    let [
        RouteChange::Withdraw {
            nlri: withdrawn, ..
        },
        RouteChange::Announce { nlri, .. },
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!((withdrawn[0].path_id, nlri[0].path_id), (9, 7));

    let sends = Context {
        add_path_send: ipv4_only(),
        ..context(Peering::External)
    };
    let mut out = BytesMut::new();
    encode_announce(&sends, &plain_route(), nlri.clone(), &mut out).unwrap();
    assert_eq!(out[..], update(&[], &mandatory(), &[0, 0, 0, 7, 8, 10]));
    let mut out = BytesMut::new();
    encode_announce(&receives, &plain_route(), nlri.clone(), &mut out).unwrap();
    assert_eq!(out[..], update(&[], &mandatory(), TEN));
    let mut out = BytesMut::new();
    encode_withdraw(&sends, withdrawn.clone(), &mut out);
    assert_eq!(out[..], update(&[0, 0, 0, 9, 8, 11], &[], &[]));
}

#[test]
fn rfc8950_ipv4_routes_have_ipv6_next_hops_once_agreed() {
    let route = PathAttributes {
        next_hop: Some(v6_next_hop("fd00:1::4".parse().unwrap(), None)),
        ..plain_route()
    };
    let plain = context(Peering::External);
    let extended = Context {
        extended_next_hop: true,
        ..plain
    };
    let ten = nlri_of("10.0.0.0/8");
    let mut out = BytesMut::new();
    assert_eq!(
        encode_announce(&plain, &route, [ten], &mut out),
        Err(EncodeError::NextHop {
            family: Family::Ipv4Unicast,
            next_hop: route.next_hop.unwrap()
        })
    );
    assert_eq!(out.len(), 0);

    encode_announce(&extended, &route, [ten], &mut out).unwrap();
    assert_eq!(announced(&out, &extended), route);
    assert!(
        decode_update(&out, &plain).is_err(),
        "RFC 7606 §7.11: such a next hop was not agreed on"
    );

    let mut out = BytesMut::new();
    encode_withdraw(&extended, [ten], &mut out);
    let expected = [0x90, 15, 0, 5, 0, 1, 1, 8, 10];
    assert_eq!(out[..], update(&[], &expected, &[]));
}

#[test]
fn rfc8654_extended_messages_hold_what_needs_many_ordinary_ones() {
    let prefixes: Vec<Nlri> = (0..12_000_u32)
        .map(|i| nlri_of(&format!("10.{}.{}.0/24", i >> 8, i & 255)))
        .collect();
    let ordinary = context(Peering::External);
    let extended = Context {
        extended_message: true,
        ..ordinary
    };
    for (context, messages) in [(ordinary, 12), (extended, 1)] {
        let mut out = BytesMut::new();
        encode_announce(&context, &plain_route(), prefixes.clone(), &mut out).unwrap();
        assert_eq!(split(&out).len(), messages);
        let mut out = BytesMut::new();
        encode_withdraw(&context, prefixes.clone(), &mut out);
        assert_eq!(split(&out).len(), messages);
    }
}

#[test]
fn rfc4271_9_2_routes_whose_attributes_leave_no_room_are_refused_whole() {
    let mut out = BytesMut::from(&b"before"[..]);
    let ordinary = context(Peering::External);
    for communities in [1020, 20_000] {
        let route = PathAttributes {
            communities: (0..communities).collect(),
            ..plain_route()
        };
        let result = encode_announce(&ordinary, &route, [nlri_of("10.0.0.0/8")], &mut out);
        assert!(
            matches!(result, Err(EncodeError::TooLong { max: 4096, .. })),
            "{result:?}"
        );
        let ipv6 = PathAttributes {
            next_hop: Some(v6_next_hop(Ipv6Addr::LOCALHOST, None)),
            ..route
        };
        let result = encode_announce(&ordinary, &ipv6, [nlri_of("::/0")], &mut out);
        assert!(matches!(result, Err(EncodeError::TooLong { .. })));
    }
    let unaddressed = PathAttributes::default();
    assert_eq!(
        encode_announce(&ordinary, &unaddressed, [nlri_of("::/0")], &mut out),
        Err(EncodeError::NoNextHop)
    );
    assert_eq!(out, "before");
}

#[test]
fn rfc7606_5_1_mp_reach_and_mp_unreach_are_sent_first_and_alone() {
    let route = PathAttributes {
        next_hop: Some(v6_next_hop(Ipv6Addr::LOCALHOST, None)),
        ..plain_route()
    };
    let mixed = ["10.0.0.0/8", "::/0"].map(nlri_of);
    let extended = Context {
        extended_next_hop: true,
        ..context(Peering::External)
    };
    let mut out = BytesMut::new();
    encode_announce(&extended, &route, mixed, &mut out).unwrap();
    encode_withdraw(&context(Peering::External), mixed, &mut out);
    // The two octets behind the header and the type of the first attribute.
    let starts: Vec<_> = split(&out)
        .iter()
        .map(|message| (message[20], message[24]))
        .collect();
    assert_eq!(starts, [(0, 14), (0, 14), (2, 0), (0, 15)]);
    for message in split(&out) {
        let fields = decode_update(message, &extended).unwrap();
        assert_eq!(fields.announced().count() + fields.withdrawn().count(), 1);
    }
}

#[test]
fn a_run_of_each_family_gets_its_own_updates() {
    let extended = Context {
        extended_next_hop: true,
        ..context(Peering::External)
    };
    let route = PathAttributes {
        next_hop: Some(v6_next_hop(Ipv6Addr::LOCALHOST, None)),
        ..plain_route()
    };
    let mixed = ["10.0.0.0/8", "::/0", "fd00::/8", "11.0.0.0/8"].map(nlri_of);
    let mut out = BytesMut::new();
    encode_announce(&extended, &route, mixed, &mut out).unwrap();
    assert_eq!(split(&out).len(), 3);
    let mut out = BytesMut::new();
    encode_withdraw(&extended, mixed, &mut out);
    assert_eq!(split(&out).len(), 3);
    let mut out = BytesMut::new();
    encode_announce(&extended, &route, [], &mut out).unwrap();
    encode_withdraw(&extended, [], &mut out);
    assert_eq!(out.len(), 0, "nothing to say, nothing sent");
}

fn announced(message: &[u8], context: &Context) -> PathAttributes {
    let changes = changes(message, context);
    match &changes[..] {
        [RouteChange::Announce { attributes, .. }] => PathAttributes::clone(attributes),
        other => panic!("{other:?}"),
    }
}

/// ORIGIN IGP, AS_PATH 65010, NEXT_HOP 10.1.10.4.
fn mandatory() -> Vec<u8> {
    [
        attribute(TRANSITIVE, 1, &[0]),
        attribute(TRANSITIVE, 2, &[2, 1, 0, 0, 0xfd, 0xf2]),
        attribute(TRANSITIVE, 3, &[10, 1, 10, 4]),
    ]
    .concat()
}

/// What `mandatory` says.
fn plain_route() -> PathAttributes {
    PathAttributes {
        as_path: AsPath::sequence([65010]),
        next_hop: Some(NextHop::V4(Ipv4Addr::new(10, 1, 10, 4))),
        ..PathAttributes::default()
    }
}

const fn v6_next_hop(global: Ipv6Addr, link_local: Option<Ipv6Addr>) -> NextHop {
    NextHop::V6 { global, link_local }
}

fn nlri_of(prefix: &str) -> Nlri {
    prefix.parse::<IpNet>().unwrap().into()
}
