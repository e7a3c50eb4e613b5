//! What may be asked: filters of the lists and bodies of the orders.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::types::{EffectiveRow, FibRoute, PeerRow};

/// Which peers, received, learned or advertised routes. What is `None` is not filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteFilter {
    /// Name of a route server.
    pub route_server: Option<String>,
    /// Name or address of a peer.
    pub peer: Option<String>,
    /// Instance, 1 or 2.
    pub instance: Option<u8>,
    /// Exactly this prefix.
    pub prefix: Option<IpNet>,
    /// Prefixes inside `prefix` as well.
    pub longer: bool,
}

/// Which effective routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EffectiveFilter {
    /// `NAME` or `VNET/NAME`; all subnets without it.
    pub subnet: Option<String>,
    /// `system`, `learned` or `user_defined`.
    pub source: Option<String>,
    /// Exactly this prefix.
    pub prefix: Option<IpNet>,
    /// Prefixes inside `prefix` as well.
    pub longer: bool,
}

/// Which routes of the forwarding state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FibFilter {
    /// Name of a table.
    pub table: Option<String>,
    /// Exactly this prefix.
    pub prefix: Option<IpNet>,
    /// Prefixes inside `prefix` as well.
    pub longer: bool,
}

/// Which counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CounterFilter {
    /// Interface of a port; next hops are left out then.
    pub interface: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventFilter {
    /// From this time on (RFC 3339); without it all that are kept.
    pub since: Option<String>,
    /// Goes on with what happens from now on.
    pub follow: bool,
    /// Of these kinds: `session,limit`.
    pub kind: Option<String>,
    /// About this route server.
    pub route_server: Option<String>,
    /// About, or caused by, the peer of this name.
    pub peer: Option<String>,
}

/// An instance to stop or to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceOrder {
    /// Name of the route server; may be left out where there is one only.
    #[serde(default)]
    pub route_server: Option<String>,
    /// 1 or 2.
    pub instance: u8,
}

/// A configuration that is to be compared with the running one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanOrder {
    /// Name of the file, for messages.
    pub file: String,
    /// What stands in it.
    pub text: String,
}

/// A command for a peer's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerOrder {
    /// Name of the route server; may be left out where one only has the peer.
    #[serde(default)]
    pub route_server: Option<String>,
    /// Name or address of the peer.
    pub peer: String,
    /// Its session with this instance only, 1 or 2.
    #[serde(default)]
    pub instance: Option<u8>,
    /// What is to be done.
    pub command: PeerCommand,
    /// What the peer is told (RFC 9003), with `shutdown` and `clear_hard`: at most 255 bytes.
    #[serde(default)]
    pub text: String,
}

/// What can be done with a peer's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerCommand {
    /// Close (Cease, administrative shutdown) and keep closed, over reloads as well.
    Shutdown,
    /// End a shutdown.
    Start,
    /// Make its routes last choice, and ours with it (RFC 8326).
    Drain,
    /// End that.
    Undrain,
    /// Ask the peer for its routes again and send ours again; the session goes on.
    ClearSoft,
    /// Close (Cease, administrative reset) and come back.
    ClearHard,
}

/// To stop the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopOrder {
    /// Detach the programs and remove the pins as well: forwarding ends.
    pub flush: bool,
}

impl PeerCommand {
    /// As on the command line: `clear soft`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Start => "start",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::ClearSoft => "clear soft",
            Self::ClearHard => "clear hard",
        }
    }
}

impl RouteFilter {
    /// Whether a session is wanted; `prefix` does not matter.
    #[must_use]
    pub fn takes_peer(&self, row: &PeerRow) -> bool {
        wanted(&self.route_server, row.route_server.as_str())
            && self.takes_instance(row.instance)
            && self.peer.as_deref().is_none_or(|peer| {
                peer == row.peer.as_str() || peer.parse() == Ok::<IpAddr, _>(row.address)
            })
    }

    fn takes_instance(&self, instance: u8) -> bool {
        self.instance.is_none_or(|wanted| wanted == instance)
    }
}

impl EffectiveFilter {
    /// Whether an effective route is wanted; `subnet` was resolved before.
    #[must_use]
    pub fn takes(&self, row: &EffectiveRow) -> bool {
        wanted(&self.source, &row.source) && takes_prefix(self.prefix, self.longer, row.prefix)
    }
}

impl FibFilter {
    /// Whether a route of the forwarding state is wanted.
    #[must_use]
    pub fn takes(&self, route: &FibRoute) -> bool {
        wanted(&self.table, route.table.as_str())
            && takes_prefix(self.prefix, self.longer, route.prefix)
    }
}

fn wanted(filter: &Option<String>, value: &str) -> bool {
    filter.as_deref().is_none_or(|wanted| wanted == value)
}

fn takes_prefix(filter: Option<IpNet>, longer: bool, prefix: IpNet) -> bool {
    filter.is_none_or(|wanted| {
        let wanted = wanted.trunc();
        wanted == prefix || (longer && wanted.contains(&prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::takes_prefix;

    #[test]
    fn a_prefix_is_taken_exactly_and_with_longer_also_what_lies_inside() {
        let net = |text: &str| text.parse().unwrap();
        let inside = net("10.1.2.0/24");
        assert!(takes_prefix(None, false, inside));
        assert!(takes_prefix(Some(inside), false, inside));
        assert!(!takes_prefix(Some(net("10.1.0.0/16")), false, inside));
        assert!(takes_prefix(Some(net("10.1.0.0/16")), true, inside));
        assert!(!takes_prefix(Some(net("10.1.2.0/25")), true, inside));
        assert!(!takes_prefix(Some(net("::/0")), true, inside));
    }
}
