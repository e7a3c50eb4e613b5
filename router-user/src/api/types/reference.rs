//! `docs/api.md` has a table for each type of this module, made of the types themselves: fields, what
//! they are in JSON, and their documentation. `WAYPOST_WRITE_DOCS=1 cargo test -p router-user --lib
//! reference` writes the tables anew.

use std::{fmt::Write as _, path::Path};

const SOURCES: [&str; 6] = [
    include_str!("daemon.rs"),
    include_str!("sessions.rs"),
    include_str!("routes.rs"),
    include_str!("forwarding.rs"),
    include_str!("explanation.rs"),
    include_str!("plan.rs"),
];

const BEGIN: &str = "<!-- types: made of router-user/src/api/types -->\n";
const END: &str = "<!-- end of types -->\n";

#[test]
fn the_reference_has_every_type_with_its_fields_and_no_others() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(&place).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the beginning is marked");
    let (written, after) = rest.split_once(END).expect("the end is marked");
    let made = tables();
    if std::env::var_os("WAYPOST_WRITE_DOCS").is_some() {
        let text = format!("{before}{BEGIN}{made}{END}{after}");
        std::fs::write(&place, text).unwrap();
        return;
    }
    for (written, made) in written.lines().zip(made.lines()) {
        assert_eq!(written, made, "docs/api.md is not of these types");
    }
    assert_eq!(
        written.len(),
        made.len(),
        "docs/api.md is not of these types"
    );
}

#[test]
fn every_command_of_the_reference_answers_with_a_type_that_is_described() {
    let text = include_str!("../../../../docs/api.md");
    let (before, _) = text.split_once(BEGIN).unwrap();
    let links: Vec<_> = before
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.len() > 12, "{links:?}");
    let types: Vec<_> = structs().into_iter().map(|it| it.name).collect();
    for link in links {
        let described = types.iter().any(|name| name.to_lowercase() == link);
        let section = text
            .lines()
            .any(|line| line.starts_with("## ") && line[3..].to_lowercase() == link);
        assert!(described || section, "#{link}");
    }
}

#[test]
fn what_is_described_is_what_serde_writes() {
    let detail = crate::api::metrics::tests::session();
    let value = serde_json::to_value(&detail).unwrap();
    let mut written: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    let structs = structs();
    let fields = |name: &str| -> Vec<String> {
        let found = structs.iter().find(|it| it.name == name).unwrap();
        let own = found.fields.iter().filter(|field| !field.flattened);
        own.map(|field| field.name.clone()).collect()
    };
    let mut described = [fields("PeerRow"), fields("PeerDetail")].concat();
    written.sort();
    described.sort();
    assert_eq!(written, described);
}

struct Struct {
    name: String,
    meaning: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    kind: String,
    meaning: String,
    flattened: bool,
}

fn tables() -> String {
    let structs = structs();
    let names: Vec<_> = structs.iter().map(|it| it.name.clone()).collect();
    let mut text = String::new();
    for Struct {
        name,
        meaning,
        fields,
    } in &structs
    {
        write!(text, "\n### {name}\n\n{meaning}\n\n").unwrap();
        text += "| field | type | meaning |\n| --- | --- | --- |\n";
        for field in fields {
            let kind = json(&field.kind, &names);
            let meaning = field.meaning.replace('|', "\\|");
            let name = match field.flattened {
                true => format!("all of {kind}"),
                false => format!("`{}`", field.name),
            };
            let kind = if field.flattened { "" } else { &kind };
            writeln!(text, "| {name} | {kind} | {meaning} |").unwrap();
        }
    }
    text + "\n"
}

/// The types of all sources, in order.
fn structs() -> Vec<Struct> {
    let mut structs: Vec<Struct> = Vec::new();
    let (mut meaning, mut flattened, mut optional) = (String::new(), false, false);
    for line in SOURCES.iter().flat_map(|source| source.lines()) {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            if !meaning.is_empty() {
                meaning.push(' ');
            }
            meaning.push_str(text.trim());
        } else if let Some(attribute) = line.strip_prefix("#[serde(") {
            flattened |= attribute.contains("flatten");
            optional |= attribute.contains("skip_serializing_if");
        } else if let Some(name) = line.strip_prefix("pub struct ") {
            structs.push(Struct {
                name: name.trim_end_matches(" {").to_owned(),
                meaning: plain(&std::mem::take(&mut meaning)),
                fields: Vec::new(),
            });
        } else if let Some(field) = line.strip_prefix("pub ").filter(|_| line.ends_with(',')) {
            let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
            let left_out = if optional {
                " Left out where there is none."
            } else {
                ""
            };
            let meaning = plain(&std::mem::take(&mut meaning)) + left_out;
            let current = structs.last_mut().expect("fields stand in a struct");
            current.fields.push(Field {
                name: name.to_owned(),
                kind: kind.to_owned(),
                meaning,
                flattened: std::mem::take(&mut flattened),
            });
            optional = false;
        } else if !line.starts_with("#[") {
            meaning.clear();
        }
    }
    structs
}

/// Without the links of rustdoc.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`")
}

/// What a Rust type is in JSON.
fn json(kind: &str, structs: &[String]) -> String {
    let inside = |outer: &str| {
        let rest = kind.strip_prefix(outer)?.strip_prefix('<')?;
        rest.strip_suffix('>')
    };
    if let Some(inner) = inside("Option") {
        return format!("{} or null", json(inner, structs));
    }
    if let Some(inner) = inside("Vec") {
        return format!("list of {}", json(inner, structs));
    }
    if let Some(inner) = inside("BTreeMap") {
        let (key, value) = inner.split_once(", ").expect("a map has two types");
        let (key, value) = (json(key, structs), json(value, structs));
        return format!("object, {value} by {key}");
    }
    match kind {
        "bool" => "boolean".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "integer".to_owned(),
        "f64" => "number".to_owned(),
        "String" => "text".to_owned(),
        "IpNet" => "prefix".to_owned(),
        "IpAddr" | "Ipv4Addr" | "Ipv6Addr" => "address".to_owned(),
        "MacAddr" => "MAC address".to_owned(),
        "Family" => "`ipv4_unicast` or `ipv6_unicast`".to_owned(),
        "State" => "`Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm` or `Established`".into(),
        "fib::Precedence" => "`system`, `learned` or `user_defined`".to_owned(),
        name if name.ends_with("Name") => "name".to_owned(),
        name => {
            assert!(structs.iter().any(|it| it == name), "{name} in JSON?");
            format!("[{name}](#{})", name.to_lowercase())
        }
    }
}
