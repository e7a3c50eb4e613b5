//! The configurations of docs/guide.md.

use std::path::Path;

use crate::config::parse_with_warnings;

const GUIDE: &str = include_str!("../../../../docs/guide.md");

#[test]
fn every_configuration_of_the_guide_is_accepted_without_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let parsed = parse_with_warnings(&text, name).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        assert!(GUIDE.contains(&format!("](guide/{name})")), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 11, "one for each topology");
}
