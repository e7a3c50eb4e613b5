//! What a session may be sent, and in which form; sessions with equal views share the work.

use std::{cell::RefCell, collections::hash_map, net::IpAddr, sync::Arc};

use bytes::BytesMut;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{
    Export,
    decision::{Choice, DEFAULT_LOCAL_PREF, Decision, DecisionOptions, Ranking},
    path::{Path, SessionIndex, SessionInfo, Sessions, SourceKind},
};
use crate::bgp::wire::{
    Asn, Context, Family, NextHop, Nlri, PathAttributes, Peering, community, encode_announce,
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
    /// Speaks long-lived graceful restart: may be sent paths with LLGR_STALE (RFC 9494 §4.3).
    pub long_lived: bool,
    /// What the operator wants done with routes to the peer (eBGP).
    pub export: Export,
    /// Next hop of originated IPv4 routes; without one they are not advertised.
    pub next_hop_v4: Option<NextHop>,
    /// Next hop of originated IPv6 routes; without one they are not advertised.
    pub next_hop_v6: Option<NextHop>,
}

/// A set of [`SourceKind`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
    /// The attributes as sent.
    pub(super) fn outbound(&self, family: Family, attributes: &PathAttributes) -> PathAttributes {
        let mut sent = attributes.clone();
        // A link-local address means nothing beyond the link of its sender (RFC 2545 §3).
        let next_hop = sent.next_hop.map(|next_hop| next_hop.address().into());
        sent.next_hop = next_hop.or(self.own_next_hop(family));
        match self.context.peering {
            Peering::External => {
                let originated = attributes.next_hop.is_none();
                self.export.apply(self.asn, originated, &mut sent);
                sent.local_pref = None;
                sent.originator_id = None;
                sent.cluster_list = Vec::new();
            }
            // RFC 9494 §4.6: it does not know LLGR_STALE, but these two.
            Peering::Internal if !self.long_lived && sent.has_community(community::LLGR_STALE) => {
                sent.add_community(community::NO_EXPORT);
                sent.local_pref = Some(0);
            }
            Peering::Internal => {
                sent.local_pref = sent.local_pref.or(Some(DEFAULT_LOCAL_PREF));
            }
        }
        sent
    }

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
    /// [`FamilyView::message_len`] of attributes so long that they had to be encoded to know, by the
    /// address of the interned attributes.
    long: RefCell<FxHashMap<*const PathAttributes, Option<usize>>>,
}

impl<'v> FamilyView<'v> {
    pub(super) fn new(view: &'v View, family: Family) -> Self {
        Self {
            view,
            family,
            options: None,
            long: RefCell::default(),
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
    /// wins over all, also where it cannot be expressed: then nothing is advertised.
    pub(super) fn choose<'p>(
        &self,
        decision: &Decision<'_>,
        paths: &'p [Path],
        member: Option<&SessionInfo>,
    ) -> Choice<'p> {
        let decision = self.decision(decision);
        let mut choice = decision.best(paths, |path| {
            !self.view.export.closed && path.is_local()
                || self.may_carry(decision.sessions, path)
                    && member.is_none_or(|member| may_go_to(decision.sessions, path, member))
        });
        let inexpressible = self.view.own_next_hop(self.family).is_none();
        choice.path.take_if(|best| best.is_local() && inexpressible);
        choice
    }

    /// With ADD-PATH, the paths that are advertised: the best of those that may be sent, best first
    /// (RFC 7911 §3), as many as the view allows. Where the route server originates the prefix, its
    /// own path alone, as in [`FamilyView::choose`].
    pub(super) fn choose_several<'p>(
        &self,
        decision: &Decision<'_>,
        paths: &'p [Path],
        member: Option<&SessionInfo>,
    ) -> Ranking<'p> {
        if paths.iter().any(Path::is_local) {
            let choice = self.choose(decision, paths, member);
            return Ranking {
                paths: choice.path.into_iter().collect(),
                hinges_on_losers: choice.hinges_on_losers,
            };
        }
        let decision = self.decision(decision);
        let may_be_sent = |path: &Path| {
            self.may_carry(decision.sessions, path)
                && member.is_none_or(|member| may_go_to(decision.sessions, path, member))
        };
        decision.ranked(paths, may_be_sent, self.view.max_paths.max(1).into())
    }

    /// Whether several paths of a prefix are sent, with path identifiers (RFC 7911).
    pub(super) fn sends_several(&self) -> bool {
        self.view.context.add_path_send.contains(self.family)
    }

    /// Whether a learned path may be sent to this group at all.
    fn may_carry(&self, sessions: &Sessions, path: &Path) -> bool {
        let View {
            context,
            sources,
            long_lived,
            export,
            ..
        } = self.view;
        let has = |community| path.attributes.has_community(community);
        let external = context.peering == Peering::External;
        let expressible = match (self.family, path.attributes.next_hop) {
            (Family::Ipv4Unicast, Some(NextHop::V6 { .. })) => context.extended_next_hop,
            (_, next_hop) => next_hop.is_some(),
        };
        path.is_eligible()
            && expressible
            && !export.closed
            && export.permits(&path.attributes)
            && sources.contains(sessions.info(path.session).kind)
            && !has(community::NO_ADVERTISE)
            && !(external && !long_lived && has(community::LLGR_STALE))
            && !(external && (has(community::NO_EXPORT) || has(community::NO_EXPORT_SUBCONFED)))
            && self.message_len(&path.attributes).is_some()
    }

    /// About how long a message with these attributes and one prefix is; `None`: longer than a
    /// message may be, so they cannot be sent (RFC 4271 §9.2).
    pub(super) fn message_len(&self, attributes: &Arc<PathAttributes>) -> Option<usize> {
        let key = Arc::as_ptr(attributes);
        if let Some(len) = self.long.borrow().get(&key) {
            return *len;
        }
        let about = len_without_fixed(attributes);
        if about <= CLOSE {
            return Some(about + FIXED);
        }
        let len = self.encoded_len(attributes);
        self.long.borrow_mut().insert(key, len);
        len
    }

    /// How many bytes a prefix takes in a message (RFC 4271 §4.3, RFC 7911 §3).
    pub(super) fn nlri_len(&self, nlri: &Nlri) -> usize {
        let path_id = if self.sends_several() { 4 } else { 0 };
        path_id + 1 + usize::from(nlri.prefix.prefix_len().div_ceil(8))
    }

    fn encoded_len(&self, attributes: &PathAttributes) -> Option<usize> {
        #[cfg(test)]
        ENCODED.set(ENCODED.get() + 1);
        let longest = match self.family {
            Family::Ipv4Unicast => IpNet::from(IpAddr::from([0; 4])),
            Family::Ipv6Unicast => IpNet::from(IpAddr::from([0; 16])),
        };
        let sent = self.view.outbound(self.family, attributes);
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

/// Whether a learned path may be sent to this one session: not to whom it came from, and not to
/// the address that it names as next hop.
fn may_go_to(sessions: &Sessions, path: &Path, member: &SessionInfo) -> bool {
    sessions.info(path.session).identity != member.identity
        && path.next_hop() != Some(member.id.peer)
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

/// Few sessions, sorted.
pub(super) type SessionSet = SmallVec<[SessionIndex; 4]>;

/// The sessions that share a view, found by what excludes them from a path.
#[derive(Default)]
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

    /// The members that may not be sent one of these paths.
    pub(super) fn excluded<'p>(
        &self,
        sessions: &Sessions,
        paths: impl Iterator<Item = &'p Path>,
    ) -> SessionSet {
        let mut excluded = SessionSet::new();
        for path in paths.filter(|path| !path.is_local()) {
            let identity = sessions.info(path.session).identity;
            let same = self.by_identity.get(&identity);
            let named = path
                .next_hop()
                .and_then(|address| self.by_address.get(&address));
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
