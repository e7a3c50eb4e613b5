//! Several views of what is learned, each with routes of its own: what counts in them, what they are
//! told when they are made, weights, blackholes, and settings that change for all.

use std::num::NonZeroU8;

use super::*;
use crate::bgp::wire::community;

const NET: &str = "10.250.0.0/16";
const NVA: SourceKind = SourceKind(0);
const VPN: SourceKind = SourceKind(2);
const OTHER: LearnedViewId = LearnedViewId(7);

#[test]
fn a_view_takes_the_best_of_its_own_sources_and_shows_the_others_as_excluded() {
    let mut lab = Lab::new();
    let vpn_only = only(VPN, &[0]);
    lab.rib.set_learned_view(OTHER, vpn_only.clone());
    let nva = lab.source(info(4));
    let vpn = lab.source(SessionInfo {
        kind: VPN,
        ..info(5)
    });
    lab.announce(nva, NET, attributes(&[65010], 4));
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [4]"]);
    lab.announce(vpn, NET, attributes(&[65020, 65020], 5));
    let expected = ["v0 10.250.0.0/16 [4]+[5]", "v7 10.250.0.0/16 [5]"];
    assert_eq!(told(&mut lab), expected);

    let verdicts = verdicts(&lab, Some(&vpn_only));
    assert_eq!(verdicts[0], Verdict::Excluded(Exclusion::Source));
    assert_eq!(verdicts[1], Verdict::Best);
    let all = [Verdict::Best, Verdict::Lost(Step::AsPathLength)];
    assert_eq!(self::verdicts(&lab, None), all);

    lab.withdraw(nva, NET);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [5]"]);
    lab.rib.remove_learned_view(OTHER);
    lab.withdraw(vpn, NET);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 gone"]);
}

#[test]
fn a_next_hop_out_of_reach_leads_nowhere_unless_another_one_does_not() {
    let mut lab = Lab::new();
    let reach = only(NVA, &[0, 70]);
    lab.rib.set_learned_view(OTHER, reach);
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    judge(&mut lab, a, attributes(&[65010], 4), Zone(70));
    let expected = ["v0 10.250.0.0/16 []", "v7 10.250.0.0/16 [4]"];
    assert_eq!(told(&mut lab), expected);
    let excluded = verdicts(&lab, Some(&learned_view()));
    assert_eq!(excluded, [Verdict::Excluded(Exclusion::Reach)]);

    judge(&mut lab, a, attributes(&[65010], 4), Zone(71));
    assert_eq!(told(&mut lab), ["v7 10.250.0.0/16 []"]);
    judge(&mut lab, b, attributes(&[65010, 65010], 5), Zone(0));
    let expected = ["v0 10.250.0.0/16 [5]", "v7 10.250.0.0/16 [5]"];
    assert_eq!(told(&mut lab), expected);
    lab.rib
        .originate(LocalSource::NETWORKS, prefix("10.9.0.0/16"), Arc::default());
    assert_eq!(told(&mut lab), [""; 0], "what is originated is not learned");
}

#[test]
fn a_new_view_is_told_what_stands_in_steps_and_then_says_so() {
    let mut lab = Lab::new();
    assert_eq!(lab.rib.take_told(), [LearnedViewId(0)], "nothing stood");
    let source = lab.source(info(4));
    let numbered = |number: usize| format!("20.{}.{}.0/24", number / 256, number % 256);
    let count = CHUNK + 3;
    for number in 0..count {
        lab.announce(source, &numbered(number), attributes(&[65004], 4));
    }
    lab.announce(source, "fd00:250::/32", attributes(&[65004], 4));
    lab.rib.take_learned();
    let marks_only = LearnedView {
        marks_only: true,
        ..learned_view()
    };
    lab.rib.set_learned_view(OTHER, learned_view());
    lab.rib.set_learned_view(LearnedViewId(8), marks_only);
    let mut steps = 0;
    let mut changes = Vec::new();
    let mut done = Vec::new();
    while lab.rib.is_dumping() {
        assert_eq!(lab.rib.take_told(), []);
        lab.rib.step();
        changes.extend(lab.rib.take_learned());
        steps += 1;
        if !lab.rib.is_telling() {
            done = lab.rib.take_told();
        } else {
            lab.rib.take_told().clone_into(&mut done);
            assert!(!done.contains(&LearnedViewId(8)), "not yet");
        }
    }
    assert!(steps > 1);
    assert_eq!(done.last(), Some(&LearnedViewId(8)));
    assert_eq!(changes.len(), count + 1);
    assert!(changes.iter().all(|change| change.view == OTHER));

    lab.announce(source, "0.0.0.0/0", attributes(&[65004], 4));
    let views = lab.rib.take_learned().into_iter().map(|change| change.view);
    let all = [LearnedViewId(0), OTHER, LearnedViewId(8)];
    assert_eq!(views.collect::<Vec<_>>(), all, "a default route is a mark");
    lab.announce(source, "10.9.0.0/16", attributes(&[65004], 4));
    assert_eq!(lab.rib.take_learned().len(), 2, "another route is none");
}

#[test]
fn a_view_of_marks_is_told_what_stands_of_them() {
    let mut lab = Lab::new();
    let source = lab.source(info(4));
    lab.announce(source, "0.0.0.0/0", attributes(&[65004], 4));
    lab.announce(source, "10.9.0.0/16", attributes(&[65004], 4));
    judge(&mut lab, source, attributes(&[65004], 4), Zone(3));
    told(&mut lab);
    let marks_only = LearnedView {
        marks_only: true,
        ..learned_view()
    };
    lab.rib.set_learned_view(OTHER, marks_only);
    lab.settle();
    let expected = ["v7 0.0.0.0/0 [4]", "v7 10.250.0.0/16 []"];
    assert_eq!(told(&mut lab), expected);
}

#[test]
fn rfc7999_packets_to_a_blackhole_are_dropped_if_the_peer_may_say_so() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    let mut blackhole = attributes(&[65010], 4);
    blackhole.add_community(community::BLACKHOLE);
    lab.announce(a, NET, blackhole);
    lab.announce(b, NET, attributes(&[65020, 65020], 5));
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [4]+[5]"], "it may not");
    let index = lab.peers[a].index;
    lab.rib.set_may_blackhole(index, true);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 blackhole"]);
    lab.rib.set_may_blackhole(index, true);
    assert_eq!(told(&mut lab), [""; 0]);
    lab.announce(b, NET, attributes(&[], 5));
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [5]+[4]"], "not the best");
    lab.withdraw(b, NET);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 blackhole"]);
    lab.rib.set_may_blackhole(index, false);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [4]"]);
}

#[test]
fn weights_follow_the_bandwidth_of_all_members_and_a_route_map_has_the_last_word() {
    let mut lab = Lab::new();
    let peers = [4, 5, 6].map(|host| lab.source(info(host)));
    let with = |host: u8, bandwidth: Option<f32>| {
        let bandwidth = bandwidth.map(|bandwidth| {
            let [a, b, c, d] = bandwidth.to_be_bytes();
            [0x40, 0x04, 0xfd, 0xf2, a, b, c, d]
        });
        PathAttributes {
            extended_communities: bandwidth.into_iter().collect(),
            ..attributes(&[65010], host)
        }
    };
    let weights = |lab: &mut Lab, bandwidths: [Option<f32>; 3], map: Option<u8>| {
        for ((peer, host), bandwidth) in peers.into_iter().zip(4..).zip(bandwidths) {
            let weight = map.filter(|_| host == 6).and_then(NonZeroU8::new);
            let received = Arc::new(with(host, bandwidth));
            let interned = lab.rib.intern(received.clone(), received, weight);
            let index = lab.peers[peer].index;
            let eligible = Judgement::Eligible(Zone(0));
            let nlri = prefix(NET).into();
            lab.rib.announce(index, nlri, &interned, &eligible);
            lab.rib.release(interned);
        }
        let route = lab.rib.take_learned().pop().expect("a change").route;
        let members = route.expect("a route").members;
        let weights = members.iter().map(|member| member.weight);
        weights.collect::<Vec<_>>()
    };
    let gigabit = Some(125e6);
    let (tenth, tiny) = (Some(12.5e6), Some(1.0));
    assert_eq!(
        weights(&mut lab, [gigabit, tenth, tiny], None),
        [255, 26, 1]
    );
    assert_eq!(weights(&mut lab, [gigabit, tenth, None], None), [1, 1, 1]);
    for useless in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        weights(&mut lab, [gigabit; 3], None);
        let with_useless = [gigabit, tenth, Some(useless)];
        assert_eq!(weights(&mut lab, with_useless, None), [1, 1, 1]);
    }
    assert_eq!(
        weights(&mut lab, [gigabit, tenth, tiny], Some(9)),
        [255, 26, 9]
    );
    assert_eq!(
        weights(&mut lab, [gigabit, tenth, tiny], Some(3)),
        [255, 26, 3]
    );
    assert_eq!(weights(&mut lab, [None; 3], Some(3)), [1, 1, 3]);
}

#[test]
fn another_class_of_a_kind_changes_what_is_learned_and_sent_and_nothing_else() {
    let mut lab = Lab::new();
    let nva = lab.nva(4);
    let vpn = lab.source(SessionInfo {
        kind: VPN,
        class: 2,
        ..info(5)
    });
    let peer = lab.nva(6);
    for net in [NET, "10.9.0.0/16"] {
        lab.announce(nva, net, attributes(&[65010], 4));
    }
    lab.announce(vpn, NET, attributes(&[65020], 5));
    let view = View {
        sources: SourceKinds::ALL,
        ..view()
    };
    lab.rib.set_views(vec![(lab.peers[peer].index, view)]);
    lab.settle();
    told(&mut lab);
    let sent = lab.peers[peer].announced;
    let hop = |lab: &Lab| lab.holds(peer, NET).unwrap().next_hop;
    assert_eq!(hop(&lab), Some(address(4).into()));

    let prefer = |lab: &mut Lab, kind: SourceKind| {
        lab.rib.reclassify(|session| match session.kind == kind {
            true => 0,
            false => 2,
        });
        lab.settle();
    };
    prefer(&mut lab, VPN);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [5]+[4]"]);
    assert_eq!(hop(&lab), Some(address(5).into()));
    assert_eq!(lab.peers[peer].announced, sent + 1);
    lab.announce(vpn, NET, attributes(&[65020], 5));
    prefer(&mut lab, VPN);
    assert_eq!(told(&mut lab), [""; 0], "announced again as it stands");
    prefer(&mut lab, NVA);
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [4]+[5]"]);
    assert_eq!(lab.peers[peer].announced, sent + 2);
}

#[test]
fn comparing_every_med_changes_what_is_learned_and_what_each_peer_is_sent() {
    let mut lab = Lab::new();
    let [a, b] = [4, 5].map(|host| lab.source(info(host)));
    for (peer, host, asn, med) in [(a, 4, 65010, 9), (b, 5, 65020, 1)] {
        let path = PathAttributes {
            med: Some(med),
            ..attributes(&[asn], host)
        };
        lab.announce(peer, NET, path);
    }
    let [level, behind] = [6, 7].map(|host| lab.nva(host));
    lab.rib.hold(lab.peers[behind].index);
    let one_of_several = lab.add_path_nva(9, 1);
    lab.rib.hold(lab.peers[one_of_several].index);
    let starting = lab.source(info(8));
    lab.rib.join(lab.peers[starting].index, view());
    told(&mut lab);
    lab.rib.set_options(DecisionOptions {
        always_compare_med: true,
        ..DecisionOptions::default()
    });
    assert_eq!(told(&mut lab), ["v0 10.250.0.0/16 [5]+[4]"]);
    lab.rib.resume(lab.peers[behind].index);
    lab.rib.resume(lab.peers[one_of_several].index);
    lab.settle();
    let held: Vec<_> = lab.peers[one_of_several].holds.values().collect();
    assert_eq!(held, [lab.holds(level, NET).unwrap()], "the other is gone");
    for (peer, announced) in [(level, 2), (behind, 2), (starting, 1)] {
        let next_hop = lab.holds(peer, NET).unwrap().next_hop;
        assert_eq!(next_hop, Some(address(5).into()));
        assert_eq!(lab.peers[peer].announced, announced);
    }
}

fn only(kind: SourceKind, reach: &[u16]) -> LearnedView {
    LearnedView {
        sources: SourceKinds::default().with(kind),
        towards: Towards::Subnets,
        reach: reach.iter().copied().map(Zone).collect(),
        marks_only: false,
    }
}

/// A peer's path to `NET`, whose next hop lies there.
fn judge(lab: &mut Lab, peer: usize, attributes: PathAttributes, zone: Zone) {
    let interned = lab.intern(attributes);
    let index = lab.peers[peer].index;
    let nlri = prefix(NET).into();
    lab.rib
        .announce(index, nlri, &interned, &Judgement::Eligible(zone));
    lab.rib.release(interned);
}

/// What was told since last asked, by the last octets of the next hops: members, then backups.
fn told(lab: &mut Lab) -> Vec<String> {
    let hosts = |next_hops: &[LearnedNextHop]| {
        let hosts = next_hops.iter().map(|next_hop| {
            let text = next_hop.address.to_string();
            text.rsplit('.').next().unwrap_or_default().to_owned()
        });
        hosts.collect::<Vec<_>>().join(" ")
    };
    let changes = lab.rib.take_learned().into_iter();
    let told = changes.map(|change| {
        let route = match change.route {
            None => "gone".to_owned(),
            Some(route) if route.blackhole => {
                assert!(route.members.is_empty() && route.backups.is_empty());
                "blackhole".to_owned()
            }
            Some(route) if route.backups.is_empty() => format!("[{}]", hosts(&route.members)),
            Some(route) => format!("[{}]+[{}]", hosts(&route.members), hosts(&route.backups)),
        };
        format!("v{} {} {route}", change.view.0, change.prefix)
    });
    told.collect()
}

/// The verdicts on the paths to `NET`, by peer address.
fn verdicts(lab: &Lab, view: Option<&LearnedView>) -> Vec<Verdict> {
    let prefix = lab.rib.prefixes(Some(prefix(NET)), view).next();
    let mut paths = prefix.expect("the prefix is known").paths;
    paths.sort_by_key(|path| path.session.peer);
    paths.into_iter().map(|path| path.verdict).collect()
}
