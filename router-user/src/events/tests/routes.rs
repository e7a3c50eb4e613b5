//! Which changes of routes are told, and how.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::{
    super::routes::{CHANGES_A_SECOND, Cause, RouteEvents, Way},
    Place, all, texts,
};
use crate::{
    config::Propagate,
    names::RouteServerName,
    rib::{LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId},
    route_server::{LearnedUse, Report},
};

#[tokio::test]
async fn a_changed_route_tells_its_next_hops_before_and_after() {
    let place = Place::new();
    let events = place.start(1 << 20);
    let mut routes = RouteEvents::new(events.clone());
    let now = Instant::now();
    let mut note = |change: LearnedChange, fib: Option<&str>| {
        let before = |_, _: &IpNet| fib.map(|address| Way::to([address.parse().unwrap()]));
        let reports = [Report::Changes(vec![change])];
        routes.note(&"rs1".into(), &reports, &cause(), before, now);
    };
    note(learned(0, "10.250.0.0/16", &["10.1.10.4"]), None);
    // Before the FIB is told: what was noted last counts.
    note(learned(0, "10.250.0.0/16", &["10.1.20.4"]), None);
    // The same next hops, in another order of things.
    note(learned(0, "10.250.0.0/16", &["10.1.20.4"]), None);
    note(withdrawn(0, "10.250.0.0/16"), None);
    note(withdrawn(0, "10.9.0.0/16"), Some("10.1.10.9"));
    events.end().await;
    let told = texts(&place).await;
    assert_eq!(
        told,
        [
            "rs1: 10.250.0.0/16 learned to 10.1.10.4",
            "rs1: 10.250.0.0/16 changed from 10.1.10.4 to 10.1.20.4",
            "rs1: 10.250.0.0/16 withdrawn from 10.1.20.4",
            "rs1: 10.9.0.0/16 withdrawn from 10.1.10.9",
        ]
    );
}

#[tokio::test]
async fn next_hops_in_another_order_are_no_change_and_another_reason_to_drop_packets_is_one() {
    let place = Place::new();
    let events = place.start(1 << 20);
    let mut routes = RouteEvents::new(events.clone());
    let mut note = |change: LearnedChange, before: Way| {
        let reports = [Report::Changes(vec![change])];
        let before = |_, _: &IpNet| Some(before.clone());
        routes.note(&"rs1".into(), &reports, &cause(), before, Instant::now());
        routes.settled();
    };
    let addresses = ["10.1.10.4", "10.1.20.4"].map(|text| text.parse::<IpAddr>().unwrap());
    let both = learned(0, "10.1.0.0/16", &["10.1.10.4", "10.1.20.4"]);
    note(both, Way::to(addresses.into_iter().rev()));
    let mut blackhole = learned(0, "10.2.0.0/16", &[]);
    blackhole.route.as_mut().unwrap().blackhole = true;
    note(blackhole.clone(), Way::to([]));
    note(blackhole, Way::blackhole());
    note(learned(0, "10.3.0.0/16", &[]), Way::blackhole());
    note(learned(0, "10.3.0.0/16", &[]), Way::to([]));
    events.end().await;
    let told: Vec<_> = all(&place).await.iter().map(ToString::to_string).collect();
    let told: Vec<_> = told
        .iter()
        .map(|line| line.split_once("rs1: ").unwrap().1)
        .collect();
    assert_eq!(
        told,
        [
            "10.2.0.0/16 changed: UPDATE of rs1/1 sdwan; packets are dropped: its best path carries \
             BLACKHOLE",
            "10.3.0.0/16 changed: UPDATE of rs1/1 sdwan; packets are dropped: no next hop of it can \
             be resolved",
        ]
    );
}

#[tokio::test]
async fn a_whole_table_is_summed_up_by_cause_and_the_next_second_begins_anew() {
    let place = Place::new();
    let events = place.start(1 << 20);
    let mut routes = RouteEvents::new(events.clone());
    let start = Instant::now();
    let table = |count: u32| {
        let changes = (0..count).map(|n| {
            let prefix = format!("10.{}.{}.0/24", n / 256, n % 256);
            learned(0, &prefix, &["10.1.10.4"])
        });
        [Report::Changes(changes.collect())]
    };
    let none = |_, _: &IpNet| None;
    routes.note(&"rs1".into(), &table(10_000), &cause(), none, start);
    let others = [Report::Changes(vec![withdrawn(0, "10.9.0.0/16")])];
    let other = Cause {
        text: "session rs1/1 fw down".to_owned(),
        peers: vec!["fw".into()],
    };
    routes.note(&"rs1".into(), &others, &other, none, start);
    routes.settled();
    assert_eq!(routes.period_ends(), Some(start + Duration::from_secs(1)));
    routes.end_period(start + Duration::from_millis(999));
    routes.end_period(start + Duration::from_secs(1));
    assert_eq!(routes.period_ends(), None);
    let later = start + Duration::from_secs(2);
    routes.note(&"rs1".into(), &others, &other, none, later);
    events.end().await;
    let told = texts(&place).await;
    let (single, rest) = told.split_at(CHANGES_A_SECOND);
    assert!(single.iter().all(|line| line.contains(" learned to ")));
    assert_eq!(
        rest,
        [
            "rs1: 9800 more prefixes learned or changed, 0 withdrawn",
            "rs1: 0 more prefixes learned or changed, 1 withdrawn",
            "rs1: 10.9.0.0/16 withdrawn",
        ]
    );
}

#[tokio::test]
async fn of_several_views_the_oldest_that_stands_is_told() {
    let place = Place::new();
    let events = place.start(1 << 20);
    let mut routes = RouteEvents::new(events.clone());
    let name: RouteServerName = "rs1".into();
    let mut note = |reports: Vec<Report>| {
        routes.note(&name, &reports, &cause(), |_, _| None, Instant::now());
        routes.settled();
        routes.views(&name)
    };
    let views = note(vec![Report::Changes(vec![
        learned(1, "10.1.0.0/16", &["10.1.10.4"]),
        learned(2, "10.1.0.0/16", &[]),
    ])]);
    assert_eq!(views, 2);
    assert_eq!(note(vec![Report::Drop(LearnedViewId(1))]), 1);
    note(vec![Report::Changes(vec![learned(2, "10.2.0.0/16", &[])])]);
    events.end().await;
    assert_eq!(
        texts(&place).await,
        [
            "rs1: 10.1.0.0/16 learned to 10.1.10.4",
            "rs1: 10.2.0.0/16 learned"
        ]
    );
}

#[tokio::test]
async fn what_only_another_view_names_is_told_and_nothing_twice() {
    let place = Place::new();
    let events = place.start(1 << 20);
    let mut routes = RouteEvents::new(events.clone());
    let mut note = |reports: Vec<Report>| {
        routes.note(
            &"rs1".into(),
            &reports,
            &cause(),
            |_, _| None,
            Instant::now(),
        );
        routes.settled();
    };
    let of = LearnedUse {
        propagate: Propagate::ALL,
        gateway: None,
        reach: BTreeSet::new(),
        forwarding: true,
    };
    note(vec![Report::Changes(vec![learned(
        1,
        "10.1.0.0/16",
        &["10.1.10.4"],
    )])]);
    // A new view is told what stands.
    note(vec![
        Report::Changes(vec![learned(2, "10.1.0.0/16", &["10.1.10.4"])]),
        Report::Assign(of, LearnedViewId(2)),
    ]);
    note(vec![Report::Changes(vec![
        learned(1, "10.2.0.0/16", &["10.1.10.4"]),
        learned(2, "10.2.0.0/16", &["10.1.10.4"]),
        learned(2, "10.3.0.0/16", &["10.2.10.4"]),
    ])]);
    events.end().await;
    assert_eq!(
        texts(&place).await,
        [
            "rs1: 10.1.0.0/16 learned to 10.1.10.4",
            "rs1: 10.2.0.0/16 learned to 10.1.10.4",
            "rs1: 10.3.0.0/16 learned to 10.2.10.4",
        ]
    );
}

fn cause() -> Cause {
    Cause {
        text: "UPDATE of rs1/1 sdwan".to_owned(),
        peers: vec!["sdwan".into()],
    }
}

fn learned(view: u32, prefix: &str, members: &[&str]) -> LearnedChange {
    let members = members.iter().map(|address| LearnedNextHop {
        address: address.parse().unwrap(),
        weight: 1,
    });
    LearnedChange {
        view: LearnedViewId(view),
        prefix: prefix.parse().unwrap(),
        route: Some(LearnedRoute {
            members: members.collect(),
            backups: Arc::new([]),
            blackhole: false,
        }),
    }
}

fn withdrawn(view: u32, prefix: &str) -> LearnedChange {
    LearnedChange {
        view: LearnedViewId(view),
        prefix: prefix.parse().unwrap(),
        route: None,
    }
}
