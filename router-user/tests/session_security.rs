//! Sessions whose TCP connections are protected, over real sockets: TCP MD5 (RFC 2385), TCP-AO
//! (RFC 5925), GTSM (RFC 5082).

mod session_support;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use router_user::bgp::{
    SessionEvent,
    session::SessionConfig,
    settings::{AoAlgorithm, AoKey, Security},
    speaker::{Admission, DynamicRange, Farewell, Newcomer, SpeakerError},
    wire::{self, Notification},
};
use session_support::{Node, RawPeer, free_port, in_private_network, mirrored, session};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};

const WRONG: Duration = Duration::from_millis(2500);

// -- TCP MD5 ---------------------------------------------------------------------------------------

#[tokio::test]
async fn two_speakers_with_the_same_password_find_each_other_over_ipv4() {
    let config = with_password(
        session("127.21.1.1", "127.21.1.2", free_port("127.21.1.1")),
        "a",
    );
    establish(&config).await;
}

#[test]
fn two_speakers_with_the_same_password_find_each_other_over_ipv6() {
    in_private_network(&["fd00:1:0:ff::4/128", "fd00:1:0:a::4/128"], || async {
        let config = with_password(session("fd00:1:0:ff::4", "fd00:1:0:a::4", 179), "a");
        establish(&config).await;
    });
}

async fn establish(config: &SessionConfig) {
    // Either end connects: listener and connecting socket have the key.
    for passive in [false, true] {
        let config = SessionConfig {
            passive,
            ..config.clone()
        };
        let theirs = SessionConfig {
            passive: !passive,
            ..mirrored(&config)
        };
        let mut ours = Node::with(vec![config.clone()]);
        let mut theirs = Node::with(vec![theirs]);
        ours.up(&config.id).await;
        ours.speaker.shutdown(Farewell::ForGood).await;
        theirs.speaker.shutdown(Farewell::ForGood).await;
    }
}

#[tokio::test]
async fn another_password_or_none_gets_no_session_and_others_are_not_touched() {
    let port = free_port("127.21.2.1");
    let protected = with_password(session("127.21.2.1", "127.21.2.2", port), "right");
    let open = session("127.21.2.1", "127.21.2.3", port);
    let mut ours = Node::with(vec![protected.clone(), open.clone()]);
    let _wrong = Node::with(vec![with_password(mirrored(&protected), "wrong")]);
    let _open = Node::with(vec![mirrored(&open)]);
    ours.up(&open.id).await;
    assert!(!connects(&protected).await, "without a signature");
    let disturbed =
        |event: &SessionEvent| matches!(event, SessionEvent::Up { .. } | SessionEvent::Down { .. });
    assert!(ours.quiet(WRONG, disturbed).await);
}

#[tokio::test]
async fn a_password_is_changed_on_a_live_session() {
    let config = with_password(
        session("127.21.3.1", "127.21.3.2", free_port("127.21.3.1")),
        "old",
    );
    let config = SessionConfig {
        hold_time: 3,
        ..config
    };
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    theirs.up(&mirrored(&config).id).await;

    let changed = with_password(config.clone(), "new");
    assert!(ours.speaker.apply(vec![changed.clone()]).is_empty());
    // One side is somewhat later, within the hold time.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(theirs.speaker.apply(vec![mirrored(&changed)]).is_empty());
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(
        ours.quiet(Duration::from_secs(7), down).await,
        "for two hold times"
    );

    // Who comes back needs the new one.
    drop(theirs);
    ours.down(&config.id).await;
    let mut theirs = Node::with(vec![mirrored(&changed)]);
    ours.up(&config.id).await;
    // Without the other side it does not last: the key is really another one.
    let third = with_password(config.clone(), "third");
    assert!(ours.speaker.apply(vec![third]).is_empty());
    theirs.down(&mirrored(&config).id).await;
}

#[tokio::test]
async fn a_password_goes_from_the_listener_and_the_live_session_and_comes_back() {
    let config = with_password(
        session("127.21.4.1", "127.21.4.2", free_port("127.21.4.1")),
        "key",
    );
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let open = SessionConfig {
        security: Security::default(),
        ..config.clone()
    };
    assert!(ours.speaker.apply(vec![open.clone()]).is_empty());
    assert!(theirs.speaker.apply(vec![mirrored(&open)]).is_empty());
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_secs(4), down).await);
    assert!(
        connects(&open).await,
        "the listener takes unsigned connections"
    );
    assert!(ours.speaker.apply(vec![config.clone()]).is_empty());
    assert!(theirs.speaker.apply(vec![mirrored(&config)]).is_empty());
    assert!(ours.quiet(Duration::from_secs(4), down).await);
    assert!(
        !connects(&open).await,
        "the listener asks for the key again"
    );
}

// -- Dynamic peers ---------------------------------------------------------------------------------

#[tokio::test]
async fn whoever_comes_from_a_range_needs_its_password_unless_configured_otherwise() {
    let port = free_port("127.21.5.1");
    let known = with_password(session("127.21.5.1", "127.21.5.2", port), "own");
    let mut newcomers = admitted(&known, "127.21.5.0/24", with_password_alone("range"));
    let (ours, arrivals) = (&mut newcomers.0, &mut newcomers.1);
    let mut stranger = with_password(session("127.21.5.1", "127.21.5.3", port), "range");

    // A speaker with the range's password is a newcomer, and becomes a peer.
    let theirs = Node::with(vec![mirrored(&stranger)]);
    let newcomer = tokio::time::timeout(session_support::PATIENCE, arrivals.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newcomer.address, stranger.id.peer);
    assert_eq!(newcomer.to, known.listen());
    stranger.passive = true;
    let sessions = vec![known.clone(), stranger.clone()];
    assert!(ours.speaker.apply(sessions.clone()).is_empty());
    ours.speaker.welcome(&stranger.id, newcomer);
    ours.up(&stranger.id).await;

    // The configured peer has its own; nobody comes in without one.
    let _known = Node::with(vec![mirrored(&known)]);
    ours.up(&known.id).await;
    let nobody = session("127.21.5.1", "127.21.5.4", port);
    assert!(!connects(&nobody).await);

    // The range's password is changed, the peer's session goes on.
    let changed = with_password(stranger.clone(), "changed");
    ours.speaker
        .admit(admission(&known, "127.21.5.0/24", with_password_alone("changed")).0);
    assert!(
        ours.speaker
            .apply(vec![known.clone(), changed.clone()])
            .is_empty()
    );
    let mut theirs = theirs;
    assert!(theirs.speaker.apply(vec![mirrored(&changed)]).is_empty());
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_secs(4), down).await);
}

#[tokio::test]
async fn the_connection_that_made_a_newcomer_a_peer_is_its_first() {
    let port = free_port("127.21.9.1");
    let known = session("127.21.9.1", "127.21.9.2", port);
    let (mut ours, mut arrivals) = admitted(&known, "127.21.9.0/24", Security::default());
    let mut sessions = vec![known];
    for number in 10..40 {
        let mut newcomer = session("127.21.9.1", &format!("127.21.9.{number}"), port);
        newcomer.passive = true;
        let mut peer = RawPeer::connect(&newcomer).await;
        let arrived = tokio::time::timeout(session_support::PATIENCE, arrivals.recv())
            .await
            .unwrap()
            .unwrap();
        sessions.push(newcomer.clone());
        assert!(ours.speaker.apply(sessions.clone()).is_empty());
        ours.speaker.welcome(&newcomer.id, arrived);
        peer.open(&newcomer, 9).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_rate_are_closed_at_once_and_the_session_stays() {
    let config = SessionConfig {
        passive: true,
        ..session("127.21.6.1", "127.21.6.2", free_port("127.21.6.1"))
    };
    let mut ours = Node::with(vec![config.clone()]);
    ours.speaker.admit(Admission {
        connection_rate: 3,
        ..Admission::default()
    });
    assert!(ours.speaker.apply(vec![config.clone()]).is_empty());
    let mut peer = RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
    let (mut spoken_to, since) = (0, Instant::now());
    for _ in 0..50 {
        if RawPeer::connect(&config).await.receive().await.is_some() {
            spoken_to += 1;
        }
    }
    let allowed = 3 + 3 * (since.elapsed().as_secs() + 1);
    assert!((1..=allowed).contains(&spoken_to), "{spoken_to}");
    assert!(peer.stays_open(Duration::from_millis(300)).await);
}

// -- GTSM ------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_protected_peer_is_heard_only_from_nearby_over_ipv4() {
    let port = free_port("127.21.7.1");
    let near = within(session("127.21.7.1", "127.21.7.2", port), 2);
    let far = session("127.21.7.1", "127.21.7.3", port);
    hear(near, far, |socket, hops| socket.set_ttl_v4(hops).unwrap()).await;
}

#[test]
fn a_protected_peer_is_heard_only_from_nearby_over_ipv6() {
    let addresses = ["fd00::1/128", "fd00::2/128", "fd00::3/128"];
    in_private_network(&addresses, || async {
        let near = within(session("fd00::1", "fd00::2", 179), 2);
        let far = session("fd00::1", "fd00::3", 179);
        hear(near, far, |socket, hops| {
            socket.set_unicast_hops_v6(hops).unwrap();
        })
        .await;
    });
}

async fn hear(near: SessionConfig, far: SessionConfig, set: fn(&socket2::Socket, u32)) {
    let near = SessionConfig {
        passive: true,
        ..near
    };
    let mut ours = Node::with(vec![near.clone(), far.clone()]);
    let from_afar = |socket: &socket2::Socket| set(socket, 253);
    let attempt = RawPeer::connect_with(&near, from_afar);
    assert!(
        tokio::time::timeout(Duration::from_millis(800), attempt)
            .await
            .is_err(),
        "a handshake from too far away"
    );
    let from_nearby = |socket: &socket2::Socket| set(socket, 254);
    let mut peer = RawPeer::connect_with(&near, from_nearby).await;
    peer.open(&near, 3).await;
    ours.up(&near.id).await;
    // The others are as far away as they like.
    let theirs = Node::with(vec![mirrored(&far)]);
    ours.up(&far.id).await;

    // What comes from farther away later is not heard either, however long the peer goes on.
    let afar = socket2::Socket::from(duplicate(&peer.stream));
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    let four_seconds = Duration::from_secs(4);
    let (quiet, ()) = tokio::join!(
        ours.quiet(four_seconds, down),
        talk(&mut peer, four_seconds)
    );
    assert!(quiet, "a peer that is near is heard");
    set(&afar, 253);
    let reason = tokio::select! {
        reason = ours.down(&near.id) => reason,
        () = talk(&mut peer, session_support::PATIENCE) => panic!("heard from too far away"),
    };
    assert_eq!(
        reason,
        router_user::bgp::DownReason::NotificationSent(Notification::hold_timer_expired())
    );
    drop(theirs);
}

/// Sends keepalives for so long, whoever hears them.
async fn talk(peer: &mut RawPeer, time: Duration) {
    let mut keepalive = BytesMut::new();
    wire::encode_keepalive(&mut keepalive);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let _ = peer.stream.write_all(&keepalive).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn two_protected_speakers_find_each_other_and_the_distance_changes_live() {
    let config = within(
        session("127.21.8.1", "127.21.8.2", free_port("127.21.8.1")),
        1,
    );
    let mut ours = Node::with(vec![config.clone()]);
    let _theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    assert!(ours.speaker.apply(vec![within(config, 5)]).is_empty());
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_secs(1), down).await);
}

#[tokio::test]
async fn a_peer_that_needs_not_be_near_any_longer_is_heard_on_its_live_session() {
    let anywhere = SessionConfig {
        passive: true,
        ..session("127.21.18.1", "127.21.18.2", free_port("127.21.18.1"))
    };
    let near = within(anywhere.clone(), 1);
    let mut ours = Node::with(vec![near.clone()]);
    let from_nearby = |socket: &socket2::Socket| socket.set_ttl_v4(255).unwrap();
    let mut peer = RawPeer::connect_with(&near, from_nearby).await;
    peer.open(&near, 3).await;
    ours.up(&near.id).await;
    assert!(ours.speaker.apply(vec![anywhere]).is_empty());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let socket = socket2::Socket::from(duplicate(&peer.stream));
    socket.set_ttl_v4(64).unwrap();
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    for _ in 0..5 {
        peer.send(wire::encode_keepalive).await;
        assert!(ours.quiet(Duration::from_secs(1), down).await);
    }
}

// -- TCP-AO ----------------------------------------------------------------------------------------

#[tokio::test]
async fn without_the_kernels_tcp_ao_the_peer_stays_down_and_nobody_else_notices() {
    let port = free_port("127.21.9.1");
    let key = AoKey {
        id: 1,
        secret: "sesame".parse().unwrap(),
        algorithm: AoAlgorithm::HmacSha1,
    };
    let mut protected = session("127.21.9.1", "127.21.9.2", port);
    protected.security.tcp_ao = vec![key];
    let open = session("127.21.9.1", "127.21.9.3", port);
    let mut ours = Node::new();
    let errors = ours.speaker.apply(vec![protected.clone(), open.clone()]);
    if errors.is_empty() {
        // This kernel has it: then it has to work.
        let _theirs = Node::with(vec![mirrored(&protected)]);
        ours.up(&protected.id).await;
        return;
    }
    let [SpeakerError::Unprotected(id, error)] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!(*id, protected.id);
    assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
    let status = ours.error("this kernel has no TCP-AO").await;
    assert_eq!(status.established_count, 0);
    // An unprotected connection is not spoken to, and none is made.
    let mut unprotected = RawPeer::connect(&protected).await;
    assert_eq!(unprotected.receive().await, None);
    let _theirs = Node::with(vec![mirrored(&open)]);
    ours.up(&open.id).await;
}

// -- Helpers ---------------------------------------------------------------------------------------

fn with_password(config: SessionConfig, password: &str) -> SessionConfig {
    SessionConfig {
        security: with_password_alone(password),
        ..config
    }
}

fn with_password_alone(password: &str) -> Security {
    Security {
        md5_password: Some(password.parse().unwrap()),
        ..Security::default()
    }
}

fn within(config: SessionConfig, hops: u8) -> SessionConfig {
    SessionConfig {
        security: Security {
            ttl_security: Some(hops),
            ..Security::default()
        },
        ..config
    }
}

/// Whether a bare socket without a key is let in.
async fn connects(config: &SessionConfig) -> bool {
    let attempt = RawPeer::connect(config);
    tokio::time::timeout(Duration::from_millis(800), attempt)
        .await
        .is_ok()
}

fn admission(
    like: &SessionConfig,
    prefix: &str,
    security: Security,
) -> (Admission, mpsc::Receiver<Newcomer>) {
    let (newcomers, arrivals) = mpsc::channel(4);
    let admission = Admission {
        ranges: vec![DynamicRange {
            listen: vec![like.listen()],
            prefix: prefix.parse().unwrap(),
            security,
        }],
        newcomers: Some(newcomers),
        ..Admission::default()
    };
    (admission, arrivals)
}

fn admitted(
    known: &SessionConfig,
    prefix: &str,
    security: Security,
) -> (Node, mpsc::Receiver<Newcomer>) {
    let mut ours = Node::new();
    let (admission, arrivals) = admission(known, prefix, security);
    ours.speaker.admit(admission);
    let errors = ours.speaker.apply(vec![known.clone()]);
    assert!(errors.is_empty(), "{errors:?}");
    (ours, arrivals)
}

fn duplicate(stream: &TcpStream) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned().unwrap()
}
