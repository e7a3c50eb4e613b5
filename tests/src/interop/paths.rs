//! Several paths a prefix both ways (RFC 7911), and IPv4 routes over IPv6 next hops (RFC 8950).

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{
    matrix::{Feature, Matrix},
    plain::capabilities,
    stage::{BEHIND_ASNS, Case, FEED_ASN, ORIGIN_ASN, PATIENCE, Setting, Stage, Subject},
};
use crate::{
    daemon::{
        Options,
        feed::Announcement,
        words::{self, add_path},
    },
    lab::wait::until,
    waypost::Waypost,
};

/// Announced by the feed and by all daemons.
const SHARED: &str = "10.210.0.0/16";

/// Daemons that offer ADD-PATH both ways.
///
/// # Errors
/// The act cannot be played; what fails in it is in the matrix.
pub fn play_add_path<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            add_path_send: true,
            add_path_receive: true,
            ..Options::default()
        },
        peer: vec![
            ("add_path_receive", true.into()),
            ("add_path_send", 8.into()),
        ],
        feature: Some(Feature::AddPathReceived),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        let shared = Announcement::new(
            SHARED.parse()?,
            "10.1.10.4".parse()?,
            &[FEED_ASN, ORIGIN_ASN],
        );
        act.stage.feed.announce(&shared)?;
        act.proves(Feature::AddPathReceived, |case, waypost| {
            agreed(case, waypost, "send")?;
            received(case, waypost)
        });
        act.every(|case, _| {
            let path = [BEHIND_ASNS[0], ORIGIN_ASN];
            let route = Announcement::new(SHARED.parse()?, case.gateway(true), &path);
            case.announce(&route)
        });
        let others = act.cases.len() - 1;
        act.proves(Feature::AddPathSent, |case, waypost| {
            agreed(case, waypost, "receive")?;
            sent(case, others)
        });
        Ok(())
    })
}

/// Both sides say that the daemon goes this way, in both families.
fn agreed(case: &mut Case, waypost: &Waypost, way: &str) -> Result<()> {
    let instance = case.instance(0)?;
    let theirs = case.daemon()?.capabilities(instance)?;
    let ours = capabilities(case, waypost)?;
    let opposite = if way == "send" { "receive" } else { "send" };
    for ipv4 in [true, false] {
        ensure!(
            theirs.contains(&add_path(way, ipv4)),
            "the daemon says {theirs:?}"
        );
        ensure!(
            ours.contains(&add_path(opposite, ipv4)),
            "Waypost says {ours:?}"
        );
    }
    Ok(())
}

/// Two speakers behind the daemon have a path each; then only one.
fn received(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let prefix = case.prefix(7, true)?;
    let mut expected = BTreeSet::new();
    for (number, asn) in (1..).zip(BEHIND_ASNS) {
        let mut route = Announcement::new(prefix, case.gateway(true), &[asn, ORIGIN_ASN]);
        route.path_id = Some(number);
        if !case.daemon()?.originate(&route)? {
            case.behind(usize::from(number) - 1)?.announce(&route)?;
        }
        expected.insert(format!("{} {asn} {ORIGIN_ASN}", case.speaker.asn));
    }
    until("Waypost has both paths", PATIENCE, || {
        let rows = case.paths(waypost, prefix)?;
        let text = |key: &str| {
            rows.iter()
                .map(|row| row[key].to_string())
                .collect::<BTreeSet<_>>()
        };
        let paths: BTreeSet<String> = text("as_path")
            .iter()
            .map(|path| path.trim_matches('"').to_owned())
            .collect();
        ensure!(paths == expected, "{rows:?}, not {expected:?}");
        let ids = text("path_id");
        ensure!(
            ids.len() == 2 && !ids.contains("null"),
            "path identifiers {ids:?}"
        );
        Ok(())
    })
}

/// The feed's path and those of the other daemons.
fn sent(case: &mut Case, others: usize) -> Result<()> {
    let instance = case.instance(0)?;
    let daemon = case.daemon()?;
    let expected = format!("{} has {} paths to {SHARED}", daemon.title(), others + 1);
    until(&expected, PATIENCE, || {
        let mut routes = daemon.received(instance)?;
        routes.retain(|route| route.prefix.to_string() == SHARED);
        let paths: BTreeSet<&str> = routes.iter().map(|route| route.as_path.as_str()).collect();
        ensure!(paths.len() == others + 1, "{paths:?}");
        Ok(())
    })
}

/// Daemons over IPv6 whose IPv4 routes have IPv6 next hops.
///
/// # Errors
/// As [`play_add_path`].
pub fn play_ipv6_next_hop<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            ipv6_next_hop: true,
            ..Options::default()
        },
        peer: Vec::new(),
        feature: Some(Feature::Ipv6NextHop),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        let known: Vec<(usize, String, String)> = act
            .cases
            .iter()
            .map(|case| {
                let prefix = case.prefix(1, true)?.to_string();
                Ok((case.number, prefix, case.nva.vm.addresses[1].to_string()))
            })
            .collect::<Result<_>>()?;
        act.every(|case, _| {
            let prefix = case.prefix(1, true)?;
            case.daemon()?.announce(prefix)
        });
        act.proves(Feature::Ipv6NextHop, |case, waypost| {
            let instance = case.instance(0)?;
            let theirs = case.daemon()?.capabilities(instance)?;
            ensure!(
                theirs.contains(words::IPV6_NEXT_HOP),
                "the daemon says {theirs:?}"
            );
            let ours = capabilities(case, waypost)?;
            ensure!(ours.contains(words::IPV6_NEXT_HOP), "Waypost says {ours:?}");
            let own = case.nva.vm.addresses[1].to_string();
            case.learned(waypost, case.prefix(1, true)?, |row| {
                ensure!(row["next_hop"] == own, "{row}");
                ensure!(row["state"] != "rejected", "{row}");
                Ok(())
            })?;
            for (number, prefix, next_hop) in &known {
                if *number != case.number {
                    case.hears(prefix.parse()?, |route| {
                        ensure!(route.next_hop.to_string() == *next_hop, "not {next_hop}");
                        Ok(())
                    })?;
                }
            }
            Ok(())
        });
        Ok(())
    })
}
