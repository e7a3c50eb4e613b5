//! The beds: `injector ── speaker` on a veth pair, each on a CPU of its own.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use tests::{
    Lab, bench,
    injector::Peer,
    lab::{Host, Link},
};

/// Addresses of the subject; Waypost is the only one that uses the second.
pub const SPEAKER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
/// The gateway that machines behind a port have: the first address of their subnet.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Addresses of Waypost where the injector is a machine behind one of its ports.
pub const ROUTE_SERVER: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 77, 255, 4), Ipv4Addr::new(10, 77, 255, 5)];
/// ASN of the subject.
pub const SPEAKER_ASN: u32 = 65_515;
/// The network that all of this happens in; Waypost originates it.
pub const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16);
/// Most peers that the bed has addresses for.
pub const MOST_PEERS: usize = 200;

/// Peer `number`, from 0.
pub fn peer(number: usize) -> Peer {
    let number = u32::try_from(number).expect("at most 200 peers");
    Peer {
        address: Ipv4Addr::from(u32::from(NETWORK.network()) + 10 + number),
        asn: 65_001 + number,
    }
}

/// Two hosts and where their processes run.
#[derive(Debug)]
pub struct Bed {
    /// Where the subject runs.
    pub speaker: Host,
    /// Where the injector runs.
    pub injector: Host,
    /// Where the subject waits for connections.
    pub address: Ipv4Addr,
    pinned: bool,
}

impl Bed {
    /// The subject and all peers on one link.
    pub fn set_up(lab: &Lab, pinned: bool) -> Result<Self> {
        let (speaker, injector) = (lab.host("speaker")?, lab.host("injector")?);
        Link::new((&speaker, "d0"), (&injector, "l0"))?;
        for address in SPEAKER {
            speaker.address("d0", within_24(address)?)?;
        }
        let lines: Vec<String> = (0..MOST_PEERS)
            .map(|number| format!("address add {}/24 dev l0", peer(number).address))
            .collect();
        injector.ip(&lines)?;
        // As a plain veth pair is: NAPI on one side only would favour nobody, but help nobody too.
        injector.run("ethtool -K l0 gro off")?;
        Ok(Self {
            speaker,
            injector,
            address: SPEAKER[0],
            pinned,
        })
    }

    /// The first peer is a machine behind a port, `n0`, of a gateway host that has Waypost's own
    /// addresses.
    pub fn behind_a_port(lab: &Lab, pinned: bool) -> Result<Self> {
        let (speaker, injector) = (lab.host("gateway")?, lab.host("appliance")?);
        Link::new((&speaker, "n0"), (&injector, "eth0"))?;
        for address in ROUTE_SERVER {
            speaker.address("lo", IpAddr::V4(address).into())?;
        }
        let (gateway, machine) = (GATEWAY, peer(0).address);
        speaker.ip(&[
            format!("address add {gateway}/32 dev n0"),
            format!("route add {machine}/32 dev n0 src {gateway}"),
        ])?;
        injector.ip(&[
            format!("address add {machine}/24 dev eth0"),
            format!(
                "route add {}/27 via {gateway}",
                Ipv4Addr::new(10, 77, 255, 0)
            ),
        ])?;
        Ok(Self {
            speaker,
            injector,
            address: ROUTE_SERVER[0],
            pinned,
        })
    }

    /// Which CPUs are used, for people.
    pub fn cpus(&self) -> String {
        bench::cpus(self.pinned)
    }

    /// Runs `body` in the injector's namespace, on its CPU.
    pub fn inject<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.injector.inside(|| {
            bench::pin(self.pinned.then_some(bench::INJECTOR_CPU))?;
            body()
        })
    }

    /// Runs `body` in the speaker's namespace, on its CPU, as are the processes that it starts.
    pub fn speak<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.speaker.inside(|| {
            bench::pin(self.pinned.then_some(bench::SPEAKER_CPU))?;
            body()
        })
    }
}

fn within_24(address: Ipv4Addr) -> Result<IpNet> {
    Ok(IpNet::new(IpAddr::V4(address), 24)?)
}
