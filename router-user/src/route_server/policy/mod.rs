//! Route maps: what becomes of a route that is learned or advertised.
//!
//! In: a [`config::RouteMap`](RouteMap), and routes: prefix, attributes, where they come from. Out:
//! an [`Outcome`] each. Pure, and the same for the same route at any time.
//!
//! A route map is compiled once. Its rules look at a prefix in few ways, so that a million prefixes
//! fall into a handful of classes ([`CompiledRouteMap::class`]); the outcome depends on class, source
//! and attributes alone, by which callers may remember it.

use std::{borrow::Cow, fmt, num::NonZeroU8, sync::Arc};

use ipnet::IpNet;

use crate::{
    bgp::wire::PathAttributes,
    config::{PeerKind, RouteMap, RouteMapAction},
    names::RouteMapName,
};

mod changes;
mod classes;
mod rule;
#[cfg(test)]
mod tests;

use changes::MOST_ASNS;
use classes::PrefixClasses;
use rule::{Rule, Sight};

/// A route map, ready to be asked.
#[derive(Debug)]
pub struct CompiledRouteMap {
    name: RouteMapName,
    rules: Box<[Rule]>,
    classes: PrefixClasses,
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteSource<'a> {
    /// A peer announced it.
    Peer {
        /// The peer's kind.
        kind: PeerKind,
        /// Its name.
        name: &'a str,
        /// The gateway that it is a member of.
        gateway: Option<&'a str>,
    },
    /// Learned by hand (`[[route_server.learned]]`).
    Static,
    /// Originated by the route server, or advertised by hand.
    Originated,
}

/// What a route map makes of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It passes as it is.
    Keep,
    /// It does not pass; why, with the rule.
    Drop(Arc<str>),
    /// It passes, changed.
    Change {
        /// With these attributes; as valid as those it had.
        attributes: Box<PathAttributes>,
        /// Its share of the flows in an ECMP set, where a rule says so.
        weight: Option<NonZeroU8>,
    },
    /// It does not pass itself: it gives way to this prefix, in which it lies.
    Aggregate {
        /// The prefix that passes in its place.
        prefix: IpNet,
        /// In whose favour it does not pass, with the rule.
        reason: Arc<str>,
    },
}

impl CompiledRouteMap {
    /// Compiles a route map.
    #[must_use]
    pub fn new(map: &RouteMap) -> Self {
        let rules = map.rules.iter().map(|rule| Rule::new(&map.name, rule));
        Self {
            name: map.name.clone(),
            rules: rules.collect(),
            classes: PrefixClasses::new(&map.rules),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RouteMapName {
        &self.name
    }

    /// The class of a prefix: prefixes of one class evaluate alike. Classes count from 0 and mean
    /// nothing to another route map.
    #[must_use]
    pub fn class(&self, prefix: IpNet) -> u32 {
        self.classes.of(prefix)
    }

    /// How many classes there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Whether one of its rules aggregates.
    #[must_use]
    pub fn aggregates(&self) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| matches!(rule.action, RouteMapAction::Aggregate(_)))
    }

    /// What becomes of a route.
    #[must_use]
    pub fn evaluate(
        &self,
        prefix: IpNet,
        source: RouteSource<'_>,
        attributes: &PathAttributes,
    ) -> Outcome {
        self.evaluate_class(self.class(prefix), source, attributes)
    }

    /// What becomes of a route to a prefix of this class.
    ///
    /// # Panics
    ///
    /// The class is none of this route map.
    #[must_use]
    pub fn evaluate_class(
        &self,
        class: u32,
        source: RouteSource<'_>,
        attributes: &PathAttributes,
    ) -> Outcome {
        let class = self.classes.class(class);
        let mut route = Sight::new(source, attributes);
        let mut weight = None;
        for rule in class.rules.iter().map(|place| &self.rules[*place]) {
            if !rule.matches(&mut route) {
                if planted!(FirstRuleOnly) {
                    break;
                }
                continue;
            }
            match &rule.action {
                RouteMapAction::Drop if planted!(DropPermits) => {}
                RouteMapAction::Drop => return Outcome::Drop(rule.drops()),
                RouteMapAction::Aggregate(prefix) => {
                    return Outcome::Aggregate {
                        prefix: *prefix,
                        reason: rule.aggregates(*prefix),
                    };
                }
                RouteMapAction::Permit(to) => {
                    if !changes::apply(to, class.ipv4, route.attributes_mut()) {
                        return Outcome::Drop(rule.overflows());
                    }
                    weight = to.weight.and_then(NonZeroU8::new).or(weight);
                }
            }
            let stops = !rule.continues && !planted!(RulesNeverStop);
            if stops || planted!(RulesNeverContinue) {
                break;
            }
        }
        match route.into_attributes() {
            Cow::Owned(changed) if changed != *attributes || weight.is_some() => Outcome::Change {
                attributes: Box::new(changed),
                weight,
            },
            _ => Outcome::Keep,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("passes as it is"),
            Self::Change { .. } => f.write_str("passes, changed"),
            Self::Drop(reason) | Self::Aggregate { reason, .. } => f.write_str(reason),
        }
    }
}
