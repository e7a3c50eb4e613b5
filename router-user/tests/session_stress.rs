//! Sessions under stress, over real sockets: whatever one peer does, the session of another one
//! with a hold time of 3 s stays up and has its keepalives in time.

mod session_support;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use router_user::bgp::{
    DownReason, InstanceId, SessionEvent,
    session::SessionConfig,
    speaker::Selection,
    wire::{self, Family, Notification, RefreshKind, RouteRefresh, notification::cease},
};
use session_support::{
    Node, RawPeer, announcement, free_port, in_private_network, ip, mirrored, open_of_peer, send,
    session,
};
use socket2::{Domain, Socket, Type};

/// Longest time between two messages to the bystander; keepalives are due each second.
const LATEST: Duration = Duration::from_millis(2500);

// -- Collisions ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_speakers_that_connect_at_once_again_and_again_always_end_up_with_one_session() {
    let config = session("127.22.1.1", "127.22.1.2", free_port("127.22.1.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    let [id, their_id] = [config.id.clone(), mirrored(&config).id];
    let selections = [&id, &their_id].map(|id| Selection::Session(id.clone()));
    let mut lost = 0;
    for _ in 0..40 {
        lost += settle(&mut ours, &mut theirs).await;
        let subcode = cease::ADMINISTRATIVE_RESET;
        ours.speaker.stop(selections[0].clone(), subcode, "");
        theirs.speaker.stop(selections[1].clone(), subcode, "");
        ours.down(&id).await;
        theirs.down(&their_id).await;
        ours.speaker.start(&selections[0]);
        theirs.speaker.start(&selections[1]);
    }
    settle(&mut ours, &mut theirs).await;
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_millis(1500), down).await);
    println!("{lost} of 40 first sessions lost to a collision");
    assert!(lost <= 8, "{lost} of 40 first sessions lost to a collision");
}

/// Waits until both have a session. One that is up on one side may still lose a collision on the
/// other, where the last KEEPALIVE has not arrived yet (RFC 4271 §6.8); how many did.
async fn settle(ours: &mut Node, theirs: &mut Node) -> usize {
    let (mut up, mut lost) = ([false; 2], 0);
    let mut note = |side: usize, event: SessionEvent| {
        match event {
            SessionEvent::Up { .. } => up[side] = true,
            SessionEvent::Down { reason, .. } => {
                let collision = Notification::connection_collision();
                assert_eq!(reason, DownReason::NotificationReceived(collision));
                up[side] = false;
                lost += 1;
            }
            _ => {}
        }
        up
    };
    let mut now_up = [false; 2];
    let settled = async {
        loop {
            tokio::select! {
                Some(event) = ours.events.recv() => now_up = note(0, event),
                Some(event) = theirs.events.recv() => now_up = note(1, event),
                () = tokio::time::sleep(Duration::from_millis(50)), if now_up == [true; 2] => return,
            }
        }
    };
    tokio::time::timeout(session_support::PATIENCE, settled)
        .await
        .expect("one session in time");
    lost
}

// -- Peers that are slow ---------------------------------------------------------------------------

#[tokio::test]
async fn a_byte_now_and_then_is_no_sign_of_life() {
    let config = passive("127.22.2.1", "127.22.2.2", free_port("127.22.2.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 3).await;
    ours.up(&config.id).await;
    let since = Instant::now();
    let mut keepalive = BytesMut::new();
    wire::encode_keepalive(&mut keepalive);
    let trickle = async {
        for byte in keepalive {
            let _ = tokio::io::AsyncWriteExt::write_u8(&mut peer.stream, byte).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    };
    // The session is gone long before the last byte makes a message of them.
    let reason = tokio::select! {
        reason = ours.down(&config.id) => reason,
        () = trickle => panic!("a byte passes for a sign of life"),
    };
    assert_eq!(
        reason,
        DownReason::NotificationSent(Notification::hold_timer_expired())
    );
    assert!(since.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stop_reading_are_let_go_with_and_without_keepalives() {
    let port = free_port("127.22.3.1");
    let stuck: Vec<_> = [(2, 3), (3, 0)]
        .into_iter()
        .map(|(last, hold_time)| SessionConfig {
            hold_time,
            send_hold_time: 4,
            ..passive("127.22.3.1", &format!("127.22.3.{last}"), port)
        })
        .collect();
    let other = bystander(&stuck[0], "127.22.3.9");
    let mut sessions = stuck.clone();
    sessions.push(other.clone());
    let mut ours = Node::with(sessions);
    let bystander = Bystander::watch(&other);
    ours.up(&other.id).await;

    let mut peers = Vec::new();
    let since = Instant::now();
    for config in &stuck {
        let small = |socket: &Socket| socket.set_recv_buffer_size(8192).unwrap();
        let mut peer = RawPeer::connect_with(config, small).await;
        peer.open(config, config.hold_time).await;
        let (handle, context) = ours.up(&config.id).await;
        let update = announcement(&context, 65515, "127.22.3.1", &["10.1.0.0/16"]);
        let many: bytes::Bytes = update.repeat((1 << 20) / update.len()).into();
        for _ in 0..16 {
            send(&handle, many.clone());
        }
        peers.push(peer);
    }
    let mut down = Vec::new();
    while down.len() < 2 {
        // They speak, but do not listen. The first one has a hold time.
        for peer in &mut peers {
            let mut keepalive = BytesMut::new();
            wire::encode_keepalive(&mut keepalive);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &keepalive).await;
        }
        let end = tokio::time::sleep(Duration::from_millis(500));
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Some(event) = ours.events.recv() => if let SessionEvent::Down { id, reason } = event {
                    assert_eq!(
                        reason,
                        DownReason::NotificationSent(Notification::send_hold_timer_expired()),
                        "{id}"
                    );
                    down.push((id, since.elapsed()));
                },
            }
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{down:?}");
    }
    let too_early = down
        .iter()
        .find(|(_, after)| *after < Duration::from_secs(4));
    assert_eq!(too_early, None);
    bystander.prove();
}

// -- Floods ----------------------------------------------------------------------------------------

/// How long a flood goes on: longer than the bystander's hold time.
const FLOOD: Duration = Duration::from_secs(4);

#[test]
fn a_flood_of_updates_holds_nobody_up() {
    flood("127.22.4", |config, end| {
        let mut stream = blocking(config);
        let update = announcement(
            &wire::Context::default(),
            65010,
            "127.22.4.2",
            &["10.0.0.0/8"],
        );
        let block = update.repeat(500);
        while Instant::now() < end {
            stream.write_all(&block).unwrap();
        }
    });
}

#[test]
fn a_flood_of_route_refreshes_is_handed_on_now_and_then() {
    let seen = flood("127.22.5", |config, end| {
        let mut stream = blocking(config);
        let mut block = BytesMut::new();
        for _ in 0..1000 {
            RouteRefresh::new(Family::Ipv4Unicast, RefreshKind::Request).encode(&mut block);
        }
        while Instant::now() < end {
            stream.write_all(&block).unwrap();
        }
    });
    assert!((1..=8).contains(&seen.refreshes), "{seen:?}");
}

#[test]
fn a_flood_of_opens_and_garbage_beside_a_session_costs_little() {
    let seen = flood("127.22.6", |config, end| {
        let established = blocking(config);
        let mut open = BytesMut::new();
        open_of_peer(config, 90).encode(&mut open);
        let mut number = 0_u64;
        while Instant::now() < end {
            number += 1;
            // Each connection says something else that is wrong.
            let mut wrong = open.to_vec();
            if number.is_multiple_of(2) {
                wrong[19] = number as u8;
            } else {
                wrong.extend_from_slice(&open);
                wrong.extend_from_slice(&number.to_be_bytes());
            }
            if let Ok(mut other) = connect(config) {
                let _ = other.write_all(&wrong);
                let _ = other.read(&mut [0; 4096]);
            }
        }
        // Not before the others have stopped looking.
        std::thread::sleep(Duration::from_millis(500));
        drop(established);
    });
    let seconds = FLOOD.as_secs() as usize + 2;
    // 10 connections a second are taken; each may be seen in the status once.
    assert!(seen.statuses <= 40 + seconds * 12, "{seen:?}");
    assert_eq!(seen.downs_of_the_flooder, 0, "{seen:?}");
}

#[test]
fn floods_of_connections_by_a_peer_and_by_strangers_hold_nobody_up() {
    let seen = flood("127.22.7", |config, end| {
        let stranger = {
            let mut stranger = config.clone();
            stranger.id.peer = "127.22.7.77".parse().unwrap();
            stranger
        };
        let mut held = Vec::new();
        let mut made = 0;
        while Instant::now() < end {
            made += 1;
            for from in [config, &stranger] {
                if let Ok(stream) = connect(from)
                    && held.len() < 500
                {
                    held.push(stream);
                }
            }
        }
        assert!(made > 100, "{made} are no flood");
    });
    assert!(seen.statuses <= 400, "{seen:?}");
}

/// What happened during a flood.
#[derive(Debug, Default)]
struct Seen {
    refreshes: usize,
    statuses: usize,
    downs_of_the_flooder: usize,
}

/// Lets a thread flood a speaker and proves that the bystander's session did not notice.
fn flood(network: &str, run: fn(&SessionConfig, Instant)) -> Seen {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let local = format!("{network}.1");
        let config = passive(&local, &format!("{network}.2"), free_port(&local));
        let other = bystander(&config, &format!("{network}.9"));
        let mut ours = Node::with(vec![config.clone(), other.clone()]);
        let bystander = Bystander::watch(&other);
        ours.up(&other.id).await;
        let end = Instant::now() + FLOOD;
        let flooder = config.clone();
        let thread = std::thread::spawn(move || run(&flooder, end));
        let mut seen = Seen::default();
        // The owner of the RIB takes what comes and gives the credits back.
        while Instant::now() < end {
            let event = tokio::time::timeout(Duration::from_millis(100), ours.events.recv());
            match event.await.ok().flatten() {
                Some(SessionEvent::RefreshRequested { .. }) => seen.refreshes += 1,
                Some(SessionEvent::Status { .. }) => seen.statuses += 1,
                Some(SessionEvent::Down { id, reason }) => {
                    assert_eq!(id, config.id, "{reason}");
                    seen.downs_of_the_flooder += 1;
                }
                _ => {}
            }
        }
        bystander.prove();
        thread.join().unwrap();
        let errors = ours.speaker.apply(vec![other]);
        assert!(errors.is_empty(), "{errors:?}");
        seen
    })
}

// -- Clocks ----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_process_that_wakes_up_late_keeps_the_sessions_of_peers_that_live() {
    let first = passive("127.22.8.1", "127.22.8.2", free_port("127.22.8.1"));
    let other = bystander(&first, "127.22.8.9");
    let mut ours = Node::with(vec![other.clone()]);
    let bystander = Bystander::watch(&other);
    ours.up(&other.id).await;
    // What is said last of the opening may not be sent yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Nothing runs here for longer than the hold time: the only thread of the runtime sleeps.
    std::thread::sleep(Duration::from_secs(5));
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_secs(4), down).await);
    bystander.stop();
}

#[test]
fn time_is_measured_with_a_clock_that_nobody_sets() {
    fn look(folder: &std::path::Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files += look(&path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                for clock in ["SystemTime", "CLOCK_REALTIME", "UNIX_EPOCH"] {
                    assert!(!text.contains(clock), "{}: {clock}", path.display());
                }
                files += 1;
            }
        }
        files
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bgp");
    assert!(look(&folder) > 30);
}

// -- The host --------------------------------------------------------------------------------------

#[test]
fn an_address_that_goes_and_comes_back_needs_no_restart_over_ipv4() {
    address_lost_and_back("10.1.255.4/32", "10.1.10.4/32");
}

#[test]
fn an_address_that_goes_and_comes_back_needs_no_restart_over_ipv6() {
    address_lost_and_back("fd00:1:0:ff::4/128", "fd00:1:0:a::4/128");
}

fn address_lost_and_back(own: &'static str, peer: &'static str) {
    in_private_network(&[own, peer], move || async move {
        let address = |net: &str| net.split('/').next().unwrap().to_owned();
        let config = SessionConfig {
            hold_time: 3,
            ..session(&address(own), &address(peer), 179)
        };
        let mut ours = Node::with(vec![config.clone()]);
        let _theirs = Node::with(vec![mirrored(&config)]);
        ours.up(&config.id).await;
        let add = || {
            let nodad: &[&str] = if own.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["address", "add", own, "dev", "lo"], nodad].concat());
        };
        let remove = || ip(&["address", "del", own, "dev", "lo"]);

        // For a moment: nobody notices.
        remove();
        tokio::time::sleep(Duration::from_millis(300)).await;
        add();
        let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
        assert!(ours.quiet(Duration::from_secs(4), down).await, "a moment");

        // For long: the session is lost, and comes back by itself.
        remove();
        ours.down(&config.id).await;
        ours.error("ip address add").await;
        add();
        ours.up(&config.id).await;
        // The interface goes down and up again.
        ip(&["link", "set", "lo", "down"]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        ip(&["link", "set", "lo", "up"]);
        if own.contains(':') {
            // The kernel has removed the addresses with the link.
            add();
            ip(&["address", "add", peer, "dev", "lo", "nodad"]);
        }
        ours.up(&config.id).await;
    });
}

// -- Helpers ---------------------------------------------------------------------------------------

fn passive(local: &str, peer: &str, port: u16) -> SessionConfig {
    SessionConfig {
        passive: true,
        ..session(local, peer, port)
    }
}

/// Another peer of the same instance, with a hold time of 3 s.
fn bystander(config: &SessionConfig, address: &str) -> SessionConfig {
    let peer: IpAddr = address.parse().unwrap();
    let mut other = SessionConfig {
        hold_time: 3,
        send_hold_time: 480,
        ..config.clone()
    };
    other.id.peer = peer;
    other.id.instance = InstanceId(1);
    other
}

/// A peer on a thread of its own: whatever the runtime does, it keeps its side of the session.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Duration, Option<String>)>,
}

impl Bystander {
    fn watch(config: &SessionConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (config, stopped) = (config.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut stream = blocking(&config);
            let step = Duration::from_millis(100);
            stream.set_read_timeout(Some(step)).unwrap();
            let mut keepalive = BytesMut::new();
            wire::encode_keepalive(&mut keepalive);
            let (mut heard, mut said) = (Instant::now(), Instant::now());
            let mut longest = Duration::ZERO;
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                if said.elapsed() > Duration::from_millis(800) {
                    if let Err(error) = stream.write_all(&keepalive) {
                        return (longest, Some(error.to_string()));
                    }
                    said = Instant::now();
                }
                match stream.read(&mut buffer) {
                    Ok(0) => return (longest, Some("closed".to_owned())),
                    Ok(len) => {
                        longest = longest.max(heard.elapsed());
                        heard = Instant::now();
                        if buffer[18] == 3 {
                            return (longest, Some(format!("{:?}", &buffer[19..len])));
                        }
                    }
                    Err(_) => longest = longest.max(heard.elapsed()),
                }
            }
            (longest, None)
        });
        Self { stop, thread }
    }

    /// Ends it; the session was up all the time.
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (longest, ended) = self.thread.join().unwrap();
        assert_eq!(ended, None, "the bystander's session ended");
        longest
    }

    /// The same, and no keepalive was late.
    fn prove(self) {
        let longest = self.stop();
        println!("longest silence: {longest:?}");
        assert!(longest < LATEST, "{longest:?}");
    }
}

/// A session of a bare peer, Established, on a blocking socket.
fn blocking(config: &SessionConfig) -> TcpStream {
    let mut stream = connect(config).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut out = BytesMut::new();
    open_of_peer(config, config.hold_time).encode(&mut out);
    wire::encode_keepalive(&mut out);
    stream.write_all(&out).unwrap();
    // Our OPEN and KEEPALIVE.
    for _ in 0..2 {
        let mut header = [0; 19];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
        stream.read_exact(&mut body).unwrap();
    }
    stream
}

fn connect(config: &SessionConfig) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(config.local_address, config.port);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(config.id.peer, 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}
