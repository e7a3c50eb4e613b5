//! From one configuration to the next with live sessions: only what changed is touched.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use ipnet::IpNet;

use super::{
    Operator, RouteServer, Session,
    import::{ImportRules, Memo},
    limit::Rests,
};
use crate::{
    bgp::{SessionId, SessionStatus},
    config,
    rib::DecisionOptions,
};

impl RouteServer {
    /// Takes over another configuration of the same route server. Sessions that are gone, or whose
    /// identity (ASNs, router id, own address) changed, lose their routes at once; the others stay
    /// as they are and are sent the difference, if there is one.
    pub fn reconfigure(
        &mut self,
        config: &config::RouteServer,
        vnet_space: &[IpNet],
        gateways: &[IpAddr],
        now: Instant,
    ) {
        let before = std::mem::replace(&mut self.config, config.clone());
        self.configure_sessions();
        self.restart_changed(&before);
        self.keep_as_configured(now);
        self.apply_rules(import_rules(config, vnet_space, gateways));
        self.apply_limits(now);
        self.apply_views();
        self.rib.set_options(decision_options(config));
        self.schedule(now);
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
        let addresses: BTreeSet<IpAddr> = ids.iter().map(|id| id.peer).collect();
        self.identities
            .retain(|address, _| addresses.contains(address));
        let mut next = self.identities.values().max().map_or(0, |last| last + 1);
        for (id, peer) in wanted(&self.config) {
            self.identities.entry(id.peer).or_insert_with(|| {
                next += 1;
                next - 1
            });
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
            });
            if session.resting && allows_more(&session.peer, peer) {
                session.resting = false;
                session.rests = Rests::default();
                self.woken.push(id.clone());
            }
            if session.peer.asn == peer.asn {
                session.peer = peer.clone();
            }
        }
    }

    /// Sessions that the speaker closes and opens anew: their routes go with the old one.
    fn restart_changed(&mut self, before: &config::RouteServer) {
        let restarted: Vec<(SessionId, config::Peer)> = wanted(&self.config)
            .filter(|(id, peer)| {
                let same_peer = self.sessions[id].peer.asn == peer.asn;
                !same_peer || endpoint(before, id) != endpoint(&self.config, id)
            })
            .map(|(id, peer)| (id, peer.clone()))
            .collect();
        for (id, peer) in restarted {
            self.session_down(&id);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.peer = peer;
            }
        }
    }

    pub(super) fn apply_rules(&mut self, rules: ImportRules) {
        let all = rules != self.rules;
        self.rules = rules;
        for (index, id) in &self.up {
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            let now = session.rules();
            let rules = match (&mut session.up, &mut session.kept) {
                (Some(up), _) => &mut up.rules,
                (None, Some(kept)) => &mut kept.rules,
                (None, None) => continue,
            };
            let before = std::mem::replace(rules, now);
            if all || before != now {
                let mut memo = Memo::default();
                self.rib.reimport(*index, |prefix, received| {
                    let imported = self.rules.import(&now, prefix, received, &mut memo);
                    imported.clone()
                });
            }
        }
    }

    fn apply_limits(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.up.values().cloned().collect();
        for id in ids {
            self.enforce_limit(&id, &[], now);
            self.ask_for_refused(&id, now);
        }
    }

    pub(super) fn apply_views(&mut self) {
        let views = self.up.iter().filter_map(|(index, id)| {
            let up = self.sessions[id].up.as_ref()?;
            Some((*index, self.view(id, &up.negotiated)))
        });
        self.rib.set_views(views.collect());
    }
}

/// Whether a session that passed its limit may try again: the limit is another one.
fn allows_more(before: &config::Peer, after: &config::Peer) -> bool {
    after.max_prefixes > before.max_prefixes
        || after.limit_action != before.limit_action
        || (after.limit_restart && !before.limit_restart)
}

/// What of the decision process is configured.
pub(super) fn decision_options(config: &config::RouteServer) -> DecisionOptions {
    DecisionOptions {
        max_paths: config.max_paths.into(),
        ..DecisionOptions::default()
    }
}

/// What the import checks depend on.
pub(super) fn import_rules(
    config: &config::RouteServer,
    vnet_space: &[IpNet],
    gateways: &[IpAddr],
) -> ImportRules {
    let instances = config.instances.iter();
    ImportRules {
        asn: config.asn,
        own_addresses: instances
            .flat_map(|instance| &instance.addresses)
            .copied()
            .collect(),
        gateways: gateways.to_vec(),
        space: vnet_space.to_vec(),
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
