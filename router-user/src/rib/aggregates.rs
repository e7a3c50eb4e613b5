//! Aggregates: prefixes that stand in the place of the routes within them that a route map takes out.
//!
//! In: the paths that a batch changed, before and after. Out: paths to the aggregates. What an
//! aggregate is made of is counted, by source, what is [`Carried`] over and next hop: it comes with the
//! first route that counts and goes with the last one. It is no better and for no others than the best
//! of these routes, its next hop is the lowest of theirs, and nothing of it depends on the order of
//! events.
//!
//! An inbound aggregate is for everybody, as a path of the session that announces what it stands for;
//! an outbound one is for one [`Audience`], the update groups whose views differ in nothing but their
//! limit. Both belong to the *shadow* of a session: one beside it in the RIB that nothing is received
//! from, and with its identity, so that nobody is sent an aggregate for the sake of its own routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use ipnet::IpNet;

use super::{
    Judgement, SessionIndex, SessionInfo, SourceKind, View, Zone,
    adj_rib_in::Core,
    adj_rib_out::Tables,
    decision::Rank,
    path::{Path, Sessions},
    table::{Address, Changed, Table},
    view::{FamilyView, Until},
};
use crate::bgp::{
    InstanceId, SessionId,
    wire::{Asn, NextHop, PathAttributes, community},
};

/// What is shown, if anything, of an aggregate that only peers are sent: subnets do not learn it.
const SENT_ONLY: &str = "an aggregate that is advertised only";

/// Who an aggregate is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Audience(u16);

impl Audience {
    /// Everybody: the aggregate is a route as others are.
    pub(super) const EVERYBODY: Self = Self(0);

    /// Whether a path of a shadow is for this audience.
    pub(super) fn is_of(self, path: &Path) -> bool {
        path.path_id == u32::from(self.0)
    }
}

/// All aggregates and what they are made of.
#[derive(Clone, Default)]
pub(super) struct Aggregates {
    /// Views with a policy that aggregates; the place is the audience, less one.
    audiences: Vec<Option<View>>,
    counts: BTreeMap<Place, BTreeMap<Member, usize>>,
    /// Where the counts have changed.
    changed: BTreeSet<Place>,
    shadows: FxHashMap<SessionIndex, SessionIndex>,
}

/// Where an aggregate stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    audience: Audience,
    prefix: IpNet,
    /// Whose routes it stands for; [`SessionIndex::LOCAL`]: originated ones.
    source: SessionIndex,
}

/// A route that an aggregate stands for.
struct Contribution {
    place: Place,
    member: Member,
}

/// What an aggregate takes from a route that it stands for: all it has is of the least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    carried: Carried,
    next_hop: IpAddr,
    zone: Zone,
}

/// What of a route says that it is the last choice, or whom it is not for; the less of it, the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Carried {
    /// Which of [`Carried::COMMUNITIES`].
    communities: [bool; 5],
    only_to_customer: Option<Asn>,
}

impl Carried {
    /// The first one weighs the most.
    const COMMUNITIES: [u32; 5] = [
        community::LLGR_STALE,
        community::GRACEFUL_SHUTDOWN,
        community::NO_ADVERTISE,
        community::NO_EXPORT,
        community::NO_EXPORT_SUBCONFED,
    ];

    fn of(attributes: &PathAttributes) -> Self {
        Self {
            communities: Self::COMMUNITIES.map(|community| attributes.has_community(community)),
            only_to_customer: attributes.only_to_customer,
        }
    }

    fn put_on(self, attributes: &mut PathAttributes) {
        let all = Self::COMMUNITIES.into_iter().zip(self.communities);
        for (community, _) in all.filter(|(_, carried)| *carried) {
            attributes.add_community(community);
        }
        attributes.only_to_customer = self.only_to_customer;
    }
}

impl Aggregates {
    /// The audience of a view, which is new if no session had such a view before: then what is in the
    /// tables counts from now on.
    pub(super) fn audience(&mut self, core: &Core, tables: &Tables, view: &View) -> Audience {
        let policy = view.policy.as_ref();
        if !policy.is_some_and(|policy| policy.aggregates()) {
            return Audience::EVERYBODY;
        }
        let wanted = |audience| View {
            until: [Until::End; 2],
            audience,
            ..view.clone()
        };
        let place = (0..self.audiences.len()).find(|place| {
            let known = self.audiences[*place].as_ref();
            known.is_some_and(|known| *known == wanted(known.audience))
        });
        if let Some(place) = place {
            return number(place);
        }
        let free = self.audiences.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.audiences.push(None);
            self.audiences.len() - 1
        });
        let audience = number(place);
        let view = wanted(audience);
        self.count_all(core, &tables.v4, &view);
        self.count_all(core, &tables.v6, &view);
        self.audiences[place] = Some(view);
        audience
    }

    /// Forgets audiences that nobody belongs to any longer.
    pub(super) fn retain(&mut self, used: &BTreeSet<Audience>) {
        for (place, view) in self.audiences.iter_mut().enumerate() {
            if view.is_none() || used.contains(&number(place)) {
                continue;
            }
            *view = None;
            let gone = self.counts.iter_mut();
            let gone = gone.filter(|(at, _)| at.audience == number(place));
            for (at, counts) in gone {
                counts.clear();
                self.changed.insert(*at);
            }
        }
    }

    /// Whether any view has a policy that aggregates.
    pub(super) fn has_audiences(&self) -> bool {
        self.audiences.iter().any(Option::is_some)
    }

    fn count_all<A: Address>(&mut self, core: &Core, table: &Table<A>, view: &View) {
        let view = FamilyView::new(view, A::FAMILY);
        for slot in (0..table.len()).map(|slot| table.slot(slot)) {
            if !slot.paths().is_empty() {
                self.count_sent(core, &view, slot.prefix(), slot.paths(), Step::Come);
            }
        }
    }

    /// Counts what a batch changed.
    pub(super) fn note<A: Address>(&mut self, core: &Core, table: &Table<A>, changed: &[Changed]) {
        for change in changed {
            self.count_learned(
                core,
                &change.before,
                table.slot(change.slot).prefix(),
                Step::Go,
            );
            let slot = table.slot(change.slot);
            self.count_learned(core, slot.paths(), slot.prefix(), Step::Come);
        }
        let audiences = std::mem::take(&mut self.audiences);
        for view in audiences.iter().flatten() {
            let view = FamilyView::new(view, A::FAMILY);
            for change in changed {
                let slot = table.slot(change.slot);
                self.count_sent(core, &view, slot.prefix(), &change.before, Step::Go);
                self.count_sent(core, &view, slot.prefix(), slot.paths(), Step::Come);
            }
        }
        self.audiences = audiences;
    }

    /// Counts the paths that import has taken out.
    fn count_learned(&mut self, core: &Core, paths: &[Path], within: IpNet, step: Step) {
        for path in paths.iter().filter(|path| !path.is_eligible()) {
            let fault = core.reasons.fault(path.standing);
            let (Some(&Judgement::Aggregated { prefix, zone, .. }), Some(next_hop)) =
                (fault, path.next_hop())
            else {
                continue;
            };
            debug_assert!(prefix.contains(&within), "a route map sees to that");
            let place = Place {
                audience: Audience::EVERYBODY,
                prefix,
                source: path.session,
            };
            let member = Member {
                carried: Carried::of(&path.attributes),
                next_hop,
                zone,
            };
            self.count(Contribution { place, member }, step);
        }
    }

    /// Counts the paths that the policy of a view takes out.
    fn count_sent(
        &mut self,
        core: &Core,
        view: &FamilyView<'_>,
        within: IpNet,
        paths: &[Path],
        step: Step,
    ) {
        view.given_up(&core.sessions, within, paths, |prefix, path, next_hop| {
            let place = Place {
                audience: view.view.audience,
                prefix,
                source: path.session,
            };
            let member = Member {
                carried: Carried::of(&path.attributes),
                next_hop,
                zone: Zone::default(),
            };
            self.count(Contribution { place, member }, step);
        });
    }

    fn count(&mut self, of: Contribution, step: Step) {
        let counts = self.counts.entry(of.place).or_default();
        let first = counts.keys().next().copied();
        let count = counts.entry(of.member).or_default();
        match step {
            Step::Come => *count += 1,
            Step::Go => *count -= 1,
        }
        if *count == 0 {
            counts.remove(&of.member);
        }
        if counts.keys().next().copied() != first {
            self.changed.insert(of.place);
        }
    }

    /// Makes the paths to aggregates those that the counts come to; `false`: they are.
    pub(super) fn apply(&mut self, core: &mut Core, tables: &mut Tables) -> bool {
        let changed = std::mem::take(&mut self.changed);
        let any = !changed.is_empty();
        for place in changed {
            let counts = self.counts.get(&place);
            let member = counts.and_then(|counts| counts.keys().next().copied());
            match member {
                Some(member) => self.stand(core, tables, place, member),
                None => {
                    self.counts.remove(&place);
                    self.fall(core, tables, place);
                }
            }
        }
        any
    }

    fn stand(&mut self, core: &mut Core, tables: &mut Tables, place: Place, member: Member) {
        let Place {
            audience,
            prefix,
            source,
        } = place;
        let Some(shadow) = self.shadow(&mut core.sessions, source) else {
            tracing::error!(%prefix, "there is no room for the aggregate, it is left out");
            return;
        };
        let view = usize::from(audience.0).checked_sub(1);
        let view = view.and_then(|place| self.audiences[place].as_ref());
        let aggregator = match view {
            Some(view) => view.aggregator,
            None => core.sessions[source].aggregator,
        };
        let mut attributes = PathAttributes {
            next_hop: Some(NextHop::from(member.next_hop)),
            atomic_aggregate: true,
            aggregator,
            ..PathAttributes::default()
        };
        member.carried.put_on(&mut attributes);
        let attributes = core.attributes.intern(Arc::new(attributes));
        let class = core.sessions.info(shadow).class;
        let (rank, judgement) = match view {
            None => (
                Rank::learned(&attributes, class),
                Judgement::Eligible(member.zone),
            ),
            Some(_) => (
                Rank::aggregate(&attributes, class),
                Judgement::Rejected(SENT_ONLY.into()),
            ),
        };
        let path = Path {
            rank,
            attributes,
            path_id: audience.0.into(),
            session: shadow,
            standing: core.reasons.standing(&judgement),
        };
        match prefix {
            IpNet::V4(net) => core.announce(&mut tables.v4, net.addr(), net.prefix_len(), path),
            IpNet::V6(net) => core.announce(&mut tables.v6, net.addr(), net.prefix_len(), path),
        };
    }

    fn fall(&self, core: &mut Core, tables: &mut Tables, place: Place) {
        let path_id = place.audience.0.into();
        let Some(&shadow) = self.shadows.get(&place.source) else {
            return;
        };
        match place.prefix {
            IpNet::V4(net) => {
                let (address, length) = (net.addr(), net.prefix_len());
                core.withdraw(&mut tables.v4, address, length, shadow, path_id)
            }
            IpNet::V6(net) => {
                let (address, length) = (net.addr(), net.prefix_len());
                core.withdraw(&mut tables.v6, address, length, shadow, path_id)
            }
        };
    }

    /// The shadow of a session, that of a shadow being itself; `None`: there is no room for it.
    fn shadow(&mut self, sessions: &mut Sessions, source: SessionIndex) -> Option<SessionIndex> {
        if let Some(known) = self.shadows.get(&source) {
            return Some(*known);
        }
        let shadow = match source {
            SessionIndex::LOCAL => sessions.insert_shadow(own())?,
            source if sessions[source].is_shadow => source,
            source => sessions.insert_shadow(sessions.info(source).clone())?,
        };
        self.shadows.insert(source, shadow);
        Some(shadow)
    }

    /// A session is gone, with all its paths: so is its shadow, which is returned.
    pub(super) fn forget(&mut self, session: SessionIndex) -> Option<SessionIndex> {
        let shadow = self.shadows.remove(&session)?;
        self.shadows.remove(&shadow);
        Some(shadow)
    }
}

#[derive(Clone, Copy)]
enum Step {
    Come,
    Go,
}

fn number(place: usize) -> Audience {
    let number = u16::try_from(place + 1);
    Audience(number.expect("there are no more update groups than sessions"))
}

/// Whose shadow is the source of aggregates of what the route server originates.
fn own() -> SessionInfo {
    SessionInfo {
        id: SessionId {
            route_server: "".into(),
            instance: InstanceId(0),
            peer: Ipv4Addr::UNSPECIFIED.into(),
        },
        router_id: Ipv4Addr::UNSPECIFIED,
        kind: SourceKind::ORIGINATED,
        identity: u32::MAX,
        class: 0,
        ebgp: true,
        gateway: false,
        may_blackhole: false,
    }
}

impl FamilyView<'_> {
    /// Tells the paths that the policy takes out in favour of an aggregate, though the view has them:
    /// the aggregate, the path, and the next hop.
    fn given_up(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        paths: &[Path],
        mut tell: impl FnMut(IpNet, &Path, IpAddr),
    ) {
        if !self.is_exchanged() {
            return;
        }
        let own = paths.iter().filter(|path| self.carries_own(path));
        if let Some(own) = own.min_by_key(|path| path.rank) {
            let next_hop = own.next_hop().or_else(|| {
                let next_hop = self.view.own_next_hop(self.family);
                Some(next_hop?.address())
            });
            if let (Some(aggregate), Some(next_hop)) =
                (self.gives_way(sessions, prefix, own), next_hop)
            {
                tell(aggregate, own, next_hop);
            }
            return;
        }
        for path in paths.iter().filter(|path| self.may_leave(sessions, path)) {
            if let (Some(aggregate), Some(next_hop)) =
                (self.gives_way(sessions, prefix, path), path.next_hop())
            {
                tell(aggregate, path, next_hop);
            }
        }
    }
}
