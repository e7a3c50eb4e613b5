//! What becomes of sessions.
//!
//! In: the sessions of two configurations, and what their route servers did. Out: for each whether it
//! stays, and why not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::types::PlannedSession,
    bgp::{
        SessionId,
        session::SessionConfig,
        settings::{AddPath, Restart},
        speaker,
        wire::Notification,
    },
    config::{self, Config, Membership},
    daemon::server::{Server, sessions},
    names::{PeerName, RouteServerName},
};

/// What route servers did with sessions.
#[derive(Default)]
pub(super) struct Outcome {
    /// Closed, and what the peers are told.
    pub(super) closed: BTreeMap<SessionId, Notification>,
    /// Asked for their routes again.
    pub(super) asked: BTreeSet<SessionId>,
    /// Tried again before their rest ends.
    pub(super) woken: BTreeSet<SessionId>,
}

/// The sessions of a configuration.
#[derive(Default)]
pub(super) struct Endpoints(BTreeMap<SessionId, Endpoint>);

struct Endpoint {
    peer: PeerName,
    membership: Option<Membership>,
    config: SessionConfig,
    up: bool,
}

impl Endpoints {
    /// Those of all route servers of a configuration, with the dynamic peers of now.
    pub(super) fn of(
        servers: &BTreeMap<RouteServerName, Server>,
        config: &Config,
        port: u16,
    ) -> Self {
        let mut all = Self::default();
        for wanted in &config.route_servers {
            let Some(server) = servers.get(&wanted.name) else {
                continue;
            };
            let own = Self::of_server(&server.dynamic.complete(wanted), port);
            all.0.extend(own.0.into_iter().map(|(id, endpoint)| {
                let up = server.route_server.is_up(&id);
                (id, Endpoint { up, ..endpoint })
            }));
        }
        all
    }

    /// Those of one route server, none of which is up.
    pub(super) fn of_server(config: &config::RouteServer, port: u16) -> Self {
        let peers: BTreeMap<_, _> = config
            .peers
            .iter()
            .map(|peer| (peer.address, peer))
            .collect();
        let sessions = sessions(config, port).into_iter();
        Self(
            sessions
                .map(|session| {
                    let peer = peers[&session.id.peer];
                    let endpoint = Endpoint {
                        peer: peer.name.clone(),
                        membership: peer.membership.clone(),
                        config: session,
                        up: false,
                    };
                    (endpoint.config.id.clone(), endpoint)
                })
                .collect(),
        )
    }

    /// How a session is configured.
    pub(super) fn config(&self, id: &SessionId) -> &SessionConfig {
        &self.0[id].config
    }

    /// The sessions that are closed to be those of `after`, and whose peers are taken to come back with
    /// the same routes: unless they are to be of another AS.
    pub(super) fn come_back<'s>(
        &'s self,
        after: &'s Self,
    ) -> impl Iterator<Item = SessionId> + use<'s> {
        let after = after.0.iter();
        let reset = after.filter(|(id, after)| {
            let before = self.0.get(id);
            before.is_some_and(|before| {
                before.config.peer_asn == after.config.peer_asn
                    && !before.reset_by(after).is_empty()
            })
        });
        reset.map(|(id, _)| id.clone())
    }

    /// What becomes of each session of either.
    pub(super) fn become_of(&self, after: &Self, outcome: &Outcome) -> Vec<PlannedSession> {
        let ids: BTreeSet<&SessionId> = self.0.keys().chain(after.0.keys()).collect();
        let planned = ids.into_iter().map(|id| {
            let (before, after) = (self.0.get(id), after.0.get(id));
            let up = before.is_some_and(|before| before.up);
            let (change, why) = match (before, after) {
                (_, None) => ("removed", None),
                (None, Some(_)) => ("added", Some(ADDED.to_owned())),
                (Some(before), Some(after)) => stays(id, before, after, outcome),
            };
            let peer = after.or(before).map(|endpoint| endpoint.peer.clone());
            PlannedSession {
                route_server: id.route_server.clone(),
                instance: id.instance.0,
                peer: peer.expect("one of them has it"),
                address: id.peer,
                up,
                change: change.to_owned(),
                why,
            }
        });
        planned.collect()
    }
}

/// What is known of a new peer.
const ADDED: &str = "it is tried; nothing is known of its routes";

/// What becomes of a session that is configured before and after, and why.
fn stays(
    id: &SessionId,
    before: &Endpoint,
    after: &Endpoint,
    outcome: &Outcome,
) -> (&'static str, Option<String>) {
    let keys = before.reset_by(after);
    if let Some(told) = outcome.closed.get(id) {
        return ("closed", Some(format!("its peer is told: {told}")));
    }
    if !keys.is_empty() {
        let then = match (before.up, before.config.peer_asn == after.config.peer_asn) {
            (false, _) => "it is not up",
            (true, true) => "it is taken to come back with the same routes",
            (true, false) => "of another AS, nothing is known of its routes",
        };
        return ("reset", Some(format!("{}; {then}", keys.join(", "))));
    }
    let why = if outcome.asked.contains(id) {
        Some("its peer is asked for all its routes again, some of which were refused".to_owned())
    } else if outcome.woken.contains(id) {
        Some("it was closed for its number of routes, and is tried again at once".to_owned())
    } else {
        None
    };
    ("kept", why)
}

impl Endpoint {
    /// The settings because of which the session is closed and opened anew; none: it stays up.
    fn reset_by(&self, after: &Self) -> Vec<&'static str> {
        let restarts = speaker::restarts(&self.config, &after.config);
        if self.config == after.config && self.membership == after.membership {
            return Vec::new();
        }
        let SessionConfig {
            id: _,
            local_asn,
            peer_asn,
            router_id,
            local_address,
            port,
            passive,
            hold_time,
            connect_retry,
            families,
            send_hold_time,
            security,
            add_path: AddPath { receive, send },
            restart:
                Restart {
                    enabled,
                    time,
                    long_lived_stale_time,
                },
            extended_next_hop,
            role,
        } = &self.config;
        let now = &after.config;
        let settings = [
            ("asn of the route server", *local_asn != now.local_asn),
            ("router_id", *router_id != now.router_id),
            (
                "addresses of the instance",
                *local_address != now.local_address,
            ),
            ("bgp_port", *port != now.port),
            ("asn", *peer_asn != now.peer_asn),
            ("gateway", self.membership != after.membership),
            ("passive", *passive != now.passive),
            ("hold_time", *hold_time != now.hold_time),
            ("connect_retry", *connect_retry != now.connect_retry),
            ("families", *families != now.families),
            ("send_hold_time", *send_hold_time != now.send_hold_time),
            (
                "md5_password, tcp_ao or ttl_security",
                restarts && *security != now.security,
            ),
            ("add_path_receive", *receive != now.add_path.receive),
            ("add_path_send", *send != now.add_path.send),
            ("graceful_restart", *enabled != now.restart.enabled),
            ("restart_time", *time != now.restart.time),
            (
                "long_lived_stale_time",
                *long_lived_stale_time != now.restart.long_lived_stale_time,
            ),
            (
                "extended_next_hop",
                *extended_next_hop != now.extended_next_hop,
            ),
            ("role", *role != now.role),
        ];
        let changed = settings.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(name, _)| name).collect()
    }
}
