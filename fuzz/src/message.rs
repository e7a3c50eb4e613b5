//! A stream of bytes as a peer may send it.

use bytes::BytesMut;
use router_user::bgp::wire::{MAX_LEN, Message, decode, frame};

use crate::{context, update};

/// Cuts the bytes into messages and decodes each. What decodes says the same after encoding, and what
/// does not has a NOTIFICATION that can be sent.
pub fn run(input: &[u8]) {
    let (context, mut rest) = context(input);
    loop {
        let len = match frame(rest, context.max_message_len()) {
            Ok(Some(len)) => len,
            Ok(None) => return,
            Err(notification) => return update::check_notification(&notification),
        };
        assert!((19..=rest.len()).contains(&len), "a message of {len} bytes");
        let (message, after) = rest.split_at(len);
        rest = after;
        let mut out = BytesMut::new();
        match decode(message, &context) {
            Err(notification) => return update::check_notification(&notification),
            Ok(Message::Update(update)) => {
                update::check(update, &context);
                continue;
            }
            Ok(Message::Open(open)) => {
                open.encode(&mut out);
                let again = decode(&out, &context);
                assert_eq!(again, Ok(Message::Open(open)), "an OPEN changes");
            }
            Ok(Message::Notification(notification)) => {
                assert!(!notification.to_string().is_empty());
                notification.encode(&mut out);
                // What we send fits into a message of RFC 4271, whatever was agreed on.
                let sent = message.len().min(MAX_LEN);
                assert!(out[18..] == message[18..sent], "a NOTIFICATION changes");
            }
            Ok(Message::RouteRefresh(refresh)) => {
                refresh.encode(&mut out);
                let again = decode(&out, &context);
                assert_eq!(again, Ok(Message::RouteRefresh(refresh)));
            }
            Ok(Message::Keepalive) => assert_eq!(len, 19),
        }
    }
}
