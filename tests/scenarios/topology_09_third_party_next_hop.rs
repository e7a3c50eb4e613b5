//! Topology 9: appliances announce a load balancer's address as next hop.

use anyhow::Result;
use tests::{scenario, topology::stories::third_party::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
