//! What is measured; and Waypost, filled as a daemon with everything on fills it.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key, xdp::DevMap},
};
use ipnet::Ipv4Net;
use router_common::{
    maps::{
        Bucket, Group, Neighbor, NextHop, NextHopCounters, Port, RouteEntry, RouteKeyV4, Settings,
        TABLE_BITS, next_hop_kind, port_flags, precedence, route_flags,
    },
    reason::{PortCounters, Reason},
};
use router_user::dataplane::object;

use crate::{
    bench_bed::{Bed, ROUTER, SOURCE, map, program},
    namespaces::{index_of, within},
};

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Waypost with everything on.
    Waypost,
    /// XDP without a look-up.
    Redirect,
    /// XDP that asks the kernel's tables.
    FibLookup,
    /// No XDP.
    Linux,
}

impl Subject {
    pub const ALL: &[Self] = &[Self::Waypost, Self::Redirect, Self::FibLookup, Self::Linux];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Waypost => "waypost",
            Self::Redirect => "redirect",
            Self::FibLookup => "fib_lookup",
            Self::Linux => "linux",
        }
    }

    /// Its program; Linux has none.
    pub const fn program(self) -> &'static str {
        self.name()
    }
}

/// Numbers of ports, next hops and groups in the maps.
const INWARD: u32 = 1;
const OUTWARD: u32 = 2;
const MEMBERS: u32 = 4;
const BUCKETS: u32 = 128;
const OWN: u32 = 1;
const LEARNED: u32 = 2;
const GROUP_OF_FOUR: u32 = 1;
const ATTACHED: u32 = 10;

/// The program and its maps.
pub struct Waypost {
    pub ebpf: Ebpf,
}

impl Waypost {
    /// Source check on, an own table, a group of four next hops in 128 buckets, counters.
    pub fn load(bed: &Bed) -> Result<Self> {
        let mut ebpf = Ebpf::load(object::WAYPOST).context("loading Waypost's object")?;
        program(&mut ebpf, "waypost")?
            .load()
            .context("loading Waypost's program")?;
        let mut waypost = Self { ebpf };
        waypost.fill_ports(bed)?;
        waypost.fill_groups(bed)?;
        for prefix in ["10.50.0.0/16", "10.60.0.0/24", "10.50.0.1/32"] {
            waypost.route(
                OWN,
                prefix.parse()?,
                ATTACHED,
                precedence::SYSTEM,
                route_flags::OVERRIDING,
            )?;
        }
        Ok(waypost)
    }

    /// Adds learned routes, in the order in which the daemon writes a batch.
    pub fn learn(&mut self, prefixes: &[Ipv4Net]) -> Result<()> {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_unstable();
        for prefix in &prefixes {
            self.route(LEARNED, *prefix, GROUP_OF_FOUR, precedence::LEARNED, 0)?;
        }
        Ok(())
    }

    /// Checks that it was Waypost that forwarded, by all next hops, and dropped nothing.
    pub fn assert_forwarded(&mut self) -> Result<()> {
        let next_hops: PerCpuArray<_, NextHopCounters> =
            map(&mut self.ebpf, "nh_counters")?.try_into()?;
        for member in 1..=MEMBERS {
            let packets: u64 = next_hops
                .get(&member, 0)?
                .iter()
                .map(|counters| counters.packets)
                .sum();
            ensure!(packets > 0, "next hop {member} was sent nothing");
        }
        let ports: PerCpuArray<_, PortCounters> =
            map(&mut self.ebpf, "port_counters")?.try_into()?;
        let mut all = PortCounters::default();
        for counters in ports.get(&INWARD, 0)?.iter() {
            all.add(counters);
        }
        for reason in Reason::ALL {
            let count = all.reason(*reason);
            // A stray packet of the namespaces' own (router solicitations) is the host's.
            ensure!(
                count == 0 || *reason == Reason::ToHost,
                "{count} packets were dropped: {}",
                reason.name()
            );
        }
        Ok(())
    }

    fn fill_ports(&mut self, bed: &Bed) -> Result<()> {
        let (into, out) = within(ROUTER, || {
            Ok((index_of(&bed.inward)?, index_of(&bed.outward)?))
        })?;
        let inward = Port {
            id: INWARD,
            vnet: 1,
            own_table: OWN,
            learned_table: LEARNED,
            flags: port_flags::SOURCE_V4 | port_flags::SOURCE_MAC,
            mtu: 1500,
            gateway_v4: [10, 50, 0, 1],
            source_v4: SOURCE.octets(),
            mac: bed.inward_mac,
            source_mac: bed.generator_mac,
            ifindex: into,
            ..Port::default()
        };
        Array::try_from(map(&mut self.ebpf, "ports")?)?.set(INWARD, inward, 0)?;
        let settings = Settings {
            flow_seed: 0x5eed,
            icmp_rate: 100,
            reserved: 0,
        };
        Array::try_from(map(&mut self.ebpf, "settings")?)?.set(0, settings, 0)?;
        HashMap::<_, u32, u32>::try_from(map(&mut self.ebpf, "port_by_ifindex")?)?
            .insert(into, INWARD, 0)?;
        let mut devices = DevMap::try_from(map(&mut self.ebpf, "dev_map")?)?;
        within(ROUTER, || {
            devices.set(INWARD, into, None, 0)?;
            Ok(devices.set(OUTWARD, out, None, 0)?)
        })
    }

    fn fill_groups(&mut self, bed: &Bed) -> Result<()> {
        let neighbor = Neighbor {
            mac: bed.sink_mac,
            port_mac: bed.outward_mac,
            port: OUTWARD,
            mtu: 1500,
            vnet: 1,
            address: [0; 16],
        };
        let mut neighbors = Array::try_from(map(&mut self.ebpf, "neighbors")?)?;
        for place in 1..=MEMBERS {
            neighbors.set(place, neighbor, 0)?;
        }
        let mut next_hops = Array::try_from(map(&mut self.ebpf, "next_hops")?)?;
        let next_hop = |kind, neighbor| NextHop {
            kind,
            neighbor,
            down: 0,
            reserved: 0,
        };
        for member in 1..=MEMBERS {
            next_hops.set(member, next_hop(next_hop_kind::VIA, member), 0)?;
        }
        next_hops.set(ATTACHED, next_hop(next_hop_kind::ATTACHED, 1), 0)?;
        let mut buckets = Array::try_from(map(&mut self.ebpf, "buckets")?)?;
        for place in 0..BUCKETS {
            let bucket = Bucket {
                primary: 1 + place % MEMBERS,
                backup: 1 + (place + 1) % MEMBERS,
            };
            buckets.set(BUCKETS + place, bucket, 0)?;
        }
        let attached = Bucket {
            primary: ATTACHED,
            backup: 0,
        };
        buckets.set(2 * BUCKETS, attached, 0)?;
        let mut groups = Array::try_from(map(&mut self.ebpf, "groups")?)?;
        let group = |first_bucket, mask| Group { first_bucket, mask };
        groups.set(GROUP_OF_FOUR, group(BUCKETS, BUCKETS - 1), 0)?;
        Ok(groups.set(ATTACHED, group(2 * BUCKETS, 0), 0)?)
    }

    fn route(
        &mut self,
        table: u32,
        prefix: Ipv4Net,
        group: u32,
        precedence: u8,
        flags: u8,
    ) -> Result<()> {
        let mut routes: LpmTrie<_, RouteKeyV4, RouteEntry> =
            map(&mut self.ebpf, "routes_v4")?.try_into()?;
        let key = RouteKeyV4 {
            table,
            address: prefix.network().octets(),
        };
        let entry = RouteEntry {
            group,
            prefix_len: prefix.prefix_len(),
            precedence,
            flags,
            reserved: 0,
        };
        let length = TABLE_BITS + u32::from(prefix.prefix_len());
        routes
            .insert(&Key::new(length, key), entry, 0)
            .with_context(|| format!("writing {prefix}"))
    }
}
