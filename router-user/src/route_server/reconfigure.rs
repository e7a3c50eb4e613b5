//! From one configuration to the next with live sessions: only what changed is touched.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use super::{
    Operator, RouteServer, Session, Surroundings, decision_options,
    import::{ImportRules, Known},
    kind,
    limit::Rests,
    space::Space,
};
use crate::{
    bgp::{
        SessionCommand, SessionId, SessionStatus,
        wire::{
            Notification,
            notification::{cease, error},
        },
    },
    config,
    rib::Imported,
};

impl RouteServer {
    /// Takes over another configuration of the same route server. Sessions that are gone, or whose
    /// identity (ASNs, router id, own address) changed, lose their routes at once; the others stay
    /// as they are and are sent the difference, if there is one.
    pub fn reconfigure(
        &mut self,
        config: &config::RouteServer,
        surroundings: &Surroundings,
        now: Instant,
    ) {
        let before = std::mem::replace(&mut self.config, config.clone());
        self.maps.apply(config);
        self.configure_sessions();
        self.restart_changed(&before);
        self.keep_as_configured(now);
        let preference = config.routing_preference;
        self.rib
            .reclassify(|session| kind::class(preference, session.kind));
        self.rib.set_options(decision_options(config));
        let space = self.zones.number(surroundings);
        let moved = space != self.rules.space;
        let expected = self.expected_zones(&space);
        let changed = moved || without_dynamic_peers(&before) != without_dynamic_peers(config);
        let in_use = changed.then(|| self.rib.zones_in_use());
        let may_count = self.known_zones.configure(expected, in_use.as_ref());
        self.apply_rules(import_rules(config, space), may_count);
        if changed {
            self.known_zones.retain(&self.rib.zones_in_use());
        }
        self.apply_custom_routes();
        self.apply_limits(now);
        self.apply_outbound_limits();
        self.apply_views();
        if self.local_sources.are_short() {
            // No view has those of before any longer.
            self.local_sources.apply(&mut self.rib, &self.config);
            self.apply_views();
        }
        self.local_sources.warn_if_short(&self.config);
        if before.vnet != config.vnet {
            // What was the reach of its own network is that of another one now, under the same name.
            self.forget_views();
        }
        self.regroup = true;
        self.schedule(now);
    }

    /// Makes static routes and what is advertised by hand those of the configuration.
    pub(super) fn apply_custom_routes(&mut self) {
        self.static_routes
            .apply(&mut self.rib, &self.config, &self.rules);
        self.local_sources.apply(&mut self.rib, &self.config);
    }

    /// Makes the sessions those of the configuration.
    pub(super) fn configure_sessions(&mut self) {
        let ids: BTreeSet<SessionId> = wanted(&self.config).map(|(id, _)| id).collect();
        let sessions = self.sessions.keys();
        let gone: Vec<SessionId> = sessions.filter(|id| !ids.contains(id)).cloned().collect();
        for id in gone {
            self.session_down(&id);
            self.sessions.remove(&id);
        }
        self.identities.set(self.config.peers.iter());
        self.members.change();
        self.warn_of_many_peers();
        for (id, peer) in wanted(&self.config) {
            let session = self.sessions.entry(id.clone()).or_insert_with(|| Session {
                peer: peer.clone(),
                status: SessionStatus::default(),
                farewell: None,
                up: None,
                kept: None,
                operator: Operator::default(),
                synchronised: false,
                rests: Rests::default(),
                resting: false,
                overfed: None,
            });
            let fed_otherwise = session
                .overfed
                .as_ref()
                .is_some_and(|overfed| overfed.is_fed_otherwise(&self.config, &self.maps, peer));
            if session.resting && (allows_more(&session.peer, peer) || fed_otherwise) {
                session.resting = false;
                session.rests = Rests::default();
                self.woken.push(id.clone());
            }
            if is_same(&session.peer, peer) {
                session.peer = peer.clone();
            }
        }
    }

    /// Sessions that the speaker closes and opens anew: their routes go with the old one. One whose
    /// peer has become something else is closed from here, for the speaker sees no difference.
    fn restart_changed(&mut self, before: &config::RouteServer) {
        let restarted: Vec<(SessionId, config::Peer)> = wanted(&self.config)
            .filter(|(id, peer)| {
                let same_peer = is_same(&self.sessions[id].peer, peer);
                !same_peer || endpoint(before, id) != endpoint(&self.config, id)
            })
            .map(|(id, peer)| (id, peer.clone()))
            .collect();
        for (id, peer) in restarted {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            let other_kind = session.peer.membership != peer.membership;
            if session.up.is_some() && session.peer.asn == peer.asn && other_kind {
                let subcode = cease::CONFIGURATION_CHANGE;
                let notification = Notification::new(error::CEASE, subcode, Vec::new());
                self.shutdowns.push((
                    id.clone(),
                    SessionCommand::Shutdown {
                        notification,
                        idle: Some(Duration::ZERO),
                    },
                ));
            }
            session.peer = peer;
            self.session_down(&id);
        }
    }

    /// `may_count`: so may next hops that lay in one network too many.
    pub(super) fn apply_rules(&mut self, rules: ImportRules, may_count: bool) {
        let all = rules != self.rules;
        // Networks elsewhere change no more than the reasons of next hops that are not reached.
        let reasons_alone = all && within(&rules) == within(&self.rules);
        self.rules = rules;
        self.rib.forget_reasons();
        let mut imported = false;
        for (index, id) in &self.up {
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            let now = session.rules(&self.maps);
            let rules = match (&mut session.up, &mut session.kept) {
                (Some(up), _) => &mut up.rules,
                (None, Some(kept)) => &mut kept.rules,
                (None, None) => continue,
            };
            let before = std::mem::replace(rules, now.clone());
            self.rib
                .set_may_blackhole(*index, now.policy.allow_blackhole);
            let totals = self.rib.totals(*index);
            let all_count = totals.received.iter().sum::<usize>() == totals.accepted;
            let concerned = all && !(reasons_alone && all_count) || may_count && !all_count;
            if concerned || before != now {
                let mut known = Known::default();
                self.rib.reimport(*index, |prefix, received| {
                    let imported = known.import(&self.rules, &now, prefix, received);
                    Imported {
                        judgement: self.known_zones.admit(imported.judgement),
                        ..imported
                    }
                });
                imported = true;
            }
        }
        if imported {
            self.rib.sweep();
        }
    }

    fn apply_limits(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.up.values().cloned().collect();
        for id in ids {
            self.enforce_limit(&id, &[], now);
            self.ask_for_refused(&id, now);
        }
    }
}

/// What decides whether a path counts.
fn within(rules: &ImportRules) -> ImportRules {
    ImportRules {
        space: rules.space.within(),
        ..rules.clone()
    }
}

/// What the operator has written: peers that connect from a range come and go by themselves.
fn without_dynamic_peers(config: &config::RouteServer) -> config::RouteServer {
    let mut written = config.clone();
    written.peers.retain(|peer| !peer.dynamic);
    written
}

/// Whether it is the same peer, perhaps with other settings.
fn is_same(before: &config::Peer, after: &config::Peer) -> bool {
    before.asn == after.asn && before.membership == after.membership
}

/// Whether a session that passed its limit may try again: the limit is another one.
fn allows_more(before: &config::Peer, after: &config::Peer) -> bool {
    let unlimited = u32::MAX;
    let advertised = |peer: &config::Peer| peer.max_advertised.unwrap_or(unlimited);
    after.max_prefixes > before.max_prefixes
        || advertised(after) > advertised(before)
        || after.advertised_limit_action != before.advertised_limit_action
        || after.limit_action != before.limit_action
        || (after.limit_restart && !before.limit_restart)
}

/// What the import checks depend on.
pub(super) fn import_rules(config: &config::RouteServer, space: Space) -> ImportRules {
    let instances = config.instances.iter();
    let router_ids = instances.clone().map(|instance| instance.router_id);
    ImportRules {
        asn: config.asn,
        own_addresses: instances
            .flat_map(|instance| &instance.addresses)
            .copied()
            .collect(),
        router_ids: router_ids.collect(),
        cluster_id: config.cluster_id,
        space,
        require_policy: config.require_policy,
    }
}

/// The sessions of a configuration: each peer with each instance that has an address of its
/// family.
fn wanted(config: &config::RouteServer) -> impl Iterator<Item = (SessionId, &config::Peer)> {
    config.peers.iter().flat_map(move |peer| {
        let of_family = |address: &IpAddr| address.is_ipv4() == peer.address.is_ipv4();
        let instances = config.instances.iter();
        let instances = instances.filter(move |instance| instance.addresses.iter().any(of_family));
        instances.map(move |instance| {
            let id = SessionId {
                route_server: config.name.clone(),
                instance: instance.id,
                peer: peer.address,
            };
            (id, peer)
        })
    })
}

/// Our end of a session: ASN, router id, address.
fn endpoint(config: &config::RouteServer, id: &SessionId) -> Option<(u32, Ipv4Addr, IpAddr)> {
    let instance = config
        .instances
        .iter()
        .find(|instance| instance.id == id.instance)?;
    let mut addresses = instance.addresses.iter();
    let address = addresses.find(|address| address.is_ipv4() == id.peer.is_ipv4())?;
    Some((config.asn, instance.router_id, *address))
}
