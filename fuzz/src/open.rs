//! OPENs and what they agree on.

use bytes::BytesMut;
use router_user::bgp::wire::{Context, Message, Negotiated, Open, decode};

/// Two bodies of OPENs: each that decodes comes back equal, and both sides work out the same terms.
pub fn run(input: &[u8]) {
    let Some((&split, rest)) = input.split_first() else {
        return;
    };
    let (ours, theirs) = rest.split_at(rest.len() * usize::from(split) / 255);
    let (ours, theirs) = (read(ours), read(theirs));
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        agree(&ours, &theirs);
    }
}

fn read(body: &[u8]) -> Option<Open> {
    let len = u16::try_from(body.len() + 19).ok()?;
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&len.to_be_bytes());
    message.push(1);
    message.extend_from_slice(body);
    let open = match decode(&message, &Context::default()) {
        Ok(Message::Open(open)) => open,
        Ok(other) => panic!("an OPEN became {other:?}"),
        Err(notification) => {
            assert!(matches!(notification.code, 1 | 2), "{notification}");
            return None;
        }
    };
    let mut out = BytesMut::new();
    open.encode(&mut out);
    let again = decode(&out, &Context::default());
    assert_eq!(again, Ok(Message::Open(open.clone())), "an OPEN changes");
    Some(open)
}

fn agree(ours: &Open, theirs: &Open) {
    let address = [10, 0, 0, 1].into();
    let here = Negotiated::new(ours, theirs, address);
    let there = Negotiated::new(theirs, ours, address);
    assert_eq!(here.families, there.families);
    assert_eq!(here.hold_time, there.hold_time);
    assert_eq!(here.add_path_send, there.add_path_receive);
    assert_eq!(here.add_path_receive, there.add_path_send);
    let (here, there) = (here.context(), there.context());
    assert_eq!(crate::mirrored(here), there);
}
