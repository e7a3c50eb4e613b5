//! Requests to the kernel's network side: dumps, neighbours, neighbour timers, routes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags,
            NeighbourMessage, NeighbourState,
        },
        neighbour_table::{
            NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
        },
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
};
use rustc_hash::FxHashMap;

use super::kernel::{Event, Link, Reachability};
use crate::{
    names::MacAddr,
    netlink::{self, Netlink},
};

/// Neighbour timers of a port. A neighbour that falls silent has failed after at most: reachable
/// (the kernel takes 0.5 to 1.5 of the base, so 900 ms), the next question (500 ms), the delay and
/// three probes (850 ms): 2.25 s.
const BASE_REACHABLE_MS: u64 = 600;
const DELAY_PROBE_MS: u64 = 100;
const RETRANS_MS: u64 = 250;
const UNICAST_PROBES: u32 = 3;

/// A socket for requests, each answered before the next.
#[derive(Debug)]
pub(super) struct Requests {
    netlink: Netlink,
    /// Whether the kernel knows managed neighbours (5.16).
    managed: bool,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            managed: true,
        })
    }

    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        self.netlink
            .request(netlink::all_links(), NLM_F_DUMP, link_of)
    }

    /// An interface as it is now; none if it is gone.
    pub(super) fn link(&mut self, ifindex: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answers = self.request(RouteNetlinkMessage::GetLink(message), 0)?;
        Ok(answers.into_iter().find_map(link_of))
    }

    pub(super) fn neighbours(&mut self) -> io::Result<Vec<Event>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let message = RouteNetlinkMessage::GetNeighbour(message);
            all.extend(self.netlink.request(message, NLM_F_DUMP, event_of)?);
        }
        Ok(all)
    }

    /// Packets that each interface's driver dropped, in and out, by its index. A frame that cannot be
    /// redirected is dropped where it came in, before the device that it should have left by sees it.
    pub(super) fn dropped(&mut self) -> io::Result<FxHashMap<u32, u64>> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let dropped = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                let ifindex = link.header.index;
                let stats = link.attributes.into_iter();
                let dropped = stats.filter_map(|attribute| match attribute {
                    LinkAttribute::Stats64(stats) => Some(stats.rx_dropped + stats.tx_dropped),
                    _ => None,
                });
                Some((ifindex, dropped.sum()))
            }
            _ => None,
        };
        let all = self.netlink.request(message, NLM_F_DUMP, dropped)?;
        Ok(all.into_iter().collect())
    }

    /// Whether the interface's XDP program runs after its driver.
    pub(super) fn generic_xdp(&mut self, ifindex: u32) -> io::Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answers = self.request(RouteNetlinkMessage::GetLink(message), 0)?;
        Ok(answers.into_iter().any(|answer| {
            let RouteNetlinkMessage::NewLink(link) = answer else {
                return false;
            };
            link.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => {
                    xdp.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer))
                }
                _ => false,
            })
        }))
    }

    /// Has the kernel resolve a neighbour, keep it resolved, and see now whether it answers.
    pub(super) fn probe(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        if self.managed {
            match self.put_neighbour(ifindex, address, true) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.managed = false,
                result => return result,
            }
        }
        self.put_neighbour(ifindex, address, false)
    }

    fn put_neighbour(&mut self, ifindex: u32, address: IpAddr, managed: bool) -> io::Result<()> {
        let mut message = neighbour(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        if managed {
            message
                .attributes
                .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    pub(super) fn forget_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(neighbour(ifindex, address));
        self.request(message, NLM_F_ACK).map(drop)
    }

    /// Sets the neighbour timers of an interface.
    pub(super) fn set_neighbour_timers(&mut self, ifindex: u32) -> io::Result<()> {
        for (family, table) in [
            (AddressFamily::Inet, "arp_cache"),
            (AddressFamily::Inet6, "ndisc_cache"),
        ] {
            let mut message = NeighbourTableMessage::default();
            message.header.family = family;
            message.attributes = vec![
                NeighbourTableAttribute::Name(table.into()),
                NeighbourTableAttribute::Parms(vec![
                    NeighbourTableParameter::Ifindex(ifindex),
                    NeighbourTableParameter::BaseReachableTime(BASE_REACHABLE_MS),
                    NeighbourTableParameter::RetransTime(RETRANS_MS),
                    NeighbourTableParameter::DelayProbeTime(DELAY_PROBE_MS),
                    NeighbourTableParameter::UcastProbes(UNICAST_PROBES),
                ]),
            ];
            let result = self.request(RouteNetlinkMessage::SetNeighbourTable(message), NLM_F_ACK);
            match result {
                // An interface may have no IPv6.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Makes neighbours that are taken for reachable prove it anew: the timer of such an entry still
    /// runs as the interface's timers were when it was last confirmed.
    pub(super) fn doubt_neighbours(&mut self, ifindex: u32) -> io::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
            for answer in answers {
                let RouteNetlinkMessage::NewNeighbour(mut entry) = answer else {
                    continue;
                };
                if entry.header.ifindex != ifindex
                    || entry.header.state != NeighbourState::Reachable
                {
                    continue;
                }
                entry.header.state = NeighbourState::Stale;
                entry.attributes.retain(|attribute| {
                    matches!(
                        attribute,
                        NeighbourAttribute::Destination(_)
                            | NeighbourAttribute::LinkLayerAddress(_)
                    )
                });
                self.request(
                    RouteNetlinkMessage::NewNeighbour(entry),
                    NLM_F_ACK | NLM_F_REPLACE,
                )?;
            }
        }
        Ok(())
    }

    /// The interface by which the host itself would send to an address.
    pub(super) fn interface_towards(&mut self, address: IpAddr) -> io::Result<Option<u32>> {
        let mut message = RouteMessage::default();
        let destination = match address {
            IpAddr::V4(address) => {
                message.header.address_family = AddressFamily::Inet;
                message.header.destination_prefix_length = 32;
                RouteAddress::Inet(address)
            }
            IpAddr::V6(address) => {
                message.header.address_family = AddressFamily::Inet6;
                message.header.destination_prefix_length = 128;
                RouteAddress::Inet6(address)
            }
        };
        message
            .attributes
            .push(RouteAttribute::Destination(destination));
        let answers = match self.request(RouteNetlinkMessage::GetRoute(message), 0) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH)
                ) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })
            // Behind a gateway it is no neighbour.
            .filter(|route| {
                !route
                    .attributes
                    .iter()
                    .any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
            })
            .flat_map(|route| route.attributes)
            .find_map(|attribute| match attribute {
                RouteAttribute::Oif(ifindex) => Some(ifindex),
                _ => None,
            }))
    }

    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.netlink.request(message, flags, Some)
    }
}

/// What a message says about the host, if it says something that matters here.
pub(super) fn event_of(message: RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(_) => link_of(message).map(Event::Link),
        // A bridge says so of its members, which go on living.
        RouteNetlinkMessage::DelLink(link)
            if link.header.interface_family == AddressFamily::Unspec =>
        {
            Some(Event::LinkGone {
                ifindex: link.header.index,
            })
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => {
            let reachability = reachability_of(&neighbour);
            neighbour_event(neighbour, reachability)
        }
        RouteNetlinkMessage::DelNeighbour(neighbour) => {
            neighbour_event(neighbour, Reachability::Unknown)
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Some(Event::Address {
                ifindex: address.header.index,
            })
        }
        _ => None,
    }
}

fn link_of(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(link) = message else {
        return None;
    };
    if link.header.link_layer_type != LinkLayerType::Ether
        || link.header.interface_family != AddressFamily::Unspec
    {
        return None;
    }
    let (mut name, mut mac, mut mtu) = (None, None, None);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(bytes) => mtu = Some(bytes),
            _ => {}
        }
    }
    Some(Link {
        ifindex: link.header.index,
        name: name?.into(),
        mac: mac?,
        mtu: mtu?,
        up: link
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp),
    })
}

fn reachability_of(neighbour: &NeighbourMessage) -> Reachability {
    let with_mac: fn(MacAddr) -> Reachability = match neighbour.header.state {
        NeighbourState::Failed => return Reachability::Failed,
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe => Reachability::Usable,
        NeighbourState::Permanent | NeighbourState::Noarp => Reachability::Fixed,
        _ => return Reachability::Unknown,
    };
    neighbour
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        })
        .map_or(Reachability::Unknown, |mac| with_mac(MacAddr(mac)))
}

fn neighbour_event(neighbour: NeighbourMessage, reachability: Reachability) -> Option<Event> {
    let address = neighbour
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some(IpAddr::from(*address))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some(IpAddr::from(*address))
            }
            _ => None,
        })?;
    let wanted = match address {
        IpAddr::V4(address) => !address.is_multicast() && address != Ipv4Addr::BROADCAST,
        IpAddr::V6(address) => !address.is_multicast() && address != Ipv6Addr::UNSPECIFIED,
    };
    wanted.then_some(Event::Neighbour {
        ifindex: neighbour.header.ifindex,
        address,
        reachability,
    })
}

fn neighbour(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    message
}
