//! Who uses what a route server learns, and how that is handed to them.
//!
//! Subnets and gateways' ports differ in what they take of it: by the propagation of their route
//! table, by what is advertised to their gateway, by the networks in which they can reach next hops.
//! `vnet` names each distinct such [`LearnedUse`]; the route server groups uses that come to the same
//! into learned views, hands out the changes of each view, and says which use takes which
//! ([`Report`]). Memory and work grow with views, not with users.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use crate::{
    config::{PeerKind, Propagate},
    names::{GatewayName, VnetName},
    rib::{LearnedChange, LearnedViewId},
};

/// What a user takes of what is learned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LearnedUse {
    /// From which kinds of peer routes reach it.
    pub propagate: Propagate,
    /// It is a port of a gateway of this kind: it takes what is advertised to that gateway.
    pub gateway: Option<PeerKind>,
    /// The networks in which it can reach next hops.
    pub reach: BTreeSet<VnetName>,
    /// A port's packets take it. If not, only what other routes depend on is told: default routes and
    /// prefixes without a next hop.
    pub forwarding: bool,
}

/// What the networks have to know of a learned view before its first route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewPlan {
    /// Tells the view from the others of the route server that exist; part of its table's name.
    /// Empty: all sources, and next hops in the route server's own network only.
    pub label: Arc<str>,
    /// Every route is told. If not, only what other routes depend on is, and no other route stands.
    pub forwarding: bool,
}

/// What a route server tells the networks; in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// Before the first route of a view, and whenever the plan is another one. If the view comes to
    /// tell every route by that, all that stand follow; what was told before and is gone meanwhile is
    /// told as gone.
    View(LearnedViewId, ViewPlan),
    /// Routes of views changed.
    Changes(Vec<LearnedChange>),
    /// All routes of a view that stand have been told; this use takes it from now on.
    Assign(LearnedUse, LearnedViewId),
    /// No use takes this view any more: its routes are to go.
    Drop(LearnedViewId),
    /// Who belongs to a gateway that has a range: those whose session is up.
    Members(GatewayName, BTreeSet<IpAddr>),
}
