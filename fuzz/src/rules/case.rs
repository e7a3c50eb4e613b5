//! Random cases: a state to begin with, and changes, one at a time.

use arbitrary::{Result, Unstructured};

use super::{
    edge::Limits,
    model::{Prefix, SessionKey, State},
};
use crate::pick;
use maps::{by_hand, route_map};
use networks::{hub_and_spokes, mend, network, peering, place, space, table, user_defined};
use paths::{prefix, route, session};
use servers::{policy, server, setting};

mod maps;
mod networks;
mod paths;
mod servers;

/// What the product can do; a case has nothing else.
mod scope {
    pub(super) const GATEWAYS: bool = true;
    pub(super) const PEERINGS: bool = true;
    pub(super) const ROUTE_TABLES: bool = true;
    pub(super) const POLICIES: bool = true;
    pub(super) const ROUTE_MAPS: bool = true;
    pub(super) const CUSTOM_ROUTES: bool = true;
}

/// Most changes of one case.
const STEPS: usize = 60;

/// Networks; the first and the last have a route server.
const NETWORKS: usize = 4;

/// What a world is to be told; the state has it already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Announced(SessionKey, Prefix),
    Withdrawn(SessionKey, Prefix),
    Up(SessionKey),
    Down(SessionKey),
    Configured,
}

/// A state and how it goes on.
pub(super) struct Case {
    pub(super) state: State,
    /// Prefixes that most announcements are about, so that paths meet.
    contested: Vec<Prefix>,
    steps: usize,
    waiting: Vec<Change>,
    /// Decides how it is told once more.
    order: u64,
}

impl Case {
    pub(super) fn read(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let order = bytes.arbitrary()?;
        let mut state = State {
            networks: (0..NETWORKS).map(network).collect(),
            tables: (0..2).map(|_| table()).collect(),
            servers: Vec::new(),
        };
        for home in [0, NETWORKS - 1] {
            let server = server(bytes, home)?;
            place(&mut state, &server);
            state.servers.push(server);
        }
        if scope::PEERINGS && bytes.arbitrary()? {
            hub_and_spokes(&mut state);
        }
        let contested = (0..4)
            .map(|_| prefix(bytes, &state))
            .collect::<Result<_>>()?;
        let mut case = Self {
            state,
            contested,
            steps: 0,
            waiting: Vec::new(),
            order,
        };
        for _ in 0..bytes.int_in_range(0..=16)? {
            case.configure(bytes)?;
        }
        // Much of every other story happens where route maps apply.
        if scope::ROUTE_MAPS && bytes.arbitrary()? {
            for _ in 0..8 {
                route_map(bytes, &mut case.state, &case.contested)?;
            }
        }
        case.waiting = case.state.sessions().into_iter().map(Change::Up).collect();
        for key in case.state.sessions() {
            case.state.session_mut(key).up = true;
        }
        Ok(case)
    }

    /// Changes the state, and says how.
    pub(super) fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<Option<Change>> {
        if let Some(change) = self.waiting.pop() {
            return Ok(Some(change));
        }
        // Without this, what is missing would be read as zeros, step after step.
        if bytes.is_empty() || self.steps == STEPS {
            return Ok(None);
        }
        self.steps += 1;
        let key = session(bytes, &self.state)?;
        match bytes.arbitrary::<u8>()? % 16 {
            0..=8 => {
                let prefix = if bytes.ratio(3, 4)? {
                    pick(bytes, &self.contested)?
                } else {
                    prefix(bytes, &self.state)?
                };
                let route = route(bytes, &self.state, key, prefix)?;
                // Mostly the same to both.
                let both = bytes.ratio(3, 4)?;
                for instance in [0, 1] {
                    if both || instance == key.instance {
                        let key = SessionKey { instance, ..key };
                        let session = self.state.session_mut(key);
                        session.announced.insert(prefix, route.clone());
                        self.waiting.push(Change::Announced(key, prefix));
                    }
                }
            }
            9 | 10 => {
                let known = &self.state.peer(key).sessions[key.instance].announced;
                let known: Vec<_> = known.keys().copied().collect();
                if !known.is_empty() {
                    let prefix = pick(bytes, &known)?;
                    for instance in [0, 1] {
                        let key = SessionKey { instance, ..key };
                        if self
                            .state
                            .session_mut(key)
                            .announced
                            .remove(&prefix)
                            .is_some()
                        {
                            self.waiting.push(Change::Withdrawn(key, prefix));
                        }
                    }
                }
            }
            11 => {
                if !self.state.peer(key).configured {
                    // It has no session.
                } else if self.state.is_up(key) {
                    self.state.session_mut(key).up = false;
                    self.waiting.push(Change::Down(key));
                } else {
                    self.come_up(key);
                }
            }
            12 => {
                let peer = &mut self.state.servers[key.server].peers[key.peer];
                peer.configured = !peer.configured;
                self.waiting.push(Change::Configured);
                for instance in [0, 1] {
                    let key = SessionKey { instance, ..key };
                    self.state.session_mut(key).up = false;
                    if self.state.peer(key).configured {
                        self.come_up(key);
                    }
                }
            }
            _ => {
                self.configure(bytes)?;
                self.waiting.push(Change::Configured);
            }
        }
        self.waiting.reverse();
        Ok(self.waiting.pop().or(Some(Change::Configured)))
    }

    fn come_up(&mut self, key: SessionKey) {
        let session = self.state.session_mut(key);
        session.up = true;
        self.waiting.push(Change::Up(key));
        let known = session.announced.keys();
        let known = known.map(|prefix| Change::Announced(key, *prefix));
        self.waiting.extend(known);
    }

    /// The final state in another order: sessions and announcements only.
    pub(super) fn retold(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in self.state.sessions() {
            if self.state.is_up(key) {
                changes.push(Change::Up(key));
            }
        }
        self.shuffle(&mut changes);
        let ups = changes.len();
        for key in self.state.sessions() {
            let session = &self.state.peer(key).sessions[key.instance];
            if self.state.is_up(key) {
                let announced = session.announced.keys();
                changes.extend(announced.map(|prefix| Change::Announced(key, *prefix)));
            }
        }
        self.shuffle(&mut changes[ups..]);
        changes
    }

    /// Which limit holds in a third world.
    pub(super) fn limits(&self) -> Limits {
        match self.order & 1 {
            0 => Limits::Announced,
            _ => Limits::Sent,
        }
    }

    fn shuffle(&self, changes: &mut [Change]) {
        let mut random = self.order | 1;
        for place in (1..changes.len()).rev() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            changes.swap(place, (random >> 33) as usize % (place + 1));
        }
    }

    /// One setting becomes another one.
    fn configure(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let state = &mut self.state;
        match bytes.arbitrary::<u8>()? % 16 {
            8..=10 if scope::ROUTE_MAPS => route_map(bytes, state, &self.contested)?,
            11 if scope::CUSTOM_ROUTES => by_hand(bytes, state)?,
            0..=2 => setting(bytes, state)?,
            3 | 4 => {
                let key = session(bytes, state)?;
                policy(bytes, &mut state.servers[key.server].peers[key.peer].policy)?;
            }
            5 => space(bytes, state)?,
            6 | 12 if scope::PEERINGS => peering(bytes, state)?,
            7 | 13..=15 if scope::ROUTE_TABLES => user_defined(bytes, state, &self.contested)?,
            _ => {}
        }
        mend(state);
        Ok(())
    }
}
