//! What Waypost keeps of peers whose sessions were lost (RFC 4724, RFC 9494), by its own word.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{PATIENCE, Waypost};
use crate::lab::wait::until;

impl Waypost {
    /// Waits until what a peer announced is shown as stale: of so many sessions, both families, at
    /// least one route each.
    ///
    /// # Errors
    /// It is not.
    pub fn keeps(&self, peer: &str, sessions: usize, long_lived: bool) -> Result<String> {
        let expected = format!("the routes of {peer} are stale, long-lived: {long_lived}");
        until(&expected, PATIENCE, || {
            let mut rows = self.rows("peers")?;
            rows.retain(|row| row["peer"] == peer);
            ensure!(rows.len() == sessions, "{} sessions", rows.len());
            for row in &rows {
                let families = row["stale"].as_array().context("a list")?;
                ensure!(families.len() == 2, "{row}");
                for family in families {
                    ensure!(family["long_lived"] == long_lived, "{row}");
                    ensure!(family["routes"].as_u64() >= Some(1), "{row}");
                }
            }
            Ok(())
        })?;
        Ok(format!(
            "waypost: the routes of {peer} are stale, {sessions} sessions, both families"
        ))
    }

    /// Waits until nothing is stale any more.
    ///
    /// # Errors
    /// Something is.
    pub fn keeps_nothing(&self) -> Result<()> {
        until("nothing is stale", PATIENCE, || {
            for row in self.rows("peers")? {
                ensure!(row["stale"] == Value::Array(vec![]), "{row}");
            }
            Ok(())
        })
    }
}
