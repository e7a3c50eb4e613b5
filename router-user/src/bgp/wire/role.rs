//! Roles (RFC 9234 §4).

/// What one side of a session is to the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Sells transit.
    Provider = 0,
    /// A route server.
    RouteServer = 1,
    /// Client of a route server.
    RouteServerClient = 2,
    /// Buys transit.
    Customer = 3,
    /// Lateral peer.
    Peer = 4,
}

impl Role {
    /// The role with this value in the capability.
    #[must_use]
    pub const fn from_value(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            _ => return None,
        })
    }

    /// The role that the other side must have (RFC 9234 §4.2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn rfc9234_4_2_each_role_has_one_counterpart() {
        for value in 0..=4 {
            let role = Role::from_value(value).unwrap();
            assert_eq!(role as u8, value);
            assert_eq!(role.counterpart().counterpart(), role);
        }
        assert_eq!(Role::from_value(5), None);
    }
}
