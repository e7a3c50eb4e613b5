//! A session's task: tokio sockets driving the state machine.

use super::SessionCommand;

/// Where commands to an Established session go.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    commands: tokio::sync::mpsc::UnboundedSender<SessionCommand>,
}

impl SessionHandle {
    /// Queues a command; `false`: the session has ended.
    pub fn send(&self, command: SessionCommand) -> bool {
        self.commands.send(command).is_ok()
    }
}
