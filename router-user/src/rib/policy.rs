//! Outbound route maps, as the RIB sees them: what becomes of a path on its way to a group of peers.
//!
//! In: the prefix, where the path came from, and its attributes after import. Out: whether it is sent,
//! and with which attributes; what every peer's path goes through (the own ASN, the next hop) comes
//! after that.

use std::{cell::RefCell, fmt::Debug, sync::Arc};

use foldhash::HashSet;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::path::{Path, SessionIndex, SessionInfo, Sessions};
use crate::bgp::wire::PathAttributes;

/// An outbound route map. Part of a [`View`](super::View): only the very same one is equal.
pub trait ExportPolicy: Debug + Send + Sync {
    /// What becomes of a path.
    fn evaluate(
        &self,
        prefix: IpNet,
        source: Source<'_>,
        attributes: &PathAttributes,
    ) -> Evaluation;

    /// Prefixes of one class are treated alike: it is evaluated once for all of them.
    fn class(&self, prefix: IpNet) -> u32;

    /// Whether it ever gives [`Evaluation::Aggregate`].
    fn aggregates(&self) -> bool {
        false
    }
}

impl PartialEq for dyn ExportPolicy {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self, other)
    }
}

impl Eq for dyn ExportPolicy {}

/// Where a path came from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The route server originates it.
    Originated,
    /// A session announced it.
    Session(&'a SessionInfo),
}

/// What becomes of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart as soon as it is made"
)]
pub enum Evaluation {
    /// It is sent as it is.
    Keep,
    /// It is not sent. One that was learned gives way to the next best; what is originated does not.
    Drop,
    /// It is sent with these attributes.
    Change(PathAttributes),
    /// It is not sent, but while there is one of these that could be, the aggregate is, in which its
    /// prefix lies.
    Aggregate(IpNet),
}

/// What a policy has made of paths, for as long as they stand as they are.
#[derive(Clone, Default)]
pub(super) struct Evaluations(RefCell<Known>);

#[derive(Clone, Default)]
struct Known {
    by_path: FxHashMap<(*const PathAttributes, SessionIndex, u32), Evaluated>,
    /// Equal attributes are one allocation, so that prefixes with them go out together. The hash is
    /// keyed, for peers choose them.
    sets: HashSet<Arc<PathAttributes>>,
}

/// [`Evaluation`], with shared attributes.
#[derive(Clone)]
pub(super) enum Evaluated {
    Keep,
    Drop,
    Change(Arc<PathAttributes>),
    Aggregate(IpNet),
}

impl Evaluations {
    pub(super) fn of(
        &self,
        policy: &dyn ExportPolicy,
        sessions: &Sessions,
        prefix: IpNet,
        path: &Path,
    ) -> Evaluated {
        let class = policy.class(prefix);
        let key = (Arc::as_ptr(&path.attributes), path.session, class);
        let Known { by_path, sets } = &mut *self.0.borrow_mut();
        let evaluated = by_path.entry(key).or_insert_with(|| {
            let source = match path.is_local() {
                true => Source::Originated,
                false => Source::Session(sessions.info(path.session)),
            };
            match policy.evaluate(prefix, source, &path.attributes) {
                Evaluation::Keep => Evaluated::Keep,
                Evaluation::Drop => Evaluated::Drop,
                Evaluation::Aggregate(prefix) => Evaluated::Aggregate(prefix),
                Evaluation::Change(attributes) => {
                    let set = sets.get(&attributes).cloned();
                    Evaluated::Change(set.unwrap_or_else(|| {
                        let set = Arc::new(attributes);
                        sets.insert(set.clone());
                        set
                    }))
                }
            }
        });
        evaluated.clone()
    }
}
