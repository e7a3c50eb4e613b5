//! Everything about one session: `show peer NAME`.

use std::time::Instant;

use super::{Filter, RouteServer, Session, warnings::Others};
use crate::{
    api::types::{PeerDetail, SessionTerms, SessionTimers},
    bgp::{
        DownReason, SessionEvent, SessionId,
        settings::{AoAlgorithm, Security},
        wire::{Capability, Family, Negotiated, Offer, Role},
    },
    config::{LimitAction, Peer, PeerPolicy, RouteMaps},
};

impl RouteServer {
    /// All that is known of each session that a filter takes.
    #[must_use]
    pub fn peer_details(&self, filter: &Filter, now: Instant) -> Vec<PeerDetail> {
        let sessions = self.sessions.iter();
        let wanted = sessions.filter(|(id, _)| self.matches(filter, id));
        let others = self.others();
        wanted
            .map(|(id, session)| self.peer_detail(id, session, &others, now))
            .collect()
    }

    /// Keeps what the peer said when it closed the session, until it is up again.
    pub(super) fn note_farewell(&mut self, event: &SessionEvent) {
        let (id, text) = match event {
            SessionEvent::Up { id, .. } => (id, None),
            SessionEvent::Down {
                id,
                reason: DownReason::NotificationReceived(notification),
            } => {
                let within = notification.within_hard_reset();
                let said = within.as_ref().unwrap_or(notification);
                (id, said.shutdown_text().map(str::to_owned))
            }
            _ => return,
        };
        if let Some(session) = self.sessions.get_mut(id) {
            session.farewell = text;
        }
    }

    fn peer_detail(
        &self,
        id: &SessionId,
        session: &Session,
        others: &Others<'_>,
        now: Instant,
    ) -> PeerDetail {
        let Session { peer, status, .. } = session;
        let up = session.up.as_ref();
        let totals = session.place().map(|index| self.rib.totals(index));
        let totals = totals.unwrap_or_default();
        let instances = self.config.instances.iter();
        let mut own = instances.filter(|instance| instance.id == id.instance);
        let addresses = own.next().map(|instance| &instance.addresses[..]);
        let mut addresses = addresses.unwrap_or_default().iter();
        let same_family = |address: &&_| std::net::IpAddr::is_ipv4(address) == id.peer.is_ipv4();
        let negotiated = up.map(|up| &*up.negotiated);
        let hold_time = negotiated.map(|terms| terms.hold_time);
        PeerDetail {
            session: self.peer_row(id, session, others, now),
            local_address: addresses.find(same_family).copied(),
            terms: negotiated.map(terms),
            timers: SessionTimers {
                hold_time_offered: peer.hold_time,
                hold_time,
                keepalive: hold_time.map(|seconds| seconds / 3),
                connect_retry: peer.connect_retry,
                send_hold_time: peer.send_hold_time,
            },
            updates_received: status.updates_received,
            updates_malformed: status.updates_malformed,
            prefixes_malformed: up
                .and_then(|up| up.malformed.as_ref())
                .map_or(0, |(count, _)| *count),
            received_by_family: by_family(totals.received),
            stale_by_family: by_family(totals.stale),
            max_prefixes: peer.max_prefixes,
            limit_action: limit_action(peer.limit_action, peer.limit_restart).to_owned(),
            max_advertised: peer.max_advertised,
            advertised_limit_action: limit_action(peer.advertised_limit_action, peer.limit_restart)
                .to_owned(),
            security: security(&peer.security),
            policy: policy(peer, self.maps.of(peer), self.config.require_policy),
            shutdown_received: session.farewell.clone(),
        }
    }
}

fn by_family(counts: [usize; 2]) -> std::collections::BTreeMap<Family, usize> {
    Family::ALL.into_iter().zip(counts).collect()
}

fn terms(negotiated: &Negotiated) -> SessionTerms {
    let texts = |capabilities: &[Capability]| -> Vec<String> {
        capabilities.iter().map(ToString::to_string).collect()
    };
    let restart_time = |offer: &Offer| {
        let restart = offer.graceful_restart.as_ref();
        restart.map(|restart| restart.restart_time)
    };
    let Negotiated { local, peer, .. } = negotiated;
    SessionTerms {
        local_router_id: negotiated.local_router_id,
        peer_router_id: negotiated.peer_router_id,
        local_capabilities: texts(&local.capabilities),
        peer_capabilities: texts(&peer.capabilities),
        add_path_receive: negotiated.add_path_receive.clone(),
        add_path_send: negotiated.add_path_send.clone(),
        local_restart_time: restart_time(local),
        peer_restart_time: restart_time(peer),
    }
}

fn limit_action(action: LimitAction, restarts: bool) -> &'static str {
    match (action, restarts) {
        (LimitAction::Teardown, true) => "teardown, tried again by itself",
        (LimitAction::Teardown, false) => "teardown until started",
        (LimitAction::Discard, _) => "discard what is beyond",
        (LimitAction::Warn, _) => "warn",
    }
}

/// How the connections are protected; no secret is in it.
fn security(security: &Security) -> Vec<String> {
    let Security {
        md5_password,
        tcp_ao,
        ttl_security,
    } = security;
    let mut texts = Vec::new();
    texts.extend(md5_password.as_ref().map(|_| "TCP MD5".to_owned()));
    for (place, key) in tcp_ao.iter().enumerate() {
        let algorithm = match key.algorithm {
            AoAlgorithm::HmacSha1 => "HMAC-SHA-1-96",
            AoAlgorithm::Aes128Cmac => "AES-128-CMAC-96",
        };
        let sent = if place == 0 { ", used to send" } else { "" };
        texts.push(format!("TCP-AO key {} ({algorithm}{sent})", key.id));
    }
    texts.extend(ttl_security.map(|hops| match hops {
        1 => "GTSM, on the same link".to_owned(),
        _ => format!("GTSM, at most {hops} hops away"),
    }));
    texts
}

/// The role's word in the configuration.
fn role_word(role: Option<Role>) -> String {
    role.map_or_else(String::new, |role| role.to_string().replace(' ', "_"))
}

/// The settings that change what is learned and sent, as they stand in the configuration, and the route
/// maps that apply; settings at their defaults are left out.
fn policy(peer: &Peer, maps: RouteMaps, require_policy: bool) -> Vec<String> {
    let defaults = PeerPolicy::default();
    let PeerPolicy {
        allow_own_as,
        allow_as_set,
        enforce_first_as,
        max_as_path_length,
        as_override,
        transparent,
        remove_private_as,
        allow_blackhole,
        default_originate,
    } = peer.policy;
    let role = peer.role.map(|settings| settings.role);
    let strict = peer.role.is_some_and(|settings| settings.strict);
    let maps = [
        maps.inbound.map(|map| format!("route_map_in = \"{map}\"")),
        maps.outbound
            .map(|map| format!("route_map_out = \"{map}\"")),
    ];
    let settings = [
        (require_policy, "require_policy = true".to_owned()),
        (
            allow_own_as != defaults.allow_own_as,
            format!("allow_own_as = {allow_own_as}"),
        ),
        (allow_as_set, "allow_as_set = true".to_owned()),
        (!enforce_first_as, "enforce_first_as = false".to_owned()),
        (
            max_as_path_length != defaults.max_as_path_length,
            format!("max_as_path_length = {max_as_path_length}"),
        ),
        (as_override, "as_override = true".to_owned()),
        (transparent, "transparent = true".to_owned()),
        (remove_private_as, "remove_private_as = true".to_owned()),
        (allow_blackhole, "allow_blackhole = true".to_owned()),
        (default_originate, "default_originate = true".to_owned()),
        (role.is_some(), format!("role = \"{}\"", role_word(role))),
        (strict, "strict_role = true".to_owned()),
    ];
    let settings = settings.into_iter();
    let settings = settings.filter_map(|(differs, text)| differs.then_some(text));
    settings.chain(maps.into_iter().flatten()).collect()
}
