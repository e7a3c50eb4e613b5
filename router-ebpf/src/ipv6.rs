//! Parses IPv6 (RFC 8200).

use router_common::{
    checksum,
    flow::hash_v6,
    header::{Scope, is_neighbor_discovery, protocol, scope_v6},
    maps::{HostKey, Port, RouteEntry, RouteKeyV6, TABLE_BITS},
    reason::Reason,
};

use crate::{
    extension,
    frame::{ETHERNET, Frame, Window},
    ip::{Ip, Transport, is_whole},
    maps::ROUTES_V6,
    quoted,
    verdict::Verdict,
};

/// Length of the header.
pub const HEADER: u32 = 40;

/// A parsed packet.
#[derive(Clone, Copy)]
pub struct Ipv6 {
    header: Window<40>,
    length: u32,
    transport: Transport,
}

impl Ipv6 {
    /// Checks the header and the addresses' scopes, and finds the transport header. Multicast and
    /// neighbour discovery are the host's.
    #[inline(always)]
    pub fn parse(frame: &Frame, port: &Port) -> Result<Self, Verdict> {
        let header: Window<40> = frame.fixed::<14, 40>().ok_or(Reason::Truncated)?;
        if header.load8::<0>() >> 4 != 6 {
            return Err(Reason::BadHeader.into());
        }
        let length = HEADER + u32::from(u16::from_be(header.load16::<4>()));
        if !is_whole(frame, port, length) {
            return Err(Reason::Truncated.into());
        }
        let next_header = header.load8::<6>();
        let source = scope_v6(
            u64::from_be(header.load64::<8>()),
            u64::from_be(header.load64::<16>()),
        );
        let destination = scope_v6(
            u64::from_be(header.load64::<24>()),
            u64::from_be(header.load64::<32>()),
        );
        if source != Scope::Routable || destination != Scope::Routable {
            return Err(unroutable(frame, &header, source, destination));
        }
        let transport = if extension::is_extension(next_header) {
            extension::walk(frame.context(), next_header, ETHERNET + HEADER).transport()?
        } else {
            Transport {
                offset: ETHERNET + HEADER,
                protocol: next_header,
                fragment: false,
            }
        };
        Ok(Self {
            header,
            length,
            transport,
        })
    }

    #[inline(always)]
    fn source(&self) -> [u64; 2] {
        [self.header.load64::<8>(), self.header.load64::<16>()]
    }

    #[inline(always)]
    fn destination(&self) -> [u64; 2] {
        [self.header.load64::<24>(), self.header.load64::<32>()]
    }
}

/// What becomes of a packet that may not cross a router.
#[inline(always)]
fn unroutable(frame: &Frame, header: &Window<40>, source: Scope, destination: Scope) -> Verdict {
    if destination == Scope::Multicast {
        return Verdict::ToHost;
    }
    // Neighbour discovery proves by its hop limit that it crossed no router (RFC 4861 §7.1).
    if header.load8::<6>() == protocol::ICMP_V6
        && header.load8::<7>() == 255
        && let Some(icmp) = frame.fixed::<54, 1>()
        && is_neighbor_discovery(icmp.load8::<0>())
    {
        return Verdict::ToHost;
    }
    Verdict::Dropped(
        if matches!(source, Scope::Martian | Scope::Multicast) || destination == Scope::Martian {
            Reason::Martian
        } else {
            Reason::LinkLocal
        },
    )
}

impl Ip for Ipv6 {
    #[inline(always)]
    fn route(&self, table: u32) -> Option<RouteEntry> {
        let key = aya_ebpf::btf_maps::lpm_trie::Key {
            prefix_len: TABLE_BITS + 128,
            data: RouteKeyV6 {
                table,
                address: bytes(self.destination()),
            },
        };
        ROUTES_V6.get(&key).copied()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn hop_limit(&self) -> u8 {
        self.header.load8::<7>()
    }

    #[inline(always)]
    fn transport(&self) -> Transport {
        self.transport
    }

    #[inline(always)]
    fn source_is_of(&self, port: &Port) -> bool {
        use router_common::maps::port_flags::SOURCE_V6;
        port.flags & SOURCE_V6 != 0 && self.source() == words(&port.source_v6)
    }

    #[inline(always)]
    fn source_key(&self, vnet: u32) -> HostKey {
        HostKey {
            vnet,
            address: bytes(self.source()),
        }
    }

    #[inline(always)]
    fn destination_key(&self, vnet: u32) -> HostKey {
        HostKey {
            vnet,
            address: bytes(self.destination()),
        }
    }

    #[inline(always)]
    fn hash(&self, protocol: u8, ports: u32, seed: u64) -> u32 {
        hash_v6(
            self.source().map(u64::from_le),
            self.destination().map(u64::from_le),
            protocol,
            ports,
            seed,
        )
    }

    #[inline(always)]
    fn quoted_hash(&self, frame: &Frame, seed: u64) -> Option<u32> {
        quoted::hash_v6_of(frame.context(), self.transport.offset, seed)
    }

    #[inline(always)]
    fn pseudo_sum(&self, protocol: u8, length: u32) -> u16 {
        checksum::pseudo_v6(self.source(), self.destination(), protocol, length)
    }

    #[inline(always)]
    fn may_not_be_fragmented(&self) -> bool {
        true
    }

    #[inline(always)]
    fn hop(&self) {
        self.header.store8::<7>(self.header.load8::<7>() - 1);
    }
}

/// An address's raw words as its bytes.
#[inline(always)]
pub fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute(words) }
}

/// The raw words of an address in a map's value, whose fields of this kind are aligned to words.
#[inline(always)]
pub fn words(address: &[u8; 16]) -> [u64; 2] {
    let (words, _) = address.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}
