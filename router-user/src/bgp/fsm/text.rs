//! What the operator reads: what was wrong, where, what to do.

use std::net::IpAddr;

use super::{Connection, Settings, State};
use crate::bgp::wire::{
    Notification,
    notification::{cease, error},
};

/// The peer sent a message that the state does not allow.
pub(super) fn unexpected(state: State, message: u8) -> String {
    let name = match message {
        1 => "OPEN",
        2 => "UPDATE",
        4 => "KEEPALIVE",
        5 => "ROUTE-REFRESH",
        _ => "message",
    };
    format!(
        "peer sent {name} in state {state:?}, where it is not allowed: this is a fault of the \
         peer's software"
    )
}

/// The peer sent a NOTIFICATION.
pub(super) fn received(peer: IpAddr, notification: &Notification) -> String {
    let Notification { code, subcode, .. } = *notification;
    let remedy = match (code, subcode) {
        (error::OPEN, 2) => {
            "; correct the ASN that the peer expects, or asn of route_server or peer"
        }
        (error::OPEN, 3) => "; give one of the two another router id",
        (error::HOLD_TIMER, _) => {
            "; it heard nothing for its hold time: is the path lossy, or this host overloaded?"
        }
        (error::CEASE, cease::MAX_PREFIXES) => "; raise the peer's limit, or announce less",
        (error::CEASE, cease::PEER_DECONFIGURED | cease::CONNECTION_REJECTED) => {
            "; configure this instance's address on the peer"
        }
        _ => "",
    };
    format!("{peer} sent NOTIFICATION {code}/{subcode} ({notification}){remedy}")
}

/// The connection ended without a NOTIFICATION.
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

/// A connection attempt had no answer.
pub(super) fn no_answer(settings: &Settings) -> String {
    let peer = settings.peer;
    let keys = if settings.authenticated {
        " Do both sides have the same key?"
    } else {
        ""
    };
    format!(
        "no answer from {peer}: is the machine up, and does nothing filter TCP to that port?{keys}"
    )
}

/// The hold timer expired.
pub(super) fn silent(peer: IpAddr, connection: &Connection) -> String {
    match connection.hold_time() {
        None if connection.state() == State::OpenConfirm => format!(
            "{peer} sent an OPEN, but no KEEPALIVE after it: is it up, and does it accept our OPEN?"
        ),
        None => format!(
            "{peer} is connected but sent no OPEN: is what runs there a BGP daemon, and is the \
             session enabled?"
        ),
        Some(hold_time) => format!(
            "hold timer expired: nothing received from {peer} for {} s; is it up and reachable?",
            hold_time.as_secs()
        ),
    }
}

/// The send hold timer expired.
pub(super) fn stuck(peer: IpAddr) -> String {
    format!("send hold timer expired: {peer} has stopped reading; restart its BGP daemon")
}
