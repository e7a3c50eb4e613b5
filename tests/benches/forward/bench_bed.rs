//! The bed: `generator ── router ── sink`, on veth.

use std::{
    fs,
    net::Ipv4Addr,
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunAttrs, TestRunOptions,
    maps::{Array, PerCpuArray, xdp::DevMap},
    programs::{Xdp, XdpMode, xdp::XdpLinkId},
};
use ipnet::Ipv4Net;
use router_common::{checksum, maps::Neighbor};

use crate::{
    namespaces::{feed, index_of, isolate, pin, run, within, write_in},
    subjects::{Subject, Waypost},
};

pub const GENERATOR: &str = "generator";
pub const ROUTER: &str = "router";
pub const SINK: &str = "sink";

/// Where the generator says that its packets come from.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 2);

const ROUTER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// Frames that the generator sends in one call.
const BURST: u32 = 1 << 20;

pub type Mac = [u8; 6];

/// The namespaces and the programs around the router.
pub struct Bed {
    /// The router's interfaces.
    pub inward: String,
    pub outward: String,
    /// MAC addresses of the links' ends.
    pub generator_mac: Mac,
    pub inward_mac: Mac,
    pub outward_mac: Mac,
    pub sink_mac: Mac,
    yardstick: Ebpf,
    generator: Ebpf,
}

static YARDSTICK: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/yardstick.bpf.o"));

impl Bed {
    pub fn set_up() -> Result<Self> {
        isolate()?;
        // The name of a NAPI thread shows the interface, so it is one of this process alone.
        let id = process::id() % 100_000;
        let [into, inward, outward, out] = ["g", "r", "o", "s"].map(|end| format!("b{id}{end}"));
        for namespace in [GENERATOR, ROUTER, SINK] {
            run(&format!("ip netns add {namespace}"))?;
        }
        run(&format!(
            "ip link add {into} netns {GENERATOR} type veth peer name {inward} netns {ROUTER}"
        ))?;
        run(&format!(
            "ip link add {outward} netns {ROUTER} type veth peer name {out} netns {SINK}"
        ))?;
        for (namespace, interface, address) in [
            (GENERATOR, &into, "10.50.0.2/24"),
            (ROUTER, &inward, "10.50.0.1/24"),
            (ROUTER, &outward, "10.60.0.1/24"),
            (SINK, &out, "10.60.0.2/24"),
        ] {
            run(&format!(
                "ip -n {namespace} addr add {address} dev {interface}"
            ))?;
            run(&format!("ip -n {namespace} link set {interface} up"))?;
        }
        let sink_mac = mac_of(SINK, &out)?;
        run(&format!(
            "ip -n {ROUTER} neigh replace 10.60.0.2 lladdr {} dev {outward} nud permanent",
            text(sink_mac)
        ))?;
        write_in(ROUTER, "/proc/sys/net/ipv4/ip_forward", "1")?;

        let mut bed = Self {
            generator_mac: mac_of(GENERATOR, &into)?,
            inward_mac: mac_of(ROUTER, &inward)?,
            outward_mac: mac_of(ROUTER, &outward)?,
            sink_mac,
            inward,
            outward,
            yardstick: Ebpf::load(YARDSTICK).context("loading the yardstick")?,
            generator: Ebpf::load(YARDSTICK).context("loading the generator")?,
        };
        bed.start_sink(&out)?;
        bed.prepare_baselines()?;
        bed.prepare_generator(&into)?;
        Ok(bed)
    }

    /// Makes Linux route these prefixes to the sink.
    pub fn add_kernel_routes(&self, prefixes: &[Ipv4Net]) -> Result<()> {
        let routes: String = prefixes
            .iter()
            .map(|prefix| {
                format!(
                    "route replace {prefix} via 10.60.0.2 dev {}\n",
                    self.outward
                )
            })
            .collect();
        feed(&format!("ip -n {ROUTER} -batch -"), &routes)
    }

    /// What the generator sends to from now on.
    pub fn set_destinations(&mut self, destinations: &[Ipv4Addr]) -> Result<()> {
        let mut to: Array<_, u32> = map(&mut self.generator, "to_v4")?.try_into()?;
        for (place, address) in (0..).zip(destinations) {
            to.set(place, u32::from_ne_bytes(address.octets()), 0)?;
        }
        Ok(())
    }

    /// Million packets a second that reach the sink through this subject.
    pub fn measure(
        &mut self,
        subject: Subject,
        waypost: &mut Waypost,
        length: Duration,
    ) -> Result<f64> {
        let link = match subject {
            Subject::Linux => None,
            Subject::Redirect | Subject::FibLookup => {
                let ebpf = &mut self.yardstick;
                Some(attach(ebpf, subject.program(), ROUTER, &self.inward)?)
            }
            Subject::Waypost => {
                let program = subject.program();
                Some(attach(&mut waypost.ebpf, program, ROUTER, &self.inward)?)
            }
        };
        self.bind_forwarding_thread()?;
        self.send_for(Duration::from_millis(150))?;
        let before = self.seen()?;
        let elapsed = self.send_for(length)?;
        let seen = self.seen()? - before;
        if let Some(link) = link {
            let ebpf = match subject {
                Subject::Waypost => &mut waypost.ebpf,
                _ => &mut self.yardstick,
            };
            program(ebpf, subject.program())?.detach(link)?;
        }
        ensure!(seen > 0, "{} forwards nothing", subject.name());
        Ok(seen as f64 / elapsed.as_secs_f64() / 1e6)
    }

    /// The router's one thread, which attaching a program has made anew, gets a CPU of its own.
    fn bind_forwarding_thread(&self) -> Result<()> {
        // Without a program it takes GRO for a veth to have NAPI, and so a thread.
        run(&format!(
            "ip netns exec {ROUTER} ethtool -K {} gro on",
            self.inward
        ))?;
        let switch = format!("/sys/class/net/{}/threaded", self.inward);
        write_in(ROUTER, &switch, "0")?;
        write_in(ROUTER, &switch, "1")?;
        let name: String = format!("napi/{}-", self.inward);
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let threads = threads_named(&name)?;
            if let [thread] = threads.as_slice() {
                return pin(*thread, ROUTER_CPU);
            }
            ensure!(
                Instant::now() < until,
                "{} threads {name}, not one",
                threads.len()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends as fast as can be; how long it took.
    fn send_for(&self, length: Duration) -> Result<Duration> {
        let generator: &Xdp = self
            .generator
            .program("generator_v4")
            .context("the yardstick has no generator_v4")?
            .try_into()?;
        within(GENERATOR, || {
            pin(0, GENERATOR_CPU)?;
            let start = Instant::now();
            while start.elapsed() < length {
                generator.test_run(TestRunOptions {
                    data_in: Some(&[0; 64]),
                    repeat: BURST,
                    attrs: TestRunAttrs::new().xdp_live_frames(64),
                    ..TestRunOptions::default()
                })?;
            }
            Ok(start.elapsed())
        })
    }

    /// Packets that the sink has counted.
    fn seen(&self) -> Result<u64> {
        let seen: PerCpuArray<_, u64> = self
            .yardstick
            .map("seen")
            .context("the yardstick has no map seen")?
            .try_into()?;
        Ok(seen.get(&0, 0)?.iter().sum())
    }

    fn start_sink(&mut self, out: &str) -> Result<()> {
        program(&mut self.yardstick, "sink")?.load()?;
        attach(&mut self.yardstick, "sink", SINK, out)?;
        Ok(())
    }

    fn prepare_baselines(&mut self) -> Result<()> {
        for name in ["redirect", "fib_lookup"] {
            program(&mut self.yardstick, name)?
                .load()
                .with_context(|| format!("loading {name}"))?;
        }
        let way = Neighbor {
            mac: self.sink_mac,
            port_mac: self.outward_mac,
            ..Neighbor::default()
        };
        Array::<_, Neighbor>::try_from(map(&mut self.yardstick, "way")?)?.set(0, way, 0)?;
        let mut devices = DevMap::try_from(map(&mut self.yardstick, "devices")?)?;
        within(ROUTER, || {
            Ok(devices.set(0, index_of(&self.outward)?, None, 0)?)
        })
    }

    fn prepare_generator(&mut self, into: &str) -> Result<()> {
        program(&mut self.generator, "generator_v4")?
            .load()
            .context("loading generator_v4")?;
        let frame = template(self.generator_mac, self.inward_mac);
        let words: [u64; 8] = std::array::from_fn(|n| {
            let mut word = [0; 8];
            word.copy_from_slice(&frame[8 * n..8 * n + 8]);
            u64::from_ne_bytes(word)
        });
        Array::<_, [u64; 8]>::try_from(map(&mut self.generator, "template")?)?.set(0, words, 0)?;
        let mut devices = DevMap::try_from(map(&mut self.generator, "devices")?)?;
        within(GENERATOR, || {
            Ok(devices.set(0, index_of(into)?, None, 0)?)
        })
    }
}

/// Attaches a loaded program in native mode.
pub fn attach(ebpf: &mut Ebpf, name: &str, namespace: &str, interface: &str) -> Result<XdpLinkId> {
    let program = program(ebpf, name)?;
    within(namespace, || {
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("attaching {name} to {interface}"))
    })
}

pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?)
}

pub fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("the object has no map {name}"))
}

/// A UDP datagram in a frame of 64 bytes, to 0.0.0.0, without a checksum of UDP.
fn template(from: Mac, to: Mac) -> [u8; 64] {
    let mut frame = [0; 64];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    frame[17] = 50;
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..30].copy_from_slice(&SOURCE.octets());
    let header = checksum::complement(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&header.to_ne_bytes());
    frame[34..40].copy_from_slice(&[0, 9, 0, 9, 0, 30]);
    frame
}

fn mac_of(namespace: &str, interface: &str) -> Result<Mac> {
    let output = process::Command::new("ip")
        .args(["-n", namespace, "-brief", "link", "show", "dev", interface])
        .output()?;
    let line = String::from_utf8(output.stdout)?;
    let text = line
        .split_whitespace()
        .nth(2)
        .with_context(|| format!("{interface} has no MAC address"))?;
    let mut mac = Mac::default();
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(mac)
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Kernel threads whose name begins so.
fn threads_named(name: &str) -> Result<Vec<libc::pid_t>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
            continue;
        };
        // A process may end meanwhile.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with(name) {
            found.push(id);
        }
    }
    Ok(found)
}
