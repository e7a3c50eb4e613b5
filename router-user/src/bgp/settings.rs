//! What an operator may set for a session beside who and where: how it is protected, and which
//! extensions it offers.

use std::{fmt, str::FromStr, sync::Arc};

use crate::bgp::wire::Role;

/// Longest key of TCP MD5 (RFC 2385) and of TCP-AO (RFC 5925) that Linux takes, bytes.
pub const MAX_SECRET: usize = 80;

/// A password or key; never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The secret itself, 1 to [`MAX_SECRET`] bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        match text.len() {
            1..=MAX_SECRET => Ok(Self(text.into())),
            length => Err(SecretError(length)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A secret that the kernel would not take.
#[derive(Debug, thiserror::Error)]
#[error("the secret has {0} bytes; give 1 to {MAX_SECRET}")]
pub struct SecretError(usize);

/// How a session's TCP connections are protected. The default: not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Security {
    /// TCP MD5 (RFC 2385).
    pub md5_password: Option<Secret>,
    /// TCP-AO keys (RFC 5925): the first is used to send, all are accepted. Not beside MD5.
    pub tcp_ao: Vec<AoKey>,
    /// GTSM (RFC 5082): the peer is at most so many hops away, 1 to 254; 1: on the same link.
    pub ttl_security: Option<u8>,
}

/// A key of TCP-AO (RFC 5925 §3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AoKey {
    /// SendID and RecvID.
    pub id: u8,
    /// The master key.
    pub secret: Secret,
    /// How traffic keys and codes are computed.
    pub algorithm: AoAlgorithm,
}

/// The algorithms of RFC 5926.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    #[default]
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
}

/// ADD-PATH (RFC 7911), for all families of the session. The default: neither way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddPath {
    /// Offer to receive several paths a prefix.
    pub receive: bool,
    /// Send up to so many paths a prefix; 0: do not offer to send.
    pub send: u8,
}

/// Graceful restart (RFC 4724, RFC 8538) and its long-lived form (RFC 9494).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart {
    /// Offered at all: the peer keeps our routes over our restart, and we keep its routes.
    pub enabled: bool,
    /// How long the peer is to wait for us, seconds (12 bits).
    pub time: u16,
    /// How long we keep its routes as stale after its restart time, and it is asked to keep ours,
    /// seconds (24 bits); 0: long-lived graceful restart is not offered.
    pub long_lived_stale_time: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            enabled: true,
            time: 120,
            long_lived_stale_time: 0,
        }
    }
}

/// Our role towards the peer (RFC 9234).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleSettings {
    /// Our role.
    pub role: Role,
    /// The peer must send its role, too.
    pub strict: bool,
}

#[cfg(test)]
mod tests {
    use super::{MAX_SECRET, Secret};

    #[test]
    fn a_secret_is_not_printed_and_has_a_length_that_the_kernel_takes() {
        let secret: Secret = "open sesame".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "(secret)");
        assert_eq!(secret.expose(), b"open sesame");
        assert!("".parse::<Secret>().is_err());
        assert!("x".repeat(MAX_SECRET).parse::<Secret>().is_ok());
        let error = "x".repeat(MAX_SECRET + 1).parse::<Secret>().unwrap_err();
        assert!(error.to_string().contains("81 bytes"), "{error}");
    }
}
