//! Outbound route maps and limits: what they keep back, what they change, and how often they are asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::bgp::wire::community;

const NET: &str = "10.250.0.0/16";

/// A route map of rules that are asked in turn; counts how often it is evaluated.
#[derive(Debug)]
struct Map {
    rules: Vec<Rule>,
    asked: AtomicUsize,
}

#[derive(Debug)]
enum Rule {
    DropFrom(u8),
    DropOriginated,
    TagBeyond(IpNet),
    NextHop(u8),
    MedFrom(u8, u32),
    Lengthen(usize),
}

impl ExportPolicy for Map {
    fn evaluate(
        &self,
        prefix: IpNet,
        source: Source<'_>,
        attributes: &PathAttributes,
    ) -> Evaluation {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let from = |host: u8| match source {
            Source::Session(session) => session.id.peer == address(host),
            Source::Originated => false,
        };
        let mut changed = attributes.clone();
        for rule in &self.rules {
            match rule {
                Rule::DropFrom(host) if from(*host) => return Evaluation::Drop,
                Rule::DropOriginated if matches!(source, Source::Originated) => {
                    return Evaluation::Drop;
                }
                Rule::TagBeyond(last) if prefix > *last => changed.add_community(7),
                Rule::NextHop(host) => changed.next_hop = Some(address(*host).into()),
                Rule::MedFrom(host, med) if from(*host) => changed.med = Some(*med),
                Rule::Lengthen(count) => changed.as_path.prepend(ASN, *count),
                _ => {}
            }
        }
        match changed == *attributes {
            true => Evaluation::Keep,
            false => Evaluation::Change(changed),
        }
    }

    fn class(&self, prefix: IpNet) -> u32 {
        let mut tags = self.rules.iter();
        tags.any(|rule| matches!(rule, Rule::TagBeyond(last) if prefix > *last))
            .into()
    }
}

#[test]
fn what_a_policy_drops_gives_way_to_the_next_best_and_what_it_changes_is_sent_changed() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    let [plain, mapped] = [6, 7].map(|host| lab.nva(host));
    lab.announce(a, NET, attributes(&[65010], 4));
    lab.announce(b, NET, attributes(&[65020, 65020], 5));
    lab.settle();
    let policy = map([Rule::DropFrom(4), Rule::MedFrom(5, 50)]);
    set_policy(&mut lab, mapped, Some(policy.clone()));
    let expected = PathAttributes {
        med: Some(50),
        ..attributes(&[ASN, 65020, 65020], 5)
    };
    assert_eq!(lab.holds(mapped, NET), Some(&expected));
    assert_eq!(lab.holds(plain, NET), Some(&attributes(&[ASN, 65010], 4)));
    let index = lab.peers[mapped].index;
    let shown: Vec<_> = lab.rib.advertised(index, None).collect();
    assert_eq!(shown[0].attributes, expected);

    let announced = lab.peers[mapped].announced;
    lab.announce(a, NET, attributes(&[], 4));
    lab.settle();
    assert_eq!(lab.peers[mapped].announced, announced, "nothing for it");
    lab.withdraw(b, NET);
    lab.settle();
    assert_eq!(lab.holds(mapped, NET), None);
    set_policy(&mut lab, mapped, None);
    assert!(lab.holds(mapped, NET).is_some());
}

#[test]
fn another_policy_sends_only_what_it_makes_different() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peer = lab.nva(5);
    for number in 0..10 {
        let net = format!("10.{number}.0.0/16");
        lab.announce(source, &net, attributes(&[65010], 4));
    }
    lab.settle();
    let beyond = |last: &str| map([Rule::TagBeyond(prefix(last))]);
    assert_eq!(lab.peers[peer].announced, 10);
    set_policy(&mut lab, peer, Some(beyond("10.7.0.0/16")));
    assert_eq!(lab.peers[peer].announced, 12);
    set_policy(&mut lab, peer, Some(beyond("10.6.0.0/16")));
    assert_eq!(lab.peers[peer].announced, 13);
    set_policy(&mut lab, peer, Some(beyond("10.6.0.0/16")));
    assert_eq!(lab.peers[peer].announced, 13, "it makes the same of all");
    lab.rib.hold(lab.peers[peer].index);
    set_policy(&mut lab, peer, None);
    lab.rib.resume(lab.peers[peer].index);
    lab.settle();
    let tagged = lab.peers[peer].holds.values();
    assert_eq!(
        tagged.filter(|path| !path.communities.is_empty()).count(),
        0
    );
}

#[test]
fn a_policy_is_asked_once_for_paths_that_it_cannot_tell_apart() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    let peer = lab.nva(6);
    let policy = map([Rule::TagBeyond(prefix("10.59.0.0/16"))]);
    set_policy(&mut lab, peer, Some(policy.clone()));
    for number in 0..100 {
        let net = format!("10.{number}.0.0/16");
        lab.announce(a, &net, attributes(&[65010], 4));
        lab.announce(b, &net, attributes(&[65020, 65020], 5));
    }
    let updates = lab.peers[peer].updates;
    lab.settle();
    assert_eq!(policy.asked.load(Ordering::Relaxed), 2, "for each class");
    assert_eq!(lab.peers[peer].updates - updates, 2, "packed together");
    assert_eq!(lab.rib.totals(lab.peers[peer].index).advertised, [100, 0]);
}

#[test]
fn a_route_does_not_go_to_the_address_that_a_policy_makes_its_next_hop() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peers = [5, 6].map(|host| lab.nva(host));
    let policy = map([Rule::NextHop(5)]);
    let view = View {
        policy: Some(policy),
        ..view()
    };
    let views = peers.map(|peer| (lab.peers[peer].index, view.clone()));
    lab.rib.set_views(views.into());
    lab.announce(source, NET, attributes(&[65010], 6));
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.1.0.0/16"), Arc::default());
    lab.settle();
    assert!(lab.peers[peers[0]].holds.is_empty());
    for net in [NET, "10.1.0.0/16"] {
        let held = lab.holds(peers[1], net).expect("it was the next hop");
        assert_eq!(held.next_hop, Some(address(5).into()));
    }
}

#[test]
fn an_originated_route_that_a_policy_drops_gives_no_way_to_a_learned_one() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peer = lab.nva(5);
    set_policy(&mut lab, peer, Some(map([Rule::DropOriginated])));
    lab.announce(source, NET, attributes(&[65010], 4));
    lab.settle();
    assert!(lab.holds(peer, NET).is_some());
    lab.rib
        .originate(LocalSource::NETWORKS, prefix(NET), Arc::default());
    lab.settle();
    assert_eq!(lab.holds(peer, NET), None);
}

#[test]
fn what_a_policy_makes_too_long_for_a_message_is_not_sent() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peer = lab.nva(5);
    lab.announce(source, NET, attributes(&[65010], 4));
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.1.0.0/16"), Arc::default());
    lab.settle();
    assert_eq!(lab.peers[peer].holds.len(), 2);
    set_policy(&mut lab, peer, Some(map([Rule::Lengthen(2000)])));
    assert!(lab.peers[peer].holds.is_empty());
    assert_eq!(lab.rib.totals(lab.peers[peer].index).advertised, [0, 0]);
}

#[test]
fn communities_that_a_policy_adds_are_for_the_peer() {
    #[derive(Debug)]
    struct Tag;
    impl ExportPolicy for Tag {
        fn evaluate(&self, _: IpNet, _: Source<'_>, attributes: &PathAttributes) -> Evaluation {
            let mut attributes = attributes.clone();
            attributes.add_community(community::NO_EXPORT);
            Evaluation::Change(attributes)
        }

        fn class(&self, _: IpNet) -> u32 {
            0
        }
    }
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peer = lab.nva(5);
    set_policy(&mut lab, peer, Some(Arc::new(Tag)));
    lab.announce(source, NET, attributes(&[65010], 4));
    lab.settle();
    let held = lab.holds(peer, NET).expect("a route");
    assert_eq!(held.communities, [community::NO_EXPORT]);
}

#[test]
fn learned_routes_beyond_the_last_one_are_kept_back_and_counts_go_by_family() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    let peer = lab.nva(5);
    let index = lab.peers[peer].index;
    let v6 = PathAttributes {
        next_hop: Some("fd00:1:0:a::4".parse::<IpAddr>().unwrap().into()),
        ..attributes(&[65010], 4)
    };
    let nets = ["10.1.0.0/16", "10.2.0.0/16", "10.2.0.0/24", "10.3.0.0/16"];
    for net in nets {
        lab.announce(source, net, attributes(&[65010], 4));
    }
    for net in ["fd00:1::/48", "fd00:2::/48"] {
        lab.announce(source, net, v6.clone());
    }
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.9.0.0/16"), Arc::default());
    lab.settle();
    assert_eq!(lab.rib.totals(index).advertised, [5, 2]);
    let limited = |v4: &str| View {
        until: [Until::Prefix(prefix(v4)), Until::End],
        ..view()
    };
    lab.rib.set_views(vec![(index, limited("10.2.0.0/16"))]);
    lab.settle();
    assert_eq!(lab.rib.totals(index).advertised, [3, 2]);
    let held = ["10.1.0.0/16", "10.2.0.0/16", "10.9.0.0/16"];
    assert!(held.iter().all(|net| lab.holds(peer, net).is_some()));
    assert_eq!(lab.peers[peer].withdrawn, 2);
    lab.announce(source, "10.8.0.0/16", attributes(&[65010], 4));
    lab.settle();
    assert_eq!(lab.rib.totals(index).advertised, [3, 2]);
    lab.rib.set_views(vec![(index, limited("10.2.0.0/24"))]);
    lab.settle();
    assert_eq!(lab.rib.totals(index).advertised, [4, 2]);
    lab.rib.leave(index);
    assert_eq!(lab.rib.totals(index).advertised, [0, 0]);
}

fn map(rules: impl Into<Vec<Rule>>) -> Arc<Map> {
    Arc::new(Map {
        rules: rules.into(),
        asked: AtomicUsize::new(0),
    })
}

fn set_policy(lab: &mut Lab, peer: usize, policy: Option<Arc<dyn ExportPolicy>>) {
    let index = lab.peers[peer].index;
    lab.rib.set_views(vec![(index, View { policy, ..view() })]);
    lab.settle();
}
