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

/// Log lines about malformed UPDATEs: one in so much time.
const MALFORMED_LOGGED: Duration = Duration::from_secs(5);

/// Errors that are logged one after another.
const ERRORS_AT_ONCE: u32 = 20;

/// How often one more is.
const ERROR_INTERVAL: Duration = Duration::from_secs(5);

/// The status and whether others know it already.
pub(super) struct Status {
    session: SessionId,
    shown: SessionStatus,
    reported_at: Option<Instant>,
    /// Something changed since it was reported.
    changed: bool,
    /// An error changed since: reported at once.
    urgent: bool,
    /// When a malformed UPDATE was last logged.
    malformed_logged_at: Option<Instant>,
    errors: Errors,
}

/// Errors that are logged and reported at once: so many, and one more in each [`ERROR_INTERVAL`].
struct Errors {
    left: u32,
    counted_at: Option<Instant>,
}

impl Errors {
    fn admit(&mut self, now: Instant) -> bool {
        let counted_at = *self.counted_at.get_or_insert(now);
        let passed = now.saturating_duration_since(counted_at).as_nanos();
        let more = u32::try_from(passed / ERROR_INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(ERRORS_AT_ONCE);
            self.counted_at = Some(now);
        }
        let admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

impl Status {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            shown: SessionStatus::default(),
            reported_at: None,
            changed: true,
            urgent: true,
            malformed_logged_at: None,
            errors: Errors {
                left: ERRORS_AT_ONCE,
                counted_at: None,
            },
        }
    }

    /// Something went wrong. The same again and again is logged once, and whatever a peer does, there
    /// is only so much to read: then the rest is seen in the status, now and then.
    pub(super) fn error(&mut self, text: String) {
        self.error_at(text, Instant::now());
    }

    fn error_at(&mut self, text: String, now: Instant) {
        let known = self.shown.last_error.as_ref() == Some(&text);
        if !known && self.errors.admit(now) {
            warn!(session = %self.session, "{text}");
            self.urgent = true;
        } else {
            debug!(session = %self.session, "{text}");
        }
        self.shown.last_error = Some(text);
        self.changed = true;
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

    /// Whether refreshes are marked with BoRR and EoRR (RFC 7313).
    pub(super) fn has_enhanced_refresh(&self) -> bool {
        let negotiated = self.shown.negotiated.as_ref();
        negotiated.is_some_and(|negotiated| negotiated.enhanced_route_refresh)
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

    /// An UPDATE was malformed, the session is kept (RFC 7606). The peer may send as many of them as
    /// it likes: they are logged and reported now and then.
    pub(super) fn malformed(&mut self, text: String, now: Instant) {
        self.shown.updates_malformed += 1;
        if self.is_worth_a_line(&text, now) {
            warn!(session = %self.session, "{text}");
        } else {
            debug!(session = %self.session, "{text}");
        }
        self.shown.last_error = Some(text);
        self.changed = true;
    }

    fn is_worth_a_line(&mut self, malformed: &str, now: Instant) -> bool {
        let known = self.shown.last_error.as_deref() == Some(malformed);
        let lately = |logged: Instant| now.duration_since(logged) < MALFORMED_LOGGED;
        if known || self.malformed_logged_at.is_some_and(lately) {
            return false;
        }
        self.malformed_logged_at = Some(now);
        true
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

#[cfg(test)]
mod tests {
    use super::{
        ERROR_INTERVAL, ERRORS_AT_ONCE, INTERVAL, Instant, MALFORMED_LOGGED, SessionId, State,
        Status,
    };
    use crate::bgp::InstanceId;

    #[test]
    fn malformed_updates_are_all_counted_and_reported_once_in_an_interval() {
        let start = Instant::now();
        let mut status = new();
        status.report(State::Established, start);
        for index in 0..1000 {
            status.malformed(format!("{index}"), start);
            assert!(!status.is_due(start));
        }
        assert!(status.is_due(start + INTERVAL));
        let shown = status.report(State::Established, start + INTERVAL);
        assert_eq!(shown.updates_malformed, 1000);
        assert_eq!(shown.last_error.as_deref(), Some("999"));
    }

    #[test]
    fn malformed_updates_are_logged_now_and_then_however_they_differ() {
        let start = Instant::now();
        let mut status = new();
        assert!(status.is_worth_a_line("a", start));
        assert!(!status.is_worth_a_line("b", start));
        assert!(status.is_worth_a_line("b", start + MALFORMED_LOGGED));
        status.malformed("c".to_owned(), start);
        assert!(!status.is_worth_a_line("c", start + 3 * MALFORMED_LOGGED));
    }

    #[test]
    fn errors_are_reported_at_once_until_there_are_too_many_of_them() {
        let start = Instant::now();
        let mut status = new();
        status.report(State::Active, start);
        let reported = (0..1000).filter(|number| {
            status.error_at(format!("{}", number % 2), start);
            let due = status.is_due(start);
            status.report(State::Active, start);
            due
        });
        assert_eq!(reported.count(), ERRORS_AT_ONCE as usize);
        let later = start + ERROR_INTERVAL;
        status.error_at("again".to_owned(), later);
        assert!(status.is_due(later), "one more in each interval");
    }

    fn new() -> Status {
        Status::new(SessionId {
            route_server: "hub".into(),
            instance: InstanceId(1),
            peer: "10.1.10.4".parse().unwrap(),
        })
    }
}
