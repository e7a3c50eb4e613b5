//! Which next hop a flow takes, and that user space says the same.

use std::net::IpAddr;

use router_common::{
    flow::{self, ADDRESSES_ONLY},
    maps::precedence,
    reason::Reason,
};

use crate::{
    packet::{Mac, Packet, TCP, UDP},
    router::{
        Action, BUCKETS, FOUR, LEARNED, PORT_1, Router, SEED, SITE_V4, SITE_V6, VIA, VM, VM_V4,
        VM_V6, nva, to_site_v4, to_site_v6,
    },
};

#[test]
fn flows_spread_over_the_members_as_user_space_foretells() {
    let router = router();
    for (source, destination) in [(VM_V4, SITE_V4), (VM_V6, SITE_V6)] {
        let mut taken = [0; 4];
        for port in 2000..2800 {
            let packet = Packet::new(VM, PORT_1, source, destination);
            let (packet, protocol) = if port % 2 == 0 {
                (packet.tcp(port, 443, b""), TCP)
            } else {
                (packet.udp(port, 443, b""), UDP)
            };
            let member = member(&packet, protocol, Some((port, 443)));
            assert_eq!(way_of(&router, &packet), nva(member));
            taken[member as usize] += 1;
        }
        assert!(taken.iter().all(|n| (140..=260).contains(n)), "{taken:?}");
    }
}

#[test]
fn protocols_without_ports_are_hashed_by_addresses_and_protocol() {
    let router = router();
    for protocol in [1, 4, 47, 50, 58, 89] {
        for mut packet in [to_site_v4(), to_site_v6()] {
            packet.protocol = protocol;
            // An echo request where that is ICMP's; the same bytes where it is not.
            packet.payload = vec![if protocol == 1 { 8 } else { 128 }, 0, 0, 0, 1, 2, 3, 4];
            let member = member(&packet, protocol, None);
            assert_eq!(way_of(&router, &packet), nva(member), "protocol {protocol}");
        }
    }
}

#[test]
fn all_fragments_of_a_packet_take_the_way_of_their_addresses() {
    let router = router();
    for port in 0..50 {
        let packet = to_site_v4().udp(port, port, b"........");
        let expected = nva(member(&packet, ADDRESSES_ONLY, None));
        for field in [0x2000, 0x2010, 0x0020] {
            assert_eq!(way_of(&router, &packet.clone().fragment(field)), expected);
        }
        let packet = to_site_v6().udp(port, port, b"........");
        let expected = nva(member(&packet, ADDRESSES_ONLY, None));
        for [high, low] in [[0, 1], [0, 0x81], [1, 0]] {
            let header = vec![0, 0, high, low, 0, 0, 0, 1];
            let fragment = packet.clone().extensions(44, header, 0);
            assert_eq!(way_of(&router, &fragment), expected);
        }
    }
}

#[test]
fn ports_are_found_behind_options_and_extension_headers() {
    let router = router();
    for port in 3000..3050 {
        let packet = to_site_v4().tcp(port, 80, b"");
        let expected = nva(member(&packet, TCP, Some((port, 80))));
        assert_eq!(way_of(&router, &packet.options(&[1; 24])), expected);

        let packet = to_site_v6().tcp(port, 80, b"");
        let expected = nva(member(&packet, TCP, Some((port, 80))));
        // Hop-by-hop options of 16 bytes, an authentication header of 12, destination options.
        let mut headers = vec![51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        headers.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        headers.extend([0, 0, 1, 2, 0, 0, 0, 0]);
        assert_eq!(
            way_of(&router, &packet.extensions(0, headers, 28)),
            expected
        );
    }
}

#[test]
fn an_icmp_error_takes_the_way_of_the_flow_that_it_is_about() {
    let router = router();
    for port in 5000..5060 {
        // What the site sent to the VM, and the VM's complaint about it.
        let sent = Packet::new([0; 6], [0; 6], SITE_V4, VM_V4).udp(port, 99, b"");
        let error = to_site_v4().icmp(3, 3, &sent.bytes()[14..]);
        let answer = to_site_v4().udp(99, port, b"");
        assert_eq!(way_of(&router, &error), way_of(&router, &answer));

        let sent = Packet::new([0; 6], [0; 6], SITE_V6, VM_V6).tcp(port, 99, b"");
        let error = to_site_v6().icmp(1, 4, &sent.bytes()[14..]);
        let answer = to_site_v6().tcp(99, port, b"");
        assert_eq!(way_of(&router, &error), way_of(&router, &answer));
    }
}

#[test]
fn an_icmp_error_that_quotes_nothing_of_use_is_forwarded() {
    let router = router();
    for quote in [&[][..], &[0x45, 0, 0], &[0; 20], &[0xff; 64]] {
        for packet in [
            to_site_v4().icmp(11, 0, quote),
            to_site_v6().icmp(3, 0, quote),
        ] {
            assert_eq!(router.run(&packet.bytes()).action, Action::Redirect);
        }
    }
}

#[test]
fn a_member_that_is_down_gives_only_its_own_flows_to_the_backups() {
    let mut router = router();
    let packets: Vec<_> = (0..400)
        .map(|port| to_site_v4().udp(port, 53, b""))
        .collect();
    let before: Vec<_> = packets
        .iter()
        .map(|packet| way_of(&router, packet))
        .collect();
    router.down(VIA + 1);
    for (packet, before) in packets.iter().zip(before) {
        let expected = if before == nva(1) { nva(2) } else { before };
        assert_eq!(way_of(&router, packet), expected);
    }
}

#[test]
fn a_flow_whose_next_hop_and_backup_are_down_is_dropped() {
    let mut router = router();
    for n in 0..4 {
        router.down(VIA + n);
    }
    router.counts(&to_site_v4().udp(1, 2, b"").bytes(), Reason::NextHopDown);

    let mut router = Router::new();
    router.down(VIA);
    // A bucket without a backup.
    router.counts(&to_site_v6().udp(1, 2, b"").bytes(), Reason::NextHopDown);
}

/// A router whose way to the site is a group of four.
fn router() -> Router {
    let mut router = Router::new();
    for site in ["10.250.0.0/16", "fd00:250::/48"] {
        router.route(LEARNED, site, FOUR, precedence::LEARNED, 0);
    }
    router
}

/// Which of the four user space says that the flow takes.
fn member(packet: &Packet, protocol: u8, ports: Option<(u16, u16)>) -> u32 {
    let (source, destination): (IpAddr, IpAddr) = (packet.source, packet.destination);
    flow::hash(source, destination, protocol, ports, SEED) % BUCKETS % 4
}

/// The MAC address that the packet is sent to.
#[track_caller]
fn way_of(router: &Router, packet: &Packet) -> Mac {
    let outcome = router.run(&packet.bytes());
    assert_eq!(outcome.action, Action::Redirect, "{:?}", router.reasons());
    let mut mac = Mac::default();
    mac.copy_from_slice(&outcome.frame[..6]);
    mac
}
