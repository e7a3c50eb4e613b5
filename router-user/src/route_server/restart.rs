//! Graceful restart: what is kept of peers that restart (RFC 4724 §4.2, RFC 8538 §4, RFC 9494 §4.2),
//! and what waits after a restart of our own (RFC 4724 §4.1).
//!
//! In: sessions that are lost and come back, End-of-RIB, the time. Out: paths of the RIB marked as
//! stale, made long-lived, swept. A session whose routes are kept keeps its place in the RIB, so for
//! those who learned them nothing happens.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{Operator, RouteServer, import::PeerRules};
use crate::{
    bgp::{
        DownReason, InstanceId, SessionId, State,
        wire::{
            Asn, Family, Negotiated, Notification,
            notification::{cease, error},
        },
    },
    config::{GatewayMembers, Peer},
    rib::SessionIndex,
};

/// Longest restart time that is granted to a peer.
const LONGEST_RESTART: Duration = Duration::from_secs(60 * 60);

/// How long a peer that is back may take until End-of-RIB (RFC 4724 §4.2, RFC 8538 §4.1).
const SYNCHRONISATION: Duration = Duration::from_secs(180);

/// The same where it says neither that it has restarted nor that it has kept forwarding: so does a
/// speaker whose connection broke and nothing else (BIRD). It announces anew within moments; to sweep
/// before that would turn packets away from a box that never stopped.
const PROMPT_SYNCHRONISATION: Duration = Duration::from_secs(5);

/// The routes of a session that was lost.
#[derive(Clone)]
pub(super) struct Kept {
    /// Where they are in the RIB; also where the session is once it is up again.
    pub(super) index: SessionIndex,
    speaker: Speaker,
    /// The rules that they were imported by.
    pub(super) rules: PeerRules,
    /// By family.
    families: [Option<Keeping>; 2],
}

/// Whose routes they are: the peer's router id and ASN, and ours towards it.
type Speaker = (Ipv4Addr, Asn, Asn);

/// The routes of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keeping {
    /// In the long-lived form: last choice.
    pub(super) long_lived: bool,
    /// When they became stale; the oldest ones, if the session was lost again and again.
    since: Instant,
    /// When this form ends, unless the session is up again.
    ends: Instant,
    /// How long the long-lived form lasts after that; zero: not at all.
    then: Duration,
    /// The session is up again: End-of-RIB is due by then.
    synchronised_by: Option<Instant>,
}

impl Keeping {
    /// Until when they are kept in this form, unless the peer announces them again.
    pub(super) fn until(&self) -> Instant {
        self.synchronised_by.unwrap_or(self.ends)
    }

    /// The same, kept no longer than the peer's settings of now say; `None`: not at all.
    fn within(self, peer: &Peer, family: Family, now: Instant) -> Option<Self> {
        let long_lived = Duration::from_secs(peer.restart.long_lived_stale_time.into());
        let form_ends = self.long_lived && long_lived.is_zero();
        if !peer.restart.enabled || !peer.families.contains(family) || form_ends {
            return None;
        }
        let ends = match self.long_lived {
            true => self.ends.min(now + long_lived),
            false => self.ends,
        };
        Some(Self {
            ends,
            then: self.then.min(long_lived),
            ..self
        })
    }
}

/// What becomes of the routes of one family whose session is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// They go.
    Drop,
    /// They are kept.
    Keep(Keeping),
    /// They are kept, but those that were stale before go.
    KeepFresh(Keeping),
}

impl Kept {
    /// What is kept of a family.
    pub(super) fn family(&self, family: Family) -> Option<&Keeping> {
        self.families[family as usize].as_ref()
    }

    /// End-of-RIB has come; whether routes of the family were kept until now.
    pub(super) fn ended(&mut self, family: Family) -> bool {
        self.families[family as usize].take().is_some()
    }

    fn is_over(&self) -> bool {
        self.families.iter().all(Option::is_none)
    }
}

impl RouteServer {
    /// We have restarted and forward as before: nothing is selected or sent until all peers have
    /// sent End-of-RIB, at the latest until then (RFC 4724 §4.1).
    pub fn defer_selection(&mut self, until: Instant) {
        self.deferred_until = Some(until);
    }

    /// Begins to select and send once nobody is waited for any more: a peer that has sent
    /// End-of-RIB, that will not send one, or that restarts itself.
    pub(super) fn end_deferral(&mut self, now: Instant) {
        let Some(until) = self.deferred_until else {
            return;
        };
        // Who they are is known only once they come.
        let mut gateways = self.config.gateways.iter();
        let all_known = self.config.dynamic_peers.is_empty()
            && gateways.all(|gateway| matches!(gateway.members, GatewayMembers::Addresses(_)));
        let all_told = all_known
            && self.sessions.values().all(|session| {
                let offer = session.up.as_ref().map(|up| &up.negotiated.peer);
                session.has_told()
                    || offer.is_some_and(|offer| {
                        let restart = offer.graceful_restart.as_ref();
                        restart.is_none_or(|restart| restart.restarted)
                    })
            });
        if !all_told && now < until {
            return;
        }
        tracing::info!(
            route_server = %self.config.name,
            all_told,
            "after the restart, routes are selected and sent from now on"
        );
        self.deferred_until = None;
        self.regroup = true;
        let up: Vec<SessionId> = self.up.values().cloned().collect();
        for id in up {
            self.join(&id);
        }
    }

    /// A session is down: its routes go, or are kept until the peer is back.
    pub(super) fn session_lost(&mut self, id: &SessionId, reason: &DownReason, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // Otherwise it was taken down from here, and what became of its routes is decided.
        let Some(up) = session.up.take() else {
            return;
        };
        self.members.change();
        self.requests.retain(|(other, _)| other != id);
        let mut kept = session.kept.take().unwrap_or(Kept {
            index: up.index,
            speaker: speaker(&up.negotiated),
            rules: up.rules.clone(),
            families: [None; 2],
        });
        kept.rules = up.rules;
        let shut_down = session.operator.shutdown.is_some();
        let settings = session.peer.clone();
        if shut_down || !is_outlived(&up.negotiated, reason) {
            self.rib.remove_session(up.index);
            self.up.remove(&up.index);
            return;
        }
        self.rib.leave(up.index);
        for family in Family::ALL {
            let before = kept.families[family as usize].take();
            let loss = loss(&up.negotiated, family, before, now);
            if let Loss::KeepFresh(_) = loss {
                self.rib.sweep_stale(up.index, family);
            }
            self.rib.mark_stale(up.index, family);
            let keeping = match loss {
                Loss::Keep(keeping) | Loss::KeepFresh(keeping) => Some(keeping),
                Loss::Drop => None,
            };
            let Some(keeping) = keeping.and_then(|it| it.within(&settings, family, now)) else {
                self.rib.sweep_stale(up.index, family);
                continue;
            };
            if keeping.long_lived {
                self.rib.make_long_lived(up.index, family);
            }
            let routes = self.rib.stale(up.index)[family as usize];
            if routes > 0 {
                tracing::info!(
                    session = %id, %family, routes, long_lived = keeping.long_lived,
                    seconds = (keeping.ends - now).as_secs(),
                    "the peer's routes are kept while it restarts"
                );
                kept.families[family as usize] = Some(keeping);
            }
        }
        self.keep(id, kept);
        self.plan_restarts();
    }

    /// A session is up: where its routes are, if some were kept. Those that a peer which restarted has
    /// not kept forwarding for go now.
    pub(super) fn session_is_back(
        &mut self,
        id: &SessionId,
        negotiated: &Negotiated,
        now: Instant,
    ) -> Option<SessionIndex> {
        let session = self.sessions.get_mut(id)?;
        let is_same = |kept: &Kept| kept.speaker == speaker(negotiated);
        if session.up.is_some() || !session.kept.as_ref().is_some_and(is_same) {
            self.session_down(id);
            return None;
        }
        let mut kept = session.kept.take()?;
        for family in Family::ALL {
            let Some(keeping) = &mut kept.families[family as usize] else {
                continue;
            };
            if let Some(time) = synchronisation(negotiated, family, keeping.long_lived) {
                keeping.synchronised_by = Some(now + time);
            } else {
                kept.families[family as usize] = None;
                let swept = self.rib.sweep_stale(kept.index, family);
                tracing::info!(session = %id, %family, swept, "the peer is back, but did not go on forwarding");
            }
        }
        let index = kept.index;
        session.kept = Some(kept);
        Some(index)
    }

    /// What is due for peers that restart.
    pub(super) fn end_waiting(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.kept.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let Some(mut kept) = self.sessions.get_mut(&id).and_then(|it| it.kept.take()) else {
                continue;
            };
            for family in Family::ALL {
                let keeping = &mut kept.families[family as usize];
                let Some(due) = keeping.as_mut().filter(|it| it.until() <= now) else {
                    continue;
                };
                if due.synchronised_by.is_none() && !due.then.is_zero() {
                    due.long_lived = true;
                    due.ends += std::mem::take(&mut due.then);
                    tracing::warn!(session = %id, %family, "the peer is not back; its routes are kept as last choice");
                    self.rib.make_long_lived(kept.index, family);
                } else {
                    let missing = match due.synchronised_by {
                        Some(_) => "is back, but has not sent End-of-RIB in time",
                        None => "has not come back in time",
                    };
                    *keeping = None;
                    let swept = self.rib.sweep_stale(kept.index, family);
                    tracing::warn!(session = %id, %family, swept, "the peer {missing}; its stale routes are gone");
                }
            }
            self.keep(&id, kept);
        }
        self.plan_restarts();
    }

    /// Drops what is kept of an instance's peers: it is stopped, they are not waited for.
    pub fn drop_kept(&mut self, instance: InstanceId) {
        let ids: Vec<SessionId> = self.sessions.keys().cloned().collect();
        for id in ids.iter().filter(|id| id.instance == instance) {
            self.end_keeping(id);
        }
    }

    /// Drops what is kept of a session that is down.
    pub(super) fn end_keeping(&mut self, id: &SessionId) {
        let session = self.sessions.get(id);
        if session.is_some_and(|session| session.up.is_none() && session.kept.is_some()) {
            self.session_down(id);
            self.plan_restarts();
        }
    }

    /// Other settings hold for what is kept of sessions that are down, too.
    pub(super) fn keep_as_configured(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().cloned().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id).filter(|it| it.up.is_none()) else {
                continue;
            };
            let Some(mut kept) = session.kept.take() else {
                continue;
            };
            for family in Family::ALL {
                let keeping = &mut kept.families[family as usize];
                let before = keeping.take();
                *keeping = before.and_then(|it| it.within(&session.peer, family, now));
                if before.is_some() && keeping.is_none() {
                    let swept = self.rib.sweep_stale(kept.index, family);
                    tracing::info!(session = %id, %family, swept, "its routes are not to be kept any longer");
                }
            }
            self.keep(&id, kept);
        }
        self.plan_restarts();
    }

    /// When [`RouteServer::end_waiting`] is due.
    pub(super) fn plan_restarts(&mut self) {
        let kept = self.sessions.values().filter_map(|it| it.kept.as_ref());
        let keeping = kept.flat_map(|kept| kept.families.iter().flatten());
        self.restart_at = keeping.map(Keeping::until).min();
    }

    /// Whether something would be forgotten with a peer whose sessions are down: routes that are
    /// kept, what the operator wants of it, that it rests because of its limit.
    #[must_use]
    pub fn must_remember(&self, peer: std::net::IpAddr) -> bool {
        let mut sessions = self.sessions.iter().filter(|(id, _)| id.peer == peer);
        sessions.any(|(_, session)| {
            let rests = session.resting && session.status.state == State::Idle;
            session.kept.is_some() || session.operator != Operator::default() || rests
        })
    }

    /// Notes what is kept of a session; its place in the RIB goes with the last of it.
    fn keep(&mut self, id: &SessionId, kept: Kept) {
        let session = self.sessions.get_mut(id).expect("the caller has found it");
        if !kept.is_over() {
            session.kept = Some(kept);
        } else if session.up.is_none() {
            self.members.change();
            self.rib.remove_session(kept.index);
            self.up.remove(&kept.index);
        }
    }
}

fn speaker(negotiated: &Negotiated) -> Speaker {
    let Negotiated {
        peer_router_id,
        peer_asn,
        local_asn,
        ..
    } = *negotiated;
    (peer_router_id, peer_asn, local_asn)
}

/// Whether routes may outlive a session that went down for this reason: its connection was lost, or,
/// where both sides said so, after any NOTIFICATION but a hard reset (RFC 8538 §4). A connection
/// that gave way to another one of the same peer was lost.
fn is_outlived(negotiated: &Negotiated, reason: &DownReason) -> bool {
    let (DownReason::NotificationSent(last) | DownReason::NotificationReceived(last)) = reason
    else {
        return true;
    };
    let Notification { code, subcode, .. } = *last;
    match (code, subcode) {
        (error::CEASE, cease::HARD_RESET) => false,
        (error::CEASE, cease::CONNECTION_COLLISION) => true,
        _ => negotiated.restarts_after_notification(),
    }
}

/// What becomes of a family's routes when their session is lost; `before`: what was kept of an
/// earlier loss, after which there was no End-of-RIB yet.
fn loss(negotiated: &Negotiated, family: Family, before: Option<Keeping>, now: Instant) -> Loss {
    let Negotiated { local, peer, .. } = negotiated;
    if !negotiated.families.contains(&family) || !local.restarts(family) {
        return Loss::Drop;
    }
    let restart_time = match (&peer.graceful_restart, peer.restarts(family)) {
        (Some(restart), true) => Duration::from_secs(restart.restart_time.into()),
        _ => Duration::ZERO,
    };
    let restart_time = restart_time.min(LONGEST_RESTART);
    let long_lived = [local, peer].map(|offer| {
        let entry = offer.long_lived_family(family);
        entry.map_or(0, |entry| entry.stale_time)
    });
    let long_lived = Duration::from_secs(long_lived.into_iter().min().unwrap_or_default().into());
    match before {
        // RFC 9494 §4.2: the timer goes on as it is until the peer has been synchronised.
        Some(before) if before.long_lived && before.ends > now => Loss::Keep(Keeping {
            synchronised_by: None,
            ..before
        }),
        _ if restart_time.is_zero() && long_lived.is_zero() => Loss::Drop,
        _ => {
            let since = before.map_or(now, |before| before.since);
            let keeping = Keeping {
                long_lived: restart_time.is_zero(),
                since,
                ends: match restart_time.is_zero() {
                    true => now + long_lived,
                    false => now + restart_time,
                },
                then: match restart_time.is_zero() {
                    true => Duration::ZERO,
                    false => long_lived,
                },
                synchronised_by: None,
            };
            // RFC 4724 §4.2, against consecutive restarts; RFC 8538 §4.1 and RFC 9494 §4.2 take it
            // back, but not for ever.
            let may_stay = negotiated.restarts_after_notification() || !long_lived.is_zero();
            let too_long = now >= since + LONGEST_RESTART;
            // Long-lived ones, if any, have had all their time.
            if before.is_some_and(|before| !may_stay || too_long || before.long_lived) {
                Loss::KeepFresh(Keeping {
                    since: now,
                    ..keeping
                })
            } else {
                Loss::Keep(keeping)
            }
        }
    }
}

/// How long a peer that is back may take until End-of-RIB of a family, by what it says of its
/// forwarding in the capability that is asked by now (RFC 4724 §4.2, RFC 9494 §4.2); `None` if what
/// was kept of the family goes at once.
fn synchronisation(negotiated: &Negotiated, family: Family, long_lived: bool) -> Option<Duration> {
    let Negotiated { local, peer, .. } = negotiated;
    if !local.restarts(family) || !negotiated.families.contains(&family) {
        return None;
    }
    let restarted = peer.graceful_restart.as_ref()?.restarted;
    let forwarding = if long_lived {
        peer.long_lived_family(family)?.forwarding
    } else {
        peer.restart_family(family)?.forwarding
    };
    match (forwarding, restarted || long_lived) {
        (true, _) => Some(SYNCHRONISATION),
        (false, false) => Some(PROMPT_SYNCHRONISATION),
        (false, true) => None,
    }
}
