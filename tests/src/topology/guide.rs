//! The newcomer's guide, docs/topologies.md: what it shows is what the product reads.

use std::path::Path;

/// Each configuration of the guide.
fn configurations(text: &str) -> Vec<&str> {
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

#[test]
fn every_configuration_of_the_guide_is_read_without_a_warning() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topologies.md");
    let text = std::fs::read_to_string(file).unwrap();
    let all = configurations(&text);
    assert_eq!(all.len(), 10, "all topologies but the first");
    for configuration in all {
        let parsed = router_user::config::parse_with_warnings(configuration, "topologies.md");
        let parsed = parsed.unwrap_or_else(|faults| panic!("{faults}\n{configuration}"));
        let warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.is_empty(), "{warnings:?}\n{configuration}");
    }
}
