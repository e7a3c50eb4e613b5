//! ORIGIN (RFC 4271 §5.1.1).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::FaultKind;

/// ORIGIN (RFC 4271 §5.1.1); lower is preferred.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Origin {
    /// 0.
    #[default]
    Igp = 0,
    /// 1.
    Egp = 1,
    /// 2.
    Incomplete = 2,
}

impl Origin {
    pub(super) fn parse(value: &[u8]) -> Result<Self, FaultKind> {
        match value {
            [0] => Ok(Self::Igp),
            [1] => Ok(Self::Egp),
            [2] => Ok(Self::Incomplete),
            [other] => Err(FaultKind::Origin(*other)),
            _ => Err(FaultKind::Length {
                found: value.len(),
                expected: "1",
            }),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_has_its_number_and_its_word_and_a_column_keeps_its_width() {
        for (number, origin, word) in [
            (0, Origin::Igp, "igp"),
            (1, Origin::Egp, "egp"),
            (2, Origin::Incomplete, "incomplete"),
        ] {
            assert_eq!(Origin::parse(&[number]), Ok(origin));
            assert_eq!(origin.to_string(), word);
            assert_eq!(format!("{origin:>12}|"), format!("{word:>12}|"));
        }
    }
}
