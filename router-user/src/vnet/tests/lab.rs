//! Networks, a FIB, and a kernel that checks every change and answers as XDP does.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use router_common::maps::{RouteEntry, precedence, route_flags};

use super::{Vnets, assign, ip, learn, net, vnets};
use crate::{
    config::Config,
    fib::{Change, Fib, NextHop, Precedence, Route, tests::kernel::Kernel},
    names::TableName,
    rib::LearnedChange,
};

pub(super) struct Lab {
    pub(super) vnets: Vnets,
    pub(super) fib: Fib,
    pub(super) kernel: Kernel,
}

impl Lab {
    /// With route servers that have one view for all.
    pub(super) fn new(config: &Config) -> Self {
        Self::of(vnets(config))
    }

    /// With route servers that have said nothing.
    pub(super) fn silent(config: &Config) -> Self {
        Self::of(Vnets::new(config))
    }

    fn of(vnets: Vnets) -> Self {
        let mut lab = Self {
            vnets,
            fib: Fib::new(),
            kernel: Kernel::default(),
        };
        lab.apply();
        lab
    }

    pub(super) fn reconfigure(&mut self, config: &Config) -> Vec<Change> {
        self.vnets.reconfigure(config);
        assign(&mut self.vnets, config);
        self.apply()
    }

    pub(super) fn learn(&mut self, changes: Vec<LearnedChange>) -> Vec<Change> {
        learn(&mut self.vnets, changes);
        self.apply()
    }

    pub(super) fn apply(&mut self) -> Vec<Change> {
        self.vnets.apply_to(&mut self.fib);
        let changes = self.fib.take_changes();
        self.kernel.apply_all(&changes);
        changes
    }

    pub(super) fn own(&self, interface: &str) -> TableName {
        self.kernel.ports[interface].own_table.clone()
    }

    pub(super) fn learned_table(&self, interface: &str) -> Option<&str> {
        let table = self.kernel.ports[interface].learned_table.as_ref();
        table.map(TableName::as_str)
    }

    pub(super) fn has(&self, table: &TableName, prefix: &str) -> bool {
        self.kernel
            .routes
            .contains_key(&(table.clone(), net(prefix)))
    }

    /// The route of this prefix in the own table of a port.
    pub(super) fn own_route(&self, interface: &str, prefix: &str) -> Route {
        self.kernel.routes[&(self.own(interface), net(prefix))]
    }

    /// The single next hop of a route.
    pub(super) fn next_hop(&self, table: &TableName, prefix: &str) -> NextHop {
        let route = self.kernel.routes[&(table.clone(), net(prefix))];
        let [bucket] = &self.kernel.groups[&route.group].buckets[..] else {
            panic!("{prefix} has several next hops");
        };
        bucket.primary.clone()
    }

    /// The next hops that packets of a port to this address take.
    pub(super) fn answer(&self, interface: &str, address: &str) -> String {
        let hops = answer(&self.kernel, interface, ip(address)).expect("there is a default route");
        let texts: Vec<String> = hops.iter().map(ToString::to_string).collect();
        texts.join(", ")
    }
}

/// The next hops that packets of a port take, by a naive walk of the tables, weighed as XDP does.
pub(super) fn answer(
    kernel: &Kernel,
    interface: &str,
    address: IpAddr,
) -> Option<BTreeSet<NextHop>> {
    let port = &kernel.ports[interface];
    let own = longest(kernel, Some(&port.own_table), address);
    let learned = longest(kernel, port.learned_table.as_ref(), address);
    let route = match (own, learned) {
        (Some(own), Some(learned)) if entry(own).wins_over(&entry(learned)) => own,
        (own, learned) => learned.or(own)?,
    };
    let buckets = &kernel.groups[&route.1.group].buckets;
    let hops = buckets.iter().map(|bucket| bucket.primary.clone());
    Some(hops.collect())
}

fn longest(kernel: &Kernel, table: Option<&TableName>, address: IpAddr) -> Option<(IpNet, Route)> {
    kernel
        .routes
        .iter()
        .filter(|((name, prefix), _)| Some(name) == table && prefix.contains(&address))
        .map(|((_, prefix), route)| (*prefix, *route))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
}

fn entry((prefix, route): (IpNet, Route)) -> RouteEntry {
    RouteEntry {
        group: 1,
        prefix_len: prefix.prefix_len(),
        precedence: match route.precedence {
            Precedence::System => precedence::SYSTEM,
            Precedence::Learned => precedence::LEARNED,
            Precedence::UserDefined => precedence::USER_DEFINED,
        },
        flags: if route.overriding {
            route_flags::OVERRIDING
        } else {
            0
        },
        reserved: 0,
    }
}
