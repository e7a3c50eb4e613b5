//! Part of the table, sent to members as their view gives it to them.
//!
//! In: what members have been sent of it (nothing, or what another view or another configuration of
//! the decision process gave them) and their view. Out: the difference, encoded.

use std::ops::Range;

use super::{
    adj_rib_out::Tables,
    decision::{Decision, DecisionOptions},
    pack::{Outbox, Packer},
    path::Sessions,
    table::{Address, Table},
    view::{FamilyView, Members, View},
};
use crate::bgp::wire::Family;

/// From what members were sent so far (`None`: nothing), by which view and which configuration of the
/// decision process, to what their view is now.
pub(super) struct Shape<'a> {
    pub(super) before: Option<(&'a View, DecisionOptions)>,
    pub(super) after: &'a View,
    pub(super) members: &'a Members,
}

impl Shape<'_> {
    /// Returns the slot to go on from: no more goes at once than a step may send.
    pub(super) fn send(
        &self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        family: Family,
        slots: Range<usize>,
        outbox: &mut Outbox,
    ) -> usize {
        match family {
            Family::Ipv4Unicast => self.send_slots(sessions, options, &tables.v4, slots, outbox),
            Family::Ipv6Unicast => self.send_slots(sessions, options, &tables.v6, slots, outbox),
        }
    }

    fn send_slots<A: Address>(
        &self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        table: &Table<A>,
        slots: Range<usize>,
        outbox: &mut Outbox,
    ) -> usize {
        let (view, by) = self.before.unwrap_or((self.after, options));
        let before = FamilyView::new(view, A::FAMILY).decided_by(by);
        let after = FamilyView::new(self.after, A::FAMILY);
        let mut packer = Packer::new(&before, &after, self.members);
        let decision = Decision { sessions, options };
        let mut next = slots.start;
        while next < slots.end && !packer.is_full() {
            let slot = table.slot(next);
            let before = if self.before.is_some() {
                &slot.paths()[..]
            } else {
                &[]
            };
            packer.add(&decision, slot.prefix(), before, slot.paths());
            next += 1;
        }
        packer.finish(sessions, outbox);
        next
    }
}
