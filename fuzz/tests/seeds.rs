//! Every target over its seeds, each also cut short and altered: what is once known stays known.

use std::{fs, path::Path};

use fuzz::TARGETS;

/// Alterations of each seed.
const ALTERED: u64 = 50;

#[test]
fn no_seed_breaks_its_target() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let mut seeds: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for path in seeds {
            let seed = fs::read(&path).unwrap();
            for number in 0..=ALTERED {
                let input = altered(&seed, number);
                let result = std::panic::catch_unwind(|| run(&input));
                assert!(
                    result.is_ok(),
                    "{name} breaks on alteration {number} of {}: {input:02x?}",
                    path.display()
                );
            }
        }
    }
}

/// The seed itself for 0, else with some bytes changed and its end cut off.
fn altered(seed: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    if number == 0 || bytes.is_empty() {
        return bytes;
    }
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for _ in 0..1 + next() % 8 {
        let place = next() % bytes.len();
        bytes[place] = next() as u8;
    }
    let length = bytes.len() - next() % bytes.len().min(40);
    bytes.truncate(length);
    bytes
}
