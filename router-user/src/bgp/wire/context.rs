//! What both sides of a session agreed on, and the part of it that the codec depends on.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Asn, Capability, Family, FamilySet, Offer, Open,
    header::{MAX_LEN, MAX_LEN_EXTENDED},
};

/// What decoding and encoding depend on. Peers with equal contexts can share encoded UPDATEs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Context {
    /// Whether the peer is in our AS.
    pub peering: Peering,
    /// Families whose routes are exchanged; others in MP_REACH_NLRI are ignored.
    pub families: FamilySet,
    /// AS numbers of 4 octets in AS_PATH and AGGREGATOR (RFC 6793).
    pub four_octet_asn: bool,
    /// Messages of up to 65,535 bytes (RFC 8654).
    pub extended_message: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Families in which the peer sends path identifiers (RFC 7911).
    pub add_path_receive: FamilySet,
    /// Families in which we send path identifiers (RFC 7911).
    pub add_path_send: FamilySet,
}

/// Whether a session is eBGP or iBGP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Peering {
    /// eBGP: the peer is in another AS.
    External,
    /// iBGP: the peer is in our AS.
    Internal,
}

/// What both sides of a session agreed on, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// Our ASN on this session.
    pub local_asn: Asn,
    /// The peer's ASN.
    pub peer_asn: Asn,
    /// Our identifier.
    pub local_router_id: Ipv4Addr,
    /// The peer's identifier.
    pub peer_router_id: Ipv4Addr,
    /// Our address on the connection.
    pub local_address: IpAddr,
    /// Seconds; 0: no keepalives.
    pub hold_time: u16,
    /// Families that both announced.
    pub families: Vec<Family>,
    /// Both speak 4-octet ASNs.
    pub four_octet_asn: bool,
    /// The peer takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// The peer takes enhanced ROUTE-REFRESH.
    pub enhanced_route_refresh: bool,
    /// Both take messages of up to 65,535 bytes.
    pub extended_message: bool,
    /// Families in which the peer sends path identifiers.
    pub add_path_receive: Vec<Family>,
    /// Families in which we send path identifiers.
    pub add_path_send: Vec<Family>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// What we announced about ourselves: graceful restart, long-lived graceful restart, role.
    pub local: Offer,
    /// What the peer announced about itself.
    pub peer: Offer,
}

impl Context {
    /// The longest message that may be received and sent, for [`super::frame`].
    #[must_use]
    pub const fn max_message_len(&self) -> usize {
        if self.extended_message {
            MAX_LEN_EXTENDED
        } else {
            MAX_LEN
        }
    }
}

/// Before the OPENs are exchanged: RFC 4271 with no capability.
impl Default for Context {
    fn default() -> Self {
        Self {
            peering: Peering::External,
            families: FamilySet::EMPTY.with(Family::Ipv4Unicast),
            four_octet_asn: false,
            extended_message: false,
            extended_next_hop: false,
            add_path_receive: FamilySet::EMPTY,
            add_path_send: FamilySet::EMPTY,
        }
    }
}

impl Negotiated {
    /// What the OPEN that we sent and the one that we received come to.
    #[must_use]
    pub fn new(sent: &Open, received: &Open, local_address: IpAddr) -> Self {
        let families: FamilySet = offered(sent)
            .iter()
            .filter(|family| offered(received).contains(*family))
            .collect();
        let both = |capability: &Capability| sent.has(capability) && received.has(capability);
        let add_path = |sender: &Open, receiver: &Open| -> Vec<Family> {
            families
                .iter()
                .filter(|family| add_path(sender, *family) & ADD_PATH_SEND != 0)
                .filter(|family| add_path(receiver, *family) & ADD_PATH_RECEIVE != 0)
                .collect()
        };
        Self {
            local_asn: sent.asn,
            peer_asn: received.asn,
            local_router_id: sent.router_id,
            peer_router_id: received.router_id,
            local_address,
            hold_time: sent.hold_time.min(received.hold_time),
            families: families.iter().collect(),
            four_octet_asn: sent.four_octet_asn().is_some() && received.four_octet_asn().is_some(),
            route_refresh: received.has(&Capability::RouteRefresh),
            enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
            extended_message: both(&Capability::ExtendedMessage),
            add_path_receive: add_path(received, sent),
            add_path_send: add_path(sent, received),
            extended_next_hop: extended_next_hop(sent) && extended_next_hop(received),
            local: Offer::of(sent),
            peer: Offer::of(received),
        }
    }

    /// Whether routes are kept also after a NOTIFICATION that is no hard reset, and after the hold
    /// time: both set the N bit (RFC 8538 §4).
    #[must_use]
    pub fn restarts_after_notification(&self) -> bool {
        [&self.local, &self.peer].into_iter().all(|offer| {
            let graceful_restart = offer.graceful_restart.as_ref();
            graceful_restart.is_some_and(|restart| restart.notification)
        })
    }

    /// Whether the peer keeps our routes for a while once its connection with us is lost (RFC 4724
    /// §4.2): we named families, and it speaks graceful restart.
    #[must_use]
    pub fn peer_keeps_our_routes(&self) -> bool {
        let local = self.local.graceful_restart.as_ref();
        local.is_some_and(|restart| !restart.families.is_empty())
            && self.peer.graceful_restart.is_some()
    }

    /// What decoding and encoding on this session depend on.
    #[must_use]
    pub fn context(&self) -> Context {
        Context {
            peering: if self.local_asn == self.peer_asn {
                Peering::Internal
            } else {
                Peering::External
            },
            families: self.families.iter().copied().collect(),
            four_octet_asn: self.four_octet_asn,
            extended_message: self.extended_message,
            extended_next_hop: self.extended_next_hop,
            add_path_receive: self.add_path_receive.iter().copied().collect(),
            add_path_send: self.add_path_send.iter().copied().collect(),
        }
    }
}

const ADD_PATH_RECEIVE: u8 = 1;
const ADD_PATH_SEND: u8 = 2;

/// The families of an OPEN; one without multiprotocol capabilities offers IPv4 unicast.
fn offered(open: &Open) -> FamilySet {
    let mut multiprotocol = open
        .capabilities
        .iter()
        .filter_map(|capability| match *capability {
            Capability::Multiprotocol { afi, safi } => Some((afi, safi)),
            _ => None,
        })
        .peekable();
    if multiprotocol.peek().is_none() {
        return FamilySet::EMPTY.with(Family::Ipv4Unicast);
    }
    multiprotocol
        .filter_map(|(afi, safi)| Family::from_identifiers(afi, safi))
        .collect()
}

/// The send/receive value for a family (RFC 7911 §4: other values than 1 to 3 are ignored; of
/// several, the first counts).
fn add_path(open: &Open, wanted: Family) -> u8 {
    open.capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::AddPath(entries) => Some(entries),
            _ => None,
        })
        .flatten()
        .find(|(afi, safi, _)| Family::from_identifiers(*afi, *safi) == Some(wanted))
        .map_or(0, |(_, _, value)| if *value <= 3 { *value } else { 0 })
}

fn extended_next_hop(open: &Open) -> bool {
    const IPV4_UNICAST_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);
    open.capabilities.iter().any(|capability| {
        matches!(capability, Capability::ExtendedNextHop(entries)
            if entries.contains(&IPV4_UNICAST_OVER_IPV6))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Capability = Capability::Multiprotocol { afi: 1, safi: 1 };
    const V6: Capability = Capability::Multiprotocol { afi: 2, safi: 1 };

    #[test]
    fn the_families_are_those_that_both_offer() {
        assert_eq!(
            agreed(vec![V4, V6], vec![V6]).families,
            [Family::Ipv6Unicast]
        );
        assert_eq!(
            agreed(vec![V4, V6], vec![]).families,
            [Family::Ipv4Unicast],
            "without the capability, IPv4 unicast is meant"
        );
        let vpn = Capability::Multiprotocol { afi: 1, safi: 128 };
        assert_eq!(agreed(vec![V4], vec![vpn]).families, []);
    }

    #[test]
    fn rfc7911_paths_are_sent_where_one_sends_and_the_other_receives() {
        let ours = vec![V4, V6, Capability::AddPath(vec![(1, 1, 3), (2, 1, 1)])];
        let theirs = vec![V4, V6, Capability::AddPath(vec![(1, 1, 1), (2, 1, 2)])];
        let negotiated = agreed(ours, theirs);
        assert_eq!(negotiated.add_path_send, [Family::Ipv4Unicast]);
        assert_eq!(negotiated.add_path_receive, [Family::Ipv6Unicast]);
        let ours = vec![V4, Capability::AddPath(vec![(1, 1, 3)])];
        let theirs = vec![V4, Capability::AddPath(vec![(1, 1, 7)])];
        let negotiated = agreed(ours, theirs);
        assert_eq!(negotiated.add_path_send, []);
        assert_eq!(negotiated.add_path_receive, []);
    }

    #[test]
    fn what_only_one_side_announces_is_not_agreed() {
        let all = vec![
            V4,
            Capability::FourOctetAsn(1),
            Capability::ExtendedMessage,
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
        ];
        let neither = agreed(all.clone(), vec![]);
        assert!(!neither.four_octet_asn && !neither.extended_message && !neither.route_refresh);
        assert!(!neither.enhanced_route_refresh && !neither.extended_next_hop);
        let both = agreed(all.clone(), all);
        assert!(both.four_octet_asn && both.extended_message && both.route_refresh);
        assert!(both.enhanced_route_refresh && both.extended_next_hop);
        assert_eq!(both.context().max_message_len(), 65_535);
    }

    #[test]
    fn the_lower_hold_time_wins_and_equal_asns_make_an_internal_session() {
        let mut ours = open(65515, vec![]);
        ours.hold_time = 30;
        let address = IpAddr::from([10, 1, 255, 4]);
        let negotiated = Negotiated::new(&ours, &open(65515, vec![]), address);
        assert_eq!(negotiated.hold_time, 30);
        assert_eq!(negotiated.context().peering, Peering::Internal);
        let negotiated = Negotiated::new(&ours, &open(65010, vec![]), address);
        assert_eq!(negotiated.context().peering, Peering::External);
    }

    #[test]
    fn rfc8538_4_routes_outlive_a_notification_only_if_both_say_so() {
        let restart = |flags| {
            vec![Capability::GracefulRestart {
                flags,
                restart_time: 120,
                families: vec![(1, 1, 0)],
            }]
        };
        for (ours, theirs, expected) in [(4, 4, true), (4, 0, false), (8, 4, false)] {
            let negotiated = agreed(restart(ours), restart(theirs));
            assert_eq!(negotiated.restarts_after_notification(), expected);
        }
        let negotiated = agreed(restart(4), vec![]);
        assert!(!negotiated.restarts_after_notification());
        assert!(negotiated.local.restarts(Family::Ipv4Unicast));
        assert!(!negotiated.peer.restarts(Family::Ipv4Unicast));
    }

    fn agreed(ours: Vec<Capability>, theirs: Vec<Capability>) -> Negotiated {
        Negotiated::new(
            &open(65515, ours),
            &open(65010, theirs),
            IpAddr::from([10, 1, 255, 4]),
        )
    }

    fn open(asn: Asn, capabilities: Vec<Capability>) -> Open {
        Open {
            asn,
            hold_time: 180,
            router_id: Ipv4Addr::new(10, 1, 255, 4),
            capabilities,
        }
    }
}
