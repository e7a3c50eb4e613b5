//! What the API answers, and what `waypost show … --json` prints. Field names are stable.

mod daemon;
mod explanation;
mod forwarding;
#[cfg(test)]
mod reference;
mod routes;
mod sessions;

pub use daemon::{Failure, ReloadReport, RouteServerStatus, Status};
pub use explanation::{ExplainQuery, Explanation, FlowChoice};
pub use forwarding::{
    Counters, FibGroup, FibNextHop, FibPort, FibRoute, FibView, NextHopCounterRow, PortCounterRow,
};
pub use routes::{AdvertisedRow, EffectiveRow, LearnedRow, ReceivedRow};
pub use sessions::{
    PeerDetail, PeerOrderRow, PeerRow, SessionTerms, SessionTimers, Stale, StaleRoutes,
};
