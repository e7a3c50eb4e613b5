//! What the operator reads: what happened, and what to do about it.

use super::*;

#[test]
fn a_notification_that_the_operator_can_do_something_about_says_what() {
    for (code, subcode, remedy) in [
        (2, 2, "; correct the ASN that the peer expects"),
        (2, 3, "; give one of the two another router id"),
        (4, 0, "is the path lossy, or this host overloaded?"),
        (6, 1, "; raise the peer's limit, or announce less"),
        (6, 3, "; configure this instance's address on the peer"),
        (6, 5, "; configure this instance's address on the peer"),
        (
            6,
            4,
            "10.0.0.9 sent NOTIFICATION 6/4 (Cease: administrative reset)",
        ),
    ] {
        let (mut fsm, now) = in_state(State::OpenConfirm);
        let message = Received::Notification(Notification::new(code, subcode, []));
        let actions = fsm.handle(received(OUTGOING, message), now);
        let text = report(&actions);
        assert!(text.starts_with("10.0.0.9 sent NOTIFICATION "), "{text}");
        assert!(text.contains(remedy), "{text}");
        let mended = text.contains("); ");
        assert_eq!(mended, (code, subcode) != (6, 4), "{text}");
    }
}

#[test]
fn a_connection_that_is_lost_before_the_session_was_up_names_our_address_and_asn() {
    for (state, hint) in [
        (State::OpenSent, Some("configured for 10.0.0.1 with ASN 1?")),
        (
            State::OpenConfirm,
            Some("configured for 10.0.0.1 with ASN 1?"),
        ),
        (State::Established, None),
    ] {
        let (mut fsm, now) = in_state(state);
        let closed = Event::Closed {
            connection: OUTGOING,
            reason: "reset by the peer".into(),
        };
        let actions = fsm.handle(closed, now);
        let text = report(&actions);
        assert!(text.contains("reset by the peer"), "{text}");
        match hint {
            Some(hint) => assert!(text.contains(hint), "{text}"),
            None => assert!(!text.contains("ASN"), "{text}"),
        }
    }
}

#[test]
fn an_attempt_without_answer_asks_for_the_keys_where_there_are_some() {
    for authenticated in [true, false] {
        let (mut fsm, _) = started(Settings {
            authenticated,
            ..ours()
        });
        let deadline = fsm.next_timeout().expect("the attempt has an end");
        let actions = fsm.handle(Event::Timer, deadline);
        let text = report(&actions);
        assert_eq!(text.contains("the same key?"), authenticated, "{text}");
    }
}

#[test]
fn a_peer_that_stopped_reading_is_named() {
    let (mut fsm, now) = in_state(State::Established);
    let connection = OUTGOING;
    fsm.handle(Event::Queued { connection }, now);
    let late = now + Duration::from_secs(480);
    fsm.handle(received(OUTGOING, Received::Keepalive), late);
    let actions = fsm.handle(Event::Timer, late);
    let text = report(&actions);
    assert!(text.contains("10.0.0.9 has stopped reading"), "{text}");
}

fn report(actions: &[Action]) -> &str {
    let texts = actions.iter().filter_map(|action| match action {
        Action::Report(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Vec<&str> = texts.collect();
    assert_eq!(texts.len(), 1, "{actions:?}");
    texts[0]
}
