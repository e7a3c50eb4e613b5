//! What is told of limits.

use super::*;
use crate::config::LimitAction;

const SDWAN: &str = "10.1.10.4";

#[test]
fn each_level_of_a_limit_is_told_once_with_what_is_done_about_it() {
    let mut settings = config();
    settings.peers[0].max_prefixes = 5;
    settings.peers[0].limit_action = LimitAction::Discard;
    let mut lab = Lab::new(&settings);
    lab.up("sdwan", 1);
    let mut announce = |nets: &[&str]| {
        lab.announce("sdwan", 1, nets, &route(&[65010], SDWAN));
        let id = lab.id("sdwan", 1);
        let notices = lab.server.take_notices().into_iter();
        let told = notices.map(|notice| {
            assert_eq!((notice.id, notice.peer.as_str()), (id.clone(), "sdwan"));
            assert_eq!((notice.family, notice.max), (Family::Ipv4Unicast, 5));
            assert!(!notice.advertised);
            (notice.level, notice.count, notice.effect)
        });
        told.collect::<Vec<_>>()
    };
    let none = "none yet; what is beyond it is refused (max_prefixes)";
    assert_eq!(announce(&["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]), []);
    assert_eq!(announce(&["10.5.0.0/16"]), [(LimitLevel::Warned, 4, none)]);
    assert_eq!(announce(&["10.5.0.0/16"]), [], "it is told already");
    assert_eq!(announce(&["10.6.0.0/16"]), [(LimitLevel::Reached, 5, none)]);
    let over = "what is beyond is refused (limit_action)";
    assert_eq!(
        announce(&["10.7.0.0/16", "10.8.0.0/16"]),
        [(LimitLevel::Over, 7, over)]
    );
    assert_eq!(announce(&["10.9.0.0/16"]), [], "it is told already");
    assert_eq!(lab.server.routes_of(&lab.id("sdwan", 1)), 5);
    lab.settle();
    assert_eq!(lab.server.prefix_count(), 5);
}

#[test]
fn each_level_of_an_outbound_limit_is_told_and_again_after_the_number_has_fallen_well_below() {
    for (action, over) in [
        (
            LimitAction::Warn,
            "none but this warning (advertised_limit_action)",
        ),
        (
            LimitAction::Discard,
            "what is beyond is not sent (advertised_limit_action)",
        ),
        (
            LimitAction::Teardown,
            "the session is closed, and tried again after a rest (advertised_limit_action)",
        ),
    ] {
        let mut settings = config();
        settings.peers[1].max_advertised = Some(5);
        settings.peers[1].advertised_limit_action = action;
        let mut lab = Lab::new(&settings);
        lab.up("fw", 1);
        let mut originate = |nets: &[&str]| {
            lab.originate(nets);
            lab.settle();
            let notices = lab.server.take_notices().into_iter();
            let told = notices.map(|notice| {
                assert!(notice.advertised);
                assert_eq!((notice.peer.as_str(), notice.max), ("fw", 5));
                (notice.level, notice.count, notice.effect)
            });
            told.collect::<Vec<_>>()
        };
        let nets: Vec<String> = (2..9).map(|net| format!("10.{net}.0.0/16")).collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        assert_eq!(originate(&nets[..3]), []);
        for _ in 0..2 {
            let [(LimitLevel::Warned, 4, _)] = originate(&nets[..4])[..] else {
                panic!("80 %");
            };
            assert_eq!(originate(&nets[..3]), []);
        }
        let [(LimitLevel::Warned, 4, _)] = originate(&nets[..4])[..] else {
            panic!("80 % again");
        };
        let [(LimitLevel::Reached, 5, effect)] = originate(&nets[..5])[..] else {
            panic!("as many as may be");
        };
        assert!(effect.ends_with("(max_advertised)"), "{effect}");
        assert_eq!(originate(&nets[..7]), [(LimitLevel::Over, 7, over)]);
        assert_eq!(originate(&nets[..6]), [], "it is told already");
    }
}

#[test]
fn a_limit_that_closes_the_session_is_told_before_it_is_closed() {
    let mut settings = config();
    settings.peers[0].max_prefixes = 1;
    let mut lab = Lab::new(&settings);
    lab.up("sdwan", 1);
    let nets = ["10.2.0.0/16", "10.3.0.0/16"];
    lab.announce("sdwan", 1, &nets, &route(&[65010], SDWAN));
    let notices = lab.server.take_notices();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].level, notices[0].count), (LimitLevel::Over, 2));
    assert!(notices[0].effect.starts_with("the session is closed"));
    assert_eq!(lab.server.routes_of(&lab.id("sdwan", 1)), 0);
    assert_eq!(lab.server.take_notices(), []);
}
