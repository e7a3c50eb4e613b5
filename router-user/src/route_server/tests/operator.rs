//! What `show peers`, `show peer` and `show received` tell.

use super::*;
use crate::{
    api::types::PeerDetail,
    bgp::{
        DownReason,
        settings::Security,
        wire::{Notification, UnknownAttribute},
    },
};

const SITE: &str = "10.250.0.0/16";
const SDWAN: &str = "10.1.10.4";

#[test]
fn a_shutdown_is_shown_with_its_text_until_the_session_is_started() {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    let ids = lab.server.sessions_of(&"sdwan".into(), Some(InstanceId(2)));
    assert_eq!(ids, [lab.id("sdwan", 2)]);
    lab.server.set_shutdown(&ids, Some("ticket 4711"));
    lab.down("sdwan", 2);
    lab.server.reconfigure(&config(), &around(), lab.now);
    let row = |lab: &Lab, instance| {
        let rows = lab.server.peer_rows(lab.now);
        let mut rows = rows.into_iter();
        let wanted = rows.find(|row| row.peer.as_str() == "sdwan" && row.instance == instance);
        wanted.unwrap()
    };
    assert_eq!(row(&lab, 2).shutdown.as_deref(), Some("ticket 4711"));
    assert!(lab.warnings("sdwan", 2).contains("\"ticket 4711\""));
    assert_eq!(row(&lab, 1).shutdown, None);
    lab.server.set_shutdown(&ids, None);
    assert_eq!(row(&lab, 2).shutdown, None);
    assert!(!lab.warnings("sdwan", 2).contains("shut down"));
}

#[test]
fn the_peers_last_words_are_kept_until_it_is_up_again() {
    let mut lab = Lab::new(&config());
    lab.both_up("sdwan");
    let id = lab.id("sdwan", 1);
    let notification = Notification::administrative_shutdown("back at noon");
    lab.sessions.remove(&id);
    let reason = DownReason::NotificationReceived(notification);
    lab.server
        .handle(SessionEvent::Down { id, reason }, lab.now);
    let said = |lab: &Lab| detail(lab, "sdwan").shutdown_received;
    assert_eq!(said(&lab).as_deref(), Some("back at noon"));
    let (id, negotiated) = lab.negotiated("sdwan", 1);
    let (commands, _receiver) = crate::bgp::session::SessionHandle::new();
    let up = SessionEvent::Up {
        id,
        negotiated: Arc::new(negotiated),
        commands,
    };
    lab.server.handle(up, lab.now);
    assert_eq!(said(&lab), None);
}

#[test]
fn a_peers_details_name_its_settings_and_no_secret() {
    let mut config = config();
    let sdwan = &mut config.peers[0];
    sdwan.security = Security {
        md5_password: Some("open sesame".parse().unwrap()),
        ttl_security: Some(1),
        ..Security::default()
    };
    sdwan.policy.transparent = true;
    sdwan.policy.allow_own_as = 2;
    let mut lab = Lab::new(&config);
    lab.up("sdwan", 1);
    lab.announce("sdwan", 1, &[SITE], &route(&[65010], SDWAN));
    lab.settle();
    let shown = detail(&lab, "sdwan");
    assert_eq!(shown.security, ["TCP MD5", "GTSM, on the same link"]);
    assert_eq!(shown.policy, ["allow_own_as = 2", "transparent = true"]);
    assert_eq!(shown.received_by_family[&Family::Ipv4Unicast], 1);
    assert_eq!(shown.timers.hold_time, Some(180));
    assert_eq!(shown.timers.keepalive, Some(60));
    assert_eq!(shown.local_address, Some([10, 1, 255, 4].into()));
    let json = serde_json::to_string(&shown).unwrap();
    assert!(!json.contains("sesame"), "{json}");
    assert!(json.contains("\"peer\":\"sdwan\""), "the row is part of it");
}

#[test]
fn what_was_received_is_shown_as_it_came_whatever_became_of_it() {
    let mut lab = Lab::new(&config());
    lab.up("sdwan", 1);
    let looped = PathAttributes {
        med: Some(7),
        atomic_aggregate: true,
        communities: vec![0xfde8_0001],
        only_to_customer: Some(65010),
        unknown: vec![UnknownAttribute {
            flags: 0xe0,
            code: 99,
            value: vec![1, 2].into(),
        }],
        ..route(&[65010, 65515], SDWAN)
    };
    lab.announce("sdwan", 1, &[SITE], &looped);
    lab.settle();
    let rows = lab.server.received_rows(&Filter::default());
    let [row] = &rows[..] else {
        panic!("one path, not {rows:?}");
    };
    assert_eq!(row.as_path, "65010 65515");
    assert_eq!((row.med, row.atomic_aggregate), (Some(7), true));
    assert_eq!(row.communities, ["65000:1"]);
    assert_eq!(row.only_to_customer, Some(65010));
    assert_eq!(row.unknown, ["attribute 99, flags 0xe0: 0x0102"]);
    assert_eq!(row.path_id, None);
    assert_eq!(lab.state("sdwan", 1, SITE).0, "rejected");
    let other = Filter {
        peer: Some("fw".into()),
        ..Filter::default()
    };
    assert_eq!(lab.server.received_rows(&other), []);
}

fn detail(lab: &Lab, peer: &str) -> PeerDetail {
    let filter = Filter {
        peer: Some(peer.into()),
        instance: Some(InstanceId(1)),
        ..Filter::default()
    };
    let mut details = lab.server.peer_details(&filter, lab.now);
    assert_eq!(details.len(), 1);
    details.remove(0)
}
