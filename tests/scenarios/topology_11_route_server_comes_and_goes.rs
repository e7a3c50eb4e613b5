//! Topology 11: a route server is added to a live network, and removed from it.

use anyhow::Result;
use tests::{scenario, topology::stories::route_server_comes_and_goes::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
