//! `waypost show peer NAME`: a session a block, a fact a line.

use super::table::duration;
use crate::api::types::{PeerDetail, SessionTerms};

/// All about these sessions.
pub(super) fn details(details: &[PeerDetail]) -> String {
    let blocks: Vec<String> = details.iter().map(detail).collect();
    blocks.join("\n")
}

fn detail(detail: &PeerDetail) -> String {
    let PeerDetail {
        session,
        local_address,
        terms,
        timers,
        ..
    } = detail;
    let seconds = |seconds: Option<u16>| seconds.map_or("-".to_owned(), |s| format!("{s} s"));
    let mut text = format!(
        "{} at route server {}, instance {}\n",
        session.peer, session.route_server, session.instance
    );
    let mut line = |what: &str, value: String| {
        if !value.is_empty() {
            text += &format!("  {what:<22}{value}\n");
        }
    };
    let since = session.since_seconds.map(duration);
    line("peer", format!("{}, AS {}", session.address, session.asn));
    let gateway = session.gateway.as_ref();
    let gateway = gateway.map(|gateway| format!("{} gateway {gateway}", session.kind));
    line("member of", gateway.unwrap_or_default());
    let ours = local_address.map(|address| address.to_string());
    line("our address", ours.unwrap_or_default());
    let since = since.map_or(String::new(), |since| format!(" for {since}"));
    line(
        "state",
        format!("{:?} ({}){since}", session.state, session.connection),
    );
    let times = match session.established_count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    line("was established", times);
    line("last error", session.last_error.clone().unwrap_or_default());
    let said = detail.shutdown_received.as_ref();
    let said = said.map(|text| format!("\"{text}\""));
    line("peer's last words", said.unwrap_or_default());
    if let Some(terms) = terms {
        terms_lines(terms, &mut line);
    }
    line(
        "hold time",
        format!(
            "{}, offered {} s; keepalive {}",
            seconds(timers.hold_time),
            timers.hold_time_offered,
            seconds(timers.keepalive),
        ),
    );
    line(
        "other timers",
        format!(
            "connect retry {} s, send hold {} s",
            timers.connect_retry, timers.send_hold_time
        ),
    );
    line(
        "messages",
        format!(
            "{} received, {} sent",
            session.messages_received, session.messages_sent
        ),
    );
    line(
        "updates received",
        format!(
            "{}; {} malformed, {} prefixes treated as withdrawn",
            detail.updates_received, detail.updates_malformed, detail.prefixes_malformed
        ),
    );
    let by_family = detail.received_by_family.iter();
    let by_family = by_family.map(|(family, count)| {
        let stale = detail.stale_by_family.get(family).copied();
        let mut text = format!("{count} {family}");
        if let Some(stale @ 1..) = stale {
            text += &format!(" ({stale} stale)");
        }
        text
    });
    let by_family: Vec<String> = by_family.collect();
    line(
        "routes",
        format!(
            "received {}; {} accepted; {} advertised",
            by_family.join(", "),
            session.accepted,
            session.advertised
        ),
    );
    line(
        "limit",
        format!(
            "{} routes a family, then {}",
            detail.max_prefixes, detail.limit_action
        ),
    );
    if let Some(most) = detail.max_advertised {
        let action = &detail.advertised_limit_action;
        line(
            "sent at most",
            format!("{most} routes a family, then {action}"),
        );
    }
    let security = match &detail.security[..] {
        [] => "none".to_owned(),
        security => security.join(", "),
    };
    line("security", security);
    line("policy", detail.policy.join(", "));
    for warning in &session.warnings {
        line("note", warning.clone());
    }
    text
}

fn terms_lines(terms: &SessionTerms, line: &mut impl FnMut(&str, String)) {
    let SessionTerms {
        local_router_id,
        peer_router_id,
        local_capabilities,
        peer_capabilities,
        add_path_receive,
        add_path_send,
        local_restart_time,
        peer_restart_time,
    } = terms;
    line(
        "router ids",
        format!("{peer_router_id}, ours {local_router_id}"),
    );
    line("we announced", local_capabilities.join(", "));
    line("the peer announced", peer_capabilities.join(", "));
    let families = |families: &[crate::bgp::wire::Family]| {
        let names: Vec<String> = families.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    line("several paths from it", families(add_path_receive));
    line("several paths to it", families(add_path_send));
    let restart = |time: &Option<u16>| match time {
        Some(0) | None => "not kept".to_owned(),
        Some(seconds) => format!("kept for {seconds} s"),
    };
    line(
        "over a restart",
        format!(
            "its routes are {}, ours are {}",
            restart(peer_restart_time),
            restart(local_restart_time)
        ),
    );
}
