//! The topologies, one a file.

use super::Story;

pub mod address_change;
pub mod dual_homed;
pub mod dual_homed_express_route;
pub mod express_route_and_nva;
pub mod express_route_and_vpn;
pub mod hub_and_spoke;
pub mod instances;
pub mod overview;
pub mod route_server_comes_and_goes;
pub mod third_party;
pub mod user_defined_routes;

/// All, in the order of their numbers.
pub const STORIES: &[Story] = &[
    overview::STORY,
    instances::STORY,
    address_change::STORY,
    express_route_and_nva::STORY,
    express_route_and_vpn::STORY,
    dual_homed::STORY,
    dual_homed_express_route::STORY,
    hub_and_spoke::STORY,
    third_party::STORY,
    user_defined_routes::STORY,
    route_server_comes_and_goes::STORY,
];
