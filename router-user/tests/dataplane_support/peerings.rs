//! Two networks of equal standing, peered, on one gateway host.
//!
//! ```text
//! hub    vm1 10.1.1.4, nva 10.1.10.4 (forwards, has 10.250.0.10 behind it)
//! spoke  vm2 10.1.2.4, reaches 10.250.0.0/16 by the hub's nva
//! ```

use std::{thread, time::Duration};

use router_user::{
    dataplane::Handle,
    fib::{Change, GroupId, NextHop, Port, Precedence, Route},
};

use crate::support::{in_namespaces, machines, ping, port, run, single, start, until, via, wait};

const HUB: &str = "own/hub";
const SPOKE: &str = "own/spoke";
const SOON: Duration = Duration::from_secs(5);

/// Groups.
const IN_HUB: u64 = 1;
const IN_SPOKE: u64 = 2;
const NVA_V4: u64 = 3;
const NVA_V6: u64 = 4;
const BLACKHOLE: u64 = 5;

#[test]
fn machines_of_peered_networks_reach_each_other_and_what_lies_behind_the_hubs_appliance() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(peered());
        resolved(&running.handle);
        for (from, to) in [
            ("vm1", "10.1.2.4"),
            ("vm2", "10.1.1.4"),
            ("vm1", "fd00:1:0:2::4"),
            ("vm2", "fd00:1:0:1::4"),
            ("vm2", "10.250.0.10"),
            ("vm2", "fd00:250::10"),
        ] {
            ping(from, to, 1);
            assert_eq!(ping(from, to, 5), 5, "{from} to {to}");
        }
    });
}

#[test]
fn forwarded_traffic_enters_a_peered_network_only_where_it_is_allowed() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(peered());
        resolved(&running.handle);
        for (afar, at_home) in [
            ("10.250.0.10", "10.1.10.4"),
            ("fd00:250::10", "fd00:1:0:10::4"),
        ] {
            running.handle.apply(vec![nva(&["spoke"])]);
            let before = dropped(&running.handle, "nva", "forwarded_traffic");
            // The answers come from afar, through the appliance's port, into the spoke.
            assert_eq!(ping("vm2", afar, 5), 0, "from {afar}");
            assert_eq!(
                dropped(&running.handle, "nva", "forwarded_traffic"),
                before + 5
            );
            ping("vm2", at_home, 1);
            assert_eq!(ping("vm2", at_home, 5), 5, "what is at home is not held");
            assert_eq!(ping("vm1", afar, 5), 5, "nor what stays in the network");
            running.handle.apply(vec![nva(&[])]);
            wait(running.handle.view()).unwrap();
            assert_eq!(ping("vm2", afar, 5), 5, "allowed, from {afar}");
        }
    });
}

#[test]
fn a_blackhole_drops_and_counts() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(peered());
        let learned = [
            Change::PutNextHop(NextHop::Blackhole),
            single(BLACKHOLE, NextHop::Blackhole),
            route(HUB, "10.66.0.0/16", BLACKHOLE, false),
            route(HUB, "fd00:66::/48", BLACKHOLE, false),
        ];
        running.handle.apply(learned.into());
        resolved(&running.handle);
        for (n, to) in (1..).zip(["10.66.0.1", "fd00:66::1"]) {
            assert_eq!(ping("vm1", to, 3), 0);
            assert_eq!(dropped(&running.handle, "vm1", "blackhole"), 3 * n);
        }
    });
}

#[test]
fn an_icmp_error_comes_back_from_the_way_into_a_peered_network() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(peered());
        running.handle.apply(vec![nva(&["spoke"])]);
        resolved(&running.handle);
        for (from, to) in [("vm2", "10.1.1.4"), ("nva", "fd00:1:0:2::4")] {
            let output = run(&format!(
                "ip netns exec {from} ping -n -t 1 -W 1 -c 3 {to} || true"
            ));
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                said.contains("ime to live exceeded") || said.contains("ime exceeded"),
                "{from} to {to}: {said}"
            );
        }
    });
}

/// Both networks; nothing is restricted.
fn peered() -> Vec<Change> {
    let hub = || NextHop::Attached { vnet: "hub".into() };
    let spoke = || NextHop::Attached {
        vnet: "spoke".into(),
    };
    let mut changes = vec![
        Change::PutNextHop(hub()),
        Change::PutNextHop(spoke()),
        Change::PutNextHop(via("10.1.10.4")),
        Change::PutNextHop(via("fd00:1:0:10::4")),
        single(IN_HUB, hub()),
        single(IN_SPOKE, spoke()),
        single(NVA_V4, via("10.1.10.4")),
        single(NVA_V6, via("fd00:1:0:10::4")),
    ];
    for table in [HUB, SPOKE] {
        for (prefix, group) in [
            ("10.1.1.0/24", IN_HUB),
            ("fd00:1:0:1::/64", IN_HUB),
            ("10.1.10.0/24", IN_HUB),
            ("fd00:1:0:10::/64", IN_HUB),
            ("10.1.2.0/24", IN_SPOKE),
            ("fd00:1:0:2::/64", IN_SPOKE),
            ("10.250.0.0/16", NVA_V4),
            ("fd00:250::/48", NVA_V6),
        ] {
            let own = if table == HUB { IN_HUB } else { IN_SPOKE };
            changes.push(route(table, prefix, group, group == own));
        }
    }
    changes.extend([
        Change::PutPort(Port {
            own_table: HUB.into(),
            learned_table: None,
            ..port("vm1", 1)
        }),
        Change::PutPort(Port {
            vnet: "spoke".into(),
            own_table: SPOKE.into(),
            learned_table: None,
            ..port("vm2", 2)
        }),
        nva(&[]),
    ]);
    changes
}

/// The appliance's port, which may not forward into these networks.
fn nva(restricted: &[&str]) -> Change {
    Change::PutPort(Port {
        own_table: HUB.into(),
        learned_table: None,
        ip_forwarding: true,
        restricted: restricted.iter().map(|name| (*name).into()).collect(),
        mac: None,
        ..port("nva", 10)
    })
}

fn route(table: &str, prefix: &str, group: u64, local: bool) -> Change {
    Change::PutRoute {
        table: table.into(),
        prefix: prefix.parse().unwrap(),
        route: Route {
            group: GroupId(group),
            precedence: Precedence::System,
            overriding: local,
            local,
        },
    }
}

fn resolved(handle: &Handle) {
    until("the appliance is resolved", SOON, || {
        let view = wait(handle.view()).unwrap();
        assert!(view.errors.is_empty(), "{:?}", view.errors);
        view.next_hops.iter().all(|row| row.alive)
    });
    // Machines learn their gateways' addresses.
    thread::sleep(Duration::from_millis(200));
    for from in ["vm1", "vm2"] {
        ping(from, "10.1.10.4", 1);
        ping(from, "fd00:1:0:10::4", 1);
    }
}

fn dropped(handle: &Handle, interface: &str, reason: &str) -> u64 {
    let counters = wait(handle.counters()).unwrap();
    counters
        .ports
        .iter()
        .find(|row| row.interface.as_str() == interface)
        .and_then(|row| row.reasons.get(reason).copied())
        .unwrap_or(0)
}
