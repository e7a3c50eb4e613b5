//! What the networks are told: routes of views, who takes which view, members of gateways.
//!
//! In: the uses of what is learned, and what the RIB has worked out. Out: [`Report`]s. Uses are grouped
//! anew when they change, when the configuration does, and when one network more holds next hops: only
//! networks that do tell users apart. One that held some tells them apart until the configuration
//! changes, so that a route that comes and goes moves nobody between tables; so does one that is to
//! hold some, for a peer, a gateway's member or the next hop of a static route lies in it. How many
//! networks tell them apart because somebody announces next hops there is bounded ([`KnownZones`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{
    LearnedUse, Report, RouteServer, ViewPlan, kind,
    known_zones::KnownZones,
    space::{OWN, Space, Zones},
    views::Sight,
};
use crate::{
    config::GatewayMembers,
    fnv::Fnv,
    names::VnetName,
    rib::{Towards, ZoneSet},
};

impl RouteServer {
    /// Who uses what is learned.
    pub fn set_uses(&mut self, uses: BTreeSet<LearnedUse>, now: Instant) {
        // Who is gone in between is told again what it takes, even if it is back before that is asked.
        self.views.retain(|of| uses.contains(of));
        self.uses = uses;
        self.regroup = true;
        self.schedule(now);
    }

    /// What the networks are to know, since last asked.
    pub fn take_reports(&mut self, now: Instant) -> Vec<Report> {
        let mut reports = self.report_members();
        if self.deferred_until.is_some() {
            // Nobody knows of any route yet: what counts is what stands in the end.
            return reports;
        }
        let forgotten = std::mem::take(&mut self.forgotten_views);
        reports.extend(forgotten.into_iter().map(Report::Drop));
        self.note_told();
        if self.known_zones.take_refusal() {
            tracing::warn!(
                route_server = %self.config.name, most = KnownZones::MOST_LEARNED,
                "next hops are announced in too many peered networks: in the others they do not count"
            );
        }
        reports.extend(self.group_uses());
        let changes = self.rib.take_learned();
        if !changes.is_empty() {
            reports.push(Report::Changes(changes));
        }
        self.note_told();
        let assigned = self.views.assign();
        if !assigned.is_empty() && self.views.are_settled() {
            // What nobody forwards by any more is told less from now on.
            self.regroup = true;
        }
        let assigned = assigned.into_iter();
        reports.extend(assigned.map(|(of, view)| Report::Assign(of, view)));
        reports.extend(self.group_uses());
        for view in self.views.drop_unused() {
            self.rib.remove_learned_view(view);
            reports.push(Report::Drop(view));
        }
        self.schedule(now);
        reports
    }

    /// Nobody takes any view any more, until all uses have been grouped anew.
    pub(super) fn forget_views(&mut self) {
        for view in self.views.forget() {
            self.rib.remove_learned_view(view);
            self.forgotten_views.push(view);
        }
    }

    fn note_told(&mut self) {
        for view in self.rib.take_told() {
            self.views.told(view);
        }
    }

    /// Groups the uses, if what they come to may have changed; the views that are new, or are told in
    /// another way.
    fn group_uses(&mut self) -> Vec<Report> {
        if !self.known_zones.take_grown() && !self.regroup {
            return Vec::new();
        }
        self.regroup = false;
        // Users far outnumber the networks within which they differ.
        let mut reaches: BTreeMap<&BTreeSet<VnetName>, ZoneSet> = BTreeMap::new();
        let uses: Vec<(LearnedUse, Sight)> = self
            .uses
            .iter()
            .map(|of| {
                let reach = reaches.entry(&of.reach).or_insert_with(|| self.reach(of));
                let sight = Sight {
                    sources: kind::taken_by(&self.config, of),
                    towards: kind::towards(&self.config, of),
                    reach: reach.clone(),
                };
                (of.clone(), sight)
            })
            .collect();
        let mut plans = Vec::new();
        for (id, sight, marks_only) in self.views.group(uses) {
            plans.push(Report::View(
                id,
                ViewPlan {
                    label: label(&self.zones, &sight),
                    forwarding: !marks_only,
                },
            ));
            self.rib.set_learned_view(id, sight.as_learned(marks_only));
        }
        plans
    }

    /// The networks that are to hold next hops as configured.
    pub(super) fn expected_zones(&self, space: &Space) -> ZoneSet {
        let peers = self.config.peers.iter().map(|peer| peer.address);
        let gateways = self.config.gateways.iter();
        let members = gateways.flat_map(|gateway| match &gateway.members {
            GatewayMembers::Addresses(addresses) => addresses.clone(),
            GatewayMembers::Range { prefix, .. } => vec![prefix.addr()],
        });
        let routes = self.config.learned.iter();
        let next_hops = routes.flat_map(|route| route.next_hops.iter().copied());
        let addresses = peers.chain(members).chain(next_hops);
        addresses
            .filter_map(|address| space.zone(address))
            .collect()
    }

    /// What a use comes to.
    pub(super) fn sight(&self, of: &LearnedUse) -> Sight {
        Sight {
            sources: kind::taken_by(&self.config, of),
            towards: kind::towards(&self.config, of),
            reach: self.reach(of),
        }
    }

    /// The networks in which a user reaches next hops, as far as they are known to hold any, and the
    /// route server's own.
    fn reach(&self, of: &LearnedUse) -> ZoneSet {
        let zones = of.reach.iter().filter_map(|name| self.zones.zone(name));
        zones
            .filter(|zone| *zone == OWN || self.known_zones.contains(*zone))
            .collect()
    }
}

/// What a view's table is called beside its route server: nothing if it holds all sources and reaches
/// the route server's own network alone, else 16 digits that are equal on every host.
fn label(zones: &Zones, sight: &Sight) -> Arc<str> {
    let Sight {
        sources,
        towards,
        reach,
    } = sight;
    if *sources == kind::all() && *towards == Towards::Subnets && reach.iter().eq([&OWN]) {
        return "".into();
    }
    let mut hash = Fnv::new("learned view");
    for kind in kind::ALL {
        hash.number(u64::from(sources.contains(kind)));
    }
    match towards {
        Towards::Subnets => {}
        Towards::Internal => hash.text("internal"),
        Towards::External => hash.text("external"),
    }
    let names: BTreeSet<&VnetName> = reach.iter().filter_map(|zone| zones.name(*zone)).collect();
    for name in names {
        hash.text(name.as_str());
    }
    format!("{:016x}", hash.finish()).into()
}
