//! `[[route_server.instance]]`: the two instances of a route server.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Instance,
    claims::Claims,
    fault::Report,
    route_server::Reader,
    schema,
    section::{Located, Section},
    values::{Address, RouterId},
};
use crate::bgp::InstanceId;

impl Reader<'_> {
    /// `None` unless there are two without a fault.
    pub(super) fn instances(
        &mut self,
        section: &Section<'_, '_>,
        label: &str,
        network: Option<usize>,
        report: &mut Report,
    ) -> Option<[Instance; 2]> {
        let sections = section.subsections("instance", &schema::INSTANCE, report);
        if sections.len() != 2 {
            report.fault(
                section.at,
                format!(
                    "route server {label} has {} [[route_server.instance]]",
                    sections.len()
                ),
                "give it exactly two, with id = 1 and id = 2",
            );
        }
        let mut ids = Claims::of("id");
        let mut router_ids = Claims::of("router id");
        let mut instances: Vec<Instance> = sections
            .iter()
            .filter_map(|section| {
                let before = report.faults();
                let (instance, at) = self.instance(section, label, network, report)?;
                let owner = format!("instance {} of {label}", instance.id);
                ids.claim(instance.id, &owner, at, report);
                if report.faults() == before {
                    router_ids.claim(instance.router_id, &owner, at, report);
                }
                Some(instance)
            })
            .collect();
        instances.sort_by_key(|instance| instance.id);
        instances.try_into().ok()
    }

    fn instance(
        &mut self,
        section: &Section<'_, '_>,
        label: &str,
        network: Option<usize>,
        report: &mut Report,
    ) -> Option<(Instance, usize)> {
        section.require("id", report);
        let id = section.integer("id", 1..=2_u8, report);
        let owner = match &id {
            Some(id) => format!("instance {} of {label}", id.value),
            None => format!("an instance of {label}"),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in section.required_list::<Address>("addresses", report) {
            let Located {
                value: Address(address),
                at,
            } = address;
            if let Some(other) = addresses
                .iter()
                .find(|other| other.is_ipv4() == address.is_ipv4())
            {
                report.fault(
                    at,
                    format!("{owner} has {other} and {address}, two addresses of one family"),
                    "keep one IPv4 and one IPv6 address at the most",
                );
                continue;
            }
            self.claim_instance_address(address, &owner, at, network, report);
            addresses.push(address);
        }
        let router_id = section.text::<RouterId>("router_id", report);
        let router_id = router_id
            .map(|id| id.value.0)
            .or_else(|| addresses.iter().find_map(ipv4));
        if router_id.is_none() && !addresses.is_empty() {
            report.fault(
                section.at,
                format!("{owner} has no IPv4 address to serve as its router id"),
                "add router_id = \"…\", an IPv4 address that no other speaker uses",
            );
        }
        let instance = Instance {
            id: InstanceId(id?.value),
            router_id: router_id?,
            addresses,
        };
        Some((instance, section.at))
    }

    fn claim_instance_address(
        &mut self,
        address: IpAddr,
        owner: &str,
        at: usize,
        network: Option<usize>,
        report: &mut Report,
    ) {
        self.places
            .instance_addresses
            .insert(address, report.line_of(at));
        let before = report.faults();
        self.listening.claim(address, owner, at, report);
        let Some(network) = network.map(|index| self.networks.at_mut(index)) else {
            return;
        };
        if report.faults() == before {
            network.claim_own(address, owner, at, report);
        }
        if network.complete && !network.vnet.contains(address) {
            report.fault(
                at,
                format!(
                    "address {address} of {owner} lies outside network {}",
                    network.vnet.name
                ),
                "give an address within the network, best in a subnet of the route server's own",
            );
        }
    }
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}
