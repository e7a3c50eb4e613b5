//! The BGP-4 codec: bytes to typed values and back. No sockets, no timers, no state.
//!
//! - In: a stream of bytes, cut into messages by [`frame`], and a session's [`Context`]. Out: a
//!   [`Message`]; an [`Update`] becomes the route changes that it stands for.
//! - Back: [`Open::encode`], [`Notification::encode`], [`encode_keepalive`],
//!   [`RouteRefresh::encode`], and for UPDATEs [`encode_announce`], [`encode_withdraw`] and
//!   [`encode_end_of_rib`], which pack as many prefixes as fit into each message.
//!
//! Decoding borrows the buffer, goes over it once, never panics and never allocates per prefix.
//! Every error knows its NOTIFICATION (RFC 4271 §6) or, for UPDATEs, its RFC 7606 disposition.

mod attribute;
mod capability;
mod context;
mod cursor;
mod family;
mod fault;
mod header;
mod keepalive;
mod message;
mod nlri;
pub mod notification;
mod notification_text;
mod offer;
mod open;
mod role;
mod route_refresh;
mod update;

pub use attribute::{
    Aggregator, AsPath, AsSegment, AsSegmentKind, AttributeCode, NextHop, Origin, PathAttributes,
    UnknownAttribute, community,
};
pub use capability::Capability;
pub use context::{Context, Negotiated, Peering};
pub use family::{Family, FamilySet};
pub use fault::{Disposition, Fault, FaultKind};
pub use header::{HEADER_LEN, MAX_LEN, MAX_LEN_EXTENDED, MessageType, frame};
pub use keepalive::encode_keepalive;
pub use message::{Message, decode};
pub use nlri::{Nlri, PrefixFault, Prefixes};
pub use notification::Notification;
pub use offer::{GracefulRestart, LongLivedFamily, Offer, RestartFamily};
pub use open::Open;
pub use role::Role;
pub use route_refresh::{RefreshKind, RouteRefresh};
pub use update::{
    Announced, EncodeError, Update, encode_announce, encode_end_of_rib, encode_withdraw,
};

/// An autonomous system number, always 4 octets inside (RFC 6793).
pub type Asn = u32;

/// AS_TRANS (RFC 6793 §9).
pub const AS_TRANS: Asn = 23456;
