//! The event log.

use super::{Control, split};
use crate::{
    api::{Answer, ApiError, query::EventFilter},
    events::{Filter, Reader},
};

impl Control {
    /// The lines that a filter takes.
    pub(super) fn event_lines(&self, wanted: &EventFilter) -> Answer<Reader> {
        let filter = read(wanted)?;
        let reader = self.events.read(filter, wanted.follow).map_err(|error| {
            ApiError::unavailable(
                format!("the event log cannot be read: {error}"),
                "see the daemon's log",
            )
        })?;
        reader.ok_or_else(|| {
            ApiError::unavailable(
                "no events are kept",
                "see event_log in [daemon], and the daemon's log",
            )
        })
    }
}

fn read(wanted: &EventFilter) -> Answer<Filter> {
    let since = wanted.since.as_deref().map(|text| {
        text.parse().map_err(|_| {
            ApiError::invalid(
                format!("since = {text} is no time"),
                "write it as in RFC 3339: 2026-01-31T09:30:00Z",
            )
        })
    });
    let kinds = Filter::kinds(wanted.kind.as_deref().unwrap_or_default()).map_err(|error| {
        let error = error.to_string();
        let (what, remedy) = split(&error);
        ApiError::invalid(what, remedy)
    })?;
    Ok(Filter {
        since: since.transpose()?,
        kinds,
        route_server: wanted.route_server.clone(),
        peer: wanted.peer.clone(),
    })
}
