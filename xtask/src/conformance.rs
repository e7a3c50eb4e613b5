//! Every line of `docs/conformance.md` names tests that exist. In: the document and the workspace's
//! sources. Out: what is wrong, a line each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Checks the document of the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let document = root.join("docs/conformance.md");
    let text =
        fs::read_to_string(&document).with_context(|| format!("cannot read {document:?}"))?;
    let mut tests = BTreeSet::new();
    for folder in ["fuzz", "router-common", "router-user", "tests", "xtask"] {
        for file in sources(&root.join(folder))? {
            let source =
                fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
            tests.extend(tests_in(&source));
        }
    }
    let faults = faults(&text, &tests);
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("  docs/conformance.md:{fault}"))
        .collect();
    bail!("the conformance document is wrong:\n{}", lines.join("\n"));
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
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_named_in_the_conformance_document_exists() {
        check(&crate::shell::root()).expect("docs/conformance.md");
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
