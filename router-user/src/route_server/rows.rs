//! The route server as people see it: `show peers`, `show learned`, `show advertised`.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use ipnet::IpNet;

use super::{
    LearnedUse, Page, RouteServer, Session, custom, kind, restart::Keeping, sort_advertised,
    sort_learned, text, warnings::Others,
};
use crate::{
    api::types::{AdvertisedRow, LearnedRow, PeerRow, Stale, StaleRoutes},
    bgp::{
        InstanceId, SessionId, SessionStatus, State,
        wire::{Family, NextHop, PathAttributes},
    },
    names::PeerName,
    rib::{AdvertisedView, Exclusion, PathView, PrefixView, Rib, SessionIndex, Step, Verdict},
};

/// Which rows are wanted; everything by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// From or to this peer.
    pub peer: Option<PeerName>,
    /// From or to this instance.
    pub instance: Option<InstanceId>,
    /// This very prefix, host bits zero.
    pub prefix: Option<IpNet>,
    /// The prefixes inside `prefix` as well.
    pub longer: bool,
}

impl RouteServer {
    /// A row for each configured session, by instance and peer address.
    #[must_use]
    pub fn peer_rows(&self, now: Instant) -> Vec<PeerRow> {
        self.peer_rows_of(&Filter::default(), now)
    }

    /// A row for each configured session that a filter takes, by instance and peer address.
    #[must_use]
    pub fn peer_rows_of(&self, filter: &Filter, now: Instant) -> Vec<PeerRow> {
        let sessions = self.sessions.iter();
        let sessions = sessions.filter(|(id, _)| self.matches(filter, id));
        let others = self.others();
        sessions
            .map(|(id, session)| self.peer_row(id, session, &others, now))
            .collect()
    }

    /// A row for each learned path, by prefix, then instance, peer and path identifier.
    #[must_use]
    pub fn learned_rows(&self, filter: &Filter, now: Instant) -> Vec<LearnedRow> {
        self.rows_under(None, filter, now)
    }

    /// The same as one user sees it: what wins among the paths that it takes, and which it does not
    /// take, and why.
    #[must_use]
    pub fn learned_rows_for(
        &self,
        of: &LearnedUse,
        filter: &Filter,
        now: Instant,
    ) -> Vec<LearnedRow> {
        self.rows_under(Some(of), filter, now)
    }

    fn rows_under(
        &self,
        of: Option<&LearnedUse>,
        filter: &Filter,
        now: Instant,
    ) -> Vec<LearnedRow> {
        let mut rows = Page::all(|from| self.learned_page(of, filter, from, now));
        sort_learned(&mut rows);
        rows
    }

    /// A row for each route that a session has been sent, by session, then prefix; several paths of a
    /// prefix best first.
    #[must_use]
    pub fn advertised_rows(&mut self, filter: &Filter) -> Vec<AdvertisedRow> {
        self.rib.flush();
        let mut rows = Vec::new();
        for id in self.sent_to(filter) {
            let mut sent = Page::all(|from| self.sent_page(&id, filter, from));
            sort_advertised(&mut sent);
            rows.append(&mut sent);
        }
        rows
    }

    /// What a session is sent, all of it: rows that are equal are sent alike.
    pub(super) fn advertised_row(&self, id: &SessionId, route: &AdvertisedView) -> AdvertisedRow {
        let PathAttributes {
            origin,
            as_path,
            next_hop: _,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            communities: _,
            extended_communities: _,
            large_communities: _,
            originator_id,
            cluster_list: _,
            only_to_customer,
            unknown,
        } = &route.attributes;
        AdvertisedRow {
            route_server: id.route_server.clone(),
            peer: self.source_name(id),
            instance: id.instance.0,
            prefix: route.prefix,
            path_id: route.path_id,
            next_hop: next_hop(&route.attributes),
            as_path: as_path.to_string(),
            origin: text::origin(*origin).to_owned(),
            med: *med,
            local_pref: *local_pref,
            atomic_aggregate: *atomic_aggregate,
            aggregator: aggregator.map(text::aggregator),
            communities: text::communities(&route.attributes),
            originator_id: *originator_id,
            cluster_list: text::clusters(&route.attributes),
            only_to_customer: *only_to_customer,
            unknown: unknown.iter().map(text::unknown).collect(),
            from: match &route.from {
                Some(source) => self.source_name(source).to_string(),
                None => "originated".to_owned(),
            },
        }
    }

    /// Whether a session, or what static routes have in its place, is wanted. A gateway's name means
    /// all of its members.
    pub(super) fn matches(&self, filter: &Filter, id: &SessionId) -> bool {
        let is_meant = |wanted: &PeerName| match self.sessions.get(id) {
            Some(session) => session.is_called(wanted),
            None => *wanted == custom::static_name(),
        };
        filter.peer.as_ref().is_none_or(is_meant)
            && filter.instance.is_none_or(|wanted| wanted == id.instance)
    }

    /// The name of a peer, or of what static routes have in its place.
    fn source_name(&self, id: &SessionId) -> PeerName {
        let session = self.sessions.get(id);
        session.map_or_else(custom::static_name, |session| session.peer.name.clone())
    }

    pub(super) fn peer_row(
        &self,
        id: &SessionId,
        session: &Session,
        others: &Others<'_>,
        now: Instant,
    ) -> PeerRow {
        let SessionStatus {
            state,
            since,
            last_error,
            ..
        } = &session.status;
        let negotiated = session.up.as_ref().map(|up| &up.negotiated);
        let totals = session.place().map(|index| self.rib.totals(index));
        let totals = totals.unwrap_or_default();
        PeerRow {
            route_server: id.route_server.clone(),
            instance: id.instance.0,
            peer: session.peer.name.clone(),
            dynamic: session.peer.dynamic,
            kind: session.peer.kind().word().to_owned(),
            gateway: session
                .peer
                .membership
                .as_ref()
                .map(|membership| membership.gateway.clone()),
            address: id.peer,
            asn: session.peer.asn,
            connection: connection(&session.status).to_owned(),
            state: *state,
            since_seconds: since.map(|at| now.saturating_duration_since(at).as_secs_f64()),
            families: negotiated
                .map(|agreed| agreed.families.clone())
                .unwrap_or_default(),
            hold_time: negotiated.map(|agreed| agreed.hold_time),
            received: totals.received.iter().sum(),
            accepted: totals.accepted,
            advertised: totals.advertised.iter().sum(),
            stale: session.stale_routes(&self.rib, now),
            messages_received: session.status.messages_received,
            messages_sent: session.status.messages_sent,
            established_count: session.status.established_count,
            last_error: last_error.clone(),
            shutdown: session.operator.shutdown.clone(),
            drained: session.operator.drained,
            warnings: self.warnings(id, session, others),
        }
    }

    /// Until when a path is kept, if it is stale.
    fn stale(&self, path: &PathView, family: Family, now: Instant) -> Option<Stale> {
        let kept = self.sessions.get(&path.session)?.kept.as_ref();
        let keeping = kept.filter(|_| path.stale)?.family(family)?;
        Some(stale(keeping, now))
    }

    /// Why a user does not take a path.
    fn why_excluded(
        &self,
        exclusion: Exclusion,
        of: Option<&LearnedUse>,
        from: &SessionId,
    ) -> &'static str {
        let session = self.sessions.get(from);
        let source = session.map_or(kind::STATIC, |session| kind::source(session.peer.kind()));
        match (exclusion, of) {
            (Exclusion::Source, Some(of)) => kind::why_not_taken(of, source),
            (Exclusion::Community, _) => {
                "a gateway's port takes only what the gateway is sent, and the route's communities \
                 keep it from that (NO_ADVERTISE, NO_EXPORT)"
            }
            _ => "its next hop lies in a network that is not peered with this one (vnet.peering)",
        }
    }

    pub(super) fn learned_row(
        &self,
        prefix: &PrefixView,
        path: &PathView,
        of: Option<&LearnedUse>,
        now: Instant,
    ) -> LearnedRow {
        let PathView {
            attributes,
            session,
            verdict,
            aggregate,
            ..
        } = path;
        let (state, mut reason) = match verdict {
            Verdict::Best => ("best", Some(why_best(prefix))),
            Verdict::Multipath => ("multipath", Some("equal to the best path".to_owned())),
            Verdict::Lost(step) => ("lost", Some(step.loses().to_owned())),
            Verdict::NotNeeded(why) => ("lost", Some(format!("equal to the best path, but {why}"))),
            Verdict::Rejected(why) => ("rejected", Some(why.to_string())),
            Verdict::Excluded(exclusion) => (
                "excluded",
                Some(self.why_excluded(*exclusion, of, session).to_owned()),
            ),
        };
        // Whoever takes routes does not ask what is advertised.
        if prefix.originated && *verdict == Verdict::Best && of.is_none() {
            reason = reason.map(|why| {
                format!("{why}; not advertised: the route server originates this prefix")
            });
        }
        if *aggregate {
            reason = reason.map(|why| format!("{why}; an aggregate, made by the peer's route map"));
        }
        let up = self.sessions.get(session).and_then(|it| it.up.as_ref());
        let family = Family::of(&prefix.prefix);
        let has_id =
            !aggregate && up.is_some_and(|up| up.negotiated.add_path_receive.contains(&family));
        LearnedRow {
            route_server: session.route_server.clone(),
            prefix: prefix.prefix,
            path_id: has_id.then_some(path.path_id),
            peer: self.source_name(session),
            instance: session.instance.0,
            aggregate: *aggregate,
            next_hop: next_hop(attributes),
            as_path: attributes.as_path.to_string(),
            origin: text::origin(attributes.origin).to_owned(),
            med: attributes.med,
            local_pref: attributes.local_pref,
            communities: text::communities(attributes),
            only_to_customer: attributes.only_to_customer,
            state: state.to_owned(),
            stale: self.stale(path, Family::of(&prefix.prefix), now),
            reason,
        }
    }
}

impl Session {
    /// Whether a name is its peer's, or that of the gateway which its peer is a member of.
    pub(super) fn is_called(&self, name: &PeerName) -> bool {
        let gateway = self.peer.membership.as_ref();
        self.peer.name == *name
            || gateway.is_some_and(|membership| membership.gateway.as_str() == name.as_str())
    }

    /// Where its paths are in the RIB, also while only they are left of it.
    pub(super) fn place(&self) -> Option<SessionIndex> {
        let up = self.up.as_ref().map(|up| up.index);
        up.or(self.kept.as_ref().map(|kept| kept.index))
    }

    /// What is kept of it in the RIB, by family.
    fn stale_routes(&self, rib: &Rib, now: Instant) -> Vec<StaleRoutes> {
        let Some(kept) = &self.kept else {
            return Vec::new();
        };
        let routes = rib.stale(kept.index);
        let families = Family::ALL.into_iter();
        families
            .filter_map(|family| {
                Some(StaleRoutes {
                    family,
                    routes: routes[family as usize],
                    kept: stale(kept.family(family)?, now),
                })
            })
            .collect()
    }
}

fn stale(keeping: &Keeping, now: Instant) -> Stale {
    Stale {
        long_lived: keeping.long_lived,
        seconds_left: keeping.until().saturating_duration_since(now).as_secs_f64(),
    }
}

/// Why the best path won: the last step in which another one lost. What the same peer announces to the
/// other instance alike is no other.
fn why_best(prefix: &PrefixView) -> String {
    let best = prefix
        .paths
        .iter()
        .find(|path| path.verdict == Verdict::Best);
    let others = || {
        let others = prefix.paths.iter();
        others.filter(|path| {
            best.is_none_or(|best| {
                path.session.peer != best.session.peer || path.attributes != best.attributes
            })
        })
    };
    let equals =
        others().any(|path| matches!(path.verdict, Verdict::Multipath | Verdict::NotNeeded(_)));
    let last_step = others().filter_map(|path| match path.verdict {
        Verdict::Lost(step) => Some(step),
        _ => None,
    });
    match last_step.max() {
        _ if equals => "equal paths: lowest router id, then lowest peer address".to_owned(),
        Some(step) => step.wins().to_owned(),
        None => "the only usable path".to_owned(),
    }
}

impl Step {
    /// What a path that won in this step has.
    fn wins(self) -> &'static str {
        match self {
            Self::Originated => "originated here",
            Self::LlgrStale => "not stale, the others are",
            Self::GracefulShutdown => "the others are being shut down (GRACEFUL_SHUTDOWN)",
            Self::Class => "preferred kind of source",
            Self::LocalPref => "highest LOCAL_PREF",
            Self::AsPathLength => "shortest AS path",
            Self::Origin => "lowest origin",
            Self::Med => "lowest MED of its neighbour AS",
            Self::EbgpOverIbgp => "eBGP",
        }
    }

    /// What a path that lost in this step lacks.
    fn loses(self) -> &'static str {
        match self {
            Self::Originated => "the route server originates this prefix",
            Self::LlgrStale => "stale (LLGR_STALE)",
            Self::GracefulShutdown => "being shut down (GRACEFUL_SHUTDOWN)",
            Self::Class => "less preferred kind of source",
            Self::LocalPref => "lower LOCAL_PREF",
            Self::AsPathLength => "longer AS path",
            Self::Origin => "higher origin",
            Self::Med => "higher MED than a path that it is compared with",
            Self::EbgpOverIbgp => "iBGP, the best path is eBGP",
        }
    }
}

fn connection(status: &SessionStatus) -> &'static str {
    match status.state {
        State::Established => "Connected",
        State::Idle if status.since.is_none() => "Unknown",
        State::Idle => "NotConnected",
        _ if status.last_error.is_some() => "NotConnected",
        State::Connect | State::Active | State::OpenSent | State::OpenConfirm => "Connecting",
    }
}

/// NEXT_HOP; a learned path has one.
pub(super) fn next_hop(attributes: &PathAttributes) -> IpAddr {
    let address = attributes.next_hop.map(NextHop::address);
    address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{SessionStatus, State, connection};

    /// Whether it was up or tried before, and what went wrong last.
    #[test]
    fn sessions_are_unknown_connecting_connected_or_not_connected() {
        let told = |state, tried: bool, failed: bool| {
            connection(&SessionStatus {
                state,
                since: tried.then(Instant::now),
                last_error: failed.then(|| "hold timer expired".to_owned()),
                ..SessionStatus::default()
            })
        };
        let table = [
            (State::Idle, ["Unknown", "NotConnected", "NotConnected"]),
            (State::Connect, ["Connecting", "Connecting", "NotConnected"]),
            (State::Active, ["Connecting", "Connecting", "NotConnected"]),
            (
                State::OpenSent,
                ["Connecting", "Connecting", "NotConnected"],
            ),
            (
                State::OpenConfirm,
                ["Connecting", "Connecting", "NotConnected"],
            ),
            (State::Established, ["Connected"; 3]),
        ];
        for (state, expected) in table {
            let said = [(false, false), (true, false), (true, true)]
                .map(|(tried, failed)| told(state, tried, failed));
            assert_eq!(said, expected, "{state:?}");
        }
    }
}
