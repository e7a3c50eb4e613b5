//! The operator's commands on a peer's sessions: shut down, start, drain, clear.
//!
//! In: a [`PeerOrder`] whose peer is known. Out: for each session what was done, or why nothing was.

use std::time::Instant;

use super::Owner;
use crate::{
    api::{
        query::{PeerCommand, PeerOrder},
        types::PeerOrderRow,
    },
    bgp::{InstanceId, SessionId, speaker::Selection, wire::notification::cease},
    events::{What, event::OperatorEvent},
    names::PeerName,
    route_server::RefreshError,
};

/// What was done, or why nothing was: `what; remedy`.
type Done = Result<String, String>;

impl Owner {
    /// Carries an order out on the peer's sessions.
    pub(super) fn command_peer(&mut self, peer: &PeerName, order: &PeerOrder) -> Vec<PeerOrderRow> {
        let instance = order.instance.map(InstanceId);
        let ids = self.server.route_server.sessions_of(peer, instance);
        let results = match order.command {
            PeerCommand::Shutdown => self.each(&ids, |this, id| this.shut_down(id, &order.text)),
            PeerCommand::Start => self.each(&ids, |this, id| this.start(peer, id)),
            PeerCommand::Drain => self.drain(&ids, true),
            PeerCommand::Undrain => self.drain(&ids, false),
            PeerCommand::ClearSoft => self.each(&ids, |this, id| this.clear_soft(peer, id)),
            PeerCommand::ClearHard => {
                self.each(&ids, |this, id| this.clear_hard(peer, id, &order.text))
            }
        };
        let rows = ids.iter().zip(results).map(|(id, done)| {
            let (done, what) = match done {
                Ok(what) => (true, what),
                Err(why) => (false, why),
            };
            tracing::info!(session = %id, %peer, command = ?order.command, done, "{what}");
            let event = OperatorEvent::PeerCommand {
                session: self.session_name(id),
                command: order.command,
            };
            let cause = "an operator's command";
            self.events.tell(What::Operator(event), cause, what.clone());
            PeerOrderRow {
                route_server: id.route_server.clone(),
                instance: id.instance.0,
                peer: peer.clone(),
                done,
                what,
            }
        });
        rows.collect()
    }

    fn each(
        &mut self,
        ids: &[SessionId],
        mut command: impl FnMut(&mut Self, &SessionId) -> Done,
    ) -> Vec<Done> {
        ids.iter().map(|id| command(self, id)).collect()
    }

    fn shut_down(&mut self, id: &SessionId, text: &str) -> Done {
        let ids = std::slice::from_ref(id);
        self.server.route_server.set_shutdown(ids, Some(text));
        let selection = Selection::Session(id.clone());
        self.speaker
            .stop(selection, cease::ADMINISTRATIVE_SHUTDOWN, text);
        Ok("shut down".to_owned())
    }

    fn start(&mut self, peer: &PeerName, id: &SessionId) -> Done {
        let ids = std::slice::from_ref(id);
        let was_down = self.is_shut_down(id);
        self.server.route_server.set_shutdown(ids, None);
        self.speaker.start(&Selection::Session(id.clone()));
        self.instance_runs(id)?;
        Ok(match was_down {
            true => "started".to_owned(),
            false => {
                format!("{peer} was not shut down; if it is not up, it is tried again at once")
            }
        })
    }

    fn drain(&mut self, ids: &[SessionId], drained: bool) -> Vec<Done> {
        let server = &mut self.server.route_server;
        server.set_drained(ids, drained, Instant::now());
        let what = match drained {
            true => "drained: its routes are last choice, and ours with it",
            false => "not drained any more",
        };
        ids.iter().map(|_| Ok(what.to_owned())).collect()
    }

    fn clear_soft(&mut self, peer: &PeerName, id: &SessionId) -> Done {
        self.runs(peer, id)?;
        let server = &mut self.server.route_server;
        match server.clear_soft(id, Instant::now()) {
            Ok(()) => Ok("asked for its routes again, and sent ours again".to_owned()),
            Err(RefreshError::NotAnnounced) => Err(format!(
                "it takes no requests for its routes (route refresh, RFC 2918), so that nothing was \
                 done; clear it hard (waypost peer clear {peer} hard)"
            )),
            Err(error) => Err(format!("{error}; see why (waypost show peer {peer})")),
        }
    }

    fn clear_hard(&mut self, peer: &PeerName, id: &SessionId, text: &str) -> Done {
        self.runs(peer, id)?;
        let was_up = self.server.route_server.clear_hard(id);
        self.speaker.reset(id, cease::ADMINISTRATIVE_RESET, text);
        Ok(match was_up {
            true => "closed, to come back at once".to_owned(),
            false => "was not up; nothing is kept of it, and it is tried again at once".to_owned(),
        })
    }

    fn is_shut_down(&self, id: &SessionId) -> bool {
        let operator = self.server.route_server.operator(id);
        operator.is_some_and(|operator| operator.shutdown.is_some())
    }

    /// Whether the session is to be up at all.
    fn runs(&self, peer: &PeerName, id: &SessionId) -> Result<(), String> {
        if self.is_shut_down(id) {
            return Err(format!(
                "it is shut down; start it (waypost peer start {peer})"
            ));
        }
        self.instance_runs(id)
    }

    fn instance_runs(&self, id: &SessionId) -> Result<(), String> {
        let instance = id.instance;
        if self.server.stopped.contains(&instance) {
            return Err(format!(
                "instance {instance} is stopped; start it (waypost instance start {instance})"
            ));
        }
        Ok(())
    }
}
