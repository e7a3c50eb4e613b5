//! A session as shown to people: what is counted, what went wrong last, when it is reported.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use crate::bgp::{
    SessionId, SessionStatus, State,
    wire::{Family, Negotiated},
};

/// Counters alone are reported at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The status and whether others know it already.
pub(super) struct Status {
    session: SessionId,
    shown: SessionStatus,
    reported_at: Option<Instant>,
    /// Something changed since it was reported.
    changed: bool,
    /// An error changed since: reported at once.
    urgent: bool,
}

impl Status {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            shown: SessionStatus::default(),
            reported_at: None,
            changed: true,
            urgent: true,
        }
    }

    /// Something went wrong. The same again and again is logged once.
    pub(super) fn error(&mut self, text: String) {
        if self.shown.last_error.as_ref() == Some(&text) {
            debug!(session = %self.session, "{text}");
        } else {
            warn!(session = %self.session, "{text}");
        }
        self.shown.last_error = Some(text);
        self.changed = true;
        self.urgent = true;
    }

    pub(super) fn established(&mut self, negotiated: Arc<Negotiated>) {
        self.shown.established_count += 1;
        self.shown.negotiated = Some(negotiated);
        self.changed = true;
    }

    pub(super) fn down(&mut self) {
        self.shown.negotiated = None;
        self.changed = true;
    }

    pub(super) fn families(&self) -> &[Family] {
        self.shown
            .negotiated
            .as_ref()
            .map_or(&[], |negotiated| &negotiated.families)
    }

    pub(super) fn sent(&mut self, messages: u64) {
        self.shown.messages_sent += messages;
        self.changed = true;
    }

    pub(super) fn received(&mut self) {
        self.shown.messages_received += 1;
        self.changed = true;
    }

    pub(super) fn update(&mut self) {
        self.shown.updates_received += 1;
    }

    /// An UPDATE was malformed, the session is kept (RFC 7606).
    pub(super) fn malformed(&mut self, text: String) {
        self.shown.updates_malformed += 1;
        self.error(text);
    }

    /// When the status is to be reported, if nothing else happens.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let reported_at = self.reported_at.filter(|_| self.changed)?;
        Some(reported_at + INTERVAL)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.urgent || self.due_at().is_some_and(|at| at <= now)
    }

    /// The status to report.
    pub(super) fn report(&mut self, state: State, now: Instant) -> SessionStatus {
        if self.shown.state != state || self.shown.since.is_none() {
            self.shown.state = state;
            self.shown.since = Some(now);
        }
        self.reported_at = Some(now);
        self.changed = false;
        self.urgent = false;
        self.shown.clone()
    }
}
