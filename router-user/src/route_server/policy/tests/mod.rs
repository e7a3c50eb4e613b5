//! Each match, each action, chains of rules, and the whole against a naive evaluator.

use std::net::IpAddr;

use super::*;
use crate::{
    bgp::wire::{AsPath, Asn, NextHop, community},
    config::{
        AsPathPattern, AsPathRegex, CommunityValue, Match, PrefixPattern, RouteChanges,
        RouteMapRule, SourcePattern,
    },
};

mod property;

const SDWAN: RouteSource<'static> = RouteSource::Peer {
    kind: PeerKind::Nva,
    name: "sdwan",
    gateway: None,
};

const MEMBER: RouteSource<'static> = RouteSource::Peer {
    kind: PeerKind::Vpn,
    name: "vpn1-10.1.3.4",
    gateway: Some("vpn1"),
};

// -- Matches -----------------------------------------------------------------------------------

#[test]
fn what_no_rule_matches_passes_as_it_is() {
    let nothing = compiled(vec![]);
    assert_eq!(outcome(&nothing, "10.0.0.0/8", &route()), Outcome::Keep);
    let other = compiled(vec![drops(Match {
        communities: vec![CommunityValue::Standard(7)],
        ..Match::default()
    })]);
    assert_eq!(outcome(&other, "10.0.0.0/8", &route()), Outcome::Keep);
}

#[test]
fn a_rule_without_conditions_is_about_every_route_and_the_reason_names_rule_and_map() {
    let all = compiled(vec![drops(Match::default())]);
    let Outcome::Drop(reason) = outcome(&all, "fd00::/16", &route()) else {
        panic!("it passes");
    };
    assert_eq!(
        &*reason,
        "dropped by rule \"1\" of route map \"m\" (action)"
    );
}

#[test]
fn prefixes_match_exactly_or_longer_or_by_length_within_their_family() {
    let map = |prefix: &str, lengths| {
        compiled(vec![drops(Match {
            prefixes: vec![PrefixPattern {
                prefix: net(prefix),
                lengths,
            }],
            ..Match::default()
        })])
    };
    let exact = map("10.0.0.0/8", (8, 8));
    assert!(dropped(&exact, "10.0.0.0/8"));
    assert!(!dropped(&exact, "10.0.0.0/9") && !dropped(&exact, "11.0.0.0/8"));
    let longer = map("10.0.0.0/8", (8, 32));
    assert!(dropped(&longer, "10.0.0.0/8") && dropped(&longer, "10.1.2.3/32"));
    assert!(!dropped(&longer, "0.0.0.0/0") && !dropped(&longer, "a00::/8"));
    let some = map("10.0.0.0/8", (16, 24));
    assert!(dropped(&some, "10.1.0.0/16") && dropped(&some, "10.1.2.0/24"));
    assert!(!dropped(&some, "10.0.0.0/15") && !dropped(&some, "10.1.2.0/25"));
    let ipv6 = map("fd00::/16", (48, 128));
    assert!(dropped(&ipv6, "fd00:1::/48") && !dropped(&ipv6, "fd00::/47"));
}

#[test]
fn one_of_several_communities_of_any_kind_is_enough() {
    let map = |communities: Vec<CommunityValue>| {
        compiled(vec![drops(Match {
            communities,
            ..Match::default()
        })])
    };
    let (standard, large, extended) = (0xfdf2_0064, [65010, 1, 2], [0, 2, 0, 1, 0, 0, 0, 9]);
    let tagged = PathAttributes {
        communities: vec![1, standard],
        large_communities: vec![[1, 1, 1], large],
        extended_communities: vec![[0; 8], extended],
        ..route()
    };
    for value in [
        CommunityValue::Standard(standard),
        CommunityValue::Large(large),
        CommunityValue::Extended(extended),
    ] {
        let one = map(vec![CommunityValue::Standard(9), value]);
        assert_ne!(outcome(&one, "10.0.0.0/8", &tagged), Outcome::Keep);
        assert_eq!(outcome(&one, "10.0.0.0/8", &route()), Outcome::Keep);
    }
}

#[test]
fn as_paths_match_by_an_asn_as_a_whole_or_as_text() {
    let matches = |pattern: AsPathPattern, path: &str| {
        let map = compiled(vec![drops(Match {
            as_paths: vec![pattern],
            ..Match::default()
        })]);
        let attributes = PathAttributes {
            as_path: as_path(path),
            ..route()
        };
        outcome(&map, "10.0.0.0/8", &attributes) != Outcome::Keep
    };
    assert!(matches(AsPathPattern::Contains(2), "1 2 3"));
    assert!(matches(AsPathPattern::Contains(2), "1 {2}"));
    assert!(!matches(AsPathPattern::Contains(4), "1 2 3"));
    assert!(matches(AsPathPattern::Exact(vec![1, 2]), "1 2"));
    assert!(!matches(AsPathPattern::Exact(vec![1, 2]), "1 2 3"));
    assert!(!matches(AsPathPattern::Exact(vec![1, 2]), "1 {2}"));
    assert!(matches(AsPathPattern::Exact(vec![]), ""));
    assert!(!matches(AsPathPattern::Exact(vec![]), "1"));
    assert!(matches(regex("^65010 "), "65010 1"));
    assert!(matches(regex(r"\{7 8\}$"), "65010 {7 8}"));
    assert!(!matches(regex("^65010 "), "165010 1"));
    assert!(matches(regex("^$"), ""));
}

#[test]
fn a_source_is_a_kind_of_peer_a_peer_a_gateway_or_no_peer_at_all() {
    let all = [SDWAN, MEMBER, RouteSource::Static, RouteSource::Originated];
    let taken = |pattern: SourcePattern| {
        let map = compiled(vec![drops(Match {
            sources: vec![pattern],
            ..Match::default()
        })]);
        all.map(|source| map.evaluate(net("10.0.0.0/8"), source, &route()) != Outcome::Keep)
    };
    let kind = |kind| taken(SourcePattern::Kind(kind));
    assert_eq!(kind(PeerKind::Nva), [true, false, false, false]);
    assert_eq!(kind(PeerKind::Vpn), [false, true, false, false]);
    assert_eq!(kind(PeerKind::ExpressRoute), [false; 4]);
    assert_eq!(taken(SourcePattern::Static), [false, false, true, false]);
    assert_eq!(
        taken(SourcePattern::Originated),
        [false, false, false, true]
    );
    let peer = |name: &str| taken(SourcePattern::Peer(name.into()));
    assert_eq!(peer("sdwan"), [true, false, false, false]);
    assert_eq!(peer("vpn1"), [false, true, false, false]);
    assert_eq!(peer("vpn1-10.1.3.4"), [false, true, false, false]);
}

#[test]
fn every_list_of_a_rule_must_have_one_that_fits() {
    let map = compiled(vec![drops(Match {
        prefixes: vec![exactly("10.0.0.0/8")],
        sources: vec![SourcePattern::Kind(PeerKind::Nva)],
        as_paths: vec![AsPathPattern::Contains(65010)],
        communities: vec![],
    })]);
    assert!(dropped(&map, "10.0.0.0/8"));
    assert!(!dropped(&map, "10.0.0.0/9"));
    let other_path = PathAttributes {
        as_path: as_path("65020"),
        ..route()
    };
    assert_eq!(outcome(&map, "10.0.0.0/8", &other_path), Outcome::Keep);
    let other_source = map.evaluate(net("10.0.0.0/8"), MEMBER, &route());
    assert_eq!(other_source, Outcome::Keep);
}

// -- Actions -----------------------------------------------------------------------------------

#[test]
fn a_path_is_replaced_before_it_is_lengthened() {
    let changed = change(RouteChanges {
        as_path_replace: Some(vec![1, 2]),
        as_path_prepend: vec![8, 9],
        ..RouteChanges::default()
    });
    assert_eq!(changed.as_path, AsPath::sequence([8, 9, 1, 2]));
    let emptied = change(RouteChanges {
        as_path_replace: Some(vec![]),
        ..RouteChanges::default()
    });
    assert!(emptied.as_path.is_empty());
}

#[test]
fn a_path_that_would_be_too_long_is_dropped_and_says_why() {
    let prepends = |count| {
        compiled(vec![permits(RouteChanges {
            as_path_prepend: vec![65010; count],
            ..RouteChanges::default()
        })])
    };
    let Outcome::Change { attributes, .. } = outcome(&prepends(1021), "10.0.0.0/8", &route())
    else {
        panic!("1,023 ASNs are allowed");
    };
    assert_eq!(attributes.as_path.asns().count(), 1023);
    let Outcome::Drop(reason) = outcome(&prepends(1022), "10.0.0.0/8", &route()) else {
        panic!("1,024 ASNs are not");
    };
    assert!(reason.contains("1023") && reason.contains("(as_path_prepend)"));
}

#[test]
fn communities_are_replaced_then_removed_then_added_and_stay_sorted_without_duplicates() {
    use CommunityValue::{Extended, Large, Standard};
    let changed = change(RouteChanges {
        community_replace: Some(vec![Standard(9), Standard(3), Standard(9), Large([5; 3])]),
        community_remove: vec![Standard(3), Standard(4), Large([6; 3])],
        community_add: vec![
            Standard(1),
            Standard(9),
            Large([2; 3]),
            Extended([7; 8]),
            Extended([1; 8]),
        ],
        ..RouteChanges::default()
    });
    assert_eq!(changed.communities, [1, 9]);
    assert_eq!(changed.large_communities, [[2; 3], [5; 3]]);
    assert_eq!(changed.extended_communities, [[1; 8], [7; 8]]);
    let cleared = change(RouteChanges {
        community_replace: Some(vec![]),
        ..RouteChanges::default()
    });
    assert!(cleared.communities.is_empty(), "it had no-export");
}

#[test]
fn local_pref_med_and_weight_are_set() {
    let changes = RouteChanges {
        local_pref: Some(200),
        med: Some(0),
        weight: Some(3),
        ..RouteChanges::default()
    };
    let map = compiled(vec![permits(changes)]);
    let Outcome::Change { attributes, weight } = outcome(&map, "10.0.0.0/8", &route()) else {
        panic!("it changes");
    };
    assert_eq!(attributes.local_pref, Some(200));
    assert_eq!(attributes.med, Some(0));
    assert_eq!(weight, NonZeroU8::new(3));
}

#[test]
fn a_weight_alone_is_a_change_and_what_changes_nothing_is_none() {
    let alone = compiled(vec![permits(RouteChanges {
        weight: Some(1),
        ..RouteChanges::default()
    })]);
    let Outcome::Change { attributes, weight } = outcome(&alone, "10.0.0.0/8", &route()) else {
        panic!("it has a weight");
    };
    assert_eq!((*attributes, weight), (route(), NonZeroU8::new(1)));
    let nothing = compiled(vec![permits(RouteChanges {
        community_add: vec![CommunityValue::Standard(community::NO_EXPORT)],
        ..RouteChanges::default()
    })]);
    assert_eq!(outcome(&nothing, "10.0.0.0/8", &route()), Outcome::Keep);
}

#[test]
fn a_next_hop_is_set_for_prefixes_of_its_family() {
    let next_hop: IpAddr = "10.1.10.9".parse().unwrap();
    let map = compiled(vec![permits(RouteChanges {
        next_hop: Some(next_hop),
        ..RouteChanges::default()
    })]);
    let Outcome::Change { attributes, .. } = outcome(&map, "10.0.0.0/8", &route()) else {
        panic!("it changes");
    };
    assert_eq!(attributes.next_hop, Some(NextHop::from(next_hop)));
    assert_eq!(outcome(&map, "fd00::/16", &route()), Outcome::Keep);
}

#[test]
fn an_aggregate_takes_the_place_of_what_lies_within_it_and_of_nothing_else() {
    let map = compiled(vec![
        rule(
            Match::default(),
            RouteMapAction::Aggregate(net("10.0.0.0/8")),
        ),
        drops(Match::default()),
    ]);
    let Outcome::Aggregate { prefix, reason } = outcome(&map, "10.2.0.0/16", &route()) else {
        panic!("it lies within");
    };
    assert_eq!(prefix, net("10.0.0.0/8"));
    assert_eq!(
        &*reason,
        "gives way to 10.0.0.0/8 by rule \"1\" of route map \"m\" (aggregate)"
    );
    assert!(dropped(&map, "11.0.0.0/8") && dropped(&map, "0.0.0.0/0"));
}

// -- Chains ------------------------------------------------------------------------------------

#[test]
fn the_first_rule_that_matches_ends_it_unless_it_continues() {
    let med = |med| RouteChanges {
        med: Some(med),
        ..RouteChanges::default()
    };
    let stops = compiled(vec![permits(med(1)), permits(med(2))]);
    assert_eq!(changed(&stops).med, Some(1));
    let goes_on = compiled(vec![continues(permits(med(1))), permits(med(2))]);
    assert_eq!(changed(&goes_on).med, Some(2));
}

#[test]
fn a_rule_that_continues_leaves_its_change_to_the_rules_behind_it() {
    let map = compiled(vec![
        continues(permits(RouteChanges {
            community_add: vec![CommunityValue::Standard(5)],
            as_path_prepend: vec![7],
            weight: Some(9),
            ..RouteChanges::default()
        })),
        continues(rule(
            Match {
                as_paths: vec![regex("^7 65010")],
                ..Match::default()
            },
            RouteMapAction::Permit(Box::new(RouteChanges {
                med: Some(1),
                ..RouteChanges::default()
            })),
        )),
        rule(
            Match {
                communities: vec![CommunityValue::Standard(5)],
                ..Match::default()
            },
            RouteMapAction::Permit(Box::new(RouteChanges {
                local_pref: Some(1),
                ..RouteChanges::default()
            })),
        ),
        drops(Match::default()),
    ]);
    let Outcome::Change { attributes, weight } = outcome(&map, "10.0.0.0/8", &route()) else {
        panic!("the last rule is not asked");
    };
    assert_eq!(attributes.as_path, AsPath::sequence([7, 65010, 65020]));
    assert_eq!((attributes.med, attributes.local_pref), (Some(1), Some(1)));
    assert_eq!(weight, NonZeroU8::new(9), "it stays unless set anew");
}

#[test]
fn what_a_chain_has_changed_is_dropped_by_a_later_rule() {
    let map = compiled(vec![
        continues(permits(RouteChanges {
            med: Some(1),
            ..RouteChanges::default()
        })),
        drops(Match::default()),
    ]);
    assert!(matches!(
        outcome(&map, "10.0.0.0/8", &route()),
        Outcome::Drop(reason) if reason.contains("rule \"2\"")
    ));
}

#[test]
fn a_million_prefixes_fall_into_as_many_classes_as_rules_tell_apart() {
    let list = (0..1000).map(|n: u32| exactly(&format!("10.{}.{}.0/24", n / 256, n % 256)));
    let map = compiled(vec![drops(Match {
        prefixes: list.collect(),
        ..Match::default()
    })]);
    // IPv4 and IPv6 without, IPv4 with the rule.
    assert_eq!(map.classes(), 3);
    assert_ne!(map.class(net("10.0.7.0/24")), map.class(net("10.0.7.0/25")));
    assert_eq!(map.class(net("10.0.7.0/25")), map.class(net("9.0.0.0/8")));
}

// -- Helpers -----------------------------------------------------------------------------------

fn compiled(rules: Vec<RouteMapRule>) -> CompiledRouteMap {
    let named = rules.into_iter().enumerate().map(|(place, rule)| {
        let name = (place + 1).to_string();
        RouteMapRule { name, ..rule }
    });
    CompiledRouteMap::new(&RouteMap {
        name: "m".into(),
        rules: named.collect(),
    })
}

fn rule(matches: Match, action: RouteMapAction) -> RouteMapRule {
    RouteMapRule {
        name: String::new(),
        matches,
        action,
        continues: false,
    }
}

fn drops(matches: Match) -> RouteMapRule {
    rule(matches, RouteMapAction::Drop)
}

fn permits(changes: RouteChanges) -> RouteMapRule {
    rule(Match::default(), RouteMapAction::Permit(Box::new(changes)))
}

fn continues(rule: RouteMapRule) -> RouteMapRule {
    RouteMapRule {
        continues: true,
        ..rule
    }
}

/// What one rule makes of [`route`].
fn change(changes: RouteChanges) -> PathAttributes {
    changed(&compiled(vec![permits(changes)]))
}

fn changed(map: &CompiledRouteMap) -> PathAttributes {
    match outcome(map, "10.0.0.0/8", &route()) {
        Outcome::Change { attributes, .. } => *attributes,
        other => panic!("{other}"),
    }
}

fn outcome(map: &CompiledRouteMap, prefix: &str, attributes: &PathAttributes) -> Outcome {
    map.evaluate(net(prefix), SDWAN, attributes)
}

fn dropped(map: &CompiledRouteMap, prefix: &str) -> bool {
    matches!(outcome(map, prefix, &route()), Outcome::Drop(_))
}

/// From 10.1.10.4, path 65010 65020, not to be exported.
fn route() -> PathAttributes {
    let next_hop: IpAddr = "10.1.10.4".parse().unwrap();
    PathAttributes {
        as_path: AsPath::sequence([65010, 65020]),
        next_hop: Some(NextHop::from(next_hop)),
        communities: vec![community::NO_EXPORT],
        ..PathAttributes::default()
    }
}

fn exactly(prefix: &str) -> PrefixPattern {
    let prefix = net(prefix);
    let length = prefix.prefix_len();
    PrefixPattern {
        prefix,
        lengths: (length, length),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn regex(text: &str) -> AsPathPattern {
    AsPathPattern::Regex(AsPathRegex {
        text: text.to_owned(),
        compiled: regex::Regex::new(text).unwrap(),
    })
}

/// `1 2 {3 4}`.
fn as_path(text: &str) -> AsPath {
    use crate::bgp::wire::{AsSegment, AsSegmentKind};
    let asns = |text: &str| -> Vec<Asn> {
        let words = text.split_whitespace();
        words.map(|asn| asn.parse().unwrap()).collect()
    };
    let (sequence, set) = text.split_once('{').unwrap_or((text, ""));
    let mut path = AsPath::sequence(asns(sequence));
    if !set.is_empty() {
        path.segments.push(AsSegment {
            kind: AsSegmentKind::Set,
            asns: asns(set.trim_end_matches('}')).into(),
        });
    }
    path
}
