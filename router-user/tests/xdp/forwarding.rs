//! What is forwarded leaves as it should, byte for byte.

use router_common::maps::{NONE, Neighbor, next_hop_kind, precedence, route_flags};
use router_common::reason::Reason;

use crate::{
    packet::{ETHERNET, Packet},
    router::{
        Action, DISCARD, LEARNED, NVA, OWN, PORT_1, PORT_2, PORT_3, Router, SITE_V4, VIA, VM, VM_2,
        VM_2_V4, VM_2_V6, VM_V4, VM_V6, VNET, after_hop, hex, host_key, neighbor, nva, port,
        to_site_v4, to_site_v6,
    },
};

#[test]
fn a_packet_of_either_family_leaves_rewritten_towards_the_learned_next_hop() {
    let router = Router::new();
    for packet in [
        to_site_v4().udp(4000, 53, b"question"),
        to_site_v4().tcp(4000, 80, b"GET /"),
        to_site_v4().icmp(8, 0, b"echo"),
        to_site_v6().udp(4000, 53, b"question"),
        to_site_v6().tcp(4000, 80, b"GET /"),
        to_site_v6().icmp(128, 0, b"echo"),
    ] {
        router.forwards(&packet, PORT_2, NVA);
    }
}

#[test]
fn every_ttl_that_may_leaves_one_lower_with_the_right_checksum() {
    let router = Router::new();
    for hops in 2..=255 {
        router.forwards(&to_site_v4().udp(1, 2, b"x").hops(hops), PORT_2, NVA);
        router.forwards(&to_site_v6().udp(1, 2, b"x").hops(hops), PORT_2, NVA);
    }
}

#[test]
fn an_attached_host_is_delivered_to_by_its_own_port() {
    let router = Router::new();
    for (from, to) in [(VM_V4, VM_2_V4), (VM_V6, VM_2_V6)] {
        let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, b"hello");
        router.forwards(&packet, PORT_3, VM_2);
    }
}

#[test]
fn an_address_without_an_attached_host_is_no_host() {
    let router = Router::new();
    for (from, to) in [(VM_V4, "10.1.2.5"), (VM_V6, "fd00:1:0:2::5")] {
        let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, b"");
        router.counts(&packet.bytes(), Reason::NoHost);
    }
}

#[test]
fn an_element_that_the_kernel_gave_to_another_host_is_no_host() {
    let mut router = Router::new();
    // Keys that lead to the neighbour of another network, and to that of another address.
    router.host(VNET + 1, "10.1.2.77", 30, neighbor(VM_2, PORT_3, 3));
    router.publish(host_key(VNET, "10.1.2.77"), 30);
    router.publish(host_key(VNET, "10.1.2.78"), 30);
    for to in ["10.1.2.77", "10.1.2.78"] {
        let packet = Packet::new(VM, PORT_1, VM_V4, to).udp(1, 2, b"");
        router.counts(&packet.bytes(), Reason::NoHost);
    }
}

#[test]
fn ipv4_options_and_ipv6_extension_headers_travel_along() {
    let router = Router::new();
    // No operation, record route of seven bytes, end of options.
    let options = [1, 7, 7, 4, 10, 1, 1, 1, 0, 0, 0, 0];
    router.forwards(
        &to_site_v4().udp(1, 2, b"data").options(&options),
        PORT_2,
        NVA,
    );
    // Forty bytes of no operation.
    router.forwards(
        &to_site_v4().tcp(1, 2, b"data").options(&[1; 40]),
        PORT_2,
        NVA,
    );
    // Hop-by-hop, then destination options.
    let headers = [[60, 0, 1, 4, 0, 0, 0, 0], [0, 0, 1, 4, 0, 0, 0, 0]].concat();
    router.forwards(
        &to_site_v6().udp(1, 2, b"data").extensions(0, headers, 8),
        PORT_2,
        NVA,
    );
    // A segment routing header.
    let routing = vec![0, 0, 4, 0, 0, 0, 0, 0];
    router.forwards(
        &to_site_v6().udp(1, 2, b"data").extensions(43, routing, 0),
        PORT_2,
        NVA,
    );
    // More headers than are looked at.
    let mut many = [60, 0, 1, 4, 0, 0, 0, 0].repeat(12);
    many[8 * 11] = 0;
    router.forwards(
        &to_site_v6().udp(1, 2, b"data").extensions(60, many, 88),
        PORT_2,
        NVA,
    );
}

#[test]
fn fragments_are_forwarded() {
    let router = Router::new();
    for field in [0x2000, 0x2001, 0x0100] {
        let packet = to_site_v4().udp(1, 2, b"fragment").fragment(field);
        router.forwards(&packet, PORT_2, NVA);
    }
    for offset in [[0, 1], [0, 8], [1, 1]] {
        let header = vec![0, 0, offset[0], offset[1], 0, 0, 0, 9];
        let packet = to_site_v6()
            .udp(1, 2, b"fragment")
            .extensions(44, header, 0);
        router.forwards(&packet, PORT_2, NVA);
    }
}

#[test]
fn what_follows_the_packet_in_the_frame_stays() {
    let router = Router::new();
    let mut frame = to_site_v4().udp(1, 2, b"x").bytes();
    frame.resize(60, 0xaa);
    let mut expected = frame.clone();
    after_hop(&mut expected, PORT_2, NVA);
    let outcome = router.run(&frame);
    assert_eq!(outcome.action, Action::Redirect);
    assert_eq!(hex(&outcome.frame), hex(&expected));
}

#[test]
fn a_packet_without_room_for_ports_is_forwarded() {
    let router = Router::new();
    let mut packet = to_site_v4();
    packet.protocol = 17;
    router.forwards(&packet, PORT_2, NVA);
    let mut packet = to_site_v6();
    packet.protocol = 6;
    packet.payload = vec![1, 2, 3];
    router.forwards(&packet, PORT_2, NVA);
}

#[test]
fn a_frame_of_many_buffers_is_forwarded_and_counted_whole() {
    let mut router = Router::new();
    let jumbo = Neighbor {
        mtu: 65_535,
        ..neighbor(NVA, PORT_2, 2)
    };
    router.neighbor(VIA, jumbo);
    for packet in [
        to_site_v4().udp(1, 2, &[7; 20_000]),
        to_site_v6().tcp(1, 2, &[7; 60_000]),
    ] {
        let before = router.counted(1);
        router.forwards(&packet, PORT_2, NVA);
        let length = packet.bytes().len() as u64;
        assert_eq!(router.counted(1).rx_bytes - before.rx_bytes, length);
    }
}

#[test]
fn ports_and_next_hops_count_packets_and_bytes() {
    let router = Router::new();
    let packet = to_site_v4().udp(1, 2, &[0; 100]);
    for _ in 0..5 {
        router.forwards(&packet, PORT_2, NVA);
    }
    let bytes = 5 * packet.bytes().len() as u64;
    assert_eq!(router.sent(VIA), (5, bytes));
    let counted = router.counted(1);
    assert_eq!((counted.rx_packets, counted.rx_bytes), (5, bytes));
    assert_eq!(router.reasons(), []);
}

#[test]
fn the_longer_prefix_wins_over_both_tables_and_then_the_precedence() {
    for (own, precedence, flags, learned, wins) in [
        ("10.250.0.0/17", precedence::SYSTEM, 0, "10.250.0.0/16", OWN),
        (
            "10.250.0.0/16",
            precedence::SYSTEM,
            0,
            "10.250.0.0/17",
            LEARNED,
        ),
        (
            "10.250.0.0/16",
            precedence::SYSTEM,
            0,
            "10.250.0.0/16",
            LEARNED,
        ),
        (
            "10.250.0.0/16",
            precedence::USER_DEFINED,
            0,
            "10.250.0.0/16",
            OWN,
        ),
        (
            "0.0.0.0/0",
            precedence::USER_DEFINED,
            0,
            "10.250.0.0/16",
            LEARNED,
        ),
        ("0.0.0.0/0", precedence::SYSTEM, 0, "0.0.0.0/0", LEARNED),
        (
            "10.0.0.0/8",
            precedence::SYSTEM,
            route_flags::OVERRIDING,
            "10.250.1.0/24",
            OWN,
        ),
        (
            "fd00:250::/48",
            precedence::USER_DEFINED,
            0,
            "fd00:250::/48",
            OWN,
        ),
        (
            "fd00:250::/48",
            precedence::USER_DEFINED,
            0,
            "fd00:250::/64",
            LEARNED,
        ),
        (
            "fd00::/16",
            precedence::SYSTEM,
            route_flags::OVERRIDING,
            "fd00:250::9/128",
            OWN,
        ),
    ] {
        let mut router = Router::without_routes();
        router.route(OWN, own, VIA + 1, precedence, flags);
        router.route(LEARNED, learned, VIA + 2, precedence::LEARNED, 0);
        let packet = if own.contains(':') {
            to_site_v6().udp(1, 2, b"")
        } else {
            to_site_v4().udp(1, 2, b"")
        };
        let winner = if wins == OWN { nva(1) } else { nva(2) };
        router.forwards(&packet, PORT_2, winner);
    }
}

#[test]
fn a_port_sees_its_own_two_tables_and_no_other() {
    let mut router = Router::without_routes();
    router.route(OWN + 1, "0.0.0.0/0", VIA, precedence::SYSTEM, 0);
    router.route(LEARNED, SITE_V4_NET, VIA + 1, precedence::LEARNED, 0);
    let frame = to_site_v4().udp(1, 2, b"");
    router.forwards(&frame, PORT_2, nva(1));

    let mut unlearned = crate::router::vm_port();
    unlearned.learned_table = 0;
    router.port(unlearned);
    router.counts(&frame.bytes(), Reason::NoRoute);
}

#[test]
fn a_packet_does_not_go_back_to_its_sender() {
    let mut router = Router::new();
    router.arrive_at(2);
    router.port(port(1, PORT_2));
    router.arrive_at(1);
    // Seen from port 1 with the NVA's MAC address: the site's next hop is the sender.
    router.neighbor(VIA, neighbor(NVA, PORT_2, 1));
    let from_nva = |mac| Packet::new(mac, PORT_2, "192.0.2.1", SITE_V4).udp(1, 2, b"");
    router.counts(&from_nva(NVA).bytes(), Reason::Hairpin);
    // Another station of the same link is not the sender.
    router.forwards(&from_nva(nva(9)), PORT_2, NVA);
}

#[test]
fn a_packet_to_nowhere_counts_under_the_reason_why() {
    let mut router = Router::new();
    let packet = |to| Packet::new(VM, PORT_1, VM_V4, to).udp(1, 2, b"").bytes();
    router.counts(&packet("203.0.113.1"), Reason::NoRoute);
    router.route(LEARNED, "203.0.113.0/24", DISCARD, precedence::LEARNED, 0);
    router.counts(&packet("203.0.113.1"), Reason::Discard);
    router.route(
        OWN,
        "0.0.0.0/0",
        crate::router::NO_UPLINK,
        precedence::SYSTEM,
        0,
    );
    router.counts(&packet("198.51.100.1"), Reason::NoUplink);
    let blackhole = crate::router::BLACKHOLE;
    router.route(
        LEARNED,
        "198.51.100.1/32",
        blackhole,
        precedence::LEARNED,
        0,
    );
    router.counts(&packet("198.51.100.1"), Reason::Blackhole);
    router.next_hop(50, next_hop_kind::VIA, NONE);
    router.bucket(50, 50, 0);
    router.group(50, 50, 0);
    router.route(OWN, "198.51.100.0/24", 50, precedence::SYSTEM, 0);
    router.counts(&packet("198.51.100.2"), Reason::Unresolved);
    router.route(OWN, "192.0.2.0/24", 0, precedence::SYSTEM, 0);
    router.counts(&packet("192.0.2.1"), Reason::Internal);
    // A port that is no longer in the device map.
    router.neighbor(VIA, neighbor(NVA, PORT_2, 9));
    router.counts(&packet(SITE_V4), Reason::NextHopDown);
}

#[test]
fn the_second_buffer_may_begin_right_after_the_headers() {
    let router = Router::new();
    let packet = to_site_v4().udp(1, 2, &[9; 1000]);
    let mut expected = packet.bytes();
    after_hop(&mut expected, PORT_2, NVA);
    let outcome = router.run_with_linear(&packet.bytes(), Some(ETHERNET + 28));
    assert_eq!(outcome.action, Action::Redirect);
    assert_eq!(hex(&outcome.frame), hex(&expected));
}

const SITE_V4_NET: &str = "10.250.0.0/16";
