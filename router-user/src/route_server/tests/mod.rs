//! The rules of a route server, as sentences.
