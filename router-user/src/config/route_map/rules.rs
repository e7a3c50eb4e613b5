//! Reading `[[route_server.route_map]]` with its rules.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::{
    super::{
        PeerKind,
        claims::Claims,
        fault::{self, Report},
        network::overlap,
        schema,
        section::{Located, Section},
        special::refuse_next_hop,
        values::{Address, Name, Prefix},
    },
    AsPathPattern, CommunityValue, MapUse, Match, PrefixPattern, RouteChanges, RouteMap,
    RouteMapAction, RouteMapRule, SourcePattern,
};
use crate::{
    bgp::wire::Asn,
    names::{PeerName, RouteMapName},
};

/// The route maps of one route server that were read.
#[derive(Debug, Default)]
pub(in crate::config) struct RouteMapsRead {
    maps: Vec<(usize, RouteMap)>,
    /// Where each of them, those with faults included, sets a weight first, if it does.
    weights: HashMap<RouteMapName, Option<usize>>,
    /// Of each of them the rules, by place and name, that are about what only is sent.
    sent_only: HashMap<RouteMapName, Vec<(usize, String)>>,
    /// The name of one could not be read: it may be the one that is meant elsewhere.
    nameless: bool,
}

impl RouteMapsRead {
    /// Reads all of them; rules may name these peers and gateways.
    pub(in crate::config) fn read(
        server: &Section<'_, '_>,
        recipients: &HashSet<PeerName>,
        report: &mut Report,
    ) -> Self {
        let mut all = Self::default();
        let mut names = Claims::of("name");
        for section in server.subsections("route_map", &schema::ROUTE_MAP, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let mut reader = MapReader {
                map: &label,
                recipients,
                names: Claims::of("name"),
                weight: None,
                sent_only: Vec::new(),
            };
            let rules = reader.rules(&section, report);
            let MapReader {
                weight, sent_only, ..
            } = reader;
            let Some(name) = name else {
                all.nameless = true;
                continue;
            };
            let key = RouteMapName::from(label);
            names.claim(key.clone(), "a route map", name.at, report);
            all.weights.insert(key.clone(), weight);
            all.sent_only.insert(key.clone(), sent_only);
            all.maps.push((section.at, RouteMap { name: key, rules }));
        }
        all
    }

    /// The maps, held against where they are named. One that is named nowhere deserves a warning.
    pub(in crate::config) fn finish(self, uses: &[MapUse], report: &mut Report) -> Vec<RouteMap> {
        for of in uses {
            self.check_use(of, report);
        }
        let used: HashSet<_> = uses.iter().map(|of| &of.map).collect();
        let sent = uses.iter().filter(|of| of.outbound);
        let sent: HashSet<_> = sent.map(|of| &of.map).collect();
        for (at, map) in &self.maps {
            if used.contains(&map.name) && !sent.contains(&map.name) {
                self.warn_of_sent_only(&map.name, report);
            }
            if !used.contains(&map.name) {
                report.warning(
                    *at,
                    format!("route map {} is named nowhere", map.name),
                    "name it as route_map_in or route_map_out of a peer, or in route_maps, or remove it",
                );
            }
        }
        self.maps.into_iter().map(|(_, map)| map).collect()
    }

    /// Rules of a map that is asked about what peers announce only.
    fn warn_of_sent_only(&self, map: &RouteMapName, report: &mut Report) {
        for (at, rule) in self.sent_only.get(map).into_iter().flatten() {
            report.warning(
                *at,
                format!(
                    "rule {rule} of route map {map} takes no route: the map is used inbound, and what \
                     is static or originated is not announced by a peer"
                ),
                "use the map outbound, or correct source",
            );
        }
    }

    fn check_use(&self, of: &MapUse, report: &mut Report) {
        let MapUse {
            map,
            outbound,
            owner,
            at,
        } = of;
        match self.weights.get(map) {
            None if self.nameless => {}
            None => report.fault(
                *at,
                format!("{owner}: there is no route map \"{map}\""),
                if self.maps.is_empty() {
                    "add a [[route_server.route_map]] of that name".to_owned()
                } else {
                    let names = self.maps.iter().map(|(_, map)| &map.name);
                    format!("name one of: {}", fault::known(names))
                },
            ),
            Some(Some(weight)) if *outbound => {
                let line = report.line_of(*weight);
                report.fault(
                    *at,
                    format!(
                        "{owner}: route map {map} sets a weight (line {line}), which nobody is sent"
                    ),
                    "use it inbound, or use a map without weight",
                );
            }
            Some(_) => {}
        }
    }
}

/// The words of `source`.
const SOURCES: [(&str, SourcePattern); 5] = [
    (PeerKind::Nva.word(), SourcePattern::Kind(PeerKind::Nva)),
    (
        PeerKind::ExpressRoute.word(),
        SourcePattern::Kind(PeerKind::ExpressRoute),
    ),
    (PeerKind::Vpn.word(), SourcePattern::Kind(PeerKind::Vpn)),
    ("static", SourcePattern::Static),
    ("originated", SourcePattern::Originated),
];

#[derive(Clone, Copy)]
enum Action {
    Permit,
    Drop,
}

const ACTIONS: [(&str, Action); 2] = [("permit", Action::Permit), ("drop", Action::Drop)];

/// Whether later rules are asked.
const THEN: [(&str, bool); 2] = [("stop", false), ("continue", true)];

/// The keys that change a route.
const CHANGES: [&str; 9] = [
    "as_path_replace",
    "as_path_prepend",
    "community_replace",
    "community_remove",
    "community_add",
    "local_pref",
    "med",
    "weight",
    "next_hop",
];

/// The most ASNs that a rule writes into a path: what one segment holds.
const MAX_ASNS: usize = 255;

/// Reads the rules of one route map.
struct MapReader<'r> {
    map: &'r str,
    recipients: &'r HashSet<PeerName>,
    /// Of rules.
    names: Claims<String>,
    /// Where a rule sets a weight.
    weight: Option<usize>,
    /// Rules, by place and name, that are about what only is sent.
    sent_only: Vec<(usize, String)>,
}

impl MapReader<'_> {
    fn rules(&mut self, map: &Section<'_, '_>, report: &mut Report) -> Vec<RouteMapRule> {
        let sections = map.subsections("rule", &schema::ROUTE_MAP_RULE, report);
        let mut rules: Vec<RouteMapRule> = Vec::with_capacity(sections.len());
        let mut last: Option<String> = None;
        let mut behind = None;
        for (number, section) in (1..).zip(&sections) {
            let rule = self.rule(number, section, report);
            if last.is_some() {
                behind.get_or_insert(section.at);
            }
            let takes_all = rule.as_ref().filter(|rule| rule.takes_all());
            last = last.or_else(|| takes_all.map(|rule| rule.name.clone()));
            rules.extend(rule);
        }
        if let (Some(rule), Some(at)) = (last, behind) {
            report.warning(
                at,
                format!(
                    "rules of route map {} from here on are never asked: rule {rule} takes every route",
                    self.map
                ),
                format!("move rule {rule} behind them, or have it match some routes only"),
            );
        }
        rules
    }

    fn rule(
        &mut self,
        number: usize,
        section: &Section<'_, '_>,
        report: &mut Report,
    ) -> Option<RouteMapRule> {
        let name = section.text::<Name>("name", report);
        let at = name.as_ref().map_or(section.at, |name| name.at);
        let name = name.map_or_else(|| number.to_string(), |name| name.value.0);
        let owner = format!("rule {name} of route map {}", self.map);
        let of = format!("a rule of route map {}", self.map);
        self.names.claim(name.clone(), of, at, report);
        let matches = self.matches(section, &owner, report);
        let is_sent =
            |source| matches!(source, &SourcePattern::Static | &SourcePattern::Originated);
        if !matches.sources.is_empty() && matches.sources.iter().all(is_sent) {
            self.sent_only.push((section.place("source"), name.clone()));
        }
        let continues = section.choice("then", &THEN, report);
        let action = self.action(section, &matches, &owner, report)?;
        let continues = continues.is_some_and(|then| then.value);
        if continues && !matches!(action, RouteMapAction::Permit(_)) {
            report.fault(
                section.place("then"),
                format!("{owner} lets nothing pass that a later rule could be asked about"),
                "leave then = \"continue\" out",
            );
        }
        Some(RouteMapRule {
            name,
            matches,
            action,
            continues,
        })
    }

    fn matches(&self, section: &Section<'_, '_>, owner: &str, report: &mut Report) -> Match {
        section.refuse_empty("source", report);
        let sources = section.choices("source", &SOURCES, report);
        let mut sources: Vec<_> = sources.into_iter().map(|source| source.value).collect();
        for Located { value, at } in section.filled_list::<Name>("source_peer", report) {
            let peer = PeerName::from(value.0);
            refuse_stranger(&peer, self.recipients, owner, at, report);
            sources.push(SourcePattern::Peer(peer));
        }
        Match {
            prefixes: values(section.filled_list::<PrefixPattern>("prefix", report)),
            communities: values(section.filled_list::<CommunityValue>("community", report)),
            as_paths: values(section.filled_list::<AsPathPattern>("as_path", report)),
            sources,
        }
    }

    fn action(
        &mut self,
        section: &Section<'_, '_>,
        matches: &Match,
        owner: &str,
        report: &mut Report,
    ) -> Option<RouteMapAction> {
        let action = section.choice("action", &ACTIONS, report);
        let aggregate = section.text::<Prefix>("aggregate", report);
        if section.has("aggregate") && section.has("action") {
            report.fault(
                section.place("action"),
                format!("{owner} has an action and an aggregate"),
                "keep one of them: the aggregate takes the place of what it matches",
            );
            return None;
        }
        let changes = self.changes(section, owner, report);
        let what = match (&aggregate, action.as_ref().map(|action| action.value)) {
            (Some(_), _) => "aggregates routes",
            (None, Some(Action::Drop)) => "drops routes",
            (None, _) => return Some(RouteMapAction::Permit(Box::new(changes))),
        };
        for key in CHANGES.into_iter().filter(|key| section.has(key)) {
            report.fault(
                section.place(key),
                format!("{owner} {what}, and changes them ({key})"),
                format!("leave {key} out, or permit the routes"),
            );
        }
        let Some(Located {
            value: Prefix(aggregate),
            at,
        }) = aggregate
        else {
            return Some(RouteMapAction::Drop);
        };
        let mut listed = matches.prefixes.iter();
        if !matches.prefixes.is_empty() && !listed.any(|pattern| pattern.meets(aggregate)) {
            report.warning(
                at,
                format!("{owner} takes no route: none that it matches lies within {aggregate}"),
                "give an aggregate around the prefixes of the rule",
            );
        }
        Some(RouteMapAction::Aggregate(aggregate))
    }

    fn changes(
        &mut self,
        section: &Section<'_, '_>,
        owner: &str,
        report: &mut Report,
    ) -> RouteChanges {
        let communities =
            |key: &str, report: &mut Report| values(section.list::<CommunityValue>(key, report));
        let community_replace = section
            .has("community_replace")
            .then(|| communities("community_replace", report));
        let weight = section.integer("weight", 1..=u8::MAX, report);
        self.weight = self.weight.or(weight.as_ref().map(|weight| weight.at));
        let next_hop = section.text::<Address>("next_hop", report);
        if let Some(next_hop) = &next_hop {
            refuse_next_hop(next_hop, None, owner, report);
        }
        let number = |key: &str, report: &mut Report| {
            let number = section.integer(key, 0..=u32::MAX, report);
            number.map(|number| number.value)
        };
        RouteChanges {
            as_path_replace: asns(section, "as_path_replace", report),
            as_path_prepend: asns(section, "as_path_prepend", report).unwrap_or_default(),
            community_replace,
            community_remove: communities("community_remove", report),
            community_add: communities("community_add", report),
            local_pref: number("local_pref", report),
            med: number("med", report),
            weight: weight.map(|weight| weight.value),
            next_hop: next_hop.map(|next_hop| next_hop.value.0),
        }
    }
}

impl RouteMapRule {
    /// Whether no rule behind it is ever asked.
    fn takes_all(&self) -> bool {
        let within = matches!(self.action, RouteMapAction::Aggregate(_));
        self.matches == Match::default() && !self.continues && !within
    }
}

impl PrefixPattern {
    /// Whether it takes some prefix within this one.
    fn meets(&self, within: IpNet) -> bool {
        overlap(self.prefix, within) && self.lengths.1 >= within.prefix_len()
    }
}

/// ASNs to write into a path. 0 is none (RFC 7607).
fn asns(section: &Section<'_, '_>, key: &str, report: &mut Report) -> Option<Vec<Asn>> {
    let asns = section.integers(key, 1..=Asn::MAX, report)?;
    if asns.len() > MAX_ASNS {
        report.fault(
            section.place(key),
            format!("{key} has {} ASNs", asns.len()),
            format!("give at most {MAX_ASNS}"),
        );
    }
    Some(asns)
}

/// Reports the name of a peer or gateway that there is not.
pub(in crate::config) fn refuse_stranger(
    name: &PeerName,
    recipients: &HashSet<PeerName>,
    owner: &str,
    at: usize,
    report: &mut Report,
) {
    if recipients.contains(name) {
        return;
    }
    let mut names: Vec<_> = recipients.iter().collect();
    names.sort();
    report.fault(
        at,
        format!("{owner}: there is no peer or gateway \"{name}\""),
        if names.is_empty() {
            "add a [[route_server.peer]] or [[route_server.gateway]] of that name".to_owned()
        } else {
            format!("name one of: {}", fault::known(names))
        },
    );
}

fn values<T>(located: Vec<Located<T>>) -> Vec<T> {
    located.into_iter().map(|located| located.value).collect()
}
