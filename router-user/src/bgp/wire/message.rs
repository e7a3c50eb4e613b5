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
    let (kind, body) = header::split(message)?;
    Ok(match kind {
        MessageType::Open => Message::Open(Open::decode(body)?),
        MessageType::Update => Message::Update(Update::decode(body, context)?),
        MessageType::Notification => Message::Notification(Notification::decode(body)),
        MessageType::Keepalive => Message::Keepalive,
        MessageType::RouteRefresh => Message::RouteRefresh(RouteRefresh::decode(message)?),
    })
}
