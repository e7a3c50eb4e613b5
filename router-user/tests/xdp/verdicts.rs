//! What is not forwarded: passed to Linux or dropped, each under its reason.

use router_common::{
    maps::{NO_PORT, port_flags},
    reason::Reason,
};

use crate::{
    packet::Packet,
    router::{
        Action, GATEWAY_V4, GATEWAY_V6, NVA, PORT_1, PORT_2, Router, SITE_V4, SITE_V6, VM, VM_V4,
        VM_V6, VNET, neighbor, port, to_site_v4, to_site_v6, vm_port,
    },
};

#[test]
fn the_host_s_own_packets_pass_to_linux_unchanged_whoever_sends_them() {
    let router = Router::new();
    for (source, gateway) in [
        (VM_V4, GATEWAY_V4),
        ("10.1.99.99", GATEWAY_V4),
        (VM_V6, GATEWAY_V6),
        ("fd00:1::99", GATEWAY_V6),
    ] {
        for hops in [0, 1, 64] {
            let packet = Packet::new(VM, PORT_1, source, gateway).tcp(1, 179, b"");
            router.counts(&packet.hops(hops).bytes(), Reason::ToHost);
        }
    }
}

#[test]
fn arp_broadcast_multicast_and_neighbour_discovery_pass_to_linux() {
    let router = Router::new();
    let mut arp = to_site_v4().bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    router.counts(&arp, Reason::ToHost);

    let mut broadcast = to_site_v4().udp(1, 2, b"").bytes();
    broadcast[..6].fill(0xff);
    router.counts(&broadcast, Reason::ToHost);

    let multicast = Packet::new(VM, [0x33, 0x33, 0, 0, 0, 1], "fe80::4", "ff02::1");
    router.counts(
        &multicast.icmp(133, 0, &[]).hops(255).bytes(),
        Reason::ToHost,
    );

    let group = Packet::new(VM, PORT_1, VM_V4, "224.0.0.5").udp(1, 2, b"");
    router.counts(&group.bytes(), Reason::ToHost);
    let group = Packet::new(VM, PORT_1, VM_V6, "ff02::5").udp(1, 2, b"");
    router.counts(&group.bytes(), Reason::ToHost);

    for (source, destination) in [("fe80::4", "fe80::1"), ("fe80::4", GATEWAY_V6)] {
        for kind in 133..=137 {
            let discovery = Packet::new(VM, PORT_1, source, destination).icmp(kind, 0, &[0; 16]);
            router.counts(&discovery.hops(255).bytes(), Reason::ToHost);
        }
    }
    // Neighbour discovery that crossed a router is none.
    let forged = Packet::new(VM, PORT_1, "fe80::4", GATEWAY_V6).icmp(135, 0, &[0; 16]);
    router.counts(&forged.hops(254).bytes(), Reason::LinkLocal);
}

#[test]
fn a_frame_for_another_station_is_dropped() {
    let router = Router::new();
    for byte in 0..6 {
        let mut frame = to_site_v4().udp(1, 2, b"").bytes();
        frame[byte] ^= 0x10;
        router.counts(&frame, Reason::WrongMac);
    }
}

#[test]
fn tags_and_unknown_protocols_are_dropped() {
    let router = Router::new();
    for (ethertype, reason) in [
        ([0x81, 0x00], Reason::Vlan),
        ([0x88, 0xa8], Reason::Vlan),
        ([0x88, 0x47], Reason::UnknownProtocol),
        ([0x00, 0x40], Reason::UnknownProtocol),
    ] {
        let mut frame = to_site_v4().udp(1, 2, b"").bytes();
        frame[12..14].copy_from_slice(&ethertype);
        router.counts(&frame, reason);
    }
}

#[test]
fn a_packet_cut_anywhere_is_truncated() {
    let router = Router::new();
    let headers = vec![0, 0, 1, 4, 0, 0, 0, 0];
    for packet in [
        to_site_v4().udp(1, 2, b"some data"),
        to_site_v4().tcp(1, 2, b"some data").options(&[1; 12]),
        to_site_v6().udp(1, 2, b"some data"),
        to_site_v6()
            .tcp(1, 2, b"some data")
            .extensions(0, headers, 0),
    ] {
        let frame = packet.bytes();
        for length in 14..frame.len() {
            router.counts(&frame[..length], Reason::Truncated);
        }
    }
}

#[test]
fn an_extension_header_that_ends_behind_the_packet_is_truncated() {
    let router = Router::new();
    let long = vec![0, 200, 1, 4, 0, 0, 0, 0];
    let packet = to_site_v6().extensions(60, [long, vec![0; 8]].concat(), 8);
    let mut frame = packet.bytes();
    frame[54] = 60;
    router.counts(&frame, Reason::Truncated);
}

#[test]
fn contradictions_in_a_header_are_bad() {
    let router = Router::new();
    for (byte, value) in [
        (14, 0x55), // version 5
        (14, 0x65), // version 6 in IPv4
        (14, 0x44), // a header of 16 bytes
        (14, 0x40),
        (17, 19), // shorter than its header
        (17, 0),
    ] {
        let mut frame = to_site_v4().udp(1, 2, b"").bytes();
        frame[byte] = value;
        router.counts(&frame, Reason::BadHeader);
    }
    let mut frame = to_site_v6().udp(1, 2, b"").bytes();
    frame[14] = 0x45;
    router.counts(&frame, Reason::BadHeader);
    for options in [[7, 1, 0, 0], [7, 0, 0, 0], [7, 9, 4, 0], [1, 1, 1, 7]] {
        let frame = to_site_v4().udp(1, 2, b"").options(&options).bytes();
        router.counts(&frame, Reason::BadHeader);
    }
}

#[test]
fn source_routing_is_dropped_wherever_it_stands() {
    let router = Router::new();
    for options in [
        vec![131, 7, 4, 10, 1, 1, 1, 0],
        vec![137, 7, 4, 10, 1, 1, 1, 0],
        vec![1, 131, 7, 4, 10, 1, 1, 1],
        vec![68, 8, 5, 0, 0, 0, 0, 0, 137, 4, 4, 0],
    ] {
        let frame = to_site_v4().udp(1, 2, b"").options(&options).bytes();
        router.counts(&frame, Reason::SourceRoute);
    }
    // Behind the end of options nothing counts.
    let ended = [0, 131, 7, 4, 10, 1, 1, 1];
    router.forwards(&to_site_v4().udp(1, 2, b"").options(&ended), PORT_2, NVA);

    let first = vec![0, 0, 0, 1, 0, 0, 0, 0];
    router.counts(
        &to_site_v6().udp(1, 2, b"").extensions(43, first, 0).bytes(),
        Reason::SourceRoute,
    );
    let second = [[43, 0, 1, 4, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]].concat();
    router.counts(
        &to_site_v6().udp(1, 2, b"").extensions(0, second, 8).bytes(),
        Reason::SourceRoute,
    );
}

#[test]
fn addresses_that_may_not_cross_a_router_are_dropped() {
    let mut router = Router::new();
    router.port(port(1, PORT_1));
    for (source, destination, reason) in [
        ("0.0.0.0", SITE_V4, Reason::Martian),
        ("127.0.0.1", SITE_V4, Reason::Martian),
        ("224.0.0.1", SITE_V4, Reason::Martian),
        ("240.0.0.1", SITE_V4, Reason::Martian),
        ("255.255.255.255", SITE_V4, Reason::Martian),
        ("169.254.0.1", SITE_V4, Reason::LinkLocal),
        (VM_V4, "0.0.0.0", Reason::Martian),
        (VM_V4, "127.0.0.1", Reason::Martian),
        (VM_V4, "250.0.0.1", Reason::Martian),
        (VM_V4, "169.254.169.254", Reason::LinkLocal),
        ("::", SITE_V6, Reason::Martian),
        ("::1", SITE_V6, Reason::Martian),
        ("ff02::1", SITE_V6, Reason::Martian),
        ("::ffff:10.1.1.4", SITE_V6, Reason::Martian),
        ("fe80::4", SITE_V6, Reason::LinkLocal),
        (VM_V6, "::", Reason::Martian),
        (VM_V6, "::1", Reason::Martian),
        (VM_V6, "fe80::1", Reason::LinkLocal),
    ] {
        let packet = Packet::new(VM, PORT_1, source, destination).udp(1, 2, b"");
        router.counts(&packet.bytes(), reason);
    }
}

#[test]
fn a_source_that_is_not_the_port_s_is_dropped() {
    let router = Router::new();
    let other = [2, 0, 0, 1, 0, 5];
    for packet in [
        Packet::new(VM, PORT_1, "10.1.1.5", SITE_V4),
        Packet::new(VM, PORT_1, "fd00:1:0:1::5", SITE_V6),
        Packet::new(other, PORT_1, VM_V4, SITE_V4),
        Packet::new(other, PORT_1, VM_V6, SITE_V6),
        // Spoofed, and without a route: the source counts first.
        Packet::new(VM, PORT_1, "10.1.1.5", "203.0.113.1"),
        // Spoofed, and at the end of its life.
        Packet::new(VM, PORT_1, "10.1.1.5", SITE_V4).hops(1),
    ] {
        router.counts(&packet.udp(1, 2, b"").bytes(), Reason::SourceCheck);
    }
}

#[test]
fn a_port_without_an_address_lets_no_source_of_that_family_through() {
    let mut router = Router::new();
    let mut only_v6 = vm_port();
    only_v6.flags = port_flags::SOURCE_V6;
    only_v6.source_v4 = [10, 1, 1, 4];
    router.port(only_v6);
    router.counts(&to_site_v4().udp(1, 2, b"").bytes(), Reason::SourceCheck);
    router.forwards(&to_site_v6().udp(1, 2, b""), PORT_2, NVA);
}

#[test]
fn ip_forwarding_switches_the_source_check_off() {
    let mut router = Router::new();
    router.port(port(1, PORT_1));
    let from_afar = Packet::new([2, 9, 9, 9, 9, 9], PORT_1, "192.0.2.7", SITE_V4);
    router.forwards(&from_afar.udp(1, 2, b""), PORT_2, NVA);
}

#[test]
fn further_sources_are_those_attached_to_the_port() {
    let mut router = Router::new();
    let mut more = vm_port();
    more.flags |= port_flags::MORE_SOURCES;
    router.port(more);
    let way = neighbor(VM, PORT_1, 1);
    router.host(VNET, "10.1.1.40", 30, way);
    router.host(VNET, "fd00:1:0:1::40", 31, way);
    router.forwards(&to_site_v4().udp(1, 2, b""), PORT_2, NVA);
    let further = Packet::new(VM, PORT_1, "10.1.1.40", SITE_V4).udp(1, 2, b"");
    router.forwards(&further, PORT_2, NVA);
    let further = Packet::new(VM, PORT_1, "fd00:1:0:1::40", SITE_V6).udp(1, 2, b"");
    router.forwards(&further, PORT_2, NVA);
    // Attached, but to port 3; attached nowhere.
    for source in ["10.1.2.4", "10.1.1.41"] {
        let spoofed = Packet::new(VM, PORT_1, source, SITE_V4).udp(1, 2, b"");
        router.counts(&spoofed.bytes(), Reason::SourceCheck);
    }
}

#[test]
fn an_interface_that_is_no_port_drops_under_place_zero() {
    let mut router = Router::new();
    router.arrive_nowhere();
    let outcome = router.run(&to_site_v4().udp(1, 2, b"").bytes());
    assert_eq!(outcome.action, Action::Drop);
    let counted = router.counted(NO_PORT);
    assert_eq!((counted.rx_packets, counted.not_a_port), (1, 1));
}

#[test]
fn an_element_that_the_kernel_gave_to_another_port_leads_nowhere() {
    let mut router = Router::new();
    let mut other = port(2, PORT_2);
    other.ifindex = 77;
    router.port(other);
    router.arrive_at(2);
    let outcome = router.run(&to_site_v4().udp(1, 2, b"").bytes());
    assert_eq!(outcome.action, Action::Drop);
    assert_eq!(router.counted(NO_PORT).not_a_port, 1);
}
