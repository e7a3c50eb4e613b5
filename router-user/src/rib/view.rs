//! What a session may be sent, and in which form; sessions with equal views share the work.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::hash_map,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::BytesMut;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{
    Audience, Export, ExportPolicy, LocalSet,
    decision::{Choice, Decision, DecisionOptions, Ranking},
    outbound::{Outgoing, Provenance},
    path::{Path, SessionIndex, SessionInfo, Sessions, SourceKind},
    policy::{Evaluated, Evaluations},
};
use crate::bgp::wire::{
    Aggregator, Asn, Context, Family, NextHop, Nlri, PathAttributes, Peering, community,
    encode_announce,
};

/// The outbound view of a session. Sessions with equal views form one update group: for each
/// changed prefix the best path is chosen once and encoded once for all of them, except for those
/// that may not be sent this very path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// How messages are encoded, which families are exchanged, and whether it is eBGP.
    pub context: Context,
    /// The ASN to prepend (eBGP).
    pub asn: Asn,
    /// How many paths of a prefix are sent at the most, in the families for which ADD-PATH was
    /// agreed on; there at least one is.
    pub max_paths: u8,
    /// The sources whose routes are advertised.
    pub sources: SourceKinds,
    /// The sources of originated routes whose routes are. Where one of them holds a prefix, no learned
    /// path of it is advertised.
    pub locals: LocalSet,
    /// Speaks long-lived graceful restart: may be sent paths with LLGR_STALE (RFC 9494 §4.3).
    pub long_lived: bool,
    /// What the operator wants done with routes to the peer (eBGP).
    pub export: Export,
    /// Next hop of originated IPv4 routes; without one they are not advertised.
    pub next_hop_v4: Option<NextHop>,
    /// Next hop of originated IPv6 routes; without one they are not advertised.
    pub next_hop_v6: Option<NextHop>,
    /// What was learned by iBGP is passed on to this iBGP peer by a route reflector of this cluster
    /// (RFC 4456); without one it is not.
    pub cluster_id: Option<Ipv4Addr>,
    /// Learned routes beyond these prefixes, in their order, are not sent: IPv4, IPv6.
    pub until: [Until; 2],
    /// The outbound route map.
    pub policy: Option<Arc<dyn ExportPolicy>>,
    /// Who aggregates what the route map says.
    pub aggregator: Option<Aggregator>,
    /// By which the RIB tells for whom aggregates are: it is set there.
    pub audience: Audience,
}

/// How far learned routes are sent, in the order of their prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Until {
    /// All are.
    #[default]
    End,
    /// Those up to this prefix, which is one of them.
    Prefix(IpNet),
    /// None is.
    Nothing,
}

impl Until {
    /// Whether routes of a prefix are sent.
    #[must_use]
    pub fn admits(self, prefix: IpNet) -> bool {
        match self {
            Self::End => true,
            Self::Prefix(last) => prefix <= last,
            Self::Nothing => false,
        }
    }
}

/// A set of [`SourceKind`]s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct SourceKinds(u8);

impl SourceKinds {
    /// Every kind.
    pub const ALL: Self = Self(u8::MAX);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: SourceKind) -> Self {
        Self(self.0 | 1 << kind.0)
    }

    /// Whether `kind` is in it.
    #[must_use]
    pub const fn contains(self, kind: SourceKind) -> bool {
        self.0 & 1 << kind.0 != 0
    }
}

impl View {
    /// The next hop of routes that the route server originates; without one they are not
    /// advertised.
    pub fn own_next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.next_hop_v4,
            Family::Ipv6Unicast => self.next_hop_v6,
        }
    }
}

/// What a view makes of the paths of one family, for as long as they stand as they are: a batch, or
/// a step.
pub(super) struct FamilyView<'v> {
    pub(super) view: &'v View,
    pub(super) family: Family,
    /// By which configuration of the decision process it chooses, if not by today's.
    options: Option<DecisionOptions>,
    /// [`FamilyView::message_len`] of attributes so long that they had to be encoded to know, by their
    /// address.
    long: RefCell<FxHashMap<(*const PathAttributes, Provenance), Option<usize>>>,
    /// What the view's policy makes of them.
    evaluations: Evaluations,
}

impl<'v> FamilyView<'v> {
    pub(super) fn new(view: &'v View, family: Family) -> Self {
        Self {
            view,
            family,
            options: None,
            long: RefCell::default(),
            evaluations: Evaluations::default(),
        }
    }

    /// Chooses by this configuration of the decision process, whatever is today's.
    pub(super) fn decided_by(self, options: DecisionOptions) -> Self {
        let options = Some(options);
        Self { options, ..self }
    }

    fn decision<'s>(&self, today: &Decision<'s>) -> Decision<'s> {
        Decision {
            options: self.options.unwrap_or(today.options),
            ..*today
        }
    }

    /// Whether the family is exchanged at all.
    pub(super) fn is_exchanged(&self) -> bool {
        self.view.context.families.contains(self.family)
    }

    /// The path that is advertised: the best of those that may be sent, to `member` in particular
    /// if one is given (no path hiding, RFC 7947 §2.3). What the route server originates itself
    /// wins over all, also where it cannot be sent: then nothing is advertised.
    pub(super) fn choose<'p>(
        &self,
        decision: &Decision<'_>,
        prefix: IpNet,
        paths: &'p [Path],
        member: Option<&SessionInfo>,
    ) -> Choice<'p> {
        let sessions = decision.sessions;
        let mut choice = self.decision(decision).best(paths, |path| {
            self.carries_instead(sessions, prefix, path)
                || self.may_be_sent(sessions, prefix, path, member)
        });
        choice
            .path
            .take_if(|best| best.is_local() && !self.can_be_sent(sessions, prefix, best, member));
        choice
    }

    /// With ADD-PATH, the paths that are advertised: the best of those that may be sent, best first
    /// (RFC 7911 §3), as many as the view allows. Where the route server originates the prefix, its
    /// own path alone, as in [`FamilyView::choose`].
    pub(super) fn choose_several<'p>(
        &self,
        decision: &Decision<'_>,
        prefix: IpNet,
        paths: &'p [Path],
        member: Option<&SessionInfo>,
    ) -> Ranking<'p> {
        let sessions = decision.sessions;
        let stands_alone = |path: &Path| {
            self.carries_instead(sessions, prefix, path) || self.carries_aggregate(sessions, path)
        };
        if paths.iter().any(stands_alone) {
            let choice = self.choose(decision, prefix, paths, member);
            return Ranking {
                paths: choice.path.into_iter().collect(),
                hinges_on_losers: choice.hinges_on_losers,
            };
        }
        let may_be_sent = |path: &Path| self.may_be_sent(sessions, prefix, path, member);
        let most = self.view.max_paths.max(1).into();
        self.decision(decision).ranked(paths, may_be_sent, most)
    }

    /// Whether several paths of a prefix are sent, with path identifiers (RFC 7911).
    pub(super) fn sends_several(&self) -> bool {
        self.view.context.add_path_send.contains(self.family)
    }

    /// Whether this is a path that the route server originates for this group.
    pub(super) fn carries_own(&self, path: &Path) -> bool {
        let View { export, locals, .. } = self.view;
        let source = path.local_source();
        !export.closed && source.is_some_and(|source| locals.contains(source))
    }

    /// The same, and no learned path is sent for it, be it sent or not: only an aggregate of its very
    /// prefix that it is part of is.
    fn carries_instead(&self, sessions: &Sessions, prefix: IpNet, path: &Path) -> bool {
        self.carries_own(path) && self.gives_way(sessions, prefix, path) != Some(prefix)
    }

    /// Whether this is an aggregate that is for this group and no other.
    fn carries_aggregate(&self, sessions: &Sessions, path: &Path) -> bool {
        let View {
            audience, export, ..
        } = self.view;
        is_sent_only(sessions, path) && audience.is_of(path) && !export.closed
    }

    /// The aggregate that the policy takes a path out in favour of.
    pub(super) fn gives_way(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        path: &Path,
    ) -> Option<IpNet> {
        let policy = self.view.policy.as_ref()?;
        if self.view.audience == Audience::EVERYBODY {
            return None;
        }
        match self.evaluations.of(policy.as_ref(), sessions, prefix, path) {
            Evaluated::Aggregate(aggregate) => Some(aggregate),
            _ => None,
        }
    }

    /// Whether a learned path may be sent to this group at all, and to this member.
    fn may_be_sent(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        path: &Path,
        member: Option<&SessionInfo>,
    ) -> bool {
        if path.is_local() {
            return false;
        }
        let until = self.view.until[self.family as usize];
        let source = sessions.info(path.session);
        (self.carries_aggregate(sessions, path)
            || self.may_leave(sessions, path) && until.admits(prefix))
            && (member.is_none_or(|member| source.identity != member.identity)
                || planted!(BackToThePeerItCameFrom))
            && self.can_be_sent(sessions, prefix, path, member)
    }

    /// Whether a learned path is for this group, whatever its prefix and its policy.
    pub(super) fn may_leave(&self, sessions: &Sessions, path: &Path) -> bool {
        if path.is_local() || !path.is_eligible() {
            return false;
        }
        let View {
            context,
            sources,
            long_lived,
            export,
            cluster_id,
            ..
        } = self.view;
        let source = sessions.info(path.session);
        let has = |community| path.attributes.has_community(community);
        let external = context.peering == Peering::External;
        !export.closed
            && export.permits(&path.attributes)
            && sources.contains(source.kind)
            && (external || source.ebgp || cluster_id.is_some())
            && (!has(community::NO_ADVERTISE) || planted!(NoAdvertiseIsSent))
            && !(external && !long_lived && has(community::LLGR_STALE))
            && !(external
                && (has(community::NO_EXPORT) || has(community::NO_EXPORT_SUBCONFED))
                && !planted!(NoExportIsSent))
    }

    /// Whether a path gets through the policy, and can be expressed and be sent to this member: not to
    /// the address that it names as next hop.
    fn can_be_sent(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        path: &Path,
        member: Option<&SessionInfo>,
    ) -> bool {
        let Some(outgoing) = self.outgoing(sessions, prefix, path) else {
            return false;
        };
        let own = self.view.own_next_hop(self.family);
        let own = own.filter(|_| path.is_local());
        let next_hop = outgoing.attributes.next_hop.or(own);
        let expressible = next_hop.is_some_and(|next_hop| match (self.family, next_hop) {
            (Family::Ipv4Unicast, NextHop::V6 { .. }) => self.view.context.extended_next_hop,
            (Family::Ipv6Unicast, NextHop::V4(_)) => false,
            _ => true,
        });
        expressible
            && (member.is_none_or(|member| outgoing.next_hop() != Some(member.id.peer))
                || planted!(ToTheNextHopItNames))
            && self.message_len(&outgoing).is_some()
    }

    /// What is sent of a path; `None`: the policy keeps it back.
    pub(super) fn outgoing<'p>(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        path: &'p Path,
    ) -> Option<Outgoing<'p>> {
        let policy = self.view.policy.as_ref();
        let policy = policy.filter(|_| !is_sent_only(sessions, path));
        let evaluated = policy.map(|policy| {
            let policy = policy.as_ref();
            self.evaluations.of(policy, sessions, prefix, path)
        });
        let attributes = match evaluated {
            None | Some(Evaluated::Keep) => Cow::Borrowed(&path.attributes),
            Some(Evaluated::Change(attributes)) => Cow::Owned(attributes),
            Some(Evaluated::Drop | Evaluated::Aggregate(_)) => return None,
        };
        Some(Outgoing {
            provenance: self.provenance(sessions, path),
            attributes,
        })
    }

    /// The address that a path names as next hop when it is sent, if that is not to be the route
    /// server's own.
    pub(super) fn next_hop(
        &self,
        sessions: &Sessions,
        prefix: IpNet,
        path: &Path,
    ) -> Option<IpAddr> {
        if self.view.policy.is_none() {
            return path.next_hop();
        }
        self.outgoing(sessions, prefix, path)?.next_hop()
    }

    fn provenance(&self, sessions: &Sessions, path: &Path) -> Provenance {
        if is_sent_only(sessions, path) || path.is_local() {
            return Provenance::Own;
        }
        if self.view.context.peering == Peering::External {
            return Provenance::Learned;
        }
        match sessions.info(path.session) {
            source if source.ebgp => Provenance::Learned,
            source => {
                let originator = path.attributes.originator_id;
                Provenance::Reflected(originator.unwrap_or(source.router_id))
            }
        }
    }

    /// About how long a message with these attributes and one prefix is; `None`: longer than a
    /// message may be, so they cannot be sent (RFC 4271 §9.2).
    pub(super) fn message_len(&self, outgoing: &Outgoing<'_>) -> Option<usize> {
        let Outgoing {
            attributes,
            provenance,
        } = outgoing;
        let key = (Arc::as_ptr(attributes), *provenance);
        if let Some(len) = self.long.borrow().get(&key) {
            return *len;
        }
        let about = len_without_fixed(attributes);
        if about <= CLOSE {
            return Some(about + FIXED);
        }
        let len = self.encoded_len(attributes, *provenance);
        self.long.borrow_mut().insert(key, len);
        len
    }

    /// How many bytes a prefix takes in a message (RFC 4271 §4.3, RFC 7911 §3).
    pub(super) fn nlri_len(&self, nlri: &Nlri) -> usize {
        let path_id = if self.sends_several() { 4 } else { 0 };
        path_id + 1 + usize::from(nlri.prefix.prefix_len().div_ceil(8))
    }

    fn encoded_len(&self, attributes: &PathAttributes, provenance: Provenance) -> Option<usize> {
        #[cfg(test)]
        ENCODED.set(ENCODED.get() + 1);
        let longest = match self.family {
            Family::Ipv4Unicast => IpNet::from(IpAddr::from([0; 4])),
            Family::Ipv6Unicast => IpNet::from(IpAddr::from([0; 16])),
        };
        let sent = self.view.outbound(self.family, attributes, provenance);
        let nlri = std::iter::once(longest.into());
        let mut message = BytesMut::new();
        let encoded = encode_announce(&self.view.context, &sent, nlri, &mut message);
        encoded.is_ok().then_some(message.len())
    }
}

#[cfg(test)]
thread_local! {
    /// How many times attributes were encoded to see whether they fit.
    pub(super) static ENCODED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Attributes of more bytes may not fit into a message of 4,096 bytes; next to none are that long.
const CLOSE: usize = 3072;

/// About what a message with one prefix takes beside [`len_without_fixed`].
const FIXED: usize = 128;

/// The bytes of what attributes have any number of; cheap.
fn len_without_fixed(attributes: &PathAttributes) -> usize {
    let unknown = attributes
        .unknown
        .iter()
        .map(|unknown| unknown.value.len() + 4);
    // To a peer with 2-octet AS numbers a path is sent twice, as AS_PATH and AS4_PATH: six bytes for
    // each AS number, and two heads for each segment.
    6 * attributes.as_path.asns().count()
        + 4 * attributes.as_path.segments.len()
        + 4 * attributes.communities.len()
        + 8 * attributes.extended_communities.len()
        + 12 * attributes.large_communities.len()
        + 4 * attributes.cluster_list.len()
        + unknown.sum::<usize>()
}

/// Whether a path is an aggregate that one group of peers is sent, and nobody learns.
pub(super) fn is_sent_only(sessions: &Sessions, path: &Path) -> bool {
    !path.is_local() && !Audience::EVERYBODY.is_of(path) && sessions[path.session].is_shadow
}

/// Few sessions, sorted.
pub(super) type SessionSet = SmallVec<[SessionIndex; 4]>;

/// The sessions that share a view, found by what excludes them from a path.
#[derive(Clone, Default)]
pub(super) struct Members {
    all: Vec<SessionIndex>,
    by_identity: FxHashMap<u32, SessionSet>,
    by_address: FxHashMap<IpAddr, SessionSet>,
}

impl Members {
    pub(super) fn new(sessions: &Sessions, members: &[SessionIndex]) -> Self {
        let mut this = Self::default();
        for &member in members {
            this.insert(sessions, member);
        }
        this
    }

    pub(super) fn insert(&mut self, sessions: &Sessions, member: SessionIndex) {
        let info = sessions.info(member);
        self.all.push(member);
        self.by_identity
            .entry(info.identity)
            .or_default()
            .push(member);
        self.by_address
            .entry(info.id.peer)
            .or_default()
            .push(member);
    }

    /// Takes a member out; `false`: it was none.
    pub(super) fn remove(&mut self, sessions: &Sessions, member: SessionIndex) -> bool {
        let Some(place) = self.all.iter().position(|other| *other == member) else {
            return false;
        };
        self.all.swap_remove(place);
        let info = sessions.info(member);
        forget(&mut self.by_identity, info.identity, member);
        forget(&mut self.by_address, info.id.peer, member);
        true
    }

    pub(super) fn all(&self) -> &[SessionIndex] {
        &self.all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The members that may not be sent one of these paths, each with the next hop that it is sent
    /// with.
    pub(super) fn excluded<'p>(
        &self,
        sessions: &Sessions,
        paths: impl Iterator<Item = (&'p Path, Option<IpAddr>)>,
    ) -> SessionSet {
        let mut excluded = SessionSet::new();
        for (path, next_hop) in paths {
            let identity = (!path.is_local() && !planted!(BackToThePeerItCameFrom))
                .then(|| sessions.info(path.session).identity);
            let same = identity.and_then(|identity| self.by_identity.get(&identity));
            let next_hop = next_hop.filter(|_| !planted!(ToTheNextHopItNames));
            let named = next_hop.and_then(|address| self.by_address.get(&address));
            excluded.extend(same.into_iter().chain(named).flatten().copied());
        }
        excluded.sort_unstable();
        excluded.dedup();
        excluded
    }
}

fn forget<K: std::hash::Hash + Eq>(
    map: &mut FxHashMap<K, SessionSet>,
    key: K,
    member: SessionIndex,
) {
    if let hash_map::Entry::Occupied(mut entry) = map.entry(key) {
        entry.get_mut().retain(|other| *other != member);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}
