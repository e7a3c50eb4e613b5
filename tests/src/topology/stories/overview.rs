//! Topology 1: an SD-WAN appliance with a site behind it and firewalls with the Internet behind them.

use anyhow::Result;

use crate::{
    lab::Lab,
    network::Cable,
    overview::{Overview, narrator::Narrator, story},
    topology::{Kept, Story},
};

/// The overview.
pub const STORY: Story = Story {
    number: 1,
    name: "overview",
    about: "A virtual machine's packet takes the path that BGP chose: to the site by the SD-WAN, to the \
            rest by a firewall.",
    drawing: "  office ── site ── sdwan ──┐              ┌── fw  ──┐
                          ├── gw ────────┼── fw2 ──┼── internet
                vm1, vm2 ──┘  Waypost     └── fw3 ──┘",
    tell,
};

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let world = Overview::build(lab, 3, Cable::Switched)?;
    let daemons = story::tell(&world, narrator)?;
    Ok(Box::new((daemons, world)))
}
