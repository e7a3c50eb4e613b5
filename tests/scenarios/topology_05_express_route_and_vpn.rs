//! Topology 5: an ExpressRoute and a VPN gateway with branch-to-branch.

use anyhow::Result;
use tests::{scenario, topology::stories::express_route_and_vpn::STORY};

#[test]
fn every_step_of_the_story_holds() -> Result<()> {
    scenario(|lab| STORY.holds(lab))
}
