//! The message header (RFC 4271 §4.1) and the framing of messages in a stream of bytes.

use bytes::{BufMut, BytesMut};

use super::Notification;

/// Bytes of a message header: marker, length, type.
pub const HEADER_LEN: usize = 19;

/// The longest message without, and the longest OPEN and KEEPALIVE with, RFC 8654.
pub const MAX_LEN: usize = 4096;

/// The longest message that RFC 8654 allows.
pub const MAX_LEN_EXTENDED: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// Types of message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// RFC 4271 §4.2.
    Open = 1,
    /// RFC 4271 §4.3.
    Update = 2,
    /// RFC 4271 §4.5.
    Notification = 3,
    /// RFC 4271 §4.4.
    Keepalive = 4,
    /// RFC 2918.
    RouteRefresh = 5,
}

/// The length of the message that `buffer` begins with, or `None` if it has not arrived in full.
///
/// `max_len` is [`super::Context::max_message_len`]: 4096, or 65,535 once RFC 8654 was negotiated.
///
/// # Errors
///
/// The NOTIFICATION of RFC 4271 §6.1: the header is malformed, and so is everything after it.
/// A wrong marker is found as soon as its first wrong byte has arrived.
pub fn frame(buffer: &[u8], max_len: usize) -> Result<Option<usize>, Notification> {
    let header = parse(buffer, max_len)?;
    Ok(header.and_then(|(len, _)| (len <= buffer.len()).then_some(len)))
}

/// Splits a whole message into its type and its body.
pub(super) fn split(message: &[u8], max_len: usize) -> Result<(MessageType, &[u8]), Notification> {
    match parse(message, max_len)? {
        Some((len, kind)) if len == message.len() => Ok((kind, &message[HEADER_LEN..])),
        _ => Err(Notification::bad_message_length(
            u16::try_from(message.len()).unwrap_or(u16::MAX),
        )),
    }
}

/// Length and type; `None`: the header has not arrived in full.
fn parse(buffer: &[u8], max_len: usize) -> Result<Option<(usize, MessageType)>, Notification> {
    let marker = &buffer[..buffer.len().min(MARKER.len())];
    if marker != &MARKER[..marker.len()] {
        return Err(Notification::connection_not_synchronized());
    }
    let Some(header) = buffer.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let claimed = u16::from_be_bytes([header[16], header[17]]);
    let len = usize::from(claimed);
    if len < HEADER_LEN || len > max_len {
        return Err(Notification::bad_message_length(claimed));
    }
    let kind = MessageType::from_code(header[18])?;
    if !kind.lengths(max_len).contains(&len) {
        return Err(Notification::bad_message_length(claimed));
    }
    Ok(Some((len, kind)))
}

impl MessageType {
    fn from_code(code: u8) -> Result<Self, Notification> {
        match code {
            1 => Ok(Self::Open),
            2 => Ok(Self::Update),
            3 => Ok(Self::Notification),
            4 => Ok(Self::Keepalive),
            5 => Ok(Self::RouteRefresh),
            _ => Err(Notification::bad_message_type(code)),
        }
    }

    /// The lengths that RFC 4271 §6.1, RFC 2918 and RFC 8654 §4 allow, header included.
    const fn lengths(self, max_len: usize) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Open => 29..=MAX_LEN,
            Self::Update => 23..=max_len,
            Self::Notification => 21..=max_len,
            Self::Keepalive => HEADER_LEN..=HEADER_LEN,
            Self::RouteRefresh => 23..=max_len,
        }
    }
}

/// Appends a message whose body `write` appends, and fills in its length.
pub(super) fn message(out: &mut BytesMut, kind: MessageType, write: impl FnOnce(&mut BytesMut)) {
    let start = begin(out, kind);
    write(out);
    finish(out, start);
}

/// Appends a header without its length; returns where the message starts.
pub(super) fn begin(out: &mut BytesMut, kind: MessageType) -> usize {
    let start = out.len();
    out.put_slice(&MARKER);
    out.put_u16(0);
    out.put_u8(kind as u8);
    start
}

/// Fills in the length of the message that starts at `start` and ends here.
///
/// # Panics
///
/// If the message is longer than 65,535 bytes; writers bound theirs.
pub(super) fn finish(out: &mut BytesMut, start: usize) {
    let len = u16::try_from(out.len() - start).expect("writers bound their messages");
    out[start + 16..start + 18].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_once_its_last_byte_has_arrived() {
        let mut bytes = header(23, 2);
        bytes.extend([0; 4]);
        for len in 0..23 {
            assert_eq!(frame(&bytes[..len], MAX_LEN), Ok(None), "{len} bytes");
        }
        assert_eq!(frame(&bytes, MAX_LEN), Ok(Some(23)));
        bytes.extend([0xff; 5]);
        assert_eq!(frame(&bytes, MAX_LEN), Ok(Some(23)));
    }

    #[test]
    fn garbage_is_refused_at_its_first_byte_that_is_no_marker() {
        let expected = Err(Notification::connection_not_synchronized());
        assert_eq!(frame(b"GET / HTTP/1.1\r\n", MAX_LEN), expected);
        assert_eq!(frame(&[0xff, 0xff, 0], MAX_LEN), expected);
        let mut bytes = header(19, 4);
        bytes[15] = 0xfe;
        assert_eq!(frame(&bytes, MAX_LEN), expected);
    }

    #[test]
    fn lengths_outside_those_of_the_type_are_refused_with_the_length_as_data() {
        for (kind, min, max) in [
            (1, 29, 4096),
            (2, 23, 4096),
            (3, 21, 4096),
            (4, 19, 19),
            (5, 23, 4096),
        ] {
            for bad in [0, 18, min - 1, max + 1, u16::MAX] {
                assert_eq!(
                    frame(&header(bad, kind), MAX_LEN),
                    Err(Notification::bad_message_length(bad)),
                    "type {kind}, length {bad}"
                );
            }
            for good in [min, max] {
                assert!(frame(&header(good, kind), MAX_LEN).is_ok());
            }
        }
    }

    #[test]
    fn extended_messages_are_for_all_but_open_and_keepalive() {
        for (kind, allowed) in [(1, false), (2, true), (3, true), (4, false), (5, true)] {
            assert_eq!(
                frame(&header(4097, kind), MAX_LEN_EXTENDED).is_ok(),
                allowed,
                "type {kind}"
            );
        }
    }

    #[test]
    fn an_unknown_type_is_refused_with_the_type_as_data() {
        for kind in [0, 6, 255] {
            assert_eq!(
                frame(&header(19, kind), MAX_LEN),
                Err(Notification::bad_message_type(kind))
            );
        }
    }

    fn header(len: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(len.to_be_bytes());
        bytes.push(kind);
        bytes
    }
}
