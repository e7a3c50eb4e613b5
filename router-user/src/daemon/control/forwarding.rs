//! What the data plane has: its maps and counters.

use std::collections::HashSet;

use super::{Control, one_of};
use crate::api::{
    Answer, ApiError,
    query::{CounterFilter, FibFilter},
    types::{Counters, FibView},
};

impl Control {
    /// `show fib`.
    pub(super) async fn fib_view(&self, filter: FibFilter) -> Answer<FibView> {
        let mut view = self.running().dataplane.view().await.map_err(unavailable)?;
        if filter != FibFilter::default() {
            view.routes.retain(|route| filter.takes(route));
            let groups: HashSet<_> = view.routes.iter().map(|route| route.group).collect();
            view.groups.retain(|group| groups.contains(&group.number));
            let names: HashSet<_> = view
                .groups
                .iter()
                .flat_map(|group| group.shares.keys())
                .collect();
            view.next_hops
                .retain(|next_hop| names.contains(&next_hop.name));
        }
        Ok(view)
    }

    /// `show counters`.
    pub(super) async fn counter_rows(&self, filter: CounterFilter) -> Answer<Counters> {
        let mut counters = self
            .running()
            .dataplane
            .counters()
            .await
            .map_err(unavailable)?;
        let Some(interface) = filter.interface else {
            return Ok(counters);
        };
        let known = one_of(counters.ports.iter().map(|port| &port.interface));
        counters
            .ports
            .retain(|port| port.interface.as_str() == interface);
        counters.next_hops.clear();
        if counters.ports.is_empty() {
            return Err(ApiError::not_found(
                format!("there is no port \"{interface}\""),
                known,
            ));
        }
        Ok(counters)
    }
}

pub(super) fn unavailable(error: anyhow::Error) -> ApiError {
    ApiError::unavailable(format!("the data plane: {error:#}"), "see the daemon's log")
}
