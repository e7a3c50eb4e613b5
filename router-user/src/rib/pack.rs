//! Packs the changes of a batch into full UPDATEs, each encoded once for all who get it.
//!
//! In: prefixes with their paths before and after, for the members of one update group. Out:
//! messages for sessions. Changes for the same recipients go together by attributes; members that
//! may not be sent the group's path get what is chosen for them alone.

use std::{net::IpAddr, ops::AddAssign, sync::Arc};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{
    decision::{Choice, Decision, Ranking},
    outbound::{Outgoing, Provenance},
    path::{Path, Session, SessionIndex, Sessions},
    path_id,
    view::{FamilyView, Members, SessionSet},
};
use crate::bgp::wire::{Nlri, PathAttributes, encode_announce, encode_withdraw};

/// Encoded messages are handed on in pieces of about this size, so that they are freed as they
/// are sent.
const PIECE: usize = 64 * 1024;

/// About how many bytes a step gathers at the most: no session is to be handed much more at once. As
/// many slots as a step covers come to less with ordinary attributes, so all of them are packed
/// together.
const FULL: usize = 4 * 1024 * 1024;

/// Messages for sessions, in the order in which they are to be sent.
#[derive(Clone, Default)]
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
    /// The view in which members were sent what they have.
    before: &'a FamilyView<'a>,
    /// The view from now on; the same unless the configuration changed.
    after: &'a FamilyView<'a>,
    members: &'a Members,
    /// Both views send the same attributes as the same, next hops of the route server's own aside.
    alike: bool,
    streams: FxHashMap<Recipients, Stream>,
    /// About how long all messages will be.
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Recipients {
    AllBut(SessionSet),
    Only(SessionIndex),
}

/// Changes for the same recipients.
#[derive(Default)]
struct Stream {
    withdrawn: Vec<Nlri>,
    announced: Vec<Announced>,
    /// Place in `announced`, by the address of the attributes.
    places: FxHashMap<(*const PathAttributes, Provenance), usize>,
    newly_announced: usize,
}

/// Routes with the same attributes.
struct Announced {
    attributes: Arc<PathAttributes>,
    provenance: Provenance,
    /// About how long a message with one of them is.
    message_len: usize,
    nlri: Vec<Nlri>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        before: &'a FamilyView<'a>,
        after: &'a FamilyView<'a>,
        members: &'a Members,
    ) -> Self {
        Self {
            before,
            after,
            members,
            alike: before.view.sends_like(after.view),
            streams: FxHashMap::default(),
            bytes: 0,
        }
    }

    /// Whether what was gathered is as much as a step may send.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL
    }

    /// A prefix that changed, or that members were not sent before (`before` empty).
    pub(super) fn add(
        &mut self,
        decision: &Decision<'_>,
        prefix: IpNet,
        before: &[Path],
        after: &[Path],
    ) {
        if self.after.sends_several() {
            return self.add_several(decision, prefix, before, after);
        }
        let sessions = decision.sessions;
        let old = self.before.choose(decision, prefix, before, None);
        let new = self.after.choose(decision, prefix, after, None);
        let excluded = {
            let [before_view, after_view] = [self.before, self.after];
            let old = named(before_view, sessions, prefix, decisive(old, before));
            let new = named(after_view, sessions, prefix, decisive(new, after));
            self.members.excluded(sessions, old.chain(new))
        };
        for &member in &excluded {
            let info = sessions.info(member);
            let old = self.before.choose(decision, prefix, before, Some(info));
            let new = self.after.choose(decision, prefix, after, Some(info));
            let only = Recipients::Only(member);
            self.change(sessions, only, prefix, old.path, new.path);
        }
        if excluded.len() < self.members.all().len() {
            let others = Recipients::AllBut(excluded);
            self.change(sessions, others, prefix, old.path, new.path);
        }
    }

    /// A prefix of which this member was sent routes with these path identifiers, it is not known
    /// which (0: without ADD-PATH).
    pub(super) fn renew(
        &mut self,
        decision: &Decision<'_>,
        prefix: IpNet,
        member: SessionIndex,
        had: &[u32],
        after: &[Path],
    ) {
        let sessions = decision.sessions;
        let new = routes(self.after, decision, prefix, after, member);
        if new.is_empty() && had.is_empty() {
            return;
        }
        let recipients = Recipients::Only(member);
        for &(path_id, path) in &new {
            let is_new = !had.contains(&path_id);
            let nlri = Nlri { prefix, path_id };
            self.announce(sessions, recipients.clone(), nlri, path, is_new);
        }
        for &path_id in had {
            if new.iter().all(|(number, _)| *number != path_id) {
                self.withdraw(recipients.clone(), Nlri { prefix, path_id });
            }
        }
    }

    /// The same for members that are sent several paths a prefix. A member's view may change, but not
    /// whether ADD-PATH was agreed on.
    fn add_several(
        &mut self,
        decision: &Decision<'_>,
        prefix: IpNet,
        before: &[Path],
        after: &[Path],
    ) {
        let sessions = decision.sessions;
        let [old_view, new_view] = [self.before, self.after];
        let old = old_view.choose_several(decision, prefix, before, None);
        let new = new_view.choose_several(decision, prefix, after, None);
        let excluded = {
            let old = decisive_of_several(&old, before);
            let new = decisive_of_several(&new, after);
            let old = named(old_view, sessions, prefix, old);
            let new = named(new_view, sessions, prefix, new);
            self.members.excluded(sessions, old.chain(new))
        };
        for &member in &excluded {
            let info = Some(sessions.info(member));
            let old = old_view.choose_several(decision, prefix, before, info);
            let new = new_view.choose_several(decision, prefix, after, info);
            let [old, new] =
                [(before, old), (after, new)].map(|(all, chosen)| numbered(all, &chosen));
            self.change_several(sessions, &Recipients::Only(member), prefix, &old, &new);
        }
        if excluded.len() < self.members.all().len() {
            let [old, new] =
                [(before, old), (after, new)].map(|(all, chosen)| numbered(all, &chosen));
            self.change_several(sessions, &Recipients::AllBut(excluded), prefix, &old, &new);
        }
    }

    /// Encodes what was gathered, once for each set of recipients.
    pub(super) fn finish(self, sessions: &mut Sessions, outbox: &mut Outbox) {
        for (recipients, stream) in &self.streams {
            let mut recipients: Vec<SessionIndex> = match recipients {
                Recipients::Only(member) => vec![*member],
                Recipients::AllBut(excluded) => {
                    let all = self.members.all().iter();
                    all.filter(|member| !excluded.contains(member))
                        .copied()
                        .collect()
                }
            };
            let family = self.after.family;
            recipients.retain(|member| {
                let Session {
                    totals, holding, ..
                } = sessions.get_mut(*member);
                let advertised = &mut totals.advertised[family as usize];
                let Some(holding) = holding else {
                    advertised.add_assign(stream.newly_announced);
                    *advertised -= stream.withdrawn.len();
                    return true;
                };
                for nlri in &stream.withdrawn {
                    holding.withdraw(family, *nlri);
                }
                for nlri in stream.announced.iter().flat_map(|same| &same.nlri) {
                    holding.announce(family, *nlri);
                }
                *advertised = holding.len(family);
                false
            });
            if recipients.is_empty() {
                continue;
            }
            // With ADD-PATH what comes goes out before what goes: who loses one path of a prefix and
            // gets another one is never without.
            let withdraws_first = !self.after.sends_several();
            stream.encode(self.after, withdraws_first, |messages| {
                for &member in &recipients {
                    outbox.push(member, messages.clone());
                }
            });
        }
    }

    /// A route for a member with a limit.
    pub(super) fn announce_to(
        &mut self,
        sessions: &Sessions,
        member: SessionIndex,
        nlri: Nlri,
        path: &Path,
    ) {
        self.announce(sessions, Recipients::Only(member), nlri, path, false);
    }

    /// A route that goes from a member with a limit.
    pub(super) fn withdraw_from(&mut self, member: SessionIndex, nlri: Nlri) {
        self.withdraw(Recipients::Only(member), nlri);
    }

    /// What was gathered for one member, withdrawals first.
    pub(super) fn into_messages(self) -> Vec<Bytes> {
        let mut messages = Vec::new();
        for stream in self.streams.values() {
            stream.encode(self.after, true, |message| messages.push(message));
        }
        messages
    }

    fn change_several(
        &mut self,
        sessions: &Sessions,
        recipients: &Recipients,
        prefix: IpNet,
        old: &Numbered<'_>,
        new: &Numbered<'_>,
    ) {
        for &(path_id, path) in new {
            let had = old.iter().find(|(number, _)| *number == path_id);
            if had.is_some_and(|(_, had)| self.looks_the_same(sessions, prefix, had, path)) {
                continue;
            }
            let nlri = Nlri { prefix, path_id };
            self.announce(sessions, recipients.clone(), nlri, path, had.is_none());
        }
        for &(path_id, _) in old {
            if new.iter().all(|(number, _)| *number != path_id) {
                self.withdraw(recipients.clone(), Nlri { prefix, path_id });
            }
        }
    }

    fn change(
        &mut self,
        sessions: &Sessions,
        recipients: Recipients,
        prefix: IpNet,
        old: Option<&Path>,
        new: Option<&Path>,
    ) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) if self.looks_the_same(sessions, prefix, old, new) => {}
            (old, Some(new)) => {
                self.announce(sessions, recipients, prefix.into(), new, old.is_none());
            }
            (Some(_), None) => self.withdraw(recipients, prefix.into()),
        }
    }

    fn announce(
        &mut self,
        sessions: &Sessions,
        recipients: Recipients,
        nlri: Nlri,
        path: &Path,
        is_new: bool,
    ) {
        let outgoing = self.after.outgoing(sessions, nlri.prefix, path);
        let outgoing = outgoing.expect("what the policy keeps back is not chosen");
        let stream = self.streams.entry(recipients).or_default();
        stream.newly_announced += usize::from(is_new);
        self.bytes += stream.announce(nlri, &outgoing, self.after);
    }

    fn withdraw(&mut self, recipients: Recipients, nlri: Nlri) {
        let stream = self.streams.entry(recipients).or_default();
        stream.withdrawn.push(nlri);
        self.bytes += self.after.nlri_len(&nlri);
    }

    /// Whether a peer that has the old path would be told nothing new.
    fn looks_the_same(&self, sessions: &Sessions, prefix: IpNet, old: &Path, new: &Path) -> bool {
        let [before, after] = [self.before, self.after];
        let plain = before.view.policy.is_none() && after.view.policy.is_none();
        if plain && !old.same_attributes(new) {
            return false;
        }
        let outgoing = (
            before.outgoing(sessions, prefix, old),
            after.outgoing(sessions, prefix, new),
        );
        let (Some(old), Some(new)) = outgoing else {
            return false;
        };
        if old.provenance != new.provenance || !plain && old.attributes != new.attributes {
            return false;
        }
        let own_next_hop = |view: &FamilyView<'_>| view.view.own_next_hop(view.family);
        let named = new.attributes.next_hop.is_some();
        let outbound = |view: &FamilyView<'_>| {
            let Outgoing {
                attributes,
                provenance,
            } = &new;
            view.view.outbound(view.family, attributes, *provenance)
        };
        self.alike && (named || own_next_hop(before) == own_next_hop(after))
            || outbound(before) == outbound(after)
    }
}

/// Paths with the next hops that they are sent with.
fn named<'p>(
    view: &FamilyView<'_>,
    sessions: &Sessions,
    prefix: IpNet,
    paths: impl Iterator<Item = &'p Path>,
) -> impl Iterator<Item = (&'p Path, Option<IpAddr>)> {
    paths.map(move |path| (path, view.next_hop(sessions, prefix, path)))
}

/// The paths without which the choice could be another one: a member that may not be sent one of
/// them is decided for alone.
fn decisive<'p>(choice: Choice<'p>, all: &'p [Path]) -> impl Iterator<Item = &'p Path> {
    let losers = if choice.hinges_on_losers { all } else { &[] };
    choice.path.into_iter().chain(losers)
}

fn decisive_of_several<'p>(
    ranking: &Ranking<'p>,
    all: &'p [Path],
) -> impl Iterator<Item = &'p Path> {
    let losers = if ranking.hinges_on_losers { all } else { &[] };
    ranking.paths.clone().into_iter().chain(losers)
}

/// Paths under the identifiers that they are sent with.
pub(super) type Numbered<'p> = SmallVec<[(u32, &'p Path); 8]>;

fn numbered<'p>(all: &'p [Path], chosen: &Ranking<'p>) -> Numbered<'p> {
    let chosen = chosen.paths.iter();
    chosen
        .map(|path| (path_id::sent(all, path), *path))
        .collect()
}

/// The routes that a member is sent of these paths, under the identifiers that they are sent with
/// (0: without ADD-PATH).
pub(super) fn routes<'p>(
    view: &FamilyView<'_>,
    decision: &Decision<'_>,
    prefix: IpNet,
    paths: &'p [Path],
    member: SessionIndex,
) -> Numbered<'p> {
    let info = Some(decision.sessions.info(member));
    if view.sends_several() {
        numbered(paths, &view.choose_several(decision, prefix, paths, info))
    } else {
        let choice = view.choose(decision, prefix, paths, info);
        choice.path.into_iter().map(|path| (0, path)).collect()
    }
}

impl Stream {
    /// Returns about how many bytes that adds.
    fn announce(&mut self, nlri: Nlri, outgoing: &Outgoing<'_>, to: &FamilyView<'_>) -> usize {
        let max = to.view.context.max_message_len();
        let Outgoing {
            attributes,
            provenance,
        } = outgoing;
        let key = (Arc::as_ptr(attributes), *provenance);
        let place = *self.places.entry(key).or_insert_with(|| {
            self.announced.push(Announced {
                attributes: Arc::clone(attributes),
                provenance: *provenance,
                message_len: to.message_len(outgoing).unwrap_or(max),
                nlri: Vec::new(),
            });
            self.announced.len() - 1
        });
        let same = &mut self.announced[place];
        same.nlri.push(nlri);
        if same.nlri.len() == 1 {
            return same.message_len;
        }
        // Its share of a full message: long attributes leave room for few prefixes.
        let in_a_message = 1 + max.saturating_sub(same.message_len) / to.nlri_len(&nlri);
        max / in_a_message
    }

    fn encode(&self, to: &FamilyView<'_>, withdraws_first: bool, mut send: impl FnMut(Bytes)) {
        let FamilyView { view, family, .. } = *to;
        let mut buffer = BytesMut::new();
        if withdraws_first && !self.withdrawn.is_empty() {
            encode_withdraw(&view.context, self.withdrawn.iter().copied(), &mut buffer);
        }
        for same in &self.announced {
            let sent = view.outbound(family, &same.attributes, same.provenance);
            let nlri = same.nlri.iter().copied();
            // `FamilyView::choose` has passed over what cannot be encoded; were it mistaken, the peer
            // must not keep an older route.
            if let Err(error) = encode_announce(&view.context, &sent, nlri.clone(), &mut buffer) {
                tracing::error!(%error, "a route cannot be sent and is withdrawn instead");
                encode_withdraw(&view.context, nlri, &mut buffer);
            }
            if buffer.len() >= PIECE {
                send(buffer.split().freeze());
            }
        }
        if !withdraws_first && !self.withdrawn.is_empty() {
            encode_withdraw(&view.context, self.withdrawn.iter().copied(), &mut buffer);
        }
        if !buffer.is_empty() {
            send(buffer.freeze());
        }
    }
}
