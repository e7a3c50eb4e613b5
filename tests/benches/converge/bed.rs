//! The beds: `injector ── speaker` on a veth pair, each on a CPU of its own.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use tests::{
    Lab,
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

/// Others on the machine are to disturb the measurement as little as can be.
const NICE: i32 = -20;
const SPEAKER_CPU: usize = 0;
const INJECTOR_CPU: usize = 1;

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
        let which = if self.pinned {
            format!(
                "every subject, with all its threads, has CPU {SPEAKER_CPU}; injector and receivers \
                 have CPU {INJECTOR_CPU}"
            )
        } else {
            "subjects, injector and receivers share all CPUs".to_owned()
        };
        format!("{which}; all at nice {NICE}")
    }

    /// Runs `body` in the injector's namespace, on its CPU.
    pub fn inject<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.injector.inside(|| {
            self.pin(INJECTOR_CPU)?;
            body()
        })
    }

    /// Runs `body` in the speaker's namespace, on its CPU, as are the processes that it starts.
    pub fn speak<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.speaker.inside(|| {
            self.pin(SPEAKER_CPU)?;
            body()
        })
    }

    /// Keeps the calling thread, and what it starts, on one CPU, before all others.
    fn pin(&self, cpu: usize) -> Result<()> {
        // SAFETY: plain integers.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        ensure!(result == 0, "nice {NICE}: {}", io::Error::last_os_error());
        if !self.pinned {
            return Ok(());
        }
        // SAFETY: an all-zero cpu_set_t is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `cpu` is far below the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: the set outlives the call and has the size that is given.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
        ensure!(
            result == 0,
            "CPU {cpu}: {}; use --unpinned on a machine of one CPU",
            io::Error::last_os_error()
        );
        Ok(())
    }
}

/// Makes a session, and so where the kernel groups by sessions a scheduling group, of this process
/// and all that it starts, and puts it before all others.
pub fn go_first() {
    // SAFETY: takes nothing. It fails where it has been done before, which is as good.
    unsafe { libc::setsid() };
    // Kernels without automatic groups have no such file and need none.
    let _ = fs::write("/proc/self/autogroup", NICE.to_string());
}

fn within_24(address: Ipv4Addr) -> Result<IpNet> {
    Ok(IpNet::new(IpAddr::V4(address), 24)?)
}
