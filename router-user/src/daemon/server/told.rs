//! What the event log is told of sessions, limits and commands.

use super::Owner;
use crate::{
    bgp::{DownReason, InstanceId, SessionEvent, SessionId},
    events::{
        What,
        event::{
            Direction, LimitCount, LimitEvent, OperatorEvent, SessionEvent as Change, SessionName,
        },
    },
    route_server::{LimitLevel, LimitNotice},
};

/// A session that comes up or goes down, before the route server knows of it.
pub(super) struct SessionChange {
    id: SessionId,
    up: bool,
    cause: String,
    /// Its routes before.
    routes: usize,
}

impl Owner {
    /// Whether a session comes up or goes down, and somebody is to be told.
    pub(super) fn session_change(&self, event: &SessionEvent) -> Option<SessionChange> {
        let (id, up, cause) = match event {
            _ if !self.events.is_kept() => return None,
            SessionEvent::Up { id, negotiated, .. } => {
                let families = negotiated.families.iter().map(ToString::to_string);
                let families = families.collect::<Vec<_>>().join(" and ");
                let cause = format!(
                    "AS {}, router id {}, agreed on {families} with a hold time of {} s",
                    negotiated.peer_asn, negotiated.peer_router_id, negotiated.hold_time
                );
                (id, true, cause)
            }
            SessionEvent::Down { id, reason: why } => (id, false, reason(why)),
            _ => return None,
        };
        Some(SessionChange {
            id: id.clone(),
            up,
            cause,
            routes: self.server.route_server.routes_of(id),
        })
    }

    /// It has come up or gone down, and the route server knows of it.
    pub(super) fn tell_session(&self, change: SessionChange) {
        let SessionChange {
            id,
            up,
            cause,
            routes,
        } = change;
        let kept = self.server.route_server.routes_of(&id);
        let effect = match (up, routes, kept) {
            (true, _, 0) => "routes are exchanged".to_owned(),
            (true, _, kept) => {
                format!("routes are exchanged; {kept} that were kept wait to be announced again")
            }
            (false, 0, _) => "no route came from it".to_owned(),
            (false, gone, 0) => format!("its routes are gone: {gone}"),
            (false, _, kept) => format!("its routes are kept while it restarts: {kept}"),
        };
        let session = self.session_name(&id);
        let event = match up {
            true => Change::Up(session),
            false => Change::Down(session),
        };
        self.events.tell(What::Session(event), cause, effect);
    }

    /// What the route server has to say of limits.
    pub(super) fn tell_limits(&mut self) {
        for notice in self.server.route_server.take_notices() {
            let LimitNotice {
                id,
                peer,
                family,
                advertised,
                level,
                count,
                max,
                effect,
            } = notice;
            let direction = match advertised {
                true => Direction::Advertised,
                false => Direction::Received,
            };
            let reached = LimitCount {
                session: SessionName {
                    route_server: id.route_server,
                    instance: id.instance.0,
                    peer,
                    address: id.peer,
                },
                family,
                direction,
                count,
                max,
            };
            let cause = match direction {
                Direction::Received => "what it announced",
                Direction::Advertised => "what there is to be announced to it",
            };
            let event = match level {
                LimitLevel::Warned => LimitEvent::Warned(reached),
                LimitLevel::Reached => LimitEvent::Reached(reached),
                LimitLevel::Over => LimitEvent::Over(reached),
            };
            self.events.tell(What::Limit(event), cause, effect);
        }
    }

    pub(super) fn tell_instance(&self, instance: InstanceId, stopped: bool) {
        let (route_server, instance) = (self.name.clone(), instance.0);
        let (event, effect) = match stopped {
            true => (
                OperatorEvent::InstanceStopped {
                    route_server,
                    instance,
                },
                "its sessions are closed; the other instance goes on",
            ),
            false => (
                OperatorEvent::InstanceStarted {
                    route_server,
                    instance,
                },
                "its sessions may come up",
            ),
        };
        let cause = "an operator's command";
        self.events.tell(What::Operator(event), cause, effect);
    }

    pub(super) fn session_name(&self, id: &SessionId) -> SessionName {
        let name = self.server.route_server.peer_name(id);
        SessionName {
            route_server: id.route_server.clone(),
            instance: id.instance.0,
            // A session that is configured no longer is told by its address.
            peer: name.map_or_else(|| id.peer.to_string().into(), Clone::clone),
            address: id.peer,
        }
    }
}

/// Why a session went down, for people.
pub(super) fn reason(reason: &DownReason) -> String {
    match reason {
        DownReason::NotificationSent(notification) => format!("we sent {notification}"),
        DownReason::NotificationReceived(notification) => format!("the peer sent {notification}"),
        DownReason::Connection(what) => format!("connection: {what}"),
    }
}
