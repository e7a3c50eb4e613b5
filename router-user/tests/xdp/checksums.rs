//! Partial checksums are completed; others are left alone.

use router_common::maps::Neighbor;

use crate::{
    packet::{Packet, UDP},
    router::{Action, NVA, PORT_2, Router, VIA, after_hop, hex, neighbor, to_site_v4, to_site_v6},
};

#[test]
fn a_partial_checksum_of_any_length_is_completed() {
    let router = router();
    let lengths = [
        0, 1, 2, 3, 4, 5, 63, 100, 490, 491, 492, 493, 500, 501, 503, 504, 505, 511, 512, 513,
        1000, 1016, 1452, 1472, 3000, 4096, 9000, 16_000, 32_749, 60_001, 65_400,
    ];
    for length in lengths {
        let data = pattern(length);
        for whole in [
            to_site_v4().udp(1000, 2000, &data),
            to_site_v4().tcp(1000, 2000, &data),
            to_site_v6().udp(1000, 2000, &data),
            to_site_v6().tcp(1000, 2000, &data),
        ] {
            assert_completed(&router, &whole);
        }
    }
}

#[test]
fn a_partial_checksum_behind_options_and_extension_headers_is_completed() {
    let router = router();
    assert_completed(&router, &to_site_v4().tcp(1, 2, b"odd").options(&[1; 12]));
    let headers = vec![0, 0, 1, 4, 0, 0, 0, 0];
    assert_completed(
        &router,
        &to_site_v6().udp(1, 2, b"odd").extensions(0, headers, 0),
    );
}

#[test]
fn a_partial_checksum_is_completed_across_buffers() {
    let router = router();
    let whole = to_site_v4().tcp(1, 2, &pattern(1400));
    let mut expected = whole.bytes();
    after_hop(&mut expected, PORT_2, NVA);
    for linear in [54, 55, 100, 567, 1000] {
        let outcome = router.run_with_linear(&whole.clone().partial().bytes(), Some(linear));
        assert_eq!(outcome.action, Action::Redirect);
        assert_eq!(hex(&outcome.frame), hex(&expected), "{linear} bytes linear");
    }
}

#[test]
fn a_udp_checksum_that_comes_to_zero_is_sent_as_all_ones() {
    let router = router();
    // Data chosen so that the sum without it is filled up to all ones.
    let probe = to_site_v4().udp(1000, 2000, &[0, 0]);
    let checksum = u16::from_be_bytes([probe.payload[6], probe.payload[7]]);
    let whole = to_site_v4().udp(1000, 2000, &checksum.to_be_bytes());
    assert_eq!(whole.payload[6..8], [0xff, 0xff]);
    assert_completed(&router, &whole);
}

#[test]
fn udp_without_a_checksum_stays_without_one() {
    let mut packet = to_site_v4().udp(1, 2, b"no checksum");
    packet.payload[6..8].fill(0);
    router().forwards(&packet, PORT_2, NVA);
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for mut packet in [
        to_site_v4().tcp(1, 2, b"data"),
        to_site_v6().udp(1, 2, b"data"),
    ] {
        let place = if packet.protocol == UDP { 6 } else { 16 };
        packet.payload[place] ^= 0x55;
        router().forwards(&packet, PORT_2, NVA);
    }
}

#[test]
fn what_looks_like_a_partial_checksum_in_a_fragment_is_left_alone() {
    let packet = to_site_v4().udp(1, 2, b"part").partial().fragment(0x2000);
    router().forwards(&packet, PORT_2, NVA);
}

/// Sends the packet with a partial checksum; it is to arrive with the whole one.
#[track_caller]
fn assert_completed(router: &Router, whole: &Packet) {
    let mut expected = whole.bytes();
    after_hop(&mut expected, PORT_2, NVA);
    let outcome = router.run(&whole.clone().partial().bytes());
    assert_eq!(outcome.action, Action::Redirect, "{:?}", router.reasons());
    let length = whole.payload.len();
    assert_eq!(hex(&outcome.frame), hex(&expected), "{length} bytes");
}

fn router() -> Router {
    let mut router = Router::new();
    router.neighbor(
        VIA,
        Neighbor {
            mtu: 65_535 + 40,
            ..neighbor(NVA, PORT_2, 2)
        },
    );
    router
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 253) as u8).collect()
}
