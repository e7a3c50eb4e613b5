//! The table a part at a time, for those who ask.
//!
//! In: where to go on. Out: prefixes as people see them, until there are enough for once, or so many
//! places have been looked at. A table that changes between two parts may show a prefix twice, or one
//! that comes and goes not at all.

use std::ops::ControlFlow;

use ipnet::IpNet;

use super::{
    AdvertisedView, LearnedView, Path, PrefixView, Rib, Scope, SessionIndex, Tables, slots,
    table::{Address, Table},
    v4_slots, v6_slots,
};
use crate::bgp::wire::Family;

/// Most places that are looked at at once: a few milliseconds.
const PLACES_AT_ONCE: usize = 1 << 16;

/// Where a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    family: Family,
    slot: usize,
}

impl Place {
    /// Where every walk begins.
    pub const FIRST: Self = Self {
        family: Family::Ipv4Unicast,
        slot: 0,
    };
}

impl Rib {
    /// Shows prefixes, all or those within `inside`, and what becomes of their paths in a view (`None`:
    /// in one of all sources and zones), from a place on until `show` breaks off. Comes back with the
    /// place to go on from, unless that was the last.
    pub fn walk(
        &self,
        from: Place,
        inside: Option<IpNet>,
        view: Option<&LearnedView>,
        mut show: impl FnMut(PrefixView) -> ControlFlow<()>,
    ) -> Option<Place> {
        let scope = view.map(Scope::new);
        self.parts(from, inside, |_, prefix, paths| {
            show(self.core.view(prefix, paths, scope.as_ref()))
        })
    }

    /// The same for what a session has been sent as of the last flush; `show` is given what it was sent
    /// of each prefix.
    pub fn walk_advertised(
        &self,
        session: SessionIndex,
        from: Place,
        inside: Option<IpNet>,
        mut show: impl FnMut(Vec<AdvertisedView>) -> ControlFlow<()>,
    ) -> Option<Place> {
        let sent = self.sent(session);
        self.parts(from, inside, |slot, prefix, paths| {
            show(sent(slot, prefix, paths))
        })
    }

    /// What a session has been sent as of the last flush: all prefixes, or `only`.
    pub fn advertised(
        &self,
        session: SessionIndex,
        only: Option<IpNet>,
    ) -> impl Iterator<Item = AdvertisedView> {
        let Tables { v4, v6 } = &self.tables;
        let sent = self.sent(session);
        let v4 = slots(v4, v4_slots(v4, only));
        let v6 = slots(v6, v6_slots(v6, only));
        v4.chain(v6)
            .flat_map(move |(slot, prefix, paths)| sent(slot, prefix, paths))
    }

    /// What a session has been sent of a slot.
    fn sent(&self, session: SessionIndex) -> impl Fn(usize, IpNet, &[Path]) -> Vec<AdvertisedView> {
        let group = self.core.sessions[session].group;
        let parts = Family::ALL.map(|family| match group {
            Some(group) => self.out.sent_by(session, group, family),
            None => Vec::new(),
        });
        let laggard = self.out.laggard(session);
        move |slot, prefix, paths| {
            let family = Family::of(&prefix);
            let mut parts = parts[family as usize].iter();
            let view = parts.find(|(slots, _)| slots.contains(&slot));
            let owed = laggard.and_then(|laggard| laggard.was_sent(family, slot));
            match view {
                Some((_, view)) if owed != Some(false) => {
                    self.core.advertised(view, session, prefix, paths)
                }
                _ => Vec::new(),
            }
        }
    }

    /// Shows slots with paths, from a place on.
    fn parts(
        &self,
        from: Place,
        inside: Option<IpNet>,
        show: impl FnMut(usize, IpNet, &[Path]) -> ControlFlow<()>,
    ) -> Option<Place> {
        let place = |family| move |slot| Place { family, slot };
        match from.family {
            Family::Ipv4Unicast => {
                let next = part(&self.tables.v4, from.slot, inside, show);
                let next = next.map(place(Family::Ipv4Unicast));
                Some(next.unwrap_or(place(Family::Ipv6Unicast)(0)))
            }
            Family::Ipv6Unicast => {
                let next = part(&self.tables.v6, from.slot, inside, show);
                next.map(place(Family::Ipv6Unicast))
            }
        }
    }
}

/// The slot to go on from.
fn part<A: Address>(
    table: &Table<A>,
    from: usize,
    inside: Option<IpNet>,
    mut show: impl FnMut(usize, IpNet, &[Path]) -> ControlFlow<()>,
) -> Option<usize> {
    let end = (from + PLACES_AT_ONCE).min(table.len());
    for (slot, prefix, paths) in slots(table, from.min(end)..end) {
        let wanted = inside.is_none_or(|inside| inside.contains(&prefix));
        if wanted && show(slot, prefix, paths).is_break() {
            return Some(slot + 1);
        }
    }
    (end < table.len()).then_some(end)
}
