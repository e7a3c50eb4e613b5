//! Sessions that may be sent only so many routes.
//!
//! In: what they are sent, as it is worked out. Out: messages for them, in an order in which the peer
//! never holds more than it comes to hold: what goes is withdrawn before anything comes. What such a
//! session holds is kept here, about as much as its limit, so that what is too much is found without a
//! walk over the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use bytes::Bytes;
use ipnet::IpNet;

use super::{
    Rib, SessionIndex,
    adj_rib_out::{AdjRibOut, Tables},
    decision::{Decision, DecisionOptions},
    pack::{Packer, routes},
    path::{Path, Session, Sessions},
    view::{FamilyView, Members, Until, View, is_sent_only},
};
use crate::bgp::wire::{Family, Nlri};

/// What a session holds, and what is still to be told of it.
#[derive(Clone, Default)]
pub(super) struct Holding {
    routes: [BTreeSet<Nlri>; 2],
    /// Routes of which messages are to be made, and whether the peer has them.
    changed: [BTreeMap<Nlri, bool>; 2],
    /// What is to go out before these messages.
    begins: Vec<Bytes>,
    /// What is to go out after them.
    ends: Vec<Bytes>,
}

impl Holding {
    pub(super) fn announce(&mut self, family: Family, nlri: Nlri) {
        let had = !self.routes[family as usize].insert(nlri);
        self.changed[family as usize].entry(nlri).or_insert(had);
    }

    pub(super) fn withdraw(&mut self, family: Family, nlri: Nlri) {
        if self.routes[family as usize].remove(&nlri) {
            self.changed[family as usize].entry(nlri).or_insert(true);
        }
    }

    pub(super) fn len(&self, family: Family) -> usize {
        self.routes[family as usize].len()
    }

    pub(super) fn begin(&mut self, message: Bytes) {
        self.begins.push(message);
    }

    pub(super) fn end(&mut self, message: Bytes) {
        self.ends.push(message);
    }

    /// Whether there is something to be told.
    pub(super) fn is_pending(&self) -> bool {
        let quiet = self.changed.iter().all(BTreeMap::is_empty);
        !quiet || !self.begins.is_empty() || !self.ends.is_empty()
    }
}

impl Rib {
    /// Whether a session may be sent only so many routes: what it holds is kept from now on, and goes
    /// out in an order in which that is never more than in the end.
    pub fn set_limited(&mut self, session: SessionIndex, limited: bool) {
        if self.core.sessions[session].holding.is_some() == limited {
            return;
        }
        self.flush();
        if !limited {
            let Self {
                tables, core, out, ..
            } = self;
            out.hand_out(&mut core.sessions, core.options, tables, session);
            core.sessions.get_mut(session).holding = None;
            return;
        }
        // From here on its view changes at once.
        let Self {
            tables, core, out, ..
        } = self;
        out.complete_move(&mut core.sessions, core.options, tables, session);
        let mut holding = Holding::default();
        // Of what a session that does not keep up is still to be told, it has what it was sent before.
        let laggard = self.out.laggard(session);
        let is_due = |prefix: IpNet| {
            laggard.is_some_and(|laggard| {
                let slot = self.tables.find(prefix);
                slot.is_some_and(|slot| laggard.is_due(Family::of(&prefix), slot))
            })
        };
        let told = self.advertised(session, None);
        for sent in told.filter(|sent| !is_due(sent.prefix)) {
            let nlri = Nlri {
                path_id: sent.path_id.unwrap_or_default(),
                ..Nlri::from(sent.prefix)
            };
            holding.routes[Family::of(&sent.prefix) as usize].insert(nlri);
        }
        for (family, laggard) in Family::ALL.into_iter().zip([laggard; 2]) {
            let sent = laggard.into_iter();
            let sent = sent.flat_map(|laggard| laggard.holds_of_due(family));
            holding.routes[family as usize].extend(sent.map(|(slot, path_id)| Nlri {
                path_id,
                prefix: self.tables.prefix(family, slot),
            }));
        }
        self.core.sessions.get_mut(session).holding = Some(holding);
    }

    /// Beyond which prefix learned routes are to go from a session with a limit, so that it holds at
    /// most `most` of a family. What is originated here stays.
    #[must_use]
    pub fn last_held_that_fits(&self, session: SessionIndex, family: Family, most: usize) -> Until {
        let Session { group, holding, .. } = &self.core.sessions[session];
        let (Some(group), Some(holding)) = (group, holding) else {
            return Until::End;
        };
        let view = FamilyView::new(self.out.view(*group), family);
        let decision = self.core.decision();
        let info = self.core.sessions.info(session);
        let mut excess = holding.len(family).saturating_sub(most);
        let mut last = None;
        for nlri in holding.routes[family as usize].iter().rev() {
            let paths = self.tables.paths(nlri.prefix);
            let choice = view.choose(&decision, nlri.prefix, paths, Some(info));
            let is_own = |path: &Path| path.is_local() || is_sent_only(&self.core.sessions, path);
            if choice.path.is_some_and(is_own) {
                continue;
            }
            if excess == 0 && last != Some(nlri.prefix) {
                return Until::Prefix(nlri.prefix);
            }
            excess = excess.saturating_sub(1);
            last = Some(nlri.prefix);
        }
        Until::Nothing
    }

    /// Keeps learned routes beyond these prefixes, which are no more than before, back from a session
    /// with a limit. No walk over the table.
    pub fn narrow(&mut self, session: SessionIndex, until: [Until; 2]) {
        self.flush();
        let Self {
            tables, core, out, ..
        } = self;
        out.narrow(&mut core.sessions, core.options, tables, session, until);
    }
}

impl Tables {
    /// The slot of a prefix.
    fn find(&self, prefix: IpNet) -> Option<usize> {
        match prefix {
            IpNet::V4(net) => self.v4.find(net.addr(), net.prefix_len()),
            IpNet::V6(net) => self.v6.find(net.addr(), net.prefix_len()),
        }
    }

    /// Whose slot it is.
    fn prefix(&self, family: Family, slot: usize) -> IpNet {
        match family {
            Family::Ipv4Unicast => self.v4.slot(slot).prefix(),
            Family::Ipv6Unicast => self.v6.slot(slot).prefix(),
        }
    }

    /// The paths of a prefix.
    pub(super) fn paths(&self, prefix: IpNet) -> &[Path] {
        let Some(slot) = self.find(prefix) else {
            return &[];
        };
        match prefix {
            IpNet::V4(_) => self.v4.paths(slot),
            IpNet::V6(_) => self.v6.paths(slot),
        }
    }
}

impl AdjRibOut {
    /// What follows routes.
    pub(super) fn push_end(
        &mut self,
        sessions: &mut Sessions,
        session: SessionIndex,
        message: Bytes,
    ) {
        match &mut sessions.get_mut(session).holding {
            Some(holding) => holding.end(message),
            None => self.outbox.push(session, message),
        }
    }

    fn narrow(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        session: SessionIndex,
        until: [Until; 2],
    ) {
        let Some(group) = sessions[session].group else {
            return;
        };
        let view = View {
            until,
            ..self.view(group).clone()
        };
        for family in Family::ALL {
            let to = FamilyView::new(&view, family);
            let decision = Decision { sessions, options };
            let holding = sessions[session].holding.as_ref();
            let held = holding
                .iter()
                .flat_map(|it| it.routes[family as usize].iter().rev());
            let beyond = held.take_while(|nlri| !until[family as usize].admits(nlri.prefix));
            let gone = beyond.filter(|nlri| {
                let paths = tables.paths(nlri.prefix);
                let stays = routes(&to, &decision, nlri.prefix, paths, session);
                stays.iter().all(|(path_id, _)| *path_id != nlri.path_id)
            });
            let gone: Vec<Nlri> = gone.copied().collect();
            if let Some(laggard) = self.laggard_mut(session) {
                for nlri in &gone {
                    if let Some(slot) = tables.find(nlri.prefix) {
                        laggard.note_withdrawn(family, slot, nlri.path_id);
                    }
                }
            }
            let Session {
                holding, totals, ..
            } = sessions.get_mut(session);
            if let Some(holding) = holding {
                for nlri in gone {
                    holding.withdraw(family, nlri);
                }
                totals.advertised[family as usize] = holding.len(family);
            }
        }
        self.put_in_group(sessions, session, view);
    }

    /// Makes messages of what changed for the sessions with a limit.
    pub(super) fn hand_out_limited(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
    ) {
        for session in sessions.with_pending() {
            self.hand_out(sessions, options, tables, session);
        }
    }

    fn hand_out(
        &mut self,
        sessions: &mut Sessions,
        options: DecisionOptions,
        tables: &Tables,
        session: SessionIndex,
    ) {
        let Session { holding, group, .. } = sessions.get_mut(session);
        let Some(holding) = holding else { return };
        let group = *group;
        let changed = mem::take(&mut holding.changed);
        let begins = mem::take(&mut holding.begins);
        let ends = mem::take(&mut holding.ends);
        let mut messages = begins;
        if let Some(group) = group {
            for family in Family::ALL {
                let view = FamilyView::new(self.view(group), family);
                let changed = &changed[family as usize];
                messages.extend(make(sessions, options, tables, session, &view, changed));
            }
        }
        for message in messages.into_iter().chain(ends) {
            self.outbox.push(session, message);
        }
    }
}

/// Messages from what the peer has to what it is to hold.
fn make(
    sessions: &Sessions,
    options: DecisionOptions,
    tables: &Tables,
    session: SessionIndex,
    view: &FamilyView<'_>,
    changed: &BTreeMap<Nlri, bool>,
) -> Vec<Bytes> {
    let Some(holding) = &sessions[session].holding else {
        return Vec::new();
    };
    let members = Members::new(sessions, &[session]);
    let decision = Decision { sessions, options };
    let mut packer = Packer::new(view, view, &members);
    for (nlri, had) in changed {
        let holds = holding.routes[view.family as usize].contains(nlri);
        let paths = if holds {
            tables.paths(nlri.prefix)
        } else {
            &[]
        };
        let routes = routes(view, &decision, nlri.prefix, paths, session);
        match routes.iter().find(|(path_id, _)| *path_id == nlri.path_id) {
            Some((_, path)) => packer.announce_to(sessions, session, *nlri, path),
            None if *had => packer.withdraw_from(session, *nlri),
            None => {}
        }
    }
    packer.into_messages()
}
