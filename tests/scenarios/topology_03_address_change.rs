//! Topology 3: the network's address space changes while everything runs.

use anyhow::Result;
use tests::{scenario, topology::stories::address_change::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
