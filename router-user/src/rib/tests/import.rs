//! What import makes of paths, and what is still known of them as they were received.

use std::num::NonZeroU8;

use super::*;
use crate::bgp::wire::community;

const NET: &str = "10.250.0.0/16";
const ELIGIBLE: Judgement = Judgement::Eligible(Zone(0));

#[test]
fn changed_attributes_decide_and_are_sent_and_those_received_are_shown() {
    let mut lab = Lab::new();
    let [a, b, c] = [4, 5, 6].map(|host| lab.nva(host));
    lab.announce(b, NET, attributes(&[65020], 5));
    let preferred = PathAttributes {
        local_pref: Some(200),
        med: Some(7),
        ..attributes(&[65010, 65010], 4)
    };
    let received = attributes(&[65010, 65011, 65012], 4);
    imported(&mut lab, a, received.clone(), preferred, None, ELIGIBLE);
    lab.settle();
    let sent = lab.holds(c, NET).expect("a route");
    assert_eq!(sent.as_path, AsPath::sequence([ASN, 65010, 65010]));
    assert_eq!(sent.med, Some(7));
    let shown = shown(&lab, a);
    assert_eq!(shown.verdict, Verdict::Best);
    assert_eq!(*shown.received, received);
    assert_eq!(shown.attributes.local_pref, Some(200));
    drop(shown);

    lab.rib.remove_session(lab.peers[a].index);
    lab.settle();
    assert_eq!(lab.rib.attribute_sets(), 1, "b's");
}

#[test]
fn importing_again_starts_from_what_was_received_and_changes_only_what_differs() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let index = lab.peers[a].index;
    for net in [NET, "10.251.0.0/16", "10.252.0.0/16"] {
        lab.announce(a, net, attributes(&[65010], 4));
    }
    lab.settle();
    let reimport = |lab: &mut Lab, tagged: &[&str]| {
        let tagged: Vec<IpNet> = tagged.iter().map(|net| prefix(net)).collect();
        lab.rib.reimport(index, |net, received| {
            assert!(received.communities.is_empty(), "as received");
            let mut made = received.clone();
            if tagged.contains(&net) {
                Arc::make_mut(&mut made).add_community(7);
            }
            Imported {
                judgement: ELIGIBLE,
                attributes: made,
                weight: None,
            }
        });
        lab.settle();
        lab.peers[b].announced
    };
    let tags = |lab: &Lab, net: &str| lab.holds(b, net).unwrap().communities.len();
    assert_eq!(reimport(&mut lab, &[NET, "10.251.0.0/16"]), 5);
    assert_eq!(lab.rib.attribute_sets(), 2);
    assert_eq!([NET, "10.252.0.0/16"].map(|net| tags(&lab, net)), [1, 0]);
    assert_eq!(reimport(&mut lab, &[NET, "10.252.0.0/16"]), 7);
    assert_eq!(reimport(&mut lab, &[NET, "10.252.0.0/16"]), 7, "the same");
    assert_eq!(reimport(&mut lab, &[]), 9);
    assert_eq!(lab.rib.attribute_sets(), 1);
}

#[test]
fn another_weight_or_other_attributes_as_received_are_no_news_for_peers() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let several = lab.add_path_nva(6, 4);
    let made = attributes(&[65010], 4);
    for (length, weight) in [(1, None), (1, Some(3)), (2, Some(3)), (2, None)] {
        let received = attributes(&vec![65010; length], 4);
        let weight = weight.and_then(NonZeroU8::new);
        imported(&mut lab, a, received, made.clone(), weight, ELIGIBLE);
        lab.settle();
        let members = lab.rib.take_learned().pop().map(|change| {
            let route = change.route.expect("a route");
            route.members[0].weight
        });
        let told = [(1, None), (1, Some(3)), (2, None)].contains(&(length, weight.map(u8::from)));
        let expected = weight.map_or(1, |weight| u32::from(weight.get()));
        assert_eq!(members, told.then_some(expected));
        assert_eq!(lab.peers[b].announced, 1);
        assert_eq!(lab.peers[several].announced, 1);
    }
}

#[test]
fn what_is_kept_for_long_still_knows_what_was_received() {
    let mut lab = Lab::new();
    let a = lab.nva(4);
    let index = lab.peers[a].index;
    let received = attributes(&[65010], 4);
    let changed = attributes(&[65010, 65010], 4);
    imported(&mut lab, a, received, changed, NonZeroU8::new(3), ELIGIBLE);
    lab.rib.mark_stale(index, Family::Ipv4Unicast);
    lab.rib.make_long_lived(index, Family::Ipv4Unicast);
    let shown = shown(&lab, a);
    assert_eq!(shown.received.as_path, AsPath::sequence([65010]));
    assert_eq!(shown.attributes.as_path, AsPath::sequence([65010, 65010]));
    for attributes in [shown.received, shown.attributes] {
        assert!(attributes.has_community(community::LLGR_STALE));
    }
    lab.rib.flush();
    assert_eq!(lab.rib.attribute_sets(), 2);
    lab.rib.remove_session(index);
    assert_eq!(lab.rib.attribute_sets(), 0);
}

#[test]
fn zones_are_in_use_while_an_eligible_path_has_its_next_hop_there() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.nva(host));
    let zones = |lab: &Lab| -> Vec<u16> {
        let zones = lab.rib.zones_in_use();
        zones.into_iter().map(|zone| zone.0).collect()
    };
    assert_eq!(zones(&lab), [0; 0]);
    judged(&mut lab, a, Judgement::Eligible(Zone(3)));
    judged(&mut lab, b, Judgement::Eligible(Zone::LAST));
    assert_eq!(zones(&lab), [3, 4094]);
    judged(&mut lab, a, Judgement::Eligible(Zone::LAST));
    assert_eq!(zones(&lab), [4094], "the same path elsewhere");
    judged(&mut lab, b, Judgement::Rejected("loop".into()));
    assert_eq!(zones(&lab), [4094]);
    lab.withdraw(a, NET);
    assert_eq!(zones(&lab), [0; 0]);
    lab.rib
        .originate(LocalSource::NETWORKS, prefix(NET), Arc::default());
    assert_eq!(zones(&lab), [0; 0], "what is originated has none");
}

fn judged(lab: &mut Lab, peer: usize, judgement: Judgement) {
    let host = match lab.rib.core.sessions.info(lab.peers[peer].index).id.peer {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => unreachable!("these tests use IPv4"),
    };
    let received = attributes(&[65010], host);
    imported(lab, peer, received.clone(), received, None, judgement);
}

/// A peer announces a path, and import makes this of it.
fn imported(
    lab: &mut Lab,
    peer: usize,
    received: PathAttributes,
    changed: PathAttributes,
    weight: Option<NonZeroU8>,
    judgement: Judgement,
) {
    let interned = lab
        .rib
        .intern(Arc::new(received), Arc::new(changed), weight);
    let index = lab.peers[peer].index;
    let nlri = prefix(NET).into();
    lab.rib.announce(index, nlri, &interned, &judgement);
    lab.rib.release(interned);
}

/// A peer's path as people see it.
fn shown(lab: &Lab, peer: usize) -> PathView {
    let session = &lab.rib.core.sessions.info(lab.peers[peer].index).id;
    let views = lab.rib.prefixes(Some(prefix(NET)), None);
    let mut paths = views.flat_map(|view| view.paths);
    paths
        .find(|path| path.session == *session)
        .expect("its path")
}

#[test]
fn importing_the_paths_of_a_session_again_ends_with_the_last_of_them() {
    let mut lab = Lab::new();
    let [few, many] = [4, 5].map(|host| lab.source(info(host)));
    lab.announce(few, "10.250.0.0/16", attributes(&[65010], 4));
    for number in 0..100 {
        lab.announce(
            many,
            &format!("10.9.{number}.0/24"),
            attributes(&[65020], 5),
        );
    }
    lab.settle();
    let index = lab.peers[few].index;
    let before = WALKED.get();
    let mut imported = 0;
    lab.rib.reimport(index, |_, received| {
        imported += 1;
        Imported {
            judgement: Judgement::Rejected("no more".into()),
            attributes: received.clone(),
            weight: None,
        }
    });
    assert_eq!((imported, WALKED.get() - before), (1, 1));
}
