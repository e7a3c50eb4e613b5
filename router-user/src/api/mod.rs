//! The surface for people and programs: JSON over HTTP on a Unix socket.
//!
//! In: requests. Out: [`types`], filled by the stages through `daemon`, which implements
//! [`Backend`]. No logic of a stage lives here.
//!
//! - [`types`]: what is answered; field names are stable.
//! - [`query`]: what may be asked.
//! - [`metrics`]: what Prometheus reads.
//! - [`server`]: the socket and its routes; [`client`]: the other end, for the command line.

use std::future::Future;

use crate::events::Reader;

pub mod client;
pub mod metrics;
pub mod query;
pub mod server;
pub mod types;

use query::{
    CounterFilter, EffectiveFilter, EventFilter, FibFilter, InstanceOrder, PeerOrder, PlanOrder,
    RouteFilter, StopOrder,
};
use types::{
    AdvertisedRow, Counters, EffectiveRow, ExplainQuery, Explanation, FibView, LearnedRow,
    PeerDetail, PeerOrderRow, PeerRow, Plan, ReceivedRow, ReloadReport, Status,
};

/// What the daemon does for those who ask.
pub trait Backend: Clone + Send + Sync + 'static {
    /// `GET /v1/status`.
    fn status(&self) -> impl Future<Output = Answer<Status>> + Send;
    /// `GET /v1/peers`.
    fn peers(&self, filter: RouteFilter) -> impl Future<Output = Answer<Vec<PeerRow>>> + Send;
    /// `GET /v1/peer`: all about the sessions of one peer.
    fn peer(&self, filter: RouteFilter) -> impl Future<Output = Answer<Vec<PeerDetail>>> + Send;
    /// `POST /v1/peer`.
    fn command_peer(
        &self,
        order: PeerOrder,
    ) -> impl Future<Output = Answer<Vec<PeerOrderRow>>> + Send;
    /// `GET /v1/received`.
    fn received(
        &self,
        filter: RouteFilter,
    ) -> impl Future<Output = Answer<Vec<ReceivedRow>>> + Send;
    /// `GET /v1/learned`.
    fn learned(&self, filter: RouteFilter) -> impl Future<Output = Answer<Vec<LearnedRow>>> + Send;
    /// `GET /v1/advertised`.
    fn advertised(
        &self,
        filter: RouteFilter,
    ) -> impl Future<Output = Answer<Vec<AdvertisedRow>>> + Send;
    /// `GET /v1/effective`.
    fn effective(
        &self,
        filter: EffectiveFilter,
    ) -> impl Future<Output = Answer<Vec<EffectiveRow>>> + Send;
    /// `GET /v1/fib`.
    fn fib(&self, filter: FibFilter) -> impl Future<Output = Answer<FibView>> + Send;
    /// `GET /v1/counters`.
    fn counters(&self, filter: CounterFilter) -> impl Future<Output = Answer<Counters>> + Send;
    /// `GET /v1/events`: the lines of the event log.
    fn events(&self, filter: EventFilter) -> impl Future<Output = Answer<Reader>> + Send;
    /// `GET /metrics`: text as Prometheus reads it.
    fn metrics(&self) -> impl Future<Output = Answer<String>> + Send;
    /// `POST /v1/explain`.
    fn explain(&self, query: ExplainQuery) -> impl Future<Output = Answer<Explanation>> + Send;
    /// `POST /v1/reload`.
    fn reload(&self) -> impl Future<Output = Answer<ReloadReport>> + Send;
    /// `POST /v1/plan`: what a configuration would change; nothing is applied.
    fn plan(&self, order: PlanOrder) -> impl Future<Output = Answer<Plan>> + Send;
    /// `POST /v1/instance/stop`.
    fn stop_instance(&self, order: InstanceOrder) -> impl Future<Output = Answer<()>> + Send;
    /// `POST /v1/instance/start`.
    fn start_instance(&self, order: InstanceOrder) -> impl Future<Output = Answer<()>> + Send;
    /// `POST /v1/stop`: answers once the daemon has begun to stop.
    fn stop(&self, order: StopOrder) -> impl Future<Output = Answer<()>> + Send;
}

/// An answer, or why there is none.
pub type Answer<T> = Result<T, ApiError>;

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}; {remedy}")]
pub struct ApiError {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

/// Kinds of [`ApiError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request names something that does not exist.
    NotFound,
    /// The request cannot be understood, or what it asks for is not valid.
    Invalid,
    /// The daemon cannot answer.
    Unavailable,
}

impl ApiError {
    /// The request names something that does not exist.
    pub fn not_found(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, error, remedy)
    }

    /// The request cannot be understood, or what it asks for is not valid.
    pub fn invalid(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, error, remedy)
    }

    /// The daemon cannot answer.
    pub fn unavailable(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, error, remedy)
    }

    fn new(kind: ErrorKind, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
            remedy: remedy.into(),
        }
    }
}
