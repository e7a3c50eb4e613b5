//! What header fields say: the reach of an address, protocols with ports, ICMP errors.

/// How far packets from or to an address may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Across routers.
    Routable,
    /// Nowhere: loopback, unspecified, class E, IPv4-mapped.
    Martian,
    /// To the next router.
    LinkLocal,
    /// To a group; never a source.
    Multicast,
}

/// The scope of an IPv4 address, as a number (`10.0.0.1` = 0x0a000001). RFC 1122 §3.2.1.3,
/// RFC 6890.
#[inline(always)]
#[must_use]
pub const fn scope_v4(address: u32) -> Scope {
    let network = address >> 24;
    if network >= 224 {
        return if network < 240 {
            Scope::Multicast
        } else {
            Scope::Martian
        };
    }
    if network == 0 || network == 127 {
        return Scope::Martian;
    }
    if address >> 16 == 0xa9fe {
        return Scope::LinkLocal;
    }
    Scope::Routable
}

/// The scope of an IPv6 address, as its two halves. RFC 4291 §2.
#[inline(always)]
#[must_use]
pub const fn scope_v6(high: u64, low: u64) -> Scope {
    let first = high >> 54;
    if first >= 0x3fc {
        return Scope::Multicast;
    }
    if first == 0x3fa {
        return Scope::LinkLocal;
    }
    if high == 0 && (low <= 1 || low >> 32 == 0xffff) {
        return Scope::Martian;
    }
    Scope::Routable
}

/// Numbers of protocols and IPv6 next headers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMP_V6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// IPv6 mobility header.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
    /// Host identity protocol.
    pub const HIP: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// Whether the protocol's header begins with a source and a destination port.
#[inline(always)]
#[must_use]
pub const fn has_ports(number: u8) -> bool {
    matches!(
        number,
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE
    )
}

/// Whether an ICMP type is an error: it quotes a packet and is never answered by an error
/// (RFC 1812 §4.3.2.7).
#[inline(always)]
#[must_use]
pub const fn is_icmp_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

/// Whether an ICMPv6 type is an error that quotes a packet (RFC 4443 §2.1).
#[inline(always)]
#[must_use]
pub const fn is_icmp_v6_error(icmp_type: u8) -> bool {
    icmp_type < 128
}

/// Whether an ICMPv6 type is one of neighbour discovery (RFC 4861 §4).
#[inline(always)]
#[must_use]
pub const fn is_neighbor_discovery(icmp_type: u8) -> bool {
    matches!(icmp_type, 133..=137)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{Scope, scope_v4, scope_v6};

    #[test]
    fn ipv4_addresses_have_their_scopes() {
        for (text, scope) in [
            ("0.0.0.0", Scope::Martian),
            ("0.255.255.255", Scope::Martian),
            ("1.0.0.0", Scope::Routable),
            ("10.1.1.4", Scope::Routable),
            ("126.255.255.255", Scope::Routable),
            ("127.0.0.1", Scope::Martian),
            ("128.0.0.0", Scope::Routable),
            ("169.253.255.255", Scope::Routable),
            ("169.254.169.254", Scope::LinkLocal),
            ("169.255.0.0", Scope::Routable),
            ("223.255.255.255", Scope::Routable),
            ("224.0.0.5", Scope::Multicast),
            ("239.255.255.255", Scope::Multicast),
            ("240.0.0.0", Scope::Martian),
            ("255.255.255.255", Scope::Martian),
        ] {
            let address: Ipv4Addr = text.parse().expect("an address");
            assert_eq!(scope_v4(address.into()), scope, "{text}");
        }
    }

    #[test]
    fn ipv6_addresses_have_their_scopes() {
        for (text, scope) in [
            ("::", Scope::Martian),
            ("::1", Scope::Martian),
            ("::2", Scope::Routable),
            ("::ffff:10.0.0.1", Scope::Martian),
            ("64:ff9b::a00:1", Scope::Routable),
            ("2001:db8::1", Scope::Routable),
            ("fd00:1::4", Scope::Routable),
            ("fe7f::1", Scope::Routable),
            ("fe80::1", Scope::LinkLocal),
            ("febf::1", Scope::LinkLocal),
            ("fec0::1", Scope::Routable),
            ("ff02::1", Scope::Multicast),
        ] {
            let address: Ipv6Addr = text.parse().expect("an address");
            let number = u128::from(address);
            assert_eq!(
                scope_v6((number >> 64) as u64, number as u64),
                scope,
                "{text}"
            );
        }
    }
}
