//! `waypost events`: the event log, for people or as it is.

use std::io::{self, Write as _};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

use super::args::EventArguments;
use crate::{
    api::{client::Client, query::EventFilter},
    events::Event,
};

/// Prints events until there are no more of them, or whoever reads them has gone.
pub(super) async fn events(client: &Client, asked: &EventArguments) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut rest = Vec::new();
    let mut written = Ok(());
    let take = |chunk: &[u8]| {
        rest.extend_from_slice(chunk);
        let whole = rest.iter().rposition(|byte| *byte == b'\n');
        let lines: Vec<u8> = rest.drain(..whole.map_or(0, |at| at + 1)).collect();
        let text = match asked.json {
            true => lines,
            false => for_people(&lines).into_bytes(),
        };
        written = stdout.write_all(&text).and_then(|()| stdout.flush());
        written.is_ok()
    };
    client
        .stream("/v1/events", &filter(asked, Timestamp::now()), take)
        .await?;
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A time, or for how long until now.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let duration = text.parse::<SignedDuration>().ok();
    let duration = duration.filter(|duration| !duration.is_negative());
    duration
        .and_then(|duration| Timestamp::now().checked_sub(duration).ok())
        .ok_or_else(|| "write a time (2026-01-31T09:30:00Z) or a duration (10m)".to_owned())
}

fn filter(asked: &EventArguments, now: Timestamp) -> EventFilter {
    let kinds: Vec<_> = asked.kind.iter().map(|kind| kind.word()).collect();
    let since = asked.since.or(asked.follow.then_some(now));
    EventFilter {
        since: since.map(|since| since.to_string()),
        follow: asked.follow,
        kind: (!kinds.is_empty()).then(|| kinds.join(",")),
        route_server: asked.route_server.clone(),
        peer: asked.peer.clone(),
    }
}

/// A line an event; what a newer daemon says stays as it is.
fn for_people(lines: &[u8]) -> String {
    let lines = String::from_utf8_lossy(lines);
    let lines = lines.lines().map(|line| {
        let event = serde_json::from_str::<Event>(line);
        event.map_or_else(|_| format!("{line}\n"), |event| format!("{event}\n"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_duration_until_now() {
        let time = since("2026-01-31T09:30:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-01-31T09:30:00Z");
        for (text, seconds) in [("10m", 600), ("2h", 7200), ("90s", 90), ("1h 30m", 5400)] {
            let ago = Timestamp::now().duration_since(since(text).unwrap());
            assert!((ago.as_secs() - seconds).abs() <= 1, "{text}");
        }
        for wrong in ["", "yesterday", "-10m", "10"] {
            assert!(since(wrong).unwrap_err().contains("(10m)"), "{wrong}");
        }
    }

    #[test]
    fn lines_are_told_to_people_and_unknown_ones_stay_as_they_are() {
        let line = r#"{"time":"2026-01-31T09:30:00.000000Z","kind":"operator","event":"instance_stopped","route_server":"rs1","instance":2,"cause":"an operator's command","effect":"its sessions are closed"}"#;
        let text = for_people(format!("{line}\n{{\"kind\":\"new\"}}\n").as_bytes());
        assert_eq!(
            text,
            "2026-01-31T09:30:00.000000Z  operator  instance 2 of rs1 stopped: an operator's command; \
             its sessions are closed\n{\"kind\":\"new\"}\n"
        );
    }
}
