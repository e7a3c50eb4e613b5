//! The flow hash that picks the bucket of a group.
