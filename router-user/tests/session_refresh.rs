//! Routes announced again, and several paths a prefix, over real sockets.

mod session_support;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;
use router_user::bgp::{
    RouteChange, SessionCommand, SessionEvent,
    session::SessionConfig,
    settings::AddPath,
    wire::{self, Context, Family, Nlri, RefreshKind, RouteRefresh},
};
use session_support::{Node, RawPeer, announcement, free_port, mirrored, send, session};

const V4: Family = Family::Ipv4Unicast;

#[tokio::test]
async fn what_we_ask_for_reaches_the_peer() {
    let config = session("127.21.1.1", "127.21.1.2", free_port("127.21.1.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    let (handle, terms) = ours.up_on_terms(&config.id).await;
    assert!(terms.route_refresh && terms.enhanced_route_refresh);
    theirs.up(&mirrored(&config).id).await;
    assert!(handle.send(SessionCommand::RequestRefresh(Family::Ipv6Unicast)));
    let asked = theirs
        .wait(|event| match event {
            SessionEvent::RefreshRequested { family, .. } => Some(family),
            _ => None,
        })
        .await;
    assert_eq!(asked, Family::Ipv6Unicast);
}

#[tokio::test]
async fn markers_are_handed_on_in_order_with_the_routes_between_them() {
    let config = session("127.21.2.1", "127.21.2.2", free_port("127.21.2.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let (handle, context) = theirs.up(&mirrored(&config).id).await;
    let update = |prefix: &str| announcement(&context, 65010, "10.1.10.4", &[prefix]);
    let mut stream = BytesMut::new();
    stream.extend_from_slice(&update("10.2.0.0/16"));
    RouteRefresh::new(V4, RefreshKind::Begin).encode(&mut stream);
    // Of another kind: ignored (RFC 7313 §5).
    RouteRefresh::new(V4, RefreshKind::Unknown(77)).encode(&mut stream);
    stream.extend_from_slice(&update("10.3.0.0/16"));
    RouteRefresh::new(V4, RefreshKind::End).encode(&mut stream);
    stream.extend_from_slice(&update("10.4.0.0/16"));
    send(&handle, stream.freeze());
    let mut said = Vec::new();
    ours.wait(|event| {
        match event {
            SessionEvent::RefreshBegins { family, .. } => said.push(format!("begins {family}")),
            SessionEvent::RefreshEnds { family, .. } => said.push(format!("ends {family}")),
            SessionEvent::Routes { changes, .. } => {
                for change in changes {
                    if let RouteChange::Announce { nlri, .. } = change {
                        said.extend(nlri.iter().map(|nlri| nlri.prefix.to_string()));
                    }
                }
            }
            _ => {}
        }
        (said.len() == 5).then_some(())
    })
    .await;
    let expected = [
        "10.2.0.0/16".to_owned(),
        format!("begins {V4}"),
        "10.3.0.0/16".to_owned(),
        format!("ends {V4}"),
        "10.4.0.0/16".to_owned(),
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn markers_of_a_peer_that_did_not_announce_them_are_ignored() {
    let config = passive("127.21.3.1", "127.21.3.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 30).await;
    ours.up(&config.id).await;
    for kind in [RefreshKind::Begin, RefreshKind::End] {
        peer.send(|out| RouteRefresh::new(V4, kind).encode(out))
            .await;
    }
    let unwanted = |event: &SessionEvent| {
        matches!(
            event,
            SessionEvent::RefreshBegins { .. }
                | SessionEvent::RefreshEnds { .. }
                | SessionEvent::Down { .. }
        )
    };
    assert!(ours.quiet(Duration::from_secs(1), unwanted).await);
}

#[tokio::test]
async fn a_flood_of_markers_is_not_queued_up_for_the_routes_owner() {
    let config = session("127.21.16.1", "127.21.16.2", free_port("127.21.16.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let (handle, _) = theirs.up(&mirrored(&config).id).await;
    let mut flood = BytesMut::new();
    for _ in 0..10_000 {
        RouteRefresh::new(V4, RefreshKind::Begin).encode(&mut flood);
        RouteRefresh::new(V4, RefreshKind::End).encode(&mut flood);
    }
    send(&handle, flood.freeze());
    let mut events = 0;
    let mut status = 0;
    ours.wait(|event| {
        match event {
            SessionEvent::RefreshBegins { .. } | SessionEvent::RefreshEnds { .. } => events += 1,
            SessionEvent::Status { status: shown, .. } => status = shown.messages_received,
            SessionEvent::Down { reason, .. } => panic!("{reason}"),
            _ => {}
        }
        (status >= 20_000).then_some(())
    })
    .await;
    assert!((2..100).contains(&events), "{events}");
}

#[tokio::test]
async fn a_marker_of_wrong_length_is_answered_with_7_1() {
    let config = passive("127.21.4.1", "127.21.4.2");
    let mut ours = Node::with(vec![config.clone()]);
    let mut peer = RawPeer::establish(&config, 30).await;
    ours.up(&config.id).await;
    let mut marker = BytesMut::new();
    RouteRefresh::new(V4, RefreshKind::Begin).encode(&mut marker);
    marker.put_u8(0);
    marker[17] += 1;
    peer.send(|out| out.extend_from_slice(&marker)).await;
    let notification = peer.notification().await;
    assert_eq!((notification.code, notification.subcode), (7, 1));
    assert_eq!(notification.data, marker);
    ours.down(&config.id).await;
}

#[tokio::test]
async fn several_paths_of_a_prefix_cross_the_wire_with_their_identifiers() {
    let config = SessionConfig {
        add_path: AddPath {
            receive: true,
            send: 0,
        },
        ..session("127.21.5.1", "127.21.5.2", free_port("127.21.5.1"))
    };
    let theirs_config = SessionConfig {
        add_path: AddPath {
            receive: true,
            send: 4,
        },
        ..mirrored(&config)
    };
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![theirs_config.clone()]);
    let (back, back_terms) = ours.up_on_terms(&config.id).await;
    let (handle, terms) = theirs.up_on_terms(&theirs_config.id).await;
    assert_eq!(terms.add_path_send, Family::ALL);
    assert!(terms.add_path_receive.is_empty() && back_terms.add_path_send.is_empty());

    let prefix: IpNet = "10.250.0.0/16".parse().expect("a prefix");
    let nlri = |path_id| Nlri { prefix, path_id };
    let mut stream = BytesMut::new();
    for path_id in [0, 7, u32::MAX] {
        let message = with_ids(&terms.context(), &[nlri(path_id)]);
        stream.extend_from_slice(&message);
    }
    wire::encode_withdraw(&terms.context(), [nlri(7)], &mut stream);
    for family in Family::ALL {
        wire::encode_end_of_rib(family, &mut stream);
    }
    send(&handle, stream.freeze());
    let mut ids = Vec::new();
    let mut ended = Vec::new();
    ours.wait(|event| {
        let SessionEvent::Routes { changes, .. } = event else {
            return None;
        };
        for change in changes {
            match change {
                RouteChange::Announce { nlri, .. } => {
                    ids.extend(nlri.iter().map(|nlri| nlri.path_id));
                }
                RouteChange::Withdraw { nlri, malformed } => {
                    assert_eq!(malformed, None);
                    ids.retain(|id| nlri.iter().all(|gone| gone.path_id != *id));
                }
                RouteChange::EndOfRib(family) => ended.push(family),
            }
        }
        (ended.len() == 2).then_some(())
    })
    .await;
    assert_eq!(ids, [0, u32::MAX]);

    // The other way there are no identifiers.
    let plain = announcement(&back_terms.context(), 65515, "10.1.255.4", &["10.1.0.0/16"]);
    send(&back, plain);
    let attributes = theirs.announced("10.1.0.0/16").await;
    assert_eq!(attributes.as_path.asns().collect::<Vec<_>>(), [65515]);
}

fn with_ids(context: &Context, nlri: &[Nlri]) -> BytesMut {
    let attributes = wire::PathAttributes {
        as_path: wire::AsPath::sequence([65010]),
        next_hop: Some(std::net::IpAddr::from([10, 1, 10, 4]).into()),
        ..wire::PathAttributes::default()
    };
    let mut out = BytesMut::new();
    wire::encode_announce(context, &attributes, nlri.iter().copied(), &mut out).expect("it fits");
    out
}

fn passive(local: &str, peer: &str) -> SessionConfig {
    SessionConfig {
        passive: true,
        ..session(local, peer, free_port(local))
    }
}
