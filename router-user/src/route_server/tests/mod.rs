//! The rules of a route server, each as a sentence, and all of them against a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::*;
use crate::{
    bgp::{
        InstanceId,
        wire::{
            AsPath, Asn, Context, Message, Notification, Offer, PathAttributes, RefreshKind,
            decode, frame,
        },
    },
    config::{PeerPolicy, Propagate},
    names::GatewayName,
    rib::{LearnedChange, LearnedRoute, LearnedViewId},
};

mod by_hand;
mod gateways;
mod live;
mod model;
mod networks;
mod notices;
mod operator;
mod pages;
mod policy;
mod property;
mod refresh;
mod restart;
mod route_maps;
mod rules;

/// A route server whose peers remember what they were sent.
struct Lab {
    server: RouteServer,
    now: Instant,
    sessions: BTreeMap<SessionId, Far>,
    /// What the hub's subnets have learned.
    learned: BTreeMap<IpNet, LearnedRoute>,
    /// The routes of each view.
    views: BTreeMap<LearnedViewId, BTreeMap<IpNet, LearnedRoute>>,
    /// What is known of each view.
    plans: BTreeMap<LearnedViewId, ViewPlan>,
    /// Which view each use takes.
    assigned: BTreeMap<LearnedUse, LearnedViewId>,
    /// The live members of gateways with a range.
    members: BTreeMap<GatewayName, BTreeSet<IpAddr>>,
    shutdowns: Vec<(SessionId, Notification, Option<Duration>)>,
    /// Which sessions were told to ask for all routes again.
    requests: Vec<(SessionId, Family)>,
}

/// The far end of a session.
#[derive(Default)]
struct Far {
    context: Context,
    holds: BTreeMap<Nlri, PathAttributes>,
    /// What has to be announced again before EoRR.
    stale: BTreeSet<Nlri>,
    /// Refreshes that were begun and ended.
    refreshed: (usize, usize),
    announced: usize,
    withdrawn: usize,
    /// The most routes that it has held between two messages.
    most: usize,
    ended: Vec<Family>,
}

impl Lab {
    fn new(config: &config::RouteServer) -> Self {
        let now = Instant::now();
        let mut server = RouteServer::new(config, &around());
        server.set_uses(BTreeSet::from([of_hub()]), now);
        Self {
            server,
            now,
            sessions: BTreeMap::new(),
            learned: BTreeMap::new(),
            views: BTreeMap::new(),
            plans: BTreeMap::new(),
            assigned: BTreeMap::new(),
            members: BTreeMap::new(),
            shutdowns: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// The session of an NVA with an instance comes up.
    fn up(&mut self, peer: &str, instance: u8) {
        let (id, negotiated) = self.negotiated(peer, instance);
        self.up_with(id, negotiated);
    }

    fn up_with(&mut self, id: SessionId, negotiated: Negotiated) {
        let ours = negotiated.context();
        let far = Far {
            context: Context {
                add_path_receive: ours.add_path_send,
                add_path_send: ours.add_path_receive,
                ..ours
            },
            ..Far::default()
        };
        self.sessions.insert(id.clone(), far);
        self.server.session_up(&id, Arc::new(negotiated), self.now);
        self.server.schedule(self.now);
    }

    fn both_up(&mut self, peer: &str) {
        self.up(peer, 1);
        self.up(peer, 2);
    }

    fn down(&mut self, peer: &str, instance: u8) {
        let id = self.id(peer, instance);
        self.sessions.remove(&id);
        self.server.handle(
            SessionEvent::Down {
                id,
                reason: crate::bgp::DownReason::Connection("closed".into()),
            },
            self.now,
        );
    }

    fn announce(&mut self, peer: &str, instance: u8, nets: &[&str], attributes: &PathAttributes) {
        let nlri = nets.iter().map(|net| prefix(net).into()).collect();
        let attributes = Arc::new(attributes.clone());
        self.send(
            peer,
            instance,
            vec![RouteChange::Announce { attributes, nlri }],
        );
    }

    fn announce_to_both(&mut self, peer: &str, nets: &[&str], attributes: &PathAttributes) {
        for instance in [1, 2] {
            self.announce(peer, instance, nets, attributes);
        }
    }

    fn send(&mut self, peer: &str, instance: u8, changes: Vec<RouteChange>) {
        let id = self.id(peer, instance);
        self.server.routes(&id, changes, self.now);
    }

    /// The peer announces its routes again from here on, or has announced all of them.
    fn refreshes(&mut self, peer: &str, instance: u8, family: Family, ends: bool) {
        let id = self.id(peer, instance);
        let event = match ends {
            false => SessionEvent::RefreshBegins { id, family },
            true => SessionEvent::RefreshEnds { id, family },
        };
        self.server.handle(event, self.now);
    }

    fn originate(&mut self, nets: &[&str]) {
        self.server
            .set_originated(nets.iter().map(|net| prefix(net)).collect());
    }

    /// Lets everything arrive that is under way.
    fn settle(&mut self) {
        self.deliver();
        while self.server.next_timeout().is_some_and(|at| at <= self.now) {
            self.server.on_timeout(self.now);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        for report in self.server.take_reports(self.now) {
            self.note(report);
        }
        self.learned = self.learned_by(&of_hub()).cloned().unwrap_or_default();
        for (id, command) in self.server.take_commands(self.now) {
            match command {
                SessionCommand::Send(messages) => {
                    let far = self.sessions.get_mut(&id);
                    far.expect("messages go to sessions that are up")
                        .receive(&messages);
                }
                SessionCommand::RequestRefresh(family) => self.requests.push((id, family)),
                SessionCommand::Shutdown { notification, idle } => {
                    self.sessions.remove(&id);
                    self.shutdowns.push((id, notification, idle));
                }
            }
        }
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Changes(changes) => {
                for LearnedChange {
                    view,
                    prefix,
                    route,
                } in changes
                {
                    assert!(self.plans.contains_key(&view), "the plan comes first");
                    let routes = self.views.entry(view).or_default();
                    let Some(route) = route else {
                        let gone = routes.remove(&prefix);
                        // What stands may change before it is told for the first time.
                        let is_taken = self.assigned.values().any(|taken| *taken == view);
                        assert!(gone.is_some() || !is_taken, "{prefix} was learned");
                        continue;
                    };
                    routes.insert(prefix, route);
                }
            }
            Report::View(view, plan) => {
                if !plan.forwarding {
                    // No other route stands.
                    let routes = self.views.entry(view).or_default();
                    routes.retain(|prefix, route| {
                        prefix.prefix_len() == 0 || route.members.is_empty()
                    });
                }
                self.plans.insert(view, plan);
            }
            Report::Assign(of, view) => {
                self.assigned.insert(of, view);
            }
            Report::Drop(view) => {
                let users = self.assigned.iter().filter(|(_, taken)| **taken == view);
                let users: Vec<_> = users.map(|(of, _)| of.clone()).collect();
                for of in users {
                    assert!(!self.server.uses.contains(&of), "it takes the view");
                    self.assigned.remove(&of);
                }
                self.views.remove(&view);
                self.plans.remove(&view);
            }
            Report::Members(gateway, members) => {
                self.members.insert(gateway, members);
            }
        }
    }

    /// What a use has learned; `None`: it has not been told what it takes.
    fn learned_by(&self, of: &LearnedUse) -> Option<&BTreeMap<IpNet, LearnedRoute>> {
        let view = self.assigned.get(of)?;
        static NOTHING: BTreeMap<IpNet, LearnedRoute> = BTreeMap::new();
        Some(self.views.get(view).unwrap_or(&NOTHING))
    }

    fn holds(&self, peer: &str, instance: u8, net: &str) -> Option<&PathAttributes> {
        self.sessions[&self.id(peer, instance)]
            .holds
            .get(&prefix(net).into())
    }

    fn far(&self, peer: &str, instance: u8) -> &Far {
        &self.sessions[&self.id(peer, instance)]
    }

    fn far_mut(&mut self, peer: &str, instance: u8) -> &mut Far {
        let id = self.id(peer, instance);
        self.sessions.get_mut(&id).expect("a session that is up")
    }

    fn warnings(&self, peer: &str, instance: u8) -> String {
        let rows = self.server.peer_rows(self.now);
        let mut rows = rows.into_iter();
        let row = rows.find(|row| row.peer.as_str() == peer && row.instance == instance);
        row.expect("a configured session").warnings.join("; ")
    }

    /// State and reason of the path that a session announced.
    fn state(&self, peer: &str, instance: u8, net: &str) -> (String, String) {
        let rows = self.server.learned_rows(
            &Filter {
                peer: Some(peer.into()),
                instance: Some(InstanceId(instance)),
                prefix: Some(prefix(net)),
                longer: false,
            },
            self.now,
        );
        let [row] = &rows[..] else {
            panic!("one path, not {rows:?}");
        };
        (row.state.clone(), row.reason.clone().unwrap_or_default())
    }

    fn members(&self, net: &str) -> Option<Vec<IpAddr>> {
        let route = self.learned.get(&prefix(net))?;
        Some(route.members.iter().map(|member| member.address).collect())
    }

    fn id(&self, peer: &str, instance: u8) -> SessionId {
        let mut peers = self.server.config.peers.iter();
        let peer = peers
            .find(|other| other.name.as_str() == peer)
            .expect("a configured peer");
        SessionId {
            route_server: "rs1".into(),
            instance: InstanceId(instance),
            peer: peer.address,
        }
    }

    fn negotiated(&self, peer: &str, instance: u8) -> (SessionId, Negotiated) {
        let id = self.id(peer, instance);
        let config = &self.server.config;
        let asn = self.server.sessions[&id].peer.asn;
        let router_id = match id.peer {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::new(192, 0, 2, 6),
        };
        let negotiated = Negotiated {
            local_asn: config.asn,
            peer_asn: asn,
            local_router_id: config.instances[usize::from(instance) - 1].router_id,
            peer_router_id: router_id,
            local_address: config.instances[usize::from(instance) - 1].addresses[0],
            hold_time: 180,
            families: Family::ALL.to_vec(),
            four_octet_asn: true,
            route_refresh: true,
            enhanced_route_refresh: false,
            extended_message: false,
            add_path_receive: Vec::new(),
            add_path_send: Vec::new(),
            extended_next_hop: false,
            local: Offer::default(),
            peer: Offer::default(),
        };
        (id, negotiated)
    }
}

impl Far {
    fn receive(&mut self, messages: &[u8]) {
        let mut rest = messages;
        while !rest.is_empty() {
            let length = frame(rest, self.context.max_message_len());
            let length = length.expect("a header").expect("whole messages");
            match decode(&rest[..length], &self.context) {
                Ok(Message::Update(update)) => {
                    assert_eq!(update.faults(), []);
                    for change in update.into_changes() {
                        self.apply(change);
                    }
                    self.most = self.most.max(self.holds.len());
                }
                Ok(Message::RouteRefresh(refresh)) => {
                    let family = refresh.family().expect("a family of ours");
                    match refresh.kind {
                        RefreshKind::Begin => self.refresh_begins(family),
                        RefreshKind::End => self.refresh_ends(family),
                        kind => panic!("{kind:?} is a command of its own"),
                    }
                }
                other => panic!("only routes are sent, not {other:?}"),
            }
            rest = &rest[length..];
        }
    }

    fn apply(&mut self, change: RouteChange) {
        match change {
            RouteChange::Announce { attributes, nlri } => {
                self.announced += nlri.len();
                for nlri in nlri {
                    self.stale.remove(&nlri);
                    self.holds.insert(nlri, (*attributes).clone());
                }
            }
            RouteChange::Withdraw { nlri, .. } => {
                self.withdrawn += nlri.len();
                for nlri in nlri {
                    self.stale.remove(&nlri);
                    let held = self.holds.remove(&nlri);
                    assert!(held.is_some(), "{nlri:?} was never sent");
                }
            }
            RouteChange::EndOfRib(family) => self.ended.push(family),
        }
    }
}

impl Far {
    fn refresh_begins(&mut self, family: Family) {
        let held = self.holds.keys();
        let held = held.filter(|nlri| Family::of(&nlri.prefix) == family);
        self.stale.extend(held);
        self.refreshed.0 += 1;
    }

    fn refresh_ends(&mut self, family: Family) {
        let mut stale = self.stale.iter();
        let forgotten = stale.find(|nlri| Family::of(&nlri.prefix) == family);
        assert_eq!(forgotten, None, "all is announced again");
        self.refreshed.1 += 1;
    }
}

/// Topology 1: an SD-WAN appliance, and three firewalls that share an ASN.
fn config() -> config::RouteServer {
    let instance = |id: u8| config::Instance {
        id: InstanceId(id),
        router_id: Ipv4Addr::new(10, 1, 255, 3 + id),
        addresses: vec![
            IpAddr::from([10, 1, 255, 3 + id]),
            format!("fd00:1:0:ff::{}", 3 + id).parse().unwrap(),
        ],
    };
    let instances = [instance(1), instance(2)];
    config::RouteServer {
        peers: vec![
            peer("sdwan", [10, 1, 10, 4], 65010),
            peer("fw", [10, 1, 20, 4], 65020),
            peer("fw2", [10, 1, 20, 5], 65020),
            peer("vpn", [10, 1, 30, 4], 65030),
        ],
        ..config::RouteServer::new("rs1".into(), "hub".into(), instances)
    }
}

fn peer(name: &str, address: [u8; 4], asn: Asn) -> config::Peer {
    config::Peer::new(name.into(), address.into(), asn)
}

fn gateways() -> Vec<IpAddr> {
    vec![[10, 1, 10, 1].into(), [10, 1, 20, 1].into()]
}

fn space() -> Vec<IpNet> {
    vec![prefix("10.1.0.0/16"), prefix("fd00:1::/48")]
}

fn around() -> Surroundings {
    surroundings(space(), gateways())
}

/// The hub alone.
fn surroundings(space: Vec<IpNet>, gateways: Vec<IpAddr>) -> Surroundings {
    Surroundings {
        spaces: vec![("hub".into(), space)],
        beyond: Vec::new(),
        gateways: gateways.into_iter().collect(),
    }
}

/// What the hub's subnets take.
fn of_hub() -> LearnedUse {
    LearnedUse {
        propagate: Propagate::ALL,
        gateway: None,
        reach: BTreeSet::from(["hub".into()]),
        forwarding: true,
    }
}

fn route(path: &[Asn], next_hop: &str) -> PathAttributes {
    PathAttributes {
        as_path: AsPath::sequence(path.iter().copied()),
        next_hop: Some(next_hop.parse::<IpAddr>().unwrap().into()),
        ..PathAttributes::default()
    }
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}
