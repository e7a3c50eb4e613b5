//! The NOTIFICATION message (RFC 4271 §4.5): why a session is closed, with a constructor for each
//! reason that Waypost gives. `notification_text` puts them in words.

use bytes::{BufMut, BytesMut};

use super::{
    Family,
    cursor::Cursor,
    header::{self, HEADER_LEN, MAX_LEN, MessageType},
};

/// A NOTIFICATION (RFC 4271 §4.5). Its `Display` is meant for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

/// Error codes.
pub mod error {
    /// RFC 4271 §6.1.
    pub const MESSAGE_HEADER: u8 = 1;
    /// RFC 4271 §6.2.
    pub const OPEN: u8 = 2;
    /// RFC 4271 §6.3.
    pub const UPDATE: u8 = 3;
    /// RFC 4271 §6.5.
    pub const HOLD_TIMER: u8 = 4;
    /// RFC 4271 §6.6, RFC 6608.
    pub const FSM: u8 = 5;
    /// RFC 4271 §6.7, RFC 4486.
    pub const CEASE: u8 = 6;
    /// RFC 7313 §5.
    pub const ROUTE_REFRESH: u8 = 7;
    /// RFC 9687 §3.
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
pub mod cease {
    /// Maximum number of prefixes reached.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative shutdown; may carry a text (RFC 9003).
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// Administrative reset; may carry a text (RFC 9003).
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// Connection rejected.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// Other configuration change.
    pub const CONFIGURATION_CHANGE: u8 = 6;
    /// Connection collision resolution.
    pub const CONNECTION_COLLISION: u8 = 7;
    /// Out of resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard reset (RFC 8538 §3).
    pub const HARD_RESET: u8 = 9;
    /// BFD down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// The longest shutdown communication in bytes (RFC 9003 §2).
const MAX_COMMUNICATION: usize = 255;

/// The most data that fits into an ordinary message.
const MAX_DATA: usize = MAX_LEN - HEADER_LEN - 2;

impl Notification {
    /// One with no constructor of its own.
    #[must_use]
    pub fn new(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            subcode,
            data: data.into(),
        }
    }

    /// Appends the message; data that does not fit into 4096 bytes is cut.
    pub fn encode(&self, out: &mut BytesMut) {
        header::message(out, MessageType::Notification, |out| {
            out.put_u8(self.code);
            out.put_u8(self.subcode);
            out.put_slice(&self.data[..self.data.len().min(MAX_DATA)]);
        });
    }

    pub(super) fn decode(body: &[u8]) -> Self {
        let mut body = Cursor::new(body);
        // The header's length check leaves at least two octets.
        let code = body.u8().unwrap_or_default();
        let subcode = body.u8().unwrap_or_default();
        Self::new(code, subcode, body.rest())
    }

    /// The marker is not all ones.
    #[must_use]
    pub fn connection_not_synchronized() -> Self {
        Self::new(error::MESSAGE_HEADER, 1, [])
    }

    /// The header's length is wrong for the message.
    #[must_use]
    pub fn bad_message_length(len: u16) -> Self {
        Self::new(error::MESSAGE_HEADER, 2, len.to_be_bytes())
    }

    /// The header's type is not known.
    #[must_use]
    pub fn bad_message_type(kind: u8) -> Self {
        Self::new(error::MESSAGE_HEADER, 3, [kind])
    }

    /// The OPEN's parameters or capabilities do not add up ("unspecific").
    #[must_use]
    pub fn open_malformed() -> Self {
        Self::new(error::OPEN, 0, [])
    }

    /// The peer does not speak BGP version 4.
    #[must_use]
    pub fn unsupported_version() -> Self {
        Self::new(error::OPEN, 1, 4_u16.to_be_bytes())
    }

    /// The OPEN's ASN is not the configured one, or is 0.
    #[must_use]
    pub fn bad_peer_as() -> Self {
        Self::new(error::OPEN, 2, [])
    }

    /// The OPEN's BGP identifier is 0, or ours within the same AS (RFC 6286).
    #[must_use]
    pub fn bad_bgp_identifier() -> Self {
        Self::new(error::OPEN, 3, [])
    }

    /// The OPEN has an optional parameter other than capabilities.
    #[must_use]
    pub fn unsupported_optional_parameter() -> Self {
        Self::new(error::OPEN, 4, [])
    }

    /// The OPEN's hold time is 1 or 2 seconds, or too short for us.
    #[must_use]
    pub fn unacceptable_hold_time() -> Self {
        Self::new(error::OPEN, 6, [])
    }

    /// The peer lacks capabilities that we require (RFC 5492 §3); `capabilities` as encoded.
    #[must_use]
    pub fn unsupported_capability(capabilities: &[super::Capability]) -> Self {
        let mut data = BytesMut::new();
        for capability in capabilities {
            capability.encode(&mut data);
        }
        Self::new(error::OPEN, 7, data)
    }

    /// The two roles do not fit (RFC 9234 §4.2).
    #[must_use]
    pub fn role_mismatch() -> Self {
        Self::new(error::OPEN, 11, [])
    }

    /// Nothing was received for the hold time.
    #[must_use]
    pub fn hold_timer_expired() -> Self {
        Self::new(error::HOLD_TIMER, 0, [])
    }

    /// The peer has read nothing for the send hold time (RFC 9687).
    #[must_use]
    pub fn send_hold_timer_expired() -> Self {
        Self::new(error::SEND_HOLD_TIMER, 0, [])
    }

    /// A message that the state has no place for (RFC 6608).
    #[must_use]
    pub fn unexpected_message(state: crate::bgp::State, message_type: u8) -> Self {
        use crate::bgp::State;
        let subcode = match state {
            State::OpenSent => 1,
            State::OpenConfirm => 2,
            State::Established => 3,
            State::Idle | State::Connect | State::Active => 0,
        };
        Self::new(error::FSM, subcode, [message_type])
    }

    /// More prefixes of `family` than `limit` (RFC 4486 §4).
    #[must_use]
    pub fn max_prefixes_reached(family: Family, limit: u32) -> Self {
        let mut data = family.afi().to_be_bytes().to_vec();
        data.push(family.safi());
        data.extend(limit.to_be_bytes());
        Self::new(error::CEASE, cease::MAX_PREFIXES, data)
    }

    /// The operator shut the session down. A text above 255 bytes is cut (RFC 9003).
    #[must_use]
    pub fn administrative_shutdown(text: &str) -> Self {
        Self::cease_with_text(cease::ADMINISTRATIVE_SHUTDOWN, text)
    }

    /// The operator restarts the session. A text above 255 bytes is cut (RFC 9003).
    #[must_use]
    pub fn administrative_reset(text: &str) -> Self {
        Self::cease_with_text(cease::ADMINISTRATIVE_RESET, text)
    }

    /// The peer is no longer configured.
    #[must_use]
    pub fn peer_deconfigured() -> Self {
        Self::cease(cease::PEER_DECONFIGURED)
    }

    /// The peer is not configured, or its session is disabled.
    #[must_use]
    pub fn connection_rejected() -> Self {
        Self::cease(cease::CONNECTION_REJECTED)
    }

    /// A changed setting needs a new session.
    #[must_use]
    pub fn configuration_change() -> Self {
        Self::cease(cease::CONFIGURATION_CHANGE)
    }

    /// Two connections at once; this one goes (RFC 4271 §6.8).
    #[must_use]
    pub fn connection_collision() -> Self {
        Self::cease(cease::CONNECTION_COLLISION)
    }

    /// Memory or another resource ran out.
    #[must_use]
    pub fn out_of_resources() -> Self {
        Self::cease(cease::OUT_OF_RESOURCES)
    }

    /// `inner`, with no graceful restart after it (RFC 8538 §3.1).
    #[must_use]
    pub fn hard_reset(inner: &Self) -> Self {
        let mut data = vec![inner.code, inner.subcode];
        data.extend(&inner.data);
        Self::new(error::CEASE, cease::HARD_RESET, data)
    }

    /// A ROUTE-REFRESH of the wrong length (RFC 7313 §5).
    #[must_use]
    pub fn invalid_refresh_length(message: &[u8]) -> Self {
        Self::new(error::ROUTE_REFRESH, 1, message)
    }

    /// A Cease of any subcode; the text goes with the two subcodes that RFC 9003 has one for.
    #[must_use]
    pub fn cease_with_text(subcode: u8, text: &str) -> Self {
        let text = truncated(text);
        let carries_text = matches!(
            subcode,
            cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET
        );
        if !carries_text || text.is_empty() {
            return Self::cease(subcode);
        }
        let mut data = vec![text.len() as u8];
        data.extend(text.as_bytes());
        Self::new(error::CEASE, subcode, data)
    }

    /// A Cease without data.
    #[must_use]
    pub fn cease(subcode: u8) -> Self {
        Self::new(error::CEASE, subcode, [])
    }

    /// The NOTIFICATION within a hard reset (RFC 8538 §3.1). A hard reset within a hard reset stands
    /// for nothing; a message has room for thousands of them.
    #[must_use]
    pub fn within_hard_reset(&self) -> Option<Self> {
        match (self.code, self.subcode, self.data.as_slice()) {
            (_, _, [error::CEASE, cease::HARD_RESET, ..]) => None,
            (error::CEASE, cease::HARD_RESET, [code, subcode, data @ ..]) => {
                Some(Self::new(*code, *subcode, data))
            }
            _ => None,
        }
    }

    /// The shutdown communication (RFC 9003), if there is a well-formed one that is not empty.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<&str> {
        if self.code != error::CEASE
            || !matches!(
                self.subcode,
                cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET
            )
        {
            return None;
        }
        let mut data = Cursor::new(&self.data);
        let len = data.u8().filter(|len| *len > 0)?;
        std::str::from_utf8(data.bytes(len.into())?).ok()
    }
}

/// The longest beginning of `text` that fits into a shutdown communication.
fn truncated(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_COMMUNICATION))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::{Context, Message, decode};

    #[test]
    fn rfc4271_4_5_code_subcode_data() {
        let mut out = BytesMut::new();
        Notification::bad_message_length(7).encode(&mut out);
        assert_eq!(out[16..], [0, 23, 3, 1, 2, 0, 7]);
        assert_eq!(reread(&out), Notification::bad_message_length(7));
    }

    #[test]
    fn rfc4486_4_the_bound_that_was_passed_is_in_the_data() {
        for (family, limit, data) in [
            (Family::Ipv4Unicast, 1000, [0, 1, 1, 0, 0, 3, 0xe8]),
            (Family::Ipv6Unicast, u32::MAX, [0, 2, 1, 255, 255, 255, 255]),
        ] {
            let mut out = BytesMut::new();
            Notification::max_prefixes_reached(family, limit).encode(&mut out);
            assert_eq!(out[19..21], [6, 1]);
            assert_eq!(out[21..], data);
            assert!(reread(&out).to_string().contains(&limit.to_string()));
        }
    }

    #[test]
    fn rfc9003_a_text_is_cut_at_255_bytes_between_characters() {
        let long = "é".repeat(200);
        let notification = Notification::administrative_shutdown(&long);
        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.shutdown_text(), Some("é".repeat(127).as_str()));
        let longest = "e".repeat(255);
        for text in [&longest, &"e".repeat(256)] {
            let notification = Notification::administrative_shutdown(text);
            assert_eq!(notification.shutdown_text(), Some(longest.as_str()));
        }
        assert_eq!(
            Notification::administrative_reset("").data,
            [] as [u8; 0],
            "no text, no data"
        );
        assert_eq!(
            Notification::cease_with_text(cease::PEER_DECONFIGURED, "text").data,
            [] as [u8; 0],
            "subcodes without a text"
        );
    }

    #[test]
    fn rfc9003_texts_that_are_cut_off_or_no_utf_8_are_no_text() {
        for data in [&[][..], &[0], &[5, b'a'], &[2, 0xc3, 0x28]] {
            let notification = Notification::new(6, 2, data);
            assert_eq!(notification.shutdown_text(), None, "{data:?}");
        }
        assert_eq!(
            Notification::new(6, 2, [2, b'u', b'p', b'!']).shutdown_text(),
            Some("up"),
            "bytes after the text are ignored"
        );
    }

    #[test]
    fn rfc8538_a_hard_reset_carries_the_notification_that_it_stands_for() {
        let inner = Notification::administrative_shutdown("bye");
        let hard = Notification::hard_reset(&inner);
        assert_eq!((hard.code, hard.subcode), (6, 9));
        assert_eq!(hard.within_hard_reset(), Some(inner));
        assert_eq!(Notification::new(6, 9, [6]).within_hard_reset(), None);
    }

    #[test]
    fn rfc8538_hard_resets_within_each_other_are_not_followed() {
        let nested = Notification::new(6, 9, [6, 9].repeat(32_000));
        assert_eq!(nested.within_hard_reset(), None);
        assert_eq!(nested.to_string(), "Cease: hard reset");
    }

    #[test]
    fn data_that_does_not_fit_into_a_message_is_cut() {
        let mut out = BytesMut::new();
        Notification::new(3, 9, vec![1; 60_000]).encode(&mut out);
        assert_eq!(out.len(), 4096);
        assert_eq!(reread(&out), Notification::new(3, 9, vec![1; 4075]));
    }

    fn reread(bytes: &[u8]) -> Notification {
        match decode(bytes, &Context::default()) {
            Ok(Message::Notification(notification)) => notification,
            other => panic!("{other:?}"),
        }
    }
}
