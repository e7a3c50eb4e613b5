//! What is wrong with a configuration, told with its place and its remedy.

use std::{fmt, sync::Arc};

/// One fault, or one warning: `file:line: what; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{file}:{line}: {what}; {remedy}")
    }
}

/// Every fault of a configuration, in the order of the lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

/// Lines of a text, so that a byte's place can be told as people count.
#[derive(Debug)]
pub(super) struct Lines {
    /// Byte at which each line starts.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            starts: std::iter::once(0)
                .chain(breaks.map(|(place, _)| place + 1))
                .collect(),
        }
    }

    pub(super) fn line_of(&self, place: usize) -> usize {
        self.starts.partition_point(|start| *start <= place)
    }
}

/// Collects faults and warnings while a file is read.
#[derive(Debug)]
pub(super) struct Report {
    file: Arc<str>,
    lines: Lines,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Report {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.into(),
            lines: Lines::of(text),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        let fault = self.at(at, what, remedy);
        self.faults.push(fault);
    }

    pub(super) fn warning(
        &mut self,
        at: usize,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let warning = self.at(at, what, remedy);
        self.warnings.push(warning);
    }

    /// Faults so far: what was read without a new one is complete.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    pub(super) fn line_of(&self, place: usize) -> usize {
        self.lines.line_of(place)
    }

    pub(super) fn file(&self) -> Arc<str> {
        self.file.clone()
    }

    /// The warnings, or every fault.
    pub(super) fn finish(mut self) -> Result<Vec<Fault>, Faults> {
        self.faults.sort_by_key(|fault| fault.line);
        self.warnings.sort_by_key(|warning| warning.line);
        if self.faults.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Faults(self.faults))
        }
    }

    fn at(&self, place: usize, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            file: self.file.clone(),
            line: self.lines.line_of(place),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// The names that there are, for a remedy; of many only the first.
pub(super) fn known<N: fmt::Display>(names: impl IntoIterator<Item = N>) -> String {
    const SHOWN: usize = 10;
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names
        .by_ref()
        .take(SHOWN)
        .map(|name| name.to_string())
        .collect();
    match names.count() {
        0 => {}
        more => shown.push(format!("and {more} more")),
    }
    shown.join(", ")
}
