//! The data plane on a real kernel: real maps, real links, real packets.

#[path = "dataplane_support/peerings.rs"]
mod peerings;
#[path = "dataplane_support/mod.rs"]
mod support;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use router_user::{
    api::types::FibView,
    config::DataplaneConfig,
    dataplane::{self, Dataplane},
    fib::{Change, NextHop},
};
use support::{
    LEARNED, OWN, config, in_namespaces, layout, machine, machines, network, ping, port, route, sh,
    single, start, until, via, wait,
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn packets_go_from_machine_to_machine_and_by_the_nva() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        let view = resolved(&running.handle);
        assert!(view.errors.is_empty(), "{:?}", view.errors);
        for port in &view.ports {
            assert_eq!(port.attached, "native", "{}", port.interface);
        }
        for to in ["10.1.2.4", "fd00:1:0:2::4", "10.250.0.10", "fd00:250::10"] {
            ping("vm1", to, 1);
            assert_eq!(ping("vm1", to, 10), 10, "to {to}");
        }
        assert_eq!(ping("vm1", "10.1.1.1", 3), 3, "the host itself answers");

        let counters = wait(running.handle.counters()).unwrap();
        let vm1 = counters
            .ports
            .iter()
            .find(|row| row.interface.as_str() == "vm1");
        assert!(vm1.unwrap().rx_packets >= 47, "{vm1:?}");
        let nva = counters
            .next_hops
            .iter()
            .find(|row| row.next_hop == "via hub 10.1.10.4");
        assert!(nva.unwrap().packets >= 10, "{nva:?}");
    });
}

#[test]
fn the_maps_say_what_was_asked_for_in_names_that_people_read() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        let view = resolved(&running.handle);
        let dump = sh(&format!(
            "bpftool -j map dump pinned {}/routes_v4",
            layout().display()
        ));
        assert_eq!(
            dump.matches("\"prefix_len\":48").count(),
            2,
            "two /16 behind 32 bits: {dump}"
        );
        assert!(dump.contains("\"group\""), "{dump}");
        assert_eq!(view.routes.len(), 6);
        let learned = view
            .routes
            .iter()
            .find(|row| row.table.as_str() == LEARNED)
            .unwrap();
        assert_eq!(learned.prefix, "10.250.0.0/16".parse().unwrap());
        assert!(
            dump.contains(&format!("\"group\":{}", learned.group)),
            "{dump}"
        );

        let answer = wait(running.handle.lookup(
            &OWN.into(),
            Some(&LEARNED.into()),
            "10.250.3.4".parse().unwrap(),
        ))
        .unwrap();
        assert!(answer.own.is_none());
        assert_eq!(answer.winner.unwrap().prefix, learned.prefix);
        assert_eq!(answer.buckets, [("via hub 10.1.10.4".to_owned(), None)]);
        assert_eq!(answer.next_hops[0].port.as_ref().unwrap().as_str(), "nva");
    });
}

#[test]
fn a_restart_adopts_everything_and_loses_no_packet() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        let before = resolved(&running.handle);
        ping("vm1", "10.250.0.10", 2);
        let pinging = thread::spawn(in_this_netns(|| ping("vm1", "10.250.0.10", 40)));
        thread::sleep(Duration::from_millis(500));
        wait(running.handle.shutdown());
        thread::sleep(Duration::from_millis(500));

        let running = start();
        let view = wait(running.handle.view()).unwrap();
        assert!(view.stale && view.routes.iter().all(|route| route.stale));
        let mut relearned = network();
        relearned.retain(|change| *change != route(OWN, "fd00:1::/48", 1));
        running.handle.apply(relearned);
        running.handle.apply(vec![Change::Synchronised]);
        until("the rest is removed", SOON, || {
            wait(running.handle.view()).unwrap().routes.len() == 5
        });
        let after = wait(running.handle.view()).unwrap();
        assert!(!after.stale);
        for (before, after) in before.next_hops.iter().zip(&after.next_hops) {
            assert_eq!((&before.name, before.number), (&after.name, after.number));
        }
        for (before, after) in before.ports.iter().zip(&after.ports) {
            assert_eq!(
                (&before.interface, before.number),
                (&after.interface, after.number)
            );
        }
        assert_eq!(
            pinging.join().unwrap(),
            40,
            "packets answered over the restart"
        );
    });
}

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() {
    in_namespaces(|| {
        let running = start();
        let error = refusal(config());
        assert!(error.contains("another waypost daemon"), "{error}");
        assert!(error.contains("waypost stop"), "{error}");
        let error = format!("{:#}", dataplane::flush(&config()).unwrap_err());
        assert!(error.contains("another waypost daemon"), "{error}");
        wait(running.handle.shutdown());
        wait(start().handle.shutdown());
    });
}

#[test]
fn a_missing_bpffs_is_named_with_the_command_that_mounts_it() {
    in_namespaces(|| {
        sh("umount /sys/fs/bpf; mkdir -p /tmp/no-bpffs");
        let error = refusal(DataplaneConfig {
            bpffs: "/tmp/no-bpffs".into(),
            ..config()
        });
        assert!(error.contains("mount -t bpf bpf /tmp/no-bpffs"), "{error}");
    });
}

#[test]
fn missing_capabilities_are_named() {
    in_namespaces(|| {
        drop_all_capabilities();
        let error = refusal(config());
        for name in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "setcap"] {
            assert!(error.contains(name), "{error}");
        }
    });
}

#[test]
fn an_interface_that_vanishes_and_returns_is_a_port_again() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        sh("ip link del vm2; ip netns del vm2");
        until("it is missed", SOON, || {
            attachment(&running.handle, "vm2").contains("does not exist")
        });
        machine("vm2", 2);
        until("it is back", SOON, || {
            attachment(&running.handle, "vm2") == "native"
        });
        ping("vm1", "10.1.2.4", 2);
        assert_eq!(ping("vm1", "10.1.2.4", 5), 5);
    });
}

#[test]
fn an_interface_that_is_missing_at_the_start_is_attached_when_it_appears() {
    in_namespaces(|| {
        let running = start();
        running.handle.apply(vec![Change::PutPort(port("vm1", 1))]);
        let view = wait(running.handle.view()).unwrap();
        assert!(
            view.errors[0].contains("vm1 does not exist"),
            "{:?}",
            view.errors
        );
        machine("vm1", 1);
        until("it is attached", SOON, || {
            attachment(&running.handle, "vm1") == "native"
        });
    });
}

#[test]
fn a_link_that_goes_down_takes_its_next_hop_out_within_50_ms_and_back() {
    in_namespaces(|| {
        machines();
        let mut running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        while running.liveness.try_recv().is_ok() {}
        sh("ip netns exec nva ip link set eth0 down");
        let took = until("down", SOON, || !alive(&running.handle));
        assert!(took <= Duration::from_millis(50), "{took:?}");
        let mut told = vec![running.liveness.try_recv().unwrap()];
        told.extend(running.liveness.try_recv());
        assert!(
            told.iter()
                .any(|it| it.next_hop == via("10.1.10.4") && !it.alive),
            "{told:?}"
        );
        sh("ip netns exec nva ip link set eth0 up");
        until("up", SOON, || alive(&running.handle));
        assert!(running.liveness.blocking_recv().unwrap().alive);
    });
}

#[test]
fn a_neighbour_that_falls_silent_is_out_within_3_s() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        thread::sleep(Duration::from_secs(2));
        for (address, length) in [("10.1.10.4", 24), ("fd00:1:0:10::4", 64)] {
            let usable = || is_alive(&running.handle, address);
            assert!(usable(), "{address} stays alive while it answers");
            sh(&format!(
                "ip netns exec nva ip addr del {address}/{length} dev eth0"
            ));
            let took = until("dead", SOON, || !usable());
            assert!(took <= Duration::from_secs(3), "{address}: {took:?}");
            let v6 = if address.contains(':') { "nodad" } else { "" };
            sh(&format!(
                "ip netns exec nva ip addr add {address}/{length} dev eth0 {v6}"
            ));
            until("alive again", SOON, usable);
        }
    });
}

#[test]
fn a_neighbour_that_the_operator_fixed_stays_as_it_is() {
    in_namespaces(|| {
        machines();
        sh(
            "mac=$(ip netns exec nva ip -br link show eth0 | awk '{ print $3 }')
            ip neigh replace 10.1.10.4 lladdr $mac dev nva nud permanent",
        );
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        thread::sleep(Duration::from_secs(1));
        let fixed = || sh("ip neigh show 10.1.10.4 dev nva").contains("PERMANENT");
        assert!(fixed(), "{}", sh("ip neigh show dev nva"));
        sh("ip netns exec nva ip link set eth0 down");
        until("down", SOON, || !alive(&running.handle));
        sh("ip netns exec nva ip link set eth0 up");
        until("up", SOON, || alive(&running.handle));
        assert!(fixed(), "{}", sh("ip neigh show dev nva"));
    });
}

#[test]
fn a_changed_mac_address_is_followed() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        ping("vm1", "10.250.0.10", 2);
        sh("ip link set nva address 02:00:00:00:0a:99
            ip netns exec nva ip neigh flush all");
        until("packets flow again", SOON, || {
            ping("vm1", "10.250.0.10", 1) == 1
        });
        sh("ip netns exec nva ip link set eth0 address 02:00:00:00:0a:98");
        until("packets flow again", SOON, || {
            ping("vm1", "10.250.0.10", 1) == 1
        });
    });
}

#[test]
fn kernel_forwarding_is_switched_off_on_ports() {
    in_namespaces(|| {
        machine("vm1", 1);
        sh("sysctl -qw net.ipv4.conf.vm1.forwarding=1 net.ipv6.conf.vm1.forwarding=1");
        let running = start();
        running.handle.apply(vec![Change::PutPort(port("vm1", 1))]);
        until("it is attached", SOON, || {
            attachment(&running.handle, "vm1") == "native"
        });
        for family in ["ipv4", "ipv6"] {
            let value = sh(&format!("sysctl -n net.{family}.conf.vm1.forwarding"));
            assert_eq!(value.trim(), "0", "{family}");
        }
    });
}

#[test]
fn a_driver_without_native_xdp_is_generic_or_refused() {
    in_namespaces(|| {
        sh("ip link add br0 type bridge && ip link set br0 up");
        for (require_native, expected) in [(false, "generic"), (true, "require_native = false")] {
            let (handle, _liveness) = Dataplane::start(DataplaneConfig {
                require_native,
                ..config()
            })
            .unwrap();
            handle.apply(vec![Change::PutPort(port("br0", 1))]);
            let attachment = attachment(&handle, "br0");
            assert!(attachment.contains(expected), "{attachment}");
            wait(handle.shutdown());
            dataplane::flush(&config()).unwrap();
        }
    });
}

#[test]
fn a_full_table_is_reported_the_rest_stands_and_room_is_used() {
    in_namespaces(|| {
        let running = start();
        let mut changes = vec![
            Change::PutNextHop(NextHop::Discard),
            single(9, NextHop::Discard),
        ];
        let prefix = |n: u32| format!("11.{}.{}.0/24", n / 256, n % 256);
        changes.extend((0..1010).map(|n| route(LEARNED, &prefix(n), 9)));
        running.handle.apply(changes);
        let view = wait(running.handle.view()).unwrap();
        assert_eq!(view.routes.len(), 1000);
        assert!(
            view.errors[0].contains("10 routes") && view.errors[0].contains("max_routes_v4"),
            "{:?}",
            view.errors
        );
        running.handle.apply(
            (0..10)
                .map(|n| Change::RemoveRoute {
                    table: LEARNED.into(),
                    prefix: prefix(n).parse().unwrap(),
                })
                .collect(),
        );
        let view = wait(running.handle.view()).unwrap();
        assert_eq!(view.routes.len(), 1000, "what waited took the room");
        assert!(view.errors.is_empty(), "{:?}", view.errors);
    });
}

#[test]
fn frames_that_a_driver_loses_after_the_verdict_are_counted() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        ping("vm1", "10.1.2.4", 2);
        sh("ip netns exec vm2 ethtool -K eth0 gro off");
        assert_eq!(
            ping("vm1", "10.1.2.4", 5),
            0,
            "a veth end without GRO or XDP takes no frames"
        );
        let counters = wait(running.handle.counters()).unwrap();
        let vm1 = counters
            .ports
            .iter()
            .find(|port| port.interface.as_str() == "vm1");
        assert_eq!(vm1.unwrap().redirect_failed, 5, "{vm1:?}");
    });
}

#[test]
fn a_large_table_is_adopted_in_seconds_and_does_not_delay_a_link_failure() {
    const ROUTES: u32 = 300_000;
    in_namespaces(|| {
        machines();
        let large = || DataplaneConfig {
            max_routes_v4: 2 * ROUTES,
            ..config()
        };
        let prefix = |n: u32| format!("{}.{}.{}.0/24", 64 + (n >> 16), n >> 8 & 255, n & 255);
        let mut changes = network();
        changes.extend((0..ROUTES).map(|n| route(LEARNED, &prefix(n), 3)));
        let (handle, _liveness) = Dataplane::start(large()).unwrap();
        handle.apply(network());
        let view = resolved(&handle);
        let nva = view
            .next_hops
            .iter()
            .find(|row| row.name == "via hub 10.1.10.4");
        let next_hop = format!(
            "bpftool map lookup pinned {}/next_hops key {} 0 0 0",
            layout().display(),
            nva.unwrap().number
        );
        handle.apply(changes.clone());
        sh("ip netns exec nva ip link set eth0 down");
        let took = until("down", SOON, || sh(&next_hop).contains("\"down\": 1"));
        assert!(
            took < Duration::from_millis(250),
            "not before the routes: {took:?}"
        );
        sh("ip netns exec nva ip link set eth0 up");
        assert_eq!(resolved(&handle).routes.len(), ROUTES as usize + 6);
        wait(handle.shutdown());

        let began = Instant::now();
        let (handle, _liveness) = Dataplane::start(large()).unwrap();
        let took = began.elapsed();
        assert!(took < SOON, "{took:?}");
        handle.apply(changes);
        handle.apply(vec![Change::Synchronised]);
        until("synchronised", Duration::from_secs(20), || {
            !wait(handle.view()).unwrap().stale
        });
    });
}

#[test]
fn another_layout_is_swapped_in_without_a_lost_packet() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        ping("vm1", "10.250.0.10", 2);
        let older = layout();
        let pinging = thread::spawn(in_this_netns(|| ping("vm1", "10.250.0.10", 40)));
        wait(running.handle.shutdown());

        let (handle, _liveness) = Dataplane::start(DataplaneConfig {
            max_routes_v4: 2000,
            ..config()
        })
        .unwrap();
        handle.apply(network());
        resolved(&handle);
        assert!(attachment(&handle, "vm1").contains("older build"));
        handle.apply(vec![Change::Synchronised]);
        until("swapped", SOON, || attachment(&handle, "vm1") == "native");
        assert!(!older.exists(), "the older build's maps are unpinned");
        assert_eq!(
            pinging.join().unwrap(),
            40,
            "packets answered over the swap"
        );
    });
}

#[test]
fn a_pinned_map_of_another_shape_is_refused_by_name() {
    in_namespaces(|| {
        wait(start().handle.shutdown());
        let groups = layout().join("groups");
        sh(&format!(
            "rm {0} && bpftool map create {0} type array key 4 value 4 entries 4 name groups",
            groups.display()
        ));
        let error = refusal(config());
        assert!(error.contains(groups.to_str().unwrap()), "{error}");
        assert!(error.contains("waypost stop --flush"), "{error}");
        dataplane::flush(&config()).unwrap();
        wait(start().handle.shutdown());
    });
}

#[test]
fn flush_leaves_nothing_behind() {
    in_namespaces(|| {
        machines();
        let running = start();
        running.handle.apply(network());
        resolved(&running.handle);
        wait(running.handle.shutdown());
        assert!(
            sh("ip -d link show vm1").contains("xdp"),
            "packets go on meanwhile"
        );
        let removed = dataplane::flush(&config()).unwrap();
        assert!(
            removed.iter().any(|path| path.ends_with("links/vm1")),
            "{removed:?}"
        );
        assert!(
            removed.iter().any(|path| path.ends_with("routes_v4")),
            "{removed:?}"
        );
        assert!(!Path::new("/sys/fs/bpf/waypost").exists());
        assert!(!sh("ip -d link show vm1").contains("xdp"));
        assert!(
            dataplane::flush(&config()).unwrap().is_empty(),
            "again is no error"
        );
    });
}

#[test]
fn a_removed_port_is_detached_and_a_foreign_program_is_named() {
    in_namespaces(|| {
        machine("vm1", 1);
        let running = start();
        running.handle.apply(vec![Change::PutPort(port("vm1", 1))]);
        until("it is attached", SOON, || {
            attachment(&running.handle, "vm1") == "native"
        });
        let (other, _liveness) = Dataplane::start(DataplaneConfig {
            instance: "other".into(),
            ..config()
        })
        .unwrap();
        other.apply(vec![Change::PutPort(port("vm1", 1))]);
        let reason = attachment(&other, "vm1");
        assert!(reason.contains("another XDP program"), "{reason}");
        running.handle.apply(vec![Change::RemovePort("vm1".into())]);
        until("the other has it", Duration::from_secs(10), || {
            attachment(&other, "vm1") == "native"
        });
    });
}

fn resolved(handle: &dataplane::Handle) -> FibView {
    until("the NVA is resolved", SOON, || {
        alive(handle) && is_alive(handle, "fd00:1:0:10::4")
    });
    wait(handle.view()).unwrap()
}

fn alive(handle: &dataplane::Handle) -> bool {
    is_alive(handle, "10.1.10.4")
}

fn is_alive(handle: &dataplane::Handle, address: &str) -> bool {
    let name = format!("via hub {address}");
    let view = wait(handle.view()).unwrap();
    view.next_hops
        .iter()
        .any(|row| row.name == name && row.alive)
}

fn attachment(handle: &dataplane::Handle, interface: &str) -> String {
    wait(handle.view())
        .unwrap()
        .ports
        .iter()
        .find(|port| port.interface.as_str() == interface)
        .map(|port| port.attached.clone())
        .unwrap_or_default()
}

fn refusal(config: DataplaneConfig) -> String {
    match Dataplane::start(config) {
        Ok(_) => panic!("the data plane starts"),
        Err(error) => format!("{error:#}"),
    }
}

/// Threads of a test begin in its namespaces by themselves.
fn in_this_netns<T>(work: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() -> T + Send {
    work
}

fn drop_all_capabilities() {
    let (header, data) = ([0x2008_0522u32, 0], [0u32; 6]);
    // SAFETY: capset takes a header of two words and two data structures of three.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
