//! A path of the Adj-RIB-In and the sessions that paths come from.

use std::{collections::BTreeSet, net::IpAddr, net::Ipv4Addr, num::NonZeroU8, sync::Arc};

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{LocalSource, adj_rib_out::Tables, decision::Rank, limited::Holding};
use crate::bgp::{
    SessionId,
    wire::{Aggregator, NextHop, PathAttributes},
};

/// A session's place in the RIB while it is known there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionIndex(pub(super) u16);

impl SessionIndex {
    /// Stands for the route server itself: the source of what it originates.
    pub(super) const LOCAL: Self = Self(u16::MAX);
}

/// The kind of a source of routes, as `route_server` numbers them (0 to 6). A [`View`] says which
/// kinds it may be sent.
///
/// [`View`]: super::View
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceKind(pub u8);

impl SourceKind {
    /// Of the one shadow whose aggregates are of what the route server originates; no session is of it.
    pub(super) const ORIGINATED: Self = Self(7);
}

/// What the decision process and the update groups need to know of a session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Which session; its peer address is the last tie-break between peers.
    pub id: SessionId,
    /// The peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// What kind of source it is.
    pub kind: SourceKind,
    /// Who it is: a route is never sent to a session with the identity of its own source (the
    /// other session of an NVA; later the other members of a gateway).
    pub identity: u32,
    /// Class in step 3 of the decision process, 0 to 3; lower is preferred.
    pub class: u8,
    /// eBGP.
    pub ebgp: bool,
    /// A gateway: exempt from step 8.
    pub gateway: bool,
    /// Packets to its routes with the community BLACKHOLE are dropped (RFC 7999).
    pub may_blackhole: bool,
}

/// Where a next hop lies: the network, as `route_server` numbers them, 0 its own. At most
/// [`Zone::LAST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Zone(pub u16);

/// Zones, for instance those in which a user can reach next hops.
pub type ZoneSet = BTreeSet<Zone>;

impl Zone {
    /// The highest number.
    pub const LAST: Self = Self(4094);
}

/// What `route_server` makes of a path on import. Texts come from a small fixed set: they are
/// kept, one copy each, until [`Rib::forget_reasons`](super::Rib::forget_reasons) finds that no path
/// has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Takes part in the decision process. Its next hop lies here.
    Eligible(Zone),
    /// Its next hop leads nowhere: not a candidate, but if there is no other, packets are dropped
    /// instead of taking a shorter prefix.
    Unresolvable(Arc<str>),
    /// Kept for people to see, and otherwise as if it had not been announced.
    Rejected(Arc<str>),
    /// The same, but as long as its session announces one of these, the aggregate stands in their
    /// place, as a path of the session.
    Aggregated {
        /// The aggregate, within which its prefix lies.
        prefix: IpNet,
        /// Where its next hop lies.
        zone: Zone,
        /// Why it is not taken itself.
        reason: Arc<str>,
    },
}

/// What import makes of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// How it judges it.
    pub judgement: Judgement,
    /// Its attributes from here on; the very allocation that was received if nothing changed.
    pub attributes: Arc<PathAttributes>,
    /// The share of the flows that a route map gives it; before what its communities say.
    pub weight: Option<NonZeroU8>,
}

/// [`Judgement`], the stale mark and whether import changed the attributes, in two bytes. The highest
/// bit is the mark, the next one says "changed"; the others are the zone of an eligible path, else a
/// place in [`Reasons`] counted from [`Standing::REASONS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing(u16);

impl Standing {
    /// Of what the route server originates.
    pub(super) const LOCAL: Self = Self(0);
    const STALE: u16 = 1 << 15;
    const CHANGED: u16 = 1 << 14;
    /// The bits of the judgement.
    const JUDGEMENT: u16 = Self::CHANGED - 1;
    /// The first judgement that is not eligible.
    const REASONS: u16 = Zone::LAST.0 + 1;

    /// All but the mark.
    pub(super) const fn judged(self) -> Self {
        Self(self.0 & !Self::STALE)
    }

    /// The judgement of `self` for a path whose attributes import changed, or gave a weight.
    pub(super) const fn with_changed(self, changed: bool) -> Self {
        match changed {
            true => Self(self.0 | Self::CHANGED),
            false => Self(self.0 & !Self::CHANGED),
        }
    }

    /// Whether the attributes are not those received, or have a weight.
    pub(super) const fn is_changed(self) -> bool {
        self.0 & Self::CHANGED != 0
    }

    /// `self` with the mark or without it.
    pub(super) const fn marked(self, stale: bool) -> Self {
        match stale {
            true => Self(self.0 | Self::STALE),
            false => self.judged(),
        }
    }

    pub(super) const fn is_stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    /// The place of what is wrong with a path that is not eligible.
    fn reason(self) -> Option<usize> {
        let number = self.0 & Self::JUDGEMENT;
        number.checked_sub(Self::REASONS).map(usize::from)
    }

    /// Where the next hop of an eligible path lies.
    pub(super) const fn zone(self) -> Option<Zone> {
        let judgement = self.0 & Self::JUDGEMENT;
        if judgement < Self::REASONS {
            Some(Zone(judgement))
        } else {
            None
        }
    }
}

/// The texts of judgements, one copy each.
#[derive(Clone, Default)]
pub(super) struct Reasons {
    /// Places that no path has are free for others.
    known: Vec<Option<Judgement>>,
    /// How many are taken.
    taken: usize,
    /// How many were when those that no path had were last made free.
    used: usize,
}

impl Reasons {
    /// Texts that are kept; a [`Standing`] can tell more apart.
    const MOST: usize = 8191;
    /// With those of aggregates, which say where routes are counted as well.
    const LAST: usize = (Standing::JUDGEMENT - Standing::REASONS) as usize + 1;
    /// Stands for every text that came when there was no room for more.
    const FORGOTTEN: &str =
        "the rules have changed too often since the start for the reason to be kept";

    pub(super) fn standing(&mut self, judgement: &Judgement) -> Standing {
        let place = match judgement {
            Judgement::Eligible(zone) => {
                assert!(*zone <= Zone::LAST, "networks are numbered up to that");
                return Standing(zone.0);
            }
            _ => self.place(judgement),
        };
        let number = u16::try_from(place).expect("there are no more than MOST");
        Standing(Standing::REASONS + number)
    }

    fn place(&mut self, judgement: &Judgement) -> usize {
        let is_it = |known: &Option<Judgement>| known.as_ref() == Some(judgement);
        if let Some(known) = self.known.iter().position(is_it) {
            return known;
        }
        // The last two places are for texts that are not kept, one of each kind.
        let forgotten = match judgement {
            _ if self.taken + 2 < Self::MOST => None,
            Judgement::Aggregated { .. } if self.taken + 2 < Self::LAST => None,
            Judgement::Unresolvable(text) if **text != *Self::FORGOTTEN => {
                Some(Judgement::Unresolvable(Self::FORGOTTEN.into()))
            }
            Judgement::Aggregated { .. } => Some(Judgement::Rejected(Self::FORGOTTEN.into())),
            Judgement::Rejected(text) if **text != *Self::FORGOTTEN => {
                Some(Judgement::Rejected(Self::FORGOTTEN.into()))
            }
            _ => None,
        };
        if let Some(forgotten) = forgotten {
            return self.place(&forgotten);
        }
        self.taken += 1;
        let judgement = Some(judgement.clone());
        match self.known.iter().position(Option::is_none) {
            Some(free) => {
                self.known[free] = judgement;
                free
            }
            None => {
                self.known.push(judgement);
                self.known.len() - 1
            }
        }
    }

    /// Whether so many have come that it is worth while to look for those that no path has.
    fn are_many(&self) -> bool {
        self.taken >= Self::MOST / 2 && self.taken >= self.used + (Self::LAST - self.used) / 2
    }

    /// Makes the places free that are not among these.
    fn retain(&mut self, used: &[bool]) {
        for (place, known) in self.known.iter_mut().enumerate() {
            if !used[place] && known.take().is_some() {
                self.taken -= 1;
            }
        }
        self.used = self.taken;
    }

    /// Why a path with this standing is not eligible; `None`: it is.
    pub(super) fn fault(&self, standing: Standing) -> Option<&Judgement> {
        let judgement = self.known[standing.reason()?].as_ref();
        Some(judgement.expect("a place is free only if no path has it"))
    }
}

impl super::Rib {
    /// Forgets why paths were not taken for reasons that none has any longer, if there are many of
    /// them: to be called where the rules change. A walk over the table, but seldom.
    pub fn forget_reasons(&mut self) {
        if !self.core.reasons.are_many() {
            return;
        }
        // What has changed keeps its paths as they were.
        self.flush();
        let mut used = vec![false; self.core.reasons.known.len()];
        let Tables { v4, v6 } = &self.tables;
        let v4 = (0..v4.len()).flat_map(|slot| v4.paths(slot));
        let v6 = (0..v6.len()).flat_map(|slot| v6.paths(slot));
        for reason in v4.chain(v6).filter_map(|path| path.standing.reason()) {
            used[reason] = true;
        }
        self.core.reasons.retain(&used);
    }
}

/// One path: who announced it, with which attributes, and what import made of it. 24 bytes, for
/// there are millions.
#[derive(Clone)]
pub(super) struct Path {
    pub(super) attributes: Arc<PathAttributes>,
    pub(super) rank: Rank,
    pub(super) path_id: u32,
    pub(super) session: SessionIndex,
    pub(super) standing: Standing,
}

impl Path {
    pub(super) fn is_local(&self) -> bool {
        self.session == SessionIndex::LOCAL
    }

    /// Which of the route server's own sources it is of.
    pub(super) fn local_source(&self) -> Option<LocalSource> {
        let number = || u8::try_from(self.path_id).expect("the number of a source");
        self.is_local().then(|| LocalSource(number()))
    }

    /// Whether a peer sees the same of both after import. Attributes are interned: only sets that
    /// import made may be equal and yet not the same.
    pub(super) fn same_attributes(&self, other: &Self) -> bool {
        let changed = self.standing.is_changed() || other.standing.is_changed();
        Arc::ptr_eq(&self.attributes, &other.attributes)
            || changed && self.attributes == other.attributes
    }

    pub(super) fn is_eligible(&self) -> bool {
        self.standing.zone().is_some()
    }

    /// Not announced again since its session's paths were [marked](super::Rib::mark_stale). The
    /// mark by itself changes no decision.
    pub(super) fn is_stale(&self) -> bool {
        self.standing.is_stale()
    }

    /// The address of NEXT_HOP; a learned, eligible path has one.
    pub(super) fn next_hop(&self) -> Option<IpAddr> {
        self.attributes.next_hop.map(NextHop::address)
    }
}

/// The paths of one prefix: nearly always one or two.
pub(super) type Paths = SmallVec<[Path; 1]>;

/// All sessions that the RIB knows, by index.
#[derive(Clone, Default)]
pub(super) struct Sessions(Vec<Option<Session>>);

/// A session and what the RIB counts for it.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) info: SessionInfo,
    pub(super) totals: SessionTotals,
    /// The update group that it belongs to, while it is sent routes.
    pub(super) group: Option<usize>,
    /// Who aggregates its routes.
    pub(super) aggregator: Option<Aggregator>,
    /// It has nothing but aggregates of another session's routes.
    pub(super) is_shadow: bool,
    /// What it holds, if it may be sent only so many routes.
    pub(super) holding: Option<Holding>,
}

/// Counts of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionTotals {
    /// Paths in Adj-RIB-In, rejected ones included: IPv4, IPv6.
    pub received: [usize; 2],
    /// Of them, marked as stale and not announced again since: IPv4, IPv6.
    pub stale: [usize; 2],
    /// Of those received, eligible.
    pub accepted: usize,
    /// Routes sent and not withdrawn: IPv4, IPv6.
    pub advertised: [usize; 2],
    /// Sum of the hashes of the eligible paths: two sessions that were told the same things have the
    /// same, in whatever order they were told. What is rejected does not count: a peer reflects what
    /// one instance told it to the other, and such loops differ by instance.
    pub fingerprint: u64,
}

impl Sessions {
    pub(super) fn insert(&mut self, info: SessionInfo) -> SessionIndex {
        let index = self.place(Session {
            info,
            totals: SessionTotals::default(),
            group: None,
            aggregator: None,
            is_shadow: false,
            holding: None,
        });
        index.expect("a route server has fewer than 65,535 sessions")
    }

    /// A session for aggregates alone; `None`: there is no room for it.
    pub(super) fn insert_shadow(&mut self, info: SessionInfo) -> Option<SessionIndex> {
        self.place(Session {
            info,
            totals: SessionTotals::default(),
            group: None,
            aggregator: None,
            is_shadow: true,
            holding: None,
        })
    }

    fn place(&mut self, session: Session) -> Option<SessionIndex> {
        let free = self.0.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        let index = u16::try_from(place).ok().map(SessionIndex);
        let index = index.filter(|index| *index != SessionIndex::LOCAL)?;
        self.0[place] = Some(session);
        Some(index)
    }

    pub(super) fn remove(&mut self, index: SessionIndex) {
        self.0[usize::from(index.0)] = None;
    }

    /// The sessions with a limit that are to be told something.
    pub(super) fn with_pending(&self) -> Vec<SessionIndex> {
        let sessions = (0..).map(SessionIndex).zip(&self.0);
        let is_pending =
            |session: &Session| session.holding.as_ref().is_some_and(Holding::is_pending);
        let pending = sessions.filter(|(_, session)| session.as_ref().is_some_and(is_pending));
        pending.map(|(index, _)| index).collect()
    }

    pub(super) fn info(&self, index: SessionIndex) -> &SessionInfo {
        &self[index].info
    }

    /// Gives sessions the class that they are to have now; which of them got another one, by index. What
    /// is originated has none.
    pub(super) fn reclassify(&mut self, class: impl Fn(&SessionInfo) -> u8) -> Vec<bool> {
        let sessions = self.0.iter_mut().map(|session| {
            let session = session.as_mut();
            let session = session.filter(|it| it.info.kind != SourceKind::ORIGINATED);
            session.is_some_and(|Session { info, .. }| {
                let class = class(info);
                std::mem::replace(&mut info.class, class) != class
            })
        });
        sessions.collect()
    }

    pub(super) fn get_mut(&mut self, index: SessionIndex) -> &mut Session {
        self.0[usize::from(index.0)]
            .as_mut()
            .expect("an index is used only while its session is known")
    }
}

impl std::ops::Index<SessionIndex> for Sessions {
    type Output = Session;

    fn index(&self, index: SessionIndex) -> &Session {
        self.0[usize::from(index.0)]
            .as_ref()
            .expect("an index is used only while its session is known")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_there_is_no_room_for_another_reason_the_judgement_stays() {
        let mut reasons = Reasons::default();
        let texts = |kind: fn(Arc<str>) -> Judgement| {
            (0..Reasons::MOST).map(move |n| kind(format!("rule {n}").into()))
        };
        for judgement in texts(Judgement::Rejected).chain(texts(Judgement::Unresolvable)) {
            let standing = reasons.standing(&judgement);
            let kept = reasons.fault(standing).expect("not eligible");
            let forgotten = match &judgement {
                Judgement::Rejected(_) => Judgement::Rejected(Reasons::FORGOTTEN.into()),
                _ => Judgement::Unresolvable(Reasons::FORGOTTEN.into()),
            };
            assert!(*kept == judgement || *kept == forgotten, "{kept:?}");
        }
        assert_eq!(reasons.known.len(), Reasons::MOST);
        let sum = aggregated(0);
        let standing = reasons.standing(&sum);
        assert_eq!(reasons.fault(standing), Some(&sum), "its routes count");
        let first = Judgement::Rejected("rule 0".into());
        let standing = reasons.standing(&first);
        assert_eq!(reasons.fault(standing), Some(&first));
    }

    fn aggregated(number: usize) -> Judgement {
        Judgement::Aggregated {
            prefix: "10.0.0.0/8".parse().unwrap(),
            zone: Zone::default(),
            reason: format!("rule {number}").into(),
        }
    }

    #[test]
    fn reasons_that_no_path_has_make_room_and_the_others_stay() {
        let mut reasons = Reasons::default();
        let kept: Vec<Standing> = (0..10).map(|n| reasons.standing(&aggregated(n))).collect();
        for round in 1..20 {
            for number in 0..1000 {
                let judgement = aggregated(1000 * round + number);
                let standing = reasons.standing(&judgement);
                assert_eq!(reasons.fault(standing), Some(&judgement));
            }
            if reasons.are_many() {
                let used: Vec<bool> = (0..reasons.known.len()).map(|place| place < 10).collect();
                reasons.retain(&used);
                assert_eq!((reasons.taken, reasons.are_many()), (10, false));
            }
        }
        for (number, standing) in kept.into_iter().enumerate() {
            assert_eq!(reasons.fault(standing), Some(&aggregated(number)));
        }
    }

    #[test]
    fn every_zone_is_eligible_and_is_told_from_the_others_and_from_every_reason() {
        let mut reasons = Reasons::default();
        for number in 0..=Zone::LAST.0 {
            let standing = reasons.standing(&Judgement::Eligible(Zone(number)));
            for standing in [standing, standing.marked(true).with_changed(true)] {
                assert_eq!(standing.zone(), Some(Zone(number)));
                assert_eq!(reasons.fault(standing), None);
            }
        }
        for number in 0..2 {
            let standing = reasons.standing(&Judgement::Rejected(format!("rule {number}").into()));
            assert_eq!(standing.with_changed(true).zone(), None);
        }
    }
}
