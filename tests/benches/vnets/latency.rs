//! From the UPDATE of one changed prefix to the trie.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests::{injector::Injector, internet::Random};

use crate::{
    bed::{APPLIANCE, Bed, next_hops},
    kernel::Kernel,
    load::Load,
};

/// Rest between two changes.
const REST: Duration = Duration::from_millis(3);

/// Moves one prefix after another to the appliance's other address, and back at the end; milliseconds
/// of each, sorted.
pub fn one_prefix(
    bed: &Bed,
    kernel: &Kernel,
    injector: &mut Injector,
    load: &Load,
    samples: usize,
    limit: Duration,
) -> Result<Vec<f64>> {
    let machine = bed.machines.first().context("no machine")?;
    let table = kernel.port(&machine.interface())?.learned_table;
    let mut random = Random::new(17);
    let mut latencies = Vec::with_capacity(samples);
    for _ in 0..samples.div_ceil(2) {
        let place = (random.next() % load.alone().len() as u64) as usize;
        for next_hop in [next_hops()[(place + 1) % 2], load.next_hop(place)] {
            let prefix = load.prefixes[place];
            let leads = || -> Result<bool> { Ok(kernel.leads(table, prefix)? == Some(next_hop)) };
            ensure!(!leads()?, "{prefix} leads to {next_hop} already");
            let mut message = Vec::new();
            load.announce(&mut message, place, next_hop);
            injector.sessions[APPLIANCE].queue(Arc::from(message));
            let start = Instant::now();
            injector.turn(Duration::ZERO)?;
            while !leads()? {
                let found = kernel.leads(table, prefix)?;
                ensure!(
                    start.elapsed() < limit,
                    "{prefix} leads to {found:?}, not to {next_hop}"
                );
            }
            latencies.push(start.elapsed().as_secs_f64() * 1e3);
            while start.elapsed() < REST {
                injector.turn(Duration::from_millis(1))?;
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}
