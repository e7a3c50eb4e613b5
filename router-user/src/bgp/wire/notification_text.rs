//! NOTIFICATIONs in words that an operator understands.

use std::fmt;

use super::{
    Capability, Family, Notification,
    attribute::AttributeCode,
    cursor::Cursor,
    notification::{cease, error},
};

/// Capabilities named; a message has room for thousands.
const MAX_CAPABILITIES: usize = 16;

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(category) = category(self.code) else {
            return write!(f, "error code {}, subcode {}", self.code, self.subcode);
        };
        f.write_str(category)?;
        match (self.subcode, reason(self.code, self.subcode)) {
            (_, Some(reason)) => write!(f, ": {reason}")?,
            (0, None) => {}
            (subcode, None) => write!(f, ": subcode {subcode}")?,
        }
        self.fmt_data(f)
    }
}

const fn category(code: u8) -> Option<&'static str> {
    Some(match code {
        error::MESSAGE_HEADER => "Message header error",
        error::OPEN => "OPEN error",
        error::UPDATE => "UPDATE error",
        error::HOLD_TIMER => "Hold timer expired",
        error::FSM => "Finite state machine error",
        error::CEASE => "Cease",
        error::ROUTE_REFRESH => "ROUTE-REFRESH error",
        error::SEND_HOLD_TIMER => "Send hold timer expired",
        _ => return None,
    })
}

const fn reason(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (error::MESSAGE_HEADER, 1) => "connection not synchronized (wrong marker)",
        (error::MESSAGE_HEADER, 2) => "bad message length",
        (error::MESSAGE_HEADER, 3) => "bad message type",
        (error::OPEN, 0) => "malformed optional parameters",
        (error::OPEN, 1) => "unsupported version number",
        (error::OPEN, 2) => "bad peer AS",
        (error::OPEN, 3) => "bad BGP identifier",
        (error::OPEN, 4) => "unsupported optional parameter",
        (error::OPEN, 5) => "authentication failure (deprecated)",
        (error::OPEN, 6) => "unacceptable hold time",
        (error::OPEN, 7) => "unsupported capability",
        (error::OPEN, 11) => "role mismatch",
        (error::UPDATE, 1) => "malformed attribute list",
        (error::UPDATE, 2) => "unrecognized well-known attribute",
        (error::UPDATE, 3) => "missing well-known attribute",
        (error::UPDATE, 4) => "attribute flags error",
        (error::UPDATE, 5) => "attribute length error",
        (error::UPDATE, 6) => "invalid ORIGIN",
        (error::UPDATE, 8) => "invalid NEXT_HOP",
        (error::UPDATE, 9) => "optional attribute error",
        (error::UPDATE, 10) => "invalid network field",
        (error::UPDATE, 11) => "malformed AS_PATH",
        (error::FSM, 1) => "unexpected message in OpenSent",
        (error::FSM, 2) => "unexpected message in OpenConfirm",
        (error::FSM, 3) => "unexpected message in Established",
        (error::CEASE, cease::MAX_PREFIXES) => "maximum number of prefixes reached",
        (error::CEASE, cease::ADMINISTRATIVE_SHUTDOWN) => "administrative shutdown",
        (error::CEASE, cease::PEER_DECONFIGURED) => "peer de-configured",
        (error::CEASE, cease::ADMINISTRATIVE_RESET) => "administrative reset",
        (error::CEASE, cease::CONNECTION_REJECTED) => "connection rejected",
        (error::CEASE, cease::CONFIGURATION_CHANGE) => "other configuration change",
        (error::CEASE, cease::CONNECTION_COLLISION) => "connection collision resolution",
        (error::CEASE, cease::OUT_OF_RESOURCES) => "out of resources",
        (error::CEASE, cease::HARD_RESET) => "hard reset",
        (error::CEASE, cease::BFD_DOWN) => "BFD down",
        (error::ROUTE_REFRESH, 1) => "invalid message length",
        _ => return None,
    })
}

impl Notification {
    /// What the data adds, where it has a form of its own.
    fn fmt_data(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.shutdown_text() {
            return write!(f, ": \"{}\"", text.escape_debug());
        }
        if let Some(inner) = self.within_hard_reset() {
            return write!(f, ": {inner}");
        }
        let mut data = Cursor::new(&self.data);
        match (self.code, self.subcode) {
            (error::MESSAGE_HEADER, 2) => match data.u16() {
                Some(len) => write!(f, ": {len}"),
                None => Ok(()),
            },
            (error::MESSAGE_HEADER, 3) | (error::FSM, 1..=3) => match data.u8() {
                Some(kind) => write!(f, ": type {kind}"),
                None => Ok(()),
            },
            (error::OPEN, 1) => match data.u16() {
                Some(version) => write!(f, ": version {version} is supported"),
                None => Ok(()),
            },
            (error::OPEN, 7) => fmt_capabilities(&self.data, f),
            (error::UPDATE, 3) => match data.u8() {
                Some(code) => write!(f, ": {}", AttributeCode(code)),
                None => Ok(()),
            },
            (error::UPDATE, 2 | 4 | 5 | 6 | 8 | 9) => match (data.u8(), data.u8()) {
                (Some(_flags), Some(code)) => write!(f, ": {}", AttributeCode(code)),
                _ => Ok(()),
            },
            (error::CEASE, cease::MAX_PREFIXES) => {
                let (Some(afi), Some(safi), Some(limit)) = (data.u16(), data.u8(), data.u32())
                else {
                    return Ok(());
                };
                match Family::from_identifiers(afi, safi) {
                    Some(family) => write!(f, ": {limit} of {family}"),
                    None => write!(f, ": {limit} of AFI {afi}, SAFI {safi}"),
                }
            }
            _ => Ok(()),
        }
    }
}

fn fmt_capabilities(data: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut capabilities = Vec::new();
    if Capability::decode_all(data, &mut capabilities).is_none() {
        return Ok(());
    }
    for (index, capability) in capabilities.iter().take(MAX_CAPABILITIES).enumerate() {
        let separator = if index == 0 { ": " } else { ", " };
        write!(f, "{separator}{capability}")?;
    }
    match capabilities.len().saturating_sub(MAX_CAPABILITIES) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::State;

    #[test]
    fn notifications_read_as_sentences() {
        let shutdown = Notification::administrative_shutdown("maintenance, \"back at 5\"");
        for (notification, text) in [
            (
                shutdown.clone(),
                r#"Cease: administrative shutdown: "maintenance, \"back at 5\"""#,
            ),
            (
                Notification::hard_reset(&shutdown),
                r#"Cease: hard reset: Cease: administrative shutdown: "maintenance, \"back at 5\"""#,
            ),
            (
                Notification::max_prefixes_reached(Family::Ipv6Unicast, 1000),
                "Cease: maximum number of prefixes reached: 1000 of IPv6 unicast",
            ),
            (
                Notification::peer_deconfigured(),
                "Cease: peer de-configured",
            ),
            (Notification::hold_timer_expired(), "Hold timer expired"),
            (
                Notification::send_hold_timer_expired(),
                "Send hold timer expired",
            ),
            (
                Notification::bad_message_length(18),
                "Message header error: bad message length: 18",
            ),
            (Notification::bad_peer_as(), "OPEN error: bad peer AS"),
            (
                Notification::unsupported_version(),
                "OPEN error: unsupported version number: version 4 is supported",
            ),
            (
                Notification::unsupported_capability(&[
                    Capability::Multiprotocol { afi: 2, safi: 1 },
                    Capability::FourOctetAsn(65515),
                ]),
                "OPEN error: unsupported capability: multiprotocol IPv6 unicast, \
                 4-octet ASN 65515",
            ),
            (
                Notification::unexpected_message(State::OpenConfirm, 2),
                "Finite state machine error: unexpected message in OpenConfirm: type 2",
            ),
            (
                Notification::new(3, 5, [0x40, 1, 2, 0, 0]),
                "UPDATE error: attribute length error: ORIGIN",
            ),
            (
                Notification::new(3, 3, [2]),
                "UPDATE error: missing well-known attribute: AS_PATH",
            ),
            (Notification::new(6, 77, []), "Cease: subcode 77"),
            (Notification::new(99, 7, []), "error code 99, subcode 7"),
        ] {
            assert_eq!(notification.to_string(), text);
        }
    }

    #[test]
    fn every_subcode_of_the_registry_has_its_name() {
        for (code, subcodes) in [
            (
                1,
                &[
                    (1, "connection not synchronized (wrong marker)"),
                    (2, "bad message length"),
                    (3, "bad message type"),
                ][..],
            ),
            (
                2,
                &[
                    (0, "malformed optional parameters"),
                    (1, "unsupported version number"),
                    (2, "bad peer AS"),
                    (3, "bad BGP identifier"),
                    (4, "unsupported optional parameter"),
                    (5, "authentication failure (deprecated)"),
                    (6, "unacceptable hold time"),
                    (7, "unsupported capability"),
                    (11, "role mismatch"),
                ],
            ),
            (
                3,
                &[
                    (1, "malformed attribute list"),
                    (2, "unrecognized well-known attribute"),
                    (3, "missing well-known attribute"),
                    (4, "attribute flags error"),
                    (5, "attribute length error"),
                    (6, "invalid ORIGIN"),
                    (8, "invalid NEXT_HOP"),
                    (9, "optional attribute error"),
                    (10, "invalid network field"),
                    (11, "malformed AS_PATH"),
                ],
            ),
            (
                5,
                &[
                    (1, "unexpected message in OpenSent"),
                    (2, "unexpected message in OpenConfirm"),
                    (3, "unexpected message in Established"),
                ],
            ),
            (
                6,
                &[
                    (1, "maximum number of prefixes reached"),
                    (2, "administrative shutdown"),
                    (3, "peer de-configured"),
                    (4, "administrative reset"),
                    (5, "connection rejected"),
                    (6, "other configuration change"),
                    (7, "connection collision resolution"),
                    (8, "out of resources"),
                    (9, "hard reset"),
                    (10, "BFD down"),
                ],
            ),
            (7, &[(1, "invalid message length")]),
        ] {
            for (subcode, name) in subcodes {
                let text = Notification::new(code, *subcode, []).to_string();
                let reason = text.split_once(": ").map(|(_, reason)| reason);
                assert_eq!(reason, Some(*name), "{code}/{subcode}: {text}");
            }
        }
    }

    #[test]
    fn the_data_names_what_the_notification_is_about() {
        for (code, subcode, data, ending) in [
            (1, 3, &[9][..], ": bad message type: type 9"),
            (5, 1, &[4], ": unexpected message in OpenSent: type 4"),
            (5, 3, &[1], ": unexpected message in Established: type 1"),
            (5, 4, &[1], ": subcode 4"),
            (3, 2, &[0x40, 77, 0], ": attribute 77"),
            (3, 4, &[0, 5, 0], ": LOCAL_PREF"),
            (3, 6, &[0x40, 1, 1, 3], ": ORIGIN"),
            (3, 8, &[0x40, 3, 0], ": NEXT_HOP"),
            (3, 9, &[0x80, 14, 0], ": MP_REACH_NLRI"),
            (3, 9, &[0x80], ": optional attribute error"),
            (3, 10, &[0x40, 1], ": invalid network field"),
            (6, 1, &[0, 25, 70, 0, 0, 0, 5], ": 5 of AFI 25, SAFI 70"),
            (6, 1, &[0, 1, 1], ": maximum number of prefixes reached"),
        ] {
            let text = Notification::new(code, subcode, data).to_string();
            assert!(text.ends_with(ending), "{text}");
        }
    }

    #[test]
    fn a_notification_full_of_capabilities_is_still_one_line_to_read() {
        let text = Notification::new(2, 7, [200, 0].repeat(30_000)).to_string();
        assert!(text.ends_with(" and 29984 more"), "{text}");
        assert!(text.len() < 500, "{} bytes", text.len());
    }

    #[test]
    fn control_characters_of_a_shutdown_text_do_not_reach_the_terminal() {
        let notification = Notification::administrative_shutdown("\x1b[2Jhello\n");
        assert_eq!(
            notification.to_string(),
            r#"Cease: administrative shutdown: "\u{1b}[2Jhello\n""#
        );
    }
}
