//! From another build's maps to ours: its programs forward until ours are filled, then each link is
//! switched, and when the last one is, the other's maps are unpinned.

use std::{collections::BTreeSet, mem, path::PathBuf};

use crate::names::InterfaceName;

/// How far it has come.
#[derive(Debug)]
pub(super) struct Handover {
    /// Folders of the other build's maps.
    folders: Vec<PathBuf>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Our maps are being filled.
    Filling,
    /// They are full; these links still run the other program.
    Switching(BTreeSet<InterfaceName>),
}

impl From<Vec<PathBuf>> for Handover {
    fn from(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            stage: Stage::Filling,
        }
    }
}

impl Handover {
    /// Whether links keep the other program for now.
    pub(super) fn waits(&self) -> bool {
        !self.folders.is_empty() && matches!(self.stage, Stage::Filling)
    }

    /// Our maps are full: these links are to be switched. Whether there is anything to hand over.
    pub(super) fn begin(&mut self, links: Vec<InterfaceName>) -> bool {
        self.stage = Stage::Switching(links.into_iter().collect());
        !self.folders.is_empty()
    }

    /// The link runs our program, or is gone.
    pub(super) fn switched(&mut self, link: &InterfaceName) {
        if let Stage::Switching(links) = &mut self.stage {
            links.remove(link);
        }
    }

    /// Folders that no program needs any more, told once.
    pub(super) fn take_unused(&mut self) -> Vec<PathBuf> {
        match &self.stage {
            Stage::Switching(links) if links.is_empty() => mem::take(&mut self.folders),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_cannot_be_switched_at_once_is_switched_later_and_then_the_maps_go() {
        let folder = PathBuf::from("/sys/fs/bpf/waypost/default/older");
        let mut handover = Handover::from(vec![folder.clone()]);
        assert!(handover.waits());
        handover.switched(&"a".into());
        assert!(handover.begin(vec!["a".into(), "b".into()]));
        assert!(
            !handover.waits(),
            "whoever is attached now gets our program"
        );
        handover.switched(&"a".into());
        assert!(handover.take_unused().is_empty(), "b runs the other one");
        handover.switched(&"b".into());
        assert_eq!(handover.take_unused(), [folder]);
        assert!(handover.take_unused().is_empty());
    }

    #[test]
    fn nothing_waits_where_no_other_build_left_anything() {
        let mut handover = Handover::from(Vec::new());
        assert!(!handover.waits());
        assert!(!handover.begin(vec!["a".into()]));
    }
}
