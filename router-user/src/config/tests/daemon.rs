//! `[daemon]`: the event log and the metrics.

use super::edited;
use crate::config::{DEFAULT_EVENT_LOG, parse, parse_with_warnings};

#[test]
fn events_are_kept_by_default_and_elsewhere_or_nowhere_if_told_so() {
    let daemon = |lines: &str| {
        let text = edited(&[("[daemon]\n", &format!("[daemon]\n{lines}\n"))]);
        parse(&text, "x.toml").unwrap().daemon
    };
    let defaults = daemon("");
    assert_eq!(
        defaults.event_log.unwrap().to_str(),
        Some(DEFAULT_EVENT_LOG)
    );
    assert_eq!(defaults.event_log_size, 64 << 20);
    assert_eq!(defaults.metrics, None);
    let elsewhere =
        daemon("event_log = \"/var/log/w.jsonl\"\nevent_log_size = 1\nmetrics = \"[::1]:9465\"");
    assert_eq!(
        elsewhere.event_log.unwrap().to_str(),
        Some("/var/log/w.jsonl")
    );
    assert_eq!(elsewhere.event_log_size, 1 << 20);
    assert_eq!(elsewhere.metrics, Some("[::1]:9465".parse().unwrap()));
    assert_eq!(daemon("event_log = \"\"").event_log, None);
}

#[test]
fn metrics_for_whoever_can_reach_the_host_are_warned_of() {
    let warnings = |address: &str| {
        let line = format!("[daemon]\nmetrics = \"{address}\"\n");
        let text = edited(&[("[daemon]\n", &line)]);
        parse_with_warnings(&text, "x.toml").unwrap().warnings.len()
    };
    assert_eq!(warnings("192.0.2.1:9465"), warnings("127.0.0.1:9465") + 1);
    assert_eq!(warnings("[::]:9465"), warnings("[::1]:9465") + 1);
}

#[test]
fn what_is_no_path_no_size_and_no_address_is_refused() {
    for (line, what) in [
        ("event_log = \"events.jsonl\"", "is not an absolute path"),
        ("event_log_size = 0", "event_log_size = 0 is out of range"),
        ("metrics = \"9465\"", "is no address to listen on"),
        ("metrics = \"127.0.0.1:0\"", "is no address to listen on"),
    ] {
        let text = edited(&[("[daemon]\n", &format!("[daemon]\n{line}\n"))]);
        let faults = parse(&text, "x.toml").unwrap_err().to_string();
        assert!(faults.contains(what), "{faults}");
    }
}
