//! Machines around one gateway host: virtual machines and appliances, each behind a port.

use std::net::IpAddr;

use anyhow::{Result, anyhow};
use ipnet::IpNet;

use crate::{
    lab::{Host, Lab, Link, host::family_flag},
    overview::DEFAULT,
    waypost::config::Port,
};

/// The interface of a machine towards the gateway host.
pub const UPLINK: &str = "eth0";

/// A machine of the virtual network: behind an interface of the gateway host that bears its name.
#[derive(Clone, Debug)]
pub struct Vm {
    /// The machine.
    pub host: Host,
    /// Its addresses: one IPv4, one IPv6.
    pub addresses: [IpAddr; 2],
    /// The gateway host's addresses towards it.
    pub gateways: [IpAddr; 2],
    /// Its cable; behind a switch, the machine's own end of it.
    pub link: Link,
    /// Its cable; behind a switch, the gateway host's end of it.
    pub port_link: Link,
    gateway_host: Host,
}

/// An appliance: a machine that forwards.
#[derive(Clone, Debug)]
pub struct Nva {
    /// The machine.
    pub vm: Vm,
}

/// How a machine is joined to the gateway host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Straight: one end down, and the other has no carrier.
    Straight,
    /// Through a switch: the machine may die and the gateway host's port stays up.
    Switched,
}

impl Vm {
    /// Joins a new machine to the gateway host. Its default route is the gateway.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn attach(
        lab: &Lab,
        gateway_host: &Host,
        name: &str,
        addresses: [&str; 2],
        gateways: [&str; 2],
    ) -> Result<Self> {
        let vm = join(
            lab,
            gateway_host,
            name,
            addresses,
            gateways,
            Cable::Straight,
        )?;
        vm.configure_default_route()?;
        Ok(vm)
    }

    /// The machine's address of the same family as another.
    #[must_use]
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        self.addresses[usize::from(other.is_ipv6())]
    }

    /// Its port, as configured in Waypost.
    #[must_use]
    pub fn port(&self) -> Port {
        Port {
            interface: self.host.name().to_owned(),
            addresses: self.addresses.to_vec(),
            mac: None,
            ip_forwarding: false,
        }
    }

    /// Writes the gateway host's side once more: after its interface has vanished and returned.
    ///
    /// # Errors
    /// The interface does not exist.
    pub fn configure_gateway_side(&self) -> Result<()> {
        let interface = self.host.name();
        for (address, gateway) in self.addresses.into_iter().zip(self.gateways) {
            self.gateway_host.address(interface, host_prefix(gateway))?;
            let family = family_flag(address);
            let prefix = host_prefix(address);
            let source = if address.is_ipv4() {
                format!("src {gateway}")
            } else {
                String::new()
            };
            self.gateway_host.run(&format!(
                "ip {family} route replace {prefix} dev {interface} {source}"
            ))?;
        }
        Ok(())
    }

    /// Writes the machine's side: its addresses, in the subnet.
    ///
    /// # Errors
    /// The interface does not exist.
    pub fn configure_machine_side(&self) -> Result<()> {
        for address in self.addresses {
            let length = if address.is_ipv4() { 24 } else { 64 };
            self.host.address(UPLINK, IpNet::new(address, length)?)?;
        }
        Ok(())
    }
}

impl Vm {
    /// Writes the machine's default route: the gateway.
    ///
    /// # Errors
    /// The interface does not exist.
    pub fn configure_default_route(&self) -> Result<()> {
        for (any, gateway) in DEFAULT.into_iter().zip(self.gateways) {
            self.host.route(any.parse()?, gateway, UPLINK)?;
        }
        Ok(())
    }
}

impl Nva {
    /// Joins a new appliance to the gateway host. It knows how to reach the route server; the rest is
    /// for BGP to tell.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn attach(
        lab: &Lab,
        gateway_host: &Host,
        name: &str,
        addresses: [&str; 2],
        gateways: [&str; 2],
        cable: Cable,
    ) -> Result<Self> {
        let servers = [route_server_subnet()?];
        Self::attach_towards(
            lab,
            gateway_host,
            name,
            addresses,
            gateways,
            cable,
            &servers,
        )
    }

    /// Joins a new appliance to the gateway host. It knows how to reach these subnets of route
    /// servers.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn attach_towards(
        lab: &Lab,
        gateway_host: &Host,
        name: &str,
        addresses: [&str; 2],
        gateways: [&str; 2],
        cable: Cable,
        servers: &[[IpNet; 2]],
    ) -> Result<Self> {
        let vm = join(lab, gateway_host, name, addresses, gateways, cable)?;
        vm.host.forward(true)?;
        let nva = Self { vm };
        nva.knows(servers)?;
        Ok(nva)
    }

    /// It speaks again after its own end of the cable was down: the kernel took its IPv6 address and
    /// its routes. These are the subnets of route servers that it knows how to reach.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wake(&self, servers: &[[IpNet; 2]]) -> Result<()> {
        self.vm.link.up()?;
        self.vm.configure_machine_side()?;
        self.knows(servers)
    }

    fn knows(&self, servers: &[[IpNet; 2]]) -> Result<()> {
        for server in servers {
            for (prefix, gateway) in server.iter().zip(self.vm.gateways) {
                self.vm.host.route(*prefix, gateway, UPLINK)?;
            }
        }
        Ok(())
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.vm.host
    }

    /// Its port, as configured in Waypost.
    #[must_use]
    pub fn port(&self) -> Port {
        Port {
            ip_forwarding: true,
            ..self.vm.port()
        }
    }
}

/// The subnet of the route server's instances.
///
/// # Errors
/// Never: the text is constant.
pub fn route_server_subnet() -> Result<[IpNet; 2]> {
    Ok(["10.1.255.0/27".parse()?, "fd00:1:0:ff::/64".parse()?])
}

/// An address as the prefix that holds nothing else.
#[must_use]
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn join(
    lab: &Lab,
    gateway_host: &Host,
    name: &str,
    addresses: [&str; 2],
    gateways: [&str; 2],
    cable: Cable,
) -> Result<Vm> {
    let parse = |texts: [&str; 2]| -> Result<[IpAddr; 2]> {
        let addresses: Vec<IpAddr> = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        addresses.try_into().map_err(|_| anyhow!("two addresses"))
    };
    let host = lab.host(name)?;
    let [port_link, link] = match cable {
        Cable::Straight => {
            let link = Link::new((gateway_host, name), (&host, UPLINK))?;
            [link.clone(), link]
        }
        Cable::Switched => Link::through_switch(lab, (gateway_host, name), (&host, UPLINK))?,
    };
    let vm = Vm {
        host,
        addresses: parse(addresses)?,
        gateways: parse(gateways)?,
        link,
        port_link,
        gateway_host: gateway_host.clone(),
    };
    vm.configure_gateway_side()?;
    vm.configure_machine_side()?;
    Ok(vm)
}
