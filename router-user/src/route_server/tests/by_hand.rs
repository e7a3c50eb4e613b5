//! Routes given by hand, and limits of what peers are sent.

use super::{gateways::with_gateways, *};
use crate::{
    config::{CustomAdvertised, CustomLearned, LimitAction, PeerKind, Recipient},
    rib::FITTED,
};

const SDWAN: &str = "10.1.10.4";
const FW: &str = "10.1.20.4";

#[test]
fn static_routes_are_learned_as_if_an_nva_had_announced_them() {
    let mut config = with_gateways();
    config.learned = vec![
        learned_by_hand("10.9.0.0/16", &["10.1.10.4", "10.1.20.4"]),
        learned_by_hand("10.8.0.0/16", &["192.0.2.1"]),
    ];
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "vpn", "er1-10.1.3.4"] {
        lab.both_up(peer);
    }
    lab.settle();
    let both = [SDWAN, FW].map(|address| address.parse().unwrap());
    assert_eq!(lab.members("10.9.0.0/16"), Some(both.to_vec()));
    assert_eq!(lab.members("10.8.0.0/16"), Some(vec![]), "it leads nowhere");
    let held = lab.holds("vpn", 1, "10.9.0.0/16").expect("like an NVA's");
    assert_eq!(held.as_path, route(&[65515], SDWAN).as_path);
    assert_eq!(lab.holds("er1-10.1.3.4", 1, "10.9.0.0/16"), None);
    let rows = lab.server.learned_rows(
        &Filter {
            peer: Some("static".into()),
            ..Filter::default()
        },
        lab.now,
    );
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.prefix.to_string(),
                row.peer.as_str(),
                row.state.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("10.8.0.0/16".into(), "static", "rejected"),
            ("10.9.0.0/16".into(), "static", "best"),
            ("10.9.0.0/16".into(), "static", "multipath"),
        ]
    );
    assert_eq!(rows[1].instance, 0, "it was announced to none");
    let why = rows[1].reason.as_deref();
    assert_eq!(
        why,
        Some("equal paths: lowest router id, then lowest peer address"),
        "there are two"
    );
    assert_eq!(lab.server.received_rows(&Filter::default()).len(), 0);
    let rows = lab.server.advertised_rows(&Filter::default());
    let row = rows.iter().find(|row| row.prefix == prefix("10.9.0.0/16"));
    assert_eq!(row.unwrap().from, "static");

    let before = lab.far("vpn", 1).withdrawn;
    config.learned.truncate(1);
    config.learned[0].next_hops.remove(0);
    lab.reload(&config);
    assert_eq!(lab.members("10.8.0.0/16"), None);
    assert_eq!(lab.members("10.9.0.0/16"), Some(vec![FW.parse().unwrap()]));
    assert_eq!(lab.far("vpn", 1).withdrawn, before, "it is replaced");
}

#[test]
fn what_is_advertised_by_hand_reaches_its_recipients_and_nobody_else() {
    let mut config = with_gateways();
    let advertised = |net: &str, to: &[Recipient]| CustomAdvertised {
        prefix: prefix(net),
        to: to.to_vec(),
        next_hop: None,
        med: None,
        communities: Vec::new(),
    };
    config.advertised = vec![
        CustomAdvertised {
            next_hop: Some(FW.parse().unwrap()),
            med: Some(10),
            ..advertised("10.99.0.0/16", &[Recipient::Kind(PeerKind::Nva)])
        },
        advertised("10.98.0.0/16", &[Recipient::Peer("vpn1".into())]),
        advertised("10.97.0.0/16", &[Recipient::Peer("sdwan".into())]),
    ];
    let mut lab = Lab::new(&config);
    let peers = [
        "sdwan",
        "vpn",
        "er1-10.1.3.4",
        "vpn1-10.1.4.4",
        "vpn1-10.1.4.5",
    ];
    for peer in peers {
        lab.both_up(peer);
    }
    lab.settle();
    let holders = |lab: &Lab, net: &str| -> Vec<&str> {
        let holders = peers
            .iter()
            .filter(|peer| lab.holds(peer, 2, net).is_some());
        holders.copied().collect()
    };
    assert_eq!(holders(&lab, "10.99.0.0/16"), ["sdwan", "vpn"]);
    assert_eq!(
        holders(&lab, "10.98.0.0/16"),
        ["vpn1-10.1.4.4", "vpn1-10.1.4.5"]
    );
    assert_eq!(holders(&lab, "10.97.0.0/16"), ["sdwan"]);
    let expected = PathAttributes {
        med: Some(10),
        ..route(&[65515], FW)
    };
    assert_eq!(lab.holds("sdwan", 2, "10.99.0.0/16"), Some(&expected));
    let own = route(&[65515], "10.1.255.5");
    assert_eq!(lab.holds("sdwan", 2, "10.97.0.0/16"), Some(&own));

    // Another one's routes go, the others are not touched.
    let before: Vec<_> = peers.map(|peer| lab.far(peer, 1).announced).to_vec();
    config.advertised.remove(0);
    lab.reload(&config);
    assert_eq!(holders(&lab, "10.99.0.0/16"), [""; 0]);
    assert_eq!(holders(&lab, "10.97.0.0/16"), ["sdwan"]);
    let after: Vec<_> = peers.map(|peer| lab.far(peer, 1).announced).to_vec();
    assert_eq!(before, after);

    // New recipients in the place of others: those are sent nothing, not even for a moment.
    let to_vpn = [Recipient::Peer("vpn".into())];
    config.advertised[1] = advertised("10.96.0.0/16", &to_vpn);
    config.advertised.push(advertised("10.95.0.0/16", &to_vpn));
    lab.reload(&config);
    assert_eq!(holders(&lab, "10.97.0.0/16"), [""; 0]);
    assert_eq!(holders(&lab, "10.96.0.0/16"), ["vpn"]);
    assert_eq!(lab.far("sdwan", 1).announced, after[0]);
    config.advertised.pop();
    lab.reload(&config);
    assert_eq!(holders(&lab, "10.95.0.0/16"), [""; 0]);
    assert_eq!(holders(&lab, "10.96.0.0/16"), ["vpn"]);
}

#[test]
fn a_default_route_is_originated_towards_those_who_are_to_have_one() {
    let mut config = config();
    config.peers[0].policy.default_originate = true;
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.settle();
    let own = route(&[65515], "10.1.255.4");
    assert_eq!(lab.holds("sdwan", 1, "0.0.0.0/0"), Some(&own));
    assert!(lab.holds("sdwan", 1, "::/0").is_some());
    assert_eq!(lab.holds("fw", 1, "0.0.0.0/0"), None);
    config.peers[0].policy.default_originate = false;
    lab.reload(&config);
    assert_eq!(lab.holds("sdwan", 1, "0.0.0.0/0"), None);
}

#[test]
fn beyond_its_outbound_limit_a_session_is_closed_and_says_why() {
    let mut lab = limited(LimitAction::Teardown);
    lab.announce_to_both(
        "sdwan",
        &["10.3.0.0/16", "10.4.0.0/16"],
        &route(&[65010], SDWAN),
    );
    lab.settle();
    assert_eq!(lab.shutdowns, []);
    assert!(lab.warnings("fw", 1).contains("2 IPv4 routes of at most 2"));
    lab.announce_to_both("sdwan", &["10.5.0.0/16"], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.shutdowns.len(), 2, "both of its sessions");
    let (id, notification, idle) = &lab.shutdowns[0];
    assert_eq!(id.peer, FW.parse::<IpAddr>().unwrap());
    assert_eq!((notification.code, notification.subcode), (6, 1));
    assert_eq!(*idle, Some(Duration::from_secs(15 * 60)));
    let warnings = lab.warnings("fw", 1);
    assert!(
        warnings.contains("was to be sent 3 IPv4 routes, more than the 2"),
        "{warnings}"
    );
    // A higher limit wakes it.
    let mut config = lab.server.config.clone();
    config.peers[1].max_advertised = Some(3);
    lab.reload(&config);
    assert_eq!(lab.server.take_woken().len(), 2);
}

#[test]
fn beyond_its_outbound_limit_a_session_is_sent_the_first_routes_in_order() {
    let mut lab = limited(LimitAction::Discard);
    let send = |lab: &mut Lab, nets: &[&str]| {
        lab.announce_to_both("sdwan", nets, &route(&[65010], SDWAN));
        lab.settle();
    };
    let held = |lab: &Lab| -> Vec<String> {
        let held = lab.far("fw", 1).holds.keys();
        held.map(|nlri| nlri.prefix.to_string()).collect()
    };
    send(&mut lab, &["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"]);
    assert_eq!(held(&lab), ["10.5.0.0/16", "10.6.0.0/16"]);
    send(&mut lab, &["10.4.0.0/16"]);
    assert_eq!(held(&lab), ["10.4.0.0/16", "10.5.0.0/16"]);
    assert!(
        lab.warnings("fw", 1)
            .contains("the first 2 IPv4 routes only")
    );
    let nlri = vec![prefix("10.4.0.0/16").into()];
    let malformed = None;
    for instance in [1, 2] {
        let nlri = nlri.clone();
        lab.send(
            "sdwan",
            instance,
            vec![RouteChange::Withdraw {
                nlri,
                malformed: malformed.clone(),
            }],
        );
    }
    lab.settle();
    lab.now = lab
        .server
        .next_timeout()
        .expect("there is room to be filled");
    lab.settle();
    assert_eq!(held(&lab), ["10.5.0.0/16", "10.6.0.0/16"]);
    // The networks' prefixes are never kept back, and count.
    lab.originate(&["10.9.0.0/16"]);
    lab.settle();
    assert_eq!(held(&lab), ["10.5.0.0/16", "10.9.0.0/16"]);
    lab.originate(&[]);
    lab.settle();
    lab.now = lab.server.next_timeout().expect("there is room again");
    lab.settle();
    assert_eq!(held(&lab), ["10.5.0.0/16", "10.6.0.0/16"]);
    // One that comes up later gets the same, and with a higher limit the rest.
    lab.down("fw", 2);
    lab.up("fw", 2);
    lab.settle();
    let later = &lab.far("fw", 2).holds;
    assert_eq!(later.len(), 2);
    assert_eq!(lab.far("fw", 2).announced, 2, "no more was ever sent");
    let mut config = lab.server.config.clone();
    config.peers[1].max_advertised = Some(10);
    lab.reload(&config);
    assert_eq!(lab.far("fw", 2).holds.len(), 3);
    assert!(!lab.warnings("fw", 2).contains("max_advertised"));
}

#[test]
fn a_peer_with_an_outbound_limit_never_holds_more_not_even_for_one_message() {
    let mut lab = limited(LimitAction::Discard);
    let send = |lab: &mut Lab, nets: &[&str]| {
        lab.announce_to_both("sdwan", nets, &route(&[65010], SDWAN));
        lab.settle();
    };
    send(&mut lab, &["10.5.0.0/16", "10.6.0.0/16"]);
    assert_eq!(lab.far("fw", 1).holds.len(), 2);
    send(&mut lab, &["10.4.0.0/16"]);
    send(&mut lab, &["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    lab.originate(&["10.9.0.0/16"]);
    lab.settle();
    let far = lab.far("fw", 1);
    assert_eq!(far.most, 2);
    let held = far.holds.keys().map(|nlri| nlri.prefix);
    assert!(held.eq([prefix("10.1.0.0/16"), prefix("10.9.0.0/16")]));
    // The same where a limit that only warned becomes one.
    let mut config = lab.server.config.clone();
    config.peers[1].max_advertised = Some(1);
    lab.reload(&config);
    lab.settle();
    assert_eq!(lab.far("fw", 1).holds.len(), 1);
    config.peers[1].max_advertised = None;
    lab.reload(&config);
    lab.settle();
    assert_eq!(lab.far("fw", 1).holds.len(), 7);
    config.peers[1].max_advertised = Some(2);
    lab.reload(&config);
    lab.settle();
    assert_eq!(lab.far("fw", 1).holds.len(), 2);
    assert_eq!(lab.far("fw", 1).ended.len(), 2, "of both families, once");
    let id = lab.id("fw", 1);
    lab.server.refresh(&id, Family::Ipv4Unicast);
    lab.server.schedule(lab.now);
    lab.far_mut("fw", 1).announced = 0;
    lab.settle();
    assert_eq!(lab.far("fw", 1).announced, 2, "it is sent both again");
}

#[test]
fn where_the_networks_prefixes_alone_exceed_a_limit_nothing_learned_is_sent_and_work_ends() {
    let mut lab = limited(LimitAction::Discard);
    lab.announce_to_both(
        "sdwan",
        &["0.0.0.0/0", "10.5.0.0/16"],
        &route(&[65010], SDWAN),
    );
    lab.settle();
    lab.originate(&["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16"]);
    lab.settle();
    let held = lab.far("fw", 1).holds.keys().map(|nlri| nlri.prefix);
    let own = ["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16"].map(prefix);
    assert!(held.eq(own), "not even the default route");
    assert_eq!(lab.server.next_fill(), None);
    let withdrawn = lab.far("fw", 1).withdrawn;
    lab.announce_to_both("sdwan", &["10.6.0.0/16"], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.far("fw", 1).withdrawn, withdrawn);
    lab.originate(&["10.7.0.0/16"]);
    lab.settle();
    lab.now = lab.server.next_fill().expect("there is room");
    lab.settle();
    assert!(lab.holds("fw", 1, "0.0.0.0/0").is_some());
}

#[test]
fn room_that_nothing_fits_into_is_looked_at_ever_less_often() {
    let mut config = config();
    config.peers[1].max_advertised = Some(3);
    config.peers[1].advertised_limit_action = LimitAction::Discard;
    config.peers[1].add_path.send = 2;
    let mut lab = Lab::new(&config);
    lab.both_up("sdwan");
    lab.both_up("vpn");
    let (id, negotiated) = lab.negotiated("fw", 1);
    let negotiated = Negotiated {
        add_path_send: vec![Family::Ipv4Unicast],
        ..negotiated
    };
    lab.up_with(id, negotiated);
    // Two paths each: one prefix is sent, and there is room for half of the next one.
    let nets = ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"];
    lab.announce_to_both("sdwan", &nets, &route(&[65010], SDWAN));
    lab.announce_to_both("vpn", &nets, &route(&[65030], "10.1.30.4"));
    lab.settle();
    assert_eq!(lab.far("fw", 1).holds.len(), 2);
    for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
        let at = lab.server.next_fill().expect("there is room");
        assert_eq!(at - lab.now, Duration::from_secs(wait));
        lab.now = at;
        lab.settle();
    }
    assert_eq!(lab.far("fw", 1).holds.len(), 2);
    assert_eq!(lab.far("fw", 1).most, 2);
}

#[test]
fn a_prefix_that_comes_and_goes_at_a_full_limit_has_room_filled_ever_less_often() {
    let mut lab = limited(LimitAction::Discard);
    let nets = ["10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16"];
    lab.announce_to_both("sdwan", &nets, &route(&[65010], SDWAN));
    lab.settle();
    let goes = |lab: &mut Lab| {
        for instance in [1, 2] {
            let nlri = vec![prefix(nets[0]).into()];
            let malformed = None;
            lab.send(
                "sdwan",
                instance,
                vec![RouteChange::Withdraw { nlri, malformed }],
            );
        }
        lab.settle();
    };
    let waits = |lab: &Lab| lab.server.next_fill().expect("there is room") - lab.now;
    for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
        goes(&mut lab);
        assert_eq!(waits(&lab), Duration::from_secs(wait));
        lab.now += Duration::from_secs(wait);
        lab.settle();
        assert!(lab.holds("fw", 1, nets[2]).is_some());
        lab.announce_to_both("sdwan", &nets[..1], &route(&[65010], SDWAN));
        lab.settle();
        assert_eq!(lab.holds("fw", 1, nets[2]), None);
    }
    // Back before room is filled, it costs nothing.
    let walks = FITTED.get();
    goes(&mut lab);
    lab.now += Duration::from_secs(63);
    lab.announce_to_both("sdwan", &nets[..1], &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!((lab.server.next_fill(), FITTED.get()), (None, walks));
    // What stays once filled in ends that.
    for (net, wait) in [(nets[0], 64), (nets[1], 64), (nets[2], 1)] {
        lab.announce_to_both("sdwan", &["10.7.0.0/16"], &route(&[65010], SDWAN));
        lab.announce_to_both("sdwan", &["10.8.0.0/16"], &route(&[65010], SDWAN));
        lab.settle();
        for instance in [1, 2] {
            let nlri = vec![prefix(net).into()];
            let malformed = None;
            lab.send(
                "sdwan",
                instance,
                vec![RouteChange::Withdraw { nlri, malformed }],
            );
        }
        lab.settle();
        assert_eq!(waits(&lab), Duration::from_secs(wait), "{net}");
        lab.now += Duration::from_secs(wait);
        lab.settle();
    }
}

#[test]
fn a_limit_is_applied_anew_only_where_it_or_what_it_is_for_has_changed() {
    let mut lab = limited(LimitAction::Discard);
    let nets = ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"];
    lab.announce_to_both("sdwan", &nets, &route(&[65010], SDWAN));
    lab.settle();
    let mut config = lab.server.config.clone();
    let walks = FITTED.get();
    lab.reload(&config);
    config.peers.push(peer("newcomer", [10, 1, 20, 9], 65040));
    lab.reload(&config);
    lab.both_up("newcomer");
    lab.settle();
    assert_eq!(FITTED.get(), walks);
    config.peers[1].max_advertised = Some(1);
    lab.reload(&config);
    assert!(FITTED.get() > walks);
    assert_eq!(lab.far("fw", 1).holds.len(), 1);
}

#[test]
fn a_session_that_may_be_sent_more_sources_is_given_no_more_than_its_limit_on_the_way() {
    let mut config = with_gateways();
    let gateway = config
        .peers
        .iter_mut()
        .find(|peer| peer.membership.is_some());
    let gateway = gateway.expect("there are gateways");
    gateway.max_advertised = Some(2);
    gateway.advertised_limit_action = LimitAction::Discard;
    let name = gateway.name.to_string();
    let mut lab = Lab::new(&config);
    lab.both_up("sdwan");
    lab.both_up(&name);
    let nets: Vec<String> = (0..50)
        .map(|net| format!("10.{}.0.0/16", 100 + net))
        .collect();
    let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
    lab.announce_to_both("sdwan", &nets, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.far(&name, 1).holds.len(), 0);
    config.branch_to_branch = true;
    lab.server.reconfigure(&config, &around(), lab.now);
    let index = lab.server.index(&lab.id(&name, 1)).unwrap();
    assert_eq!(lab.server.rib.totals(index).advertised, [2, 0]);
    lab.settle();
    let held = lab.far(&name, 1).holds.keys().map(|nlri| nlri.prefix);
    assert!(held.eq(nets[..2].iter().map(|net| prefix(net))));
}

#[test]
fn many_sets_of_recipients_in_the_place_of_others_are_all_advertised_at_once() {
    let mut config = config();
    let to_sets = |from: u8| {
        let sets = (0..200_u8).map(move |number| CustomAdvertised {
            prefix: prefix(&format!("20.{from}.{number}.0/24")),
            to: vec![
                Recipient::Peer("sdwan".into()),
                Recipient::Peer(format!("other{from}-{number}").as_str().into()),
            ],
            next_hop: None,
            med: None,
            communities: Vec::new(),
        });
        sets.collect()
    };
    config.advertised = to_sets(1);
    let mut lab = Lab::new(&config);
    lab.both_up("sdwan");
    lab.both_up("fw");
    lab.settle();
    assert_eq!(lab.far("sdwan", 1).holds.len(), 200);
    config.advertised = to_sets(2);
    lab.reload(&config);
    let held = lab.far("sdwan", 1).holds.keys();
    assert_eq!(
        held.map(|nlri| nlri.prefix.to_string())
            .filter(|net| net.starts_with("20.2."))
            .count(),
        200
    );
    assert_eq!(lab.far("sdwan", 1).holds.len(), 200);
    assert_eq!(lab.far("fw", 1).announced, 0);
}

#[test]
fn an_outbound_limit_that_only_warns_warns() {
    let mut lab = limited(LimitAction::Warn);
    let nets = ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"];
    lab.announce_to_both("sdwan", &nets, &route(&[65010], SDWAN));
    lab.settle();
    assert_eq!(lab.far("fw", 1).holds.len(), 3);
    assert!(
        lab.warnings("fw", 1)
            .contains("more than the 2 allowed (`max_advertised`)")
    );
}

#[test]
fn more_nvas_than_the_soft_limit_are_flagged_and_work() {
    let mut lab = Lab::new(&config::RouteServer {
        soft_max_peers: 3,
        ..with_gateways()
    });
    lab.both_up("sdwan");
    assert!(
        lab.warnings("sdwan", 1)
            .contains("4 peers, more than 3 (`soft_max_peers`)")
    );
    assert!(!lab.warnings("er1-10.1.3.4", 1).contains("soft_max_peers"));
}

/// A firewall that may be sent two routes.
fn limited(action: LimitAction) -> Lab {
    let mut config = config();
    config.peers[1].max_advertised = Some(2);
    config.peers[1].advertised_limit_action = action;
    config.peers[1].families = [Family::Ipv4Unicast].into_iter().collect();
    let mut lab = Lab::new(&config);
    for peer in ["sdwan", "fw"] {
        lab.both_up(peer);
    }
    lab.settle();
    lab
}

fn learned_by_hand(net: &str, next_hops: &[&str]) -> CustomLearned {
    CustomLearned {
        prefix: prefix(net),
        next_hops: next_hops
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
    }
}
