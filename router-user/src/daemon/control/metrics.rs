//! What Prometheus is told: asked of the owners at that moment.

use std::time::Instant;

use super::{Control, forwarding::unavailable};
use crate::{
    api::{
        Answer, ApiError,
        metrics::{RibTotals, Snapshot, text},
    },
    daemon::supervisor::Running,
    route_server::Filter,
};

impl Control {
    /// The text.
    pub(super) async fn metrics_text(&self) -> Answer<String> {
        let Running {
            core,
            servers,
            dataplane,
            ..
        } = self.running();
        let status = self.status_now().await?;
        let mut sessions = Vec::new();
        let mut ribs = Vec::new();
        for (name, server) in servers {
            let asked = server.ask(|server| {
                let server = &server.route_server;
                let details = server.peer_details(&Filter::default(), Instant::now());
                (details, server.prefix_count())
            });
            let (details, prefixes) = asked.await?;
            let of = name.clone();
            ribs.push(RibTotals {
                route_server: name,
                prefixes,
                paths: details.iter().map(|detail| detail.session.received).sum(),
                views: core.ask(move |core| core.routes.views(&of)).await?,
            });
            sessions.extend(details);
        }
        let snapshot = Snapshot {
            status,
            sessions,
            ribs,
            fib: core.ask(|core| core.fib.totals()).await?,
            counters: dataplane.counters().await.map_err(unavailable)?,
            events_lost: self.events.lost(),
        };
        text(&snapshot).map_err(|_| {
            ApiError::unavailable("the metrics cannot be written", "see the daemon's log")
        })
    }
}
