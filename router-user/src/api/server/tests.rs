//! The socket as a file, and what goes through it.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::{
    api::{
        Answer,
        client::{Client, ClientError},
        query::{
            CounterFilter, EffectiveFilter, EventFilter, FibFilter, InstanceOrder, PeerOrder,
            PlanOrder, RouteFilter, StopOrder,
        },
        types::{
            AdvertisedRow, Counters, EffectiveRow, ExplainQuery, Explanation, FibView, LearnedRow,
            PeerDetail, PeerOrderRow, PeerRow, Plan, ReceivedRow, ReloadReport, Status,
        },
    },
    events::{Event, Events, Filter, What, event::DaemonEvent},
};

// -- The socket's file ---------------------------------------------------------------------------

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_its_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/waypost.sock");
    let socket = bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(socket);
    assert!(!path.exists(), "removed at the end");
}

#[tokio::test]
async fn a_live_daemons_socket_is_refused_and_a_dead_ones_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waypost.sock");
    let live = bind(&path).await.unwrap();
    assert!(matches!(bind(&path).await, Err(BindError::InUse(_))));
    drop(live);

    // As after kill -9: the file stays, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let successor = bind(&path).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(successor);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waypost.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path).await, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_predecessor_that_ends_late_does_not_remove_the_successors_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waypost.sock");
    let predecessor = bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let successor = bind(&path).await.unwrap();
    drop(predecessor);
    assert!(path.exists());
    drop(successor);
}

// -- Orders --------------------------------------------------------------------------------------

#[tokio::test]
async fn a_configuration_of_any_size_may_be_planned() {
    let lab = Lab::start(false).await;
    let order = PlanOrder {
        file: "new.toml".to_owned(),
        text: "# a comment\n".repeat(1 << 19),
    };
    let plan: Plan = lab.client.post("/v1/plan", &order).await.unwrap();
    assert_eq!(plan.changes, ["new.toml: 6291456 bytes"]);
}

// -- Events and metrics --------------------------------------------------------------------------

#[tokio::test]
async fn events_are_streamed_as_they_happen_and_the_stream_ends_with_the_log() {
    let lab = Lab::start(true).await;
    lab.tell(1);
    let (client, events) = (lab.client.clone(), lab.events.clone());
    let (first, seen_first) = oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut first = Some(first);
        let mut seen = Vec::new();
        let filter = EventFilter {
            follow: true,
            kind: Some("daemon".to_owned()),
            ..EventFilter::default()
        };
        let take = |chunk: &[u8]| {
            for line in chunk.split_inclusive(|byte| *byte == b'\n') {
                let event: Event = serde_json::from_slice(line).unwrap();
                seen.push(event.what.to_string());
            }
            first.take().map(|first| first.send(()));
            true
        };
        let ended = client.stream("/v1/events", &filter, take).await;
        (ended.is_ok(), seen)
    });
    // It was told before there was a reader; what comes next is told while it follows.
    seen_first.await.unwrap();
    lab.tell(2);
    events.end().await;
    let (ended, seen) = reader.await.unwrap();
    assert!(ended);
    assert_eq!(seen, ["process 1 stopped", "process 2 stopped"]);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_goes_and_the_daemon_stops_at_once() {
    let lab = Lab::start(true).await;
    lab.tell(1);
    let filter = EventFilter {
        follow: true,
        ..EventFilter::default()
    };
    let streamed = lab.client.stream("/v1/events", &filter, |_| false);
    assert!(streamed.await.is_ok());
    lab.events.end().await;
    lab.stop().await;
}

#[tokio::test]
async fn filters_that_are_none_and_a_log_that_is_not_kept_are_told_with_a_remedy() {
    let refused = async |lab: &Lab, filter: EventFilter| {
        let streamed = lab.client.stream("/v1/events", &filter, |_| true).await;
        match streamed {
            Err(ClientError::Refused(failure)) => failure.error,
            other => panic!("{other:?}"),
        }
    };
    let without = Lab::start(false).await;
    let error = refused(&without, EventFilter::default()).await;
    assert_eq!(error, "no events are kept");
    let body = without.get("/v1/events?sinc=now").await;
    assert!(body.contains("422") && body.contains("sinc"), "{body}");
}

#[tokio::test]
async fn metrics_are_text_at_the_socket_and_over_tcp_and_nothing_else_is_served_there() {
    let lab = Lab::start(false).await;
    let at_socket = lab.get("/metrics").await;
    let listener = bind_metrics("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_metrics(listener, Fake(Events::none())));
    let over_tcp = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        exchange(stream, path).await
    };
    for answer in [at_socket, over_tcp("/metrics").await] {
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        assert!(answer.contains("application/openmetrics-text; version=1.0.0"));
        assert!(answer.ends_with("waypost_up 1\n# EOF\n"), "{answer}");
    }
    let elsewhere = over_tcp("/v1/status").await;
    assert!(elsewhere.starts_with("HTTP/1.0 404"), "{elsewhere}");
    let taken = bind_metrics(address).await.unwrap_err().to_string();
    assert!(taken.contains("(metrics)"), "{taken}");
    server.abort();
}

#[tokio::test]
async fn connections_for_metrics_are_few_at_a_time_and_end_after_a_while() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    let bounded = Bounded::new(free, Duration::from_millis(300));
    let server = tokio::spawn(serve_bounded(bounded, Fake(Events::none())));
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let begun = std::time::Instant::now();
    let late = TcpStream::connect(address).await.unwrap();
    let answer = exchange(late, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(100), "{waited:?}");
    for mut stream in idle {
        let ended = stream.read(&mut [0; 64]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    server.abort();
}

/// A daemon that knows events and metrics only.
struct Lab {
    folder: tempfile::TempDir,
    client: Client,
    events: Events,
    close: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

impl Lab {
    async fn start(keeps_events: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let events = match keeps_events {
            true => Events::start(folder.path().join("events.jsonl"), 1 << 20).unwrap(),
            false => Events::none(),
        };
        let path = folder.path().join("waypost.sock");
        let socket = bind(&path).await.unwrap();
        let (close, closed) = oneshot::channel();
        let server = tokio::spawn(serve(socket, Fake(events.clone()), async {
            let _ = closed.await;
        }));
        Self {
            client: Client::new(&path),
            folder,
            events,
            close,
            server,
        }
    }

    fn tell(&self, pid: u32) {
        let what = What::Daemon(DaemonEvent::Stopped { pid });
        self.events.tell(what, "", "");
    }

    async fn get(&self, path: &str) -> String {
        let socket: PathBuf = self.folder.path().join("waypost.sock");
        exchange(UnixStream::connect(socket).await.unwrap(), path).await
    }

    /// Ends once all requests under way are answered.
    async fn stop(self) {
        self.close.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

/// The whole answer.
async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    path: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[derive(Clone)]
struct Fake(Events);

fn nothing<T>() -> Answer<T> {
    Err(ApiError::unavailable(
        "this is no daemon",
        "ask another one",
    ))
}

impl Backend for Fake {
    async fn events(&self, filter: EventFilter) -> Answer<Reader> {
        let reader = self.0.read(Filter::default(), filter.follow).unwrap();
        reader.ok_or_else(|| ApiError::unavailable("no events are kept", "keep them"))
    }

    async fn metrics(&self) -> Answer<String> {
        Ok("waypost_up 1\n# EOF\n".to_owned())
    }

    async fn status(&self) -> Answer<Status> {
        nothing()
    }

    async fn peers(&self, _: RouteFilter) -> Answer<Vec<PeerRow>> {
        nothing()
    }

    async fn peer(&self, _: RouteFilter) -> Answer<Vec<PeerDetail>> {
        nothing()
    }

    async fn command_peer(&self, _: PeerOrder) -> Answer<Vec<PeerOrderRow>> {
        nothing()
    }

    async fn received(&self, _: RouteFilter) -> Answer<Vec<ReceivedRow>> {
        nothing()
    }

    async fn learned(&self, _: RouteFilter) -> Answer<Vec<LearnedRow>> {
        nothing()
    }

    async fn advertised(&self, _: RouteFilter) -> Answer<Vec<AdvertisedRow>> {
        nothing()
    }

    async fn effective(&self, _: EffectiveFilter) -> Answer<Vec<EffectiveRow>> {
        nothing()
    }

    async fn fib(&self, _: FibFilter) -> Answer<FibView> {
        nothing()
    }

    async fn counters(&self, _: CounterFilter) -> Answer<Counters> {
        nothing()
    }

    async fn explain(&self, _: ExplainQuery) -> Answer<Explanation> {
        nothing()
    }

    async fn reload(&self) -> Answer<ReloadReport> {
        nothing()
    }

    async fn plan(&self, order: PlanOrder) -> Answer<Plan> {
        Ok(Plan {
            changes: vec![format!("{}: {} bytes", order.file, order.text.len())],
            ..Plan::default()
        })
    }

    async fn stop_instance(&self, _: InstanceOrder) -> Answer<()> {
        nothing()
    }

    async fn start_instance(&self, _: InstanceOrder) -> Answer<()> {
        nothing()
    }

    async fn stop(&self, _: StopOrder) -> Answer<()> {
        nothing()
    }
}
