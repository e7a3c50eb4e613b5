//! Topology 6: a spoke with the route server between two hubs.

use anyhow::Result;
use tests::{scenario, topology::stories::dual_homed::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
