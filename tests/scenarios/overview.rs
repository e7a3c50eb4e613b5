//! Topology 1, the overview: everything that the demo tells, over IPv4 and IPv6.

use anyhow::Result;
use tests::{
    network::Cable,
    overview::{Overview, narrator::Narrator, story},
    scenario,
};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 3, Cable::Switched)?;
        let mut narrator = Narrator::default();
        story::tell(&world, &mut narrator)?;
        narrator.all_held()
    })
}
