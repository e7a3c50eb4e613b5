//! What a daemon's sessions are to have beyond the plain protocol, in words that every driver
//! translates into its daemon's own.

/// Options of a speaker's sessions. The default: what the daemon does by itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Graceful restart with this restart time in seconds (RFC 4724).
    pub graceful_restart: Option<u16>,
    /// Its long-lived form with this stale time in seconds (RFC 9494).
    pub long_lived: Option<u32>,
    /// Announce as one that has just restarted, where the daemon must be told.
    pub restarting: bool,
}
