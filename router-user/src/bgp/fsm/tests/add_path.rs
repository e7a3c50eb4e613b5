//! ADD-PATH in OPEN (RFC 7911 §4).

use super::*;
use crate::bgp::settings::AddPath;

#[test]
fn add_path_is_offered_for_all_families_as_configured() {
    for (receive, send, offered) in [
        (false, 0, None),
        (true, 0, Some(1)),
        (false, 2, Some(2)),
        (true, 64, Some(3)),
    ] {
        let settings = Settings {
            add_path: AddPath { receive, send },
            ..settings(1, 2, [1, 1, 1, 1])
        };
        let open = rules::ours(&settings, Instant::now());
        let found = open
            .capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::AddPath(entries) => Some(entries.clone()),
                _ => None,
            });
        let expected = offered.map(|value| vec![(1, 1, value), (2, 1, value)]);
        assert_eq!(found, expected);
    }
}

#[test]
fn paths_flow_where_one_sends_and_the_other_receives() {
    let theirs = Open {
        capabilities: vec![
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::AddPath(vec![(1, 1, 1), (2, 1, 2)]),
        ],
        ..open(2, [2, 2, 2, 2])
    };
    let settings = Settings {
        add_path: AddPath {
            receive: true,
            send: 4,
        },
        ..settings(1, 2, [1, 1, 1, 1])
    };
    let terms = rules::negotiate(&settings, &theirs, [10, 0, 0, 1].into(), Instant::now())
        .expect("accepted");
    assert_eq!(terms.add_path_send, [Family::Ipv4Unicast]);
    assert_eq!(terms.add_path_receive, [Family::Ipv6Unicast]);
}
