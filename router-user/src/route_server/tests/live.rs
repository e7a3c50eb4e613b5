//! Changes with live sessions: only what changed is touched.

use super::*;

const SITE: &str = "10.250.0.0/16";
const SDWAN: &str = "10.1.10.4";

#[test]
fn a_prefix_added_to_the_network_goes_out_at_once_and_alone() {
    let mut lab = with_route();
    lab.originate(&["10.1.0.0/16"]);
    lab.settle();
    let before = lab.traffic();
    lab.originate(&["10.1.0.0/16", "10.2.0.0/16"]);
    lab.settle();
    assert_eq!(
        lab.traffic(),
        (before.0 + 4, before.1),
        "one announcement a session"
    );
    lab.originate(&["10.2.0.0/16"]);
    lab.settle();
    assert_eq!(
        lab.traffic(),
        (before.0 + 4, before.1 + 4),
        "one withdrawal a session"
    );
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut lab = with_route();
    let before = lab.traffic();
    lab.reconfigure(&config());
    assert_eq!(lab.traffic(), before);
}

#[test]
fn a_peer_that_is_removed_takes_its_routes_with_it_and_nothing_else() {
    let mut lab = with_route();
    lab.announce_to_both("fw", &["0.0.0.0/0"], &route(&[65020], "10.1.20.4"));
    lab.settle();
    let mut without = config();
    without.peers.retain(|peer| peer.name.as_str() != "sdwan");
    for instance in [1, 2] {
        lab.sessions.remove(&lab.id("sdwan", instance));
    }
    lab.reconfigure(&without);
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert!(lab.members("0.0.0.0/0").is_some());
    assert_eq!(lab.far("fw", 1).withdrawn, 1);
}

#[test]
fn a_peer_that_is_added_leaves_the_others_alone() {
    let mut lab = with_route();
    let before = lab.traffic();
    let mut with = config();
    with.peers.push(peer("fw3", [10, 1, 20, 6], 65020));
    lab.reconfigure(&with);
    assert_eq!(lab.traffic(), before);
    lab.up("fw3", 1);
    lab.settle();
    assert!(lab.holds("fw3", 1, SITE).is_some());
}

#[test]
fn reflection_is_switched_off_and_on_without_a_reset() {
    let mut lab = with_route();
    lab.originate(&["10.1.0.0/16"]);
    lab.settle();
    let off = config::RouteServer {
        reflect_between_nvas: false,
        ..config()
    };
    lab.reconfigure(&off);
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert!(lab.holds("fw", 1, "10.1.0.0/16").is_some());
    assert_eq!(
        lab.far("fw", 1).withdrawn,
        1,
        "the network's own prefix stays"
    );
    lab.reconfigure(&config());
    assert!(lab.holds("fw", 1, SITE).is_some());
    assert_eq!(lab.far("fw", 1).ended.len(), 2, "the session is the same");
}

#[test]
fn reflection_switched_off_during_a_dump_withdraws_only_what_was_sent() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    let nets: Vec<String> = (0..20_000_u32)
        .map(|number| format!("11.{}.{}.0/24", number / 256, number % 256))
        .collect();
    let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
    let mut unlimited = config();
    unlimited.peers[0].max_prefixes = u32::MAX;
    lab.reconfigure(&unlimited);
    lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
    lab.settle();
    lab.up("fw", 1);
    lab.server.on_timeout(lab.now);
    lab.deliver();
    let sent = lab.far("fw", 1).announced;
    assert!(sent > 0 && sent < nets.len(), "{sent} so far");
    unlimited.reflect_between_nvas = false;
    lab.reconfigure(&unlimited);
    assert_eq!(lab.far("fw", 1).withdrawn, sent);
    assert_eq!(lab.far("fw", 1).announced, sent);
    assert_eq!(lab.far("fw", 1).ended, Family::ALL);
}

#[test]
fn an_address_that_becomes_a_gateway_is_no_next_hop_any_more() {
    let mut lab = with_route();
    assert!(lab.members(SITE).is_some());
    let gateway = [SDWAN.parse().unwrap()];
    lab.server
        .reconfigure(&config(), &surroundings(space(), gateway.to_vec()), lab.now);
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
    lab.reconfigure(&config());
    assert!(lab.members(SITE).is_some());
}

#[test]
fn a_larger_network_makes_next_hops_resolvable() {
    let mut lab = with_route();
    lab.announce_to_both("sdwan", &["10.251.0.0/16"], &route(&[65010], "10.9.0.4"));
    lab.settle();
    assert_eq!(lab.members("10.251.0.0/16"), Some(vec![]));
    let space = [space(), vec![prefix("10.9.0.0/16")]].concat();
    lab.server
        .reconfigure(&config(), &surroundings(space, gateways()), lab.now);
    lab.settle();
    assert_eq!(
        lab.members("10.251.0.0/16"),
        Some(vec!["10.9.0.4".parse().unwrap()])
    );
    assert!(lab.holds("fw", 1, "10.251.0.0/16").is_some());
    assert_eq!(
        lab.far("fw", 1).announced,
        2,
        "and the other route was left alone"
    );
}

#[test]
fn fewer_paths_are_allowed_at_once() {
    let mut lab = with_route();
    lab.announce_to_both("fw", &[SITE], &route(&[65020], "10.1.20.4"));
    lab.settle();
    assert_eq!(lab.members(SITE).map(|members| members.len()), Some(2));
    lab.reconfigure(&config::RouteServer {
        max_paths: 1,
        ..config()
    });
    assert_eq!(lab.members(SITE), Some(vec![SDWAN.parse().unwrap()]));
}

#[test]
fn a_peer_with_another_asn_loses_its_routes_and_comes_back_under_the_new_one() {
    let mut lab = with_route();
    let mut other = config();
    other.peers[0].asn = 65040;
    for instance in [1, 2] {
        lab.sessions.remove(&lab.id("sdwan", instance));
    }
    lab.reconfigure(&other);
    assert_eq!(lab.members(SITE), None);
    // What the old session still had to say comes too late.
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    lab.both_up("sdwan");
    lab.announce_to_both("sdwan", &[SITE], &route(&[65040], SDWAN));
    lab.settle();
    assert!(lab.members(SITE).is_some());
}

#[test]
fn an_instance_with_another_address_starts_its_sessions_anew() {
    let mut lab = with_route();
    let mut moved = config();
    moved.instances[0].addresses[0] = IpAddr::from([10, 1, 255, 9]);
    for peer in ["sdwan", "fw"] {
        lab.sessions.remove(&lab.id(peer, 1));
    }
    lab.originate(&["10.1.0.0/16"]);
    lab.reconfigure(&moved);
    assert!(
        lab.members(SITE).is_some(),
        "instance 2 still has the route"
    );
    assert_eq!(lab.server.peer_rows(lab.now)[0].received, 0);
    lab.up("fw", 1);
    lab.settle();
    let next_hop = lab.holds("fw", 1, "10.1.0.0/16").unwrap().next_hop;
    assert_eq!(next_hop, Some(IpAddr::from([10, 1, 255, 9]).into()));
}

#[test]
fn an_instance_without_an_ipv4_address_names_its_ipv6_address_to_those_who_can_take_it() {
    let mut config = config();
    for instance in &mut config.instances {
        instance.addresses.remove(0);
    }
    config.peers[0].address = "fd00:1:0:a::4".parse().unwrap();
    let mut lab = Lab::new(&config);
    lab.originate(&["10.1.0.0/16"]);
    for extended_next_hop in [false, true] {
        let (id, mut negotiated) = lab.negotiated("sdwan", 1);
        negotiated.extended_next_hop = extended_next_hop;
        lab.up_with(id, negotiated);
        lab.settle();
        let held = lab.holds("sdwan", 1, "10.1.0.0/16");
        assert_eq!(held.is_some(), extended_next_hop);
        let warned = lab
            .warnings("sdwan", 1)
            .contains("not advertised: 10.1.0.0/16");
        assert_eq!(warned, !extended_next_hop);
    }
}

#[test]
fn a_limit_lowered_below_what_is_announced_is_enforced() {
    let mut lab = with_route();
    let mut lower = config();
    lower.peers[0].max_prefixes = 0;
    lab.reconfigure(&lower);
    assert_eq!(lab.shutdowns.len(), 2, "both sessions of the peer");
    assert_eq!(lab.members(SITE), None);
}

#[test]
fn a_refresh_sends_a_family_again() {
    let mut lab = with_route();
    lab.originate(&["10.1.0.0/16", "fd00:1::/48"]);
    lab.settle();
    let before = lab.far("fw", 1).announced;
    let id = lab.id("fw", 1);
    let family = Family::Ipv4Unicast;
    lab.server
        .handle(SessionEvent::RefreshRequested { id, family }, lab.now);
    lab.settle();
    assert_eq!(
        lab.far("fw", 1).announced,
        before + 2,
        "both IPv4 routes, not the IPv6 one"
    );
    assert_eq!(lab.far("fw", 1).withdrawn, 0);
}

/// SD-WAN and firewall are up with both instances, and the site is announced to both.
fn with_route() -> Lab {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    lab
}

impl Lab {
    pub(super) fn reconfigure(&mut self, config: &config::RouteServer) {
        self.server.reconfigure(config, &around(), self.now);
        self.settle();
    }

    /// Routes announced and withdrawn to all peers so far.
    fn traffic(&self) -> (usize, usize) {
        let far = || self.sessions.values();
        let announced = far().map(|far| far.announced).sum();
        (announced, far().map(|far| far.withdrawn).sum())
    }
}
