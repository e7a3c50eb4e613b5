//! Peers that do not stand in the file as such: the members of gateways, and whoever connects from a
//! section's or a gateway's prefix, who is forgotten some time after its last session went down.
//!
//! In: connections of newcomers, sessions that come up and go down, configurations. Out: the
//! configuration with those peers in it, as if they stood in the file. Time is an input
//! (invariant 2).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    bgp::{InstanceId, SessionId},
    config::{DynamicPeers, Gateway, GatewayMembers, Peer, RouteServer},
    names::PeerName,
};

/// How long a peer is remembered after its last session went down.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// How long a peer is remembered whose session never came up.
const TRIED: Duration = Duration::from_secs(60);

/// The peers of all sections and gateways of a route server.
#[derive(Clone, Debug, Default)]
pub(super) struct Dynamic {
    ranges: Vec<Range>,
    /// Addresses of peers and gateways' members that stand in the file.
    configured: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, Known>,
    refused: u64,
}

/// Where peers come from that are not known by address.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) peers: DynamicPeers,
    /// It is a gateway's.
    is_gateway: bool,
}

#[derive(Clone, Debug)]
struct Known {
    /// The range's name.
    section: PeerName,
    /// Instances with which it has a session.
    up: BTreeSet<InstanceId>,
    /// When it is forgotten if no session comes up.
    until: Instant,
}

/// What becomes of a newcomer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is a peer from now on.
    New,
    /// It is a peer already.
    Known,
    /// It is not taken: why, and what to do.
    Refused(String),
}

impl Dynamic {
    /// Takes over another configuration. Peers stay whose section still has their address; what is
    /// configured by its address is no dynamic peer.
    pub(super) fn configure(&mut self, config: &RouteServer) {
        self.ranges = ranges(config);
        let members = members(config).map(|member| member.address);
        let peers = config.peers.iter().map(|peer| peer.address);
        self.configured = peers.chain(members).collect();
        let (ranges, configured) = (&self.ranges, &self.configured);
        self.known.retain(|address, known| {
            let mut own = ranges.iter().filter(|own| own.peers.name == known.section);
            !configured.contains(address) && own.any(|range| range.peers.prefix.contains(address))
        });
    }

    /// Somebody connects who is no peer yet.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> Verdict {
        if self.configured.contains(&address) || self.known.contains_key(&address) {
            return Verdict::Known;
        }
        let mut ranges = self.ranges.iter();
        let Some(range) = ranges.find(|range| range.peers.prefix.contains(&address)) else {
            self.refused += 1;
            let why = "no dynamic_peer and no gateway has its address (any longer)";
            return Verdict::Refused(why.to_owned());
        };
        let DynamicPeers {
            name, max_peers, ..
        } = &range.peers;
        let peers = self.known.values().filter(|known| known.section == *name);
        if peers.count() >= usize::from(*max_peers) {
            self.refused += 1;
            return Verdict::Refused(match range.is_gateway {
                true => {
                    format!("gateway {name} has {max_peers} members already; raise its max_members")
                }
                false => format!(
                    "dynamic_peer {name} has {max_peers} peers already; raise its max_peers"
                ),
            });
        }
        let known = Known {
            section: name.clone(),
            up: BTreeSet::new(),
            until: now + TRIED,
        };
        self.known.insert(address, known);
        Verdict::New
    }

    /// A session came up.
    pub(super) fn up(&mut self, id: &SessionId) {
        if let Some(known) = self.known.get_mut(&id.peer) {
            known.up.insert(id.instance);
        }
    }

    /// A session went down.
    pub(super) fn down(&mut self, id: &SessionId, now: Instant) {
        if let Some(known) = self.known.get_mut(&id.peer)
            && known.up.remove(&id.instance)
        {
            known.until = now + REMEMBERED;
        }
    }

    /// When [`Dynamic::forget`] has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let down = self.known.values().filter(|known| known.up.is_empty());
        down.map(|known| known.until).min()
    }

    /// Forgets whose time has come. `is_kept`: its routes or the operator's wishes would go with it;
    /// it is asked again later. Whether anybody was forgotten.
    pub(super) fn forget(&mut self, now: Instant, is_kept: impl Fn(IpAddr) -> bool) -> bool {
        let before = self.known.len();
        self.known.retain(|address, known| {
            if !known.up.is_empty() || known.until > now {
                return true;
            }
            let kept = is_kept(*address);
            if kept {
                known.until = now + TRIED;
            }
            kept
        });
        self.known.len() < before
    }

    /// The configuration with the members of gateways and the peers that are known now.
    pub(super) fn complete(&self, config: &RouteServer) -> RouteServer {
        let peers = self.known.iter().filter_map(|(address, known)| {
            let mut ranges = self.ranges.iter().map(|range| &range.peers);
            let section = ranges.find(|range| range.name == known.section)?;
            Some(Peer {
                name: name(&section.name, *address),
                address: *address,
                dynamic: true,
                ..section.template.clone()
            })
        });
        let mut complete = config.clone();
        complete.peers.extend(members(config));
        complete.peers.extend(peers);
        complete
    }

    /// Newcomers refused since the start.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

/// Where peers may come from that are not known by address: sections of dynamic peers, and gateways
/// that have a range.
pub(super) fn ranges(config: &RouteServer) -> Vec<Range> {
    let sections = config.dynamic_peers.iter().map(|section| Range {
        peers: section.clone(),
        is_gateway: false,
    });
    let gateways = config.gateways.iter().filter_map(|gateway| {
        let GatewayMembers::Range {
            prefix,
            max_members,
        } = gateway.members
        else {
            return None;
        };
        let template = Peer {
            passive: true,
            ..gateway.template.clone()
        };
        Some(Range {
            peers: DynamicPeers {
                name: gateway.name.as_str().into(),
                prefix,
                max_peers: max_members,
                template,
            },
            is_gateway: true,
        })
    });
    sections.chain(gateways).collect()
}

/// The members of gateways that have addresses.
fn members(config: &RouteServer) -> impl Iterator<Item = Peer> {
    let addresses = |gateway: &Gateway| match &gateway.members {
        GatewayMembers::Addresses(addresses) => addresses.clone(),
        GatewayMembers::Range { .. } => Vec::new(),
    };
    config.gateways.iter().flat_map(move |gateway| {
        let addresses = addresses(gateway).into_iter();
        addresses.map(|address| Peer {
            name: name(&gateway.name.as_str().into(), address),
            address,
            ..gateway.template.clone()
        })
    })
}

/// What the peer at an address of the section or gateway of this name is called.
pub(super) fn name(section: &PeerName, address: IpAddr) -> PeerName {
    format!("{section}-{address}").into()
}

/// The dynamic peer or gateway's member that is meant by a name or an address, whether or not it is
/// there now; or the gateway of this name, which stands for all of its members.
pub(super) fn meant(config: &RouteServer, wanted: &str) -> Option<PeerName> {
    let mut gateways = config.gateways.iter();
    if gateways.any(|gateway| gateway.name.as_str() == wanted) {
        return Some(wanted.into());
    }
    let address = wanted.parse().ok();
    let mut members = members(config);
    let member =
        members.find(|member| member.name.as_str() == wanted || Some(member.address) == address);
    if let Some(member) = member {
        return Some(member.name);
    }
    ranges(config).iter().find_map(|range| {
        let DynamicPeers {
            name: own, prefix, ..
        } = &range.peers;
        let address = wanted
            .strip_prefix(own.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(wanted);
        let address: IpAddr = address.parse().ok()?;
        prefix.contains(&address).then(|| name(own, address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Membership, PeerKind, parse};

    #[test]
    fn whoever_comes_from_the_prefix_becomes_a_peer_until_there_are_enough() {
        let (config, mut dynamic, now) = set_up();
        assert_eq!(dynamic.admit(address(10), now), Verdict::New);
        assert_eq!(dynamic.admit(address(10), now), Verdict::Known);
        assert_eq!(dynamic.admit(address(11), now), Verdict::New);
        let Verdict::Refused(why) = dynamic.admit(address(12), now) else {
            panic!("two are enough");
        };
        assert!(why.contains("raise its max_peers"), "{why}");
        assert_eq!(dynamic.refused(), 1);

        let complete = dynamic.complete(&config);
        let new = &complete.peers[config.peers.len()..];
        let told: Vec<_> = new.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(told, ["branch-10.1.40.10", "branch-10.1.40.11"]);
        assert!(
            new.iter()
                .all(|peer| peer.dynamic && peer.passive && peer.asn == 65040)
        );
        let outside = "10.9.9.9".parse().unwrap();
        assert!(matches!(dynamic.admit(outside, now), Verdict::Refused(_)));
    }

    #[test]
    fn a_peer_is_forgotten_some_minutes_after_its_last_session_unless_its_routes_are_kept() {
        let (_, mut dynamic, now) = set_up();
        dynamic.admit(address(10), now);
        let [first, second] = [1, 2].map(|instance| id(instance, 10));
        dynamic.up(&first);
        dynamic.up(&second);
        assert_eq!(dynamic.next_timeout(), None);
        dynamic.down(&first, now);
        assert_eq!(dynamic.next_timeout(), None, "one is still up");
        let later = now + Duration::from_secs(3600);
        dynamic.down(&second, later);
        assert_eq!(dynamic.next_timeout(), Some(later + REMEMBERED));
        assert!(!dynamic.forget(later + REMEMBERED - Duration::from_secs(1), |_| false));
        assert!(
            !dynamic.forget(later + REMEMBERED, |_| true),
            "its routes are in use"
        );
        assert!(
            dynamic
                .next_timeout()
                .is_some_and(|at| at > later + REMEMBERED)
        );
        assert!(dynamic.forget(later + 2 * REMEMBERED, |_| false));
        assert_eq!((dynamic.count(), dynamic.next_timeout()), (0, None));
    }

    #[test]
    fn who_only_tries_takes_no_place_for_long() {
        let (_, mut dynamic, now) = set_up();
        dynamic.admit(address(10), now);
        dynamic.admit(address(11), now);
        dynamic.up(&id(1, 11));
        assert!(dynamic.forget(now + TRIED, |_| false));
        assert_eq!(dynamic.count(), 1);
        assert_eq!(dynamic.admit(address(12), now + TRIED), Verdict::New);
    }

    #[test]
    fn a_reload_keeps_the_peers_of_a_section_and_drops_them_with_it() {
        let (mut config, mut dynamic, now) = set_up();
        dynamic.admit(address(10), now);
        dynamic.admit(address(11), now);
        config.dynamic_peers[0].template.hold_time = 30;
        dynamic.configure(&config);
        let complete = dynamic.complete(&config);
        assert_eq!(complete.peers.last().unwrap().hold_time, 30);

        // Configured by its address now.
        config.peers[0].address = address(11);
        dynamic.configure(&config);
        assert_eq!(dynamic.count(), 1);
        assert_eq!(dynamic.admit(address(11), now), Verdict::Known);
        config.dynamic_peers.clear();
        dynamic.configure(&config);
        assert_eq!(dynamic.complete(&config).peers.len(), config.peers.len());
    }

    #[test]
    fn the_members_of_a_gateway_are_peers_named_after_it() {
        let (mut config, mut dynamic, _) = set_up();
        config.gateways = vec![gateway(GatewayMembers::Addresses(vec![
            address(4),
            address(5),
        ]))];
        dynamic.configure(&config);
        let complete = dynamic.complete(&config);
        let members = &complete.peers[config.peers.len()..];
        let names: Vec<_> = members.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["er1-10.1.40.4", "er1-10.1.40.5"]);
        assert!(members.iter().all(|peer| {
            peer.kind() == PeerKind::ExpressRoute && !peer.dynamic && !peer.passive
        }));
        let known = dynamic.admit(address(4), Instant::now());
        assert_eq!(known, Verdict::Known, "it stands in the file");
        for (wanted, expected) in [
            ("er1", "er1"),
            ("er1-10.1.40.4", "er1-10.1.40.4"),
            ("10.1.40.5", "er1-10.1.40.5"),
        ] {
            assert_eq!(meant(&config, wanted).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn whoever_comes_from_a_gateways_range_is_its_member_until_there_are_enough() {
        let (mut config, mut dynamic, now) = set_up();
        config.dynamic_peers.clear();
        config.gateways = vec![gateway(GatewayMembers::Range {
            prefix: "10.1.40.0/27".parse().unwrap(),
            max_members: 1,
        })];
        dynamic.configure(&config);
        assert_eq!(dynamic.admit(address(4), now), Verdict::New);
        let Verdict::Refused(why) = dynamic.admit(address(5), now) else {
            panic!("one is enough");
        };
        assert_eq!(
            why,
            "gateway er1 has 1 members already; raise its max_members"
        );
        assert!(matches!(
            dynamic.admit(address(40), now),
            Verdict::Refused(_)
        ));
        let complete = dynamic.complete(&config);
        let member = complete.peers.last().unwrap();
        assert_eq!(member.name.as_str(), "er1-10.1.40.4");
        assert!(member.dynamic && member.passive);
        assert_eq!(member.kind(), PeerKind::ExpressRoute);
        assert!(dynamic.forget(now + TRIED, |_| false));
        assert_eq!(dynamic.complete(&config).peers.len(), config.peers.len());
        assert_eq!(
            meant(&config, "10.1.40.9").unwrap().as_str(),
            "er1-10.1.40.9"
        );
    }

    #[test]
    fn a_dynamic_peer_is_meant_by_name_or_address() {
        let (config, ..) = set_up();
        for wanted in ["branch-10.1.40.9", "10.1.40.9"] {
            let found = meant(&config, wanted).unwrap();
            assert_eq!(found.as_str(), "branch-10.1.40.9");
        }
        for wanted in ["branch", "branch-10.2.0.1", "10.1.41.1", "other-10.1.40.9"] {
            assert_eq!(meant(&config, wanted), None);
        }
    }

    fn set_up() -> (RouteServer, Dynamic, Instant) {
        let config = parse(include_str!("../../../docs/example.toml"), "example").unwrap();
        let mut config = config.route_servers[0].clone();
        let template = Peer::new("".into(), address(0), 65040);
        config.dynamic_peers = vec![DynamicPeers {
            name: "branch".into(),
            prefix: "10.1.40.0/24".parse().unwrap(),
            max_peers: 2,
            template: Peer {
                passive: true,
                ..template
            },
        }];
        let mut dynamic = Dynamic::default();
        dynamic.configure(&config);
        (config, dynamic, Instant::now())
    }

    fn gateway(members: GatewayMembers) -> Gateway {
        let kind = PeerKind::ExpressRoute;
        Gateway {
            name: "er1".into(),
            kind,
            members,
            template: Peer {
                membership: Some(Membership {
                    gateway: "er1".into(),
                    kind,
                }),
                ..Peer::new("".into(), address(0), 65515)
            },
        }
    }

    fn address(last: u8) -> IpAddr {
        [10, 1, 40, last].into()
    }

    fn id(instance: u8, last: u8) -> SessionId {
        SessionId {
            route_server: "rs1".into(),
            instance: InstanceId(instance),
            peer: address(last),
        }
    }
}
