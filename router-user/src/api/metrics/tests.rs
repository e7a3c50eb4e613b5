//! The text, as Prometheus would read it.

use std::collections::BTreeMap;

use super::*;
use crate::{
    api::types::{NextHopCounterRow, PortCounterRow, RouteServerStatus, SessionTimers},
    bgp::wire::Family as RouteFamily,
};

#[test]
fn every_metric_has_its_help_its_type_and_its_value() {
    let text = text(&snapshot()).unwrap();
    let session = r#"route_server="rs1",instance="1",peer="fw",address="10.1.20.4""#;
    for line in [
        r#"waypost_build_info{version="0.1.0"} 1"#,
        "waypost_uptime_seconds 12.5",
        "waypost_synchronised 1",
        "waypost_events_lost_total 3",
        r#"waypost_sessions{route_server="rs1",state="Established"} 1"#,
        r#"waypost_sessions{route_server="rs1",state="Idle"} 0"#,
        r#"waypost_rib_prefixes{route_server="rs1"} 7"#,
        r#"waypost_rib_paths{route_server="rs1"} 9"#,
        r#"waypost_learned_views{route_server="rs1"} 2"#,
        &format!("waypost_session_up{{{session}}} 1"),
        &format!("waypost_session_updates_received_total{{{session}}} 40"),
        &format!(r#"waypost_session_routes_received{{{session},family="ipv4_unicast"}} 80"#),
        &format!(r#"waypost_session_routes_stale{{{session},family="ipv4_unicast"}} 5"#),
        &format!("waypost_session_routes_limit{{{session}}} 100"),
        &format!(r#"waypost_session_routes_limit_used{{{session},family="ipv4_unicast"}} 0.75"#),
        "waypost_fib_routes 12",
        r#"waypost_fib_next_hops{alive="true"} 3"#,
        r#"waypost_fib_next_hops{alive="false"} 1"#,
        r#"waypost_port_received_packets_total{interface="vm1"} 100"#,
        r#"waypost_port_not_forwarded_packets_total{interface="vm1",reason="discard"} 4"#,
        r#"waypost_next_hop_packets_total{next_hop="via hub 10.1.10.4"} 60"#,
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\nin\n{text}");
    }
    assert!(text.contains("# TYPE waypost_session_up gauge"));
    assert!(text.contains("# TYPE waypost_next_hop_packets counter"));
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
}

#[test]
fn the_reference_has_every_metric_and_no_others() {
    let reference = include_str!("../../../../docs/api.md");
    let named = |word: &&str| word.starts_with("waypost_");
    let mut documented: Vec<_> = reference.split('`').filter(named).collect();
    let text = text(&snapshot()).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut written: Vec<_> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    documented.sort_unstable();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written, documented);
}

#[test]
fn a_label_with_a_quote_does_not_break_the_text() {
    let mut snapshot = snapshot();
    snapshot.counters.next_hops[0].next_hop = "a\"b\\c".to_owned();
    let text = text(&snapshot).unwrap();
    let line = r#"waypost_next_hop_bytes_total{next_hop="a\"b\\c"} 6000"#;
    assert!(text.lines().any(|said| said == line), "{text}");
}

fn snapshot() -> Snapshot {
    Snapshot {
        status: Status {
            version: "0.1.0".to_owned(),
            pid: 7,
            config: "/etc/waypost.toml".to_owned(),
            uptime_seconds: 12.5,
            synchronised: true,
            route_servers: vec![RouteServerStatus {
                name: "rs1".into(),
                asn: 65515,
                sessions: 1,
                established: 1,
                stopped_instances: vec![],
                dynamic_peers: 0,
                newcomers_refused: 0,
            }],
            vnets: 1,
            ports: 1,
        },
        sessions: vec![session()],
        ribs: vec![RibTotals {
            route_server: "rs1".into(),
            prefixes: 7,
            paths: 9,
            views: 2,
        }],
        fib: Totals {
            tables: 2,
            routes: 12,
            groups: 3,
            next_hops: 4,
            alive: 3,
        },
        counters: Counters {
            ports: vec![PortCounterRow {
                interface: "vm1".into(),
                rx_packets: 100,
                rx_bytes: 10_000,
                redirect_failed: 0,
                reasons: BTreeMap::from([("discard".to_owned(), 4)]),
            }],
            next_hops: vec![NextHopCounterRow {
                next_hop: "via hub 10.1.10.4".to_owned(),
                packets: 60,
                bytes: 6000,
            }],
        },
        events_lost: 3,
    }
}

/// A session of which something is known.
pub(in crate::api) fn session() -> PeerDetail {
    let session = PeerRow {
        route_server: "rs1".into(),
        instance: 1,
        peer: "fw".into(),
        dynamic: false,
        kind: "vpn".to_owned(),
        gateway: Some("vpn1".into()),
        address: "10.1.20.4".parse().unwrap(),
        asn: 65020,
        connection: "Connected".to_owned(),
        state: State::Established,
        since_seconds: Some(1.0),
        families: vec![RouteFamily::Ipv4Unicast],
        hold_time: Some(180),
        received: 80,
        accepted: 70,
        advertised: 6,
        stale: vec![],
        messages_received: 50,
        messages_sent: 20,
        established_count: 2,
        last_error: None,
        shutdown: None,
        drained: false,
        warnings: vec![],
    };
    PeerDetail {
        session,
        local_address: None,
        terms: None,
        timers: SessionTimers {
            hold_time_offered: 180,
            hold_time: None,
            keepalive: None,
            connect_retry: 5,
            send_hold_time: 480,
        },
        updates_received: 40,
        updates_malformed: 1,
        prefixes_malformed: 0,
        received_by_family: BTreeMap::from([(RouteFamily::Ipv4Unicast, 80)]),
        stale_by_family: BTreeMap::from([(RouteFamily::Ipv4Unicast, 5)]),
        max_prefixes: 100,
        limit_action: "warn".to_owned(),

        max_advertised: None,
        advertised_limit_action: String::new(),
        security: vec![],
        policy: vec![],
        shutdown_received: None,
    }
}
