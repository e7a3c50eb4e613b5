//! Graceful restart through virtual hours: what is kept, until when, and what waits.

use super::*;
use crate::{
    api::types::LearnedRow,
    bgp::{
        DownReason,
        wire::{
            GracefulRestart, LongLivedFamily, Notification, RestartFamily, community,
            notification::cease,
        },
    },
};

mod deferral;
mod ended;
mod long_lived;

const SITE: &str = "10.250.0.0/16";
const SITE6: &str = "fd00:250::/48";
const SDWAN: &str = "10.1.10.4";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a side says of graceful restart; both families, forwarding.
#[derive(Clone)]
struct Says {
    restart_time: u16,
    restarted: bool,
    notification: bool,
    families: Vec<(Family, bool)>,
    long_lived: Vec<(Family, bool, u32)>,
}

impl Says {
    fn restart(restart_time: u16) -> Self {
        Self {
            restart_time,
            restarted: false,
            notification: false,
            families: Family::ALL.map(|family| (family, true)).to_vec(),
            long_lived: vec![],
        }
    }

    fn with_notification(self) -> Self {
        Self {
            notification: true,
            ..self
        }
    }

    fn restarted(self) -> Self {
        Self {
            restarted: true,
            ..self
        }
    }

    fn long_lived(self, seconds: u32) -> Self {
        Self {
            long_lived: Family::ALL.map(|family| (family, true, seconds)).to_vec(),
            ..self
        }
    }

    fn families(self, families: &[(Family, bool)]) -> Self {
        Self {
            families: families.to_vec(),
            ..self
        }
    }

    fn offer(&self) -> Offer {
        let family = |&(family, forwarding)| RestartFamily { family, forwarding };
        let long_lived = |&(family, forwarding, stale_time)| LongLivedFamily {
            family,
            forwarding,
            stale_time,
        };
        Offer {
            graceful_restart: Some(GracefulRestart {
                restarted: self.restarted,
                notification: self.notification,
                restart_time: self.restart_time,
                families: self.families.iter().map(family).collect(),
            }),
            long_lived: self.long_lived.iter().map(long_lived).collect(),
            ..Offer::default()
        }
    }
}

fn ours() -> Says {
    Says::restart(120).with_notification().long_lived(86_400)
}

/// The configuration says what [`ours`] does.
fn config() -> config::RouteServer {
    let mut config = super::config();
    for peer in &mut config.peers {
        peer.restart.long_lived_stale_time = 86_400;
    }
    config
}

impl Lab {
    fn up_saying(&mut self, peer: &str, instance: u8, theirs: &Says) {
        let (id, mut negotiated) = self.negotiated(peer, instance);
        negotiated.local = ours().offer();
        negotiated.peer = theirs.offer();
        self.up_with(id, negotiated);
    }

    /// sdwan is back and says this, announces one of its two routes again and then nothing more: the
    /// other one goes after so many seconds.
    fn has_until_end_of_rib(&mut self, seconds: u32, theirs: &Says) {
        self.up_saying("sdwan", 1, theirs);
        self.announce("sdwan", 1, &[SITE6], &site6());
        self.pass((seconds - 1) * SECOND);
        assert!(self.members(SITE).is_some());
        self.pass(SECOND);
        assert_eq!(self.members(SITE), None);
        assert!(self.members(SITE6).is_some(), "announced again");
    }

    /// A session is lost for this reason.
    fn lose_by(&mut self, peer: &str, reason: DownReason) {
        let id = self.id(peer, 1);
        self.sessions.remove(&id);
        self.server
            .handle(SessionEvent::Down { id, reason }, self.now);
        self.settle_now();
    }

    fn lose(&mut self, peer: &str) {
        self.lose_by(peer, DownReason::Connection("reset".into()));
    }

    fn end_of_rib(&mut self, peer: &str, family: Family) {
        self.send(peer, 1, vec![RouteChange::EndOfRib(family)]);
        self.server.schedule(self.now);
        self.settle_now();
    }

    /// Lets so much time pass, with every timer at its time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle_now();
        while let Some(at) = self.server.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.server.on_timeout(self.now);
            let again = self.server.next_timeout();
            assert!(
                again.is_none_or(|again| again > self.now) || self.server.rib.is_dumping(),
                "a timer stays due"
            );
            self.deliver();
        }
        self.now = end;
    }

    /// Lets everything arrive that is under way; no time passes.
    fn settle_now(&mut self) {
        self.deliver();
        while self.server.next_timeout().is_some_and(|at| at <= self.now) {
            self.server.on_timeout(self.now);
            self.deliver();
        }
    }

    fn row(&self, net: &str) -> Option<LearnedRow> {
        let filter = Filter {
            prefix: Some(prefix(net)),
            ..Filter::default()
        };
        let mut rows = self.server.learned_rows(&filter, self.now);
        assert!(rows.len() <= 1, "{rows:?}");
        rows.pop()
    }
}

/// One session of `sdwan`, which announces the site in both families, and one of `fw`.
fn lab(sdwan: &Says, fw: &Says) -> Lab {
    let mut lab = Lab::new(&config());
    lab.up_saying("sdwan", 1, sdwan);
    lab.up_saying("fw", 1, fw);
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.announce("sdwan", 1, &[SITE6], &site6());
    for family in Family::ALL {
        lab.end_of_rib("sdwan", family);
        lab.end_of_rib("fw", family);
    }
    lab
}

fn site() -> PathAttributes {
    route(&[65010], SDWAN)
}

fn site6() -> PathAttributes {
    route(&[65010], "fd00:1:0:a::4")
}

fn cease(subcode: u8) -> Notification {
    Notification::cease(subcode)
}

// -- RFC 4724 ----------------------------------------------------------------------------------

#[test]
fn rfc4724_4_2_nobody_notices_a_session_that_is_lost_and_comes_back() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    let before = lab.learned.clone();
    let sent = (lab.far("fw", 1).announced, lab.far("fw", 1).withdrawn);
    lab.lose("sdwan");
    assert_eq!(lab.learned, before);
    let stale = lab.row(SITE).unwrap().stale.expect("stale");
    assert!(!stale.long_lived);
    assert!((stale.seconds_left - 120.0).abs() < 0.1);
    lab.pass(119 * SECOND);
    assert_eq!(lab.learned, before);

    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.announce("sdwan", 1, &[SITE6], &site6());
    lab.settle_now();
    assert_eq!(lab.row(SITE).unwrap().stale, None, "announced again");
    for family in Family::ALL {
        lab.end_of_rib("sdwan", family);
    }
    lab.pass(HOUR);
    assert_eq!(lab.learned, before);
    let after = (lab.far("fw", 1).announced, lab.far("fw", 1).withdrawn);
    assert_eq!(after, sent, "fw was told nothing");
    assert_eq!(lab.server.next_timeout(), None);
    assert!(lab.holds("sdwan", 1, SITE).is_none());
    assert_eq!(
        lab.far("sdwan", 1).ended,
        Family::ALL,
        "and was sent the table again"
    );
}

#[test]
fn rfc4724_4_2_the_restart_timer_drops_the_routes_of_a_peer_that_stays_away() {
    let mut lab = lab(&Says::restart(120), &Says::restart(120));
    lab.lose("sdwan");
    lab.pass(119 * SECOND);
    assert!(lab.members(SITE).is_some());
    lab.pass(SECOND);
    assert_eq!(lab.members(SITE), None);
    assert!(lab.holds("fw", 1, SITE).is_none());
    assert_eq!(lab.server.next_timeout(), None);
    assert_eq!(lab.server.rib.attribute_sets(), 0);
    // Back after that, it begins anew.
    lab.up_saying("sdwan", 1, &Says::restart(120));
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.settle_now();
    assert_eq!(lab.row(SITE).unwrap().stale, None);
}

#[test]
fn rfc4724_4_2_end_of_rib_sweeps_its_family_and_no_other() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.up_saying("sdwan", 1, &says);
    lab.end_of_rib("sdwan", Family::Ipv4Unicast);
    assert_eq!(lab.members(SITE), None);
    assert!(lab.members(SITE6).is_some());
    lab.end_of_rib("sdwan", Family::Ipv6Unicast);
    assert_eq!(lab.members(SITE6), None);
    assert!(lab.holds("fw", 1, SITE6).is_none());
}

#[test]
fn rfc4724_4_2_a_peer_that_is_back_and_sends_no_end_of_rib_is_bounded_too() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.pass(100 * SECOND);
    lab.has_until_end_of_rib(180, &says);
}

#[test]
fn rfc4724_4_2_families_that_the_capability_does_not_name_go_at_once() {
    let only_v4 = Says::restart(120).families(&[(Family::Ipv4Unicast, true)]);
    let mut lab = lab(&only_v4, &Says::restart(120));
    lab.lose("sdwan");
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.members(SITE6), None);
}

#[test]
fn rfc4724_4_2_families_that_a_peer_has_not_forwarded_for_go_when_it_is_back() {
    let says = Says::restart(120);
    for (families, stay) in [
        (
            vec![(Family::Ipv4Unicast, true), (Family::Ipv6Unicast, false)],
            [true, false],
        ),
        (vec![(Family::Ipv6Unicast, true)], [false, true]),
        (vec![], [false, false]),
    ] {
        let mut lab = lab(&says, &says);
        lab.lose("sdwan");
        let back = Says::restart(120).restarted().families(&families);
        lab.up_saying("sdwan", 1, &back);
        lab.settle_now();
        let left = [SITE, SITE6].map(|net| lab.members(net).is_some());
        assert_eq!(left, stay, "{families:?}");
    }
    // And all of them, if it does not speak graceful restart any more.
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    let (id, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.local = ours().offer();
    lab.up_with(id, negotiated);
    lab.settle_now();
    assert!(lab.learned.is_empty());
}

#[test]
fn rfc4724_4_2_a_peer_whose_connection_broke_and_nothing_else_has_a_moment_to_announce_anew() {
    let says = Says::restart(120);
    let silent: Vec<_> = Family::ALL.map(|family| (family, false)).to_vec();
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.has_until_end_of_rib(5, &says.clone().families(&silent));

    // Families that it does not name any more go at once all the same.
    lab.lose("sdwan");
    lab.up_saying("sdwan", 1, &says.families(&[]));
    lab.settle_now();
    assert_eq!(lab.members(SITE6), None);
}

#[test]
fn rfc4724_4_2_a_peer_that_restarts_again_before_end_of_rib_keeps_only_what_is_fresh() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.announce("sdwan", 1, &["10.251.0.0/16"], &site());
    lab.lose("sdwan");
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.pass(10 * SECOND);
    lab.lose("sdwan");
    assert!(lab.members(SITE).is_some());
    assert_eq!(lab.members("10.251.0.0/16"), None);
    lab.pass(120 * SECOND);
    assert_eq!(lab.members(SITE), None);
}

#[test]
fn without_graceful_restart_on_both_sides_routes_go_with_the_session() {
    let silent = Says {
        families: vec![],
        ..Says::restart(120)
    };
    for reason in [
        DownReason::Connection("reset".into()),
        DownReason::NotificationReceived(cease(cease::ADMINISTRATIVE_RESET)),
    ] {
        let mut lab = lab(&silent, &silent);
        lab.lose_by("sdwan", reason);
        assert!(lab.learned.is_empty());
    }
    let mut lab = Lab::new(&config());
    let (id, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.peer = Says::restart(120).offer();
    lab.up_with(id, negotiated);
    lab.announce("sdwan", 1, &[SITE], &site());
    lab.lose("sdwan");
    assert!(lab.learned.is_empty(), "we have not offered it");
}

/// The address is taken by somebody else while routes are kept of who had it before.
fn nothing_is_taken_over_by(other: impl FnOnce(&mut Negotiated)) {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    let (id, mut negotiated) = lab.negotiated("sdwan", 1);
    negotiated.local = ours().offer();
    negotiated.peer = says.offer();
    other(&mut negotiated);
    lab.up_with(id, negotiated);
    lab.settle_now();
    assert!(lab.learned.is_empty());
}

#[test]
fn another_router_with_the_same_address_does_not_take_over_what_was_kept() {
    nothing_is_taken_over_by(|other| other.peer_router_id = Ipv4Addr::new(192, 0, 2, 99));
}

#[test]
fn a_peer_that_is_removed_while_it_restarts_takes_its_routes_with_it() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    let mut without = config();
    without.peers.retain(|peer| peer.name.as_str() != "sdwan");
    lab.server.reconfigure(&without, &around(), lab.now);
    lab.settle_now();
    assert!(lab.learned.is_empty());
    lab.pass(HOUR);
}

#[test]
fn rules_that_change_hold_for_what_is_kept_as_well() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    let gateway = [SDWAN.parse().unwrap()];
    lab.server
        .reconfigure(&config(), &surroundings(space(), gateway.to_vec()), lab.now);
    lab.settle_now();
    assert_eq!(
        lab.members(SITE),
        None,
        "its next hop is no next hop any more"
    );
    assert!(lab.members(SITE6).is_some());
}

#[test]
fn stale_routes_do_not_count_beside_those_that_replace_them() {
    let mut limited = config();
    limited.peers[0].max_prefixes = 2;
    let mut lab = Lab::new(&limited);
    let says = Says::restart(120);
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &[SITE, "10.251.0.0/16"], &site());
    lab.lose("sdwan");
    lab.up_saying("sdwan", 1, &says);
    lab.announce("sdwan", 1, &["10.252.0.0/16", "10.253.0.0/16"], &site());
    lab.settle_now();
    assert_eq!(lab.shutdowns, []);
    assert_eq!(lab.learned.len(), 4);
    let warnings = lab.warnings("sdwan", 1);
    assert!(!warnings.contains("more than"), "{warnings}");
    lab.end_of_rib("sdwan", Family::Ipv4Unicast);
    assert_eq!(lab.learned.len(), 2);
    lab.announce("sdwan", 1, &["10.254.0.0/16"], &site());
    lab.settle_now();
    assert_eq!(lab.shutdowns.len(), 1, "three of its own are too many");
}

#[test]
fn what_is_kept_of_a_peer_is_shown_with_the_time_that_it_has_left() {
    let says = Says::restart(120);
    let mut lab = lab(&says, &says);
    lab.lose("sdwan");
    lab.pass(20 * SECOND);
    let rows = lab.server.peer_rows(lab.now);
    let row = rows
        .iter()
        .find(|row| row.peer.as_str() == "sdwan")
        .unwrap();
    assert_eq!(row.received, 2);
    let shown: Vec<_> = row
        .stale
        .iter()
        .map(|it| (it.family, it.routes, it.kept))
        .collect();
    let kept = crate::api::types::Stale {
        long_lived: false,
        seconds_left: 100.0,
    };
    assert_eq!(shown, Family::ALL.map(|family| (family, 1, kept)));
}

// -- RFC 8538 ----------------------------------------------------------------------------------

#[test]
fn rfc8538_4_routes_outlive_notifications_only_if_both_say_so_and_no_hard_reset() {
    let hold_timer = Notification::hold_timer_expired();
    let update = Notification::new(3, 1, []);
    let hard = Notification::hard_reset(&cease(cease::ADMINISTRATIVE_SHUTDOWN));
    let collision = Notification::connection_collision();
    type End = fn(Notification) -> DownReason;
    let ends: [End; 2] = [
        DownReason::NotificationSent,
        DownReason::NotificationReceived,
    ];
    for end in ends {
        for (notification, [without, with]) in [
            (&hold_timer, [false, true]),
            (&update, [false, true]),
            (&cease(cease::ADMINISTRATIVE_RESET), [false, true]),
            (&hard, [false, false]),
            (&collision, [true, true]),
        ] {
            for (says, expected) in [
                (Says::restart(120), without),
                (Says::restart(120).with_notification(), with),
            ] {
                let mut lab = lab(&says, &says);
                lab.lose_by("sdwan", end(notification.clone()));
                let kept = lab.members(SITE).is_some();
                assert_eq!(
                    kept, expected,
                    "{notification}, N bit: {}",
                    says.notification
                );
            }
        }
    }
}

#[test]
fn rfc8538_4_1_consecutive_restarts_keep_what_is_stale_but_not_for_ever() {
    let says = Says::restart(120).with_notification();
    let mut lab = lab(&says, &says);
    let start = lab.now;
    lab.lose("sdwan");
    while lab.members(SITE).is_some() {
        lab.pass(100 * SECOND);
        lab.up_saying("sdwan", 1, &says);
        lab.pass(SECOND);
        lab.lose("sdwan");
        assert!(lab.now < start + 2 * HOUR, "kept for ever");
    }
    assert!(
        lab.now > start + HOUR / 2,
        "not after the second time already"
    );
}
