//! Adj-RIB-In before policy: `show received`.

use std::net::Ipv6Addr;

use super::{Filter, Page, RouteServer, rows, sort_received, text};
use crate::{
    api::types::ReceivedRow,
    bgp::wire::{Family, NextHop, PathAttributes},
    rib::{PathView, PrefixView},
};

impl RouteServer {
    /// A row for each path as its peer announced it, taken or not, by prefix, then peer, instance
    /// and path identifier.
    #[must_use]
    pub fn received_rows(&self, filter: &Filter) -> Vec<ReceivedRow> {
        let mut rows = Page::all(|from| self.received_page(filter, from));
        sort_received(&mut rows);
        rows
    }

    pub(super) fn received_row(&self, prefix: &PrefixView, path: &PathView) -> ReceivedRow {
        let PathView {
            session,
            path_id,
            received,
            ..
        } = path;
        let PathAttributes {
            origin,
            as_path,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            originator_id,
            only_to_customer,
            unknown,
            ..
        } = &**received;
        let up = self.sessions[session].up.as_ref();
        let sends_ids = up.is_some_and(|up| {
            let families = &up.negotiated.add_path_receive;
            families.contains(&Family::of(&prefix.prefix))
        });
        ReceivedRow {
            route_server: session.route_server.clone(),
            prefix: prefix.prefix,
            peer: self.sessions[session].peer.name.clone(),
            instance: session.instance.0,
            path_id: sends_ids.then_some(*path_id),
            next_hop: rows::next_hop(received),
            link_local: link_local(received),
            as_path: as_path.to_string(),
            origin: text::origin(*origin).to_owned(),
            med: *med,
            local_pref: *local_pref,
            atomic_aggregate: *atomic_aggregate,
            aggregator: aggregator.map(text::aggregator),
            communities: text::communities(received),
            originator_id: *originator_id,
            cluster_list: text::clusters(received),
            only_to_customer: *only_to_customer,
            unknown: unknown.iter().map(text::unknown).collect(),
        }
    }
}

fn link_local(attributes: &PathAttributes) -> Option<Ipv6Addr> {
    match attributes.next_hop? {
        NextHop::V6 { link_local, .. } => link_local,
        NextHop::V4(_) => None,
    }
}
