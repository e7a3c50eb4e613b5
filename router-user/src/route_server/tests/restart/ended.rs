//! What happens beside the timers: operators, other configurations, requests of peers.

use super::*;

#[test]
fn a_peer_that_asks_for_routes_before_the_selection_and_leaves_does_no_harm() {
    let mut lab = restarted(&["sdwan", "fw"]);
    lab.up("sdwan", 1);
    let id = lab.id("sdwan", 1);
    let asked = SessionEvent::RefreshRequested {
        id,
        family: Family::Ipv4Unicast,
    };
    lab.server.handle(asked, lab.now);
    lab.lose("sdwan");
    lab.pass(HOUR);
    lab.up("sdwan", 1);
    lab.settle_now();
    assert_eq!(lab.far("sdwan", 1).ended, Family::ALL);
}
