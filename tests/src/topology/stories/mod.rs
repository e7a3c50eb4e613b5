//! The topologies, one a file.

use super::Story;

pub mod instances;
pub mod overview;

/// Those that hold, in the order of their numbers.
pub const STORIES: &[Story] = &[overview::STORY, instances::STORY];
