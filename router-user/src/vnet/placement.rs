//! Where the own routes of each subnet stand: own tables, named by their contents and shared by
//! subnets with equal contents, and the ports that point to them.
//!
//! When the contents of a subnet change it moves to another table. The FIB fills that one before the
//! ports point to it and removes the former after (invariant 5), so no packet meets a half-filled
//! table.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{network::Network, own::OwnCandidate};
use crate::{
    config::Subnet,
    fib::{Fib, Port, Precedence, RouteSpec, fnv::Fnv},
    names::{InterfaceName, SubnetName, TableName, VnetName},
};

/// The routes of an own table, sorted by prefix.
pub(super) type Contents = Vec<(IpNet, RouteSpec)>;

/// What stands in the FIB by order of this module.
#[derive(Default)]
pub(super) struct Placements {
    subnets: BTreeMap<VnetName, BTreeMap<SubnetName, Placed>>,
    tables: BTreeMap<TableName, OwnTable>,
}

struct Placed {
    table: TableName,
    ports: Vec<InterfaceName>,
}

struct OwnTable {
    contents: Contents,
    /// How many subnets use it.
    subnets: usize,
}

impl Placements {
    /// Takes everything of a network out of the FIB. What is placed again before the FIB is asked
    /// for changes never left.
    pub(super) fn remove(&mut self, vnet: &VnetName, fib: &mut Fib) {
        for placed in self.subnets.remove(vnet).into_iter().flatten() {
            let (_, Placed { table, ports }) = placed;
            for interface in &ports {
                fib.remove_port(interface);
            }
            let Some(own) = self.tables.get_mut(&table) else {
                continue;
            };
            own.subnets -= 1;
            if own.subnets == 0 {
                self.tables.remove(&table);
                fib.clear_table(&table);
            }
        }
    }

    /// Places a subnet that is not placed.
    pub(super) fn place(
        &mut self,
        network: &Network,
        subnet: &Subnet,
        contents: Contents,
        learned_table: Option<&TableName>,
        fib: &mut Fib,
    ) {
        let table = self.table_of(contents, fib);
        for port in &subnet.ports {
            fib.put_port(Port {
                interface: port.interface.clone(),
                vnet: network.name.clone(),
                own_table: table.clone(),
                learned_table: learned_table.cloned(),
                addresses: port.addresses.clone(),
                mac: port.mac,
                gateways: subnet.gateways.clone(),
                ip_forwarding: port.ip_forwarding,
                restricted: Vec::new(),
            });
        }
        let ports = subnet.ports.iter().map(|port| port.interface.clone());
        self.subnets
            .entry(network.name.clone())
            .or_default()
            .insert(
                subnet.name.clone(),
                Placed {
                    table,
                    ports: ports.collect(),
                },
            );
    }

    /// The own table of a subnet.
    pub(super) fn table(&self, vnet: &VnetName, subnet: &SubnetName) -> Option<&TableName> {
        Some(&self.subnets.get(vnet)?.get(subnet)?.table)
    }

    fn table_of(&mut self, contents: Contents, fib: &mut Fib) -> TableName {
        let mut hash = hash(&contents);
        loop {
            let name: TableName = format!("own/{hash:016x}").into();
            let Some(own) = self.tables.get_mut(&name) else {
                for (prefix, spec) in &contents {
                    fib.put_route(&name, *prefix, spec.clone());
                }
                self.tables.insert(
                    name.clone(),
                    OwnTable {
                        contents,
                        subnets: 1,
                    },
                );
                return name;
            };
            if own.contents == contents {
                own.subnets += 1;
                return name;
            }
            // Other contents have this very hash: the next name.
            hash = hash.wrapping_add(1);
        }
    }
}

/// What the own table of a subnet holds: the valid rows.
pub(super) fn contents(candidates: &[OwnCandidate], vnet: &VnetName) -> Contents {
    candidates
        .iter()
        .filter(|candidate| candidate.is_valid())
        .map(|candidate| (candidate.row.prefix, candidate.spec(vnet)))
        .collect()
}

/// FNV-1a over prefix, group name, precedence and mark of each route: equal on every host.
fn hash(contents: &Contents) -> u64 {
    let mut hash = Fnv::new("waypost own table 1");
    for (prefix, spec) in contents {
        hash.prefix(*prefix);
        hash.number(spec.group.id().0);
        hash.bytes(&[
            match spec.precedence {
                Precedence::System => 1,
                Precedence::Learned => 2,
                Precedence::UserDefined => 3,
            },
            u8::from(spec.overriding),
        ]);
    }
    hash.finish()
}
