//! OPENs and messages that the state does not allow.

use bytes::BytesMut;

use super::*;
use crate::bgp::{
    settings::RoleSettings,
    wire::{Context, Message, Role, decode},
};

#[test]
fn a_wrong_asn_is_answered_with_2_2_and_named() {
    let (mut fsm, now) = in_open_sent(settings(65515, 65010, [1, 1, 1, 1]));
    let actions = fsm.handle(open_received(OUTGOING, 65099, [2, 2, 2, 2]), now);
    assert!(notifies(&actions, 2, 2), "{actions:?}");
    assert!(
        actions.contains(&Action::Report(
            "OPEN: peer says ASN 65099, the configuration says 65010: correct asn of peer or the \
         peer's own configuration"
                .into()
        ))
    );
    assert_eq!(fsm.state(), State::Idle);
}

#[test]
fn a_peer_in_the_own_as_makes_an_internal_session_unless_it_has_the_own_identifier() {
    let (mut fsm, now) = in_open_sent(settings(65515, 65515, [1, 1, 1, 1]));
    let actions = fsm.handle(open_received(OUTGOING, 65515, [2, 2, 2, 2]), now);
    assert_eq!(fsm.state(), State::OpenConfirm, "{actions:?}");
    let (mut fsm, now) = in_open_sent(settings(65515, 65515, [1, 1, 1, 1]));
    let actions = fsm.handle(open_received(OUTGOING, 65515, [1, 1, 1, 1]), now);
    assert!(notifies(&actions, 2, 3), "RFC 6286: {actions:?}");
}

#[test]
fn an_open_that_breaks_a_rule_is_answered_with_its_subcode() {
    let good = open(2, [2, 2, 2, 2]);
    let only_multicast = vec![Capability::Multiprotocol { afi: 1, safi: 2 }];
    let table = [
        (
            Open {
                asn: 0,
                ..good.clone()
            },
            2,
        ),
        (
            Open {
                router_id: [0; 4].into(),
                ..good.clone()
            },
            3,
        ),
        (
            Open {
                hold_time: 1,
                ..good.clone()
            },
            6,
        ),
        (
            Open {
                hold_time: 2,
                ..good.clone()
            },
            6,
        ),
        (
            Open {
                capabilities: only_multicast,
                ..good
            },
            7,
        ),
    ];
    for (open, subcode) in table {
        let (mut fsm, now) = in_open_sent(settings(1, 2, [1, 1, 1, 1]));
        let message = Received::Open(open.clone());
        let actions = fsm.handle(
            Event::Received {
                connection: OUTGOING,
                message,
            },
            now,
        );
        assert!(notifies(&actions, 2, subcode), "{open:?}: {actions:?}");
    }
}

#[test]
fn bytes_that_break_a_rule_are_refused_with_a_text_that_says_what_to_do() {
    let good = Open {
        capabilities: vec![],
        ..open(2, [2, 2, 2, 2])
    };
    let mut bytes = BytesMut::new();
    good.encode(&mut bytes);
    for (at, values, subcode, text) in [
        (20, &[0, 0][..], 2, "correct the peer's configuration"),
        (22, &[0, 1], 6, "offers a hold time of 1 s: set it to 0 or"),
        (22, &[0, 2], 6, "offers a hold time of 2 s: set it to 0 or"),
        (24, &[0; 4], 3, "0.0.0.0: set the peer's router id"),
        (20, &[0x5b, 0xa0], 2, "enable 4-octet ASNs on the peer"),
    ] {
        let mut bytes = bytes.clone();
        bytes[at..at + values.len()].copy_from_slice(values);
        let Ok(Message::Open(theirs)) = decode(&bytes, &Context::default()) else {
            panic!("{values:?} at {at}: decodes");
        };
        let (mut fsm, now) = in_open_sent(settings(1, 2, [1, 1, 1, 1]));
        let actions = fsm.handle(received(OUTGOING, Received::Open(theirs)), now);
        assert!(notifies(&actions, 2, subcode), "{text}: {actions:?}");
        assert!(
            actions.iter().any(|action| matches!(action,
                Action::Report(report) if report.contains(text))),
            "{text}: {actions:?}"
        );
    }
}

#[test]
fn rfc9234_4_2_roles_that_do_not_fit_are_refused_with_both_named() {
    let ours = Open {
        capabilities: vec![Capability::Role(1)],
        ..open(1, [1, 1, 1, 1])
    };
    let refusal = |role| {
        let theirs = Open {
            capabilities: vec![Capability::Role(role)],
            ..open(2, [2, 2, 2, 2])
        };
        rules::check_role(&ours, &theirs)
    };
    assert!(refusal(2).is_ok());
    let internal = Open {
        capabilities: vec![Capability::Role(4)],
        ..open(1, [2, 2, 2, 2])
    };
    assert!(rules::check_role(&ours, &internal).is_ok());
    for (role, text) in [(3, "that its role is customer"), (9, "is number 9")] {
        let refusal = refusal(role).expect_err("no fit");
        assert_eq!(refusal.notification, Notification::role_mismatch());
        assert!(refusal.reason.contains(text), "{}", refusal.reason);
        assert!(refusal.reason.contains("only route server client fits"));
    }
}

#[test]
fn rfc9234_4_2_for_each_role_of_ours_one_role_of_the_peer_is_accepted() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let pairs = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    for (ours, fits) in pairs {
        for (_, theirs) in pairs {
            let actions = with_role(ours, false, vec![Capability::Role(theirs.code())]);
            let refused = notifies(&actions, 2, 11);
            assert_eq!(refused, theirs != fits, "{ours} and {theirs}: {actions:?}");
        }
    }
}

#[test]
fn rfc9234_4_2_a_peer_without_a_role_is_refused_in_strict_mode_alone() {
    let lenient = with_role(Role::RouteServer, false, vec![]);
    assert!(!notifies(&lenient, 2, 11), "{lenient:?}");
    let strict = with_role(Role::RouteServer, true, vec![]);
    assert!(notifies(&strict, 2, 11), "{strict:?}");
    assert!(
        strict.iter().any(|action| matches!(action,
            Action::Report(report) if report.contains("set its role to route server client"))),
        "{strict:?}"
    );
    let told = with_role(Role::RouteServer, true, vec![Capability::Role(2)]);
    assert!(!notifies(&told, 2, 11), "{told:?}");
}

#[test]
fn rfc9234_4_1_the_role_is_told_to_another_as_alone() {
    for (peer_asn, told) in [(2, true), (1, false)] {
        let open = rules::ours(
            &Settings {
                role: Some(RoleSettings {
                    role: Role::Peer,
                    strict: true,
                }),
                ..settings(1, peer_asn, [1, 1, 1, 1])
            },
            Instant::now(),
        );
        assert_eq!(open.has(&Capability::Role(4)), told);
    }
}

/// What is done about the OPEN of a peer with these capabilities.
fn with_role(ours: Role, strict: bool, theirs: Vec<Capability>) -> Vec<Action> {
    let role = Some(RoleSettings { role: ours, strict });
    let (mut fsm, now) = in_open_sent(Settings {
        role,
        ..settings(1, 2, [1, 1, 1, 1])
    });
    let theirs = Open {
        capabilities: theirs,
        ..open(2, [2, 2, 2, 2])
    };
    fsm.handle(received(OUTGOING, Received::Open(theirs)), now)
}

#[test]
fn a_missing_family_is_named_in_the_data_of_2_7() {
    let (mut fsm, now) = in_open_sent(Settings {
        families: vec![Family::Ipv6Unicast],
        ..settings(1, 2, [1, 1, 1, 1])
    });
    let old = Open {
        capabilities: vec![],
        ..open(2, [2, 2, 2, 2])
    };
    let message = Received::Open(old);
    let actions = fsm.handle(
        Event::Received {
            connection: OUTGOING,
            message,
        },
        now,
    );
    let sent = actions.iter().find_map(|action| match action {
        Action::Send {
            message: Outgoing::Notification(n),
            ..
        } => Some(n.data.clone()),
        _ => None,
    });
    assert_eq!(sent, Some(vec![1, 4, 0, 2, 0, 1]));
}

#[test]
fn within_one_as_the_identifiers_must_differ_and_across_two_they_may_be_equal() {
    let (mut ibgp, now) = in_open_sent(settings(1, 1, [1, 1, 1, 1]));
    assert!(notifies(
        &ibgp.handle(open_received(OUTGOING, 1, [1, 1, 1, 1]), now),
        2,
        3
    ));
    let (mut ebgp, now) = in_open_sent(settings(1, 2, [1, 1, 1, 1]));
    ebgp.handle(open_received(OUTGOING, 2, [1, 1, 1, 1]), now);
    assert_eq!(ebgp.state(), State::OpenConfirm);
}

#[test]
fn the_terms_are_what_both_announce() {
    let theirs = Open {
        hold_time: 30,
        capabilities: vec![
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::FourOctetAsn(2),
            Capability::EnhancedRouteRefresh,
            Capability::GracefulRestart {
                flags: 0,
                restart_time: 120,
                families: vec![(2, 1, 0x80)],
            },
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
        ],
        ..open(2, [2, 2, 2, 2])
    };
    let ours = settings(1, 2, [1, 1, 1, 1]);
    let terms =
        rules::negotiate(&ours, &theirs, [10, 0, 0, 1].into(), Instant::now()).expect("accepted");
    assert_eq!(terms.hold_time, 30);
    assert_eq!(terms.families, [Family::Ipv6Unicast]);
    assert!(terms.four_octet_asn && !terms.route_refresh && !terms.extended_message);
    assert!(terms.enhanced_route_refresh && !terms.extended_next_hop);
    let restart = terms.peer.graceful_restart.as_ref().expect("announced");
    assert_eq!(restart.restart_time, 120);
    assert!(terms.peer.restarts(Family::Ipv6Unicast));
    assert!(!terms.local.restarts(Family::Ipv6Unicast));

    let ours = Settings {
        extended_next_hop: true,
        ..ours
    };
    assert!(
        rules::ours(&ours, Instant::now())
            .capabilities
            .contains(&theirs.capabilities[4])
    );
    let terms =
        rules::negotiate(&ours, &theirs, [10, 0, 0, 1].into(), Instant::now()).expect("accepted");
    assert!(terms.extended_next_hop);
}

#[test]
fn a_speaker_without_capabilities_gets_ipv4_and_two_octets() {
    let theirs = Open {
        capabilities: vec![],
        ..open(2, [2, 2, 2, 2])
    };
    let ours = settings(1, 2, [1, 1, 1, 1]);
    let terms =
        rules::negotiate(&ours, &theirs, [10, 0, 0, 1].into(), Instant::now()).expect("accepted");
    assert_eq!(terms.families, [Family::Ipv4Unicast]);
    assert!(!terms.four_octet_asn);
}

#[test]
fn the_lower_hold_time_wins_and_zero_means_no_keepalives() {
    let mut world = World::new(
        Settings {
            hold_time: 0,
            ..ours()
        },
        theirs(),
    );
    world.start_both();
    world.run_until_established(MINUTE);
    let before = world.nodes[B].count(is_keepalive);
    world.run(24 * HOUR);
    assert_eq!(world.states(), [State::Established; 2]);
    assert_eq!(world.nodes[B].count(is_keepalive), before);
}

#[test]
fn a_message_in_the_wrong_state_is_answered_with_its_subcode() {
    let open = Received::Open(open(2, [2, 2, 2, 2]));
    let table = [
        (State::OpenSent, Received::Keepalive, 1),
        (State::OpenSent, Received::Update, 1),
        (State::OpenSent, Received::RouteRefresh, 1),
        (State::OpenConfirm, open.clone(), 2),
        (State::OpenConfirm, Received::Update, 2),
        (State::OpenConfirm, Received::RouteRefresh, 2),
        (State::Established, open, 3),
    ];
    for (state, message, subcode) in table {
        let (mut fsm, now) = in_state(state);
        let code = message.code();
        let actions = fsm.handle(
            Event::Received {
                connection: OUTGOING,
                message,
            },
            now,
        );
        let wanted = Notification::new(5, subcode, [code]);
        assert!(
            actions.contains(&Action::Send {
                connection: OUTGOING,
                message: Outgoing::Notification(wanted.clone())
            }),
            "{state:?}: {actions:?}"
        );
        let went_down = actions.contains(&Action::Down(DownReason::NotificationSent(wanted)));
        assert_eq!(went_down, state == State::Established);
        assert_eq!(fsm.state(), State::Idle);
    }
}

#[test]
fn a_message_in_the_wrong_state_is_named_to_the_operator() {
    let open = Received::Open(open(2, [2, 2, 2, 2]));
    for (state, message, said) in [
        (State::Established, open, "OPEN in state Established"),
        (
            State::OpenSent,
            Received::Update,
            "UPDATE in state OpenSent",
        ),
        (
            State::OpenSent,
            Received::Keepalive,
            "KEEPALIVE in state OpenSent",
        ),
        (
            State::OpenConfirm,
            Received::RouteRefresh,
            "ROUTE-REFRESH in state OpenConfirm",
        ),
    ] {
        let (mut fsm, now) = in_state(state);
        let actions = fsm.handle(received(OUTGOING, message), now);
        let named = |action: &Action| matches!(action, Action::Report(text) if text.contains(said));
        assert!(actions.iter().any(named), "{actions:?}");
    }
}

#[test]
fn what_may_arrive_in_established_keeps_the_session() {
    for message in [
        Received::Update,
        Received::Keepalive,
        Received::RouteRefresh,
    ] {
        let (mut fsm, now) = in_state(State::Established);
        let actions = fsm.handle(
            Event::Received {
                connection: OUTGOING,
                message,
            },
            now,
        );
        assert_eq!(actions, []);
        assert_eq!(fsm.state(), State::Established);
    }
}

#[test]
fn a_notification_in_any_state_closes_without_an_answer() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let (mut fsm, now) = in_state(state);
        let message = Received::Notification(Notification::administrative_shutdown(""));
        let actions = fsm.handle(
            Event::Received {
                connection: OUTGOING,
                message,
            },
            now,
        );
        assert!(actions.contains(&Action::Close {
            connection: OUTGOING
        }));
        assert!(
            !actions
                .iter()
                .any(|action| matches!(action, Action::Send { .. }))
        );
        assert_eq!(fsm.state(), State::Idle);
        assert!(fsm.next_timeout().is_some(), "it tries again");
    }
}
