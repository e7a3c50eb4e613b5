//! One connection's phase and timers.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{ConnectionId, Negotiated, Notification, OPEN_TIMEOUT, PROBE_TIMEOUT, State};
use crate::bgp::wire::notification::{cease, error};

/// The default send hold time (RFC 9687 §4): the greater of this and twice the hold time.
const SEND_HOLD: Duration = Duration::from_secs(480);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// We opened it.
    pub(super) outgoing: bool,
    /// Our address.
    pub(super) local_address: IpAddr,
    pub(super) phase: Phase,
    /// When the peer was last heard of, or the connection opened.
    heard_at: Instant,
    /// Since when the socket has taken no message although one waits.
    unsent_since: Option<Instant>,
    send_hold_time: Duration,
    /// Its key has changed, and the peer has not been heard of since.
    pub(super) rekeyed: bool,
    /// When it was last asked for a sign of life.
    probed_at: Option<Instant>,
    keepalive_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Our OPEN is sent.
    OpenSent,
    /// Their OPEN is there, but another connection is Established and is being probed, or is under
    /// way and would win a collision.
    Held {
        negotiated: Arc<Negotiated>,
        until: Instant,
        /// The peer's KEEPALIVE has come already.
        confirmed: bool,
    },
    /// Both OPENs are exchanged.
    OpenConfirm(Arc<Negotiated>),
    /// Routes flow.
    Established(Arc<Negotiated>),
}

impl Connection {
    pub(super) fn outgoing(
        id: ConnectionId,
        local_address: IpAddr,
        send_hold_time: Duration,
        now: Instant,
    ) -> Self {
        Self {
            id,
            outgoing: true,
            local_address,
            phase: Phase::OpenSent,
            heard_at: now,
            unsent_since: None,
            send_hold_time,
            rekeyed: false,
            probed_at: None,
            keepalive_at: None,
        }
    }

    pub(super) fn incoming(
        id: ConnectionId,
        local_address: IpAddr,
        send_hold_time: Duration,
        now: Instant,
    ) -> Self {
        Self {
            outgoing: false,
            ..Self::outgoing(id, local_address, send_hold_time, now)
        }
    }

    pub(super) const fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent | Phase::Held { .. } => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established(_) => State::Established,
        }
    }

    /// The terms of the session; only while Established.
    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::Established(negotiated) => Some(negotiated),
            _ => None,
        }
    }

    /// The terms that both OPENs come to, once both are there.
    pub(super) fn agreed(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::OpenSent => None,
            Phase::Held { negotiated, .. }
            | Phase::OpenConfirm(negotiated)
            | Phase::Established(negotiated) => Some(negotiated),
        }
    }

    /// A NOTIFICATION as it is to be sent. Where the peer would keep our routes after it, and they
    /// are to go, it becomes a hard reset (RFC 8538 §3.1, §5.1).
    pub(super) fn last_word(&self, notification: Notification) -> Notification {
        let for_good = notification.code == error::CEASE
            && matches!(
                notification.subcode,
                cease::MAX_PREFIXES
                    | cease::ADMINISTRATIVE_SHUTDOWN
                    | cease::PEER_DECONFIGURED
                    | cease::ADMINISTRATIVE_RESET
            );
        let keeps = self
            .negotiated()
            .is_some_and(Negotiated::restarts_after_notification);
        if for_good && keeps {
            Notification::hard_reset(&notification)
        } else {
            notification
        }
    }

    // -- Transitions ---------------------------------------------------------------------------

    pub(super) fn hold_back(
        &mut self,
        negotiated: Arc<Negotiated>,
        confirmed: bool,
        until: Instant,
    ) {
        self.phase = Phase::Held {
            negotiated,
            until,
            confirmed,
        };
        self.keepalive_at = None;
    }

    /// Ends being held; what was agreed on, and whether the peer's KEEPALIVE has come.
    pub(super) fn release(&mut self) -> Option<(Arc<Negotiated>, bool)> {
        match &self.phase {
            Phase::Held {
                negotiated,
                confirmed,
                ..
            } => Some((Arc::clone(negotiated), *confirmed)),
            _ => None,
        }
    }

    pub(super) fn confirm(&mut self, negotiated: Arc<Negotiated>, jitter: f64, now: Instant) {
        self.phase = Phase::OpenConfirm(negotiated);
        self.heard(now);
        self.next_keepalive(jitter, now);
    }

    pub(super) fn establish(&mut self, now: Instant) -> Option<Arc<Negotiated>> {
        let Phase::OpenConfirm(negotiated) = &self.phase else {
            return None;
        };
        let negotiated = Arc::clone(negotiated);
        self.phase = Phase::Established(Arc::clone(&negotiated));
        self.heard(now);
        // The send hold timer begins here (RFC 9687).
        self.unsent_since = self.unsent_since.map(|_| now);
        Some(negotiated)
    }

    // -- Timers --------------------------------------------------------------------------------

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// A message waits to be sent.
    pub(super) fn queued(&mut self, now: Instant) {
        self.unsent_since.get_or_insert(now);
    }

    /// The socket took messages; `drained`: all there were.
    pub(super) fn written(&mut self, drained: bool, now: Instant) {
        self.unsent_since = (!drained).then_some(now);
    }

    /// Whether it is to be probed once more: not for each of the connections that a peer may make.
    pub(super) fn may_be_probed(&mut self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < PROBE_TIMEOUT;
        if self.probed_at.is_some_and(lately) {
            return false;
        }
        self.probed_at = Some(now);
        true
    }

    /// Keepalives are sent every third of the hold time (RFC 4271 §4.4), jittered.
    pub(super) fn next_keepalive(&mut self, jitter: f64, now: Instant) {
        self.keepalive_at = self
            .hold_time()
            .map(|hold_time| now + (hold_time / 3).mul_f64(jitter));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let held = match self.phase {
            Phase::Held { until, .. } => Some(until),
            _ => None,
        };
        [
            self.hold_deadline(),
            self.send_hold_deadline(),
            self.keepalive_at,
            held,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn keepalive_is_due(&self, now: Instant) -> bool {
        self.keepalive_at.is_some_and(|at| at <= now)
    }

    /// The hold timer has expired.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.hold_deadline().is_some_and(|at| at <= now)
    }

    /// The send hold timer has expired (RFC 9687).
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.send_hold_deadline().is_some_and(|at| at <= now)
    }

    pub(super) fn is_held_until(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Held { until, .. } if until <= now)
    }

    /// It is held, and the peer's KEEPALIVE has come.
    pub(super) const fn is_confirmed(&self) -> bool {
        matches!(
            self.phase,
            Phase::Held {
                confirmed: true,
                ..
            }
        )
    }

    /// The peer has been silent for two keepalive intervals.
    pub(super) fn missed_keepalives(&self, now: Instant) -> bool {
        self.hold_time()
            .is_some_and(|hold_time| self.heard_at + hold_time * 2 / 3 <= now)
    }

    /// The hold time agreed on; `None`: none yet, or no keepalives.
    pub(super) fn hold_time(&self) -> Option<Duration> {
        let (Phase::OpenConfirm(negotiated) | Phase::Established(negotiated)) = &self.phase else {
            return None;
        };
        let seconds = Some(negotiated.hold_time).filter(|seconds| *seconds > 0)?;
        Some(Duration::from_secs(seconds.into()))
    }

    fn hold_deadline(&self) -> Option<Instant> {
        let hold_time = match self.phase {
            Phase::OpenSent | Phase::Held { .. } => Some(OPEN_TIMEOUT),
            // Without keepalives, too, the first one has to come some time.
            Phase::OpenConfirm(_) => self.hold_time().or(Some(OPEN_TIMEOUT)),
            Phase::Established(_) => self.hold_time(),
        };
        hold_time.map(|hold_time| self.heard_at + hold_time)
    }

    /// Runs without keepalives, too, as soon as there is something to send.
    fn send_hold_deadline(&self) -> Option<Instant> {
        let Phase::Established(_) = self.phase else {
            return None;
        };
        let hold_time = self.hold_time().unwrap_or_default();
        // It must be greater than the hold time, and by default it is at least twice that.
        let configured = self.send_hold_time;
        let time = if configured <= hold_time || configured >= SEND_HOLD {
            configured.max(hold_time * 2)
        } else {
            configured
        };
        Some(self.unsent_since? + time)
    }
}
