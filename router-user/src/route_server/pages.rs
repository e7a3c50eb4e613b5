//! What people are shown of a large table, a page at a time: who asks for all of it does not keep the
//! route server from its work.
//!
//! In: a filter, and where to go on. Out: rows, made only of what the filter takes, and where the next
//! page begins.

use std::{ops::ControlFlow, time::Instant};

use super::{Filter, LearnedUse, RouteServer};
use crate::{
    api::types::{AdvertisedRow, LearnedRow, ReceivedRow},
    bgp::SessionId,
    rib::{AdvertisedView, LearnedView, Place, PrefixView},
};

/// Most prefixes, and about as many rows, of a page: a few milliseconds.
const AT_ONCE: usize = 1000;

/// Rows of a part of the table.
#[derive(Debug)]
pub struct Page<R> {
    /// In no order.
    pub rows: Vec<R>,
    /// Where the next page begins.
    pub next: Option<Place>,
}

impl<R> Page<R> {
    /// The rows of all pages, in no order.
    pub(super) fn all(page: impl Fn(Place) -> Self) -> Vec<R> {
        let Self { mut rows, mut next } = page(Place::FIRST);
        while let Some(place) = next {
            let mut more = page(place);
            rows.append(&mut more.rows);
            next = more.next;
        }
        rows
    }
}

impl RouteServer {
    /// A row for each learned path, as all see it or as one user does ([`learned_rows_for`]).
    ///
    /// [`learned_rows_for`]: Self::learned_rows_for
    #[must_use]
    pub fn learned_page(
        &self,
        of: Option<&LearnedUse>,
        filter: &Filter,
        from: Place,
        now: Instant,
    ) -> Page<LearnedRow> {
        let view = of.map(|of| self.sight(of).as_learned(false));
        self.page(filter, view.as_ref(), from, |prefix, rows| {
            let paths = prefix.paths.iter();
            let paths = paths.filter(|path| self.matches(filter, &path.session));
            rows.extend(paths.map(|path| self.learned_row(prefix, path, of, now)));
        })
    }

    /// A row for each path as its peer announced it, taken or not.
    #[must_use]
    pub fn received_page(&self, filter: &Filter, from: Place) -> Page<ReceivedRow> {
        self.page(filter, None, from, |prefix, rows| {
            // Static routes and aggregates were not received.
            let received = prefix.paths.iter().filter(|path| !path.aggregate);
            let received = received.filter(|path| self.sessions.contains_key(&path.session));
            let wanted = received.filter(|path| self.matches(filter, &path.session));
            rows.extend(wanted.map(|path| self.received_row(prefix, path)));
        })
    }

    /// The sessions that may have been sent what a filter wants.
    #[must_use]
    pub fn sent_to(&self, filter: &Filter) -> Vec<SessionId> {
        let up = self.sessions.iter().filter(|(_, it)| it.up.is_some());
        let wanted = up.filter(|(id, _)| self.matches(filter, id));
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// A row for each route that one session has been sent.
    #[must_use]
    pub fn advertised_page(
        &mut self,
        id: &SessionId,
        filter: &Filter,
        from: Place,
    ) -> Page<AdvertisedRow> {
        self.rib.flush();
        self.sent_page(id, filter, from)
    }

    /// The same as of the last flush.
    pub(super) fn sent_page(
        &self,
        id: &SessionId,
        filter: &Filter,
        from: Place,
    ) -> Page<AdvertisedRow> {
        let mut rows = Vec::new();
        let session = self.sessions.get(id);
        let Some(up) = session.and_then(|session| session.up.as_ref()) else {
            return Page { rows, next: None };
        };
        let row = |route: &AdvertisedView| self.advertised_row(id, route);
        if let Some(prefix) = filter.prefix.filter(|_| !filter.longer) {
            let sent = self.rib.advertised(up.index, Some(prefix));
            rows.extend(sent.map(|route| row(&route)));
            return Page { rows, next: None };
        }
        let mut shown = 0;
        let next = self
            .rib
            .walk_advertised(up.index, from, filter.prefix, |sent| {
                rows.extend(sent.iter().map(row));
                shown += 1;
                enough(rows.len().max(shown))
            });
        Page { rows, next }
    }

    fn page<R>(
        &self,
        filter: &Filter,
        view: Option<&LearnedView>,
        from: Place,
        make: impl Fn(&PrefixView, &mut Vec<R>),
    ) -> Page<R> {
        let mut rows = Vec::new();
        if let Some(prefix) = filter.prefix.filter(|_| !filter.longer) {
            let found = self.rib.prefixes(Some(prefix), view);
            found.for_each(|prefix| make(&prefix, &mut rows));
            return Page { rows, next: None };
        }
        let mut shown = 0;
        let next = self.rib.walk(from, filter.prefix, view, |prefix| {
            make(&prefix, &mut rows);
            shown += 1;
            enough(rows.len().max(shown))
        });
        Page { rows, next }
    }
}

/// Whether a page that has come so far is long enough.
const fn enough(count: usize) -> ControlFlow<()> {
    match count < AT_ONCE {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

/// What one session was sent by prefix, paths of one in the order in which they stand, each once.
pub fn sort_advertised(rows: &mut Vec<AdvertisedRow>) {
    rows.sort_by_key(|row| row.prefix);
    rows.dedup();
}

/// Learned rows by prefix, then instance, peer and path identifier, each once.
pub fn sort_learned(rows: &mut Vec<LearnedRow>) {
    rows.sort_by(|a, b| {
        let key = |row: &LearnedRow| (row.prefix, row.instance);
        let by_peer = || a.peer.cmp(&b.peer).then(a.path_id.cmp(&b.path_id));
        key(a).cmp(&key(b)).then_with(by_peer)
    });
    rows.dedup();
}

/// Received rows by prefix, then peer, instance and path identifier, each once.
pub fn sort_received(rows: &mut Vec<ReceivedRow>) {
    rows.sort_by(|a, b| {
        let key = |row: &ReceivedRow| (row.instance, row.path_id);
        let by_peer = a.prefix.cmp(&b.prefix).then_with(|| a.peer.cmp(&b.peer));
        by_peer.then_with(|| key(a).cmp(&key(b)))
    });
    rows.dedup();
}
