//! Every line of `docs/conformance.md` and `docs/behaviour.md` names tests that exist. In: the
//! documents and the workspace's sources. Out: what is wrong, a line each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The tests that run, by name: the files that have one so called, without their `.rs`.
type Tests = BTreeMap<String, BTreeSet<PathBuf>>;

/// What is wrong with a document, given the tests that exist.
type Check = fn(&str, &Tests) -> Vec<String>;

/// The documents and how each is checked.
pub(crate) const DOCUMENTS: [(&str, Check); 2] = [
    ("docs/conformance.md", faults),
    ("docs/behaviour.md", unproved),
];

/// Checks the documents of the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut tests = Tests::new();
    for folder in ["fuzz", "router-common", "router-user", "tests", "xtask"] {
        for file in sources(&root.join(folder))? {
            let source =
                fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
            for name in tests_in(&source) {
                tests
                    .entry(name)
                    .or_default()
                    .insert(file.with_extension(""));
            }
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

/// The names of the functions with a test attribute, those aside that are ignored: nobody runs them.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            is_test |= attribute.starts_with("test]") || attribute.starts_with("tokio::test");
            is_ignored |= attribute.starts_with("ignore");
            continue;
        }
        if line.starts_with("//") {
            continue;
        }
        if let Some((_, function)) = line.split_once("fn ").filter(|_| is_test && !is_ignored) {
            let end = function.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            tests.push(function[..end.unwrap_or(function.len())].to_owned());
        }
        (is_test, is_ignored) = (false, false);
    }
    tests
}

/// A row of a table, its header and the line below that aside.
struct Row<'a> {
    /// The number of its line.
    number: usize,
    /// The first cell of the table's header.
    table: &'a str,
    cells: Vec<&'a str>,
}

/// The rows of all tables, and those lines that look like one and that nobody is shown as such.
fn rows(document: &str) -> (Vec<Row<'_>>, Vec<(usize, String)>) {
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    let mut lines = document.lines().zip(1..).peekable();
    let mut comment = false;
    // The first cell of the header of the table that the line before belongs to.
    let mut table = None;
    while let Some((line, number)) = lines.next() {
        if comment || line.contains("<!--") {
            let hidden = line.trim_start_matches("<!--").trim_end_matches("-->");
            if cells(hidden.trim()).is_some() {
                faults.push((number, "a row in a comment is not shown".to_owned()));
            }
            comment = !line.contains("-->");
            table = None;
            continue;
        }
        let Some(cells) = cells(line) else {
            table = None;
            continue;
        };
        if let Some(table) = table {
            rows.push(Row {
                number,
                table,
                cells,
            });
        } else if lines.next_if(|(line, _)| is_rule(line)).is_some() {
            table = Some(cells[0]);
        } else {
            faults.push((number, "follows no header and no row".to_owned()));
        }
    }
    (rows, faults)
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// Whether it is the line below a table's header.
fn is_rule(line: &str) -> bool {
    cells(line).is_some_and(|cells| cells.iter().all(|cell| cell.starts_with("--")))
}

/// What is wrong with the tables of RFCs, each with its line number. A row is RFC, section, what is done,
/// tests, what is deliberately not done; all tests must exist, and what is done has one.
fn faults(document: &str, tests: &Tests) -> Vec<String> {
    let (rows, mut faults) = rows(document);
    for row in rows.iter().filter(|row| row.table == "RFC") {
        let [_rfc, _section, done, proof, not_done] = row.cells[..] else {
            let columns = row.cells.len();
            faults.push((row.number, format!("{columns} columns and not 5")));
            continue;
        };
        if done.is_empty() && not_done.is_empty() {
            faults.push((row.number, "says nothing".to_owned()));
        }
        faults.extend(unnamed(row.number, !done.is_empty(), proof, tests));
    }
    told(faults)
}

/// What is wrong with the tables of behaviour, each with its line number. A row is a topic, what is
/// done, and tests, at least one, all of which must exist.
fn unproved(document: &str, tests: &Tests) -> Vec<String> {
    let (rows, mut faults) = rows(document);
    for row in &rows {
        let [_topic, done, proof] = row.cells[..] else {
            let columns = row.cells.len();
            faults.push((row.number, format!("{columns} columns and not 3")));
            continue;
        };
        if done.is_empty() {
            faults.push((row.number, "says nothing".to_owned()));
        }
        faults.extend(unnamed(row.number, true, proof, tests));
    }
    told(faults)
}

/// The faults in the order of their lines.
fn told(mut faults: Vec<(usize, String)>) -> Vec<String> {
    faults.sort_by_key(|(number, _)| *number);
    let faults = faults.into_iter();
    faults
        .map(|(number, fault)| format!("{number}: {fault}"))
        .collect()
}

/// What is wrong with the tests that a cell names, a test being `needed` or not.
fn unnamed(number: usize, needed: bool, proof: &str, tests: &Tests) -> Vec<(usize, String)> {
    let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
    let mut faults = Vec::new();
    if needed && names.is_empty() {
        faults.push((number, "no test proves it".to_owned()));
    }
    faults.extend(names.iter().filter_map(|name| {
        let (file, test) = name.rsplit_once("::").unwrap_or(("", name));
        let files = tests.get(test).into_iter().flatten();
        match files.filter(|path| path.ends_with(file)).count() {
            0 => Some((number, format!("there is no test {name}"))),
            1 => None,
            count => Some((
                number,
                format!("{count} files have a test {name}: name its file, `file::{test}`"),
            )),
        }
    }));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests, each with its file.
    fn of(tests: &[(&str, &str)]) -> Tests {
        let mut all = Tests::new();
        for (file, name) in tests {
            let files = all.entry((*name).to_owned()).or_default();
            files.insert(PathBuf::from(file));
        }
        all
    }

    #[test]
    fn every_test_named_in_the_documents_exists() {
        check(&crate::shell::root()).expect("docs/conformance.md, docs/behaviour.md");
    }

    #[test]
    fn every_row_of_behaviour_has_a_test_that_exists() {
        let tests = of(&[("a/b", "there")]);
        let document = "\
            | topic | what is done | test that proves it |\n\
            | --- | --- | --- |\n\
            | a | something | `there`, `gone` |\n\
            | b | something | |\n\
            | c | | `there` |\n\
            | d | |\n\
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
    fn rows_that_nobody_is_shown_are_refused() {
        let tests = of(&[("a/b", "there")]);
        let document = "\
            | topic | what is done | test that proves it |\n\
            | --- | --- | --- |\n\
            | a | something | `there` |\n\
            \n\
            | b | something | `there` |\n\
            | c | something | `there` |\n\
            <!-- Later.\n\
            | d | something | |\n\
            -->\n\
            <!-- | e | something | `there` | -->\n\
            | topic | what is done | test that proves it |\n\
            | --- | --- | --- |\n\
            <!-- why -->\n\
            | f | something | `there` |\n";
        let refused = [
            "5: follows no header and no row",
            "6: follows no header and no row",
            "8: a row in a comment is not shown",
            "10: a row in a comment is not shown",
            "14: follows no header and no row",
        ];
        assert_eq!(unproved(document, &tests), refused);
        assert_eq!(faults(document, &tests), refused);
    }

    #[test]
    fn a_test_that_several_files_have_is_named_with_its_file() {
        let tests = of(&[
            ("tests/scenarios/overview", "story"),
            ("tests/scenarios/plan", "story"),
            ("src/rib/text", "words"),
            ("src/bgp/text", "words"),
        ]);
        let document = "\
            | topic | what is done | test that proves it |\n\
            | --- | --- | --- |\n\
            | a | something | `story` |\n\
            | b | something | `overview::story`, `plan::story`, `lan::story` |\n\
            | c | something | `text::words` |\n\
            | d | something | `rib/text::words`, `overview::words` |\n";
        assert_eq!(
            unproved(document, &tests),
            [
                "3: 2 files have a test story: name its file, `file::story`",
                "4: there is no test lan::story",
                "5: 2 files have a test text::words: name its file, `file::words`",
                "6: there is no test overview::words",
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
    fn ignored_tests_do_not_count() {
        let source = "
            #[test]
            #[ignore = \"takes an hour\"]
            fn one() {}
            #[ignore]
            #[tokio::test]
            async fn two() {}
            #[test]
            fn three() {}
        ";
        assert_eq!(tests_in(source), ["three"]);
    }

    #[test]
    fn rows_without_a_test_or_with_one_that_is_gone_are_named() {
        let tests = of(&[("a/b", "there")]);
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
            | --- | --- |\n\
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
