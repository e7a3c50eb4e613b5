//! The changes of the configuration, and what the kernel is to hold after each.

use ipnet::Ipv4Net;

use crate::{
    bed::{Bed, CIRCUIT_PORT, Machine, space},
    configuration::Settings,
    kernel::Fact,
    load::Load,
};

/// A change that can be made and taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    BranchToBranch,
    Peering,
    RoutingPreference,
}

impl Change {
    /// Each is made and taken back so many times.
    pub fn all(rounds: usize) -> impl Iterator<Item = (Self, bool)> {
        [Self::BranchToBranch, Self::Peering, Self::RoutingPreference]
            .into_iter()
            .flat_map(move |change| (0..2 * rounds).map(move |n| (change, n % 2 == 0)))
    }

    /// The settings with the change made; the first of the two directions is away from what the
    /// benchmark starts with.
    pub fn made(self, settings: Settings, there: bool) -> Settings {
        match self {
            Self::BranchToBranch => Settings {
                branch_to_branch: there,
                ..settings
            },
            Self::Peering => Settings {
                last_is_peered: !there,
                ..settings
            },
            Self::RoutingPreference => Settings {
                express_route_first: !there,
                ..settings
            },
        }
    }

    /// What it is called in the table, by direction.
    pub fn name(self, there: bool) -> &'static str {
        match (self, there) {
            (Self::BranchToBranch, true) => "branch_to_branch on",
            (Self::BranchToBranch, false) => "branch_to_branch off",
            (Self::Peering, true) => "remove a peering",
            (Self::Peering, false) => "add a peering",
            (Self::RoutingPreference, true) => "routing_preference vpn_gateway",
            (Self::RoutingPreference, false) => "routing_preference express_route",
        }
    }
}

/// What the kernel is to hold.
///
/// All machines use the same learned routes; one of them is asked for each prefix, the others for the
/// first and the last.
pub fn facts(bed: &Bed, load: &Load, settings: &Settings) -> Vec<Fact> {
    let hub = space(0);
    let learned = load.learned(settings.express_route_first);
    let ends = [learned[0], learned[learned.len() - 1]];
    let mut facts = Vec::new();
    for (n, machine) in bed.machines.iter().enumerate() {
        let interface = machine.interface();
        let peered = settings.is_peered(machine.vnet, bed.vnets);
        if machine.vnet != 0 {
            facts.push(Fact::Own(interface.clone(), hub, peered));
        }
        if !peered {
            let unlearned = |(prefix, _): (Ipv4Net, _)| Fact::Unlearned(interface.clone(), prefix);
            facts.extend(ends.map(unlearned));
            continue;
        }
        let asked = if n == 0 { &learned[..] } else { &ends };
        let lead = asked.iter().copied();
        facts.extend(lead.map(|(prefix, to)| Fact::Learned(interface.clone(), prefix, to)));
    }
    let of_hub = bed.machines.iter().filter(|machine| machine.vnet == 0);
    for machine in of_hub.map(|machine: &Machine| machine.interface()) {
        for other in 1..bed.vnets {
            let peered = settings.is_peered(other, bed.vnets);
            facts.push(Fact::Own(machine.clone(), space(other), peered));
        }
    }
    // The gateway's port has what the gateway is told.
    for (prefix, to) in load.of_appliance() {
        let port = CIRCUIT_PORT.to_owned();
        facts.push(if settings.branch_to_branch {
            Fact::Learned(port, prefix, to)
        } else {
            Fact::Unlearned(port, prefix)
        });
    }
    facts
}
