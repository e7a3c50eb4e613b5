//! What stands in the maps, for people: the views and counters that the API shows.

use std::{collections::BTreeMap, net::IpAddr};

use foldhash::HashSet;
use ipnet::IpNet;
use router_common::{
    maps::{NO_PORT, RouteEntry, precedence, route_flags},
    reason::{PortCounters, Reason},
};
use rustc_hash::FxHashMap;

use super::{
    kernel::{Host, KernelError, Losses, Maps, PortOnHost, RouteDump, RouteKey},
    numbers::Kind,
    reconciler::Reconciler,
};
use crate::{
    api::types::{
        Counters, FibGroup, FibNextHop, FibPort, FibRoute, FibView, NextHopCounterRow,
        PortCounterRow,
    },
    fib::Precedence,
    names::{InterfaceName, MacAddr, TableName},
};

/// Stands in the counters for interfaces that are no port (any more).
const ELSEWHERE: &str = "(no port)";

/// What the kernel's maps answer for an address.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Longest prefix in the own table.
    pub own: Option<FibRoute>,
    /// Longest prefix in the learned table.
    pub learned: Option<FibRoute>,
    /// Which of them packets take.
    pub winner: Option<FibRoute>,
    /// Its group.
    pub group: Option<FibGroup>,
    /// The group's buckets in order: next hop, backup. A flow takes the bucket `hash & (count - 1)`.
    pub buckets: Vec<(String, Option<String>)>,
    /// The group's next hops.
    pub next_hops: Vec<FibNextHop>,
}

/// All of a [`FibView`] but the routes, and how to read those, on any thread.
pub(super) struct Snapshot {
    view: FibView,
    tables: FxHashMap<u32, TableName>,
    stale: HashSet<RouteKey>,
    dump: RouteDump,
}

impl Snapshot {
    /// Reads the tries.
    pub(super) fn complete(self) -> FibView {
        let Self {
            mut view,
            tables,
            stale,
            dump,
        } = self;
        match dump() {
            Ok(routes) => {
                view.routes = routes
                    .into_iter()
                    .map(|(key, entry)| {
                        let name = tables.get(&key.table).cloned();
                        fib_route(
                            name.unwrap_or_else(|| unnamed(key.table)),
                            key.table,
                            key.prefix,
                            entry,
                            stale.contains(&key),
                        )
                    })
                    .collect();
                view.routes
                    .sort_unstable_by(|a, b| (&a.table, a.prefix).cmp(&(&b.table, b.prefix)));
            }
            Err(error) => view.errors.push(error.to_string()),
        }
        view
    }
}

/// The program's counters, and how to read the drivers', on any thread.
pub(super) struct Tally {
    counters: Counters,
    /// Ports with an interface, and their rows.
    bound: Vec<PortOnHost>,
    rows: Vec<usize>,
    losses: Losses,
}

impl Tally {
    /// Asks the drivers.
    pub(super) fn complete(self) -> Counters {
        let mut counters = self.counters;
        for (row, lost) in self.rows.into_iter().zip((self.losses)(&self.bound)) {
            counters.ports[row].redirect_failed = lost;
        }
        counters
    }
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut errors = self.errors();
        let next_hops = self.numbers[Kind::NextHop as usize]
            .iter()
            .map(|(number, _)| number)
            .collect::<Vec<_>>();
        let mut next_hops: Vec<FibNextHop> = next_hops
            .into_iter()
            .filter_map(|number| match self.fib_next_hop(number) {
                Ok(row) => Some(row),
                Err(error) => {
                    errors.push(error.to_string());
                    None
                }
            })
            .collect();
        next_hops.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut groups: Vec<FibGroup> = self.numbers[Kind::Group as usize]
            .iter()
            .map(|(number, _)| self.fib_group(number))
            .collect();
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Snapshot {
            view: FibView {
                routes: Vec::new(),
                groups,
                next_hops,
                ports: self.fib_ports(),
                stale: self.stale(),
                errors,
            },
            tables: self.numbers[Kind::Table as usize]
                .iter()
                .map(|(number, name)| (number, name.into()))
                .collect(),
            stale: self
                .adopted
                .iter()
                .flat_map(|adopted| adopted.routes.keys().copied())
                .collect(),
            dump: self.maps.dump_routes(),
        }
    }

    pub(super) fn lookup(
        &self,
        own: &TableName,
        learned: Option<&TableName>,
        address: IpAddr,
    ) -> Result<Lookup, KernelError> {
        let own = self.longest(own, address)?;
        let learned = match learned {
            Some(table) => self.longest(table, address)?,
            None => None,
        };
        let winner = match (&own, &learned) {
            (Some(own), Some(learned)) if !own.1.wins_over(&learned.1) => Some(learned),
            (Some(own), _) => Some(own),
            (None, learned) => learned.as_ref(),
        };
        let mut answer = Lookup {
            winner: winner.map(|(route, _)| route.clone()),
            group: None,
            buckets: Vec::new(),
            next_hops: Vec::new(),
            own: None,
            learned: None,
        };
        if let Some((_, entry)) = winner {
            let group = self.maps.group(entry.group);
            let mut numbers = Vec::new();
            for place in group.first_bucket..=group.first_bucket + group.mask {
                let bucket = self.maps.bucket(place);
                numbers.extend([bucket.primary, bucket.backup]);
                answer.buckets.push((
                    self.next_hop_name(bucket.primary),
                    (bucket.backup != 0).then(|| self.next_hop_name(bucket.backup)),
                ));
            }
            numbers.sort_unstable();
            numbers.dedup();
            answer.next_hops = numbers
                .into_iter()
                .filter(|number| *number != 0)
                .map(|number| self.fib_next_hop(number))
                .collect::<Result<_, _>>()?;
            answer.group = Some(self.fib_group(entry.group));
        }
        answer.own = own.map(|(route, _)| route);
        answer.learned = learned.map(|(route, _)| route);
        Ok(answer)
    }

    pub(super) fn counters(&self) -> Tally {
        let mut counters = Counters {
            ports: Vec::new(),
            next_hops: Vec::new(),
        };
        let (mut rows, mut bound) = (Vec::new(), Vec::new());
        for (interface, state) in &self.ports {
            let Ok(sum) = self.maps.port_counters(state.number) else {
                continue;
            };
            if let Some(place) = state.bound {
                rows.push(counters.ports.len());
                bound.push((interface.clone(), place.ifindex));
            }
            counters.ports.push(counter_row(interface.clone(), &sum));
        }
        if let Ok(sum) = self.maps.port_counters(NO_PORT)
            && sum.rx_packets != 0
        {
            counters.ports.push(counter_row(ELSEWHERE.into(), &sum));
        }
        for (number, name) in self.numbers[Kind::NextHop as usize].iter() {
            if let Ok(sum) = self.maps.next_hop_counters(number) {
                counters.next_hops.push(NextHopCounterRow {
                    next_hop: name.to_owned(),
                    packets: sum.packets,
                    bytes: sum.bytes,
                });
            }
        }
        counters
            .next_hops
            .sort_unstable_by(|a, b| a.next_hop.cmp(&b.next_hop));
        Tally {
            counters,
            rows,
            bound,
            losses: self.host.losses(),
        }
    }

    fn longest(
        &self,
        table: &TableName,
        address: IpAddr,
    ) -> Result<Option<(FibRoute, RouteEntry)>, KernelError> {
        let Some(number) = self.numbers[Kind::Table as usize].number(Kind::Table, table.as_str())
        else {
            return Ok(None);
        };
        let Some(entry) = self.maps.route(number, IpNet::from(address))? else {
            return Ok(None);
        };
        let prefix = IpNet::new(address, entry.prefix_len)
            .map_err(|_| {
                KernelError::Refused(format!(
                    "the route to {address} says that its prefix has {} bits",
                    entry.prefix_len
                ))
            })?
            .trunc();
        let key = RouteKey {
            table: number,
            prefix,
        };
        let stale = self
            .adopted
            .as_ref()
            .is_some_and(|adopted| adopted.routes.contains_key(&key));
        Ok(Some((
            fib_route(table.clone(), number, prefix, entry, stale),
            entry,
        )))
    }

    fn fib_group(&self, number: u32) -> FibGroup {
        let group = self.maps.group(number);
        let mut buckets: BTreeMap<u32, _> = BTreeMap::new();
        if group.first_bucket != 0 {
            for place in group.first_bucket..=group.first_bucket + group.mask {
                let primary = self.maps.bucket(place).primary;
                *buckets.entry(primary).or_default() += 1;
            }
        }
        FibGroup {
            name: self.numbers[Kind::Group as usize]
                .name(number)
                .map_or_else(|| format!("number {number}"), str::to_owned),
            number,
            first_bucket: group.first_bucket,
            buckets: group.mask + 1,
            shares: buckets
                .into_iter()
                .map(|(primary, count)| (self.next_hop_name(primary), count))
                .collect(),
        }
    }

    fn fib_next_hop(&self, number: u32) -> Result<FibNextHop, KernelError> {
        let word = self.maps.next_hop(number);
        let counters = self.maps.next_hop_counters(number)?;
        let mut row = FibNextHop {
            name: self.next_hop_name(number),
            number,
            alive: word.down == 0,
            port: None,
            mac: None,
            packets: counters.packets,
            bytes: counters.bytes,
        };
        if word.kind == router_common::maps::next_hop_kind::VIA && word.neighbor != 0 {
            let neighbor = self.maps.neighbor(word.neighbor)?;
            row.mac = Some(MacAddr(neighbor.mac));
            row.port = self.numbers[Kind::Port as usize]
                .name(neighbor.port)
                .map(InterfaceName::from);
        }
        Ok(row)
    }

    fn fib_ports(&self) -> Vec<FibPort> {
        self.ports
            .iter()
            .map(|(interface, state)| FibPort {
                interface: interface.clone(),
                number: state.number,
                vnet: state.config.vnet.clone(),
                own_table: state.config.own_table.clone(),
                learned_table: self.numbers[Kind::Table as usize]
                    .name(state.learned_table)
                    .map(TableName::from),
                ip_forwarding: state.config.ip_forwarding,
                restricted: self.restricted_names(state.restricted),
                attached: state.attached(),
            })
            .collect()
    }

    fn next_hop_name(&self, number: u32) -> String {
        self.numbers[Kind::NextHop as usize]
            .name(number)
            .map_or_else(|| format!("number {number}"), str::to_owned)
    }
}

fn counter_row(interface: InterfaceName, sum: &PortCounters) -> PortCounterRow {
    PortCounterRow {
        interface,
        rx_packets: sum.rx_packets,
        rx_bytes: sum.rx_bytes,
        redirect_failed: 0,
        reasons: Reason::ALL
            .iter()
            .map(|reason| (reason.name().to_owned(), sum.reason(*reason)))
            .filter(|(_, count)| *count != 0)
            .collect(),
    }
}

fn fib_route(
    table: TableName,
    table_number: u32,
    prefix: IpNet,
    entry: RouteEntry,
    stale: bool,
) -> FibRoute {
    FibRoute {
        table,
        table_number,
        prefix,
        group: entry.group,
        precedence: match entry.precedence {
            precedence::LEARNED => Precedence::Learned,
            precedence::USER_DEFINED => Precedence::UserDefined,
            _ => Precedence::System,
        },
        overriding: entry.flags & route_flags::OVERRIDING != 0,
        local: entry.flags & route_flags::LOCAL != 0,
        stale,
    }
}

fn unnamed(table: u32) -> TableName {
    format!("number {table}").into()
}
