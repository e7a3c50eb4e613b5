//! Topology 7: route servers in a spoke and in both hubs, with ExpressRoute in each hub.

use anyhow::Result;
use tests::{scenario, topology::stories::dual_homed_express_route::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
