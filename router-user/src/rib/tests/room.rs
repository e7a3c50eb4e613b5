//! How long messages get: what has no room in one, what a step sends.

use super::*;
use crate::{
    bgp::wire::{AsSegment, AsSegmentKind, UnknownAttribute},
    rib::view::ENCODED,
};

#[test]
fn attributes_that_leave_no_room_for_a_prefix_are_passed_over() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.nva(host));
    let bulky = PathAttributes {
        communities: (0..1012).collect(),
        ..attributes(&[65010], 4)
    };
    lab.announce(a, "10.250.0.0/16", bulky);
    lab.announce(a, "10.251.0.0/16", attributes(&[65010], 4));
    lab.settle();
    assert_eq!(lab.holds(b, "10.250.0.0/16"), None);
    assert!(lab.holds(b, "10.251.0.0/16").is_some());
    lab.announce(c, "10.250.0.0/16", attributes(&[65012, 65012], 6));
    lab.settle();
    assert_eq!(
        lab.holds(b, "10.250.0.0/16"),
        Some(&attributes(&[ASN, 65012, 65012], 6)),
        "the next best path"
    );
}

#[test]
fn whether_long_attributes_fit_is_worked_out_once_a_batch_and_view() {
    let mut lab = Lab::new();
    let source = lab.nva(4);
    let others = [5, 6, 7].map(|host| lab.nva(host));
    let announce = |lab: &mut Lab, med| {
        let bulky = PathAttributes {
            med: Some(med),
            communities: (0..900).collect(),
            ..attributes(&[65010], 4)
        };
        for number in 0..200 {
            lab.announce(source, &format!("10.250.{number}.0/24"), bulky.clone());
        }
    };
    announce(&mut lab, 0);
    assert_eq!(encoded_during(|| lab.rib.flush()), 1);
    lab.rib.hold(lab.peers[others[0]].index);
    announce(&mut lab, 1);
    let both_sets = encoded_during(|| lab.rib.flush());
    assert_eq!(both_sets, 2, "also for the one that is held");
    lab.rib.resume(lab.peers[others[0]].index);
    assert_eq!(encoded_during(|| lab.settle()), 1);

    let late = lab.source(info(8));
    assert_eq!(encoded_during(|| lab.join(late)), 1);
    let index = lab.peers[late].index;
    let shown = encoded_during(|| assert_eq!(lab.rib.advertised(index, None).count(), 200));
    assert_eq!(shown, 1);
    for peer in others.into_iter().chain([late]) {
        assert_eq!(lab.peers[peer].holds.len(), 200);
    }
}

fn encoded_during(act: impl FnOnce()) -> usize {
    let before = ENCODED.get();
    act();
    ENCODED.get() - before
}

#[test]
fn however_long_the_attributes_a_step_sends_a_few_mebibytes() {
    // Each prefix has its own; all have the same, which leave room for hardly a prefix a message.
    for (communities, sets) in [(15_000, 600), (16_366, 1)] {
        let mut lab = Lab::new();
        let source = lab.source(info(4));
        let peer = lab.source(info(5));
        let index = lab.peers[peer].index;
        lab.peers[peer].context.extended_message = true;
        let announce = |lab: &mut Lab, asn| {
            for number in 0..600 {
                let long = PathAttributes {
                    med: Some(number % sets),
                    communities: (0..communities).collect(),
                    ..attributes(&[asn], 4)
                };
                let net = format!("10.{}.{}.0/24", number / 256, number % 256);
                lab.announce(source, &net, long);
            }
        };
        announce(&mut lab, 65010);
        let context = lab.peers[peer].context;
        lab.rib.join(index, View { context, ..view() });
        sent_in_small_steps(&mut lab, peer);
        assert_eq!(lab.peers[peer].ended, Family::ALL);

        lab.rib.refresh(index, Family::Ipv4Unicast, false);
        sent_in_small_steps(&mut lab, peer);

        lab.rib.hold(index);
        announce(&mut lab, 65020);
        lab.rib.resume(index);
        sent_in_small_steps(&mut lab, peer);
        assert_eq!(lab.peers[peer].announced, 3 * 600);
        assert_eq!(lab.peers[peer].holds.len(), 600);
    }
}

/// Steps until nothing is left to send to a peer; that is several MiB.
fn sent_in_small_steps(lab: &mut Lab, peer: usize) {
    let sent = |lab: &Lab| lab.peers[peer].pieces.iter().map(Bytes::len).sum::<usize>();
    let start = sent(lab);
    while lab.rib.is_dumping() {
        let before = sent(lab);
        lab.rib.step();
        lab.deliver();
        let step = sent(lab) - before;
        assert!(step <= 5 << 20, "{step} bytes in a step");
    }
    let total = sent(lab) - start;
    assert!(total >= 8 << 20, "{total} bytes in all");
}

#[test]
fn a_whole_chunk_of_ordinary_routes_is_packed_together() {
    const SETS: usize = 8192;
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    for number in 0..CHUNK {
        let net = format!("20.{}.{}.0/24", number / 256, number % 256);
        let path = PathAttributes {
            communities: (0..8).collect(),
            ..attributes(&[65010, 65020, 65030, (number % SETS) as Asn + 1], 4)
        };
        lab.announce(source, &net, path);
    }
    let peer = lab.source(info(5));
    lab.rib.join(lab.peers[peer].index, view());
    lab.rib.step();
    lab.deliver();
    assert_eq!(lab.peers[peer].holds.len(), CHUNK);
    assert_eq!(lab.peers[peer].updates, SETS + Family::ALL.len());
}

#[test]
fn rfc4271_9_2_whatever_the_attributes_take_their_room_with_is_passed_over() {
    let half: [fn(&mut PathAttributes); 5] = [
        |path| path.as_path = AsPath::sequence([65010; 525]),
        |path| path.communities = (0..525).collect(),
        |path| path.extended_communities = (0..263_u64).map(u64::to_be_bytes).collect(),
        |path| path.large_communities = (0..175).map(|number| [65010, 0, number]).collect(),
        |path| path.unknown = vec![unknown(99, 2100)],
    ];
    let with = |parts: &[fn(&mut PathAttributes)]| {
        let mut path = attributes(&[65010], 4);
        parts.iter().for_each(|add| add(&mut path));
        path
    };
    for (place, first) in half.iter().enumerate() {
        assert!(is_sent(with(&[*first])));
        for second in &half[place + 1..] {
            assert!(!is_sent(with(&[*first, *second])));
        }
    }
    let many = PathAttributes {
        unknown: (36..=255).map(|code| unknown(code, 16)).collect(),
        ..attributes(&[65010], 4)
    };
    assert!(!is_sent(many), "each has a header");
}

fn unknown(code: u8, length: usize) -> UnknownAttribute {
    UnknownAttribute {
        flags: 0xe0,
        code,
        value: vec![0; length].into(),
    }
}

/// Whether another peer is sent a route with these attributes.
fn is_sent(attributes: PathAttributes) -> bool {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    lab.announce(a, "10.250.0.0/16", attributes);
    lab.settle();
    let sent = lab.holds(b, "10.250.0.0/16").is_some();
    assert_eq!(
        lab.rib
            .totals(lab.peers[b].index)
            .advertised
            .iter()
            .sum::<usize>(),
        usize::from(sent)
    );
    sent
}

#[test]
fn what_does_not_fit_into_a_message_with_2_octet_as_numbers_is_not_counted_as_sent() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let old = lab.source(info(5));
    lab.peers[old].context.four_octet_asn = false;
    let view = View {
        context: lab.peers[old].context,
        ..view()
    };
    lab.rib.join(lab.peers[old].index, view);
    lab.announce(source, "10.2.0.0/16", attributes(&[65_536; 750], 4));
    lab.announce(source, "10.3.0.0/16", attributes(&[65_536; 600], 4));
    let segment = AsSegment {
        kind: AsSegmentKind::Set,
        asns: [65_536].into_iter().collect(),
    };
    let mut short_segments = attributes(&[], 4);
    short_segments.as_path.segments = std::iter::repeat_n(segment, 420).collect();
    lab.announce(source, "10.4.0.0/16", short_segments);
    lab.settle();
    assert_eq!(lab.peers[old].announced, 1);
    assert_eq!(
        lab.rib
            .totals(lab.peers[old].index)
            .advertised
            .iter()
            .sum::<usize>(),
        1
    );
}
