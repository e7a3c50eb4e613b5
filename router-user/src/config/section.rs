//! Reading one section of the file: keys to typed values that remember their place.
//!
//! A value that is missing or of the wrong kind is reported and `None` comes back, so that reading
//! goes on and finds the other faults as well.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::Report,
    schema::{self, Schema},
};

/// A value and the byte of the file that it stands at.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A section whose keys are all known.
#[derive(Debug)]
pub(super) struct Section<'a, 'i> {
    schema: &'static Schema,
    /// How the file writes it: `[[route_server.gateway.tcp_ao]]`.
    header: String,
    table: &'a DeTable<'i>,
    /// Where it starts.
    pub(super) at: usize,
    /// Known keys that unknown ones were probably meant to be: not missing as well.
    misspelt: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// Opens the top level; keys that it does not know are reported.
    pub(super) fn root(table: &'a DeTable<'i>, report: &mut Report) -> Self {
        let header = schema::ROOT.header.to_owned();
        Self::open(&schema::ROOT, header, table, 0, report)
    }

    fn open(
        schema: &'static Schema,
        header: String,
        table: &'a DeTable<'i>,
        at: usize,
        report: &mut Report,
    ) -> Self {
        let mut misspelt = Vec::new();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if schema.keys.contains(&name) {
                continue;
            }
            let nearest = nearest(schema, name);
            misspelt.extend(nearest);
            report.fault(
                key.span().start,
                format!("unknown key \"{name}\" in {header}"),
                nearest.map_or_else(
                    || format!("known here: {}", schema.keys.join(", ")),
                    |nearest| format!("did you mean \"{nearest}\"?"),
                ),
            );
        }
        Self {
            schema,
            header,
            table,
            at,
            misspelt,
        }
    }

    /// The subsection `key`, if the file has it.
    pub(super) fn subsection(
        &self,
        key: &str,
        schema: &'static Schema,
        report: &mut Report,
    ) -> Option<Section<'a, 'i>> {
        let value = self.value(key)?;
        let header = format!("[{}]", self.path_of(key));
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_kind(key, value, &format!("a section {header}"), report);
            return None;
        };
        let at = value.span().start;
        Some(Section::open(schema, header, table, at, report))
    }

    /// The subsections `[[key]]`, in the order of the file.
    pub(super) fn subsections(
        &self,
        key: &str,
        schema: &'static Schema,
        report: &mut Report,
    ) -> Vec<Section<'a, 'i>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let header = format!("[[{}]]", self.path_of(key));
        let wanted = format!("sections {header}");
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_kind(key, value, &wanted, report);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let (header, at) = (header.clone(), item.span().start);
                    sections.push(Section::open(schema, header, table, at, report));
                }
                _ => self.wrong_kind(key, item, &wanted, report),
            }
        }
        sections
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str, default: bool, report: &mut Report) -> bool {
        match self.value(key).map(|value| (value, value.get_ref())) {
            None => default,
            Some((_, DeValue::Boolean(value))) => *value,
            Some((value, _)) => {
                self.wrong_kind(key, value, "true or false", report);
                default
            }
        }
    }

    /// A whole number within `range`, if the file has it.
    pub(super) fn integer<T>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
        report: &mut Report,
    ) -> Option<Located<T>>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let value = self.value(key)?;
        self.number_of(key, value, &range, report)
    }

    /// A whole number within `range`, or the default.
    pub(super) fn number<T>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
        default: T,
        report: &mut Report,
    ) -> T
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        self.integer(key, range, report)
            .map_or(default, |number| number.value)
    }

    /// Where the value of a key stands; without one, where the section does.
    pub(super) fn place(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span().start)
    }

    /// Text that reads as a `T`, if the file has it.
    pub(super) fn text<T>(&self, key: &str, report: &mut Report) -> Option<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        let value = self.value(key)?;
        self.read(key, value, report)
    }

    /// Whether the file has the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the value of a key is a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        matches!(
            self.value(key).map(Spanned::get_ref),
            Some(DeValue::Array(_))
        )
    }

    /// One of a few words, if the file has it.
    pub(super) fn choice<T: Clone>(
        &self,
        key: &str,
        words: &[(&str, T)],
        report: &mut Report,
    ) -> Option<Located<T>> {
        let word = self.text::<String>(key, report)?;
        one_of(key, word, words, report)
    }

    /// A list of some of a few words; others are reported and left out.
    pub(super) fn choices<T: Clone>(
        &self,
        key: &str,
        words: &[(&str, T)],
        report: &mut Report,
    ) -> Vec<Located<T>> {
        let chosen = self.list::<String>(key, report).into_iter();
        chosen
            .filter_map(|word| one_of(key, word, words, report))
            .collect()
    }

    /// Text that reads as a `T`; its absence is reported.
    pub(super) fn required_text<T>(&self, key: &str, report: &mut Report) -> Option<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        self.require(key, report);
        self.text(key, report)
    }

    /// A list of texts that each read as a `T`; items that do not are reported and left out.
    pub(super) fn list<T>(&self, key: &str, report: &mut Report) -> Vec<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_kind(key, value, "a list, for example [\"…\"]", report);
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.read(key, item, report))
            .collect()
    }

    /// A list that must be there and must not be empty.
    pub(super) fn required_list<T>(&self, key: &str, report: &mut Report) -> Vec<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        self.require(key, report);
        self.filled_list(key, report)
    }

    /// A list that must not be empty if it is there.
    pub(super) fn filled_list<T>(&self, key: &str, report: &mut Report) -> Vec<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        self.refuse_empty(key, report);
        self.list(key, report)
    }

    /// Reports a list without members.
    pub(super) fn refuse_empty(&self, key: &str, report: &mut Report) {
        if let Some(value) = self.value(key)
            && let DeValue::Array(items) = value.get_ref()
            && items.is_empty()
        {
            report.fault(
                value.span().start,
                format!("{key} is empty"),
                "give at least one",
            );
        }
    }

    /// A list of whole numbers within `range`, if the file has it; others are reported and left out.
    pub(super) fn integers<T>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
        report: &mut Report,
    ) -> Option<Vec<T>>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_kind(key, value, "a list of whole numbers", report);
            return None;
        };
        let numbers = items
            .iter()
            .filter_map(|item| self.number_of(key, item, &range, report));
        Some(numbers.map(|number| number.value).collect())
    }

    /// Reports that a key is missing.
    pub(super) fn require(&self, key: &str, report: &mut Report) {
        if self.value(key).is_none() && !self.misspelt.contains(&key) {
            report.fault(
                self.at,
                format!("{} has no \"{key}\"", self.header),
                format!("add {key} = …"),
            );
        }
    }

    /// What stands between the brackets of a section below this one.
    fn path_of(&self, key: &str) -> String {
        match self.header.trim_matches(['[', ']']) {
            _ if self.header == schema::ROOT.header => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        debug_assert!(
            self.schema.keys.contains(&key),
            "{key} is not in the schema"
        );
        self.table.get(key)
    }

    fn number_of<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: &RangeInclusive<T>,
        report: &mut Report,
    ) -> Option<Located<T>>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_kind(key, value, "a whole number", report);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        let Some(number) = number else {
            report.fault(
                value.span().start,
                format!("{key} = {integer} is out of range"),
                format!("give {} to {}", range.start(), range.end()),
            );
            return None;
        };
        Some(Located {
            value: number,
            at: value.span().start,
        })
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        report: &mut Report,
    ) -> Option<Located<T>>
    where
        T: FromStr<Err: Display>,
    {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_kind(key, value, "text in quotes", report);
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(Located {
                value: parsed,
                at: value.span().start,
            }),
            Err(error) => {
                let (what, remedy) = split_remedy(&error.to_string(), text);
                report.fault(value.span().start, format!("{key}: {what}"), remedy);
                None
            }
        }
    }

    fn wrong_kind(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        report: &mut Report,
    ) {
        report.fault(
            value.span().start,
            format!(
                "{key} in {} is of type {}",
                self.header,
                value.get_ref().type_str()
            ),
            format!("write {wanted}"),
        );
    }
}

fn one_of<T: Clone>(
    key: &str,
    word: Located<String>,
    words: &[(&str, T)],
    report: &mut Report,
) -> Option<Located<T>> {
    let found = words.iter().find(|(known, _)| *known == word.value);
    if found.is_none() {
        let known: Vec<_> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        report.fault(
            word.at,
            format!("{key} = \"{}\" is not known", word.value),
            format!("write one of: {}", known.join(", ")),
        );
    }
    Some(Located {
        value: found?.1.clone(),
        at: word.at,
    })
}

/// Errors of our own types read `what; remedy`; those of the standard library name neither.
fn split_remedy(error: &str, text: &str) -> (String, String) {
    match error.split_once("; ") {
        Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
        None => (format!("\"{text}\": {error}"), "correct it".to_owned()),
    }
}

fn nearest(schema: &Schema, unknown: &str) -> Option<&'static str> {
    schema
        .keys
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(key, unknown), *key))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}
