//! Parses IPv4 (RFC 791, RFC 1812 §5.2.2 but for the checksum, which hosts check).

use router_common::{
    checksum,
    flow::hash_v4,
    header::{Scope, scope_v4},
    maps::{HostKey, Port, RouteEntry, RouteKeyV4, TABLE_BITS},
    reason::Reason,
};

use crate::{
    frame::{ETHERNET, Frame, Window},
    ip::{Ip, Transport, is_whole},
    maps::ROUTES_V4,
    options, quoted,
    verdict::Verdict,
};

/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// A parsed packet.
#[derive(Clone, Copy)]
pub struct Ipv4 {
    header: Window<20>,
    length: u32,
    header_length: u32,
    fragment: bool,
}

impl Ipv4 {
    /// Checks the header and the addresses' scopes. Multicast is the host's.
    #[inline(always)]
    pub fn parse(frame: &Frame, port: &Port) -> Result<Self, Verdict> {
        let header: Window<20> = frame.fixed::<14, 20>().ok_or(Reason::Truncated)?;
        let header_length = match header.load8::<0>() {
            0x45 => 20,
            other => options::checked_header_length(frame.context(), other)?,
        };
        let length = u32::from(u16::from_be(header.load16::<2>()));
        if length < header_length {
            return Err(Reason::BadHeader.into());
        }
        if !is_whole(frame, port, length) {
            return Err(Reason::Truncated.into());
        }
        match scope_v4(u32::from_be(header.load32::<12>())) {
            Scope::Routable => {}
            Scope::Martian | Scope::Multicast => return Err(Reason::Martian.into()),
            Scope::LinkLocal => return Err(Reason::LinkLocal.into()),
        }
        match scope_v4(u32::from_be(header.load32::<16>())) {
            Scope::Routable => {}
            Scope::Multicast => return Err(Verdict::ToHost),
            Scope::Martian => return Err(Reason::Martian.into()),
            Scope::LinkLocal => return Err(Reason::LinkLocal.into()),
        }
        Ok(Self {
            header,
            length,
            header_length,
            fragment: header.load16::<6>() & FRAGMENT != 0,
        })
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        self.header.load32::<12>()
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        self.header.load32::<16>()
    }
}

impl Ip for Ipv4 {
    #[inline(always)]
    fn route(&self, table: u32) -> Option<RouteEntry> {
        let key = aya_ebpf::btf_maps::lpm_trie::Key {
            prefix_len: TABLE_BITS + 32,
            data: RouteKeyV4 {
                table,
                address: self.destination().to_ne_bytes(),
            },
        };
        ROUTES_V4.get(&key).copied()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn hop_limit(&self) -> u8 {
        self.header.load8::<8>()
    }

    #[inline(always)]
    fn transport(&self) -> Transport {
        Transport {
            offset: ETHERNET + self.header_length,
            protocol: self.header.load8::<9>(),
            fragment: self.fragment,
        }
    }

    #[inline(always)]
    fn source_is_of(&self, port: &Port) -> bool {
        use router_common::maps::port_flags::SOURCE_V4;
        port.flags & SOURCE_V4 != 0 && self.source() == u32::from_ne_bytes(port.source_v4)
    }

    #[inline(always)]
    fn source_key(&self, vnet: u32) -> HostKey {
        mapped(vnet, self.source())
    }

    #[inline(always)]
    fn destination_key(&self, vnet: u32) -> HostKey {
        mapped(vnet, self.destination())
    }

    #[inline(always)]
    fn hash(&self, protocol: u8, ports: u32, seed: u64) -> u32 {
        hash_v4(
            u32::from_le(self.source()),
            u32::from_le(self.destination()),
            protocol,
            ports,
            seed,
        )
    }

    #[inline(always)]
    fn quoted_hash(&self, frame: &Frame, seed: u64) -> Option<u32> {
        quoted::hash_v4_of(frame.context(), self.transport().offset, seed)
    }

    #[inline(always)]
    fn pseudo_sum(&self, protocol: u8, length: u32) -> u16 {
        checksum::pseudo_v4(self.source(), self.destination(), protocol, length as u16)
    }

    #[inline(always)]
    fn may_not_be_fragmented(&self) -> bool {
        self.header.load16::<6>() & DONT_FRAGMENT != 0
    }

    #[inline(always)]
    fn hop(&self) {
        self.header
            .store16::<10>(checksum::after_hop(self.header.load16::<10>()));
        self.header.store8::<8>(self.header.load8::<8>() - 1);
    }
}

/// An IPv4 address as the key of an attached host.
#[inline(always)]
fn mapped(vnet: u32, address: u32) -> HostKey {
    let low = (0xffff_u32.to_be() as u64, u64::from(address));
    let low = if cfg!(target_endian = "little") {
        low.0 | low.1 << 32
    } else {
        low.0 << 32 | low.1
    };
    HostKey {
        vnet,
        address: crate::ipv6::bytes([0, low]),
    }
}
