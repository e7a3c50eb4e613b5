//! The classes of prefixes that the rules of a route map tell apart.
//!
//! Rules look at a prefix through patterns: a prefix that it lies within, and a range of lengths. The
//! prefixes of all patterns form a tree. Which rules are about a prefix follows from the longest of
//! them that contains it, and from its length; both are found by a look-up for each length that
//! patterns have, and rules that are about the same prefixes need no more classes.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustc_hash::FxHashMap;

use crate::config::{RouteMapAction, RouteMapRule};

/// A route map's classes.
#[derive(Debug)]
pub(super) struct PrefixClasses {
    classes: Vec<Class>,
    /// Lengths that patterns' prefixes have, longest first; 0 always, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
    /// For each prefix of a pattern the classes of what lies within it and within no longer one: from
    /// this length on, this class; by length.
    nodes: FxHashMap<IpNet, Box<[(u8, u32)]>>,
}

/// What the rules know of the prefixes of a class.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Class {
    /// They are IPv4 prefixes; else IPv6.
    pub(super) ipv4: bool,
    /// Places of the rules whose prefixes fit, in order.
    pub(super) rules: Box<[usize]>,
}

/// A rule's demand on a prefix that lies within another one.
#[derive(Clone, Copy, Debug)]
struct Demand {
    rule: usize,
    lengths: (u8, u8),
    /// It is the aggregate that the prefix is to lie within, not one of the rule's patterns.
    aggregate: bool,
}

impl PrefixClasses {
    pub(super) fn new(rules: &[RouteMapRule]) -> Self {
        let mut demands: FxHashMap<IpNet, Vec<Demand>> = FxHashMap::default();
        for root in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
            demands.insert(root, Vec::new());
        }
        for (rule, section) in rules.iter().enumerate() {
            for pattern in &section.matches.prefixes {
                demands.entry(pattern.prefix).or_default().push(Demand {
                    rule,
                    lengths: pattern.lengths,
                    aggregate: false,
                });
            }
            if let RouteMapAction::Aggregate(prefix) = section.action {
                demands.entry(prefix).or_default().push(Demand {
                    rule,
                    lengths: (prefix.prefix_len(), prefix.max_prefix_len()),
                    aggregate: true,
                });
            }
        }
        let mut lengths = [Vec::new(), Vec::new()];
        for prefix in demands.keys() {
            lengths[family(*prefix)].push(prefix.prefix_len());
        }
        for lengths in &mut lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }

        let mut this = Self {
            classes: Vec::new(),
            lengths,
            nodes: FxHashMap::default(),
        };
        let mut known: FxHashMap<Class, u32> = FxHashMap::default();
        let mut prefixes: Vec<_> = demands.keys().copied().collect();
        // For the same numbers each time.
        prefixes.sort_unstable();
        for prefix in prefixes {
            let above: Vec<_> = this
                .covering(prefix)
                .filter_map(|prefix| demands.get(&prefix))
                .flatten()
                .copied()
                .collect();
            let mut steps: Vec<(u8, u32)> = Vec::new();
            for length in breaks(prefix, &above) {
                let class = class(rules, prefix.addr().is_ipv4(), &above, length);
                let next = known.len() as u32;
                let number = *known.entry(class).or_insert_with_key(|class| {
                    this.classes.push(class.clone());
                    next
                });
                if steps.last().is_none_or(|(_, before)| *before != number) {
                    steps.push((length, number));
                }
            }
            this.nodes.insert(prefix, steps.into());
        }
        this
    }

    /// The class of a prefix.
    pub(super) fn of(&self, prefix: IpNet) -> u32 {
        let steps = self
            .covering(prefix)
            .find_map(|covering| self.nodes.get(&covering))
            .expect("0.0.0.0/0 and ::/0 are always there");
        let length = prefix.prefix_len();
        let after = steps.partition_point(|(from, _)| *from <= length);
        steps[after - 1].1
    }

    pub(super) fn class(&self, number: u32) -> &Class {
        &self.classes[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    /// The prefixes, of lengths that patterns have, that a prefix lies within; longest first.
    fn covering(&self, prefix: IpNet) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths[family(prefix)].iter();
        lengths
            .filter(move |length| **length <= prefix.prefix_len())
            .map(move |length| {
                let covering = IpNet::new(prefix.addr(), *length);
                covering.expect("it is no longer than the prefix").trunc()
            })
    }
}

/// The lengths from which on other demands are met than before, within a prefix.
fn breaks(prefix: IpNet, demands: &[Demand]) -> Vec<u8> {
    let lengths = prefix.prefix_len()..=prefix.max_prefix_len();
    let mut breaks = vec![prefix.prefix_len()];
    for Demand {
        lengths: (shortest, longest),
        ..
    } in demands
    {
        let ends = [Some(*shortest), longest.checked_add(1)];
        breaks.extend(ends.into_iter().flatten().filter(|at| lengths.contains(at)));
    }
    breaks.sort_unstable();
    breaks.dedup();
    breaks
}

/// The class of prefixes of this length that meet these demands as far as their place goes.
fn class(rules: &[RouteMapRule], ipv4: bool, demands: &[Demand], length: u8) -> Class {
    let met = |rule: usize, aggregate: bool| {
        demands.iter().any(|demand| {
            let (shortest, longest) = demand.lengths;
            demand.rule == rule
                && demand.aggregate == aggregate
                && (shortest..=longest).contains(&length)
        })
    };
    let fits = |(place, rule): (usize, &RouteMapRule)| {
        let listed = rule.matches.prefixes.is_empty() || met(place, false);
        let within = !matches!(rule.action, RouteMapAction::Aggregate(_)) || met(place, true);
        (listed && within).then_some(place)
    };
    Class {
        ipv4,
        rules: rules.iter().enumerate().filter_map(fits).collect(),
    }
}

fn family(prefix: IpNet) -> usize {
    usize::from(prefix.addr().is_ipv6())
}
