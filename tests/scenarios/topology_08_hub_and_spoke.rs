//! Topology 8: two spokes use the hub's route server and reach each other through its appliance.

use anyhow::Result;
use tests::{scenario, topology::stories::hub_and_spoke::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
