//! What happens beside the timers: operators, other configurations, requests of peers.

use super::*;

#[test]
fn a_peer_that_is_shut_down_while_its_routes_are_kept_loses_them_at_once() {
    let says = Says::restart(120).long_lived(86_400);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    assert!(lab.members(SITE).is_some());
    let ids = [lab.id("sdwan", 1)];
    lab.server.set_shutdown(&ids, Some("maintenance"));
    lab.settle_now();
    assert!(lab.learned.is_empty());
    assert!(lab.holds("fw", 1, SITE).is_none());

    // Also where its connection was lost on its own just before.
    lab.server.set_shutdown(&ids, None);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.server.set_shutdown(&ids, Some("maintenance"));
    lab.lose("sdwan");
    assert!(lab.learned.is_empty());
    lab.pass(HOUR);
    assert_eq!(lab.server.next_timeout(), None);
}

#[test]
fn a_peer_that_is_cleared_hard_while_its_routes_are_kept_loses_them_at_once() {
    let says = Says::restart(120).long_lived(86_400);
    let mut lab = lab(&says, &says);
    let id = lab.id("sdwan", 1);
    assert!(lab.server.clear_hard(&id), "it is up");
    lab.settle_now();
    assert!(lab.members(SITE).is_some(), "until its session is closed");
    lab.lose("sdwan");
    assert!(lab.members(SITE).is_some());
    assert!(!lab.server.clear_hard(&id));
    lab.settle_now();
    assert_eq!(lab.members(SITE), None);
}

#[test]
fn an_instance_that_is_stopped_drops_what_it_keeps_of_its_peers_at_once() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.server.drop_kept(InstanceId(2));
    lab.settle_now();
    assert!(lab.members(SITE).is_some(), "kept by the other instance");
    lab.server.drop_kept(InstanceId(1));
    lab.settle_now();
    assert!(lab.learned.is_empty());
    assert!(lab.holds("fw", 1, SITE).is_none());
}

#[test]
fn a_configuration_that_keeps_less_holds_for_what_is_kept_already() {
    let says = Says::restart(120).long_lived(86_400);
    let left = |time: Duration, change: fn(&mut config::Peer)| {
        let mut lab = lab(&says, &says);
        let mut config = config();
        lab.lose("sdwan");
        lab.pass(time);
        change(&mut config.peers[0]);
        lab.server.reconfigure(&config, &around(), lab.now);
        lab.settle_now();
        let nets = [SITE, SITE6].map(|net| lab.row(net));
        nets.map(|row| Some(row?.stale?.seconds_left.round()))
    };
    let early = 20 * SECOND;
    assert_eq!(left(early, |_| {}), [Some(100.0); 2]);
    assert_eq!(left(HOUR, |_| {}), [Some(82_920.0); 2]);
    for time in [early, HOUR] {
        assert_eq!(left(time, |peer| peer.restart.enabled = false), [None; 2]);
    }
    assert_eq!(
        left(early, |peer| peer.families =
            [Family::Ipv6Unicast].into_iter().collect()),
        [None, Some(100.0)]
    );
    let shorter = |peer: &mut config::Peer| peer.restart.long_lived_stale_time = 600;
    assert_eq!(left(HOUR, shorter), [Some(600.0); 2]);
    let none = |peer: &mut config::Peer| peer.restart.long_lived_stale_time = 0;
    assert_eq!(left(HOUR, none), [None; 2]);
    assert_eq!(left(early, none), [Some(100.0); 2]);
}

#[test]
fn a_dynamic_peer_is_remembered_while_something_would_be_forgotten_with_it() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    let address: IpAddr = SDWAN.parse().unwrap();
    let id = lab.id("sdwan", 1);
    let ids = std::slice::from_ref(&id);
    lab.lose("sdwan");
    assert!(lab.server.must_remember(address), "routes are kept");
    lab.pass(120 * SECOND);
    assert!(!lab.server.must_remember(address));
    lab.server.set_shutdown(ids, Some("maintenance"));
    assert!(lab.server.must_remember(address), "it would come back up");
    lab.server.set_shutdown(ids, None);
    lab.server.set_drained(ids, true, lab.now);
    assert!(
        lab.server.must_remember(address),
        "it would come back undrained"
    );
    lab.server.set_drained(ids, false, lab.now);
    assert!(!lab.server.must_remember(address));

    // Over its limit it rests, and is not taken again before that is over.
    let mut config = config();
    config.peers[0].max_prefixes = 1;
    lab.server.reconfigure(&config, &around(), lab.now);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE, "10.251.0.0/16"], &site());
    lab.settle_now();
    let mut shows = |state| {
        let status = SessionStatus {
            state,
            ..SessionStatus::default()
        };
        let id = id.clone();
        lab.server
            .handle(SessionEvent::Status { id, status }, lab.now);
        lab.server.must_remember(address)
    };
    assert!(shows(crate::bgp::State::Idle));
    assert!(!shows(crate::bgp::State::Active));
}

#[test]
fn rfc9494_4_2_what_is_fresh_is_kept_again_although_the_long_lived_time_is_over() {
    let says = Says::restart(120).long_lived(3600);
    let mut lab = lab(&says, &says);
    lab.announce("sdwan", 1, &["10.251.0.0/16"], &site());
    lab.lose("sdwan");
    lab.pass(3700 * SECOND);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    // The long-lived time ends while the peer announces its routes again.
    lab.pass(60 * SECOND);
    lab.lose("sdwan");
    assert_eq!(lab.members("10.251.0.0/16"), None, "it was stale too long");
    let stale = lab.row(SITE).expect("announced a minute ago").stale;
    assert!(stale.is_some_and(|stale| !stale.long_lived));
    assert_eq!(lab.members(SITE6), None);
}

#[test]
fn another_as_at_the_same_address_does_not_take_over_what_was_kept() {
    nothing_is_taken_over_by(|other| other.peer_asn = 65099);
}
