//! What every party ends up with: routes read from the BGP daemons themselves, Waypost's answers, and
//! the kernel's maps.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{RouteServer, Site, Subnet};
use crate::{
    daemon::{Bird, Daemon, as_text},
    kernel_maps,
    lab::wait::until,
    overview::CONVERGENCE,
    waypost::Waypost,
};

/// A route that a daemon is to have: prefix, AS path, next hop.
pub type Wanted<'a> = (IpNet, &'a str, IpAddr);

/// Waits until a daemon's session with this neighbour is established and it has exactly these routes
/// from there: none is missing, none is there besides, none twice.
///
/// # Errors
/// It has others.
pub fn exactly(daemon: &dyn Daemon, from: IpAddr, wanted: &[Wanted<'_>]) -> Result<String> {
    let title = daemon.title();
    let text = |(prefix, as_path, next_hop): &Wanted<'_>| {
        format!("{prefix} via {next_hop} path {as_path:?}")
    };
    let mut wanted: Vec<String> = wanted.iter().map(text).collect();
    wanted.sort();
    let wanted = wanted.join("; ");
    let expected = format!("{title} has from {from} exactly: {wanted}");
    until(&expected, CONVERGENCE, || {
        established(daemon, from)?;
        let routes = daemon.received(from)?;
        let found = routes
            .iter()
            .map(|route| text(&(route.prefix, &route.as_path, route.next_hop)));
        let mut found: Vec<String> = found.collect();
        found.sort();
        ensure!(found.join("; ") == wanted, "{}", as_text(&routes));
        Ok(())
    })?;
    Ok(format!("{title} from {from}: {wanted}"))
}

/// The same of both instances of a route server: networks' prefixes, for which each instance names
/// itself as next hop, and other routes.
///
/// # Errors
/// As [`exactly`].
pub fn exactly_of(
    daemon: &dyn Daemon,
    server: &RouteServer,
    networks: &[([IpNet; 2], &str)],
    routes: &[([IpNet; 2], &str, [IpAddr; 2])],
) -> Result<String> {
    let mut seen = Vec::new();
    for instance in server.instances {
        let own = networks
            .iter()
            .map(|(prefixes, path)| (*prefixes, *path, instance));
        let wanted: Vec<Wanted<'_>> = own
            .chain(routes.iter().copied())
            .flat_map(|(prefixes, path, next_hops)| {
                [0, 1].map(|family| (prefixes[family], path, next_hops[family]))
            })
            .collect();
        seen.push(exactly(daemon, instance[0], &wanted)?);
    }
    Ok(seen.join("\n"))
}

/// The same of a site's router and an appliance in front of it, which passes these on and names its
/// end of the link as next hop. There is a session for each family.
///
/// # Errors
/// As [`exactly`].
pub fn exactly_passed_on(
    router: &dyn Daemon,
    site: &Site,
    front: &str,
    networks: &[([IpNet; 2], &str)],
) -> Result<String> {
    let mut seen = Vec::new();
    for (family, [from, _]) in site.sessions(front).into_iter().enumerate() {
        let wanted = networks
            .iter()
            .map(|(prefixes, path)| (prefixes[family], *path, from));
        let wanted: Vec<Wanted<'_>> = wanted.collect();
        seen.push(exactly(router, from, &wanted)?);
    }
    Ok(seen.join("\n"))
}

/// Demands that an internal session carries LOCAL_PREF 100 with every route that a daemon has from both
/// instances, and that none of them is marked as reflected: they came from outside.
///
/// # Errors
/// One is not so.
pub fn internal(daemon: &Bird, server: &RouteServer) -> Result<String> {
    for instance in server.addresses() {
        let routes = daemon.received(instance)?;
        ensure!(!routes.is_empty(), "no routes of {instance}");
        for route in routes {
            let attributes = daemon.attributes(instance, route.prefix)?;
            let preferred = attributes.get("local_pref").map(String::as_str);
            ensure!(preferred == Some("100"), "{route}: {attributes:?}");
            for name in ["originator_id", "cluster_list"] {
                ensure!(!attributes.contains_key(name), "{route}: {attributes:?}");
            }
        }
    }
    Ok(format!("{}: LOCAL_PREF 100 on all", daemon.title()))
}

/// A daemon's session with this neighbour is established, by its own word.
fn established(daemon: &dyn Daemon, neighbor: IpAddr) -> Result<()> {
    let state = daemon.sessions()?.remove(&neighbor).unwrap_or_default();
    ensure!(state == "established", "session with {neighbor}: {state:?}");
    Ok(())
}

/// Waits until a daemon has none of these prefixes from a neighbour with whom its session is
/// established.
fn without(daemon: &dyn Daemon, from: IpAddr, prefix: IpNet) -> Result<()> {
    let expected = format!("{} has no {prefix} from {from}", daemon.title());
    until(&expected, CONVERGENCE, || {
        established(daemon, from)?;
        let routes = daemon.received(from)?;
        let gone = routes.iter().all(|route| route.prefix != prefix);
        ensure!(gone, "{}", as_text(&routes));
        Ok(())
    })
}

/// Waits until a daemon has these prefixes from both instances of a route server, by this AS path and
/// these next hops, and tells the routes.
///
/// # Errors
/// It has not.
pub fn learns_of(
    daemon: &dyn Daemon,
    server: &RouteServer,
    prefixes: [IpNet; 2],
    as_path: &str,
    next_hops: [IpAddr; 2],
) -> Result<String> {
    let mut seen = Vec::new();
    for instance in server.addresses() {
        for (prefix, next_hop) in prefixes.into_iter().zip(next_hops) {
            seen.push(learns(daemon, instance, prefix, as_path, Some(next_hop))?);
        }
    }
    Ok(seen.join("\n"))
}

/// The same of a network's prefixes, for which each instance names itself as next hop.
///
/// # Errors
/// It has not.
pub fn learns_network(
    daemon: &dyn Daemon,
    server: &RouteServer,
    prefixes: [IpNet; 2],
    as_path: &str,
) -> Result<String> {
    let mut seen = Vec::new();
    for instance in server.instances {
        for (prefix, own) in prefixes.into_iter().zip(instance) {
            seen.push(learns(daemon, instance[0], prefix, as_path, Some(own))?);
        }
    }
    Ok(seen.join("\n"))
}

/// Waits until a daemon has a prefix from a neighbour by this AS path and, if it is named, this next
/// hop.
fn learns(
    daemon: &dyn Daemon,
    from: IpAddr,
    prefix: IpNet,
    as_path: &str,
    next_hop: Option<IpAddr>,
) -> Result<String> {
    let title = daemon.title();
    let by = next_hop.map_or(String::new(), |next_hop| format!(" via {next_hop}"));
    let expected = format!("{title} has {prefix} from {from}{by} by path {as_path:?}");
    let route = until(&expected, CONVERGENCE, || {
        let routes = daemon.received(from)?;
        let mut of_prefix = routes.iter().filter(|route| route.prefix == prefix);
        let route = of_prefix.next().with_context(|| as_text(&routes))?;
        ensure!(route.as_path == as_path, "{route}");
        ensure!(
            next_hop.is_none_or(|next_hop| next_hop == route.next_hop),
            "{route}"
        );
        Ok(route.clone())
    })?;
    Ok(format!("{title}: {route}"))
}

/// Waits until a daemon has none of these prefixes from either instance, its sessions established.
///
/// # Errors
/// It has one.
pub fn lacks(daemon: &dyn Daemon, server: &RouteServer, prefixes: [IpNet; 2]) -> Result<String> {
    for instance in server.addresses() {
        for prefix in prefixes {
            without(daemon, instance, prefix)?;
        }
    }
    let [ipv4, ipv6] = prefixes;
    Ok(format!(
        "{}: no {ipv4}, no {ipv6} from {}",
        daemon.title(),
        server.name
    ))
}

/// Waits until a site's router has these prefixes by this AS path from the appliance in front of it
/// that is called so.
///
/// # Errors
/// It has not.
pub fn passed_on(
    router: &dyn Daemon,
    site: &Site,
    front: &str,
    prefixes: [IpNet; 2],
    as_path: &str,
) -> Result<String> {
    let mut seen = Vec::new();
    for (prefix, [from, _]) in prefixes.into_iter().zip(site.sessions(front)) {
        seen.push(learns(router, from, prefix, as_path, None)?);
    }
    Ok(seen.join("\n"))
}

/// Waits until a site's router has none of these prefixes from an appliance in front of it, its
/// sessions established.
///
/// # Errors
/// It has one.
pub fn not_passed_on(
    router: &dyn Daemon,
    site: &Site,
    front: &str,
    prefixes: [IpNet; 2],
) -> Result<String> {
    for (prefix, [from, _]) in prefixes.into_iter().zip(site.sessions(front)) {
        without(router, from, prefix)?;
    }
    let [ipv4, ipv6] = prefixes;
    Ok(format!(
        "{}: no {ipv4}, no {ipv6} from {front}",
        router.title()
    ))
}

/// Waits until a subnet's effective routes for these prefixes are learned ones, active by exactly these
/// next hops, and the kernel's maps hold them so.
///
/// # Errors
/// They are not.
pub fn effective(
    waypost: &Waypost,
    subnet: &Subnet,
    prefixes: [IpNet; 2],
    next_hops: &[[IpAddr; 2]],
) -> Result<String> {
    effective_from(waypost, subnet, "learned", prefixes, next_hops)
}

/// The same of routes from another source: `user_defined`, `system`.
///
/// # Errors
/// As [`effective`].
pub fn effective_from(
    waypost: &Waypost,
    subnet: &Subnet,
    source: &str,
    prefixes: [IpNet; 2],
    next_hops: &[[IpAddr; 2]],
) -> Result<String> {
    let mut seen = Vec::new();
    for (family, prefix) in prefixes.into_iter().enumerate() {
        let wanted: BTreeSet<String> = next_hops
            .iter()
            .map(|addresses| addresses[family].to_string())
            .collect();
        let expected = format!(
            "{source} {prefix} in {} active by {wanted:?}",
            subnet.path()
        );
        until(&expected, CONVERGENCE, || {
            let mut rows = rows(waypost, subnet, prefix)?;
            rows.retain(|row| row["state"] == "Active");
            let foreign = rows.iter().find(|row| row["source"] != source);
            ensure!(foreign.is_none(), "{rows:?}");
            let hops = rows.iter().filter_map(|row| row["next_hop"].as_str());
            let hops: BTreeSet<String> = hops.map(str::to_owned).collect();
            ensure!(hops == wanted, "{rows:?}");
            let held = held(waypost, subnet, source, prefix)?;
            ensure!(held.as_ref() == Some(&wanted), "the maps hold {held:?}");
            Ok(())
        })?;
        let words: Vec<String> = wanted.into_iter().collect();
        seen.push(format!(
            "{}: {prefix} by {}",
            subnet.path(),
            words.join(", ")
        ));
    }
    Ok(seen.join("\n"))
}

/// Addresses of the next hops to a prefix from this source in the kernel's tables of a subnet's ports.
fn held(
    waypost: &Waypost,
    subnet: &Subnet,
    source: &str,
    prefix: IpNet,
) -> Result<Option<BTreeSet<String>>> {
    let vnets = waypost.config().vnet.iter();
    let sections = vnets
        .filter(|vnet| vnet.name == subnet.network.name)
        .flat_map(|vnet| &vnet.subnet);
    let mut ports = sections
        .filter(|section| section.name == subnet.name)
        .flat_map(|section| &section.port);
    let port = ports.next();
    let port = port.with_context(|| format!("no port in {}", subnet.path()))?;
    let maps = kernel_maps::dump(waypost.host())?;
    let place = maps.ports.get(&port.interface);
    let place = place.with_context(|| format!("no {} in the maps", port.interface))?;
    let tables = [Some(&place.own_table), place.learned_table.as_ref()];
    let mut ways = tables.into_iter().flatten().filter_map(|table| {
        let way = maps.routes.get(&(table.clone(), prefix.to_string()));
        way.filter(|way| way.precedence == source)
    });
    // `via hub 10.1.10.4`.
    let address = |name: &String| name.rsplit(' ').next().unwrap_or_default().to_owned();
    Ok(ways
        .next()
        .map(|way| way.next_hops.keys().map(address).collect()))
}

/// Waits until no learned route for these prefixes is active in a subnet, which has its other routes,
/// and the kernel's maps hold none.
///
/// # Errors
/// One is.
pub fn no_learned(waypost: &Waypost, subnet: &Subnet, prefixes: [IpNet; 2]) -> Result<String> {
    for prefix in prefixes {
        let expected = format!("no learned {prefix} in {}", subnet.path());
        until(&expected, CONVERGENCE, || {
            let rows = waypost.rows(&format!("effective --subnet {}", subnet.path()))?;
            let active = |source: &str, prefix: Option<IpNet>| {
                rows.iter().any(|row| {
                    row["state"] == "Active"
                        && row["source"] == source
                        && prefix.is_none_or(|prefix| row["prefix"] == prefix.to_string())
                })
            };
            ensure!(active("system", None), "no routes at all: {rows:?}");
            ensure!(!active("learned", Some(prefix)), "{rows:?}");
            let held = held(waypost, subnet, "learned", prefix)?;
            ensure!(held.is_none(), "the maps hold {held:?}");
            Ok(())
        })?;
    }
    let [ipv4, ipv6] = prefixes;
    Ok(format!("{}: no learned {ipv4}, {ipv6}", subnet.path()))
}

/// Waits until a subnet, which has other routes, has no candidate of any source for these prefixes, and
/// the kernel's maps hold none.
///
/// # Errors
/// It has one.
pub fn no_route(waypost: &Waypost, subnet: &Subnet, prefixes: [IpNet; 2]) -> Result<String> {
    for prefix in prefixes {
        let expected = format!("no {prefix} in {}", subnet.path());
        until(&expected, CONVERGENCE, || {
            let all = waypost.rows(&format!("effective --subnet {}", subnet.path()))?;
            ensure!(!all.is_empty(), "no routes at all");
            let rows = rows(waypost, subnet, prefix)?;
            ensure!(rows.is_empty(), "{rows:?}");
            for source in ["system", "learned", "user_defined"] {
                let held = held(waypost, subnet, source, prefix)?;
                ensure!(held.is_none(), "the maps hold {held:?}");
            }
            Ok(())
        })?;
    }
    let [ipv4, ipv6] = prefixes;
    Ok(format!("{}: no {ipv4}, no {ipv6}", subnet.path()))
}

/// Waits until a subnet shows a candidate from this source for these prefixes as invalid, and tells the
/// reasons, each of which has this word.
///
/// # Errors
/// It does not.
pub fn invalid(
    waypost: &Waypost,
    subnet: &Subnet,
    prefixes: [IpNet; 2],
    source: &str,
    word: &str,
) -> Result<String> {
    let mut seen = Vec::new();
    for prefix in prefixes {
        let expected = format!("{source} {prefix} in {} invalid: {word}", subnet.path());
        let reason = until(&expected, CONVERGENCE, || {
            let rows = rows(waypost, subnet, prefix)?;
            let mut wanted = rows.iter().filter(|row| row["source"] == source);
            let row = wanted.find(|row| {
                let reason = row["reason"].as_str().unwrap_or_default();
                row["state"] == "Invalid" && reason.contains(word)
            });
            let row = row.with_context(|| format!("{rows:?}"))?;
            Ok(row["reason"].as_str().unwrap_or_default().to_owned())
        })?;
        seen.push(format!("{}: {prefix} Invalid: {reason}", subnet.path()));
    }
    Ok(seen.join("\n"))
}

/// Waits until every path to these prefixes from a peer is rejected for a reason with this word, and
/// tells the reasons.
///
/// # Errors
/// One is not, or there is none.
pub fn rejected(
    waypost: &Waypost,
    server: &RouteServer,
    peer: &str,
    prefixes: [IpNet; 2],
    word: &str,
) -> Result<String> {
    let mut seen = BTreeSet::new();
    for prefix in prefixes {
        let expected = format!("{prefix} from {peer} rejected by {}: {word}", server.name);
        let rows = until(&expected, CONVERGENCE, || {
            let mut rows = waypost.rows("learned")?;
            rows.retain(|row| {
                row["route_server"] == server.name.as_str()
                    && row["peer"] == peer
                    && row["prefix"] == prefix.to_string()
            });
            let refused = |row: &Value| {
                let reason = row["reason"].as_str().unwrap_or_default();
                row["state"] == "rejected" && reason.contains(word)
            };
            ensure!(!rows.is_empty() && rows.iter().all(refused), "{rows:?}");
            Ok(rows)
        })?;
        for row in rows {
            let reason = row["reason"].as_str().unwrap_or_default();
            seen.insert(format!("{prefix} from {peer} rejected: {reason}"));
        }
    }
    Ok(seen.into_iter().collect::<Vec<_>>().join("\n"))
}

/// Where `waypost explain` says that packets to an address leave, by name of the port. Who stands by is
/// not among them.
///
/// # Errors
/// It fails.
pub fn ports(waypost: &Waypost, subnet: &Subnet, to: IpAddr) -> Result<BTreeSet<String>> {
    let answer = waypost.explain(&format!("--subnet {} --to {to}", subnet.path()))?;
    let hops = answer["next_hops"].as_array().into_iter().flatten();
    let shares = &answer["group"]["shares"];
    Ok(hops
        .filter(|hop| {
            let name = hop["name"].as_str().unwrap_or_default();
            shares[name].as_u64() > Some(0)
        })
        .filter_map(|hop| hop["port"].as_str().map(str::to_owned))
        .collect())
}

/// Demands that `waypost explain` names these ports for an address of each family.
///
/// # Errors
/// It names others.
pub fn explained(
    waypost: &Waypost,
    subnet: &Subnet,
    to: [IpAddr; 2],
    wanted: &[&str],
) -> Result<String> {
    for to in to {
        let expected = format!("explain sends {to} from {} to {wanted:?}", subnet.path());
        until(&expected, CONVERGENCE, || {
            let ports = ports(waypost, subnet, to)?;
            ensure!(ports.iter().eq(wanted), "{ports:?}");
            Ok(())
        })?;
    }
    Ok(format!(
        "explain --subnet {}: by {}",
        subnet.path(),
        wanted.join(", ")
    ))
}

fn rows(waypost: &Waypost, subnet: &Subnet, prefix: IpNet) -> Result<Vec<Value>> {
    let mut rows = waypost.rows(&format!("effective --subnet {}", subnet.path()))?;
    rows.retain(|row| row["prefix"] == prefix.to_string());
    Ok(rows)
}
