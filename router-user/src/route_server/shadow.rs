//! A copy of a route server on which another configuration can be tried.
//!
//! In: a clone of the live one, which shares nothing with it but attributes that nobody changes, and a
//! configuration. Out: the same rows, reports and commands that the live one would give, of which
//! nothing leaves. What waits in a live route server for its turn, for a slow peer or for the end of a
//! restart happens at once here: a shadow shows where things end up. What depends on what peers do
//! later (they come back, they stay away) does not happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use super::{Filter, Report, RouteServer};
use crate::{
    api::types::AdvertisedRow,
    bgp::{
        DownReason, InstanceId, RouteChange, SessionCommand, SessionEvent, SessionId,
        session::SessionConfig,
        wire::{
            Negotiated, Nlri, Notification, PathAttributes,
            notification::{cease, error},
        },
    },
    rib::PathView,
};

/// What a shadow did until nothing was left to be done.
#[derive(Debug, Default)]
pub struct Settled {
    /// For the networks, in order.
    pub reports: Vec<Report>,
    /// Sessions that the route server closed, and what their peers would be told.
    pub closed: BTreeMap<SessionId, Notification>,
    /// Sessions whose peers would be asked for all their routes again.
    pub asked: BTreeSet<SessionId>,
    /// Sessions whose rest, for their number of routes, ends early.
    pub woken: BTreeSet<SessionId>,
}

/// A session that was up, and what its peer had announced.
#[derive(Clone, Debug)]
pub struct Recollection {
    negotiated: Arc<Negotiated>,
    routes: Vec<(Arc<PathAttributes>, Nlri)>,
}

#[cfg(test)]
impl Recollection {
    /// A session that would agree on this and announce that.
    pub(crate) fn new(
        negotiated: Arc<Negotiated>,
        routes: Vec<(Arc<PathAttributes>, Nlri)>,
    ) -> Self {
        Self { negotiated, routes }
    }
}

impl RouteServer {
    /// Makes a shadow of a clone: nothing waits any longer, and networks that know nothing yet will be
    /// told everything.
    pub fn become_shadow(&mut self, now: Instant) {
        if let Some(until) = self.deferred_until {
            self.end_deferral(until.max(now));
        }
        for index in self.up.keys() {
            self.rib.resume(*index);
        }
        self.forget_views();
        // Nobody has been told of them.
        self.forgotten_views.clear();
        self.members = super::Members::default();
        self.regroup = true;
        // These are the live one's.
        self.shutdowns.clear();
        self.requests.clear();
        self.woken.clear();
        self.notices.clear();
        self.schedule(now);
    }

    /// Lets everything happen that is under way, as far as it needs neither peers nor time.
    pub fn settle(&mut self, now: Instant) -> Settled {
        let mut settled = Settled::default();
        // What is kept back by a limit fills the room that there is, once.
        for _ in 0..2 {
            loop {
                self.take_all(now, &mut settled);
                if self.next_timeout().is_none_or(|at| at > now) {
                    break;
                }
                self.on_timeout(now);
            }
            self.fill_now(now);
        }
        settled
    }

    fn take_all(&mut self, now: Instant, settled: &mut Settled) {
        settled.reports.extend(self.take_reports(now));
        for (id, command) in self.take_commands(now) {
            match command {
                SessionCommand::Send(_) => {}
                SessionCommand::RequestRefresh(_) => {
                    settled.asked.insert(id);
                }
                SessionCommand::Shutdown { notification, .. } => {
                    settled.closed.insert(id, notification);
                }
            }
        }
        settled.woken.extend(self.take_woken());
        self.take_notices();
    }

    /// What these sessions, as far as they are up, have agreed on and received.
    #[must_use]
    pub fn recollect(&self, ids: &BTreeSet<SessionId>) -> BTreeMap<SessionId, Recollection> {
        let up = |id: &SessionId| {
            let up = self.sessions.get(id)?.up.as_ref()?;
            let negotiated = up.negotiated.clone();
            let routes = Vec::new();
            Some((id.clone(), Recollection { negotiated, routes }))
        };
        let mut known: BTreeMap<_, _> = ids.iter().filter_map(up).collect();
        if known.is_empty() {
            return known;
        }
        for view in self.rib.prefixes(None, None) {
            for PathView {
                session,
                path_id,
                received,
                stale,
                aggregate,
                ..
            } in view.paths
            {
                // Nobody announced an aggregate.
                let announced = !stale && !aggregate;
                if let Some(known) = known.get_mut(&session).filter(|_| announced) {
                    let prefix = view.prefix;
                    known.routes.push((received, Nlri { prefix, path_id }));
                }
            }
        }
        known
    }

    /// Whether a session is up.
    #[must_use]
    pub fn is_up(&self, id: &SessionId) -> bool {
        self.index(id).is_some()
    }

    /// What the session of an instance with the peer at an address is sent.
    pub fn advertised_to(&mut self, instance: InstanceId, address: IpAddr) -> Vec<AdvertisedRow> {
        let mut ids = self.sessions.iter();
        let session = ids.find(|(id, _)| id.instance == instance && id.peer == address);
        let Some(peer) = session.map(|(_, session)| session.peer.name.clone()) else {
            return Vec::new();
        };
        self.advertised_rows(&Filter {
            peer: Some(peer),
            instance: Some(instance),
            ..Filter::default()
        })
    }

    /// A session goes down and comes back under another configuration, and its peer announces what it
    /// had announced.
    pub fn come_back(&mut self, config: &SessionConfig, known: Recollection, now: Instant) {
        let id = &config.id;
        let hard = Notification::new(error::CEASE, cease::HARD_RESET, Vec::new());
        let reason = DownReason::NotificationSent(hard);
        let id_down = id.clone();
        self.handle(
            SessionEvent::Down {
                id: id_down,
                reason,
            },
            now,
        );
        // It was closed for being another one's, and is no longer.
        self.shutdowns.retain(|(other, _)| other != id);
        let negotiated = renegotiated(&known.negotiated, config);
        let families = negotiated.families.clone();
        self.session_up(id, Arc::new(negotiated), now);
        let mut changes: Vec<RouteChange> = Vec::new();
        for (attributes, nlri) in known.routes {
            match changes.last_mut() {
                Some(RouteChange::Announce {
                    attributes: last,
                    nlri: to,
                }) if Arc::ptr_eq(last, &attributes) => to.push(nlri),
                _ => changes.push(RouteChange::Announce {
                    attributes,
                    nlri: vec![nlri],
                }),
            }
        }
        changes.extend(families.into_iter().map(RouteChange::EndOfRib));
        self.routes(id, changes, now);
        self.schedule(now);
    }

    /// Frees what shadows that are gone held of the attributes here.
    pub fn forget_shadows(&mut self) {
        self.rib.sweep();
    }
}

/// What a peer and we would agree on anew: what we do not offer any longer is gone. What we did not
/// offer before, the peer may not want.
fn renegotiated(before: &Negotiated, config: &SessionConfig) -> Negotiated {
    let mut agreed = Negotiated {
        local_asn: config.local_asn,
        local_router_id: config.router_id,
        local_address: config.local_address,
        hold_time: before.hold_time.min(config.hold_time),
        extended_next_hop: before.extended_next_hop && config.extended_next_hop,
        ..before.clone()
    };
    let families = |list: &mut Vec<_>| list.retain(|family| config.families.contains(family));
    families(&mut agreed.families);
    families(&mut agreed.add_path_receive);
    families(&mut agreed.add_path_send);
    if !config.add_path.receive {
        agreed.add_path_receive.clear();
    }
    if config.add_path.send == 0 {
        agreed.add_path_send.clear();
    }
    agreed
}
