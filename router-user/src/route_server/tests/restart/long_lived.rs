//! The long-lived form (RFC 9494): routes that are the last choice after the restart time.

use super::*;

#[test]
fn rfc9494_4_2_after_the_restart_time_routes_are_the_last_choice_until_their_timer_ends() {
    let says = Says::restart(120).long_lived(7200);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.pass(119 * SECOND);
    assert!(!lab.row(SITE).unwrap().stale.unwrap().long_lived);
    lab.pass(SECOND);
    let row = lab.row(SITE).unwrap();
    let stale = row.stale.unwrap();
    assert!(stale.long_lived);
    assert!((stale.seconds_left - 7200.0).abs() < 0.1);
    assert_eq!(row.communities, ["65535:6"], "{row:?}");
    let sent = lab.holds("fw", 1, SITE).expect("it speaks it, too");
    assert!(sent.has_community(community::LLGR_STALE));

    // Any other path is better.
    lab.announce(
        "fw",
        1,
        &[SITE],
        &route(&[65020, 65021, 65022, 65023], "10.1.20.4"),
    );
    lab.settle_now();
    assert_eq!(lab.members(SITE), Some(vec!["10.1.20.4".parse().unwrap()]));
    lab.send(
        "fw",
        1,
        vec![RouteChange::Withdraw {
            nlri: vec![prefix(SITE).into()],
            malformed: None,
        }],
    );
    lab.pass(7199 * SECOND);
    assert!(lab.members(SITE).is_some());
    lab.pass(SECOND);
    assert!(lab.learned.is_empty());
    assert_eq!(lab.server.next_timeout(), None);
}

#[test]
fn rfc9494_4_2_the_shorter_of_both_stale_times_counts_and_zero_means_not_at_all() {
    let mut long = lab(
        &Says::restart(0).long_lived(0x00ff_ffff),
        &Says::restart(120),
    );
    long.lose("sdwan");
    let stale = long.row(SITE).unwrap().stale.unwrap();
    assert!(stale.long_lived, "at once, for its restart time is zero");
    assert!((stale.seconds_left - 86_400.0).abs() < 0.1);

    let mut none = lab(&Says::restart(0).long_lived(0), &Says::restart(120));
    none.lose("sdwan");
    assert!(none.learned.is_empty());
}

#[test]
fn rfc9494_4_2_a_family_that_only_the_long_lived_capability_names_has_no_restart_time() {
    let says = Says::restart(120)
        .families(&[(Family::Ipv4Unicast, true)])
        .long_lived(600);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    assert!(!lab.row(SITE).unwrap().stale.unwrap().long_lived);
    assert!(lab.row(SITE6).unwrap().stale.unwrap().long_lived);
    lab.pass(600 * SECOND);
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.members(SITE6), None);
}

#[test]
fn rfc9494_4_2_routes_with_no_llgr_are_not_kept_for_long() {
    let says = Says::restart(120).long_lived(600);
    let mut lab = lab(&says, &says);
    let mut attributes = site();
    attributes.add_community(community::NO_LLGR);
    lab.announce("sdwan", 1, &["10.251.0.0/16"], &attributes);
    lab.lose("sdwan");
    lab.pass(119 * SECOND);
    assert!(lab.members("10.251.0.0/16").is_some());
    lab.pass(SECOND);
    assert_eq!(lab.members("10.251.0.0/16"), None);
    assert!(lab.holds("fw", 1, "10.251.0.0/16").is_none());
    assert!(lab.members(SITE).is_some());
}

#[test]
fn rfc9494_4_2_back_in_the_long_lived_period_the_long_lived_f_bit_counts() {
    let says = Says::restart(120).long_lived(600);
    let mut not_forwarding = Says::restart(120).long_lived(600);
    not_forwarding.long_lived[0].1 = false;
    not_forwarding.long_lived.remove(1);
    let mut gone = lab(&says, &says);
    gone.lose("sdwan");
    gone.pass(200 * SECOND);
    gone.up_saying("sdwan", 1, &not_forwarding);
    gone.settle_now();
    assert!(
        gone.learned.is_empty(),
        "F is not set, or the family not named"
    );

    let mut stays = lab(&says, &says);
    stays.lose("sdwan");
    stays.pass(200 * SECOND);
    let no_restart_bits: Vec<_> = Family::ALL.map(|family| (family, false)).to_vec();
    stays.up_saying("sdwan", 1, &says.clone().families(&no_restart_bits));
    stays.settle_now();
    assert!(stays.row(SITE).unwrap().stale.unwrap().long_lived);
    stays.announce("sdwan", 1, &[SITE], &site());
    stays.settle_now();
    let row = stays.row(SITE).unwrap();
    assert_eq!(
        (row.stale, row.communities.len()),
        (None, 0),
        "it is fresh again"
    );
    let held = stays.holds("fw", 1, SITE).unwrap();
    assert!(!held.has_community(community::LLGR_STALE));
    stays.end_of_rib("sdwan", Family::Ipv6Unicast);
    assert_eq!(stays.members(SITE6), None);
}

#[test]
fn rfc9494_4_2_consecutive_restarts_leave_the_long_lived_timer_as_it_is() {
    let says = Says::restart(120).long_lived(600);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.pass(420 * SECOND);
    for _ in 0..2 {
        lab.up_saying("sdwan", 1, &says);
        lab.pass(50 * SECOND);
        lab.lose("sdwan");
        assert!(lab.row(SITE).unwrap().stale.unwrap().long_lived);
        lab.pass(50 * SECOND);
    }
    let left = lab.row(SITE).unwrap().stale.unwrap().seconds_left;
    assert!((left - 100.0).abs() < 0.1, "{left}");
    lab.up_saying("sdwan", 1, &says);
    lab.pass(101 * SECOND);
    assert!(lab.members(SITE).is_some(), "while it is synchronised");
    lab.lose("sdwan");
    assert!(lab.learned.is_empty(), "the timer ended meanwhile");
}

#[test]
fn rfc9494_4_3_only_those_who_speak_it_are_sent_long_lived_stale_routes() {
    let says = Says::restart(120).long_lived(600);
    let mut lab = lab(&says, &Says::restart(120));
    assert!(lab.holds("fw", 1, SITE).is_some());
    lab.lose("sdwan");
    lab.pass(119 * SECOND);
    assert!(lab.holds("fw", 1, SITE).is_some());
    lab.pass(SECOND);
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert!(lab.members(SITE).is_some(), "the subnets go on using it");
    let mut stale = route(&[65010], SDWAN);
    stale.add_community(community::LLGR_STALE);
    lab.up("vpn", 1);
    lab.announce(
        "vpn",
        1,
        &["10.252.0.0/16"],
        &PathAttributes {
            as_path: AsPath::sequence([65030]),
            ..stale
        },
    );
    lab.settle_now();
    assert!(
        lab.holds("fw", 1, "10.252.0.0/16").is_none(),
        "received as stale"
    );
}
