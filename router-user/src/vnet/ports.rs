//! The ports of a subnet, for those who ask: which of them see the same routes, and how packets come in.
//!
//! In: a network, and what a question says of a packet. Out: the [`PortGroup`] whose tables it meets,
//! and the ports that let it in.

use std::net::IpAddr;

use super::{
    SubnetError,
    network::{Network, Slot},
};
use crate::{
    config::{PeerKind, Subnet},
    names::{InterfaceName, SubnetName, VnetName},
};

/// The ports of a subnet that see the same routes: those of the members of gateways of one kind, or
/// all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortGroup {
    /// Network.
    pub vnet: VnetName,
    /// Subnet.
    pub subnet: SubnetName,
    /// They belong to members of gateways of this kind.
    pub gateway: Option<PeerKind>,
}

/// How packets come into a subnet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entrance {
    /// Whose tables they meet.
    pub group: PortGroup,
    /// The word of that group, where ports of the subnet see different routes.
    pub ports: Option<&'static str>,
    /// Nothing says that they come through a port of this group and not of another one.
    pub is_open: bool,
    /// The ports that let packets with the source in: the one that has it, else those that forward.
    /// None without a source.
    pub through: Vec<InterfaceName>,
    /// The subnet has ports, and none of those meant lets packets with this source in.
    pub is_refused: bool,
    /// Networks that packets with this source may not enter from here: they take only what is of this
    /// subnet's own network.
    pub closed: Vec<VnetName>,
}

impl PortGroup {
    pub(super) fn new(network: &Network, subnet: &Subnet, slot: &Slot<'_>) -> Self {
        Self {
            vnet: network.name().clone(),
            subnet: subnet.name.clone(),
            gateway: slot.gateway,
        }
    }
}

impl Slot<'_> {
    /// Whose ports they are.
    const fn word(&self) -> &'static str {
        match self.gateway {
            Some(kind) => kind.word(),
            None => "others",
        }
    }
}

impl Network {
    /// Whose the ports of one of a subnet's slots are, where there are others.
    pub(super) fn word(slots: &[Slot<'_>], slot: &Slot<'_>) -> Option<&'static str> {
        (slots.len() > 1).then(|| slot.word())
    }

    pub(super) fn entrance(
        &self,
        subnet: &Subnet,
        port: Option<&str>,
        source: Option<IpAddr>,
    ) -> Result<Entrance, SubnetError> {
        let slots = self.slots(subnet);
        let meant = |interface: &InterfaceName| port.is_none_or(|port| interface.as_str() == port);
        if !subnet.ports.iter().any(|it| meant(&it.interface))
            && let Some(port) = port
        {
            let known = subnet.ports.iter().map(|port| port.interface.to_string());
            return Err(SubnetError::NoPort {
                subnet: format!("{}/{}", self.name(), subnet.name),
                port: port.to_owned(),
                known: match known.collect::<Vec<_>>().join(", ") {
                    none if none.is_empty() => "it has none on this host".to_owned(),
                    known => format!("there are: {known}"),
                },
            });
        }
        let ports = || {
            let ports = slots.iter().enumerate().flat_map(|(place, slot)| {
                let ports = slot.ports.iter();
                ports.map(move |port| (place, *port))
            });
            ports.filter(|(_, port)| meant(&port.interface))
        };
        let has_source = |port: &crate::config::Port| {
            source.is_some_and(|source| port.addresses.contains(&source))
        };
        let owner = ports().find(|(_, port)| has_source(port));
        let mut through: Vec<_> = match (owner, source) {
            (Some(owner), _) => vec![owner],
            (None, Some(_)) => ports().filter(|(_, port)| port.ip_forwarding).collect(),
            (None, None) => Vec::new(),
        };
        let first = through.first().copied();
        let first = first.or_else(|| port.and_then(|_| ports().next()));
        let place = first.map_or(0, |(place, _)| place);
        let is_open = first.is_none() || through.iter().any(|(other, _)| *other != place);
        through.retain(|(other, _)| *other == place);
        let forwards = through.iter().any(|(_, port)| port.ip_forwarding);
        let is_foreign = source.is_some_and(|source| !self.own.contains(source));
        let slot = &slots[place];
        Ok(Entrance {
            group: PortGroup::new(self, subnet, slot),
            ports: Self::word(&slots, slot),
            is_open: is_open && slots.len() > 1,
            is_refused: source.is_some() && through.is_empty() && !subnet.ports.is_empty(),
            closed: match forwards && is_foreign {
                true => self.restricted.clone(),
                false => Vec::new(),
            },
            through: through
                .into_iter()
                .map(|(_, port)| port.interface.clone())
                .collect(),
        })
    }
}
