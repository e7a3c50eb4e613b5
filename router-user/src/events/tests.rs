//! The log as those who write and read it meet it: bounded, whole after a crash, never in the way.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;

mod routes;

use super::{
    event::{
        DaemonEvent, Direction, FailoverEvent, LimitCount, LimitEvent, NextHopUse, OperatorEvent,
        ReloadEvent, RouteEvent, SessionEvent, SessionName,
    },
    file::{LogFile, beside},
    *,
};
use crate::{api::query::PeerCommand, bgp::wire::Family};

// -- Lines ---------------------------------------------------------------------------------------

#[test]
fn a_line_is_flat_json_and_reads_back_as_the_event() {
    for what in one_of_each() {
        let event = Event::now(what, "a cause".to_owned(), "an effect".to_owned());
        let mut line = Vec::new();
        event.append_to(&mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let kind = event.what.subject().kind;
        assert_eq!(value["kind"], kind.word());
        assert!(value["event"].is_string(), "{value}");
        assert_eq!(serde_json::from_slice::<Event>(&line).unwrap(), event);
    }
}

#[test]
fn the_reference_has_every_field_of_every_event_and_no_others() {
    let text = include_str!("../../../docs/api.md");
    let words = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let cells = |line: &str| -> Option<[String; 3]> {
        let cells = line.trim_matches('|').split('|').map(str::to_owned);
        cells.collect::<Vec<_>>().try_into().ok()
    };
    let section = text.split("## Events").nth(1).unwrap();
    let section = section.split("## Metrics").next().unwrap();
    let tables: Vec<_> = section.split("\n\n").collect();
    let [common, rows, meanings] = ["| field |", "| kind |", "| field |"].map(|head| {
        let mut found = tables.iter().filter(|table| table.starts_with(head));
        (found.next().copied(), found.next().copied())
    });
    let fields = |table: &str| -> Vec<String> {
        let lines = table.lines().skip(2).filter_map(cells);
        lines.flat_map(|[names, ..]| words(&names)).collect()
    };
    let common = fields(common.0.unwrap());
    let meanings = fields(meanings.1.unwrap());
    let rows: Vec<_> = rows.0.unwrap().lines().skip(2).filter_map(cells).collect();
    let samples = one_of_each();
    assert_eq!(samples.len(), rows.len());
    let mut told = BTreeSet::new();
    for what in samples {
        let event = Event::now(what, String::new(), String::new());
        let value = serde_json::to_value(&event).unwrap();
        let of = |name: &str| value[name].as_str().unwrap().to_owned();
        let row = rows.iter().find(|[kind, events, _]| {
            words(kind) == [of("kind")] && words(events).contains(&of("event"))
        });
        let [_, _, further] = row.unwrap_or_else(|| panic!("{value}"));
        let mut documented = [common.clone(), words(further)].concat();
        let mut written: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        documented.sort();
        written.sort();
        assert_eq!(documented, written);
        told.extend(words(further));
    }
    let meanings = meanings.into_iter().collect();
    assert_eq!(told, meanings);
}

#[test]
fn times_have_microseconds_always() {
    let event = Event {
        time: "2026-01-31T09:30:00Z".parse().unwrap(),
        ..Event::lost(1)
    };
    let mut line = Vec::new();
    event.append_to(&mut line);
    let line = String::from_utf8(line).unwrap();
    assert!(
        line.starts_with(r#"{"time":"2026-01-31T09:30:00.000000Z","kind":"daemon","event":"lost""#),
        "{line}"
    );
    let text = event.to_string();
    assert!(
        text.starts_with("2026-01-31T09:30:00.000000Z  daemon    events lost: 1"),
        "{text}"
    );
}

#[test]
fn people_read_what_happened_to_whom_why_and_what_that_does() {
    let text = |what: What| {
        let event = Event::now(what, "why".to_owned(), "so".to_owned());
        let text = event.to_string();
        text.split_once("Z  ").unwrap().1.to_owned()
    };
    let told: Vec<_> = one_of_each().into_iter().map(text).collect();
    assert_eq!(
        told,
        [
            "session   rs1/1 fw is down: why; so",
            "limit     rs1/1 fw received 80 of 100 IPv4 unicast routes, near its limit: why; so",
            "route     rs1: 10.250.0.0/16 changed from 10.1.10.4 to 10.1.10.4, 10.1.20.4: why; so",
            "route     rs1: 7 more prefixes learned or changed, 2 withdrawn: why; so",
            "failover  via hub 10.1.10.4 is down: why; so",
            "operator  rs1/1 fw clear soft: why; so",
            "operator  instance 2 of rs1 stopped: why; so",
            "reload    reload, changes: 1: why; so",
            "reload    reload refused: why; so",
            "daemon    waypost 0.1.0 started as process 7: why; so",
            "daemon    process 7 stopped: why; so",
            "daemon    events lost: 3: why; so",
            "daemon    events missed: why; so",
        ]
    );
}

// -- The files -----------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_told_is_read_in_order_and_a_successor_goes_on() {
    let place = Place::new();
    for run in 0..2 {
        let events = place.start(1 << 20);
        for n in 0..10 {
            events.tell(number(run * 10 + n), "", "");
        }
        events.end().await;
    }
    let events = place.start(1 << 20);
    assert_eq!(
        numbers(&events, Filter::default()).await,
        (0..20).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_log_is_bounded_and_what_is_kept_is_the_newest() {
    let place = Place::new();
    let size = 64 * 1024;
    let events = place.start(size);
    for n in 0..5000 {
        events.tell(number(n), "", "");
    }
    events.end().await;
    let lengths = [place.path(), beside(&place.path(), ".1")].map(|path| length(&path));
    assert!(
        lengths.iter().all(|length| *length <= size / 2),
        "{lengths:?}"
    );
    let kept = numbers(&place.start(size), Filter::default()).await;
    assert_eq!(kept.last(), Some(&4999));
    assert!(kept.len() > 200 && kept.is_sorted(), "{}", kept.len());
    let first = kept[0];
    assert_eq!(kept, (first..5000).collect::<Vec<_>>(), "none is missing");
}

#[tokio::test]
async fn a_smaller_bound_holds_for_what_an_earlier_run_wrote() {
    let place = Place::new();
    let events = place.start(1 << 20);
    for n in 0..2000 {
        events.tell(number(n), "", "");
    }
    events.end().await;
    let size = 16 * 1024;
    let events = place.start(size);
    assert!(length(&place.path()) <= size / 2);
    assert_eq!(
        numbers(&events, Filter::default()).await.last(),
        Some(&1999)
    );
}

#[tokio::test]
async fn a_torn_last_line_is_passed_over_and_the_next_one_is_whole() {
    let place = Place::new();
    let events = place.start(1 << 20);
    events.tell(number(1), "", "");
    events.end().await;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(place.path())
        .unwrap();
    file.write_all(br#"{"time":"2026-01-31T09:30:00.000000Z","kind":"da"#)
        .unwrap();
    let events = place.start(1 << 20);
    events.tell(number(2), "", "");
    events.end().await;
    let events = place.start(1 << 20);
    assert_eq!(numbers(&events, Filter::default()).await, [1, 2]);
}

#[tokio::test]
async fn a_log_that_somebody_removed_goes_on_and_is_for_owner_and_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let events = place.start(16 * 1024);
    events.tell(number(0), "", "");
    events.end().await;
    drop(events);
    let events = place.start(16 * 1024);
    fs::remove_file(place.path()).unwrap();
    for n in 0..1000 {
        events.tell(number(n), "", "");
    }
    events.end().await;
    assert_eq!(events.lost(), 0);
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let events = place.start(16 * 1024);
    let kept = numbers(&events, Filter::default()).await;
    assert_eq!(kept.last(), Some(&999));
}

#[tokio::test]
async fn two_daemons_do_not_write_the_same_log() {
    let place = Place::new();
    let first = place.start(1 << 20);
    let second = Events::start(place.path(), 1 << 20);
    assert!(matches!(second, Err(LogError::InUse(_))));
    first.end().await;
    drop(first);
    place.start(1 << 20);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named_with_the_setting() {
    let Err(error) = Events::start("/proc/none/events.jsonl".into(), 1 << 20) else {
        panic!("it was made");
    };
    let said = error.to_string();
    assert!(said.contains("/proc/none/events.jsonl") && said.contains("(event_log)"));
}

#[tokio::test]
async fn a_full_queue_keeps_nobody_waiting_and_the_loss_is_an_event() {
    let place = Place::new();
    let events = place.start(1 << 26);
    let told = 40 * QUEUE as u64;
    for n in 0..told {
        events.tell(number(n), "", "");
    }
    events.end().await;
    let lost = events.lost();
    let events = place.start(1 << 26);
    let mut reader = events.read(Filter::default(), false).unwrap().unwrap();
    let (mut written, mut missing) = (0, 0);
    while let Some(lines) = reader.next().await.unwrap() {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Event>(line).unwrap().what {
                What::Daemon(DaemonEvent::Lost { events }) => missing += events,
                _ => written += 1,
            }
        }
    }
    assert_eq!(missing, lost, "all of the loss is told");
    assert_eq!(written + missing, told);
}

#[test]
fn after_a_write_that_failed_the_file_is_as_long_as_it_is() {
    let place = Place::new();
    let mut log = LogFile::open(place.path(), 1 << 20).unwrap();
    log.append(b"one\n").unwrap();
    log.break_file(b"a part");
    log.append(b"two\n").unwrap_err();
    assert_eq!(log.length(), length(&place.path()));
}

#[test]
fn of_a_write_that_was_cut_short_the_whole_lines_are_told() {
    let place = Place::new();
    let mut log = LogFile::open(place.path(), 1 << 20).unwrap();
    log.append(b"one\n").unwrap();
    log.break_file(b"two\nthr");
    let unwritten = log.append(b"two\nthree\nfour\n").unwrap_err();
    assert_eq!(unwritten.written, 1);
}

#[tokio::test]
async fn what_was_written_before_the_disk_refused_is_not_counted_as_lost() {
    let place = Place::new();
    let events = place.start(16 * 1024);
    // The file can be filled, but not replaced.
    fs::create_dir(beside(&place.path(), ".1")).unwrap();
    let told = 1000;
    for n in 0..told {
        events.tell(number(n), "", "");
    }
    events.end().await;
    let text = fs::read_to_string(place.path()).unwrap();
    let written = text.lines().filter(|line| line.contains("started")).count() as u64;
    assert!((20..200).contains(&written), "{written}");
    assert_eq!(events.lost(), told - written);
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_keep_the_daemon_from_stopping() {
    let place = Place::new();
    let folder = place.path().parent().unwrap().to_owned();
    fs::create_dir(&folder).unwrap();
    let mut mkfifo = std::process::Command::new("mkfifo");
    assert!(mkfifo.arg(place.path()).status().unwrap().success());
    // Nobody reads it: what does not fit into the pipe is never written.
    let mut options = fs::OpenOptions::new();
    let _held = options.read(true).write(true).open(place.path()).unwrap();
    let events = place.start(1 << 30);
    for n in 0..5000 {
        events.tell(number(n), "", "");
    }
    let ended = events.end_within(Duration::from_millis(100));
    let in_time = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(in_time.is_ok(), "it waits for the disk");
}

// -- Readers -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_reader_that_follows_is_told_at_once_over_changes_of_files_until_the_log_ends() {
    let place = Place::new();
    let events = place.start(8 * 1024);
    let mut reader = events.read(Filter::default(), true).unwrap().unwrap();
    let mut seen = Vec::new();
    for n in 0..500 {
        events.tell(number(n), "", "");
        while n % 10 == 9 && seen.len() as u64 <= n {
            let lines = reader.next().await.unwrap();
            seen.extend(parse(&lines.expect("it goes on")));
        }
    }
    events.end().await;
    assert_eq!(reader.next().await.unwrap(), None);
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_comes_too_late_is_told_that_it_missed_events() {
    let place = Place::new();
    let events = place.start(8 * 1024);
    let of_one = Filter {
        kinds: BTreeSet::from([Kind::Session]),
        ..Filter::default()
    };
    let mut choosy = events.read(of_one, true).unwrap().unwrap();
    let mut reader = events.read(Filter::default(), true).unwrap().unwrap();
    let mut swift = events.read(Filter::default(), true).unwrap().unwrap();
    let mut seen = 0;
    for n in 0..500 {
        events.tell(number(n), "", "");
        while n % 10 == 9 && seen <= n {
            let lines = swift.next().await.unwrap().expect("it goes on");
            seen += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
    events.end().await;
    assert_eq!(swift.next().await.unwrap(), None, "it missed nothing");
    let mut told = Vec::new();
    while let Some(lines) = reader.next().await.unwrap() {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            told.push(serde_json::from_slice::<Event>(line).unwrap().what);
        }
    }
    let missed = |what: &What| *what == What::Daemon(DaemonEvent::Missed);
    let at = told.iter().position(missed).expect("it is told");
    assert!(at > 0 && !told[at + 1..].iter().any(missed), "once");
    assert_eq!(told[at - 1], number(at as u64 - 1), "whole until then");
    assert_eq!(told.last(), Some(&number(499)));
    let line = choosy.next().await.unwrap().expect("whatever it chooses");
    assert!(missed(
        &serde_json::from_slice::<Event>(&line).unwrap().what
    ));
}

#[tokio::test]
async fn readers_choose_by_time_kind_route_server_and_peer() {
    let place = Place::new();
    let events = place.start(1 << 20);
    for what in one_of_each() {
        events.tell(what, "", "");
    }
    events.end().await;
    let events = place.start(1 << 20);
    let count = async |filter: Filter| {
        let mut reader = events.read(filter, false).unwrap().unwrap();
        let mut count = 0;
        while let Some(lines) = reader.next().await.unwrap() {
            count += lines.iter().filter(|byte| **byte == b'\n').count();
        }
        count
    };
    let all = one_of_each().len();
    assert_eq!(count(Filter::default()).await, all);
    let kinds = Filter::kinds("session, route").unwrap();
    assert_eq!(
        count(Filter {
            kinds,
            ..Filter::default()
        })
        .await,
        3
    );
    let of = |name: &str| Filter {
        route_server: Some(name.to_owned()),
        ..Filter::default()
    };
    assert_eq!(count(of("rs1")).await, 6);
    assert_eq!(count(of("rs2")).await, 0);
    let peer = |name: &str| Filter {
        peer: Some(name.to_owned()),
        ..Filter::default()
    };
    assert_eq!(count(peer("fw")).await, 3);
    assert_eq!(count(peer("sdwan")).await, 2, "it caused changes of routes");
    let since = |since| Filter {
        since: Some(since),
        ..Filter::default()
    };
    assert_eq!(count(since(Timestamp::UNIX_EPOCH)).await, all);
    let later = Timestamp::now() + Duration::from_secs(60);
    assert_eq!(count(since(later)).await, 0);
    let error = Filter::kinds("session,rout").unwrap_err().to_string();
    assert!(error.contains("\"rout\"") && error.contains("; write one of: session, limit"));
}

// -- Helpers -------------------------------------------------------------------------------------

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log/events.jsonl")
    }

    /// As soon as the writer before it has let go.
    fn start(&self, size: u64) -> Events {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match Events::start(self.path(), size) {
                Ok(events) => return events,
                Err(error) => assert!(Instant::now() < patience, "{error}"),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An event that carries a number.
fn number(n: u64) -> What {
    What::Daemon(DaemonEvent::Started {
        version: n.to_string(),
        pid: 7,
    })
}

async fn numbers(events: &Events, filter: Filter) -> Vec<u64> {
    let mut reader = events.read(filter, false).unwrap().unwrap();
    let mut numbers = Vec::new();
    while let Some(lines) = reader.next().await.unwrap() {
        numbers.extend(parse(&lines));
    }
    numbers
}

fn parse(lines: &[u8]) -> Vec<u64> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(
            |line| match serde_json::from_slice::<Event>(line).unwrap().what {
                What::Daemon(DaemonEvent::Started { version, .. }) => version.parse().unwrap(),
                other => panic!("{other}"),
            },
        )
        .collect()
}

/// What happened, of all that is kept.
async fn texts(place: &Place) -> Vec<String> {
    let events = all(place).await;
    events.iter().map(|event| event.what.to_string()).collect()
}

/// All that is kept.
async fn all(place: &Place) -> Vec<Event> {
    let log = place.start(1 << 20);
    let mut reader = log.read(Filter::default(), false).unwrap().unwrap();
    let mut events = Vec::new();
    while let Some(lines) = reader.next().await.unwrap() {
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        events.extend(lines.map(|line| serde_json::from_slice::<Event>(line).unwrap()));
    }
    events
}

/// One of each shape.
fn one_of_each() -> Vec<What> {
    let session = SessionName {
        route_server: "rs1".into(),
        instance: 1,
        peer: "fw".into(),
        address: "10.1.20.4".parse().unwrap(),
    };
    let addresses =
        |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|text| text.parse().unwrap()).collect() };
    vec![
        What::Session(SessionEvent::Down(session.clone())),
        What::Limit(LimitEvent::Warned(LimitCount {
            session: session.clone(),
            family: Family::Ipv4Unicast,
            direction: Direction::Received,
            count: 80,
            max: 100,
        })),
        What::Route(RouteEvent::Changed(event::RouteChange {
            route_server: "rs1".into(),
            prefix: "10.250.0.0/16".parse().unwrap(),
            before: addresses(&["10.1.10.4"]),
            after: addresses(&["10.1.10.4", "10.1.20.4"]),
            peers: vec!["sdwan".into()],
        })),
        What::Route(RouteEvent::Summary(event::RouteSummary {
            route_server: "rs1".into(),
            learned: 7,
            withdrawn: 2,
            peers: vec!["sdwan".into()],
        })),
        What::Failover(FailoverEvent::NextHopDown(NextHopUse {
            next_hop: "via hub 10.1.10.4".to_owned(),
            groups: 2,
            routes: 12,
            groups_without_other: 0,
        })),
        What::Operator(OperatorEvent::PeerCommand {
            session,
            command: PeerCommand::ClearSoft,
        }),
        What::Operator(OperatorEvent::InstanceStopped {
            route_server: "rs1".into(),
            instance: 2,
        }),
        What::Reload(ReloadEvent::Applied {
            changes: vec!["peer rs1/fw added".to_owned()],
            count: 1,
        }),
        What::Reload(ReloadEvent::Refused),
        What::Daemon(DaemonEvent::Started {
            version: "0.1.0".to_owned(),
            pid: 7,
        }),
        What::Daemon(DaemonEvent::Stopped { pid: 7 }),
        What::Daemon(DaemonEvent::Lost { events: 3 }),
        What::Daemon(DaemonEvent::Missed),
    ]
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
