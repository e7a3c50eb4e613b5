//! Who learns what from whom.

use super::*;
use crate::bgp::{SessionStatus, State, wire::community};

const SITE: &str = "10.250.0.0/16";
const SDWAN: &str = "10.1.10.4";
const FW: &str = "10.1.20.4";

#[test]
fn every_peer_is_sent_the_networks_prefixes_with_its_instances_next_hop() {
    let mut lab = Lab::new(&config());
    lab.originate(&["10.1.0.0/16", "fd00:1::/48"]);
    lab.both_up("sdwan");
    lab.settle();
    for (instance, v4, v6) in [
        (1, "10.1.255.4", "fd00:1:0:ff::4"),
        (2, "10.1.255.5", "fd00:1:0:ff::5"),
    ] {
        let v4 = route(&[65515], v4);
        let v6 = route(&[65515], v6);
        assert_eq!(lab.holds("sdwan", instance, "10.1.0.0/16"), Some(&v4));
        assert_eq!(lab.holds("sdwan", instance, "fd00:1::/48"), Some(&v6));
        assert_eq!(lab.far("sdwan", instance).ended, Family::ALL);
    }
}

#[test]
fn ipv6_prefixes_need_an_instance_with_an_ipv6_address() {
    let mut config = config();
    config.instances[1].addresses.pop();
    let mut lab = Lab::new(&config);
    lab.originate(&["10.1.0.0/16", "fd00:1::/48"]);
    lab.both_up("sdwan");
    lab.settle();
    assert!(lab.holds("sdwan", 1, "fd00:1::/48").is_some());
    assert!(lab.holds("sdwan", 2, "fd00:1::/48").is_none());
    assert!(lab.holds("sdwan", 2, "10.1.0.0/16").is_some());
    assert!(!lab.warnings("sdwan", 1).contains("not advertised"));
    let warnings = lab.warnings("sdwan", 2);
    assert!(
        warnings.contains("not advertised: fd00:1::/48"),
        "{warnings}"
    );
}

#[test]
fn routes_of_one_nva_are_reflected_to_the_others_and_their_next_hop_kept() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw", "vpn"] {
        lab.both_up(peer);
    }
    let sent = PathAttributes {
        med: Some(5),
        local_pref: Some(300),
        communities: vec![65010 << 16 | 7],
        ..route(&[65010, 65011], "10.1.10.200")
    };
    lab.announce_to_both("sdwan", &[SITE], &sent);
    lab.settle();
    let reflected = PathAttributes {
        med: Some(5),
        communities: vec![65010 << 16 | 7],
        ..route(&[65515, 65010, 65011], "10.1.10.200")
    };
    for instance in [1, 2] {
        assert_eq!(lab.holds("fw", instance, SITE), Some(&reflected));
        assert_eq!(lab.holds("vpn", instance, SITE), Some(&reflected));
        assert_eq!(
            lab.holds("sdwan", instance, SITE),
            None,
            "never back to its source"
        );
    }
    let third_party = "10.1.10.200".parse().unwrap();
    assert_eq!(lab.members(SITE), Some(vec![third_party]));
}

#[test]
fn a_route_announced_to_one_instance_goes_out_by_both_and_not_back() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_some());
    assert!(lab.holds("fw", 2, SITE).is_some());
    assert!(
        lab.holds("sdwan", 2, SITE).is_none(),
        "the same NVA's other session"
    );
}

#[test]
fn an_nva_named_as_next_hop_by_another_is_not_sent_the_route() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw", "vpn"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], FW));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert!(lab.holds("vpn", 1, SITE).is_some());
}

#[test]
fn nvas_of_one_asn_are_still_sent_each_others_routes_and_it_is_said_that_they_drop_them() {
    let mut lab = Lab::new(&config());
    for peer in ["fw", "fw2"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("fw", &["0.0.0.0/0"], &route(&[65020], FW));
    lab.settle();
    assert!(lab.holds("fw2", 1, "0.0.0.0/0").is_some());
    assert!(lab.warnings("fw2", 1).contains("shares ASN 65020 with fw"));
}

#[test]
fn of_many_peers_of_one_asn_each_is_told_a_few_and_how_many_more_there_are() {
    let mut config = config();
    config.peers.clear();
    for number in 0..60 {
        let name = format!("nva{number:02}");
        config
            .peers
            .push(peer(&name, [10, 1, 10, 4 + number], 65020));
    }
    let lab = Lab::new(&config);
    let shares = "shares ASN 65020 with nva01, nva02, nva03, nva04, nva05 and 54 more:";
    assert!(lab.warnings("nva00", 1).contains(shares));
    let shares = "shares ASN 65020 with nva00, nva01, nva02, nva03, nva04 and 54 more:";
    assert!(lab.warnings("nva59", 2).contains(shares));
    config.peers.truncate(6);
    let lab = Lab::new(&config);
    let shares = "shares ASN 65020 with nva01, nva02, nva03, nva04, nva05:";
    assert!(lab.warnings("nva00", 1).contains(shares));
}

#[test]
fn without_reflection_nvas_are_sent_the_networks_prefixes_only() {
    let mut lab = Lab::new(&config::RouteServer {
        reflect_between_nvas: false,
        ..config()
    });
    lab.originate(&["10.1.0.0/16"]);
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert!(lab.holds("fw", 1, "10.1.0.0/16").is_some());
    assert!(lab.members(SITE).is_some(), "subnets learn it");
}

#[test]
fn a_learned_prefix_that_is_originated_here_is_not_advertised() {
    let mut lab = Lab::new(&config());
    lab.originate(&["10.1.0.0/16"]);
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &["10.1.0.0/16"], &route(&[65010], SDWAN));
    lab.settle();
    let own = route(&[65515], "10.1.255.4");
    assert_eq!(lab.holds("fw", 1, "10.1.0.0/16"), Some(&own));
    let (state, reason) = lab.state("sdwan", 1, "10.1.0.0/16");
    assert_eq!(state, "best");
    assert!(reason.contains("not advertised"), "{reason}");
}

#[test]
fn a_looped_path_is_seen_with_its_reason_and_goes_nowhere() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010, 65515], SDWAN));
    lab.settle();
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "rejected");
    assert!(reason.contains("65515"), "{reason}");
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
    let rows = lab.server.peer_rows(lab.now);
    assert_eq!((rows[0].received, rows[0].accepted), (1, 0));
}

#[test]
fn a_good_path_replaced_by_a_refused_one_is_withdrawn() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_some());
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010, 0], SDWAN));
    lab.settle();
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert_eq!(lab.members(SITE), None);
    let (state, reason) = lab.state("sdwan", 1, SITE);
    assert_eq!(state, "rejected");
    assert!(reason.contains("treated as withdrawn: AS 0"), "{reason}");
}

#[test]
fn an_unresolvable_next_hop_leads_nowhere_until_there_is_a_better_one() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], "10.9.0.4"));
    lab.settle();
    assert_eq!(lab.members(SITE), Some(vec![]), "next hop none");
    assert!(lab.holds("fw", 1, SITE).is_none());

    lab.announce_to_both("fw", &[SITE], &route(&[65020, 65021, 65022], FW));
    lab.settle();
    assert_eq!(lab.members(SITE), Some(vec![FW.parse().unwrap()]));
}

#[test]
fn no_advertise_is_for_subnets_only() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    let path = PathAttributes {
        communities: vec![community::NO_ADVERTISE],
        ..route(&[65010], SDWAN)
    };
    lab.announce_to_both("sdwan", &[SITE], &path);
    lab.settle();
    assert!(lab.members(SITE).is_some());
    assert!(lab.holds("fw", 1, SITE).is_none());
}

#[test]
fn graceful_shutdown_makes_a_path_the_last_choice_and_is_passed_on() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw", "vpn"] {
        lab.both_up(peer);
    }
    let leaving = PathAttributes {
        communities: vec![community::GRACEFUL_SHUTDOWN],
        ..route(&[65010], SDWAN)
    };
    lab.announce_to_both("sdwan", &[SITE], &leaving);
    lab.settle();
    let passed_on = lab.holds("vpn", 1, SITE).unwrap();
    assert_eq!(passed_on.communities, [community::GRACEFUL_SHUTDOWN]);
    lab.announce_to_both("fw", &[SITE], &route(&[65020, 65021, 65022], FW));
    lab.settle();
    assert_eq!(lab.members(SITE), Some(vec![FW.parse().unwrap()]));
}

#[test]
fn equal_paths_of_several_nvas_share_the_traffic() {
    let mut lab = Lab::new(&config());
    for (peer, address) in [("fw", FW), ("fw2", "10.1.20.5")] {
        lab.both_up(peer);
        lab.announce_to_both(peer, &["0.0.0.0/0"], &route(&[65020], address));
    }
    lab.settle();
    let both = [FW, "10.1.20.5"].map(|address| address.parse().unwrap());
    assert_eq!(lab.members("0.0.0.0/0"), Some(both.to_vec()));
    let states = [("fw", 1), ("fw", 2), ("fw2", 1), ("fw2", 2)];
    let states = states.map(|(peer, instance)| lab.state(peer, instance, "0.0.0.0/0").0);
    assert_eq!(states, ["best", "lost", "multipath", "lost"]);
}

#[test]
fn losing_one_instance_changes_nothing() {
    let mut lab = Lab::new(&config());
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    lab.down("sdwan", 1);
    assert_eq!(lab.server.take_reports(lab.now), []);
    assert!(lab.server.take_commands(lab.now).is_empty());
    lab.down("sdwan", 2);
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
}

#[test]
fn an_nva_that_peers_with_one_instance_only_is_flagged() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 2);
    for instance in [1, 2] {
        let warnings = lab.warnings("sdwan", instance);
        assert!(
            warnings.contains("peers with instance 2 only"),
            "{warnings}"
        );
    }
    lab.up("sdwan", 1);
    assert_eq!(lab.warnings("sdwan", 1), "");
}

#[test]
fn an_nva_that_tells_the_instances_different_things_is_flagged() {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    lab.announce_to_both("sdwan", &[SITE, "10.251.0.0/16"], &route(&[65010], SDWAN));
    assert_eq!(lab.warnings("sdwan", 1), "");

    // What one instance told it comes back to the other, and is rejected there as a loop.
    lab.announce("sdwan", 2, &["10.1.0.0/16"], &route(&[65010, 65515], SDWAN));
    assert_eq!(lab.warnings("sdwan", 1), "");

    lab.announce("sdwan", 2, &[SITE], &route(&[65010, 65010], SDWAN));
    for instance in [1, 2] {
        let warnings = lab.warnings("sdwan", instance);
        assert!(
            warnings.contains("announces other routes to instance"),
            "{warnings}"
        );
    }
    lab.announce("sdwan", 1, &[SITE], &route(&[65010, 65010], SDWAN));
    assert_eq!(lab.warnings("sdwan", 1), "");
}

#[test]
fn a_session_over_its_limit_is_torn_down_and_rests_for_longer_each_time() {
    let mut lab = Lab::new(&limited(2, LimitAction::Teardown));
    lab.up("sdwan", 1);
    lab.up("fw", 1);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for rest in [minutes(15), minutes(30), minutes(60)] {
        lab.announce(
            "sdwan",
            1,
            &["10.2.0.0/16", "10.3.0.0/16"],
            &route(&[65010], SDWAN),
        );
        lab.settle();
        assert_eq!(lab.far("fw", 1).holds.len(), 2);
        lab.announce("sdwan", 1, &["10.4.0.0/16"], &route(&[65010], SDWAN));
        lab.announce("sdwan", 1, &["10.5.0.0/16"], &route(&[65010], SDWAN));
        lab.settle();
        let (id, notification, idle) = lab.shutdowns.pop().expect("torn down");
        assert_eq!((id, idle), (lab.id("sdwan", 1), Some(rest)));
        // AFI, SAFI and the limit (RFC 4486 §4).
        assert_eq!((notification.code, notification.subcode), (6, 1));
        assert_eq!(notification.data, [0, 1, 1, 0, 0, 0, 2]);
        assert!(lab.shutdowns.is_empty(), "once");
        assert_eq!(
            lab.far("fw", 1).holds.len(),
            0,
            "its routes are gone at once"
        );
        lab.up("sdwan", 1);
    }
}

#[test]
fn a_session_that_is_not_to_restart_stays_down_until_its_limit_is_raised() {
    let mut settings = limited(2, LimitAction::Teardown);
    settings.peers[0].limit_restart = false;
    let mut lab = Lab::new(&settings);
    lab.up("sdwan", 1);
    let nets = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"];
    lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
    lab.settle();
    let (id, _, idle) = lab.shutdowns.pop().expect("torn down");
    assert_eq!(idle, None, "until it is started");

    lab.reconfigure(&settings);
    assert_eq!(lab.server.take_woken(), [], "nothing changed for it");
    settings.peers[0].max_prefixes = 3;
    lab.reconfigure(&settings);
    assert_eq!(lab.server.take_woken(), [id]);
    settings.peers[0].max_prefixes = 4;
    lab.reconfigure(&settings);
    assert_eq!(lab.server.take_woken(), [], "it rests no longer");
}

#[test]
fn the_whole_update_counts_before_the_limit_does() {
    let mut lab = Lab::new(&limited(2, LimitAction::Teardown));
    lab.up("sdwan", 1);
    let [old, new] = [
        ["10.2.0.0/16", "10.3.0.0/16"],
        ["10.4.0.0/16", "10.5.0.0/16"],
    ];
    let nlri = |nets: [&str; 2]| nets.iter().map(|net| prefix(net).into()).collect();
    lab.announce("sdwan", 1, &old, &route(&[65010], SDWAN));
    // Announced again with other attributes, and exchanged for as many others.
    lab.announce("sdwan", 1, &old, &route(&[65010, 65011], SDWAN));
    let attributes = Arc::new(route(&[65010], SDWAN));
    let exchange = vec![
        RouteChange::Announce {
            attributes,
            nlri: nlri(new),
        },
        RouteChange::Withdraw {
            nlri: nlri(old),
            malformed: None,
        },
    ];
    lab.send("sdwan", 1, exchange);
    lab.settle();
    assert!(lab.shutdowns.is_empty());
    assert_eq!(lab.learned.len(), 2);
}

#[test]
fn families_are_limited_each_by_itself() {
    let mut lab = Lab::new(&limited(2, LimitAction::Teardown));
    lab.up("sdwan", 1);
    lab.announce(
        "sdwan",
        1,
        &["10.2.0.0/16", "10.3.0.0/16"],
        &route(&[65010], SDWAN),
    );
    let v6 = route(&[65010], "fd00:1:0:a::4");
    lab.announce("sdwan", 1, &["2001:db8:2::/48", "2001:db8:3::/48"], &v6);
    lab.settle();
    assert!(lab.shutdowns.is_empty());
    assert_eq!(lab.learned.len(), 4);
}

#[test]
fn discard_refuses_what_is_beyond_the_limit_and_keeps_the_rest() {
    let mut lab = Lab::new(&limited(2, LimitAction::Discard));
    lab.up("sdwan", 1);
    let nets = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"];
    lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
    lab.settle();
    let learned: Vec<String> = lab.learned.keys().map(IpNet::to_string).collect();
    assert_eq!(learned, nets[..2]);
    assert!(lab.shutdowns.is_empty());
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("1 IPv4 routes were refused"),
        "{warnings}"
    );
}

#[test]
fn who_asks_for_the_routes_to_an_address_hears_of_those_that_were_refused() {
    let mut lab = Lab::new(&limited(2, LimitAction::Discard));
    lab.up("sdwan", 1);
    let nets = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"];
    lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
    lab.settle();
    let refused = |lab: &Lab, address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let covering = (0..=32).rev().map(|length| IpNet::new(address, length));
        let covering: Vec<_> = covering.map(|prefix| prefix.unwrap().trunc()).collect();
        let rows = lab.server.refused_routes(address, &covering).into_iter();
        let told = rows.map(|row| {
            (
                row.peer.to_string(),
                row.instance,
                row.prefix,
                row.max_prefixes,
            )
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(refused(&lab, "10.3.0.1"), []);
    assert_eq!(
        refused(&lab, "10.4.0.1"),
        [("sdwan".to_owned(), 1, Some(prefix("10.4.0.0/16")), 2)]
    );
}

#[test]
fn warn_takes_everything_and_says_so() {
    let mut lab = Lab::new(&limited(5, LimitAction::Warn));
    lab.up("sdwan", 1);
    let announce = |lab: &mut Lab, nets: &[&str]| {
        lab.announce("sdwan", 1, nets, &route(&[65010], SDWAN));
        lab.warnings("sdwan", 1)
    };
    let warnings = announce(&mut lab, &["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]);
    assert!(!warnings.contains("IPv4 routes"), "{warnings}");
    let warnings = announce(&mut lab, &["10.5.0.0/16"]);
    assert!(
        warnings.contains("announces 4 IPv4 routes of at most 5"),
        "{warnings}"
    );
    let warnings = announce(&mut lab, &["10.6.0.0/16", "10.7.0.0/16"]);
    assert!(warnings.contains("more than the 5 allowed"), "{warnings}");
    lab.settle();
    assert_eq!(lab.learned.len(), 6);
}

#[test]
fn malformed_routes_are_withdrawn_and_the_row_says_why() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    let withdraw = RouteChange::Withdraw {
        nlri: vec![prefix(SITE).into()],
        malformed: Some("ORIGIN is missing".into()),
    };
    lab.send("sdwan", 1, vec![withdraw]);
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    let warnings = lab.warnings("sdwan", 1);
    assert!(
        warnings.contains("1 prefixes treated as withdrawn"),
        "{warnings}"
    );
    assert!(warnings.contains("ORIGIN is missing"), "{warnings}");
}

#[test]
fn synchronised_is_when_every_session_has_sent_end_of_rib_for_every_family() {
    let mut config = config();
    config.peers.truncate(1);
    let mut lab = Lab::new(&config);
    lab.settle();
    let ended = |family| vec![RouteChange::EndOfRib(family)];
    assert!(!lab.server.synchronised(), "before any session is up");
    lab.both_up("sdwan");
    lab.send("sdwan", 1, ended(Family::Ipv4Unicast));
    lab.send("sdwan", 1, ended(Family::Ipv6Unicast));
    lab.send("sdwan", 2, ended(Family::Ipv4Unicast));
    assert!(!lab.server.synchronised());
    lab.send("sdwan", 2, ended(Family::Ipv6Unicast));
    assert!(lab.server.synchronised());
    lab.down("sdwan", 1);
    assert!(
        lab.server.synchronised(),
        "what it had sent is gone, not unknown"
    );
}

#[test]
fn rows_tell_the_whole_story() {
    let mut lab = Lab::new(&config());
    lab.originate(&["10.1.0.0/16"]);
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    let status = SessionStatus {
        state: State::Established,
        since: Some(lab.now),
        established_count: 1,
        ..SessionStatus::default()
    };
    let id = lab.id("sdwan", 1);
    lab.server
        .handle(SessionEvent::Status { id, status }, lab.now);
    lab.announce_to_both("sdwan", &[SITE], &route(&[65010], SDWAN));
    lab.announce_to_both("fw", &[SITE], &route(&[65020, 65021], FW));
    lab.settle();

    let rows = lab.server.peer_rows(lab.now + Duration::from_secs(3));
    assert_eq!(rows.len(), 8, "4 peers with 2 instances");
    let sdwan = &rows[0];
    assert_eq!((sdwan.peer.as_str(), sdwan.instance), ("sdwan", 1));
    assert_eq!(sdwan.connection, "Connected");
    assert_eq!(sdwan.since_seconds, Some(3.0));
    assert_eq!(
        (sdwan.received, sdwan.accepted, sdwan.advertised),
        (1, 1, 2)
    );
    let vpn = rows.iter().find(|row| row.peer.as_str() == "vpn").unwrap();
    assert_eq!(vpn.connection, "Unknown");

    assert_eq!(
        lab.state("fw", 1, SITE),
        ("lost".into(), "longer AS path".into())
    );
    let advertised = lab.server.advertised_rows(&Filter {
        peer: Some("sdwan".into()),
        instance: Some(InstanceId(2)),
        ..Filter::default()
    });
    let seen: Vec<_> = advertised
        .iter()
        .map(|row| {
            (
                row.prefix.to_string(),
                row.from.as_str(),
                row.as_path.as_str(),
            )
        })
        .collect();
    let expected = [
        ("10.1.0.0/16".to_owned(), "originated", "65515"),
        (SITE.to_owned(), "fw", "65515 65020 65021"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn events_of_unknown_sessions_and_routes_of_sessions_that_are_down_are_ignored() {
    let mut lab = Lab::new(&config());
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    let id = SessionId {
        peer: IpAddr::from([192, 0, 2, 1]),
        ..lab.id("sdwan", 1)
    };
    let family = Family::Ipv4Unicast;
    lab.server
        .handle(SessionEvent::RefreshRequested { id, family }, lab.now);
    lab.settle();
    assert!(lab.learned.is_empty());
}

#[test]
fn a_session_that_comes_up_anew_starts_without_routes() {
    let mut lab = Lab::new(&config());
    lab.up("fw", 1);
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    lab.up("sdwan", 1);
    lab.settle();
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
}

fn limited(max_prefixes: u32, limit_action: LimitAction) -> config::RouteServer {
    let mut config = config();
    config.peers[0].max_prefixes = max_prefixes;
    config.peers[0].limit_action = limit_action;
    config
}
