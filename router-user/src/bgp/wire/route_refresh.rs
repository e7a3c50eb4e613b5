//! The ROUTE-REFRESH message (RFC 2918, RFC 7313).

use bytes::{BufMut, BytesMut};

use super::{
    Family, Notification,
    cursor::Cursor,
    header::{self, HEADER_LEN, MessageType},
};

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// What is asked or said.
    pub kind: RefreshKind,
    /// Subsequent address family identifier.
    pub safi: u8,
}

/// Message subtypes (RFC 7313 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefreshKind {
    /// 0: send all routes of the family again.
    Request,
    /// 1, BoRR: the re-advertisement begins.
    Begin,
    /// 2, EoRR: the re-advertisement is complete.
    End,
    /// Any other subtype, to be ignored (RFC 7313 §5).
    Unknown(u8),
}

impl RouteRefresh {
    /// A message of `kind` about `family`.
    #[must_use]
    pub const fn new(family: Family, kind: RefreshKind) -> Self {
        Self {
            afi: family.afi(),
            kind,
            safi: family.safi(),
        }
    }

    /// The family, if Waypost routes it.
    #[must_use]
    pub const fn family(&self) -> Option<Family> {
        Family::from_identifiers(self.afi, self.safi)
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut BytesMut) {
        header::message(out, MessageType::RouteRefresh, |out| {
            out.put_u16(self.afi);
            out.put_u8(self.kind.code());
            out.put_u8(self.safi);
        });
    }

    /// Outbound route filters (RFC 5291) after the family are ignored; they are never negotiated.
    pub(super) fn decode(message: &[u8]) -> Result<Self, Notification> {
        let mut body = Cursor::new(message.get(HEADER_LEN..).unwrap_or_default());
        let (Some(afi), Some(code), Some(safi)) = (body.u16(), body.u8(), body.u8()) else {
            return Err(Notification::invalid_refresh_length(message));
        };
        let kind = RefreshKind::from_code(code);
        if matches!(kind, RefreshKind::Begin | RefreshKind::End) && !body.is_empty() {
            return Err(Notification::invalid_refresh_length(message));
        }
        Ok(Self { afi, kind, safi })
    }
}

impl RefreshKind {
    const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            _ => Self::Unknown(code),
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Unknown(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::{Context, Message, decode};

    #[test]
    fn rfc2918_a_request_is_afi_reserved_safi() {
        let mut out = BytesMut::new();
        RouteRefresh::new(Family::Ipv6Unicast, RefreshKind::Request).encode(&mut out);
        assert_eq!(out[16..], [0, 23, 5, 0, 2, 0, 1]);
    }

    #[test]
    fn rfc7313_subtypes_are_told_apart_and_unknown_ones_kept() {
        for (code, kind) in [
            (0, RefreshKind::Request),
            (1, RefreshKind::Begin),
            (2, RefreshKind::End),
            (255, RefreshKind::Unknown(255)),
        ] {
            let refresh = RouteRefresh::new(Family::Ipv4Unicast, kind);
            let mut out = BytesMut::new();
            refresh.encode(&mut out);
            assert_eq!(out[21], code);
            assert_eq!(
                decode(&out, &Context::default()),
                Ok(Message::RouteRefresh(refresh))
            );
        }
    }

    #[test]
    fn rfc7313_5_a_marker_of_wrong_length_is_an_error_with_the_message_as_data() {
        let mut out = BytesMut::new();
        header::message(&mut out, MessageType::RouteRefresh, |out| {
            out.put_slice(&[0, 1, 1, 1, 9]);
        });
        let notification = decode(&out, &Context::default()).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (7, 1));
        assert_eq!(notification.data, out);
    }

    #[test]
    fn rfc5291_filters_after_a_request_are_ignored() {
        let mut out = BytesMut::new();
        header::message(&mut out, MessageType::RouteRefresh, |out| {
            out.put_slice(&[0, 1, 0, 1, 1, 64, 0, 0]);
        });
        assert!(decode(&out, &Context::default()).is_ok());
    }

    #[test]
    fn families_that_waypost_does_not_route_are_decoded_and_have_no_family() {
        let refresh = RouteRefresh {
            afi: 25,
            kind: RefreshKind::Request,
            safi: 70,
        };
        let mut out = BytesMut::new();
        refresh.encode(&mut out);
        assert_eq!(
            decode(&out, &Context::default()),
            Ok(Message::RouteRefresh(refresh))
        );
        assert_eq!(refresh.family(), None);
    }
}
