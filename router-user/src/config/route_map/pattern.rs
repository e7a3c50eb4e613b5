//! How the patterns of route maps are written: prefixes with lengths, communities, AS paths.

use std::str::FromStr;

use ipnet::IpNet;
use regex::Regex;

use super::{AsPathPattern, AsPathRegex, CommunityValue, PrefixPattern};
use crate::bgp::wire::{
    Asn,
    community::{
        BLACKHOLE, Community, GRACEFUL_SHUTDOWN, LLGR_STALE, NO_ADVERTISE, NO_EXPORT,
        NO_EXPORT_SUBCONFED, NO_LLGR,
    },
};

/// Why a text is no such pattern: `what; remedy`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No prefix pattern at all.
    #[error(
        "\"{0}\" is no prefix pattern; write 10.0.0.0/8, 10.0.0.0/8+ (that or longer) or 10.0.0.0/8{{16,24}} (lengths)"
    )]
    Prefix(String),
    /// Its prefix has host bits.
    #[error("\"{0}\" has bits set beyond its length; write {1}")]
    HostBits(String, IpNet),
    /// Its lengths are none that a prefix within it can have.
    #[error(
        "\"{pattern}\" can match nothing; give lengths from {shortest} to {longest}, the shorter one first"
    )]
    Lengths {
        /// As written.
        pattern: String,
        /// The prefix's own length.
        shortest: u8,
        /// That of a single address.
        longest: u8,
    },
    /// No community.
    #[error(
        "\"{0}\" is no community; write 65010:100, large:65010:1:2, ext:0x and 16 hexadecimal digits, or a name such as no-export"
    )]
    Community(String),
    /// No AS path pattern at all.
    #[error(
        "\"{0}\" is no AS path pattern; write \"contains 65010\", \"exact 65010 65020\" or \"regex ^65010_\""
    )]
    AsPath(String),
    /// The regular expression does not compile.
    #[error("regular expression \"{expression}\": {why}; correct it")]
    Regex {
        /// As written.
        expression: String,
        /// What the compiler says.
        why: String,
    },
}

impl FromStr for PrefixPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refused = || PatternError::Prefix(text.to_owned());
        let (prefix, lengths) = match text.find(['+', '{']) {
            Some(end) => text.split_at(end),
            None => (text, ""),
        };
        let prefix: IpNet = prefix.parse().map_err(|_| refused())?;
        if prefix != prefix.trunc() {
            return Err(PatternError::HostBits(text.to_owned(), prefix.trunc()));
        }
        let (own, longest) = (prefix.prefix_len(), prefix.max_prefix_len());
        let lengths = match lengths {
            "" => (own, own),
            "+" => (own, longest),
            range => range
                .strip_prefix('{')
                .and_then(|range| range.strip_suffix('}')?.split_once(','))
                .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)))
                .ok_or_else(refused)?,
        };
        if lengths.0 < own || lengths.1 > longest || lengths.0 > lengths.1 {
            return Err(PatternError::Lengths {
                pattern: text.to_owned(),
                shortest: own,
                longest,
            });
        }
        Ok(Self { prefix, lengths })
    }
}

/// Communities that have names, which are written as `show` prints them.
const WELL_KNOWN: [u32; 7] = [
    NO_EXPORT,
    NO_ADVERTISE,
    NO_EXPORT_SUBCONFED,
    GRACEFUL_SHUTDOWN,
    BLACKHOLE,
    LLGR_STALE,
    NO_LLGR,
];

impl FromStr for CommunityValue {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let value = match text.split_once(':') {
            Some(("large", rest)) => large(rest),
            Some(("ext", rest)) => extended(rest),
            Some((asn, value)) => standard(asn, value),
            None => WELL_KNOWN
                .into_iter()
                .find(|known| Community(*known).to_string() == text)
                .map(Self::Standard),
        };
        value.ok_or_else(|| PatternError::Community(text.to_owned()))
    }
}

fn standard(asn: &str, value: &str) -> Option<CommunityValue> {
    let (asn, value): (u16, u16) = (number(asn)?, number(value)?);
    Some(CommunityValue::Standard(
        u32::from(asn) << 16 | u32::from(value),
    ))
}

fn large(text: &str) -> Option<CommunityValue> {
    let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
    Some(CommunityValue::Large(numbers?.try_into().ok()?))
}

fn extended(text: &str) -> Option<CommunityValue> {
    let digits = text.strip_prefix("0x")?;
    let sized = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let value = u64::from_str_radix(digits, 16).ok().filter(|_| sized)?;
    Some(CommunityValue::Extended(value.to_be_bytes()))
}

/// A decimal number and nothing else: no sign.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl FromStr for AsPathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let asns = || -> Option<Vec<Asn>> { rest.split_whitespace().map(number).collect() };
        let pattern = match word {
            "contains" => asns().and_then(|asns| match asns[..] {
                [asn] => Some(Self::Contains(asn)),
                _ => None,
            }),
            "exact" => asns().map(Self::Exact),
            "regex" if !rest.is_empty() => return Ok(Self::Regex(AsPathRegex::compile(rest)?)),
            _ => None,
        };
        pattern.ok_or_else(|| PatternError::AsPath(text.to_owned()))
    }
}

impl AsPathRegex {
    /// Compiles an expression in which `_` stands for a boundary between ASNs: the path's start or
    /// end, a blank, a comma, a brace, bracket or parenthesis.
    ///
    /// # Errors
    ///
    /// It is no regular expression, or a huge one.
    pub fn compile(text: &str) -> Result<Self, PatternError> {
        let compiled = Regex::new(&with_boundaries(text)).map_err(|error| PatternError::Regex {
            expression: text.to_owned(),
            why: reason(&error),
        })?;
        Ok(Self {
            text: text.to_owned(),
            compiled,
        })
    }
}

/// `_` outside and inside a class of characters, as a regular expression.
fn with_boundaries(text: &str) -> String {
    let mut translated = String::with_capacity(text.len());
    let (mut escaped, mut class) = (false, false);
    for character in text.chars() {
        match character {
            _ if escaped => translated.push(character),
            '_' if class => translated.push_str(r" ,{}()\[\]"),
            '_' => translated.push_str(r"(?:^|[ ,{}()\[\]]|$)"),
            _ => translated.push(character),
        }
        let plain = !escaped;
        escaped = plain && character == '\\';
        class = match character {
            '[' if plain => true,
            ']' if plain => false,
            _ => class,
        };
    }
    translated
}

/// The compiler draws the place over several lines; its last line says why.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_pattern_is_exact_or_longer_or_a_range_of_lengths() {
        for (text, lengths) in [
            ("10.0.0.0/8", (8, 8)),
            ("10.0.0.0/8+", (8, 32)),
            ("10.0.0.0/8{16,24}", (16, 24)),
            ("10.0.0.0/8{8, 32}", (8, 32)),
            ("::/0+", (0, 128)),
        ] {
            let pattern: PrefixPattern = text.parse().unwrap();
            assert_eq!(pattern.lengths, lengths, "{text}");
        }
        for (text, told) in [
            ("10.0.0.0", "is no prefix pattern"),
            ("10.0.0.0/8++", "is no prefix pattern"),
            ("10.0.0.0/8{16}", "is no prefix pattern"),
            ("10.0.0.0/8{16,24", "is no prefix pattern"),
            (
                "10.1.0.0/8+",
                "has bits set beyond its length; write 10.0.0.0/8",
            ),
            ("10.0.0.0/8{4,24}", "give lengths from 8 to 32"),
            ("10.0.0.0/8{24,16}", "the shorter one first"),
            ("fd00::/8{16,129}", "give lengths from 8 to 128"),
        ] {
            let error = text.parse::<PrefixPattern>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn communities_of_three_kinds_and_names_are_read() {
        for (text, value) in [
            ("65010:100", CommunityValue::Standard(0xfdf2_0064)),
            ("no-export", CommunityValue::Standard(NO_EXPORT)),
            (
                "large:4200000000:1:2",
                CommunityValue::Large([4_200_000_000, 1, 2]),
            ),
            (
                "ext:0x0002fde800000064",
                CommunityValue::Extended([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]),
            ),
        ] {
            assert_eq!(text.parse(), Ok(value), "{text}");
        }
        for wrong in [
            "65536:1",
            "65010",
            "65010:",
            "+1:2",
            "1:2:3",
            "large:1:2",
            "large:1:2:3:4",
            "ext:0002fde800000064",
            "ext:0x2fde8",
            "no-such",
            "",
        ] {
            assert!(wrong.parse::<CommunityValue>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn as_paths_are_matched_by_an_asn_a_sequence_or_an_expression() {
        assert_eq!("contains 65010".parse(), Ok(AsPathPattern::Contains(65010)));
        assert_eq!(
            "exact 65010 65020".parse(),
            Ok(AsPathPattern::Exact(vec![65010, 65020]))
        );
        assert_eq!("exact".parse(), Ok(AsPathPattern::Exact(vec![])));
        for wrong in ["65010", "contains", "contains 1 2", "exact a", "regex", ""] {
            assert!(wrong.parse::<AsPathPattern>().is_err(), "{wrong}");
        }
        let error = "regex (65010".parse::<AsPathPattern>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "regular expression \"(65010\": unclosed group; correct it"
        );
    }

    #[test]
    fn an_underscore_is_a_boundary_between_asns() {
        for (expression, path, fits) in [
            ("^65010_", "65010", true),
            ("^65010_", "65010 65020", true),
            ("^65010_", "650101", false),
            ("_65020_", "65010 65020 65030", true),
            ("_65020_", "65010 165020", false),
            ("_65030$", "65010 65030", true),
            ("_7_", "65010 {7 8}", true),
            ("_8_", "65010 {7 8}", true),
            ("^65010_65020$", "65010 65020", true),
            ("^$", "", true),
            ("^65010[_0]", "65010 1", true),
            ("^65010[_0]", "650101", false),
            (r"^6501\d_", "65019 1", true),
        ] {
            let compiled = AsPathRegex::compile(expression).unwrap().compiled;
            assert_eq!(compiled.is_match(path), fits, "{expression} on {path}");
        }
    }
}
