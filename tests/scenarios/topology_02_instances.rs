//! Topology 2: two instances of an appliance, active/active and active/passive.

use anyhow::Result;
use tests::{scenario, topology::stories::instances::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
