//! The codec against `bgpkit-parser`: the same bytes mean the same to both, for generated UPDATEs
//! and for those of real feeds and tables; and what is encoded again, for whatever kind of session,
//! still means the same.

mod wire_support;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use bgpkit_parser::{
    models::{
        AsPathSegment, AsnLength, AttrType, AttributeValue, BgpMessage, BgpUpdateMessage,
        MetaCommunity, NetworkPrefix,
    },
    parser::bgp::parse_bgp_message,
};
use bytes::{Bytes, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{collection::vec, prelude::*};
use router_user::bgp::{
    RouteChange,
    wire::{
        Aggregator, AsPath, AsSegment, AsSegmentKind, Context, Disposition, Family, FamilySet,
        NextHop, Nlri, Origin, PathAttributes, Peering, encode_announce, encode_end_of_rib,
        encode_withdraw,
    },
};
use wire_support::{
    changes, context, decode_update,
    mrt::{self, Body},
    split,
};

/// What an UPDATE says, in the terms of neither codec.
#[derive(Clone, PartialEq, Debug, Default)]
struct Meaning {
    withdrawn: BTreeSet<(IpNet, u32)>,
    announced: BTreeSet<(IpNet, u32, IpAddr)>,
    origin: u8,
    as_path: String,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic_aggregate: bool,
    aggregator: Option<(u32, Ipv4Addr)>,
    communities: BTreeSet<u32>,
    extended_communities: BTreeSet<[u8; 8]>,
    large_communities: BTreeSet<[u32; 3]>,
    only_to_customer: Option<u32>,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn generated_updates_mean_the_same_to_both(
        four_octet_asn in any::<bool>(),
        add_path in any::<bool>(),
        attributes in attributes(),
        announced in vec(nlri(), 1..40),
        withdrawn in vec(nlri(), 0..40),
    ) {
        let add_path: FamilySet = Family::ALL.into_iter().filter(|_| add_path).collect();
        let context = Context {
            four_octet_asn,
            add_path_receive: add_path,
            add_path_send: add_path,
            ..context(Peering::External)
        };
        let mut out = BytesMut::new();
        for mut nlri in announced {
            let family = Family::of(&nlri.prefix);
            if !add_path.contains(family) {
                nlri.path_id = 0;
            }
            let next_hop = match family {
                Family::Ipv4Unicast => IpAddr::from([10, 1, 10, 4]),
                Family::Ipv6Unicast => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, 4]),
            };
            let attributes = PathAttributes {
                next_hop: Some(NextHop::from(next_hop)),
                ..attributes.clone()
            };
            encode_announce(&context, &attributes, [nlri], &mut out).unwrap();
        }
        encode_withdraw(&context, withdrawn, &mut out);
        for message in split(&out) {
            let ours = our_meaning(message, &context);
            prop_assert!(ours.is_some());
            prop_assert_eq!(ours, their_meaning(message, &context));
        }
    }
}

#[test]
fn the_89_679_updates_of_a_full_feed_mean_the_same_to_both_and_encoded_again() {
    compare("updates.et-header.2015.gz", 89_679);
}

#[test]
fn updates_of_other_feeds_mean_the_same_to_both_and_encoded_again() {
    compare("updates.20160811.1600.gz", 17_216);
    compare("updates.20071015.1505.gz", 4222);
    compare("updates.long_withdrawal.gz", 1);
}

#[test]
fn routes_of_tables_mean_the_same_to_both_and_encoded_again() {
    compare("bview.20020722.2337.gz", 115_521);
    compare("bview.64k_stream_overflow.gz", 23);
    // Without the two networks of the collector itself, which have no attributes.
    compare("bview.ipv4_unicast_add_path.gz", 60);
    compare("bview.ipv6_unicast_add_path.gz", 60);
}

/// Compares the UPDATEs and routes of an MRT file, `count` of them.
fn compare(file: &str, count: usize) {
    let Some(feed) = mrt::open(file) else {
        return;
    };
    let sessions = sessions();
    let mut compared = 0;
    mrt::read(feed, |record| {
        let own = matches!(&record.body, Body::Route(route) if route.attributes.is_empty());
        let Some((message, context)) = record.update().filter(|_| !own) else {
            return;
        };
        let ours = our_meaning(&message, &context);
        assert_eq!(
            ours,
            their_meaning(&message, &context),
            "{compared} of {file}: {message:02x?}"
        );
        let mut ours = ours.expect("no fault");
        let changes = changes(&message, &context);
        assert_eq!(ours, meaning_again(&changes, &both_ways(context)));
        forget_path_ids(&mut ours);
        // Some of them for each; a feed has thousands for every one of them.
        let first = compared * SESSIONS_EACH % sessions.len();
        for session in &sessions[first..first + SESSIONS_EACH] {
            let session = Context {
                peering: context.peering,
                ..*session
            };
            let mut again = meaning_again(&changes, &session);
            forget_path_ids(&mut again);
            assert_eq!(ours, again, "{compared} of {file} on {session:?}");
        }
        compared += 1;
    });
    assert_eq!(compared, count, "UPDATEs and routes in {file}");
}

/// How many kinds of session each UPDATE is encoded for; divides their number.
const SESSIONS_EACH: usize = 2;

/// All kinds of session that an UPDATE may be passed on over.
fn sessions() -> Vec<Context> {
    let mut sessions = Vec::new();
    for bits in 0..16_u8 {
        let add_path = Family::ALL.into_iter().filter(|_| bits & 8 != 0).collect();
        sessions.push(Context {
            four_octet_asn: bits & 1 != 0,
            extended_message: bits & 2 != 0,
            extended_next_hop: bits & 4 != 0,
            add_path_receive: add_path,
            add_path_send: add_path,
            ..context(Peering::External)
        });
    }
    sessions
}

/// The context of the peer's end.
fn both_ways(context: Context) -> Context {
    Context {
        add_path_send: context.add_path_receive,
        ..context
    }
}

fn forget_path_ids(meaning: &mut Meaning) {
    let withdrawn = std::mem::take(&mut meaning.withdrawn);
    meaning.withdrawn = withdrawn
        .into_iter()
        .map(|(prefix, _)| (prefix, 0))
        .collect();
    let announced = std::mem::take(&mut meaning.announced);
    meaning.announced = announced
        .into_iter()
        .map(|(prefix, _, next_hop)| (prefix, 0, next_hop))
        .collect();
}

/// What changes mean after they were encoded for this session and decoded again.
fn meaning_again(changes: &[RouteChange], context: &Context) -> Meaning {
    let mut again = BytesMut::new();
    for change in changes {
        match change {
            RouteChange::Announce { attributes, nlri } => {
                let nlri = nlri.iter().copied();
                encode_announce(context, attributes, nlri, &mut again)
                    .unwrap_or_else(|error| panic!("{error} on {context:?}"));
            }
            RouteChange::Withdraw { nlri, .. } => {
                encode_withdraw(context, nlri.iter().copied(), &mut again);
            }
            RouteChange::EndOfRib(family) => encode_end_of_rib(*family, &mut again),
        }
    }
    let mut meaning = Meaning::default();
    for message in split(&again) {
        let part = our_meaning(message, context).expect("no fault");
        let announced = !part.announced.is_empty();
        let mut withdrawn = std::mem::take(&mut meaning.withdrawn);
        withdrawn.extend(&part.withdrawn);
        if announced {
            let mut routes = std::mem::take(&mut meaning.announced);
            routes.extend(&part.announced);
            meaning = Meaning {
                announced: routes,
                ..part
            };
        }
        meaning.withdrawn = withdrawn;
    }
    meaning
}

/// `None`: a fault makes the routes withdrawn, or there is nothing to compare.
fn our_meaning(message: &[u8], context: &Context) -> Option<Meaning> {
    let update = decode_update(message, context).expect("no session reset");
    if update
        .faults()
        .iter()
        .any(|fault| fault.disposition > Disposition::AttributeDiscard)
    {
        return None;
    }
    let mut meaning = Meaning::default();
    for change in update.into_changes() {
        match change {
            RouteChange::Announce { attributes, nlri } => {
                let next_hop = attributes.next_hop.expect("announced").address();
                meaning.announced.extend(
                    nlri.iter()
                        .map(|nlri| (nlri.prefix, nlri.path_id, next_hop)),
                );
                our_attributes(&attributes, &mut meaning);
            }
            RouteChange::Withdraw { nlri, .. } => meaning
                .withdrawn
                .extend(nlri.iter().map(|nlri| (nlri.prefix, nlri.path_id))),
            RouteChange::EndOfRib(_) => {}
        }
    }
    Some(meaning)
}

fn our_attributes(attributes: &PathAttributes, meaning: &mut Meaning) {
    meaning.origin = attributes.origin as u8;
    meaning.as_path = attributes.as_path.to_string();
    meaning.med = attributes.med;
    meaning.local_pref = attributes.local_pref;
    meaning.atomic_aggregate = attributes.atomic_aggregate;
    meaning.aggregator = attributes.aggregator.map(|a| (a.asn, a.id));
    meaning.communities = attributes.communities.iter().copied().collect();
    meaning.extended_communities = attributes.extended_communities.iter().copied().collect();
    meaning.large_communities = attributes.large_communities.iter().copied().collect();
    meaning.only_to_customer = attributes.only_to_customer;
}

fn their_meaning(message: &[u8], context: &Context) -> Option<Meaning> {
    let asn_len = if context.four_octet_asn {
        AsnLength::Bits32
    } else {
        AsnLength::Bits16
    };
    let add_path = context.add_path_receive.contains(Family::Ipv4Unicast);
    let parsed =
        parse_bgp_message(&mut Bytes::copy_from_slice(message), add_path, &asn_len).ok()?;
    let BgpMessage::Update(update) = parsed else {
        return None;
    };
    let key = |prefix: &NetworkPrefix| (prefix.prefix.trunc(), prefix.path_id.unwrap_or(0));
    let mut meaning = Meaning::default();
    meaning
        .withdrawn
        .extend(update.withdrawn_prefixes.iter().map(key));
    if let Some(unreach) = update.attributes.get_unreachable_nlri() {
        meaning.withdrawn.extend(unreach.prefixes.iter().map(key));
    }
    let mut announce = |prefixes: &[NetworkPrefix], next_hop: IpAddr| {
        meaning.announced.extend(prefixes.iter().map(|prefix| {
            let (prefix, path_id) = key(prefix);
            (prefix, path_id, next_hop)
        }));
    };
    if !update.announced_prefixes.is_empty() {
        announce(&update.announced_prefixes, update.attributes.next_hop()?);
    }
    if let Some(reach) = update.attributes.get_reachable_nlri()
        && !reach.prefixes.is_empty()
    {
        announce(&reach.prefixes, reach.next_hop?.addr());
    }
    if !meaning.announced.is_empty() {
        their_attributes(&update, context, &mut meaning);
    }
    Some(meaning)
}

fn their_attributes(update: &BgpUpdateMessage, context: &Context, meaning: &mut Meaning) {
    let attributes = &update.attributes;
    meaning.origin = attributes.origin() as u8;
    meaning.as_path = attributes
        .effective_as_path()
        .map(|mut path| {
            path.coalesce();
            text(&path)
        })
        .unwrap_or_default();
    meaning.med = attributes.multi_exit_discriminator();
    meaning.local_pref = attributes.local_preference();
    meaning.atomic_aggregate = attributes.atomic_aggregate();
    // RFC 7607 §2 has AS 0 discarded.
    meaning.aggregator = attributes
        .aggregator()
        .map(|(asn, id)| (asn.to_u32(), id))
        .filter(|(asn, _)| *asn != 0);
    if !context.four_octet_asn
        && let Some(attribute) = attributes.get_attr(AttrType::AS4_AGGREGATOR)
        && let AttributeValue::As4Aggregator { asn, id } = attribute.value
    {
        meaning.aggregator = Some((asn.to_u32(), id));
    }
    for community in attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(community) => {
                meaning.communities.insert(their_community(community));
            }
            MetaCommunity::Large(large) => {
                let [first, second] = large.local_data;
                meaning
                    .large_communities
                    .insert([large.global_admin, first, second]);
            }
            MetaCommunity::Extended(_) | MetaCommunity::Ipv6Extended(_) => {}
        }
    }
    if let Some(extended) = attributes.get_attr(AttrType::EXTENDED_COMMUNITIES) {
        let bytes = extended.encode(AsnLength::Bits32).expect("encodes");
        let header = if extended.is_extended() { 4 } else { 3 };
        let (communities, _) = bytes[header..].as_chunks();
        meaning.extended_communities.extend(communities);
    }
    meaning.only_to_customer = attributes.only_to_customer().map(|asn| asn.to_u32());
}

fn their_community(community: bgpkit_parser::models::Community) -> u32 {
    use bgpkit_parser::models::Community;
    match community {
        Community::NoExport => 0xffff_ff01,
        Community::NoAdvertise => 0xffff_ff02,
        Community::NoExportSubConfed => 0xffff_ff03,
        Community::Custom(asn, value) => asn.to_u32() << 16 | u32::from(value),
    }
}

/// Written as ours is; the order within a set is kept by both.
fn text(path: &bgpkit_parser::models::AsPath) -> String {
    let segments: Vec<String> = path
        .iter_segments()
        .map(|segment| {
            let (open, close) = match segment {
                AsPathSegment::AsSequence(_) => ("", ""),
                AsPathSegment::AsSet(_) => ("{", "}"),
                AsPathSegment::ConfedSequence(_) => ("(", ")"),
                AsPathSegment::ConfedSet(_) => ("[", "]"),
            };
            let asns: Vec<String> = segment.iter().map(|asn| asn.to_u32().to_string()).collect();
            format!("{open}{}{close}", asns.join(" "))
        })
        .collect();
    segments.join(" ")
}

/// Without the default routes: bgpkit-parser takes a leading zero octet for a path identifier.
fn nlri() -> impl Strategy<Value = Nlri> {
    (any::<bool>(), any::<u128>(), 1..=128_u8, any::<u32>()).prop_map(
        |(v4, address, len, path_id)| {
            let prefix: IpNet = if v4 {
                let address = Ipv4Addr::from_bits(address as u32);
                Ipv4Net::new(address, len.div_ceil(4))
                    .unwrap()
                    .trunc()
                    .into()
            } else {
                Ipv6Net::new(address.into(), len).unwrap().trunc().into()
            };
            Nlri { prefix, path_id }
        },
    )
}

prop_compose! {
    fn attributes()(
        origin in prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        path in vec(any::<u32>().prop_map(|asn| asn.max(1)), 1..10),
        set in vec(1..=u32::MAX, 0..4),
        (med, only_to_customer) in any::<(Option<u32>, Option<u32>)>(),
        atomic_aggregate in any::<bool>(),
        aggregator in prop::option::of((1_u32.., any::<u32>())),
        communities in prop::collection::btree_set(any::<u32>(), 0..20),
        extended_communities in prop::collection::btree_set(any::<[u8; 8]>(), 0..10),
        large_communities in prop::collection::btree_set(any::<[u32; 3]>(), 0..10),
    ) -> PathAttributes {
        let mut as_path = AsPath::sequence(path);
        if !set.is_empty() {
            as_path.segments.push(AsSegment {
                kind: AsSegmentKind::Set,
                asns: set.into(),
            });
        }
        PathAttributes {
            origin,
            as_path,
            med,
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, id)| Aggregator {
                asn,
                id: Ipv4Addr::from_bits(id),
            }),
            communities: communities.into_iter().collect(),
            extended_communities: extended_communities.into_iter().collect(),
            large_communities: large_communities.into_iter().collect(),
            only_to_customer,
            ..PathAttributes::default()
        }
    }
}
