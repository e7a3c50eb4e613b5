//! An UPDATE: its faults, its routes, and passing them on.

use bytes::BytesMut;
use router_user::bgp::{
    RouteChange,
    wire::{
        Context, Disposition, MAX_LEN, Message, Nlri, Notification, PathAttributes, Update, decode,
        encode_announce, encode_withdraw, frame,
    },
};

use crate::{context, mirrored};

/// Puts a header before the bytes and decodes them as an UPDATE.
pub fn run(input: &[u8]) {
    let (context, body) = context(input);
    let len = body.len() + 19;
    if len > context.max_message_len() {
        return;
    }
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&(len as u16).to_be_bytes());
    message.push(2);
    message.extend_from_slice(body);
    match decode(&message, &context) {
        Ok(Message::Update(update)) => check(update, &context),
        Ok(other) => panic!("an UPDATE became {other:?}"),
        Err(notification) => {
            // RFC 4271 §6.1: less than both of its length fields is a fault of the header.
            let code = if body.len() < 4 { 1 } else { 3 };
            assert_eq!(notification.code, code, "{notification}");
            check_notification(&notification);
        }
    }
}

/// What an UPDATE says of itself fits together, and its routes survive being passed on.
pub(crate) fn check(update: Update<'_>, context: &Context) {
    for fault in update.faults() {
        assert!(!fault.to_string().is_empty());
        assert!(
            fault.disposition != Disposition::SessionReset,
            "{fault} was let through"
        );
    }
    for change in update.into_changes() {
        match change {
            RouteChange::Announce { attributes, nlri } => pass_on(&attributes, &nlri, context),
            RouteChange::Withdraw { nlri, .. } => {
                let mut out = BytesMut::new();
                let outbound = mirrored(*context);
                encode_withdraw(&outbound, nlri.iter().copied(), &mut out);
                let (_, withdrawn) = read(&out, context);
                assert_eq!(withdrawn, nlri);
            }
            RouteChange::EndOfRib(_) => {}
        }
    }
}

/// A NOTIFICATION can be told and sent.
pub(crate) fn check_notification(notification: &Notification) {
    assert!(!notification.to_string().is_empty());
    let mut out = BytesMut::new();
    notification.encode(&mut out);
    let decoded = decode(&out, &Context::default());
    let mut expected = notification.clone();
    // It quotes attributes of long messages (RFC 8654) too, and is never long itself.
    expected.data.truncate(MAX_LEN - 21);
    assert!(
        decoded == Ok(Message::Notification(expected)),
        "a NOTIFICATION changes: {notification}"
    );
}

/// Encodes routes as the other end would and reads them: the same attributes for the same prefixes.
fn pass_on(attributes: &PathAttributes, nlri: &[Nlri], context: &Context) {
    assert!(nlri.iter().all(|nlri| nlri.prefix == nlri.prefix.trunc()));
    if attributes.as_path.contains(0) {
        // RFC 7607 §2: the route server takes no such route, and so never passes one on.
        return;
    }
    let mut out = BytesMut::new();
    let outbound = mirrored(*context);
    if encode_announce(&outbound, attributes, nlri.iter().copied(), &mut out).is_err() {
        // LOCAL_PREF, AS4_PATH or a 4-octet AGGREGATOR may have made them longer than what fits.
        return;
    }
    let (announced, withdrawn) = read(&out, context);
    assert_eq!(withdrawn, [], "announced routes come back as withdrawn");
    let mut expected = attributes.clone();
    for attribute in &mut expected.unknown {
        // RFC 4271 §5: passed on by a speaker that does not know it, an attribute is partial.
        attribute.flags |= 0x20;
    }
    let mut received = Vec::new();
    for (again, nlri) in announced {
        assert_eq!(again, expected);
        received.extend(nlri);
    }
    assert_eq!(received, nlri);
}

type Routes = (Vec<(PathAttributes, Vec<Nlri>)>, Vec<Nlri>);

/// The routes of whole, faultless UPDATEs.
fn read(mut bytes: &[u8], context: &Context) -> Routes {
    let mut announced = Vec::new();
    let mut withdrawn = Vec::new();
    while !bytes.is_empty() {
        let len = frame(bytes, context.max_message_len()).ok().flatten();
        let (message, rest) = bytes.split_at(len.expect("whole messages"));
        bytes = rest;
        let Ok(Message::Update(update)) = decode(message, context) else {
            panic!("no UPDATE: {message:02x?}");
        };
        assert_eq!(update.faults(), [], "{message:02x?}");
        for change in update.into_changes() {
            match change {
                RouteChange::Announce { attributes, nlri } => {
                    announced.push(((*attributes).clone(), nlri));
                }
                RouteChange::Withdraw { nlri, .. } => withdrawn.extend(nlri),
                RouteChange::EndOfRib(family) => panic!("End-of-RIB of {family} from nowhere"),
            }
        }
    }
    (announced, withdrawn)
}
