//! Two speakers, each with NVAs of its own, and a network between them that cuts, delays and closes.
//!
//! Whatever happened on the way: once it is quiet, each has from the other exactly what the other says
//! that it sent, and both have learned the same as two speakers that were told the final state at
//! once.

use std::time::Duration;

use arbitrary::{Result, Unstructured};

use crate::pick;
use nva::Nva;
use world::World;

mod nva;
mod setup;
mod world;

/// Most steps of one run.
const STEPS: usize = 200;

/// Steps from the bytes; then quiet, and the comparison.
pub fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let settings = setup::Settings::read(&mut bytes).unwrap_or_default();
    let mut world = World::new(settings);
    world.start();
    // An error: a choice was not possible, and the story ends there.
    let _ = story(&mut bytes, &mut world);
    world.settle();
    world.assert_both_agree();

    let mut fresh = World::new(settings);
    fresh.start();
    fresh.settle();
    fresh.repeat(&world);
    fresh.settle();
    fresh.assert_both_agree();
    assert_eq!(
        world.learned(),
        fresh.learned(),
        "the order of events shows"
    );
}

fn story(bytes: &mut Unstructured<'_>, world: &mut World) -> Result<()> {
    for _ in 0..STEPS {
        // Without this, what is missing would be read as zeros, step after step.
        if bytes.is_empty() {
            break;
        }
        let node = bytes.arbitrary::<u8>()? as usize % 2;
        match bytes.arbitrary::<u8>()? % 16 {
            0..=3 => {
                let nva = nva(bytes)?;
                let change = nva::change(bytes, node, nva)?;
                world.announce(node, nva, change);
            }
            4 | 5 => {
                let nva = nva(bytes)?;
                let nlri = nva::some(bytes)?;
                world.withdraw(node, nva, &nlri);
            }
            6..=9 => {
                let amount = pick(bytes, &[1, 19, 100, 5000, usize::MAX])?;
                world.deliver(node, amount);
            }
            10 => world.pass(Duration::from_millis(bytes.arbitrary::<u16>()?.into())),
            11 => world.pass(Duration::from_secs(bytes.arbitrary::<u8>()?.into())),
            12 => world.cut(),
            13 => mishap(bytes, world, node)?,
            14 => world.originate(node, bytes.arbitrary::<u8>()? % 4),
            _ => world.reflect(node, bytes.arbitrary()?),
        }
    }
    Ok(())
}

fn mishap(bytes: &mut Unstructured<'_>, world: &mut World, node: usize) -> Result<()> {
    match bytes.arbitrary::<u8>()? % 16 {
        0 => world.stop(node),
        1 => world.ask_again(node),
        2 => world.clear_soft(node),
        3 | 4 => world.restart_nva(node, nva(bytes)?),
        5 | 6 => {
            let nva = nva(bytes)?;
            if world.may_be_away() {
                world.lose_nva(node, nva);
            }
        }
        7 | 8 => world.return_nva(node, nva(bytes)?),
        9 => world.end_of_rib(node, nva(bytes)?),
        10 | 11 => {
            let nva = nva(bytes)?;
            let change = nva::change(bytes, node, nva)?;
            world.refresh_nva(node, nva, change);
        }
        12 => world.drain(node, nva(bytes)?, bytes.arbitrary()?),
        13 => world.max_paths(node, pick(bytes, &[1, 2, 8])?, pick(bytes, &[1, 2, 3])?),
        14 => world.hold(node, bytes.arbitrary()?),
        _ => world.policy(node, bytes.arbitrary::<u8>()?, bytes.arbitrary()?),
    }
    Ok(())
}

fn nva(bytes: &mut Unstructured<'_>) -> Result<Nva> {
    Ok(Nva(bytes.arbitrary::<u8>()? as usize % nva::NVAS))
}
