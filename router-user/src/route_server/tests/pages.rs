//! Large tables, a page at a time.

use super::*;
use crate::rib::Place;

#[test]
fn a_page_of_a_large_table_is_small_and_all_pages_are_the_table() {
    const PREFIXES: usize = 3000;
    let mut settings = config();
    settings.peers[0].max_prefixes = 10_000;
    let mut lab = Lab::new(&settings);
    lab.up("sdwan", 1);
    let nets = (0..PREFIXES).map(|n| format!("10.{}.{}.0/24", 100 + n / 256, n % 256));
    let nets: Vec<String> = nets.collect();
    let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
    for nets in nets.chunks(500) {
        lab.announce("sdwan", 1, nets, &route(&[65010], "10.1.10.4"));
    }
    lab.settle();
    let walk = |filter: &Filter| {
        let (mut next, mut rows, mut pages) = (Some(Place::FIRST), Vec::new(), 0);
        while let Some(from) = next {
            let mut page = lab.server.learned_page(None, filter, from, lab.now);
            assert!(page.rows.len() <= 1000, "{}", page.rows.len());
            rows.append(&mut page.rows);
            next = page.next;
            pages += 1;
        }
        sort_learned(&mut rows);
        assert_eq!(rows, lab.server.learned_rows(filter, lab.now));
        (rows.len(), pages)
    };
    let (rows, pages) = walk(&Filter::default());
    assert_eq!(rows, PREFIXES);
    assert!(pages >= 3, "{pages}");
    let inside = Filter {
        prefix: Some(prefix("10.101.0.0/16")),
        longer: true,
        ..Filter::default()
    };
    assert_eq!(walk(&inside).0, 256);
    let only = Filter {
        longer: false,
        ..inside.clone()
    };
    assert_eq!(walk(&only), (0, 1));
    lab.up("fw", 1);
    lab.settle();
    let to_fw = Filter {
        peer: Some("fw".into()),
        ..Filter::default()
    };
    let sent_to = lab.server.sent_to(&to_fw);
    assert_eq!(sent_to, [lab.id("fw", 1)]);
    let (mut next, mut sent) = (Some(Place::FIRST), 0);
    while let Some(from) = next {
        let page = lab.server.advertised_page(&sent_to[0], &to_fw, from);
        assert!(page.rows.len() <= 1000, "{}", page.rows.len());
        sent += page.rows.len();
        next = page.next;
    }
    assert_eq!(sent, PREFIXES);
    let sent = |lab: &mut Lab, filter: &Filter| {
        let filter = Filter {
            peer: Some("fw".into()),
            ..filter.clone()
        };
        lab.server.advertised_rows(&filter).len()
    };
    assert_eq!(sent(&mut lab, &inside), 256);
    assert_eq!(sent(&mut lab, &only), 0);
    let received = lab.server.received_rows(&inside);
    assert_eq!(received.len(), 256, "received ones likewise");
}
