//! The path identifiers that ADD-PATH members are sent (RFC 7911 §3).
//!
//! In: the paths of one prefix. Out: a number for each, unique among them. Nothing is stored: the
//! number follows from where the path came from, its session and the identifier that it was
//! received with, and neither ranking nor receiver changes it. Usual identifiers are numbered without
//! loss; large ones (some speakers draw them at random) by a hash of 31 bits. Only if two of one
//! prefix have the same hash, one of them gets another number, which it keeps while both are there.

use super::{
    adj_rib_in::fingerprint,
    path::{Path, SessionIndex},
};

/// Received identifiers below this are part of the number.
const USUAL: u32 = 1 << 15;

/// Set in numbers that are hashes.
const HASHED: u32 = 1 << 31;

/// The number of what the route server originates; no session has one that ends in 16 zero bits.
const ORIGINATED: u32 = 1 << 16;

/// The path identifier under which `path`, one of `paths`, is sent.
pub(super) fn sent(paths: &[Path], path: &Path) -> u32 {
    let wanted = wanted(path);
    if wanted & HASHED == 0 {
        return wanted;
    }
    let mut hashed: Vec<(u32, SessionIndex, u32)> = paths.iter().filter_map(key).collect();
    hashed.sort_unstable();
    if hashed.windows(2).all(|pair| pair[0].0 != pair[1].0) {
        return wanted;
    }
    resolve(&hashed, (wanted, path.session, path.path_id))
}

/// The number of `path` where numbers collide: of those that want the same one, the first has it;
/// the others, in order, take the next ones that nobody wants or has.
fn resolve(hashed: &[(u32, SessionIndex, u32)], path: (u32, SessionIndex, u32)) -> u32 {
    let is_wanted = |number: u32| hashed.binary_search_by_key(&number, |key| key.0).is_ok();
    let mut given: Vec<u32> = Vec::new();
    for pair in hashed.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let mut number = pair[1].0;
        while is_wanted(number) || given.contains(&number) {
            number = number.wrapping_add(1) | HASHED;
        }
        if pair[1] == path {
            return number;
        }
        given.push(number);
    }
    path.0
}

fn key(path: &Path) -> Option<(u32, SessionIndex, u32)> {
    let wanted = wanted(path);
    (wanted & HASHED != 0).then_some((wanted, path.session, path.path_id))
}

fn wanted(path: &Path) -> u32 {
    if path.is_local() {
        ORIGINATED
    } else if path.path_id < USUAL {
        path.path_id << 16 | (u32::from(path.session.0) + 1)
    } else {
        HASHED | fingerprint(&(path.session, path.path_id)) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashMap},
        sync::Arc,
    };

    use super::*;
    use crate::rib::{LocalSource, decision::Rank, path::Standing};

    #[test]
    fn usual_identifiers_of_all_sessions_have_numbers_of_their_own() {
        let mut numbers = BTreeSet::new();
        let mut count = 0;
        for session in [0, 1, 2, 254, 255, 256, 40_000, 65_534] {
            for path_id in [0, 1, 2, 255, 256, 32_767] {
                let path = path(session, path_id);
                numbers.insert(sent(std::slice::from_ref(&path), &path));
                count += 1;
            }
        }
        let own = path(SessionIndex::LOCAL.0, 0);
        numbers.insert(sent(std::slice::from_ref(&own), &own));
        assert_eq!(numbers.len(), count + 1);
        assert!(!numbers.contains(&0));
    }

    #[test]
    fn a_number_does_not_depend_on_the_other_paths_nor_on_their_order() {
        let mut paths: Vec<Path> = (0..50)
            .map(|number| path(number, u32::from(number) * 70_000))
            .collect();
        let alone: Vec<u32> = paths
            .iter()
            .map(|path| sent(std::slice::from_ref(path), path))
            .collect();
        let numbers =
            |paths: &[Path]| -> Vec<u32> { paths.iter().map(|path| sent(paths, path)).collect() };
        assert_eq!(numbers(&paths), alone);
        paths.reverse();
        let reversed: Vec<u32> = alone.into_iter().rev().collect();
        assert_eq!(numbers(&paths), reversed);
    }

    #[test]
    fn paths_with_the_same_hash_are_told_apart() {
        let mut by_number = HashMap::new();
        let (one, other) = (USUAL..)
            .find_map(|path_id| {
                let number = wanted(&path(1, path_id));
                let before = by_number.insert(number, path_id);
                before.map(|before| (before, path_id))
            })
            .expect("31 bits are few");
        let next = wanted(&path(1, one)).wrapping_add(1) | HASHED;
        let third = (USUAL..).find(|path_id| {
            ![one, other].contains(path_id)
                && wanted(&path(1, *path_id)) & !0xffff == next & !0xffff
        });
        let mut paths = vec![
            path(1, other),
            path(7, 3),
            path(1, third.expect("a neighbour")),
            path(1, one),
        ];
        let numbers = |paths: &[Path]| -> BTreeSet<(u32, u32)> {
            let numbers = paths.iter().map(|path| (path.path_id, sent(paths, path)));
            numbers.collect()
        };
        let first = numbers(&paths);
        let distinct: BTreeSet<u32> = first.iter().map(|(_, number)| *number).collect();
        assert_eq!(distinct.len(), 4);
        paths.reverse();
        assert_eq!(numbers(&paths), first);
    }

    fn path(session: u16, path_id: u32) -> Path {
        Path {
            attributes: Arc::default(),
            rank: Rank::originated(LocalSource::NETWORKS),
            path_id,
            session: SessionIndex(session),
            standing: Standing::LOCAL,
        }
    }
}
