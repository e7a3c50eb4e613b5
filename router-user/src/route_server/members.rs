//! Which members gateways have that live: of a list, and whoever is connected from a range.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Report, RouteServer};
use crate::names::GatewayName;

/// What the networks have been told of them.
#[derive(Clone)]
pub(super) struct Members {
    told: BTreeMap<GatewayName, BTreeSet<IpAddr>>,
    /// Something may have changed since.
    changed: bool,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            told: BTreeMap::new(),
            changed: true,
        }
    }
}

impl Members {
    /// A session came, went, or is another one's.
    pub(super) const fn change(&mut self) {
        self.changed = true;
    }
}

impl RouteServer {
    /// The gateways whose live members have changed. A member is live while a session of it is up, or
    /// its routes are kept.
    pub(super) fn report_members(&mut self) -> Vec<Report> {
        if !std::mem::take(&mut self.members.changed) {
            return Vec::new();
        }
        let gateways = self.config.gateways.iter();
        let mut now: BTreeMap<GatewayName, BTreeSet<IpAddr>> = gateways
            .map(|gateway| (gateway.name.clone(), BTreeSet::new()))
            .collect();
        for (id, session) in &self.sessions {
            let Some(membership) = &session.peer.membership else {
                continue;
            };
            if let Some(members) = now.get_mut(&membership.gateway)
                && session.place().is_some()
            {
                members.insert(id.peer);
            }
        }
        let before = std::mem::replace(&mut self.members.told, now);
        let now = self.members.told.iter();
        // Of one that was not there before, the networks may know members of the one before that.
        let changed = now.filter(|(name, now)| before.get(*name) != Some(*now));
        let reports =
            changed.map(|(gateway, members)| Report::Members(gateway.clone(), members.clone()));
        reports.collect()
    }
}
