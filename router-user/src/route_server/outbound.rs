//! What a session is sent: its view, and how much of it.
//!
//! In: the configuration, what was agreed on, how many routes went out. Out: views for the RIB, and
//! what the limit of advertised routes leads to: a warning, a closed session, or a prefix beyond which
//! learned routes are kept back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LimitLevel, LimitNotice, Maps, RouteServer, SessionCommand, SessionId, SessionIndex, Up, kind,
    limit,
    notice::{self, LimitWatch},
};
use crate::{
    bgp::wire::{Aggregator, Family, Negotiated, Notification},
    config::{self, LimitAction, Peer, PeerPolicy},
    rib::{Audience, Export, ExportPolicy, SourceKinds, Until, View},
};

/// A session that is kept from routes by its limit is looked at this often, whether there is room for
/// some of them.
const FILLED_AGAIN: Duration = Duration::from_secs(1);

/// One for which there was no room when it was last looked at waits for twice as long, up to this.
const SELDOM: Duration = Duration::from_secs(64);

/// What the limit of what a session is sent has led to, in one family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outbound {
    /// How near the limit is that was told last.
    watch: LimitWatch,
    /// How far learned routes are sent; the others are kept back.
    pub(super) until: Until,
    /// There is room since: when it is filled.
    fill_at: Option<Instant>,
    /// How long is waited before room is filled: longer after each time that this was in vain.
    back_off: Option<Duration>,
    /// When room was filled; nothing had to go again since.
    filled: Option<Instant>,
}

/// What a limit has last been applied to: a view as it would be without it, and the limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fitted(View, u32);

/// A session that was to be sent too many routes, and what decided which ones.
#[derive(Clone, Debug)]
pub(super) struct Overfed {
    pub(super) family: Family,
    pub(super) count: usize,
    fed: Fed,
}

/// What an operator changes to have fewer routes sent.
type Fed = (SourceKinds, Option<Arc<dyn ExportPolicy>>);

impl Overfed {
    /// Whether other routes are to be sent to the session since, its peer being this one.
    pub(super) fn is_fed_otherwise(
        &self,
        config: &config::RouteServer,
        maps: &Maps,
        peer: &Peer,
    ) -> bool {
        self.fed != fed(config, maps, peer)
    }
}

fn fed(config: &config::RouteServer, maps: &Maps, peer: &Peer) -> Fed {
    (kind::sent_to(config, peer.kind()), maps.outbound(peer))
}

impl RouteServer {
    /// A session that is up is sent routes from now on.
    pub(super) fn join(&mut self, id: &SessionId) {
        let Some(up) = self.sessions.get(id).and_then(|it| it.up.as_ref()) else {
            return;
        };
        let index = up.index;
        self.apply_outbound_limit(id, index);
        let Some(view) = self.view(id) else { return };
        self.rib.join(index, view);
    }

    /// What a session that is up is sent.
    pub(super) fn view(&self, id: &SessionId) -> Option<View> {
        let session = self.sessions.get(id)?;
        let up = session.up.as_ref()?;
        let Negotiated {
            local_asn,
            peer_asn,
            extended_next_hop,
            ..
        } = *up.negotiated;
        let instance = self
            .config
            .instances
            .iter()
            .find(|instance| instance.id == id.instance);
        let addresses = instance.map_or(&[][..], |instance| &instance.addresses);
        let v4 = addresses.iter().find(|address| address.is_ipv4());
        let v6 = addresses.iter().find(|address| address.is_ipv6());
        // RFC 8950: an instance without an IPv4 address can still be reached for IPv4.
        let v4 = v4.or(v6.filter(|_| extended_next_hop));
        let internal = local_asn == peer_asn;
        let policy = self.maps.outbound(&session.peer);
        Some(View {
            context: up.negotiated.context(),
            asn: self.config.asn,
            max_paths: session.peer.add_path.send,
            sources: kind::sent_to(&self.config, session.peer.kind()),
            locals: self.local_sources.sent_to(&session.peer),
            cluster_id: internal.then_some(self.config.cluster_id),
            until: up.outbound.map(|outbound| outbound.until),
            aggregator: policy.is_some().then_some(Aggregator {
                asn: self.config.asn,
                id: up.negotiated.local_router_id,
            }),
            audience: Audience::default(),
            policy: policy.clone(),
            long_lived: up.negotiated.peer.knows_long_lived(),
            export: Export {
                // RFC 8212 §2.
                closed: self.config.require_policy && !internal && policy.is_none(),
                graceful_shutdown: session.operator.drained,
                ..export(&session.peer)
            },
            next_hop_v4: v4.map(|address| (*address).into()),
            next_hop_v6: v6.map(|address| (*address).into()),
        })
    }

    /// Gives all sessions that are up the views of now, as far as these changed.
    pub(super) fn apply_views(&mut self) {
        let views = self
            .up
            .iter()
            .filter_map(|(index, id)| Some((*index, self.view(id)?)));
        let views = views.collect();
        self.rib.set_views(views);
    }

    /// Applies the limits to what has gone out so far, before it leaves.
    pub(super) fn limit_advertised(&mut self, now: Instant) {
        self.rib.flush();
        let limited = self
            .sessions
            .iter()
            .filter(|(_, session)| session.up.is_some() && session.peer.max_advertised.is_some());
        let limited: Vec<SessionId> = limited.map(|(id, _)| id.clone()).collect();
        for id in limited {
            self.limit_session(&id, now);
        }
    }

    fn limit_session(&mut self, id: &SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (Some(up), Some(limit)) = (&mut session.up, session.peer.max_advertised) else {
            return;
        };
        if self.rib.is_moving(up.index) {
            // Routes that are to go may stand beside those that came in their place.
            return;
        }
        let max = limit as usize;
        let action = session.peer.advertised_limit_action;
        let advertised = self.rib.totals(up.index).advertised;
        let mut trimmed = false;
        let mut refit = Vec::new();
        for family in Family::ALL {
            let count = advertised[family as usize];
            let outbound = &mut up.outbound[family as usize];
            if let Some(level) = outbound.watch.rises_to(count, max) {
                if level < LimitLevel::Over {
                    tracing::warn!(session = %id, %family, count, max, "near its limit of advertised routes");
                }
                self.notices.push(LimitNotice {
                    id: id.clone(),
                    peer: session.peer.name.clone(),
                    family,
                    advertised: true,
                    level,
                    count,
                    max,
                    effect: notice::effect_on_advertised(level, &session.peer),
                });
            }
            match action {
                LimitAction::Warn => {}
                LimitAction::Discard if count > max => {
                    if outbound.until == Until::Nothing {
                        // The rest is originated here.
                        continue;
                    }
                    let last = self.rib.last_held_that_fits(up.index, family, max);
                    outbound.keep_back(id, family, limit, last);
                    outbound.was_filled_in_vain(now);
                    trimmed = true;
                }
                LimitAction::Discard => {
                    if count < max && outbound.fill_at.is_some_and(|at| at <= now) {
                        outbound.fill_at = None;
                        refit.push(family);
                    }
                }
                LimitAction::Teardown if count <= max => {}
                LimitAction::Teardown => {
                    let idle = session.rests.next(now.saturating_duration_since(up.since));
                    tracing::warn!(
                        session = %id, %family, count, max, ?idle,
                        "over its limit of advertised routes"
                    );
                    let restarts = session.peer.limit_restart;
                    session.resting = true;
                    session.overfed = Some(Overfed {
                        family,
                        count,
                        fed: fed(&self.config, &self.maps, &session.peer),
                    });
                    self.shutdowns.push((
                        id.clone(),
                        SessionCommand::Shutdown {
                            notification: Notification::max_prefixes_reached(family, limit),
                            idle: restarts.then_some(idle),
                        },
                    ));
                    return self.session_down(id);
                }
            }
        }
        let index = up.index;
        if trimmed {
            let until = up.outbound.map(|outbound| outbound.until);
            self.rib.narrow(index, until);
        }
        if !refit.is_empty() {
            self.fill(id, index, &refit, now);
        }
        self.schedule_fill(id, index, max, now);
    }

    /// Where routes are kept back, and there is room, it is filled after a while.
    fn schedule_fill(&mut self, id: &SessionId, index: SessionIndex, max: usize, now: Instant) {
        let advertised = self.rib.totals(index).advertised;
        let up = self.sessions.get_mut(id).and_then(|it| it.up.as_mut());
        for (outbound, count) in up
            .into_iter()
            .flat_map(|up| up.outbound.iter_mut().zip(advertised))
        {
            let has_room = outbound.until != Until::End && count < max;
            let at = has_room.then(|| outbound.fill_at.unwrap_or(now + outbound.wait()));
            outbound.fill_at = at;
        }
    }

    /// Sends a session routes that were kept back, as far as there is room.
    fn fill(&mut self, id: &SessionId, index: SessionIndex, families: &[Family], now: Instant) {
        let before = self.rib.totals(index).advertised;
        self.fit(id, families);
        if let Some(view) = self.view(id) {
            self.rib.set_views(vec![(index, view)]);
        }
        let after = self.rib.totals(index).advertised;
        let up = self.sessions.get_mut(id).and_then(|it| it.up.as_mut());
        let Some(up) = up else { return };
        for &family in families {
            let outbound = &mut up.outbound[family as usize];
            if before[family as usize] == after[family as usize] {
                outbound.back_off();
                continue;
            }
            if outbound.filled.replace(now).is_some() {
                // What was filled in before has stayed.
                outbound.back_off = None;
            }
        }
    }

    /// Works out beyond which prefix a session's learned routes are kept back, so that the first ones in
    /// their order fill its limit: what is kept back does not depend on what came first.
    fn fit(&mut self, id: &SessionId, families: &[Family]) {
        let Some(unlimited) = self.unlimited_view(id) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let peer = &session.peer;
        let discards = peer.advertised_limit_action == LimitAction::Discard;
        let limit = peer.max_advertised.filter(|_| discards);
        let Some(up) = &mut session.up else { return };
        for &family in families {
            let outbound = &mut up.outbound[family as usize];
            let Some(limit) = limit else {
                *outbound = Outbound {
                    watch: outbound.watch,
                    ..Outbound::default()
                };
                continue;
            };
            let max = limit as usize;
            let last = self.rib.last_that_fits(up.index, &unlimited, family, max);
            outbound.keep_back(id, family, limit, last);
        }
    }

    /// Another limit, or other routes that it is for, may hold for sessions that are up.
    pub(super) fn apply_outbound_limits(&mut self) {
        let ups: Vec<(SessionIndex, SessionId)> = self
            .up
            .iter()
            .map(|(index, id)| (*index, id.clone()))
            .collect();
        for (index, id) in ups {
            if self.fitted(&id) != self.to_fit(&id).as_ref() {
                self.apply_outbound_limit(&id, index);
            }
        }
    }

    /// Applies the limit of a session to what it is to be sent now.
    fn apply_outbound_limit(&mut self, id: &SessionId, index: SessionIndex) {
        let fitted = self.to_fit(id);
        self.rib.set_limited(index, fitted.is_some());
        self.fit(id, &Family::ALL);
        let up = self.sessions.get_mut(id).and_then(|it| it.up.as_mut());
        if let Some(up) = up {
            up.fitted = fitted.map(Box::new);
        }
    }

    fn fitted(&self, id: &SessionId) -> Option<&Fitted> {
        self.sessions.get(id)?.up.as_ref()?.fitted.as_deref()
    }

    /// What a limit would be applied to now, if what is beyond is kept back.
    fn to_fit(&self, id: &SessionId) -> Option<Fitted> {
        let peer = &self.sessions.get(id)?.peer;
        let discards = peer.advertised_limit_action == LimitAction::Discard;
        let limit = peer.max_advertised.filter(|_| discards)?;
        Some(Fitted(self.unlimited_view(id)?, limit))
    }

    /// What a session that is up would be sent without a limit.
    fn unlimited_view(&self, id: &SessionId) -> Option<View> {
        let view = self.view(id)?;
        let until = [Until::End; 2];
        Some(View { until, ..view })
    }

    /// When there is room to be filled.
    pub(super) fn next_fill(&self) -> Option<Instant> {
        let up = self.sessions.values().filter_map(|it| it.up.as_ref());
        let outbound = up.flat_map(|up| &up.outbound);
        outbound.filter_map(|outbound| outbound.fill_at).min()
    }

    /// What is kept back is looked at again now where there is room for some of it.
    pub(super) fn fill_now(&mut self, now: Instant) {
        let up = self.sessions.values_mut();
        let up = up.filter_map(|session| session.up.as_mut());
        for outbound in up.flat_map(|up| &mut up.outbound) {
            outbound.fill_at = outbound.fill_at.map(|_| now);
        }
    }

    /// What the limit means for a session, for people.
    pub(super) fn outbound_warnings(&self, peer: &Peer, up: &Up) -> Vec<String> {
        let Some(max) = peer.max_advertised else {
            return Vec::new();
        };
        let advertised = self.rib.totals(up.index).advertised;
        let warnings = Family::ALL.into_iter().filter_map(|family| {
            let count = advertised[family as usize];
            let name = super::text::family(family);
            let over = count > max as usize;
            if up.outbound[family as usize].until != Until::End {
                Some(format!(
                    "is sent the first {count} {name} routes only: at most {max} are allowed \
                     (`max_advertised`)"
                ))
            } else if over {
                Some(format!(
                    "is sent {count} {name} routes, more than the {max} allowed (`max_advertised`)"
                ))
            } else {
                limit::is_near(count, max as usize).then(|| {
                    format!("is sent {count} {name} routes of at most {max} (`max_advertised`)")
                })
            }
        });
        warnings.collect()
    }
}

impl Outbound {
    /// Learned routes are sent as far as this from now on.
    fn keep_back(&mut self, id: &SessionId, family: Family, limit: u32, until: Until) {
        if until != Until::End && self.until == Until::End {
            tracing::warn!(
                session = %id, %family, limit,
                "more routes than it may be sent: what is beyond is kept back"
            );
        }
        self.until = until;
        self.fill_at = None;
    }

    /// How long room stays before it is filled.
    fn wait(&self) -> Duration {
        self.back_off.unwrap_or(FILLED_AGAIN)
    }

    /// Filling was in vain: the next time it waits for longer.
    fn back_off(&mut self) {
        self.back_off = Some((2 * self.wait()).min(SELDOM));
    }

    /// There is too much again: if room was filled a while ago only, something comes and goes for which
    /// there is none.
    fn was_filled_in_vain(&mut self, now: Instant) {
        let filled = self.filled.take();
        if filled.is_some_and(|at| now.saturating_duration_since(at) < SELDOM) {
            self.back_off();
        }
    }
}

/// What is special about the routes that a peer is sent.
fn export(peer: &Peer) -> Export {
    let PeerPolicy {
        as_override,
        transparent,
        remove_private_as,
        ..
    } = peer.policy;
    Export {
        transparent,
        remove_private_as,
        replaced_asn: as_override.then_some(peer.asn),
        role: peer.role.map(|settings| settings.role),
        ..Export::default()
    }
}
