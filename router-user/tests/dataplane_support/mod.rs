//! A gateway host in namespaces of its own: private bpffs, interfaces with machines behind them.

use std::{
    fs,
    future::Future,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use router_user::{
    config::DataplaneConfig,
    dataplane::{Dataplane, Handle},
    fib::{Bucket, Buckets, Change, GroupId, Liveness, NextHop, Port, Precedence, Route},
    names::MacAddr,
};
use tokio::sync::mpsc::UnboundedReceiver;

/// Own table of the tests' only subnet.
pub(crate) const OWN: &str = "own/apps";
/// Learned table.
pub(crate) const LEARNED: &str = "learned/hub";

/// Runs a test on a thread with network and mount namespaces of its own, which vanish with it.
pub(crate) fn in_namespaces(test: impl FnOnce() + Send + 'static) {
    // SAFETY: takes nothing, cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(
        user, 0,
        "this test needs root: it makes namespaces, interfaces and BPF maps"
    );
    let result = thread::spawn(|| {
        // SAFETY: concerns this thread alone.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(result, 0, "unshare: {}", std::io::Error::last_os_error());
        sh("mount --make-rprivate /");
        sh("mount -t bpf bpf /sys/fs/bpf");
        sh("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns");
        sh("ip link set lo up");
        test();
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a shell command that must succeed.
pub(crate) fn sh(command: &str) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a shell command.
pub(crate) fn run(command: &str) -> Output {
    Command::new("sh")
        .args(["-ec", command])
        .output()
        .expect("sh starts")
}

/// Makes the interface `NAME` with a machine (network namespace `NAME`) behind it.
pub(crate) fn machine(name: &str, subnet: u8) {
    sh(&format!(
        "ip netns add {name}
         ip link add {name} address 02:00:00:00:{subnet:02x}:01 type veth \
            peer name eth0 address 02:00:00:00:{subnet:02x}:04 netns {name}
         ip netns exec {name} ethtool -K eth0 gro on
         ip netns exec {name} sysctl -qw net.ipv6.conf.eth0.keep_addr_on_down=1
         ip netns exec {name} ip link set eth0 up
         ip netns exec {name} ip link set lo up
         ip netns exec {name} ip addr add 10.1.{subnet}.4/24 dev eth0
         ip netns exec {name} ip addr add fd00:1:0:{subnet}::4/64 dev eth0 nodad
         ip netns exec {name} ip route add default via 10.1.{subnet}.1
         ip netns exec {name} ip route add default via fd00:1:0:{subnet}::1"
    ));
    gateway(name, subnet);
}

/// Gives the interface its gateway addresses and the routes to its machine.
pub(crate) fn gateway(name: &str, subnet: u8) {
    sh(&format!(
        "ip link set {name} up
         ip addr add 10.1.{subnet}.1/32 dev {name}
         ip addr add fd00:1:0:{subnet}::1/128 dev {name} nodad
         ip route add 10.1.{subnet}.4/32 dev {name}
         ip route add fd00:1:0:{subnet}::4/128 dev {name}"
    ));
}

/// The default configuration, with small tries.
pub(crate) fn config() -> DataplaneConfig {
    DataplaneConfig {
        instance: "default".into(),
        bpffs: PathBuf::from("/sys/fs/bpf"),
        require_native: false,
        max_routes_v4: 1000,
        max_routes_v6: 1000,
        flow_seed: 7,
        icmp_rate: 1000,
    }
}

/// A running data plane.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) liveness: UnboundedReceiver<Liveness>,
}

pub(crate) fn start() -> Running {
    let (handle, liveness) = Dataplane::start(config()).expect("the data plane starts");
    Running { handle, liveness }
}

/// Waits for an answer outside of a runtime.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Tries again until it holds; how long it took.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

pub(crate) fn port(name: &str, subnet: u8) -> Port {
    Port {
        interface: name.into(),
        vnet: "hub".into(),
        own_table: OWN.into(),
        learned_table: Some(LEARNED.into()),
        awaits_learned: false,
        addresses: vec![
            format!("10.1.{subnet}.4").parse().unwrap(),
            format!("fd00:1:0:{subnet}::4").parse().unwrap(),
        ],
        mac: Some(MacAddr([2, 0, 0, 0, subnet, 4])),
        gateways: vec![
            format!("10.1.{subnet}.1").parse().unwrap(),
            format!("fd00:1:0:{subnet}::1").parse().unwrap(),
        ],
        ip_forwarding: false,
        restricted: Vec::new(),
    }
}

pub(crate) fn via(address: &str) -> NextHop {
    NextHop::Via {
        vnet: "hub".into(),
        address: address.parse().unwrap(),
    }
}

pub(crate) fn attached() -> NextHop {
    NextHop::Attached { vnet: "hub".into() }
}

/// A group of one next hop.
pub(crate) fn single(id: u64, next_hop: NextHop) -> Change {
    group(id, [(next_hop, None)])
}

pub(crate) fn group<const N: usize>(id: u64, buckets: [(NextHop, Option<NextHop>); N]) -> Change {
    Change::PutGroup {
        id: GroupId(id),
        buckets: Arc::new(Buckets {
            buckets: buckets
                .into_iter()
                .map(|(primary, backup)| Bucket { primary, backup })
                .collect(),
        }),
    }
}

pub(crate) fn route(table: &str, prefix: &str, group: u64) -> Change {
    Change::PutRoute {
        table: table.into(),
        prefix: prefix.parse::<IpNet>().unwrap(),
        route: Route {
            group: GroupId(group),
            precedence: if table == LEARNED {
                Precedence::Learned
            } else {
                Precedence::System
            },
            overriding: table == OWN,
            local: false,
        },
    }
}

/// The virtual network 10.1.0.0/16 with the machines `vm1` and `vm2`, and an NVA at 10.1.10.4 that
/// announces 10.250.0.0/16 and fd00:250::/48.
pub(crate) fn network() -> Vec<Change> {
    vec![
        Change::PutNextHop(attached()),
        Change::PutNextHop(NextHop::Host),
        Change::PutNextHop(via("10.1.10.4")),
        Change::PutNextHop(via("fd00:1:0:10::4")),
        single(1, attached()),
        single(2, NextHop::Host),
        single(3, via("10.1.10.4")),
        single(4, via("fd00:1:0:10::4")),
        route(OWN, "10.1.0.0/16", 1),
        route(OWN, "fd00:1::/48", 1),
        route(OWN, "10.1.1.1/32", 2),
        route(OWN, "fd00:1:0:1::1/128", 2),
        route(LEARNED, "10.250.0.0/16", 3),
        route(LEARNED, "fd00:250::/48", 4),
        Change::PutPort(port("vm1", 1)),
        Change::PutPort(port("vm2", 2)),
        Change::PutPort(Port {
            ip_forwarding: true,
            restricted: Vec::new(),
            mac: None,
            ..port("nva", 10)
        }),
    ]
}

/// The three machines of [`network`].
pub(crate) fn machines() {
    machine("vm1", 1);
    machine("vm2", 2);
    machine("nva", 10);
    sh("ip netns exec nva sysctl -qw net.ipv4.ip_forward=1
        ip netns exec nva sysctl -qw net.ipv6.conf.all.forwarding=1
        ip netns exec nva ip addr add 10.250.0.10/32 dev lo
        ip netns exec nva ip addr add fd00:250::10/128 dev lo");
}

/// Folder of the only layout.
pub(crate) fn layout() -> PathBuf {
    let mut layouts: Vec<_> = fs::read_dir("/sys/fs/bpf/waypost/default")
        .expect("the instance's folder")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name != "links"))
        .collect();
    assert_eq!(layouts.len(), 1, "{layouts:?}");
    layouts.remove(0)
}

/// Pings from a machine, `count` packets, 10 a second; how many came back.
pub(crate) fn ping(from: &str, to: &str, count: u32) -> u32 {
    let output = run(&format!(
        "ip netns exec {from} ping -q -i 0.1 -W 1 -c {count} {to} || true"
    ));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(", ")
        .find_map(|part| part.strip_suffix(" received")?.trim().parse().ok())
        .unwrap_or_else(|| panic!("ping says: {text}"))
}
