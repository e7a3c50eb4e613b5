//! Every line of `docs/conformance.md` and `docs/behaviour.md` names tests that exist. In: the
//! documents and the workspace's sources. Out: what is wrong, a line each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// What is wrong with a document, given the tests that exist.
type Check = fn(&str, &BTreeSet<String>) -> Vec<String>;

/// The documents and how each is checked.
pub(crate) const DOCUMENTS: [(&str, Check); 2] = [
    ("docs/conformance.md", faults),
    ("docs/behaviour.md", unproved),
];

/// Checks the documents of the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut tests = BTreeSet::new();
    for folder in ["fuzz", "router-common", "router-user", "tests", "xtask"] {
        for file in sources(&root.join(folder))? {
            let source =
                fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
            tests.extend(tests_in(&source));
        }
    }
    let mut lines = Vec::new();
    for (name, faults) in DOCUMENTS {
        let document = root.join(name);
        let text =
            fs::read_to_string(&document).with_context(|| format!("cannot read {document:?}"))?;
        let faults = faults(&text, &tests);
        lines.extend(faults.iter().map(|fault| format!("  {name}:{fault}")));
    }
    if lines.is_empty() {
        return Ok(());
    }
    bail!("what is said to be proved is not:\n{}", lines.join("\n"));
}

/// All `.rs` files below `folder`.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The names of the functions with a test attribute.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let attribute = line.strip_prefix("#[");
        if let Some(attribute) = attribute {
            is_test |= attribute.starts_with("test]") || attribute.starts_with("tokio::test");
        } else if let Some((_, function)) = line.split_once("fn ").filter(|_| is_test) {
            let end = function.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            tests.push(function[..end.unwrap_or(function.len())].to_owned());
            is_test = false;
        } else if !line.starts_with("//") {
            is_test = false;
        }
    }
    tests
}

/// What is wrong with the tables of RFCs, each with its line number. A row is RFC, section, what is done,
/// tests, what is deliberately not done; all tests must exist, and what is done has one.
fn faults(document: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    // Whether the table is one of RFCs; none: no table.
    let mut of_rfcs = None;
    for (index, line) in document.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            of_rfcs = None;
            continue;
        };
        let number = index + 1;
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if !*of_rfcs.get_or_insert(cells[0] == "RFC") {
            continue;
        }
        let [rfc, _section, done, proof, not_done] = cells[..] else {
            faults.push(format!("{number}: {} columns and not 5", cells.len()));
            continue;
        };
        if rfc == "RFC" || rfc.starts_with("--") {
            continue;
        }
        let named = named(proof);
        if done.is_empty() && not_done.is_empty() {
            faults.push(format!("{number}: says nothing"));
        }
        if !done.is_empty() && named.is_empty() {
            faults.push(format!("{number}: no test proves it"));
        }
        for name in named.iter().filter(|name| !tests.contains(**name)) {
            faults.push(format!("{number}: there is no test {name}"));
        }
    }
    faults
}

/// What is wrong with the tables of behaviour, each with its line number. A row is a topic, what is
/// done, and tests, at least one, all of which must exist. Comments are passed over.
fn unproved(document: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut comment = false;
    for (index, line) in document.lines().enumerate() {
        comment |= line.starts_with("<!--");
        if comment {
            comment = !line.ends_with("-->");
            continue;
        }
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            continue;
        };
        let number = index + 1;
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_topic, done, proof] = cells[..] else {
            faults.push(format!("{number}: {} columns and not 3", cells.len()));
            continue;
        };
        if proof == "test that proves it" || proof.starts_with("--") {
            continue;
        }
        let named = named(proof);
        if done.is_empty() {
            faults.push(format!("{number}: says nothing"));
        }
        if named.is_empty() {
            faults.push(format!("{number}: no test proves it"));
        }
        for name in named.iter().filter(|name| !tests.contains(**name)) {
            faults.push(format!("{number}: there is no test {name}"));
        }
    }
    faults
}

/// The tests that a cell names.
fn named(proof: &str) -> Vec<&str> {
    proof.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_named_in_the_documents_exists() {
        check(&crate::shell::root()).expect("docs/conformance.md, docs/behaviour.md");
    }

    #[test]
    fn every_row_of_behaviour_has_a_test_that_exists() {
        let tests = BTreeSet::from(["there".to_owned()]);
        let document = "\
            | topic | what is done | test that proves it |\n\
            | --- | --- | --- |\n\
            | a | something | `there`, `gone` |\n\
            | b | something | |\n\
            | c | | `there` |\n\
            | d | |\n\
            <!-- Later.\n\
            | e | something | |\n\
            -->\n\
            | f | something | `there` |\n";
        assert_eq!(
            unproved(document, &tests),
            [
                "3: there is no test gone",
                "4: no test proves it",
                "5: says nothing",
                "6: 2 columns and not 3",
            ]
        );
    }

    #[test]
    fn functions_with_a_test_attribute_are_tests_whatever_stands_between() {
        let source = "
            #[test]
            fn one() {}
            fn helper() {}
                #[tokio::test(start_paused = true)]
                // why
                #[should_panic]
                async fn two() {
            #[cfg(test)]
            fn three() {}
        ";
        assert_eq!(tests_in(source), ["one", "two"]);
    }

    #[test]
    fn rows_without_a_test_or_with_one_that_is_gone_are_named() {
        let tests = BTreeSet::from(["there".to_owned()]);
        let document = "\
            | RFC | section | done | test | not done |\n\
            | --- | --- | --- | --- | --- |\n\
            | 1 | 1 | something | `there`, `gone` | |\n\
            | 1 | 2 | something | | |\n\
            | 1 | 3 | | | why |\n\
            | 1 | 4 | | | |\n\
            | 1 | 5 |\n\
            no table\n\
            | target | inputs |\n\
            | update | 1 |\n";
        assert_eq!(
            faults(document, &tests),
            [
                "3: there is no test gone",
                "4: no test proves it",
                "6: says nothing",
                "7: 2 columns and not 5",
            ]
        );
    }
}
