//! Real routes and UPDATEs, and what `bgpdump -m` says of them: the codec says the same, line by
//! line. Without the data folder nothing is compared, and the test says so.

mod wire_support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines, Read},
};

use router_user::bgp::{
    RouteChange,
    wire::{AsSegmentKind, NextHop, Nlri, PathAttributes},
};
use wire_support::{
    changes, decode_update, message,
    mrt::{self, Body, Record},
};

#[test]
fn a_table_of_2002_reads_as_bgpdump_reads_it() {
    compare("bview.20020722.2337", 115_521);
}

#[test]
fn rfc8050_tables_with_path_identifiers_read_as_bgpdump_reads_them() {
    compare("bview.ipv4_unicast_add_path", 62);
    compare("bview.ipv6_unicast_add_path", 62);
}

#[test]
fn the_updates_of_2016_read_as_bgpdump_reads_them() {
    compare("updates.20160811.1600", 41_234);
}

/// Those without a text of `bgpdump`'s are compared with `bgpkit-parser` in `wire_differential`.
#[test]
fn every_file_of_the_data_folder_is_read_by_a_test() {
    let tests = [
        include_str!("wire_mrt.rs"),
        include_str!("wire_differential.rs"),
    ];
    for name in mrt::names().unwrap_or_default() {
        let name = name
            .trim_end_matches(".gz")
            .trim_end_matches(".expected.txt");
        let quoted = [format!("\"{name}\""), format!("\"{name}.gz\"")];
        let read = |test: &str| quoted.iter().any(|quoted| test.contains(quoted));
        assert!(tests.iter().any(|test| read(test)), "nobody reads {name}");
    }
}

/// The NLRI field is 11.13.0.0/13, that is 11.8.0.0/13 with trailing bits set, and an octet that
/// promises another 11 bits that do not come. `bgpdump` prints what came before; RFC 7606 §5.3
/// leaves nothing but a session reset.
#[test]
fn rfc7606_5_3_an_update_whose_last_prefix_is_cut_off_resets_the_session() {
    let (Some(file), Some(expected)) = files("updates.nlri_mask_trailing_bits") else {
        return;
    };
    let expected: Vec<String> = expected.map(|line| line.expect("text")).collect();
    let mut records = Vec::new();
    mrt::read(file, |record| records.push(record));
    let [record] = &records[..] else {
        panic!("one record");
    };
    let (bytes, context) = record.update().expect("an UPDATE");
    let notification = decode_update(&bytes, &context).unwrap_err();
    assert_eq!((notification.code, notification.subcode), (3, 10));
    assert_eq!(bytes.last(), Some(&11));

    let repaired = Record {
        body: Body::Message {
            bytes: message(2, &bytes[19..bytes.len() - 1]),
            four_octet_asn: context.four_octet_asn,
        },
        ..*record
    };
    assert_eq!(lines(&repaired), expected);
}

/// Compares what the codec makes of a file with `bgpdump`'s output, both `mrt/NAME.gz` and
/// `mrt/NAME.expected.txt.gz`; the latter has `count` lines.
fn compare(name: &str, count: usize) {
    let (Some(file), Some(mut expected)) = files(name) else {
        return;
    };
    let mut compared = 0;
    mrt::read(file, |record| {
        for line in lines(&record) {
            let theirs = expected.next().expect("as many lines").expect("text");
            assert_eq!(normal(&line), normal(&theirs), "line {compared} of {name}");
            compared += 1;
        }
    });
    assert!(expected.next().is_none(), "bgpdump has more");
    assert_eq!(compared, count, "lines of {name}");
}

type File = Box<dyn Read>;

fn files(name: &str) -> (Option<File>, Option<Lines<BufReader<File>>>) {
    let file = mrt::open(&format!("{name}.gz"));
    let expected = mrt::open(&format!("{name}.expected.txt.gz"));
    (file, expected.map(|file| BufReader::new(file).lines()))
}

/// The codec keeps communities sorted and without duplicates, and discards an AGGREGATOR that names
/// AS 0 (RFC 7607 §2): eight of the routes of 2002 have one.
fn normal(line: &str) -> String {
    let mut fields: Vec<String> = line.split('|').map(String::from).collect();
    let with_path_id = usize::from(fields[0].ends_with("_AP"));
    if let Some(communities) = fields.get_mut(11 + with_path_id) {
        let sorted: BTreeSet<&str> = communities.split_whitespace().collect();
        *communities = Vec::from_iter(sorted).join(" ");
    }
    if let Some(aggregator) = fields.get_mut(13 + with_path_id)
        && aggregator.starts_with("0 ")
    {
        aggregator.clear();
    }
    fields.join("|")
}

/// What `bgpdump -m` prints for the record.
fn lines(record: &Record) -> Vec<String> {
    let Record {
        seconds,
        peer,
        asn,
        body,
    } = record;
    let (table, has_next_hop) = match body {
        Body::State(old, new) => {
            return vec![format!("BGP4MP|{seconds}|STATE|{peer}|{asn}|{old}|{new}")];
        }
        Body::Message { .. } => (None, true),
        Body::Route(route) => (Some(route.table), route.has_next_hop()),
    };
    let no_attributes = matches!(body, Body::Route(route) if route.attributes.is_empty());
    let Some((bytes, context)) = record.update() else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for change in changes(&bytes, &context) {
        match change {
            RouteChange::Withdraw {
                nlri,
                malformed: None,
            } => {
                for Nlri { prefix, .. } in nlri {
                    lines.push(format!("BGP4MP|{seconds}|W|{peer}|{asn}|{prefix}"));
                }
            }
            RouteChange::Announce { attributes, nlri } => {
                let what = if table.is_some() { "B" } else { "A" };
                let table = table.unwrap_or("BGP4MP");
                for Nlri { prefix, path_id } in nlri {
                    let path_id = match table {
                        "TABLE_DUMP2_AP" => format!("{path_id}|"),
                        _ => String::new(),
                    };
                    let attributes = texts(&attributes, has_next_hop);
                    lines.push(format!(
                        "{table}|{seconds}|{what}|{peer}|{asn}|{prefix}|{path_id}{attributes}"
                    ));
                }
            }
            // A network of the collector itself, stored without attributes.
            RouteChange::Withdraw { nlri, .. } if no_attributes => {
                let table = table.expect("a route of a table");
                for Nlri { prefix, path_id } in nlri {
                    lines.push(format!(
                        "{table}|{seconds}|B|{peer}|{asn}|{prefix}|{path_id}||INCOMPLETE|\
                         255.255.255.255|0|0||NAG||"
                    ));
                }
            }
            RouteChange::Withdraw { malformed, .. } => panic!("{malformed:?}: {record:?}"),
            RouteChange::EndOfRib(_) => {}
        }
    }
    lines
}

/// AS path, origin, next hop, LOCAL_PREF, MED, communities, whether atomic, aggregator.
fn texts(attributes: &PathAttributes, has_next_hop: bool) -> String {
    let segments: Vec<String> = attributes
        .as_path
        .segments
        .iter()
        .map(|segment| {
            let asns: Vec<String> = segment.asns.iter().map(ToString::to_string).collect();
            match segment.kind {
                AsSegmentKind::Sequence => asns.join(" "),
                AsSegmentKind::Set => format!("{{{}}}", asns.join(",")),
                AsSegmentKind::ConfedSequence => format!("({})", asns.join(" ")),
                AsSegmentKind::ConfedSet => format!("[{}]", asns.join(",")),
            }
        })
        .collect();
    let next_hop = match attributes.next_hop {
        Some(next_hop) if has_next_hop => NextHop::to_string(&next_hop),
        _ => "255.255.255.255".to_owned(),
    };
    let communities: Vec<String> = attributes
        .communities
        .iter()
        .map(|community| format!("{}:{}", community >> 16, community & 0xffff))
        .collect();
    let aggregator = attributes
        .aggregator
        .map(|aggregator| format!("{} {}", aggregator.asn, aggregator.id))
        .unwrap_or_default();
    [
        segments.join(" "),
        attributes.origin.to_string().to_uppercase(),
        next_hop,
        attributes.local_pref.unwrap_or(0).to_string(),
        attributes.med.unwrap_or(0).to_string(),
        communities.join(" "),
        (if attributes.atomic_aggregate {
            "AG"
        } else {
            "NAG"
        })
        .to_owned(),
        aggregator,
        String::new(),
    ]
    .join("|")
}
