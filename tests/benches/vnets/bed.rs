//! The gateway host with its ports, and whom the injector plays.
//!
//! ```text
//! appliance 10.0.0.4, 10.0.0.5 ── n0 ─┐                ┌─ p0-3 … machine of the hub
//!   circuit 10.0.2.4           ── g0 ─┤  gateway host  ├─ p1-0 … p1-3  machines of network 1
//!                                     │ lo 10.0.1.4, 5 ├─ …
//!                                     └────────────────┘
//! ```
//!
//! Network `n` has the `n`th /22 from 10.0.0.0 on, and its four subnets the /24s of that; the first
//! network is the hub.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use router_common::maps::MAX_PORTS;
use tests::{
    Lab, bench,
    injector::{Injector, Peer},
    lab::{Host, Link},
};

use crate::Ports;

/// Subnets of a network.
pub const SUBNETS: u32 = 4;
/// Of the hub: the appliances', the route server's, the gateways', the machines'.
pub const APPLIANCES: u32 = 0;
pub const ROUTE_SERVERS: u32 = 1;
pub const GATEWAYS: u32 = 2;
pub const MACHINES: u32 = 3;

pub const APPLIANCE_PORT: &str = "n0";
pub const CIRCUIT_PORT: &str = "g0";
pub const APPLIANCE_ASN: u32 = 65_001;
pub const CIRCUIT_ASN: u32 = 64_900;
/// Places among the injector's sessions.
pub const APPLIANCE: usize = 0;
pub const CIRCUIT: usize = 1;

/// How long making all interfaces may take where fewer would do.
const WORTH_WAITING: Duration = Duration::from_secs(120);
/// Interfaces that are made at one go.
const BATCH: usize = 100;

/// What the benchmark runs on.
pub struct Bed {
    pub gateway: Host,
    appliance: Host,
    on_circuit: Host,
    pub vnets: u32,
    /// The machines' ports, by network and subnet.
    pub machines: Vec<Machine>,
    making: Duration,
    pinned: bool,
}

/// A machine behind a port of its own.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub vnet: u32,
    pub subnet: u32,
}

impl Machine {
    pub fn interface(self) -> String {
        format!("p{}-{}", self.vnet, self.subnet)
    }

    pub fn address(self) -> Ipv4Addr {
        address(self.vnet, self.subnet, 4)
    }

    fn far_end(self) -> String {
        format!("m{}-{}", self.vnet, self.subnet)
    }
}

/// A network's space.
pub fn space(vnet: u32) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from((10 << 24) + (vnet << 10)), 22)
}

/// A subnet's prefix.
pub fn subnet(vnet: u32, subnet: u32) -> Ipv4Net {
    Ipv4Net::new_assert(address(vnet, subnet, 0), 24)
}

/// An address in a subnet.
pub fn address(vnet: u32, subnet: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24) + (vnet << 10) + (subnet << 8) + host)
}

/// The addresses of the two instances.
pub fn instances() -> [Ipv4Addr; 2] {
    [4, 5].map(|host| address(0, ROUTE_SERVERS, host))
}

/// The appliance's two addresses: next hops of its routes in turn.
pub fn next_hops() -> [Ipv4Addr; 2] {
    [4, 5].map(|host| address(0, APPLIANCES, host))
}

/// The gateway's address.
pub fn circuit() -> Ipv4Addr {
    address(0, GATEWAYS, 4)
}

impl Bed {
    pub fn set_up(lab: &Lab, vnets: u32, ports: Ports, pinned: bool) -> Result<Self> {
        let (gateway, far) = (lab.host("gateway")?, lab.host("machines")?);
        let (appliance, on_circuit) = (lab.host("appliance")?, lab.host("circuit")?);
        for host in [&gateway, &far] {
            // Thousands of interfaces are made faster without addresses that nobody uses.
            host.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))?;
        }
        for instance in instances() {
            gateway.run(&format!("ip address add {instance}/32 dev lo"))?;
        }
        attach(
            &gateway,
            APPLIANCE_PORT,
            &appliance,
            APPLIANCES,
            &next_hops(),
        )?;
        attach(&gateway, CIRCUIT_PORT, &on_circuit, GATEWAYS, &[circuit()])?;
        let (machines, making) = machines(&gateway, &far, vnets, ports)?;
        Ok(Self {
            gateway,
            appliance,
            on_circuit,
            vnets,
            machines,
            making,
            pinned,
        })
    }

    /// How many ports there are, for people.
    pub fn ports_in_words(&self) -> String {
        let (count, seconds) = (self.machines.len(), self.making.as_secs_f64());
        let all = self.vnets * SUBNETS - 3;
        let which = if count == all as usize {
            "a port for each subnet".to_owned()
        } else {
            format!(
                "a port for one subnet of each network: {all} veth pairs would have taken more than \
                 {WORTH_WAITING:?}, are more than the {MAX_PORTS} ports that a host can have, or were \
                 not asked for"
            )
        };
        format!(
            "{} networks of {SUBNETS} subnets; {which}; {count} veth pairs were made in {seconds:.1} s",
            self.vnets
        )
    }

    /// Sessions of the appliance and of the circuit with the first instance.
    pub fn establish(&self, mut alive: impl FnMut() -> Result<()> + Send) -> Result<Injector> {
        let mut injector = Injector::default();
        let until = Instant::now() + Duration::from_secs(60);
        for (host, peer) in [
            (
                &self.appliance,
                Peer {
                    address: next_hops()[0],
                    asn: APPLIANCE_ASN,
                },
            ),
            (
                &self.on_circuit,
                Peer {
                    address: circuit(),
                    asn: CIRCUIT_ASN,
                },
            ),
        ] {
            host.inside(|| injector.connect(peer, instances()[0], until, &mut alive))?;
        }
        Ok(injector)
    }

    /// Runs `body` on the injector's CPU.
    pub fn inject<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.appliance.inside(|| {
            bench::pin(self.pinned.then_some(bench::INJECTOR_CPU))?;
            body()
        })
    }

    /// Runs `body` on the gateway host and on the daemon's CPU, as are the processes that it starts.
    pub fn speak<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.gateway.inside(|| {
            bench::pin(self.pinned.then_some(bench::SPEAKER_CPU))?;
            body()
        })
    }
}

/// Joins a host that speaks BGP to a port of the hub.
fn attach(
    gateway: &Host,
    port: &str,
    host: &Host,
    in_subnet: u32,
    addresses: &[Ipv4Addr],
) -> Result<()> {
    Link::new((gateway, port), (host, "eth0"))?;
    let own = address(0, in_subnet, 1);
    let mut lines = vec![format!("address add {own}/32 dev {port}")];
    for address in addresses {
        lines.push(format!("route add {address}/32 dev {port} src {own}"));
    }
    gateway.ip(&lines)?;
    let mut lines: Vec<String> = addresses
        .iter()
        .map(|address| format!("address add {address}/24 dev eth0"))
        .collect();
    lines.push(format!("route add {} via {own}", subnet(0, ROUTE_SERVERS)));
    host.ip(&lines)
}

/// Makes the machines' interfaces: for every subnet, or for the last of each network. How long that
/// took.
fn machines(
    gateway: &Host,
    far: &Host,
    vnets: u32,
    ports: Ports,
) -> Result<(Vec<Machine>, Duration)> {
    let of_subnet = |subnet: u32| {
        // The hub's other subnets have the route server, the appliance and the gateway.
        (0..vnets)
            .filter(move |vnet| *vnet > 0 || subnet == MACHINES)
            .map(move |vnet| Machine { vnet, subnet })
    };
    let start = Instant::now();
    let mut made: Vec<Machine> = of_subnet(MACHINES).collect();
    make(gateway, far, &made)?;
    let all = start.elapsed() * SUBNETS;
    let more = match ports {
        Ports::Auto => all < WORTH_WAITING && vnets * SUBNETS <= MAX_PORTS,
        Ports::Subnets => true,
        Ports::Vnets => false,
    };
    if more {
        let others: Vec<Machine> = (0..MACHINES).flat_map(of_subnet).collect();
        make(gateway, far, &others)?;
        made.extend(others);
    }
    made.sort_unstable_by_key(|machine| (machine.vnet, machine.subnet));
    Ok((made, start.elapsed()))
}

fn make(gateway: &Host, far: &Host, machines: &[Machine]) -> Result<()> {
    for batch in machines.chunks(BATCH) {
        let mut lines = Vec::new();
        for machine in batch {
            let (near, far_end) = (machine.interface(), machine.far_end());
            let own = address(machine.vnet, machine.subnet, 1);
            lines.extend([
                format!("link add {near} type veth peer name {far_end} netns {far}"),
                format!("link set {near} up"),
                format!("address add {own}/32 dev {near}"),
            ]);
        }
        gateway.ip(&lines).context("making veth pairs")?;
        let lines: Vec<String> = batch
            .iter()
            .map(|machine| format!("link set {} up", machine.far_end()))
            .collect();
        far.ip(&lines)?;
    }
    Ok(())
}
