//! What a speaker does to the routes of one session, in words that drivers translate into their
//! daemon's own: BIRD and FRR.

use std::net::IpAddr;

/// What becomes of the routes of one session. The default: all are taken as they come, and all that
/// the speaker has are announced with the session's own address as next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its own ASN stands so many times more in what it announces.
    pub prepend: u8,
    /// The neighbour's ASN gives way in the paths that it is sent: FRR puts its own ASN there, BIRD
    /// takes it out.
    pub as_override: bool,
    /// Take paths with the speaker's own ASN.
    pub allow_own_as: bool,
    /// NEXT_HOP of what is announced, IPv4 and IPv6: a third party's address.
    pub next_hop: Option<[IpAddr; 2]>,
    /// Standard communities put on everything announced.
    pub communities: Vec<[u16; 2]>,
    /// LOCAL_PREF of what is learned.
    pub local_pref: Option<u32>,
    /// Exchange routes of the session's own family only.
    pub own_family: bool,
    /// Announce, beside the speaker's own prefixes, only what these neighbours announced; BIRD alone.
    pub passes_on: Option<Vec<IpAddr>>,
}

impl Policy {
    /// Its own ASN stands so many times more in what it announces.
    #[must_use]
    pub fn prepended(times: u8) -> Self {
        Self {
            prepend: times,
            ..Self::default()
        }
    }
}
