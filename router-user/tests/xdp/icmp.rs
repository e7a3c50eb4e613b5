//! ICMP errors made by the program, and when none is.

use router_common::{maps::Neighbor, reason::Reason};

use crate::{
    packet::{ETHERNET, Packet, fold, sum},
    router::{
        Action, GATEWAY_V4, GATEWAY_V6, NVA, PORT_1, PORT_2, Router, VIA, VM, VM_V4, VM_V6, hex,
        neighbor, to_site_v4, to_site_v6, vm_port,
    },
};

#[test]
fn a_packet_whose_ttl_runs_out_is_answered_with_time_exceeded() {
    let router = Router::new();
    for hops in [0, 1] {
        let packet = to_site_v4().udp(33434, 33434, b"traceroute").hops(hops);
        assert_answer_v4(&router, &packet, [11, 0, 0, 0]);
        let packet = to_site_v6().udp(33434, 33434, b"traceroute").hops(hops);
        assert_answer_v6(&router, &packet, [3, 0], 0);
        let packet = to_site_v4().icmp(8, 0, b"ping").hops(hops);
        assert_answer_v4(&router, &packet, [11, 0, 0, 0]);
        let packet = to_site_v6().icmp(128, 0, b"ping").hops(hops);
        assert_answer_v6(&router, &packet, [3, 0], 0);
        let packet = to_site_v4().udp(1, 2, b"x").options(&[1; 8]).hops(hops);
        assert_answer_v4(&router, &packet, [11, 0, 0, 0]);
        let first_fragment = to_site_v4().udp(1, 2, b"x").fragment(0x2000).hops(hops);
        assert_answer_v4(&router, &first_fragment, [11, 0, 0, 0]);
    }
}

#[test]
fn a_packet_without_a_route_is_answered_all_the_same_when_its_ttl_runs_out() {
    let router = Router::new();
    let packet = Packet::new(VM, PORT_1, VM_V4, "203.0.113.9").udp(1, 2, b"x");
    assert_answer_v4(&router, &packet.hops(1), [11, 0, 0, 0]);
}

#[test]
fn an_answer_quotes_as_much_as_every_link_carries() {
    let mut router = Router::new();
    router.neighbor(VIA, jumbo());
    for length in [0, 1, 3, 511, 512, 513, 519, 520, 521, 1400, 9000, 60_000] {
        let packet = to_site_v4().udp(1, 2, &pattern(length)).hops(1);
        assert_answer_v4(&router, &packet, [11, 0, 0, 0]);
        let packet = to_site_v6().udp(1, 2, &pattern(length)).hops(1);
        assert_answer_v6(&router, &packet, [3, 0], 0);
    }
}

#[test]
fn padding_of_the_frame_is_not_quoted() {
    let router = Router::new();
    let packet = to_site_v4().udp(1, 2, b"").hops(1);
    let mut frame = packet.bytes();
    frame.resize(60, 0xee);
    let outcome = router.run(&frame);
    assert_eq!(outcome.action, Action::Redirect);
    assert_eq!(hex(&outcome.frame[42..]), hex(&packet.bytes()[ETHERNET..]));
}

#[test]
fn a_packet_larger_than_the_way_out_is_answered_with_its_mtu() {
    let mut router = Router::new();
    let narrow = Neighbor {
        mtu: 1400,
        ..neighbor(NVA, PORT_2, 2)
    };
    router.neighbor(VIA, narrow);
    // 1400 bytes fit, 1401 do not.
    router.forwards(&to_site_v4().udp(1, 2, &[1; 1372]), PORT_2, NVA);
    router.forwards(&to_site_v6().udp(1, 2, &[1; 1352]), PORT_2, NVA);
    let packet = to_site_v4().udp(1, 2, &[1; 1373]);
    assert_answer_v4(&router, &packet, [3, 4, 5, 0x78]);
    let packet = to_site_v6().udp(1, 2, &[1; 1353]);
    assert_answer_v6(&router, &packet, [2, 0], 1400);
    assert_eq!(router.reasons(), [("mtu_exceeded", 2)]);
    // It may be fragmented, and is by nobody.
    let packet = to_site_v4().udp(1, 2, &[1; 1373]).fragment(0);
    router.counts(&packet.bytes(), Reason::TooBig);
}

#[test]
fn an_icmp_error_is_never_answered() {
    let router = Router::new();
    for kind in [3, 4, 5, 11, 12] {
        let packet = to_site_v4().icmp(kind, 0, &[0; 28]).hops(1);
        router.counts(&packet.bytes(), Reason::TtlExpired);
    }
    for kind in [1, 2, 3, 4, 100, 127, 137] {
        let packet = to_site_v6().icmp(kind, 0, &[0; 48]).hops(1);
        router.counts(&packet.bytes(), Reason::TtlExpired);
    }
}

#[test]
fn a_fragment_other_than_the_first_is_never_answered() {
    let router = Router::new();
    for field in [0x2001, 0x0001, 0x1fff] {
        let packet = to_site_v4().udp(1, 2, b"x").fragment(field).hops(1);
        router.counts(&packet.bytes(), Reason::TtlExpired);
    }
    let header = vec![0, 0, 0, 8, 0, 0, 0, 1];
    let packet = to_site_v6()
        .udp(1, 2, b"x")
        .extensions(44, header, 0)
        .hops(1);
    router.counts(&packet.bytes(), Reason::TtlExpired);
}

#[test]
fn a_port_without_a_gateway_address_answers_nothing() {
    let mut router = Router::new();
    let mut silent = vm_port();
    silent.gateway_v4 = [0; 4];
    silent.gateway_v6 = [0; 16];
    router.port(silent);
    for packet in [to_site_v4(), to_site_v6()] {
        let packet = packet.udp(1, 2, b"x").hops(1);
        router.counts(&packet.bytes(), Reason::TtlExpired);
    }
}

#[test]
fn answers_are_limited_to_the_rate_of_the_settings() {
    let mut router = Router::new();
    let frame = to_site_v4().udp(1, 2, b"x").hops(1).bytes();
    router.settings(0);
    router.counts(&frame, Reason::TtlExpired);

    router.settings(5);
    for _ in 0..200 {
        router.run(&frame);
    }
    let counted = router.counted(1);
    // A second's worth for each CPU that ran the test, and what came back meanwhile.
    assert!((5..=40).contains(&counted.time_exceeded), "{counted:?}");
    assert_eq!(counted.time_exceeded + counted.ttl_expired, 201);
}

/// Runs the packet and checks all of the answer: headers, checksums and quote.
#[track_caller]
fn assert_answer_v4(router: &Router, packet: &Packet, kind: [u8; 4]) {
    let original = &packet.bytes()[ETHERNET..];
    let quote = &original[..original.len().min(548)];
    let frame = answer(router, packet);
    assert_eq!(frame[12..14], [0x08, 0x00]);
    let (header, icmp) = frame[ETHERNET..].split_at(20);
    assert_eq!(header[0], 0x45);
    assert_eq!(header[2..4], (28 + quote.len() as u16).to_be_bytes());
    assert_eq!(header[8..10], [64, 1]);
    assert_eq!(header[12..16], v4(GATEWAY_V4));
    assert_eq!(header[16..20], v4(VM_V4));
    assert_eq!(fold(sum(header)), 0xffff, "header checksum");
    assert_eq!(icmp[..2], kind[..2]);
    assert_eq!(icmp[4..8], [0, 0, kind[2], kind[3]]);
    assert_eq!(hex(&icmp[8..]), hex(quote));
    assert_eq!(fold(sum(icmp)), 0xffff, "ICMP checksum");
}

#[track_caller]
fn assert_answer_v6(router: &Router, packet: &Packet, kind: [u8; 2], rest: u32) {
    let original = &packet.bytes()[ETHERNET..];
    let quote = &original[..original.len().min(1232)];
    let frame = answer(router, packet);
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    let (header, icmp) = frame[ETHERNET..].split_at(40);
    assert_eq!(header[..4], [0x60, 0, 0, 0]);
    assert_eq!(header[4..6], (8 + quote.len() as u16).to_be_bytes());
    assert_eq!(header[6..8], [58, 64]);
    assert_eq!(header[8..24], v6(GATEWAY_V6));
    assert_eq!(header[24..40], v6(VM_V6));
    assert_eq!(icmp[..2], kind);
    assert_eq!(icmp[4..8], rest.to_be_bytes());
    assert_eq!(hex(&icmp[8..]), hex(quote));
    let pseudo = sum(&header[8..40]) + icmp.len() as u32 + 58;
    assert_eq!(fold(pseudo + sum(icmp)), 0xffff, "ICMPv6 checksum");
}

/// The frame that the VM gets back.
#[track_caller]
fn answer(router: &Router, packet: &Packet) -> Vec<u8> {
    let outcome = router.run(&packet.bytes());
    assert_eq!(outcome.action, Action::Redirect, "{:?}", router.reasons());
    assert_eq!(outcome.frame[..6], VM);
    assert_eq!(outcome.frame[6..12], PORT_1);
    outcome.frame
}

fn jumbo() -> Neighbor {
    Neighbor {
        mtu: 65_535,
        ..neighbor(NVA, PORT_2, 2)
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn v4(address: &str) -> [u8; 4] {
    address
        .parse::<std::net::Ipv4Addr>()
        .expect("an address")
        .octets()
}

fn v6(address: &str) -> [u8; 16] {
    address
        .parse::<std::net::Ipv6Addr>()
        .expect("an address")
        .octets()
}
