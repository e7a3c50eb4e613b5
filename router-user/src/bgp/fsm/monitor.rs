//! What any sequence of actions has to satisfy, whatever the events: for tests and fuzzing.

use std::collections::HashSet;

use super::{Action, ConnectionId, Event};

/// Follows one machine's events and actions.
#[derive(Debug, Default)]
pub struct Monitor {
    open: HashSet<ConnectionId>,
    connecting: bool,
    established: Option<ConnectionId>,
}

impl Monitor {
    /// An event is about to be handled.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Connected { connection, .. } => {
                self.connecting = false;
                self.open.insert(*connection);
            }
            Event::Accepted { connection, .. } => {
                self.open.insert(*connection);
            }
            Event::ConnectFailed { .. } => self.connecting = false,
            Event::Closed { connection, .. } => {
                self.open.remove(connection);
            }
            _ => {}
        }
    }

    /// Whether a connection is Established.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established.is_some()
    }

    /// Whether a connection attempt is under way.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.connecting
    }

    /// The connections that are open.
    pub fn open(&self) -> impl Iterator<Item = ConnectionId> {
        self.open.iter().copied()
    }

    /// Checks what an event led to.
    ///
    /// # Panics
    /// An action breaks a rule.
    pub fn check(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Connect => {
                    assert!(!self.connecting, "connects twice");
                    self.connecting = true;
                }
                Action::CancelConnect => {
                    assert!(self.connecting, "gives up what was not begun");
                    self.connecting = false;
                }
                Action::Send { connection, .. } => {
                    assert!(
                        self.open.contains(connection),
                        "sends on a closed connection"
                    );
                }
                Action::Close { connection } => {
                    assert!(self.open.remove(connection), "closes a closed connection");
                }
                Action::Established { connection, .. } => {
                    assert!(
                        self.open.contains(connection),
                        "a closed connection Established"
                    );
                    let before = self.established.replace(*connection);
                    assert_eq!(before, None, "two connections Established");
                }
                Action::Down(_) => {
                    assert!(self.established.take().is_some(), "down without being up");
                }
                Action::Report(text) => assert!(!text.is_empty()),
            }
        }
    }
}
