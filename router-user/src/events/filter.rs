//! Which events are wanted.

use std::{collections::BTreeSet, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Event, Subject};

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A session came up or went down.
    Session,
    /// A peer's number of routes nears its limit, reaches it, or is over it.
    Limit,
    /// The next hops of a prefix changed.
    Route,
    /// A next hop died or came back.
    Failover,
    /// An operator's command.
    Operator,
    /// The configuration was read again.
    Reload,
    /// The daemon itself.
    Daemon,
}

/// Which events are wanted; all by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Of these kinds; empty: of all.
    pub kinds: BTreeSet<Kind>,
    /// About this route server.
    pub route_server: Option<String>,
    /// About, or caused by, this peer.
    pub peer: Option<String>,
}

/// Why a text is no kind of event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no kind of event; write one of: {known}", known = Kind::words())]
pub struct FilterError(String);

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Session,
        Self::Limit,
        Self::Route,
        Self::Failover,
        Self::Operator,
        Self::Reload,
        Self::Daemon,
    ];

    /// Its word in the lines and in filters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Limit => "limit",
            Self::Route => "route",
            Self::Failover => "failover",
            Self::Operator => "operator",
            Self::Reload => "reload",
            Self::Daemon => "daemon",
        }
    }

    fn words() -> String {
        Self::ALL.map(Self::word).join(", ")
    }
}

impl FromStr for Kind {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let known = Self::ALL.into_iter().find(|kind| kind.word() == text);
        known.ok_or_else(|| FilterError(text.to_owned()))
    }
}

impl Filter {
    /// Kinds as a list: `session,limit`.
    ///
    /// # Errors
    ///
    /// One of the words is no kind.
    pub fn kinds(text: &str) -> Result<BTreeSet<Kind>, FilterError> {
        let words = text.split(',').map(str::trim);
        words
            .filter(|word| !word.is_empty())
            .map(Kind::from_str)
            .collect()
    }

    /// Whether an event is wanted.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let Subject {
            kind,
            route_server,
            peers,
        } = event.what.subject();
        let wanted_peer = |wanted: &String| peers.iter().any(|peer| peer.as_str() == wanted);
        self.since.is_none_or(|since| event.time >= since)
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.route_server.as_deref())
                .is_none_or(|wanted| route_server.is_some_and(|name| name.as_str() == wanted))
            && self.peer.as_ref().is_none_or(wanted_peer)
    }
}
