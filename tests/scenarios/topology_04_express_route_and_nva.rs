//! Topology 4: an ExpressRoute gateway and an appliance, branch-to-branch off, then on.

use anyhow::Result;
use tests::{scenario, topology::stories::express_route_and_nva::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
