//! Packs the changes of a batch into full UPDATEs, each encoded once for all who get it.
//!
//! In: prefixes with their paths before and after, for the members of one update group. Out:
//! messages for sessions. Changes for the same recipients go together by attributes; members that
//! may not be sent the group's path get what is chosen for them alone.

use std::{ops::AddAssign, sync::Arc};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{
    decision::{Choice, Decision},
    path::{Path, SessionIndex, Sessions},
    view::{Members, SessionSet, View},
};
use crate::bgp::wire::{Family, Nlri, PathAttributes, encode_announce, encode_withdraw};

/// Encoded messages are handed on in pieces of about this size, so that they are freed as they
/// are sent.
const PIECE: usize = 64 * 1024;

/// Messages for sessions, in the order in which they are to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    messages: Vec<(SessionIndex, Bytes)>,
}

impl Outbox {
    pub(super) fn push(&mut self, session: SessionIndex, messages: Bytes) {
        self.messages.push((session, messages));
    }

    /// Forgets what was not taken for a session that is gone.
    pub(super) fn forget(&mut self, session: SessionIndex) {
        self.messages.retain(|(other, _)| *other != session);
    }

    pub(super) fn take(&mut self) -> Vec<(SessionIndex, Bytes)> {
        std::mem::take(&mut self.messages)
    }
}

/// Gathers the changes of one family for the members of one group.
pub(super) struct Packer<'a> {
    family: Family,
    /// The view in which members were sent what they have.
    before: &'a View,
    /// The view from now on; the same unless the configuration changed.
    after: &'a View,
    members: &'a Members,
    streams: FxHashMap<Recipients, Stream>,
}

#[derive(PartialEq, Eq, Hash)]
enum Recipients {
    AllBut(SessionSet),
    Only(SessionIndex),
}

/// Changes for the same recipients.
#[derive(Default)]
struct Stream {
    withdrawn: Vec<Nlri>,
    announced: Vec<(Arc<PathAttributes>, Vec<Nlri>)>,
    /// Place in `announced`, by the address of the interned attributes.
    places: FxHashMap<*const PathAttributes, usize>,
    newly_announced: usize,
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        family: Family,
        before: &'a View,
        after: &'a View,
        members: &'a Members,
    ) -> Self {
        Self {
            family,
            before,
            after,
            members,
            streams: FxHashMap::default(),
        }
    }

    /// A prefix that changed, or that members were not sent before (`before` empty).
    pub(super) fn add(
        &mut self,
        decision: &Decision<'_>,
        prefix: IpNet,
        before: &[Path],
        after: &[Path],
    ) {
        let sessions = decision.sessions;
        let old = self.before.choose(decision, self.family, before, None);
        let new = self.after.choose(decision, self.family, after, None);
        let decisive = decisive(old, before).chain(decisive(new, after));
        let excluded = self.members.excluded(sessions, decisive);
        for &member in &excluded {
            let info = sessions.info(member);
            let old = self
                .before
                .choose(decision, self.family, before, Some(info));
            let new = self.after.choose(decision, self.family, after, Some(info));
            self.change(Recipients::Only(member), prefix, old.path, new.path);
        }
        if excluded.len() < self.members.all().len() {
            self.change(Recipients::AllBut(excluded), prefix, old.path, new.path);
        }
    }

    /// A prefix of which this member was sent something or nothing (`had`), it is not known what.
    pub(super) fn renew(
        &mut self,
        decision: &Decision<'_>,
        prefix: IpNet,
        member: SessionIndex,
        had: bool,
        after: &[Path],
    ) {
        let info = decision.sessions.info(member);
        let new = self.after.choose(decision, self.family, after, Some(info));
        if new.path.is_none() && !had {
            return;
        }
        let stream = self.streams.entry(Recipients::Only(member)).or_default();
        match new.path {
            Some(path) => {
                stream.announce(prefix, &path.attributes);
                stream.newly_announced += usize::from(!had);
            }
            None => stream.withdrawn.push(prefix.into()),
        }
    }

    /// Encodes what was gathered, once for each set of recipients.
    pub(super) fn finish(self, sessions: &mut Sessions, outbox: &mut Outbox) {
        for (recipients, stream) in &self.streams {
            let recipients: Vec<SessionIndex> = match recipients {
                Recipients::Only(member) => vec![*member],
                Recipients::AllBut(excluded) => {
                    let all = self.members.all().iter();
                    all.filter(|member| !excluded.contains(member))
                        .copied()
                        .collect()
                }
            };
            for &member in &recipients {
                let advertised = &mut sessions.get_mut(member).totals.advertised;
                advertised.add_assign(stream.newly_announced);
                *advertised -= stream.withdrawn.len();
            }
            stream.encode(self.family, self.after, |messages| {
                for &member in &recipients {
                    outbox.push(member, messages.clone());
                }
            });
        }
    }

    fn change(
        &mut self,
        recipients: Recipients,
        prefix: IpNet,
        old: Option<&Path>,
        new: Option<&Path>,
    ) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) if self.looks_the_same(old, new) => {}
            (old, Some(new)) => {
                let stream = self.streams.entry(recipients).or_default();
                stream.announce(prefix, &new.attributes);
                stream.newly_announced += usize::from(old.is_none());
            }
            (Some(_), None) => {
                let stream = self.streams.entry(recipients).or_default();
                stream.withdrawn.push(prefix.into());
            }
        }
    }

    /// Whether a peer that has the old path would be told nothing new. Attributes are interned:
    /// the same set has the same address.
    fn looks_the_same(&self, old: &Path, new: &Path) -> bool {
        let own_next_hop = |view: &View| view.own_next_hop(self.family);
        Arc::ptr_eq(&old.attributes, &new.attributes)
            && self.before.asn == self.after.asn
            && (!new.is_local() || own_next_hop(self.before) == own_next_hop(self.after))
    }
}

/// The paths without which the choice could be another one: a member that may not be sent one of
/// them is decided for alone.
fn decisive<'p>(choice: Choice<'p>, all: &'p [Path]) -> impl Iterator<Item = &'p Path> {
    let losers = if choice.hinges_on_losers { all } else { &[] };
    choice.path.into_iter().chain(losers)
}

impl Stream {
    fn announce(&mut self, prefix: IpNet, attributes: &Arc<PathAttributes>) {
        let place = *self
            .places
            .entry(Arc::as_ptr(attributes))
            .or_insert_with(|| {
                self.announced.push((attributes.clone(), Vec::new()));
                self.announced.len() - 1
            });
        self.announced[place].1.push(prefix.into());
    }

    fn encode(&self, family: Family, view: &View, mut send: impl FnMut(Bytes)) {
        let mut buffer = BytesMut::new();
        if !self.withdrawn.is_empty() {
            encode_withdraw(&view.context, self.withdrawn.iter().copied(), &mut buffer);
        }
        for (attributes, nlri) in &self.announced {
            let sent = view.outbound(family, attributes);
            let nlri = nlri.iter().copied();
            // `View::choose` has passed over what cannot be encoded; were it mistaken, the peer
            // must not keep an older route.
            if let Err(error) = encode_announce(&view.context, &sent, nlri.clone(), &mut buffer) {
                tracing::error!(%error, "a route cannot be sent and is withdrawn instead");
                encode_withdraw(&view.context, nlri, &mut buffer);
            }
            if buffer.len() >= PIECE {
                send(buffer.split().freeze());
            }
        }
        if !buffer.is_empty() {
            send(buffer.freeze());
        }
    }
}
