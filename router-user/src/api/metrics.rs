//! `GET /metrics`: text as Prometheus reads it (OpenMetrics 1.0).
//!
//! In: what the API answers elsewhere, asked for at that moment. Out: the text. Nothing is counted
//! here, and nothing is kept from one request to the next. Names and labels are stable.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::types::{Counters, PeerDetail, PeerRow, Status};
use crate::{
    bgp::{self, State},
    fib::Totals,
    names::RouteServerName,
};

/// What is told.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The daemon and its route servers.
    pub status: Status,
    /// Every session.
    pub sessions: Vec<PeerDetail>,
    /// What each route server holds.
    pub ribs: Vec<RibTotals>,
    /// What is to be in the kernel.
    pub fib: Totals,
    /// Packets.
    pub counters: Counters,
    /// Events that were not written since the start.
    pub events_lost: u64,
}

/// What a route server holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RibTotals {
    /// Its name.
    pub route_server: RouteServerName,
    /// Prefixes with a path, those originated included.
    pub prefixes: usize,
    /// Learned paths, rejected and stale ones included.
    pub paths: usize,
    /// Views in which they are told to the networks.
    pub views: usize,
}

/// Labels of a metric.
type Labels = Vec<(&'static str, String)>;

/// All states, so that one that no session is in is 0 and not missing.
const STATES: [State; 6] = [
    State::Idle,
    State::Connect,
    State::Active,
    State::OpenSent,
    State::OpenConfirm,
    State::Established,
];

/// The text.
///
/// # Errors
///
/// None that is known: the text is written to memory.
pub fn text(snapshot: &Snapshot) -> Result<String, fmt::Error> {
    let mut metrics = Metrics(Registry::with_prefix("waypost"));
    metrics.daemon(snapshot);
    metrics.route_servers(snapshot);
    metrics.sessions(&snapshot.sessions);
    metrics.fib(&snapshot.fib);
    metrics.packets(&snapshot.counters);
    let mut text = String::new();
    encode(&mut text, &metrics.0)?;
    Ok(text)
}

struct Metrics(Registry);

impl Metrics {
    fn daemon(&mut self, snapshot: &Snapshot) {
        let Status {
            version,
            uptime_seconds,
            synchronised,
            vnets,
            ports,
            ..
        } = &snapshot.status;
        let build: Labels = vec![("version", version.clone())];
        self.0.register("build", "The daemon", Info::new(build));
        let uptime = Gauge::<f64, AtomicU64>::default();
        uptime.set(*uptime_seconds);
        let help = "Since the start";
        self.0
            .register_with_unit("uptime", help, Unit::Seconds, uptime);
        self.number(
            "synchronised",
            "1 once nothing of an earlier run is waited for",
            usize::from(*synchronised),
        );
        self.number("vnets", "Virtual networks", *vnets);
        self.number("ports", "Ports that are configured", *ports);
        let lost = Counter::<u64>::default();
        lost.inc_by(snapshot.events_lost);
        let help = "Events that found no room in the event log";
        self.0.register("events_lost", help, lost);
    }

    fn route_servers(&mut self, snapshot: &Snapshot) {
        let servers = &snapshot.status.route_servers;
        let of = |name: &RouteServerName| vec![("route_server", name.to_string())];
        self.gauge(
            "dynamic_peers",
            "Peers that are not in the configuration",
            servers
                .iter()
                .map(|server| (of(&server.name), server.dynamic_peers)),
        );
        self.counter(
            "newcomers_refused",
            "Connections refused because there were as many dynamic peers as may be, or no section has their \
             address any longer",
            servers
                .iter()
                .map(|server| (of(&server.name), server.newcomers_refused)),
        );
        let ribs = &snapshot.ribs;
        self.gauge(
            "rib_prefixes",
            "Prefixes with a path, originated ones included",
            ribs.iter().map(|rib| (of(&rib.route_server), rib.prefixes)),
        );
        self.gauge(
            "rib_paths",
            "Learned paths, rejected and stale ones included",
            ribs.iter().map(|rib| (of(&rib.route_server), rib.paths)),
        );
        self.gauge(
            "learned_views",
            "Views in which learned routes are told to the networks",
            ribs.iter().map(|rib| (of(&rib.route_server), rib.views)),
        );
        let sessions = &snapshot.sessions;
        let in_state = |server: &RouteServerName, state| {
            let rows = sessions.iter().map(|detail| &detail.session);
            rows.filter(|row| row.route_server == *server && row.state == state)
                .count()
        };
        self.gauge(
            "sessions",
            "Sessions by state (RFC 4271)",
            servers.iter().flat_map(|server| {
                STATES.map(|state| {
                    let mut labels = of(&server.name);
                    labels.push(("state", format!("{state:?}")));
                    (labels, in_state(&server.name, state))
                })
            }),
        );
    }

    fn sessions(&mut self, sessions: &[PeerDetail]) {
        let rows = || sessions.iter().map(|detail| (detail, of_session(detail)));
        self.gauge(
            "session_up",
            "1 while the session is Established",
            rows().map(|(detail, labels)| {
                let up = detail.session.state == State::Established;
                (labels, usize::from(up))
            }),
        );
        self.counter(
            "session_established",
            "How often the session has become Established",
            rows().map(|(detail, labels)| (labels, detail.session.established_count)),
        );
        self.counter(
            "session_messages_received",
            "BGP messages received",
            rows().map(|(detail, labels)| (labels, detail.session.messages_received)),
        );
        self.counter(
            "session_messages_sent",
            "BGP messages sent",
            rows().map(|(detail, labels)| (labels, detail.session.messages_sent)),
        );
        self.counter(
            "session_updates_received",
            "UPDATE messages received",
            rows().map(|(detail, labels)| (labels, detail.updates_received)),
        );
        self.counter(
            "session_updates_malformed",
            "UPDATE messages received that were malformed (RFC 7606)",
            rows().map(|(detail, labels)| (labels, detail.updates_malformed)),
        );
        self.gauge(
            "session_routes_received",
            "Paths that the peer announced, rejected and stale ones included",
            by_family(sessions, |detail| &detail.received_by_family),
        );
        self.gauge(
            "session_routes_stale",
            "Of them, those kept from before a restart or a refresh",
            by_family(sessions, |detail| &detail.stale_by_family),
        );
        self.gauge(
            "session_routes_accepted",
            "Paths that the peer announced and no rule rejected",
            rows().map(|(detail, labels)| (labels, detail.session.accepted)),
        );
        self.gauge(
            "session_routes_advertised",
            "Routes that the peer was sent",
            rows().map(|(detail, labels)| (labels, detail.session.advertised)),
        );
        self.gauge(
            "session_routes_limit",
            "The most routes of a family that the peer may announce",
            rows().map(|(detail, labels)| (labels, detail.max_prefixes as usize)),
        );
        let fill = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for detail in sessions {
            for (family, received) in &detail.received_by_family {
                let stale = detail.stale_by_family.get(family).copied();
                let counted = received - stale.unwrap_or_default();
                let mut labels = of_session(detail);
                labels.push(("family", family_word(*family)));
                let max = f64::from(detail.max_prefixes.max(1));
                fill.get_or_create(&labels).set(counted as f64 / max);
            }
        }
        let help = "How much of the limit is used; beyond 1 it is passed";
        self.0.register("session_routes_limit_used", help, fill);
    }

    fn fib(&mut self, fib: &Totals) {
        self.number("fib_tables", "Forwarding tables", fib.tables);
        self.number("fib_routes", "Routes of all tables", fib.routes);
        self.number("fib_groups", "Next-hop groups", fib.groups);
        let dead = fib.next_hops - fib.alive;
        self.gauge(
            "fib_next_hops",
            "Next hops, by whether packets can be sent there",
            [("true", fib.alive), ("false", dead)]
                .map(|(alive, count)| (vec![("alive", alive.to_owned())], count)),
        );
    }

    fn packets(&mut self, counters: &Counters) {
        let ports = &counters.ports;
        let of = |interface: &dyn fmt::Display| vec![("interface", interface.to_string())];
        self.counter(
            "port_received_packets",
            "Packets received",
            ports.iter().map(|row| (of(&row.interface), row.rx_packets)),
        );
        self.counter(
            "port_received_bytes",
            "Bytes received",
            ports.iter().map(|row| (of(&row.interface), row.rx_bytes)),
        );
        self.counter(
            "port_redirect_failed_packets",
            "Packets that the driver lost after the verdict",
            ports
                .iter()
                .map(|row| (of(&row.interface), row.redirect_failed)),
        );
        self.counter(
            "port_not_forwarded_packets",
            "Packets that were not forwarded, by reason",
            ports.iter().flat_map(|row| {
                row.reasons.iter().map(|(reason, count)| {
                    let mut labels = of(&row.interface);
                    labels.push(("reason", reason.clone()));
                    (labels, *count)
                })
            }),
        );
        let next_hops = &counters.next_hops;
        let of = |name: &String| vec![("next_hop", name.clone())];
        self.counter(
            "next_hop_packets",
            "Packets sent to a next hop",
            next_hops.iter().map(|row| (of(&row.next_hop), row.packets)),
        );
        self.counter(
            "next_hop_bytes",
            "Bytes sent to a next hop",
            next_hops.iter().map(|row| (of(&row.next_hop), row.bytes)),
        );
    }

    fn number(&mut self, name: &'static str, help: &'static str, value: usize) {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(name, help, gauge);
    }

    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Labels, usize)>,
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

fn of_session(detail: &PeerDetail) -> Labels {
    let PeerRow {
        route_server,
        instance,
        peer,
        address,
        ..
    } = &detail.session;
    vec![
        ("route_server", route_server.to_string()),
        ("instance", instance.to_string()),
        ("peer", peer.to_string()),
        ("address", address.to_string()),
    ]
}

type ByFamily = BTreeMap<bgp::wire::Family, usize>;

fn by_family(
    sessions: &[PeerDetail],
    counts: impl Fn(&PeerDetail) -> &ByFamily,
) -> Vec<(Labels, usize)> {
    let mut values = Vec::new();
    for detail in sessions {
        for (family, count) in counts(detail) {
            let mut labels = of_session(detail);
            labels.push(("family", family_word(*family)));
            values.push((labels, *count));
        }
    }
    values
}

/// As in the configuration.
fn family_word(family: bgp::wire::Family) -> String {
    match family {
        bgp::wire::Family::Ipv4Unicast => "ipv4_unicast".to_owned(),
        bgp::wire::Family::Ipv6Unicast => "ipv6_unicast".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests;
