//! `waypost stop`: ends the daemon, and with `--flush` what it left in the kernel.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;

use crate::{
    api::{
        client::{Client, ClientError},
        query::StopOrder,
    },
    config::{self, DataplaneConfig},
    dataplane,
};

/// How long a daemon may take to close its sessions and leave.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stops the daemon and waits until it has gone; tells what was done.
pub(super) async fn stop(
    client: &Client,
    socket: &Path,
    order: StopOrder,
    config: Option<&Path>,
) -> anyhow::Result<String> {
    match client.post::<()>("/v1/stop", &order).await {
        Ok(()) => {
            wait_until_gone(socket).await?;
            Ok(if order.flush {
                "stopped; programs detached, pins removed\n".to_owned()
            } else {
                "stopped; the pinned data plane goes on forwarding\n".to_owned()
            })
        }
        Err(ClientError::NoDaemon(_)) if order.flush => {
            let pins = match config {
                Some(file) => config::load(file)?.config.dataplane,
                None => DataplaneConfig::default(),
            };
            dataplane::flush(&pins).context("cannot remove the pinned data plane")?;
            Ok(format!(
                "no daemon runs; programs detached and pins removed in {}/waypost/{}\n",
                pins.bpffs.display(),
                pins.instance
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// The daemon's last act is to remove its socket.
async fn wait_until_gone(socket: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    while UnixStream::connect(socket).await.is_ok() {
        if start.elapsed() > PATIENCE {
            bail!(
                "the daemon has not left after {PATIENCE:?}; see its log, then kill it by its process number"
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
