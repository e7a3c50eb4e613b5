//! After a restart of our own (RFC 4724 §4.1): what waits for whom, and until when.

use super::*;

#[test]
fn rfc4724_4_1_selection_waits_for_end_of_rib_from_all_who_will_send_it() {
    let mut lab = restarted(&["sdwan", "fw", "fw2", "vpn"]);
    let says = Says::restart(120);
    lab.originate(&["10.1.0.0/16"]);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    // fw restarts as well, fw2 speaks no graceful restart: nobody waits for their End-of-RIB.
    lab.up_saying(
        "fw",
        1,
        &Says {
            restarted: true,
            ..says.clone()
        },
    );
    lab.up("fw2", 1);
    for family in Family::ALL {
        lab.end_of_rib("sdwan", family);
    }
    lab.pass(30 * SECOND);
    assert!(lab.learned.is_empty(), "vpn is not there yet");
    assert_eq!(lab.far("fw", 1).announced, 0);
    assert_eq!(lab.far("fw", 1).ended, []);
    assert!(!lab.server.synchronised());

    lab.up_saying("vpn", 1, &says);
    lab.end_of_rib("vpn", Family::Ipv4Unicast);
    assert!(lab.learned.is_empty(), "half of its families");
    lab.end_of_rib("vpn", Family::Ipv6Unicast);
    assert!(lab.members(SITE).is_some());
    assert_eq!(
        lab.far("fw", 1).announced,
        2,
        "the network's prefix and the site"
    );
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
}

#[test]
fn rfc4724_4_1_the_selection_deferral_timer_ends_the_wait() {
    let mut lab = restarted(&["sdwan", "fw"]);
    lab.up_saying("sdwan", 1, &Says::restart(120));
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.pass(89 * SECOND);
    assert!(lab.learned.is_empty());
    assert_eq!(lab.far("sdwan", 1).ended, []);
    lab.pass(SECOND);
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
    assert_eq!(lab.server.next_timeout(), None);
}

#[test]
fn what_changes_while_selection_waits_is_told_once_as_it_stands_in_the_end() {
    let mut lab = restarted(&["sdwan", "fw"]);
    lab.up_saying("sdwan", 1, &Says::restart(120));
    let passing: Vec<String> = (0..100).map(|n| format!("10.251.{n}.0/24")).collect();
    for prefix in &passing {
        lab.announce("sdwan", 1, &[prefix], &site());
        lab.announce("sdwan", 1, &[SITE], &site());
        lab.settle_now();
        let nlri = [prefix, SITE].map(|net| net.parse::<IpNet>().unwrap().into());
        let (nlri, malformed) = (nlri.to_vec(), None);
        lab.send("sdwan", 1, vec![RouteChange::Withdraw { nlri, malformed }]);
        lab.settle_now();
    }
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.settle_now();
    assert!(lab.assigned.is_empty(), "nobody is told what it takes");
    assert!(lab.views.is_empty(), "nor any route");
    lab.pass(90 * SECOND);
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.learned.len(), 1);
    assert_eq!(lab.assigned.len(), 1);
}

#[test]
fn without_a_restart_nothing_waits() {
    let mut lab = Lab::new(&config());
    lab.up_saying("sdwan", 1, &Says::restart(120));
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.settle_now();
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
}

#[test]
fn a_peer_that_asks_for_routes_before_the_selection_and_leaves_does_no_harm() {
    let mut lab = restarted(&["sdwan", "fw"]);
    lab.up("sdwan", 1);
    let id = lab.id("sdwan", 1);
    let asked = SessionEvent::RefreshRequested {
        id,
        family: Family::Ipv4Unicast,
    };
    lab.server.handle(asked, lab.now);
    lab.lose("sdwan");
    lab.pass(HOUR);
    lab.up("sdwan", 1);
    lab.settle_now();
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
}

#[test]
fn rfc4724_4_1_peers_that_are_not_known_by_address_are_waited_for_until_the_timer() {
    let mut config = config();
    config
        .peers
        .retain(|peer| ["sdwan", "fw"].contains(&peer.name.as_str()));
    config.instances[1].addresses.remove(0);
    let template = config.peers[0].clone();
    let range = "10.1.40.0/24".parse().unwrap();
    let with_peers = config::RouteServer {
        dynamic_peers: vec![config::DynamicPeers {
            name: "branch".into(),
            prefix: range,
            max_peers: 2,
            template: template.clone(),
        }],
        ..config.clone()
    };
    let with_gateway = config::RouteServer {
        gateways: vec![config::Gateway {
            name: "vpn1".into(),
            kind: config::PeerKind::Vpn,
            members: config::GatewayMembers::Range {
                prefix: range,
                max_members: 2,
            },
            template,
        }],
        ..config
    };
    waits_for_the_timer(&with_peers);
    waits_for_the_timer(&with_gateway);
}

fn waits_for_the_timer(config: &config::RouteServer) {
    let mut lab = Lab::new(config);
    lab.server.defer_selection(lab.now + 90 * SECOND);
    let says = Says::restart(120);
    for peer in ["sdwan", "fw"] {
        lab.up_saying(peer, 1, &says);
        for family in Family::ALL {
            lab.end_of_rib(peer, family);
        }
    }
    lab.pass(89 * SECOND);
    assert!(
        !lab.server.synchronised(),
        "what its peers announced before is forwarded"
    );
    assert_eq!(lab.far("fw", 1).ended, []);
    lab.pass(SECOND);
    assert!(lab.server.synchronised());
}

#[test]
fn rfc4724_4_1_a_peer_that_is_shut_down_is_not_waited_for() {
    let mut lab = restarted(&["sdwan", "fw"]);
    let says = Says::restart(120);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    for family in Family::ALL {
        lab.end_of_rib("sdwan", family);
    }
    assert!(lab.learned.is_empty(), "fw is not there yet");
    let ids = [lab.id("fw", 1)];
    lab.server.set_shutdown(&ids, Some("broken"));
    lab.server.schedule(lab.now);
    lab.settle_now();
    assert!(lab.members(SITE).is_some());
    assert!(lab.server.synchronised());
}

/// A route server that has restarted, with these peers, by IPv4 and instance 1 alone.
fn restarted(peers: &[&str]) -> Lab {
    let mut config = config();
    config
        .peers
        .retain(|peer| peers.contains(&peer.name.as_str()));
    // Peers speak IPv4, so they have no session with instance 2.
    config.instances[1].addresses.remove(0);
    let mut lab = Lab::new(&config);
    let until = lab.now + 90 * SECOND;
    lab.server.defer_selection(until);
    lab
}
