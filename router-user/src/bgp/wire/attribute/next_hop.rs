//! NEXT_HOP (RFC 4271 §5.1.3) and the next hops of MP_REACH_NLRI (RFC 2545 §3, RFC 8950 §3).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::{BufMut, BytesMut};

/// NEXT_HOP, or the next hop of MP_REACH_NLRI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum NextHop {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6, with the link-local address where both were sent (RFC 2545 §3).
    V6 {
        /// The global address (or the link-local one, if it came alone).
        global: Ipv6Addr,
        /// The link-local address.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that packets are sent to.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(address),
            Self::V6 { global, .. } => IpAddr::V6(global),
        }
    }

    /// From MP_REACH_NLRI; `None`: no length that a next hop has.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        if let Ok(address) = <[u8; 4]>::try_from(value) {
            return Some(Self::V4(address.into()));
        }
        let (global, rest) = value.split_first_chunk::<16>()?;
        let link_local = if rest.is_empty() {
            None
        } else {
            // Some send the unspecified address where they have none.
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?);
            Some(address).filter(|address| !address.is_unspecified())
        };
        Some(Self::V6 {
            global: (*global).into(),
            link_local,
        })
    }

    /// Appends length and address for MP_REACH_NLRI.
    pub(in super::super) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::V4(address) => {
                out.put_u8(4);
                out.put_slice(&address.octets());
            }
            Self::V6 { global, link_local } => {
                out.put_u8(if link_local.is_some() { 32 } else { 16 });
                out.put_slice(&global.octets());
                if let Some(address) = link_local {
                    out.put_slice(&address.octets());
                }
            }
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}
