//! Why routes changed: what the owner of a route server did since it last handed any on.
//!
//! In: each event and order, at next to no cost. Out: a [`Cause`] for people, once there is something
//! to tell.

use smallvec::SmallVec;

use crate::{
    api::query::PeerCommand,
    bgp::{InstanceId, SessionEvent, SessionId},
    events::routes::Cause,
    names::PeerName,
};

/// Causes that are told apart; what comes beyond is "others".
const MOST: usize = 4;

/// Something that changes routes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Updates(SessionId),
    Up(SessionId),
    Down(SessionId),
    Reload,
    Instance(InstanceId),
    Command(PeerName, PeerCommand),
    Time,
}

/// What happened since routes were last handed on.
#[derive(Clone, Default)]
pub(super) struct Causes {
    known: SmallVec<[Why; MOST]>,
    more: bool,
}

impl Causes {
    pub(super) fn note(&mut self, why: Why) {
        if self.known.contains(&why) {
            return;
        }
        match self.known.len() {
            MOST.. => self.more = true,
            _ => self.known.push(why),
        }
    }

    pub(super) fn note_event(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Routes { id, .. } | SessionEvent::RefreshEnds { id, .. } => {
                // Most often it is known.
                let known = |why: &Why| matches!(why, Why::Updates(known) if known == id);
                if !self.known.iter().any(known) {
                    self.note(Why::Updates(id.clone()));
                }
            }
            SessionEvent::Up { id, .. } => self.note(Why::Up(id.clone())),
            SessionEvent::Down { id, .. } => self.note(Why::Down(id.clone())),
            _ => {}
        }
    }

    /// Nothing more comes of it; `deferred`: routes are yet to be selected by what has happened.
    pub(super) fn settle(&mut self, deferred: bool) {
        if deferred {
            return;
        }
        self.known.clear();
        self.more = false;
    }

    /// What it was, for people; `name` knows what they call the peer of a session.
    pub(super) fn take(&mut self, name: impl Fn(&SessionId) -> Option<PeerName>) -> Cause {
        let mut texts = Vec::new();
        let mut peers = Vec::new();
        let session = |id: &SessionId| {
            let called = name(id).map_or_else(|| id.peer.to_string(), |peer| peer.to_string());
            format!("{}/{} {called}", id.route_server, id.instance)
        };
        for why in self.known.drain(..) {
            if let Why::Updates(id) | Why::Up(id) | Why::Down(id) = &why {
                peers.extend(name(id));
            }
            texts.push(match why {
                Why::Updates(id) => format!("UPDATE of {}", session(&id)),
                Why::Up(id) => format!("session {} is up", session(&id)),
                Why::Down(id) => format!("session {} is down", session(&id)),
                Why::Reload => "the configuration was read again".to_owned(),
                Why::Instance(instance) => format!("instance {instance} was stopped"),
                Why::Command(peer, command) => {
                    let text = format!("{} of {peer}", command.words());
                    peers.push(peer);
                    text
                }
                Why::Time => "what waited its turn, or was kept for its time".to_owned(),
            });
        }
        if std::mem::take(&mut self.more) {
            texts.push("others".to_owned());
        }
        peers.sort_unstable();
        peers.dedup();
        Cause {
            text: texts.join(", "),
            peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once_with_the_peers_behind_it_and_no_more_than_a_few() {
        let id = |instance| SessionId {
            route_server: "rs1".into(),
            instance: InstanceId(instance),
            peer: "10.1.20.4".parse().unwrap(),
        };
        let mut causes = Causes::default();
        for instance in [1, 2, 1] {
            causes.note(Why::Updates(id(instance)));
        }
        let cause = causes.take(|_| Some("fw".into()));
        assert_eq!(cause.text, "UPDATE of rs1/1 fw, UPDATE of rs1/2 fw");
        assert_eq!(cause.peers, ["fw".into()]);

        causes.note(Why::Command("vpn".into(), PeerCommand::Drain));
        causes.note(Why::Down(id(1)));
        let cause = causes.take(|_| None);
        assert_eq!(cause.text, "drain of vpn, session rs1/1 10.1.20.4 is down");
        assert_eq!(cause.peers, ["vpn".into()]);

        for instance in 0..10 {
            causes.note(Why::Instance(InstanceId(instance)));
        }
        let cause = causes.take(|_| None);
        assert!(cause.text.ends_with("instance 3 was stopped, others"));
        causes.note(Why::Time);
        causes.settle(true);
        let told = causes.clone().take(|_| None).text;
        assert!(told.starts_with("what waited"), "{told}");
        causes.settle(false);
        assert_eq!(causes.take(|_| None), Cause::default());
    }
}
