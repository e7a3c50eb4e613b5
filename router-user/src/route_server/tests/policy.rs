//! Path policy and the operator's wishes with live sessions: what a change does, and that it does
//! nothing else.

use super::*;
use crate::bgp::{
    settings::RoleSettings,
    wire::{Role, community},
};

const SITE: &str = "10.250.0.0/16";
const OTHER: &str = "10.251.0.0/16";
const SDWAN: &str = "10.1.10.4";
const FW: &str = "10.1.20.4";

/// A change of a peer's settings.
type Change = fn(&mut config::Peer);

#[test]
fn each_import_rule_changes_with_a_reload_and_without_a_reset() {
    let looped = [65010, 65515, 65011];
    let foreign = [65011];
    let long = [65010, 65011, 65012];
    let cases: [(&[Asn], Change, bool, &str); 4] = [
        (&looped, |peer| peer.policy.allow_own_as = 1, true, "loop"),
        (
            &foreign,
            |peer| peer.policy.enforce_first_as = false,
            true,
            "enforce_first_as",
        ),
        (
            &long,
            |peer| peer.policy.max_as_path_length = 2,
            false,
            "max_as_path_length",
        ),
        (
            &long,
            |peer| peer.policy.max_as_path_length = 3,
            true,
            "none",
        ),
    ];
    for (path, change, taken_after, reason) in cases {
        let mut lab = up();
        lab.announce("sdwan", 1, &[OTHER], &route(&[65010], SDWAN));
        lab.announce("sdwan", 1, &[SITE], &route(path, SDWAN));
        lab.settle();
        let before = lab.state("sdwan", 1, SITE);
        let announced = lab.far("fw", 1).announced;
        lab.change(change);
        let after = lab.state("sdwan", 1, SITE);
        let rejected = if taken_after { before } else { after.clone() };
        if reason != "none" {
            assert_eq!(rejected.0, "rejected", "{path:?}");
            assert!(rejected.1.contains(reason), "{rejected:?}");
        }
        assert_eq!(after.0 == "best", taken_after, "{path:?}: {after:?}");
        assert_eq!(lab.members(SITE).is_some(), taken_after);
        assert_eq!(lab.holds("fw", 1, SITE).is_some(), taken_after);
        let sent = lab.far("fw", 1).announced - announced;
        assert!(sent <= 1, "only that route is sent, not {sent}");
        assert_eq!(lab.far("fw", 1).ended.len(), 2, "the session is the same");
        lab.reconfigure_to(&config());
        assert_eq!(
            lab.state("sdwan", 1, SITE).0 == "best",
            path == long,
            "and back"
        );
    }
}

#[test]
fn an_as_set_is_taken_where_allowed_from_this_peer_alone() {
    let mut lab = up();
    let mut path = route(&[65010], SDWAN);
    path.as_path.segments.push(crate::bgp::wire::AsSegment {
        kind: crate::bgp::wire::AsSegmentKind::Set,
        asns: [65030].into_iter().collect(),
    });
    lab.announce("sdwan", 1, &[SITE], &path);
    path.as_path = {
        let mut other = AsPath::sequence([65020]);
        other.segments.push(path.as_path.segments[1].clone());
        other
    };
    lab.announce("fw", 1, &[SITE], &path);
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    lab.change(|peer| peer.policy.allow_as_set = true);
    assert_eq!(lab.state("sdwan", 1, SITE).0, "best");
    assert_eq!(lab.state("fw", 1, SITE).0, "rejected");
}

#[test]
fn rfc8212_2_with_require_policy_nothing_is_learned_or_announced_until_it_is_lifted() {
    let mut lab = up();
    lab.originate(&["10.1.0.0/16"]);
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    let strict = config::RouteServer {
        require_policy: true,
        ..config()
    };
    lab.reconfigure_to(&strict);
    assert_eq!(lab.members(SITE), None);
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "rejected");
    assert!(reason.contains("RFC 8212"), "{reason}");
    assert!(lab.far("fw", 1).holds.is_empty(), "nor what it originates");
    assert!(lab.warnings("fw", 1).contains("RFC 8212"));
    lab.reconfigure_to(&config());
    assert!(lab.holds("fw", 1, SITE).is_some());
    assert!(lab.holds("fw", 1, "10.1.0.0/16").is_some());
    assert!(!lab.warnings("fw", 1).contains("RFC 8212"));
}

#[test]
fn rfc7947_2_2_a_transparent_peer_gets_path_next_hop_med_and_communities_as_they_came() {
    let mut lab = Lab::new(&changed(|peer| peer.policy.transparent = true, "fw"));
    lab.both_up("sdwan");
    lab.both_up("fw");
    lab.both_up("vpn");
    lab.originate(&["10.1.0.0/16"]);
    let sent = PathAttributes {
        med: Some(50),
        communities: vec![0x1234_0001],
        ..route(&[65010, 65011], SDWAN)
    };
    lab.announce("sdwan", 1, &[SITE], &sent);
    lab.settle();
    assert_eq!(lab.holds("fw", 1, SITE), Some(&sent));
    let own = lab.holds("fw", 1, "10.1.0.0/16").unwrap();
    assert_eq!(own.as_path, AsPath::sequence([65515]));
    // Others are served as by default: the ASN is prepended, the rest passes.
    let plain = lab.holds("vpn", 1, SITE).unwrap().clone();
    assert_eq!(plain.as_path, AsPath::sequence([65515, 65010, 65011]));
    assert_eq!((plain.med, plain.next_hop), (sent.med, sent.next_hop));

    let before = lab.far("vpn", 1).announced;
    lab.reconfigure_to(&config());
    assert_eq!(lab.holds("fw", 1, SITE), Some(&plain));
    assert_eq!(lab.far("fw", 1).announced, 3, "only the learned route");
    assert_eq!(lab.far("fw", 1).withdrawn, 0);
    assert_eq!(lab.far("vpn", 1).announced, before);
}

#[test]
fn as_override_sends_the_difference_to_the_live_session() {
    let mut lab = up();
    let through_fw = route(&[65010, 65020, 65011], SDWAN);
    lab.announce("sdwan", 1, &[SITE], &through_fw);
    lab.announce("sdwan", 1, &[OTHER], &route(&[65010], SDWAN));
    lab.settle();
    assert!(lab.warnings("fw", 1).contains("shares ASN"));
    let before = lab.far("fw", 1).announced;
    let overriding = changed(|peer| peer.policy.as_override = true, "fw");
    lab.reconfigure_to(&overriding);
    let path = |lab: &Lab| lab.holds("fw", 1, SITE).unwrap().as_path.clone();
    assert_eq!(path(&lab), AsPath::sequence([65515, 65010, 65515, 65011]));
    assert_eq!(lab.far("fw", 1).announced, before + 1, "one path has it");
    assert!(!lab.warnings("fw", 1).contains("shares ASN"));
    lab.reconfigure_to(&config());
    assert_eq!(path(&lab), AsPath::sequence([65515, 65010, 65020, 65011]));
}

#[test]
fn rfc9234_5_a_route_from_a_provider_goes_down_only() {
    let mut config = config();
    for (peer, role) in config.peers.iter_mut().zip([
        Role::Customer,
        Role::Provider,
        Role::Peer,
        Role::RouteServerClient,
    ]) {
        peer.role = Some(RoleSettings {
            role,
            strict: false,
        });
    }
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "fw", "fw2", "vpn"] {
        lab.up(peer, 1);
    }
    // "sdwan" is our provider, "fw" our customer, "fw2" a peer, "vpn" a route server.
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.announce("fw", 1, &[OTHER], &route(&[65020], FW));
    lab.settle();
    let down = lab.holds("fw", 1, SITE).unwrap();
    assert_eq!(down.only_to_customer, Some(65010), "attached on ingress");
    for sideways in ["fw2", "vpn"] {
        assert!(lab.holds(sideways, 1, SITE).is_none(), "{sideways}");
    }
    // What the customer sent goes everywhere, marked where it goes sideways.
    for (peer, marked) in [("sdwan", None), ("fw2", Some(65515)), ("vpn", None)] {
        let held = lab.holds(peer, 1, OTHER).unwrap();
        assert_eq!(held.only_to_customer, marked, "{peer}");
    }
    let mut leaked = route(&[65020], FW);
    leaked.only_to_customer = Some(65020);
    lab.announce("fw", 1, &[OTHER], &leaked);
    lab.settle();
    assert_eq!(lab.members(OTHER), None);
    assert!(lab.state("fw", 1, OTHER).1.contains("route leak"));
}

#[test]
fn rfc8326_4_2_a_drained_peer_loses_its_traffic_and_is_told_to_send_none() {
    let mut lab = up();
    lab.originate(&["10.1.0.0/16"]);
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.announce_to_both("fw", &[SITE], &route(&[65020, 65011], FW));
    lab.announce_to_both("sdwan", &[OTHER], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.next_hops(SITE), [SDWAN], "the shorter path");
    let before = lab.server.received_rows(&Filter::default());

    lab.drain("sdwan", true);
    assert_eq!(lab.next_hops(SITE), [FW]);
    assert_eq!(lab.next_hops(OTHER), [SDWAN], "there is no other");
    let tagged = |route: &PathAttributes| route.communities == [community::GRACEFUL_SHUTDOWN];
    assert!(tagged(lab.holds("sdwan", 1, "10.1.0.0/16").unwrap()));
    assert!(tagged(lab.holds("sdwan", 1, SITE).unwrap()), "fw's path");
    assert!(
        tagged(lab.holds("fw", 1, OTHER).unwrap()),
        "fw2 may know better"
    );
    assert!(!tagged(lab.holds("fw", 1, "10.1.0.0/16").unwrap()));
    assert!(lab.warnings("sdwan", 1).contains("drained"));
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "lost");
    assert!(reason.contains("GRACEFUL_SHUTDOWN"), "{reason}");
    let received = lab.server.received_rows(&Filter::default());
    assert_eq!(received, before, "what it sent is what it sent");

    // The reload of something else, or a new session, does not end it.
    lab.change(|peer| peer.max_prefixes = 999);
    lab.down("sdwan", 1);
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.next_hops(SITE), [FW]);
    assert!(tagged(lab.holds("sdwan", 1, "10.1.0.0/16").unwrap()));

    lab.drain("sdwan", false);
    assert_eq!(lab.next_hops(SITE), [SDWAN]);
    assert!(!tagged(lab.holds("sdwan", 1, "10.1.0.0/16").unwrap()));
    assert!(!lab.warnings("sdwan", 1).contains("drained"));
}

#[test]
fn a_peer_drained_at_one_instance_is_not_said_to_announce_other_routes_there() {
    let mut lab = up();
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    let ids = lab.server.sessions_of(&"sdwan".into(), Some(InstanceId(1)));
    lab.server.set_drained(&ids, true, lab.now);
    lab.settle();
    assert_eq!(lab.warnings("sdwan", 2), "");
    lab.server.set_drained(&ids, false, lab.now);
    lab.announce("sdwan", 1, &[OTHER], &route(&[65010], SDWAN));
    assert!(lab.warnings("sdwan", 2).contains("other routes"));
}

#[test]
fn the_same_policy_again_sends_nothing() {
    let mut lab = Lab::new(&changed(|peer| peer.policy.as_override = true, "fw"));
    lab.both_up("sdwan");
    lab.both_up("fw");
    lab.announce("sdwan", 1, &[SITE], &route(&[65010, 65020], SDWAN));
    lab.drain("sdwan", true);
    let before = lab.far("fw", 1).announced;
    lab.drain("sdwan", true);
    lab.reconfigure_to(&changed(|peer| peer.policy.as_override = true, "fw"));
    assert_eq!(lab.far("fw", 1).announced, before);
}

#[test]
fn a_soft_reset_repeats_all_routes_and_asks_for_all_of_the_peers() {
    let mut lab = up();
    lab.originate(&["10.1.0.0/16", "fd00:1::/48"]);
    lab.settle();
    let before = lab.far("fw", 1).announced;
    let fw = lab.id("fw", 1);
    assert_eq!(lab.server.clear_soft(&fw, lab.now), Ok(()));
    let asked: Vec<_> = lab
        .server
        .take_commands(lab.now)
        .into_iter()
        .filter_map(|(id, command)| match command {
            SessionCommand::RequestRefresh(family) => Some((id, family)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, Family::ALL.map(|family| (fw.clone(), family)));
    lab.settle();
    assert_eq!(lab.far("fw", 1).announced, before + 2);

    let vpn = lab.id("vpn", 1);
    let down = lab.server.clear_soft(&vpn, lab.now);
    assert_eq!(down, Err(RefreshError::Down));
    let (_, mut negotiated) = lab.negotiated("vpn", 1);
    negotiated.route_refresh = false;
    lab.up_with(vpn.clone(), negotiated);
    lab.settle();
    let before = lab.far("vpn", 1).announced;
    let deaf = lab.server.clear_soft(&vpn, lab.now);
    assert_eq!(deaf, Err(RefreshError::NotAnnounced));
    lab.settle();
    assert_eq!(lab.far("vpn", 1).announced, before, "nothing is sent");
}

/// SD-WAN and firewall are up with both instances.
fn up() -> Lab {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    lab.both_up("fw");
    lab
}

/// The configuration with a change of one peer.
fn changed(change: Change, name: &str) -> config::RouteServer {
    let mut config = config();
    let mut peers = config.peers.iter_mut();
    let peer = peers.find(|peer| peer.name.as_str() == name);
    change(peer.expect("a configured peer"));
    config
}

impl Lab {
    /// A reload that changes settings of the SD-WAN.
    fn change(&mut self, change: Change) {
        self.reconfigure_to(&changed(change, "sdwan"));
    }

    fn reconfigure_to(&mut self, config: &config::RouteServer) {
        self.server.reconfigure(config, &around(), self.now);
        self.settle();
    }

    fn drain(&mut self, peer: &str, drained: bool) {
        let ids = self.server.sessions_of(&peer.into(), None);
        assert_eq!(ids.len(), 2);
        self.server.set_drained(&ids, drained, self.now);
        self.settle();
    }

    fn next_hops(&self, net: &str) -> Vec<String> {
        let members = self.members(net).unwrap_or_default();
        members.iter().map(ToString::to_string).collect()
    }
}
