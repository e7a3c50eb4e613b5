//! The daemon as a whole.

use std::time::Instant;

use super::Control;
use crate::{
    api::{
        Answer,
        types::{RouteServerStatus, Status},
    },
    bgp::State,
    daemon::supervisor::Running,
};

impl Control {
    /// `status`.
    pub(super) async fn status_now(&self) -> Answer<Status> {
        let Running {
            config,
            source,
            core,
            servers,
            ..
        } = self.running();
        let mut route_servers = Vec::new();
        for server in &config.route_servers {
            let Some(handle) = servers.get(&server.name) else {
                continue;
            };
            let (rows, stopped, dynamic_peers, newcomers_refused) = handle
                .ask(|server| {
                    let rows = server.route_server.peer_rows(Instant::now());
                    let dynamic = &server.dynamic;
                    let stopped = server.stopped.clone();
                    (rows, stopped, dynamic.count(), dynamic.refused())
                })
                .await?;
            let established = rows.iter().filter(|row| row.state == State::Established);
            route_servers.push(RouteServerStatus {
                name: server.name.clone(),
                asn: server.asn,
                sessions: rows.len(),
                established: established.count(),
                stopped_instances: stopped.into_iter().map(|instance| instance.0).collect(),
                dynamic_peers,
                newcomers_refused,
            });
        }
        let subnets = config.vnets.iter().flat_map(|vnet| &vnet.subnets);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: source.file.display().to_string(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            synchronised: core.ask(|core| core.synchronised).await?,
            route_servers,
            vnets: config.vnets.len(),
            ports: subnets.map(|subnet| subnet.ports.len()).sum(),
        })
    }
}
