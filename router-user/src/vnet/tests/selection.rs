//! The judging of own rows with sources that further features bring: user-defined routes.

use super::net;
use crate::{
    fib::Precedence,
    vnet::own::{Hop, LearnedDefaults, OwnCandidate, OwnRow, Role, Verdict, select},
};

#[test]
fn a_user_defined_route_beats_the_system_s_of_the_same_prefix() {
    let rows = select(
        vec![system_default(), user_defined("0.0.0.0/0")],
        NOTHING_LEARNED,
    );
    assert_eq!(rows[0].row.precedence, Precedence::UserDefined);
    assert_eq!(
        why(&rows[0]),
        "a user-defined route beats a system route of the same prefix"
    );
    assert_eq!(why(&rows[1]), "a user-defined route has the same prefix");
    assert!(rows[0].is_valid() && !rows[1].is_valid());
}

#[test]
fn a_user_defined_route_of_exactly_the_own_space_inherits_the_mark() {
    let rows = select(
        vec![space("10.1.0.0/16"), user_defined("10.1.0.0/16")],
        NOTHING_LEARNED,
    );
    let valid = rows.iter().find(|row| row.is_valid()).unwrap();
    assert_eq!(valid.row.precedence, Precedence::UserDefined);
    assert!(valid.overriding);
}

#[test]
fn every_own_route_beneath_an_overriding_one_overrides_and_none_above_does() {
    let rows = select(
        vec![
            space("10.1.0.0/16"),
            user_defined("10.1.1.0/24"),
            user_defined("10.0.0.0/8"),
            user_defined("10.2.0.0/16"),
        ],
        NOTHING_LEARNED,
    );
    let overriding: Vec<_> = rows
        .iter()
        .filter(|row| row.overriding)
        .map(|row| row.row.prefix)
        .collect();
    assert_eq!(overriding, [net("10.1.0.0/16"), net("10.1.1.0/24")]);
}

#[test]
fn private_ranges_follow_a_user_defined_default_of_their_family() {
    let rows = select(
        vec![
            user_defined("0.0.0.0/0"),
            private("10.0.0.0/8"),
            private("fc00::/7"),
        ],
        NOTHING_LEARNED,
    );
    let [_, v4, v6] = &rows[..] else {
        panic!("three rows");
    };
    assert_eq!(
        why(v4),
        "0.0.0.0/0 is user-defined, and private ranges follow it"
    );
    assert!(v6.is_valid());
}

#[test]
fn a_user_defined_route_of_a_private_range_replaces_it() {
    let rows = select(
        vec![private("10.0.0.0/8"), user_defined("10.0.0.0/8")],
        NOTHING_LEARNED,
    );
    assert_eq!(rows[0].row.precedence, Precedence::UserDefined);
    assert!(rows[0].is_valid() && !rows[1].is_valid());
}

#[test]
fn nothing_takes_the_gateway_host_s_addresses_away() {
    let platform = OwnRow {
        role: Role::Platform,
        hop: Hop::Host,
        ..space("10.1.0.1/32")
    };
    let rows = select(vec![user_defined("10.1.0.1/32"), platform], NOTHING_LEARNED);
    assert_eq!(rows[0].row.hop, Hop::Host);
    assert!(rows[0].is_valid() && rows[0].overriding);
    assert_eq!(
        why(&rows[1]),
        "an address of the gateway host has the same prefix"
    );
}

pub(super) const NOTHING_LEARNED: LearnedDefaults = LearnedDefaults {
    v4: false,
    v6: false,
};

pub(super) fn space(prefix: &str) -> OwnRow {
    OwnRow {
        prefix: net(prefix),
        precedence: Precedence::System,
        hop: Hop::VirtualNetwork,
        role: Role::Space,
        fault: None,
        delivered_by: None,
    }
}

pub(super) fn private(prefix: &str) -> OwnRow {
    OwnRow {
        hop: Hop::None,
        role: Role::Private,
        ..space(prefix)
    }
}

fn system_default() -> OwnRow {
    OwnRow {
        hop: Hop::Internet(None),
        role: Role::Ordinary,
        ..space("0.0.0.0/0")
    }
}

pub(super) fn user_defined(prefix: &str) -> OwnRow {
    OwnRow {
        precedence: Precedence::UserDefined,
        hop: Hop::Internet(None),
        role: Role::Ordinary,
        ..space(prefix)
    }
}

fn why(candidate: &OwnCandidate) -> &str {
    match &candidate.verdict {
        Verdict::Valid(why) => why.as_deref().unwrap_or_default(),
        Verdict::Invalid(why) => why,
    }
}
