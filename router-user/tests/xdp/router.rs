//! A router: the program loaded, its maps filled, frames run through it.
//!
//! ```text
//! vm 10.1.1.4 ── port 1 ─┬─ port 2 ── nva 10.1.10.4, nvb, nvc, nvd
//!                        └─ port 3 ── vm2 10.1.2.4 (attached)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::{
    Ebpf, Pod, TestRun, TestRunOptions,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key, xdp::DevMap},
    programs::Xdp,
};
use router_common::{
    maps::{
        Bucket, Group, HostKey, Neighbor, NextHop, NextHopCounters, Port, RestrictedKey,
        RouteEntry, RouteKeyV4, RouteKeyV6, Settings, TABLE_BITS, next_hop_kind, port_flags,
        precedence, route_flags,
    },
    reason::{PortCounters, Reason},
};
use router_user::dataplane::object;

use crate::packet::{ETHERNET, Mac, Packet, fold, sum};

pub const VM: Mac = [2, 0, 0, 1, 0, 4];
pub const PORT_1: Mac = [2, 0, 0, 1, 0, 1];
pub const PORT_2: Mac = [2, 0, 0, 10, 0, 1];
pub const PORT_3: Mac = [2, 0, 0, 2, 0, 1];
pub const NVA: Mac = [2, 0, 0, 10, 0, 4];
pub const VM_2: Mac = [2, 0, 0, 2, 0, 4];
pub const VM_V4: &str = "10.1.1.4";
pub const VM_V6: &str = "fd00:1:0:1::4";
pub const VM_2_V4: &str = "10.1.2.4";
pub const VM_2_V6: &str = "fd00:1:0:2::4";
pub const SITE_V4: &str = "10.250.1.9";
pub const SITE_V6: &str = "fd00:250::9";
pub const GATEWAY_V4: &str = "10.1.1.1";
pub const GATEWAY_V6: &str = "fd00:1:0:1::1";

/// Index of the interface that test runs arrive at.
pub const LOOPBACK: u32 = 1;
pub const OWN: u32 = 0x11;
pub const LEARNED: u32 = 0x22;
pub const VNET: u32 = 7;
pub const SEED: u64 = 0x0123_4567_89ab_cdef;

/// Next hops: NVA `n` of four by `VIA + n`.
pub const VIA: u32 = 1;
pub const ATTACHED: u32 = 10;
pub const HOST: u32 = 11;
pub const DISCARD: u32 = 12;
pub const NO_UPLINK: u32 = 13;
pub const BLACKHOLE: u32 = 14;
/// Groups of a single next hop have its number; this one has four members.
pub const FOUR: u32 = 100;
const FOUR_FIRST_BUCKET: u32 = 1024;
pub const BUCKETS: u32 = 128;

/// What became of a frame.
pub struct Outcome {
    pub action: Action,
    pub frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Aborted,
    Drop,
    Pass,
    Transmit,
    Redirect,
}

pub struct Router {
    ebpf: Ebpf,
}

impl Router {
    /// A router with the routes that most tests need.
    pub fn new() -> Self {
        let mut router = Self::without_routes();
        router.route(
            OWN,
            "10.1.0.0/16",
            ATTACHED,
            precedence::SYSTEM,
            route_flags::OVERRIDING,
        );
        router.route(
            OWN,
            "fd00:1::/48",
            ATTACHED,
            precedence::SYSTEM,
            route_flags::OVERRIDING,
        );
        for gateway in ["10.1.1.1/32", "fd00:1:0:1::1/128"] {
            router.route(
                OWN,
                gateway,
                HOST,
                precedence::SYSTEM,
                route_flags::OVERRIDING,
            );
        }
        for site in ["10.250.0.0/16", "fd00:250::/48"] {
            router.route(LEARNED, site, VIA, precedence::LEARNED, 0);
        }
        for (place, host) in (20..).zip([VM_V4, VM_V6]) {
            router.host(VNET, host, place, neighbor(VM, PORT_1, 1));
        }
        for (place, host) in (22..).zip([VM_2_V4, VM_2_V6]) {
            router.host(VNET, host, place, neighbor(VM_2, PORT_3, 3));
        }
        router
    }

    /// Ports, neighbours, next hops and groups stand; the tables are empty.
    pub fn without_routes() -> Self {
        // SAFETY: takes and changes nothing.
        let user = unsafe { libc::geteuid() };
        assert!(
            user == 0,
            "the XDP tests load programs into the kernel: run them as root"
        );
        let mut ebpf = Ebpf::load(object::WAYPOST).expect("the object loads");
        let program: &mut Xdp = ebpf
            .program_mut("waypost")
            .expect("the program is called waypost")
            .try_into()
            .expect("it is an XDP program");
        program.load().expect("the verifier accepts the program");

        let mut router = Self { ebpf };
        router.settings(1_000_000);
        for port in [vm_port(), port(2, PORT_2), port(3, PORT_3)] {
            router.port(port);
            DevMap::try_from(router.map("dev_map"))
                .expect("a device map")
                .set(port.id, 1, None, 0)
                .expect("the loopback interface is there");
        }
        router.arrive_at(1);
        for n in 0..4 {
            router.neighbor(VIA + n, neighbor(nva(n), PORT_2, 2));
            router.next_hop(VIA + n, next_hop_kind::VIA, VIA + n);
        }
        router.next_hop(ATTACHED, next_hop_kind::ATTACHED, VNET);
        router.next_hop(HOST, next_hop_kind::HOST, 0);
        router.next_hop(DISCARD, next_hop_kind::DISCARD, 0);
        router.next_hop(NO_UPLINK, next_hop_kind::NO_UPLINK, 0);
        router.next_hop(BLACKHOLE, next_hop_kind::BLACKHOLE, 0);
        for next_hop in [
            VIA,
            VIA + 1,
            VIA + 2,
            VIA + 3,
            ATTACHED,
            HOST,
            DISCARD,
            NO_UPLINK,
            BLACKHOLE,
        ] {
            router.bucket(next_hop, next_hop, 0);
            router.group(next_hop, next_hop, 0);
        }
        for n in 0..BUCKETS {
            router.bucket(FOUR_FIRST_BUCKET + n, VIA + n % 4, VIA + (n + 1) % 4);
        }
        router.group(FOUR, FOUR_FIRST_BUCKET, BUCKETS - 1);
        router
    }

    /// Runs a frame and says what became of it.
    pub fn run(&self, frame: &[u8]) -> Outcome {
        self.run_with_linear(frame, None)
    }

    /// Runs a frame of which only so many bytes lie in the first buffer.
    pub fn run_with_linear(&self, frame: &[u8], linear: Option<usize>) -> Outcome {
        let program: &Xdp = self
            .ebpf
            .program("waypost")
            .expect("the program is called waypost")
            .try_into()
            .expect("it is an XDP program");
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Option<Vec<u8>> = linear.map(|linear| {
            [0, linear as u32, 0, 1, 0, 0]
                .iter()
                .flat_map(|word: &u32| word.to_ne_bytes())
                .collect()
        });
        let mut out = vec![0; 80_000];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: context.as_deref(),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("{} bytes do not run: {error}", frame.len()));
        out.truncate(result.data_size_out as usize);
        Outcome {
            action: match result.return_value {
                0 => Action::Aborted,
                1 => Action::Drop,
                2 => Action::Pass,
                3 => Action::Transmit,
                4 => Action::Redirect,
                other => panic!("no such verdict: {other}"),
            },
            frame: out,
        }
    }

    /// Runs a frame that is to leave towards `to` by the port of MAC address `from`, changed in
    /// nothing but MAC addresses and the TTL with its checksum.
    #[track_caller]
    pub fn forwards(&self, packet: &Packet, from: Mac, to: Mac) {
        let mut expected = packet.bytes();
        after_hop(&mut expected, from, to);
        let outcome = self.run(&packet.bytes());
        assert_eq!(outcome.action, Action::Redirect, "{:?}", self.reasons());
        assert_eq!(hex(&outcome.frame), hex(&expected));
    }

    /// Runs a frame that is to count under `reason` and leave unchanged if it is passed.
    #[track_caller]
    pub fn counts(&self, frame: &[u8], reason: Reason) {
        let before = self.counted(1);
        let outcome = self.run(frame);
        let after = self.counted(1);
        let changed: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| after.reason(**reason) != before.reason(**reason))
            .collect();
        assert_eq!(changed, [&reason], "verdict {:?}", outcome.action);
        assert_eq!(after.rx_packets, before.rx_packets + 1);
        let action = match reason {
            Reason::ToHost => Action::Pass,
            Reason::TimeExceeded | Reason::MtuExceeded => Action::Redirect,
            _ => Action::Drop,
        };
        assert_eq!(outcome.action, action);
        if action == Action::Pass {
            assert_eq!(
                hex(&outcome.frame),
                hex(frame),
                "what Linux gets is unchanged"
            );
        }
    }

    /// The reasons that port 1 has counted.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counted(1);
        Reason::ALL
            .iter()
            .map(|reason| (reason.name(), counters.reason(*reason)))
            .filter(|(_, count)| *count != 0)
            .collect()
    }

    /// The counters of a port, over all CPUs.
    pub fn counted(&self, port: u32) -> PortCounters {
        let counters: PerCpuArray<_, PortCounters> = self
            .ebpf
            .map("port_counters")
            .expect("the map is there")
            .try_into()
            .expect("it holds port counters");
        let mut all = PortCounters::default();
        for counted in counters
            .get(&port, 0)
            .expect("the port has counters")
            .iter()
        {
            all.add(counted);
        }
        all
    }

    /// Packets and bytes that a next hop was sent.
    pub fn sent(&self, next_hop: u32) -> (u64, u64) {
        let counters: PerCpuArray<_, NextHopCounters> = self
            .ebpf
            .map("nh_counters")
            .expect("the map is there")
            .try_into()
            .expect("it holds next-hop counters");
        let all = counters.get(&next_hop, 0).expect("it has counters");
        all.iter().fold((0, 0), |(packets, bytes), counted| {
            (packets + counted.packets, bytes + counted.bytes)
        })
    }

    pub fn settings(&mut self, icmp_rate: u32) {
        self.array("settings")
            .set(
                0,
                Settings {
                    flow_seed: SEED,
                    icmp_rate,
                    reserved: 0,
                },
                0,
            )
            .expect("settings are written");
    }

    /// Writes a port at the place of its number.
    pub fn port(&mut self, port: Port) {
        self.array("ports")
            .set(port.id, port, 0)
            .expect("the port is written");
    }

    /// Frames arrive at this port from now on (test runs arrive at the loopback interface).
    pub fn arrive_at(&mut self, place: u32) {
        HashMap::<_, u32, u32>::try_from(self.map("port_by_ifindex"))
            .expect("a hash map")
            .insert(LOOPBACK, place, 0)
            .expect("the port is published");
    }

    /// Frames arrive at no port from now on.
    pub fn arrive_nowhere(&mut self) {
        HashMap::<_, u32, u32>::try_from(self.map("port_by_ifindex"))
            .expect("a hash map")
            .remove(&LOOPBACK)
            .expect("the port was published");
    }

    pub fn neighbor(&mut self, place: u32, neighbor: Neighbor) {
        self.array("neighbors")
            .set(place, neighbor, 0)
            .expect("the neighbour is written");
    }

    pub fn next_hop(&mut self, number: u32, kind: u32, neighbor: u32) {
        self.array("next_hops")
            .set(
                number,
                NextHop {
                    kind,
                    neighbor,
                    down: 0,
                    reserved: 0,
                },
                0,
            )
            .expect("the next hop is written");
    }

    pub fn down(&mut self, number: u32) {
        let mut next_hops = self.array::<NextHop>("next_hops");
        let mut next_hop = next_hops.get(&number, 0).expect("it is there");
        next_hop.down = 1;
        next_hops.set(number, next_hop, 0).expect("it is marked");
    }

    pub fn group(&mut self, number: u32, first_bucket: u32, mask: u32) {
        self.array("groups")
            .set(number, Group { first_bucket, mask }, 0)
            .expect("the group is written");
    }

    pub fn bucket(&mut self, place: u32, primary: u32, backup: u32) {
        self.array("buckets")
            .set(place, Bucket { primary, backup }, 0)
            .expect("the bucket is written");
    }

    pub fn route(&mut self, table: u32, prefix: &str, group: u32, precedence: u8, flags: u8) {
        let prefix: ipnet::IpNet = prefix.parse().expect("a prefix");
        let entry = RouteEntry {
            group,
            prefix_len: prefix.prefix_len(),
            precedence,
            flags,
            reserved: 0,
        };
        let length = TABLE_BITS + u32::from(prefix.prefix_len());
        match prefix.addr() {
            IpAddr::V4(address) => {
                let address = address.octets();
                LpmTrie::try_from(self.map("routes_v4"))
                    .expect("a trie")
                    .insert(&Key::new(length, RouteKeyV4 { table, address }), entry, 0)
            }
            IpAddr::V6(address) => {
                let address = address.octets();
                LpmTrie::try_from(self.map("routes_v6"))
                    .expect("a trie")
                    .insert(&Key::new(length, RouteKeyV6 { table, address }), entry, 0)
            }
        }
        .expect("the route is written");
    }

    /// Attaches a host to a network: its neighbour is written and published.
    pub fn host(&mut self, vnet: u32, address: &str, place: u32, way: Neighbor) {
        let key = host_key(vnet, address);
        let whose = Neighbor {
            vnet,
            address: key.address,
            ..way
        };
        self.neighbor(place, whose);
        self.publish(key, place);
    }

    /// Writes an element of `hosts`.
    pub fn publish(&mut self, key: HostKey, place: u32) {
        HashMap::try_from(self.map("hosts"))
            .expect("a hash map")
            .insert(key, place, 0)
            .expect("the host is written");
    }

    /// Puts a network into a set of restricted ones.
    pub fn restrict(&mut self, set: u32, vnet: u32) {
        HashMap::try_from(self.map("restricted"))
            .expect("a hash map")
            .insert(RestrictedKey { set, vnet }, 1, 0)
            .expect("the network is written");
    }

    fn array<T: Pod>(&mut self, name: &str) -> Array<&mut aya::maps::MapData, T> {
        Array::try_from(self.map(name)).expect("an array")
    }

    fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.ebpf
            .map_mut(name)
            .unwrap_or_else(|| panic!("the object has no map {name}"))
    }
}

/// The port of the VM: sources are checked.
pub fn vm_port() -> Port {
    Port {
        flags: port_flags::SOURCE_V4 | port_flags::SOURCE_V6 | port_flags::SOURCE_MAC,
        source_v4: [10, 1, 1, 4],
        source_v6: v6(VM_V6),
        source_mac: VM,
        gateway_v4: [10, 1, 1, 1],
        gateway_v6: v6(GATEWAY_V6),
        ..port(1, PORT_1)
    }
}

/// A port that forwards for others.
pub fn port(id: u32, mac: Mac) -> Port {
    Port {
        id,
        vnet: VNET,
        own_table: OWN,
        learned_table: LEARNED,
        flags: port_flags::IP_FORWARDING,
        mtu: 1500,
        mac,
        ifindex: LOOPBACK,
        ..Port::default()
    }
}

/// A neighbour of the routers' only network, whose address nobody asks for.
pub fn neighbor(mac: Mac, port_mac: Mac, port: u32) -> Neighbor {
    Neighbor {
        mac,
        port_mac,
        port,
        mtu: 1500,
        vnet: VNET,
        address: [0; 16],
    }
}

/// Key of an attached host.
pub fn host_key(vnet: u32, address: &str) -> HostKey {
    let address = match address.parse().expect("an address") {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
        IpAddr::V6(address) => address,
    };
    HostKey {
        vnet,
        address: Ipv6Addr::octets(&address),
    }
}

/// The MAC address of NVA `n`.
pub fn nva(n: u32) -> Mac {
    let mut mac = NVA;
    mac[5] += n as u8;
    mac
}

/// A packet of the VM to the site, still without a payload.
pub fn to_site_v4() -> Packet {
    Packet::new(VM, PORT_1, VM_V4, SITE_V4)
}

pub fn to_site_v6() -> Packet {
    Packet::new(VM, PORT_1, VM_V6, SITE_V6)
}

/// Does to a frame what a router is to do.
pub fn after_hop(frame: &mut [u8], from: Mac, to: Mac) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    if frame[12..14] == [0x86, 0xdd] {
        frame[ETHERNET + 7] -= 1;
        return;
    }
    frame[ETHERNET + 8] -= 1;
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let header = ETHERNET..ETHERNET + usize::from(frame[ETHERNET] & 0xf) * 4;
    let checksum = !fold(sum(&frame[header]));
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
}

pub fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|line| {
            let line: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            line.join(" ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn v6(address: &str) -> [u8; 16] {
    address
        .parse::<Ipv6Addr>()
        .expect("an IPv6 address")
        .octets()
}
