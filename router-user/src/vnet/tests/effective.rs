//! Which route wins in a subnet, and what people are told of the others.

use super::{
    apps, brief, config, first_of, hub, ip, learn, learned, net, path, reason, row, vnets,
    withdrawn,
};
use crate::vnet::{ACTIVE, INVALID, SubnetError};

#[test]
fn a_subnet_has_its_system_rows_and_no_address_of_the_host_among_them() {
    let vnets = vnets(&hub());
    assert_eq!(
        brief(&apps(&vnets, &[])),
        [
            "0.0.0.0/0 Internet Active",
            "10.0.0.0/8 None Active",
            "10.1.0.0/16 VirtualNetwork Active",
            "100.64.0.0/10 None Active",
            "172.16.0.0/12 None Active",
            "192.168.0.0/16 None Active",
            "::/0 Internet Active",
            "fc00::/7 None Active",
            "fd00:1::/48 VirtualNetwork Active",
        ]
    );
}

#[test]
fn who_asks_for_all_rows_gets_the_gateways_and_instances_too() {
    let vnets = vnets(&hub());
    let rows = vnets.all_routes(&first_of(&vnets, "hub", "apps"), &[]);
    let hosts: Vec<String> = rows
        .iter()
        .filter(|row| row.next_hop_type == "Host")
        .map(|row| row.prefix.to_string())
        .collect();
    assert_eq!(
        hosts,
        [
            "10.1.1.1/32",
            "10.1.2.1/32",
            "10.1.10.1/32",
            "10.1.255.4/32",
            "10.1.255.5/32"
        ]
    );
}

#[test]
fn the_default_route_leads_to_the_uplink_of_its_family() {
    let mut config = hub();
    config.vnets[0].uplink = vec![ip("10.1.10.9")];
    let vnets = vnets(&config);
    let rows = apps(&vnets, &[]);
    assert_eq!(
        row(&rows, "0.0.0.0/0", "system").next_hop,
        Some(ip("10.1.10.9"))
    );
    let v6 = row(&rows, "::/0", "system");
    assert_eq!(v6.next_hop, None);
    assert_eq!(
        reason(v6),
        "no IPv6 uplink is configured: packets are dropped"
    );
}

#[test]
fn a_private_range_that_the_network_owns_is_not_none() {
    let mut config = hub();
    config.vnets[0].prefixes = vec![net("10.0.0.0/8"), net("100.64.0.0/9")];
    let vnets = vnets(&config);
    let rows = apps(&vnets, &[]);
    assert_eq!(
        row(&rows, "10.0.0.0/8", "system").next_hop_type,
        "VirtualNetwork"
    );
    assert!(!rows.iter().any(|row| row.prefix == net("100.64.0.0/10")));
    assert_eq!(row(&rows, "172.16.0.0/12", "system").next_hop_type, "None");
}

#[test]
fn a_learned_prefix_becomes_a_row_with_its_next_hop_path_and_peer() {
    let mut vnets = vnets(&hub());
    learn(&mut vnets, vec![learned("10.250.0.0/16", &["10.1.10.4"])]);
    let rows = apps(&vnets, &[path("10.250.0.0/16", "10.1.10.4", "best")]);
    let row = row(&rows, "10.250.0.0/16", "learned");
    assert_eq!(row.state, ACTIVE);
    assert_eq!(row.next_hop_type, "VirtualNetworkGateway");
    assert_eq!(row.next_hop, Some(ip("10.1.10.4")));
    assert_eq!(row.as_path.as_deref(), Some("65010 65011"));
    assert_eq!(row.peer, Some("peer-10.1.10.4".into()));
    assert_eq!(row.reason, None, "there was no choice");
}

#[test]
fn each_member_of_an_ecmp_set_has_one_row_although_two_instances_are_told() {
    let vnets = vnets(&hub());
    let mut paths = vec![
        path("0.0.0.0/0", "10.1.20.4", "best"),
        path("0.0.0.0/0", "10.1.20.5", "multipath"),
    ];
    for n in 0..2 {
        let mut other = paths[n].clone();
        other.instance = 2;
        other.state = "lost".into();
        paths.push(other);
    }
    let rows = apps(&vnets, &paths);
    let members: Vec<_> = rows
        .iter()
        .filter(|row| row.source == "learned")
        .map(|row| (row.state.as_str(), row.next_hop.unwrap()))
        .collect();
    assert_eq!(
        members,
        [(ACTIVE, ip("10.1.20.4")), (ACTIVE, ip("10.1.20.5"))]
    );
}

#[test]
fn a_path_that_lost_or_was_rejected_is_shown_with_the_reason() {
    let vnets = vnets(&hub());
    let mut lost = path("10.250.0.0/16", "10.1.10.5", "lost");
    lost.reason = Some("AS path is longer".into());
    let mut looped = path("10.251.0.0/16", "10.1.10.5", "rejected");
    looped.reason = Some("holds the own ASN".into());
    let rows = apps(
        &vnets,
        &[path("10.250.0.0/16", "10.1.10.4", "best"), lost, looped],
    );
    let loser = rows
        .iter()
        .find(|row| row.next_hop == Some(ip("10.1.10.5")))
        .unwrap();
    assert_eq!(
        (loser.state.as_str(), reason(loser)),
        (INVALID, "AS path is longer")
    );
    let rejected = row(&rows, "10.251.0.0/16", "learned");
    assert_eq!(
        (rejected.state.as_str(), reason(rejected)),
        (INVALID, "holds the own ASN")
    );
}

#[test]
fn a_learned_default_beats_the_system_s_and_the_private_ranges_follow_it() {
    let mut vnets = vnets(&hub());
    learn(&mut vnets, vec![learned("0.0.0.0/0", &["10.1.20.4"])]);
    let paths = [path("0.0.0.0/0", "10.1.20.4", "best")];
    let rows = apps(&vnets, &paths);
    let default = row(&rows, "0.0.0.0/0", "learned");
    assert_eq!(default.state, ACTIVE);
    assert_eq!(
        reason(default),
        "a learned route beats the system route of the same prefix"
    );
    let system = row(&rows, "0.0.0.0/0", "system");
    assert_eq!(system.state, INVALID);
    assert_eq!(
        reason(system),
        "a learned route has the same prefix and beats a system route"
    );
    for private in [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
    ] {
        let row = row(&rows, private, "system");
        assert_eq!(row.state, INVALID, "{private}");
        assert_eq!(
            reason(row),
            "0.0.0.0/0 is learned, and private ranges follow it"
        );
    }
    assert_eq!(
        row(&rows, "fc00::/7", "system").state,
        ACTIVE,
        "::/0 is not learned"
    );

    learn(&mut vnets, vec![withdrawn("0.0.0.0/0")]);
    let rows = apps(&vnets, &[]);
    assert_eq!(row(&rows, "10.0.0.0/8", "system").state, ACTIVE);
    assert_eq!(row(&rows, "0.0.0.0/0", "system").state, ACTIVE);
}

#[test]
fn the_network_s_own_space_beats_learned_routes_of_equal_or_longer_prefix() {
    let mut vnets = vnets(&hub());
    let prefixes = ["10.1.0.0/16", "10.1.1.0/24", "10.0.0.0/14"];
    let changes = prefixes.map(|prefix| learned(prefix, &["10.1.10.4"]));
    learn(&mut vnets, changes.into());
    let paths = prefixes.map(|prefix| path(prefix, "10.1.10.4", "best"));
    let rows = apps(&vnets, &paths);
    assert_eq!(
        reason(row(&rows, "10.1.0.0/16", "learned")),
        "is 10.1.0.0/16, the virtual network's own space, which beats learned routes of equal or \
         longer prefix"
    );
    let inside = row(&rows, "10.1.1.0/24", "learned");
    assert_eq!(inside.state, INVALID);
    assert!(reason(inside).starts_with("lies within 10.1.0.0/16"));
    assert_eq!(
        row(&rows, "10.0.0.0/14", "learned").state,
        ACTIVE,
        "a supernet is used"
    );
    assert_eq!(
        reason(row(&rows, "10.1.0.0/16", "system")),
        "the virtual network's own space beats learned routes of equal or longer prefix (2)"
    );
}

#[test]
fn a_learned_route_without_resolvable_next_hop_leads_nowhere() {
    let mut vnets = vnets(&hub());
    learn(&mut vnets, vec![learned("10.250.0.0/16", &[])]);
    let mut rejected = path("10.250.0.0/16", "10.9.9.9", "rejected");
    rejected.reason = Some("next hop 10.9.9.9 is not resolvable".into());
    let rows = apps(&vnets, &[rejected]);
    let rows: Vec<_> = rows.iter().filter(|row| row.source == "learned").collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].state.as_str(), rows[0].next_hop_type.as_str()),
        (ACTIVE, "None")
    );
    assert_eq!(
        reason(rows[0]),
        "no candidate's next hop is resolvable: packets are dropped"
    );
    assert_eq!(rows[1].state, INVALID);
    assert_eq!(reason(rows[1]), "next hop 10.9.9.9 is not resolvable");
}

#[test]
fn paths_of_another_route_server_do_not_count() {
    let vnets = vnets(&hub());
    let mut other = path("10.250.0.0/16", "10.1.10.4", "best");
    other.route_server = "rs2".into();
    assert_eq!(apps(&vnets, &[other]), apps(&vnets, &[]));
}

#[test]
fn candidates_are_told_longest_prefix_first_with_the_one_that_packets_follow() {
    let mut vnets = vnets(&hub());
    let changes = ["10.250.0.0/16", "0.0.0.0/0"].map(|prefix| learned(prefix, &["10.1.10.4"]));
    learn(&mut vnets, changes.into());
    let mut rejected = path("10.250.7.0/24", "10.1.10.5", "rejected");
    rejected.reason = Some("over the limit".into());
    let paths = [
        path("10.250.0.0/16", "10.1.10.4", "best"),
        path("0.0.0.0/0", "10.1.10.4", "best"),
        path("10.251.0.0/16", "10.1.10.4", "best"),
        rejected,
    ];
    let candidates = vnets.candidates(&first_of(&vnets, "hub", "apps"), ip("10.250.7.9"), &paths);
    assert_eq!(
        brief(&candidates.rows),
        [
            "10.250.7.0/24 VirtualNetworkGateway Invalid",
            "10.250.0.0/16 VirtualNetworkGateway Active",
            "10.0.0.0/8 None Invalid",
            "0.0.0.0/0 VirtualNetworkGateway Active",
            "0.0.0.0/0 Internet Invalid",
        ]
    );
    assert_eq!(candidates.winner, Some(1));
    assert_eq!(
        reason(&candidates.rows[1]),
        "longest active prefix that covers 10.250.7.9"
    );
    assert_eq!(reason(&candidates.rows[3]), "10.250.0.0/16 is longer");
}

#[test]
fn the_gateway_s_own_address_is_explained_as_the_host() {
    let vnets = vnets(&hub());
    let candidates = vnets.candidates(&first_of(&vnets, "hub", "apps"), ip("10.1.255.4"), &[]);
    let winner = &candidates.rows[candidates.winner.unwrap()];
    assert_eq!(winner.next_hop_type, "Host");
}

#[test]
fn a_subnet_is_named_alone_or_with_its_network() {
    let mut config = hub();
    let mut spoke = config.vnets[0].clone();
    spoke.name = "spoke".into();
    spoke.subnets.truncate(1);
    config.vnets.push(spoke);
    let vnets = vnets(&config);
    assert_eq!(
        vnets.resolve_subnet("data"),
        Ok(("hub".into(), "data".into()))
    );
    assert_eq!(
        vnets.resolve_subnet("spoke/apps"),
        Ok(("spoke".into(), "apps".into()))
    );
    let ambiguous = vnets.resolve_subnet("apps").unwrap_err();
    assert_eq!(
        ambiguous.to_string(),
        "several networks have a subnet \"apps\"; say which: hub/apps, spoke/apps"
    );
    let unknown = vnets.resolve_subnet("spoke/data").unwrap_err();
    assert!(matches!(unknown, SubnetError::Unknown { .. }));
    assert!(
        unknown
            .to_string()
            .ends_with("there are: hub/apps, hub/data, hub/nva, spoke/apps")
    );
}

#[test]
fn a_route_server_advertises_the_prefixes_of_its_network() {
    let vnets = vnets(&hub());
    let advertised: Vec<_> = vnets
        .advertised_prefixes(&"rs1".into())
        .into_iter()
        .collect();
    assert_eq!(advertised, [net("10.1.0.0/16"), net("fd00:1::/48")]);
    assert!(vnets.advertised_prefixes(&"rs2".into()).is_empty());
}

#[test]
fn what_does_not_exist_has_no_routes() {
    let vnets = vnets(&config(vec![], vec![]));
    assert_eq!(apps(&vnets, &[]), []);
    let candidates = vnets.candidates(&first_of(&vnets, "hub", "apps"), ip("10.0.0.1"), &[]);
    assert_eq!((candidates.rows, candidates.winner), (vec![], None));
}
