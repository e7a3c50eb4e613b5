//! Texts of the file as types: an address, a prefix, a name. Each error says `what; remedy`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::IpNet;

/// Longest name of a thing, bytes.
const MAX_NAME: usize = 48;

/// Longest name of a Linux interface, bytes (IFNAMSIZ less the closing NUL).
const MAX_INTERFACE: usize = 15;

/// Length of the prefix of all IPv4-mapped addresses, `::ffff:0:0/96`.
const MAPPED_LENGTH: u8 = 96;

/// Why a text is not what its key needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("\"{0}\" is not an IP address; write for example 10.1.1.4 or fd00:1:0:1::4")]
    Address(String),
    #[error(
        "\"{0}\" is not a prefix; write address/length, for example 10.1.0.0/16 or fd00:1::/48"
    )]
    Prefix(String),
    #[error("\"{0}\" has bits set beyond its length; write {1}")]
    HostBits(String, IpNet),
    #[error("\"{0}\" has IPv4-mapped addresses; write the IPv4 prefix itself")]
    Mapped(String),
    #[error(
        "\"{0}\" is no usable name; use 1 to {MAX_NAME} letters, digits, \"-\", \"_\" or \".\""
    )]
    Name(String),
    #[error(
        "\"{0}\" is no interface name; use 1 to {MAX_INTERFACE} bytes without blanks or \"/\", as \"ip link\" shows it"
    )]
    Interface(String),
    #[error("\"{0}\" is not an absolute path; begin it with \"/\"")]
    Path(String),
    #[error("\"{0}\" is no address to listen on; write ADDRESS:PORT, for example 127.0.0.1:9465")]
    Listen(String),
    #[error("\"{0}\" is no router id; write an IPv4 address other than 0.0.0.0")]
    RouterId(String),
}

/// An IP address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |_| ValueError::Address(text.to_owned());
        match text.parse().map_err(refused)? {
            // One host, two ways to write it: the kernel knows the plain one.
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
                Err(ValueError::Address(text.to_owned()))
            }
            address => Ok(Self(address)),
        }
    }
}

/// A prefix without host bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix(pub(super) IpNet);

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let prefix: IpNet = text
            .parse()
            .map_err(|_| ValueError::Prefix(text.to_owned()))?;
        if let IpNet::V6(prefix) = prefix
            && prefix.prefix_len() >= MAPPED_LENGTH
            && prefix.addr().to_ipv4_mapped().is_some()
        {
            return Err(ValueError::Mapped(text.to_owned()));
        }
        let truncated = prefix.trunc();
        if truncated == prefix {
            Ok(Self(prefix))
        } else {
            Err(ValueError::HostBits(text.to_owned(), truncated))
        }
    }
}

/// A name that can stand in a path, in a table's name and in `VNET/SUBNET`.
#[derive(Clone, Debug)]
pub(super) struct Name(pub(super) String);

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let dots_only = text.chars().all(|c| c == '.');
        if dots_only || text.len() > MAX_NAME || !text.chars().all(usable) {
            return Err(ValueError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a network interface.
#[derive(Clone, Debug)]
pub(super) struct Interface(pub(super) String);

impl FromStr for Interface {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usable = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        let sized = (1..=MAX_INTERFACE).contains(&text.len());
        if !sized || text == "." || text == ".." || !text.chars().all(usable) {
            return Err(ValueError::Interface(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// An absolute path.
#[derive(Clone, Debug)]
pub(super) struct AbsolutePath(pub(super) PathBuf);

impl FromStr for AbsolutePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(ValueError::Path(text.to_owned()))
        }
    }
}

/// An absolute path, or none: "".
#[derive(Clone, Debug)]
pub(super) struct OptionalPath(pub(super) Option<PathBuf>);

impl FromStr for OptionalPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|AbsolutePath(path)| Self(Some(path)))
    }
}

/// An address and a TCP port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) SocketAddr);

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
            .map(Self)
            .ok_or_else(|| ValueError::Listen(text.to_owned()))
    }
}

/// A BGP identifier (RFC 6286: any 4 octets but 0).
#[derive(Clone, Copy, Debug)]
pub(super) struct RouterId(pub(super) std::net::Ipv4Addr);

impl FromStr for RouterId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .ok()
            .filter(|id: &std::net::Ipv4Addr| !id.is_unspecified())
            .map(Self)
            .ok_or_else(|| ValueError::RouterId(text.to_owned()))
    }
}
