//! Sessions over real sockets, on the loopback interface.

mod session_support;

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use router_user::bgp::{
    DownReason, InstanceId, SessionCommand, SessionEvent, State,
    session::SessionConfig,
    speaker::{Farewell, Selection, SpeakerError},
    wire::{self, Family, Notification, Open, RefreshKind, RouteRefresh, notification::cease},
};
use session_support::{
    Node, RawPeer, Received, announcement, free_port, in_private_network, mirrored, open_of_peer,
    send, session,
};
use tokio::io::AsyncWriteExt;

// -- Two speakers ----------------------------------------------------------------------------------

#[tokio::test]
async fn two_speakers_exchange_routes_over_ipv4() {
    let config = session("127.20.1.1", "127.20.1.2", free_port("127.20.1.1"));
    exchange_routes(config, "127.20.1.2").await;
}

#[test]
fn two_speakers_exchange_routes_over_ipv6() {
    in_private_network(&["fd00:1:0:ff::4/128", "fd00:1:0:a::4/128"], || async {
        exchange_routes(session("fd00:1:0:ff::4", "fd00:1:0:a::4", 179), "10.1.10.4").await;
    });
}

async fn exchange_routes(config: SessionConfig, next_hop: &str) {
    let peer_config = mirrored(&config);
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![peer_config.clone()]);
    ours.up(&config.id).await;
    let (handle, context) = theirs.up(&peer_config.id).await;

    send(
        &handle,
        announcement(&context, 65010, next_hop, &["10.250.0.0/16"]),
    );
    let attributes = ours.announced("10.250.0.0/16").await;
    assert_eq!(attributes.as_path.asns().collect::<Vec<_>>(), [65010]);
    send(
        &handle,
        announcement(&context, 65010, "fd00:1:0:a::4", &["fd00:250::/48"]),
    );
    ours.announced("fd00:250::/48").await;

    ours.speaker.shutdown(Farewell::ForGood).await;
    let reason = theirs.down(&peer_config.id).await;
    // Both sides have the N bit: the peer is to drop the routes all the same (RFC 8538 §5).
    let shutdown = Notification::hard_reset(&Notification::administrative_shutdown(""));
    assert_eq!(reason, DownReason::NotificationReceived(shutdown.clone()));
    assert_eq!(
        ours.down(&config.id).await,
        DownReason::NotificationSent(shutdown)
    );
    assert!(!handle.send(SessionCommand::Send(announcement(
        &context,
        65010,
        next_hop,
        &["10.0.0.0/8"]
    ))));
}

#[tokio::test]
async fn one_instance_stopped_leaves_the_sessions_of_the_other_up() {
    let port = free_port("127.20.2.1");
    let first = session("127.20.2.1", "127.20.2.9", port);
    let mut second = session("127.20.2.2", "127.20.2.9", port);
    second.id.instance = InstanceId(2);
    let mut ours = Node::with(vec![first.clone(), second.clone()]);
    let mut theirs = Node::with(vec![mirrored(&first), mirrored(&second)]);
    ours.up(&first.id).await;

    let instance = Selection::Instance("rs1".into(), InstanceId(1));
    let stopped = ours
        .speaker
        .stop(instance.clone(), cease::ADMINISTRATIVE_SHUTDOWN, "moving");
    assert_eq!(stopped, 1);
    let shutdown = Notification::administrative_shutdown("moving");
    assert_eq!(
        theirs.down(&mirrored(&first).id).await,
        DownReason::NotificationReceived(Notification::hard_reset(&shutdown))
    );
    let second_id = mirrored(&second).id;
    let first_id = mirrored(&first).id;
    let disturbed = |event: &SessionEvent| match event {
        SessionEvent::Down { .. } => true,
        SessionEvent::Up { id, .. } => *id == first_id,
        _ => false,
    };
    assert!(theirs.quiet(Duration::from_secs(3), disturbed).await);

    assert_eq!(ours.speaker.start(&instance), 1);
    theirs.up(&first_id).await;
    let second_down =
        |event: &SessionEvent| matches!(event, SessionEvent::Down { id, .. } if *id == second_id);
    assert!(theirs.quiet(Duration::from_millis(100), second_down).await);
}

#[tokio::test]
async fn a_changed_peer_restarts_and_the_others_do_not_notice() {
    let port = free_port("127.20.3.1");
    let changes = session("127.20.3.1", "127.20.3.2", port);
    let stays = session("127.20.3.1", "127.20.3.3", port);
    let goes = session("127.20.3.1", "127.20.3.4", port);
    let mut ours = Node::with(vec![changes.clone(), stays.clone(), goes.clone()]);
    let mut peer_that_changes = RawPeer::establish(&changes, 90).await;
    let mut peer_that_stays = RawPeer::establish(&stays, 90).await;
    let mut peer_that_goes = RawPeer::establish(&goes, 90).await;

    let changed = SessionConfig {
        hold_time: 30,
        ..changes
    };
    let errors = ours.speaker.apply(vec![changed.clone(), stays]);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        peer_that_changes.notification().await,
        Notification::configuration_change()
    );
    assert_eq!(
        peer_that_goes.notification().await,
        Notification::peer_deconfigured()
    );
    assert!(peer_that_stays.stays_open(Duration::from_secs(1)).await);

    let mut again = RawPeer::connect(&changed).await;
    let Some(Received::Open(open)) = again.receive().await else {
        panic!("no OPEN");
    };
    assert_eq!(open.hold_time, 30);
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_named_and_opened_once_it_can_be() {
    let config = session("127.20.4.1", "127.20.4.2", free_port("127.20.4.1"));
    let occupied = std::net::TcpListener::bind(config.listen()).unwrap();
    let mut ours = Node::new();
    let errors = ours.speaker.apply(vec![config.clone(), config.clone()]);
    assert!(
        matches!(&errors[..], [SpeakerError::Twice(_), SpeakerError::Listen(text)]
        if text.contains("another process does")),
        "{errors:?}"
    );
    drop(occupied);
    let peer = mirrored(&SessionConfig {
        passive: true,
        ..config.clone()
    });
    let _theirs = Node::with(vec![SessionConfig {
        passive: false,
        ..peer
    }]);
    ours.up(&config.id).await;
}

#[tokio::test]
async fn an_address_that_no_interface_has_is_named_with_the_remedy() {
    let config = session("192.0.2.77", "192.0.2.78", 1179);
    let mut ours = Node::new();
    let errors = ours.speaker.apply(vec![config]);
    let [SpeakerError::Listen(text)] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert!(text.contains("ip address add 192.0.2.77 dev lo"), "{text}");
    ours.error("cannot connect from 192.0.2.77").await;
}

// -- Peers that misbehave --------------------------------------------------------------------------

#[tokio::test]
async fn a_refused_connection_is_named_with_the_remedy() {
    let config = session("127.20.5.1", "127.20.5.2", free_port("127.20.5.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let remedy = format!("refused by {}: is its BGP daemon running?", config.peer());
    let status = ours.error(&remedy).await;
    assert_eq!(status.established_count, 0);
}

#[tokio::test]
async fn garbage_is_answered_with_1_1_and_the_session_recovers() {
    let config = passive("127.20.6.1", "127.20.6.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::connect(&config).await;
    peer.stream
        .write_all(b"GET / HTTP/1.1\r\nHost: waypost\r\n\r\n")
        .await
        .unwrap();
    let notification = peer.notification().await;
    assert_eq!((notification.code, notification.subcode), (1, 1));
    let status = ours.error("127.20.6.2 sent what is no BGP message").await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("474554202f20") && error.contains("NOTIFICATION 1/1"),
        "{error}"
    );

    tokio::time::sleep(Duration::from_millis(1100)).await;
    RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
}

#[tokio::test]
async fn garbage_beside_a_session_does_not_touch_it() {
    let config = passive("127.20.7.1", "127.20.7.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
    for bytes in [&[0_u8; 64][..], &[0xff; 64], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let mut other = RawPeer::connect(&config).await;
        other.stream.write_all(bytes).await.unwrap();
        assert_eq!(other.notification().await.code, 1);
    }
    assert!(peer.stays_open(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_wrong_asn_is_answered_with_2_2_and_named() {
    let config = passive("127.20.8.1", "127.20.8.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::connect(&config).await;
    let wrong = SessionConfig {
        peer_asn: 65099,
        ..config
    };
    let open = open_of_peer(&wrong, 90);
    peer.send(|out| open.encode(out)).await;
    let notification = peer.notification().await;
    assert_eq!((notification.code, notification.subcode), (2, 2));
    ours.error(
        "OPEN: peer says ASN 65099, the configuration says 65010: correct asn of peer or the \
         peer's own configuration",
    )
    .await;
}

#[tokio::test]
async fn a_hold_time_below_three_seconds_is_answered_with_2_6_and_not_called_malformed() {
    let config = passive("127.20.26.1", "127.20.26.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::connect(&config).await;
    let open = open_of_peer(&config, 2);
    peer.send(|out| open.encode(out)).await;
    let notification = peer.notification().await;
    assert_eq!((notification.code, notification.subcode), (2, 6));
    ours.error("OPEN: peer offers a hold time of 2 s: set it to 0 or at least 3 s on the peer")
        .await;
}

#[tokio::test]
async fn an_unknown_peer_is_refused_at_accept() {
    let config = passive("127.20.9.1", "127.20.9.2");
    let ours = Node::with(vec![config.clone()]);
    let mut stranger = config.clone();
    stranger.id.peer = "127.20.9.3".parse().unwrap();
    let mut peer = RawPeer::connect(&stranger).await;
    assert_eq!(peer.receive().await, None);
    RawPeer::establish(&config, 90).await;
    drop(ours);
}

#[tokio::test]
async fn a_silent_peer_loses_the_session_after_its_hold_time() {
    let config = passive("127.20.10.1", "127.20.10.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 3).await;
    let since = Instant::now();
    assert_eq!(
        peer.notification().await,
        Notification::hold_timer_expired()
    );
    let elapsed = since.elapsed().as_secs_f64();
    assert!((2.9..6.0).contains(&elapsed), "{elapsed} s");
    assert_eq!(
        ours.down(&config.id).await,
        DownReason::NotificationSent(Notification::hold_timer_expired())
    );
    ours.error("nothing received from 127.20.10.2 for 3 s")
        .await;
}

#[tokio::test]
async fn a_truncated_update_is_answered_with_3_1() {
    let config = passive("127.20.11.1", "127.20.11.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    // Withdrawn routes of 200 bytes in an UPDATE that has none.
    peer.send(|out| {
        out.put_slice(&[0xff; 16]);
        out.put_slice(&[0, 23, 2, 0, 200, 0, 0]);
    })
    .await;
    let notification = peer.notification().await;
    assert_eq!((notification.code, notification.subcode), (3, 1));
    assert_eq!(
        ours.down(&config.id).await,
        DownReason::NotificationSent(notification)
    );
    ours.error("sent a malformed UPDATE").await;
}

#[tokio::test]
async fn a_malformed_attribute_withdraws_its_routes_and_keeps_the_session() {
    let config = passive("127.20.12.1", "127.20.12.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    // ORIGIN with the value 7, and 10.0.0.0/8.
    peer.send(|out| {
        out.put_slice(&[0xff; 16]);
        out.put_slice(&[0, 29, 2, 0, 0, 0, 4, 0x40, 1, 1, 7, 8, 10]);
    })
    .await;
    let malformed = ours
        .change(|change| match change {
            router_user::bgp::RouteChange::Withdraw { malformed, .. } => malformed,
            _ => None,
        })
        .await;
    assert!(malformed.contains("ORIGIN"), "{malformed}");
    let status = ours.error("UPDATE from 127.20.12.2: ").await;
    assert_eq!(
        (status.state, status.updates_malformed),
        (State::Established, 1)
    );
    assert!(peer.stays_open(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_peer_that_connects_and_says_nothing_keeps_nobody_out() {
    let config = passive("127.20.13.1", "127.20.13.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut silent = RawPeer::connect(&config).await;
    assert!(matches!(silent.receive().await, Some(Received::Open(_))));
    let mut peer = RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
    assert_eq!(
        silent.notification().await,
        Notification::connection_collision()
    );
    assert!(peer.stays_open(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_message_split_into_single_bytes_is_understood() {
    let config = passive("127.20.14.1", "127.20.14.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::connect(&config).await;
    let mut bytes = BytesMut::new();
    open_of_peer(&config, 90).encode(&mut bytes);
    wire::encode_keepalive(&mut bytes);
    for byte in bytes {
        peer.stream.write_u8(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    ours.up(&config.id).await;
}

#[test]
fn a_half_open_connection_is_replaced_by_the_new_one() {
    in_private_network(&["127.20.15.1/32", "127.20.15.2/32"], || async {
        let config = passive("127.20.15.1", "127.20.15.2");
        let mut ours = Node::with(vec![config.clone()]);
        let forgotten = RawPeer::establish(&config, 180).await;
        ours.up(&config.id).await;
        vanish(forgotten);

        let since = Instant::now();
        let mut peer = RawPeer::connect(&config).await;
        peer.open(&config, 180).await;
        assert!(matches!(
            ours.down(&config.id).await,
            DownReason::Connection(_)
        ));
        ours.up(&config.id).await;
        assert!(
            since.elapsed() < Duration::from_secs(3),
            "{:?}",
            since.elapsed()
        );
        assert!(peer.stays_open(Duration::from_millis(1500)).await);
    });
}

// -- Load ------------------------------------------------------------------------------------------

#[tokio::test]
async fn keepalives_flow_both_ways_beside_a_backlog() {
    let config = passive("127.20.16.1", "127.20.16.2");
    let mut ours = Node::with(vec![config.clone()]);
    let small_window = |socket: &socket2::Socket| socket.set_recv_buffer_size(8192).unwrap();
    let mut peer = RawPeer::connect_with(&config, small_window).await;
    peer.open(&config, 3).await;
    let (handle, context) = ours.up(&config.id).await;
    let update = announcement(&context, 65515, "127.20.16.1", &["10.1.0.0/16"]);
    let updates = (8 << 20) / update.len();
    for _ in 0..updates {
        send(&handle, update.clone());
    }

    // For longer than the hold time the peer reads next to nothing, but sends keepalives.
    let end = Instant::now() + Duration::from_secs(5);
    let mut received = vec![];
    while Instant::now() < end {
        peer.send(wire::encode_keepalive).await;
        received.push(peer.receive().await.expect("the session stays up"));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let unread = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_millis(1), unread).await);

    let mut keepalives_before_the_last_update = 0;
    let is_update = |message: &Received| matches!(message, Received::Update(_));
    let mut seen = received.iter().filter(|message| is_update(message)).count();
    let mut said = Instant::now();
    while seen < updates {
        if said.elapsed() > Duration::from_millis(400) {
            peer.send(wire::encode_keepalive).await;
            said = Instant::now();
        }
        match peer.receive().await.expect("the session stays up") {
            Received::Update(_) => seen += 1,
            Received::Keepalive => keepalives_before_the_last_update += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(keepalives_before_the_last_update >= 1);
}

#[tokio::test]
async fn a_backlog_without_end_closes_the_session_of_the_peer_that_does_not_read() {
    let config = passive("127.20.17.1", "127.20.17.2");
    let mut ours = Node::with(vec![config.clone()]);
    let _peer = RawPeer::establish(&config, 90).await;
    let (handle, context) = ours.up(&config.id).await;
    let update = announcement(&context, 65515, "127.20.17.1", &["10.1.0.0/16"]);
    // All share the same memory; what counts is what would have to be sent.
    let many = update.repeat((1 << 20) / update.len()).into();
    let send_more = |many: &bytes::Bytes| handle.send(SessionCommand::Send(many.clone()));
    for _ in 0..400 {
        send_more(&many);
    }
    assert_eq!(
        ours.down(&config.id).await,
        DownReason::NotificationSent(Notification::out_of_resources())
    );
    assert!(!send_more(&many));
    ours.error("takes its routes too slowly").await;
}

#[tokio::test]
async fn an_owner_that_does_not_take_routes_slows_the_peer_down_and_loses_nothing() {
    let config = passive("127.20.18.1", "127.20.18.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 3).await;
    let (_handle, context) = ours.up(&config.id).await;
    let update = announcement(&context, 65010, "127.20.18.2", &["10.250.0.0/16"]);
    let block = update.repeat(1000);
    let mut blocks = 0;
    let mut held = vec![];
    let since = Instant::now();
    // Nobody drops the credits for longer than the hold time.
    while since.elapsed() < Duration::from_secs(4) {
        let write = peer.stream.write_all(&block);
        if tokio::time::timeout(Duration::from_millis(500), write)
            .await
            .is_err()
        {
            break;
        }
        blocks += 1;
    }
    let partly_sent = blocks + 1;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut batches = 0;
    while let Ok(event) = ours.events.try_recv() {
        match event {
            SessionEvent::Routes {
                changes, credit, ..
            } => {
                batches += changes.len();
                held.push(credit);
            }
            SessionEvent::Down { reason, .. } => panic!("{reason:?}"),
            _ => {}
        }
    }
    let queued = batches * update.len();
    assert!(queued <= 2 << 20, "{queued} bytes are queued");
    assert!(batches < partly_sent * 1000);
    drop(held);
    let least = blocks * 1000 - batches;
    let mut rest = 0;
    while rest < least {
        rest += ours
            .wait(|event| match event {
                SessionEvent::Routes { changes, .. } => Some(changes.len()),
                SessionEvent::Down { reason, .. } => panic!("{reason:?}"),
                _ => None,
            })
            .await;
    }
}

#[tokio::test]
async fn a_flood_of_connections_does_not_disturb_the_session() {
    let config = passive("127.20.19.1", "127.20.19.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
    let mut flood = vec![];
    for _ in 0..200 {
        // It may be reset before it is seen to be open.
        flood.push(RawPeer::try_connect(&config, |_| {}).await);
    }
    assert!(peer.stays_open(Duration::from_secs(2)).await);
}

// -- The operator ----------------------------------------------------------------------------------

#[tokio::test]
async fn shutdown_delivers_the_cease_to_all_and_takes_no_longer_than_two_seconds() {
    let port = free_port("127.20.20.1");
    let configs: Vec<_> = (2..10)
        .map(|last| {
            let mut config = session("127.20.20.1", &format!("127.20.20.{last}"), port);
            config.passive = true;
            config
        })
        .collect();
    let mut ours = Node::with(configs.clone());
    let mut peers = vec![];
    for config in &configs {
        peers.push(RawPeer::establish(config, 90).await);
    }
    let since = Instant::now();
    ours.speaker.shutdown(Farewell::ForGood).await;
    assert!(
        since.elapsed() < Duration::from_millis(2500),
        "{:?}",
        since.elapsed()
    );
    for peer in &mut peers {
        assert_eq!(
            peer.notification().await,
            Notification::administrative_shutdown("")
        );
    }
}

#[tokio::test]
async fn a_shutdown_by_the_routes_owner_holds_the_session_down_for_its_time() {
    let config = passive("127.20.21.1", "127.20.21.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    let (handle, _) = ours.up(&config.id).await;
    assert!(handle.send(SessionCommand::Shutdown {
        notification: Notification::max_prefixes_reached(Family::Ipv4Unicast, 1000),
        idle: Some(Duration::from_secs(1)),
    }));
    let notification = peer.notification().await;
    assert_eq!(
        notification,
        Notification::max_prefixes_reached(Family::Ipv4Unicast, 1000)
    );
    let mut early = RawPeer::connect(&config).await;
    assert_eq!(
        early.notification().await,
        Notification::connection_rejected()
    );
    tokio::time::sleep(Duration::from_millis(1200)).await;
    RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
}

#[tokio::test]
async fn a_request_for_all_routes_is_handed_on_and_one_for_another_family_is_not() {
    let config = passive("127.20.22.1", "127.20.22.2");
    let mut ours = Node::with(vec![SessionConfig {
        families: vec![Family::Ipv4Unicast],
        ..config.clone()
    }]);
    let mut peer = RawPeer::establish(&config, 90).await;
    for family in [Family::Ipv6Unicast, Family::Ipv4Unicast] {
        let refresh = RouteRefresh::new(family, RefreshKind::Request);
        peer.send(|out| refresh.encode(out)).await;
    }
    let asked = ours
        .wait(|event| match event {
            SessionEvent::RefreshRequested { family, .. } => Some(family),
            _ => None,
        })
        .await;
    assert_eq!(asked, Family::Ipv4Unicast);
}

#[tokio::test]
async fn requests_for_all_routes_in_quick_succession_are_handed_on_as_one() {
    let config = passive("127.20.24.1", "127.20.24.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    let refresh = RouteRefresh::new(Family::Ipv4Unicast, RefreshKind::Request);
    let is_request = |event: &SessionEvent| matches!(event, SessionEvent::RefreshRequested { .. });

    peer.send(|out| (0..1000).for_each(|_| refresh.encode(out)))
        .await;
    ours.wait(|event| is_request(&event).then_some(())).await;
    let quiet = Duration::from_millis(500);
    assert!(ours.quiet(quiet, is_request).await, "handed on each");

    peer.send(|out| refresh.encode(out)).await;
    ours.wait(|event| is_request(&event).then_some(())).await;
}

#[tokio::test]
async fn a_request_for_all_routes_on_another_connection_is_a_fault_and_not_handed_on() {
    let config = passive("127.20.25.1", "127.20.25.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 90).await;
    ours.up(&config.id).await;
    let mut other = RawPeer::connect(&config).await;
    let refresh = RouteRefresh::new(Family::Ipv4Unicast, RefreshKind::Request);
    other.send(|out| refresh.encode(out)).await;
    let notification = other.notification().await;
    assert_eq!((notification.code, notification.subcode), (5, 1));
    let is_request = |event: &SessionEvent| matches!(event, SessionEvent::RefreshRequested { .. });
    assert!(ours.quiet(Duration::from_millis(300), is_request).await);
    assert!(peer.stays_open(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_peer_without_capabilities_gets_a_session_with_ipv4() {
    let config = passive("127.20.23.1", "127.20.23.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::connect(&config).await;
    let old = Open {
        capabilities: vec![],
        ..open_of_peer(&config, 90)
    };
    peer.send(|out| old.encode(out)).await;
    peer.send(wire::encode_keepalive).await;
    let (_, terms) = ours.up_on_terms(&config.id).await;
    assert_eq!(terms.families, [Family::Ipv4Unicast]);
    assert!(!terms.four_octet_asn);
}

// -- Helpers ---------------------------------------------------------------------------------------

fn passive(local: &str, peer: &str) -> SessionConfig {
    SessionConfig {
        passive: true,
        ..session(local, peer, free_port(local))
    }
}

/// The peer's end disappears without a word, as when its machine loses power.
fn vanish(peer: RawPeer) {
    use std::os::fd::AsRawFd;
    let stream = peer.stream.into_std().unwrap();
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the value is an int that lives across the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "TCP_REPAIR needs root");
}
