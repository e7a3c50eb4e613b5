//! Worlds of many networks, and the topologies that must work end to end as stories, which a scenario
//! demands and `cargo xtask demo --scenario NAME` tells.
//!
//! - [`plan`]: networks, subnets, route servers and their addresses.
//! - [`world`]: builds hosts and links around one gateway host, and Waypost's configuration.
//! - [`site`]: appliances, sites behind them, and what their daemons are to do.
//! - [`trace`]: the path of packets, there and back.
//! - [`truth`]: routes that daemons have; Waypost's effective routes.
//! - [`failover`]: traffic through a failure, and its bounds.
//! - [`story`]: what a story is.
//! - [`stories`]: one topology a file.

pub mod failover;
#[cfg(test)]
mod guide;
pub mod plan;
pub mod site;
pub mod stories;
pub mod story;
pub mod trace;
pub mod truth;
pub mod world;

pub use plan::{Kind, Network, RouteServer, Space, Subnet};
pub use site::{Appliance, Failed, Site};
pub use story::{Kept, Story};
pub use world::World;
