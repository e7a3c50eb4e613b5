//! Routes announced again: by us, by peers, and what is asked for when there is room again.

use super::*;
use crate::bgp::wire::GracefulRestart;

const SDWAN: &str = "10.1.10.4";
const NETS: [&str; 5] = [
    "10.2.0.0/16",
    "10.3.0.0/16",
    "10.4.0.0/16",
    "10.5.0.0/16",
    "10.6.0.0/16",
];
const V4: Family = Family::Ipv4Unicast;
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_refresh_lies_between_its_markers_if_the_peer_knows_them() {
    for enhanced in [false, true] {
        let mut lab = Lab::new(&config());
        lab.up("sdwan", 1);
        lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
        let (id, mut negotiated) = lab.negotiated("fw", 1);
        negotiated.enhanced_route_refresh = enhanced;
        lab.up_with(id.clone(), negotiated);
        lab.settle();
        let asked = SessionEvent::RefreshRequested { id, family: V4 };
        lab.server.handle(asked, lab.now);
        // What goes meanwhile is not announced again.
        lab.withdraw("sdwan", 1, &NETS[..1]);
        lab.settle();
        let far = lab.far("fw", 1);
        let markers = usize::from(enhanced);
        assert_eq!(far.refreshed, (markers, markers));
        assert_eq!((far.holds.len(), far.announced), (4, 9));
    }
}

#[test]
fn a_refresh_that_is_asked_for_during_the_first_dump_begins_after_its_end_of_rib() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    let (id, mut negotiated) = lab.negotiated("fw", 1);
    negotiated.enhanced_route_refresh = true;
    lab.up_with(id.clone(), negotiated);
    let asked = SessionEvent::RefreshRequested { id, family: V4 };
    lab.server.handle(asked, lab.now);
    while lab.far("fw", 1).refreshed.0 == 0 {
        lab.server.on_timeout(lab.now);
        lab.deliver();
        let far = lab.far("fw", 1);
        assert!(far.refreshed.0 == 0 || far.ended == Family::ALL);
    }
}

#[test]
fn a_refresh_asked_for_before_anything_is_sent_ends_with_its_session() {
    let mut lab = Lab::new(&config());
    lab.server.defer_selection(lab.now + MINUTE);
    let (id, mut negotiated) = lab.negotiated("fw", 1);
    negotiated.peer.graceful_restart = Some(GracefulRestart::default());
    lab.up_with(id.clone(), negotiated);
    let asked = SessionEvent::RefreshRequested { id, family: V4 };
    lab.server.handle(asked, lab.now);
    lab.down("fw", 1);
    lab.settle();
    lab.up("fw", 1);
    lab.now += MINUTE;
    lab.settle();
    let far = lab.far("fw", 1);
    assert_eq!((far.refreshed, &far.ended[..]), ((0, 0), &Family::ALL[..]));
}

#[test]
fn rfc7313_4_a_refresh_before_end_of_rib_of_a_restarting_peer_is_none() {
    for restarts in [true, false] {
        let mut lab = Lab::new(&config());
        let (id, mut negotiated) = lab.negotiated("sdwan", 1);
        let restart = GracefulRestart::default();
        negotiated.peer.graceful_restart = restarts.then_some(restart);
        lab.up_with(id, negotiated);
        let received = |lab: &Lab| lab.server.peer_rows(lab.now)[0].received;
        lab.announce("sdwan", 1, &NETS[..2], &route(&[65010], SDWAN));
        lab.refreshes("sdwan", 1, V4, false);
        lab.announce("sdwan", 1, &NETS[2..], &route(&[65010], SDWAN));
        lab.refreshes("sdwan", 1, V4, true);
        assert_eq!(received(&lab), if restarts { 5 } else { 3 });
        lab.send("sdwan", 1, vec![RouteChange::EndOfRib(V4)]);
        lab.refreshes("sdwan", 1, V4, false);
        lab.announce("sdwan", 1, &NETS[..1], &route(&[65010], SDWAN));
        lab.refreshes("sdwan", 1, V4, true);
        assert_eq!(received(&lab), 1);
    }
}

#[test]
fn a_limit_counts_and_refuses_only_what_was_announced_again() {
    let mut lab = Lab::new(&discarding(3));
    lab.up("sdwan", 1);
    lab.up("fw", 1);
    lab.announce("sdwan", 1, &NETS[2..], &route(&[65010], SDWAN));
    lab.refreshes("sdwan", 1, V4, false);
    let others = ["10.0.0.0/16", "10.2.0.0/16", "10.3.0.0/16"];
    lab.announce("sdwan", 1, &others, &route(&[65010], SDWAN));
    lab.announce("sdwan", 1, &NETS[2..3], &route(&[65010], SDWAN));
    lab.refreshes("sdwan", 1, V4, true);
    lab.settle();
    let learned: Vec<String> = lab.learned.keys().map(IpNet::to_string).collect();
    assert_eq!(learned, others);
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("1 IPv4 routes were refused"),
        "{warnings}"
    );
}

#[test]
fn what_comes_last_is_refused_also_where_the_refused_is_announced_again_first() {
    let mut lab = Lab::new(&discarding(2));
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &NETS[..3], &route(&[65010], SDWAN));
    let learned = |lab: &mut Lab| -> Vec<String> {
        lab.settle();
        lab.learned.keys().map(IpNet::to_string).collect()
    };
    assert_eq!(learned(&mut lab), NETS[..2]);
    for path in [&[65010][..], &[65010, 65011]] {
        lab.refreshes("sdwan", 1, V4, false);
        for net in [NETS[2], NETS[0], NETS[1]] {
            lab.announce("sdwan", 1, &[net], &route(path, SDWAN));
        }
        lab.refreshes("sdwan", 1, V4, true);
        assert_eq!(learned(&mut lab), [NETS[0], NETS[2]]);
        lab.refreshes("sdwan", 1, V4, false);
        lab.announce("sdwan", 1, &NETS[..2], &route(path, SDWAN));
        lab.refreshes("sdwan", 1, V4, true);
        assert_eq!(learned(&mut lab), NETS[..2]);
    }
}

#[test]
fn refreshes_that_never_end_do_not_pile_up_routes_beyond_twice_the_limit() {
    for action in [LimitAction::Discard, LimitAction::Teardown] {
        let mut config = discarding(3);
        config.peers[0].limit_action = action;
        let mut lab = Lab::new(&config);
        lab.up("sdwan", 1);
        for round in 0..8 {
            let nets: Vec<String> = (0..3).map(|n| format!("10.{round}.{n}.0/24")).collect();
            let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
            lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
            let received = lab.server.peer_rows(lab.now)[0].received;
            assert!((3..=6).contains(&received), "{received} in round {round}");
            lab.refreshes("sdwan", 1, V4, false);
        }
        lab.refreshes("sdwan", 1, V4, true);
        lab.settle();
        assert!(lab.shutdowns.is_empty());
    }
}

#[test]
fn what_a_peer_does_not_announce_again_is_gone_when_it_says_so() {
    let mut lab = with_routes(&config());
    let v6 = route(&[65010], "fd00:1:0:a::4");
    lab.announce("sdwan", 1, &["2001:db8::/32"], &v6);
    lab.settle();
    lab.refreshes("sdwan", 1, V4, false);
    lab.announce("sdwan", 1, &NETS[..2], &route(&[65010], SDWAN));
    lab.announce("sdwan", 1, &["10.9.0.0/16"], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.learned.len(), 7, "nothing is gone before the end");
    assert_eq!(lab.far("fw", 1).withdrawn, 0);
    lab.refreshes("sdwan", 1, V4, true);
    lab.settle();
    let learned: Vec<String> = lab.learned.keys().map(IpNet::to_string).collect();
    let expected = ["10.2.0.0/16", "10.3.0.0/16", "10.9.0.0/16", "2001:db8::/32"];
    assert_eq!(learned, expected);
    assert_eq!(lab.far("fw", 1).withdrawn, 3);
    assert_eq!(
        lab.far("fw", 1).announced,
        7,
        "what came again was not sent"
    );
}

#[test]
fn a_refresh_that_begins_again_begins_anew_and_an_end_without_a_beginning_is_none() {
    let mut lab = with_routes(&config());
    lab.refreshes("sdwan", 1, V4, true);
    lab.settle();
    assert_eq!(lab.learned.len(), 5);
    lab.refreshes("sdwan", 1, V4, false);
    lab.announce("sdwan", 1, &NETS[..3], &route(&[65010], SDWAN));
    lab.refreshes("sdwan", 1, V4, false);
    lab.announce("sdwan", 1, &NETS[4..], &route(&[65010], SDWAN));
    lab.refreshes("sdwan", 1, V4, true);
    lab.settle();
    let learned: Vec<String> = lab.learned.keys().map(IpNet::to_string).collect();
    assert_eq!(learned, NETS[4..]);
}

#[test]
fn a_refresh_that_never_ends_is_ended_by_its_timer() {
    let mut lab = with_routes(&config::RouteServer {
        refresh_time: 120,
        ..config()
    });
    let start = lab.now;
    lab.refreshes("sdwan", 1, V4, false);
    lab.now = start + MINUTE;
    lab.settle();
    // Begun again: the time runs anew.
    lab.refreshes("sdwan", 1, V4, false);
    lab.announce("sdwan", 1, &NETS[..1], &route(&[65010], SDWAN));
    lab.now = start + 2 * MINUTE;
    lab.settle();
    assert_eq!(lab.learned.len(), 5);
    assert_eq!(lab.server.next_timeout(), Some(start + 3 * MINUTE));
    lab.now = start + 3 * MINUTE;
    lab.settle();
    assert_eq!(lab.learned.len(), 1);
    assert_eq!(lab.server.next_timeout(), None);
}

#[test]
fn a_flood_of_beginnings_is_ignored() {
    let mut lab = with_routes(&config());
    for _ in 0..10 {
        lab.refreshes("sdwan", 1, V4, false);
        lab.announce("sdwan", 1, &NETS[..1], &route(&[65010], SDWAN));
        lab.refreshes("sdwan", 1, V4, true);
    }
    assert_eq!(lab.server.peer_rows(lab.now)[0].received, 1);
    lab.refreshes("sdwan", 1, V4, false);
    lab.refreshes("sdwan", 1, V4, true);
    assert_eq!(lab.server.peer_rows(lab.now)[0].received, 1, "ignored");
    lab.now += Duration::from_secs(1);
    lab.refreshes("sdwan", 1, V4, false);
    lab.refreshes("sdwan", 1, V4, true);
    assert_eq!(lab.server.peer_rows(lab.now)[0].received, 0);
}

#[test]
fn a_session_that_ends_takes_its_refresh_with_it() {
    let mut lab = with_routes(&config());
    lab.refreshes("sdwan", 1, V4, false);
    lab.down("sdwan", 1);
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.server.next_timeout(), None);
    lab.refreshes("sdwan", 1, V4, true);
    lab.settle();
    assert_eq!(lab.learned.len(), 5);
}

#[test]
fn a_peer_is_asked_for_its_routes_if_it_takes_such_requests() {
    let mut lab = Lab::new(&config());
    let id = lab.id("sdwan", 1);
    assert_eq!(lab.server.request_refresh(&id, V4), Err(RefreshError::Down));
    let (_, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.families = vec![V4];
    lab.up_with(id.clone(), negotiated.clone());
    assert_eq!(lab.server.request_refresh(&id, V4), Ok(()));
    let v6 = Family::Ipv6Unicast;
    assert_eq!(
        lab.server.request_refresh(&id, v6),
        Err(RefreshError::Family(v6))
    );
    lab.settle();
    assert_eq!(lab.requests, [(id.clone(), V4)]);

    negotiated.route_refresh = false;
    lab.up_with(id.clone(), negotiated);
    assert_eq!(
        lab.server.request_refresh(&id, V4),
        Err(RefreshError::NotAnnounced)
    );
}

#[test]
fn refused_routes_are_counted_once_and_asked_for_when_there_is_room() {
    let mut lab = with_routes(&discarding(3));
    let id = lab.id("sdwan", 1);
    assert!(
        lab.warnings("sdwan", 1)
            .contains("2 IPv4 routes were refused")
    );
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.settle();
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("2 IPv4 routes were refused"),
        "{warnings}"
    );
    assert_eq!(lab.requests, []);

    lab.withdraw("sdwan", 1, &NETS[..1]);
    lab.settle();
    assert_eq!(lab.requests, [(id.clone(), V4)]);
    lab.announce("sdwan", 1, &NETS[1..], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.learned.len(), 3);
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("1 IPv4 routes were refused"),
        "{warnings}"
    );

    // Room again soon after: it is asked, but not before its time.
    lab.withdraw("sdwan", 1, &NETS[1..2]);
    lab.settle();
    assert_eq!(lab.requests.len(), 1);
    lab.now += MINUTE;
    lab.settle();
    assert_eq!(lab.requests.len(), 2);
    lab.announce("sdwan", 1, &NETS[2..], &route(&[65010], SDWAN));
    lab.settle();
    let warnings = lab.warnings("sdwan", 1);
    assert!(!warnings.contains("refused"), "{warnings}");
    lab.now += 10 * MINUTE;
    lab.settle();
    assert_eq!(lab.requests.len(), 2, "there is nothing left to ask for");
}

#[test]
fn a_refused_route_that_is_withdrawn_is_not_refused_any_more() {
    let mut lab = with_routes(&discarding(3));
    lab.withdraw("sdwan", 1, &NETS[3..]);
    lab.settle();
    assert!(!lab.warnings("sdwan", 1).contains("refused"));
    lab.withdraw("sdwan", 1, &NETS[..1]);
    lab.settle();
    assert_eq!(lab.requests, []);
}

#[test]
fn a_lowered_limit_refuses_the_last_routes_and_a_raised_one_asks_for_them() {
    let mut lab = with_routes(&discarding(5));
    let now = lab.now;
    let lower = |lab: &mut Lab, max| {
        lab.server.reconfigure(&discarding(max), &around(), now);
        lab.settle();
    };
    lower(&mut lab, 2);
    let learned: Vec<String> = lab.learned.keys().map(IpNet::to_string).collect();
    assert_eq!(learned, NETS[..2]);
    assert!(lab.shutdowns.is_empty());
    assert!(
        lab.warnings("sdwan", 1)
            .contains("3 IPv4 routes were refused")
    );
    assert_eq!(lab.requests, []);
    lower(&mut lab, 4);
    assert_eq!(lab.requests.len(), 1);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.learned.len(), 4);
    assert!(
        lab.warnings("sdwan", 1)
            .contains("1 IPv4 routes were refused")
    );
}

#[test]
fn routes_refused_before_the_limit_only_warned_are_asked_for_once() {
    let mut lab = with_routes(&discarding(3));
    let mut warning = discarding(3);
    warning.peers[0].limit_action = LimitAction::Warn;
    lab.server.reconfigure(&warning, &around(), lab.now);
    lab.settle();
    assert_eq!(lab.requests.len(), 1);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.learned.len(), 5);
    assert!(!lab.warnings("sdwan", 1).contains("refused"));
    lab.now += 10 * MINUTE;
    lab.settle();
    assert_eq!(lab.requests.len(), 1);
}

#[test]
fn a_peer_that_cannot_be_asked_is_not_and_the_row_says_what_to_do() {
    let mut lab = Lab::new(&discarding(3));
    let (id, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.route_refresh = false;
    lab.up_with(id, negotiated);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.withdraw("sdwan", 1, &NETS[..2]);
    lab.settle();
    assert_eq!(lab.requests, []);
    let warnings = lab.warnings("sdwan", 1);
    assert!(warnings.contains("clear the session"), "{warnings}");
}

#[test]
fn each_path_of_a_prefix_counts_and_is_shown_with_its_identifier() {
    let mut lab = Lab::new(&discarding(3));
    let (id, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.add_path_receive = Family::ALL.to_vec();
    lab.up_with(id, negotiated);
    for (path_id, next_hop) in [(7, "10.1.10.4"), (8, "10.1.10.5"), (9, "10.1.10.6")] {
        lab.announce_path("sdwan", 1, NETS[0], path_id, &route(&[65010], next_hop));
    }
    lab.announce_path("sdwan", 1, NETS[1], 7, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.members(NETS[0]).map(|members| members.len()), Some(3));
    assert_eq!(
        lab.members(NETS[1]),
        None,
        "the fourth path is one too many"
    );
    let rows = lab.server.learned_rows(&Filter::default(), lab.now);
    let ids: Vec<_> = rows.iter().map(|row| row.path_id).collect();
    assert_eq!(ids, [Some(7), Some(8), Some(9)]);
    let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states, ["best", "multipath", "multipath"]);
}

#[test]
fn instances_may_be_told_the_same_paths_under_different_identifiers() {
    let mut lab = Lab::new(&config());
    for instance in [1, 2] {
        let (id, mut negotiated) = lab.negotiated("sdwan", instance);
        negotiated.add_path_receive = Family::ALL.to_vec();
        lab.up_with(id, negotiated);
        let path_id = 100 + u32::from(instance);
        lab.announce_path("sdwan", instance, NETS[0], path_id, &route(&[65010], SDWAN));
    }
    lab.settle();
    assert_eq!(lab.warnings("sdwan", 1), "");
}

/// SD-WAN and firewall are up with instance 1, and the SD-WAN announces five routes.
fn with_routes(config: &config::RouteServer) -> Lab {
    let mut lab = Lab::new(config);
    lab.up("sdwan", 1);
    lab.up("fw", 1);
    lab.announce("sdwan", 1, &NETS, &route(&[65010], SDWAN));
    lab.settle();
    lab
}

fn discarding(max_prefixes: u32) -> config::RouteServer {
    let mut config = config();
    config.peers[0].max_prefixes = max_prefixes;
    config.peers[0].limit_action = LimitAction::Discard;
    config
}

impl Lab {
    fn withdraw(&mut self, peer: &str, instance: u8, nets: &[&str]) {
        let withdraw = RouteChange::Withdraw {
            nlri: nets.iter().map(|net| prefix(net).into()).collect(),
            malformed: None,
        };
        self.send(peer, instance, vec![withdraw]);
    }

    fn announce_path(
        &mut self,
        peer: &str,
        instance: u8,
        net: &str,
        path_id: u32,
        attributes: &PathAttributes,
    ) {
        let announce = RouteChange::Announce {
            attributes: Arc::new(attributes.clone()),
            nlri: vec![Nlri {
                path_id,
                ..prefix(net).into()
            }],
        };
        self.send(peer, instance, vec![announce]);
    }
}
