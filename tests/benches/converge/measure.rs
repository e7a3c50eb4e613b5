//! One run of a load: against a subject, and of the injector alone.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::Ipv4Net;
use tests::injector::{Injector, Peer};

use crate::{
    bed::{Bed, SPEAKER_ASN},
    load::Load,
    subject::{Running, Subject},
};

/// How long all sessions may take to come up.
const ESTABLISHING: Duration = Duration::from_secs(60);
/// How long sessions rest before the clock starts, so that what the subject originates has come.
pub const REST: Duration = Duration::from_secs(1);
/// How long all has to stay as expected after it has become so.
pub const LINGER: Duration = Duration::from_millis(500);
/// How long a turn waits for something to do.
pub const TURN: Duration = Duration::from_millis(10);

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Seconds from the first byte sent until the last receiver had learned the last route.
    pub seconds: f64,
    /// Seconds until TCP had taken all that was to be sent.
    pub sent: f64,
    /// Peak resident memory of all the subject's processes, in MB (10^6 bytes).
    pub memory: f64,
    /// CPU seconds that the subject used meanwhile.
    pub cpu: f64,
    /// What only case D measures.
    pub churn: Option<Churn>,
}

/// How changes come through.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Changes of best path a second.
    pub rate: f64,
    /// Milliseconds that a single change takes while others are under way: median.
    pub p50: f64,
    /// The same: all but the slowest hundredth.
    pub p99: f64,
}

/// Lets a subject learn and advertise a load.
pub fn converge(bed: &Bed, subject: Subject, load: &Load, limit: Duration) -> Result<Outcome> {
    let peers = load.peers();
    let mut running = Running::start(bed, subject, &peers)?;
    let outcome = bed
        .inject(|| {
            let mut injector = establish(bed, &peers, || running.check())?;
            for (session, participant) in injector.sessions.iter_mut().zip(&load.participants) {
                session.view = participant.receives.clone().map(|own| load.view(own));
            }
            turn_for(&mut injector, REST)?;
            let cpu = running.cpu()?;
            let start = Instant::now();
            for (session, participant) in injector.sessions.iter_mut().zip(&load.participants) {
                session.queue(Arc::clone(&participant.stream));
            }
            let (sent, right) = until_right(&mut injector, &load.prefixes, limit)?;
            Ok(Outcome {
                seconds: (right - start).as_secs_f64(),
                sent: (sent - start).as_secs_f64(),
                memory: running.peak_memory()?,
                cpu: running.cpu()? - cpu,
                churn: None,
            })
        })
        .with_context(|| {
            let (case, log) = (load.case, running.log());
            format!("case {case}, {}; its log: {log}", subject.name())
        });
    running.end()?;
    outcome
}

/// Takes turns until all views are as expected and stay so; when all was sent, and when all was
/// right.
pub fn until_right(
    injector: &mut Injector,
    prefixes: &[Ipv4Net],
    limit: Duration,
) -> Result<(Instant, Instant)> {
    let start = Instant::now();
    let mut sent = None;
    loop {
        let stood = || format!("after {limit:?}: {}", injector.progress(prefixes));
        ensure!(start.elapsed() < limit, stood());
        if let Err(error) = injector.turn(TURN) {
            bail!("{error:#}; {}", injector.progress(prefixes));
        }
        if sent.is_none() && injector.all_sent() {
            sent = Some(Instant::now());
        }
        if let (Some(sent), Some(right)) = (sent, injector.right_since())
            && right.elapsed() > LINGER
        {
            return Ok((sent, right));
        }
    }
}

/// Brings up a session for each peer.
pub fn establish(
    bed: &Bed,
    peers: &[Peer],
    mut alive: impl FnMut() -> Result<()>,
) -> Result<Injector> {
    let mut injector = Injector::default();
    let until = Instant::now() + ESTABLISHING;
    for peer in peers {
        injector.connect(*peer, bed.address, until, &mut alive)?;
    }
    Ok(injector)
}

/// Takes turns for a time.
pub fn turn_for(injector: &mut Injector, length: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < length {
        injector.turn(TURN)?;
    }
    Ok(())
}

/// Seconds that the injector needs until a sink that only reads has read a load, and that the
/// receivers need to take in what they expect from a source that only writes, packed as the load is.
/// A subject is measured well only where it takes much longer than both.
pub fn alone(bed: &Bed, load: &Load, limit: Duration) -> Result<(f64, f64)> {
    let [stop, answer, all_read] = [(); 3].map(|()| AtomicBool::new(false));
    let wanted: usize = load.participants.iter().map(|one| one.stream.len()).sum();
    let (ready, listening) = mpsc::channel();
    let speaker = || {
        bed.speak(|| {
            let address = SocketAddr::new(IpAddr::V4(bed.address), 179);
            let listener = TcpListener::bind(address)?;
            ready.send(())?;
            let mut sink = Injector::default();
            let own = Peer {
                address: bed.address,
                asn: SPEAKER_ASN,
            };
            for participant in &load.participants {
                sink.accept(&listener, participant.peer, own)?;
            }
            while !stop.load(Ordering::Relaxed) {
                let read: u64 = sink.sessions.iter().map(|session| session.received).sum();
                // Keepalives come on top.
                if read >= wanted as u64 {
                    all_read.store(true, Ordering::Relaxed);
                }
                if answer.swap(false, Ordering::Relaxed) {
                    for (session, to) in sink.sessions.iter_mut().zip(&load.participants) {
                        if to.receives.is_some() {
                            session.queue(Arc::clone(&load.answer));
                        }
                    }
                }
                match sink.turn(Duration::from_millis(1)) {
                    // The injector goes when it has what it wants.
                    Err(_) if stop.load(Ordering::Relaxed) => break,
                    turned => turned?,
                }
            }
            anyhow::Ok(())
        })
    };
    let inject = || {
        listening.recv_timeout(Duration::from_secs(10))?;
        bed.inject(|| {
            let mut injector = establish(bed, &load.peers(), || Ok(()))?;
            turn_for(&mut injector, Duration::from_millis(100))?;
            let start = Instant::now();
            for (session, participant) in injector.sessions.iter_mut().zip(&load.participants) {
                session.queue(Arc::clone(&participant.stream));
            }
            while !all_read.load(Ordering::Relaxed) {
                injector.turn(Duration::from_millis(1))?;
                ensure!(start.elapsed() < limit, "the sink does not read");
            }
            let sent = start.elapsed();
            turn_for(&mut injector, Duration::from_millis(300))?;
            for (session, participant) in injector.sessions.iter_mut().zip(&load.participants) {
                session.view = participant.receives.clone().map(|own| load.view(own));
            }
            let start = Instant::now();
            answer.store(true, Ordering::Relaxed);
            let (_, right) = until_right(&mut injector, &load.prefixes, limit)?;
            stop.store(true, Ordering::Relaxed);
            Ok((sent.as_secs_f64(), (right - start).as_secs_f64()))
        })
    };
    thread::scope(|scope| {
        let speaker = scope.spawn(speaker);
        let injected = inject();
        stop.store(true, Ordering::Relaxed);
        let spoken = speaker.join();
        let alone = injected.context("the injector alone")?;
        match spoken {
            Ok(ended) => ended.context("the sink")?,
            Err(_) => bail!("the sink panicked"),
        }
        Ok(alone)
    })
}
