//! BGP roles (RFC 9234 §4): what a speaker is to its eBGP peer, and which pairs fit.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Capability, Open};

/// What a speaker is to its peer (RFC 9234 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Role {
    /// Sells transit to the peer.
    Provider = 0,
    /// A route server towards its client.
    RouteServer = 1,
    /// A client of the route server that the peer is.
    RouteServerClient = 2,
    /// Buys transit from the peer.
    Customer = 3,
    /// Exchanges its own and its customers' routes.
    Peer = 4,
}

impl Role {
    /// The role with this value; `None`: not assigned.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            _ => return None,
        })
    }

    /// The value of the capability.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What the peer must be (RFC 9234 §4.2, table 2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }

    /// The first role that `received` announces and that does not fit ours (RFC 9234 §4.2): the
    /// session is refused with [`super::Notification::role_mismatch`]. Several roles fit if all are
    /// the same one. `None`: they fit, or at least one side announces none.
    #[must_use]
    pub fn mismatch(sent: &Open, received: &Open) -> Option<(Self, u8)> {
        let ours = sent.roles().find_map(Self::from_code)?;
        received
            .roles()
            .find(|theirs| *theirs != ours.counterpart().code())
            .map(|theirs| (ours, theirs))
    }
}

impl Open {
    /// The values of its role capabilities, assigned or not.
    pub fn roles(&self) -> impl Iterator<Item = u8> {
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Role(role) => Some(*role),
                _ => None,
            })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Provider => "provider",
            Self::RouteServer => "route server",
            Self::RouteServerClient => "route server client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn rfc9234_4_2_of_all_pairs_five_fit() {
        let fitting = [(0, 3), (3, 0), (1, 2), (2, 1), (4, 4)];
        for ours in 0..5 {
            for theirs in 0..=255 {
                let mismatch = Role::mismatch(&open(&[ours]), &open(&[theirs]));
                assert_eq!(
                    mismatch.is_none(),
                    fitting.contains(&(ours, theirs)),
                    "{ours} and {theirs}"
                );
            }
        }
    }

    #[test]
    fn rfc9234_4_2_a_role_on_one_side_only_refuses_nothing() {
        assert_eq!(Role::mismatch(&open(&[1]), &open(&[])), None);
        assert_eq!(Role::mismatch(&open(&[]), &open(&[4, 9])), None);
    }

    #[test]
    fn rfc9234_4_2_several_roles_must_be_one_and_the_same() {
        assert_eq!(Role::mismatch(&open(&[1]), &open(&[2, 2])), None);
        assert_eq!(
            Role::mismatch(&open(&[1]), &open(&[2, 3])),
            Some((Role::RouteServer, 3))
        );
    }

    fn open(roles: &[u8]) -> Open {
        Open {
            asn: 65010,
            hold_time: 180,
            router_id: Ipv4Addr::new(10, 1, 255, 4),
            capabilities: roles.iter().copied().map(Capability::Role).collect(),
        }
    }
}
