//! The KEEPALIVE message (RFC 4271 §4.4): a header and nothing else.

use bytes::BytesMut;

use super::header::{self, MessageType};

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut BytesMut) {
    header::message(out, MessageType::Keepalive, |_| {});
}
