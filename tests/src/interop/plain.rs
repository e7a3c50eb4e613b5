//! What needs no configuration: capabilities, routes, communities, large messages, route refresh,
//! graceful shutdown, shutdown texts, restarts; and speakers without 4-octet ASNs.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    matrix::{Feature, Matrix},
    stage::{Act, BEHIND_ASNS, Case, FEED_ASN, ORIGIN_ASN, PATIENCE, Setting, Stage, Subject},
};
use crate::{
    daemon::{Daemon, Options, Route, feed::Announcement, words},
    lab::wait::until,
    overview::{NETWORK, ROUTE_SERVER_ASN},
    waypost::Waypost,
};

/// What the feed announces: prefix and next hop of both families.
const FED: [[&str; 2]; 2] = [
    ["10.200.0.0/16", "10.1.10.4"],
    ["fd00:200::/48", "fd00:1:0:a::4"],
];
/// A route of more than 4096 bytes of communities, from the feed.
const LARGE: &str = "10.201.0.0/16";
/// The text that a session is closed with.
const TEXT: &str = "maintenance until noon: ask +49 30 0000";

/// Daemons with 4-octet ASNs and everything else as they come.
///
/// # Errors
/// The act cannot be played; what fails in it is in the matrix.
pub fn play<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 4_200_000_011,
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        feed(act.stage)?;
        act.proves(Feature::Capabilities, |case, waypost| {
            same_capabilities(case, waypost, &expected(S::CAPABILITIES))
        });
        act.proves(Feature::Routes, routes);
        act.proves(Feature::FourOctetAsn, |case, waypost| {
            four_octet_asns(case, waypost, true)
        });
        for (feature, kind) in [
            (Feature::Communities, Kind::Standard),
            (Feature::ExtendedCommunities, Kind::Extended),
            (Feature::LargeCommunities, Kind::Large),
        ] {
            act.proves(feature, |case, waypost| communities(case, waypost, kind));
        }
        act.proves(Feature::ExtendedMessageSent, large_message_sent);
        act.proves(Feature::ExtendedMessageReceived, large_message_received);
        act.proves(Feature::RefreshByDaemon, refresh_by_daemon);
        act.proves(Feature::EnhancedRefresh, marked_refresh);
        graceful_shutdown(act)?;
        act.proves(Feature::ShutdownByDaemon, shutdown_by_daemon);
        act.proves(Feature::ShutdownByWaypost, shutdown_by_waypost);
        refresh_by_waypost(act)?;
        restarts(act)
    })
}

/// Daemons that do not announce 4-octet ASNs.
///
/// # Errors
/// As [`play`].
pub fn play_two_octet<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            two_octet_asn: true,
            ..Options::default()
        },
        feature: Some(Feature::TwoOctetAsn),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        act.proves(Feature::TwoOctetAsn, |case, waypost| {
            let instance = case.instance(0)?;
            let theirs = case.daemon()?.capabilities(instance)?;
            let without = |words: &BTreeSet<String>| !words.contains(words::FOUR_OCTET_ASN);
            ensure!(without(&theirs), "the daemon says {theirs:?}");
            let ours = capabilities(case, waypost)?;
            ensure!(without(&ours), "Waypost says {ours:?}");
            four_octet_asns(case, waypost, S::READS_AS4_PATH)
        });
        Ok(())
    })
}

fn expected(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Waypost's word for a session's capabilities.
///
/// # Errors
/// It does not answer.
pub fn capabilities(case: &Case, waypost: &Waypost) -> Result<BTreeSet<String>> {
    let what = format!("peer {} --instance 1", case.name());
    let detail = waypost.show(&what)?;
    let detail = detail.get(0).unwrap_or(&detail);
    let terms = &detail["terms"];
    let names = [
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::ENHANCED_ROUTE_REFRESH,
        words::EXTENDED_MESSAGE,
        words::GRACEFUL_RESTART,
        words::LONG_LIVED,
        words::ROLE,
    ];
    // A role, an ASN, a time may follow.
    let says = |side: &str, word: &str| {
        let list = terms[side].as_array().into_iter().flatten();
        let mut texts = list.filter_map(Value::as_str);
        texts.any(|text| text.starts_with(word))
    };
    let both = |word: &str| says("local_capabilities", word) && says("peer_capabilities", word);
    let named = names.into_iter().filter(|word| both(word));
    let mut agreed: BTreeSet<String> = named.map(str::to_owned).collect();
    if both("extended next hop") {
        agreed.insert(words::IPV6_NEXT_HOP.to_owned());
    }
    for way in ["receive", "send"] {
        let families = terms[format!("add_path_{way}")].as_array();
        let families = families.into_iter().flatten().filter_map(Value::as_str);
        agreed.extend(families.map(|family| words::add_path(way, family.starts_with("ipv4"))));
    }
    ensure!(!terms.is_null(), "no terms in {detail}");
    Ok(agreed)
}

/// Both sides tell these capabilities; ways of ADD-PATH as the daemon sees them.
///
/// # Errors
/// They do not.
pub fn same_capabilities(
    case: &mut Case,
    waypost: &Waypost,
    expected: &BTreeSet<String>,
) -> Result<()> {
    let instance = case.instance(0)?;
    let theirs = case.daemon()?.capabilities(instance)?;
    ensure!(theirs == *expected, "the daemon says {theirs:?}");
    let mirrored: BTreeSet<String> = capabilities(case, waypost)?
        .iter()
        .map(|word| match word.split_once(" receive ") {
            Some((what, family)) => format!("{what} send {family}"),
            None => word.replace(" send ", " receive "),
        })
        .collect();
    ensure!(mirrored == *expected, "Waypost says {mirrored:?}");
    Ok(())
}

/// All that the feed announces: both families with communities of all kinds; one large route.
fn feed(stage: &mut Stage) -> Result<()> {
    for announcement in fed()? {
        stage.feed.announce(&announcement)?;
    }
    stage.feed.announce(&large_route()?)
}

fn fed() -> Result<Vec<Announcement>> {
    let mut routes = Vec::new();
    for [prefix, next_hop] in FED {
        let path = [FEED_ASN, ORIGIN_ASN];
        let mut route = Announcement::new(prefix.parse()?, next_hop.parse()?, &path);
        tag(&mut route, ORIGIN_ASN);
        routes.push(route);
    }
    Ok(routes)
}

/// A few communities of each kind.
fn tag(route: &mut Announcement, asn: u32) {
    route.communities = vec![asn << 16 | 100, asn << 16 | 65535];
    route.large = vec![[4_200_000_099, 1, u32::MAX]];
    // A route target.
    route.extended = vec![0x0002_0000_0000_0000 | u64::from(asn) << 32 | 300];
}

fn large_route() -> Result<Announcement> {
    let path = [FEED_ASN, ORIGIN_ASN];
    let mut route = Announcement::new(LARGE.parse()?, FED[0][1].parse()?, &path);
    route.communities = many_communities();
    Ok(route)
}

/// 1,100 communities: 4,400 bytes.
fn many_communities() -> Vec<u32> {
    (1..=1100).map(|number| ORIGIN_ASN << 16 | number).collect()
}

fn routes(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let family = usize::from(case.number > 1);
    for (prefix, addresses) in NETWORK.into_iter().zip(crate::overview::INSTANCES[0]) {
        case.hears(prefix.parse()?, |route| {
            ensure!(route.as_path == ROUTE_SERVER_ASN.to_string(), "AS path");
            ensure!(route.next_hop.to_string() == addresses, "next hop");
            Ok(())
        })
        .with_context(|| format!("family {family}"))?;
    }
    for announcement in fed()? {
        case.hears(announcement.prefix, |route| {
            ensure!(route.next_hop == announcement.next_hop, "next hop");
            Ok(())
        })?;
    }
    for round in [1, 2] {
        for ipv4 in [true, false] {
            let prefix = case.prefix(1, ipv4)?;
            case.daemon()?.announce(prefix)?;
            let own = case.nva.vm.addresses[usize::from(!ipv4)];
            let asn = case.speaker.asn.to_string();
            case.learned(waypost, prefix, |row| {
                ensure!(row["next_hop"] == own.to_string(), "{row}");
                ensure!(row["as_path"] == asn, "{row}");
                ensure!(row["state"] == "best", "{row}");
                Ok(())
            })?;
            if round == 1 {
                case.daemon()?.withdraw(prefix)?;
                case.forgotten(waypost, prefix)?;
            }
        }
    }
    Ok(())
}

fn four_octet_asns(case: &mut Case, waypost: &Waypost, whole: bool) -> Result<()> {
    const AS_TRANS: u32 = 23456;
    let first = if whole { FEED_ASN } else { AS_TRANS };
    let expected = format!("{ROUTE_SERVER_ASN} {first} {ORIGIN_ASN}");
    // Without any capability a session has IPv4 alone.
    let families = if whole { 2 } else { 1 };
    for announcement in fed()?.into_iter().take(families) {
        case.hears(announcement.prefix, |route| {
            ensure!(route.as_path == expected, "AS path is not {expected}");
            Ok(())
        })?;
    }
    let route = own_route(case, 2)?;
    case.announce(&route)?;
    let expected = format!("{} {} {ORIGIN_ASN}", case.speaker.asn, BEHIND_ASNS[0]);
    case.learned(waypost, route.prefix, |row| {
        ensure!(
            row["as_path"] == expected,
            "AS path is not {expected}: {row}"
        );
        Ok(())
    })
}

/// An IPv4 route that comes through the daemon.
fn own_route(case: &Case, number: u8) -> Result<Announcement> {
    let path = [BEHIND_ASNS[0], ORIGIN_ASN];
    let prefix = case.prefix(number, true)?;
    Ok(Announcement::new(prefix, case.gateway(true), &path))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standard,
    Extended,
    Large,
}

impl Kind {
    fn of(self, word: &str) -> bool {
        let (large, extended) = (word.starts_with("large:"), word.starts_with("ext:"));
        match self {
            Self::Standard => !large && !extended,
            Self::Extended => extended,
            Self::Large => large,
        }
    }

    fn only(self, words: &BTreeSet<String>) -> BTreeSet<String> {
        words.iter().filter(|word| self.of(word)).cloned().collect()
    }
}

fn communities(case: &mut Case, waypost: &Waypost, kind: Kind) -> Result<()> {
    for announcement in fed()? {
        let expected = kind.only(&announcement.words());
        case.hears(announcement.prefix, |route: &Route| {
            ensure!(
                kind.only(&route.communities) == expected,
                "not {expected:?}"
            );
            Ok(())
        })?;
    }
    let mut route = own_route(case, 3)?;
    tag(&mut route, 65033);
    case.announce(&route)?;
    let expected = kind.only(&route.words());
    case.learned(waypost, route.prefix, |row| {
        let known = kind.only(&communities_of(row));
        ensure!(known == expected, "{known:?}, not {expected:?}");
        Ok(())
    })
}

/// Of a row of `show learned`.
fn communities_of(row: &Value) -> BTreeSet<String> {
    let words = row["communities"].as_array().into_iter().flatten();
    words
        .filter_map(Value::as_str)
        .map(words::standard)
        .collect()
}

fn large_message_sent(case: &mut Case, _: &Waypost) -> Result<()> {
    let instance = case.instance(0)?;
    let expected = large_route()?.words();
    let daemon = case.daemon()?;
    until("the daemon has all 1,100 communities", PATIENCE, || {
        let whole = daemon.has_communities(instance, LARGE.parse()?, &expected)?;
        ensure!(whole, "not all of them");
        Ok(())
    })
}

fn large_message_received(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let mut route = own_route(case, 4)?;
    route.communities = many_communities();
    case.announce(&route)?;
    let expected = route.words();
    case.learned(waypost, route.prefix, |row| {
        let known = communities_of(row);
        ensure!(known == expected, "{} communities", known.len());
        Ok(())
    })
}

/// The daemon asks; Waypost sends all routes once more, by both sides' counts.
fn refresh_by_daemon(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let sent = |case: &Case| -> Result<u64> {
        let rows = case.rows(waypost)?;
        rows[0]["messages_sent"]
            .as_u64()
            .context("no messages_sent")
    };
    // Waypost reports its counters once a second.
    let mut before = sent(case)?;
    until("Waypost has nothing left to send", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(1200));
        let now = sent(case)?;
        let quiet = std::mem::replace(&mut before, now) == now;
        ensure!(quiet, "it sends");
        Ok(())
    })?;
    let instance = case.instance(0)?;
    case.daemon()?.refresh(instance)?;
    // Routes of both families have different attributes: at least four UPDATEs.
    until("Waypost sends all routes again", PATIENCE, || {
        let after = sent(case)?;
        ensure!(after >= before + 4, "{before} messages, then {after}");
        Ok(())
    })?;
    routes_stay(case)
}

/// The daemon asks for both families; by its counters or its log each comes between two markers.
fn marked_refresh(case: &mut Case, _: &Waypost) -> Result<()> {
    let instance = case.instance(0)?;
    let daemon = case.daemon()?;
    let markers = |daemon: &dyn Daemon| daemon.markers(instance)?.context("it tells of no markers");
    let [begun, ended] = markers(daemon)?;
    daemon.refresh(instance)?;
    until("the daemon has both families' markers", PATIENCE, || {
        let now = markers(daemon)?;
        ensure!(
            now == [begun + 2, ended + 2],
            "[{begun}, {ended}], then {now:?}"
        );
        Ok(())
    })?;
    routes_stay(case)
}

fn routes_stay(case: &mut Case) -> Result<()> {
    for announcement in fed()? {
        case.hears(announcement.prefix, |_| Ok(()))?;
    }
    Ok(())
}

/// Two paths: the daemon's is shorter, but being shut down.
fn graceful_shutdown(act: &mut Act<'_>) -> Result<()> {
    const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
    const NO_EXPORT: u32 = 0xffff_ff01;
    let mut path = vec![FEED_ASN];
    path.extend([ORIGIN_ASN; 8]);
    for case in &act.cases {
        // The daemon is not to learn the other path: it might prefer it and withdraw its own.
        let next_hop = FED[0][1].parse()?;
        let mut longer = Announcement::new(case.prefix(5, true)?, next_hop, &path);
        longer.communities = vec![NO_EXPORT];
        act.stage.feed.announce(&longer)?;
        let mut leaving = Announcement::new(case.prefix(6, true)?, next_hop, &path);
        leaving.communities = vec![GRACEFUL_SHUTDOWN];
        act.stage.feed.announce(&leaving)?;
    }
    act.proves(Feature::GracefulShutdown, |case, waypost| {
        let mut route = own_route(case, 5)?;
        case.announce(&route)?;
        case.learned(waypost, route.prefix, |row| {
            ensure!(row["state"] == "best", "{row}");
            Ok(())
        })?;
        route.communities = vec![GRACEFUL_SHUTDOWN];
        case.announce(&route)?;
        case.learned(waypost, route.prefix, |row| {
            ensure!(row["state"] == "lost", "{row}");
            ensure!(
                row["reason"].to_string().contains("GRACEFUL_SHUTDOWN"),
                "{row}"
            );
            Ok(())
        })?;
        case.hears(case.prefix(6, true)?, |route| {
            let word = words::standard_of(GRACEFUL_SHUTDOWN);
            ensure!(route.communities.contains(&word), "no {word}");
            Ok(())
        })
    });
    Ok(())
}

fn shutdown_by_daemon(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let instance = case.instance(0)?;
    let text = case.daemon()?.shut(instance, TEXT)?;
    case.waypost_says(waypost, &text)?;
    case.daemon()?.unshut(instance)?;
    case.established(waypost)
}

fn shutdown_by_waypost(case: &mut Case, waypost: &Waypost) -> Result<()> {
    const TEXT: &str = "maintenance-until-noon:ask-4711";
    let (name, instance) = (case.name(), case.instance(0)?);
    waypost.ask(&format!("peer shutdown {name} {TEXT}"))?;
    case.daemon_says(TEXT)?;
    let sessions = case.daemon()?.sessions()?;
    let state = sessions.get(&instance);
    ensure!(
        state.is_none_or(|state| state != "established"),
        "{sessions:?}"
    );
    waypost.ask(&format!("peer start {name}"))?;
    case.established(waypost)
}

/// Waypost refuses what is beyond a limit, and asks for it when the limit is raised.
fn refresh_by_waypost(act: &mut Act<'_>) -> Result<()> {
    act.every(|case, waypost| {
        for number in [2, 8, 9] {
            let route = own_route(case, number)?;
            case.announce(&route)?;
            case.learned(waypost, route.prefix, |_| Ok(()))?;
        }
        Ok(())
    });
    act.reload(&[
        ("max_prefixes", 1.into()),
        ("limit_action", "discard".into()),
    ])?;
    let limited: Vec<Result<()>> = act
        .cases
        .iter()
        .map(|case| {
            let expected = format!("Waypost refuses routes of {}", case.name());
            until(&expected, PATIENCE, || {
                let rows = case.rows(&act.stage.waypost)?;
                ensure!(
                    rows[0]["warnings"].to_string().contains("refused"),
                    "{rows:?}"
                );
                Ok(())
            })
        })
        .collect();
    act.every(|case, _| {
        let instance = case.instance(0)?;
        case.refreshes = case.daemon()?.refreshes(instance)?;
        Ok(())
    });
    act.reload(&[])?;
    act.proves(Feature::RefreshByWaypost, |case, waypost| {
        let (instance, before) = (case.instance(0)?, case.refreshes);
        for number in [2, 8, 9] {
            case.learned(waypost, case.prefix(number, true)?, |_| Ok(()))?;
        }
        let daemon = case.daemon()?;
        until("the daemon has been asked", PATIENCE, || {
            let now = daemon.refreshes(instance)?;
            ensure!(now > before, "{before} requests, then {now}");
            Ok(())
        })
    });
    limited.into_iter().collect()
}

fn restarts(act: &mut Act<'_>) -> Result<()> {
    act.proves(Feature::RestartOfDaemon, |case, waypost| {
        let prefix = case.prefix(1, true)?;
        case.kill()?;
        case.forgotten(waypost, prefix)?;
        case.speaker.announce = vec![prefix];
        case.start(waypost)?;
        case.learned(waypost, prefix, |_| Ok(()))?;
        routes_stay(case)
    });
    act.stage.waypost.process().stop(PATIENCE)?;
    act.every(|case, _| {
        let instance = case.instance(0)?;
        let daemon = case.daemon()?;
        until("the daemon sees the session down", PATIENCE, || {
            let sessions = daemon.sessions()?;
            let state = sessions.get(&instance);
            ensure!(
                state.is_none_or(|state| state != "established"),
                "{sessions:?}"
            );
            Ok(())
        })
    });
    act.stage.waypost.start_again()?;
    act.stage.feed_again()?;
    feed(act.stage)?;
    act.proves(Feature::RestartOfWaypost, |case, waypost| {
        case.established(waypost)?;
        case.learned(waypost, case.prefix(1, true)?, |_| Ok(()))?;
        routes_stay(case)
    });
    Ok(())
}
