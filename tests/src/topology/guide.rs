//! The newcomer's guide, docs/guide.md: it has a configuration for every story, and names the story.

use std::path::Path;

use super::{Story, stories::STORIES};

#[test]
fn every_story_has_its_configuration_in_the_guide() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let guide = std::fs::read_to_string(docs.join("guide.md")).unwrap();
    for Story { number, name, .. } in STORIES {
        let file = format!("guide/{number:02}-{name}.toml");
        let text = std::fs::read_to_string(docs.join(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(guide.contains(&format!("]({file})")), "{file}");
        assert!(guide.contains(&format!("| `{name}` |")), "{name}");
        // The first is docs/example.toml.
        let told = format!("cargo xtask demo --scenario {name}\n");
        assert!(*number == 1 || text.contains(&told), "{file}");
    }
}
