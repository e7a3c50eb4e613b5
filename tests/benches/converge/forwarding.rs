//! Case E: from BGP to forwarding. One sender of the whole table; the clock stops when the kernel
//! says that every prefix is there.
//!
//! - Waypost has a live port (the sender is behind it) and writes into the LPM trie that XDP looks
//!   up in. What the kernel says of that map's size (`memlock` in fdinfo) is proportional to its
//!   entries, so that asking costs the subject nothing.
//! - BIRD exports to the Linux FIB. The kernel counts its prefixes in `/proc/net/fib_triestat`,
//!   which takes no lock that BIRD waits for. It walks the whole table, a tenth of a second or more,
//!   so that it is asked only once all has been sent, and next when the rest should be there.
//!
//! Afterwards the kernel's entries are read one by one and compared with what was sent.

use std::{
    collections::HashSet,
    fs,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{LpmTrie, Map, MapData};
use ipnet::Ipv4Net;
use router_common::maps::{NONE, RouteEntry, RouteKeyV4, TABLE_BITS, precedence};
use tests::waypost;

use crate::{
    bed::Bed,
    load::Load,
    measure::{Outcome, REST, TURN, establish, turn_for},
    subject::{Running, Subject},
};

/// The beds of case E.
pub struct Beds {
    /// All on one link.
    pub plain: Bed,
    /// The sender behind a port.
    pub port: Bed,
}

/// Lets a subject learn the whole table and put it where packets are looked up.
pub fn forward(beds: &Beds, subject: Subject, load: &Load, limit: Duration) -> Result<Outcome> {
    let bed = match subject {
        Subject::Waypost => &beds.port,
        _ => &beds.plain,
    };
    let sender = &load.participants[0];
    let mut running = Running::start_forwarding(bed, subject, sender.peer)?;
    let outcome = bed
        .inject(|| {
            let mut injector = establish(bed, &[sender.peer], || running.check())?;
            turn_for(&mut injector, REST)?;
            let kernel = match subject {
                Subject::Waypost => Kernel::tries()?,
                _ => Kernel::fib(bed)?,
            };
            let cpu = running.cpu()?;
            let start = Instant::now();
            injector.sessions[0].queue(Arc::clone(&sender.stream));
            let all = load.prefixes.len();
            let (stop, all_sent) = (AtomicBool::new(false), AtomicBool::new(false));
            let (sent, complete) = thread::scope(|scope| -> Result<_> {
                // It inherits the injector's CPU and namespace.
                let watch = scope.spawn(|| kernel.watch(all, &all_sent, &stop));
                let mut sent = None;
                let mut turns = || -> Result<()> {
                    while !watch.is_finished() {
                        injector.turn(TURN)?;
                        if sent.is_none() && injector.all_sent() {
                            sent = Some(Instant::now());
                            all_sent.store(true, Ordering::Relaxed);
                        }
                        ensure!(
                            start.elapsed() < limit,
                            "after {limit:?} the kernel holds {} of {all} prefixes",
                            kernel.count()?
                        );
                    }
                    Ok(())
                };
                let turned = turns();
                stop.store(true, Ordering::Relaxed);
                let Ok(watched) = watch.join() else {
                    bail!("the watching thread panicked");
                };
                turned?;
                Ok((sent.context("complete before all was sent")?, watched?))
            })?;
            let outcome = Outcome {
                seconds: (complete - start).as_secs_f64(),
                sent: (sent - start).as_secs_f64(),
                memory: running.peak_memory()?,
                cpu: running.cpu()? - cpu,
                churn: None,
            };
            compare(&kernel.read(bed)?, &load.prefixes)?;
            Ok(outcome)
        })
        .with_context(|| format!("case E, {}; its log: {}", subject.name(), running.log()));
    running.end()?;
    if subject == Subject::Bird {
        bed.speaker.run("ip route flush table main proto bird")?;
    }
    outcome
}

/// Where the kernel is asked.
enum Kernel {
    Tries {
        /// What is there without anything learned.
        before: u64,
        /// What one entry adds to the map's size.
        entry: u64,
        map: MapData,
    },
    Fib {
        /// A process of the speaker's namespace has this under its own `/proc`.
        speaker: tests::lab::Host,
        before: u64,
    },
}

impl Kernel {
    fn tries() -> Result<Self> {
        let pins = waypost::pins(Path::new("/sys/fs/bpf"))?;
        let pin = pins
            .iter()
            .find(|pin| pin.file_name().is_some_and(|name| name == "routes_v4"))
            .with_context(|| format!("no routes_v4 among {pins:?}"))?;
        let map = MapData::from_pin(pin)?;
        let size = size_of_map(&map)?;
        let entries = entries(pin)?.len() as u64;
        ensure!(
            entries > 0 && size % entries == 0,
            "the kernel does not tell a trie's size by its entries ({size} bytes for {entries}): \
             case E needs Linux 6.4 or newer"
        );
        Ok(Self::Tries {
            before: entries,
            entry: size / entries,
            map,
        })
    }

    fn fib(bed: &Bed) -> Result<Self> {
        let speaker = bed.speaker.clone();
        let before = fib_prefixes(&speaker)?;
        Ok(Self::Fib { speaker, before })
    }

    /// Prefixes that have been added since.
    fn count(&self) -> Result<usize> {
        let count = match self {
            Self::Tries { before, entry, map } => {
                (size_of_map(map)? / entry).saturating_sub(*before)
            }
            Self::Fib { speaker, before } => fib_prefixes(speaker)?.saturating_sub(*before),
        };
        Ok(usize::try_from(count)?)
    }

    /// When it held all of them. Of an answer that takes a while, its beginning counts.
    fn watch(&self, all: usize, all_sent: &AtomicBool, stop: &AtomicBool) -> Result<Instant> {
        const PAUSE: Duration = Duration::from_millis(1);
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if !all_sent.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
                continue;
            }
            let asked = Instant::now();
            let count = self.count()?;
            if count >= all {
                return Ok(asked);
            }
            let pause = match self {
                Self::Tries { .. } => PAUSE,
                Self::Fib { .. } => {
                    let missing = (all - count) as f64 / count.max(1) as f64;
                    let rest = start.elapsed().mul_f64(missing);
                    rest.saturating_sub(asked.elapsed())
                        .clamp(PAUSE, Duration::from_secs(1))
                }
            };
            thread::sleep(pause);
        }
        bail!("stopped")
    }

    /// All learned prefixes, as the kernel has them.
    fn read(&self, bed: &Bed) -> Result<HashSet<Ipv4Net>> {
        match self {
            Self::Tries { .. } => {
                let pins = waypost::pins(Path::new("/sys/fs/bpf"))?;
                let pin = pins.iter().find(|pin| pin.ends_with("routes_v4"));
                learned(&entries(pin.context("no routes_v4")?)?)
            }
            Self::Fib { .. } => {
                let text = bed.speaker.run("ip -4 route show table main proto bird")?;
                let words = text
                    .lines()
                    .filter_map(|line| line.split_whitespace().next());
                words
                    .map(|word| match word {
                        "default" => Ok(Ipv4Net::default()),
                        word if word.contains('/') => Ok(word.parse()?),
                        word => Ok(Ipv4Net::from(word.parse::<Ipv4Addr>()?)),
                    })
                    .collect()
            }
        }
    }
}

/// The learned routes of a trie; each must name a group.
fn learned(entries: &[(u32, RouteKeyV4, RouteEntry)]) -> Result<HashSet<Ipv4Net>> {
    let mut prefixes = HashSet::new();
    for (length, key, entry) in entries {
        if entry.precedence != precedence::LEARNED {
            continue;
        }
        let length = u8::try_from(length - TABLE_BITS)?;
        let prefix = Ipv4Net::new(Ipv4Addr::from(key.address), length)?;
        ensure!(
            entry.group != NONE && entry.prefix_len == length,
            "{prefix} stands in the trie as {entry:?}"
        );
        ensure!(prefixes.insert(prefix), "{prefix} stands in two tables");
    }
    Ok(prefixes)
}

fn entries(pin: &Path) -> Result<Vec<(u32, RouteKeyV4, RouteEntry)>> {
    let map = Map::LpmTrie(MapData::from_pin(pin)?);
    let trie: LpmTrie<_, RouteKeyV4, RouteEntry> = map.try_into()?;
    trie.iter()
        .map(|item| {
            let (key, entry) = item?;
            Ok((key.prefix_len(), key.data(), entry))
        })
        .collect()
}

fn size_of_map(map: &MapData) -> Result<u64> {
    let fd = map.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("no memlock in fdinfo")?.trim().parse()?)
}

/// Prefixes of the main table.
fn fib_prefixes(host: &tests::lab::Host) -> Result<u64> {
    let text = host.inside(|| fs::read_to_string("/proc/thread-self/net/fib_triestat"))?;
    let (_, main) = text.split_once("Main:").context("no main table")?;
    let line = main
        .lines()
        .find_map(|line| line.trim().strip_prefix("Prefixes:"));
    Ok(line.context("no count of prefixes")?.trim().parse()?)
}

fn compare(found: &HashSet<Ipv4Net>, wanted: &[Ipv4Net]) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|one| !found.contains(one)).collect();
    let some: Vec<String> = missing.iter().take(5).map(ToString::to_string).collect();
    ensure!(
        missing.is_empty() && found.len() == wanted.len(),
        "the kernel holds {} prefixes, {} were sent; {} are missing, for example {}",
        found.len(),
        wanted.len(),
        missing.len(),
        some.join(", ")
    );
    Ok(())
}
