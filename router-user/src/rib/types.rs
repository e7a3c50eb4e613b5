//! The types in which the RIB tells others what it decided.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{path::ZoneSet, view::SourceKinds};
use crate::bgp::{
    SessionId,
    wire::{PathAttributes, community},
};

/// One of the ways to see what is learned: which sources and which next hops count. Each has routes of
/// its own. A number is never used a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LearnedViewId(pub u32);

/// What counts in a learned view. Sources and reach of a view stay what they were when it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedView {
    /// From which kinds of source.
    pub sources: SourceKinds,
    /// Who takes it: their communities may keep paths out of it.
    pub towards: Towards,
    /// In which zones next hops can be reached. A path whose next hop lies elsewhere is as one whose
    /// next hop leads nowhere.
    pub reach: ZoneSet,
    /// Nobody forwards by it: only which default routes there are and which prefixes cannot be
    /// resolved is told.
    pub marks_only: bool,
}

/// Who takes a learned view. Who forwards for a peer takes nothing that its communities keep from the
/// peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Towards {
    /// Subnets: no community keeps a path from them.
    #[default]
    Subnets,
    /// An iBGP peer's port: nothing with NO_ADVERTISE.
    Internal,
    /// An eBGP peer's port: nothing with NO_ADVERTISE, NO_EXPORT or NO_EXPORT_SUBCONFED either.
    External,
}

impl Towards {
    /// Whether its communities keep a path with these attributes away.
    pub(super) fn keeps_out(self, attributes: &PathAttributes) -> bool {
        let has = |community| attributes.has_community(community);
        match self {
            Self::Subnets => false,
            Self::Internal => has(community::NO_ADVERTISE),
            Self::External => {
                has(community::NO_ADVERTISE)
                    || has(community::NO_EXPORT)
                    || has(community::NO_EXPORT_SUBCONFED)
            }
        }
    }
}

/// The ECMP set of one prefix changed, in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedChange {
    /// The view.
    pub view: LearnedViewId,
    /// The prefix.
    pub prefix: IpNet,
    /// The new set; `None`: no path is left.
    pub route: Option<LearnedRoute>,
}

/// What a subnet needs to know of a learned prefix: where packets go.
///
/// Without members the prefix is learned, but no next hop of it can be resolved (for instance an
/// NVA in a network that is not peered): its next hop is "none", and packets to it are dropped
/// instead of taking a shorter prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedRoute {
    /// The ECMP set, one member a next hop, sorted by address. Empty: next hop "none".
    pub members: Arc<[LearnedNextHop]>,
    /// The best paths without the members' next hops: used while no member is alive. May be empty.
    pub backups: Arc<[LearnedNextHop]>,
    /// Without members because the best path carries BLACKHOLE (RFC 7999): packets are dropped, and
    /// counted as such.
    pub blackhole: bool,
}

/// A next hop of an ECMP set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LearnedNextHop {
    /// The route's BGP NEXT_HOP, unchanged.
    pub address: IpAddr,
    /// Share of the flows; 1 unless communities or a route map say otherwise.
    pub weight: u32,
}

/// A path as people see it: one candidate for a prefix.
#[derive(Clone, Debug)]
pub struct PathView {
    /// The session that it came from.
    pub session: SessionId,
    /// Path identifier.
    pub path_id: u32,
    /// Its attributes as received, before import.
    pub received: Arc<PathAttributes>,
    /// Its attributes after import.
    pub attributes: Arc<PathAttributes>,
    /// Kept though its session was lost, and not announced again yet.
    pub stale: bool,
    /// It was not announced: it stands in the place of paths of the session that a route map takes out.
    pub aggregate: bool,
    /// What the decision process made of it.
    pub verdict: Verdict,
}

/// A prefix as people see it.
#[derive(Clone, Debug)]
pub struct PrefixView {
    /// The prefix.
    pub prefix: IpNet,
    /// It is one of the networks' own, which the route server originates: no learned path of it is
    /// advertised.
    pub originated: bool,
    /// Its learned paths.
    pub paths: Vec<PathView>,
}

/// A route that a session has been sent.
#[derive(Clone, Debug)]
pub struct AdvertisedView {
    /// The prefix.
    pub prefix: IpNet,
    /// Path identifier as sent, with ADD-PATH.
    pub path_id: Option<u32>,
    /// Its attributes as sent.
    pub attributes: PathAttributes,
    /// Where the path was learned; `None`: originated here.
    pub from: Option<SessionId>,
}

/// What the decision process made of a path for the subnets that take the view. Where the route server originates
/// the prefix itself, a path can be `Best` and nevertheless not be advertised
/// ([`PrefixView::originated`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The single best path: advertised, and a member of the ECMP set.
    Best,
    /// A member of the ECMP set.
    Multipath,
    /// Lost to the best path in this step.
    Lost(Step),
    /// Equal to the best, but the ECMP set is full or has this next hop already.
    NotNeeded(&'static str),
    /// Eligible, but outside the view that was asked for.
    Excluded(Exclusion),
    /// Not eligible: looped, bad next hop, over the limit …; why.
    Rejected(Arc<str>),
}

/// What of a path lies outside a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Its source is none of the view's.
    Source,
    /// Its communities keep it from who takes the view.
    Community,
    /// Its next hop lies in none of the view's zones.
    Reach,
}

/// Steps of the decision process, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// 0: originated here wins.
    Originated,
    /// 1: LLGR-stale loses.
    LlgrStale,
    /// 2: GRACEFUL_SHUTDOWN loses.
    GracefulShutdown,
    /// 3: class by `routing_preference`.
    Class,
    /// 4: highest LOCAL_PREF.
    LocalPref,
    /// 5: shortest AS path.
    AsPathLength,
    /// 6: lowest origin.
    Origin,
    /// 7: lowest MED within each neighbour AS.
    Med,
    /// 8: eBGP over iBGP.
    EbgpOverIbgp,
}
