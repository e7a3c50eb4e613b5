//! Case D: changes of best path over a loaded table.
//!
//! Two senders, `A` and `B`, hold the same table; A's paths are the shorter ones. Then:
//!
//! 1. B announces random prefixes once more, one an UPDATE, with paths shorter than A's, as fast as
//!    TCP takes them: each is one change of best path. The rate is their number by the time from
//!    the first byte sent until the receiver holds the final state.
//! 2. B takes all of that back, at a pace that is the same for all subjects, while a third sender
//!    changes the path of one prefix after another. Their times from being sent to being received
//!    are the latencies.

use std::{
    net::Ipv4Addr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use tests::{
    injector::{Index, Injector, Peer, View, path_hash, update},
    internet::{Random, Table},
};

use crate::{
    bed::{Bed, NETWORK, SPEAKER_ASN, peer},
    load::{PER_UPDATE, path},
    measure::{Churn, Outcome, REST, establish, turn_for, until_right},
    subject::{Running, Subject},
};

/// Changes a second of the second part.
const PACE: u32 = 20_000;
/// Time between two single changes whose latency is measured.
const PROBING: Duration = Duration::from_millis(5);

const A: usize = 0;
const B: usize = 1;
const PROBER: usize = 2;
const RECEIVER: usize = 3;

/// By how many ASNs the paths of A and of B are longer than the table's, and those of B once they
/// are best; those of probes before and after.
const LONGER: [usize; 2] = [1, 2];
const BEST: usize = 0;
const PROBE: [usize; 2] = [1, 0];

/// What case D sends and expects.
pub struct ChurnLoad {
    prefixes: Vec<Ipv4Net>,
    index: Arc<Index>,
    /// Places of the probes among the prefixes.
    probes: Range<usize>,
    /// What A, B and the prober announce before.
    tables: [Arc<[u8]>; 3],
    /// B's UPDATEs of both parts.
    there: Messages,
    back: Messages,
    /// The prober's.
    probing: Messages,
    /// What the receiver is to hold: with A's paths, with B's, with A's again and new probes.
    expected: [Arc<[u64]>; 3],
}

/// UPDATEs one after another.
struct Messages {
    bytes: Arc<[u8]>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl ChurnLoad {
    pub fn new(table: &Table, count: usize, changes: usize) -> Self {
        let seconds = changes as f64 / f64::from(PACE);
        let probe_count = (seconds / PROBING.as_secs_f64()) as u32;
        let mut prefixes = table.prefixes[..count].to_vec();
        // Of the space for benchmarks (RFC 2544).
        let first = u32::from_be_bytes([198, 18, 0, 0]);
        prefixes.extend((0..probe_count).map(|n| Ipv4Net::from(Ipv4Addr::from(first + n))));
        let probes = count..prefixes.len();

        let shared = |place: usize| table.path(place - place % PER_UPDATE);
        let tables = [A, B, PROBER].map(|who| {
            let Peer { asn, address } = peer(who);
            let mut bytes = Vec::with_capacity(25 * count);
            if who == PROBER {
                for prefix in &prefixes[probes.clone()] {
                    let path = path(asn, PROBE[0], &[]);
                    update::announce(&mut bytes, path.into_iter(), address, &[*prefix]);
                }
            } else {
                for (n, together) in prefixes[..count].chunks(PER_UPDATE).enumerate() {
                    let path = path(asn, LONGER[who], shared(n * PER_UPDATE));
                    update::announce(&mut bytes, path.into_iter(), address, together);
                }
            }
            bytes.into()
        });
        let chosen = choose(count, changes);
        let messages = |places: &[usize], who: usize, longer: usize| {
            let Peer { asn, address } = peer(who);
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for place in places {
                let rest = if probes.contains(place) {
                    &[]
                } else {
                    shared(*place)
                };
                let path = path(asn, longer, rest);
                update::announce(&mut bytes, path.into_iter(), address, &[prefixes[*place]]);
                ends.push(bytes.len());
            }
            Messages {
                bytes: bytes.into(),
                ends,
            }
        };
        let hash = |who: usize, longer: usize, rest: &[u32]| {
            let path = path(peer(who).asn, longer, rest);
            path_hash([SPEAKER_ASN].into_iter().chain(path))
        };
        let mut expected: Vec<u64> = (0..count)
            .map(|place| hash(A, LONGER[A], shared(place)))
            .collect();
        expected.extend(probes.clone().map(|_| hash(PROBER, PROBE[0], &[])));
        let (before, mut changed, mut after) = (expected.clone(), expected.clone(), expected);
        for place in &chosen {
            changed[*place] = hash(B, BEST, shared(*place));
        }
        after[probes.clone()].fill(hash(PROBER, PROBE[1], &[]));
        Self {
            index: Arc::new(Index::new(&prefixes)),
            there: messages(&chosen, B, BEST),
            back: messages(&chosen, B, LONGER[B]),
            probing: messages(&probes.clone().collect::<Vec<_>>(), PROBER, PROBE[1]),
            expected: [before, changed, after].map(Arc::from),
            prefixes,
            probes,
            tables,
        }
    }
}

/// Distinct places below `count`, in random order.
fn choose(count: usize, changes: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    let mut random = Random::new(17);
    for n in 0..changes {
        let other = n + (random.next() % (count - n) as u64) as usize;
        places.swap(n, other);
    }
    places.truncate(changes);
    places
}

/// Lets a subject go through it.
pub fn churn(bed: &Bed, subject: Subject, load: &ChurnLoad, limit: Duration) -> Result<Outcome> {
    let peers: Vec<Peer> = (0..=RECEIVER).map(peer).collect();
    let mut running = Running::start(bed, subject, &peers)?;
    let outcome = bed
        .inject(|| {
            let mut injector = establish(bed, &peers, || running.check())?;
            injector.sessions[RECEIVER].view = Some(View::new(
                Arc::clone(&load.index),
                Arc::clone(&load.expected[0]),
                0..0,
                vec![NETWORK],
            ));
            turn_for(&mut injector, REST)?;
            for (session, table) in injector.sessions.iter_mut().zip(&load.tables) {
                session.queue(Arc::clone(table));
            }
            until_right(&mut injector, &load.prefixes, limit).context("loading the table")?;

            let cpu = running.cpu()?;
            expect(&mut injector, &load.expected[1]);
            let start = Instant::now();
            injector.sessions[B].queue(Arc::clone(&load.there.bytes));
            let (sent, right) =
                until_right(&mut injector, &load.prefixes, limit).context("the churn")?;
            let cpu = running.cpu()? - cpu;
            let seconds = (right - start).as_secs_f64();

            let (p50, p99) = latencies(&mut injector, load, limit).context("the paced churn")?;
            Ok(Outcome {
                seconds,
                sent: (sent - start).as_secs_f64(),
                memory: running.peak_memory()?,
                cpu,
                churn: Some(Churn {
                    rate: load.there.ends.len() as f64 / seconds,
                    p50,
                    p99,
                }),
            })
        })
        .with_context(|| format!("case D, {}; its log: {}", subject.name(), running.log()));
    running.end()?;
    outcome
}

fn expect(injector: &mut Injector, expected: &Arc<[u64]>) {
    if let Some(view) = &mut injector.sessions[RECEIVER].view {
        view.expect(Arc::clone(expected));
    }
}

/// Second part: median and 99th percentile in milliseconds.
fn latencies(injector: &mut Injector, load: &ChurnLoad, limit: Duration) -> Result<(f64, f64)> {
    expect(injector, &load.expected[2]);
    if let Some(view) = &mut injector.sessions[RECEIVER].view {
        view.time(load.probes.clone());
    }
    let start = Instant::now();
    let (mut changed, mut sent) = (0, Vec::new());
    while changed < load.back.ends.len() || sent.len() < load.probes.len() {
        let elapsed = start.elapsed();
        let due = (elapsed.as_secs_f64() * f64::from(PACE)) as usize;
        let due = due.min(load.back.ends.len());
        injector.sessions[B].queue_part(Arc::clone(&load.back.bytes), load.back.part(changed..due));
        changed = due;
        let due = (elapsed.as_secs_f64() / PROBING.as_secs_f64()) as usize;
        let due = due.min(load.probes.len());
        let part = load.probing.part(sent.len()..due);
        injector.sessions[PROBER].queue_part(Arc::clone(&load.probing.bytes), part);
        sent.resize(due, Instant::now());
        injector.turn(Duration::from_millis(1))?;
        ensure!(
            elapsed < limit,
            "after {limit:?}: {changed} of {} changes sent",
            load.back.ends.len()
        );
    }
    until_right(injector, &load.prefixes, limit)?;
    let view = injector.sessions[RECEIVER].view.as_ref();
    let arrivals = view.context("the receiver has a view")?.arrivals();
    let mut latencies = Vec::with_capacity(sent.len());
    for (sent, arrived) in sent.iter().zip(arrivals) {
        let arrived = arrived.context("a probe has not arrived")?;
        latencies.push((arrived - *sent).as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let part = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    ensure!(!latencies.is_empty(), "too few changes for a probe");
    Ok((part(0.5), part(0.99)))
}

impl Messages {
    /// The bytes of some of them.
    fn part(&self, which: Range<usize>) -> Range<usize> {
        let end = |count: usize| count.checked_sub(1).map_or(0, |last| self.ends[last]);
        end(which.start)..end(which.end)
    }
}
