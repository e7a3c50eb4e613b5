//! Random route maps and routes: a compiled route map says what a naive reading of its rules does.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

const NETS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.128.0.0/9",
    "10.1.0.0/16",
    "10.1.2.0/23",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "192.0.2.0/24",
    "::/0",
    "fd00::/16",
    "fd00:1::/48",
    "fd00:1::1/128",
];

const PATHS: [&str; 6] = [
    "",
    "65010",
    "65010 65020",
    "65020 65010",
    "1 2 {3 4}",
    "{3}",
];

const SOURCES: [RouteSource<'static>; 4] =
    [SDWAN, MEMBER, RouteSource::Static, RouteSource::Originated];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_compiled_route_map_says_what_its_rules_say(
        map in any_map(),
        prefix in select(&NETS[..]),
        source in select(&SOURCES[..]),
        attributes in any_attributes(),
    ) {
        let compiled = CompiledRouteMap::new(&map);
        let prefix = net(prefix);
        let outcome = compiled.evaluate(prefix, source, &attributes);
        prop_assert_eq!(&outcome, &naive(&map, prefix, source, &attributes));
        if let Outcome::Change { attributes, .. } = &outcome {
            let strictly = |list: &[u32]| list.windows(2).all(|two| two[0] < two[1]);
            prop_assert!(strictly(&attributes.communities));
            prop_assert!(attributes.large_communities.is_sorted_by(|a, b| a < b));
            prop_assert!(attributes.extended_communities.is_sorted_by(|a, b| a < b));
        }
        for other in NETS.map(net) {
            if compiled.class(other) == compiled.class(prefix) {
                prop_assert_eq!(&compiled.evaluate(other, source, &attributes), &outcome);
            }
        }
    }
}

/// Reads the rules one after the other, each condition by itself, sharing no code with the product.
fn naive(
    map: &RouteMap,
    prefix: IpNet,
    source: RouteSource<'_>,
    attributes: &PathAttributes,
) -> Outcome {
    let mut now = attributes.clone();
    let mut weight = None;
    for rule in &map.rules {
        let Match {
            prefixes,
            communities,
            as_paths,
            sources,
        } = &rule.matches;
        let by_prefix = prefixes.iter().any(|pattern| {
            let length = prefix.prefix_len();
            pattern.prefix.contains(&prefix)
                && pattern.lengths.0 <= length
                && length <= pattern.lengths.1
        });
        let by_community = communities.iter().any(|wanted| match wanted {
            CommunityValue::Standard(value) => now.communities.contains(value),
            CommunityValue::Large(value) => now.large_communities.contains(value),
            CommunityValue::Extended(value) => now.extended_communities.contains(value),
        });
        let text = now.as_path.to_string();
        let by_path = as_paths.iter().any(|pattern| match pattern {
            AsPathPattern::Contains(asn) => text
                .split([' ', '{', '}'])
                .any(|word| word == asn.to_string()),
            AsPathPattern::Exact(asns) => {
                let words: Vec<_> = asns.iter().map(ToString::to_string).collect();
                text == words.join(" ")
            }
            AsPathPattern::Regex(regex) => regex.compiled.is_match(&text),
        });
        let by_source = sources.iter().any(|pattern| match source {
            RouteSource::Static => *pattern == SourcePattern::Static,
            RouteSource::Originated => *pattern == SourcePattern::Originated,
            RouteSource::Peer {
                kind,
                name,
                gateway,
            } => {
                *pattern == SourcePattern::Kind(kind)
                    || *pattern == SourcePattern::Peer(name.into())
                    || gateway.is_some_and(|name| *pattern == SourcePattern::Peer(name.into()))
            }
        });
        let within = match rule.action {
            RouteMapAction::Aggregate(aggregate) => aggregate.contains(&prefix),
            _ => true,
        };
        let all = (prefixes.is_empty() || by_prefix)
            && (communities.is_empty() || by_community)
            && (as_paths.is_empty() || by_path)
            && (sources.is_empty() || by_source)
            && within;
        if !all {
            continue;
        }
        let label = format!("rule \"{}\" of route map \"{}\"", rule.name, map.name);
        let changes = match &rule.action {
            RouteMapAction::Drop => {
                return Outcome::Drop(format!("dropped by {label} (action)").into());
            }
            RouteMapAction::Aggregate(prefix) => {
                return Outcome::Aggregate {
                    prefix: *prefix,
                    reason: format!("gives way to {prefix} by {label} (aggregate)").into(),
                };
            }
            RouteMapAction::Permit(changes) => changes,
        };
        now = naively_changed(changes, prefix, now);
        weight = changes.weight.or(weight);
        if !rule.continues {
            break;
        }
    }
    if now == *attributes && weight.is_none() {
        return Outcome::Keep;
    }
    Outcome::Change {
        attributes: Box::new(now),
        weight: weight.map(|weight| NonZeroU8::new(weight).unwrap()),
    }
}

fn naively_changed(
    changes: &RouteChanges,
    prefix: IpNet,
    mut now: PathAttributes,
) -> PathAttributes {
    if let Some(asns) = &changes.as_path_replace {
        now.as_path = as_path(&joined(asns));
    }
    if !changes.as_path_prepend.is_empty() {
        now.as_path = as_path(&format!(
            "{} {}",
            joined(&changes.as_path_prepend),
            now.as_path
        ));
    }
    let standard = now.communities.into_iter().map(CommunityValue::Standard);
    let large = now.large_communities.into_iter().map(CommunityValue::Large);
    let extended = now.extended_communities.into_iter();
    let extended = extended.map(CommunityValue::Extended);
    let mut all: BTreeSet<_> = standard.chain(large).chain(extended).collect();
    if let Some(replaced) = &changes.community_replace {
        all = replaced.iter().copied().collect();
    }
    all.retain(|community| !changes.community_remove.contains(community));
    all.extend(changes.community_add.iter().copied());
    now.communities = Vec::new();
    now.large_communities = Vec::new();
    now.extended_communities = Vec::new();
    for community in all {
        match community {
            CommunityValue::Standard(value) => now.communities.push(value),
            CommunityValue::Large(value) => now.large_communities.push(value),
            CommunityValue::Extended(value) => now.extended_communities.push(value),
        }
    }
    if changes.local_pref.is_some() {
        now.local_pref = changes.local_pref;
    }
    if changes.med.is_some() {
        now.med = changes.med;
    }
    match (changes.next_hop, prefix) {
        (Some(address @ IpAddr::V4(_)), IpNet::V4(_))
        | (Some(address @ IpAddr::V6(_)), IpNet::V6(_)) => now.next_hop = Some(address.into()),
        _ => {}
    }
    now
}

fn joined(asns: &[Asn]) -> String {
    let words: Vec<_> = asns.iter().map(ToString::to_string).collect();
    words.join(" ")
}

fn any_map() -> impl Strategy<Value = RouteMap> {
    vec(any_rule(), 0..6).prop_map(|rules| RouteMap {
        name: "m".into(),
        rules,
    })
}

fn any_rule() -> impl Strategy<Value = RouteMapRule> {
    let matches = (
        vec(any_pattern(), 0..3),
        few(any_community()),
        few(prop_oneof![
            (1_u32..4).prop_map(AsPathPattern::Contains),
            Just(AsPathPattern::Contains(65010)),
            vec(select(vec![65010_u32, 65020]), 0..3).prop_map(AsPathPattern::Exact),
            select(vec![
                "^65010( |$)",
                "(^| )65020$",
                "^$",
                r"\{",
                "^65020 65010"
            ])
            .prop_map(regex),
        ]),
        few(prop_oneof![
            select(&PeerKind::ALL[..]).prop_map(SourcePattern::Kind),
            Just(SourcePattern::Static),
            Just(SourcePattern::Originated),
            select(vec!["sdwan", "vpn1", "other"])
                .prop_map(|name| SourcePattern::Peer(name.into())),
        ]),
    );
    let matches = matches.prop_map(|(prefixes, communities, as_paths, sources)| Match {
        prefixes,
        communities,
        as_paths,
        sources,
    });
    let action = prop_oneof![
        1 => Just(RouteMapAction::Drop),
        1 => select(&NETS[..]).prop_map(|prefix| RouteMapAction::Aggregate(net(prefix))),
        4 => any_changes().prop_map(|changes| RouteMapAction::Permit(Box::new(changes))),
    ];
    (matches, action, any::<bool>()).prop_map(|(matches, action, continues)| RouteMapRule {
        name: "r".to_owned(),
        matches,
        action,
        continues,
    })
}

/// Often none.
fn few<S: Strategy>(of: S) -> impl Strategy<Value = Vec<S::Value>> {
    option::weighted(0.4, vec(of, 1..3)).prop_map(Option::unwrap_or_default)
}

fn any_pattern() -> impl Strategy<Value = PrefixPattern> {
    (select(&NETS[..]), any::<(u8, u8)>()).prop_map(|(prefix, (one, other))| {
        let prefix = net(prefix);
        let span = prefix.max_prefix_len() - prefix.prefix_len() + 1;
        let length = |byte: u8| prefix.prefix_len() + byte % span;
        let (one, other) = (length(one), length(other));
        PrefixPattern {
            prefix,
            lengths: (one.min(other), one.max(other)),
        }
    })
}

fn any_community() -> impl Strategy<Value = CommunityValue> {
    prop_oneof![
        (1_u32..5).prop_map(CommunityValue::Standard),
        (1_u32..3).prop_map(|part| CommunityValue::Large([part; 3])),
        (1_u8..3).prop_map(|octet| CommunityValue::Extended([octet; 8])),
    ]
}

fn any_changes() -> impl Strategy<Value = RouteChanges> {
    let asns = || vec(select(vec![65010_u32, 65020, 7]), 0..3);
    (
        option::weighted(0.2, asns()),
        asns(),
        option::weighted(0.2, few(any_community())),
        few(any_community()),
        few(any_community()),
        option::weighted(0.2, any::<u32>()),
        option::weighted(0.2, any::<u32>()),
        option::weighted(0.2, 1_u8..=255),
        option::weighted(0.2, select(vec!["10.1.10.9", "fd00:1::9"])),
    )
        .prop_map(
            |(replace, prepend, replaced, remove, add, local_pref, med, weight, next_hop)| {
                RouteChanges {
                    as_path_replace: replace,
                    as_path_prepend: prepend,
                    community_replace: replaced,
                    community_remove: remove,
                    community_add: add,
                    local_pref,
                    med,
                    weight,
                    next_hop: next_hop.map(|address| address.parse().unwrap()),
                }
            },
        )
}

fn any_attributes() -> impl Strategy<Value = PathAttributes> {
    (select(&PATHS[..]), few(any_community())).prop_map(|(path, communities)| {
        let mut attributes = PathAttributes {
            as_path: as_path(path),
            communities: vec![],
            ..route()
        };
        for community in communities.into_iter().collect::<BTreeSet<_>>() {
            match community {
                CommunityValue::Standard(value) => attributes.communities.push(value),
                CommunityValue::Large(value) => attributes.large_communities.push(value),
                CommunityValue::Extended(value) => attributes.extended_communities.push(value),
            }
        }
        attributes
    })
}
