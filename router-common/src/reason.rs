//! Every verdict that is not "forwarded" has a named reason (invariant 6).

/// Declares [`Reason`] and the per-port counters with one named field a reason, so that
/// `bpftool map dump` names each count.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $field:ident,)+) => {
        /// Why a packet was not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name that counters and logs show.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)+ }
            }

            /// Where its counter lies in [`PortCounters`], counted in `u64`s.
            #[inline(always)]
            #[must_use]
            pub const fn word(self) -> usize {
                const FIRST: usize = core::mem::offset_of!(PortCounters, rx_bytes) / 8 + 1;
                FIRST + self as usize
            }
        }

        /// Per-CPU counters of a port: value of `port_counters`, by port number.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PortCounters {
            /// Packets received on the port.
            pub rx_packets: u64,
            /// Bytes received on the port, layer 2.
            pub rx_bytes: u64,
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl PortCounters {
            /// The counter of one reason.
            #[inline(always)]
            #[must_use]
            pub const fn reason(&self, reason: Reason) -> u64 {
                match reason { $(Reason::$variant => self.$field,)+ }
            }

            /// The counter of one reason, to be counted up.
            #[inline(always)]
            pub const fn reason_mut(&mut self, reason: Reason) -> &mut u64 {
                match reason { $(Reason::$variant => &mut self.$field,)+ }
            }

            /// Adds another CPU's counters.
            pub const fn add(&mut self, other: &Self) {
                self.rx_packets += other.rx_packets;
                self.rx_bytes += other.rx_bytes;
                $(self.$field += other.$field;)+
            }
        }
    };
}

reasons! {
    /// Passed to Linux: addressed to the gateway host, ARP, neighbour discovery or multicast.
    ToHost = to_host,
    /// Answered with an ICMP time exceeded.
    TimeExceeded = time_exceeded,
    /// TTL or hop limit ran out and no ICMP error was due or allowed.
    TtlExpired = ttl_expired,
    /// The frame ends before its headers do, or lengths contradict each other.
    Truncated = truncated,
    /// IP version, header length or total length is wrong.
    BadHeader = bad_header,
    /// The frame's destination is another station's MAC address.
    WrongMac = wrong_mac,
    /// Neither IPv4, IPv6 nor ARP.
    UnknownProtocol = unknown_protocol,
    /// A VLAN tag on a port that takes none.
    Vlan = vlan,
    /// IPv4 source routing or an IPv6 routing header of type 0.
    SourceRoute = source_route,
    /// Source or destination that may not cross a router: loopback, unspecified, class E,
    /// multicast source.
    Martian = martian,
    /// Source or destination is link-local.
    LinkLocal = link_local,
    /// Source address or MAC address does not belong to this port.
    SourceCheck = source_check,
    /// The way out leads into a peered network that takes from this one only packets that are at
    /// home there, and the source is not.
    ForwardedTraffic = forwarded_traffic,
    /// No route in either table.
    NoRoute = no_route,
    /// The route's next hop is "none".
    Discard = discard,
    /// The route was learned with the community BLACKHOLE.
    Blackhole = blackhole,
    /// The route leads to the Internet and no uplink is configured.
    NoUplink = no_uplink,
    /// The next hop, and its backup, are down.
    NextHopDown = next_hop_down,
    /// The next hop's MAC address is not known (yet).
    Unresolved = unresolved,
    /// The destination lies in the virtual network and no attached host has it.
    NoHost = no_host,
    /// The next hop is the sender itself.
    Hairpin = hairpin,
    /// Larger than the MTU of the way out: answered with an ICMP fragmentation needed or an
    /// ICMPv6 packet too big.
    MtuExceeded = mtu_exceeded,
    /// Larger than the MTU of the way out, and no ICMP error was due or allowed.
    TooBig = too_big,
    /// The frame arrived on an interface that is no port (any more); counted at place 0.
    NotAPort = not_a_port,
    /// Maps contradict each other; never expected.
    Internal = internal,
}

#[cfg(test)]
mod tests {
    use super::{PortCounters, Reason};

    #[test]
    fn each_counter_lies_where_its_reason_says() {
        for reason in Reason::ALL {
            let mut counters = PortCounters::default();
            *counters.reason_mut(*reason) = 1;
            let base = std::ptr::from_ref(&counters).addr();
            let counter = std::ptr::from_ref(counters.reason_mut(*reason)).addr();
            assert_eq!(counter - base, reason.word() * 8, "{}", reason.name());
        }
    }

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut counters = PortCounters::default();
        for (n, reason) in (1..).zip(Reason::ALL) {
            *counters.reason_mut(*reason) = n;
        }
        for (n, reason) in (1..).zip(Reason::ALL) {
            assert_eq!(counters.reason(*reason), n, "{}", reason.name());
        }
        let mut sum = counters;
        sum.add(&counters);
        assert_eq!(sum.reason(Reason::Internal), 2 * Reason::ALL.len() as u64);
    }
}
