//! Tables that published ports read. What is no longer wanted keeps its name and its number until no
//! port reads it: at no time does a port meet another network's table under the number of its own.

use router_common::maps::{self, NO_TABLE};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    kernel::{Host, Maps},
    numbers::{Kind, Retired, encode},
    reconciler::Reconciler,
};

/// Who reads which table, by its number.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// How many published ports name it.
    ports: FxHashMap<u32, usize>,
    /// Not wanted any more.
    leaving: FxHashSet<u32>,
}

impl Readers {
    /// A port with this value is published.
    pub(super) fn hold(&mut self, value: &maps::Port) {
        for table in tables_of(value) {
            *self.ports.entry(table).or_default() += 1;
        }
    }

    /// A table is wanted (again).
    pub(super) fn keep(&mut self, table: u32) {
        self.leaving.remove(&table);
    }
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    /// A port with this value is published no more.
    pub(super) fn release_tables(&mut self, value: &maps::Port) {
        for table in tables_of(value) {
            let Some(ports) = self.readers.ports.get_mut(&table) else {
                continue;
            };
            *ports -= 1;
            if *ports == 0 {
                self.readers.ports.remove(&table);
                if self.readers.leaving.remove(&table) {
                    self.retire_table(table);
                }
            }
        }
    }

    /// Nobody wants a table any more: its number is given out again after a grace period, once no
    /// port reads it.
    pub(super) fn retire_table(&mut self, number: u32) {
        if self.readers.ports.contains_key(&number) {
            self.readers.leaving.insert(number);
            return;
        }
        let name = self.numbers[Kind::Table as usize].name(number);
        if let Some(key) = name.map(|name| encode(Kind::Table, name)) {
            self.forget(&key, Kind::Table);
            self.retired.push(Retired::Number(Kind::Table, number));
        }
    }
}

fn tables_of(value: &maps::Port) -> impl Iterator<Item = u32> {
    let tables = [value.own_table, value.learned_table];
    tables.into_iter().filter(|table| *table != NO_TABLE)
}
