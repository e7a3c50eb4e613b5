//! Peers and the routes of their sessions: rows of all route servers asked, and orders.

use super::{Control, instance, one_of, split};
use crate::{
    api::{
        Answer, ApiError,
        query::{PeerCommand, PeerOrder, RouteFilter},
        types::{AdvertisedRow, PeerOrderRow},
    },
    bgp::InstanceId,
    config::RouteServer,
    daemon::{
        dynamic,
        server::{Server, ServerHandle},
    },
    names::{PeerName, RouteServerName},
    rib::Place,
    route_server::{Filter, Page, STATIC_PEER, sort_advertised},
};

impl Control {
    /// Rows of all route servers that a filter wants.
    pub(super) async fn gather<R: Send + 'static>(
        &self,
        filter: RouteFilter,
        rows: impl Fn(&mut Server, &Filter, &RouteFilter) -> Vec<R> + Clone + Send + 'static,
    ) -> Answer<Vec<R>> {
        let mut all = Vec::new();
        for (server, narrow) in self.asked(&filter)? {
            // Which rows are this peer's is known to the route server.
            let filter = RouteFilter {
                peer: None,
                ..filter.clone()
            };
            let rows = rows.clone();
            let part = server.ask(move |server| rows(server, &narrow, &filter));
            all.extend(part.await?);
        }
        Ok(all)
    }

    /// The same for rows of whole tables: each route server is asked for a page at a time.
    pub(super) async fn walk<R: Send + 'static>(
        &self,
        filter: RouteFilter,
        page: impl Fn(&Server, &Filter, Place) -> Page<R> + Clone + Send + 'static,
        sort: fn(&mut Vec<R>),
    ) -> Answer<Vec<R>> {
        let mut all = Vec::new();
        for (server, narrow) in self.asked(&filter)? {
            let mut rows = Vec::new();
            let mut next = Some(Place::FIRST);
            while let Some(from) = next {
                let (page, narrow) = (page.clone(), narrow.clone());
                let part = server.ask(move |server| page(server, &narrow, from));
                let mut part = part.await?;
                rows.append(&mut part.rows);
                next = part.next;
            }
            sort(&mut rows);
            all.append(&mut rows);
        }
        Ok(all)
    }

    /// What sessions have been sent, a page of one session at a time.
    pub(super) async fn sent(&self, filter: RouteFilter) -> Answer<Vec<AdvertisedRow>> {
        let mut all = Vec::new();
        for (server, narrow) in self.asked(&filter)? {
            let to = narrow.clone();
            let sessions = server.ask(move |server| server.route_server.sent_to(&to));
            for id in sessions.await? {
                let mut rows = Vec::new();
                let mut next = Some(Place::FIRST);
                while let Some(from) = next {
                    let (id, narrow) = (id.clone(), narrow.clone());
                    let part = server.ask(move |server| {
                        let server = &mut server.route_server;
                        server.advertised_page(&id, &narrow, from)
                    });
                    let mut part = part.await?;
                    rows.append(&mut part.rows);
                    next = part.next;
                }
                sort_advertised(&mut rows);
                all.append(&mut rows);
            }
        }
        Ok(all)
    }

    /// The route servers that a filter means, and what it wants of each.
    fn asked(&self, filter: &RouteFilter) -> Answer<Vec<(ServerHandle, Filter)>> {
        let servers = self.servers(filter.route_server.as_deref())?;
        let config = self.running().config;
        let configured: Vec<_> = config
            .route_servers
            .iter()
            .filter(|server| servers.contains_key(&server.name))
            .collect();
        let meant = peers_meant(&configured, filter.peer.as_deref())?.into_iter();
        let asked = meant.filter_map(|(name, peer)| {
            let narrow = Filter {
                peer,
                instance: filter.instance.map(InstanceId),
                prefix: filter.prefix.map(|prefix| prefix.trunc()),
                longer: filter.longer,
            };
            Some((servers.get(&name)?.clone(), narrow))
        });
        Ok(asked.collect())
    }

    /// Carries an order out on the sessions of the one peer that it means.
    pub(super) async fn carry_out(&self, order: PeerOrder) -> Answer<Vec<PeerOrderRow>> {
        check_text(&order)?;
        if let Some(number) = order.instance {
            instance(number)?;
        }
        let servers = self.servers(order.route_server.as_deref())?;
        let config = self.running().config;
        let configured: Vec<_> = config
            .route_servers
            .iter()
            .filter(|server| servers.contains_key(&server.name))
            .collect();
        let meant = peers_meant(&configured, Some(&order.peer))?;
        if meant.len() > 1 {
            return Err(ApiError::invalid(
                format!("several route servers have a peer \"{}\"", order.peer),
                format!(
                    "say which (--route-server): {}",
                    one_of(meant.iter().map(|(server, _)| server))
                ),
            ));
        }
        let mut all = Vec::new();
        for (name, peer) in meant {
            if let (Some(server), Some(peer)) = (servers.get(&name), peer) {
                all.extend(server.command_peer(peer, order.clone()).await);
            }
        }
        if all.is_empty() {
            return Err(ApiError::not_found(
                format!("peer \"{}\" has no such session", order.peer),
                "see \"waypost show peers\"",
            ));
        }
        match all.iter().find(|row| !row.done) {
            // Nothing at all could be done: that is no success.
            Some(failed) if all.iter().all(|row| !row.done) => {
                let (what, remedy) = split(&failed.what);
                let peer = &failed.peer;
                let all_alike = all.iter().all(|row| row.what == failed.what);
                Err(match all_alike {
                    true => ApiError::invalid(format!("peer {peer}: {what}"), remedy),
                    false => {
                        let each = all.iter().map(|PeerOrderRow { instance, what, .. }| {
                            format!("with instance {instance}, {what}")
                        });
                        let each = each.collect::<Vec<_>>().join(". ");
                        ApiError::invalid(format!("peer {peer}: nothing was done"), each)
                    }
                })
            }
            _ => Ok(all),
        }
    }
}

/// Which route servers are asked, and of each the peer that a filter names by name or address: the
/// same address may be another peer's at another route server.
fn peers_meant(
    servers: &[&RouteServer],
    wanted: Option<&str>,
) -> Answer<Vec<(RouteServerName, Option<PeerName>)>> {
    let Some(wanted) = wanted else {
        return Ok(servers
            .iter()
            .map(|server| (server.name.clone(), None))
            .collect());
    };
    let address = wanted.parse().ok();
    let meant: Vec<_> = servers
        .iter()
        .filter_map(|server| {
            let mut peers = server.peers.iter();
            let found = peers
                .find(|peer| peer.name.as_str() == wanted || Some(peer.address) == address)
                .map(|peer| peer.name.clone())
                .or_else(|| dynamic::meant(server, wanted))
                .or_else(|| {
                    let is_static = !server.learned.is_empty() && wanted == STATIC_PEER;
                    is_static.then(|| wanted.into())
                })?;
            Some((server.name.clone(), Some(found)))
        })
        .collect();
    if meant.is_empty() {
        let peers = servers.iter().flat_map(|server| {
            let fixed = server.peers.iter().map(|peer| peer.name.to_string());
            let gateways = server.gateways.iter();
            let gateways = gateways.map(|gateway| format!("{} (a gateway)", gateway.name));
            let ranges = server.dynamic_peers.iter();
            fixed
                .chain(gateways)
                .chain(ranges.map(|range| format!("{}-ADDRESS (of {})", range.name, range.prefix)))
        });
        return Err(ApiError::not_found(
            format!("there is no peer \"{wanted}\""),
            one_of(peers),
        ));
    }
    Ok(meant)
}

/// RFC 9003 §2; and a text that breaks lines would break the peer's log.
fn check_text(order: &PeerOrder) -> Answer<()> {
    const MOST: usize = 255;
    let told = matches!(
        order.command,
        PeerCommand::Shutdown | PeerCommand::ClearHard
    );
    let text = &order.text;
    let (what, remedy) = if !told && !text.is_empty() {
        let what = "this command has no text for the peer".to_owned();
        (what, "leave the text out")
    } else if text.len() > MOST {
        let what = format!(
            "the text has {} bytes, at most {MOST} can be sent (RFC 9003)",
            text.len()
        );
        (what, "shorten it")
    } else if text.chars().any(char::is_control) {
        let what = "the text has control characters".to_owned();
        (what, "give one line of plain text")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(what, remedy))
}

#[cfg(test)]
mod tests {
    use super::{check_text, peers_meant};
    use crate::{
        api::query::{PeerCommand, PeerOrder},
        config::{RouteServer, parse},
    };

    #[test]
    fn a_text_that_cannot_be_sent_is_refused_with_the_reason() {
        let check = |command, text: &str| {
            let order = PeerOrder {
                route_server: None,
                peer: "fw".to_owned(),
                instance: None,
                command,
                text: text.to_owned(),
            };
            check_text(&order).map_err(|error| error.error)
        };
        let longest = "é".repeat(127) + "x";
        assert_eq!(check(PeerCommand::Shutdown, &longest), Ok(()));
        assert_eq!(check(PeerCommand::ClearHard, "new filters"), Ok(()));
        assert_eq!(check(PeerCommand::Drain, ""), Ok(()));
        let refused = |command, text: &str| check(command, text).unwrap_err();
        let long = refused(PeerCommand::Shutdown, &"é".repeat(128));
        assert!(long.contains("256 bytes, at most 255"), "{long}");
        let lines = refused(PeerCommand::Shutdown, "one\ntwo");
        assert!(lines.contains("control characters"), "{lines}");
        let drain = refused(PeerCommand::Drain, "text");
        assert!(drain.contains("no text"), "{drain}");
    }

    #[test]
    fn an_address_means_the_peer_that_has_it_at_each_route_server() {
        let config = parse(include_str!("../../../../docs/example.toml"), "example").unwrap();
        let first = &config.route_servers[0];
        let mut second = RouteServer {
            name: "rs2".into(),
            ..first.clone()
        };
        second.peers[0].name = "vpn".into();
        second.peers.truncate(1);
        let asked = |servers: &[&RouteServer], peer: &str| {
            let meant = peers_meant(servers, Some(peer)).map_err(|error| error.error)?;
            let told = meant.into_iter().map(|(server, peer)| {
                let peer = peer.unwrap();
                format!("{server} {peer}")
            });
            Ok::<_, String>(told.collect::<Vec<_>>())
        };
        let both = [first, &second];
        assert_eq!(asked(&both, "10.1.10.4").unwrap(), ["rs1 sdwan", "rs2 vpn"]);
        assert_eq!(asked(&[&second], "10.1.10.4").unwrap(), ["rs2 vpn"]);
        assert_eq!(asked(&both, "fw").unwrap(), ["rs1 fw"]);
        assert!(asked(&[&second], "fw").is_err(), "it has no such peer");
        assert_eq!(peers_meant(&both, None).unwrap().len(), 2);
    }
}
