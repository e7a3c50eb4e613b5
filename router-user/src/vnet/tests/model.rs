//! What people are told equals what the tables answer: for random networks, learned routes and
//! addresses, the active row of the longest prefix is what a naive walk of the emitted routes finds,
//! done as XDP does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use proptest::prelude::*;
use router_common::maps::{RouteEntry, precedence, route_flags};

use super::{assert_filled_before_use, config, hub, ip, net, selection};
use crate::{
    api::types::{EffectiveRow, LearnedRow},
    config::Config,
    fib::{Fib, NextHop, Precedence, Route, tests::kernel::Kernel},
    rib::{LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId},
    vnet::{
        ACTIVE, Vnets,
        effective::Subnet,
        own::{Hop, LearnedDefaults, OwnRow, select},
    },
};

#[derive(Clone, Debug)]
enum Step {
    Announce(IpNet, Vec<u8>),
    Withdraw(IpNet),
    Reconfigure(Box<Config>),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_active_row_is_what_the_tables_answer(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..6),
        addresses in prop::collection::vec(address(), 30),
    ) {
        let mut vnets = Vnets::new(&hub());
        let mut fib = Fib::new();
        let mut kernel = Kernel::default();
        let mut rib = BTreeMap::new();
        for batch in batches {
            for step in batch {
                apply(step, &mut vnets, &mut rib);
            }
            vnets.apply_to(&mut fib);
            let changes = fib.take_changes();
            kernel.apply_all(&changes);
            assert_filled_before_use(&changes, &kernel);

            let learned = paths(&rib);
            let all = vnets.all_routes(&"hub".into(), &"apps".into(), &learned);
            for address in &addresses {
                let port = &kernel.ports["vm1"];
                let own = longest(&kernel, Some(&port.own_table), *address);
                let of_table = longest(&kernel, port.learned_table.as_ref(), *address);
                let answer = weigh(own, of_table).map(|route| next_hops(&kernel, &route));

                let told = longest_active(&all, *address);
                prop_assert_eq!(Some(told.iter().map(|row| said(row)).collect()), answer);

                let explained = vnets.candidates(&"hub".into(), &"apps".into(), *address, &learned);
                let winner = &explained.rows[explained.winner.expect("there is a default route")];
                prop_assert_eq!(winner.prefix, told[0].prefix);
                prop_assert_eq!(explained.rows.iter().filter(|row| row.state == ACTIVE
                    && row.prefix == winner.prefix).count(), told.len());
            }
        }
    }

    #[test]
    fn with_user_defined_routes_too(
        own_space in prop::collection::vec(prefix(), 0..3),
        user_defined in prop::collection::vec(prefix(), 0..6),
        announced in prop::collection::btree_set(prefix(), 0..12),
        addresses in prop::collection::vec(address(), 50),
    ) {
        let text = |prefix: &IpNet| prefix.to_string();
        let rows: Vec<OwnRow> = own_space.iter().map(|prefix| selection::space(&text(prefix)))
            .chain(user_defined.iter().map(|prefix| selection::user_defined(&text(prefix))))
            .chain(["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"].map(selection::private))
            .chain(["0.0.0.0/0", "::/0"].map(|prefix| OwnRow {
                hop: Hop::None,
                role: crate::vnet::own::Role::Ordinary,
                ..selection::space(prefix)
            }))
            .collect();
        let mut defaults = LearnedDefaults::default();
        for prefix in &announced {
            defaults.note(prefix, true);
        }
        let own = select(rows, defaults);
        let rib = announced.iter().map(|prefix| (*prefix, vec![4])).collect();
        let subnet = Subnet {
            vnet: &"hub".into(),
            name: &"apps".into(),
            own: &own,
            route_server: Some(&"rs1".into()),
            unresolvable: None,
        };
        let told = subnet.rows(&paths(&rib), &crate::vnet::effective::Wanted::All);

        for address in addresses {
            let own = own.iter()
                .filter(|own| own.is_valid() && own.row.prefix.contains(&address))
                .max_by_key(|own| own.row.prefix.prefix_len())
                .map(|own| entry(&own.row.prefix, own.row.precedence, own.overriding));
            let learned = announced.iter()
                .filter(|prefix| prefix.contains(&address))
                .max_by_key(|prefix| prefix.prefix_len())
                .map(|prefix| entry(prefix, Precedence::Learned, false));
            let answer = match (own, learned) {
                (Some(own), Some(learned)) if !own.wins_over(&learned) => learned,
                (own, _) => own.expect("there is a default route"),
            };
            let row = longest_active(&told, address)[0];
            prop_assert_eq!(
                (row.prefix.prefix_len(), row.source.as_str()),
                (answer.prefix_len, match answer.precedence {
                    precedence::SYSTEM => "system",
                    precedence::LEARNED => "learned",
                    _ => "user_defined",
                }),
                "{}: {:?}", address, row
            );
        }
    }
}

fn apply(step: Step, vnets: &mut Vnets, rib: &mut BTreeMap<IpNet, Vec<u8>>) {
    let change = match step {
        Step::Reconfigure(config) => return vnets.reconfigure(&config),
        Step::Withdraw(prefix) => {
            rib.remove(&prefix);
            LearnedChange {
                view: LearnedViewId::default(),
                prefix,
                route: None,
            }
        }
        Step::Announce(prefix, members) => {
            rib.insert(prefix, members.clone());
            let member = |n: u8| LearnedNextHop {
                address: next_hop(n),
                weight: 1,
            };
            LearnedChange {
                view: LearnedViewId::default(),
                prefix,
                route: Some(LearnedRoute {
                    members: members.into_iter().map(member).collect(),
                    backups: Arc::new([]),
                    blackhole: false,
                }),
            }
        }
    };
    vnets.learned(&"rs1".into(), vec![change]);
}

/// The rows that `show learned` has for this RIB.
fn paths(rib: &BTreeMap<IpNet, Vec<u8>>) -> Vec<LearnedRow> {
    rib.iter()
        .flat_map(|(prefix, members)| {
            let states = ["best"].into_iter().chain(std::iter::repeat("multipath"));
            members.iter().zip(states).map(|(n, state)| {
                super::path(&prefix.to_string(), &next_hop(*n).to_string(), state)
            })
        })
        .collect()
}

/// The longest match of a table, by looking at every route.
fn longest(
    kernel: &Kernel,
    table: Option<&crate::names::TableName>,
    address: IpAddr,
) -> Option<(IpNet, Route)> {
    kernel
        .routes
        .iter()
        .filter(|((name, prefix), _)| Some(name) == table && prefix.contains(&address))
        .map(|((_, prefix), route)| (*prefix, *route))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
}

fn weigh(own: Option<(IpNet, Route)>, learned: Option<(IpNet, Route)>) -> Option<Route> {
    let (Some((own_prefix, own)), Some((learned_prefix, learned))) = (own, learned) else {
        return own.or(learned).map(|(_, route)| route);
    };
    let as_entry =
        |prefix: &IpNet, route: &Route| entry(prefix, route.precedence, route.overriding);
    let own_wins = as_entry(&own_prefix, &own).wins_over(&as_entry(&learned_prefix, &learned));
    Some(if own_wins { own } else { learned })
}

fn entry(prefix: &IpNet, source: Precedence, overriding: bool) -> RouteEntry {
    RouteEntry {
        group: 1,
        prefix_len: prefix.prefix_len(),
        precedence: match source {
            Precedence::System => precedence::SYSTEM,
            Precedence::Learned => precedence::LEARNED,
            Precedence::UserDefined => precedence::USER_DEFINED,
        },
        flags: if overriding {
            route_flags::OVERRIDING
        } else {
            0
        },
        reserved: 0,
    }
}

fn next_hops(kernel: &Kernel, route: &Route) -> BTreeSet<String> {
    kernel.groups[&route.group]
        .buckets
        .iter()
        .map(|bucket| match &bucket.primary {
            NextHop::Via { address, .. } => address.to_string(),
            other => other.to_string(),
        })
        .collect()
}

/// What a row says of the next hop, in the words of [`next_hops`].
fn said(row: &EffectiveRow) -> String {
    match (row.next_hop_type.as_str(), row.next_hop) {
        (_, Some(address)) => address.to_string(),
        ("VirtualNetwork", _) => "attached hub".into(),
        ("Internet", _) => "no uplink".into(),
        ("None", _) => "discard".into(),
        ("Host", _) => "host".into(),
        (other, _) => panic!("{other} without an address"),
    }
}

fn longest_active(rows: &[EffectiveRow], address: IpAddr) -> Vec<&EffectiveRow> {
    let covering = || {
        rows.iter()
            .filter(|row| row.state == ACTIVE && row.prefix.contains(&address))
    };
    let longest = covering().map(|row| row.prefix.prefix_len()).max();
    covering()
        .filter(|row| Some(row.prefix.prefix_len()) == longest)
        .collect()
}

fn next_hop(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 10, n).into()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prefix(), prop::collection::btree_set(4..8u8, 0..3))
            .prop_map(|(prefix, members)| Step::Announce(prefix, members.into_iter().collect())),
        4 => prefix().prop_map(Step::Withdraw),
        1 => any_config().prop_map(|config| Step::Reconfigure(Box::new(config))),
    ]
}

fn any_config() -> impl Strategy<Value = Config> {
    let prefixes = prop::sample::subsequence(
        vec![
            "10.1.0.0/16",
            "10.2.1.0/24",
            "100.64.0.0/9",
            "192.168.0.0/16",
            "fd00:1::/48",
        ],
        0..=5,
    );
    let uplink = prop::sample::subsequence(vec!["10.1.10.9", "fd00:1:0:a::9"], 0..=2);
    (prefixes, uplink).prop_map(|(prefixes, uplink)| {
        let mut vnets = hub().vnets;
        vnets[0].prefixes = prefixes.into_iter().map(net).collect();
        vnets[0].uplink = uplink.into_iter().map(ip).collect();
        config(vnets, hub().route_servers)
    })
}

/// Few bits that vary, so that prefixes nest and meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (
        prop::sample::select(vec![10u8, 100, 192, 8]),
        0..4u8,
        0..3u8,
        0..5u8,
    )
        .prop_map(|(a, b, c, d)| {
            let b = match a {
                100 => b + 64,
                192 => b + 167,
                _ => b,
            };
            IpAddr::from(Ipv4Addr::new(a, b, c, d))
        });
    let v6 = (
        prop::sample::select(vec![0xfd00u16, 0x2001]),
        0..3u16,
        0..3u16,
        0..3u16,
    )
        .prop_map(|(a, b, c, d)| IpAddr::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, d)));
    prop_oneof![3 => v4, 1 => v6]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let v4 = prop::sample::select(vec![0u8, 8, 10, 15, 16, 23, 24, 31, 32]);
    let v6 = prop::sample::select(vec![0u8, 7, 16, 32, 47, 48, 128]);
    (address(), v4, v6).prop_map(|(address, v4, v6)| {
        let length = if address.is_ipv4() { v4 } else { v6 };
        IpNet::new(address, length).expect("a valid length").trunc()
    })
}
