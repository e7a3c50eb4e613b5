//! Sessions that are sent the table in chunks: for the first time, or again because they asked.

use bytes::{Bytes, BytesMut};

use super::{AdjRibOut, CHUNK, Tables};
use crate::{
    bgp::wire::{Family, RefreshKind, RouteRefresh, encode_end_of_rib},
    rib::{
        decision::DecisionOptions,
        path::{SessionIndex, Sessions},
        shape::Shape,
        view::Members,
    },
};

/// How far a dump has come: the first slot that it has not sent. Families in the order of
/// [`Family::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::rib) struct Position {
    pub(super) family: Family,
    pub(super) slot: usize,
}

impl Position {
    pub(super) const START: Self = Self {
        family: Family::ALL[0],
        slot: 0,
    };

    /// Beyond the last slot there may ever be.
    pub(super) const END: Self = Self {
        family: Family::Ipv6Unicast,
        slot: usize::MAX,
    };

    /// How many slots of a family lie before it.
    pub(in crate::rib) fn covers(self, family: Family) -> usize {
        match family.cmp(&self.family) {
            std::cmp::Ordering::Less => usize::MAX,
            std::cmp::Ordering::Equal => self.slot,
            std::cmp::Ordering::Greater => 0,
        }
    }
}

/// Sessions of a group that are being sent the table for the first time.
#[derive(Clone)]
pub(super) struct Dump {
    pub(super) group: usize,
    pub(super) members: Members,
    pub(super) position: Position,
}

/// A session that asked for a family again. It has the whole table, so it is also sent every
/// change; a route may reach it twice.
#[derive(Clone)]
pub(super) struct Refresh {
    pub(super) session: SessionIndex,
    position: Position,
    /// The routes go out between BoRR and EoRR (RFC 7313).
    marked: bool,
    /// It asked again meanwhile.
    again: bool,
}

impl AdjRibOut {
    /// A session asked for a family again.
    pub(in crate::rib) fn refresh(&mut self, session: SessionIndex, family: Family, marked: bool) {
        let same = |refresh: &&mut Refresh| {
            refresh.session == session && refresh.position.family == family
        };
        match self.refreshes.iter_mut().find(same) {
            Some(running) => running.again = running.position.slot > 0,
            None => self.refreshes.push_back(Refresh {
                session,
                position: Position { family, slot: 0 },
                marked,
                again: false,
            }),
        }
    }

    /// Whether [`AdjRibOut::step`] has something to do.
    pub(in crate::rib) fn is_dumping(&self) -> bool {
        !self.dumps.is_empty()
            || !self.moves.is_empty()
            || self
                .refreshes
                .iter()
                .any(|refresh| self.may_refresh(refresh))
            || self.laggards.iter().any(|laggard| !laggard.held)
    }

    /// A session is refreshed only once it has the whole table, all by one view.
    fn may_refresh(&self, refresh: &Refresh) -> bool {
        let session = refresh.session;
        self.position(session).is_none()
            && self.laggard(session).is_none()
            && !self.is_moving(session)
    }

    /// One chunk of one dump, of one move and of one refresh.
    pub(in crate::rib) fn step(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
    ) {
        if let Some(dump) = self.dumps.pop_front() {
            self.step_dump(sessions, options, tables, dump);
        }
        self.step_move(sessions, options, tables);
        let mut refreshes = self.refreshes.iter();
        let ready = refreshes.position(|refresh| self.may_refresh(refresh));
        if let Some(refresh) = ready.and_then(|place| self.refreshes.remove(place)) {
            self.step_refresh(sessions, options, tables, refresh);
        }
    }

    /// How far the first dump of a session has come; `None`: it has the whole table.
    pub(in crate::rib) fn position(&self, session: SessionIndex) -> Option<Position> {
        let mut dumps = self.dumps.iter();
        dumps
            .find(|dump| dump.members.all().contains(&session))
            .map(|dump| dump.position)
    }

    fn step_dump(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        mut dump: Dump,
    ) {
        let mut budget = CHUNK;
        let view = self.view(dump.group).clone();
        loop {
            let Position { family, slot } = dump.position;
            if view.context.families.contains(family) {
                let shape = Shape {
                    before: None,
                    after: &view,
                    members: &dump.members,
                };
                let slots = slot..tables.len(family).min(slot + budget);
                let next = shape.send(sessions, options, tables, family, slots, &mut self.outbox);
                budget -= next - slot;
                dump.position.slot = next;
                if next < tables.len(family) {
                    return self.dumps.push_back(dump);
                }
                let end_of_rib = end_of_rib(family);
                for &member in dump.members.all() {
                    self.push_end(sessions, member, end_of_rib.clone());
                }
            }
            match family {
                Family::Ipv4Unicast => {
                    dump.position = Position {
                        family: Family::Ipv6Unicast,
                        slot: 0,
                    };
                }
                Family::Ipv6Unicast => break,
            }
        }
        let group = self.groups[dump.group].as_mut();
        let group = group.expect("a dump keeps its group");
        for &member in dump.members.all() {
            group.members.insert(sessions, member);
        }
    }

    fn step_refresh(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        mut refresh: Refresh,
    ) {
        let Some(group) = sessions[refresh.session].group else {
            return;
        };
        let view = self.view(group).clone();
        let Position { family, slot } = refresh.position;
        if !view.context.families.contains(family) {
            return;
        }
        if refresh.marked && slot == 0 {
            let begin = refresh_message(family, RefreshKind::Begin);
            match &mut sessions.get_mut(refresh.session).holding {
                Some(holding) => holding.begin(begin),
                None => self.outbox.push(refresh.session, begin),
            }
        }
        let members = Members::new(sessions, &[refresh.session]);
        let advertised = sessions[refresh.session].totals.advertised;
        let shape = Shape {
            before: None,
            after: &view,
            members: &members,
        };
        let slots = slot..tables.len(family).min(slot + CHUNK);
        let next = shape.send(sessions, options, tables, family, slots, &mut self.outbox);
        // These routes were counted when they were sent first.
        sessions.get_mut(refresh.session).totals.advertised = advertised;
        refresh.position.slot = next;
        if next < tables.len(family) {
            return self.refreshes.push_back(refresh);
        }
        if refresh.marked {
            let end = refresh_message(family, RefreshKind::End);
            self.push_end(sessions, refresh.session, end);
        }
        if refresh.again {
            self.refresh(refresh.session, family, refresh.marked);
        }
    }
}

/// The End-of-RIB of a family (RFC 4724 2).
pub(super) fn end_of_rib(family: Family) -> Bytes {
    let mut message = BytesMut::new();
    encode_end_of_rib(family, &mut message);
    message.freeze()
}

fn refresh_message(family: Family, kind: RefreshKind) -> Bytes {
    let mut message = BytesMut::new();
    RouteRefresh::new(family, kind).encode(&mut message);
    message.freeze()
}
