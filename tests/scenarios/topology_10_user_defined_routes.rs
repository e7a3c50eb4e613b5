//! Topology 10: user-defined routes, own space, propagation.

use anyhow::Result;
use tests::{scenario, topology::stories::user_defined_routes::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
