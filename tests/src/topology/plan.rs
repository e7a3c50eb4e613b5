//! The address plan: every network and every site has a number, and all its addresses follow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::waypost::config::Gateway;

/// The space of a network or of a site: `10.N.0.0/16` and `fd00:N::/48`, the number's decimal digits
/// standing in the IPv6 prefix as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space(pub u8);

impl Space {
    /// All of it.
    ///
    /// # Errors
    /// Never: a space has at most three digits.
    pub fn prefixes(self) -> Result<[IpNet; 2]> {
        Ok([
            Ipv4Net::new(self.ipv4(0, 0), 16)?.into(),
            Ipv6Net::new(self.ipv6(0, 0)?, 48)?.into(),
        ])
    }

    /// One subnet: `10.N.S.0/24` and `fd00:N:0:S::/64`.
    ///
    /// # Errors
    /// Never.
    pub fn subnet(self, subnet: u8) -> Result<[IpNet; 2]> {
        Ok([
            Ipv4Net::new(self.ipv4(subnet, 0), 24)?.into(),
            Ipv6Net::new(self.ipv6(subnet, 0)?, 64)?.into(),
        ])
    }

    /// A machine in a subnet.
    ///
    /// # Errors
    /// Never.
    pub fn machine(self, subnet: u8, machine: u8) -> Result<[IpAddr; 2]> {
        Ok([
            self.ipv4(subnet, machine).into(),
            self.ipv6(subnet, machine)?.into(),
        ])
    }

    const fn ipv4(self, subnet: u8, machine: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, subnet, machine)
    }

    fn ipv6(self, subnet: u8, machine: u8) -> Result<Ipv6Addr> {
        Ok(format!("fd00:{}:0:{subnet:x}::{machine:x}", self.0).parse()?)
    }
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its space.
    pub space: Space,
}

/// A subnet of a virtual network.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its network.
    pub network: Network,
    /// Its name.
    pub name: String,
    /// Its number within the network's space.
    pub number: u8,
}

impl Subnet {
    /// As commands name it: `hub/apps`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.network.name, self.name)
    }
}

/// A route server: two instances in a subnet of their own.
#[derive(Clone, Debug)]
pub struct RouteServer {
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// Addresses of instances 1 and 2, IPv4 and IPv6.
    pub instances: [[IpAddr; 2]; 2],
}

impl RouteServer {
    /// Number of the instances' subnet.
    pub const SUBNET: u8 = 255;

    /// IPv4 addresses of the instances: what sessions run to.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.instances.map(|[ipv4, _]| ipv4)
    }

    /// The subnet of the instances.
    ///
    /// # Errors
    /// Never.
    pub fn subnet(&self) -> Result<[IpNet; 2]> {
        self.network.space.subnet(Self::SUBNET)
    }
}

/// Kinds of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ExpressRoute.
    ExpressRoute,
    /// VPN.
    Vpn,
}

impl Kind {
    /// A gateway's section, with these members.
    pub(super) fn section(self, name: &str, members: Vec<IpAddr>, asn: u32) -> Gateway {
        Gateway {
            members,
            connect_retry: Some(1),
            ..self.section_within(name, asn, BTreeMap::new())
        }
    }

    /// A gateway's section without members, with other keys.
    pub(super) fn section_within(
        self,
        name: &str,
        asn: u32,
        settings: BTreeMap<String, toml::Value>,
    ) -> Gateway {
        let kind = match self {
            Self::ExpressRoute => "express_route",
            Self::Vpn => "vpn",
        };
        Gateway {
            name: name.to_owned(),
            kind: kind.to_owned(),
            members: Vec::new(),
            asn,
            connect_retry: None,
            settings,
        }
    }
}

/// Name of the peer that a gateway's member is.
#[must_use]
pub fn member(gateway: &str, address: IpAddr) -> String {
    format!("{gateway}-{address}")
}

/// The default routes.
///
/// # Errors
/// Never: the texts are constant.
pub fn default_routes() -> Result<[IpNet; 2]> {
    Ok(["0.0.0.0/0".parse()?, "::/0".parse()?])
}

#[cfg(test)]
mod tests {
    use super::Space;

    #[test]
    fn a_number_names_every_address() -> anyhow::Result<()> {
        let space = Space(250);
        let text = |prefixes: [ipnet::IpNet; 2]| prefixes.map(|prefix| prefix.to_string());
        assert_eq!(text(space.prefixes()?), ["10.250.0.0/16", "fd00:250::/48"]);
        assert_eq!(
            text(space.subnet(20)?),
            ["10.250.20.0/24", "fd00:250:0:14::/64"]
        );
        let machine = space.machine(1, 4)?.map(|address| address.to_string());
        assert_eq!(machine, ["10.250.1.4", "fd00:250:0:1::4"]);
        Ok(())
    }
}
