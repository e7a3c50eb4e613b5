//! Appliances and the sites behind them: links, sessions, and how each is lost.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::IpNet;

use super::plan::{Network, RouteServer, Space, default_routes};
use crate::{
    daemon::{Bird, Neighbor, Options, Policy, Speaker},
    lab::{Host, Lab, Link},
    network::{Nva, UPLINK},
    overview::{Overview, ROUTE_SERVER_ASN},
};

/// An appliance or a gateway's member: a machine that forwards and speaks BGP with route servers.
#[derive(Clone, Debug)]
pub struct Appliance {
    nva: Nva,
    network: Network,
    servers: Vec<RouteServer>,
}

/// A site: a router with a link to each appliance in front of it, and a host.
#[derive(Debug)]
pub struct Site {
    /// Its router.
    pub router: Host,
    /// A host behind it.
    pub host: Host,
    /// Its space.
    pub space: Space,
    links: Vec<SiteLink>,
}

#[derive(Debug)]
struct SiteLink {
    appliance: String,
    link: Link,
    /// The appliance's addresses, and the router's.
    ends: [[IpAddr; 2]; 2],
}

/// Something made to fail, until this is dropped: a step that ends early leaves nothing failed.
#[must_use]
pub struct Failed<'a> {
    mend: Option<Box<dyn Fn() -> Result<()> + 'a>>,
}

impl<'a> Failed<'a> {
    /// What has been made to fail already, and what mends it.
    pub fn until(mend: impl Fn() -> Result<()> + 'a) -> Self {
        Self {
            mend: Some(Box::new(mend)),
        }
    }

    /// Mends it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend(mut self) -> Result<()> {
        self.mend.take().map_or(Ok(()), |mend| mend())
    }
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if let Some(mend) = self.mend.take()
            && let Err(error) = mend()
        {
            println!("cannot mend what was made to fail: {error:#}");
        }
    }
}

/// A site router's interface towards its host.
pub(super) const LAN: &str = "lan";

/// Number of the host's subnet within a site's space, and of the host.
const HOST: (u8, u8) = (0, 10);

impl Appliance {
    pub(super) fn new(nva: Nva, network: &Network, servers: Vec<RouteServer>) -> Self {
        Self {
            nva,
            network: network.clone(),
            servers,
        }
    }

    /// Its name, which its port has as well.
    #[must_use]
    pub fn name(&self) -> &str {
        self.nva.host().name()
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.nva.host()
    }

    /// Its IPv4 address, which its sessions run from.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.nva.vm.addresses[0]
    }

    /// Its addresses: next hops of what it announces.
    #[must_use]
    pub const fn addresses(&self) -> [IpAddr; 2] {
        self.nva.vm.addresses
    }

    /// A speaker with sessions with both instances of each of its route servers, over IPv4, both
    /// families in each. It announces nothing of its own and forwards by what it learns. An ASN that
    /// is the route servers' makes the sessions internal.
    ///
    /// # Errors
    /// Never.
    pub fn speaker(&self, asn: u32) -> Result<Speaker> {
        let router_id = ipv4_of(self.addresses());
        let neighbor = |address: &IpAddr| Neighbor {
            address: *address,
            local: self.address(),
            asn: ROUTE_SERVER_ASN,
            passive: false,
            multihop: true,
            plain: false,
        };
        let instances = self.servers.iter().flat_map(RouteServer::addresses);
        let instances: Vec<IpAddr> = instances.collect();
        let mut networks = vec![self.network.space];
        networks.extend(self.servers.iter().map(|server| server.network.space));
        networks.sort();
        networks.dedup();
        let mut underlay = Vec::new();
        for network in networks {
            underlay.extend(network.prefixes()?.into_iter().zip(self.nva.vm.gateways));
        }
        Ok(Speaker {
            asn,
            router_id,
            addresses: self.addresses().to_vec(),
            neighbors: instances.iter().map(neighbor).collect(),
            announce: Vec::new(),
            underlay,
            install: true,
            options: Overview::appliance_options(),
        })
    }

    /// The same with sessions with a site's router too.
    ///
    /// # Errors
    /// It is not in front of that site.
    pub fn speaker_with(&self, asn: u32, site: &Site, site_asn: u32) -> Result<Speaker> {
        let mut speaker = self.speaker(asn)?;
        for [local, address] in site.sessions(self.name()) {
            speaker.neighbors.push(direct(local, address, site_asn));
            // Its own address on the link is the next hop there.
            let policies = &mut speaker.options.policies;
            policies.insert(address, on_link(None));
        }
        Ok(speaker)
    }

    /// Gives the sessions with a route server a policy.
    pub fn set_policy(&self, speaker: &mut Speaker, server: &RouteServer, policy: &Policy) {
        for instance in server.addresses() {
            let policies = &mut speaker.options.policies;
            policies.insert(instance, policy.clone());
        }
    }

    /// Knows the way to another prefix: back to the gateway host. What BGP tells comes before it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn knows(&self, prefixes: [IpNet; 2]) -> Result<()> {
        for (prefix, gateway) in prefixes.into_iter().zip(self.nva.vm.gateways) {
            let family = crate::lab::host::family_flag(gateway);
            self.host().run(&format!(
                "ip {family} route replace {prefix} via {gateway} dev {UPLINK} metric 4000"
            ))?;
        }
        Ok(())
    }

    /// Its port loses the carrier; the machine itself goes on.
    ///
    /// # Errors
    /// The port is gone.
    pub fn unplug(&self) -> Result<()> {
        self.nva.vm.port_link.down()
    }

    /// The carrier is back.
    ///
    /// # Errors
    /// The port is gone.
    pub fn plug(&self) -> Result<()> {
        self.nva.vm.port_link.up()
    }

    /// Its port loses the carrier until it is mended.
    ///
    /// # Errors
    /// The port is gone.
    pub fn unplugged(&self) -> Result<Failed<'_>> {
        self.unplug()?;
        Ok(Failed::until(|| self.plug()))
    }

    /// It is silent, its port up, until it is mended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn silent(&self) -> Result<Failed<'_>> {
        self.fall_silent()?;
        Ok(Failed::until(|| self.wake()))
    }

    /// It falls silent: nothing comes from it and its port stays up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn fall_silent(&self) -> Result<()> {
        self.nva.vm.link.down()
    }

    /// It speaks again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wake(&self) -> Result<()> {
        let servers = self.servers.iter().map(RouteServer::subnet);
        self.nva.wake(&servers.collect::<Result<Vec<_>>>()?)
    }
}

impl Site {
    pub(super) fn build(
        lab: &Lab,
        router: &str,
        host: &str,
        space: Space,
        behind: &[&Appliance],
    ) -> Result<Self> {
        let (router, host) = (lab.host(router)?, lab.host(host)?);
        router.forward(true)?;
        Link::new((&router, LAN), (&host, UPLINK))?;
        let gateways = space.machine(HOST.0, 1)?;
        let own = space.machine(HOST.0, HOST.1)?;
        for ((gateway, own), any) in gateways.into_iter().zip(own).zip(default_routes()?) {
            router.address(LAN, in_subnet(gateway)?)?;
            host.address(UPLINK, in_subnet(own)?)?;
            host.route(any, gateway, UPLINK)?;
        }
        let mut links = Vec::new();
        for (number, appliance) in (0..).zip(behind) {
            links.push(SiteLink::build(&router, appliance, space, number)?);
        }
        Ok(Self {
            router,
            host,
            space,
            links,
        })
    }

    /// The host's addresses.
    ///
    /// # Errors
    /// Never.
    pub fn addresses(&self) -> Result<[IpAddr; 2]> {
        self.space.machine(HOST.0, HOST.1)
    }

    /// The router's speaker: it has sessions with the appliances in front, over IPv4 and over IPv6, and
    /// announces the site. Of what several announce it takes that of the one named in `prefers`.
    ///
    /// # Errors
    /// Never.
    pub fn speaker(
        &self,
        asn: u32,
        appliances: &[(&Appliance, u32)],
        prefers: Option<&Appliance>,
    ) -> Result<Speaker> {
        let mut addresses = Vec::new();
        let mut neighbors = Vec::new();
        let mut options = Overview::appliance_options();
        for (appliance, appliance_asn) in appliances {
            for [address, local] in self.sessions(appliance.name()) {
                addresses.push(local);
                neighbors.push(direct(local, address, *appliance_asn));
                let preferred = prefers.filter(|preferred| preferred.name() == appliance.name());
                let policy = on_link(preferred.map(|_| 200));
                options.policies.insert(address, policy);
            }
        }
        Ok(Speaker {
            asn,
            router_id: ipv4_of(self.addresses()?),
            addresses,
            neighbors,
            announce: self.space.prefixes()?.to_vec(),
            underlay: Vec::new(),
            install: true,
            options: Options {
                graceful_restart: None,
                ..options
            },
        })
    }

    /// Makes a router that runs prefer, or no more, what an appliance in front of it announces: those
    /// with the highest LOCAL_PREF.
    ///
    /// # Errors
    /// BIRD refuses.
    pub fn prefer(&self, router: &mut Bird, appliance: &Appliance, local_pref: u32) -> Result<()> {
        for [address, _] in self.sessions(appliance.name()) {
            router.set_policy(address, on_link(Some(local_pref)))?;
        }
        Ok(())
    }

    /// The addresses of the sessions with an appliance: the appliance's end, the router's end.
    #[must_use]
    pub fn sessions(&self, appliance: &str) -> Vec<[IpAddr; 2]> {
        let links = self.links.iter().filter(|link| link.appliance == appliance);
        let pairs = links.flat_map(|link| {
            let [near, far] = link.ends;
            near.into_iter().zip(far).map(|(near, far)| [near, far])
        });
        pairs.collect()
    }

    /// The link to an appliance loses its carrier at both ends.
    ///
    /// # Errors
    /// There is no such link.
    pub fn unplug(&self, appliance: &Appliance) -> Result<()> {
        self.link(appliance).try_for_each(|link| link.link.down())
    }

    /// The link to an appliance is back.
    ///
    /// # Errors
    /// There is no such link.
    pub fn plug(&self, appliance: &Appliance) -> Result<()> {
        self.link(appliance).try_for_each(|link| {
            link.link.up()?;
            link.configure(&self.router, appliance)
        })
    }

    /// The link to an appliance has no carrier at either end until it is mended.
    ///
    /// # Errors
    /// There is no such link.
    pub fn unplugged<'a>(&'a self, appliance: &'a Appliance) -> Result<Failed<'a>> {
        self.unplug(appliance)?;
        Ok(Failed::until(|| self.plug(appliance)))
    }

    fn link(&self, appliance: &Appliance) -> impl Iterator<Item = &SiteLink> {
        let name = appliance.name().to_owned();
        self.links.iter().filter(move |link| link.appliance == name)
    }
}

impl SiteLink {
    /// The appliance's end is called as the router, the router's as the appliance.
    fn build(router: &Host, appliance: &Appliance, space: Space, number: u8) -> Result<Self> {
        let (near, far) = (appliance.name(), router.name());
        let link = Link::new((router, near), (appliance.host(), far))?;
        let subnet = 100 + number;
        let this = Self {
            appliance: near.to_owned(),
            link,
            ends: [space.machine(subnet, 1)?, space.machine(subnet, 2)?],
        };
        this.configure(router, appliance)?;
        Ok(this)
    }

    fn configure(&self, router: &Host, appliance: &Appliance) -> Result<()> {
        let [near, far] = self.ends;
        for (near, far) in near.into_iter().zip(far) {
            appliance.host().address(router.name(), in_subnet(near)?)?;
            router.address(appliance.name(), in_subnet(far)?)?;
        }
        Ok(())
    }
}

/// The policy of a session on a link: there is one for each family.
fn on_link(local_pref: Option<u32>) -> Policy {
    Policy {
        local_pref,
        own_family: true,
        ..Policy::default()
    }
}

/// A session on a link.
fn direct(local: IpAddr, address: IpAddr, asn: u32) -> Neighbor {
    Neighbor {
        address,
        local,
        asn,
        passive: false,
        multihop: false,
        plain: false,
    }
}

fn in_subnet(address: IpAddr) -> Result<IpNet> {
    Ok(IpNet::new(
        address,
        if address.is_ipv4() { 24 } else { 64 },
    )?)
}

fn ipv4_of(addresses: [IpAddr; 2]) -> Ipv4Addr {
    let ipv4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED)
}
