//! What the API answers, and what `waypost show … --json` prints. Field names are stable.

mod daemon;
mod explanation;
mod forwarding;
mod plan;
#[cfg(test)]
mod reference;
mod routes;
mod sessions;

pub use daemon::{Failure, ReloadReport, RouteServerStatus, Status};
pub use explanation::{ExplainQuery, Explanation, FlowChoice, RefusedRoute};
pub use forwarding::{
    Counters, FibGroup, FibNextHop, FibPort, FibRoute, FibView, NextHopCounterRow, PortCounterRow,
};
pub use plan::{
    Plan, PlannedAdvertised, PlannedEffective, PlannedForwarding, PlannedLearned, PlannedPlace,
    PlannedPort, PlannedRoute, PlannedSession, PlannedWay,
};
pub use routes::{AdvertisedRow, EffectiveRow, LearnedRow, ReceivedRow};
pub use sessions::{
    PeerDetail, PeerOrderRow, PeerRow, SessionTerms, SessionTimers, Stale, StaleRoutes,
};
