//! A session's bookkeeping, without a peer that speaks.

use std::net::Ipv4Addr;

use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;
use crate::bgp::{
    InstanceId, SessionId,
    settings::{AddPath, Restart, Security},
    wire::{self, Family},
};

#[tokio::test]
async fn messages_that_go_before_what_waits_are_not_counted_with_it() {
    let (mut session, handle, _peer) = established().await;
    for _ in 0..100 {
        let mut update = bytes::BytesMut::new();
        wire::encode_keepalive(&mut update);
        let messages: Bytes = update.freeze();
        handle.send(SessionCommand::Send(messages.clone()));
        session.send(messages);
        // The socket takes a message, and the keepalive has to wait.
        session.links[0].send(wire::encode_keepalive);
        session.sent(ConnectionId(1));
        assert!(session.links[0].catch_up(false).drained);
        session.sent(ConnectionId(1));
        assert!(!handle.is_behind(), "nothing waits");
    }
}

/// A session with a connection, and whoever holds the other end of it.
async fn established() -> (Session, SessionHandle, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (events, _) = mpsc::unbounded_channel();
    let (_, control) = mpsc::unbounded_channel();
    let (_, incoming) = mpsc::channel(1);
    let mut session = Session::new(config(), Restarted::default(), events, control, incoming);
    let (handle, commands) = SessionHandle::new();
    let link = Link::new(ConnectionId(1), accepted.unwrap().0);
    session.links.push(link);
    session.established = Some(ConnectionId(1));
    session.commands = Some(commands);
    session.backlog = handle.backlog.clone();
    (session, handle, peer.unwrap())
}

fn config() -> SessionConfig {
    SessionConfig {
        id: SessionId {
            route_server: "rs1".into(),
            instance: InstanceId(1),
            peer: Ipv4Addr::LOCALHOST.into(),
        },
        local_asn: 65515,
        peer_asn: 65010,
        router_id: Ipv4Addr::new(10, 1, 255, 4),
        local_address: Ipv4Addr::LOCALHOST.into(),
        port: 179,
        passive: true,
        hold_time: 180,
        connect_retry: 5,
        families: Family::ALL.to_vec(),
        send_hold_time: 480,
        security: Security::default(),
        add_path: AddPath::default(),
        restart: Restart::default(),
        extended_next_hop: true,
        role: None,
    }
}
