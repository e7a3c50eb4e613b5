//! One rule: whether it is about a route, and what it says of those that do not pass.

use std::{borrow::Cow, sync::Arc};

use ipnet::IpNet;

use super::{MOST_ASNS, RouteSource};
use crate::{
    bgp::wire::{AsPath, PathAttributes},
    config::{AsPathPattern, CommunityValue, RouteMapAction, RouteMapRule, SourcePattern},
    names::RouteMapName,
};

/// A rule without its prefixes, which the classes know.
#[derive(Debug)]
pub(super) struct Rule {
    /// `rule "x" of route map "y"`.
    label: Box<str>,
    communities: Vec<CommunityValue>,
    as_paths: Vec<AsPathPattern>,
    sources: Vec<SourcePattern>,
    pub(super) action: RouteMapAction,
    pub(super) continues: bool,
}

/// A route as a rule sees it: with what earlier rules have changed.
pub(super) struct Sight<'a> {
    source: RouteSource<'a>,
    attributes: Cow<'a, PathAttributes>,
    /// The AS path as text, once a rule has asked for it.
    text: Option<String>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(source: RouteSource<'a>, attributes: &'a PathAttributes) -> Self {
        Self {
            source,
            attributes: Cow::Borrowed(attributes),
            text: None,
        }
    }

    /// To be changed.
    pub(super) fn attributes_mut(&mut self) -> &mut PathAttributes {
        self.text = None;
        self.attributes.to_mut()
    }

    pub(super) fn into_attributes(self) -> Cow<'a, PathAttributes> {
        self.attributes
    }

    fn text(&mut self) -> &str {
        let path = &self.attributes.as_path;
        self.text.get_or_insert_with(|| path.to_string())
    }
}

impl Rule {
    pub(super) fn new(map: &RouteMapName, rule: &RouteMapRule) -> Self {
        Self {
            label: format!("rule \"{}\" of route map \"{map}\"", rule.name).into(),
            communities: rule.matches.communities.clone(),
            as_paths: rule.matches.as_paths.clone(),
            sources: rule.matches.sources.clone(),
            action: rule.action.clone(),
            continues: rule.continues,
        }
    }

    /// Whether it is about this route, whose prefix fits.
    pub(super) fn matches(&self, route: &mut Sight<'_>) -> bool {
        one_of(&self.sources, |source| comes_from(source, route.source))
            && one_of(&self.communities, |community| {
                has(&route.attributes, *community)
            })
            && one_of(&self.as_paths, |pattern| match pattern {
                AsPathPattern::Contains(asn) => route.attributes.as_path.contains(*asn),
                AsPathPattern::Exact(asns) => is_exactly(&route.attributes.as_path, asns),
                AsPathPattern::Regex(regex) => regex.compiled.is_match(route.text()),
            })
    }

    pub(super) fn drops(&self) -> Arc<str> {
        format!("dropped by {} (action)", self.label).into()
    }

    pub(super) fn aggregates(&self, prefix: IpNet) -> Arc<str> {
        format!("gives way to {prefix} by {} (aggregate)", self.label).into()
    }

    pub(super) fn overflows(&self) -> Arc<str> {
        format!(
            "dropped: {} makes its AS path longer than {MOST_ASNS} ASNs (as_path_prepend)",
            self.label
        )
        .into()
    }
}

/// Whether a list is empty, or has one that fits.
fn one_of<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

fn comes_from(pattern: &SourcePattern, source: RouteSource<'_>) -> bool {
    match (pattern, source) {
        (SourcePattern::Kind(wanted), RouteSource::Peer { kind, .. }) => *wanted == kind,
        (SourcePattern::Peer(wanted), RouteSource::Peer { name, gateway, .. }) => {
            wanted.as_str() == name || Some(wanted.as_str()) == gateway
        }
        (SourcePattern::Static, RouteSource::Static)
        | (SourcePattern::Originated, RouteSource::Originated) => true,
        _ => false,
    }
}

fn has(attributes: &PathAttributes, community: CommunityValue) -> bool {
    match community {
        CommunityValue::Standard(value) => attributes.has_community(value),
        CommunityValue::Large(value) => attributes.large_communities.binary_search(&value).is_ok(),
        CommunityValue::Extended(value) => {
            let extended = &attributes.extended_communities;
            extended.binary_search(&value).is_ok()
        }
    }
}

fn is_exactly(path: &AsPath, asns: &[u32]) -> bool {
    !path.has_sets() && !path.has_confederation() && path.asns().eq(asns.iter().copied())
}
