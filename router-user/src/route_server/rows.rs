//! The route server as people see it: `show peers`, `show learned`, `show advertised`.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use ipnet::IpNet;

use super::{Operator, RouteServer, Session, Up, limit, restart::Keeping, text};
use crate::{
    api::types::{AdvertisedRow, LearnedRow, PeerRow, Stale, StaleRoutes},
    bgp::{
        InstanceId, SessionId, SessionStatus, State,
        wire::{Family, NextHop, PathAttributes},
    },
    names::PeerName,
    rib::{PathView, PrefixView, Rib, SessionIndex, Step, Verdict},
};

/// Which rows are wanted; everything by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// From or to this peer.
    pub peer: Option<PeerName>,
    /// From or to this instance.
    pub instance: Option<InstanceId>,
    /// This very prefix.
    pub prefix: Option<IpNet>,
}

impl RouteServer {
    /// A row for each configured session, by instance and peer address.
    #[must_use]
    pub fn peer_rows(&self, now: Instant) -> Vec<PeerRow> {
        let sessions = self.sessions.iter();
        sessions
            .map(|(id, session)| self.peer_row(id, session, now))
            .collect()
    }

    /// A row for each learned path, by prefix, then instance, peer and path identifier.
    #[must_use]
    pub fn learned_rows(&self, filter: &Filter, now: Instant) -> Vec<LearnedRow> {
        let mut rows: Vec<LearnedRow> = Vec::new();
        for prefix in self.rib.prefixes(filter.prefix, None) {
            for path in prefix
                .paths
                .iter()
                .filter(|path| self.matches(filter, &path.session))
            {
                rows.push(self.learned_row(&prefix, path, now));
            }
        }
        rows.sort_by(|a, b| {
            let key = |row: &LearnedRow| (row.prefix, row.instance);
            let by_peer = || a.peer.cmp(&b.peer).then(a.path_id.cmp(&b.path_id));
            key(a).cmp(&key(b)).then_with(by_peer)
        });
        rows
    }

    /// A row for each route that a session has been sent, by session, then prefix; several paths of a
    /// prefix best first.
    #[must_use]
    pub fn advertised_rows(&mut self, filter: &Filter) -> Vec<AdvertisedRow> {
        self.rib.flush();
        let mut rows = Vec::new();
        for (id, session) in &self.sessions {
            let Some(up) = session.up.as_ref().filter(|_| self.matches(filter, id)) else {
                continue;
            };
            let first = rows.len();
            rows.extend(
                self.rib
                    .advertised(up.index, filter.prefix)
                    .map(|route| AdvertisedRow {
                        route_server: id.route_server.clone(),
                        peer: session.peer.name.clone(),
                        instance: id.instance.0,
                        prefix: route.prefix,
                        path_id: route.path_id,
                        next_hop: next_hop(&route.attributes),
                        as_path: route.attributes.as_path.to_string(),
                        med: route.attributes.med,
                        communities: text::communities(&route.attributes),
                        from: match &route.from {
                            Some(source) => self.sessions[source].peer.name.to_string(),
                            None => "originated".to_owned(),
                        },
                    }),
            );
            rows[first..].sort_by_key(|row| row.prefix);
        }
        rows
    }

    pub(super) fn matches(&self, filter: &Filter, id: &SessionId) -> bool {
        let peer = &self.sessions[id].peer.name;
        filter.peer.as_ref().is_none_or(|wanted| wanted == peer)
            && filter.instance.is_none_or(|wanted| wanted == id.instance)
    }

    pub(super) fn peer_row(&self, id: &SessionId, session: &Session, now: Instant) -> PeerRow {
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
            warnings: self.warnings(id, session),
        }
    }

    fn warnings(&self, id: &SessionId, session: &Session) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(operators_wish(&session.operator));
        warnings.extend(self.one_instance_only(id, session));
        warnings.extend(self.shared_asn(session));
        if self.config.require_policy {
            warnings.push(
                "learns and announces nothing: no policy is configured for it (RFC 8212, \
                 `require_policy`)"
                    .to_owned(),
            );
        }
        if let Some(up) = &session.up {
            warnings.extend(self.other_routes(id, up));
            warnings.extend(self.limits(session, up));
            warnings.extend(self.not_advertised(id, up));
            warnings.extend(up.malformed.as_ref().map(|(count, what)| {
                format!("{count} prefixes treated as withdrawn, the last because of: {what}")
            }));
        }
        warnings
    }

    /// The session of the same peer with the other instance.
    fn sibling(&self, id: &SessionId) -> Option<(&SessionId, &Session)> {
        let mut others = self.sessions.iter();
        others.find(|(other, _)| other.peer == id.peer && other.instance != id.instance)
    }

    fn one_instance_only(&self, id: &SessionId, session: &Session) -> Option<String> {
        let Some((other, sibling)) = self.sibling(id) else {
            let family = if id.peer.is_ipv4() { "IPv4" } else { "IPv6" };
            return Some(format!(
                "can peer with instance {} only: the other instance has no {family} address",
                id.instance
            ));
        };
        let only = match (&session.up, &sibling.up) {
            (Some(_), None) => id.instance,
            (None, Some(_)) => other.instance,
            _ => return None,
        };
        Some(format!("peers with instance {only} only"))
    }

    /// Two sessions of a peer that were told the same things have the same fingerprint.
    fn other_routes(&self, id: &SessionId, up: &Up) -> Option<String> {
        let (other, sibling) = self.sibling(id)?;
        // What import adds to one session's routes alone is not the peer's doing.
        if self.sessions[id].operator.drained != sibling.operator.drained {
            return None;
        }
        let theirs = self.rib.totals(sibling.up.as_ref()?.index);
        let ours = self.rib.totals(up.index);
        (ours.fingerprint != theirs.fingerprint).then(|| {
            format!(
                "announces other routes to instance {} ({} accepted) than to instance {} ({} accepted); see `waypost \
                 show learned`",
                id.instance,
                ours.accepted,
                other.instance,
                theirs.accepted,
            )
        })
    }

    fn shared_asn(&self, session: &Session) -> Option<String> {
        let peers = self.config.peers.iter();
        let same = peers
            .filter(|peer| peer.asn == session.peer.asn && peer.address != session.peer.address);
        let names: Vec<&str> = same.map(|peer| peer.name.as_str()).collect();
        let told = self.config.reflect_between_nvas && !session.peer.policy.as_override;
        (told && !names.is_empty()).then(|| {
            format!(
                "shares ASN {} with {}: it drops what is reflected to it from there, unless it \
                 accepts its own ASN in a path or has `as_override`",
                session.peer.asn,
                names.join(", ")
            )
        })
    }

    /// Until when a path is kept, if it is stale.
    fn stale(&self, path: &PathView, family: Family, now: Instant) -> Option<Stale> {
        let kept = self.sessions[&path.session].kept.as_ref();
        let keeping = kept.filter(|_| path.stale)?.family(family)?;
        Some(stale(keeping, now))
    }

    fn limits(&self, session: &Session, up: &Up) -> Vec<String> {
        let max = session.peer.max_prefixes as usize;
        let totals = self.rib.totals(up.index);
        let mut warnings = Vec::new();
        for family in Family::ALL {
            let count = totals.received[family as usize] - totals.stale[family as usize];
            let refused = up.refused[family as usize].count();
            let family = text::family(family);
            if let Some(refused) = refused {
                let remedy = match up.negotiated.route_refresh {
                    true => "they are asked for again when there is room",
                    false => "clear the session when there is room: the peer cannot be asked again",
                };
                warnings.push(format!(
                    "{refused} {family} routes were refused: at most {max} are allowed \
                     (`max_prefixes`); {remedy}"
                ));
            } else if count > max {
                warnings.push(format!(
                    "announces {count} {family} routes, more than the {max} allowed \
                     (`max_prefixes`)"
                ));
            } else if limit::is_near(count, max) {
                warnings.push(format!(
                    "announces {count} {family} routes of at most {max} (`max_prefixes`)"
                ));
            }
        }
        warnings
    }

    /// Originated prefixes that this instance has no next hop for.
    fn not_advertised(&self, id: &SessionId, up: &Up) -> Option<String> {
        let view = self.view(id, &up.negotiated);
        let missing = |prefix: &&IpNet| {
            let family = Family::of(prefix);
            up.negotiated.families.contains(&family) && view.own_next_hop(family).is_none()
        };
        let missing: Vec<String> = self
            .originated
            .iter()
            .filter(missing)
            .map(IpNet::to_string)
            .collect();
        (!missing.is_empty()).then(|| {
            format!(
                "not advertised: {}, because instance {} has no address of that family to name as \
                 next hop",
                missing.join(", "),
                id.instance
            )
        })
    }

    fn learned_row(&self, prefix: &PrefixView, path: &PathView, now: Instant) -> LearnedRow {
        let PathView {
            attributes,
            session,
            verdict,
            ..
        } = path;
        let (state, mut reason) = match verdict {
            Verdict::Best => ("best", Some(why_best(prefix))),
            Verdict::Multipath => ("multipath", Some("equal to the best path".to_owned())),
            Verdict::Lost(step) => ("lost", Some(step.loses().to_owned())),
            Verdict::NotNeeded(why) => ("lost", Some(format!("equal to the best path, but {why}"))),
            Verdict::Excluded(why) => ("excluded", Some((*why).to_owned())),
            Verdict::Rejected(why) => ("rejected", Some(why.to_string())),
        };
        if prefix.originated && *verdict == Verdict::Best {
            reason = reason.map(|why| {
                format!("{why}; not advertised: the route server originates this prefix")
            });
        }
        let up = self.sessions[session].up.as_ref();
        let family = Family::of(&prefix.prefix);
        let has_id = up.is_some_and(|up| up.negotiated.add_path_receive.contains(&family));
        LearnedRow {
            route_server: session.route_server.clone(),
            prefix: prefix.prefix,
            path_id: has_id.then_some(path.path_id),
            peer: self.sessions[session].peer.name.clone(),
            instance: session.instance.0,
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

fn operators_wish(operator: &Operator) -> Option<String> {
    let Operator { shutdown, drained } = operator;
    match (shutdown.as_deref(), drained) {
        (Some(""), _) => Some("shut down by the operator; see `waypost peer start`".to_owned()),
        (Some(text), _) => Some(format!(
            "shut down by the operator (\"{text}\"); see `waypost peer start`"
        )),
        (None, true) => Some(
            "drained: its routes are last choice, here and at the peer; see `waypost peer undrain`"
                .to_owned(),
        ),
        (None, false) => None,
    }
}

/// Why the best path won: the last step in which another one lost. The same peer's path to the
/// other instance is no other.
fn why_best(prefix: &PrefixView) -> String {
    let best = prefix
        .paths
        .iter()
        .find(|path| path.verdict == Verdict::Best);
    let others = || {
        let others = prefix.paths.iter();
        others.filter(|path| best.is_none_or(|best| path.session.peer != best.session.peer))
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
            Self::Med => "higher MED than another path of the same neighbour AS",
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
