//! The product's rules of a route server: who may learn what from whom.
//!
//! In: session events and the prefixes that the virtual network wants advertised. Out: learned
//! routes for `vnet`, messages for sessions. Wire formats and maps are not known here.
