//! Every feature with this daemon: who connects, over what; prints its part of the matrix.

use tests::{daemon::ExaBgp, interop, scenario};

#[test]
fn exabgp_has_every_feature_in_every_role() -> anyhow::Result<()> {
    // The closure names the test.
    scenario(|lab| {
        interop::every_feature::<ExaBgp>(lab)?;
        Ok(())
    })
}
