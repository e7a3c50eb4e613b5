//! A story: a topology, told step by step.

use std::any::Any;

use anyhow::Result;

use crate::{lab::Lab, overview::narrator::Narrator};

/// What runs on after a story has been told: its daemons.
pub type Kept = Box<dyn Any>;

/// A topology that must work end to end.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Its number in the list of topologies.
    pub number: u8,
    /// Its name, as `cargo xtask demo --scenario` takes it.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// Its drawing.
    pub drawing: &'static str,
    /// Tells it.
    ///
    /// # Errors
    /// The stage cannot be set. What does not hold after that is the narrator's to tell.
    pub tell: fn(&Lab, &mut Narrator) -> Result<Kept>,
}

impl Story {
    /// Tells it and demands that every step holds.
    ///
    /// # Errors
    /// One does not.
    pub fn holds(&self, lab: &Lab) -> Result<()> {
        let mut narrator = Narrator::default();
        let kept = (self.tell)(lab, &mut narrator)?;
        println!("\n{}", narrator.summary());
        drop(kept);
        narrator.all_held()
    }
}
