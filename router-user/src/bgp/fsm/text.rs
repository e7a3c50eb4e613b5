//! NOTIFICATIONs by name, and what the operator reads of them: what was wrong, where, what to do.

use std::net::{IpAddr, SocketAddr};

use super::{Connection, Settings, State};
use crate::bgp::wire::Notification;

/// Codes and subcodes of NOTIFICATION that the state machine uses.
pub(crate) mod error {
    /// OPEN message error.
    pub(crate) const OPEN: u8 = 2;
    /// OPEN: bad peer AS.
    pub(crate) const BAD_PEER_AS: u8 = 2;
    /// OPEN: bad BGP identifier.
    pub(crate) const BAD_IDENTIFIER: u8 = 3;
    /// OPEN: unacceptable hold time.
    pub(crate) const BAD_HOLD_TIME: u8 = 6;
    /// OPEN: unsupported capability (RFC 5492).
    pub(crate) const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// Hold timer expired.
    pub(crate) const HOLD_TIMER: u8 = 4;
    /// Finite state machine error; subcodes by RFC 6608.
    pub(crate) const FSM: u8 = 5;
    /// Cease; subcodes by RFC 4486.
    pub(crate) const CEASE: u8 = 6;
    /// Cease: administrative shutdown.
    pub(crate) const SHUTDOWN: u8 = 2;
    /// Cease: administrative reset.
    pub(crate) const RESET: u8 = 4;
    /// Cease: connection collision resolution.
    pub(crate) const COLLISION: u8 = 7;
    /// Send hold timer expired (RFC 9687).
    pub(crate) const SEND_HOLD_TIMER: u8 = 8;
}

/// A NOTIFICATION without data.
pub(crate) const fn error(code: u8, subcode: u8) -> Notification {
    Notification {
        code,
        subcode,
        data: Vec::new(),
    }
}

/// Cease; with a shutdown communication where RFC 9003 has one.
pub(super) fn cease(subcode: u8, text: &str) -> Notification {
    let mut notification = error(error::CEASE, subcode);
    if matches!(subcode, error::SHUTDOWN | error::RESET) && !text.is_empty() {
        let end = (0..=text.len().min(255)).rfind(|at| text.is_char_boundary(*at));
        let text = &text[..end.unwrap_or(0)];
        notification.data.push(text.len() as u8);
        notification.data.extend_from_slice(text.as_bytes());
    }
    notification
}

pub(super) fn is_collision(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (error::CEASE, error::COLLISION)
}

/// A message that the state does not allow (RFC 6608).
pub(super) fn unexpected(state: State, message: u8) -> (Notification, String) {
    let subcode = match state {
        State::OpenSent => 1,
        State::OpenConfirm => 2,
        State::Established => 3,
        State::Idle | State::Connect | State::Active => 0,
    };
    let notification = Notification {
        data: vec![message],
        ..error(error::FSM, subcode)
    };
    let name = match message {
        1 => "OPEN",
        2 => "UPDATE",
        4 => "KEEPALIVE",
        5 => "ROUTE-REFRESH",
        _ => "message",
    };
    let reason = format!(
        "peer sent {name} in state {state:?}, where it is not allowed: this is a fault of the \
         peer's software"
    );
    (notification, reason)
}

pub(super) fn received(peer: IpAddr, notification: &Notification) -> String {
    let remedy = match (notification.code, notification.subcode) {
        (2, 2) => ": correct the ASN that the peer expects, or asn of route_server or peer",
        (2, 3) => ": give one of the two another router id",
        (4, _) => {
            ": it heard nothing for its hold time; is the path lossy, or this host overloaded?"
        }
        (6, 1) => ": raise the peer's limit, or announce less",
        (6, 3 | 5) => ": configure this instance's address on the peer",
        _ => "",
    };
    format!("{peer} sent {}{remedy}", describe(notification))
}

/// A NOTIFICATION in words, with its numbers.
pub(crate) fn describe(notification: &Notification) -> String {
    let Notification {
        code,
        subcode,
        data,
    } = notification;
    let (code_name, subcode_name) = names(*code, *subcode);
    let mut text = format!("NOTIFICATION {code}/{subcode} ({code_name}");
    if !subcode_name.is_empty() {
        text.push_str(", ");
        text.push_str(subcode_name);
    }
    text.push(')');
    if let Some(communication) = shutdown_communication(notification) {
        text.push_str(&format!(" saying {communication:?}"));
    } else if !data.is_empty() && *code != error::CEASE {
        let shown = data.iter().take(16).map(|byte| format!("{byte:02x}"));
        text.push_str(&format!(" with data {}", shown.collect::<String>()));
        text.push_str(if data.len() > 16 { "…" } else { "" });
    }
    text
}

fn shutdown_communication(notification: &Notification) -> Option<String> {
    let is_shutdown = notification.code == error::CEASE
        && matches!(notification.subcode, error::SHUTDOWN | error::RESET);
    let (length, text) = notification.data.split_first().filter(|_| is_shutdown)?;
    let text = text.get(..usize::from(*length)).filter(|t| !t.is_empty())?;
    Some(String::from_utf8_lossy(text).into_owned())
}

const fn names(code: u8, subcode: u8) -> (&'static str, &'static str) {
    match code {
        1 => (
            "message header error",
            match subcode {
                1 => "connection not synchronised",
                2 => "bad message length",
                3 => "bad message type",
                _ => "",
            },
        ),
        2 => (
            "OPEN message error",
            match subcode {
                1 => "unsupported version",
                2 => "bad peer AS",
                3 => "bad BGP identifier",
                4 => "unsupported optional parameter",
                6 => "unacceptable hold time",
                7 => "unsupported capability",
                11 => "role mismatch",
                _ => "",
            },
        ),
        3 => (
            "UPDATE message error",
            match subcode {
                1 => "malformed attribute list",
                2 => "unrecognised well-known attribute",
                3 => "missing well-known attribute",
                4 => "attribute flags error",
                5 => "attribute length error",
                6 => "invalid ORIGIN",
                8 => "invalid NEXT_HOP",
                9 => "optional attribute error",
                10 => "invalid network field",
                11 => "malformed AS_PATH",
                _ => "",
            },
        ),
        4 => ("hold timer expired", ""),
        5 => (
            "finite state machine error",
            match subcode {
                1 => "unexpected message in OpenSent",
                2 => "unexpected message in OpenConfirm",
                3 => "unexpected message in Established",
                _ => "",
            },
        ),
        6 => (
            "cease",
            match subcode {
                1 => "maximum number of prefixes reached",
                2 => "administrative shutdown",
                3 => "peer de-configured",
                4 => "administrative reset",
                5 => "connection rejected",
                6 => "other configuration change",
                7 => "connection collision resolution",
                8 => "out of resources",
                9 => "hard reset",
                10 => "BFD down",
                _ => "",
            },
        ),
        7 => (
            "ROUTE-REFRESH message error",
            match subcode {
                1 => "invalid message length",
                _ => "",
            },
        ),
        8 => ("send hold timer expired", ""),
        _ => ("unknown error", ""),
    }
}

pub(super) fn closed(settings: &Settings, connection: &Connection, reason: &str) -> String {
    let peer = settings.peer.ip();
    match connection.state() {
        State::Established => format!("connection with {peer} lost: {reason}"),
        _ => format!(
            "connection with {peer} lost before the session was up: {reason}; is the peer \
             configured for {} with ASN {}?",
            connection.local_address, settings.local_asn
        ),
    }
}

pub(super) fn no_answer(peer: SocketAddr) -> String {
    format!("no answer from {peer}: is the machine up, and does nothing filter TCP to that port?")
}

pub(super) fn silent(peer: IpAddr, connection: &Connection) -> String {
    match (connection.state(), connection.hold_time()) {
        (State::OpenSent, _) | (_, None) => format!(
            "{peer} connected but sent no OPEN: is what runs there a BGP daemon, and is the session \
             enabled?"
        ),
        (_, Some(hold_time)) => format!(
            "hold timer expired: nothing received from {peer} for {} s; is it up and reachable?",
            hold_time.as_secs()
        ),
    }
}

pub(super) fn stuck(peer: IpAddr) -> String {
    format!("send hold timer expired: {peer} has stopped reading; restart its BGP daemon")
}

#[cfg(test)]
mod tests {
    use super::{cease, describe, error};

    #[test]
    fn a_shutdown_text_is_sent_with_its_length_and_read_back() {
        let notification = cease(error::SHUTDOWN, "maintenance until 14:00");
        assert_eq!(notification.data[0], 23);
        assert_eq!(
            describe(&notification),
            "NOTIFICATION 6/2 (cease, administrative shutdown) saying \"maintenance until 14:00\""
        );
    }

    #[test]
    fn a_long_shutdown_text_is_cut_at_a_character() {
        let notification = cease(error::RESET, &"ü".repeat(200));
        assert_eq!(notification.data[0], 254);
        assert!(std::str::from_utf8(&notification.data[1..]).is_ok());
    }

    #[test]
    fn only_shutdown_and_reset_carry_a_text() {
        assert!(cease(error::COLLISION, "text").data.is_empty());
    }

    #[test]
    fn a_cut_off_shutdown_communication_is_not_shown() {
        let mut notification = cease(error::SHUTDOWN, "text");
        notification.data[0] = 200;
        assert!(!describe(&notification).contains("saying"));
    }
}
