//! Every feature with this daemon: who connects, over what; prints its part of the matrix.

use tests::{daemon::Bird, interop, scenario};

#[test]
fn bird_has_every_feature_in_every_role() -> anyhow::Result<()> {
    // The closure names the test.
    scenario(|lab| {
        interop::every_feature::<Bird>(lab)?;
        Ok(())
    })
}
