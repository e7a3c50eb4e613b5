//! What an operator does to sessions, over real sockets on the loopback interface.

mod session_support;

use std::time::Duration;

use router_user::bgp::{
    DownReason, SessionCommand, SessionEvent,
    session::SessionConfig,
    settings::RoleSettings,
    speaker::Selection,
    wire::{Notification, Role, notification::cease},
};
use session_support::{Node, RawPeer, free_port, mirrored, open_of_peer, session};

#[tokio::test]
async fn rfc9003_2_a_shutdown_is_told_and_lasts_over_another_configuration_until_started() {
    let config = session("127.21.1.1", "127.21.1.2", free_port("127.21.1.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let this = Selection::Session(config.id.clone());

    let subcode = cease::ADMINISTRATIVE_SHUTDOWN;
    assert_eq!(ours.speaker.stop(this.clone(), subcode, "ticket 4711"), 1);
    // Both have the N bit (RFC 8538 §3.1).
    let told = Notification::hard_reset(&Notification::administrative_shutdown("ticket 4711"));
    assert_eq!(
        theirs.down(&mirrored(&config).id).await,
        DownReason::NotificationReceived(told.clone())
    );
    assert_eq!(
        ours.down(&config.id).await,
        DownReason::NotificationSent(told)
    );
    let changed = SessionConfig {
        hold_time: 30,
        ..config.clone()
    };
    for config in [changed, config.clone()] {
        assert!(ours.speaker.apply(vec![config]).is_empty());
    }
    assert!(
        !ours
            .speaker
            .reset(&config.id, cease::ADMINISTRATIVE_RESET, "")
    );
    let up = |event: &SessionEvent| matches!(event, SessionEvent::Up { .. });
    assert!(ours.quiet(Duration::from_secs(3), up).await);

    assert_eq!(ours.speaker.start(&this), 1);
    ours.up(&config.id).await;
}

#[tokio::test]
async fn a_session_that_rests_for_its_number_of_routes_rests_on_when_another_setting_changes() {
    let config = session("127.21.18.1", "127.21.18.2", free_port("127.21.18.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let _theirs = Node::with(vec![mirrored(&config)]);
    let up = |event: &SessionEvent| matches!(event, SessionEvent::Up { .. });
    for idle in [None, Some(Duration::from_secs(3600))] {
        let (handle, _) = ours.up(&config.id).await;
        assert!(handle.send(SessionCommand::Shutdown {
            notification: Notification::cease_with_text(cease::MAX_PREFIXES, ""),
            idle,
        }));
        ours.down(&config.id).await;
        let changed = SessionConfig {
            hold_time: 30,
            ..config.clone()
        };
        for config in [changed, config.clone()] {
            assert!(ours.speaker.apply(vec![config]).is_empty());
        }
        assert!(ours.quiet(Duration::from_secs(3), up).await, "{idle:?}");
        let this = Selection::Session(config.id.clone());
        assert_eq!(ours.speaker.start(&this), 1);
    }
    ours.up(&config.id).await;
}

#[tokio::test]
async fn a_session_that_was_shut_down_stays_so_when_its_instance_is_started() {
    let config = session("127.21.17.1", "127.21.17.2", free_port("127.21.17.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let _theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let this = Selection::Session(config.id.clone());
    let instance = Selection::Instance("rs1".into(), config.id.instance);
    for selection in [&this, &instance] {
        let subcode = cease::ADMINISTRATIVE_SHUTDOWN;
        ours.speaker.stop(selection.clone(), subcode, "");
    }
    ours.down(&config.id).await;
    assert_eq!(ours.speaker.start(&instance), 0);
    let up = |event: &SessionEvent| matches!(event, SessionEvent::Up { .. });
    assert!(ours.quiet(Duration::from_secs(2), up).await);
    assert_eq!(ours.speaker.start(&this), 1);
    ours.up(&config.id).await;
}

#[tokio::test]
async fn a_reset_closes_the_session_with_6_4_and_it_comes_back() {
    let config = session("127.21.2.1", "127.21.2.2", free_port("127.21.2.1"));
    let mut ours = Node::with(vec![config.clone()]);
    let mut theirs = Node::with(vec![mirrored(&config)]);
    ours.up(&config.id).await;
    let subcode = cease::ADMINISTRATIVE_RESET;
    assert!(ours.speaker.reset(&config.id, subcode, "new filters"));
    let DownReason::NotificationReceived(told) = theirs.down(&mirrored(&config).id).await else {
        panic!("no NOTIFICATION");
    };
    // Both have the N bit (RFC 8538 §3.1).
    let told = told.within_hard_reset().expect("a hard reset");
    assert_eq!((told.code, told.subcode), (6, 4));
    assert_eq!(told.shutdown_text(), Some("new filters"));
    ours.up(&config.id).await;
    theirs.up(&mirrored(&config).id).await;
}

#[tokio::test]
async fn rfc9234_4_2_roles_that_do_not_fit_keep_the_session_down() {
    let mut config = session("127.21.3.1", "127.21.3.2", free_port("127.21.3.1"));
    let role = |role| Some(RoleSettings { role, strict: true });
    config.role = role(Role::RouteServer);
    let mut theirs = mirrored(&config);
    theirs.role = role(Role::RouteServerClient);
    let mut ours = Node::with(vec![config.clone()]);
    let mut fits = Node::with(vec![theirs.clone()]);
    ours.up(&config.id).await;
    theirs.role = role(Role::Customer);
    assert!(fits.speaker.apply(vec![theirs]).is_empty());
    ours.error("only route server client fits").await;

    let raw = session("127.21.3.1", "127.21.3.3", config.port);
    let strict = SessionConfig {
        role: config.role,
        ..raw
    };
    assert!(ours.speaker.apply(vec![strict.clone()]).is_empty());
    let mut silent = RawPeer::connect(&strict).await;
    let open = open_of_peer(&strict, 90);
    silent.send(|out| open.encode(out)).await;
    assert_eq!(silent.notification().await, Notification::role_mismatch());
}
