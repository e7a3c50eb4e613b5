//! Peers that are not known by address: whoever connects from a section's prefix becomes one, and
//! is forgotten some time after its last session went down.
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
    config::{DynamicPeers, Peer, RouteServer},
    names::PeerName,
};

/// How long a peer is remembered after its last session went down.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// How long a peer is remembered whose session never came up.
const TRIED: Duration = Duration::from_secs(60);

/// The peers of all sections of a route server.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    sections: Vec<DynamicPeers>,
    /// Addresses of peers that stand in the file.
    configured: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, Known>,
    refused: u64,
}

#[derive(Debug)]
struct Known {
    /// The section's name.
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
        self.sections.clone_from(&config.dynamic_peers);
        self.configured = config.peers.iter().map(|peer| peer.address).collect();
        let (sections, configured) = (&self.sections, &self.configured);
        self.known.retain(|address, known| {
            let mut own = sections.iter().filter(|own| own.name == known.section);
            !configured.contains(address) && own.any(|section| section.prefix.contains(address))
        });
    }

    /// Somebody connects who is no peer yet.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant) -> Verdict {
        if self.configured.contains(&address) || self.known.contains_key(&address) {
            return Verdict::Known;
        }
        let mut sections = self.sections.iter();
        let Some(section) = sections.find(|section| section.prefix.contains(&address)) else {
            self.refused += 1;
            return Verdict::Refused("no dynamic_peer has its address (any longer)".to_owned());
        };
        let DynamicPeers {
            name, max_peers, ..
        } = section;
        let peers = self.known.values().filter(|known| known.section == *name);
        if peers.count() >= usize::from(*max_peers) {
            self.refused += 1;
            return Verdict::Refused(format!(
                "dynamic_peer {name} has {max_peers} peers already; raise its max_peers"
            ));
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

    /// Forgets whose time has come. `is_kept`: routes of it are still in use; it is asked again
    /// later. Whether anybody was forgotten.
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

    /// The configuration with the peers that are known now.
    pub(super) fn complete(&self, config: &RouteServer) -> RouteServer {
        let peers = self.known.iter().filter_map(|(address, known)| {
            let mut sections = self.sections.iter();
            let section = sections.find(|section| section.name == known.section)?;
            Some(Peer {
                name: name(section, *address),
                address: *address,
                dynamic: true,
                ..section.template.clone()
            })
        });
        let mut complete = config.clone();
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

/// What the peer at an address of the section is called.
pub(super) fn name(section: &DynamicPeers, address: IpAddr) -> PeerName {
    format!("{}-{address}", section.name).into()
}

/// The dynamic peer that is meant by a name or an address, whether or not it is there now.
pub(super) fn meant(config: &RouteServer, wanted: &str) -> Option<PeerName> {
    config.dynamic_peers.iter().find_map(|section| {
        let own = wanted.strip_prefix(section.name.as_str());
        let address = own
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(wanted);
        let address: IpAddr = address.parse().ok()?;
        section
            .prefix
            .contains(&address)
            .then(|| name(section, address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

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
