//! Whole messages: from the header to the type that the body becomes.

use super::{
    Context, Notification, Open, RouteRefresh, Update,
    header::{self, MessageType},
};

/// A decoded message. An UPDATE borrows the buffer that it was decoded from.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Update<'a>),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 2918.
    RouteRefresh(RouteRefresh),
}

/// Decodes one whole message, header included, as [`super::frame`] delimits it.
///
/// # Errors
///
/// The NOTIFICATION that the session is to be closed with (RFC 4271 §6). UPDATEs with errors that
/// do not call for that (RFC 7606) decode; see [`Update::faults`].
pub fn decode<'a>(message: &'a [u8], context: &Context) -> Result<Message<'a>, Notification> {
    let (kind, body) = header::split(message, context.max_message_len())?;
    Ok(match kind {
        MessageType::Open => Message::Open(Open::decode(body)?),
        MessageType::Update => Message::Update(Update::decode(body, context)?),
        MessageType::Notification => Message::Notification(Notification::decode(body)),
        MessageType::Keepalive => Message::Keepalive,
        MessageType::RouteRefresh => Message::RouteRefresh(RouteRefresh::decode(message)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_decoded_only_in_the_length_that_its_header_says() {
        let mut keepalive = vec![0xff; 16];
        keepalive.extend([0, 19, 4]);
        let context = Context::default();
        assert_eq!(decode(&keepalive, &context), Ok(Message::Keepalive));
        assert_eq!(
            decode(&keepalive[..18], &context),
            Err(Notification::bad_message_length(18))
        );
        keepalive.push(0);
        assert_eq!(
            decode(&keepalive, &context),
            Err(Notification::bad_message_length(20))
        );
    }

    #[test]
    fn rfc8654_a_long_update_is_refused_where_it_was_not_agreed_on() {
        let mut update = vec![0xff; 16];
        update.extend(5000_u16.to_be_bytes());
        update.push(2);
        update.resize(5000, 0);
        let ordinary = Context::default();
        assert_eq!(
            decode(&update, &ordinary),
            Err(Notification::bad_message_length(5000))
        );
        let extended = Context {
            extended_message: true,
            ..ordinary
        };
        // All zeros behind the two empty fields: default routes without attributes.
        let Ok(Message::Update(update)) = decode(&update, &extended) else {
            panic!("a long UPDATE");
        };
        assert_eq!(update.announced().next().unwrap().prefixes.len(), 5000 - 23);
        assert!(update.malformed().is_some());
    }
}
